"""What filters measure with: the real samples of a run, and the synthetic ones that are looked at."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from ..dataset import Dataset, kinds_of
from ..judge import (
    CrossFitted,
    NearestReal,
    Numbers,
    cross_recognisers,
    cross_regressors,
    folds_within,
    judged_rows,
)
from ..metrics.agreement import FALSE_ALARMS
from ..metrics.features import RandomFeatures
from ..metrics.memorisation import Nearest
from ..snapshot import Snapshot

__all__ = ["LEAST", "Real", "Seen", "tail"]

LEAST = 20  # held-out real samples, below which their extremes say nothing


class Real:
    """The real samples of a run; what more than one filter needs is made once, when it is first asked for.

    snapshot  the run
    seed      of all that is trained
    """

    def __init__(self, snapshot: Snapshot, seed: int) -> None:
        self.snapshot = snapshot
        self.seed = seed
        self.data: Dataset = snapshot.data
        self.train, self.val = self.data.rows("train", "real"), self.data.rows("val", "real")
        self.numbers = Numbers.of(self.data)
        kinds = kinds_of(self.data.condition)
        self.columns = [column for column, kind in kinds.items() if kind == "value"]
        self.has_classes = len(self.numbers.names) > 1 and bool({"label", "labels"} & {*kinds.values()})
        self.network = RandomFeatures(self.data.shape)

    @cached_property
    def nearest(self) -> NearestReal:
        """Looks up the nearest training sample, of all that the generator has learned from."""
        return NearestReal(self.snapshot.learned, self.network)

    @cached_property
    def held_out(self) -> Nearest:
        """The nearest training samples of real val samples."""
        return self.nearest.held_out("val")

    @cached_property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(learned from, left out): rows of the train part for cross-fitting."""
        return folds_within(self.data, self.train, self.seed)

    @cached_property
    def recognisers(self) -> CrossFitted | None:
        """Cross-fitted recognisers of the classes; None without two classes or with too few samples."""
        if not self.has_classes or len(self.train) < LEAST:
            return None
        return cross_recognisers(self.data, self.folds, self.seed)

    @cached_property
    def regressors(self) -> CrossFitted | None:
        """Cross-fitted regressors of the numbers in y; None where there are none, or too few samples."""
        if not self.columns or len(self.train) < LEAST:
            return None
        return cross_regressors(self.data, self.folds, self.columns, self.seed)


class Seen:
    """N synthetic samples that are looked at.

    fakes    the samples
    kept     earlier ones that stay
    rows     (N,) their row numbers
    judged   those whose class is known
    claimed  their class numbers
    staying  (N,) bool, those that no filter has found yet

    Raises BadInput for a class that the run does not know.
    """

    def __init__(self, fakes: Dataset, kept: Dataset, real: Real) -> None:
        self.fakes = fakes
        self.kept = kept
        self.real = real
        self.rows = np.arange(len(fakes))
        self.judged = judged_rows(fakes)
        self.claimed = real.numbers(fakes, self.judged)
        self.staying = np.ones(len(fakes), bool)

    @cached_property
    def inside(self) -> np.ndarray:
        """Positions within `judged` of the samples whose y does not lie outside of what was seen."""
        outside = [bool(self.fakes.table["info"][i].get("outside")) for i in self.judged]
        return np.flatnonzero(~np.array(outside, bool))

    @cached_property
    def near(self) -> Nearest:
        """The nearest training sample of each."""
        return self.real.nearest(self.fakes, self.rows)


def tail(values: np.ndarray, rate: float = FALSE_ALARMS, *, upper: bool) -> float:
    """The limit that at most this share of the values lies beyond: strictly above, or strictly below it.

    values  (n,) of held-out real samples; nan are left out
    rate    with fewer than 1 / rate values the limit is their largest, or their smallest
    upper   whether what is large is bad
    Infinite, so that nothing lies beyond, where there are no values.
    """
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return math.inf if upper else -math.inf
    beyond = math.floor(rate * len(known))
    return float(known[len(known) - 1 - beyond] if upper else known[beyond])
