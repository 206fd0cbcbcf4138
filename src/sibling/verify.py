"""Re-hash and re-decode everything in a folder that Sibling made, and say what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from . import files
from .dataset import is_store, open_store
from .errors import BadInput, SiblingError
from .formats import FORMATS
from .modalities import MODALITIES
from .registry import lookup
from .snapshot import Snapshot

__all__ = ["verify"]

log = logging.getLogger("sibling")


def verify(folder: str | Path) -> list[str]:
    """What is wrong with a data set, a run, a store or an evaluation, in plain sentences; empty = sound.

    Args:
        folder: what `write`, `sample`, `curate`, `fit`, `read` or `enlarge` made.

    Every byte is hashed again and every sample decoded again. Raises BadInput when the folder has no
    manifest: it is unfinished, or not ours.
    """
    folder = Path(folder)
    manifest, wrong = files.check_manifest(folder)
    listed = set(manifest["files"])
    kind = manifest.get("kind")
    if kind == "dataset":
        _say_changed(folder, manifest["files"])
        samples = lookup(
            MODALITIES, "sibling.modalities", manifest.get("modality") or "image"
        )  # older ones do not say
        format_name = manifest.get("format")
        if format_name in (None, "folder", "npz", "idx", "texts"):  # those that tell all in metadata.jsonl
            wrong += list(_dataset(folder, listed, samples))
        else:
            wrong += list(_by_format(folder, str(format_name), listed, samples))
    elif kind == "run":
        wrong += list(_run(folder))
    elif is_store(folder):
        wrong += list(_store(folder))
    return wrong


def _say_changed(folder: Path, entries: dict[str, Any]) -> None:
    """A card that somebody has filled in is no fault, and worth a word."""
    for name in files.CARDS:
        entry = entries.get(name)
        if not isinstance(entry, dict) or not (folder / name).is_file():
            continue
        if files.hash_file(folder / name) != entry.get("sha256"):
            log.info("  %s was changed since it was written.", name)


def _dataset(folder: Path, listed: set[str], kind: Any) -> Iterator[str]:
    """Each row has its file, each file its row, every sample decodes to one size and mode.

    kind  the class of the modality
    """
    try:
        rows = files.read_jsonl(folder / "metadata.jsonl")
    except BadInput as error:
        yield str(error)
        return
    if not all(isinstance(row, dict) for row in rows):
        yield "metadata.jsonl: a row is no JSON object"
        return
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed and path.name != files.MANIFEST:
            yield f"{name}: not in the manifest"
    named = [row["file_name"] for row in rows if "file_name" in row]
    beside = {"data.npz", *files.CARDS}
    samples = {name for name in listed if Path(name).suffix.lower() in kind.suffixes} - beside
    maps = {str(cell) for row in rows for column, cell in row.items() if column.endswith("_file_name")}
    for name in sorted(maps - listed):
        yield f"{name}: a map in metadata.jsonl, not in the manifest"
    for name in sorted(samples - set(named) - maps):
        yield f"{name}: no row in metadata.jsonl"
    seen: dict[str, int] = {}
    shapes: set[Any] = set()
    for row in rows:
        name = row.get("file_name")
        if name is None:
            continue
        seen[name] = seen.get(name, 0) + 1
        if name not in listed:
            yield f"{name}: in metadata.jsonl, not in the manifest"
        elif name in samples:
            yield from _sample(folder / name, name, row, shapes, kind)
        if row.get("origin") not in ("real", "synthetic"):
            yield f"{name}: its origin is {row.get('origin')!r}"
        elif row["origin"] == "synthetic" and not {"seed", "index", "snapshot"} <= row.keys():
            yield f"{name}: synthetic, but seed, index or snapshot is missing"
    for name, count in seen.items():
        if count > 1:
            yield f"{name}: {count} rows in metadata.jsonl"
    if len(shapes) > 1:
        yield f"The synthetic samples have {len(shapes)} different sizes or modes."


def _by_format(folder: Path, format_name: str, listed: set[str], kind: Any) -> Iterator[str]:
    """Each sample that the format reads again decodes to one size and mode and says where it is from."""
    named: set[str] = set()
    shapes: set[Any] = set()
    try:
        reader = lookup(FORMATS, "sibling.formats", format_name)()
        for record in reader.read(folder, kind.suffixes):
            row = {**record.info, "origin": record.origin}
            parts = [record.source, *(record.y.values() if isinstance(record.y, dict) else ())]
            named |= {part.relative_to(folder).as_posix() for part in parts if isinstance(part, Path)}
            if record.source is None:
                yield f"{record.key}: {record.info.get('bad', 'has no content')}"
            else:
                yield from _sample(record.source, record.key, row, shapes, kind)
            if row["origin"] == "synthetic" and not {"seed", "index", "snapshot"} <= row.keys():
                yield f"{record.key}: synthetic, but seed, index or snapshot is missing"
    except SiblingError as error:
        yield str(error)
        return
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed and path.name != files.MANIFEST:
            yield f"{name}: not in the manifest"
    samples = {name for name in listed if Path(name).suffix.lower() in kind.suffixes}
    samples -= {getattr(reader, "own_file", ""), *files.CARDS}  # a list itself: a series, too, may be a .csv
    yield from (f"{name}: no row names it" for name in sorted(samples - named))
    if len(shapes) > 1:
        yield f"The synthetic samples have {len(shapes)} different sizes or modes."


def _sample(
    source: Path | bytes, name: str, row: dict[str, Any], shapes: set[Any], kind: Any
) -> Iterator[str]:
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
        header = kind().look(content)
        modality, _ = kind.choose([header], size=None, most=max(header["size"]))
        modality.decode(content)
    except (OSError, SiblingError) as error:
        yield f"{name}: {error}"
        return
    if row.get("origin") == "synthetic" and not getattr(kind, "any_length", False):
        shapes.add((header["size"], header["mode"]))


def _run(folder: Path) -> Iterator[str]:
    try:
        snapshot = Snapshot(folder)
        for key, value in snapshot.model.state().items():
            if not torch.isfinite(value).all():
                yield f"model.safetensors: {key} holds values that are not finite"
        yield from _store(folder / "data")
        if is_store(folder / "unlabelled"):
            yield from _store(folder / "unlabelled")
        split = snapshot.run["data"]["split_hash"]
        if split and snapshot.data.found.get("split_hash") != split:
            yield "data: the split is not the one that the run was trained with"
    except SiblingError as error:
        yield str(error)
    if (folder / "evaluation").is_dir():
        for sentence in files.check_manifest(folder / "evaluation")[1]:
            yield f"evaluation/{sentence}"
    try:
        for row in files.read_jsonl(folder / "stats.jsonl"):
            if "loss/total" in row and row["loss/total"] is None:
                yield f"stats.jsonl: the loss at step {row.get('step')} is not finite"
    except BadInput as error:
        yield str(error)


def _store(folder: Path) -> Iterator[str]:
    try:
        data = open_store(folder)
        _, wrong = files.check_manifest(folder)
        yield from (f"{folder.name}/{sentence}" for sentence in wrong)
        if len(data.raw) != len(data):
            yield f"{folder.name}: {len(data.raw)} samples, {len(data)} rows"
        held = {g for g, s in zip(data.table["group"], data.table["split"], strict=True) if s == "test"}
        trained = {g for g, s in zip(data.table["group"], data.table["split"], strict=True) if s == "train"}
        if held & trained:
            yield f"{folder.name}: {len(held & trained)} groups of duplicates lie in train and in test"
    except BadInput as error:
        yield str(error)
