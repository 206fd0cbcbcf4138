"""Folders of files: class sub-folders, or files plus a metadata file, or one flat folder.

Conventions, in the order in which they are looked for:

- `metadata.csv`, `.jsonl` or `.parquet` with a `file_name` column (Hugging Face imagefolder);
- first-level folders that are called train/val/test (or their usual synonyms): the data set brings
  its own split, which is kept;
- one sub-folder a class (torchvision ImageFolder); deeper folders belong to their class;
- files directly in the folder: no labels.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ..errors import BadInput, UnsafeFile
from ..files import copy_file, to_line, write_bytes
from ..types import Origin, Record, Split

__all__ = ["Folder"]

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
LABEL_COLUMNS = ("label", "class", "category", "target", "y")
SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_SYSTEM = re.compile(r"^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$|Icon\r$)", re.IGNORECASE)


class Folder:
    """Class sub-folders, a metadata file, or a flat folder.

    label_column  the column of the metadata file that is y; None = `label`, `class`, `category`,
                  `target` or `y`, else the only column besides `file_name`
    """

    def __init__(self, label_column: str | None = None) -> None:
        self.label_column = label_column
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """Any folder."""
        return path.is_dir()

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield the records below `path`, sorted by name. Raises BadInput, UnsafeFile."""
        files = _walk(path, self.notes)
        metadata = [name for name in files if PurePosixPath(name).name in METADATA]
        samples = [name for name in files if PurePosixPath(name).suffix.lower() in suffixes]
        others = len(files) - len(samples) - len(metadata)
        if others:
            self.notes.append(f"{others} other files were left alone (their endings are not of samples).")
        if metadata:
            yield from self._from_metadata(path, metadata, samples)
        else:
            yield from self._from_folders(path, samples)

    def _from_folders(self, root: Path, samples: list[str]) -> Iterator[Record]:
        paths = {name: PurePosixPath(name).parts for name in samples}
        wrapper = _common_wrapper(list(paths.values()))
        if wrapper:
            self.notes.append(f"The class folders lie one level down, in {'/'.join(wrapper)}/.")
        inner = {name: parts[len(wrapper) :] for name, parts in paths.items()}
        top = {parts[0] for parts in inner.values() if len(parts) > 1}
        own_split = bool(top) and all(name.lower() in SPLITS for name in top)
        labelled = {name: parts[1:] if own_split else parts for name, parts in inner.items()}
        has_classes = any(len(parts) > 1 for parts in labelled.values())
        for name in samples:
            parts = labelled[name]
            split = SPLITS.get(inner[name][0].lower()) if own_split and len(inner[name]) > 1 else None
            if has_classes and len(parts) < 2:
                yield Record(name, None, info={"bad": "not in a class folder, while others are"})
                continue
            y = unicodedata.normalize("NFC", parts[0]) if has_classes else None
            yield Record(name, root / name, y=y, split=split)

    def _from_metadata(self, root: Path, metadata: list[str], samples: list[str]) -> Iterator[Record]:
        unseen = set(samples)
        for name in metadata:
            base = PurePosixPath(name).parent
            rows = _rows(root / name)
            column = self._label_column(rows, name)
            listed: dict[str, dict[str, Any]] = {}
            for number, row in enumerate(rows, 1):
                key = (base / _safe(row.get("file_name"), root / name, number, root / base)).as_posix()
                if key in listed and listed[key].get(column) != row.get(column):
                    raise BadInput(
                        f"{name}, row {number}: {key} has two labels, {listed[key].get(column)!r} and "
                        f"{row.get(column)!r}. Keep one."
                    )
                listed[key] = row
            for key, row in listed.items():
                unseen.discard(key)
                yield self._record(root, key, row, column, name)
        for key in sorted(unseen):
            yield Record(key, None, info={"bad": f"no row in {metadata[0]}", "label_file": True})

    def _record(self, root: Path, key: str, row: dict[str, Any], column: str | None, name: str) -> Record:
        label = None if column is None else row.get(column)
        if column is not None and (label is None or label == ""):
            return Record(key, None, info={"bad": f"no {column} in {name}", "label_file": True})
        if not (root / key).is_file():
            return Record(key, None, info={"bad": f"named in {name}, not on the disk", "label_file": True})
        split = SPLITS.get(str(row.get("split", "")).lower())
        origin = cast(Origin, "synthetic" if row.get("origin") == "synthetic" else "real")
        known = {"file_name", "split", "origin", column}
        info = {k: v for k, v in row.items() if k not in known and v is not None}
        return Record(key, root / key, None if label is None else str(label), origin, split, info)

    def _label_column(self, rows: list[dict[str, Any]], name: str) -> str | None:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if "file_name" not in columns:
            raise BadInput(f"{name} has no column file_name; it has {', '.join(columns) or 'no columns'}.")
        if self.label_column is not None:
            if self.label_column not in columns:
                raise BadInput(f"{name} has no column {self.label_column!r}; it has {', '.join(columns)}.")
            return self.label_column
        for column in LABEL_COLUMNS:
            if column in columns:
                return column
        rest = [column for column in columns if column not in ("file_name", "split", "origin")]
        if len(rest) > 1:
            raise BadInput(
                f"{name} has the columns {', '.join(rest)}: which one is the label? Say it with "
                "--label-column NAME (label_column=NAME)."
            )
        return rest[0] if rest else None

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write class folders plus metadata.jsonl with an explicit `label` column.

        Without that column `datasets` drops the folder's label as soon as a metadata file is there.
        A record's info may hold `link`: "copy", "hard" or "sym" for a source that is a file.
        """
        rows: list[dict[str, Any]] = []
        slugs: dict[Any, str] = {}
        used: set[str] = set()
        for record in records:
            slug = slugs.setdefault(record.y, _slug(record.y, len(slugs), set(slugs.values())))
            name = _unused(_file_name(record, suffix), slug, used)
            if isinstance(record.source, Path):
                copy_file(record.source, folder / name, how=record.info.get("link", "copy"))
            else:
                write_bytes(folder / name, cast(bytes, record.source), durable=False)
            row: dict[str, Any] = {"file_name": name}
            if record.y is not None:
                row["label"] = record.y
            row.update(origin=record.origin, split=record.split, key=record.key)
            row.update({k: v for k, v in record.info.items() if k not in ("link", "file_name", "label")})
            rows.append({k: v for k, v in row.items() if v is not None})
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode("utf-8", "surrogateescape"), durable=False)
        return rows


def _walk(root: Path, notes: list[str]) -> list[str]:
    """Names of all regular files below root, posix style, sorted; each folder is visited once."""
    found: list[str] = []
    skipped = 0
    visited: set[tuple[int, int]] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            notes.append(f"The folder {folder.name} could not be opened: {error.strerror}.")
            continue
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        for entry in entries:
            if _SYSTEM.match(entry.name):
                skipped += 1
                continue
            try:
                mode = entry.stat().st_mode  # follows links; a loop or a dangling link raises
            except OSError:
                mode = 0
            if stat.S_ISDIR(mode):
                stack.append(Path(entry.path))
            elif stat.S_ISREG(mode):
                found.append(Path(entry.path).relative_to(root).as_posix())
            else:
                skipped += 1
                notes.append(f"{entry.name} is no regular file (a dangling link, a pipe, ...): left alone.")
    if skipped:
        notes.append(f"{skipped} hidden, system or special files were left alone.")
    return sorted(found)


def _common_wrapper(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that only wrap the class folders, as an unpacked archive has them: photos/photos/cat."""
    wrapper: tuple[str, ...] = ()
    while paths and all(len(parts) > 2 for parts in paths) and len({parts[0] for parts in paths}) == 1:
        first = paths[0][0]
        if first.lower() in SPLITS:
            break
        wrapper += (first,)
        paths = [parts[1:] for parts in paths]
    return wrapper


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        try:
            table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise BadInput(f"{path.name} is not a Parquet file ({error}).") from error
        return table
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadInput(f"{path.name} is UTF-16; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(f"{path.name}, line {line}: not UTF-8. Save it as UTF-8.") from error
    rows = _jsonl_rows(text, path.name) if path.suffix == ".jsonl" else _csv_rows(text, path.name)
    if not rows:
        raise BadInput(f"{path.name} has no rows. Fill it, or remove it to use the class folders.")
    return rows


def _jsonl_rows(text: str, name: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
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
                raise BadInput(f"{name}, line {reader.line_num}: {len(fields)} fields, the header has {len(header)}.")
            rows.append(dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: {error}.") from error
    return rows


def _safe(file_name: Any, metadata: Path, row: int, base: Path) -> str:
    """A file name of a label file that stays in the data folder. Raises UnsafeFile, BadInput."""
    if not isinstance(file_name, str) or not file_name:
        raise BadInput(f"{metadata.name}, row {row}: file_name is {file_name!r}, not a path.")
    path = PurePosixPath(file_name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in file_name or "\0" in file_name
    if outside or re.match(r"^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]*://|^file:", file_name):
        raise UnsafeFile(
            f"{metadata.name}, row {row}: file_name {file_name!r} leaves the data folder; nothing was read. "
            "Use paths relative to the label file, without '..'."
        )
    if not (base / path).resolve().is_relative_to(metadata.parent.resolve()):
        raise UnsafeFile(
            f"{metadata.name}, row {row}: file_name {file_name!r} is a link out of the data folder; nothing was read."
        )
    return path.as_posix()


_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


def _slug(y: Any, number: int, taken: set[str]) -> str:
    """A folder name for a class: its own name where every system can hold it, else c03_<ascii>."""
    if y is None:
        return ""
    name = str(y)
    plain = re.fullmatch(r"[\w][\w .+-]{0,79}", name) and name == name.strip(" .")
    clash = name.lower() in {slug.lower() for slug in taken}
    if plain and not clash and name.lower() not in _RESERVED and name.lower() not in SPLITS:
        return name
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return f"c{number:02d}_{re.sub(r'[^A-Za-z0-9]+', '-', ascii_name).strip('-')[:40]}".rstrip("_")


def _file_name(record: Record, suffix: str) -> str:
    own = PurePosixPath(record.key).name
    if record.origin == "synthetic":
        return PurePosixPath(own).stem + suffix
    keeps = isinstance(record.source, Path)
    stem = re.sub(r"[^\w .+-]+", "_", PurePosixPath(own).stem)[-100:].strip(" .") or "sample"
    return stem + (record.source.suffix.lower() if keeps and isinstance(record.source, Path) else suffix)


def _unused(name: str, slug: str, used: set[str]) -> str:
    """Two samples from different folders may share a name; the second gets a number."""
    place = PurePosixPath(slug) / name
    number = 1
    while place.as_posix().lower() in used:
        number += 1
        place = place.with_name(f"{PurePosixPath(name).stem}-{number}{PurePosixPath(name).suffix}")
    used.add(place.as_posix().lower())
    return place.as_posix()
