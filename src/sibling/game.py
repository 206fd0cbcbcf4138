"""The log of a run folder -> how the game between generator and discriminator stands, in one sentence.

A reader of the run folder, as `report` is: no stage imports it, and it imports no stage and no torch.
`state_of_game` is a pure function of the log's rows. What it says is about the end of the training:
a balanced game does not show that the samples are good, and an unbalanced one does not show that they
are bad. The scores do.

D(x) and D(G(z)) are the mean probabilities that D gives real and synthetic samples to be real (with a
relativistic loss: against the mean of the other kind). V(G, D) = E log D(x) + E log(1 - D(G(z))) is the
value of the game (Goodfellow et al. 2014); where D can tell nothing, all probabilities are 1/2 and
V = -log 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from .drawings import Line, lines_chart
from .files import read_jsonl

__all__ = ["EQUILIBRIUM", "Game", "finite", "game_view", "has_game", "log_rows", "state_of_game"]

Row: TypeAlias = Mapping[str, Any]

EQUILIBRIUM = -math.log(4)  # V where D(x) = D(G(z)) = 1/2

SHARE = 5  # the last fifth of the rows is judged: enough to average noise away, and still the end
LEAST = 5  # rows with D(x) and D(G(z)); a mean of fewer says little
# D(x) - D(G(z)). Guessing with its own probabilities, D is right in (1 + gap) / 2 of the cases: nine of ten.
STRONG = 0.8
FOOLED = -0.05  # the same gap; a smaller one below 0 is what noise makes of the equilibrium, where it is 0
# Distance between samples over that between real ones. 1 is as varied as real; recipes.md 1.2 warns below
# 0.7; at half there is no doubt, as real subsets of a few dozen samples stay within 0.8 to 1.2.
THIN, COLLAPSED = 0.7, 0.5
OVERFIT = 0.8  # of the gauge: D takes held-out real samples nearly for synthetic ones
# "Still falling": a straight line through the last validations falls by FALL of their mean level at least, and
# its slope is NOISE times its standard error (one-sided p of about 0.01 with 7 points).
TREND_LEAST, TREND_SHARE, NOISE, FALL = 6, 3, 3.0, 0.1
STALE = 3  # validations without a better one: a training that ended early then ended because it was done

SIZE = 360, 190  # of a chart in points
MINUS = "\u2212"
_CURVES: tuple[tuple[str, tuple[tuple[str, str, str], ...], tuple[tuple[float, str], ...], bool], ...] = (
    # title, lines (key, name, colour), marks (value, text), whether the values are shares
    (
        "What D says of real and of synthetic ones",
        (("game/d_real", "D(x)", "real"), ("game/d_fake", "D(G(z))", "fake")),
        ((0.5, "1/2"),),
        True,
    ),
    ("Value of the game", (("game/value", "V(G, D)", "ink"),), ((EQUILIBRIUM, MINUS + "log 4"),), False),
    (
        "Gradient norms",
        (("gradient/d", "of D", "real"), ("gradient/g", "of G", "fake")),
        (),
        False,
    ),
    (
        "Augmentation and overfitting of D",
        (("game/strength", "strength of augmentation", "good"), ("game/gauge", "overfitting", "real")),
        ((OVERFIT, f"{OVERFIT}"),),
        True,
    ),
    (
        "Variety of the synthetic ones, real = 1",
        (
            ("game/diversity", "overall", "fake"),
            ("game/spread", "within groups", "real"),
            ("game/spread_worst", "worst group", "ink"),
        ),
        ((1.0, "1"), (THIN, f"{THIN}")),
        False,
    ),
)


@dataclass(frozen=True)
class Game:
    """How the game stands at the end of a log.

    state      "balanced", "D too strong", "G ahead", "collapsed", "not finished" or "unknown"
    said       the state in words with the numbers that it rests on, and a second sentence where more is amiss
    first      the step at which the judged rows begin; `last`: at which they end; None without rows
    means      key of the log -> its mean over the judged rows, or its last value where they hold none
    overfits   D knows its training samples by heart
    falling    val/loss still fell at the end by more than its noise
    rollbacks  how often the training went back to an earlier state
    """

    state: str
    said: tuple[str, ...]
    first: float | None
    last: float | None
    means: Mapping[str, float]
    overfits: bool
    falling: bool
    rollbacks: int

    @property
    def sentence(self) -> str:
        """All that is said, as one text."""
        return " ".join(self.said)


# ---------------------------------------------------------------- the log


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON is a number, and no NaN or infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def log_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log that have a step, by step; those of one step in the order of writing.

    Raises BadInput where the log is damaged; a log that is absent has no rows.
    """
    rows = (row for row in read_jsonl(run / "stats.jsonl") if isinstance(row, dict))
    return sorted((row for row in rows if finite(row.get("step"))), key=lambda row: float(row["step"]))


