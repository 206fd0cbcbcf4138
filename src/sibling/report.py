"""Run folder, or an evaluation alone -> one HTML file that works offline and is read by a person.

A reader of the folder: no stage imports it, and it imports no stage and no torch. Each section
is built on its own from what lies in the folder; one that is absent or damaged becomes a sentence.

Names of classes and files are hostile until escaped: Jinja2 escapes every value, `visible` makes
control characters visible, pictures are decoded and encoded anew, and the page carries a policy
that forbids scripts and requests.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, Undefined
from markupsafe import Markup

from .drawings import arms_chart, curve_chart, visible
from .errors import BadInput, UsageError
from .exhibits import copies_view, grids_view, preview_view
from .files import MANIFEST, hash_bytes, is_unfinished, read_json, read_jsonl, write_bytes, write_json
from .game import finite, game_view, log_rows
from .views import (
    DASH,
    View,
    amount,
    arms_view,
    count,
    lift_text,
    number,
    percent,
    points,
    score_parts,
    unit_of,
    unseen,
    verdict_view,
)

__all__ = ["report"]

CURVES = 9  # of the training log
LINES = 200  # of any folded table
MAP_TEXT = 200  # characters; a longer part of a y is a picture as text, for no person to read


def report(run: Path | str, *, out: Path | None = None) -> Path:
    """Write what a run folder, or the folder of an evaluation, holds as one self-contained HTML page.

    run  a run folder, finished or not: everything but `run.json` may be absent; or a folder that `evaluate` wrote
         beside samples of another tool
    out  the file to write; None = `report.html` in the folder
    Returns the file. The same folder gives the same bytes. Raises BadInput where `run` is neither, UsageError where
    `out` is a folder.
    """
    run = Path(run)
    if is_unfinished(run):
        raise BadInput(f"{run} holds an unfinished run. Go on with sibling fit --resume.")
    alone = not (run / "run.json").is_file()
    if alone and not any((run / name).is_file() for name in ("verdict.json", "scores.json")):
        raise BadInput(
            f"{run} is not a run folder: it has no run.json, and no verdict.json either. Name the folder that "
            "`sibling fit` or `sibling enlarge` wrote, or the one that `sibling evaluate` wrote."
        )
    facts = {} if alone else read_json(run / "run.json")
    if not isinstance(facts, dict):
        raise BadInput(f"{run / 'run.json'} does not hold a run: it is damaged.")
    target = run / "report.html" if out is None else Path(out)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; the report is one file. Try {target / 'report.html'}.")
    try:
        page = _environment().get_template("report.html.j2").render(_views(run, facts, alone)).encode()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadInput(
            f"{run} holds values of a form that no run has ({type(error).__name__}: {error}): it is damaged."
        ) from error
    write_bytes(target, page)
    if alone and out is None:
        _list(target, page)
    return target


def _list(target: Path, page: bytes) -> None:
    """Name the report in the manifest of its evaluation: `verify` then checks it, and `evaluate` may replace it.

    The other entries stay as they are: what was changed since must not become right by this.
    """
    manifest = _part(lambda: read_json(target.parent / MANIFEST))
    entry = {"bytes": len(page), "sha256": hash_bytes(page)}
    if manifest.get("kind") == "evaluation" and isinstance(manifest.get("files"), dict):
        write_json(target.parent / MANIFEST, {**manifest, "files": {**manifest["files"], target.name: entry}})


def _views(run: Path, facts: View, alone: bool) -> View:
    """Everything that the template shows, one entry a section."""
    place = run if alone else run / "evaluation"
    saved = _part(lambda: read_json(place / "verdict.json"))
    measured = _part(lambda: read_json(place / "scores.json"))
    kept = _part(lambda: read_json(place / "pictures.json"))
    verdict = saved if "problem" in saved else _part(lambda: verdict_view(saved) if saved else {})
    curation = {} if alone else _part(lambda: _curation(run))
    found = {} if alone else _part(lambda: read_json(run / "data" / "store.json")["found"])
    data = facts.get("data") or {}
    counts = {part: _total(numbers) for part, numbers in (data.get("counts") or {}).items()}
    pictures = _part(lambda: _pictures(place))
    listed = measured.get("scores") or []
    return {
        "run": facts,
        "alone": alone,
        "noun": "picture" if (facts.get("modality") or {}).get("name", "image") == "image" else "sample",
        "source": data.get("source") or found.get("source") or run.resolve().name,
        "counts": counts or _counts(saved),
        "fakes": _fakes(curation, saved, listed),
        "verdict": verdict,
        "measured": measured,
        "lift": verdict if "problem" in verdict else _part(lambda: _lift(saved)),
        "grids": _part(lambda: grids_view(pictures, kept)),
        "copies": _part(lambda: copies_view(pictures, kept.get("copies") or [])),
        "scores": measured if "problem" in measured else _part(lambda: score_parts(listed)),
        "curation": curation,
        "training": _part(lambda: _training(run, facts)),
        "game": _part(lambda: game_view(run, facts)),
        "preview": _part(lambda: preview_view(run)),
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


def _counts(saved: View) -> dict[str, int]:
    """Real samples in each part as the protocol of a verdict knows them."""
    protocol = saved.get("protocol") or {}
    known = {part: protocol.get(f"{part}_samples") for part in ("train", "val", "test")}
    return {part: int(n) for part, n in known.items() if finite(n)}


def _fakes(curation: View, saved: View, scores: list[View]) -> int | None:
    """How many synthetic samples were made, as far as the folder knows."""
    if finite(curation.get("kept")):
        return int(curation["kept"])
    judged = amount((saved.get("advice") or {}).get("of"))
    if judged is not None:
        return judged
    seen = [(score.get("counts") or {}).get("fake") for score in scores]
    return max((int(n) for n in seen if finite(n)), default=None)


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
    return number(part, 4) if finite(part) else str(_finalize(part))


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
        return number(value, 4)
    return visible(json.dumps(value, ensure_ascii=False, default=str))


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=number,
        points=points,
        percent=percent,
        count_of=count,
        finite=finite,
        total=_total,
        asked=_asked,
        lift_of=lift_text,
    )
    return environment


# ---------------------------------------------------------------- pictures


def _pictures(place: Path) -> dict[str, np.ndarray]:
    path = place / "pictures.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


# ---------------------------------------------------------------- sections


def _lift(verdict: View) -> View:
    """The arms as rows, and their chart."""
    view = arms_view(verdict)
    scale = 100.0 if unit_of(verdict) == "points" else 1.0
    shown = []
    for arm in view["arms"]:
        if not finite(arm.get("mean")):
            continue
        ends = [arm["over"].get(key) for key in ("lift", "low", "high")]
        lift = (*ends, arm["over_text"]) if all(map(finite, ends)) else None
        shown.append(
            {
                **arm,
                "mean": scale * arm["mean"],
                "runs": [scale * value for value in arm["runs"]],
                "lift": lift,
            }
        )
    value, low, high = (verdict.get(key) for key in ("lift", "low", "high"))
    whole = None
    if shown and finite(value) and finite(low) and finite(high):
        whole = (value, low, high, unseen(verdict))
    unit, metric = visible(unit_of(verdict), 40), visible(str(verdict.get("metric") or "accuracy"), 40)
    axis = f"{metric}, %" if scale == 100 else f"{metric} ({unit}), less is better"
    lift_axis = (
        f"lift over the best rival in {unit} with its 95 % interval"
        if scale == 100
        else (f"lift over the best rival ({unit}) with its 95 % interval")
    )
    chart = arms_chart(shown, whole, axis=axis, lift_axis=lift_axis) if shown else None
    return {**view, "chart": chart, "stopped": [arm["name"] for arm in view["arms"] if arm["stopped"]]}


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
