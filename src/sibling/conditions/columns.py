"""What every condition does with the names that a user gives: find the column, the class, the number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from ..registry import suggest
from ..types import Condition

__all__ = [
    "MOST_NUMBER",
    "arguments",
    "evenly",
    "learned",
    "nearly_within",
    "no_class",
    "resolve",
    "to_number",
]

MOST_NUMBER = 1e100  # the squares and differences of such numbers are still numbers
TOLERANCE = 0.02  # of the seen range: who asks for 0 to 1 where 0.005 to 0.992 was seen means the ends


def resolve(given: Mapping[str, Any], columns: Sequence[str], name: str) -> dict[str, Any]:
    """What was given, under the names of the columns.

    given    column -> value; where a condition has one column, its own name stands for it ("label=cat")
    columns  the columns that are known
    name     the name of the condition
    Raises UsageError for an unknown column and for one that is given twice.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        column = columns[0] if key == name and key not in columns and len(columns) == 1 else key
        if column not in columns:
            raise UsageError(f"There is no column {key!r} in y.{suggest(key, list(columns))}")
        if column in found:
            raise UsageError(f"The column {column!r} is given twice, once as {key!r}. Give it once.")
        found[column] = value
    return found


def no_class(group: str, classes: Iterable[str]) -> UsageError:
    """The error for an unknown class, with the nearest known one."""
    return UsageError(f"There is no class {group!r}.{suggest(str(group), list(classes))}")


def nearly_within(number: float, low: float, high: float) -> bool:
    """Whether a number lies in the seen range, or next to it by at most a fiftieth of it."""
    margin = TOLERANCE * (high - low)
    return low - margin <= number <= high + margin


def to_number(value: Any, column: str) -> float:
    """A number, or the number that a text says. Raises UsageError for everything else, nan and infinity too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{column} is {value!r}, which is no finite number. Give one like {column}=0.5.")
    if abs(number) > MOST_NUMBER:
        raise UsageError(
            f"{column} is {value!r}; numbers beyond {MOST_NUMBER:g} cannot be scaled. Give it in a larger unit."
        )
    return number


def arguments(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a condition again, from what its `to_json` gave: all but the name."""
    return {key: value for key, value in saved.items() if key != "name"}


def learned(condition: Condition, y: Sequence[Any]) -> Condition:
    """The condition with the same vocabulary, that draws from these values alone: those of the train part.

    A condition of a third party that knows no such method stays as it was fitted, and so does every one where
    there are no values: nothing is trained then.
    """
    own = getattr(condition, "learned", None)
    if own is None or not len(y):
        return condition
    narrowed: Condition = own(y)
    return narrowed


def evenly(n: int, most: int) -> np.ndarray:
    """At most `most` of n positions, evenly spaced and centred; all of them where they are few enough."""
    kept = min(n, most)
    return ((np.arange(kept) + 0.5) * n / max(1, kept)).astype(np.int64)
