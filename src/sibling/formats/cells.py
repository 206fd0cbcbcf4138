"""What the cells of a column hold: numbers, classes, several labels, names of maps, or nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

__all__ = [
    "LABELS_COLUMNS", "MANY_NUMBERS", "is_map_name", "is_missing", "is_quantity", "kind_of", "names_maps", "number_of",
]  # fmt: skip

LABELS_COLUMNS = ("labels", "tags")
MOST_STRAYS = 0.1  # of the cells of a column of numbers may be none, and are then faults
MANY_NUMBERS = 20  # different ones: fewer may be class numbers
_MAP_NAME = re.compile(r"(.+_map|.+_mask|conditioning_image)(_file_name)?$")


def kind_of(header: str, values: list[Any], suffixes: Sequence[str]) -> str:
    """ "label", "labels", "map", "number" (written with a point), or "whole" (may be classes)."""
    if not values:
        return "label"
    if is_map_name(header) and names_maps(values, suffixes):
        return "map"
    if any(isinstance(value, list) for value in values):
        return "labels"
    if header in LABELS_COLUMNS and any(_holds_several(value) for value in values):
        return "labels"
    strays = sum(number_of(value) is None for value in values)
    if (
        strays
        and strays <= MOST_STRAYS * len(values)
        and is_quantity([v for v in values if number_of(v) is not None])
    ):
        return "number"  # a stray cell among numbers is a fault that its row is named for, not a class
    if strays:
        return "label"
    return "whole" if all(_is_whole(value) for value in values) else "number"


def is_map_name(header: str) -> bool:
    """Whether a column is called like one that names pictures: depth_map, lung_mask, conditioning_image."""
    return bool(_MAP_NAME.match(header))


def names_maps(values: Sequence[Any], suffixes: Sequence[str]) -> bool:
    """Whether all cells are names of files that can be maps."""
    return all(isinstance(v, str) and PurePosixPath(v).suffix.lower() in suffixes for v in values)


def is_quantity(values: list[Any]) -> bool:
    """Whether a column holds more different numbers than classes have, some of them with decimals."""
    numbers = [number_of(value) for value in values]
    if any(number is None for number in numbers):
        return False
    return len(set(numbers)) > MANY_NUMBERS and any(n != round(n) for n in numbers if n is not None)


def _holds_several(value: Any) -> bool:
    return isinstance(value, str) and bool(re.search(r"[|;]|^\s*\[.*\]\s*$", value))


def number_of(value: Any) -> float | None:
    """The number that a cell is or is the text of; None for all else, and for one that is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:
        return None  # Python reads 1_000
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and bool(re.fullmatch(r"\s*[+-]?\d+\s*", value)))


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
