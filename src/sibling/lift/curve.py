"""The learning curve: how many more real samples would have given the same lift."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..types import Verdict
from .arms import CLASSIC
from .recipe import Bench, Source, pool_of
from .trial import Trial, in_parallel, job

__all__ = ["equivalent", "worth"]

SHARES = (0.35, 0.6)
SEEDS = 2
LEAST_DECAY = (
    0.05  # of the error with the number of samples: below it the curve is flat, and no number means much
)


def worth(each: Trial, found: Verdict, real: Source, bench: Bench, seed: int) -> dict[str, float]:
    """About how many more real samples would give the lift: {"real_samples", "low", "high"}; {} where the curve is flat.

    The recogniser is trained on parts of the real train part, with the same recipe and steps; a power law is
    laid through its test errors (Hestness et al. 2017) and read at the error of the arm with synthetic samples.
    """
    pools = [pool_of(real.take(real.first(max(2, round(share * len(real)))))) for share in SHARES]
    runs = in_parallel(
        "learning curve",
        [
            job(pool, each.recipe, bench, seed, "curve", i, n, test=True)
            for i, pool in enumerate(pools)
            for n in range(SEEDS)
        ],
    )
    every = np.ones((1, len(bench.test)))
    values = [float(bench.task.values(run.test[None], bench.test.y, every)[0, 0]) for run in runs]
    errors = [1 - float(np.mean(values[SEEDS * i : SEEDS * (i + 1)])) for i in range(len(SHARES))]
    sizes = [len(pool) for pool in pools] + [len(real)]
    errors.append(1 - float(found.arms[CLASSIC]["mean"]))
    reached = {
        name: errors[-1]
        - (lift / 100 + float(found.arms[found.rival]["mean"]) - float(found.arms[CLASSIC]["mean"]))
        for name, lift in (("real_samples", found.lift), ("low", found.low), ("high", found.high))
    }
    return equivalent(sizes, errors, reached)


def equivalent(sizes: Sequence[int], errors: Sequence[float], reached: dict[str, float]) -> dict[str, float]:
    """How many more samples than the last of `sizes` each of the errors in `reached` is worth; {} for a flat curve.

    sizes   numbers of real samples, rising
    errors  the error with each, in (0, 1)
    """
    if min(errors) <= 0:
        return {}
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(errors, float))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    if slope > -LEAST_DECAY:
        return {}
    out = {}
    for name, error in reached.items():
        factor = (errors[-1] / error) ** (-1 / slope) if error > 0 else math.inf
        out[name] = float(round(sizes[-1] * (factor - 1))) if math.isfinite(factor) else math.inf
    return out
