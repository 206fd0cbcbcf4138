"""y has several parts, each a condition of its own: {"kind": "leaf", "severity": 0.7}."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..registry import lookup
from ..types import Cond, Condition
from . import CONDITIONS
from .columns import arguments, evenly, learned, nearly_within, no_class, resolve
from .infer import infer
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
    counts  how often each group was seen, in the order of `classes`: what `draw` follows; 0 for one that no
            training sample is in
    groups  the groups as the names that the parts give them, in the order of `classes`; none given: those of
            the rows
    ranges  [lowest, highest] of each number in each group, in the order of `classes`; only where rows were left out

    A group is that of the parts with classes, joined with ", "; else that of the numbers; else "all".
    """

    name = "joint"

    def __init__(
        self,
        parts: Sequence[Mapping[str, Any]] = (),
        rows: Sequence[Sequence[Any]] = (),
        counts: Sequence[int] = (),
        groups: Sequence[Sequence[str]] = (),
        ranges: Sequence[Sequence[Sequence[float]]] = (),
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
        self.ranges = [[list(pair) for pair in group] for group in ranges]
        self._arrange(counts, groups)

    def _arrange(self, counts: Sequence[int], known: Sequence[Sequence[str]]) -> None:
        """Groups, their rows, and how likely each row is."""
        self._grouping = [p for p in self.parts if p.columns and not isinstance(p, Value) and _grouped(p)]
        if not self._grouping and self._value is not None:
            self._grouping = [self._value]
        self._named = self._names_of(self._y)
        of_rows = [self._called(names) for names in self._named]
        ranks = [{name: i for i, name in enumerate(part.classes)} for part in self._grouping]
        found = known or sorted(
            dict(zip(of_rows, self._named, strict=True)).values(),
            key=lambda names: [rank.get(name, len(rank)) for rank, name in zip(ranks, names, strict=True)],
        )
        self._groups = {self._called(names): list(names) for names in found}
        self.classes: Sequence[str] = list(self._groups)
        self._members = {group: np.array(rows) for group, rows in _alike(of_rows).items()}
        kept = {group: len(self._members.get(group, ())) for group in self.classes}
        self.counts = list(counts) or list(kept.values())
        weight = {g: n / max(1, kept[g]) for g, n in zip(self.classes, self.counts, strict=True)}
        share = np.array([weight[group] for group in of_rows])
        self._share = share / share.sum() if len(share) else share
        number = {group: i for i, group in enumerate(self.classes)}
        self._of_rows = np.array([number[group] for group in of_rows], np.int64)
        self._numbers = (
            self._value.numbers(self._y) if self._value is not None else np.empty((len(of_rows), 0))
        )
        self._scaled = self._value.scale(self._y) if self._value is not None and self._y else None
        self._where: dict[str, dict[Any, np.ndarray]] = {}  # column -> value -> rows; filled when asked for
        self._wrongable: list[Condition] | None = None

    def fit(self, y: Sequence[Any]) -> Joint:
        """A Joint whose parts know their columns of y. Raises UsageError for a missing column or unclear type."""
        if not len(y):
            raise UsageError("A joint condition needs at least one y.")
        parts = self.parts or [_part(saved) for saved in infer(y)]
        return _remembering([part.fit(_own(part, y)).to_json() for part in parts], y)

    def learned(self, y: Sequence[Any]) -> Joint:
        """The same parts and groups; the range and what is drawn are those of y."""
        parts = [learned(part, _own(part, y)).to_json() for part in self.parts]
        return _remembering(parts, y, list(self._groups.values()))

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
        return [self._called(names) for names in self._names_of(y)]

    def _names_of(self, y: Sequence[Any]) -> list[tuple[str, ...]]:
        """What the parts with groups call the group of each y."""
        if not self._grouping or not len(y):
            return [()] * len(y)
        return list(zip(*(part.groups(_own(part, y)) for part in self._grouping), strict=True))

    def _called(self, names: Sequence[str]) -> str:
        return ", ".join(names) if self._grouping else "all"

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """A seen row of this group. Raises UsageError for an unknown group.

        Where no training sample is in it: one that shares most with it, with the classes of this group put in.
        """
        if group not in self._groups:
            raise no_class(group, self.classes)
        if group in self._members:
            return dict(self._y[rng.choice(self._members[group])])
        wanted = self._groups[group]
        shared = np.array([sum(a == b for a, b in zip(n, wanted, strict=True)) for n in self._named])
        y = dict(self._y[rng.choice(np.flatnonzero(shared == shared.max()))])
        for part, name in zip(self._grouping, wanted, strict=True):
            y.update(_merged(part, part.within(name, rng)))
        return y

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n y with the given columns; the others from seen rows that agree with these.

        given    {column: value or text}; the name of a part with one column stands for it, where it is clear
        outside  allow numbers outside of the seen range, and classes that were never seen together
        The rows agree exactly in labels (and maps, where one has the given map), and are among the 10 % of such
        rows that are nearest to the given numbers. Raises UsageError as `complete` of the parts does, and for
        numbers outside of the range that was seen with the given labels.
        """
        return self.completer(given, outside=outside)(n, rng)

    def completer(
        self, given: Mapping[str, Any], *, outside: bool = False
    ) -> Callable[[int, np.random.Generator], list[Any]]:
        """`complete` for many calls with the same `given`: what follows from that is found once."""
        found = self._parse(given, outside)
        rows = self._agreeing(found, outside)
        if self._value is not None and self._scaled is not None:
            wanted = {name: found[name] for name in self._value.names if name in found}
            rows = rows[self._value.nearest(self._scaled[rows], wanted)]
        edges = np.cumsum(self._share[rows])
        edges /= edges[-1]

        def drawn(n: int, rng: np.random.Generator) -> list[Any]:
            picked = rows[edges.searchsorted(rng.random(n), side="right")]
            return [{**self._y[i], **found} for i in picked]

        return drawn

    def _parse(self, given: Mapping[str, Any], outside: bool) -> dict[str, Any]:
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
        rng = np.random.default_rng(0)  # draws what is not given, which is thrown away here
        for part in self.parts:
            own = {column: known[column] for column in part.columns if column in known}
            if own and isinstance(part, Value):
                found.update(part.parse(own, outside=outside))
            elif own:
                value = _merged(part, part.complete(own, 1, rng, **more)[0])
                found.update({column: value[column] for column in own})
        return found

    def _agreeing(self, found: Mapping[str, Any], outside: bool) -> np.ndarray:
        """The kept rows with exactly the given classes, and the given maps where one has them."""
        rows = np.arange(len(self._y))
        matched: dict[str, Any] = {}
        given = [(part, column) for part in self.parts for column in part.columns if column in found]
        for column in (column for part, column in given if not isinstance(part, Value) and not part.channels):
            same = self._same(rows, column, found[column])
            if len(same):
                rows, matched = same, {**matched, column: found[column]}
            elif matched and not outside:
                raise UsageError(
                    f"No sample that is remembered has {_shown({**matched, column: found[column]})}. "
                    "Give values that go together, or allow it with --allow-outside (allow_outside=True)."
                )
        if matched and not outside:
            self._refuse_unseen(found, rows, _shown(matched))
        for column in (column for part, column in given if part.channels):
            same = self._same(rows, column, found[column])
            rows = same if len(same) else rows
        return rows

    def _same(self, rows: np.ndarray, column: str, value: Any) -> np.ndarray:
        """Those of the rows, in order, that have this value in a column."""
        if column not in self._where:
            alike = _alike([_plain(y[column]) for y in self._y])
            self._where[column] = {key: np.array(found) for key, found in alike.items()}
        same = self._where[column].get(_plain(value), np.empty(0, np.int64))
        return np.intersect1d(rows, same, assume_unique=True)

    def _refuse_unseen(self, found: Mapping[str, Any], rows: np.ndarray, matched: str) -> None:
        """Refuse numbers outside of the range of these rows, which have the given labels. Raises UsageError."""
        if self.ranges:  # rows were left out: what these few have says less than their groups do
            spans = np.array([self.ranges[group] for group in np.unique(self._of_rows[rows])])
            lows, highs = spans[:, :, 0].min(0), spans[:, :, 1].max(0)
        else:
            lows, highs = self._numbers[rows].min(0), self._numbers[rows].max(0)
        names = self._value.names if self._value is not None else []
        for name, low, high in zip(names, lows.tolist(), highs.tolist(), strict=True):
            if name in found and not nearly_within(found[name], low, high):
                raise UsageError(
                    f"{name} = {found[name]:g} lies outside of the range that was seen with {matched}, {low:g} to "
                    f"{high:g}, where samples are a guess. Give a number in it, or allow it with --allow-outside "
                    "(allow_outside=True)."
                )

    def _vicinity(self, y: Sequence[Any], kind: str = "nearest") -> Vicinity:
        """Vicinal training pairs over these N real training values; all but the numbers stays the anchor's."""
        if self._value is None:
            raise UsageError("A vicinity needs a part of y with numbers; this y has none.")
        value, rest = self._value, [c for c in self.columns if c not in self._value.columns]
        others = [json.dumps([row[column] for column in rest], sort_keys=True) for row in y]
        return Vicinity(value.scale(y), others, lambda i, row: {**y[i], **value.unscale(row)}, kind)

    def to_json(self) -> dict[str, Any]:
        """The parts, the kept rows, the groups and their counts, and the ranges in them where rows were left out."""
        return {
            "name": self.name, "parts": [part.to_json() for part in self.parts], "rows": self.rows,
            "counts": self.counts, "groups": list(self._groups.values()),
            **({"ranges": self.ranges} if self.ranges else {}),
        }  # fmt: skip


def _remembering(
    parts: list[dict[str, Any]], y: Sequence[Any], groups: Sequence[Sequence[str]] = ()
) -> Joint:
    """A Joint of fitted parts that draws from these y; its groups are those of y unless they are given."""
    whole = Joint(parts)  # knows groups and scales, and no rows yet
    rows = _alike(whole.groups(y))
    most = _MOST_ROWS_WITH_MAPS if whole.channels else _MOST_ROWS
    kept = [i for group in rows.values() for i in whole._keep(y, group, len(y), len(rows), most)]
    table = [[y[i][column] for column in whole.columns] for i in sorted(kept)]
    known = Joint(parts, table, groups=groups)
    counts = [len(rows.get(group, ())) for group in known.classes]
    ranges: list[Any] = []
    if known._value is not None and len(kept) < len(y):
        numbers = known._value.numbers(y)
        own = [numbers[rows[group]] if group in rows else numbers[:0] for group in known.classes]
        ranges = [np.stack([n.min(0), n.max(0)], 1).tolist() if len(n) else [] for n in own]
    return Joint(parts, table, counts, list(known._groups.values()), ranges)


def _alike(keys: Sequence[Any]) -> dict[Any, list[int]]:
    """key -> the positions that have it."""
    found: dict[Any, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return found


def _shown(pairs: Mapping[str, Any]) -> str:
    return " and ".join(f"{column}={value}" for column, value in pairs.items())


def _part(saved: Mapping[str, Any]) -> Condition:
    if "name" not in saved:
        raise UsageError(
            f"A part of y is {dict(saved)!r}; it must name its condition, like {{'name': 'label'}}."
        )
    part: Condition = lookup(CONDITIONS, "sibling.conditions", saved["name"])(**arguments(saved))
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
    return tuple(sorted(set(map(str, value)))) if isinstance(value, list | tuple) else str(value)


def _grouped(part: Condition) -> bool:
    return tuple(part.classes) != ("all",)


def _side_by_side(conds: Sequence[Cond], n: int, spatial: Sequence[int]) -> Cond:
    if not conds:
        return Cond(torch.zeros(n, 0), torch.zeros(n, 0, *spatial))
    return Cond(torch.cat([cond.vec for cond in conds], 1), torch.cat([cond.map for cond in conds], 1))
