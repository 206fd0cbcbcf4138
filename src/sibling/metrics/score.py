"""A metric with what is needed to judge it: an interval, a floor, and its value in each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UsageError
from ..types import Metric, Score
from .intervals import Z95, wilson
from .points import checked, pair

__all__ = ["project", "score"]

HALF = 500  # at most this many points a side in one draw: half of 1,000
CLASS_MIN = 10  # samples of a class on each side, below which its own value is noise


def score(
    metric: Metric,
    *,
    real: Tensor,
    fake: Tensor,
    floor_pair: tuple[Tensor, Tensor] | None = None,
    space: str,
    rng: torch.Generator,
    draws: int = 100,
    real_y: Sequence[str] | None = None,
    fake_y: Sequence[str] | None = None,
) -> Score:
    """The metric between real and fake, with a 95 % interval, a floor and per-class values.

    metric: what to measure
    real: features of real samples, (N, F)
    fake: features of generated samples, (M, F), of the same feature space
    floor_pair: two disjoint sets of real features whose metric is what a perfect generator would
        reach; give them the sizes of real and fake as nearly as the data allow, since most metrics
        depend on them. Default None: the floor is nan
    space: name of the feature space, with the hash of its network; only reported
    rng: the random stream of the interval
    draws: half-samples for the interval; default 100; 0 leaves the interval nan
    real_y: class name of each real sample, length N; default None: no per-class values
    fake_y: class name of each generated sample, length M; default None: no per-class values
    Raises UsageError for wrong shapes or lengths, NumericalError for numbers that are not finite.

    Classes with fewer than 10 samples on a side have no value of their own; nan values are left out.
    For the interval see `_interval`.
    """
    left, right = pair(real, fake)
    value = metric(real=left, fake=right)
    floor = float("nan")
    if floor_pair is not None:
        floor = metric(real=floor_pair[0], fake=floor_pair[1])
    low, high = _interval(metric, left, right, value, rng, draws)
    return Score(
        name=metric.name,
        value=value,
        low=low,
        high=high,
        goal=metric.goal,
        floor=floor,
        space=space,
        counts={"real": len(left), "fake": len(right)},
        per_class=_per_class(metric, left, right, real_y, fake_y),
        meaning=metric.meaning,
    )


def _interval(
    metric: Metric, real: Tensor, fake: Tensor, value: float, rng: torch.Generator, draws: int
) -> tuple[float, float]:
    """95 % interval of the value over fresh samples of the same sizes; (nan, nan) where impossible.

    Half-sampling: each draw takes half of real and half of fake WITHOUT replacement. A bootstrap with
    replacement would put equal points into a set; those are each other's nearest neighbours at
    distance 0 (k-NN radii collapse) and sit off the diagonal of a kernel matrix (MMD is no longer
    unbiased). The variance of a mean over m of n points without replacement is s^2 (1/m - 1/n), which
    for m = n/2 is exactly s^2/n, that of the full sample; other m are rescaled by sqrt(m / (n - m)).
    The interval is centred on the value, not on the draws, since most metrics shift with the sample
    size. For a share (range 0 to 1) it is at least as wide as the Wilson interval of min(N, M) counts.

    At most 500 points a side enter one draw, which keeps the cost bounded; where the two sides then
    need different factors the larger one is taken, so the interval is rather too wide than too narrow.

    Source: Politis, Romano and Wolf, "Subsampling" (1999), section 2; Shao and Wu (1989) on deleting
    half. Simulated in `tests/test_metrics.py`.
    """
    n, m = len(real), len(fake)
    if draws < 1 or min(n, m) < CLASS_MIN or math.isnan(value):
        return float("nan"), float("nan")
    half_n, half_m = min(n // 2, HALF), min(m // 2, HALF)
    factor = math.sqrt(max(half_n / (n - half_n), half_m / (m - half_m)))
    values = []
    for _ in range(draws):
        rows = torch.randperm(n, generator=rng)[:half_n]
        cols = torch.randperm(m, generator=rng)[:half_m]
        values.append(metric(real=real[rows], fake=fake[cols]))
    drawn = torch.tensor(values, dtype=torch.float64)
    if not bool(torch.isfinite(drawn).all()):
        return float("nan"), float("nan")
    # 1.96 standard deviations and not the draws' own quantiles: of 100 draws those are too noisy
    reach = Z95 * float(drawn.std()) * factor
    low, high = value - reach, value + reach
    bottom, top = metric.range
    if (bottom, top) == (0.0, 1.0):
        # at a share near 0 or 1 hardly any half-sample differs; a count of that size still may
        count = min(n, m)
        share_low, share_high = wilson(value * count, count)
        low, high = min(low, share_low), max(high, share_high)
    return max(bottom, low), min(top, high)


def _per_class(
    metric: Metric,
    real: Tensor,
    fake: Tensor,
    real_y: Sequence[str] | None,
    fake_y: Sequence[str] | None,
) -> dict[str, float]:
    if real_y is None or fake_y is None:
        return {}
    for name, labels, points in (("real_y", real_y, real), ("fake_y", fake_y, fake)):
        if len(labels) != len(points):
            raise UsageError(f"{name} has {len(labels)} labels for {len(points)} samples.")
    out: dict[str, float] = {}
    for label in sorted({str(y) for y in real_y} & {str(y) for y in fake_y}):
        rows = torch.tensor([str(y) == label for y in real_y])
        cols = torch.tensor([str(y) == label for y in fake_y])
        if min(int(rows.sum()), int(cols.sum())) < CLASS_MIN:
            continue
        value = metric(real=real[rows], fake=fake[cols])
        if not math.isnan(value):
            out[label] = value
    return out


def project(train: Tensor, *others: Tensor, dims: int = 64) -> list[Tensor]:
    """Principal components fitted on the train features alone; float64 [train, *others] in order.

    train: features that the axes are fitted on, (N, F), N >= 2
    others: features to project onto the same axes, each (M, F)
    dims: axes wanted; default 64; at most N/10 (but at least 2), and never more than F or N - 1
    Raises UsageError for wrong shapes, NumericalError for numbers that are not finite.

    At most N/10, because a covariance of d dimensions has d^2/2 numbers: with fewer than 10 points a
    dimension the distance between two samples of one distribution is mostly estimation error (the
    table in FrechetDistance). Axes are not whitened, so that distances stay those of the features and
    noise directions are not blown up. Each axis points to where its largest loading is positive,
    since the solver's sign is arbitrary.
    """
    points = [checked(train, "train")]
    points += [checked(other, f"others[{i}]") for i, other in enumerate(others)]
    n, width = points[0].shape
    if n < 2 or dims < 1:
        raise UsageError(f"project needs at least 2 train rows and 1 dimension; got {n} and {dims}.")
    for i, other in enumerate(points[1:]):
        if other.shape[1] != width:
            raise UsageError(f"train has {width} features and others[{i}] has {other.shape[1]}.")
    kept = min(dims, max(2, n // 10), width, n - 1)
    centre = points[0].mean(dim=0)
    axes = _axes(points[0] - centre, kept)
    return [(each - centre) @ axes for each in points]


def _axes(centred: Tensor, kept: int) -> Tensor:
    if centred.shape[1] <= centred.shape[0]:
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -kept:]
    else:  # fewer points than features: the smaller of the two problems has the same answer
        left = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -kept:]
        axes = centred.T @ left
        axes = axes / axes.norm(dim=0).clamp(min=torch.finfo(axes.dtype).tiny)
    axes = axes.flip(1)  # eigh sorts upwards; the first axis is to carry the most variance
    largest = axes.abs().argmax(dim=0)
    sign = torch.sign(axes[largest, torch.arange(kept)])
    signed: Tensor = axes * torch.where(sign == 0, torch.ones_like(sign), sign)
    return signed
