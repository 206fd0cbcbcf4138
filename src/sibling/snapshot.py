"""A trained model in a run folder: safetensors and JSON, never anything that can run code.

run/
  run.json            model, arguments, shape, modality, condition, data, steps, seed, versions
  model.safetensors   what sampling needs: averaged weights and the prior
  stats.jsonl         a row a log point
  data/               the store it was trained on, with the frozen split
  previews/           sample grids during training
  MANIFEST.json       written last: sizes and sha256 of the above
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from . import files
from .dataset import Dataset, is_store, joined, make_condition, make_modality, open_store
from .device import generator
from .errors import BadInput, UnsafeFile, UsageError
from .models import MODELS
from .registry import lookup
from .types import Condition, Modality, Model

__all__ = ["Snapshot", "equip", "load_tensors", "make_model", "save_tensors"]

FORMAT = 1
MOST_BYTES = 8 * 2**30


class Snapshot:
    """A trained model with everything that sampling needs.

    folder  the run folder
    Raises BadInput when it is no finished run, UnsafeFile when it does not fit itself.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if files.is_unfinished(self.folder):
            raise BadInput(f"{self.folder} holds an unfinished run. Go on with sibling fit --resume.")
        if not (self.folder / "run.json").is_file():
            raise BadInput(
                f"{self.folder} is not a run folder: it has no run.json. Make one with sibling fit."
            )
        manifest, wrong = files.check_manifest(self.folder)
        if wrong:
            raise BadInput(f"The run {self.folder} is damaged: {wrong[0]}.")
        self.run: dict[str, Any] = files.read_json(self.folder / "run.json")
        if self.run.get("format") != FORMAT:
            raise BadInput(
                f"{self.folder} was written in format {self.run.get('format')} by Sibling {self.run.get('sibling')}; "
                f"this version reads format {FORMAT}."
            )
        self.hash: str = manifest["files"]["model.safetensors"]["sha256"]

    def __repr__(self) -> str:
        return f"<Snapshot {self.run['model']} {self.hash[:12]} in {self.folder}>"

    @property
    def name(self) -> str:
        """The first 12 characters of the hash of its weights."""
        return self.hash[:12]

    @cached_property
    def modality(self) -> Modality:
        """What one sample is."""
        return make_modality(self.run["modality"])

    @cached_property
    def condition(self) -> Condition:
        """What y is."""
        return make_condition(self.run["condition"])

    @cached_property
    def data(self) -> Dataset:
        """The data set that it was trained on. Raises BadInput when it is not the same any more."""
        data = open_store(self.folder / "data")
        if data.fingerprint() != self.run["data"]["fingerprint"]:
            raise BadInput(f"{self.folder / 'data'} is not the data set that this run was trained on.")
        return data

    @cached_property
    def unlabelled(self) -> Dataset | None:
        """All unlabelled samples that it was given, with the labels that are sure; None where there were none."""
        folder = self.folder / "unlabelled"
        return open_store(folder) if is_store(folder) else None

    @cached_property
    def learned(self) -> Dataset:
        """What the generator has learned from: `data`, and behind it the pseudo-labelled samples of origin
        "unlabelled", in memory."""
        if self.unlabelled is None:
            return self.data
        return joined(self.data, self.unlabelled.subset(self.unlabelled.rows("train")))

    @cached_property
    def model(self) -> Model:
        """The model with its weights, ready to sample."""
        model = make_model(self.run["model"], self.run["arguments"])
        model.build(self.run["shape"], self.condition, generator(0))
        model.load(load_tensors(self.folder / "model.safetensors"))
        equip(model, self.modality)
        for network in model.networks.values():
            network.eval().requires_grad_(False)
        return model


def make_model(name: str, arguments: dict[str, Any]) -> Model:
    """A model of this name with these arguments. Raises UsageError with the known arguments."""
    kind = lookup(MODELS, "sibling.models", name)
    _check_kinds(name, arguments, kind().arguments())
    try:
        model: Model = kind(**arguments)
    except TypeError as error:
        known = ", ".join(kind().arguments())
        raise UsageError(
            f"The model {name!r} cannot take these arguments ({error}). Known: {known}."
        ) from error
    return model


def _check_kinds(name: str, arguments: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Refuse arguments of another kind than the default's, negative and endless numbers. Raises UsageError."""
    for key, value in arguments.items():
        default = defaults.get(key)
        if isinstance(default, bool):
            wrong = "true or false" if not isinstance(value, bool) else ""
        elif isinstance(default, int | float):
            whole = isinstance(default, int)
            is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            least = 1 if whole else 0
            sound = is_number and math.isfinite(value) and value >= least
            wrong = "" if sound else f"a {'whole ' if whole else ''}number from {least} up"
        elif isinstance(default, str):
            wrong = "" if isinstance(value, str) else "a text"
        elif isinstance(default, list):
            wrong = "" if isinstance(value, list | tuple) else "a list"
        else:
            continue
        if wrong:
            raise UsageError(f"The model {name!r}: {key} is {value!r}; it must be {wrong}.")


def equip(model: Model, modality: Modality) -> None:
    """Hand the modality's augmentation to a model that samples with it."""
    if getattr(model, "wants_augment", False):
        model.augment = modality.augment  # type: ignore[attr-defined]


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of a safetensors file. Raises UnsafeFile, BadInput."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnsafeFile(f"{path} has {path.stat().st_size / 2**30:.0f} GiB; at most 8 are loaded.")
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing.") from error
    except SafetensorError as error:
        raise UnsafeFile(f"{path} is not a safetensors file ({error}): refused.") from error
    return tensors


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write named tensors as safetensors, atomically."""
    files.write_bytes(path, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}))
