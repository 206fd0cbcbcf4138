"""How much work the verdict may cost: three sizes, from a first look to what a referee would ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["EFFORTS", "Effort"]

LONG = 800  # optimiser steps of a training that is repeated no more often than it must be


@dataclass(frozen=True)
class Effort:
    """One size of the protocol.

    seeds          trainings of each rival and of the candidate, at least; more where each is short
    most_seeds     at most so many
    control_seeds  trainings of controls and references
    decays         weight decays that are tried on val
    batches        batch sizes that are tried, as shares of the usual one
    own_rates      learning rates that are tried for a recogniser of the user's own
    strengths      of classic augmentation that are tried
    mixes          1 = mixup alone, 2 = CutMix too
    ratios         synthetic samples a real one that are tried; all of them always are. With rare classes all of them,
                   and 10 or 1 for each real one of those, are tried instead
    steps          factor of the optimiser steps
    folds          of cross-validation where the test part is too small; 0 = none
    repeats        of that cross-validation
    splits         further splits, each with a generator of its own, where the test part is large enough
    curve          whether the learning curve is measured where synthetic samples help
    """

    name: str
    seeds: int
    most_seeds: int
    control_seeds: int
    decays: tuple[float, ...]
    batches: tuple[float, ...]
    own_rates: tuple[float, ...]
    strengths: tuple[float, ...]
    mixes: int
    ratios: tuple[float, ...]
    steps: float
    folds: int
    repeats: int
    splits: int
    curve: bool

    def but(self, **changes: Any) -> Effort:
        """The same with some numbers changed."""
        return replace(self, **changes)

    def for_folds(self) -> Effort:
        """What one of several splits gets: the splits show the spread that seeds would show."""
        return self.but(
            seeds=min(2, self.seeds), most_seeds=min(2, self.most_seeds), control_seeds=1, decays=self.decays[:2],
            batches=self.batches[-1:], strengths=(0.25, 0.75), mixes=1, ratios=(1.0,),
        )  # fmt: skip

    def for_steps(self, steps: int) -> Effort:
        """As many seeds as the same work allows: seeds are the cheapest way to a narrower interval."""
        return self.but(seeds=max(self.seeds, min(self.most_seeds, round(self.seeds * LONG / max(1, steps)))))

    def trainings(self, imbalanced: bool, *, own: bool, pseudo: bool = False) -> int:
        """How many recognisers one split needs at most."""
        grid = len(self.decays) * len(self.batches) * (len(self.own_rates) if own else 1)
        tuning = sum(
            n
            for n in (
                grid,
                len(self.strengths),
                self.mixes * (1 + imbalanced),
                len(self.strengths) + 1,
                9 if imbalanced else 2 * (len(self.ratios) + 1),
                2,
            )
            if n > 1
        )
        return tuning + self.seeds * (5 + 2 * imbalanced + pseudo) + 2 * min(self.seeds, self.control_seeds)


EFFORTS = {
    "quick": Effort(
        "quick", seeds=2, most_seeds=4, control_seeds=1, decays=(0.02,), batches=(1.0,), own_rates=(1e-3,),
        strengths=(0.25, 0.75), mixes=1, ratios=(1.0,), steps=0.75, folds=0, repeats=0, splits=0, curve=False,
    ),
    "default": Effort(
        "default", seeds=3, most_seeds=8, control_seeds=2, decays=(0.02, 0.2), batches=(0.25, 1.0), own_rates=(3e-4, 2e-3),
        strengths=(0.0, 0.25, 0.5, 1.0), mixes=2, ratios=(0.5, 1.0, 2.0), steps=1.5, folds=5, repeats=1,
        splits=0, curve=True,
    ),
    "thorough": Effort(
        "thorough", seeds=5, most_seeds=12, control_seeds=3, decays=(0.005, 0.02, 0.1, 0.5), batches=(0.25, 0.5, 1.0),
        own_rates=(1e-4, 3e-4, 1e-3, 3e-3), strengths=(0.0, 0.25, 0.5, 0.75, 1.0), mixes=2,
        ratios=(0.25, 0.5, 1.0, 2.0, 4.0), steps=2.0, folds=5, repeats=2, splits=2, curve=True,
    ),
}  # fmt: skip
