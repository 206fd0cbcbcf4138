"""A small convolutional network that reads numbers off samples: the judge of y where y is a number."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..types import Score
from .intervals import Z95
from .recogniser import Recogniser, epochs_of, new_recogniser, optimise
from .score import CLASS_MIN

__all__ = ["Regressor", "error_score", "train_regressor"]

Fetch = Callable[[slice], torch.Tensor]


class Regressor:
    """A trained network and the scale of what it says.

    network  gives (N, D) numbers of mean 0 and deviation 1
    mean     (D,) of the numbers that it was trained on
    spread   (D,) their deviation
    """

    def __init__(self, network: Recogniser, mean: np.ndarray, spread: np.ndarray) -> None:
        self.network = network
        self.mean = mean
        self.spread = spread
        weights = b"".join(p.detach().cpu().numpy().tobytes() for p in network.parameters())
        self.space = f"regressor {hashlib.sha256(weights).hexdigest()[:8]}"

    @torch.no_grad()
    def numbers(self, fetch: Fetch, n: int, size: int = 256) -> np.ndarray:
        """(n, D) numbers, in their own units, of n samples that `fetch(slice)` brings."""
        self.network.eval()
        device = next(self.network.parameters()).device
        parts = [
            self.network(fetch(slice(start, min(n, start + size))).to(device)).float().cpu().numpy()
            for start in range(0, n, size)
        ]
        said = np.concatenate(parts) if parts else np.zeros((0, len(self.mean)))
        numbers: np.ndarray = said.astype(np.float64) * self.spread + self.mean
        return numbers


def train_regressor(
    fetch: Callable[[np.ndarray], torch.Tensor],
    targets: np.ndarray,
    *,
    shape: Sequence[int],
    steps: int,
    seed: int,
    batch: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.02,
) -> Regressor:
    """Train a regressor for a number of optimiser steps, on the Huber loss of standardised numbers.

    fetch    brings x (N, C, *S) of these positions
    targets  (n, D) the numbers of the n samples
    Without augmentation: a turn, a scale or a brightness may be the very number.
    """
    mean, spread = targets.mean(0), targets.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    wanted = torch.from_numpy(((targets - mean) / spread).astype(np.float32))
    network = new_recogniser(shape, targets.shape[1], seed, "regressor")
    device = next(network.parameters()).device
    order = epochs_of(len(targets), steps * batch, seed, "regressor")

    def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = order[step * batch : (step + 1) * batch]
        return fetch(rows), wanted[rows].to(device)

    optimise(
        network,
        batch_of,
        F.smooth_l1_loss,
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    return Regressor(network, mean, spread)


def error_score(
    column: str, space: str, *, real: np.ndarray, fake: np.ndarray, groups: Sequence[str]
) -> Score:
    """How far the number that a regressor sees lies from the one that was asked for, on average.

    column  the name of the number
    real    (N,) absolute errors on real samples that the regressor never saw: the floor
    fake    (M,) absolute errors on synthetic samples
    groups  (M,) their groups, for the values per class
    The interval is that of a mean: 1.96 standard errors.
    """
    value = float(fake.mean()) if len(fake) else math.nan
    reach = Z95 * float(fake.std(ddof=1)) / math.sqrt(len(fake)) if len(fake) > 1 else math.nan
    named = np.asarray(groups)
    per_class = {
        str(name): float(fake[named == name].mean())
        for name in dict.fromkeys(groups)
        if int((named == name).sum()) >= CLASS_MIN
    }
    meaning = (
        f"Mean distance, in its own unit, between the {column} that was asked for and the one that a regressor of real "
        "samples sees; real test samples give the floor."
    )
    return Score(
        "label_error", value, max(0.0, value - reach), value + reach, "min",
        float(real.mean()) if len(real) else math.nan, f"{column}: {space}",
        {"real": len(real), "fake": len(fake)}, per_class, meaning,
    )  # fmt: skip
