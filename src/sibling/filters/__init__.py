"""Which synthetic samples should go? One file a filter; one line here for each.

A filter is a per-sample metric plus a threshold that held-out real samples set, so that it loses at most
about 2 % of what is as good as real. Where there are too few of those it does nothing, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ..registry import lookup

if TYPE_CHECKING:
    from .basis import Real, Seen

__all__ = ["FILTERS", "Filter", "Finding", "Idle", "builders_of", "filters_of"]

# A sample that several filters find goes with the reason of the first.
FILTERS = {
    "copy": "sibling.filters.copies:build",
    "unreal": "sibling.filters.unreal:build",
    "mislabelled": "sibling.filters.mislabelled:build",
    "off-manifold": "sibling.filters.manifold:build",
    "discriminator": "sibling.filters.discriminator:build",
    "double": "sibling.filters.doubled:build",
}


@dataclass
class Finding:
    """What a filter says of N synthetic samples.

    wrong   (N,) bool, which of them should go
    why     row -> a sentence, for each of those
    scores  name -> (N,) numbers to note with the samples; nan = none
    """

    wrong: np.ndarray
    why: dict[int, str] = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class Filter(Protocol):
    """A per-sample metric and its limit.

    name           the reason that is written beside each sample
    meaning        what goes, in a sentence for who reads the report
    rule           the metric, the limit and where it comes from; or why the filter does nothing
    limit          the threshold; None where the filter does nothing
    calibrated_on  what set the limit
    last           whether it looks only at what all others leave
    """

    name: str
    meaning: str
    rule: str
    limit: float | None
    calibrated_on: str
    last: bool

    def look(self, seen: Seen) -> Finding:
        """What it finds among these synthetic samples."""


@dataclass
class Idle:
    """A filter that does nothing, for the reason in its rule."""

    name: str
    meaning: str
    rule: str
    limit: float | None = None
    calibrated_on: str = "nothing"
    last: bool = False

    def look(self, seen: Seen) -> Finding:
        """Nothing."""
        return Finding(np.zeros(len(seen.rows), bool))


def builders_of(names: str | Sequence[str] | None) -> list[Callable[[Real], Filter]]:
    """What makes the filters of these names, in the order of the table; those of third parties come first.

    names  as a list, or as one text with commas; None = all of the table
    Raises UsageError for an unknown name.
    """
    chosen = list(FILTERS) if names is None else names.split(",") if isinstance(names, str) else list(names)
    order = list(FILTERS)
    chosen = sorted(
        {name.strip(): None for name in chosen}, key=lambda n: order.index(n) if n in order else -1
    )
    return [lookup(FILTERS, "sibling.filters", name) for name in chosen]


def filters_of(builders: Sequence[Callable[[Real], Filter]], real: Real) -> list[Filter]:
    """The filters with their limits; those that look at what the others leave come last."""
    return sorted((build(real) for build in builders), key=lambda one: one.last)