def has_game(rows: Sequence[Row]) -> bool:
    """Whether any row of a log is about a game: that of an adversarial model is, no other."""
    return any(key.startswith("game/") for row in rows for key in row)


def _series(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """The steps and the values of one key where it is a number."""
    kept = [(float(row["step"]), float(row[key])) for row in rows if finite(row.get(key))]
    return [step for step, _ in kept], [value for _, value in kept]


def _rollbacks(rows: Sequence[Row]) -> list[float]:
    """The steps at which the training went back to an earlier state."""
    steps, happened = _series(rows, "game/rollback")
    return [step for step, one in zip(steps, happened, strict=True) if one > 0]


# ---------------------------------------------------------------- the state


def state_of_game(rows: Sequence[Row], facts: Mapping[str, Any]) -> Game:
    """Judge the last fifth of a log.

    rows   of `stats.jsonl`, each with a finite "step", sorted by it (`log_rows`)
    facts  `run.json`: "steps", "step" and "best_step" are looked at, and may be absent
    The first of these that holds is the state: collapsed, G ahead, D too strong, not finished, balanced.
    """
    played = [row for row in rows if any(key.startswith("game/") for key in row)]
    judged = played[-max(LEAST, len(played) // SHARE) :]
    keys = [key for _, lines, _, _ in _CURVES for key, _, _ in lines]
    means = {key: mean for key in keys if (mean := _mean(judged, played, key)) is not None}
    first, last = (float(judged[0]["step"]), float(judged[-1]["step"])) if judged else (None, None)
    falling = _falling(_series(rows, "val/loss")[1])
    overfits = means.get("game/gauge", 0.0) > OVERFIT
    back = _rollbacks(rows)
    state, words = _judge(judged, means, facts, rows, falling)
    amiss = _amiss(state, means, overfits, falling is not None, back)
    more = [f"{amiss[0][0].upper()}{'; '.join(amiss)[1:]}."] if amiss else []
    return Game(state, (words, *more), first, last, means, overfits, falling is not None, len(back))


def _mean(judged: Sequence[Row], played: Sequence[Row], key: str) -> float | None:
    """Over the judged rows; the last known value where these hold none. The gauge, a ratio with long tails,
    is represented by its median.
    """
    values = _series(judged, key)[1] or _series(played, key)[1][-1:]
    if not values:
        return None
    return float(np.median(values) if key == "game/gauge" else np.mean(values))


def _judge(
    judged: Sequence[Row],
    means: Mapping[str, float],
    facts: Mapping[str, Any],
    rows: Sequence[Row],
    falling: tuple[float, float, int] | None,
) -> tuple[str, str]:
    """The state and its sentence."""
    seen = [row for row in judged if finite(row.get("game/d_real")) and finite(row.get("game/d_fake"))]
    span = f"in the last fifth of the log (steps {_step(judged[0])} to {_step(judged[-1])})" if judged else ""
    variety = {"overall": means.get("game/diversity"), "within groups": means.get("game/spread")}
    known = sorted((value, name) for name, value in variety.items() if value is not None)
    if known and known[0][0] < COLLAPSED:
        other = "".join(f" ({value:.2f} {name})" for value, name in known[1:])
        return "collapsed", (
            f"Collapsed: {span} the distance between synthetic samples is {known[0][0]:.2f} of that between real "
            f"ones {known[0][1]}{other}, and below {COLLAPSED} G repeats a few samples{_older(judged, facts)}."
        )
    if len(seen) < LEAST:
        return "unknown", (
            f"The log is too short to tell: {len(seen)} of its last rows hold D(x) and D(G(z)), and {LEAST} are "
            "needed."
        )
    real, fake = means["game/d_real"], means["game/d_fake"]
    numbers = f"{span} D(x) is {real:.2f} and D(G(z)) {fake:.2f} on average"
    if real - fake < FOOLED:
        return "G ahead", (
            f"G is ahead: {numbers}; D is fooled, takes synthetic samples for real more readily than real ones, "
            "and so cannot guide G."
        )
    if real - fake > STRONG:
        return "D too strong", (
            f"D is too strong: {numbers}; it tells real from synthetic nearly always, which leaves G little to "
            "learn from."
        )
    unfinished = _unfinished(facts, rows, falling)
    if unfinished:
        return "not finished", f"Not finished: {unfinished}; {numbers}."
    value = f", and V is {_signed(means['game/value'])}" if "game/value" in means else ""
    return "balanced", (
        f"Balanced: {numbers}{value}; where D can tell nothing, both are 0.50 and V is {_signed(EQUILIBRIUM)}."
    )


def _unfinished(
    facts: Mapping[str, Any], rows: Sequence[Row], falling: tuple[float, float, int] | None
) -> str | None:
    """Why the training could have gone on, or None."""
    if falling is not None:
        start, end, n = falling
        return (
            f"val/loss still fell at the end by more than its noise, from {_plain(start)} to {_plain(end)} over "
            f"the last {n} validations"
        )
    step, steps = facts.get("step"), facts.get("steps")
    if not (finite(step) and finite(steps) and step < steps):
        return None
    losses = _series(rows, "val/loss")[1]
    if losses and len(losses) - 1 - int(np.argmin(losses)) >= STALE:
        return None  # ended by its own rule: val/loss no longer fell
    return f"the training ended at step {step:,.0f} of {steps:,.0f}"


def _falling(losses: Sequence[float]) -> tuple[float, float, int] | None:
    """The ends of a straight line through the last third of the validations and how many these are, where that
    line falls by more than its noise; else None.
    """
    n = max(TREND_LEAST, len(losses) // TREND_SHARE)
    if len(losses) < n:
        return None
    y = np.asarray(losses[-n:], float)
    x = np.arange(n) - (n - 1) / 2
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float(np.square(y - y.mean() - slope * x).sum()) / (n - 2) / float(x @ x))
    fall = -slope * (n - 1)
    if fall <= FALL * float(np.abs(y).mean()) or -slope <= NOISE * error:
        return None
    return float(y.mean()) + fall / 2, float(y.mean()) - fall / 2, n


def _amiss(
    state: str, means: Mapping[str, float], overfits: bool, falling: bool, back: Sequence[float]
) -> list[str]:
    """What else a person should know, each as the part of a sentence."""
    said = []
    if overfits:
        said.append(
            f"D overfits: on held-out samples its gauge is {means['game/gauge']:.2f}, where 0 is none and 1 is "
            "training samples known by heart"
        )
    variety = {"overall": means.get("game/diversity", 1.0), "within groups": means.get("game/spread", 1.0)}
    name, least = min(variety.items(), key=lambda item: item[1])
    worst = means.get("game/spread_worst", 1.0)
    if state != "collapsed" and worst < COLLAPSED:
        said.append(f"one group at least has collapsed, with a spread of {worst:.2f} where real ones have 1")
    elif state != "collapsed" and least < THIN:
        said.append(f"the synthetic samples vary little, {least:.2f} times as much as real ones {name}")
    if falling and state not in ("not finished", "unknown"):
        said.append("val/loss still fell at the end")
    if back:
        times = {1: "once", 2: "twice, the last time"}.get(len(back), f"{len(back):,} times, the last time")
        said.append(f"the training was rolled back {times} at step {back[-1]:,.0f}")
    return said


def _older(judged: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """That the weights in use are from before the judged rows, where they are."""
    best = facts.get("best_step")
    if not (judged and finite(best) and best < judged[0]["step"]):
        return ""
    return f"; the weights in use are from before that, of step {best:,.0f}"


def _step(row: Row) -> str:
    return f"{row['step']:,.0f}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def _plain(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)


# ---------------------------------------------------------------- what a page shows of it


def game_view(run: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The state and the charts as the report shows them; {} where the log holds no game.

    Raises BadInput where the log is damaged.
    """
    rows = log_rows(run)
    if not has_game(rows):
        return {}
    game = state_of_game(rows, facts)
    best = facts.get("best_step")
    back = _rollbacks(rows)
    charts = []
    for title, lines, marks, shares in _CURVES:
        drawn = [Line(key, name, *_series(rows, key), colour) for key, name, colour in lines]
        drawn = [line for line in drawn if line.steps]
        if not drawn:
            continue
        keys = [
            {"name": line.name, "colour": line.colour, "mean": game.means.get(line.key)} for line in drawn
        ]
        chart = lines_chart(
            title,
            drawn,
            marks,
            limits=(0.0, 1.0) if shares else None,
            uprights=back,
            best=float(best) if finite(best) else None,
            size=SIZE,
        )
        charts.append({"title": title, "keys": keys, "chart": chart})
    return {"game": game, "charts": charts, "rollbacks": len(back)}
