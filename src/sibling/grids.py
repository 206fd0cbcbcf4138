"""How a sample (C, *S) lies before the convolutions: its levels, its patches, and a short clip as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

__all__ = ["Plan", "changes", "fold", "joined", "unfold"]

MOST_JOINED = (
    32  # frames that become channels: seven times as fast as convolutions over time, and better (LOG.md)
)


def joined(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that networks work at: (C, T, H, W) of at most 32 frames -> (C T, H, W); any other stays."""
    if len(shape) == 4 and shape[1] <= MOST_JOINED:
        return shape[0] * shape[1], *shape[2:]
    return tuple(shape)


def changes(x: torch.Tensor) -> torch.Tensor:
    """What each frame of clips (N, C, T, H, W) adds to the one before; nothing in the first. The same shape."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:] - x[:, :, :-1]], 2)


class Plan:
    """How a shape is folded: patch edge, sizes and widths of the levels, coarsest last.

    shape  (C, *S)
    width  channels of the finest level; each coarser one has twice as many, at most 4 x width

    frames is how many channels one channel of x becomes: T for the frames of a short clip, else 1.
    """

    def __init__(self, shape: Sequence[int], width: int) -> None:
        self.channels, *spatial = joined(shape)
        self.frames = self.channels // shape[0]
        self.moving = len(spatial) + 1 < len(shape)
        self.spatial = tuple(spatial)
        self.rank = len(spatial)
        longest = max(spatial, default=1)
        self.patch = 1 if longest <= 12 else 2 if longest <= 40 else 4 if longest <= 96 else 8
        self.levels = 1
        while longest / self.patch / 2 ** (self.levels - 1) > 8:
            self.levels += 1
        if longest / self.patch <= 8:
            self.levels = 2
        step = self.patch * 2 ** (self.levels - 1)
        # Sizes that do not divide are padded inside the network and cropped at its end.
        self.padded = tuple(math.ceil(size / step) * step for size in spatial)
        self.coarsest = tuple(size // step for size in self.padded)
        self.widths = tuple(min(width * 2**level, 4 * width) for level in range(self.levels))

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, *S) -> (N, C, *padded), repeating the border; (N, C, T, H, W) -> (N, C T, *padded) where frames join."""
        if x.ndim == self.rank + 3:
            x = x.flatten(1, 2)
        amounts: list[int] = []
        for size, padded in zip(reversed(self.spatial), reversed(self.padded), strict=True):
            amounts += [0, padded - size]
        return F.pad(x, amounts, mode="replicate") if any(amounts) else x

    def crop(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, *padded) -> (N, C, *S), the inverse of `pad`."""
        for axis, size in enumerate(self.spatial, 2):
            x = x.narrow(axis, 0, size)
        return (
            x.reshape(len(x), -1, self.frames, *x.shape[2:]) if self.moving else x
        )  # (N, C T, H, W) -> (N, C, T, H, W)


def unfold(x: torch.Tensor, patch: int) -> torch.Tensor:
    """Space to depth: (N, C, *S) -> (N, C * patch^rank, *S / patch)."""
    rank = x.ndim - 2
    if patch == 1 or rank == 0:
        return x
    if rank == 2:
        return F.pixel_unshuffle(x, patch)
    n, c, *spatial = x.shape
    split = [part for size in spatial for part in (size // patch, patch)]
    x = x.reshape(n, c, *split)  # (N, C, S1/p, p, S2/p, p, ...)
    order = [0, 1, *(3 + 2 * i for i in range(rank)), *(2 + 2 * i for i in range(rank))]
    return x.permute(order).reshape(n, c * patch**rank, *(size // patch for size in spatial))


def fold(x: torch.Tensor, patch: int) -> torch.Tensor:
    """Depth to space, the inverse of `unfold`: (N, C * patch^rank, *S) -> (N, C, *S * patch)."""
    rank = x.ndim - 2
    if patch == 1 or rank == 0:
        return x
    if rank == 2:
        return F.pixel_shuffle(x, patch)
    n, channels, *spatial = x.shape
    c = channels // patch**rank
    x = x.reshape(n, c, *[patch] * rank, *spatial)  # (N, C, p, p, ..., S1, S2, ...)
    order = [0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i))]
    return x.permute(order).reshape(n, c, *(size * patch for size in spatial))
