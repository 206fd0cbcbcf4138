"""Can somebody who has only the fakes tell who was in the training set?

The attack guesses that a real sample was trained on when a fake lies near to it (GAN-Leaks, black box). It is one
attack of many: when it fails, others may not.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .intervals import Z95, wilson
from .nearness import Nearness, ThreeSets

__all__ = ["MembershipAuc", "MembershipTpr", "auc_interval"]

FALSE_ALARMS = 0.01  # share of the held-out samples that may be taken for training samples
HALVINGS = 60


class _Attack(ThreeSets):
    def samples(self, near: Nearness) -> tuple[Tensor, Tensor]:
        """The distance of each training and of each held-out sample to the nearest fake: (N,) and (H,)."""
        return near.train_to_fake, near.held_to_fake


class MembershipAuc(_Attack):
    """How often a training sample is nearer to a fake than a held-out one is (area under the ROC curve).

    1/2 when nothing is given away, whatever the numbers; chance takes it as far as .18 from there with 20 and 20
    samples, .08 with 100 and 100, .04 with 500 and 500. Equal distances count one half.

    Source: Chen, Yu, Zhang and Fritz, "GAN-Leaks" (2020); the interval: see `auc_interval`.
    """

    name = "membership_auc"
    goal: Literal["min", "max"] = "min"
    range = (0.0, 1.0)
    meaning = (
        "How well the distance to the nearest generated sample tells training samples from fresh ones; "
        "0.5 is guessing, 1 gives every one away."
    )

    def of(self, first: Tensor, second: Tensor) -> float:
        """The area, in [0, 1]."""
        ordered = second.sort().values
        farther = len(ordered) - torch.searchsorted(ordered, first, right=True)
        equal = torch.searchsorted(ordered, first, right=True) - torch.searchsorted(ordered, first)
        return float((farther + 0.5 * equal).double().mean() / len(ordered))

    def null(self, held: int) -> float:
        """1/2."""
        return 0.5

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """The interval from theory."""
        return auc_interval(value, len(first), len(second))


class MembershipTpr(_Attack):
    """Share of the training samples that are found when at most 1 % of the held-out ones may be taken for them.

    A mean over all, as the AUC is, hides a few samples that are found for certain. With H held-out samples the limit
    lies at the distance number k + 1 of them, k = H / 100 rounded down; (k + 1) / (H + 1) of the training samples
    are below it when nothing is given away.

    Source: Carlini et al., "Membership inference attacks from first principles" (2022).
    """

    name = "membership_tpr"
    goal: Literal["min", "max"] = "min"
    range = (0.0, 1.0)
    meaning = "Share of the training samples that the distance to the nearest generated sample gives away at 1 % false alarms."

    def of(self, first: Tensor, second: Tensor) -> float:
        """The share, in [0, 1]."""
        limit = second.sort().values[int(FALSE_ALARMS * len(second))]
        return float((first < limit).double().mean())

    def null(self, held: int) -> float:
        """(k + 1) / (H + 1)."""
        return (int(FALSE_ALARMS * held) + 1) / (held + 1)

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """The Wilson interval of the count."""
        return wilson(value * len(first), len(first))


def auc_interval(value: float, n: int, m: int) -> tuple[float, float]:
    """The 95 % interval of an area under the ROC curve; both ends in [0, 1]; (nan, nan) without samples.

    value: the area, in [0, 1]
    n: samples that should score high
    m: samples that should score low

    The areas that lie within 1.96 of THEIR standard errors of the value, as Wilson does it for a share: it has
    a width at 0 and at 1 too. Source: Hanley and McNeil (1982) for the error; Newcombe (2006), method 5.
    """
    if n < 1 or m < 1 or math.isnan(value):
        return float("nan"), float("nan")

    def reach(area: float) -> float:
        other = (n + m) / 2 - 1
        spread = 1 + other * (1 - area) / (2 - area) + other * area / (1 + area)
        return Z95 * math.sqrt(area * (1 - area) * spread / (n * m))

    def edge(end: float) -> float:
        inside, outside = value, end
        if abs(end - value) <= reach(end):
            return end
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if abs(middle - value) <= reach(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return edge(0.0), edge(1.0)
