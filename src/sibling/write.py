"""6 · Datasets -> a place on disk: real and synthetic together, origin kept, manifest last."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, files
from .dataset import Dataset, refuse_inside
from .errors import UsageError
from .formats import FORMATS
from .judge import synthetic_of
from .read import read
from .registry import lookup
from .snapshot import Snapshot
from .types import Record

__all__ = ["write"]

log = logging.getLogger("sibling")


def write(
    real: str | Path | Dataset | None = None,
    fake: str | Path | Dataset | None = None,
    *,
    out: str | Path,
    against: str | Path | Snapshot | None = None,
    format: str = "folder",  # noqa: A002 - the word that users know
    link: str = "copy",
    overwrite: bool = False,
) -> Path:
    """Write a labelled data set: the real samples, the synthetic ones, or both.

    Args:
        real: a Dataset or a place that `read` can read; None = none.
        fake: synthetic samples, as a Dataset or as a folder that `sample` or `curate` wrote; None = none.
        out: the folder to make; it appears whole or not at all.
        against: the run folder that the synthetic samples come from; needed to read them from a folder.
        format: "folder" (class folders and metadata.jsonl), "npz" or "idx".
        link: how real files are brought: "copy", "hard" (link) or "sym" (link; such a folder is for other
            programs: Sibling itself follows no link out of a data set). Only for "folder".
        overwrite: replace a finished data set at `out`.

    In metadata.jsonl each row says file_name, label, origin and split, and for a synthetic sample also
    seed, index, snapshot, its scores and the nearest real sample.
    Raises UsageError, BadInput, ResourceError.
    """
    if link not in ("copy", "hard", "sym"):
        raise UsageError(f"link is {link!r}; known: copy, hard, sym.")
    if real is None and fake is None:
        raise UsageError("There is nothing to write: give real samples, synthetic ones, or both.")
    out = Path(out)
    snapshot = Snapshot(against) if isinstance(against, str | Path) else against
    for place in (real, fake):
        if isinstance(place, str | Path):
            files.refuse_overlap(out, Path(place))
    if isinstance(fake, str | Path):
        fake = read(fake, like=snapshot.data if snapshot else None)
        if snapshot is not None:
            fake = synthetic_of(fake, snapshot)
    if isinstance(real, str | Path):
        real = _as_trained(read(real), snapshot)
    sets = [data for data in (real, fake) if data is not None and len(data)]
    if not sets:
        raise UsageError("There is nothing to write: both sets are empty.")
    for data in sets:
        refuse_inside(out, data)
    writer = lookup(FORMATS, "sibling.formats", format)()
    suffix = getattr(sets[0].modality, "suffix", ".bin")
    as_files = format == "folder" or getattr(writer, "as_files", False)
    extra = {"sibling": __version__, "snapshot": snapshot.hash if snapshot else None}
    with files.new_folder(out, kind="dataset", overwrite=overwrite, extra=extra) as folder:
        rows = writer.write(folder, _records(sets, as_files, link), suffix)
    made = sum(row.get("origin") == "synthetic" for row in rows)
    log.info("  wrote %s real and %s synthetic samples to %s", f"{len(rows) - made:,}", f"{made:,}", out)
    return out


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
        for row, record in enumerate(data.records()):
            # What an earlier set called it is not what it is called in this one: nearest_real says `record.key`.
            info: dict[str, Any] = {key: value for key, value in record.info.items() if key != "key"}
            if as_files and _is_still(record.source, data.table["sha256"][row]):
                info["link"] = link
                source: Any = record.source
            else:
                raw = np.asarray(data.raw[row])
                source = data.modality.encode(raw) if as_files else _as_array(raw)
            split = record.split if record.split in ("train", "val", "test") else None
            yield Record(record.key, source, record.y, record.origin, split, info)


def _is_still(source: Any, sha256: str) -> bool:
    """Whether a source is a file with the content that was read. A store may come from anybody: the path in
    it is believed only when the content is what the store was made from; else the decoded sample is written.
    """
    return isinstance(source, Path) and source.is_file() and files.hash_file(source) == sha256


def _as_array(raw: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W) or (H, W, C), as array formats keep it."""
    moved = np.moveaxis(raw, 0, -1)
    return moved[..., 0] if raw.shape[0] == 1 else moved
