"""6 · Datasets -> a place on disk: real and synthetic together, origin kept, manifest last."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, files, remote
from .cards import About, write_cards
from .dataset import Dataset, kinds_of, refuse_inside
from .errors import UsageError
from .formats import FORMATS
from .formats.columns import class_names
from .judge import synthetic_of
from .read import read
from .registry import lookup
from .snapshot import Snapshot
from .support import advice_of, recipe_json, sentence_of, supported
from .types import Evaluation, Record

__all__ = ["as_array", "write"]

log = logging.getLogger("sibling")


def write(
    real: str | Path | Dataset | None = None,
    fake: str | Path | Dataset | None = None,
    *,
    out: str | Path,
    against: str | Path | Snapshot | None = None,
    format: str = "folder",  # noqa: A002 - the word that users know
    link: str = "copy",
    verdict: str | Path | Evaluation | None = None,
    write_anyway: bool = False,
    overwrite: bool = False,
) -> Path | str:
    """Write a labelled data set: the real samples, the synthetic ones, or both.

    Args:
        real: a Dataset or a place that `read` can read; None = none.
        fake: synthetic samples, as a Dataset or as a folder that `sample`, `curate` or another tool wrote; None = none.
        out: the folder to make, also as a URL (s3://, gs://, ...); it appears whole or not at all.
        against: the run folder that the synthetic samples come from; None = another tool made them.
        format: "folder" (class folders and metadata.jsonl), "parquet" (as Hugging Face has it), "webdataset" (tar shards),
            "csv" or "jsonl" (files and a list), "npz", "idx", or "texts" (texts.jsonl, texts alone).
        link: how real files are brought: "copy", "hard" (link) or "sym" (link; such a folder is for other
            programs: Sibling itself follows no link out of a data set). Only for "folder".
        verdict: what `evaluate` returned, or the folder that it wrote: only what it supports is written, all synthetic
            samples, a part of them, or none; None = all.
        write_anyway: write all synthetic samples, whatever the verdict is.
        overwrite: replace a finished data set at `out`.

    README.md, a dataset card, and croissant.json say what is real, what is synthetic, what made it and what was measured.
    With a verdict the tuned classic augmentation is written beside the samples, as augmentation.json, with the reason
    for what was written.

    In metadata.jsonl each row says file_name, y (a column for each of its parts, `label` for a class), origin
    and split, and for a synthetic sample also seed, index, snapshot, its scores and the nearest real sample.
    Raises UsageError, BadInput, ResourceError.
    """
    out = remote.local_or_url(out)
    if remote.is_url(out):
        remote.refuse_taken(str(out), overwrite=overwrite)
        with files.temporary_folder() as staged:
            made = write(
                real, fake, out=staged / remote.name_of(str(out)), against=against, format=format, link="copy", verdict=verdict,
                write_anyway=write_anyway,
            )  # fmt: skip
            remote.upload(Path(made), str(out), overwrite=overwrite)
        return out
    real, fake = remote.local_or_url(real), remote.local_or_url(fake)
    if link not in ("copy", "hard", "sym"):
        raise UsageError(f"link is {link!r}; known: copy, hard, sym.")
    if real is None and fake is None:
        raise UsageError("There is nothing to write: give real samples, synthetic ones, or both.")
    out = Path(out)
    snapshot = Snapshot(against) if isinstance(against, str | Path) else against
    for place in (real, fake):
        if isinstance(place, str | Path) and not remote.is_url(place):
            files.refuse_overlap(out, Path(place))
    if isinstance(fake, str | Path):
        fake = read(fake, like=snapshot.data if snapshot else None)
        if snapshot is not None:
            fake = synthetic_of(fake, snapshot)
    if fake is not None:
        fake = _as_synthetic(fake)
    if isinstance(real, str | Path):
        real = _as_trained(_read_real(real, snapshot), snapshot)
    advice = advice_of(verdict)
    if fake is not None and advice and not write_anyway:
        fake = supported(fake, advice)
    sets = [data for data in (real, fake) if data is not None and len(data)]
    if not sets:
        raise UsageError(
            "There is nothing to write: the verdict supports no synthetic sample, and there are no real ones. "
            "Write them anyway with --write-anyway (write_anyway=True)."
            if advice
            else "There is nothing to write: both sets are empty."
        )
    for data in sets:
        refuse_inside(out, data)
    kinds = _common_kinds(sets)
    writer = lookup(FORMATS, "sibling.formats", format)()
    if hasattr(writer, "columns"):
        writer.columns = kinds
    elif list(kinds.values()) not in ([], ["label"]):
        raise UsageError(
            f"The format {format!r} holds one label a sample; y has {', '.join(kinds)} here. Use --format folder."
        )
    suffix = getattr(sets[0].modality, "suffix", ".bin")
    as_files = getattr(writer, "as_files", False)
    if hasattr(writer, "classes"):
        writer.classes = class_names((y for data in sets for y in data.table["y"]), kinds)
    extra = {
        "sibling": __version__, "snapshot": snapshot.hash if snapshot else None,
        "modality": sets[0].modality.name, "format": format, "condition": sets[0].condition.name, "columns": kinds,
        "verdict": sentence_of(verdict),
    }  # fmt: skip
    with files.new_folder(out, kind="dataset", overwrite=overwrite, extra=extra) as folder:
        rows = writer.write(folder, _records(sets, as_files, link), suffix)
        if advice:
            recipe = recipe_json(advice, write_anyway=write_anyway, modality=sets[0].modality)
            files.write_json(folder / "augmentation.json", recipe)
        write_cards(folder, rows, About.of(out.name, extra))
    count = sum(row.get("origin") == "synthetic" for row in rows)
    log.info("  wrote %s real and %s synthetic samples to %s", f"{len(rows) - count:,}", f"{count:,}", out)
    return out


def _as_synthetic(fake: Dataset) -> Dataset:
    """Samples of another tool do not say that they are synthetic: whoever gives them as `fake` says it. They are trained with,
    whatever split they came with: no synthetic sample may stand in a test part."""
    if not len(fake) or len(fake.rows(origin="synthetic")):
        return fake
    told = fake.subset(range(len(fake)))  # a table of its own: what the caller holds stays as it is
    told.table["origin"], told.table["split"] = ["synthetic"] * len(told), ["train"] * len(told)
    return told


def _read_real(place: str | Path, snapshot: Snapshot | None) -> Dataset:
    """The samples with the y of the run, where that is more than a label that is found by looking."""
    kinds = kinds_of(snapshot.condition) if snapshot is not None else {}
    modality = snapshot.modality.name if snapshot is not None else None
    if snapshot is None or kinds in ({}, {"label": "label"}):
        return read(place, modality=modality)
    return read(place, modality=modality, label_column=[f"{column}:{kind}" for column, kind in kinds.items()])


def _common_kinds(sets: list[Dataset]) -> dict[str, str]:
    """column -> kind of the parts of y. Raises UsageError where two sets differ."""
    kinds = kinds_of(sets[0].condition)
    for data in sets[1:]:
        if (other := kinds_of(data.condition)) != kinds:
            told = [
                ", ".join(f"{c} ({kind})" for c, kind in each.items()) or "no y" for each in (kinds, other)
            ]
            raise UsageError(
                f"The real samples have {told[0]}, the synthetic ones {told[1]}: they do not make one data set. "
                "Read the real ones with the same --label-column (label_column=)."
            )
    return kinds


def _as_trained(real: Dataset, snapshot: Snapshot | None) -> Dataset:
    """The run's own view of these samples where they are the same: its split is the one that was frozen."""
    if snapshot is None:
        return real
    columns = ("key", "sha256")
    same = {tuple(row) for row in zip(*(real.table[c] for c in columns), strict=True)} == {
        tuple(row) for row in zip(*(snapshot.data.table[c] for c in columns), strict=True)
    }
    if not same:
        log.warning("These are not the samples that the run was trained on: their split is their own.")
    return snapshot.data if same else real


def _records(sets: list[Dataset], as_files: bool, link: str) -> Iterator[Record]:
    for data in sets:
        folders = _folders(data)
        for row, record in enumerate(data.records()):
            # What an earlier set called it is not what it is called in this one: nearest_real says `record.key`.
            info: dict[str, Any] = {key: value for key, value in record.info.items() if key != "key"}
            if as_files and folders:
                info["folder"] = folders[row]
            if as_files and _is_still(record.source, data.table["sha256"][row]):
                info["link"] = link
                source: Any = record.source
            else:
                raw = np.asarray(data.raw[row])
                source = data.modality.encode(raw) if as_files else as_array(raw, data.modality)
            split = record.split if record.split in ("train", "val", "test") else None
            yield Record(record.key, source, record.y, record.origin, split, info)


def _folders(data: Dataset) -> list[str]:
    """The group of each sample, which its folder is called after; empty where y itself is the class, or none."""
    if tuple(data.condition.classes) == ("all",) or all(isinstance(y, str) for y in data.table["y"]):
        return []
    return data.classes(range(len(data)))


def _is_still(source: Any, sha256: str) -> bool:
    """Whether a source is a file with the content that was read. A store may come from anybody: the path in
    it is believed only when the content is what the store was made from; else the decoded sample is written.
    """
    return isinstance(source, Path) and source.is_file() and files.hash_file(source) == sha256


def as_array(raw: np.ndarray, modality: Any) -> np.ndarray:
    """What array formats keep: what the modality says, else (C, H, W) -> (H, W) or (H, W, C)."""
    if hasattr(modality, "array"):
        array: np.ndarray = modality.array(raw)
        return array
    moved = np.moveaxis(raw, 0, -1)
    return moved[..., 0] if raw.shape[0] == 1 else moved
