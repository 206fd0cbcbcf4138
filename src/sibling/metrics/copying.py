"""A test for copying: in each part of the space, are fakes nearer to the training samples than fresh ones are?"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .nearness import Nearness, ThreeSets
from .points import shuffled, squared_distances

__all__ = ["CopyingTest", "cells_of"]

A_CELL = 50  # held-out samples that pay for one more cell
MOST_CELLS = 10
LEAST_IN_CELL = 5  # held-out samples, and fakes: a cell with fewer tells nothing
AXES = 64
ROUNDS = 25


class CopyingTest(ThreeSets):
    """C_T: the Mann-Whitney test of the distances to the nearest training sample, fakes against held-out samples.

    z-scores within cells of the space, averaged with the held-out samples' shares as weights. With one cell it is normal
    with deviation 1 when nothing is copied; more cells make it smaller. Far below 0: copies. Above 0:
    fakes lie farther off than fresh samples do. It needs a fifth of copies at a hundred held-out samples, and
    can miss blatant ones that are outweighed by bad samples: secondary to the shares.

    One cell for each 50 held-out samples, at most 10: k-means of the training samples on at most 64 principal axes. A cell
    with fewer than 5 fakes or 5 held-out samples is left out; where none is left, the value is nan.

    cells: how many; default None: as said

    Source: Meehan, Chaudhuri and Dasgupta, "A non-parametric test to detect data-copying" (2020). There the nearest
    training sample is searched within the cell, here everywhere.
    """

    name = "c_t"
    goal: Literal["min", "max"] = "max"
    range = (-float("inf"), float("inf"))
    meaning = (
        "Test whether generated samples lie nearer to training samples than fresh ones do; "
        "-2 or less: copying, about 0: none found."
    )

    def __init__(self, cells: int | None = None) -> None:
        self.cells = cells

    def samples(self, near: Nearness) -> tuple[Tensor, Tensor]:
        """Distance to the nearest training sample and number of the cell, of each fake and held-out sample.

        (M, 2) and (H, 2)
        """
        number = self.cells or min(MOST_CELLS, max(1, len(near.held) // A_CELL))
        cells = cells_of(near.train, near.fake, near.held, number=number)
        fake, held = (
            torch.stack([distance, cell.double()], dim=1)
            for (distance, _), cell in zip((near.fake_to_train, near.held_to_train), cells, strict=True)
        )
        return fake, held

    def of(self, first: Tensor, second: Tensor) -> float:
        """The weighted mean of the z-scores; nan where no cell has enough of both."""
        total = weights = 0.0
        for cell in torch.unique(second[:, 1]).tolist():
            made, fresh = first[first[:, 1] == cell, 0], second[second[:, 1] == cell, 0]
            if min(len(made), len(fresh)) < LEAST_IN_CELL:
                continue
            total += len(fresh) * _z(made, fresh)
            weights += len(fresh)
        return total / weights if weights else float("nan")


def _z(fake: Tensor, held: Tensor) -> float:
    """The z-score of the number of pairs in which the fake is farther; with equal distances as halves."""
    m, h = len(fake), len(held)
    ordered = held.sort().values
    below = torch.searchsorted(ordered, fake).double() + torch.searchsorted(ordered, fake, right=True)
    pairs = float(below.sum()) / 2
    repeats = torch.unique(torch.cat([fake, held]), return_counts=True)[1].double()
    n = m + h
    ties = float((repeats.pow(3) - repeats).sum()) / (n * (n - 1))
    deviation = math.sqrt(max(0.0, m * h / 12 * (n + 1 - ties)))
    return (pairs - m * h / 2) / deviation if deviation > 0 else 0.0


def cells_of(train: Tensor, *others: Tensor, number: int) -> list[Tensor]:
    """The cell of each point of `others`: k-means centres of the training samples, on their principal axes.

    train: (N, F), N >= 1
    others: sets of points, each (M, F)
    number: cells, >= 1; fewer where there are fewer different training samples
    """
    mean = train.mean(dim=0)
    known = shuffled(train) - mean
    kept = min(AXES, train.shape[1])
    axes = torch.linalg.eigh(known.T @ known).eigenvectors[:, -kept:]
    known = known @ axes
    centres = _centres(known, number)
    for _ in range(ROUNDS):
        nearest = squared_distances(known, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, known)
        counts = torch.bincount(nearest, minlength=len(centres))[:, None]
        # a centre that lost all its points stays where it was
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        if bool((moved == centres).all()):
            break
        centres = moved
    return [squared_distances((other - mean) @ axes, centres).argmin(dim=1) for other in others]


def _centres(points: Tensor, number: int) -> Tensor:
    """The first centres, drawn far from each other (k-means++), always the same ones."""
    rng = torch.Generator().manual_seed(0)
    centres = points[:1]
    while len(centres) < number:
        away = squared_distances(points, centres).amin(dim=1)
        away[away <= 1e-12 * points.square().sum(dim=1).max()] = 0.0
        if float(away.sum()) == 0:
            break
        chosen = torch.multinomial(away, 1, generator=rng)
        centres = torch.cat([centres, points[chosen]])
    return centres
