"""Do generated samples have as much coarse and as much fine in them as real ones?"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .points import pair

__all__ = ["SpectrumDistance"]


class SpectrumDistance:
    """Root mean square difference of the mean log power spectra.

    It is measured in the feature space "spectrum" alone, where each feature is the log10 of the power in one ring
    of frequencies: .1 is a quarter more or less power in the typical ring. Blurred samples lack power
    in the fine rings and a checkerboard has too much in one; features of networks may pass over both.

    Source: Durall, Keuper and Keuper, "Watch your up-convolution" (2020) on what generators get wrong.
    """

    name = "spectrum_distance"
    goal: Literal["min", "max"] = "min"
    range = (0.0, float("inf"))
    meaning = "How different coarse and fine structure are (powers of ten); blur and checkerboards raise it."
    only_space = "spectrum"

    def __call__(self, *, real: Tensor, fake: Tensor) -> float:
        """The difference, >= 0, in the unit of the features; nan with fewer than 2 samples on a side.

        real: log power of each ring of real samples, (N, R)
        fake: the same of generated samples, (M, R)
        Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.
        """
        left, right = pair(real, fake)
        if len(left) < 2 or len(right) < 2:
            return float("nan")
        return float((left.mean(dim=0) - right.mean(dim=0)).square().mean().sqrt())
