"""Files of numbers -> arrays: .npy, .npz with one array, and .csv, with one declared policy for each oddity."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import BadSample

__all__ = ["LEAST_STEPS", "Table", "opened", "to_csv", "to_npy"]

LEAST_STEPS = 4  # of time; fewer are no series
MOST_BYTES = 256 * 2**20  # of one file, and of what an archive claims to hold
_CLOCKS = ("t", "time", "timestamp", "datetime", "seconds", "sec", "ms", "index", "sample", "frame", "")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Table:
    """One series as it lies in its file.

    values     float64 or integers (T,) or two axes, of which one is time
    kind       ".npy", ".npz", ".csv", or "array"
    names      the header line of a .csv; () where there is none
    delimiter  of a .csv
    clock      whether the first column of a .csv only counts the time
    """

    values: np.ndarray
    kind: str
    names: tuple[str, ...] = ()
    delimiter: str = ","
    clock: bool = False


def opened(source: bytes | BinaryIO | np.ndarray) -> Table:
    """What a file or an array holds; the kind is told by the first bytes, not by the name. Raises BadSample."""
    if isinstance(source, np.ndarray):
        return Table(_checked(source), "array")
    content = source if isinstance(source, bytes) else source.read(MOST_BYTES + 1)
    if not content:
        raise BadSample("is empty")
    if len(content) > MOST_BYTES:
        raise BadSample(f"has more than {MOST_BYTES // 2**20} MiB")
    if content.startswith(b"\x93NUMPY"):
        return Table(_checked(_npy(content)), ".npy")
    if content.startswith(b"PK"):
        return Table(_checked(_npz(content)), ".npz")
    table = _csv(content)
    return Table(_checked(table.values), ".csv", table.names, table.delimiter, table.clock)


def _checked(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "buif":
        raise BadSample(f"holds {values.dtype}, not real numbers")
    if values.ndim not in (1, 2):
        raise BadSample(f"has the shape {values.shape}; a series has one axis, or two: time and channels")
    if values.size == 0 or max(values.shape) < LEAST_STEPS:
        raise BadSample(f"has the shape {values.shape}; a series has at least {LEAST_STEPS} steps of time")
    if values.dtype.kind == "f":
        wrong = int(values.size - np.isfinite(values).sum())
        if wrong:
            raise BadSample(f"holds {wrong} of {values.size} values that are not finite")
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _npy(content: bytes) -> np.ndarray:
    """The array of a .npy: nothing is unpickled, and nothing is allocated that the file does not hold."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"it has the version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
        if dtype.hasobject:
            raise BadSample("holds Python objects, which can run code: refused. Save it as plain numbers")
        rest = content[stream.tell() :]
        if math.prod(shape) * dtype.itemsize != len(rest):
            raise ValueError(f"its header claims the shape {shape}, its data have another size")
        return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    except BadSample:
        raise
    except Exception as error:  # numpy has half a dozen types for a broken header
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadSample(f"cannot be decoded as .npy: {reason}") from error


def _npz(content: bytes) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) != 1:
                held = ", ".join(member.filename for member in members[:5]) or "nothing"
                raise BadSample(f"holds {len(members)} arrays ({held}); one series a file is known")
            if members[0].file_size > MOST_BYTES:
                raise BadSample(f"claims to hold more than {MOST_BYTES // 2**20} MiB")
            return _npy(archive.read(members[0]))
    except BadSample:
        raise
    except Exception as error:  # so have zipfile and zlib
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadSample(f"cannot be decoded as .npz: {reason}") from error


def _csv(content: bytes) -> Table:
    """Rows of numbers, a step of time each; a header line, comments (#) and empty lines may stand among them."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample("is neither .npy, .npz nor text in UTF-8") from error
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise BadSample("is empty: it has no line with numbers")
    delimiter = max(",;\t", key=lines[-1][1].count)
    if delimiter not in lines[-1][1]:
        delimiter = " " if " " in lines[-1][1].strip() else ","
    rows: list[list[float]] = []
    names: tuple[str, ...] = ()
    for number, line in lines:
        cells = line.split() if delimiter == " " else line.rstrip(delimiter + " ").split(delimiter)
        try:
            row = [float(cell) if cell.strip() else math.nan for cell in cells]
        except ValueError:
            if rows or names:
                raise BadSample(f"has a line that is no numbers (line {number}: {line[:40]!r})") from None
            names = tuple(cell.strip().strip('"') for cell in cells)
            continue
        if rows and len(row) != len(rows[0]):
            raise BadSample(f"is ragged: line {number} has {len(row)} numbers, the first has {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise BadSample("has a header line and no numbers")
    values = np.array(rows)  # (T, C)
    if values.shape[1] == 1:
        values = values[:, 0]
    names = names if len(names) == len(rows[0]) else ()
    clock = values.ndim == 2 and _is_clock(values[:, 0], names[0] if names else None)
    return Table(values, ".csv", names, delimiter, clock)


def _is_clock(column: np.ndarray, name: str | None) -> bool:
    """Whether a column only counts the time: it rises, and is called so or rises evenly."""
    steps = np.diff(column)
    if len(steps) < LEAST_STEPS - 1 or not (steps > 0).all():
        return False
    even = bool(np.ptp(steps) <= 1e-3 * np.abs(steps).max())
    return even or (name is not None and name.lower() in _CLOCKS)


def to_npy(values: np.ndarray) -> bytes:
    """An array -> the bytes of a .npy."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def to_csv(columns: list[np.ndarray], decimals: list[int], names: tuple[str, ...], delimiter: str) -> bytes:
    """Columns of numbers -> the bytes of a .csv; each with so many decimals."""
    texts: list[Any] = [
        [f"{value:.{places}f}" for value in column] for column, places in zip(columns, decimals, strict=True)
    ]
    lines = [delimiter.join(names)] if names else []
    lines += [delimiter.join(row) for row in zip(*texts, strict=True)]
    return ("\n".join(lines) + "\n").encode()
