"""Which columns of a label file are y, and what their cells say.

A column has one of four kinds: "label" (one class name), "labels" (a set of names), "value" (a number) and
"map" (a picture that lies beside the sample). What several of them together are called is the
condition's business; here they are columns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BadInput, UsageError
from ..registry import suggest
from .cells import (
    LABELS_COLUMNS,
    MANY_NUMBERS,
    is_missing,
    is_quantity,
    kind_of,
    number_of,
)
from .labels import KINDS, label_of

__all__ = [
    "LABEL_COLUMNS",
    "Asked",
    "Column",
    "cell_of",
    "cells_of",
    "class_names",
    "find",
    "headers_of",
    "y_of",
]

LABEL_COLUMNS = ("label", "class", "category", "target", "y")
_NOT_Y = ("file_name", "split", "origin")
_FILE_NAME = "_file_name"
LEAST_NUMBERS = 20  # to say that one of them lies far from the rest
FAR = 10.0  # times the width that nine in ten of them have
MOST_NAMES = 50  # different texts in a column that nobody called a label: more are remarks or names


@dataclass(frozen=True, slots=True)
class Column:
    """A part of y: its name in y, its kind, and how the label file calls it."""

    name: str
    kind: str
    header: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known about y before a label file is looked at.

    condition  the name of a condition that was asked for; None = found by looking
    columns    names that were asked for, each possibly with its kind: "age:value"; one text may hold several
    known      name -> kind, when the data set itself or the run that it belongs to says so; the columns are then what
               this file calls them, in that order
    """

    condition: str | None = None
    columns: str | Sequence[str] | None = None
    known: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """A label file that was looked through: its columns, their cells that are not missing, their kinds."""

    name: str
    headers: list[str]
    cells: dict[str, list[Any]]
    kinds: dict[str, str]
    notes: list[str]

    def column(self, header: str, kind: str | None = None) -> Column:
        """A part of y in this column; without a kind, of the kind that its cells have."""
        kind = kind or {"whole": "label", "number": "value"}.get(self.kinds[header], self.kinds[header])
        return Column(_short(header) if kind == "map" else header, kind, header)

    def header(self, column: str) -> str | None:
        """How this file calls a column: Hugging Face appends _file_name to those that name files."""
        return next((name for name in (column, column + _FILE_NAME) if name in self.cells), None)

    def different(self, header: str) -> int:
        """How many different cells there are."""
        return len({str(value) for value in self.cells[header]})


def headers_of(rows: list[dict[str, Any]], name: str) -> list[str]:
    """All columns of a label file. Raises BadInput when none of them is `file_name`."""
    headers = list(dict.fromkeys(header for row in rows for header in row))
    if "file_name" not in headers:
        raise BadInput(f"{name} has no column file_name; it has {_listed(headers) or 'no columns'}.")
    return headers


def find(
    rows: list[dict[str, Any]], name: str, asked: Asked, suffixes: Sequence[str], notes: list[str]
) -> list[Column]:
    """The columns that are y, in the order in which they were asked for or stand; empty = there is no y.

    name      of the label file, for what is said
    suffixes  of files that can be maps
    notes     gets sentences about what could be y and was not taken
    Raises BadInput, UsageError.
    """
    headers = headers_of(rows, name)
    cells = {
        header: [row[header] for row in rows if not is_missing(row.get(header))]
        for header in headers
        if header not in _NOT_Y
    }
    kinds = {header: kind_of(header, values, suffixes) for header, values in cells.items()}
    file = _File(name, headers, cells, kinds, notes)
    if asked.known is not None and asked.columns:
        return _called(asked.known, _asked_names(asked.columns, headers), file)
    if asked.known is not None:
        return _known(asked.known, file)
    if asked.condition == "none":
        return []
    if asked.columns:
        found = _named(_asked_names(asked.columns, headers), asked.condition, file)
    elif asked.condition in ("labels", "value", "map"):
        found = _of_kind(asked.condition, file)
    else:
        found = _looked(asked.condition, file)
    _note_whole_numbers(found, file)
    _note_far_numbers(found, file)
    if len({column.name for column in found}) < len(found):
        names = _listed([column.name for column in found])
        raise UsageError(f"{name}: a column is asked for twice in {names}. Name each once.")
    return found


# ---- ways to find them ----------------------------------------------------------------------------


def _known(known: Mapping[str, str], file: _File) -> list[Column]:
    """The columns that a run or a manifest names; a lone label may have any of its usual names."""
    found = []
    if list(known.values()) == ["label"] and file.header(next(iter(known))) is None:
        found = [Column(next(iter(known)), "label", column.header) for column in _looked("label", file)]
    if found:
        return found
    for column, kind in known.items():
        header = file.header(column)
        if header is None:
            held = _listed(file.headers)
            raise BadInput(f"{file.name} has no column {column!r}, which is a part of y here; it has {held}.")
        found.append(Column(column, kind, header))
    return found


