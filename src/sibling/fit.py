"""2 · A Dataset -> a Snapshot: the loop with its budget, schedule, averaging, resume and progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from . import __version__, checkpoint, files
from .dataset import Dataset, is_store, refuse_inside, save_store
from .device import autocast, best, choose_threads, environment, generator, numpy_generator
from .errors import NumericalError, Stopped, UsageError
from .plan import batch_at, check_asked, make_plan, read_plan, refuse_changes
from .preview import grid
from .progress import Display
from .read import read, require_real
from .signals import stopping
from .snapshot import FORMAT, Snapshot, equip, make_model, save_tensors
from .types import Batch, Model

__all__ = ["fit"]

log = logging.getLogger("sibling")

LOG_EVERY = 25  # steps
VALIDATIONS = 20  # over the whole training
PATIENCE = 6  # validations without a better one
CHECKPOINT_SECONDS = 45.0
SETTLE_BATCH = 256
PREVIEW_SETTLES = 1_000
# What an unfinished run folder holds at its top.
_OWN = (
    "data",
    "plan.json",
    "stats.jsonl",
    "checkpoints",
    "previews",
    "tensorboard",
    "model.safetensors",
    "run.json",
)


def fit(
    data: str | Path | Dataset,
    *,
    out: str | Path,
    model: str = "vae",
    minutes: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    keep: str = "all",
    arguments: dict[str, Any] | None = None,
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = True,
) -> Snapshot:
    """Train a generative model on the real train part of a data set.

    Args:
        data: a place that `read` can read, or a Dataset.
        out: the run folder to make.
        model: "vae", or "bootstrap", the baseline.
        minutes: training time; turned into a number of steps by a short measurement. None = derived.
        steps: the number of updates, instead of minutes.
        batch: samples an update; None = derived.
        seed: of initial weights, order and noise.
        keep: "all", or "decoder" to leave the encoder out of the snapshot (it is not needed to sample).
        arguments: the model's own arguments by name, for example {"latent": 16}; the rest is derived.
        threads: torch threads; None = measured.
        resume: go on with an unfinished run at `out`, or start it where there is none.
        overwrite: replace a run at `out`.
        tensorboard: write TensorBoard events too, where that package is installed.

    Raises BadInput, UsageError, ResourceError, NumericalError, Stopped.
    """
    check_asked(minutes, steps, batch, keep)
    make_model(model, arguments or {})  # an unknown model or argument is found out before any work
    out = Path(out)
    files.refuse_overlap(out, None if isinstance(data, Dataset) else Path(data))
    asked = {
        "model": model, "seed": seed, "keep": keep, "minutes": minutes, "steps": steps, "batch": batch,
        "threads": threads, "arguments": arguments or {},
    }  # fmt: skip
    finished = (out / files.MANIFEST).exists()
    if not (resume and finished):
        files.check_writable(out)
    if not resume:
        _refuse_room(out, overwrite)
    given = read(data)
    require_real(given)
    refuse_inside(out, given)
    if resume and finished:
        refuse_changes(out, asked, given, Snapshot(out).data)
        log.info("%s is already complete.", out)
        return Snapshot(out)
    with files.lock(out):
        if not resume:
            files.empty_own(out, _OWN)
        dataset = _store_in(out, given, asked)
        plan = _plan_in(out, dataset, asked, tensorboard)
        _train(dataset, require_real(dataset), out, plan)
    return Snapshot(out)


def _refuse_room(out: Path, overwrite: bool) -> None:
    """Refuse a place that is taken, without touching it. Raises UsageError, ResourceError."""
    if not files.is_unfinished(out):
        files.refuse_used(out, overwrite=overwrite)
    elif not overwrite:
        raise UsageError(
            f"{out} holds an unfinished run. Go on with --resume (resume=True), or replace it with --overwrite."
        )


def _store_in(out: Path, given: Dataset, asked: dict[str, Any]) -> Dataset:
    """The data set as a store inside the run folder, so that the run stands on its own."""
    folder = out / "data"
    if is_store(folder):
        stored = read(folder)
        refuse_changes(out, asked, given, stored)
        return stored
    with files.new_folder(folder, kind="store") as staging:
        if given.folder is not None:
            for name in ("raw.npy", "table.parquet", "store.json"):
                files.copy_file(given.folder / name, staging / name, how="hard")
        else:
            raw = files.new_array(staging / "raw.npy", given.raw.shape, given.raw.dtype)
            raw[:] = given.raw
            del raw
            save_store(staging, given)
    return read(folder)


def _plan_in(out: Path, data: Dataset, asked: dict[str, Any], tensorboard: bool) -> dict[str, Any]:
    """The plan of the run: the one it was started with, else a new one. Sets the threads that it names."""
    if (out / "plan.json").exists():
        plan = read_plan(out)
        torch.set_num_threads(plan["threads"])
    else:
        torch.set_num_threads(asked["threads"] or choose_threads())
        plan = make_plan(data, require_real(data), asked)
        plan["tensorboard"] = tensorboard
        files.write_json(out / "plan.json", plan)
    for choice in plan["derived"]:
        log.info("  %-12s %s: %s", choice["name"], choice["value"], choice["why"])
    return plan


# ---- the loop ------------------------------------------------------------------------------------


def _train(data: Dataset, rows: np.ndarray, out: Path, plan: dict[str, Any]) -> None:
    model = make_model(plan["model"], plan["arguments"])
    model.build(data.shape, data.condition, generator(plan["seed"], "weights"))
    equip(model, data.modality)
    averages = {name: AveragedModel(model.networks[name], multi_avg_fn=_average) for name in model.generating}
    state = checkpoint.State(model, averages)
    step = checkpoint.load_newest(out, state, plan)
    files.write_bytes(out / "stats.jsonl", b"".join(_rows_until(out, step)))
    steps, started = plan["steps"], time.monotonic() - state.seconds
    saved = time.monotonic()
    writer = _tensorboard(out) if plan.get("tensorboard", True) else None
    every = max(1, min(steps // VALIDATIONS, 500)) if steps >= VALIDATIONS else steps
    with stopping("after this step") as stop, Display("fit", steps) as display:
        while step < steps and not _is_over(state):
            losses = model.step(batch_at(data, rows, step, plan, steps))
            for name, average in averages.items():
                average.update_parameters(model.networks[name])
            step += 1
            row = {"step": step, "seen_samples": step * plan["batch"], **losses}
            if step % every == 0 or step == steps:
                row["val/loss"] = _validate(data, model, averages, state, step, plan)
            if step % LOG_EVERY == 0 or step in (1, steps) or "val/loss" in row:
                state.seconds = time.monotonic() - started
                row["minutes"] = state.seconds / 60
                files.append_jsonl(out / "stats.jsonl", [row])
                _to_tensorboard(writer, row)
                rate = row["seen_samples"] / max(1e-9, state.seconds)
                display.update(step, f"loss {losses['loss/total']:.4g}  {rate:,.0f} samples/s")
            if step % (5 * every) == 0 and averages:
                _preview(data, model, averages, out, step, plan)
            if stop or (time.monotonic() - saved > CHECKPOINT_SECONDS and step < steps):
                checkpoint.save(out, step, state, plan)
                saved = time.monotonic()
                if stop:
                    raise Stopped(
                        f"Stopped at step {step} of {steps} and saved. Go on with --resume.", stop[0]
                    )
    if writer is not None:
        writer.close()
    _finish(data, rows, out, plan, model, averages, state, step)


def _rows_until(out: Path, step: int) -> Iterator[bytes]:
    """The log rows of a run up to a checkpoint: what came after it is done again."""
    for row in files.read_jsonl(out / "stats.jsonl"):
        if row["step"] <= step:
            yield (files.to_line(row) + "\n").encode()


def _average(averaged: Any, current: Any, count: Any) -> None:
    """Exponential moving average with a warm-up, so that short trainings are not held back by their start."""
    decay = min(0.999, (1 + float(count)) / (10 + float(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)


def _is_over(state: checkpoint.State) -> bool:
    return state.since_best >= PATIENCE


@contextmanager
def _averaged(model: Model, averages: dict[str, AveragedModel]) -> Iterator[None]:
    """Use the averaged weights inside the block."""
    trained = {name: model.networks[name] for name in averages}
    model.networks.update({name: average.module for name, average in averages.items()})
    try:
        yield
    finally:
        model.networks.update(trained)


def _validate(
    data: Dataset,
    model: Model,
    averages: dict[str, AveragedModel],
    state: checkpoint.State,
    step: int,
    plan: dict[str, Any],
) -> float:
    """The held-out loss of the averaged weights; remembers the best ones."""
    rows = data.rows("val", "real")
    rows = rows[:: max(1, len(rows) // 1024)]  # not the first ones: data often lie sorted by class
    if len(rows) == 0:
        state.best_step = step  # nothing to choose by: the last weights are the ones
        return math.nan
    total, count = 0.0, 0
    with _averaged(model, averages), autocast(best(), enabled=False):
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            # The same noise each time: two validations differ by their weights alone.
            batch = Batch(data.x(part), data.cond(part), generator(plan["seed"], "validate", start), 1.0)
            value, n = model.validate(batch)
            total, count = total + value, count + n
    loss = total / count
    if not math.isfinite(loss):
        raise NumericalError(f"The held-out loss at step {step} is {loss}. Try a smaller learning rate.")
    warmed_up = step >= 0.3 * plan["steps"]
    if loss < state.best_loss or not warmed_up:
        state.best_loss, state.best_step, state.since_best = loss, step, 0
        state.best = {
            name: {k: v.detach().clone() for k, v in average.module.state_dict().items()}
            for name, average in averages.items()
        }
    else:
        state.since_best += 1
    return loss


def _passes(data: Dataset, rows: np.ndarray, seed: int) -> Iterator[tuple[Batch, list[str]]]:
    """Once through these rows in order, as `Model.settle` wants it."""
    for start in range(0, len(rows), SETTLE_BATCH):
        part = rows[start : start + SETTLE_BATCH]
        yield Batch(data.x(part), data.cond(part), generator(seed, "settle", start), 1.0), data.classes(part)


def _preview(
    data: Dataset,
    model: Model,
    averages: dict[str, AveragedModel],
    out: Path,
    step: int,
    plan: dict[str, Any],
) -> None:
    """Samples of the averaged weights, a column a class, with what sampling needs fitted on a part of the data."""
    names = list(getattr(data.condition, "classes", ("all",)))[:10]
    y = [name for _ in range(6) for name in names]
    conditions = y if data.condition.width else [None] * len(y)
    seeds = [int(generator(plan["seed"], "preview", i).initial_seed()) for i in range(len(y))]
    rows = require_real(data)
    rows = rows[:: max(1, len(rows) // PREVIEW_SETTLES)]
    with _averaged(model, averages):
        model.settle(lambda: _passes(data, rows, plan["seed"]), numpy_generator(plan["seed"], "preview"))
        x = model.sample(data.condition.encode(conditions, data.shape[1:]), y, seeds)
    picture = grid(data.modality.preview(data.modality.to_raw(x)), columns=len(names))
    files.write_bytes(out / "previews" / f"step-{step:06d}.png", picture)


def _finish(
    data: Dataset,
    rows: np.ndarray,
    out: Path,
    plan: dict[str, Any],
    model: Model,
    averages: dict[str, AveragedModel],
    state: checkpoint.State,
    step: int,
) -> None:
    """Best weights, prior, run.json, manifest."""
    for name, average in averages.items():
        model.networks[name] = average.module
        if name in state.best:
            average.module.load_state_dict(state.best[name])

    model.settle(lambda: _passes(data, rows, plan["seed"]), numpy_generator(plan["seed"], "settle"))
    weights = model.state()
    broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise NumericalError(
            f"The weights {broken[0]} are not finite after training; no snapshot was written."
        )
    save_tensors(out / "model.safetensors", weights)
    over = "the held-out loss no longer fell" if step < plan["steps"] else "the planned steps are done"
    files.write_json(
        out / "run.json",
        {
            "format": FORMAT,
            "sibling": __version__,
            "model": plan["model"],
            "arguments": model.arguments(),
            "shape": list(data.shape),
            "modality": data.modality.to_json(),
            "condition": data.condition.to_json(),
            "data": {
                "fingerprint": data.fingerprint(),
                "source": data.found.get("source", ""),
                "split_hash": data.found.get("split_hash", ""),
                "counts": data.counts(),
            },
            "seed": plan["seed"],
            "batch": plan["batch"],
            "steps": plan["steps"],
            "step": step,
            "best_step": state.best_step or step,
            "seen_samples": step * plan["batch"],
            "minutes": state.seconds / 60,
            "stopped": over,
            "derived": plan["derived"],
            "notes": plan["notes"],
            "environment": environment(),
        },
    )
    checkpoint.remove_all(out)
    owned = ["run.json", "plan.json", "model.safetensors", "stats.jsonl"]
    owned += [path.relative_to(out).as_posix() for path in sorted((out / "previews").glob("*.png"))]
    owned += [path.relative_to(out).as_posix() for path in sorted((out / "data").iterdir())]
    files.write_manifest(out, kind="run", only=owned)
    log.info("  %s after %d steps, best at %d", over, step, state.best_step or step)


def _tensorboard(out: Path) -> Any:
    """A TensorBoard writer where that package is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))


def _to_tensorboard(writer: Any, row: dict[str, Any]) -> None:
    if writer is None:
        return
    for name, value in row.items():
        if name not in ("step", "seen_samples", "minutes"):
            writer.add_scalar(name, value, row["step"])
