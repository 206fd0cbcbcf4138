"""y is one or several numbers, told to the model as Fourier features of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..types import Cond
from .columns import MOST_NUMBER, arguments, evenly, nearly_within, no_class, resolve, to_number
from .vicinity import Vicinity, bandwidth

__all__ = ["Value"]

_OCTAVES = 7  # k = 0..6: steps of 1/64 of the range are told apart
_FEATURES = 1 + 2 * _OCTAVES
_MOST_ROWS = 2_000
_MOST_GROUPS = 5
_FAR = 3.0  # sigma; a number that lies nearer may be right for a sample
_NEAR_SHARE = 0.1  # of the seen rows, for what goes with a given number
_TRIES = 8
_CHUNK = 256


class Value:
    """Numbers by name: {"severity": 0.7}.

    names    the names, in the order of the features; K = 15 len(names)
    ranges   [lowest, highest] seen number of each name
    rows     at most 2,000 seen rows, evenly spaced by rank: what `draw` follows
    seen     how many rows were seen
    classes  the names of the groups; none given: they follow from the rows
    cuts     the numbers between them

    A group is a bin of the first number, "severity 0.2 to 0.4", the upper end belonging to the next;
    of at most five different numbers each is a group of its own, "severity 2".
    """

    name = "value"
    channels = 0
    unambiguous = True

    def __init__(
        self,
        names: Sequence[str] = (),
        ranges: Sequence[Sequence[float]] = (),
        rows: Sequence[Sequence[float]] = (),
        seen: int = 0,
        classes: Sequence[str] = (),
        cuts: Sequence[float] = (),
    ) -> None:
        self.names = list(names)
        self.columns: Sequence[str] = tuple(names)
        self.width = _FEATURES * len(self.names)
        self.ranges = [[float(low), float(high)] for low, high in ranges]
        self.rows = [[float(number) for number in row] for row in rows]
        self.seen = seen or len(self.rows)
        bounds = np.asarray(self.ranges, np.float64).reshape(-1, 2)
        self._low, self._high = bounds[:, 0], bounds[:, 1]
        self._span = np.where(self._high > self._low, self._high - self._low, 1.0)
        self._table = np.asarray(self.rows, np.float64).reshape(len(self.rows), len(self.names))
        self._scaled = (self._table - self._low) / self._span if self.rows else self._table
        self._differ = len(np.unique(self._table, axis=0)) > 1
        self.classes: Sequence[str] = list(classes)
        self._cuts = np.asarray(cuts, np.float64)  # a number on a cut belongs to the upper group
        if self.rows and not self.classes:
            self.classes, self._cuts = _bins(self.names[0], self._table[:, 0], *self.ranges[0])

    def fit(self, y: Sequence[Any]) -> Value:
        """A Value that knows the ranges of these numbers. The names are its own, or all of the first y.

        Raises UsageError for a missing or infinite number.
        """
        first = y[0] if len(y) else {}
        names = self.names or (list(first) if isinstance(first, Mapping) else [])
        if not names or not len(y):
            shown = repr(first)[:80]
            raise UsageError(
                f'The first y is {shown}; it must give numbers by name, like {{"severity": 0.7}}.'
            )
        return Value(names, **_remembered(Value(names).numbers(y)))

    def learned(self, y: Sequence[Any]) -> Value:
        """The same groups; the range and what is drawn are those of y. The outermost groups are open-ended."""
        return type(self)(**{**arguments(self.to_json()), **_remembered(self.numbers(y))})

    def numbers(self, y: Sequence[Any]) -> np.ndarray:
        """The numbers of y, float64 (N, D). Raises UsageError for a missing name and for no finite number."""
        table = np.empty((len(y), len(self.names)))
        for row, value in enumerate(y):
            try:
                table[row] = [value[name] for name in self.names]
            except (KeyError, TypeError, ValueError):
                raise UsageError(
                    f"y is {str(value)[:200]!r}; it must give a number for each of {', '.join(self.names)}."
                ) from None
        usable = np.abs(table) <= MOST_NUMBER  # false for nan too
        if not usable.all():
            row, column = np.argwhere(~usable)[0]
            to_number(table[row, column].item(), self.names[column])  # raises, with the name
        return table

    def scale(self, y: Sequence[Any]) -> np.ndarray:
        """The numbers of y scaled by the seen range, float64 (N, D); outside [0, 1] where they are outside of it."""
        return np.asarray((self.numbers(y) - self._low) / self._span)

    def unscale(self, numbers: np.ndarray) -> dict[str, float]:
        """One y from scaled numbers (D,) in [0, 1]."""
        exact = np.clip(self._low + numbers * self._span, self._low, self._high)
        return dict(zip(self.names, exact.tolist(), strict=True))

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """The scaled number v, then sin(pi 2^k v) and cos(pi 2^k v) for k = 0..6, of each name: (N, 15 D).

        Numbers outside of the seen range are encoded too. Raises UsageError for what is no finite number.
        Source: Tancik et al. 2020, "Fourier features let networks learn high frequency functions".
        """
        v = self.scale(y)[:, :, None]  # (N, D, 1)
        angle = math.pi * v * 2.0 ** np.arange(_OCTAVES)
        features = np.concatenate([v, np.sin(angle), np.cos(angle)], axis=2)  # (N, D, 15)
        vec = features.reshape(len(y), self.width).astype(np.float32)
        return Cond(torch.from_numpy(vec), torch.zeros(len(y), 0, *spatial))

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n seen rows, uniformly."""
        return [self._value(row) for row in rng.integers(len(self.rows), size=n)]

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each y a seen row that lies more than 3 sigma away in one number at least.

        Where no row lies that far, the farthest. Raises UsageError when only one row is known.
        """
        if not self._differ:
            raise UsageError("A wrong number needs at least two different ones; this data set has one.")
        own = self.scale(y)
        sigma = bandwidth(self._scaled, self.seen)
        sigma = np.where(sigma > 0, sigma, math.inf)  # a number that never differs is never wrong
        # Most of a few rows at random lie far enough; all rows are looked at for the others only.
        tries = rng.integers(len(self.rows), size=(len(own), _TRIES))
        far = (np.abs(own[:, None] - self._scaled[tries]) / sigma).max(2) > _FAR
        chosen = tries[np.arange(len(own)), far.argmax(1)]
        left = np.flatnonzero(~far.any(1))
        for start in range(0, len(left), _CHUNK):
            part = left[start : start + _CHUNK]
            away = (np.abs(own[part, None] - self._scaled) / sigma).max(2)  # (part, rows), in sigma
            far = away > np.minimum(_FAR, away.max(1, keepdims=True) * (1 - 1e-12))
            before = np.cumsum(far, axis=1)
            pick = rng.integers(before[:, -1])  # which of the far rows, from 0
            chosen[part] = (before > pick[:, None]).argmax(1)
        return [self._value(row) for row in chosen.tolist()]

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """All zeros, which no number gives: cos(0) is 1."""
        return Cond(torch.zeros(n, self.width), torch.zeros(n, 0, *spatial))

    def groups(self, y: Sequence[Any]) -> list[str]:
        """The bin of the first number; numbers outside of the seen range go to the nearest bin."""
        bins = np.searchsorted(self._cuts, self.numbers(y)[:, 0], side="right")
        return [self.classes[i] for i in bins]

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """A seen row of this group; where no training sample is in it, the nearest, its first number moved into it.

        Raises UsageError for an unknown group.
        """
        if group not in self.classes:
            raise no_class(group, self.classes)
        bins = np.searchsorted(self._cuts, self._table[:, 0], side="right")
        inside = np.flatnonzero(bins == self.classes.index(group))
        return self._value(rng.choice(inside)) if len(inside) else self._moved(group)

    def _moved(self, group: str) -> dict[str, float]:
        """The seen row that lies nearest to a group, its first number the nearest that belongs to it."""
        edges = [-math.inf, *self._cuts.tolist(), math.inf]
        number = self.classes.index(group)
        low, high = edges[number], math.nextafter(edges[number + 1], -math.inf)
        try:  # a group of one number is called after it: better than the edge, which nobody has seen
            own = float(group.removeprefix(f"{self.names[0]} "))
        except ValueError:
            own = math.nan
        if low <= own <= high:
            low = high = own
        first = self._table[:, 0]
        moved = np.clip(first, low, high)
        row = int(np.abs(moved - first).argmin())
        return {**self._value(row), self.names[0]: float(moved[row])}

    def parse(self, given: Mapping[str, Any], *, outside: bool = False) -> dict[str, float]:
        """The given numbers by name, from numbers or text. Raises UsageError; see `complete`."""
        found = resolve(given, self.columns, self.name)
        numbers = {name: to_number(value, name) for name, value in found.items()}
        for name, number in numbers.items():
            low, high = self.ranges[self.names.index(name)]
            if not outside and not nearly_within(number, low, high):
                raise UsageError(
                    f"{name} = {number:g} lies outside of the seen range {low:g} to {high:g}, where samples are "
                    "a guess. Give a number in the range, or allow it with --allow-outside (allow_outside=True)."
                )
        return numbers

    def nearest(self, scaled: np.ndarray, given: Mapping[str, float]) -> np.ndarray:
        """The positions of the 10 % of rows (R, D) that lie nearest to the given numbers; at least one."""
        if not given:
            return np.arange(len(scaled))
        columns = [self.names.index(name) for name in given]
        wanted = (np.array(list(given.values())) - self._low[columns]) / self._span[columns]
        away = np.square(scaled[:, columns] - wanted).sum(1)
        return np.argsort(away, kind="stable")[: max(1, math.ceil(_NEAR_SHARE * len(scaled)))]

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n y with the given numbers; the others from the 10 % of seen rows that lie nearest to these.

        given    {name: number or text}; with one name also {"value": ...}
        outside  allow numbers outside of the seen range
        Raises UsageError for an unknown name, for no number, and for a number outside of the seen range.
        """
        return self.completer(given, outside=outside)(n, rng)

    def completer(
        self, given: Mapping[str, Any], *, outside: bool = False
    ) -> Callable[[int, np.random.Generator], list[Any]]:
        """`complete` for many calls with the same `given`: what follows from that is found once."""
        numbers = self.parse(given, outside=outside)
        near = self.nearest(self._scaled, numbers)
        return lambda n, rng: [{**self._value(row), **numbers} for row in rng.choice(near, n)]

    def vicinity(self, y: Sequence[Any], kind: str = "nearest") -> Vicinity:
        """Vicinal training pairs over these N real training values; see `Vicinity`."""
        return Vicinity(self.scale(y), [None] * len(y), lambda _, row: self.unscale(row), kind)

    def to_json(self) -> dict[str, Any]:
        """The names, their ranges, the kept rows, and the groups."""
        return {
            "name": self.name, "names": self.names, "ranges": self.ranges, "rows": self.rows,
            "seen": self.seen, "classes": list(self.classes), "cuts": self._cuts.tolist(),
        }  # fmt: skip

    def _value(self, row: int) -> dict[str, float]:
        return dict(zip(self.names, self.rows[row], strict=True))


