"""What a place holds and what was asked for, brought together: which condition y is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .conditions import CONDITIONS
from .dataset import Dataset, condition_of, kinds_of
from .errors import BadInput, UsageError
from .formats.columns import cells_of, y_of
from .registry import lookup, suggest
from .types import Condition, Record

__all__ = ["Found", "agreed", "view"]

# What Sibling writes about each sample besides y: a column of y may not be called like that.
RESERVED = frozenset(
    ("file_name", "split", "origin", "key", "seed", "index", "snapshot", "scores", "nearest_real", "given",
     "outside", "style", "row", "part", "link", "folder", "columns", "kinds", "info", "ending")
)  # fmt: skip


@dataclass
class Found:
    """What a format has found at a place.

    records    with y as the table of conditions says; maps are files, bytes or arrays
    format     its name
    notes      plain sentences
    where      the file or folders that y was found in
    kinds      column -> "label", "labels", "value" or "map"; empty where the format knows of no columns
    chosen     whether the format itself has looked for the columns and the condition that were asked for
    condition  what y is, not fitted yet unless it is that of another data set
    """

    records: list[Record]
    format: str
    notes: list[str]
    where: str
    kinds: dict[str, str] = field(default_factory=dict)
    chosen: bool = False
    condition: Condition = field(default_factory=lambda: condition_of({}))

    def choice(self) -> dict[str, str]:
        """What y is, as a line for a person."""
        told = ", ".join(f"{column} ({kind})" for column, kind in self.kinds.items())
        why = f"{told}; found in {self.where}" if told else "nothing is said about the samples"
        return {"name": "condition", "value": self.condition.name, "why": why}


def agreed(
    found: Found, label_column: str | Sequence[str] | None, condition: str | None, like: Dataset | None
) -> Found:
    """Settle y: its columns and its condition, as they were found or asked for.

    label_column, condition  what was asked for, see `read`
    like                     its condition is the one
    Raises UsageError, BadInput where that does not fit what lies there.
    """
    by_column = bool(found.kinds)
    if not by_column and any(record.y is not None for record in found.records):
        found.kinds = {"label": "label"}  # class folders, a labels file, a third party's format
    if like is not None:
        _chosen(found, label_column, by_column)
        return _like(found, like.condition)
    if condition is not None:
        lookup(CONDITIONS, "sibling.conditions", condition)  # a misspelt name is found here
    if condition == "none":
        return _without(found)
    _chosen(found, label_column, by_column)
    if condition == "value" and not by_column and found.kinds:
        _as_numbers(found, label_column)
    _refuse_reserved(found)
    found.condition = condition_of(found.kinds)
    if condition is None or condition == found.condition.name:
        return found
    if condition in ("label", "labels", "value", "map", "joint") or found.condition.name not in (
        "label",
        "none",
    ):
        told = ", ".join(f"{column} ({kind})" for column, kind in found.kinds.items()) or "no columns"
        raise UsageError(
            f"The condition {condition!r} was asked for, but y has {told} here, which is {found.condition.name!r}. "
            "Choose other columns with --label-column (label_column=), or leave --condition out."
        )
    found.condition = lookup(CONDITIONS, "sibling.conditions", condition)()
    return found


def view(data: Dataset, column: str, kind: str) -> Dataset:
    """The same samples, with one column of y alone."""
    y = [y_of(row, {column: kind}) for row in data.table["y"]]
    known = condition_of({column: kind}).fit(y)
    return Dataset(data.raw, {**data.table, "y": y}, data.modality, known)


def _like(found: Found, condition: Condition) -> Found:
    """The condition of another data set, where the columns are those that it knows. Raises BadInput."""
    kinds = kinds_of(condition)
    if not kinds:
        _without(found)
    elif found.kinds and found.kinds != kinds and not _both_bare(found.kinds, kinds):
        told = ", ".join(f"{column} ({kind})" for column, kind in found.kinds.items())
        wanted = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        raise BadInput(
            f"y has {told} in {found.where}; the samples or the run that these are read for know {wanted}. Give samples that "
            "this run made, or the run that made these; of another tool's, name the columns with --label-column "
            "(label_column=)."
        )
    found.kinds, found.condition = kinds, condition
    return found


def _both_bare(first: dict[str, str], second: dict[str, str]) -> bool:
    """Whether both are one label or one set of labels: such a y does not hold the name of its column."""
    kinds = list(first.values())
    return kinds == list(second.values()) and kinds in (["label"], ["labels"])


def _without(found: Found) -> Found:
    for record in found.records:
        record.y = None
    found.kinds, found.condition = {}, condition_of({})
    return found


def _chosen(found: Found, label_column: str | Sequence[str] | None, by_column: bool) -> None:
    """The columns that were asked for, where the format has not chosen them yet; a note where it has none."""
    if label_column is None:
        return
    if not by_column:
        found.notes.append(
            f"There are no columns to choose from: label_column {label_column!r} was not used."
        )
    elif not found.chosen:
        _select(found, label_column)


def _select(found: Found, label_column: str | Sequence[str]) -> None:
    """Some of the columns that an array format has kept. Raises UsageError."""
    names = label_column.split(",") if isinstance(label_column, str) else label_column
    names = [name.strip() for name in names]
    for name in names:
        if name not in found.kinds:
            raise UsageError(
                f"There is no column {name!r} in {found.where}.{suggest(name, list(found.kinds))}"
            )
    kinds = {name: found.kinds[name] for name in names}
    for record in found.records:
        if record.y is not None:
            record.y = y_of(cells_of(record.y, found.kinds), kinds)
    found.kinds = kinds


def _as_numbers(found: Found, label_column: str | Sequence[str] | None) -> None:
    """Class names that are numbers, as numbers. Raises UsageError."""
    column = label_column if isinstance(label_column, str) and "," not in label_column else "value"
    for record in found.records:
        if record.y is not None:
            record.y = {column: _number(record)}
    found.kinds = {column: "value"}


def _number(record: Record) -> float:
    try:
        number = float(record.y)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(
            f"The condition 'value' needs numbers; {record.key} has {str(record.y)[:40]!r}. "
            "Use --condition label (condition='label')."
        )
    return number


def _refuse_reserved(found: Found) -> None:
    """A lone label is written as `label`, whatever it was called. Raises UsageError for other columns."""
    taken: list[Any] = [column for column in found.kinds if column in RESERVED]
    if taken and list(found.kinds.values()) == ["label"]:
        found.kinds = {"label": "label"}
    elif taken:
        raise UsageError(
            f"A column of y is called {taken[0]!r}, which Sibling uses for what it writes itself about each sample. "
            "Rename the column."
        )
