"""3 · Snapshot + wanted counts -> Dataset. Sample i depends on the snapshot, the seed, y and i alone."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .dataset import Dataset, synthetic
from .device import best, seed_of
from .errors import UsageError
from .progress import Display
from .registry import suggest
from .snapshot import Snapshot
from .write import write

__all__ = ["check_want", "draw", "resolve_want", "sample"]

log = logging.getLogger("sibling")

# The internal batch has one fixed shape: the kernels, and with them the last bits, depend on it.
_CHUNK = 64
MOST_DERIVED = 10_000


def sample(
    snapshot: str | Path | Snapshot,
    *,
    want: str | int | dict[str, int] | None = None,
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
        seed: another seed gives other samples; the same gives the same ones, whatever the batch or machine.
        out: a folder to write them to; None = in memory only.
        overwrite: replace a finished folder at `out`.

    Raises UsageError, BadInput, NumericalError, ResourceError.
    """
    snapshot = snapshot if isinstance(snapshot, Snapshot) else Snapshot(snapshot)
    counts = resolve_want(want, snapshot)
    made = draw(snapshot, {name: range(n) for name, n in counts.items()}, seed)
    if out is not None:
        write(fake=made, out=out, overwrite=overwrite, against=snapshot)
    return made


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
        for name, n in want.items():
            if name not in real:
                raise UsageError(f"There is no class {name!r} in this run.{suggest(name, list(real))}")
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise UsageError(f"want says {n!r} for {name!r}; it must be a whole number from 0 up.")
        return dict(want)
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
    return list(getattr(snapshot.condition, "classes", ())) or ["all"]


def draw(snapshot: Snapshot, wanted: dict[str, range], seed: int) -> Dataset:
    """Samples with these indices of each class, in order."""
    jobs = [(name, i) for name, indices in wanted.items() for i in indices]
    run, model = snapshot.run, snapshot.model
    shape = tuple(run["shape"])
    raw = np.empty((len(jobs), *shape), snapshot.data.raw.dtype)
    labelled = snapshot.condition.width > 0
    with Display("sample", len(jobs)) as display, torch.inference_mode():
        for start in range(0, len(jobs), _CHUNK):
            part = jobs[start : start + _CHUNK]
            padded = part + [part[-1]] * (_CHUNK - len(part))
            names = [name for name, _ in padded]
            cond = snapshot.condition.encode(names if labelled else [None] * _CHUNK, shape[1:])
            seeds = [seed_of(seed, name, i) for name, i in padded]
            with torch.autocast(best().type, enabled=False):
                x = model.sample(cond, names, seeds)
            raw[start : start + len(part)] = snapshot.modality.to_raw(x)[: len(part)]
            display.update(start + len(part))
    info = [{"seed": seed, "index": i, "snapshot": snapshot.name} for _, i in jobs]
    keys = [
        f"{name}/synthetic-{i:06d}" if seed == 0 else f"{name}/synthetic-{seed}-{i:06d}" for name, i in jobs
    ]
    y = [name if labelled else None for name, _ in jobs]
    return synthetic(raw, y, keys, info, snapshot.data)
