"""Every number of a training that is derived rather than given, with its reason.

Minutes, data and shape go in; arguments, batch and steps come out. From there on schedules depend on
steps alone, so that a resumed run keeps them.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import files
from .dataset import Dataset
from .device import environment, generator, numpy_generator
from .errors import BadInput, UsageError
from .snapshot import make_model
from .types import Batch, Cond, Model
from .watch import LEAST_HELD

__all__ = [
    "Nearby",
    "balanced",
    "batch_at",
    "check_asked",
    "make_plan",
    "nearby",
    "read_plan",
    "refuse_changes",
]

log = logging.getLogger("sibling")

MOST_BATCH = 128  # samples an update, unless the model says otherwise
MOST_CLIPS = 32  # the same for clips (C, T, H, W): each costs as much as ten pictures, and updates count
MOST_REPEATS = 20  # of a rare group's samples, before the repeats grow more slowly
FEW_UPDATES = 120  # of a game: 43 to 84 gave blots of 300 digits of 28 x 28, 148 digits that one can read
HELD_EVERY = 8  # steps between two looks at held-out samples


def check_asked(minutes: float | None, steps: int | None, batch: int | None, keep: str) -> None:
    """Find out before any work what cannot be meant. Raises UsageError."""
    if minutes is not None and steps is not None:
        raise UsageError(
            "Give minutes or steps, not both: minutes are turned into steps (--minutes, --steps)."
        )
    if minutes is not None and not 0 < minutes <= 10_000:
        raise UsageError(f"minutes is {minutes}; it must be more than 0 and at most 10,000.")
    if steps is not None and steps < 1:
        raise UsageError(f"steps is {steps}; at least 1 is needed.")
    if batch is not None and batch < 1:
        raise UsageError(f"batch is {batch}; at least 1 is needed.")
    if keep not in ("all", "decoder"):
        raise UsageError(f"keep is {keep!r}; known: all, decoder.")


def _arguments(
    data: Dataset, n: int, classes: list[str], asked: dict[str, Any]
) -> tuple[Any, dict[str, Any], list[dict[str, str]]]:
    """A model with what the user named, all arguments that follow, and why."""
    name, given = asked["model"], dict(asked["arguments"])
    if asked["keep"] == "decoder":
        dropped = {"keep_encoder", "keep_discriminator"} & make_model(name, {}).arguments().keys()
        given.update(dict.fromkeys(dropped, False))
    chosen, derived = dict(given), []
    probe = make_model(name, given)
    suggested = getattr(data.modality, "suggests", {}).get(name, {})  # what suits such samples
    following = {key: (value, why) for key, value, why in type(probe).derive(n, len(classes), data.shape)}
    for key, (value, why) in {**following, **suggested}.items():
        if key in given:
            derived.append(_why(key, given[key], "asked for"))
        else:
            chosen[key] = value
            derived.append(_why(key, value, why))
    return probe, chosen, derived


def make_plan(data: Dataset, rows: np.ndarray, asked: dict[str, Any]) -> dict[str, Any]:
    """Minutes, data and shape -> batch, arguments and steps. Numbered as in docs/recipe.md."""
    name, minutes, steps, batch, seed = (asked[key] for key in ("model", "minutes", "steps", "batch", "seed"))
    n = len(rows)
    classes = sorted(set(data.classes(rows)))
    # 1. Arguments of the model that follow from the data; what the user names wins.
    probe, chosen, derived = _arguments(data, n, classes, asked)
    # 2. Batch: large enough to use the machine, small enough for several hundred updates.
    if batch is None:
        most = getattr(type(probe), "most_batch", MOST_BATCH)
        most = min(most, MOST_CLIPS) if len(data.shape) == 4 else most
        batch = int(np.clip(n // 8 * 8, 8, most)) if n >= 8 else n
        derived.append(_why("batch", batch, f"{n:,} training samples; at most {most}"))
    batch = min(batch, max(n, 1))
    # 3. Minutes: more data is worth more time, up to ten minutes.
    if steps is None and minutes is None:
        minutes = float(np.clip(0.5 + n * math.prod(data.shape[1:]) / 784 / 2_000, 0.5, 10))
        derived.append(
            _why(
                "minutes", f"{minutes:.1f}", "half a minute and what the amount of data asks for, at most 10"
            )
        )
    # 4. Steps: what fits into the minutes on this machine, measured now.
    plan: dict[str, Any] = {"model": name, "arguments": chosen, "asked": asked, "batch": batch, "seed": seed}
    short: list[str] = []
    if not type(probe).generating:
        steps = 1  # nothing is learned step by step
    if steps is None:
        seconds = _seconds_a_step(data, rows, plan)
        # A share for validation and the prior; never more than 3,000 passes over the data.
        steps = int(np.clip(minutes * 60 * 0.94 / seconds, 20, max(200, 3_000 * n / batch)))
        derived.append(
            _why(
                "steps",
                f"{steps:,}",
                f"{minutes:g} minutes at {batch / seconds:,.0f} samples/s, measured now",
            )
        )
        if steps < FEW_UPDATES and getattr(probe, "watched", False):
            short.append(
                f"{steps:,} updates are few for an adversarial network: its samples will hardly be more than noise. "
                "Give it more time with --minutes (minutes=)."
            )
    why = "asked for" if asked["threads"] else "the fastest in a short measurement, or OMP_NUM_THREADS"
    derived.append(_why("threads", torch.get_num_threads(), why))
    notes = [*_small_data_notes(data, rows), *short]
    for note in notes:
        log.warning("%s", note)
    plan.update(steps=steps, derived=derived, notes=notes)
    return {**plan, "threads": torch.get_num_threads(), "environment": environment()}


def _why(name: str, value: Any, why: str) -> dict[str, str]:
    return {"name": name, "value": str(value), "why": why}


def _small_data_notes(data: Dataset, rows: np.ndarray) -> list[str]:
    """What so few samples can and cannot give, in plain words."""
    counts: dict[str, int] = {}
    for name in data.classes(rows):
        counts[name] = counts.get(name, 0) + 1
    least_name, least = min(counts.items(), key=lambda item: item[1])
    notes = []
    if len(rows) < 50:
        notes.append(
            f"{len(rows)} training samples in all: a generator can only vary what it saw; expect blends of them, and "
            "no proof that they help. Collecting a few dozen more is worth more than any model."
        )
    elif least < 10:
        notes.append(
            f"The class {least_name!r} has {least} training samples: its siblings lean on the spread of the other "
            "classes; below about 10 a class no method trained from scratch is known to help."
        )
    if len(counts) == 1 and data.condition.name == "label":
        notes.append(
            "There is one class: samples can be made, but whether they help a recogniser cannot be measured."
        )
    return notes


def _seconds_a_step(data: Dataset, rows: np.ndarray, plan: dict[str, Any]) -> float:
    """The time of one update, on a model that is thrown away afterwards."""
    model = make_model(plan["model"], plan["arguments"])
    model.build(data.shape, data.condition, generator(plan["seed"], "measure"))
    start, done, first = time.perf_counter(), 0, 3
    around = nearby(data, rows, model)
    # Whole rounds of eight: a model may do something only every few steps.
    while done < first + 8 or (time.perf_counter() - start < 1.5 or (done - first) % 8):
        if done == first:
            start = time.perf_counter()  # the first steps allocate and choose kernels
        batch = batch_at(data, rows, done, plan, 10**9, model=model, nearby=around)
        # Early and late in turn: a model may do more in a later part of the training.
        model.step(replace(batch, progress=0.25 if done % 2 else 0.75))
        done += 1
    return (time.perf_counter() - start) / (done - first)


@lru_cache(maxsize=2)  # a batch may lie in two epochs; a permutation a step would cost as much as reading it
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return numpy_generator(seed, "order", epoch).permutation(n)


def batch_at(
    data: Dataset,
    rows: np.ndarray,
    step: int,
    plan: dict[str, Any],
    steps: int,
    *,
    model: Model | None = None,
    nearby: Nearby | None = None,
) -> Batch:
    """The batch of a step: a function of (seed, step) alone, so that a resumed run sees the same ones.

    model   what it `wants` beside x and y: wrong conditions, held-out samples
    nearby  for numbers as conditions: other reals and numbers around the batch's own
    """
    size, seed = plan["batch"], plan["seed"]
    first = step * size
    positions = np.arange(first, first + size)
    at = np.empty(size, np.int64)
    for epoch in range(first // len(rows), (first + size - 1) // len(rows) + 1):
        inside = positions // len(rows) == epoch
        order = _order(seed, epoch, len(rows))
        at[inside] = order[positions[inside] % len(rows)]
    at.sort()  # the order inside a batch means nothing; a memory map reads forwards
    rng, draws = generator(seed, "step", step), numpy_generator(seed, "conditions", step)
    made = weight = wrong = held = certain = None
    y: list[Any]
    chosen = rows[at]
    if nearby is None:
        y = data.y(chosen)
    else:
        y, near, others, weights = nearby.vicinity.draw(np.searchsorted(nearby.rows, chosen), draws)
        chosen = nearby.rows[near]
        made, weight = data.condition.encode(others, data.shape[1:]), torch.from_numpy(weights)
    x = _mirrored(data, data.x(chosen), rng)
    if getattr(model, "wants_wrong", False) and data.condition.unambiguous:
        wrong = _wrong(data, y, draws)
        certain = _certain(data, chosen)
    if getattr(model, "wants_held", False) and step % HELD_EVERY == 0:
        held = _held(data, size, draws, rng)
    cond = data.condition.encode(y, data.shape[1:])
    return Batch(x, cond, rng, min(1.0, step / steps), wrong, made, weight, held, step, certain)


@dataclass(frozen=True)
class Nearby:
    """The vicinities of a data set's numbers (CcGAN), over each training sample once.

    vicinity  of `Condition.vicinity`; counts within `rows`
    rows      sorted row numbers
    """

    vicinity: Any
    rows: np.ndarray


def nearby(data: Dataset, rows: np.ndarray, model: Model) -> Nearby | None:
    """For a model that wants vicinities and a condition that has them, else None.

    Over the samples as they are, not as `balanced` repeats them: a repeated sample has no other one near it.
    """
    if not getattr(model, "wants_vicinity", False) or not hasattr(data.condition, "vicinity"):
        return None
    rows = np.sort(rows)
    return Nearby(data.condition.vicinity(data.y(rows), model.arguments()["vicinity"]), rows)


def balanced(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows in which rare groups are repeated until all groups weigh alike.

    Above 20 times the repeats grow as the square root only: a handful of samples seen a thousand times is
    learned by heart.
    """
    groups = np.array(data.classes(rows))
    names, counts = np.unique(groups, return_counts=True)
    lacking = counts.max() / counts
    times = np.where(lacking <= MOST_REPEATS, lacking, np.sqrt(MOST_REPEATS * lacking))
    wanted = np.round(counts * times).astype(int)
    parts = [np.resize(rows[groups == name], n) for name, n in zip(names, wanted, strict=True)]
    return np.sort(np.concatenate(parts))


