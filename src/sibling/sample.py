"""3 · Snapshot + wanted counts -> Dataset. Sample i depends on the snapshot, the seed, y and i alone."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .dataset import Dataset, kinds_of, synthetic
from .device import best, numpy_generator, seed_of
from .errors import UsageError
from .given import as_mapping, completed, rows_of_file
from .progress import Display
from .registry import meant, suggest
from .snapshot import Snapshot
from .types import Condition
from .write import write

__all__ = ["check_want", "draw", "draw_given", "known_group", "resolve_want", "sample"]

log = logging.getLogger("sibling")

# The internal batch has one fixed shape: the kernels, and with them the last bits, depend on it.
_CHUNK = 64
MOST_DERIVED = 10_000


def sample(
    snapshot: str | Path | Snapshot,
    *,
    want: str | int | dict[str, int] | None = None,
    given: str | Mapping[str, Any] | None = None,
    count: int | None = None,
    given_file: str | Path | None = None,
    allow_outside: bool = False,
    shared_style: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Generate labelled samples.

    Args:
        snapshot: a run folder that `fit` made.
        want: how many. A number: so many of each class. "x5": as many as make the real set five times as
            large. "balance": what the smaller classes lack to the largest. {"cat": 500}: those counts.
            None = "x5", at most 10,000 in all.
        given: what y is, instead of `want`: "kind=leaf,severity=0.7", or JSON where a value holds a comma:
            '{"kind": "oak, old"}'. What is not given is drawn as the data have it beside what is given.
        count: how many of `given`; None = 1.
        given_file: a CSV, JSONL or Parquet file with a column for each part of y that is given and, if wanted,
            `count`; so many samples a row.
        allow_outside: take given numbers outside of the range that was seen, or that was seen with the given
            label, labels that were never seen together, and maps of other classes or colours, too; such samples
            say so.
        shared_style: sample i of every class or given y has the same noise: what differs is y alone.
        seed: another seed gives other samples; the same gives the same ones, whatever the batch or machine.
        out: a folder to write them to; None = in memory only.
        overwrite: replace a finished folder at `out`.

    Raises UsageError, BadInput, NumericalError, ResourceError.
    """
    _refuse_both(want, given, count, given_file, allow_outside)
    snapshot = snapshot if isinstance(snapshot, Snapshot) else Snapshot(snapshot)
    if given is None and given_file is None:
        wanted = {name: range(n) for name, n in resolve_want(want, snapshot).items()}
        made = draw(snapshot, wanted, seed, shared_style=shared_style)
    else:
        rows = rows_of_file(given_file, snapshot.condition) if given_file is not None else []
        if given is not None:
            rows = [(as_mapping(given), 1 if count is None else count)]
        made = draw_given(
            snapshot, rows, seed, allow_outside=allow_outside, shared_style=shared_style
        )  # fmt: skip
    if out is not None:
        write(fake=made, out=out, overwrite=overwrite, against=snapshot)
    return made


def _refuse_both(want: Any, given: Any, count: int | None, given_file: Any, allow_outside: bool) -> None:
    told = [
        name
        for name, value in (("want", want), ("given", given), ("given_file", given_file))
        if value is not None
    ]
    if len(told) > 1:
        raise UsageError(f"{' and '.join(told)} both say what to make. Give one of them.")
    if count is not None and given_file is not None:
        raise UsageError(
            "count says how many of what is given, and each row of given_file says so itself, in its column 'count'. "
            "Leave --count (count=) out."
        )
    if count is not None and given is None:
        raise UsageError(
            "count says how many of what is given, and nothing is. Add --given (given=), or use --want (want=)."
        )
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise UsageError(f"count is {count!r}; it must be a whole number, at least 1.")
    if allow_outside and given is None and given_file is None:
        raise UsageError(
            "allow_outside takes given numbers outside of the seen range, and nothing is given. Add --given (given=) "
            "or --given-file (given_file=), or leave --allow-outside (allow_outside=) out."
        )


def resolve_want(want: str | int | dict[str, int] | None, snapshot: Snapshot) -> dict[str, int]:
    """Wanted synthetic samples of each class, from any of the spellings. Raises UsageError."""
    real: dict[str, int] = {name: 0 for name in _names(snapshot)}
    for part in snapshot.run["data"]["counts"].values():
        for name, n in part.items():
            real[name] += n
    if want is None:
        factor = min(4.0, MOST_DERIVED / max(1, sum(real.values())))
        counts = {name: round(factor * n) for name, n in real.items()}
        log.info("  want         x%.3g: the default, at most %s in all", 1 + factor, f"{MOST_DERIVED:,}")
        return counts
    want = _parsed(str(want).strip()) if not isinstance(want, dict | int) or isinstance(want, bool) else want
    if isinstance(want, dict):
        counts = {}
        for name, n in want.items():
            known = meant(name, real)
            if known is None:
                raise UsageError(f"There is no class {name!r} in this run.{suggest(name, list(real))}")
            counts[known] = n
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise UsageError(f"want says {n!r} for {name!r}; it must be a whole number from 0 up.")
        return counts
    if isinstance(want, int):
        if want < 1:
            raise UsageError(f"want is {want}; it must be at least 1 a class.")
        return dict.fromkeys(real, want)
    if want == "balance":
        most = max(real.values())
        if most == min(real.values()):
            raise UsageError(f"want is 'balance', but each class already has {most} samples. Try x5.")
        return {name: most - n for name, n in real.items()}
    return {name: round((want.value - 1) * n) for name, n in real.items()}


