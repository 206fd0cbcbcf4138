"""What each sub-command does: call its verb and print the outcome. The options are the verb's own."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter

from . import errors, files
from .models import MODELS
from .progress import printable
from .registry import lookup, names

__all__ = [  # noqa: F822 - made by __getattr__, see there
    "convert",
    "curate",
    "enlarge",
    "evaluate",
    "example",
    "fit",
    "interpolate",
    "models",
    "project",
    "read",
    "reject",
    "report",
    "sample",
    "truncate",
    "vary",
    "verify",
    "write",
]


_WITH_URLS = ("read", "write", "convert")


def _json_object(type_: Any, tokens: Any) -> dict[str, Any]:
    text = tokens[0].value
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is not a JSON object like '{{\"latent\": 16}}'")
    return value


def _command(
    verb: Callable[..., Any], then: Callable[[Any, dict[str, Any]], int | None]
) -> Callable[..., Any]:
    """A command with the signature of a Python verb, places on disk instead of objects in memory."""
    hints = get_type_hints(verb)
    parameters = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if name == "like":
            continue
        hint: Any = hints[name]
        text = str(hint)
        if name in ("images", "psi"):
            several = list[str] if name == "images" else tuple[float, ...]
            optional = several if parameter.default is parameter.empty else several | None
            hint = Annotated[optional, Parameter(consume_multiple=True, negative=())]
        elif name in ("place", "out", "real") and "str" in text and verb.__name__ in _WITH_URLS:
            hint = str | None if "None" in text else str  # a Path would make s3:/bucket of s3://bucket
        elif "Path" in text:
            hint = Path | None if "None" in text else Path
        elif name in (
            "want",
            "given",
            "to_given",
            "over",
            "label_column",
            "features",
            "filters",
            "classifier",
        ):
            hint = str | None
        elif name == "arguments":
            as_json = Parameter(converter=_json_object, n_tokens=1, accepts_keys=False)
            hint = Annotated[dict[str, Any] | None, as_json]
        parameters.append(parameter.replace(annotation=hint))

    @functools.wraps(verb)
    def command(*args: Any, **kwargs: Any) -> int | None:
        bound = signature.bind(*args, **kwargs)
        return then(verb(*bound.args, **bound.kwargs), dict(bound.arguments))

    signature = inspect.Signature(parameters)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _verb(name: str, then: Callable[[Any, dict[str, Any]], int | None]) -> Any:
    return _command(getattr(import_module("sibling"), name), then)


def _after_enlarge(evaluation: Any, arguments: dict[str, Any]) -> None:
    from .report import report as make_report
    from .views import verdict_view, written_text

    verdict = files.read_json(evaluation.folder / "verdict.json")
    anyway = arguments.get("write_anyway", False)
    written = written_text(verdict["advice"], anyway=anyway)
    why = "" if anyway else verdict_view(verdict)["why_written"]
    print(printable(verdict["sentence"]))
    print(printable(f"written   {written}{' (' + why + ')' if why else ''}"))
    for alarm in files.read_json(evaluation.folder / "scores.json")["warnings"]:
        print(printable(f"warning   {alarm}"))
    print(f"data set  {arguments['out']}")
    print(f"report    {make_report(evaluation.folder.parent)}")


def _after_read(data: Any, arguments: dict[str, Any]) -> None:
    from .read import describe

    for line in describe(data):
        print(printable(line))


def _after_evaluate(evaluation: Any, arguments: dict[str, Any]) -> None:
    """Print what the two files hold, from the files: nothing is said here that a script cannot read there."""
    from .report import report as make_report

    folder = evaluation.folder
    verdict, measured = (files.read_json(folder / name) for name in ("verdict.json", "scores.json"))
    parts = [_score_rows(measured["scores"], part) for part in ("fidelity", "copies", "labels")]
    for rows in (_arm_rows(verdict), *parts):
        for line in [*_table(rows), ""] if rows else []:
            print(printable(line))
    for note in measured["notes"]:
        print(printable(f"note      {note}"))
    print(f"scores    {folder / 'scores.json'}")
    print(f"verdict   {folder / 'verdict.json'}")
    in_run = folder.name == "evaluation" and (folder.parent / "run.json").is_file()
    print(f"report    {f'sibling report {folder.parent}' if in_run else make_report(folder)}")
    for alarm in measured["warnings"]:
        print(printable(f"warning   {alarm}"))
    print(printable(verdict["sentence"]))


def _arm_rows(verdict: dict[str, Any]) -> list[list[str]]:
    """The arms with their means and the lift over each rival, under their heads; [] where there are none."""
    from .views import arms_view

    rows = [
        [
            arm["name"], arm["mean_text"], arm["over_text"], arm["over_interval"], str(len(arm["runs"])),
            f"{arm['word']}, stopped" if arm["stopped"] else arm["word"],
        ]
        for arm in arms_view(verdict)["arms"]
    ]  # fmt: skip
    unit = verdict["unit"]
    return (
        [["arm", verdict["metric"], f"lift over it ({unit})", "95 % interval", "runs", "role"], *rows]
        if rows
        else []
    )


def _score_rows(scores: list[dict[str, Any]], part: str) -> list[list[str]]:
    """The scores of one part, "fidelity", "copies" or "labels", under their heads; [] where there are none."""
    from .views import DASH, number, score_parts

    rows = []
    for score in (row for space in score_parts(scores)[part].values() for row in space["scores"]):
        ends = [number(score[key]) for key in ("low", "high")]
        interval = DASH if DASH in ends else " to ".join(ends)
        better = {"min": "lower", "max": "higher"}[score["goal"]]
        rows.append(
            [score["name"], number(score["value"]), interval, number(score["floor"]), better, score["space"]]
        )
    return [[part, "value", "95 % interval", "floor", "better is", "space"], *rows] if rows else []


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with columns below each other; the first and the last to the left, the others to the right."""
    from .views import DASH, MINUS

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip().replace(MINUS, "-").replace(DASH, "-")


