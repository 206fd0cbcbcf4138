"""Shares with their intervals: what is counted is never printed without how sure we are of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Z95", "Share", "share_of", "wilson"]

Z95 = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many.

    value      found / total in [0, 1]; nan where total is 0
    low, high  95 % Wilson interval; nan where total is 0
    found      how many were found
    total      out of how many
    """

    value: float
    low: float
    high: float
    found: int
    total: int


def wilson(found: float, total: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share; both ends in [0, 1]; (nan, nan) where total is 0.

    found: how many were found, 0 to total; need not be whole
    total: out of how many

    Unlike the normal approximation it has a width at 0 and at 1, where most of our shares lie.
    Source: Wilson (1927); Brown, Cai and DasGupta (2001) on its coverage.
    """
    if total == 0:
        return float("nan"), float("nan")
    p, z2 = found / total, Z95 * Z95
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    low = 0.0 if found == 0 else max(0.0, centre - half)
    high = 1.0 if found == total else min(1.0, centre + half)
    return low, high


def share_of(found: int, total: int) -> Share:
    """A Share from two counts.

    found: how many were found, 0 to total
    total: out of how many
    """
    low, high = wilson(found, total)
    return Share(found / total if total else float("nan"), low, high, found, total)
