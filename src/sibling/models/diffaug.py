"""Differentiable augmentation: what the discriminator sees of real and fake alike, in both players' steps.

The generator never sees an augmented sample and so does not learn to make them, while the discriminator
never sees the same sample twice (Zhao et al. 2020, DiffAugment; Karras et al. 2020, ADA). Any rank of S; all
frames of a clip (T, H, W) are changed alike, and none is moved in time.
"""

from __future__ import annotations

import torch

__all__ = ["KINDS", "augment_pair"]

KINDS = ("translation", "cutout", "colour")
SHIFT = 0.125  # of an edge, either way
HOLE = 0.5  # of an edge


def augment_pair(
    x: torch.Tensor,
    maps: torch.Tensor,
    strength: float,
    rng: torch.Generator,
    *,
    kinds: tuple[str, ...] = KINDS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift, cut out and recolour each sample; its map is shifted and cut with it.

    x         (N, C, *S)
    maps      (N, M, *S), M may be 0
    strength  the probability, 0 to 1, with which each kind of change meets a sample
    rng       on the CPU, the only source of randomness
    kinds     of translation, cutout and colour
    """
    if strength <= 0:
        return x, maps
    channels = x.shape[1]
    if "colour" in kinds:
        x = _recolour(x, strength, rng)
    both = torch.cat([x, maps.to(x)], 1) if maps.shape[1] else x
    if "translation" in kinds:
        both = _translate(both, strength, rng)
    if "cutout" in kinds:
        both = _cut(both, strength, rng)
    return both[:, :channels], both[:, channels:] if maps.shape[1] else maps


def _chosen(n: int, strength: float, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=rng) < strength


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=rng) * (high - low) + low


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))  # (N,) -> (N, 1, ...)


def _places(x: torch.Tensor) -> range:
    """The axes of place: all of S but the time of a clip."""
    return range(3 if x.ndim == 5 else 2, x.ndim)


def _recolour(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Brightness +-0.5, saturation 0 to 2 (where there is colour), contrast 0.5 to 1.5; DiffAugment's ranges."""
    n = len(x)
    on = _chosen(n, strength, rng).float()
    brightness = _uniform(n, -0.5, 0.5, rng) * on
    saturation = 1 + _uniform(n, -1, 1, rng) * on
    contrast = 1 + _uniform(n, -0.5, 0.5, rng) * on
    x = x + _column(brightness, x)
    if x.shape[1] >= 3:
        gray = x.mean(1, keepdim=True)
        x = (x - gray) * _column(saturation, x) + gray
    mean = x.flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1))
    return (x - mean) * _column(contrast, x) + mean


def _translate(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Each sample by its own whole steps, up to an eighth of each edge; the border is repeated."""
    n = len(x)
    on = _chosen(n, strength, rng)
    for axis in _places(x):
        size = x.shape[axis]
        most = max(1, round(size * SHIFT))
        shift = torch.randint(-most, most + 1, (n,), generator=rng) * on
        at = (torch.arange(size) + shift[:, None]).clamp(0, size - 1).to(x.device)  # (N, size)
        index = at.reshape(n, *[size if a == axis else 1 for a in range(1, x.ndim)])
        x = x.gather(axis, index.expand(n, *[size if a == axis else s for a, s in enumerate(x.shape)][1:]))
    return x


def _cut(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """A box of half of each edge, anywhere, becomes 0 (mid gray); without an edge there is no box."""
    n = len(x)
    if not _places(x):
        return x
    inside = _chosen(n, strength, rng).reshape(-1, *[1] * (x.ndim - 1))
    for axis in _places(x):
        size = x.shape[axis]
        centre = torch.rand(n, generator=rng)
        places = (torch.arange(size) + 0.5) / size
        near = (places[None] - centre[:, None]).abs() < HOLE / 2  # (N, size)
        inside = inside & near.reshape(n, *[size if a == axis else 1 for a in range(1, x.ndim)])
    return x * (~inside).to(x)
