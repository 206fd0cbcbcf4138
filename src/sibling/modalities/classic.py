"""Classic augmentation of images as one affine resampling and one colour map, batched in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

__all__ = ["augment"]


def augment(
    x: torch.Tensor,
    strength: float,
    rng: torch.Generator,
    *,
    flips: Sequence[str] = (),
    colour_channels: int = 3,
) -> torch.Tensor:
    """Shift, scale, rotate, flip, brighten, and cut out, each sample by its own amounts.

    x                float32 (N, C, H, W) in [-1, 1]
    strength         0 changes nothing; 1 shifts and scales by up to 12 %, rotates by up to 12 degrees,
                     changes brightness and contrast by up to 20 %; above 0.5 it also cuts out a square
    rng              the only source of randomness
    flips            mirrored half of the time: "horizontal", "vertical"
    colour_channels  how many leading channels are colour; the rest is alpha and keeps its values
    Returns float32 (N, C, H, W) in [-1, 1].
    """
    if strength <= 0 and not flips:
        return x
    n = len(x)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=rng) * (high - low) + low

    angle = uniform(-1, 1) * strength * math.radians(12)
    scale = torch.exp(uniform(-1, 1) * strength * 0.12)
    shift = torch.stack([uniform(-1, 1), uniform(-1, 1)], 1) * (strength * 0.24)  # of the half edge
    mirror = torch.ones(n, 2)
    for axis, name in enumerate(("horizontal", "vertical")):
        if name in flips:
            mirror[:, axis] = (torch.rand(n, generator=rng) < 0.5).float() * -2 + 1
    brightness = uniform(-1, 1) * strength * 0.2
    contrast = 1 + uniform(-1, 1) * strength * 0.2
    aspect = x.shape[3] / x.shape[2]
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.empty(n, 2, 3)  # output grid -> input grid, as affine_grid wants it
    theta[:, 0, 0] = cosine * mirror[:, 0]
    theta[:, 0, 1] = -sine * mirror[:, 0] / aspect
    theta[:, 1, 0] = sine * mirror[:, 1] * aspect
    theta[:, 1, 1] = cosine * mirror[:, 1]
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)  # (N, H, W, 2)
    out = F.grid_sample(x, grid.to(x), mode="bilinear", padding_mode="border", align_corners=False)
    colour = out[:, :colour_channels]
    mean = colour.mean(dim=(1, 2, 3), keepdim=True)
    colour = (colour - mean) * contrast.view(-1, 1, 1, 1) + mean + brightness.view(-1, 1, 1, 1)
    out = torch.cat([colour.clamp(-1, 1), out[:, colour_channels:]], 1)
    return _cutout(out, strength, rng) if strength > 0.5 else out


def _cutout(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Fill a square of a quarter of the edges with the sample's mean, in half of the samples."""
    n, _, height, width = x.shape
    centre = torch.rand(n, 2, generator=rng)
    chosen = torch.rand(n, generator=rng) < 0.5 * strength
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    inside = ((rows[None, :] - centre[:, :1]).abs() < 0.125)[:, :, None] & (
        (columns[None, :] - centre[:, 1:]).abs() < 0.125
    )[:, None, :]  # (N, H, W)
    hole = (inside & chosen[:, None, None])[:, None]  # (N, 1, H, W)
    return torch.where(hole, x.mean(dim=(2, 3), keepdim=True), x)
