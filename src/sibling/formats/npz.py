"""One .npz file: x, y and class names, as numpy users keep them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadInput, UnsafeFile
from ..files import to_line, write_bytes
from ..types import Origin, Record, Split

__all__ = ["Npz"]

_X = ("x", "X", "images", "data", "arr_0")
_Y = ("y", "Y", "labels", "label", "target", "arr_1")
_NAMES = ("class_names", "classes", "target_names")
_MOST_BYTES = 16 * 2**30


class Npz:
    """x (N, H, W), (N, H, W, C) or (N, C, H, W); y (N,) numbers or names; `class_names` optional.

    Keras-style files with x_train, y_train, x_test, y_test keep their split.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A file *.npz, or a folder that holds one."""
        return _file(path) is not None

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row of x. Raises BadInput, UnsafeFile."""
        file = cast(Path, _file(path))
        with zipfile.ZipFile(file) if zipfile.is_zipfile(file) else _not_zip(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_BYTES:
            raise BadInput(f"{file.name} unpacks to {size / 2**30:.0f} GiB; at most 16 GiB are read.")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                loaded = {name: arrays[name] for name in arrays.files}
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise UnsafeFile(
                    f"{file.name} holds Python objects, which can run code: refused. Save y as plain numbers or text."
                ) from error
            raise BadInput(f"{file.name} could not be read: {error}.") from error
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{file.name} could not be read: {error}.") from error
        class_names = next((loaded[name] for name in _NAMES if name in loaded), None)
        for part, x, y in _parts(loaded, file.name):
            yield from _records(part, x, y, class_names, loaded, file.name)

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
            arrays["y"] = np.array([classes.index(str(record.y)) for record in members])
            arrays["class_names"] = np.array(classes)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **cast(Any, arrays))
        write_bytes(folder / "data.npz", buffer.getvalue(), durable=False)
        rows: list[dict[str, Any]] = []
        for number, record in enumerate(members):
            info = {k: v for k, v in record.info.items() if k != "link"}
            rows.append({"row": number, "label": record.y, "origin": record.origin, "split": record.split, **info})
        write_bytes(folder / "metadata.jsonl", "".join(to_line(r) + "\n" for r in rows).encode(), durable=False)
        return rows


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".npz" else None
    found = sorted(path.glob("*.npz")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def _not_zip(file: Path) -> zipfile.ZipFile:
    raise BadInput(f"{file.name} is not an .npz archive.")


def _parts(loaded: dict[str, np.ndarray], name: str) -> list[tuple[Split | None, np.ndarray, np.ndarray | None]]:
    keras = [(part, f"x_{part}", f"y_{part}") for part in ("train", "val", "test") if f"x_{part}" in loaded]
    if keras:
        return [(cast(Split, part), loaded[x], loaded.get(y)) for part, x, y in keras]
    x_name = next((key for key in _X if key in loaded), None)
    if x_name is None:
        raise BadInput(f"{name} holds {', '.join(loaded) or 'nothing'}; the samples must be called x (or x_train, x_test).")
    return [(None, loaded[x_name], next((loaded[key] for key in _Y if key in loaded), None))]


def _records(
    part: Split | None,
    x: np.ndarray,
    y: np.ndarray | None,
    class_names: np.ndarray | None,
    loaded: dict[str, np.ndarray],
    name: str,
) -> Iterator[Record]:
    if x.ndim not in (3, 4) or not np.issubdtype(x.dtype, np.number):
        raise BadInput(f"{name}: x is {x.dtype} {x.shape}; it must be numbers (N, H, W), (N, H, W, C) or (N, C, H, W).")
    if x.ndim == 4 and x.shape[-1] > 4 and x.shape[1] <= 4:
        x = np.moveaxis(x, 1, -1)  # (N, C, H, W) -> (N, H, W, C)
    if y is not None and y.ndim == 2 and 1 in y.shape:
        y = y.reshape(-1)  # (N, 1) -> (N,), as Keras keeps CIFAR
    if y is not None and y.shape != (len(x),):
        raise BadInput(f"{name}: x has {len(x)} rows, y has the shape {y.shape}.")
    origins, splits, keys = loaded.get("origin"), loaded.get("split"), loaded.get("key")
    prefix = part or "sample"
    for row in range(len(x)):
        split = part or (cast(Split, str(splits[row])) if splits is not None and str(splits[row]) else None)
        origin = cast(Origin, str(origins[row])) if origins is not None else "real"
        key = str(keys[row]) if keys is not None else f"{prefix}/{row:06d}"
        yield Record(key, x[row], _name(y, row, class_names, name), origin, split)


def _name(y: np.ndarray | None, row: int, class_names: np.ndarray | None, name: str) -> str | None:
    if y is None:
        return None
    value = y[row].item()
    if class_names is None or isinstance(value, str):
        return str(value)
    if not 0 <= int(value) < len(class_names):
        raise BadInput(f"{name}: y[{row}] is {value}, but there are {len(class_names)} class names.")
    return str(class_names[int(value)])
