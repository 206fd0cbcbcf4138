"""From the trials to a verdict in words and numbers, and to what should be written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..types import Verdict
from .arms import CANDIDATE, CONTROL, PLACEBO
from .statistics import Lifts, alike, lifts, power, samples_tested, spread_of
from .tasks import Classes, Task
from .trial import Trial

__all__ = ["LEAST_TEST", "answer", "given_up", "undecided"]

LEAST_TEST = 20


def answer(
    trials: Sequence[Trial],
    task: Task,
    *,
    rng: np.random.Generator,
    protocol: dict[str, Any],
    draws: int = 2_000,
) -> Verdict:
    """The verdict of one or several splits.

    "helps" asks for the lower end of the lift over EVERY rival to be above zero, each at 97.5 %: the best of
    them need not be known. "harms" asks for the upper end over one of them to be below zero, at 2.5 % divided
    by the number of rivals (Bonferroni): the best of three is not beaten by chance alone; and the upper end over the
    placebo too: where repeated real samples do as badly in the place of the synthetic ones, it is the candidate's
    recipe that lost, not what the samples show. The interval that is shown has the lower end over all rivals and
    the upper end over one.
    """
    known = [arm for arm in trials[0].arms if all(arm.name in each.answers for each in trials)]
    dropped = set(given_up(trials))
    rivals = [arm.name for arm in known if arm.role == "rival" and arm.name not in dropped]
    found = lifts(trials, task, CANDIDATE, rivals, rng, draws)
    at = int(found.value.argmin())  # the best rival
    level = 0.025 / len(rivals)
    low, high = float(found.low().min()), float(found.high(level).min())
    n_test = samples_tested(trials)
    seeds = min(len(each.answers[name]) for each in trials for name in (CANDIDATE, *rivals))
    said: Literal["helps", "no evidence", "harms"] = "no evidence"
    blocked = ""
    if n_test < LEAST_TEST:
        blocked = f"{n_test} real test samples are too few; {LEAST_TEST} are the least"
    elif seeds < 2 and len(trials) < 3:
        blocked = f"with {seeds} seed the spread between two trainings is unknown"
    elif low > 0:
        said = "helps"
    elif high < 0 and (PLACEBO not in rivals or found.high()[rivals.index(PLACEBO)] < 0):
        said = "harms"
    control = _control(trials, task, rng, draws)
    if said == "helps" and control is not None and control.value[0] <= 0:
        said, blocked = (
            "no evidence",
            (
                "the control with shuffled labels did as well as the candidate, so it was not what the samples show that helped"
            ),
        )
    shown = _arms(trials, task, known, dropped, found)
    room = task.scale * (1 - shown[rivals[at]]["mean"]) if task.unit == "points" else math.inf
    sentence = _sentence(said, blocked, float(found.value[at]), low, high, rivals[at], n_test, task, room)
    return Verdict(
        answer=said, lift=float(found.value[at]), low=low, high=high, arms=shown, seeds=seeds,
        power=power(alike(trials, task)) if isinstance(task, Classes) else (high - low) / 2,
        steps=trials[0].recipe.steps, sentence=sentence, metric=task.metric, unit=task.unit, goal=task.goal,
        rival=rivals[at], per_class=_per_class(trials, task, rivals[at], rng, draws), protocol=protocol,
        decided=not blocked,
    )  # fmt: skip


def given_up(trials: Sequence[Trial]) -> list[str]:
    """The rivals that were not repeated on any split: one that was on some is still one to beat."""
    return [name for name in trials[0].stopped if all(name in each.stopped for each in trials)]


def undecided(why: str, protocol: dict[str, Any] | None = None) -> Verdict:
    """The verdict where nothing could be compared."""
    return Verdict(
        answer="no evidence", lift=math.nan, low=math.nan, high=math.nan, arms={}, seeds=0, power=math.nan, steps=0,
        sentence=f"Nobody can tell: {why}.", protocol=protocol or {}, decided=False,
    )  # fmt: skip


def _control(trials: Sequence[Trial], task: Task, rng: np.random.Generator, draws: int) -> Lifts | None:
    """The lift of the candidate over itself with shuffled labels; None where that control was not run."""
    if not all(CONTROL in each.answers for each in trials):
        return None
    return lifts(trials, task, CANDIDATE, [CONTROL], rng, draws)


def _arms(
    trials: Sequence[Trial], task: Task, known: Sequence[Any], dropped: set[str], found: Lifts
) -> dict[str, dict[str, Any]]:
    """arm -> what the report shows: mean, each run, measures, role, and the candidate's lift over it."""
    over = dict(zip(found.names, zip(found.value, found.low(), found.high(), strict=True), strict=True))
    shown = {}
    for arm in known:
        mean, runs = spread_of(trials, task, arm.name)
        measures: dict[str, Any] = _averaged(
            [task.measures(each.answers[arm.name], each.y) for each in trials]
        )
        shown[arm.name] = {
            "mean": mean, "runs": runs, **measures, "role": arm.role, "meaning": arm.meaning,
            "stopped": arm.name in dropped,
        }  # fmt: skip
        if arm.name in over:
            lift, low, high = over[arm.name]
            shown[arm.name]["lift_over_it"] = {"lift": float(lift), "low": float(low), "high": float(high)}
    return shown


