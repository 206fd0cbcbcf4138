"""Run folder -> one HTML file that works offline and is read by a person.

A reader of the run folder: no stage imports it, and it imports no stage and no torch. Each section
is built on its own from what lies in the folder; one that is absent or damaged becomes a sentence.

Names of classes and files are hostile until escaped: Jinja2 escapes every value, `visible` makes
control characters visible, pictures are decoded and encoded anew, and the page carries a policy
that forbids scripts and requests.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jinja2 import Environment, FileSystemLoader, Undefined
from markupsafe import Markup

from .drawings import arms_chart, curve_chart, fitting, png, sheet, shrunk, uri, visible
from .errors import BadInput, UsageError
from .files import read_json, read_jsonl, write_bytes
from .game import finite, game_view, log_rows

__all__ = ["report"]

View: TypeAlias = dict[str, Any]

DASH, MINUS = "\u2013", "\u2212"  # what stands for no number, and before a negative one

CLASSES = 24  # shown with pictures
COLUMNS, ROWS = 8, 2  # of a sheet of pictures
PAIRS = 12  # copy-like fakes
TINY = 48  # pictures up to this many pixels are enlarged without smoothing
CURVES = 9  # of the training log
LINES = 200  # of any folded table
MAP_TEXT = 200  # characters; a longer part of a y is a picture as text, for no person to read
# Bytes before base64, which adds a third: together with tables and curves below 5 MB.
SHEET_BYTES, PAIR_BYTES, PREVIEW_BYTES = 2_200_000, 450_000, 450_000


def report(run: Path | str, *, out: Path | None = None) -> Path:
    """Write what a run folder holds as one self-contained HTML page.

    run  a run folder, finished or not: everything but `run.json` may be absent
    out  the file to write; None = `report.html` in the run folder
    Returns the file. The same folder gives the same bytes. Raises BadInput where `run` is not a run
    folder, UsageError where `out` is a folder.
    """
    run = Path(run)
    if not (run / "run.json").is_file():
        raise BadInput(
            f"{run} is not a run folder: it has no run.json. Name the folder that `sibling fit` or "
            "`sibling enlarge` wrote."
        )
    facts = read_json(run / "run.json")
    if not isinstance(facts, dict):
        raise BadInput(f"{run / 'run.json'} does not hold a run: it is damaged.")
    target = run / "report.html" if out is None else Path(out)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; the report is one file. Try {target / 'report.html'}.")
    try:
        page = _environment().get_template("report.html.j2").render(_views(run, facts))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadInput(
            f"{run} holds values of a form that no run has ({type(error).__name__}: {error}): it is damaged."
        ) from error
    write_bytes(target, page.encode())
    return target


def _views(run: Path, facts: View) -> View:
    """Everything that the template shows, one entry a section."""
    evaluation = _part(lambda: read_json(run / "evaluation" / "evaluation.json"))
    curation = _part(lambda: _curation(run))
    found = _part(lambda: read_json(run / "data" / "store.json")["found"])
    verdict = evaluation.get("verdict") or {}
    data = facts.get("data") or {}
    counts = {part: _total(numbers) for part, numbers in (data.get("counts") or {}).items()}
    pictures = _part(lambda: _pictures(run))
    shown = evaluation.get("pictures") or {}
    return {
        "run": facts,
        "noun": "picture" if (facts.get("modality") or {}).get("name", "image") == "image" else "sample",
        "source": data.get("source") or found.get("source") or run.resolve().name,
        "counts": counts,
        "fakes": _fakes(curation, evaluation),
        "verdict": verdict,
        "evaluation": evaluation,
        "lift": _part(lambda: _lift(verdict)),
        "grids": _part(lambda: _grids(pictures, shown.get("classes") or [])),
        "copies": _part(lambda: _copies(pictures, shown.get("copies") or [], evaluation.get("scores") or [])),
        "scores": _part(lambda: _scores(evaluation.get("scores") or [])),
        "curation": curation,
        "training": _part(lambda: _training(run, facts)),
        "game": _part(lambda: game_view(run, facts)),
        "preview": _part(lambda: _preview(run)),
        "found": found,
        "classes": _part(lambda: _classes(data.get("counts") or {}, found)),
        "commands": _commands(run, facts),
        "hashes": _part(lambda: _hashes(run)),
        "lines": LINES,
    }


def _part(build: Callable[[], View]) -> View:
    """A section's view; {} where its file is absent, {"problem": ...} where it cannot be used.

    One damaged file must not take the other sections with it, so the net is wide on purpose.
    """
    try:
        view = build()
        return view if isinstance(view, dict) else {"problem": "it has an unknown form"}
    except BadInput as error:
        return {} if isinstance(error.__cause__, FileNotFoundError) else {"problem": str(error)}
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        return {"problem": f"{type(error).__name__}: {error}"}


# ---------------------------------------------------------------- values and text


def _total(numbers: Any) -> int:
    """The sum over classes; data without classes may give one number."""
    values = numbers.values() if isinstance(numbers, dict) else [numbers]
    return sum(int(value) for value in values if finite(value))


def _fakes(curation: View, evaluation: View) -> int | None:
    """How many synthetic samples were made, as far as the folder knows."""
    if finite(curation.get("kept")):
        return int(curation["kept"])
    seen = [(score.get("counts") or {}).get("fake") for score in evaluation.get("scores") or []]
    return max((int(n) for n in seen if finite(n)), default=None)


def _number(value: Any, digits: int = 3) -> str:
    """A number as a person reads it: three significant digits, no exponent where it can be avoided."""
    if not finite(value):
        return DASH
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        places = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}".replace("-", MINUS)
        return text.rstrip("0").rstrip(".") if places else text
    return f"{value:.{digits - 1}e}".replace("-", MINUS)


def _points(value: Any) -> str:
    return f"{value:+.1f}".replace("-", MINUS) if finite(value) else DASH


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if finite(value) else DASH


def _count(value: Any) -> str:
    return f"{value:,}" if finite(value) else DASH


def _asked(y: Any) -> str:
    """What a sample was asked to be, in words: a class, labels, numbers by name; of a map its name alone."""
    if isinstance(y, dict):
        return ", ".join(f"{name} {_word(part)}" for name, part in y.items())
    return y if isinstance(y, str) else _word(y)


def _word(part: Any) -> str:
    if isinstance(part, list):
        return " + ".join(map(str, part)) or "none"
    if isinstance(part, str) and len(part) > MAP_TEXT:
        return "map"
    return _number(part, 4) if finite(part) else str(_finalize(part))


def _finalize(value: Any) -> Any:
    """What Jinja2 does to every value before it escapes it."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, Undefined):
        return DASH
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value, 4)
    return visible(json.dumps(value, ensure_ascii=False, default=str))


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=_number, points=_points, percent=_percent, count_of=_count, finite=finite, total=_total
    )
    environment.filters["asked"] = _asked
    return environment


