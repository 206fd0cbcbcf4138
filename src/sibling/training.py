"""The loop of `fit`: steps, averages, validation, checkpoints, rollback, and the snapshot at its end.

There is one loop for every family of models: a step of the model is one update of all its players.
"""

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
from .dataset import Dataset
from .device import autocast, best, environment, generator, numpy_generator
from .errors import NumericalError, Stopped
from .plan import balanced, batch_at, nearby
from .preview import grid
from .progress import Display
from .signals import stopping
from .snapshot import FORMAT, equip, make_model, save_tensors
from .types import Batch
from .watch import Watch, has_collapsed, keep_good, roll_back

__all__ = ["Training"]

log = logging.getLogger("sibling")

LOG_EVERY = 25  # steps
VALIDATIONS = 20  # over the whole training
PATIENCE = 6  # validations without a better one, unless the model says otherwise
WARMED_UP = 0.3  # share of the steps before which a validation decides nothing
CHECKPOINT_SECONDS = 45.0
SETTLE_BATCH = 256
PREVIEW_SETTLES = 1_000


class Training:
    """One training of a planned run.

    data  the store in the run folder
    rows  those of its train part that are learned from: the real ones, and pseudo-labelled ones
    out   the run folder
    plan  what `make_plan` gave
    """

    def __init__(self, data: Dataset, rows: np.ndarray, out: Path, plan: dict[str, Any]) -> None:
        self.data, self.rows, self.out, self.plan = data, rows, out, plan
        model = self.model = make_model(plan["model"], plan["arguments"])
        model.build(data.shape, data.condition, generator(plan["seed"], "weights"))
        equip(model, data.modality)
        self.averages = {
            name: AveragedModel(model.networks[name], multi_avg_fn=_average) for name in model.generating
        }
        self.state = checkpoint.State(model, self.averages)
        self.watch = (
            Watch(data, data.rows("train", "real"), plan["seed"])
            if getattr(model, "watched", False)
            else None
        )
        self.drawn = balanced(data, rows) if getattr(model, "wants_balance", False) else rows
        self.nearby = nearby(data, rows, model)

    def run(self) -> None:
        """All steps that are left, then the snapshot. Raises Stopped, NumericalError."""
        out, plan, state, steps = self.out, self.plan, self.state, self.plan["steps"]
        step = checkpoint.load_newest(out, state, plan)
        files.write_bytes(out / "stats.jsonl", b"".join(_rows_until(out, step)))
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        writer = _tensorboard(out) if plan.get("tensorboard", True) else None
        every = self.every
        with stopping("after this step") as stop, Display("fit", steps) as display:
            while step < steps and not self._is_over():
                row = self._step(step)
                step += 1
                row = {"step": step, "seen_samples": step * plan["batch"], **row}
                if step % every == 0 or step == steps:
                    row |= self._validate(step)
                if step % LOG_EVERY == 0 or step in (1, steps) or "val/loss" in row or "game/rollback" in row:
                    state.seconds = time.monotonic() - started
                    row["minutes"] = state.seconds / 60
                    files.append_jsonl(out / "stats.jsonl", [row])
                    _to_tensorboard(writer, row)
                    rate = row["seen_samples"] / max(1e-9, state.seconds)
                    display.update(step, f"loss {row.get('loss/total', math.nan):.4g}  {rate:,.0f} samples/s")
                if step % (5 * every) == 0 and self.averages:
                    self._preview(step)
                if stop or (time.monotonic() - saved > CHECKPOINT_SECONDS and step < steps):
                    checkpoint.save(out, step, state, plan)
                    saved = time.monotonic()
                    if stop:
                        raise Stopped(
                            f"Stopped at step {step} of {steps} and saved. Go on with --resume.", stop[0]
                        )
        if writer is not None:
            writer.close()
        self._finish(step)

    @property
    def every(self) -> int:
        """Steps between two validations."""
        steps: int = self.plan["steps"]
        return max(1, min(steps // VALIDATIONS, 500)) if steps >= VALIDATIONS else steps

    @property
    def _undecided(self) -> int:
        """Steps before which no weights are the best ones."""
        share: float = getattr(self.model, "decides_from", WARMED_UP)
        steps: int = self.plan["steps"]
        return math.ceil(share * steps - 1e-9)  # 0.6 of 40 is 24, whatever floats say

    def _is_over(self) -> bool:
        if self.watch is None:
            return self.state.since_best >= PATIENCE
        # A share of the training, however many validations a long one has: a game gets better in waves.
        patience: float = (
            getattr(self.model, "patience", PATIENCE) * self.plan["steps"] / VALIDATIONS / self.every
        )
        return self.state.since_best >= max(float(PATIENCE), patience)

    def _step(self, step: int) -> dict[str, Any]:
        """One update of the model and of the averages; a watched model that fails goes back to good weights."""
        plan, steps = self.plan, self.plan["steps"]
        batch = batch_at(self.data, self.drawn, step, plan, steps, model=self.model, nearby=self.nearby)
        try:
            row: dict[str, Any] = self.model.step(batch)
        except NumericalError as error:
            if self.watch is None:
                raise
            return self._back(str(error).split(".")[0], step)
        for name, average in self.averages.items():
            average.update_parameters(self.model.networks[name])
        return row

    def _back(self, why: str, step: int) -> dict[str, float]:
        state = self.state
        roll_back(self.model, state.good, why, step, state.rollbacks)
        state.rollbacks += 1
        for name, average in self.averages.items():
            average.module.load_state_dict(self.model.networks[name].state_dict())
        return {"game/rollback": 1.0}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the averaged weights inside the block."""
        networks = self.model.networks
        trained = {name: networks[name] for name in self.averages}
        networks.update({name: average.module for name, average in self.averages.items()})
        try:
            yield
        finally:
            networks.update(trained)

    # ---- validation --------------------------------------------------------------------------

    def _validate(self, step: int) -> dict[str, float]:
        """The held-out loss of the averaged weights; remembers the best ones."""
        with self._averaged(), autocast(best(), enabled=False):
            row = self._held_out_loss() if self.watch is None else self._watched(step)
        if self.watch is not None:
            if not has_collapsed(row):
                self.state.good = keep_good(self.model)
            elif self.state.good and (step >= self._undecided or math.isnan(row.get("game/diversity", 0.0))):
                return row | self._back("the samples are all alike", step)
        loss = row.setdefault("val/loss", math.nan)
        if math.isnan(loss) and not self._has_held_out():
            self.state.best_step = step  # nothing to choose by: the last weights are the ones
        elif not math.isfinite(loss):
            raise NumericalError(f"The held-out loss at step {step} is {loss}. Try a smaller learning rate.")
        else:
            self._remember(loss, step, row.get("val/noise", 0.0))
        return row

    def _watched(self, step: int) -> dict[str, float]:
        """What the samples of a model say that has no loss to choose by."""
        self._settle_on_a_part(step)
        return self.watch(self.model) if self.watch is not None else {}

    def _has_held_out(self) -> bool:
        return self.watch.has_val if self.watch is not None else len(self.data.rows("val", "real")) > 0

    def _held_out_loss(self) -> dict[str, float]:
        """The model's own held-out loss, averaged over at most 1,024 or so samples."""
        rows = self.data.rows("val", "real")
        rows = rows[:: max(1, len(rows) // 1024)]  # not the first ones: data often lie sorted by class
        total, count = 0.0, 0
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            # The same noise each time: two validations differ by their weights alone.
            rng = generator(self.plan["seed"], "validate", start)
            value, n = self.model.validate(Batch(self.data.x(part), self.data.cond(part), rng, 1.0))
            total, count = total + value, count + n
        return {"val/loss": total / count} if count else {}

    def _remember(self, loss: float, step: int, noise: float) -> None:
        """Keep these weights unless they are worse than the best by more than chance.

        Where two losses differ by noise alone the later weights are better: the smallest of twenty values
        that all hover about 0 is a lucky one, early or late, and no reason to throw a training away.
        """
        state = self.state
        if loss < state.best_loss + noise or step < self._undecided:
            decided = step >= self._undecided
            state.best_loss = min(loss, state.best_loss) if decided else math.inf
            state.best_step, state.since_best = step, 0
            # The others too: a discriminator belongs to the generator that it has played against.
            best = self.model.networks | {name: average.module for name, average in self.averages.items()}
            state.best = {
                name: {k: v.detach().clone() for k, v in network.state_dict().items()}
                for name, network in best.items()
            }
        else:
            state.since_best += 1

    # ---- pictures and the end ----------------------------------------------------------------

    def _passes(self, rows: np.ndarray) -> Iterator[tuple[Batch, list[str]]]:
        """Once through these rows in order, as `Model.settle` wants it."""
        data = self.data
        for start in range(0, len(rows), SETTLE_BATCH):
            part = rows[start : start + SETTLE_BATCH]
            rng = generator(self.plan["seed"], "settle", start)
            yield Batch(data.x(part), data.cond(part), rng, 1.0), data.classes(part)

    def _settle_on_a_part(self, step: int) -> None:
        """What sampling needs, fitted on some of the data, to see how the training stands."""
        rows = self.rows[:: max(1, len(self.rows) // PREVIEW_SETTLES)]
        self.model.settle(lambda: self._passes(rows), numpy_generator(self.plan["seed"], "preview"))

    def _preview(self, step: int) -> None:
        """Samples of the averaged weights, a column a class, with what sampling needs fitted on a part of the data."""
        data, seed = self.data, self.plan["seed"]
        names = list(data.condition.classes)[:10]
        groups = [name for _ in range(6) for name in names]
        y = [
            data.condition.within(name, numpy_generator(seed, "preview", i)) for i, name in enumerate(groups)
        ]
        seeds = [int(generator(seed, "preview", i).initial_seed()) for i in range(len(y))]
        with self._averaged():
            self._settle_on_a_part(step)
            x = self.model.sample(data.condition.encode(y, data.shape[1:]), groups, seeds)
        picture = grid(data.modality.preview(data.modality.to_raw(x)), columns=len(names))
        files.write_bytes(self.out / "previews" / f"step-{step:06d}.png", picture)

    def _finish(self, step: int) -> None:
        """Best weights, prior, run.json, manifest."""
        model, state, out, seed = self.model, self.state, self.out, self.plan["seed"]
        model.networks.update({name: average.module for name, average in self.averages.items()})
        for name, weights in state.best.items():
            model.networks[name].load_state_dict(weights)
        model.settle(lambda: self._passes(self.rows), numpy_generator(seed, "settle"))
        weights = model.state()
        broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise NumericalError(
                f"The weights {broken[0]} are not finite after training; no snapshot was written."
            )
        save_tensors(out / "model.safetensors", weights)
        gauge = "held-out loss" if self.watch is None else "kernel distance to held-out samples"
        over = f"the {gauge} no longer fell" if step < self.plan["steps"] else "the planned steps are done"
        files.write_json(out / "run.json", self._facts(step, over))
        checkpoint.remove_all(out)
        owned = ["run.json", "plan.json", "model.safetensors", "stats.jsonl"]
        owned += [path.relative_to(out).as_posix() for path in sorted((out / "previews").glob("*.png"))]
        for store in (out / "data", out / "unlabelled"):
            if store.is_dir():
                owned += [path.relative_to(out).as_posix() for path in sorted(store.iterdir())]
        files.write_manifest(out, kind="run", only=owned)
        log.info("  %s after %d steps, best at %d", over, step, state.best_step or step)

    def _facts(self, step: int, over: str) -> dict[str, Any]:
        """What run.json says."""
        data, plan, state = self.data, self.plan, self.state
        return {
            "format": FORMAT,
            "sibling": __version__,
            "model": plan["model"],
            "arguments": self.model.arguments(),
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
            "rollbacks": state.rollbacks,
            "derived": plan["derived"],
            "notes": plan["notes"],
            **({"unlabelled": plan["unlabelled"]} if "unlabelled" in plan else {}),
            "environment": environment(),
        }


def _rows_until(out: Path, step: int) -> Iterator[bytes]:
    """The log rows of a run up to a checkpoint: what came after it is done again."""
    for row in files.read_jsonl(out / "stats.jsonl"):
        if row["step"] <= step:
            yield (files.to_line(row) + "\n").encode()


def _average(averaged: Any, current: Any, count: Any) -> None:
    """Exponential moving average with a warm-up, so that short trainings are not held back by their start."""
    decay = min(0.999, (1 + float(count)) / (10 + float(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)


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
