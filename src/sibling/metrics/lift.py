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

__all__ = ["ARMS", "Arm", "arms_of", "power", "run_arm", "verdict"]

Fetch = Callable[[Any], torch.Tensor]
RIVALS = ("real", "real + classic", "real + duplicates")
CANDIDATE = "real + synthetic"
ARMS = ("real", "real + classic", CANDIDATE, "synthetic only", "real + duplicates", "shuffled labels")
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
    extra = _like(y_fake, y_real, rng)
    duplicates: tuple[Fetch, np.ndarray] = (lambda rows: fetch_real(extra[rows]), y_real[extra])
    shuffled = (fetch_fake, y_fake[rng.permutation(len(y_fake))])
    return [
        Arm("real", Pool([real]), 0.0, "the real train part as it is"),
        Arm(
            "real + classic",
            Pool([real]),
            strength,
            "with classic augmentation; how its strength was found is in the notes",
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


def _like(y_fake: np.ndarray, y_real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A real row of the same class for each fake: the placebo must balance the classes as the fakes do."""
    rows = rng.integers(0, len(y_real), len(y_fake))
    for c in np.unique(y_fake):
        own, wanted = np.flatnonzero(y_real == c), np.flatnonzero(y_fake == c)
        if len(own):
            rows[wanted] = rng.choice(own, len(wanted))
    return rows


def run_arm(
    arm: Arm,
    *,
    shape: Sequence[int],
    classes: int,
    steps: int,
    batch: int,
    seed: int,
    augment: Augment,
    test: tuple[Fetch, np.ndarray],
    stop: Sequence[int] = (),
) -> np.ndarray:
    """Train once and return which class was predicted for each test sample (n_test,)."""
    network = train_recogniser(
        arm.pool,
        shape=shape,
        classes=classes,
        steps=steps,
        batch=batch,
        seed=seed_of(seed, arm.name),
        augment=augment if arm.strength > 0 else None,
        strength=arm.strength,
        stop=stop,
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
    groups: np.ndarray | None = None,
    draws: int = 2_000,
) -> Verdict:
    """From predictions to an answer.

    predicted  arm -> (seeds, n_test) predicted classes
    y          (n_test,) true classes
    steps      optimiser steps of every arm
    meanings   arm -> plain words
    groups     (n_test,) duplicates share a number and are drawn together; None = each its own
    draws      bootstrap draws over seeds and test samples together

    "helps" asks for the lower end of the lift over the best rival of each draw to be above zero, which is
    strict. "harms" asks for the upper end of the lift over one rival to be below zero at 2.5 % divided by
    the number of rivals (Bonferroni): the best of three is not beaten by chance alone. With one seed the
    spread between trainings is unknown, and nobody can tell.
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
    drawn = _drawn(right, rivals, groups, rng, draws)  # (draws, rivals)
    low, high = (float(v) for v in np.quantile(drawn.min(1), [0.025, 0.975]))
    harm = np.quantile(drawn, 1 - 0.025 / len(rivals), axis=0)
    answer: Literal["helps", "no evidence", "harms", "cannot tell"] = "no evidence"
    if n_test < LEAST_TEST or seeds < 2:
        answer = "cannot tell"
    elif low > 0:
        answer = "helps"
    elif harm.min() < 0:
        answer = "harms"
    sentence = _sentence(answer, lift, low, high, best, n_test, seeds)
    return Verdict(answer, lift, low, high, arms, seeds, power(n_test), steps, sentence)


def _drawn(
    right: dict[str, np.ndarray],
    rivals: Sequence[str],
    groups: np.ndarray | None,
    rng: np.random.Generator,
    draws: int,
) -> np.ndarray:
    """Bootstrap draws (draws, rivals) of the lift over each rival, in points: seeds and test groups together."""
    seeds, n_test = next(iter(right.values())).shape
    _, member = np.unique(np.arange(n_test) if groups is None else groups, return_inverse=True)
    count = int(member.max()) + 1
    # Resampling few seeds shows less spread than there is: by (n - 1) / n in the variance.
    widen = np.sqrt(seeds / max(1, seeds - 1))
    names = (CANDIDATE, *rivals)
    drawn = np.empty((draws, len(rivals)))
    for i in range(draws):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[member].astype(float)
        weights /= weights.sum()
        means = np.empty(len(names))
        for k, name in enumerate(names):
            runs = right[name] @ weights  # (seeds,)
            means[k] = runs.mean() + widen * (runs[rng.integers(0, seeds, seeds)].mean() - runs.mean())
        drawn[i] = 100 * (means[0] - means[1:])
    return drawn


def _sentence(answer: str, lift: float, low: float, high: float, best: str, n_test: int, seeds: int) -> str:
    interval = f"{lift:+.1f} points of accuracy over “{best}” (95 % interval {low:+.1f} to {high:+.1f})"
    if answer == "helps":
        return f"The synthetic samples help: {interval}, on {n_test:,} real test samples."
    if answer == "harms":
        return f"The synthetic samples harm: {interval}, on {n_test:,} real test samples. Train without them."
    if answer == "cannot tell":
        if n_test >= LEAST_TEST:
            return (
                f"Nobody can tell: with {seeds} seed the spread between two trainings is unknown; {interval}."
            )
        return f"Nobody can tell: {n_test} real test samples are too few to show any lift below {power(n_test):.0f} points."
    return (
        f"There is no evidence that the synthetic samples help: {interval}, on {n_test:,} real test samples; "
        f"a lift below about {(high - low) / 2:.1f} points could not have been seen."
    )
