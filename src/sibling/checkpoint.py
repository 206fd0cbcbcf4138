"""Unfinished trainings: everything that an exact resume needs, between two steps.

The batch, the noise and every schedule are functions of (seed, step), so only weights, averages,
optimiser state and the best weights so far have to be kept. Two checkpoints are kept; a torn or
flipped one is found by its hashes and the one before it is used.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from . import files
from .errors import BadInput, SiblingError
from .models.update import skipping
from .snapshot import load_tensors, save_tensors
from .types import Model

__all__ = ["State", "load_newest", "remove_all", "save"]

log = logging.getLogger("sibling")


@dataclass
class State:
    """What changes from step to step, besides the step itself.

    best        name -> weights of the best validation
    since_best  validations since then
    good        name -> weights of all networks at the last sound validation of a watched model
    rollbacks   how often it went back to them
    seconds     training time so far
    """

    model: Model
    averages: dict[str, AveragedModel]
    best: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    best_loss: float = math.inf
    best_step: int = 0
    since_best: int = 0
    good: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    rollbacks: int = 0
    seconds: float = 0.0


def save(out: Path, step: int, state: State, plan: dict[str, Any]) -> None:
    """Write `checkpoints/step-<step>` as a whole, then remove all but the newest two."""
    tensors: dict[str, torch.Tensor] = {}
    for name, network in state.model.networks.items():
        tensors.update({f"network/{name}/{k}": v for k, v in network.state_dict().items()})
    for name, average in state.averages.items():
        tensors.update({f"average/{name}/{k}": v for k, v in average.state_dict().items()})
    for kind, kept in (("best", state.best), ("good", state.good)):
        for name, weights in kept.items():
            tensors.update({f"{kind}/{name}/{k}": v for k, v in weights.items()})
    for name, optimizer in state.model.optimizers.items():
        for number, slots in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{name}/{number}/{k}": torch.as_tensor(v) for k, v in slots.items()})
    folder = out / "checkpoints" / f"step-{step:08d}"
    with files.new_folder(folder, kind="checkpoint", overwrite=True) as staging:
        save_tensors(staging / "state.safetensors", {k: v.detach().cpu() for k, v in tensors.items()})
        files.write_json(
            staging / "state.json",
            {
                "step": step,
                "best_loss": state.best_loss,
                "best_step": state.best_step,
                "since_best": state.since_best,
                "rollbacks": state.rollbacks,
                "skipped": {name: part.skipped for name, part in skipping(state.model).items()},
                "seconds": state.seconds,
                "steps": plan["steps"],
            },
        )
    for old in _folders(out)[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(out: Path, state: State, plan: dict[str, Any]) -> int:
    """Take over the newest whole checkpoint; returns its step, 0 when there is none."""
    files.sweep(out / "checkpoints")
    for folder in reversed(_folders(out)):
        try:
            _, wrong = files.check_manifest(folder)
            if wrong:
                raise BadInput(wrong[0])
            step = _load(folder, state)
        except SiblingError as error:
            log.warning("The checkpoint %s cannot be used (%s); the one before it is.", folder.name, error)
            continue
        log.info("Going on at step %d of %d.", step, plan["steps"])
        return step
    return 0


def _load(folder: Path, state: State) -> int:
    tensors = load_tensors(folder / "state.safetensors")
    saved = files.read_json(folder / "state.json")
    parts: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        kind, name, rest = key.split("/", 2)
        parts.setdefault((kind, name), {})[rest] = value
    for name, network in state.model.networks.items():
        network.load_state_dict(parts["network", name])
    for name, average in state.averages.items():
        average.load_state_dict(parts["average", name])
    state.best = {name: weights for (kind, name), weights in parts.items() if kind == "best"}
    state.good = {name: weights for (kind, name), weights in parts.items() if kind == "good"}
    for name, optimizer in state.model.optimizers.items():
        slots: dict[int, dict[str, torch.Tensor]] = {}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in parts.get(("optimizer", name), {}).items():
            number, _, slot = key.partition("/")
            slots.setdefault(int(number), {})[slot] = _laid_out_like(parameters[int(number)], value)
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    state.best_loss = math.inf if saved["best_loss"] is None else float(saved["best_loss"])
    state.best_step, state.since_best = int(saved["best_step"]), int(saved["since_best"])
    state.rollbacks = int(saved.get("rollbacks", 0))
    for name, part in skipping(state.model).items():
        part.skipped = int(saved.get("skipped", {}).get(name, 0))
    state.seconds = float(saved["seconds"])
    return int(saved["step"])


def _laid_out_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The value with the strides of its parameter: fused optimisers walk through both as they lie in memory."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def remove_all(out: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _folders(out: Path) -> list[Path]:
    return sorted(path for path in (out / "checkpoints").glob("step-*") if (path / files.MANIFEST).exists())