@dataclass(frozen=True)
class _Factor:
    value: float


def check_want(want: str | int | dict[str, int] | None) -> None:
    """Find a misspelt `want` before any work. Raises UsageError."""
    if isinstance(want, str):
        _parsed(want.strip())


def _parsed(want: str) -> Any:
    """ "balance", an int, a dict, or a factor."""
    if want == "balance":
        return want
    if re.fullmatch(r"\d+", want):
        return int(want)
    if found := re.fullmatch(r"[x\u00d7](\d+(?:\.\d+)?)", want):
        factor = float(found[1])
        if factor <= 1:
            raise UsageError(f"want is {want!r}; a factor must be more than 1, as in x5.")
        return _Factor(factor)
    if want.startswith("{"):
        try:
            return json.loads(want)
        except ValueError as error:
            raise UsageError(
                f"want is {want!r}, which is not JSON ({error}). Write '{{\"cat\": 500}}'."
            ) from error
    raise UsageError(f"want is {want!r}; known: balance, x5, 500, '{{\"cat\": 500}}'.")


def _names(snapshot: Snapshot) -> list[str]:
    return list(snapshot.condition.classes) or ["all"]


@dataclass(frozen=True, slots=True)
class _Job:
    """One sample to make: its y and group, the streams that it follows, and what is noted about it.

    like  the group that the model is told; another one where it has never seen the sample's own
    """

    y: Any
    group: str
    like: str
    stream: str
    index: int
    key: str
    info: dict[str, Any]


def draw(
    snapshot: Snapshot, wanted: Mapping[str, range], seed: int, *, shared_style: bool = False
) -> Dataset:
    """Samples with these indices of each class, in order."""
    condition, jobs = snapshot.condition, []
    for name, indices in wanted.items():
        for i in indices:
            y = condition.within(name, numpy_generator(seed, "y", name, i))
            jobs.append(_Job(y, name, name, name, i, "synthetic", {}))
    return _made(snapshot, jobs, seed, shared_style)


def draw_given(
    snapshot: Snapshot,
    rows: Sequence[tuple[Mapping[str, Any], int | range]],
    seed: int,
    *,
    allow_outside: bool = False,
    shared_style: bool = False,
) -> Dataset:
    """Samples of given y, in order: (what is given, how many or which indices) for each.

    Equal rows go on counting, so that no two samples are the same. Raises UsageError.
    """
    condition, jobs, after = snapshot.condition, [], Counter[str]()
    modality, kinds = snapshot.modality, kinds_of(condition)
    for number, (given, wanted) in enumerate(rows, 1):
        try:
            told = completed(given, condition, modality, allow_outside=allow_outside, kinds=kinds)
        except UsageError as error:
            raise error if len(rows) == 1 else UsageError(f"Row {number}: {error}") from error
        first = after[told.name]
        indices = range(first, first + wanted) if isinstance(wanted, int) else wanted
        after[told.name] = indices.stop
        for i in indices:
            y = told.draw(numpy_generator(seed, "y", told.name, i))
            (group,) = condition.groups([y])
            like = known_group(condition, group, seed, told.name, i)
            jobs.append(_Job(y, group, like, told.name, i, f"given-{told.digest}", told.info()))
    if not jobs:
        raise UsageError("There is nothing to make: no row asks for a sample.")
    return _made(snapshot, jobs, seed, shared_style)


def known_group(condition: Condition, group: str, seed: int, stream: str, i: int) -> str:
    """The group that a model is told: the sample's own, or one as the data have them where that was never seen.

    The code of such a sample, as far as groups differ in that, is then one of a seen group; y is still its own.
    """
    if group in condition.classes:
        return group
    return condition.groups(condition.draw(1, numpy_generator(seed, "group", stream, i)))[0]


def _made(snapshot: Snapshot, jobs: list[_Job], seed: int, shared_style: bool) -> Dataset:
    run, model = snapshot.run, snapshot.model
    shape = tuple(run["shape"])
    raw = np.empty((len(jobs), *shape), snapshot.data.raw.dtype)
    with Display("sample", len(jobs)) as display, torch.inference_mode():
        for start in range(0, len(jobs), _CHUNK):
            part = jobs[start : start + _CHUNK]
            padded = part + [part[-1]] * (_CHUNK - len(part))
            cond = snapshot.condition.encode([job.y for job in padded], shape[1:])
            seeds = [seed_of(seed, "style" if shared_style else job.stream, job.index) for job in padded]
            with torch.autocast(best().type, enabled=False):
                x = model.sample(cond, [job.like for job in padded], seeds)
            raw[start : start + len(part)] = snapshot.modality.to_raw(x)[: len(part)]
            display.update(start + len(part))
    style = {"style": "shared"} if shared_style else {}
    info = [
        {"seed": seed, "index": job.index, "snapshot": snapshot.name, **style, **job.info} for job in jobs
    ]
    marks = ("" if seed == 0 else f"{seed}-") + ("style-" if shared_style else "")
    keys = [f"{job.group}/{job.key}-{marks}{job.index:06d}" for job in jobs]
    return synthetic(raw, [job.y for job in jobs], keys, info, snapshot.data)
