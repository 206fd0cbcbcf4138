"""double: a sample that an earlier one has already said."""

from __future__ import annotations

import numpy as np
import torch

from ..judge import most_rows
from ..metrics.memorisation import DOUBLE, doubles
from . import Filter, Finding
from .basis import Real, Seen

__all__ = ["Double", "build"]

MOST = 1_000  # training samples that set the scale


class Double:
    """The distance to earlier samples that stay; real samples and their nearest others set the scale."""

    name = "double"
    meaning = "Samples that nearly repeat an earlier synthetic one: they add size, not information."
    last = True  # a sample must not go because of one that goes itself

    def __init__(self, real: Real) -> None:
        rows = most_rows(real.train, MOST, "curate", "doubles")
        self.x = real.data.x(rows)
        self.limit: float | None = DOUBLE
        self.calibrated_on = f"{len(rows)} real training samples"
        self.rule = (
            f"nearer to an earlier synthetic sample that stays than {DOUBLE:g} times the typical distance between a "
            "real sample and its nearest other one"
        )

    def look(self, seen: Seen) -> Finding:
        """Doubles among those that are left, of each other and of those that were kept before."""
        wrong = np.zeros(len(seen.rows), bool)
        left = seen.rows[seen.staying]
        if len(left):
            x = seen.fakes.x(left)
            before = len(seen.kept)
            everything = torch.cat([seen.kept.x(np.arange(before)), x]) if before else x
            wrong[left] = doubles(everything, real=self.x)[before:].numpy()
        why = dict.fromkeys(np.flatnonzero(wrong).tolist(), "nearly equal to an earlier synthetic sample")
        return Finding(wrong, why)


def build(real: Real) -> Filter:
    """The filter for this run."""
    return Double(real)
