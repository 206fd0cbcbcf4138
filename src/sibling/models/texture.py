"""Observation noise: the fine grain that the decoder's mean leaves out, put back where it belongs.

A Gaussian likelihood means x = decoder(z) + noise. Leaving the noise out gives smooth pictures, and a
recogniser that is trained on smooth pictures fails on real ones. Noise of one size everywhere speckles
what is plain; noise with everything that the decoder missed changes what a sample shows, since its slow
part is shape, and shape is what z is for. So: white noise, as large as the *high-pass* residuals of the
training samples are where the decoder says so much; none on a black ground, more on cloth.
Measured in LOG.md ("Texture").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["BINS", "add_texture", "fit_texture"]

BINS = 32


def fit_texture(decoded: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """The deviation of the grain at each decoded value: sigma (C, BINS), 0 where no pixel has it.

    decoded   float32 (N, C, *S) in [-1, 1], the decoder's mean for training samples
    residual  (N, C, *S), what is missing to the samples

    One table for all classes. With a table a class the grain gives the class away, and a recogniser
    learns the grain instead of the picture.
    """
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[decoded.ndim - 3]
    grain = residual - pool(residual, 3, 1, 1, count_include_pad=False)
    bins = _bins(decoded)
    return torch.stack([_deviation(bins[:, c], grain[:, c]) for c in range(decoded.shape[1])])


def _bins(decoded: torch.Tensor) -> torch.Tensor:
    return (
        ((decoded.clamp(-1, 1) + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
    )  # a NaN is seen later, not as a bin


def _deviation(bins: torch.Tensor, grain: torch.Tensor) -> torch.Tensor:
    """Root mean square of the grain in each bin (BINS,)."""
    count = torch.bincount(bins.flatten(), minlength=BINS)
    total = torch.bincount(bins.flatten(), grain.flatten().square(), minlength=BINS)
    return (total / count.clamp(min=1)).sqrt().float()


def add_texture(decoded: torch.Tensor, white: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """decoded + grain, all (N, C, *S).

    white  standard normal noise, each sample's from its own stream
    sigma  (C, BINS) of `fit_texture`
    """
    bins = _bins(decoded)
    size = torch.gather(sigma.expand(len(bins), -1, -1), 2, bins.flatten(2)).reshape(bins.shape)
    return decoded + size * white
