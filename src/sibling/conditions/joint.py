"""y has several parts, each a condition of its own: {"kind": "leaf", "severity": 0.7}."""

from __future__ import annotations

import json
import numbers
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..registry import lookup
from ..types import Cond, Condition
from . import CONDITIONS
from .columns import evenly, no_class, resolve
from .map import PNG_TEXT
from .value import Value
from .vicinity import Vicinity

__all__ = ["Joint"]

_MOST_ROWS = 5_000
_MOST_ROWS_WITH_MAPS = 256  # a map takes kilobytes, a label and a number some bytes


class Joint:
    """Several conditions at once; vec and map are those of the parts, one after the other.

    parts   the parts as JSON, fitted or not: [{"name": "label", "column": "kind"}, ...]; any condition of the
            table can be one. A part that says `bare = True` (label, labels) sees its bare value, every other
            one a dict of its columns. None given: `fit` infers them from the values
    rows    at most 5,000 seen rows (256 where a part is a map), each a list in the order of `columns`;
            at least one of each group, so that there may be more rows than that where there are more groups
    counts  how often each group was seen, in the order of `classes`: what `draw` follows

    A group is that of the parts with classes, joined with ", "; else that of the numbers; else "all".
    """

    name = "joint"

    def __init__(
        self,
        parts: Sequence[Mapping[str, Any]] = (),
        rows: Sequence[Sequence[Any]] = (),
        counts: Sequence[int] = (),
    ) -> None:
        self.parts: list[Condition] = [_part(saved) for saved in parts]
        self.columns: Sequence[str] = tuple(column for part in self.parts for column in part.columns)
        twice = [column for column, n in Counter(self.columns).items() if n > 1]
        values = [part for part in self.parts if isinstance(part, Value)]
        if twice:
            raise UsageError(f"Two parts of y have the column {twice[0]!r}. Give each a column of its own.")
        if len(values) > 1:
            raise UsageError("y has two parts with numbers. Give all names to one: Value(names=[...]).")
        self.width = sum(part.width for part in self.parts)
        self.channels = sum(part.channels for part in self.parts)
        self.unambiguous = bool(self.columns) and all(p.unambiguous for p in self.parts if p.columns)
        self._value = values[0] if values else None
        if (
            self._value is not None
        ):  # an attribute only then: who asks for it learns whether there are numbers
            self.vicinity: Callable[..., Vicinity] = self._vicinity
        self.rows = [list(row) for row in rows]
        self._y = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        self._arrange(counts)

    def _arrange(self, counts: Sequence[int]) -> None:
        """Groups, their rows, and how likely each row is."""
        self._grouping = [p for p in self.parts if p.columns and not isinstance(p, Value) and _grouped(p)]
        if not self._grouping and self._value is not None:
            self._grouping = [self._value]
        groups = self.groups(self._y) if self._y else []
        ranks = [{name: i for i, name in enumerate(part.classes)} for part in self._grouping]
        own = [part.groups(_own(part, self._y)) for part in self._grouping]
        keys = {
            group: tuple(rank.get(name, len(rank)) for rank, name in zip(ranks, named, strict=True))
            for group, *named in zip(groups, *own, strict=True)
        }
        self.classes: Sequence[str] = sorted(keys, key=keys.__getitem__)
        kept = Counter(groups)
        self.counts = list(counts) or [kept[name] for name in self.classes]
        weight = {g: n / kept[g] for g, n in zip(self.classes, self.counts, strict=True)}
        share = np.array([weight[group] for group in groups])
        self._share = share / share.sum() if len(share) else share
        self._members: dict[str, list[int]] = {}
        for row, group in enumerate(groups):
            self._members.setdefault(group, []).append(row)
        self._scaled = self._value.scale(self._y) if self._value is not None and self._y else None
        self._wrongable: list[Condition] | None = None

    def fit(self, y: Sequence[Any]) -> Joint:
        """A Joint whose parts know their columns of y. Raises UsageError for a missing column or unclear type."""
        if not len(y):
            raise UsageError("A joint condition needs at least one y.")
        parts = self.parts or [_part(saved) for saved in _infer(y)]
        fitted = [part.fit(_own(part, y)).to_json() for part in parts]
        whole = Joint(fitted)  # knows groups and scales, and no rows yet
        groups = whole.groups(y)
        rows: dict[str, list[int]] = {}
        for row, group in enumerate(groups):
            rows.setdefault(group, []).append(row)
        most = _MOST_ROWS_WITH_MAPS if whole.channels else _MOST_ROWS
        kept = [i for group in rows.values() for i in whole._keep(y, group, len(y), len(rows), most)]
        table = [[y[i][column] for column in whole.columns] for i in sorted(kept)]
        order = Joint(fitted, table).classes
        return Joint(fitted, table, [len(rows[group]) for group in order])

    def _keep(self, y: Sequence[Any], rows: list[int], n: int, groups: int, most: int) -> list[int]:
        """Which rows of a group are kept: half of the room is for all groups alike, half follows the data."""
        floor = max(1, most // (2 * groups))
        quota = floor + max(0, most - floor * groups) * len(rows) // n
        if n <= most or len(rows) <= quota:
            return rows
        if self._value is not None:  # evenly by rank, so that the numbers keep their distribution
            table = self._value.numbers([y[i] for i in rows])
            rows = [rows[i] for i in np.lexsort(table.T[::-1])]
        return [rows[i] for i in evenly(len(rows), quota)]

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """vec (N, K) and map (N, M, *S) of all parts. Raises UsageError for an unknown value or missing column."""
        return _side_by_side([part.encode(_own(part, y), spatial) for part in self.parts], len(y), spatial)

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """The null of each part."""
        return _side_by_side([part.null(n, spatial) for part in self.parts], n, spatial)

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n seen rows, the groups with the frequencies of the data."""
        return [dict(self._y[i]) for i in rng.choice(len(self._y), n, p=self._share)]

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each y one part, any that can be wrong, gets its mismatch. Raises UsageError when none can."""
        if self._wrongable is None:
            self._wrongable = [part for part in self.parts if part.columns and self._can_be_wrong(part)]
        if not self._wrongable:
            raise UsageError("A wrong y needs at least two different ones; this data set has one.")
        chosen = rng.integers(len(self._wrongable), size=len(y))
        wrong = [dict(row) for row in y]
        for number, part in enumerate(self._wrongable):
            rows = np.flatnonzero(chosen == number).tolist()
            other = part.mismatch(_own(part, [y[i] for i in rows]), rng) if rows else []
            for i, value in zip(rows, other, strict=True):
                wrong[i].update(_merged(part, value))
        return wrong

    def _can_be_wrong(self, part: Condition) -> bool:
        try:
            part.mismatch(_own(part, self._y[:1]), np.random.default_rng(0))
        except UsageError:
            return False
        return True

    def groups(self, y: Sequence[Any]) -> list[str]:
        """The groups of the parts with classes, joined with ", "; else those of the numbers; else "all"."""
        if not self._grouping:
            return ["all"] * len(y)
        named = [part.groups(_own(part, y)) for part in self._grouping]
        return [", ".join(names) for names in zip(*named, strict=True)]

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """A seen row of this group. Raises UsageError for an unknown group."""
        if group not in self._members:
            raise no_class(group, self.classes)
        return dict(self._y[rng.choice(self._members[group])])

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n y with the given columns; the others from seen rows that agree with these.

        given    {column: value or text}; the name of a part with one column stands for it, where it is clear
        outside  allow numbers outside of the seen range, and classes that were never seen together
        The rows agree exactly in labels (and maps, where one has the given map), and are among the 10 % of such
        rows that are nearest to the given numbers. Raises UsageError as `complete` of the parts does.
        """
        found = self._parse(given, rng, outside)
        rows = self._agreeing(found, outside)
        if self._value is not None and self._scaled is not None:
            wanted = {name: found[name] for name in self._value.names if name in found}
            rows = rows[self._value.nearest(self._scaled[rows], wanted)]
        share = self._share[rows]
        picked = rng.choice(rows, n, p=share / share.sum())
        return [{**self._y[i], **found} for i in picked]

    def _parse(self, given: Mapping[str, Any], rng: np.random.Generator, outside: bool) -> dict[str, Any]:
        """The given columns with the values that the parts make of them."""
        short = {
            part.name: part.columns[0]
            for part in self.parts
            if len(part.columns) == 1 and sum(p.name == part.name for p in self.parts) == 1
        }
        names = {key: short[key] for key in given if key in short and key not in self.columns}
        twice = [key for key, column in names.items() if column in given]
        if twice:
            raise UsageError(f"The column {names[twice[0]]!r} is given twice, once as {twice[0]!r}.")
        known = resolve({names.get(key, key): value for key, value in given.items()}, self.columns, self.name)
        found: dict[str, Any] = {}
        more = {"outside": True} if outside else {}
        for part in self.parts:
            own = {column: known[column] for column in part.columns if column in known}
            if own:
                value = _merged(part, part.complete(own, 1, rng, **more)[0])
                found.update({column: value[column] for column in own})
        return found

    def _agreeing(self, found: Mapping[str, Any], outside: bool) -> np.ndarray:
        """The kept rows with exactly the given classes."""
        rows = np.arange(len(self._y))
        matched: dict[str, Any] = {}
        for part in self.parts:
            for column in part.columns:
                if column not in found or isinstance(part, Value):
                    continue
                same = np.array([_plain(self._y[i][column]) == _plain(found[column]) for i in rows], bool)
                if same.any():
                    rows, matched = rows[same], {**matched, column: found[column]}
                elif matched and not part.channels and not outside:
                    pairs = {**matched, column: found[column]}
                    shown = " and ".join(f"{key}={value}" for key, value in pairs.items())
                    raise UsageError(
                        f"No sample that is remembered has {shown}. Give values that go together, "
                        "or allow it with --allow-outside (allow_outside=True)."
                    )
        return rows

    def _vicinity(self, y: Sequence[Any], kind: str = "nearest") -> Vicinity:
        """Vicinal training pairs over these N real training values; all but the numbers stays the anchor's."""
        if self._value is None:
            raise UsageError("A vicinity needs a part of y with numbers; this y has none.")
        value, rest = self._value, [c for c in self.columns if c not in self._value.columns]
        others = [json.dumps([row[column] for column in rest], sort_keys=True) for row in y]
        return Vicinity(value.scale(y), others, lambda i, row: {**y[i], **value.unscale(row)}, kind)

    def to_json(self) -> dict[str, Any]:
        """The parts, the kept rows and the counts of the groups."""
        return {
            "name": self.name, "parts": [part.to_json() for part in self.parts], "rows": self.rows,
            "counts": self.counts,
        }  # fmt: skip


def _part(saved: Mapping[str, Any]) -> Condition:
    arguments = {key: value for key, value in saved.items() if key != "name"}
    if "name" not in saved:
        raise UsageError(
            f"A part of y is {dict(saved)!r}; it must name its condition, like {{'name': 'label'}}."
        )
    part: Condition = lookup(CONDITIONS, "sibling.conditions", saved["name"])(**arguments)
    return part


def _own(part: Condition, y: Sequence[Any]) -> list[Any]:
    """What a part sees of y. Raises UsageError for a missing column."""
    columns = part.columns
    try:
        if getattr(part, "bare", False):
            return [row[columns[0]] for row in y]
        return [{column: row[column] for column in columns} for row in y]
    except (KeyError, TypeError, IndexError):
        raise UsageError(f"A y has no {' or '.join(columns)}; each must have {list(columns)}.") from None


def _merged(part: Condition, value: Any) -> dict[str, Any]:
    """What a part's value adds to y."""
    if getattr(part, "bare", False):
        return {part.columns[0]: value}
    return {column: value[column] for column in part.columns}


def _plain(value: Any) -> Any:
    """A form in which equal labels are equal: 3 and "3", and lists in any order."""
    return sorted(set(map(str, value))) if isinstance(value, list | tuple) else str(value)


def _grouped(part: Condition) -> bool:
    return tuple(part.classes) != ("all",)


def _side_by_side(conds: Sequence[Cond], n: int, spatial: Sequence[int]) -> Cond:
    if not conds:
        return Cond(torch.zeros(n, 0), torch.zeros(n, 0, *spatial))
    return Cond(torch.cat([cond.vec for cond in conds], 1), torch.cat([cond.map for cond in conds], 1))


def _infer(y: Sequence[Any]) -> list[dict[str, Any]]:
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
