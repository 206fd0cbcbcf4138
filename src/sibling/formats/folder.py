"""Folders of files: class sub-folders, or files plus a metadata file, or one flat folder.

Conventions, in the order in which they are looked for:

- `metadata.csv`, `.jsonl` or `.parquet` with a `file_name` column (Hugging Face imagefolder); which of its
  other columns are y is found in `columns.py`;
- A and B with equal names, or trainA, trainB, ...: pairs, see `pairs.py`;
- first-level folders that are called train/val/test (or their usual synonyms): the data set brings
  its own split, which is kept;
- one sub-folder a class (torchvision ImageFolder); deeper folders belong to their class;
- files directly in the folder: no labels.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ..errors import BadInput, UnsafeFile
from ..files import CARDS, MANIFEST, copy_file, to_line, write_bytes
from ..png import from_text
from ..types import Record
from .cells import is_map_name, names_maps
from .columns import Asked, Column, cell_of, cells_of, find, headers_of, y_of
from .labels import METADATA, SPLITS, manifest_of, rows_of, safe_name, split_of, told_columns
from .naming import INTERNAL, Names
from .pairs import MAP_COLUMN, Pairs, could_be_pairs, pairs_of
from .walk import Walk, text_of

__all__ = ["Folder", "write_files"]

_PAIRS = "the pairs of A and B"
_MAPS = "maps"  # the folder that maps are written to
_LABEL_LIKE = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


class Folder:
    """Class sub-folders, a metadata file, or a flat folder.

    label_column  the columns of the metadata file that are y, "kind,severity" or a list of names; None = `label`,
                  `class`, `category`, `target` or `y`, else all columns where each of them can be a part of y
    condition     the name of a condition that was asked for; None = found by looking
    known         column -> kind, when a run says what y is
    columns       column -> kind, as it was found; to be set before `write` where y is more than a label
    """

    chooses = as_files = True

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
        """Any folder."""
        return path.is_dir()

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield the records below `path`, sorted by name. Raises BadInput, UnsafeFile."""
        files = [name for name in Walk(path).names(self.notes) if name not in CARDS]
        metadata = [name for name in files if PurePosixPath(name).name in METADATA]
        samples = [name for name in files if PurePosixPath(name).suffix.lower() in suffixes]
        self._note_others(path, sorted({*files} - {*metadata, *samples}))
        pairs = None if metadata else pairs_of(samples, asked=self._map_is_asked())
        if metadata:
            yield from self._from_metadata(path, metadata, samples, suffixes)
        elif pairs is not None:
            yield from self._from_pairs(path, pairs, suffixes)
        else:
            self.found_in = "the class folders"
            yield from self._from_folders(path, samples)

    def _note_others(self, root: Path, others: list[str]) -> None:
        ours = _own_files(root)
        others = [name for name in others if name not in ours]
        if not others:
            return
        shown = ", ".join(text_of(name) for name in others[:3]) + (", ..." if len(others) > 3 else "")
        self.notes.append(f"{len(others)} other files were left alone (no sample ends like that): {shown}.")
        for name in others:
            if PurePosixPath(name).suffix.lower() in _LABEL_LIKE and "/" not in name:
                known = ", ".join(METADATA)
                self.notes.append(
                    f"{text_of(name)} was not read: a label file is called {known}, or is itself what is read."
                )

    def _map_is_asked(self) -> bool:
        known = self.asked.known
        return self.asked.condition == "map" if known is None else list(known.values()) == ["map"]

    def _from_pairs(self, root: Path, pairs: Pairs, suffixes: Sequence[str]) -> Iterator[Record]:
        column = next(iter(self.asked.known or {MAP_COLUMN: "map"}))
        rows = [
            {column if key == MAP_COLUMN else key: cell for key, cell in row.items()} for row in pairs.rows
        ]
        self.notes.append(f"Pairs: what lies in A is told to the model as {column}, what lies in B it makes.")
        if pairs.unused:
            self.notes.append(f"{pairs.unused} files of A have no partner in B and were left alone.")
        if rows:
            yield from self.listed(root, {_PAIRS: rows}, [row["file_name"] for row in rows], suffixes)
        for name in pairs.alone:
            yield Record(text_of(name), None, info={"bad": "has no partner of the same name in A"})

    def _from_folders(self, root: Path, samples: list[str]) -> Iterator[Record]:
        paths = {name: PurePosixPath(name).parts for name in samples}
        wrapper = _common_wrapper(list(paths.values()))
        if wrapper:
            self.notes.append(f"The class folders lie one level down, in {text_of('/'.join(wrapper))}/.")
        inner = {name: parts[len(wrapper) :] for name, parts in paths.items()}
        top = {parts[0] for parts in inner.values() if len(parts) > 1}
        own_split = bool(top) and all(name.lower() in SPLITS for name in top)
        labelled = {name: parts[1:] if own_split else parts for name, parts in inner.items()}
        wanted = self.asked.condition != "none"  # else folders are just folders, of any depth
        has_classes = wanted and any(len(parts) > 1 for parts in labelled.values())
        if has_classes and could_be_pairs(samples):
            self.notes.append(
                "A and B hold files of the same names. They were taken for classes; pairs are read with --condition map."
            )
        if has_classes:
            self._note_forms({parts[0] for parts in labelled.values() if len(parts) > 1})
        for name in samples:
            parts = labelled[name]
            split = SPLITS.get(inner[name][0].lower()) if own_split and len(inner[name]) > 1 else None
            if has_classes and len(parts) < 2:
                yield Record(text_of(name), None, info={"bad": "is not in a class folder, while others are"})
                continue
            yield Record(text_of(name), root / name, y=_class(parts[0]) if has_classes else None, split=split)

    def _note_forms(self, folders: set[str]) -> None:
        """Two folders whose names differ only in how an accent is encoded look like one, and are one."""
        for name, count in sorted(Counter(_class(folder) for folder in folders).items()):
            if count > 1:
                self.notes.append(f"{count} folders are called {name} in different Unicode forms: one class.")

    def _from_metadata(
        self, root: Path, metadata: list[str], samples: list[str], suffixes: Sequence[str]
    ) -> Iterator[Record]:
        bases = [str(PurePosixPath(name).parent) for name in metadata]
        if len(set(bases)) < len(bases):
            shown = ", ".join(text_of(name) for name in metadata[:4])
            raise BadInput(f"One folder holds several label files ({shown}): keep one.")
        real = Path(os.path.realpath(root))
        yield from self.listed(
            root, {name: rows_of(root / name, real) for name in metadata}, samples, suffixes
        )

    def listed(
        self, root: Path, tables: dict[str, list[dict[str, Any]]], samples: list[str], suffixes: Sequence[str]
    ) -> Iterator[Record]:
        """Yield the records that the rows of label files name, each with a `file_name`. Raises BadInput, UnsafeFile.

        tables   name of a label file, relative to `root` -> its rows
        samples  files that have to have a row
        """
        real = Path(os.path.realpath(root))
        columns = self._columns(root, tables, suffixes)
        forms = {unicodedata.normalize("NFC", name): name for name in samples}
        listed: dict[str, Record] = {}
        maps: set[str] = set()
        for name, rows in tables.items():
            place = _Place(root, real, PurePosixPath(name).parent, forms)
            maps.update(place.maps(rows, name, suffixes))
            for number, row in enumerate(rows, 1):
                where = f"{text_of(name)}, row {number}"
                key = place.key(row.get("file_name"), where)
                record = self._record(place, key, row, columns, where)
                y = listed.setdefault(key, record).y
                if y != record.y:
                    raise BadInput(
                        f"{where}: {text_of(key)} has two labels, {y!r} and {record.y!r}. Keep one."
                    )
        tops = {PurePosixPath(key).parts[0].lower() for key in listed}
        own_split = all(top in SPLITS for top in tops) and all("/" in key for key in listed)
        for key, record in listed.items():
            if own_split and record.split is None:
                record.split = SPLITS[PurePosixPath(key).parts[0].lower()]
            yield record
        for key in sorted(set(samples) - listed.keys() - maps):
            yield Record(
                text_of(key), None, info={"bad": f"has no row in {next(iter(tables))}", "label_file": True}
            )

    def _columns(
        self, root: Path, tables: dict[str, list[dict[str, Any]]], suffixes: Sequence[str]
    ) -> list[Column]:
        """The columns that are y, the same in all label files. Raises BadInput."""
        for name, rows in tables.items():
            headers_of(rows, name)
        asked = self.asked
        told = told_columns(root) if list(tables) == ["metadata.jsonl"] else None
        if asked == Asked() and told is not None:
            asked = Asked(known=told)
        rows = [row for rows in tables.values() for row in rows]
        columns = find(rows, next(iter(tables)), asked, suffixes, self.notes)
        self.columns = {column.name: column.kind for column in columns}
        self.found_in = text_of(next(iter(tables)))
        return columns

    def _record(
        self, place: _Place, key: str, row: dict[str, Any], columns: list[Column], where: str
    ) -> Record:
        cells = {
            column.name: self._cell(place, row.get(column.header), column.kind, where) for column in columns
        }
        missing = [name for name, cell in cells.items() if cell is None]
        problem = None
        if missing:
            problem = f"has no {', '.join(missing)} ({where})"
        elif not os.path.isfile(place.root / key):  # isfile, unlike Path.is_file, takes any name
            problem = f"is named in {where}, but is not on the disk"
        y = None if missing else y_of(cells, self.columns)
        if problem:
            return Record(text_of(key), None, y, info={"bad": problem, "label_file": True})
        known = {"file_name", "split", "origin", *(column.header for column in columns)}
        return Record(
            text_of(key),
            place.root / key,
            y,
            "synthetic" if row.get("origin") == "synthetic" else "real",
            split_of(row.get("split"), where),
            {text_of(k): _json(value) for k, value in row.items() if k not in known and value is not None},
        )

    def _cell(self, place: _Place, value: Any, kind: str, where: str) -> Any:
        cell = cell_of(value, kind, where)
        if cell is None:
            return None
        if kind == "label":
            return _class(cell)
        if kind == "labels":
            return sorted({_class(name) for name in cell})
        if kind == "map":
            return place.root / place.key(cell, where)
        return cell

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write class folders plus metadata.jsonl with a column for each part of y, `label` for a class.

        Without that column `datasets` drops the folder's label as soon as a metadata file is there. Maps
        lie in maps/; their column ends in `_file_name`, so that `datasets` opens them too.
        A record's info may hold `link`: "copy", "hard" or "sym" for a source that is a file, and
        `folder`: the group that its folder is called after.
        """
        rows = write_files(folder, records, suffix, self.columns)
        lines = "".join(to_line(row) + "\n" for row in rows)
        write_bytes(folder / "metadata.jsonl", lines.encode("utf-8", "surrogateescape"), durable=False)
        return rows


def write_files(
    folder: Path, records: Iterable[Record], suffix: str, kinds: dict[str, str]
) -> list[dict[str, Any]]:
    """Write each record as a file, and its maps beside it in maps/; returns the rows of a label file.

    kinds  column of y -> kind
    """
    rows: list[dict[str, Any]] = []
    maps = [column for column, kind in kinds.items() if kind == "map"]
    names = Names((_MAPS,) if maps else ())
    for record in records:
        name = names.name(record, suffix)
        if isinstance(record.source, Path):
            copy_file(record.source, folder / name, how=record.info.get("link", "copy"))
        else:
            write_bytes(folder / name, cast(bytes, record.source), durable=False)
        row: dict[str, Any] = {"file_name": name}
        cells = cells_of(record.y, kinds)
        for column in maps:
            part = PurePosixPath(_MAPS) / (_safe(column, maps) if len(maps) > 1 else "") / f"{name}.png"
            write_bytes(folder / part, from_text(cells.pop(column)), durable=False)
            row[column + "_file_name"] = part.as_posix()
        row |= cells
        row.update(origin=record.origin, split=record.split, key=record.key)
        row.update({k: v for k, v in record.info.items() if k not in (*INTERNAL, "file_name", *row)})
        rows.append({k: v for k, v in row.items() if v is not None})
    return rows


@dataclass(frozen=True)
class _Place:
    """Where a label file lies, and how the files that it names are found.

    root   the data folder as it was given; `real` is its real path
    base   the label file's folder, relative to it
    forms  the names on the disk by their composed Unicode form
    """

    root: Path
    real: Path
    base: PurePosixPath
    forms: dict[str, str]

    def key(self, file_name: Any, where: str) -> str:
        """The name, relative to `root`, of a file that the label file names. Raises UnsafeFile, BadInput."""
        key = safe_name(file_name, where, self.base, self.real)
        if os.path.isfile(self.root / key):  # a list and a disk may encode an accent in different ways
            return key
        return self.forms.get(unicodedata.normalize("NFC", key), key)

    def maps(self, rows: list[dict[str, Any]], name: str, suffixes: Sequence[str]) -> Iterator[str]:
        """The files that columns like `lung_mask` name: no samples, whether they are a part of y or not."""
        for header in headers_of(rows, name):
            if is_map_name(header):
                values = [row[header] for row in rows if row.get(header)]
                for value in values if names_maps(values, suffixes) else ():
                    try:
                        yield self.key(value, f"{text_of(name)}, {header}")
                    except (BadInput, UnsafeFile):
                        pass  # it lies elsewhere; who asks for this column is told


def _safe(column: str, columns: list[str]) -> str:
    """A folder name for the maps of a column, different for each column."""
    return f"{columns.index(column)}_{re.sub(r'[^A-Za-z0-9]+', '-', column)[:40]}"


def _own_files(root: Path) -> set[str]:
    """What Sibling itself wrote into this folder, besides samples: the manifest and what it lists."""
    listed = manifest_of(root).get("files")
    return {MANIFEST, *listed} if isinstance(listed, dict) else set()


def _json(value: Any) -> Any:
    """A cell of a label file as a JSON value: Parquet also holds dates, decimals and bytes."""
    return json.loads(json.dumps(text_of(value) if isinstance(value, str) else value, default=str))


def _class(name: str) -> str:
    return unicodedata.normalize("NFC", text_of(name))


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
