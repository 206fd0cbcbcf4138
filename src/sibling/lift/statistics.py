"""From predictions to a lift over each rival, with an interval that knows seeds, test samples and splits.

The interval is a hierarchical bootstrap: splits and groups of test samples are drawn again, seeds from a normal
distribution whose variance all arms give together. It is made as wide as few repeats demand, by Student's t at
Satterthwaite's degrees of freedom; splits of one data set share most of their training samples, which is
corrected for (Nadeau and Bengio 2003).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from ..metrics.intervals import Z95
from .tasks import Classes, Labels, Task
from .trial import Trial

__all__ = ["Lifts", "alike", "evenness", "expected_power", "lifts", "power", "samples_tested", "spread_of"]

BLOCK = 200  # draws at a time: 200 x 10,000 weights are 8 MB
DISCORDANCE = 0.1
LEAST_BEYOND = 5  # draws beyond the end of an interval; with fewer a normal distribution says where it lies


@dataclass(frozen=True)
class Lifts:
    """The lift of one arm over each of several others, in the unit of the task.

    names  of the others
    value  (R,) what was measured
    drawn  (draws, R) what other splits, seeds and test samples might have given; centred on `value`
    """

    names: list[str]
    value: np.ndarray
    drawn: np.ndarray

    def low(self, level: float = 0.025) -> np.ndarray:
        """(R,) the lower end of each interval, `level` of the draws below it."""
        found: np.ndarray = np.quantile(self.drawn, level, axis=0)
        return np.minimum(found, self.value - self._reach(level)) if self._rare(level) else found

    def high(self, level: float = 0.025) -> np.ndarray:
        """(R,) the upper end, `level` of the draws above it."""
        found: np.ndarray = np.quantile(self.drawn, 1 - level, axis=0)
        return np.maximum(found, self.value + self._reach(level)) if self._rare(level) else found

    def _rare(self, level: float) -> bool:
        """So few draws lie beyond that the outermost of them would set the end, always too near."""
        return level * len(self.drawn) < LEAST_BEYOND

    def _reach(self, level: float) -> np.ndarray:
        reach: np.ndarray = float(norm.ppf(1 - level)) * self.drawn.std(0)
        return reach


def lifts(
    trials: Sequence[Trial],
    task: Task,
    candidate: str,
    others: Sequence[str],
    rng: np.random.Generator,
    draws: int = 2_000,
) -> Lifts:
    """How much better `candidate` is than each of `others`, with draws for intervals.

    trials  one a split; all of them know all these arms
    """
    names = [candidate, *others]
    points, sampled, seed_variance, freedom = [], [], [], []
    for each in trials:
        point, drawn, variance, degrees = _of_one(each, task, names, rng, draws)
        points.append(point)
        sampled.append(drawn)
        seed_variance.append(variance)
        freedom.append(degrees)
    value = np.mean(points, axis=0)
    if len(trials) == 1:
        drawn = _widened(value, sampled[0], seed_variance[0], freedom[0], len(trials[0].y))
    else:
        drawn = _over_splits(np.array(points), np.array(sampled), trials, rng)
    return Lifts(list(others), value, _at_least(value, drawn, samples_tested(trials), task, rng))


def _at_least(
    value: np.ndarray, drawn: np.ndarray, n: int, task: Task, rng: np.random.Generator
) -> np.ndarray:
    """Draws that are no narrower than n samples allow: two arms that agree on all of them may still differ on 3 in n
    others (the rule of three), and a bootstrap of equal answers would claim to know better."""
    if task.goal == "min":
        return drawn
    least = task.scale * math.sqrt(3) / max(1, n)
    narrow = drawn.std(0) < least
    return np.where(narrow, value + least * rng.normal(size=drawn.shape), drawn)


def _of_one(
    each: Trial, task: Task, names: Sequence[str], rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """One split: the lifts (R,), draws of them (draws, R), the variance (R,) that comes from seeds and its degrees of
    freedom; all in the unit of the task."""
    every = np.ones((1, len(each.y)))
    values = [np.zeros((draws, len(each.answers[name]))) for name in names]  # (draws, S) each
    for start in range(0, draws, BLOCK):
        weights = _resampled(each.groups, min(BLOCK, draws - start), rng)
        for own, name in zip(values, names, strict=True):
            own[start : start + len(weights)] = task.values(each.answers[name], each.y, weights)
    runs = [task.values(each.answers[name], each.y, every)[0] for name in names]  # (S,) each
    fixed = np.array([own.mean() for own in runs])
    counts = np.array([len(own) for own in runs])
    freedom = max(1, int((counts - 1).sum()))
    # Two or three seeds of one arm say little about its spread, those of all arms together say enough.
    pooled = sum(float(own.var(ddof=1)) * (len(own) - 1) for own in runs if len(own) > 1) / freedom
    noise = rng.normal(size=(draws, len(names))) * np.sqrt(pooled / counts)
    means = np.stack([own.mean(1) for own in values], 1) + noise
    return (
        task.scale * (fixed[0] - fixed[1:]),
        task.scale * (means[:, :1] - means[:, 1:]),
        task.scale**2 * pooled * (1 / counts[0] + 1 / counts[1:]),
        freedom,
    )


def _resampled(groups: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n) how often each test sample is drawn; duplicates are drawn together."""
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    out = np.empty((draws, len(groups)), np.float32)
    for row in out:
        row[:] = np.bincount(rng.integers(0, count, count), minlength=count)[member]
    return out


