"""Feature spaces that need no download: a network that was never trained, and one trained on the data.

Random convolution features rank noise, blur and missing classes about as trained ones do and belong to
nobody's labels (Naeem et al. 2020 use them beside Inception's); the recogniser's see what the classes
differ in and are blind to the rest. Where the two disagree, both are shown.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..device import seeded
from ..grids import changes, unfold
from ..nets import convolution

__all__ = ["RandomFeatures", "in_batches"]


class RandomFeatures(nn.Module):
    """Three strided convolutions with random weights, then mean and deviation over space.

    Of clips (C, T, H, W): half of the features of each frame, half of what each frame adds to the one before, and both
    averaged over time. So neither a still nor a wrong motion of right frames is taken for a clip.

    shape  (C, *S)
    seed   of the weights
    width  channels of the last layer; F = 2 * width
    """

    name = "random"

    def __init__(self, shape: Sequence[int], *, seed: int = 0, width: int = 64) -> None:
        super().__init__()
        channels, *spatial = shape
        self.moving = len(spatial) == 3
        if self.moving:
            spatial, width = spatial[1:], width // 2
        rank = len(spatial)
        self.patch = 1 if max(spatial) <= 40 else 2 if max(spatial) <= 80 else 4
        with seeded(seed, "random features"):
            widths = [channels * self.patch**rank, 32, 48, width]
            self.layers = nn.ModuleList(
                convolution(rank, a, b, 3, gain=math.sqrt(2)) for a, b in itertools.pairwise(widths)
            )
        self.requires_grad_(False)
        self.multiple = self.patch * 4
        digest = hashlib.sha256(b"".join(p.numpy().tobytes() for p in self.parameters())).hexdigest()
        self.space = f"random convolutions {digest[:8]}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, F)."""
        if not self.moving:
            return self._still(x)
        n, _, frames = x.shape[:3]
        parts = [
            self._still(clip.transpose(1, 2).flatten(0, 1)).reshape(
                n, frames, -1
            )  # (N T, C, H, W) -> (N, T, F / 2)
            for clip in (x, changes(x))
        ]
        # The first frame has no change: the sum over the others is divided by their number.
        return torch.cat([parts[0].mean(1), parts[1][:, 1:].sum(1) / max(1, frames - 1)], 1)

    def _still(self, x: torch.Tensor) -> torch.Tensor:
        pad = [amount for size in reversed(x.shape[2:]) for amount in (0, -size % self.multiple)]
        h = unfold(F.pad(x, pad, mode="replicate") if any(pad) else x, self.patch)
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
        for number, layer in enumerate(self.layers):
            h = F.relu(layer(h))
            if number < 2:
                h = pool(h, 2)
        flat = h.flatten(2)  # (N, W, prod S)
        mean = flat.mean(2, keepdim=True)
        deviation = (flat - mean).square().mean(2).sqrt()  # defined for one position and for no sample too
        return torch.cat([mean[..., 0], deviation], 1)


@torch.no_grad()
def in_batches(
    network: Callable[[torch.Tensor], torch.Tensor],
    fetch: Callable[[slice], torch.Tensor],
    n: int,
    size: int = 256,
) -> torch.Tensor:
    """Run a network over n samples that `fetch(slice)` brings, `size` at a time: (n, F)."""
    if n == 0:  # one sample of zeros tells F
        empty = fetch(slice(0, 0))
        return network(empty.new_zeros(1, *empty.shape[1:])).float()[:0]
    parts = [network(fetch(slice(start, min(n, start + size)))).float() for start in range(0, n, size)]
    return torch.cat(parts)
