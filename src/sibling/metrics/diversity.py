"""Are the generated samples as different from each other as the real ones are?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .points import pair, row_chunks, squared_distances

__all__ = ["Diversity"]

EXACT = 2_000  # points; above it an evenly spaced subset of this size


class Diversity:
    """Mean distance between two fake samples, divided by the mean distance between two real ones.

    1 means as varied as the real set; near 0 a collapsed generator; above 1 more scattered than real,
    which noise also reaches: read it together with precision. Exact up to 2,000 samples on a side;
    above that an evenly spaced subset of 2,000 (the same rows each time, no randomness), which in a
    set sorted by class keeps each class at its share.

    Source: the mean pairwise distance that the LPIPS diversity score uses (Zhu et al., "Toward
    multimodal image-to-image translation", 2017), here in any feature space and relative to real.
    """

    name = "diversity"
    goal: Literal["min", "max"] = "max"
    range = (0.0, float("inf"))
    meaning = "How varied the generated samples are; 1 is as varied as the real ones."

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The ratio, >= 0; nan with fewer than 2 samples on a side or where all real ones are equal.

        real: features of real samples, (N, F)
        fake: features of generated samples, (M, F)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = pair(real, fake)
        if len(left) < 2 or len(right) < 2:
            return float("nan")
        among_real, among_fake = _mean_distance(left), _mean_distance(right)
        return among_fake / among_real if among_real > 0 else float("nan")


def _mean_distance(points: Tensor) -> float:
    if len(points) > EXACT:
        rows = torch.arange(EXACT, dtype=torch.float64) * (len(points) / EXACT)
        points = points[rows.long()]
    if bool((points == points[0]).all()):
        return 0.0  # exactly: rounding in the mean would otherwise leave 1e-8 and a ratio of two of them
    centred = points - points.mean(dim=0)
    total = 0.0
    for rows_here in row_chunks(len(points), len(points)):
        block = squared_distances(centred[rows_here], centred).sqrt()
        here = torch.arange(rows_here.start, rows_here.stop)
        block[here - rows_here.start, here] = 0.0
        total += float(block.sum())
    return total / (len(points) * (len(points) - 1))
