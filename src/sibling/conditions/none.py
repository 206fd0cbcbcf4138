"""There is no y: p(x), not p(x | y)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..types import Cond
from .columns import no_class

__all__ = ["Unconditional"]


class Unconditional:
    """K = 0 and M = 0. Every sample is of one group, called "all"."""

    name = "none"
    width = 0
    channels = 0
    classes: Sequence[str] = ("all",)
    columns: Sequence[str] = ()
    unambiguous = False

    def fit(self, y: Sequence[Any]) -> Unconditional:
        """Nothing to learn."""
        return self

    def learned(self, y: Sequence[Any]) -> Unconditional:
        """Nothing to learn."""
        return self

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """Empty vectors (N, 0)."""
        return self.null(len(y), spatial)

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n times None."""
        return [None] * n

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """Raises UsageError: without y there is no wrong y."""
        raise UsageError("These samples have no y, so there is no wrong y either.")

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """Empty vectors (N, 0)."""
        return Cond(torch.zeros(n, 0), torch.zeros(n, 0, *spatial))

    def groups(self, y: Sequence[Any]) -> list[str]:
        """All in one group."""
        return ["all"] * len(y)

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """None. Raises UsageError for another group than "all"."""
        if group != "all":
            raise no_class(group, self.classes)

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n times None. Raises UsageError where anything is given."""
        if given:
            raise UsageError(
                f"These samples have no y, so {', '.join(map(repr, given))} cannot be given. "
                "Leave --given (given=) out, or read samples with labels."
            )
        return [None] * n

    def to_json(self) -> dict[str, Any]:
        """The name alone."""
        return {"name": self.name}