def _called(known: Mapping[str, str], names: list[str], file: _File) -> list[Column]:
    """The columns that a run or a manifest names, under the names that this file has for them."""
    if len(names) != len(known):
        raise BadInput(
            f"y has {_listed(list(known))} here, and --label-column names {_listed(names)}: name what {file.name} calls "
            "each of them, in that order."
        )
    named = _named(names, None, file)
    return [
        Column(own, kind, column.header) for (own, kind), column in zip(known.items(), named, strict=True)
    ]


def _asked_names(asked: str | Sequence[str], headers: list[str]) -> list[str]:
    """The names in `--label-column kind,severity`; a column may have a comma in its name, too."""
    if isinstance(asked, str):
        asked = [asked] if asked in headers else asked.split(",")
    return [column if column in headers else column.strip() for column in asked]


def _named(names: list[str], condition: str | None, file: _File) -> list[Column]:
    found = []
    for name in names:
        column, kind = name, condition if condition in KINDS else None
        if file.header(name) is None and name.rpartition(":")[2] in KINDS:
            column, _, kind = name.rpartition(":")
        header = file.header(column)
        if header is None:
            hint = suggest(column, list(file.cells)).split("Known:")[0].rstrip()
            raise BadInput(f"{file.name} has no column {column!r}; it has {_listed(file.headers)}.{hint}")
        found.append(file.column(header, kind))
    return found


def _of_kind(kind: str, file: _File) -> list[Column]:
    """`--condition value` without columns: all columns that hold this, when it is clear which do."""
    seen = {"value": "number", "labels": "labels", "map": "map"}[kind]
    found = [header for header, held in file.kinds.items() if held == seen]
    clear = bool(found) if kind == "value" else len(found) == 1
    if not found:  # what is only possible, too
        possible = {"value": lambda h: file.kinds[h] == "whole", "labels": lambda h: h in LABELS_COLUMNS}
        found = [header for header in file.kinds if kind in possible and possible[kind](header)]
        clear = len(found) == 1
    if not clear:
        which = f"{_listed(found)} can all be" if found else f"none of {_listed(list(file.kinds))} is"
        raise BadInput(
            f"{file.name}: {which} a {kind}. Say which with --label-column NAME (label_column=NAME)."
        )
    return [file.column(header, kind) for header in found]


def _looked(condition: str | None, file: _File) -> list[Column]:
    """Nobody says which: a column called label, else all columns when each of them can be a part of y."""
    label = next((header for header in LABEL_COLUMNS if header in file.cells), None)
    if label is not None:
        return _beside_a_label(label, condition, file)
    if "origin" in file.headers and "key" in file.headers:
        return []  # written by Sibling, which says in its manifest what y is, and calls a lone label `label`
    rest = list(file.cells)
    if len(rest) == 1:
        return [file.column(rest[0], "label" if condition == "label" else None)]
    if rest and condition != "label" and all(_is_plausible(file, header) for header in rest):
        return [file.column(header) for header in rest]
    if rest:
        doubts = "; ".join(_doubt(file, header) for header in rest if not _is_plausible(file, header))
        raise BadInput(
            f"{file.name} has the columns {_listed(rest)}: which one is the label? Say it with "
            f"--label-column NAME or NAME,NAME (label_column=NAME), or call it label.{doubts and f' In doubt: {doubts}.'}"
        )
    return []


def _beside_a_label(label: str, condition: str | None, file: _File) -> list[Column]:
    """A column called label is y, alone: others may be ages, places or names of patients."""
    kind = "label"
    if condition != "label" and is_quantity(file.cells[label]):
        kind = "value"
        file.notes.append(
            f"{label} holds {file.different(label)} different numbers with fractions: taken as a value. If they are "
            "names of classes: --condition label (condition='label')."
        )
    others = [header for header, held in file.kinds.items() if header != label]
    if condition == "joint":
        told = [header for header in others if file.kinds[header] in ("number", "labels", "map")]
        return [file.column(label, kind), *(file.column(header) for header in told)]
    for header in others:
        if file.kinds[header] == "map":
            file.notes.append(
                f"{header} names pictures; to make them a part of y: --label-column {label},{header}."
            )
    return [file.column(label, kind)]


def _is_plausible(file: _File, header: str) -> bool:
    """Whether a column that nobody named can be a part of y: numbers of patients and remarks are none."""
    kind, different = file.kinds[header], file.different(header)
    if kind == "label":
        return 2 <= different <= min(MOST_NAMES, len(file.cells[header]) / 2)
    return kind in ("labels", "map") or (kind == "number" and different > 1)


