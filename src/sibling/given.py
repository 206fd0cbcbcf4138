"""What y is asked to be: text or a file -> columns and values, completed by the condition."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from .asked import RESERVED
from .dataset import kinds_of
from .errors import BadInput, BadSample, UsageError
from .formats.columns import cells_of
from .formats.labels import rows_of, safe_name
from .maps import content_of, fitted_text, how_fitted, same_proportions
from .registry import suggest
from .types import Condition, Modality

__all__ = ["MAP", "Told", "as_mapping", "completed", "rows_of_file"]

log = logging.getLogger("sibling")

_COUNTS = ("count", "n")
_MOST = 10_000_000  # samples a row: more is a slip of the pen, and would fill the memory


MAP = "(a map)"  # stands for a map where what is given is noted; the map itself is in y


@dataclass(frozen=True, slots=True)
class Told:
    """What y is asked to be, checked.

    given      column -> its part of y
    columns    all columns of y
    ready      draws n y in which these columns have these values
    outside    whether it lies outside of what was seen
    whole      the y that was completed first: the only one where every column is given
    maps       the columns that are maps
    """

    given: dict[str, Any]
    columns: frozenset[str]
    ready: Callable[[int, np.random.Generator], list[Any]] = field(compare=False)
    outside: bool
    whole: Any = None
    maps: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """A text that only the same wish has: the name of its random streams."""
        return json.dumps(self.given, sort_keys=True)

    @property
    def digest(self) -> str:
        """8 characters for file names."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:8]

    def draw(self, rng: np.random.Generator) -> Any:
        """One y in which the given columns have the given values."""
        return self.whole if self.given.keys() == self.columns else self.ready(1, rng)[0]

    def info(self) -> dict[str, Any]:
        """What is noted about each of these samples."""
        noted = {column: MAP if column in self.maps else value for column, value in self.given.items()}
        return {"given": noted, **({"outside": True} if self.outside else {})}


def as_mapping(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """ "kind=leaf,severity=0.7" or a JSON object -> column -> value. Raises UsageError."""
    if not isinstance(given, str):
        return dict(given)
    if given.lstrip().startswith("{"):
        try:
            return cast(dict[str, Any], json.loads(given))
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f'given is {given!r}, which is not JSON ({error}). Write \'{{"kind": "leaf"}}\'.'
            ) from error
    found: dict[str, Any] = {}
    for part in given.split(","):
        column, equals, value = (text.strip() for text in part.partition("="))
        if not equals or not column:
            raise UsageError(
                f"given is {given!r}; write COLUMN=VALUE,COLUMN=VALUE, several labels of one column as tags=hat|smile, "
                'and JSON where a value holds a comma: \'{"kind": "oak, old"}\'.'
            )
        if column in found:
            raise UsageError(f"given says {column!r} twice. Give it once.")
        found[column] = value
    return found


def completed(
    given: Mapping[str, Any],
    condition: Condition,
    modality: Modality,
    *,
    allow_outside: bool,
    kinds: Mapping[str, str] | None = None,
) -> Told:
    """Check what is given by completing it once; warns where it lies outside of what was seen. Raises UsageError.

    kinds  what `kinds_of` says of the condition, from who has asked already: it takes milliseconds

    Text, numbers and files that mean the same y become the same wish.
    """
    if not condition.columns:
        raise UsageError("This run has no y, so none can be given. Say how many with --want (want=).")
    kinds = dict(kinds_of(condition) if kinds is None else kinds)
    given = _with_maps(given, kinds, modality)
    outside = False
    try:
        y, ready = _first(condition, given, outside=False)
    except UsageError:
        if not allow_outside:
            raise
        y, ready = _first(condition, given, outside=True)
        outside = True
    cells = cells_of(y, kinds)
    plain = {_column(name, kinds): cells[_column(name, kinds)] for name in given}
    maps = frozenset(column for column, kind in kinds.items() if kind == "map")
    told = Told(plain, frozenset(condition.columns), ready, outside, y, maps)
    if outside:
        shown = ", ".join(f"{column}={value}" for column, value in told.info()["given"].items())
        log.warning("  outside      %s: not seen like that, so such samples are a guess; they say so.", shown)
    return told


