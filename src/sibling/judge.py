"""What `curate` and `evaluate` both need: a recogniser of the real train part, and the nearest real sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .dataset import Dataset
from .device import numpy_generator, seed_of
from .errors import BadInput
from .metrics.features import RandomFeatures, in_batches
from .metrics.memorisation import Nearest, nearest
from .metrics.recogniser import Pool, Recogniser, train_recogniser
from .registry import suggest

__all__ = ["Numbers", "fetcher", "most_rows", "nearest_real", "random_features", "recogniser_of", "steps_for"]

MOST_TRAIN = 20_000  # training samples that a fake is compared with, unless fewer
CLASSIC_STRENGTH = 0.5


@dataclass
class Numbers:
    """Classes as numbers, in the order of the condition."""

    names: list[str]

    @classmethod
    def of(cls, data: Dataset) -> Numbers:
        """The classes of a data set."""
        return cls(list(getattr(data.condition, "classes", ())) or ["all"])

    def __call__(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n,) class numbers of these rows. Raises BadInput for a class that is not known."""
        index = {name: number for number, name in enumerate(self.names)}
        found = data.classes(rows)
        for name in found:
            if name not in index:
                raise BadInput(
                    f"There are samples of the class {name!r}, which the run does not know.{suggest(name, self.names)}"
                )
        return np.array([index[name] for name in found], np.int64)


def fetcher(data: Dataset, rows: np.ndarray) -> Callable[[Any], torch.Tensor]:
    """A function that brings x (N, C, *S) of positions within `rows`: an array of them, or a slice."""
    return lambda positions: data.x(rows[positions])


def steps_for(n: int) -> int:
    """Optimiser steps of a recogniser for n training samples: 30 passes over the data, 200 to 800 steps."""
    return int(np.clip(30 * n // 128, 200, 800))


def recogniser_of(data: Dataset, rows: np.ndarray, seed: int, what: str) -> Recogniser:
    """A recogniser trained on these real rows with classic augmentation."""
    numbers = Numbers.of(data)
    return train_recogniser(
        Pool([(fetcher(data, rows), numbers(data, rows))]),
        shape=data.shape,
        classes=len(numbers.names),
        steps=steps_for(len(rows)),
        seed=seed_of(seed, what),
        augment=data.modality.augment,
        strength=CLASSIC_STRENGTH,
    )


def random_features(data: Dataset, rows: np.ndarray, network: RandomFeatures) -> torch.Tensor:
    """(n, F) features of these rows in a space that was never trained."""
    return in_batches(network, fetcher(data, rows), len(rows))


def most_rows(rows: np.ndarray, most: int, *path: int | str) -> np.ndarray:
    """At most so many of these rows, drawn by the random stream of `path`, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(numpy_generator(*path).permutation(rows)[:most])


def nearest_real(
    data: Dataset, fakes: Dataset, rows: np.ndarray, network: RandomFeatures
) -> tuple[Nearest, Nearest, np.ndarray]:
    """The nearest training sample of each of these fakes, the same for held-out real ones, and the train rows.

    The held-out ones are of the val part: the test part stays unseen by whatever drops samples.
    """
    train = most_rows(data.rows("train", "real"), MOST_TRAIN, "nearest", "train")
    held = most_rows(data.rows("val", "real"), 1_000, "nearest", "val")
    groups = torch.tensor([data.table["group"][i] for i in train])
    x = data.x(train)
    features = random_features(data, train, network)
    flips = bool(getattr(data.modality, "flips", ())) or len(data.shape) == 3

    def look(source: Dataset, chosen: np.ndarray) -> Nearest:
        return nearest(
            train=x,
            fake=source.x(chosen),
            groups=groups,
            train_features=features,
            fake_features=random_features(source, chosen, network),
            flips=flips,
        )

    return look(fakes, rows), look(data, held), train
