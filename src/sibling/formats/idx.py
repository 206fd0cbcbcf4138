"""The MNIST-style IDX files: images and labels, gzip or not.

Source of the layout: http://yann.lecun.com/exdb/mnist ("THE IDX FILE FORMAT"), big-endian throughout.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadInput
from ..files import MANIFEST, read_jsonl, to_line, write_bytes
from ..png import from_text
from ..types import Record, Split
from .archive import MOST_BYTES
from .columns import cell_of, cells_of, y_of
from .labels import split_of, told_columns

__all__ = ["Idx"]

_NAME = re.compile(r"^(?P<part>.+?)-(?P<kind>images|labels)[.-]idx\d-ubyte(\.gz)?$")
_PARTS: dict[str, Split] = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val"}
_MOST_RATIO = 1040  # deflate packs at most 1032 to 1


class Idx:
    """A folder with `train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]`, `t10k-...`.

    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    """

    def __init__(self) -> None:
        self.columns: dict[str, str] = {}
        self.found_in = "the labels files"
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A folder with at least one IDX images file."""
        try:
            return path.is_dir() and any(kind == "images" for _, kind in _files(path))
        except OSError:
            return False

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record an image; y is the label's number as text. Raises BadInput.

        Beside a `metadata.jsonl` of ours the records also get their names, origins and splits back.
        """
        told, self.columns = _told(path)
        if self.columns:
            self.found_in = "metadata.jsonl"
        files = _files(path)
        for (part, kind), file in files.items():
            if kind != "images":
                continue
            images = _array(file)
            labels = _array(files[part, "labels"]) if (part, "labels") in files else None
            if images.ndim < 3:
                raise BadInput(
                    f"{file.name} holds no images: they have 3 axes (N, H, W), 4 (N, H, W, C) or 5 (clips)."
                )
            if labels is not None and labels.shape != (len(images),):
                raise BadInput(f"{file.name} has {len(images)} images, its labels file has {labels.shape}.")
            split = _PARTS.get(part.rpartition("-")[2])  # EMNIST writes emnist-letters-train
            for row in range(len(images)):
                if (part, row) in told:
                    yield replace(told[part, row], source=images[row])
                else:
                    y = None if labels is None else str(labels[row])
                    yield Record(f"{part}/{row:06d}", images[row], y, split=split)

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write four IDX files and `metadata.jsonl`, whose n-th row of a part describes its n-th image.

        Real and synthetic samples of the train part lie in one file; the metadata keep them apart. A y that
        is no label stands in the metadata alone, a map as base64 text.
        Sources must be uint8 arrays of one size.
        """
        parts: dict[str, list[Record]] = {}
        for record in records:
            part = "t10k" if record.split == "test" else "val" if record.split == "val" else "train"
            parts.setdefault(part, []).append(record)
        kinds = self.columns or {"label": "label"}
        classes = _numbered(parts) if list(kinds.values()) == ["label"] else {}
        if len(classes) > 256:
            raise BadInput(f"IDX labels hold 256 classes; these are {len(classes)}. Use --format folder.")
        if classes and any(record.y is None for members in parts.values() for record in members):
            raise BadInput("Some samples have a label and some have none: IDX cannot hold both.")
        rows: list[dict[str, Any]] = []
        for part, members in parts.items():
            images = np.stack([cast(np.ndarray, record.source) for record in members])
            if images.dtype != np.uint8:
                raise BadInput(f"IDX holds 8-bit samples; these are {images.dtype}. Use --format folder.")
            if images.ndim < 3:
                raise BadInput(
                    "IDX holds 8-bit samples of two axes or more; these have one. Use --format folder."
                )
            _write(folder / f"{part}-images-idx{images.ndim}-ubyte.gz", images)
            if classes:
                numbers = np.array([classes[record.y] for record in members], np.uint8)
                _write(folder / f"{part}-labels-idx1-ubyte.gz", numbers)
            for number, record in enumerate(members):
                row = {"part": part, "row": number, **cells_of(record.y, kinds), "origin": record.origin}
                row |= {"split": record.split, "key": record.key}
                rows.append({**record.info, **row})
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode("utf-8", "backslashreplace"), durable=False)
        return rows


def _numbered(parts: dict[str, list[Record]]) -> dict[str, int]:
    """Class name -> its number in a labels file."""
    names = {r.y for members in parts.values() for r in members if r.y is not None}
    return {name: number for number, name in enumerate(sorted(names, key=_numeric))}


def _numeric(name: str) -> tuple[int, float, str]:
    """Sort 0, 1, 2, 10 as numbers where they are, other names after them."""
    return (0, float(name), name) if name.isdecimal() else (1, math.inf, name)


def _files(path: Path) -> dict[tuple[str, str], Path]:
    """(part, "images" or "labels") -> its file; one that is not gzipped goes before its gzipped twin."""
    files: dict[tuple[str, str], Path] = {}
    for entry in sorted(path.iterdir()):
        if (found := _NAME.match(entry.name)) and not entry.name.startswith(".") and entry.is_file():
            files.setdefault((found["part"], found["kind"]), entry)
    return files


def _told(path: Path) -> tuple[dict[tuple[str, int], Record], dict[str, str]]:
    """(part, row) -> its record without the source, and column -> kind, from a metadata.jsonl that `write` left."""
    told: dict[tuple[str, int], Record] = {}
    if not (path / MANIFEST).is_file():
        return told, {}
    columns = told_columns(path)
    kinds = {"label": "label"} if columns is None else columns
    own = {"part", "row", "origin", "split", "key", *kinds}
    for number, row in enumerate(read_jsonl(path / "metadata.jsonl"), 1):
        place = f"metadata.jsonl, row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("row"), int):
            raise BadInput(f"{place}: not a row that Sibling wrote.")
        cells = {column: cell_of(row.get(column), kind, place) for column, kind in kinds.items()}
        cells |= {c: from_text(str(cells[c])) for c, kind in kinds.items() if kind == "map" and cells[c]}
        told[str(row.get("part")), row["row"]] = Record(
            str(row.get("key")),
            None,
            None if None in cells.values() else y_of(cells, kinds),
            "synthetic" if row.get("origin") == "synthetic" else "real",
            split_of(row.get("split"), place),
            {name: value for name, value in row.items() if name not in own and value is not None},
        )
    return told, columns or {}


def _array(path: Path) -> np.ndarray:
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            zero, kind, rank = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != 0x08:
                raise BadInput(f"{path.name} is no IDX file of bytes (it starts with {zero:04x}{kind:02x}).")
            if rank not in (1, 3, 4, 5):
                raise BadInput(f"{path.name} has {rank} axes; images have 3 or 4, clips 5, labels 1.")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            size = math.prod(shape)
            # A header can claim anything: nothing is allocated that the file cannot hold.
            most = min(MOST_BYTES, path.stat().st_size * (_MOST_RATIO if packed else 1))
            if size > most:
                raise BadInput(f"{path.name} claims {size:,} bytes; it can hold at most {most:,}.")
            data = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise BadInput(f"{path.name} could not be read: {error or 'it ends too early'}.") from error
    if len(data) != size:
        have = "more" if len(data) > size else f"{len(data):,}"
        raise BadInput(f"{path.name}: its header says {size:,} bytes, there are {have}.")
    return np.frombuffer(data, np.uint8).reshape(shape)  # (N, H, W[, C]) or (N,)


def _write(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    # mtime=0: the same samples give the same bytes
    write_bytes(path, gzip.compress(header + array.tobytes(), compresslevel=6, mtime=0), durable=False)
