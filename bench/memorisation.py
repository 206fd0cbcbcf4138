"""Are copies seen, and are fresh samples let pass? The table of three-set metrics at 0 to 100 % copies.

Claims: with Gaussian features, 200 training, 100 held-out and 1,000 generated samples every metric moves as published
(reference/faults.md, section 4), and its 95 % interval holds the mean over repeats about 19 times in 20. On
Fashion-MNIST the shares rise in proportion to the copies and fresh real images stand at the floor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import fashion, options, show

from sibling.dataset import Dataset, synthetic
from sibling.device import generator, numpy_generator
from sibling.fidelity import copies
from sibling.metrics.copying import CopyingTest
from sibling.metrics.features import RandomFeatures
from sibling.metrics.membership import MembershipAuc, MembershipTpr
from sibling.metrics.nearness import Nearness
from sibling.metrics.score import memorisation_score
from sibling.metrics.tails import BelowFivePercent, BelowMinimum, NearestRatio

SHARES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
# mean and standard deviation over 20 repeats, in the order of METRICS
PUBLISHED = {
    0.0: ((1.002, 0.011), (0.17, 0.97), (0.060, 0.035), (0.009, 0.012), (0.497, 0.038), (0.020, 0.015)),
    0.01: ((1.000, 0.011), (-0.01, 0.96), (0.069, 0.035), (0.019, 0.012), (0.521, 0.034), (0.069, 0.015)),
    0.05: ((0.995, 0.011), (-0.68, 0.89), (0.106, 0.033), (0.059, 0.012), (0.610, 0.026), (0.238, 0.016)),
    0.2: ((0.972, 0.010), (-3.2, 0.8), (0.247, 0.028), (0.208, 0.010), (0.814, 0.025), (0.637, 0.031)),
    0.5: ((0.672, 0.019), (-8.2, 0.5), (0.530, 0.019), (0.505, 0.007), (0.960, 0.011), (0.917, 0.018)),
    1.0: ((0.895, 0.010), (-8.6, 0.8), (0.333, 0.089), (0.107, 0.074), (0.991, 0.005), (0.917, 0.051)),
}
# one cell, as the published numbers have it
METRICS = (
    NearestRatio(), CopyingTest(cells=1), BelowFivePercent(), BelowMinimum(), MembershipAuc(), MembershipTpr(),
)  # fmt: skip
# The source names neither: 56 independent features and copies half a deviation off come nearest to all of its rows.
FEATURES = 56
NEAR = 0.5
BLURRED = 1.0  # deviations, where all are copies


def gaussian(share: float, seed: int) -> Nearness:
    """200 training, 100 held-out and 1,000 generated samples, of which this share are near copies."""
    rng = generator(seed, "gaussian", str(share))
    train, held, fake = (torch.randn(n, FEATURES, generator=rng) for n in (200, 100, 1_000))
    copied = round(share * len(fake))
    source = torch.randint(len(train), (copied,), generator=rng)
    noise = torch.randn(copied, FEATURES, generator=rng) * (BLURRED if share == 1 else NEAR)
    fake[:copied] = train[source] + noise
    return Nearness(train, held, fake)


def simulated(repeats: int) -> list[list[str]]:
    """One row a share and metric: published, ours, the distance in joint deviations, and how often intervals hold."""
    rows = [["copies", "metric", "published", "ours", "apart (joint sd)", "intervals that hold the mean"]]
    for share in SHARES:
        scores: list[list[Any]] = [[] for _ in METRICS]
        for seed in range(repeats):
            near = gaussian(share, seed)
            for metric, found in zip(METRICS, scores, strict=True):
                found.append(
                    memorisation_score(metric, near=near, space="gaussian", rng=generator(seed, metric.name))
                )
        for metric, found, (mean, sd) in zip(METRICS, scores, PUBLISHED[share], strict=True):
            values = np.array([score.value for score in found])
            ours, ours_sd = float(values.mean()), float(values.std(ddof=1))
            apart = (ours - mean) / np.hypot(ours_sd, sd)
            held = sum(score.low <= ours <= score.high for score in found)
            rows.append(
                [
                    f"{share:.0%}", metric.name, f"{mean:.3f} ± {sd:.3f}", f"{ours:.3f} ± {ours_sd:.3f}",
                    f"{apart:+.1f}", f"{held} of {repeats}",
                ]
            )  # fmt: skip
    return rows


def small(data: Dataset, n: int, seed: int) -> tuple[Dataset, Dataset]:
    """n training images with their held-out parts, and n fresh real ones that stand for a perfect generator."""
    rng = numpy_generator(seed, "small")
    train = rng.permutation(data.rows("train", "real"))
    held = [rng.permutation(data.rows(part, "real"))[: n // 2] for part in ("val", "test")]
    return data.subset(np.concatenate([train[:n], *held])), data.subset(train[n : 2 * n])


def copier(data: Dataset, fresh: Dataset, share: float, noise: float, seed: int) -> Dataset:
    """The fresh images, a share of them replaced by training images with noise (a share of the range)."""
    train, n = data.rows("train", "real"), len(fresh)
    rng = numpy_generator(seed, "copier", str(share))
    chosen = rng.permutation(n)[: round(share * n)]
    source = rng.choice(train, len(chosen))
    x, y = fresh.x(np.arange(n)).clone(), fresh.y(np.arange(n))
    x[chosen] = data.x(source) + noise * 2 * torch.randn(x[chosen].shape, generator=generator(seed, "noise"))
    for place, row in zip(chosen, source, strict=True):
        y[place] = data.table["y"][row]
    raw = data.modality.to_raw(x.clamp(-1, 1))
    return synthetic(raw, y, [f"f{i}" for i in range(n)], [{"index": i} for i in range(n)], data)


def on_images(n: int, noise: float, seeds: int) -> list[list[str]]:
    """One row a metric and space, one column a share of copies."""
    data = fashion()
    columns: dict[tuple[str, str], list[str]] = {}
    floors: dict[tuple[str, str], str] = {}
    for share in SHARES:
        found: dict[tuple[str, str], list[Any]] = {}
        for seed in range(seeds):
            real, fresh = small(data, n, seed)
            fakes = copier(real, fresh, share, noise, seed)
            notes: list[str] = []
            _, scores = copies(real, fakes, RandomFeatures(real.shape), seed, notes)
            for score in scores:
                found.setdefault((score.name, score.space.rpartition(" ")[0]), []).append(score)
        for key, own in found.items():
            low, value, high, floor = (
                np.mean([getattr(score, field) for score in own])
                for field in ("low", "value", "high", "floor")
            )
            columns.setdefault(key, []).append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
            floors[key] = f"{floor:.3f}"
    head = ["metric", "space", "floor", *(f"{share:.0%}" for share in SHARES)]
    return [head] + [[*key, floors[key], *cells] for key, cells in columns.items()]


if __name__ == "__main__":
    given = options(repeats=20, n=1_000, noise=0.02, seeds=2)
    show(
        "memorisation gaussian", simulated(given.repeats), repeats=given.repeats, features=FEATURES, near=NEAR
    )
    title = f"memorisation fashion {given.n} images noise {given.noise:.0%}"
    show(title, on_images(given.n, given.noise, given.seeds), seeds=given.seeds)
