"""One .npz file: x, y and class names, as numpy users keep them."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadInput, UnsafeFile
from ..files import to_line, write_bytes
from ..types import Record, Split
from .labels import label_of, split_of

__all__ = ["Npz"]

_X = ("x", "X", "images", "data", "arr_0")
_Y = ("y", "Y", "labels", "label", "target", "arr_1")
_NAMES = ("class_names", "classes", "target_names")
_TEXT = (".json", ".jsonl", ".txt", ".md", ".csv")  # what may lie beside an .npz
_MOST_BYTES = 16 * 2**30
_MOST_RATIO = 1040  # deflate packs at most 1032 to 1


class Npz:
    """x (N, H, W), (N, H, W, C) or (N, C, H, W); y (N,) numbers or names; `class_names` optional.

    Keras-style files with x_train, y_train, x_test, y_test keep their split.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A file *.npz, or a folder that holds one and nothing but text beside it."""
        return _file(path) is not None

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row of x. Raises BadInput, UnsafeFile."""
        file = cast(Path, _file(path))
        arrays = _Arrays(file)
        class_names = next((arrays[name] for name in _NAMES if name in arrays), None)
        told = {name: arrays[name] for name in ("origin", "split", "key") if name in arrays}
        for part, x_name, y_name in _parts(arrays, file.name):
            yield from _records(part, arrays[x_name], arrays.get(y_name), class_names, told, file.name)

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write `data.npz` (x, y, class_names, origin, split, key) and `metadata.jsonl`, row by row."""
        members = list(records)
        classes = sorted({str(record.y) for record in members if record.y is not None})
        arrays: dict[str, np.ndarray] = {
            "x": np.stack([cast(np.ndarray, record.source) for record in members]),
            "origin": np.array([record.origin for record in members]),
            "split": np.array([record.split or "" for record in members]),
            "key": np.array([record.key for record in members]),
        }
        if classes:
            numbers = {name: number for number, name in enumerate(classes)}
            arrays["y"] = np.array([numbers[str(record.y)] for record in members])
            arrays["class_names"] = np.array(classes)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **cast(Any, arrays))
        write_bytes(folder / "data.npz", buffer.getvalue(), durable=False)
        rows: list[dict[str, Any]] = []
        for number, record in enumerate(members):
            info = {k: v for k, v in record.info.items() if k != "link"}
            known = {"row": number, "label": record.y, "origin": record.origin, "split": record.split}
            rows.append({**known, **info})
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode("utf-8", "backslashreplace"), durable=False)
        return rows


def _file(path: Path) -> Path | None:
    """The .npz file that `path` is or holds. Beside other data it is something else, such as features."""
    if path.is_file():
        return path if path.suffix.lower() == ".npz" else None
    try:
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return None
    found = [entry for entry in entries if entry.suffix.lower() == ".npz" and entry.is_file()]
    text = [entry for entry in entries if entry.suffix.lower() in _TEXT and entry.is_file()]
    return found[0] if len(found) == 1 and len(text) == len(entries) - 1 else None


class _Arrays:
    """The arrays of an .npz file, each read when it is asked for, and never more than its header claims.

    numpy allocates what the header of an array says; here it must be what the archive holds.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._errors(), zipfile.ZipFile(file) as archive:
            self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        size = sum(info.file_size for info in self._members.values())
        most = min(_MOST_BYTES, file.stat().st_size * _MOST_RATIO)
        if size > most:
            raise BadInput(f"{file.name} claims {size:,} bytes; at most {most:,} are believed.")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> np.ndarray | None:
        """The array of this name, or None."""
        return self[name] if name in self._members else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._members[name]
        with self._errors(), zipfile.ZipFile(self.file) as archive:
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in _HEADERS:
                    raise ValueError(f"{name} has the .npy version {version}")
                shape, _, dtype = _HEADERS[version](stream)
                if dtype.hasobject:
                    raise UnsafeFile(
                        f"{self.file.name} holds Python objects ({name}), which can run code: refused. "
                        "Save y as plain numbers or text."
                    )
                if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
                    raise ValueError(f"{name} claims the shape {shape}, its data have another size")
            with archive.open(info) as stream:
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
                return array

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """zipfile, zlib and numpy have a dozen ways to say that a file is broken: here all mean the same."""
        try:
            yield
        except (BadInput, UnsafeFile, MemoryError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BadInput(f"{self.file.name} could not be read: {reason}.") from error


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _parts(arrays: _Arrays, name: str) -> list[tuple[Split | None, str, str]]:
    """(split, name of x, name of y) of each part."""
    keras = [(part, f"x_{part}", f"y_{part}") for part in ("train", "val", "test") if f"x_{part}" in arrays]
    if keras:
        return [(cast(Split, part), x, y) for part, x, y in keras]
    x_name = next((key for key in _X if key in arrays), None)
    if x_name is None:
        held = ", ".join(list(arrays)[:10]) or "nothing"
        raise BadInput(f"{name} holds {held}; the samples must be called x (or x_train, x_test).")
    return [(None, x_name, next((key for key in _Y if key in arrays), ""))]


def _records(
    part: Split | None,
    x: np.ndarray,
    y: np.ndarray | None,
    class_names: np.ndarray | None,
    told: dict[str, np.ndarray],
    name: str,
) -> Iterator[Record]:
    if x.ndim not in (3, 4) or x.dtype.kind not in "buif":
        raise BadInput(
            f"{name}: x is {x.dtype} {x.shape}; it must be numbers (N, H, W), (N, H, W, C) or (N, C, H, W)."
        )
    x = x.astype(np.uint8) if x.dtype.kind == "b" else x
    if x.ndim == 4 and x.shape[-1] > 4 and x.shape[1] <= 4:
        x = np.moveaxis(x, 1, -1)  # (N, C, H, W) -> (N, H, W, C)
    if y is not None and y.ndim == 2 and 1 in y.shape:
        y = y.reshape(-1)  # (N, 1) -> (N,), as Keras keeps CIFAR
    for what, column in (("y", y), *told.items()):
        if column is not None and column.shape != (len(x),):
            raise BadInput(f"{name}: x has {len(x)} rows, {what} has the shape {column.shape}.")
    prefix = part or "sample"
    for row in range(len(x)):
        place = f"{name}, row {row}"
        split = part or (split_of(_plain(told["split"][row]), place) if "split" in told else None)
        made = "origin" in told and _plain(told["origin"][row]) == "synthetic"
        key = str(_plain(told["key"][row])) if "key" in told else f"{prefix}/{row:06d}"
        yield Record(key, x[row], _name(y, row, class_names, name), "synthetic" if made else "real", split)


def _plain(value: Any) -> Any:
    """A numpy scalar as a Python value; bytes (dtype S) as text."""
    value = value.item()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _name(y: np.ndarray | None, row: int, class_names: np.ndarray | None, name: str) -> str | None:
    if y is None:
        return None
    value = _plain(y[row])
    if isinstance(value, str) or class_names is None:
        return label_of(value, f"{name}, row {row}")
    if not isinstance(value, int) or not 0 <= value < len(class_names):
        raise BadInput(f"{name}: y[{row}] is {value}, but there are {len(class_names)} class names (from 0).")
    return str(_plain(class_names[value]))