def _remembered(table: np.ndarray) -> dict[str, Any]:
    """What a Value keeps of numbers (N, D): their ranges, rows evenly spaced by rank, and how many there were."""
    ranked = table[np.lexsort(table.T[::-1])]
    return {
        "ranges": np.stack([table.min(0), table.max(0)], axis=1).tolist(),
        "rows": ranked[evenly(len(table), _MOST_ROWS)].tolist(),
        "seen": len(table),
    }


def _bins(name: str, numbers: np.ndarray, low: float, high: float) -> tuple[list[str], np.ndarray]:
    """The names of up to five groups, and the cuts between them; no group is empty."""
    unique = np.unique(numbers)
    if len(unique) <= _MOST_GROUPS:
        return [f"{name} {text}" for text in _short(unique)], (unique[1:] + unique[:-1]) / 2
    shares = np.linspace(0, 1, _MOST_GROUPS + 1)
    # "higher" gives numbers that were seen, so that each bin holds its lower end
    cuts = np.unique(np.quantile(numbers, shares[1:-1], method="higher"))
    cuts = cuts[cuts > unique[0]]
    if not len(cuts):  # most samples have the lowest number: the few others are a group of their own
        cuts = unique[1:2]
    texts = _short(np.array([low, *cuts, high]) if cuts[-1] < high else np.array([low, *cuts]))
    names = [f"{name} {a} to {b}" for a, b in pairwise(texts)]
    return names if cuts[-1] < high else [*names, f"{name} {texts[-1]}"], cuts


def _short(numbers: np.ndarray) -> list[str]:
    """Texts with 3 significant digits of the span, or as many as make them differ: 1987 and not 1.99e+03."""
    span = float(numbers.max() - numbers.min()) or abs(float(numbers[0])) or 1.0
    first = 2 - math.floor(math.log10(span))
    texts: list[str] = []
    for decimals in range(first, first + 15):
        # adding 0.0 makes 0 of -0
        texts = [f"{round(number, decimals) + 0.0:.15g}" for number in numbers.tolist()]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(number) for number in numbers.tolist()]