def _doubt(file: _File, header: str) -> str:
    """Why nobody can tell from a column whether it is a part of y."""
    values, different = file.cells[header], file.different(header)
    if (stray := _stray(values)) is not None:
        return f"{header} is a number in most rows, but {str(stray)[:40]!r} in another: mend that, with a point for decimals"
    if different < 2:
        return f"{header} is the same everywhere" if values else f"{header} is empty"
    if file.kinds[header] == "whole":
        return f"{header} holds whole numbers, which may be classes, {header}:label, or a quantity, {header}:value"
    return f"{header} holds {different:,} different texts in {len(values):,} rows"


def _stray(values: list[Any]) -> Any:
    """The first cell that is no number in a column where most are, or have a comma for a point; None without one."""
    strays = [value for value in values if number_of(value) is None]
    commas = [
        value for value in strays if isinstance(value, str) and number_of(value.replace(",", ".")) is not None
    ]
    return strays[0] if strays and len(values) - len(strays) + len(commas) > len(values) / 2 else None


def _note_whole_numbers(found: list[Column], file: _File) -> None:
    for column in found:
        if column.kind == "label" and file.kinds[column.header] == "whole":
            different = file.different(column.header)
            if different > MANY_NUMBERS:
                file.notes.append(
                    f"{column.header} holds {different} different whole numbers, and each is a class. If they are a "
                    f"quantity: --label-column {column.header}:value."
                )
        elif column.kind == "label" and (stray := _stray(file.cells[column.header])) is not None:
            file.notes.append(
                f"{column.header} is a number in most rows, but {str(stray)[:40]!r} in another, so each text is a class. "
                f"If it is a quantity, mend that, with a point for decimals, or say --label-column {column.header}:value."
            )


def _note_far_numbers(found: list[Column], file: _File) -> None:
    for column in found:
        if column.kind != "value":
            continue
        numbers = sorted(n for value in file.cells[column.header] if (n := number_of(value)) is not None)
        if len(numbers) < LEAST_NUMBERS:
            continue
        low, middle, high = (numbers[round(share * (len(numbers) - 1))] for share in (0.05, 0.5, 0.95))
        reach = FAR * max(high - low, 1e-12)
        far = [n for n in (numbers[0], numbers[-1]) if high > low and abs(n - middle) > reach]
        if far:
            file.notes.append(
                f"{column.header}: {far[-1]:g} lies far from the other numbers (nine in ten between {low:g} and {high:g}), "
                "and the seen range with it. If it is a mistake, mend or remove that row: the model could hardly tell "
                "the others apart."
            )


def _short(header: str) -> str:
    """The name of a map: Hugging Face appends _file_name to columns that name files."""
    return header.removesuffix(_FILE_NAME) or header


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(column[:40] for column in columns[:20]) + (" ..." if len(columns) > 20 else "")


# ---- cells and y ----------------------------------------------------------------------------------


def cell_of(value: Any, kind: str, place: str) -> Any:
    """A cell as its part of y: text, a sorted list of texts, or a float; None where it is missing.

    A map stays what it is: the name of a file. Raises BadInput.
    """
    if kind == "labels":
        return _names_of(value, place)
    if kind == "label":
        return label_of(value, place)
    if is_missing(value):
        return None
    if kind == "value":
        number = number_of(value)
        if number is None:
            raise BadInput(f"{place}: {str(value)[:60]!r} is not a number. Mend it, or take another column.")
        return number
    return value


def _names_of(value: Any, place: str) -> list[str] | None:
    """["hat", "smile"] from a list, from "hat|smile" or "hat;smile", or from a JSON list as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{place}: {text[:60]!r} is not a JSON list ({error}).") from error
        else:
            value = [part.strip() for part in re.split(r"[|;]", text)]
    if not isinstance(value, list):
        value = [value]
    if any(isinstance(name, list | dict) for name in value):
        raise BadInput(f"{place}: the labels are {str(value)[:60]}; known is a flat list of names.")
    return sorted({str(name) for name in value if name is not None and str(name) != ""})


def cells_of(y: Any, kinds: Mapping[str, str]) -> dict[str, Any]:
    """y -> column -> cell. A y that is no dict belongs to the only column."""
    if y is None:
        return {}
    return dict(y) if isinstance(y, dict) else {next(iter(kinds), "label"): y}


def class_names(y: Iterable[Any], kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """Column -> all its names, sorted, for the columns that hold a label or labels."""
    named = [column for column, kind in kinds.items() if kind in ("label", "labels")]
    seen: dict[str, set[str]] = {column: set() for column in named}
    for cells in (cells_of(one, kinds) for one in y):
        for column in named:
            cell = cells.get(column)
            seen[column].update(cell if isinstance(cell, list) else [] if cell is None else [str(cell)])
    return {column: sorted(names) for column, names in seen.items()}


def y_of(cells: Mapping[str, Any], kinds: Mapping[str, str]) -> Any:
    """Column -> cell back to y: a lone label is a text, lone labels are a list, all else is a dict."""
    if not kinds:
        return None
    if list(kinds.values()) in (["label"], ["labels"]):
        return cells[next(iter(kinds))]
    return {column: cells[column] for column in kinds}
