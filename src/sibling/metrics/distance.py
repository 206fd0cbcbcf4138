"""How far apart are two sets of features? Kernel distance (KD, "KID") and Fréchet distance (FD, "FID")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .points import pair, row_chunks, shuffled

__all__ = ["FrechetDistance", "FrechetInfinity", "KernelDistance"]

SIZES = 15  # sample sizes that the distance is extrapolated from
SMALLEST = 0.25  # the smallest of them, as a share of what is there
LEAST_TO_EXTRAPOLATE = 10  # samples: a quarter of fewer has no covariance


class KernelDistance:
    """Unbiased squared maximum mean discrepancy with the cubic kernel (<a, b> / F + 1)^3.

    Unbiased at every sample size: the mean over many pairs of samples of one distribution is 0, so
    single values are negative about half of the time then. That makes it the distance to prefer for
    small sets. Memory is bounded (blocks of 32 MB) and time grows as (N + M)^2 F: about 2 s on one
    core for 10,000 against 10,000 at F = 64.

    chunk: rows of the kernel matrix at a time; default None bounds a block to 32 MB

    Source: Binkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs" (2018), equation 4.
    """

    name = "kernel_distance"
    goal: Literal["min", "max"] = "min"
    range = (-float("inf"), float("inf"))
    meaning = "How different real and generated samples are on the whole; 0 or less: no difference found."

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The distance; no unit, may be negative; nan with fewer than 2 samples on a side.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = pair(real, fake)
        n, m = len(left), len(right)
        if n < 2 or m < 2:
            return float("nan")
        within_real = self._kernel_sum(left, left) - _kernel_diagonal(left)
        within_fake = self._kernel_sum(right, right) - _kernel_diagonal(right)
        across = self._kernel_sum(left, right)
        return within_real / (n * (n - 1)) + within_fake / (m * (m - 1)) - 2.0 * across / (n * m)

    def _kernel_sum(self, left: Tensor, right: Tensor) -> float:
        total = 0.0
        for rows in row_chunks(len(left), len(right), self.chunk):
            base = (left[rows] @ right.T).div_(left.shape[1]).add_(1.0)
            # x^3 by two products: torch.pow with an exponent of 3 is many times slower.
            total += float((base * base).mul_(base).sum())
        return total


def _kernel_diagonal(points: Tensor) -> float:
    return float((points.square().sum(dim=1) / points.shape[1] + 1.0).pow(3).sum())


class FrechetDistance:
    """Squared Fréchet distance between two normal distributions fitted to the features.

    |mu_R - mu_F|^2 + tr(S_R + S_F - 2 (S_R^1/2 S_F S_R^1/2)^1/2), by two symmetric eigenvalue
    problems, which cannot turn complex as the root of S_R S_F can.

    It needs a floor beside it: the value is biased upwards by the finite samples. Two samples of the
    SAME distribution give, as a share of the total variance, .20 with 100 points at F = 64 and .49 at
    F = 256; at 1,000 points still .020 and .061. A value means nothing without the value between two
    real sets of the same sizes (`score(..., floor_pair=...)`), and few samples need few dimensions
    (`project`).

    Source: Dowson and Landau (1982); Heusel et al., "GANs trained by a two time-scale update rule"
    (2017).
    """

    name = "frechet_distance"
    goal: Literal["min", "max"] = "min"
    range = (0.0, float("inf"))
    meaning = "How different mean and spread are; never 0 for small sets, so read it against its floor."
    samples_a_feature = 10  # with fewer the covariances are mostly error

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The distance, in squared feature units, >= 0; nan with fewer than 2 samples on a side.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = pair(real, fake)
        if len(left) < 2 or len(right) < 2:
            return float("nan")
        return max(0.0, _frechet(left, right))


class FrechetInfinity:
    """The Fréchet distance that endless samples would have: regressed on 1 / n, read off at 0.

    The bias of FrechetDistance falls as 1 / n. So the distance is measured at 15 sizes, from a quarter of the
    samples of both sides to all of them, each as a mean over disjoint subsets, and a straight line through
    them is followed to 1 / n = 0. Two samples of one distribution give about 0, on either side of it, but with more
    noise than the kernel distance has.

    Source: Chong and Forsyth, "Effectively unbiased FID and Inception Score" (2020), with random subsets of
    both sides, since here the real side is small too.
    """

    name = "frechet_infinity"
    goal: Literal["min", "max"] = "min"
    range = (-float("inf"), float("inf"))
    meaning = (
        "The Fréchet distance without the part that comes from few samples; 0 or less: no difference found."
    )
    draws = 40  # each measures the distance at 15 sizes
    samples_a_feature = 10

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The distance, in squared feature units, may be negative; nan with fewer than 10 samples on a side.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = pair(real, fake)
        if min(len(left), len(right)) < LEAST_TO_EXTRAPOLATE:
            return float("nan")
        left, right = shuffled(left), shuffled(right)
        inverse, value = [], []
        for share in torch.linspace(SMALLEST, 1.0, SIZES).tolist():
            n, m = max(2, round(share * len(left))), max(2, round(share * len(right)))
            blocks = min(len(left) // n, len(right) // m)
            found = [_frechet(left[i * n : (i + 1) * n], right[i * m : (i + 1) * m]) for i in range(blocks)]
            inverse.append(1 / n + 1 / m)
            value.append(sum(found) / blocks)
        x, y = torch.tensor(inverse, dtype=torch.float64), torch.tensor(value, dtype=torch.float64)
        away = x - x.mean()
        slope = float((away * y).sum() / away.square().sum())
        return float(y.mean()) - slope * float(x.mean())


def _frechet(left: Tensor, right: Tensor) -> float:
    """The squared distance of the two normal distributions; up to rounding >= 0."""
    shift = left.mean(dim=0) - right.mean(dim=0)
    cov_real, cov_fake = _covariance(left), _covariance(right)
    values, vectors = torch.linalg.eigh(cov_real)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    inner = root @ cov_fake @ root
    # (inner + inner.T) / 2: eigvalsh reads one triangle only and the product is symmetric up to rounding
    overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0.0).sqrt().sum()
    value = shift.square().sum() + cov_real.trace() + cov_fake.trace() - 2.0 * overlap
    return float(value)


def _covariance(points: Tensor) -> Tensor:
    centred = points - points.mean(dim=0)
    return centred.T @ centred / (len(points) - 1)
