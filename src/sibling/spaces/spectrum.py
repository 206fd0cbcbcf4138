"""How much of a sample is coarse and how much is fine: the logarithm of its radial power spectrum.

No network, no labels. It sees what generators get wrong and features of networks pass over: blur, a
checkerboard of upsampling, too much or too little noise (Durall et al. 2020, "Watch your up-convolution:
CNN based generative deep neural networks are failing to reproduce spectral distributions").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from ..dataset import Dataset

__all__ = ["Spectrum", "build"]

FLOOR = (2 / 255) ** 2 / 12  # the noise of rounding to 8 bits: below it nothing was ever seen
MOST_RINGS = 64


class Spectrum:
    """The mean power of the frequencies in each ring, over all channels, in log10.

    The mean is removed and the border faded out (a sine-squared window), so that neither brightness nor the
    jump from one border to the other counts. Ring i of R holds the radii above i / 2R up to (i + 1) / 2R
    cycles a sample point; one more ring holds the corners, which are finer than anything along an axis.
    White noise of variance v has the power v in every ring, less in the first two, which the mean reaches into.

    shape  (C, *S)
    """

    name = "spectrum"

    def __init__(self, shape: Sequence[int]) -> None:
        _, *spatial = shape
        rank = len(spatial)
        self.axes = tuple(range(2, 2 + rank))
        self.window = torch.ones(spatial)
        squares = torch.zeros(spatial)
        for axis, size in enumerate(spatial):
            along = [size if other == axis else 1 for other in range(rank)]
            fade = torch.sin((torch.arange(size) + 0.5) * math.pi / size).square()
            self.window = self.window * fade.view(along)
            squares = squares + torch.fft.fftfreq(size).square().view(along)
        rings = min(MOST_RINGS, max(1, max(spatial) // 2))
        radius = squares.sqrt().flatten()  # (prod S,)
        ring = (radius * 2 * rings - 1e-4).floor().clamp(0, rings).long()  # 1/2 itself is no corner
        ring[radius == 0] = -1  # the mean, which is removed
        within = ring == torch.arange(rings + 1)[:, None]  # (R + 1, prod S)
        within = within[within.any(1)].float()
        self.weight = (within / within.sum(1, keepdim=True)).T  # (prod S, R)
        told = f"{tuple(shape)} {rings} rings, sine-squared window, floor {FLOOR:.3g}"
        self.space = f"power spectrum {hashlib.sha256(told.encode()).hexdigest()[:8]}"

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, R)."""
        window = self.window
        mean = (x * window).sum(self.axes, keepdim=True) / window.sum()
        amplitudes = torch.fft.fftn((x - mean) * window, dim=self.axes)
        power = amplitudes.abs().square().mean(1).flatten(1) / window.square().sum()  # (N, prod S)
        return torch.log10(power @ self.weight + FLOOR)


def build(data: Dataset, rows: np.ndarray, seed: int) -> Spectrum:
    """The spectrum for samples of this shape; nothing is learned, so that rows and seed change nothing."""
    return Spectrum(data.shape)