def _widened(
    value: np.ndarray, drawn: np.ndarray, seed_variance: np.ndarray, degrees: int, n: int
) -> np.ndarray:
    """Draws about the value, with the tails that so few seeds have: Student's t at Satterthwaite's degrees."""
    total = np.maximum(drawn.var(0, ddof=1), 1e-30)
    from_seeds = np.minimum(seed_variance, total)
    from_test = total - from_seeds
    parts = from_seeds**2 / degrees + from_test**2 / max(1, n - 1)
    tails = student.ppf(0.975, np.maximum(total**2 / np.maximum(parts, 1e-300), 1)) / Z95
    widened: np.ndarray = value + tails * (drawn - drawn.mean(0))
    return widened


def _over_splits(
    points: np.ndarray, sampled: np.ndarray, trials: Sequence[Trial], rng: np.random.Generator
) -> np.ndarray:
    """Draws (draws, R) over T splits as well: first which splits, then what each of them might have given."""
    splits, draws, _ = sampled.shape
    value = points.mean(0)
    out = np.zeros(sampled.shape[1:])
    for _ in range(splits):
        which, row = rng.integers(0, splits, draws), rng.integers(0, draws, draws)
        out += sampled[which, row] / splits
    shared = float(np.mean([each.share for each in trials]))
    wanted = (1 / splits + shared) * points.var(0, ddof=1)  # Nadeau and Bengio
    wanted = wanted * (student.ppf(0.975, splits - 1) / Z95) ** 2
    found = np.maximum(out.var(0, ddof=1), 1e-30)
    widened: np.ndarray = value + np.sqrt(np.maximum(1, wanted / found)) * (out - out.mean(0))
    return widened


def spread_of(trials: Sequence[Trial], task: Task, name: str) -> tuple[float, list[float]]:
    """The mean of an arm's metric over all splits and seeds, as it is shown, and each run's."""
    sign = -1.0 if task.goal == "min" else 1.0
    runs = [
        sign * float(value)
        for each in trials
        for value in task.values(each.answers[name], each.y, np.ones((1, len(each.y))))[0]
    ]
    return float(np.mean(runs)), runs


def samples_tested(trials: Sequence[Trial]) -> int:
    """How many different test samples there are in all: repeated cross-validation tests each of them more than once."""
    keys = {key for each in trials for key in each.keys}
    return (
        len(keys) if all(len(each.keys) == len(each.y) for each in trials) else sum(len(t.y) for t in trials)
    )


def alike(trials: Sequence[Trial], task: Classes) -> float:
    """As many samples that all count alike would tell as much: fewer where uneven classes count alike in the metric."""
    y = np.concatenate([each.y for each in trials])
    return samples_tested(trials) * (evenness(y) if task.balanced else 1.0)


def evenness(y: np.ndarray) -> float:
    """The variance of accuracy over that of the mean recall, where each class is recognised alike well; in (0, 1].

    y  (n,) class numbers
    G^2 / (n sum of 1 / n_c): 1 where all G classes have equally many samples, about 3 G^2 / n where one of them has
    3 and the others very many.
    """
    counts = np.unique(y, return_counts=True)[1]
    return float(len(counts) ** 2 / (len(y) * (1 / counts).sum())) if len(y) else 1.0


def power(n_test: float, discordance: float = DISCORDANCE) -> float:
    """The smallest lift, in points, that n_test paired answers can show at 95 %.

    discordance  share of the test samples on which two arms disagree; 0.1 is usual at small scale
    Source: McNemar's test, normal approximation: 1.96 * sqrt(discordance / n).
    """
    return 100 * Z95 * math.sqrt(discordance / max(1, n_test))


def expected_power(task: Task, y: np.ndarray, n_test: int) -> str:
    """The smallest lift that n_test answers are expected to show at 95 %, in words: before any of them is there.

    y  (n, ...) targets of the test part, or of the part of it that there is yet

    Classes: two recognisers disagree on every tenth answer, see `power`. Labels: about each label they disagree on a tenth of
    as many answers as twice the samples that have it, and each of these moves its F1 by one part in that many; labels
    count alike. So a label that half of the samples have is like two classes. Numbers: absolute errors that spread as far
    as their mean, correlated by a half between two recognisers.
    """
    if isinstance(task, Classes):
        told = power(n_test * (evenness(y) if task.balanced else 1.0))
    elif isinstance(task, Labels):
        counts = y.sum(0)  # (L,)
        counts = counts[counts > 0] * (n_test / max(1, len(y)))
        told = power(2 * len(counts) ** 2 / float((1 / counts).sum()) if len(counts) else 0.0)
    else:
        return (
            f"a change of the {task.metric} by less than about {100 * Z95 / math.sqrt(max(1, n_test)):.0f} %"
        )
    return f"a lift below about {told:.1f} points of {task.metric}"
