"""How near do fakes lie to the training samples, measured beside samples that the generator never saw?

Three sets: train, which the generator learned from; held, real samples that neither it nor its early stopping nor
any filter saw; fake. Whoever only learned what train and held have in common lies as near to the one as to the
other. Distances are computed once and shared by all metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import UsageError
from .points import checked, closest

__all__ = ["LEAST", "LEAST_HELD", "Memorisation", "Nearness", "ThreeSets"]

LEAST_HELD = 50  # held-out samples: with 20 and 20 the AUC of nothing at all lies anywhere in .32 to .68
LEAST = 10  # training samples, and fakes


@runtime_checkable
class Memorisation(Protocol):
    """Does a generator give its training samples away? Sees features and nothing else.

    name, goal, range, meaning  as a `Metric` has them; "good" is here where nothing is given away
    by_class  whether the samples are one number a fake and one a held-out sample, in their order, so that a class can
              be measured alone
    """

    name: str
    goal: Literal["min", "max"]
    range: tuple[float, float]
    meaning: str
    by_class: bool

    def __call__(self, *, train: Tensor, held: Tensor, fake: Tensor) -> float:
        """The value; nan, never a number, where nobody can tell."""

    def samples(self, near: Nearness) -> tuple[Tensor, Tensor]:
        """What the value is computed from, two sets of samples: what the interval resamples."""

    def of(self, first: Tensor, second: Tensor) -> float:
        """The value of these samples."""

    def null(self, held: int) -> float:
        """The expected value when nothing is given away; nan where only real samples can tell: then the floor is the
        value that other held-out samples get in the fakes' place."""

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """A 95 % interval from theory, which the reported one contains; (value, value) where there is none."""


class Nearness:
    """Three sets in one feature space and the distances between them.

    train: features of the real training samples, (N, F); equal rows count once, so that a training sample
        which was there twice weighs no more than others
    held: features of held-out real samples, (H, F)
    fake: features of generated samples, (M, F)
    chunk: rows of distances at a time; default None bounds a block to 32 MB
    Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
    """

    def __init__(self, train: Tensor, held: Tensor, fake: Tensor, chunk: int | None = None) -> None:
        known, fresh, made = checked(train, "train"), checked(held, "held"), checked(fake, "fake")
        widths = [points.shape[1] for points in (known, fresh, made)]
        if len(set(widths)) > 1:
            raise UsageError(
                f"train, held and fake have {widths[0]}, {widths[1]} and {widths[2]} features: all must come from the "
                "same feature network."
            )
        known = torch.unique(known, dim=0)
        centre = known.mean(dim=0) if len(known) else 0.0
        self.train, self.held, self.fake = known - centre, fresh - centre, made - centre
        self.chunk = chunk

    @property
    def enough(self) -> bool:
        """Whether there are enough samples of each kind to say anything."""
        return len(self.held) >= LEAST_HELD and min(len(self.train), len(self.fake)) >= LEAST

    @cached_property
    def fake_to_train(self) -> tuple[Tensor, Tensor]:
        """Of each fake the distance to the nearest training sample, (M,), and which that is."""
        return closest(self.fake, self.train, self.chunk)

    @cached_property
    def held_to_train(self) -> tuple[Tensor, Tensor]:
        """The same for each held-out sample, (H,)."""
        return closest(self.held, self.train, self.chunk)

    @cached_property
    def train_to_fake(self) -> Tensor:
        """Of each training sample the distance to the nearest fake, (N,)."""
        return closest(self.train, self.fake, self.chunk)[0]

    @cached_property
    def held_to_fake(self) -> Tensor:
        """The same for each held-out sample, (H,)."""
        return closest(self.held, self.fake, self.chunk)[0]


class ThreeSets(ABC):
    """What all metrics of three sets do alike: refuse too few samples, then measure.

    The six metrics here differ in `samples` and `of` alone; a metric from outside needs the Protocol, not this.
    """

    range: tuple[float, float] = (0.0, float("inf"))
    by_class = False

    def __call__(self, *, train: Tensor, held: Tensor, fake: Tensor) -> float:
        """The value; nan with fewer than 50 held-out samples, or fewer than 10 training samples or fakes.

        train: features of the real training samples, (N, F)
        held: features of held-out real samples, (H, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        near = Nearness(train, held, fake)
        return self.of(*self.samples(near)) if near.enough else float("nan")

    def samples(self, near: Nearness) -> tuple[Tensor, Tensor]:
        """The distance of each fake and of each held-out sample to the nearest training sample: (M,) and (H,)."""
        return near.fake_to_train[0], near.held_to_train[0]

    @abstractmethod
    def of(self, first: Tensor, second: Tensor) -> float:
        """The value of these samples; each metric has its own."""

    def null(self, held: int) -> float:
        """nan: what real samples get in the fakes' place is the floor."""
        return float("nan")

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """(value, value): the resampled interval is all there is."""
        return value, value
