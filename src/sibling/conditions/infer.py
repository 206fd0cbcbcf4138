"""What the columns of a joint y are, from the types of their values."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError
from .map import PNG_TEXT

__all__ = ["infer"]


def infer(y: Sequence[Any]) -> list[dict[str, Any]]:
    """Parts from the types: text -> label, lists -> labels, numbers -> one value, PNG in base64 -> map."""
    if not isinstance(y[0], Mapping) or not y[0]:
        raise UsageError(f"y is {str(y[0])[:80]!r}; a joint condition needs a dict, like {{'kind': 'leaf'}}.")
    parts: list[dict[str, Any]] = []
    names = [column for column in y[0] if _kind(column, y) == "value"]
    for column in y[0]:
        kind = _kind(column, y)
        if kind != "value":
            parts.append({"name": kind, "column": column})
        elif column == names[0]:
            parts.append({"name": kind, "names": names})
    return parts


def _kind(column: str, y: Sequence[Any]) -> str:
    found = {_type(row.get(column) if isinstance(row, Mapping) else None) for row in y}
    if found == {"map", "label"}:
        found = {"label"}
    if len(found) > 1 or None in found:
        shown = ", ".join(
            dict.fromkeys(repr(row.get(column))[:30] for row in y[:200] if isinstance(row, Mapping))
        )
        raise UsageError(
            f"The column {column!r} of y has no clear type: {shown[:200]}. It must hold only text, only lists of "
            "text, or only numbers, and miss nowhere."
        )
    return str(found.pop())


def _type(value: Any) -> str | None:
    if isinstance(value, str):
        return "map" if value.startswith(PNG_TEXT) else "label"
    if isinstance(value, bool):
        return "label"
    if isinstance(value, numbers.Real):
        return "value"
    return "labels" if isinstance(value, list | tuple) else None