# ---------------------------------------------------------------- pictures


def _pictures(run: Path) -> dict[str, np.ndarray]:
    path = run / "evaluation" / "pictures.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _grids(pictures: View, classes: list[str]) -> View:
    """Real beside synthetic for the first classes: taken in order, none chosen for its looks."""
    if "problem" in pictures:
        return pictures
    most = COLUMNS * ROWS
    rows: list[View] = []
    arrays: list[np.ndarray] = []
    for i, name in enumerate(classes or ["all"]):
        pair = {kind: pictures.get(f"{kind}_{i}", np.empty(0))[:most] for kind in ("real", "fake")}
        if not any(len(stack) for stack in pair.values()):
            continue
        rows.append({"name": name, "tiny": max(pair["real"].shape[1:3] or pair["fake"].shape[1:3]) <= TINY})
        for kind, stack in pair.items():
            rows[-1][kind] = {"n": len(stack), "at": len(arrays) if len(stack) else None}
            arrays += [stack] if len(stack) else []
        if len(rows) == CLASSES:
            break
    uris = fitting(lambda edge: (sheet(stack, COLUMNS, edge) for stack in arrays), SHEET_BYTES)
    return {"rows": rows, "uris": uris, "classes": len(classes), "named": bool(classes)}


def _copies(pictures: View, rows: list[View], scores: list[View]) -> View:
    """The most copy-like fakes, each beside its nearest real training sample, as one picture a pair."""
    fakes, reals = (pictures.get(f"copies_{kind}", np.empty(0)) for kind in ("fake", "real"))
    pairs = [np.stack(pair) for pair in zip(fakes, reals, strict=False)]
    order = sorted(range(min(len(pairs), len(rows))), key=lambda i: _sortable(rows[i].get("ratio")))[:PAIRS]
    uris = fitting(lambda edge: (sheet(pairs[i], 2, edge) for i in order), PAIR_BYTES)
    return {
        "pairs": [{**rows[i], "uri": uri} for i, uri in zip(order, uris, strict=True)],
        "total": len(rows),
        "tiny": bool(pairs) and max(pairs[0].shape[1:3]) <= TINY,
        "shares": [score for score in scores if re.search("cop(y|ies)", str(score.get("name")))],
    }


