"""Files and one list that names them: what `csv` and `jsonl` have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import write_bytes
from ..types import Record
from .folder import Folder, write_files
from .labels import info_of, manifest_of, rows_of, told_columns

__all__ = ["FILE_NAMES", "Listed"]

FILE_NAMES = (
    "file_name", "filename", "file_path", "filepath", "path", "file", "image", "image_path", "image_file",
    "img", "img_path", "audio", "audio_path", "video", "video_path",
)  # fmt: skip


class Listed(ABC):
    """A list of samples with a column of file names, and files below the folder that it lies in.

    The given file is read and no other; what it does not name is left alone. Names cannot leave its folder.

    label_column, condition, known  as for `Folder`
    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    """

    chooses = as_files = True
    name = ""  # of the format
    endings: Sequence[str] = ()

    def __init__(
        self,
        label_column: str | Sequence[str] | None = None,
        condition: str | None = None,
        known: dict[str, str] | None = None,
    ) -> None:
        self._arguments = (label_column, condition, known)
        self.columns: dict[str, str] = {}
        self.found_in = ""
        self.notes: list[str] = []

    @property
    def own_file(self) -> str:
        """What the list is called that `write` makes: no sample, whatever it ends in."""
        return f"samples.{self.name}"

    def matches(self, path: Path) -> bool:
        """A list itself, or a folder that `write` made with this format."""
        if path.is_file():
            return path.suffix.lower() in self.endings
        return manifest_of(path).get("format") == self.name and (path / self.own_file).is_file()

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a row. Raises BadInput, UnsafeFile."""
        root, name = (path.parent, path.name) if path.is_file() else (path, self.own_file)
        rows = self._named(rows_of(root / name, Path(os.path.realpath(root))), name)
        told = told_columns(root) if name == self.own_file else None
        reader = Folder(None, None, told) if told and not any(self._arguments) else Folder(*self._arguments)
        reader.notes = self.notes
        records = list(reader.listed(root, {name: rows}, [], suffixes))
        self.columns, self.found_in = reader.columns, reader.found_in
        for record in records:
            if told is not None:
                record.info |= info_of(record.info.pop("info", None))
            yield record

    def _named(self, rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        """The rows, with the column that names files called `file_name`. Raises BadInput."""
        headers = list(dict.fromkeys(header for row in rows for header in row))
        column = next((known for known in FILE_NAMES if known in headers), None)
        if column is None:
            shown = ", ".join(header[:40] for header in headers[:20])
            raise BadInput(
                f"{name} has no column of file names; it has {shown or 'no columns'}. Call it file_name."
            )
        if column == "file_name":
            return rows
        self.notes.append(f"The files are named in the column {column} of {name}.")
        return [{"file_name" if key == column else key: value for key, value in row.items()} for row in rows]

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write the files, in class folders, and the list, `samples.csv` or `samples.jsonl`."""
        rows = write_files(folder, records, suffix, self.columns)
        text = self.to_text(rows)
        write_bytes(folder / self.own_file, text.encode("utf-8", "surrogateescape"), durable=False)
        return rows

    @abstractmethod
    def to_text(self, rows: list[dict[str, Any]]) -> str:
        """The list."""
