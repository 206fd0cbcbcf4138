"""unreal: pixel by pixel far from every training sample, whatever its class."""

from __future__ import annotations

import numpy as np

from . import Filter, Finding, Idle
from .basis import LEAST, Real, Seen

__all__ = ["Unreal", "build"]

FACTOR = 2.0  # times the largest distance of a held-out real sample to its nearest training sample


class Unreal:
    """The distance to the nearest training sample: root mean square a pixel, small moves undone."""

    name = "unreal"
    meaning = "Samples that look like no real one, pixel by pixel: noise, for example."
    last = False

    def __init__(self, real: Real) -> None:
        held = real.held_out.distance
        self.limit: float | None = FACTOR * float(held.max())
        self.calibrated_on = f"{len(held)} real val samples"
        self.rule = f"further from every training sample than {FACTOR:g} times the furthest held-out real one"

    def look(self, seen: Seen) -> Finding:
        """Samples beyond the limit."""
        limit, distance = float(self.limit or 0.0), seen.near.distance.double().numpy()
        wrong = distance > limit
        why = {
            i: f"{distance[i]:.3f} away from the nearest training sample (limit {limit:.3f})"
            for i in np.flatnonzero(wrong).tolist()
        }
        return Finding(wrong, why)


def build(real: Real) -> Filter:
    """The filter for this run; idle with fewer than twenty held-out samples."""
    if len(real.held_out.distance) < LEAST:
        return Idle(
            "unreal",
            Unreal.meaning,
            f"not looked at (it needs {LEAST} held-out samples; there are {len(real.held_out.distance)})",
        )
    return Unreal(real)
