"""What a recogniser of the real train part sees: the differences between classes, or how far along a number is.

Blind to everything that y does not depend on; that is why it never stands alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..dataset import Dataset, kinds_of
from ..device import seed_of
from ..errors import UsageError
from ..judge import batch_for, fetcher, numbers_in, recogniser_of, steps_for
from ..metrics.recogniser import Recogniser
from ..metrics.regressor import train_regressor

__all__ = ["LEAST_ROWS", "Classified", "Measured", "build"]

LEAST_ROWS = 20  # real samples, below which a network learns them by heart and nothing else


class Measured:
    """What the last layer of a trained network sees.

    network  a recogniser, or the network of a regressor
    space    its name with the hash of its weights
    """

    name = "recogniser"

    def __init__(self, network: Recogniser, space: str) -> None:
        self.network = network.eval()
        self.space = space

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, F)."""
        device = next(self.network.parameters()).device
        return self.network.features(x.to(device)).float().cpu()


class Classified(Measured):
    """The same for a recogniser of classes, which can also be asked for them."""

    def probabilities(self, fetch: Callable[[slice], torch.Tensor], n: int, size: int = 256) -> torch.Tensor:
        """(n, G) class probabilities of n samples that `fetch(slice)` brings; classes as the condition orders them."""
        return self.network.probabilities(fetch, n, size)


def build(data: Dataset, rows: np.ndarray, seed: int) -> Measured:
    """A recogniser of the groups of y; where y is only numbers a regressor of them, which has no probabilities.

    rows  real train rows that it is trained on
    Raises UsageError where there are too few rows, or only one class or number.
    """
    kinds = kinds_of(data.condition)
    numbers = bool(kinds) and set(kinds.values()) == {"value"}
    targets = numbers_in(data, rows, list(kinds)) if numbers else np.zeros((len(rows), 0))
    different = len(np.unique(targets, axis=0)) if numbers else len(set(data.classes(rows)))
    what = "number" if numbers else "class"
    if different < 2 or len(rows) < LEAST_ROWS:
        raise UsageError(
            f"The recogniser space needs at least two {'numbers' if numbers else 'classes'} and {LEAST_ROWS} real "
            f"training samples; there are {_counted(different, what)} and {_counted(len(rows), 'sample')}. "
            "Choose other spaces, for example random and spectrum."
        )
    if not numbers:
        judge = recogniser_of(data, rows, seed, "evaluate")
        return Classified(judge, judge.space)
    regressor = train_regressor(
        fetcher(data, rows), targets, shape=data.shape, steps=steps_for(len(rows)), batch=batch_for(len(rows)),
        seed=seed_of(seed, "recogniser space"),
    )  # fmt: skip
    return Measured(regressor.network, regressor.space)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"
