"""A metric with what is needed to judge it: an interval, a floor, and its value in each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UsageError
from ..types import Metric, Score
from .intervals import Z95, wilson
from .nearness import LEAST, LEAST_HELD, Memorisation, Nearness
from .points import checked, pair, shuffled

__all__ = ["memorisation_score", "project", "score"]

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
    principal: bool = False,
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
    draws: half-samples for the interval; default 100, or fewer where the metric says so (its `draws`);
        0 leaves the interval nan
    real_y: class name of each real sample, length N; default None: no per-class values
    fake_y: class name of each generated sample, length M; default None: no per-class values
    principal: the features are principal axes, the first with the most variance: a metric that wants so many
        samples a feature (`samples_a_feature`) then sees in each class only as many as the smallest class allows
    Raises UsageError for wrong shapes or lengths, NumericalError for numbers that are not finite.

    Classes with fewer than 10 samples on a side have no value of their own; nan values are left out.
    For the interval see `_interval`.
    """
    left, right = pair(real, fake)
    value = metric(real=left, fake=right)
    floor = float("nan")
    if floor_pair is not None:
        floor = metric(real=floor_pair[0], fake=floor_pair[1])
    draws = min(draws, getattr(metric, "draws", draws))
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
        per_class=_per_class(metric, left, right, real_y, fake_y, principal),
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

    A metric may ask for another `part` than half, and one that looks at no more than its `most` samples of each side
    is resampled among these, since it is as uncertain as they are few.

    At most 500 points a side enter one draw, which keeps the cost bounded; where the two sides then
    need different factors the larger one is taken, so the interval is rather too wide than too narrow.

    Source: Politis, Romano and Wolf, "Subsampling" (1999), section 2; Shao and Wu (1989) on deleting
    half. Simulated in `tests/test_metrics.py`.
    """
    if hasattr(metric, "most"):
        used = min(len(real), len(fake), metric.most)
        real, fake = shuffled(real)[:used], shuffled(fake)[:used]
    n, m, part = len(real), len(fake), getattr(metric, "part", 0.5)
    if draws < 1 or min(n, m) < CLASS_MIN or math.isnan(value):
        return float("nan"), float("nan")
    half_n, half_m = min(int(part * n), HALF), min(int(part * m), HALF)
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
    principal: bool,
) -> dict[str, float]:
    if real_y is None or fake_y is None:
        return {}
    pairs = {
        label: (real[rows], fake[cols])
        for label, (rows, cols) in _classes(real_y, fake_y, len(real), len(fake)).items()
        if min(int(rows.sum()), int(cols.sum())) >= CLASS_MIN
    }
    wanted = getattr(metric, "samples_a_feature", 0)
    if principal and wanted and pairs:
        # the same for all, since a distance in fewer dimensions is a smaller one
        smallest = min(min(len(a), len(b)) for a, b in pairs.values())
        kept = max(2, smallest // wanted)
        pairs = {label: (a[:, :kept], b[:, :kept]) for label, (a, b) in pairs.items()}
    values = {label: metric(real=a, fake=b) for label, (a, b) in pairs.items()}
    return {label: value for label, value in values.items() if not math.isnan(value)}


def _classes(
    left_y: Sequence[str], right_y: Sequence[str], left: int, right: int, names: str = "real fake"
) -> dict[str, tuple[Tensor, Tensor]]:
    """class -> which of the left (N,) and which of the right samples (M,) are of it; those that both sides have."""
    for name, labels, n in zip(names.split(), (left_y, right_y), (left, right), strict=True):
        if len(labels) != n:
            raise UsageError(f"{name}_y has {len(labels)} labels for {n} samples.")
    return {
        label: (
            torch.tensor([str(y) == label for y in left_y]),
            torch.tensor([str(y) == label for y in right_y]),
        )
        for label in sorted({str(y) for y in left_y} & {str(y) for y in right_y})
    }


def memorisation_score(
    metric: Memorisation,
    *,
    near: Nearness,
    floor_near: Nearness | None = None,
    space: str,
    rng: torch.Generator,
    draws: int = 100,
    held_y: Sequence[str] | None = None,
    fake_y: Sequence[str] | None = None,
) -> Score:
    """The metric of three sets, with a 95 % interval, a floor and per-class values.

    metric: what to measure
    near: the three sets
    floor_near: the same with other held-out real samples in the fakes' place: what a generator that gives nothing away
        would reach; default None: nan, unless the metric knows its null value
    space: name of the feature space, with the hash of its network; only reported
    rng: the random stream of the interval
    draws: bootstrap samples for the interval; default 100; fewer than 2 leave only what theory knows
    held_y: class name of each held-out sample, length H; default None: no per-class values
    fake_y: class name of each generated sample, length M; default None: no per-class values
    Raises UsageError for wrong lengths.

    With fewer than 50 held-out samples every number is nan and the meaning begins with "cannot tell". The same
    holds for a class: those with fewer than 50 held-out samples or 10 fakes have no value of their own.
    """
    n_held, n_fake = len(near.held), len(near.fake)
    value = low = high = floor = float("nan")
    per_class: dict[str, float] = {}
    meaning = metric.meaning
    if not near.enough:
        meaning = (
            f"cannot tell: {n_held} held-out samples ({LEAST_HELD} are the least), {len(near.train)} training and "
            f"{n_fake} generated ones ({LEAST}). {meaning}"
        )
    else:
        first, second = metric.samples(near)
        value = metric.of(first, second)
        floor = metric.null(n_held)
        if math.isnan(floor) and floor_near is not None and floor_near.enough:
            floor = metric.of(*metric.samples(floor_near))
        low, high = _resampled(metric, first, second, value, rng, draws)
        if metric.by_class and held_y is not None and fake_y is not None:
            for label, (made, fresh) in _classes(fake_y, held_y, n_fake, n_held, "fake held").items():
                if int(made.sum()) >= LEAST and int(fresh.sum()) >= LEAST_HELD:
                    per_class[label] = metric.of(first[made], second[fresh])
    counts = {"real": len(near.train), "held": n_held, "fake": n_fake}
    return Score(metric.name, value, low, high, metric.goal, floor, space, counts, per_class, meaning)


def _resampled(
    metric: Memorisation, first: Tensor, second: Tensor, value: float, rng: torch.Generator, draws: int
) -> tuple[float, float]:
    """95 % interval over fresh samples of the same sizes, given the training samples.

    An ordinary bootstrap of both sides: what is resampled are distances to a third set, which do not change when a
    sample comes twice. Centred on the value, and never narrower than what theory knows: a share of 0 has a width.
    """
    if math.isnan(value):
        return value, value
    low, high = metric.widest(value, first, second)
    values = []
    for _ in range(draws):
        rows = torch.randint(len(first), (len(first),), generator=rng)
        cols = torch.randint(len(second), (len(second),), generator=rng)
        values.append(metric.of(first[rows], second[cols]))
    drawn = torch.tensor(values, dtype=torch.float64)
    drawn = drawn[torch.isfinite(drawn)]
    if len(drawn) > 1:
        reach = Z95 * float(drawn.std())
        low, high = min(low, value - reach), max(high, value + reach)
    bottom, top = metric.range
    return max(bottom, low), min(top, high)


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
