"""Do fakes lie nearer to the training samples than fresh real samples do?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .intervals import wilson
from .nearness import ThreeSets

__all__ = ["BelowFivePercent", "BelowMinimum", "NearestRatio"]


class NearestRatio(ThreeSets):
    """The median distance of a fake to its nearest training sample, divided by that of a held-out real sample.

    1 for fresh samples; falls only when about half of the fakes are copies: the two shares below it see fewer. Above
    1: far from everything, which bad samples are too; no proof that nothing was copied.

    Source: the ratio of distances to the closest record that is common for synthetic tables; measured in
    bench/memorisation.py.
    """

    name = "nearest_ratio"
    goal: Literal["min", "max"] = "max"
    meaning = "Typical distance to the nearest training sample, relative to fresh real samples; well below 1: copies."
    by_class = True

    def of(self, first: Tensor, second: Tensor) -> float:
        """The ratio, >= 0; nan where the held-out samples are the training samples themselves."""
        typical = float(
            second.quantile(0.5)
        )  # of an even number the mean of the middle two; torch.median takes one
        return float(first.quantile(0.5)) / typical if typical > 0 else float("nan")


class BelowFivePercent(ThreeSets):
    """Share of the fakes that are nearer to a training sample than 95 % of the held-out real samples are.

    About .05 for fresh samples; with a share c of copies about c + .05 (1 - c).
    """

    name = "below_held_out_5_percent"
    goal: Literal["min", "max"] = "min"
    range = (0.0, 1.0)
    meaning = (
        "Share of the generated samples nearer to a training sample than 95 % of fresh real samples are; "
        "5 % is what fresh ones reach."
    )
    by_class = True

    def of(self, first: Tensor, second: Tensor) -> float:
        """The share, in [0, 1]."""
        return float((first < second.quantile(0.05)).double().mean())

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """The Wilson interval of the count."""
        return wilson(value * len(first), len(first))


class BelowMinimum(BelowFivePercent):
    """Share of the fakes that are nearer to a training sample than every held-out real sample is.

    1 / (H + 1) for fresh samples, and so the share of copies almost by itself. One held-out sample that is a duplicate
    of a training sample hides everything: group duplicates before the split.
    """

    name = "below_held_out_minimum"
    meaning = "Share of the generated samples nearer to a training sample than any fresh real sample is: near copies."

    def of(self, first: Tensor, second: Tensor) -> float:
        """The share, in [0, 1]."""
        return float((first < torch.min(second)).double().mean())

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """The Wilson interval of the count, and up to the share below the fourth of the held-out distances.

        A minimum may happen to lie far out, and resampling cannot see beyond it: in 1 case of 50 there are four or
        more held-out samples where one is expected (Poisson).
        """
        low, high = wilson(value * len(first), len(first))
        fourth = float((first < second.sort().values[min(3, len(second) - 1)]).double().mean())
        return low, max(high, fourth)