def _wrong(data: Dataset, y: list[Any], draws: np.random.Generator) -> Cond | None:
    """A wrong condition for each sample; None where there is but one value of y."""
    try:
        wrong = data.condition.mismatch(y, draws)
    except UsageError:
        return None
    return data.condition.encode(wrong, data.shape[1:])


def _certain(data: Dataset, rows: np.ndarray) -> torch.Tensor | None:
    """(N,) 0 for samples whose label is a guess, as the wrong label may be the right one; 1 on average.

    None where there are no such samples.
    """
    real = torch.tensor([data.table["origin"][i] != "unlabelled" for i in rows], dtype=torch.float32)
    return None if bool(real.all()) else real / real.mean().clamp(min=1 / len(rows))


def _mirrored(data: Dataset, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Mirrored half of the time where the data say that this is harmless."""
    return data.modality.augment(x, 0.0, rng) if getattr(data.modality, "flips", ()) else x


def _held(data: Dataset, size: int, draws: np.random.Generator, rng: torch.Generator) -> Batch | None:
    """Held-out samples, as many as a batch has; None where there are too few to gauge anything by."""
    rows = data.rows("val", "real")
    if len(rows) < LEAST_HELD:
        return None
    rows = np.sort(draws.choice(rows, size, replace=len(rows) < size))
    return Batch(_mirrored(data, data.x(rows), rng), data.cond(rows), rng, 0.0)


def read_plan(out: Path) -> dict[str, Any]:
    """The plan that a run was started with. Raises BadInput when it is damaged."""
    plan = files.read_json(out / "plan.json")
    if not isinstance(plan, dict) or not {"asked", "steps", "environment"} <= plan.keys():
        raise BadInput(f"{out / 'plan.json'} is damaged; start again with --overwrite.")
    now = environment()
    for name in ("torch", "device", "cpu_capability"):
        if plan["environment"].get(name) != now[name]:
            log.warning(
                "The run was started with %s %s, now it is %s: its end may differ in the last bits.",
                name, plan["environment"].get(name), now[name],
            )  # fmt: skip
    return plan


def refuse_changes(out: Path, asked: dict[str, Any], given: Dataset, stored: Dataset) -> None:
    """A resumed run keeps its data and arguments. Raises UsageError that names what differs."""
    if given.fingerprint() != stored.fingerprint():
        raise UsageError(
            f"The data have changed since the run {out} was started: {len(stored)} samples then, {len(given)} now, "
            "or other contents. Start a new run, or give the old data."
        )
    if not (out / "plan.json").exists():
        return
    plan = read_plan(out)
    before = {**plan, **{name: value for name, value in plan["asked"].items() if value is not None}}
    changes = {name: (before.get(name), value) for name, value in asked.items() if name != "arguments"}
    for name, value in asked["arguments"].items():
        changes[name] = (plan["arguments"].get(name), value)
    for name, (then, now) in changes.items():
        now = json.loads(json.dumps(now))  # as the plan keeps it: tuples are lists there
        if now is not None and now not in (then, plan.get(name)):
            raise UsageError(
                f"The run {out} was started with {name} {then!r}, now it is {now!r}. "
                "Leave it as it was, or start a new run."
            )
