"""Tables as `write` makes them: the columns of a row, and files of bounded size with small row groups."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ..errors import BadInput
from ..files import move, new_file, to_line
from ..png import from_text
from ..types import Record
from . import features
from .columns import cells_of
from .naming import INTERNAL

__all__ = ["OURS", "Layout", "Shards"]

OURS = ("origin", "split", "key", "info")  # what stands in a row besides the sample and y
_ROWS = 100  # of a row group: what the viewer of Hugging Face can fetch at once
_SHARD_BYTES = 400 * 10**6


class Layout:
    """The columns of a table of ours: the sample, the parts of y, and what is known besides."""

    def __init__(self, kinds: dict[str, str], classes: dict[str, list[str]], suffix: str) -> None:
        self.kinds = kinds
        self.sample, self.kind = features.sample_column(suffix, [*kinds, *OURS])
        self.names = classes
        self._numbers = {c: {name: i for i, name in enumerate(names)} for c, names in classes.items()}

    def schema(self) -> Any:
        """The Arrow schema, with the features as `datasets` reads them."""
        import pyarrow as arrow

        held = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
        types = {
            "label": arrow.int64(), "labels": arrow.list_(arrow.int64()), "value": arrow.float64(), "map": held,
        }  # fmt: skip
        fields = [(self.sample, arrow.string() if self.kind == "text" else held)]
        fields += [(column, types[kind]) for column, kind in self.kinds.items()]
        fields += [(column, arrow.string()) for column in OURS]
        told = {self.sample: features.feature(self.kind)}
        told |= {c: features.feature(kind, self.names.get(c, ())) for c, kind in self.kinds.items()}
        told |= {column: features.feature("text") for column in OURS}
        return arrow.schema(fields, metadata=features.to_metadata(told))

    def row(self, record: Record, name: str) -> dict[str, Any]:
        """One row of the table. Raises BadInput."""
        content = _content(record)
        sample: Any = {"bytes": content, "path": name}
        if self.kind == "text":
            sample = _utf8(content, record.key)
        info = {key: value for key, value in record.info.items() if key not in INTERNAL}
        row = {self.sample: sample, "origin": record.origin, "split": record.split}
        row |= {"key": _text(record.key), "info": _text(to_line(info))}
        cells = cells_of(record.y, self.kinds)
        for column, kind in self.kinds.items():
            cell = cells.get(column)
            if cell is None:
                row[column] = None
            elif kind == "label":
                row[column] = self._numbers[column][str(cell)]
            elif kind == "labels":
                row[column] = [self._numbers[column][one] for one in cell]
            elif kind == "map":
                row[column] = {"bytes": from_text(cell), "path": f"{PurePosixPath(name).stem}.png"}
            else:
                row[column] = float(cell)
        return row


class Shards:
    """The files of one part, each of bounded size; their names say how many there are, so they come last."""

    def __init__(self, folder: Path, schema: Any) -> None:
        self._folder = folder
        self._schema = schema
        self._files: list[Path] = []
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._open = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self._flush()
        self._open.__exit__(kind, *rest)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; 100 of them become a row group."""
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        if not self._rows:
            return
        table = arrow.Table.from_pylist(self._rows, self._schema)
        if self._writer is None or self._bytes > _SHARD_BYTES:
            self._open.close()
            self._files.append(self._folder / f".{id(self)}-{len(self._files)}")
            file = self._open.enter_context(new_file(self._files[-1]))
            self._writer = self._open.enter_context(parquet.ParquetWriter(file, self._schema))
            self._bytes = 0
        self._writer.write_table(table, row_group_size=_ROWS)
        self._bytes += table.nbytes
        self._rows = []

    def rename(self, part: str) -> None:
        """Give the files their names."""
        for number, file in enumerate(self._files):
            move(file, self._folder / f"{part}-{number:05d}-of-{len(self._files):05d}.parquet")


def _content(record: Record) -> bytes:
    if isinstance(record.source, Path):
        return record.source.read_bytes()
    return cast(bytes, record.source)


def _utf8(content: bytes, key: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{key} is not UTF-8 ({error}): a column of text cannot hold it.") from error


def _text(value: str) -> str:
    """Text that UTF-8 can hold: a name of bytes that are no text has lone surrogates."""
    return value.encode("utf-8", "backslashreplace").decode()
