"""The smoothed bootstrap: a training sample, classically augmented, with a little noise.

The baseline that every other model has to beat. Its samples are copies by construction, and the
copy test has to say so. Source: Efron and Tibshirani 1993, section 16.6; Silverman and Young 1987.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..device import generator
from ..errors import UnsafeFile
from ..types import Batch, Cond, Condition

__all__ = ["Bootstrap"]


class Bootstrap:
    """Remembers the training samples.

    noise     standard deviation of the Gaussian noise, in x units (the range is 2)
    strength  of the classic augmentation, 0 to 1
    most      remembered samples; above it a random part of them
    """

    generating: Sequence[str] = ()
    wants_augment = True

    def __init__(self, noise: float = 0.04, strength: float = 0.5, most: int = 20_000) -> None:
        self.noise = noise
        self.strength = strength
        self.most = most
        self.networks: dict[str, torch.nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.augment: Callable[[torch.Tensor, float, torch.Generator], torch.Tensor] | None = None
        self.memory = torch.zeros(0)
        self.numbers = torch.zeros(0, dtype=torch.long)

    @staticmethod
    def derive(n: int, classes: int, shape: Sequence[int]) -> list[tuple[str, Any, str]]:
        """Nothing follows from the data."""
        return []

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this model again."""
        return {"noise": self.noise, "strength": self.strength, "most": self.most}

    def build(self, shape: Sequence[int], condition: Condition, rng: torch.Generator) -> None:
        """Nothing to build."""
        self.shape = tuple(shape)
        self.names = list(getattr(condition, "classes", ())) or ["all"]

    def step(self, batch: Batch) -> dict[str, float]:
        """Nothing to learn step by step."""
        return {"loss/total": 0.0}

    def validate(self, batch: Batch) -> tuple[float, int]:
        """A copy has no held-out loss: zero for every model state."""
        return 0.0, len(batch.x)

    def settle(
        self, batches: Callable[[], Iterator[tuple[Batch, list[str]]]], rng: np.random.Generator
    ) -> None:
        """Remember the training samples, in half precision: exact for 8 bits."""
        memory, numbers = [], []
        for batch, names in batches():
            memory.append(batch.x.half())
            numbers += [self.names.index(name) for name in names]
        self.memory, self.numbers = torch.cat(memory), torch.tensor(numbers)
        if len(self.memory) > self.most:
            kept = torch.from_numpy(np.sort(rng.permutation(len(self.memory))[: self.most]))
            self.memory, self.numbers = self.memory[kept], self.numbers[kept]

    def sample(self, cond: Cond, y: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """One remembered sample of the class, augmented, with noise (N, C, *S)."""
        out = torch.empty(len(seeds), *self.shape)
        for i, (name, seed) in enumerate(zip(y, seeds, strict=True)):
            rng = generator(seed, "bootstrap")
            own = torch.nonzero(self.numbers == self.names.index(name))[:, 0]
            own = torch.arange(len(self.memory)) if len(own) == 0 else own
            x = self.memory[own[int(torch.randint(len(own), (), generator=rng))]].float()[None]
            if self.augment is not None:
                x = self.augment(x, self.strength, rng)
            out[i] = x[0] + self.noise * torch.randn(self.shape, generator=rng)
        return out.clamp(-1, 1)

    def state(self) -> dict[str, torch.Tensor]:
        """The memory: this snapshot *is* the training data and must be guarded like it."""
        return {"memory": self.memory, "numbers": self.numbers}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a state. Raises UnsafeFile."""
        if state.keys() != {"memory", "numbers"}:
            raise UnsafeFile(f"A bootstrap holds memory and numbers, not {', '.join(sorted(state))}.")
        memory, numbers = state["memory"], state["numbers"]
        if tuple(memory.shape[1:]) != self.shape or numbers.shape != (len(memory),):
            raise UnsafeFile(
                f"The memory has the shape {tuple(memory.shape)}; samples here are {self.shape}."
            )
        if not torch.isfinite(memory).all() or (
            len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self.names)
        ):
            raise UnsafeFile("The memory holds values that are not finite, or classes that do not exist.")
        self.memory, self.numbers = memory, numbers