def _sortable(value: Any) -> float:
    return float(value) if finite(value) else math.inf


def _preview(run: Path) -> View:
    """The last preview, decoded and encoded anew: no bytes of the folder reach the page as they are."""
    paths = sorted((run / "previews").glob("step-*.png"))
    if not paths:
        return {}
    picture = shrunk(paths[-1], PREVIEW_BYTES)
    return {"uri": uri(png(picture)), "name": paths[-1].stem, "tiny": max(picture.size) <= 400}


# ---------------------------------------------------------------- sections


def _lift(verdict: View) -> View:
    """The arms as rows, the two that the lift compares marked, and their chart."""
    arms = [{"name": name, **arm} for name, arm in (verdict.get("arms") or {}).items()]
    for arm in arms:
        arm["fake"] = "synth" in arm["name"].lower()
        arm["runs"] = [value for value in arm.get("runs") or [] if finite(value)]
    known = sorted((arm for arm in arms if finite(arm.get("mean"))), key=lambda arm: float(arm["mean"]))
    real, fake = ([arm for arm in known if arm["fake"] == kind][-1:] for kind in (False, True))
    lift, low, high, power = (verdict.get(key) for key in ("lift", "low", "high", "power"))
    # Only where the two explain the lift: how `evaluate` picks its arms is not this file's to know.
    if real and fake and finite(lift) and abs(100 * (fake[0]["mean"] - real[0]["mean"]) - lift) < 0.11:
        real[0]["mark"], fake[0]["mark"] = "the bar to pass", "best with synthetic"
    interval = None
    if finite(lift) and finite(low) and finite(high):
        interval = (lift, low, high, power if finite(power) else None)
    shown = [arm for arm in arms if finite(arm.get("mean"))]
    return {"arms": arms, "chart": arms_chart(shown, interval) if shown else None}


def _scores(scores: list[View]) -> View:
    """Scores by feature space; each with its place on a bar from a common zero, and a reading of it."""
    spaces: dict[str, list[View]] = {}
    for score in scores:
        per_class = [(name, value) for name, value in (score.get("per_class") or {}).items()]
        sign = -1 if score.get("goal") == "min" else 1
        per_class.sort(key=lambda item: sign * float(item[1]) if finite(item[1]) else math.inf)
        row = {**score, "bar": _bar(score), "reading": _reading(score), "classes": per_class}
        spaces.setdefault(str(score.get("space") or "no feature space"), []).append(row)
    return {"spaces": spaces}


