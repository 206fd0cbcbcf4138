"""One data set in another format: the same files or pixels, y, split, origin and whatever else is known."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, files, png, remote
from .asked import Found, agreed
from .cards import About, write_cards
from .dataset import is_store, open_store
from .errors import BadInput, UsageError
from .formats import FORMATS
from .formats.columns import class_names
from .formats.labels import manifest_of
from .intake import sound
from .modalities import MODALITIES, pixels
from .read import found_at, modality_of
from .registry import lookup
from .types import Record
from .write import as_array, write

__all__ = ["convert"]

log = logging.getLogger("sibling")

_TELLING = {".parquet": "parquet", ".tar": "webdataset", ".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}
_MOST_EDGE = 1_000_000  # pixels: nothing is made smaller here
_MAGIC = (
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"), (b"P5", ".pgm"), (b"P6", ".ppm"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"),
)  # fmt: skip


def convert(
    place: str | Path,
    out: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the word that users know
    modality: str | None = None,
    label_column: str | Sequence[str] | None = None,
    condition: str | None = None,
    on_bad: str = "auto",
    overwrite: bool = False,
) -> Path | str:
    """Write a data set in another format, without any loss of pixels; nothing is resized, split or generated.

    Args:
        place: the data set, in any format that `read` knows, or a store; also as a URL (s3://, gs://, ...).
        out: the folder to make, also as a URL; it appears whole or not at all.
        format: "folder", "parquet", "webdataset", "csv", "jsonl", "npz" or "idx"; None = as the name of `out` says
            (photos.parquet, photos.tar, photos.npz, photos.csv, photos.jsonl), else "folder".
        modality: "image", "signal", "audio"; None = found by looking at the files.
        label_column: the columns that are y, as for `read`; None = found by looking. The others are kept beside it.
        condition: what y is, as for `read`; None = found by looking.
        on_bad: what to do about broken samples: "auto" skips up to 1 %, "skip" all, "stop" none.
        overwrite: replace a finished data set at `out`.

    Files stay the bytes that they are where the format holds files; "npz" and "idx" hold their pixels, all of one
    size. What the format cannot hold is said. A sample without a split stays without one.
    Raises BadInput, UnsafeFile, UsageError, ResourceError.
    """
    place, out = remote.local_or_url(place), remote.local_or_url(out)
    if remote.is_url(place) or remote.is_url(out):
        if remote.is_url(out):
            remote.refuse_taken(str(out), overwrite=overwrite)
        with files.temporary_folder() as staged:
            here = remote.fetch(str(place), staged / "from") if remote.is_url(place) else place
            there = staged / "to" / remote.name_of(str(out)) if remote.is_url(out) else out
            made = convert(
                here, there, format=format, modality=modality, label_column=label_column, condition=condition,
                on_bad=on_bad, overwrite=overwrite,
            )  # fmt: skip
            if remote.is_url(out):
                remote.upload(Path(made), str(out), overwrite=overwrite)
        return out
    place, out = Path(place), Path(out)
    if not place.exists():
        raise BadInput(f"There is nothing at {place}. Give a data set in one of the known formats.")
    if on_bad not in ("auto", "skip", "stop"):
        raise UsageError(f"on_bad is {on_bad!r}; known: auto, skip, stop.")
    name = format or _TELLING.get(out.suffix.lower(), "folder")
    writer = lookup(FORMATS, "sibling.formats", name)()
    files.refuse_overlap(out, place)
    files.refuse_used(out, overwrite=overwrite)
    if is_store(place):
        return write(open_store(place), out=out, format=name, overwrite=overwrite)
    named, why = modality_of(place, modality, None)
    found, named, _ = found_at(place, named, why, label_column, condition, None)
    found = agreed(found, label_column, condition, None)
    _prepare(writer, name, found)
    kind = lookup(MODALITIES, "sibling.modalities", named)
    as_files = getattr(writer, "as_files", False)
    _refuse_resampled(named, as_files, found.records)
    pairs = sound(found.records, kind, on_bad)
    whole = None if as_files else _one_size(kind, pairs)
    for sentence in [*found.notes, *_lost(name, as_files, pairs)]:
        log.info("  %s", sentence)
    before = manifest_of(place)
    extra = {
        "sibling": __version__, "snapshot": before.get("snapshot"), "verdict": before.get("verdict"), "format": name,
        "modality": named, "condition": found.condition.name, "columns": found.kinds,
    }  # fmt: skip
    with files.new_folder(out, kind="dataset", overwrite=overwrite, extra=extra) as folder:
        rows = writer.write(folder, _converted(pairs, found.kinds, kind, whole, as_files), kind.suffix)
        write_cards(folder, rows, About.of(out.name, extra))
    log.info("  wrote %s samples to %s (%s)", f"{len(rows):,}", out, name)
    return out


def _prepare(writer: Any, name: str, found: Found) -> None:
    """Tell the format what y is. Raises UsageError where it cannot hold it."""
    if hasattr(writer, "columns"):
        writer.columns = found.kinds
    elif list(found.kinds.values()) not in ([], ["label"]):
        raise UsageError(
            f"The format {name!r} holds one label a sample; y has {', '.join(found.kinds)} here. Use --format folder."
        )
    if hasattr(writer, "classes"):
        writer.classes = class_names((record.y for record in found.records), found.kinds)


def _one_size(kind: Any, pairs: list[tuple[Record, dict[str, Any]]]) -> Any:
    """The modality as which all samples fit into one array. Raises BadInput where their sizes differ."""
    sizes = {look["size"] for _, look in pairs if "size" in look}
    if len(sizes) > 1:
        shown = ", ".join(" x ".join(map(str, size)) for size in sorted(sizes)[:4])
        raise BadInput(
            f"The samples have {len(sizes)} sizes ({shown}, ...), and one array holds one. Use --format folder, "
            "parquet or webdataset, or resize them with sibling read --size and sibling write."
        )
    return _exact(kind, [look for _, look in pairs])


def _exact(kind: Any, looks: list[dict[str, Any]]) -> Any:
    """The modality that decodes samples like these without changing a value."""
    modality, _ = kind.choose(looks, size=None, most=_MOST_EDGE)
    return modality.changed(array_high=0.0) if hasattr(modality, "array_high") else modality


def _lost(name: str, as_files: bool, pairs: list[tuple[Record, dict[str, Any]]]) -> list[str]:
    """What the format cannot hold, as sentences."""
    lost = []
    are_files = any(not isinstance(record.source, np.ndarray) for record, _ in pairs)
    if not as_files and are_files:
        lost.append(f"Pixels are kept, the files are not: {name} holds arrays, without file names or EXIF.")
        if any(look.get("narrowed") for _, look in pairs):
            lost.append("Files with 16 bits a colour: Pillow reads the upper 8, the lower ones are lost.")
        if len({look.get("channels") for _, look in pairs}) > 1:
            lost.append(
                "Gray and coloured samples, or with and without alpha, lie in one array: all have the most."
            )
    return lost


def _converted(
    pairs: list[tuple[Record, dict[str, Any]]], kinds: dict[str, str], kind: Any, whole: Any, as_files: bool
) -> Iterator[Record]:
    """Each record with a source that the format takes: a file, bytes, or an array.

    whole  the modality that decodes into one array; None where the format holds files
    """
    maps = [column for column, held in kinds.items() if held == "map"]
    for record, look in pairs:
        source, info = record.source, dict(record.info)
        if as_files and isinstance(source, np.ndarray):
            _refuse_inexact(record.key, source)
            modality = _exact(kind, [look])
            source = modality.encode(modality.decode(source))
        elif as_files and isinstance(source, bytes):
            info["ending"] = _ending(source, kind.suffix, kind.suffixes)
        elif not as_files and not isinstance(source, np.ndarray):
            content = source.read_bytes() if isinstance(source, Path) else source
            source = as_array(whole.decode(content), whole)
        y = record.y
        if maps and y:
            y = y | {column: _map_text(y[column]) for column in maps}
        yield replace(record, source=source, y=y, info=info)


def _refuse_resampled(modality: str, as_files: bool, records: Sequence[Record]) -> None:
    """Only pictures go between files and arrays without a loss. Raises UsageError."""
    arrays = any(isinstance(record.source, np.ndarray) for record in records)
    if modality != "image" and as_files == arrays:
        raise UsageError(
            f"Between files and arrays {modality} samples would have to be resampled, which is no conversion. Use a format "
            "of the same kind, or sibling read and sibling write."
        )


def _refuse_inexact(key: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "ub" and not (array.dtype.kind == "i" and array.min() >= 0):
        raise BadInput(
            f"{key} is an array of {array.dtype}, which no file of pixels holds exactly. Use --format npz."
        )
    if array.max(initial=0) > 65535:
        raise BadInput(f"{key} holds {array.max()}; files of pixels hold 16 bits. Use --format npz.")


def _ending(content: bytes, suffix: str, suffixes: Sequence[str]) -> str:
    """What a file with this content ends in; `suffix` where nobody can tell."""
    told = next((end for magic, end in _MAGIC if content.startswith(magic)), suffix)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        told = ".webp"
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        told = ".wav"
    return told if told in suffixes else suffix


def _map_text(source: Path | bytes | np.ndarray) -> str:
    """A map as text: a PNG as it is, another picture as a PNG of the same pixels."""
    if isinstance(source, np.ndarray):
        return png.to_text(png.to_png(source))
    content = source.read_bytes() if isinstance(source, Path) else source
    if content.startswith(b"\x89PNG"):
        return png.to_text(content)
    buffer = io.BytesIO()
    with pixels.opened(content) as picture:
        picture.load()
        held = picture if picture.mode in ("1", "L", "RGB", "I;16") else picture.convert("RGB")
        held.save(buffer, "PNG")
    return png.to_text(buffer.getvalue())
