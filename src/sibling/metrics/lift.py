"""The lift: the same recogniser trained with and without synthetic samples, on real test samples.

Every arm gets the same network and the same number of optimiser steps. The interval resamples seeds
and test samples together and takes the best rival anew in each draw; the verdict is "helps" only when
its lower end is above zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..device import seed_of
from ..types import Verdict
from .recogniser import Augment, Pool, train_recogniser

__all__ = ["Arm", "arms_of", "power", "run_arm", "verdict"]

Fetch = Callable[[Any], torch.Tensor]
RIVALS = ("real", "real + classic", "real + duplicates")
CANDIDATE = "real + synthetic"
LEAST_TEST = 20


@dataclass
class Arm:
    """One way to train the recogniser.

    pool      its samples
    strength  of classic augmentation; 0 = none
    meaning   in plain words
    """

    name: str
    pool: Pool
    strength: float
    meaning: str


def arms_of(
    *,
    real: tuple[Fetch, np.ndarray],
    fake: tuple[Fetch, np.ndarray],
    strength: float,
    rng: np.random.Generator,
) -> list[Arm]:
    """The arms of the comparison.

    real, fake  (fetch, labels (n,)) of the real train part and of the synthetic samples
    strength    of classic augmentation, chosen on the val part
    """
    fetch_real, y_real = real
    fetch_fake, y_fake = fake
    extra = rng.integers(0, len(y_real), len(y_fake))
    duplicates: tuple[Fetch, np.ndarray] = (lambda rows: fetch_real(extra[rows]), y_real[extra])
    shuffled = (fetch_fake, y_fake[rng.permutation(len(y_fake))])
    return [
        Arm("real", Pool([real]), 0.0, "the real train part as it is"),
        Arm(
            "real + classic",
            Pool([real]),
            strength,
            "with classic augmentation, its strength chosen on the val part",
        ),
        Arm(
            "real + synthetic",
            Pool([real, fake]),
            strength,
            "with classic augmentation and all synthetic samples",
        ),
        Arm("synthetic only", Pool([fake]), 0.0, "no real sample at all, no augmentation"),
        Arm(
            "real + duplicates",
            Pool([real, duplicates]),
            strength,
            "placebo: repeated real samples instead of synthetic ones",
        ),
        Arm(
            "shuffled labels",
            Pool([real, shuffled]),
            strength,
            "control that must lose: synthetic samples with shuffled labels",
        ),
    ]


def run_arm(
    arm: Arm,
    *,
    shape: Sequence[int],
    classes: int,
    steps: int,
    seed: int,
    augment: Augment,
    test: tuple[Fetch, np.ndarray],
) -> np.ndarray:
    """Train once and return which class was predicted for each test sample (n_test,)."""
    network = train_recogniser(
        arm.pool,
        shape=shape,
        classes=classes,
        steps=steps,
        seed=seed_of(seed, arm.name),
        augment=augment if arm.strength > 0 else None,
        strength=arm.strength,
    )
    fetch, y = test
    predicted: np.ndarray = network.probabilities(fetch, len(y)).argmax(1).numpy()
    return predicted


def power(n_test: int, discordance: float = 0.1) -> float:
    """The smallest lift, in points, that n_test paired answers can show at 95 %.

    discordance  share of the test samples on which two arms disagree; 0.1 is usual at small scale
    Source: McNemar's test, normal approximation: 1.96 * sqrt(discordance / n).
    """
    return 100 * 1.96 * math.sqrt(discordance / max(1, n_test))


def verdict(
    predicted: dict[str, np.ndarray],
    y: np.ndarray,
    *,
    steps: int,
    meanings: dict[str, str],
    rng: np.random.Generator,
    draws: int = 2_000,
) -> Verdict:
    """From predictions to an answer.

    predicted  arm -> (seeds, n_test) predicted classes
    y          (n_test,) true classes
    steps      optimiser steps of every arm
    meanings   arm -> plain words
    draws      bootstrap draws over seeds and test samples together
    """
    right = {name: (p == y[None]).astype(np.float64) for name, p in predicted.items()}
    seeds, n_test = next(iter(right.values())).shape
    arms: dict[str, dict[str, Any]] = {
        name: {
            "mean": float(r.mean()),
            "runs": [float(v) for v in r.mean(1)],
            "worst_class": float(min(r[:, y == c].mean() for c in np.unique(y))),
            "meaning": meanings.get(name, ""),
        }
        for name, r in right.items()
    }
    rivals = [name for name in RIVALS if name in right]
    best = max(rivals, key=lambda name: arms[name]["mean"])
    lift = 100 * (arms[CANDIDATE]["mean"] - arms[best]["mean"])
    drawn = np.empty(draws)
    for i in range(draws):
        columns = rng.integers(0, n_test, n_test)
        weights = np.bincount(columns, minlength=n_test) / n_test
        means = {}
        for name in (CANDIDATE, *rivals):
            rows = rng.integers(0, seeds, seeds)
            means[name] = float((right[name][rows] @ weights).mean())
        drawn[i] = 100 * (means[CANDIDATE] - max(means[name] for name in rivals))
    low, high = (float(v) for v in np.quantile(drawn, [0.025, 0.975]))
    answer: Literal["helps", "no evidence", "harms", "cannot tell"]
    answer = (
        "cannot tell"
        if n_test < LEAST_TEST
        else "helps"
        if low > 0
        else "harms"
        if high < 0
        else "no evidence"
    )
    smallest = power(n_test)
    return Verdict(
        answer,
        lift,
        low,
        high,
        arms,
        seeds,
        smallest,
        steps,
        _sentence(answer, lift, low, high, best, n_test, smallest),
    )


def _sentence(
    answer: str, lift: float, low: float, high: float, best: str, n_test: int, smallest: float
) -> str:
    interval = f"{lift:+.1f} points of accuracy over “{best}” (95 % interval {low:+.1f} to {high:+.1f})"
    if answer == "helps":
        return f"The synthetic samples help: {interval}, on {n_test:,} real test samples."
    if answer == "harms":
        return f"The synthetic samples harm: {interval}, on {n_test:,} real test samples. Train without them."
    if answer == "cannot tell":
        return f"Nobody can tell: {n_test} real test samples are too few to show any lift below {smallest:.0f} points."
    return (
        f"There is no evidence that the synthetic samples help: {interval}, on {n_test:,} real test samples; "
        f"a lift below about {smallest:.1f} points could not have been seen."
    )
