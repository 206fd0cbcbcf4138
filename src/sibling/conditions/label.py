"""y is a class: one name of a known set, told to the model as a one-hot vector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..registry import meant
from ..types import Cond
from .columns import arguments, no_class, resolve

__all__ = ["Label", "natural"]


class Label:
    """A class name.

    classes  the known names, sorted (numbers as numbers); K = len(classes)
    counts   how often each was seen: what `draw` follows; 0 for one that no training sample has
    column   the name of its column in a metadata file
    """

    name = "label"
    channels = 0
    unambiguous = True
    bare = True  # y is the value itself; in a joint y it stands under its column

    def __init__(
        self, classes: Sequence[str] = (), counts: Sequence[int] = (), column: str = "label"
    ) -> None:
        self.classes = list(classes)
        self.counts = list(counts) or [1] * len(self.classes)
        self.column = column
        self.columns: Sequence[str] = (column,)
        self._index = {name: number for number, name in enumerate(self.classes)}
        self._seen = [number for number, count in enumerate(self.counts) if count]
        self._place = {number: place for place, number in enumerate(self._seen)}

    @property
    def width(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    def fit(self, y: Sequence[Any]) -> Label:
        """A Label that knows the class names of y and their counts."""
        counts = Counter(str(value) for value in y)
        names = sorted(counts, key=natural)
        return Label(names, [counts[name] for name in names], self.column)

    def learned(self, y: Sequence[Any]) -> Label:
        """The same classes, drawn as often as they are in y. Raises UsageError for an unknown class."""
        counts = Counter(self.index(value) for value in y)
        saved = {
            **arguments(self.to_json()),
            "counts": [counts[number] for number in range(len(self.classes))],
        }
        return type(self)(**saved)

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """One-hot vectors (N, K). Raises UsageError for an unknown class."""
        rows = torch.tensor([self.index(value) for value in y], dtype=torch.long)
        vec = torch.nn.functional.one_hot(rows, self.width).float()  # (N, K)
        return Cond(vec, torch.zeros(len(rows), 0, *spatial))

    def index(self, value: Any) -> int:
        """The number of a class. Raises UsageError with the nearest known name."""
        name = str(value)
        if name in self._index:
            return self._index[name]
        if (known := meant(name, self.classes)) is None:
            raise no_class(name, self.classes)
        return self._index[known]

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n classes with the frequencies of the data."""
        share = np.asarray(self.counts, float)
        return [self.classes[i] for i in rng.choice(self.width, n, p=share / share.sum())]

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each class another one that was seen, uniformly. Raises UsageError when there is only one."""
        seen = self._seen
        if len(seen) < 2:
            raise UsageError("A wrong class needs at least two classes; this data set has one.")
        step = rng.integers(1, len(seen), len(y))
        # A class that was not seen differs from all seen ones, wherever the count starts.
        own = [self._place.get(self.index(value), 0) for value in y]
        return [self.classes[seen[(i + s) % len(seen)]] for i, s in zip(own, step, strict=True)]

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """All zeros: no class is named."""
        return Cond(torch.zeros(n, self.width), torch.zeros(n, 0, *spatial))

    def groups(self, y: Sequence[Any]) -> list[str]:
        """The class names themselves."""
        return [str(value) for value in y]

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """The class itself. Raises UsageError for an unknown one."""
        return self.classes[self.index(group)]

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n times the given class, by its exact name; drawn where none is given.

        given    {its column or "label": the name of a class}
        outside  means nothing here: a class that was never seen cannot be told to a model
        Raises UsageError for an unknown column or class.
        """
        found = resolve(given, self.columns, "label")
        if not found:
            return self.draw(n, rng)
        return [self.classes[self.index(found[self.column])]] * n

    def to_json(self) -> dict[str, Any]:
        """The classes and their counts, and the column where it is not "label"."""
        saved = {"name": self.name, "classes": self.classes, "counts": self.counts}
        return saved if self.column == "label" else {**saved, "column": self.column}


def natural(name: str) -> tuple[int, float, str]:
    """A sort key: numbers first and as numbers, then names."""
    return (0, float(name), name) if name.isdecimal() else (1, 0.0, name)
