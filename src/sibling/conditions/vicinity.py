"""Vicinal training pairs for y that is a number: a real sample stands for the values around its own.

Few samples have exactly the wanted number, so a discriminator is told a target near a real value, and sees
a real sample from the target's vicinity; the generator is told a number from the same vicinity.
Source: Ding et al. 2021, "CcGAN: continuous conditional generative adversarial networks" (arXiv 2011.07466);
the k-NN vicinity after Ding et al. 2025 (arXiv 2508.01725), which enlarges it until it holds enough samples.

All numbers here are scaled to [0, 1] by the seen range of their name; N samples, D numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from ..registry import suggest

__all__ = ["KINDS", "Vicinity", "bandwidth", "kappa", "radius", "soft_weights"]

KINDS = ("nearest", "hard", "soft")
_LEAST_WEIGHT = 1e-3  # CcGAN drops pairs below
_LEAST_NEIGHBOURS = 8
_TRIES = 10  # targets that are drawn for an anchor before it becomes the target itself


def bandwidth(values: np.ndarray, seen: int | None = None) -> np.ndarray:
    """sigma = 1.06 std n^(-1/5), Silverman's rule of thumb, of each column.

    values  (N,) or (N, D)
    seen    n where `values` are a part of more; None = N
    returns () or (D,)
    """
    n = seen or max(1, len(values))
    return np.asarray(1.06 * np.std(values, axis=0) * n ** (-1 / 5))


def kappa(values: np.ndarray) -> float:
    """The largest gap between neighbouring unique values, (N,) or (N, D).

    Of several columns the Euclidean length of their gaps, so that the ball holds a step in each of them.
    """
    gaps = [float(np.diff(np.unique(column)).max(initial=0.0)) for column in _columns(values).T]
    return math.hypot(*gaps)


def soft_weights(values: np.ndarray, target: np.ndarray | float, nu: float) -> np.ndarray:
    """exp(-nu d^2) for each of values (N,) or (N, D) at distance d from the target; 0 below 1e-3."""
    weights = np.exp(-nu * _distances(_columns(values), target) ** 2)
    return np.where(weights < _LEAST_WEIGHT, 0.0, weights)


def radius(values: np.ndarray, target: np.ndarray | float, neighbours: int) -> float:
    """The distance from the target to its `neighbours`-th nearest of values (N,) or (N, D); the farthest of fewer."""
    distances = _distances(_columns(values), target)
    last = min(neighbours, len(distances)) - 1
    return float(np.partition(distances, last)[last])


def _columns(values: np.ndarray) -> np.ndarray:
    return values[:, None] if values.ndim == 1 else values


def _distances(values: np.ndarray, target: np.ndarray | float) -> np.ndarray:
    away = values - target  # (N, D)
    return np.abs(away[:, 0]) if values.shape[1] == 1 else np.sqrt(np.einsum("nd,nd->n", away, away))


class Vicinity:
    """Pairs of a target and a real sample near it, over the N real training values.

    kind   "nearest": up to the distance of the max(8, sqrt(n))-th nearest of the n samples that can be paired;
           "hard": up to kappa; "soft": all with a weight exp(-nu d^2) of at least 1e-3, nu = 1 / kappa^2
    sigma  (D,) the spread of targets around their anchor
    kappa  the largest gap between neighbouring values
    nu     1 / kappa^2
    """

    def __init__(
        self,
        values: np.ndarray,
        others: Sequence[Hashable],
        make: Callable[[int, np.ndarray], Any],
        kind: str = "nearest",
    ) -> None:
        """values (N, D) scaled; others (N,) what else y says: only samples that agree in it are paired;
        make(anchor, numbers (D,)) the y with these numbers and all else from the anchor.
        Raises UsageError for an unknown kind and for no values."""
        if kind not in KINDS:
            raise UsageError(f"There is no vicinity {kind!r}.{suggest(kind, list(KINDS))}")
        if len(values) == 0:
            raise UsageError("A vicinity needs at least one training sample with a number; there is none.")
        self.kind = kind
        self.values = _columns(np.asarray(values, np.float64))
        self.sigma = bandwidth(self.values)
        self.kappa = kappa(self.values)
        self.nu = 1 / self.kappa**2 if self.kappa > 0 else 0.0
        self._make = make
        self._low, self._high = self.values.min(0), self.values.max(0)
        alike: dict[Hashable, list[int]] = {}
        for row, other in enumerate(others):
            alike.setdefault(other, []).append(row)
        self._part = np.empty(len(self.values), np.int64)  # which of `_alike` each sample is in
        self._alike: list[tuple[np.ndarray, np.ndarray]] = []  # rows that can be paired, and their values
        for number, rows in enumerate(alike.values()):
            # Sorted by the first number: a vicinity is then a window, found without looking at all samples.
            ordered = np.array(rows)[np.argsort(self.values[rows, 0], kind="stable")]
            self._alike.append((ordered, self.values[ordered]))
            self._part[rows] = number

    def draw(
        self, anchors: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[Any], np.ndarray, list[Any], np.ndarray]:
        """One training pair for each anchor.

        anchors  (n,) row numbers of the training values
        returns  targets: n y, the anchor's numbers + N(0, sigma^2) within the seen range;
                 rows: (n,) a real sample in the vicinity of each target;
                 made: n y, uniform in the same vicinity and within the seen range: what the fake is told. Of a
                 "soft" one with the density of its weights: the real of a pair counts by exp(-nu d^2), and a
                 fake that was drawn uniformly would be told farther numbers than the real ones that count
                 weight: float32 (n,) of the pairs, 1 unless the kind is "soft"
        """
        n, width = len(anchors), self.values.shape[1]
        numbers, rows = np.empty((n, width)), np.empty(n, np.int64)
        reach, weight = np.empty(n), np.ones(n, np.float32)
        for i, anchor in enumerate(anchors):
            numbers[i], rows[i], reach[i] = self._pair(int(anchor), rng)
            if self.kind == "soft":
                weight[i] = soft_weights(self.values[rows[i]][None], numbers[i], self.nu)[0]
        told = self._clip(numbers + self._away(reach, rng))
        targets = [self._make(int(a), row) for a, row in zip(anchors, numbers, strict=True)]
        made = [self._make(int(a), row) for a, row in zip(anchors, told, strict=True)]
        return targets, rows, made, weight

    def _pair(self, anchor: int, rng: np.random.Generator) -> tuple[np.ndarray, int, float]:
        """A target, a real row in its vicinity, and how far that vicinity reaches."""
        part, own = int(self._part[anchor]), self.values[anchor]
        # Alone with its label or map: no other sample stands for it, so its number is not moved either.
        tries = _TRIES if len(self._alike[part][0]) > 1 else 0
        for _ in range(tries):
            target = self._clip(own + rng.normal(0.0, self.sigma))
            near, reach = self._near(part, target)
            if len(near):
                return target, int(near[rng.integers(len(near))]), reach
        near, reach = self._near(part, own)
        return own, int(near[rng.integers(len(near))]), reach

    def _near(self, part: int, target: np.ndarray) -> tuple[np.ndarray, float]:
        """The rows in the vicinity of the target, and how far it reaches."""
        rows, values = self._alike[part]
        reach = self._reach(values, target)
        slack = reach * (1 + 1e-9) + 1e-12  # what rounding could cut off is judged by its distance below
        start = np.searchsorted(values[:, 0], target[0] - slack)
        stop = np.searchsorted(values[:, 0], target[0] + slack, side="right")
        rows, values = rows[start:stop], values[start:stop]
        if self.kind == "soft":
            return rows[soft_weights(values, target, self.nu) > 0], reach
        return rows[_distances(values, target) <= reach], reach

    def _reach(self, values: np.ndarray, target: np.ndarray) -> float:
        if self.kind == "hard":
            return self.kappa
        if self.kind == "soft":
            return self.kappa * math.sqrt(-math.log(_LEAST_WEIGHT))  # where exp(-nu d^2) = 1e-3
        neighbours = max(_LEAST_NEIGHBOURS, math.isqrt(len(values)))
        if values.shape[1] == 1:  # the nearest are among so many on either side
            middle = int(np.searchsorted(values[:, 0], target[0]))
            values = values[max(0, middle - neighbours) : middle + neighbours]
        return radius(values, target, neighbours)

    def _away(self, reach: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """How far what fakes are told lies from each target (n, D), within these reaches (n,)."""
        shape = len(reach), self.values.shape[1]
        if self.kind != "soft":
            return np.asarray(_ball(*shape, rng) * reach[:, None])
        away = rng.normal(0.0, self.kappa / math.sqrt(2), shape)  # exp(-nu d^2) is a normal density
        length = np.linalg.norm(away, axis=1, keepdims=True)
        return np.asarray(away * np.minimum(1.0, reach[:, None] / np.maximum(length, 1e-300)))

    def _clip(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(numbers, self._low, self._high))


def _ball(n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """n points uniform in the unit ball of `width` dimensions, (n, width)."""
    if width == 1:
        return rng.uniform(-1, 1, (n, 1))
    away = rng.normal(size=(n, width))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(away * rng.random((n, 1)) ** (1 / width))
