"""off-manifold: in feature space far from the real samples of its own class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..dataset import Dataset
from ..judge import MOST_HELD, MOST_TRAIN, fetcher, most_rows
from ..metrics.agreement import FALSE_ALARMS
from ..metrics.features import in_batches
from ..metrics.points import row_chunks, squared_distances
from ..spaces.recogniser import Measured
from . import Filter, Finding, Idle
from .basis import LEAST, Real, Seen, tail

__all__ = ["OffManifold", "build"]

NEIGHBOURS = 5  # the k-th nearest, or the furthest of a smaller class: one outlier in train excuses nothing
LEAST_OF_CLASS = 10  # held-out samples, below which a class has the scale of all together
MEANING = (
    "Samples that lie where no real sample of their class lies: blurred, broken, or between two classes."
)

Network = Callable[[torch.Tensor], torch.Tensor]


class _Space:
    """Distances to the k-th nearest training sample of the own class, in one feature space.

    networks  one a fold: the distances of a fold's network are measured to the samples that it has learned
              from, for held-out real samples and for fakes alike, or the limit would be that of another measure
    """

    def __init__(self, name: str, networks: Sequence[Network], real: Real) -> None:
        self.name = name
        self.networks = networks
        self.real = real
        data = real.data
        self.known = [
            _by_class(real, rows, _features(network, data, rows))
            for network, (seen, _) in zip(networks, real.folds, strict=True)
            for rows in [most_rows(seen, MOST_TRAIN, "manifold", "train")]
        ]
        left = [
            (fold, most_rows(rows, MOST_HELD, "manifold", "left"))
            for fold, (_, rows) in enumerate(real.folds)
        ]
        classes = np.concatenate([real.numbers(data, rows) for _, rows in left])
        own = np.concatenate([self._distance(fold, data, rows) for fold, rows in left])
        typical = float(np.nanmedian(own)) if np.isfinite(own).any() else 0.0
        self.scale = np.full(len(real.numbers.names), typical)
        for c in range(len(self.scale)):
            here = own[(classes == c) & np.isfinite(own)]
            if len(here) >= LEAST_OF_CLASS and np.median(here) > 0:
                self.scale[c] = np.median(here)
        self.scale[self.scale <= 0] = 1.0
        val = most_rows(real.val, MOST_HELD, "manifold", "val")
        self.held = np.concatenate([own / self.scale[classes], self(data, val, real.numbers(data, val))])
        self.held = self.held[np.isfinite(self.held)]

    def __call__(self, source: Dataset, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(n,) the mean distance over the folds; 1 is typical of a held-out real sample of the class."""
        if not len(rows):
            return np.zeros(0)
        several = len({id(network) for network in self.networks}) > 1
        shared = None if several else _features(self.networks[0], source, rows)
        each = [self._distance(fold, source, rows, shared) for fold in range(len(self.networks))]
        mean: np.ndarray = np.mean(each, 0) / self.scale[classes]
        return mean

    def _distance(
        self, fold: int, source: Dataset, rows: np.ndarray, features: torch.Tensor | None = None
    ) -> np.ndarray:
        """(n,) to the k-th nearest of the own class among what this fold has learned from; nan without any."""
        features = _features(self.networks[fold], source, rows) if features is None else features
        classes = self.real.numbers(source, rows)
        out = np.full(len(rows), math.nan)
        for c in np.unique(classes).tolist():
            known = self.known[fold].get(c)
            here = np.flatnonzero(classes == c)
            if known is None:
                continue
            centre = known.mean(0)  # small numbers: the distance is a difference of squares
            for part in row_chunks(len(here), len(known)):
                block = squared_distances(features[here[part]] - centre, known - centre)
                nearest = block.topk(min(NEIGHBOURS, len(known)), largest=False).values[:, -1]
                out[here[part]] = nearest.sqrt().numpy()
        return out


def _features(network: Network, source: Dataset, rows: np.ndarray) -> torch.Tensor:
    """(n, F) float64."""
    return in_batches(network, fetcher(source, rows), len(rows)).double()


def _by_class(real: Real, rows: np.ndarray, features: torch.Tensor) -> dict[int, torch.Tensor]:
    classes = real.numbers(real.data, rows)
    return {c: features[np.flatnonzero(classes == c)] for c in np.unique(classes).tolist()}


class OffManifold:
    """The distance to the k-th nearest training sample of the own class, where random convolutions see it and
    where cross-fitted recognisers (regressors, where y is a number) do; too far in either is too far.

    The allowed false alarms are shared out among the spaces, so that together they keep to 2 %.
    """

    name = "off-manifold"
    meaning = MEANING
    last = False

    def __init__(self, real: Real) -> None:
        judges = real.recognisers or real.regressors
        self.spaces = [_Space("random", [real.network] * len(real.folds), real)]
        if judges is not None:
            self.spaces.append(_Space("recogniser", [Measured(one, "") for one in judges.networks], real))
        rate = FALSE_ALARMS / len(self.spaces)
        self.limits = [tail(space.held, rate, upper=True) for space in self.spaces]
        self.count = min(len(space.held) for space in self.spaces)
        self.limit: float | None = 1.0
        self.calibrated_on = f"{self.count} held-out real samples (folds of train, and val)"
        shown = ", ".join(f"{lim:.2f} ({s.name})" for s, lim in zip(self.spaces, self.limits, strict=True))
        self.rule = (
            f"its distance to the {NEIGHBOURS}th nearest training sample of its class is above the limit of a feature "
            f"space, in units of what is typical of held-out real samples: {shown}. {1 - rate:.0%} of {self.count} "
            "held-out real samples lie within each limit; as a score, the distance over the limit"
        )

    def look(self, seen: Seen) -> Finding:
        """Samples beyond a limit; those of no class that was seen, or with numbers outside, are let pass."""
        found = Finding(np.zeros(len(seen.rows), bool))
        rows = seen.judged[seen.inside]
        score = np.full(len(seen.rows), math.nan)
        for space, limit in zip(self.spaces, self.limits, strict=True):
            distance = space(seen.fakes, rows, seen.claimed[seen.inside])
            score[rows] = np.fmax(score[rows], distance / limit if limit > 0 else distance)
            for at in np.flatnonzero(distance > limit).tolist():
                found.wrong[rows[at]] = True
                found.why.setdefault(
                    int(rows[at]),
                    f"{distance[at]:.2f} times as far from the real samples of its class as is typical, in the "
                    f"{space.name} features (limit {limit:.2f})",
                )
        found.scores["manifold"] = score
        return found


def build(real: Real) -> Filter:
    """The filter for this run; idle with too few samples to learn from or to hold out."""
    if len(real.train) >= LEAST and real.folds:
        made = OffManifold(real)
        if made.count >= LEAST:
            return made
    return Idle(
        "off-manifold", MEANING, f"not looked at (it needs {LEAST} training samples, some of each class)"
    )