def _after_verify(wrong: list[str], arguments: dict[str, Any]) -> int:
    for sentence in wrong:
        print(printable(sentence))
    print(
        f"{arguments['folder']}: " + ("sound" if not wrong else f"{len(wrong)} fault{'s' * (len(wrong) > 1)}")
    )
    return errors.BadInput.exit_code if wrong else 0


def _after_sample(made: Any, arguments: dict[str, Any]) -> None:
    print(made)
    if arguments.get("out") is None:
        print("Nothing was written: name a folder with --out.")


def _after_look(sheet: Any, arguments: dict[str, Any]) -> None:
    for key, error in zip(sheet.keys, sheet.errors, strict=bool(sheet.errors)):
        print(printable(f"{key}  root mean squared error {error:.4f} of a range of 2"))
    for kind, place in (("picture", arguments.get("out")), ("codes", arguments.get("codes"))):
        if place is not None:
            print(f"{kind:<9} {place}")
    if arguments.get("out") is None and not sheet.errors:
        print("No picture was written: name one with --out picture.png or --out picture.gif.")


def models() -> None:
    """List the models with their arguments."""
    for name in names(MODELS, "sibling.models"):
        kind = lookup(MODELS, "sibling.models", name)
        print(f"{name:<12} {(kind.__doc__ or '').strip().splitlines()[0]}")
        for argument, value in kind().arguments().items():
            print(f"    {argument:<14} {value}")


_AFTER: dict[str, Callable[[Any, dict[str, Any]], int | None]] = {
    "enlarge": _after_enlarge,
    "read": _after_read,
    "fit": lambda snapshot, _: print(f"run  {snapshot.folder}  snapshot {snapshot.name}"),
    "sample": _after_sample,
    "curate": lambda kept, _: print(kept),
    "evaluate": _after_evaluate,
    "write": lambda out, _: print(f"data set  {out}"),
    "convert": lambda out, _: print(f"data set  {out}"),
    "verify": _after_verify,
    "report": lambda path, _: print(f"report    {path}"),
    "example": lambda out, _: print(f"pictures  {out}"),
    "truncate": _after_look,
    "reject": lambda kept, arguments: print(kept, arguments.get("out") or "", sep="\n"),
    "interpolate": _after_look,
    "vary": _after_look,
    "project": _after_look,
}


def __getattr__(name: str) -> Any:
    """Each command is made when it is asked for, so that one does not import what another needs."""
    if name not in _AFTER:
        raise AttributeError(name)
    return _verb(name, _AFTER[name])
