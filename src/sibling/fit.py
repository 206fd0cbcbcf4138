"""2 · A Dataset -> a Snapshot: checks, the store, the plan; the loop itself is `training.py`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import files
from .dataset import Dataset, is_store, joined, refuse_inside, save_store
from .device import choose_threads
from .errors import UsageError
from .plan import check_asked, make_plan, read_plan, refuse_changes
from .read import describe, read, require_real
from .snapshot import Snapshot, make_model
from .training import Training
from .unlabelled import check_place, keep_unlabelled, read_unlabelled

__all__ = ["fit"]

log = logging.getLogger("sibling")

# What an unfinished run folder holds at its top.
_OWN = (
    "data",
    "unlabelled",
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
    label_column: str | Sequence[str] | None = None,
    condition: str | None = None,
    unlabelled: str | Path | Dataset | None = None,
    on_bad: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = True,
) -> Snapshot:
    """Train a generative model on the real train part of a data set, and on unlabelled samples if there are any.

    Args:
        data: a place that `read` can read, or a Dataset.
        out: the run folder to make.
        model: "vae", "gan", or "bootstrap", the baseline.
        minutes: training time; turned into a number of steps by a short measurement. None = derived.
        steps: the number of updates, instead of minutes.
        batch: samples an update; None = derived.
        seed: of initial weights, order and noise.
        keep: "all", or "decoder" to leave the encoder out of the snapshot (it is not needed to sample).
        arguments: the model's own arguments by name, for example {"latent": 16}; the rest is derived.
        label_column: the column of the metadata file that is y, or several: "kind,severity"; None = found.
        condition: what y is: "label", "labels", "value", "map" or "joint"; None = found.
        unlabelled: further samples of the same kind without labels, in any format that `read` knows; those whose
            class recognisers of the real train part are sure of are learned from too. None = none.
        on_bad: what to do about broken samples: "auto", "skip" or "stop".
        threads: torch threads; None = measured.
        resume: go on with an unfinished run at `out`, or start it where there is none.
        overwrite: replace a run at `out`.
        tensorboard: write TensorBoard events too, where that package is installed.

    Raises BadInput, UsageError, ResourceError, NumericalError, Stopped.
    """
    check_asked(minutes, steps, batch, keep)
    check_place(unlabelled)
    asked_model = make_model(
        model, arguments or {}
    )  # an unknown one or argument is found out before any work
    out = Path(out)
    files.refuse_overlap(out, *(Path(place) for place in (data, unlabelled) if isinstance(place, str | Path)))
    asked = {
        "model": model, "seed": seed, "keep": keep, "minutes": minutes, "steps": steps, "batch": batch,
        "threads": threads, "arguments": arguments or {},
    }  # fmt: skip
    finished = (out / files.MANIFEST).exists()
    if not (resume and finished):
        files.check_writable(out)
    if not resume:
        _refuse_room(out, overwrite)
    given = read(data, label_column=label_column, condition=condition, on_bad=on_bad)
    require_real(given)
    getattr(asked_model, "refuse", lambda condition: None)(given.condition)
    refuse_inside(out, given)
    if not isinstance(data, Dataset):
        log.info("%s", "\n".join(describe(given)))
    pool = None
    if unlabelled is not None:
        pool = read_unlabelled(unlabelled, given, on_bad)
        refuse_inside(out, pool)
    if resume and finished:
        refuse_changes(out, asked, given, Snapshot(out).data)
        keep_unlabelled(out, given, pool, seed)
        log.info("%s is already complete.", out)
        return Snapshot(out)
    with files.lock(out):
        if not resume:
            files.empty_own(out, _OWN)
        dataset = _store_in(out, given, asked)
        more = keep_unlabelled(out, dataset, pool, seed)
        rows = require_real(dataset)
        if more is not None:
            dataset = joined(dataset, more)
            rows = np.concatenate([rows, dataset.rows("train", "unlabelled")])
        plan = _plan_in(out, dataset, rows, asked, tensorboard)
        Training(dataset, rows, out, plan).run()
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


def _plan_in(
    out: Path, data: Dataset, rows: np.ndarray, asked: dict[str, Any], tensorboard: bool
) -> dict[str, Any]:
    """The plan of the run: the one it was started with, else a new one. Sets the threads that it names."""
    if (out / "plan.json").exists():
        plan = read_plan(out)
        torch.set_num_threads(plan["threads"])
    else:
        torch.set_num_threads(asked["threads"] or choose_threads())
        plan = make_plan(data, rows, asked)
        if "unlabelled" in data.found:
            plan["unlabelled"] = data.found["unlabelled"]
        plan["tensorboard"] = tensorboard
        files.write_json(out / "plan.json", plan)
    for choice in plan["derived"]:
        log.info("  %-12s %s: %s", choice["name"], choice["value"], choice["why"])
    return plan