def _column(name: str, kinds: Mapping[str, str]) -> str:
    """The column that is meant: the only one of a kind may be called like that."""
    return name if name in kinds else next(column for column, kind in kinds.items() if kind == name)


def _first(
    condition: Condition, given: Mapping[str, Any], outside: bool
) -> tuple[Any, Callable[[int, np.random.Generator], list[Any]]]:
    """The first y with what is given, and what draws others. Raises UsageError."""
    more: dict[str, Any] = {"outside": True} if outside else {}
    # Where much follows from what is given alone, a condition finds that once and not for each sample.
    completer = getattr(condition, "completer", None)
    ready = (
        completer(given, **more) if completer else lambda n, rng: condition.complete(given, n, rng, **more)
    )
    return ready(1, np.random.default_rng(0))[0], ready


def _with_maps(given: Mapping[str, Any], kinds: Mapping[str, str], modality: Modality) -> dict[str, Any]:
    """Maps that are given as files, as the text of the working size that stands in y. Raises UsageError."""
    maps = [column for column, kind in kinds.items() if kind == "map"]
    names = {*maps, "map"} if len(maps) == 1 else {*maps}
    found = dict(given)
    for column in names & given.keys():
        value = given[column]
        if isinstance(value, str) and len(value) < 4_096 and os.path.isfile(value):
            value = Path(value)
        if isinstance(value, Path | bytes):
            try:
                content = content_of(value)
                found[column] = fitted_text(content, modality)
                _say_distorted(column, content, modality)
            except BadSample as error:
                raise UsageError(f"{column} is {str(value)[:200]}, which {error}.") from error
    return found


def _say_distorted(column: str, content: bytes, modality: Any) -> None:
    """Warn where a map has other proportions than the samples that it is given for."""
    height, width = modality.look(content)["size"]
    if not same_proportions((height, width), (modality.height, modality.width)):
        log.warning(
            "  map          %s of %d x %d is %s to the %d x %d of the samples; give it in their proportions.",
            column, width, height, how_fitted(modality), modality.width, modality.height,
        )  # fmt: skip


def rows_of_file(path: str | Path, condition: Condition) -> list[tuple[dict[str, Any], int]]:
    """(what is given, how many) for each row of a CSV, JSONL or Parquet file. Raises BadInput, UsageError."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"There is no file {path}. Give a CSV, JSONL or Parquet file with the columns of y.")
    root = Path(os.path.realpath(path.parent))
    kinds = kinds_of(condition)
    rows = rows_of(path, root)
    # Who copies the rows of a metadata file brings its other columns along: they are no y, and no slips of the pen.
    beside = {name for row in rows for name in row if name in RESERVED and name not in kinds}
    if beside:
        log.info("  left alone   %s in %s: no part of y", ", ".join(sorted(beside)), path.name)
    wishes = [
        {name: cell for name, cell in row.items() if name not in beside or name in _COUNTS} for row in rows
    ]
    return [_wish(row, kinds, f"{path.name}, row {number}", root) for number, row in enumerate(wishes, 1)]


def _wish(row: dict[str, Any], kinds: dict[str, str], place: str, root: Path) -> tuple[dict[str, Any], int]:
    given: dict[str, Any] = {}
    count: Any = 1
    for name, cell in row.items():
        column = (
            name.removesuffix("_file_name") if kinds.get(name.removesuffix("_file_name")) == "map" else name
        )
        if column not in kinds and column not in _COUNTS:
            raise UsageError(f"{place}: there is no column {name!r} in y.{suggest(name, [*kinds, *_COUNTS])}")
        if cell is None or cell == "":
            continue
        if column not in kinds:
            count = cell
        elif kinds[column] == "map":
            given[column] = root / safe_name(cell, place, PurePosixPath("."), root)
        else:
            given[column] = cell
    return given, _count(count, place)


def _count(value: Any, place: str) -> int:
    try:
        count = float(str(value))
    except ValueError:
        count = math.nan
    if not 0 <= count <= _MOST or not count.is_integer():  # false for nan too
        raise UsageError(
            f"{place}: the count is {str(value)[:40]!r}; it must be a whole number from 0 to {_MOST:,}."
        )
    return int(count)