def _averaged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each measure over several splits; of each class over the splits that have it."""
    out: dict[str, Any] = {}
    for key in rows[0]:
        if key == "per_class":
            names = dict.fromkeys(name for row in rows for name in row[key])
            out[key] = {n: float(np.mean([row[key][n] for row in rows if n in row[key]])) for n in names}
        else:
            out[key] = float(np.mean([row[key] for row in rows]))
    return out


def _per_class(
    trials: Sequence[Trial], task: Task, rival: str, rng: np.random.Generator, draws: int
) -> dict[str, dict[str, float]]:
    """class -> the lift of its recall over the best rival, in points; intervals at 95 % over all classes together."""
    if not isinstance(task, Classes):
        return {}
    present = [c for c in range(task.outputs) if all((each.y == c).any() for each in trials)]
    out = {}
    for c in present[:200]:
        own = [_only(each, each.y == c) for each in trials]
        if sum(len(each.y) for each in own) < 5:
            continue
        found = lifts(own, Classes(task.names), CANDIDATE, [rival], rng, min(draws, 1_000))
        level = 0.025 / len(present)
        out[task.names[c]] = {
            "lift": float(found.value[0]), "low": float(found.low(level)[0]), "high": float(found.high(level)[0]),
        }  # fmt: skip
    return out


def _only(each: Trial, kept: np.ndarray) -> Trial:
    """A trial with some of its test samples."""
    answers = {name: own[:, kept] for name, own in each.answers.items()}
    return Trial(answers, each.y[kept], each.groups[kept], each.arms, each.recipe, each.chosen, each.share)


def _sentence(
    said: str,
    blocked: str,
    lift: float,
    low: float,
    high: float,
    rival: str,
    n_test: int,
    task: Task,
    room: float,
) -> str:
    """The answer in words. `room`: the largest lift over the best rival that there can be, in the unit of the lift."""
    what = f"{task.unit} of {task.metric}" if task.unit == "points" else f"{task.metric} ({task.unit})"
    shown = "{:+.1f}" if task.scale == 100 else "{:+.3g}"
    ends = f"{shown.format(low)} to {shown.format(high)}"
    interval = f"{shown.format(lift)} {what} over “{rival}” (95 % interval {ends})"
    if task.goal == "min":  # "-0.2 less error" would be read wrongly
        more = "less" if lift >= 0 else "more"
        interval = f"{abs(lift):.3g} {more} {what} than “{rival}” (95 % interval of the lift {ends})"
    where = f"on {n_test:,} real test samples"
    if blocked:
        return f"Nobody can tell: {blocked}; {interval}, {where}."
    if said == "helps":
        return f"The synthetic samples help: {interval}, {where}."
    if said == "harms":
        return f"The synthetic samples harm: {interval}, {where}. Train without them."
    if high < 0:
        return (
            f"There is no evidence that the synthetic samples help: {interval}, {where}. Repeated real samples in their place "
            "did about as badly, so it is not these samples that harm."
        )
    half = "{:.1f}" if task.scale == 100 else "{:.2g}"
    # Else who reads "no evidence" blames the samples, or gathers more test samples that are as easy.
    full = f", and no more than {room:.1f} points were left to gain" if room < (high - low) / 2 else ""
    return (
        f"There is no evidence that the synthetic samples help: {interval}, {where}; "
        f"a lift below about {half.format((high - low) / 2)} {task.unit} could not have been seen{full}."
    )
