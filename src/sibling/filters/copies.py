"""copy: one training sample explains a sample far better than any other does."""

from __future__ import annotations

import numpy as np
import torch

from ..metrics.memorisation import HELD_OUT_MIN, copies, threshold
from . import Filter, Finding
from .basis import Real, Seen

__all__ = ["Copy", "build"]


class Copy:
    """The ratio of the distances to the nearest training sample and to the next one, small moves undone.

    Works without held-out samples too: at the fixed limit of 0.5 fresh samples are hardly ever taken for
    copies, and a copy that goes out is what must not happen.
    """

    name = "copy"
    meaning = "Near copies of a single training sample: they add nothing, and give away that sample."
    last = False

    def __init__(self, real: Real) -> None:
        ratio = real.held_out.ratio
        self.limit: float | None = threshold(ratio)
        known = int(torch.isfinite(ratio).sum())
        enough = known >= HELD_OUT_MIN
        self.calibrated_on = f"{known} real val samples" if enough else "a fixed limit"
        where = (
            f"from {known} held-out real samples" if enough else "the default, for want of held-out samples"
        )
        self.rule = (
            "one training sample explains it so much better than any other that the ratio of distances is below "
            f"{self.limit:.2f} ({where}).{real.nearest.note}"
        )

    def look(self, seen: Seen) -> Finding:
        """Copies among these samples."""
        limit, ratio = float(self.limit or 0.0), seen.near.ratio
        wrong = copies(ratio, limit).numpy()
        why = {
            i: f"{ratio[i]:.2f} times as near to one training sample as to the next (limit {limit:.2f})"
            for i in np.flatnonzero(wrong).tolist()
        }
        return Finding(wrong, why, {"copy_ratio": ratio.double().numpy()})


def build(real: Real) -> Filter:
    """The filter for this run."""
    return Copy(real)
