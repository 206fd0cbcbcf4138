"""y is any number of labels, none included: told to the model as a multi-hot vector."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..registry import meant, suggest
from ..types import Cond
from .columns import arguments, no_class, resolve
from .label import natural

__all__ = ["Labels"]

_MOST_COMBINATIONS = 30  # more groups than that are too small to be counted and balanced


class Labels:
    """A set of labels, as a sorted list: ["hat", "smile"].

    labels        the known labels, sorted (numbers as numbers); K = len(labels)
    combinations  the sets that were seen, each as the numbers of its labels
    counts        how often each combination was seen: what `draw` follows; 0 where no training sample has it
    column        the name of its column in a metadata file
    often         how often each label was seen in all samples, where `counts` are those of a part of them:
                  which label is the rarest does not depend on the part

    A group is a combination ("hat+smile", or "none"); where more than 30 were seen, it is the rarest
    label of a sample, as the one that most needs more samples.
    """

    name = "labels"
    channels = 0
    unambiguous = False  # a sample without "hat" in its list may still show one
    bare = True

    def __init__(
        self,
        labels: Sequence[str] = (),
        combinations: Sequence[Sequence[int]] = (),
        counts: Sequence[int] = (),
        column: str = "labels",
        often: Sequence[int] = (),
    ) -> None:
        self.labels = list(labels)
        self.combinations = [list(numbers) for numbers in combinations]
        self.counts = list(counts) or [1] * len(self.combinations)
        self.column = column
        self.columns: Sequence[str] = (column,)
        self.width = len(self.labels)
        self._index = {label: number for number, label in enumerate(self.labels)}
        self._drawn = [row for row, count in enumerate(self.counts) if count]
        self._seen = {tuple(self.combinations[row]): place for place, row in enumerate(self._drawn)}
        self._empty = "none" if "none" not in self._index else "no label"
        self.often = list(often)
        self._often = Counter[int](dict(enumerate(often)))
        for numbers, count in zip(self.combinations, self.counts, strict=True):
            if not often:
                self._often.update(dict.fromkeys(numbers, count))
        self._members: dict[str, list[int]] = defaultdict(list)  # group -> rows of combinations
        for row, numbers in enumerate(self.combinations):
            self._members[self._group(tuple(numbers))].append(row)
        if len(self.combinations) <= _MOST_COMBINATIONS:
            self.classes: Sequence[str] = list(
                self._members
            )  # in the order of the combinations, which is sorted
        else:
            self.classes = sorted(self._members, key=natural)

    def fit(self, y: Sequence[Any]) -> Labels:
        """A Labels that knows the labels of y, their combinations and how often each was seen."""
        sets = Counter(_clean(value, self.column) for value in y)
        labels = sorted({label for found in sets for label in found}, key=natural)
        index = {label: number for number, label in enumerate(labels)}
        counts = {tuple(sorted(index[label] for label in found)): n for found, n in sets.items()}
        order = sorted(counts)
        return Labels(labels, order, [counts[numbers] for numbers in order], self.column)

    def learned(self, y: Sequence[Any]) -> Labels:
        """The same labels and groups; the combinations are drawn as often as they are in y."""
        counts = Counter(self._numbers(value) for value in y)
        often = [self._often[number] for number in range(self.width)]
        saved = {
            **arguments(self.to_json()), "counts": [counts[tuple(row)] for row in self.combinations], "often": often,
        }  # fmt: skip
        return type(self)(**saved)

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """Multi-hot vectors (N, K); an unseen combination of known labels too. Raises UsageError for an unknown label."""
        vec = np.zeros((len(y), self.width), np.float32)
        for row, value in enumerate(y):
            for number in self._numbers(value):
                vec[row, number] = 1
        return Cond(torch.from_numpy(vec), torch.zeros(len(y), 0, *spatial))

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n seen combinations with the frequencies of the data."""
        return [self._value(row) for row in self._pick(range(len(self.combinations)), n, rng)]

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each value another seen combination, uniformly. Raises UsageError when there is only one."""
        drawn = self._drawn
        if len(drawn) < 2:
            raise UsageError("Wrong labels need at least two combinations of labels; this data set has one.")
        step = rng.integers(1, len(drawn), len(y))
        # An unseen combination differs from all seen ones, wherever the count starts.
        own = [self._seen.get(self._numbers(value), 0) for value in y]
        return [self._value(drawn[(i + s) % len(drawn)]) for i, s in zip(own, step.tolist(), strict=True)]

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """All zeros. The empty combination is encoded the same way: no label is named."""
        return Cond(torch.zeros(n, self.width), torch.zeros(n, 0, *spatial))

    def groups(self, y: Sequence[Any]) -> list[str]:
        """The combination joined with "+", or the rarest label where more than 30 combinations were seen."""
        return [self._group(self._numbers(value)) for value in y]

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """A seen combination of this group; where no training sample is in it, what its name says.

        Raises UsageError for an unknown group.
        """
        if group not in self._members:
            raise no_class(group, self.classes)
        rows = [row for row in self._members[group] if self.counts[row]]
        if rows:
            return self._value(self._pick(rows, 1, rng)[0])
        if len(self.combinations) <= _MOST_COMBINATIONS:
            return self._value(self._members[group][0])
        return [] if group == self._empty else [group]

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n times exactly the given labels; drawn where none are given.

        given    {its column or "labels": a list, or text: "hat|smile", "hat;smile", '["hat"]', "none", or a
                 combination as groups are called, "hat+smile"}
        outside  allow a combination that was never seen
        Raises UsageError for an unknown column or label, and for an unseen combination.
        """
        found = resolve(given, self.columns, "labels")
        if not found:
            return self.draw(n, rng)
        value = self._parse(found[self.column])
        numbers = self._numbers(value)
        if numbers not in self._seen and not outside:
            raise UsageError(
                f"No sample has exactly the {self.column} {self._group_name(numbers)!r}. "
                f"{_known(self._shown())} Give one of those, or allow it with --allow-outside (allow_outside=True)."
            )
        names = [meant(label, self.labels) or label for label in value]
        return [list(names) for _ in range(n)]

    def to_json(self) -> dict[str, Any]:
        """The labels, the combinations as numbers of labels, and their counts."""
        return {
            "name": self.name, "labels": self.labels, "combinations": self.combinations,
            "counts": self.counts, "column": self.column, **({"often": self.often} if self.often else {}),
        }  # fmt: skip

    def _shown(self) -> list[str]:
        """The combinations that training samples have, as they can be given, in the order of the groups."""
        if len(self.combinations) <= _MOST_COMBINATIONS:
            return [name for name in self.classes if any(self.counts[row] for row in self._members[name])]
        often = sorted(self._drawn, key=lambda row: -self.counts[row])  # the groups are single labels then
        return [self._group_name(tuple(self.combinations[row])) for row in often]

    def _numbers(self, value: Any) -> tuple[int, ...]:
        found = []
        for label in _clean(value, self.column):
            known = label if label in self._index else meant(label, self.labels)
            if known is None:
                several = (
                    " Several are written with | between them."
                    if any(x in label for x in self.labels)
                    else ""
                )
                raise UsageError(f"There is no label {label!r}.{suggest(label, self.labels)}{several}")
            found.append(self._index[known])
        return tuple(sorted(found))

    def _value(self, row: int) -> list[str]:
        return sorted(self.labels[number] for number in self.combinations[row])

    def _group_name(self, numbers: tuple[int, ...]) -> str:
        return "+".join(sorted(self.labels[number] for number in numbers)) or self._empty

    def _group(self, numbers: tuple[int, ...]) -> str:
        if len(self.combinations) <= _MOST_COMBINATIONS or not numbers:
            return self._group_name(numbers)
        return self.labels[min(numbers, key=lambda number: (self._often[number], number))]

    def _pick(self, rows: Sequence[int], n: int, rng: np.random.Generator) -> list[int]:
        share = np.asarray([self.counts[row] for row in rows], float)
        return [rows[i] for i in rng.choice(len(rows), n, p=share / share.sum())]

    def _parse(self, given: Any) -> list[str]:
        """Labels from a list or from text; a label that is the whole text is taken as it is."""
        if not isinstance(given, str):
            return list(_clean(given, self.column))
        text = given.strip()
        if text in self._index:
            return [text]
        if text in ("", self._empty):
            return []
        called = [row for row in self._seen if self._group_name(row) == text]
        if len(called) == 1:  # as the combination is called in errors, folders and reports
            return [self.labels[number] for number in called[0]]
        if text.startswith("["):
            try:
                return list(_clean(json.loads(text), self.column))
            except json.JSONDecodeError as error:
                raise UsageError(f"{self.column} is {given!r}, which is no JSON list: {error}.") from error
        parts = [part.strip() for part in re.split(r"[|;]", text) if part.strip()]
        # "hat+smile" is how the groups are called, and what a reader of the report types.
        by_plus = [name.strip() for part in parts for name in part.split("+")]
        if all(meant(name, self.labels) for name in by_plus):
            parts = by_plus
        return list(_clean(parts, self.column))


def _clean(value: Any, column: str) -> tuple[str, ...]:
    """The different labels, sorted. Raises UsageError where `value` is no list."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UsageError(f"{column} is {value!r}; it must be a list of labels, like ['hat', 'smile'] or [].")
    return tuple(sorted({str(label) for label in value}))


def _known(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    return f"Seen: {shown or 'nothing'}."
