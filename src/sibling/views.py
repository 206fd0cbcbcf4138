"""What an evaluation holds, as rows and words for the report and for the command line.

Readers of scores.json and verdict.json: pure functions of their values, without files, stages or torch. Any
value may be null or absent, as a hand may have been in the folder; what is no number becomes a dash.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeAlias

from .alarm import LEEWAY
from .game import finite
from .metrics import MEMORISATION

__all__ = [
    "DASH",
    "MINUS",
    "View",
    "amount",
    "arms_view",
    "count",
    "interval_text",
    "lift_text",
    "metric_text",
    "number",
    "percent",
    "points",
    "score_parts",
    "thing_of",
    "unit_of",
    "unseen",
    "unseen_text",
    "verdict_view",
    "worth_text",
    "written_text",
]

View: TypeAlias = dict[str, Any]

DASH, MINUS = "\u2013", "\u2212"  # what stands for no number, and before a negative one
MOST_MEASURES = 3  # columns of the table of arms besides the mean and the lift
FIRST_MEASURES = ("worst_class", "macro_f1", "calibration_error")
LEAST_IS_BEST = ("error",)  # a measure with this word is better when it is smaller
# role -> (in words, name of a colour, its explanation)
ROLES = {
    "rival": ("rival", "real", "without synthetic samples: the candidate has to beat each"),
    "candidate": ("candidate", "fake", "real and synthetic samples together"),
    "control": ("control", "faint", "wrong on purpose: must lose"),
    "reference": ("reference", "faint", "only shown"),
}
_UNKNOWN = ("", "faint", "")
AS_GOOD = "As good as real against real."
# Which section a score stands in that no table of ours names, by the words in its name; all others speak of fidelity.
_COPIES = re.compile("cop(y|ies)|memor|member|duplicate|attack")
_LABELS = re.compile("label|agreement")
_SCORE_KEYS = {"name", "value", "low", "high", "goal", "floor", "space", "counts", "per_class", "meaning"}


# ---------------------------------------------------------------- numbers as text


def number(value: Any, digits: int = 3, *, trim: bool = True) -> str:
    """A number as a person reads it: three significant digits, no exponent where it can be avoided.

    trim  leave zeros at the end out; not in a column, where they keep the digits below each other
    """
    if not finite(value):
        return DASH
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        places = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}".replace("-", MINUS)
        return text.rstrip("0").rstrip(".") if places and trim else text
    return f"{value:.{digits - 1}e}".replace("-", MINUS)


def points(value: Any) -> str:
    """With its sign and one decimal."""
    return f"{value:+.1f}".replace("-", MINUS) if finite(value) else DASH


def percent(value: Any) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f} %" if finite(value) else DASH


def count(value: Any) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}" if finite(value) else DASH


def _in_points(verdict: View) -> bool:
    return str(verdict.get("unit") or "points") == "points"


def lift_text(value: Any, verdict: View) -> str:
    """A lift with its sign: points have one decimal, other units three digits."""
    if not finite(value) or _in_points(verdict):
        return points(value)
    return ("+" if value > 0 else "") + number(value, trim=False)


def metric_text(value: Any, verdict: View) -> str:
    """The value of an arm: a percentage where the lift is in points, else a number in its own unit."""
    return percent(value) if _in_points(verdict) else number(value, trim=False)


def unit_of(verdict: View) -> str:
    """What stands after a lift: "points", "of severity", "standard deviations"."""
    return str(verdict.get("unit") or "points")


# ---------------------------------------------------------------- the verdict


def verdict_view(verdict: View) -> View:
    """The answer, the lift and what follows from it, in words; everything of verdict.json besides.

    `answer` is "helps", "no evidence", "harms", or "cannot tell" where the verdict is not decided or not known.
    """
    answer = str(verdict.get("verdict"))
    known = answer in ("helps", "no evidence", "harms") and verdict.get("decided") is not False
    per_class = [{"name": name, **row} for name, row in (verdict.get("per_class") or {}).items()]
    per_class.sort(key=lambda row: float(row["lift"]) if finite(row.get("lift")) else math.inf)
    for row in per_class:
        clear = finite(row.get("low")) and finite(row.get("high"))
        row["tone"] = "better" if clear and row["low"] > 0 else "worse" if clear and row["high"] < 0 else ""
    advice = verdict.get("advice") or {}
    protocol = verdict.get("protocol") or {}
    return {
        **verdict,
        "answer": answer if known else "cannot tell",
        "metric": str(verdict.get("metric") or "accuracy"),
        "unit_text": unit_of(verdict),
        "interval": interval_text(verdict, verdict),
        "unseen": unseen(verdict),
        "unseen_text": unseen_text(verdict),
        "worth_text": worth_text(verdict.get("worth") or {}),
        "written": written_text(advice) if advice or verdict else "",
        "why_written": _beyond(str(advice.get("reason") or ""), str(verdict.get("sentence") or "")),
        "amounts": _amounts(advice),
        "augmentation": _spaced(advice.get("augmentation") or {}),
        "classes": per_class,
        "better": sum(row["tone"] == "better" for row in per_class),
        "worse": sum(row["tone"] == "worse" for row in per_class),
        "tested": protocol.get("test_samples"),
        "splits": protocol.get("splits"),
        "protocol": _spaced(protocol),
    }


def _spaced(table: View) -> View:
    return {str(name).replace("_", " "): value for name, value in table.items()}


def interval_text(row: View, verdict: View) -> str:
    """ "+0.3 to +3.9"; "" where there is no interval."""
    if not (finite(row.get("low")) and finite(row.get("high"))):
        return ""
    return f"{lift_text(row['low'], verdict)} to {lift_text(row['high'], verdict)}"


def unseen(verdict: View) -> float | None:
    """The lift that could not have been seen: half the width of the interval; None where there is none."""
    low, high = verdict.get("low"), verdict.get("high")
    return (high - low) / 2 if finite(low) and finite(high) else None


def unseen_text(verdict: View) -> str:
    """The same as the sentence of the verdict says it."""
    half = unseen(verdict)
    if half is None:
        return ""
    return f"{f'{half:.1f}' if _in_points(verdict) else number(half, 2)} {unit_of(verdict)}"


def worth_text(worth: View) -> str:
    """ "worth about 120 more real samples (40 to 260)"; "" where it is not known.

    A null is an end that is farther away than the learning curve can say.
    """
    if not worth:
        return ""
    low = max(0.0, float(worth["low"])) if finite(worth.get("low")) else None
    middle, high = worth.get("real_samples"), worth.get("high")
    if not finite(middle):
        return "" if low is None else f"worth at least {count(low)} more real samples"
    if low is None:
        return f"worth about {count(middle)} more real samples"
    ends = f"{count(low)} to {count(high)}" if finite(high) else f"at least {count(low)}"
    return f"worth about {count(middle)} more real samples ({ends})"


def amount(numbers: Any) -> int | None:
    """How many samples these are in all; None where no number is known."""
    known = [int(n) for n in numbers.values() if finite(n)] if isinstance(numbers, dict) else []
    return sum(known) if known else None


def written_text(advice: View, *, anyway: bool = False) -> str:
    """What `sibling enlarge` writes beside the real samples after this advice, as a phrase.

    anyway  all samples were asked for, whatever the verdict is
    """
    write, have = advice.get("write"), amount(advice.get("of"))
    everything = "all synthetic samples" if have is None else f"all {have:,} synthetic samples"
    if write == "all":
        return everything
    if anyway:
        return f"{everything}, against the verdict (--write-anyway)"
    if write == "some":
        kept = amount(advice.get("amount"))
        of = "" if have is None else f" of {have:,}"
        return f"{count(kept)}{of} synthetic samples, the part that was tested"
    recipe = advice.get("augmentation") or {}
    best = "the recipe that was best, without augmentation"
    if "strength" not in recipe or finite(recipe["strength"]):
        best = "the tuned classic augmentation"
    return f"{f'{best} (augmentation.json), and ' if recipe else ''}no synthetic sample, because the verdict does not support it"


def _amounts(advice: View) -> list[View]:
    """One row a class where a part was written."""
    chosen, have = advice.get("amount") or {}, advice.get("of") or {}
    if advice.get("write") != "some" or len(have) < 2:
        return []
    return [{"name": name, "n": chosen.get(name, 0), "of": n} for name, n in have.items()]


def _beyond(reason: str, sentence: str) -> str:
    """What a reason says besides the sentence of the verdict."""
    return reason.removeprefix(sentence).strip()


# ---------------------------------------------------------------- the arms


def arms_view(verdict: View) -> View:
    """The arms as rows, and the columns of their table.

    Returns {"arms": [...], "columns": [...]}: of each arm name, mean, runs, role in words, colour, mark, meaning,
    whether it was stopped, the candidate's lift over it, and the cells of the columns.
    """
    arms = [_arm(arm, verdict) for arm in verdict.get("arms") or []]
    columns = _columns(arms, verdict)
    for arm in arms:
        arm["cells"] = [
            {"head": column["head"], "text": metric_text(arm.get(column["key"]), verdict)}
            for column in columns
        ]
    return {"arms": arms, "columns": columns}


def _arm(arm: View, verdict: View) -> View:
    word, colour, what = ROLES.get(str(arm.get("role")), _UNKNOWN)
    over = arm.get("lift_over_it") or {}
    marks = {"control": "control: must lose", "reference": "only for reference", "candidate": "candidate"}
    mark = marks.get(word, "")
    if word == "rival" and arm.get("name") == verdict.get("rival"):
        mark = "the bar to pass"
    runs = [value for value in arm.get("runs") or [] if finite(value)]
    spread = ""
    if len(runs) > 1:
        spread = f"{metric_text(min(runs), verdict).removesuffix(' %')} to {metric_text(max(runs), verdict)}"
    return {
        **arm, "name": str(arm.get("name")), "word": word, "colour": colour, "what": what, "mark": mark, "runs": runs,
        "stopped": bool(arm.get("stopped")), "over": over if finite(over.get("lift")) else {}, "spread": spread,
        "mean_text": metric_text(arm.get("mean"), verdict),
        "over_text": lift_text(over.get("lift"), verdict), "over_interval": interval_text(over, verdict),
    }  # fmt: skip


def _columns(arms: list[View], verdict: View) -> list[View]:
    """The measures that the arms have besides their mean: the well-known ones first, none that repeats the mean."""
    keys = [key for arm in arms for key, value in arm.items() if finite(value) and key != "mean"]
    own = re.sub("[^a-z0-9]+", "_", str(verdict.get("metric")).lower())
    found = [key for key in dict.fromkeys([*FIRST_MEASURES, *keys]) if key in keys and key != own]
    names = {"worst_class": "Worst " + thing_of(verdict), "macro_f1": "Macro-F1"}
    return [
        {
            "key": key,
            "head": names.get(key, key.replace("_", " ").capitalize()),
            "least": any(word in key for word in LEAST_IS_BEST),
        }
        for key in found[:MOST_MEASURES]
    ]


def thing_of(verdict: View) -> str:
    """What `per_class` of an arm is about: a class, a label or a number."""
    metric = str(verdict.get("metric"))
    return "label" if metric == "macro-F1" else "number" if metric == "mean absolute error" else "class"


# ---------------------------------------------------------------- the scores


def score_parts(scores: list[View]) -> View:
    """{"fidelity", "copies", "labels"} -> {space: a table of scores}, as `_space` makes it.

    Besides {"good", "known"}: part -> how many of its scores are as good as real against real, and of how many that
    have a floor; and {"copied"}: the share of copies where it lies clearly above its floor, else None.
    """
    parts: dict[str, dict[str, list[View]]] = {"fidelity": {}, "copies": {}, "labels": {}}
    for score in scores:
        name = str(score.get("name"))
        part = "labels" if _LABELS.search(name) else "fidelity"
        if name in MEMORISATION or _COPIES.search(name):
            part = "copies"
        more = {key: value for key, value in score.items() if key not in _SCORE_KEYS and finite(value)}
        row = {
            **score, "bar": _bar(score), "reading": _reading(score), "more": more, "counted": _counted(score),
            "title": name.replace("_", " "),
        }  # fmt: skip
        parts[part].setdefault(str(score.get("space") or "no feature space"), []).append(row)
    rows = {part: [row for own in spaces.values() for row in own] for part, spaces in parts.items()}
    good = {part: sum(row["reading"] == AS_GOOD for row in own) for part, own in rows.items()}
    known = {
        part: sum(finite(row.get("value")) and finite(row.get("floor")) for row in own)
        for part, own in rows.items()
    }
    tables = {part: {space: _space(own) for space, own in spaces.items()} for part, spaces in parts.items()}
    shares = [
        float(row["value"]) for row in rows["copies"] if row["name"] == "copy_share" and _is_alarming(row)
    ]
    return {**tables, "good": good, "known": known, "copied": max(shares, default=None)}


def _is_alarming(score: View) -> bool:
    """Whether a share of copies is one that the verdict warns of."""
    floor = float(score["floor"]) if finite(score.get("floor")) else 0.0
    return finite(score.get("value")) and finite(score.get("low")) and float(score["low"]) - LEEWAY > floor


def _space(scores: list[View]) -> View:
    """One feature space: its scores, how many samples they all saw, and a table of them for each class.

    Returns {"scores", "counted" ("" where they differ), "heads", "classes": [{"name", "cells": [{"text", "worst"}]}]}.
    """
    counted = {score["counted"] for score in scores}
    split = [score for score in scores if score.get("per_class")]
    worst = {}
    for i, score in enumerate(split):
        values = [float(value) for value in score["per_class"].values() if finite(value)]
        worst[i] = (max if score.get("goal") == "min" else min)(values, default=math.nan)
    names = dict.fromkeys(name for score in split for name in score["per_class"])
    classes = []
    for name in names:
        values = [score["per_class"].get(name) for score in split]
        cells = [{"text": number(value), "worst": value == worst[i]} for i, value in enumerate(values)]
        classes.append({"name": name, "cells": cells})
    return {
        "scores": scores,
        "counted": counted.pop() if len(counted) == 1 else "",
        "heads": [score["title"] for score in split],
        "classes": classes if len(classes) > 1 else [],
    }


def _counted(score: View) -> str:
    """ "350 real, 100 held out, 392 synthetic"."""
    words = {"fake": "synthetic", "held": "held out"}
    known = [(name, n) for name, n in (score.get("counts") or {}).items() if finite(n)]
    return ", ".join(f"{count(n)} {words.get(name, name)}" for name, n in known)


def _bar(score: View) -> View:
    """Positions in per cent of the bar's width; {} where there is no value to show."""
    if not finite(score.get("value")):
        return {}
    numbers = {key: float(score[key]) for key in ("value", "low", "high", "floor") if finite(score.get(key))}
    start, end = min(0.0, *numbers.values()), max(numbers.values(), default=0.0)
    if score.get("goal") == "max" and end <= 1:
        end = 1.0
    span = (end - start) * (1 if end == 1.0 else 1.06) or 1.0
    return {key: f"{100 * (value - start) / span:.1f}" for key, value in numbers.items()}


def _reading(score: View) -> str:
    """The value against its floor in words."""
    value, floor, least = score.get("value"), score.get("floor"), score.get("goal") == "min"
    if not finite(value):
        return "Could not be computed; the notes say why."
    if not finite(floor):
        return "No floor: too few real samples to compare real with real, so read this number with care."
    edge = score.get("low" if least else "high")
    reach = float(edge) if finite(edge) else value
    if (reach <= floor) if least else (reach >= floor):
        return AS_GOOD
    if floor <= 0 or (not least and value < 0):
        return "Worse than real against real."
    if least:
        return f"{number(value / floor, 2)} times what real samples score among themselves."
    return f"{100 * value / floor:.0f} % of what real samples reach among themselves."
