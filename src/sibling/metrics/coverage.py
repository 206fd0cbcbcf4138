"""Are the generated samples real-looking, and do they cover what is real? Nearest-neighbour metrics.

A real ball is centred on a real sample and reaches to its k-th nearest other real sample; a fake ball
likewise among the fakes. k = 5, or N - 1 where there are fewer samples. A point on the rim is inside
(as in Kynkäänniemi et al.), so that sets with equal points are treated sensibly.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .points import nearest_radii, pair, row_chunks, squared_distances

__all__ = ["Coverage", "Density", "Precision", "Recall"]

NEIGHBOURS = 5


def _centred(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    left, right = pair(real, fake)
    # distances do not change with a common shift, but their rounding error does
    centre = left.mean(dim=0) if len(left) else 0.0
    return left - centre, right - centre


def _hits(centres: Tensor, points: Tensor, chunk: int | None) -> tuple[Tensor, Tensor, int]:
    """How many balls hold each point (P,), whether each ball holds a point (Q,), and k.

    centres: (Q, F) with Q >= 2; the balls' radii are measured among them
    points: (P, F)
    chunk: points at a time
    """
    k = min(NEIGHBOURS, len(centres) - 1)
    radii = nearest_radii(centres, k, chunk)
    counts = torch.empty(len(points), dtype=torch.int64)
    used = torch.zeros(len(centres), dtype=torch.bool)
    for rows in row_chunks(len(points), len(centres), chunk):
        inside = squared_distances(points[rows], centres) <= radii
        counts[rows] = inside.sum(dim=1)
        used |= inside.any(dim=0)
    return counts, used, k


class _Neighbours:
    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk


class Precision(_Neighbours):
    """Share of the FAKE samples that lie in the ball of at least one REAL sample.

    A generator that repeats one perfect sample reaches 1: read it together with recall. For two
    samples of one distribution it is near .85 to .95, not 1, so it needs its floor too.

    chunk: rows at a time; default None bounds a block of distances to 32 MB

    Source: Kynkäänniemi et al., "Improved precision and recall metric" (2019), with k = 5.
    """

    name = "precision"
    goal: Literal["min", "max"] = "max"
    range = (0.0, 1.0)
    meaning = "Share of the generated samples that look like real ones."

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The share, in [0, 1]; nan with fewer than 2 real samples or no fake.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = _centred(real, fake)
        if len(left) < 2 or len(right) < 1:
            return float("nan")
        counts, _, _ = _hits(left, right, self.chunk)
        return float((counts > 0).double().mean())


class Recall(_Neighbours):
    """Share of the REAL samples that lie in the ball of at least one FAKE sample.

    One far-off fake has a huge ball, so a few bad samples can raise recall: coverage cannot be fooled
    that way.

    chunk: rows at a time; default None bounds a block of distances to 32 MB

    Source: Kynkäänniemi et al., "Improved precision and recall metric" (2019), with k = 5.
    """

    name = "recall"
    goal: Literal["min", "max"] = "max"
    range = (0.0, 1.0)
    meaning = "Share of the real samples that the generated ones could have produced."

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The share, in [0, 1]; nan with fewer than 2 fake samples or no real one.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = _centred(real, fake)
        if len(left) < 1 or len(right) < 2:
            return float("nan")
        counts, _, _ = _hits(right, left, self.chunk)
        return float((counts > 0).double().mean())


class Density(_Neighbours):
    """How many REAL balls hold a FAKE sample, on average, as a share of k.

    About 1 for two samples of one distribution; more where the fakes crowd into the densest places.

    chunk: rows at a time; default None bounds a block of distances to 32 MB

    Source: Naeem et al., "Reliable fidelity and diversity metrics" (2020), with k = 5.
    """

    name = "density"
    goal: Literal["min", "max"] = "max"
    range = (0.0, float("inf"))
    meaning = "How close the generated samples are to the real crowd; 1 is what real samples reach."

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The mean, >= 0; nan with fewer than 2 real samples or no fake.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = _centred(real, fake)
        if len(left) < 2 or len(right) < 1:
            return float("nan")
        counts, _, k = _hits(left, right, self.chunk)
        return float(counts.double().mean() / k)


class Coverage(_Neighbours):
    """Share of the REAL samples with at least one FAKE sample in their own ball.

    Grows with the number of fakes: compare only at equal numbers, and with its floor.

    chunk: rows at a time; default None bounds a block of distances to 32 MB

    Source: Naeem et al., "Reliable fidelity and diversity metrics" (2020), with k = 5.
    """

    name = "coverage"
    goal: Literal["min", "max"] = "max"
    range = (0.0, 1.0)
    meaning = "Share of the real samples that have a generated one close by."

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The share, in [0, 1]; nan with fewer than 2 real samples or no fake.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = _centred(real, fake)
        if len(left) < 2 or len(right) < 1:
            return float("nan")
        _, used, _ = _hits(left, right, self.chunk)
        return float(used.double().mean())
