"""The MNIST-style IDX files: images and labels, gzip or not.

Source of the layout: http://yann.lecun.com/exdb/mnist ("THE IDX FILE FORMAT"), big-endian throughout.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadInput
from ..files import to_line, write_bytes
from ..types import Record, Split

__all__ = ["Idx"]

_NAME = re.compile(r"^(?P<part>.+?)-(?P<kind>images|labels)[.-]idx\d-ubyte(\.gz)?$")
_PARTS: dict[str, Split] = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val"}
_MOST_BYTES = 16 * 2**30  # a header can claim anything: nothing above this is allocated


class Idx:
    """A folder with `train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]`, `t10k-...`."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A folder with at least one IDX images file."""
        return path.is_dir() and any(
            (found := _NAME.match(entry.name)) and found["kind"] == "images" for entry in path.iterdir()
        )

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record an image; y is the label's number as text. Raises BadInput."""
        files: dict[tuple[str, str], Path] = {}
        for entry in sorted(path.iterdir()):
            if (found := _NAME.match(entry.name)) and not entry.name.startswith("."):
                files.setdefault((found["part"], found["kind"]), entry)
        for (part, kind), file in files.items():
            if kind != "images":
                continue
            images = _array(file)
            labels = _array(files[part, "labels"]) if (part, "labels") in files else None
            if images.ndim not in (3, 4):
                raise BadInput(f"{file.name}: {images.ndim} dimensions; images have 3 (N, H, W) or 4 (N, H, W, C).")
            if labels is not None and labels.shape != (len(images),):
                raise BadInput(f"{file.name} has {len(images)} images, its labels file has {labels.shape}.")
            for row in range(len(images)):
                y = None if labels is None else str(labels[row])
                yield Record(f"{part}/{row:06d}", images[row], y=y, split=_PARTS.get(part))

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write four IDX files and `metadata.jsonl`, whose n-th row of a part describes its n-th image.

        Real and synthetic samples of the train part lie in one file; the metadata keep them apart.
        Sources must be uint8 arrays of one size.
        """
        parts: dict[str, list[Record]] = {}
        for record in records:
            part = "t10k" if record.split == "test" else "val" if record.split == "val" else "train"
            parts.setdefault(part, []).append(record)
        classes = sorted({r.y for rs in parts.values() for r in rs if r.y is not None}, key=_numeric)
        rows: list[dict[str, Any]] = []
        for part, members in parts.items():
            images = np.stack([cast(np.ndarray, record.source) for record in members])
            if images.dtype != np.uint8:
                raise BadInput(f"IDX holds 8-bit samples; these are {images.dtype}. Use the folder format.")
            _write(folder / f"{part}-images-idx{images.ndim}-ubyte.gz", images)
            if classes:
                numbers = np.array([classes.index(record.y) for record in members], np.uint8)
                _write(folder / f"{part}-labels-idx1-ubyte.gz", numbers)
            for number, record in enumerate(members):
                info = {k: v for k, v in record.info.items() if k != "link"}
                row = {"part": part, "row": number, "label": record.y, "origin": record.origin, "split": record.split}
                rows.append({**row, "key": record.key, **info})
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode(), durable=False)
        return rows


def _numeric(name: str) -> tuple[int, float, str]:
    """Sort 0, 1, 2, 10 as numbers where they are, other names after them."""
    return (0, float(name), name) if name.isdecimal() else (1, math.inf, name)


def _array(path: Path) -> np.ndarray:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            zero, kind, rank = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != 0x08:
                raise BadInput(f"{path.name} is not an IDX file of bytes (magic {zero:04x} {kind:02x}).")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            size = math.prod(shape)
            if size > _MOST_BYTES:
                raise BadInput(f"{path.name} claims {size / 2**30:.0f} GiB; at most 16 GiB are read.")
            data = file.read(size + 1)
    except (OSError, EOFError, struct.error, gzip.zlib.error) as error:
        raise BadInput(f"{path.name} could not be read: {error or 'it ends too early'}.") from error
    if len(data) != size:
        raise BadInput(f"{path.name}: its header says {size} bytes, there are {'more' if len(data) > size else len(data)}.")
    return np.frombuffer(data, np.uint8).reshape(shape)  # (N, H, W[, C]) or (N,)


def _write(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    # mtime=0: the same samples give the same bytes
    write_bytes(path, gzip.compress(header + array.tobytes(), compresslevel=6, mtime=0), durable=False)
