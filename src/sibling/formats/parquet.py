"""Parquet in the layout of Hugging Face: bytes in a struct, classes as numbers whose names the schema tells.

Source of the layout: https://huggingface.co/docs/hub/datasets-image ("Parquet format") and
`datasets.Features.arrow_schema`; splits as files `data/train-00000-of-00001.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ..errors import BadInput
from ..types import Record
from . import features
from .archive import MOST_BYTES
from .cells import is_map_name
from .columns import LABEL_COLUMNS, Asked, Column, cell_of, cells_of, class_names, find, y_of
from .labels import info_of, split_of, told_columns
from .naming import Names
from .shards import REST, WRITTEN, part_of, shards_of
from .tables import OURS, Layout, Shards

__all__ = ["Parquet"]

_ROWS = 100  # that are read at a time
_LABEL_FILE = "metadata.parquet"
_SAMPLE_NAMES = ("image", "img", "audio", "video", "picture", "photo", "sample", "x", "bytes", "data")
_TEXT_NAMES = ("text", "sentence", "content", "document")


class Parquet:
    """A Parquet file, or a folder of them, with one column of samples: a struct with `bytes`, or binary.

    label_column, condition, known  as for `Folder`
    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    classes  column -> class names; to be set before `write`, else all records are looked at first
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
        self.classes: dict[str, list[str]] | None = None
        self.found_in = ""
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A file *.parquet, or a folder with such files and nothing but text beside them."""
        if path.is_file():
            return path.suffix.lower() == ".parquet" and path.name != _LABEL_FILE
        return path.is_dir() and bool(shards_of(path, (".parquet",), (_LABEL_FILE,)))

    # ---- reading ------------------------------------------------------------------------------

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row. Raises BadInput."""
        root, names = (
            (path.parent, [path.name])
            if path.is_file()
            else (path, shards_of(path, (".parquet",), (_LABEL_FILE,)))
        )
        told = told_columns(root) if path.is_dir() else None
        tables = [_Table(root, name, ".txt" in suffixes, told or self.asked.known or {}) for name in names]
        size = sum(table.size for table in tables)
        if size > MOST_BYTES:
            raise BadInput(f"{path.name} claims {size:,} bytes; at most {MOST_BYTES:,} are believed.")
        rows = [table.rows(self._map_suffix(suffixes), self._wanted()) for table in tables]
        everything = [row | {"file_name": ""} for part in rows for row in part]
        if not everything:
            raise BadInput(f"{path.name} has no rows.")
        columns = find(everything, names[0], self._asking(told, tables), suffixes, self.notes)
        self.columns = {column.name: column.kind for column in columns}
        self.found_in = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        keys = _keys(tables, rows, ours=told is not None)
        for table, part in zip(tables, rows, strict=True):
            yield from _records(table, part, columns, self.columns, keys)

    def _asking(self, told: dict[str, str] | None, tables: list[_Table]) -> Asked:
        """What y is: as it was asked for, as our manifest says, or the only column that has class names."""
        if self.asked != Asked():
            return self.asked
        if told is not None:
            return Asked(known=told)
        with_names = {column for table in tables for column in table.names}
        if len(with_names) == 1 and not with_names & set(LABEL_COLUMNS):
            return Asked(columns=list(with_names))
        return self.asked

    def _wanted(self) -> list[str]:
        """Columns that were asked for by name: a picture among them is a map, however it is called."""
        asked = self.asked.columns or ()
        given = asked.split(",") if isinstance(asked, str) else [*asked]
        given = [name.strip() for name in given]
        return [*given, *(name.rpartition(":")[0] for name in given), *(self.asked.known or ())]

    @staticmethod
    def _map_suffix(suffixes: Sequence[str]) -> str:
        return next(iter(suffixes), ".png")

    # ---- writing ------------------------------------------------------------------------------

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write data/train-00000-of-00001.parquet, data/validation-..., data/test-..., as `datasets` loads them.

        Columns: image (or audio, ...), one for each part of y, origin, split, key, and info as JSON text.
        Real and synthetic samples of the train part lie in one table; `origin` keeps them apart.
        """
        kinds = self.columns or {"label": "label"}
        if self.classes is None:
            records = list(records)
            self.classes = class_names((record.y for record in records), kinds)
        taken = sorted({*kinds} & {*OURS})
        if taken:
            raise BadInput(f"A column of y is called {taken[0]!r}, as one of ours is. Rename it.")
        layout = Layout(kinds, self.classes, suffix)
        names, rows = Names(), []
        with ExitStack() as stack:
            writers: dict[str, Shards] = {}
            for record in records:
                part = record.split or REST
                if part not in writers:
                    writers[part] = stack.enter_context(Shards(folder / "data", layout.schema()))
                row = layout.row(record, names.name(record, suffix))
                writers[part].add(row)
                told = cells_of(record.y, kinds)
                known = {c: cell for c, cell in told.items() if kinds[c] != "map"}
                rows.append({**record.info, **known, "origin": record.origin, "split": record.split})
        for part, shards in writers.items():
            shards.rename("train" if len(writers) == 1 and part == REST else WRITTEN.get(part, part))
        return rows


# ---- files ------------------------------------------------------------------------------------------


class _Table:
    """One Parquet file: which of its columns is the sample, and its other columns as rows."""

    def __init__(self, root: Path, name: str, texts: bool, known: Mapping[str, str]) -> None:
        import pyarrow.parquet as parquet

        self.name = name
        with self._errors():
            self._path = root / name
            self._file = parquet.ParquetFile(self._path)
            metadata = self._file.metadata
            self.size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            self.schema = self._file.schema_arrow
        self.names = features.class_lists(self.schema.metadata)
        self.binary = [field.name for field in self.schema if _holds_bytes(field.type)]
        self.text = False
        self.sample = self._sample(known, texts)
        self.split = part_of(name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What Arrow says about a broken file: here all means the same."""
        import pyarrow as arrow

        try:
            yield
        except (BadInput, MemoryError):
            raise
        except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"{self.name} is not a Parquet file that can be read ({reason}).") from error

    def _sample(self, known: Mapping[str, str], texts: bool) -> str:
        maps = {column for column in self.binary if known.get(column) == "map"}
        able = [column for column in self.binary if column not in maps]
        able = [column for column in able if not is_map_name(column)] or able
        self.text = texts and not able
        if self.text:
            able = [name for name in _TEXT_NAMES if name in self.schema.names]
        named = [column for column in _SAMPLE_NAMES if column in able]
        if not able:
            what = ", ".join(self.schema.names[:20]) or "none"
            raise BadInput(
                f"{self.name} has no column of samples (a struct with bytes, or binary); its columns are {what}."
            )
        if len(able) > 1 and not named and not self.text:
            raise BadInput(
                f"{self.name}: the columns {', '.join(able[:9])} can all be the samples. Call one of them image."
            )
        return (named or able)[0]

    def rows(self, map_suffix: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
        """What is said about each sample; a map is named by a file name that stands for its column."""
        light = [name for name in self.schema.names if name not in self.binary and name != self.sample]
        if len(set(self.schema.names)) < len(self.schema.names):
            raise BadInput(
                f"{self.name}: a column name appears twice in {', '.join(self.schema.names[:20])}."
            )
        with self._errors():
            rows: list[dict[str, Any]] = self._file.read(columns=light).to_pylist() if light else []
            count = self._file.metadata.num_rows
        rows = rows or [{} for _ in range(min(count, MOST_BYTES // 64))]
        maps = [c for c in self.binary if c != self.sample and (is_map_name(c) or c in wanted)]
        for number, row in enumerate(rows):
            for column, names in self.names.items():
                if column in row:
                    place = f"{self.name}, row {number + 1}: {column}"
                    row[column] = features.named(row[column], names, place)
            row |= {column: f"{column}{map_suffix}" for column in maps}
        return rows

    def samples(self, maps: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The bytes of the sample and of the maps of each row; None where there are none. Raises BadInput."""
        held = 0
        with self._errors():
            for batch in self._file.iter_batches(_ROWS, columns=[self.sample, *maps]):
                held += batch.nbytes
                if held > MOST_BYTES:
                    raise BadInput(f"{self.name} holds more than {MOST_BYTES:,} bytes.")
                for row in batch.to_pylist():
                    yield {column: _bytes(value) for column, value in row.items()}

    def paths(self) -> list[str | None]:
        """The file name of each sample, where its struct tells one."""
        import pyarrow as arrow

        kind = self.schema.field(self.sample).type
        if not arrow.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return [None] * self._file.metadata.num_rows
        with self._errors():
            told: list[Any] = []
            for batch in self._file.iter_batches(_ROWS, columns=[f"{self.sample}.path"]):
                told += batch.column(0).field(0).to_pylist()
        return [value if isinstance(value, str) else None for value in told]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as arrow

    if arrow.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value.encode() if isinstance(value, str) else cast("bytes | None", value)


# ---- rows and records -------------------------------------------------------------------------------


def _keys(tables: list[_Table], rows: list[list[dict[str, Any]]], *, ours: bool) -> Iterator[str]:
    """A unique name for each row: as it was written, its path where that is unique, else its place."""
    if ours and all("key" in row for part in rows for row in part):
        told = [str(row["key"]) for part in rows for row in part]
    else:
        told = [name or "" for table in tables for name in table.paths()]
    if len(set(told)) == len(told) and all(told):
        yield from told
        return
    for table, part in zip(tables, rows, strict=True):
        stem = PurePosixPath(table.name).with_suffix("").as_posix()
        yield from (f"{stem}/{number:06d}" for number in range(len(part)))


def _records(
    table: _Table,
    rows: list[dict[str, Any]],
    columns: list[Column],
    kinds: dict[str, str],
    keys: Iterator[str],
) -> Iterator[Record]:
    maps = [column.header for column in columns if column.kind == "map"]
    own = {"file_name", "split", "origin", "key", "info", *(column.header for column in columns)}
    count = 0
    for number, (held, row) in enumerate(zip(table.samples(maps), rows, strict=False), 1):
        count = number
        place, key = f"{table.name}, row {number}", next(keys)
        cells = {
            c.name: held[c.header] if c.kind == "map" else cell_of(row.get(c.header), c.kind, place)
            for c in columns
        }
        missing = [name for name, cell in cells.items() if cell is None]
        problem = f"has no {', '.join(missing)}" if missing else None
        source = held[table.sample]
        if source is None:
            problem = f"has no {table.sample}"
        split = split_of(row["split"], place) if "split" in row else table.split
        info = {name: _json(v) for name, v in row.items() if name not in own and v is not None}
        info |= info_of(row.get("info"))
        if problem:
            info["bad"] = f"{problem} ({place})"
        yield Record(
            key,
            None if problem else source,
            None if missing else y_of(cells, kinds),
            "synthetic" if row.get("origin") == "synthetic" else "real",
            split,
            info,
        )
    if count != len(rows):
        raise BadInput(f"{table.name} has {len(rows)} rows, but {count} samples.")


def _json(value: Any) -> Any:
    """A cell as a JSON value: Parquet also holds dates, decimals and bytes."""
    return json.loads(json.dumps(value, default=str))
