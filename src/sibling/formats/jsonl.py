"""Files and a `.jsonl` that names them: one JSON object a line, with `file_name` and whatever else is known."""

from __future__ import annotations

from typing import Any

from ..files import to_line
from .listed import Listed

__all__ = ["Jsonl"]


class Jsonl(Listed):
    """A file *.jsonl or *.ndjson: an object a line, with `file_name` (or `path`, ...) and columns for y."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")

    def to_text(self, rows: list[dict[str, Any]]) -> str:
        """A line a row."""
        return "".join(to_line(row) + "\n" for row in rows)
