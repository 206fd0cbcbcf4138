"""Tables in which the text itself stands in a column, and files with a text a line.

- a file .csv, .tsv or .jsonl (.ndjson) with a column `text` (or `sentence`, `content`, ...) and columns for y;
- a folder that holds nothing but such tables: one that is called train/val/test is that part;
- a folder of .txt files, no sub-folders, each of several lines: the file name is the class, a line is a text;
- one .txt file: a text a line, no labels.

A .txt file that is one text as a whole lies in a class folder, and is read by the format `folder`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

from ..errors import BadInput
from ..files import MANIFEST, to_line, write_bytes
from ..types import Record
from .columns import Asked, cell_of, cells_of, find, y_of
from .labels import METADATA, SPLITS, rows_of, split_of, told_columns
from .listed import FILE_NAMES

__all__ = ["TEXT_COLUMNS", "Texts"]

TEXT_COLUMNS = (
    "text", "sentence", "content", "document", "message", "review", "tweet", "comment", "body", "quote", "string",
)  # fmt: skip
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_OURS = "texts.jsonl"
_HEAD = 65_536  # bytes that a file is told by
_MOST_FILES = 200  # of lines; more are texts themselves
_LEAST_LINES = 10  # of the middle file; shorter ones are texts themselves


class Texts:
    """Tables with a column of texts, and files of lines. Written as texts.jsonl.

    label_column, condition, known  as for `Folder`
    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    """

    chooses = as_files = True
    modality = "text"

    def __init__(
        self,
        label_column: str | Sequence[str] | None = None,
        condition: str | None = None,
        known: dict[str, str] | None = None,
    ) -> None:
        self.asked = Asked(condition, label_column, known)
        self.columns: dict[str, str] = {}
        self.found_in = ""
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A table without a column of file names, a file of lines, or a folder of nothing else."""
        if path.is_file():
            suffix = path.suffix.lower()
            return suffix == ".txt" or (suffix in _TABLES and not {*FILE_NAMES} & {*_headers(path)})
        if (path / _OURS).is_file() and (path / MANIFEST).is_file():
            return True
        files = _files(path)
        return _all_tables(files) or _all_lines(files)

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row or a line. Raises BadInput, UnsafeFile."""
        root = path.parent if path.is_file() else path
        if path.is_file():
            files = [path]
        elif (path / _OURS).is_file() and (path / MANIFEST).is_file():
            files = [path / _OURS]
        else:
            files = _files(path)
        if files[0].suffix.lower() == ".txt":
            yield from self._lines(files, labelled=path.is_dir())
            return
        tables = {file.name: rows_of(file, Path(os.path.realpath(root))) for file in files}
        told = told_columns(root) if files[0].name == _OURS else None
        asked = Asked(known=told) if told is not None and self.asked == Asked() else self.asked
        yield from self._rows(tables, asked)

    # ---- tables -------------------------------------------------------------------------------

    def _rows(self, tables: dict[str, list[dict[str, Any]]], asked: Asked) -> Iterator[Record]:
        first = next(iter(tables))
        column = _text_column(tables)
        # What finds y in a list of files is told that the texts are what the files are.
        bare = [
            {"file_name": "", **{key: value for key, value in row.items() if key != column}}
            for rows in tables.values()
            for row in rows
        ]
        found = find(bare, first, asked, (), self.notes)
        self.columns = {part.name: part.kind for part in found}
        self.found_in = first
        if column != "text":
            self.notes.append(f"The texts are in the column {column}.")
        own_split = len(tables) > 1 and all(Path(name).stem.lower() in SPLITS for name in tables)
        taken = {column, "split", "origin", "key", *(part.header for part in found)}
        for name, rows in tables.items():
            for number, row in enumerate(rows, 1):
                where = f"{name}, row {number}"
                key = str(row.get("key") or f"{Path(name).stem}/{number:06d}")
                cells = {part.name: cell_of(row.get(part.header), part.kind, where) for part in found}
                missing = [part for part, cell in cells.items() if cell is None]
                text = row.get(column)
                problem = (
                    f"has no {', '.join(missing)} ({where})" if missing else _no_text(text, column, where)
                )
                y = None if missing else y_of(cells, self.columns)
                if problem:
                    yield Record(key, None, y, info={"bad": problem})
                    continue
                split = split_of(row.get("split"), where)
                if split is None and own_split:
                    split = SPLITS[Path(name).stem.lower()]
                yield Record(
                    key,
                    cast(str, text).encode("utf-8", "surrogatepass"),  # half a pair is found by who decodes
                    y,
                    "synthetic" if row.get("origin") == "synthetic" else "real",
                    split,
                    {k: _json(v) for k, v in row.items() if k not in taken and v is not None},
                )

    # ---- lines --------------------------------------------------------------------------------

    def _lines(self, files: list[Path], labelled: bool) -> Iterator[Record]:
        self.found_in = "the names of the files" if labelled else ""
        own = {"label": "label"} if labelled else {}
        self.columns = own
        count = 0
        for file in files:
            for number, line in enumerate(_split_lines(file), 1):
                if not line.strip():
                    continue
                count += 1
                yield Record(f"{file.stem}/{number:06d}", line, file.stem if labelled else None)
        what = f"the file names are {len(files)} classes" if labelled else "there are no labels"
        self.notes.append(
            f"Each of {count:,} lines is a text, and {what}. Files that are one text each belong into class folders."
        )

    # ---- writing ------------------------------------------------------------------------------

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write texts.jsonl with `text`, a column for each part of y, origin, split and key; and metadata.jsonl.

        Raises BadInput where the samples are no texts.
        """
        if suffix != ".txt":
            raise BadInput(
                f"A table of texts holds texts; these samples are {suffix} files. Use --format folder."
            )
        kinds = self.columns or {"label": "label"}
        if "map" in kinds.values():
            raise BadInput("A table of texts holds no maps. Use --format folder.")
        table, rows = [], []
        for number, record in enumerate(records):
            row: dict[str, Any] = {
                **cells_of(record.y, kinds),
                "origin": record.origin,
                "split": record.split,
            }
            row = {key: value for key, value in row.items() if value is not None}
            content = record.source.read_bytes() if isinstance(record.source, Path) else record.source
            text = _decoded(cast(bytes, content))
            table.append({"text": text.removesuffix("\n"), **row, "key": record.key})
            known = {key: value for key, value in record.info.items() if key not in ("link", "folder", *row)}
            rows.append({"row": number, **row, "key": record.key, **known})
        for name, lines in ((_OURS, table), ("metadata.jsonl", rows)):
            written = "".join(to_line(line) + "\n" for line in lines)
            write_bytes(folder / name, written.encode("utf-8", "backslashreplace"), durable=False)
        return rows


