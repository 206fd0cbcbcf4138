"""Files and a `.csv` that names them: a header, and a row a sample."""

from __future__ import annotations

import csv
import io
from typing import Any

from ..files import to_line
from .listed import Listed

__all__ = ["Csv"]


class Csv(Listed):
    """A file *.csv or *.tsv: a header with `file_name` (or `path`, ...) and columns for y, then a row a sample.

    Commas, semicolons and tabs are known. What `write` knows besides stands in the column `info` as JSON.
    """

    name = "csv"
    endings = (".csv", ".tsv")

    def to_text(self, rows: list[dict[str, Any]]) -> str:
        """RFC 4180, with LF."""
        maps = [f"{column}_file_name" for column, kind in self.columns.items() if kind == "map"]
        parts = [column for column, kind in self.columns.items() if kind != "map"]
        if not self.columns and any("label" in row for row in rows):
            parts = ["label"]
        plain = ["file_name", *maps, *parts, "origin", "split", "key"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*plain, "info"])
        for row in rows:
            info = {key: value for key, value in row.items() if key not in plain}
            writer.writerow([*(_cell(row.get(column)) for column in plain), to_line(info)])
        return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return to_line(value) if isinstance(value, list) else str(value)
