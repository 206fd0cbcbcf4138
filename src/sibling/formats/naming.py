"""Names for what is written: every system can hold them, no two are the same, none is longer than allowed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..types import Record
from .labels import SPLITS

__all__ = ["INTERNAL", "Names", "ending"]

INTERNAL = ("link", "folder", "ending")  # what `write` tells in a record's info, and is not written

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_MOST_BYTES = 120  # of a name; file systems hold 255


class Names:
    """Gives each record of one data set its file name, relative to the data set's folder.

    reserved  names of folders that are something else
    """

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self._slugs: dict[Any, str] = {}
        self._taken: set[str] = {name.lower() for name in reserved}
        self._used: dict[str, int] = {}

    def name(self, record: Record, suffix: str) -> str:
        """The place of a record: class folder and file name; two records never share one.

        The folder is called like y, where that is a class; else like `folder` in the record's info.
        """
        folder = PurePosixPath(
            self._slug(record.y if isinstance(record.y, str) else record.info.get("folder"))
        )
        stem, end = _stem(record), ending(record, suffix)
        name = folder / (stem + end)
        while name.as_posix().lower() in self._used:
            first = (folder / (stem + end)).as_posix().lower()
            self._used[first] += 1
            name = folder / f"{stem}-{self._used[first]}{end}"
        self._used[name.as_posix().lower()] = 1
        return name.as_posix()

    def _slug(self, y: Any) -> str:
        """A folder name for a class: its own name where every system can hold it, else c03_<ascii>."""
        if y is None:
            return ""
        if y in self._slugs:
            return self._slugs[y]
        slug = name = str(y)
        plain = re.fullmatch(r"\w[\w .+-]*", name) and name == name.strip(" .")
        short = len(name.encode("utf-8", "replace")) <= _MOST_BYTES
        if not plain or not short or any(name.lower() in names for names in (self._taken, _RESERVED, SPLITS)):
            ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
            tail = re.sub(r"[^A-Za-z0-9]+", "-", ascii_name).strip("-")[:40]
            number = len(self._slugs)
            slug = f"c{number:02d}_{tail}".rstrip("_")
            while slug.lower() in self._taken:
                number += 1
                slug = f"c{number:02d}_{tail}".rstrip("_")
        self._taken.add(slug.lower())
        self._slugs[y] = slug
        return slug


def _stem(record: Record) -> str:
    own = PurePosixPath(record.key).stem
    stem = re.sub(r"[^\w .+-]+", "_", own).encode()[-_MOST_BYTES:].decode(errors="ignore").strip(" .")
    return f"_{stem}" if stem.lower() in _RESERVED else stem or "sample"


def ending(record: Record, suffix: str) -> str:
    """What a file of this record ends in: as its own file does, or as is told; else `suffix`."""
    if "ending" in record.info:
        return str(record.info["ending"])
    if isinstance(record.source, Path) and re.fullmatch(r"\.\w{1,8}", record.source.suffix):
        return record.source.suffix.lower()
    return suffix
