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
from ..png import from_text, to_array
from ..types import Record, Split
from .archive import MOST_BYTES
from .columns import cells_of, y_of
from .labels import KINDS, info_of, label_of, split_of
from .naming import INTERNAL

__all__ = ["Npz"]

_X = ("x", "X", "images", "data", "arr_0")
_Y = ("y", "Y", "labels", "label", "target", "arr_1")
_NAMES = ("class_names", "classes", "target_names")
_TEXT = (".json", ".jsonl", ".txt", ".md", ".csv")  # what may lie beside an .npz
_MOST_RATIO = 1040  # deflate packs at most 1032 to 1


class Npz:
    """x (N, H, W), (N, H, W, C) or (N, C, H, W), or series (N, T), (N, T, C), (N, C, T); y (N,) numbers or names;
    `class_names` optional.

    Keras-style files with x_train, y_train, x_test, y_test keep their split. A y that is more than a label has
    `columns` and `kinds`, and for each column `y_<column>` (texts or numbers (N,), or multi-hot (N, L) with
    `y_<column>_names` (L,)) or `map_<column>` uint8 (N, H, W[, 3]).

    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    """

    def __init__(self) -> None:
        self.columns: dict[str, str] = {}
        self.found_in = ""
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A file *.npz, or a folder that holds one and nothing but text beside it."""
        return _file(path) is not None

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row of x. Raises BadInput, UnsafeFile."""
        file = cast(Path, _file(path))
        arrays = _Arrays(file)
        class_names = next((arrays[name] for name in _NAMES if name in arrays), None)
        told = {name: arrays[name] for name in ("origin", "split", "key", "info") if name in arrays}
        self.columns, self.found_in = _kinds(arrays, file.name), file.name
        if self.columns and not _is_label(self.columns):
            x = arrays["x"]
            cells = {
                column: _cells(arrays, column, kind, len(x), file.name)
                for column, kind in self.columns.items()
            }
            for row, record in enumerate(_records(None, x, None, None, told, file.name)):
                record.y = y_of({column: own[row] for column, own in cells.items()}, self.columns)
                yield record
            return
        for part, x_name, y_name in _parts(arrays, file.name):
            yield from _records(part, arrays[x_name], arrays.get(y_name), class_names, told, file.name)

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write `data.npz` (x, y, class_names, origin, split, key, info as JSON) and `metadata.jsonl`, row by row."""
        members = list(records)
        kinds = self.columns or {"label": "label"}
        arrays: dict[str, np.ndarray] = {
            "x": np.stack([cast(np.ndarray, record.source) for record in members]),
            "origin": np.array([record.origin for record in members]),
            "split": np.array([record.split or "" for record in members]),
            "key": np.array([record.key for record in members]),
        }
        infos = [{k: v for k, v in record.info.items() if k not in INTERNAL} for record in members]
        if any(infos):
            arrays["info"] = np.array([to_line(info) for info in infos])
        if any(record.y is not None for record in members):
            arrays |= _y_arrays([cells_of(record.y, kinds) for record in members], kinds)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **cast(Any, arrays))
        write_bytes(folder / "data.npz", buffer.getvalue(), durable=False)
        rows: list[dict[str, Any]] = []
        for number, (record, info) in enumerate(zip(members, infos, strict=True)):
            cells = {c: v for c, v in cells_of(record.y, kinds).items() if kinds[c] != "map"}
            known = {"row": number, **cells, "origin": record.origin, "split": record.split}
            rows.append({**info, **known})
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode("utf-8", "backslashreplace"), durable=False)
        return rows


def _is_label(kinds: dict[str, str]) -> bool:
    return list(kinds.values()) == ["label"]


def _y_arrays(cells: list[dict[str, Any]], kinds: dict[str, str]) -> dict[str, np.ndarray]:
    """What is said about y: y and class_names for a lone label, else the arrays of each column."""
    arrays: dict[str, np.ndarray] = {}
    if list(kinds) != ["label"] or not _is_label(kinds):
        arrays |= {"columns": np.array(list(kinds)), "kinds": np.array(list(kinds.values()))}
    for column, kind in kinds.items():
        if kind == "labels" and f"{column}_names" in kinds:
            raise BadInput(
                f"The columns {column} and {column}_names would share an array. Rename one of them."
            )
        own = [row.get(column) for row in cells]
        if any(cell is None for cell in own):
            raise BadInput(f"Some samples have a {column} and some have none: .npz cannot hold both.")
        if _is_label(kinds):
            names = sorted({str(cell) for cell in own})
            numbers = {name: number for number, name in enumerate(names)}
            arrays |= {"y": np.array([numbers[str(cell)] for cell in own]), "class_names": np.array(names)}
        elif kind == "labels":
            names = sorted({name for cell in own for name in cast(list[str], cell)})
            hot = [[name in cast(list[str], cell) for name in names] for cell in own]
            arrays[f"y_{column}"] = np.array(hot, bool).reshape(len(own), len(names))
            arrays[f"y_{column}_names"] = np.array(names, str)
        elif kind == "map":
            arrays[f"map_{column}"] = _stack([to_array(from_text(cast(str, cell))) for cell in own])
        else:
            arrays[f"y_{column}"] = np.array(own, np.float64 if kind == "value" else str)
    return arrays


def _stack(maps: list[np.ndarray]) -> np.ndarray:
    """uint8 (N, H, W), or (N, H, W, 3) where one of them has colours."""
    if len({one.shape[:2] for one in maps}) > 1:
        raise BadInput("Maps of several sizes do not fit into one array. Use --format folder.")
    if any(one.ndim == 3 for one in maps):
        maps = [one if one.ndim == 3 else np.repeat(one[..., None], 3, 2) for one in maps]
    return np.stack(maps)


def _kinds(arrays: _Arrays, name: str) -> dict[str, str]:
    """column -> kind, where `write` has left them. Raises BadInput."""
    if "columns" not in arrays or "kinds" not in arrays:
        return {}
    columns, kinds = ([str(_plain(value)) for value in arrays[what].ravel()] for what in ("columns", "kinds"))
    if len(columns) != len(kinds) or any(kind not in KINDS for kind in kinds) or "x" not in arrays:
        raise BadInput(
            f"{name}: columns are {columns}, kinds are {kinds}; each column has one of {', '.join(KINDS)}."
        )
    return dict(zip(columns, kinds, strict=True))


def _cells(arrays: _Arrays, column: str, kind: str, n: int, name: str) -> Sequence[Any]:
    """The n cells of one column. Raises BadInput."""
    key = f"map_{column}" if kind == "map" else f"y_{column}"
    names = arrays.get(f"{key}_names") if kind == "labels" else None
    if key not in arrays or (kind == "labels" and names is None):
        raise BadInput(f"{name} names the column {column!r} ({kind}), but holds no {key}.")
    array = arrays[key]
    axes, types = {
        "map": ((3, 4), "u"),
        "labels": ((2,), "b"),
        "value": ((1,), "fiu"),
        "label": ((1,), "US"),
    }[kind]
    if array.ndim not in axes or array.dtype.kind not in types or len(array) != n:
        raise BadInput(f"{name}: {key} is {array.dtype} {array.shape}, which is no {kind} of {n} samples.")
    if names is not None:
        if array.shape[1:] != names.shape:
            raise BadInput(f"{name}: {key} has the shape {array.shape}, its names {names.shape}.")
        texts = np.array([str(_plain(value)) for value in names], object)
        return [sorted(texts[row].tolist()) for row in array]
    if kind == "map":
        return list(array)
    return [float(value) if kind == "value" else str(_plain(value)) for value in array]


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
        most = min(MOST_BYTES, file.stat().st_size * _MOST_RATIO)
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
    is_text = x.ndim == 1 and x.dtype.kind in "US"
    if not is_text and (x.ndim not in (2, 3, 4, 5) or x.dtype.kind not in "buif"):
        raise BadInput(
            f"{name}: x is {x.dtype} {x.shape}; it must be numbers (N, H, W), (N, H, W, C) or (N, C, H, W), series "
            "(N, T), (N, T, C) or (N, C, T), clips (N, T, H, W, C), or texts (N,)."
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
        info = info_of(_plain(told["info"][row])) if "info" in told else {}
        y_row = _name(y, row, class_names, name)
        yield Record(key, np.asarray(x[row]), y_row, "synthetic" if made else "real", split, info)


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