def _bar(score: View) -> View:
    """Positions in per cent of the bar's width; {} where there is no value to show."""
    if not finite(score.get("value")):
        return {}
    numbers = {key: float(score[key]) for key in ("value", "low", "high", "floor") if finite(score.get(key))}
    start, end = min(0.0, *numbers.values()), max(numbers.values(), default=0.0)
    if score.get("goal") == "max" and end <= 1:
        end = 1.0
    span = (end - start) * (1 if end == 1.0 else 1.06) or 1.0
    return {key: f"{100 * (number - start) / span:.1f}" for key, number in numbers.items()}


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
        return "As good as real against real, as far as this many samples can tell."
    if floor <= 0 or (not least and value < 0):
        return "Worse than real against real."
    if least:
        return f"{_number(value / floor, 2)} times what real samples score among themselves."
    return f"{100 * value / floor:.0f} % of what real samples reach among themselves."


def _curation(run: Path) -> View:
    view = dict(read_json(run / "curation.json"))
    rows = read_jsonl(run / "curation.jsonl")
    return {**view, "rows": rows[:LINES], "total": len(rows)}


def _training(run: Path, facts: View) -> View:
    """Curves from the log: validation first, then the total, then the rest by name."""
    rows = log_rows(run)
    keys = {key for row in rows for key in row if key.startswith(("loss/", "val/"))}
    curves = []
    for key in sorted(keys, key=lambda key: (not key.startswith("val/"), key != "loss/total", key)):
        kept = [(row["step"], row[key]) for row in rows if finite(row.get(key))]
        if not kept:
            continue
        steps, values = zip(*kept, strict=True)
        best = facts.get("best_step") if key.startswith("val/") else None
        chart = curve_chart(key, steps, values, float(best) if finite(best) else None)
        curves.append(
            {"name": key, "first": values[0], "last": values[-1], "least": min(values), "chart": chart}
        )
    return {"curves": curves[:CURVES], "total": len(curves)}


def _classes(counts: View, found: View) -> View:
    """Real samples by class and split, with the widths of their bars in per cent."""
    parts = [part for part in ("train", "val", "test") if _total(counts.get(part) or 0)]
    per_part = {
        part: counts[part] if isinstance(counts[part], dict) else {"all": counts[part]} for part in parts
    }
    rows: dict[str, dict[str, int]] = {}
    for part, numbers in per_part.items():
        for name, n in numbers.items():
            rows.setdefault(name, dict.fromkeys(parts, 0))[part] = _total(n)
    if not rows:
        rows = {name: {"all": _total(n)} for name, n in (found.get("counts") or {}).items()}
        parts = ["all"] if rows else []
    most = max((sum(row.values()) for row in rows.values()), default=0) or 1
    table = [
        {"name": name, "n": row, "widths": {part: f"{100 * n / most:.2f}" for part, n in row.items()}}
        for name, row in rows.items()
    ]
    return {"parts": parts, "rows": table[:LINES], "total": len(table)}


def _commands(run: Path, facts: View) -> list[str]:
    """The commands that make this run again, as far as `run.json` knows them."""
    given = facts.get("command")
    if given:
        return [given if isinstance(given, str) else shlex.join(map(str, given))]
    source, folder = (facts.get("data") or {}).get("source") or "DATA", run.resolve().name
    threads = (facts.get("environment") or {}).get("threads")
    options = [(f"--{key}", facts.get(key)) for key in ("model", "steps", "batch", "seed")]
    arguments = {key: value for key, value in (facts.get("arguments") or {}).items() if value is not None}
    options += [("--threads", threads), ("--arguments", json.dumps(arguments) if arguments else None)]
    words = [str(word) for pair in options if pair[1] is not None for word in pair]
    fakes = f"{folder}-fakes"
    return [
        shlex.join(["sibling", "fit", str(source), "--out", folder, *words]),
        shlex.join(["sibling", "sample", folder, "--out", fakes]),
        shlex.join(["sibling", "curate", fakes, "--against", folder]),
        shlex.join(["sibling", "evaluate", f"{fakes}-curated", "--against", folder]),
        shlex.join(["sibling", "report", folder]),
    ]


def _hashes(run: Path) -> View:
    files = read_json(run / "MANIFEST.json")["files"]
    names = sorted(name for name in files if name.endswith(".safetensors"))
    return {name: files[name].get("sha256") for name in names[:8]}
