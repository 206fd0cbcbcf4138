"""Label files: metadata.csv, .jsonl and .parquet -> rows, and file names that stay in the data folder."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..errors import BadInput, UnsafeFile
from ..files import MANIFEST
from ..types import Split

__all__ = [
    "KINDS",
    "METADATA",
    "SPLITS",
    "info_of",
    "label_of",
    "manifest_of",
    "rows_of",
    "safe_name",
    "split_of",
    "told_columns",
]

KINDS = ("label", "labels", "value", "map")  # of a column that is a part of y
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def manifest_of(root: Path) -> dict[str, Any]:
    """The manifest that Sibling itself wrote into this folder; empty where there is none."""
    try:
        manifest = json.loads((root / MANIFEST).read_text("utf-8", errors="surrogateescape"))
        return manifest if isinstance(manifest, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def told_columns(root: Path) -> dict[str, str] | None:
    """Column -> kind, as the manifest of a data set of ours says what y is; None where it says nothing."""
    told = manifest_of(root).get("columns")
    if not isinstance(told, dict) or any(kind not in KINDS for kind in told.values()):
        return None
    return told


def info_of(value: Any) -> dict[str, Any]:
    """What `write` keeps as JSON text in a column `info`; another tool's column of this name is kept as it is."""
    if value is None or value == "":
        return {}
    try:
        told = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {"info": json.loads(json.dumps(value, default=str))}


def label_of(value: Any, place: str) -> str | None:
    """A label as text, never made a number ("00" stays "00"); None where it is missing. Raises BadInput."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | dict):
        raise BadInput(f"{place}: the label is {str(value)[:60]}; known is one text or number a sample.")
    return str(value)


def split_of(value: Any, place: str) -> Split | None:
    """A split by one of its usual names; None where it is missing. Raises BadInput for an unknown one."""
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "nan", "left out"):
        return None
    if text not in SPLITS:
        # Taken for "no split" it would be trained with, and the user's own hold-out would be lost.
        raise BadInput(f"{place}: the split is {str(value)[:40]!r}; known: {', '.join(SPLITS)}.")
    return SPLITS[text]


def rows_of(path: Path, root: Path) -> list[dict[str, Any]]:
    """All rows of a label file. `root` is the real path of the data folder.

    Raises BadInput with the line, UnsafeFile for a link out of `root`.
    """
    if not _inside(path, root):
        raise UnsafeFile(f"{path.name} is a link out of the data folder; it was not read. Copy the file.")
    try:
        rows = _parquet_rows(path) if path.suffix == ".parquet" else _text_rows(path)
    except OSError as error:
        raise BadInput(f"{path.name} could not be read: {error.strerror or error}.") from error
    if not rows:
        raise BadInput(f"{path.name} has no rows. Fill it, or take it away.")
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path.name} is not a Parquet file ({reason}).") from error
    return rows


def _text_rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadInput(f"{path.name} is UTF-16; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(f"{path.name}, line {line}: not UTF-8. Save it as UTF-8.") from error
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    return _jsonl_rows(text, path.name) if lines else _csv_rows(text, path.name)


def _jsonl_rows(text: str, name: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:  # not splitlines: it also cuts at characters that may stand inside a JSON string
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise BadInput(f"{name}, line {number}: a row is an object {{...}}, not {type(row).__name__}.")
        rows.append(row)
    return rows


def _csv_rows(text: str, name: str) -> list[dict[str, Any]]:
    if "\0" in text:
        raise BadInput(f"{name} holds a NUL character at offset {text.index(chr(0))}: it is not a CSV file.")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) != len(header):
            raise BadInput(f"{name}: a column name appears twice in {header}.")
        rows = []
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                count = f"{len(fields)} fields, the header has {len(header)}"
                raise BadInput(f"{name}, line {reader.line_num}: {count}.")
            rows.append(dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: {error}.") from error
    return rows


def safe_name(file_name: Any, place: str, base: PurePosixPath, root: Path) -> str:
    """The name, relative to `root` (a real path), of a file that a label file in `base` names.

    Only the text and the links on the way are looked at; nothing is opened. Raises UnsafeFile when it
    leaves `root`, BadInput when it is no path.
    """
    if not isinstance(file_name, str) or not file_name:
        raise BadInput(f"{place}: file_name is {str(file_name)[:60]!r}, not a path.")
    windows = PureWindowsPath(file_name)
    outside = (
        PurePosixPath(file_name).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in windows.parts  # knows both kinds of slashes
        or "\0" in file_name
        or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/|file:", file_name, re.IGNORECASE)
    )
    if outside:
        raise UnsafeFile(
            f"{place}: file_name {file_name[:200]!r} leaves the data folder; nothing was read. "
            "Use paths relative to the label file, without '..'."
        )
    try:
        os.fsencode(file_name)
    except UnicodeEncodeError:
        raise BadInput(f"{place}: file_name {file_name[:200]!r} holds what no file name can.") from None
    path = base / file_name
    if "\\" in file_name and not os.path.lexists(root / path):
        path = base / file_name.replace("\\", "/")  # a list made on Windows
    if not _inside(root / path, root):
        raise UnsafeFile(
            f"{place}: file_name {file_name[:200]!r} is a link out of the data folder; nothing was read. "
            "Copy the file into the folder."
        )
    return path.as_posix()


def _inside(path: Path, root: Path) -> bool:
    # os.path.realpath, not Path.resolve: the latter raises RuntimeError for a loop of links
    real = os.path.realpath(path)
    return real == str(root) or real.startswith(os.path.join(root, ""))