def _files(path: Path) -> list[Path]:
    """The files in a folder, sorted; none where it has sub-folders or a metadata file, which then say more."""
    try:
        entries = [entry for entry in path.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    except OSError:
        return []
    usual = [e for e in entries if e.stem.lower() not in ("readme", "license", "licence")]
    if any(entry.name in METADATA or not entry.is_file() for entry in usual):
        return []
    return sorted(usual)


def _all_tables(files: list[Path]) -> bool:
    return 0 < len(files) <= _MOST_FILES and all(
        file.suffix.lower() in _TABLES
        and _known_column(_headers(file))
        and not {*FILE_NAMES} & {*_headers(file)}
        for file in files
    )


def _all_lines(files: list[Path]) -> bool:
    """Several .txt files, the middle one of ten lines or more: a class a file. Poems of fewer files are that too."""
    if not 2 <= len(files) <= _MOST_FILES or any(file.suffix.lower() != ".txt" for file in files):
        return False
    return median(sum(bool(line.strip()) for line in _split_lines(file)) for file in files) >= _LEAST_LINES


def _split_lines(file: Path) -> list[bytes]:
    """The lines of a file, each to be decoded for itself: one that is broken does not spoil the others."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = _decoded(content).encode()
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def _decoded(content: bytes) -> str:
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        return content.decode("utf-16" if content.startswith(marks) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"A text is neither UTF-8 nor UTF-16 ({error.reason}). Save it as UTF-8.") from error


def _headers(file: Path) -> list[str]:
    """The columns of a table, from its beginning; empty where it is none."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8-sig", "replace")
    except OSError:
        return []
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        decoder = json.JSONDecoder()
        try:
            row, _ = decoder.raw_decode(head.lstrip())
        except (ValueError, RecursionError):
            return []
        return list(row) if isinstance(row, dict) else []
    line = head.split("\n", 1)[0]
    try:
        cells = next(csv.reader(io.StringIO(line), delimiter=max(",;\t", key=line.count)), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _known_column(headers: Iterable[str]) -> str | None:
    """The column of texts: one with a usual name, else the only one with "text" in its name."""
    lower = {header.lower(): header for header in headers}
    usual = next((lower[name] for name in TEXT_COLUMNS if name in lower), None)
    named = [header for header in headers if "text" in header.lower()]
    return usual or (named[0] if len(named) == 1 else None)


def _text_column(tables: dict[str, list[dict[str, Any]]]) -> str:
    """The same in all tables. Raises BadInput."""
    found = {}
    for name, rows in tables.items():
        headers = list(dict.fromkeys(header for row in rows for header in row))
        column = _known_column(headers)
        if column is None:
            shown = ", ".join(header[:40] for header in headers[:20]) or "no columns"
            raise BadInput(
                f"{name} has no column of texts, and none of file names; it has {shown}. Call the one text, or the "
                "other file_name."
            )
        found[name] = column
    if len(set(found.values())) > 1:
        shown = ", ".join(f"{column} in {name}" for name, column in found.items())
        raise BadInput(f"The texts are in different columns: {shown}. Give them one name.")
    return next(iter(found.values()))


def _no_text(value: Any, column: str, where: str) -> str | None:
    """What is wrong with a cell of the column of texts."""
    if value is None or value == "":
        return f"is empty ({where})"
    if not isinstance(value, str):
        return f"has {str(value)[:40]!r} as its {column}, which is no text ({where})"
    return None


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
