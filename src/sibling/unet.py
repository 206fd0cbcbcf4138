"""Networks for translation: a map becomes a sample level by level, and a critic judges it patch by patch.

The same building blocks as in `nets.py`: no normalisation, branches that start silent, patches folded into channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .grids import Plan, fold
from .nets import SLOPE, Block, Trunk, convolution

__all__ = ["PatchCritic", "UNet"]


class UNet(nn.Module):
    """(N, Z), (N, K) and maps (N, M, *S) -> (N, C, *S), unbounded.

    The map goes down through levels and up again, each level going up sees the one that went down (Ronneberger et al.
    2015); the code and the condition's vector shift every block on the way up, so that one map has many samples.

    shape   (C, *S)
    latent  Z
    told    K, the width of the condition's vector
    mapped  M, the channels of the map
    width   channels of the finest level
    blocks  residual blocks a level, each way
    """

    def __init__(
        self, shape: Sequence[int], latent: int, told: int, mapped: int, width: int = 64, blocks: int = 1
    ) -> None:
        super().__init__()
        self.plan = plan = Plan(shape, width)
        self.seen = Trunk((mapped, *shape[1:]), 0, 0, width, lambda level: blocks)
        self.start = nn.Linear(latent + told, plan.widths[-1])
        nn.init.normal_(self.start.weight, 0, 1 / math.sqrt(latent + told))
        nn.init.zeros_(self.start.bias)
        self.joins, self.blocks, self.ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(plan.levels)):
            w = plan.widths[level]
            self.joins.append(convolution(plan.rank, w, w, 1))
            self.blocks.append(nn.ModuleList(Block(plan.rank, w, latent + told) for _ in range(blocks)))
            if level:
                self.ups.append(convolution(plan.rank, w, plan.widths[level - 1] * 2**plan.rank, 1))
        gain = math.sqrt(2 / (1 + SLOPE**2))
        self.head = convolution(
            plan.rank, plan.widths[0], plan.channels * plan.patch**plan.rank, 3, gain=gain
        )

    def forward(self, z: torch.Tensor, vec: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        code = torch.cat([z, vec], 1)
        levels = self.seen.levels(maps, maps[:, :0])  # finest first
        h = self.start(code).reshape(len(z), -1, *[1] * self.plan.rank)  # (N, W) -> (N, W, 1, ...)
        for number, blocks in enumerate(self.blocks):
            h = h + self.joins[number](levels[-1 - number])
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, code)
            if number < len(self.ups):
                h = fold(self.ups[number](h), 2)
        return self.plan.crop(fold(self.head(F.leaky_relu(h, SLOPE)), self.plan.patch))


class PatchCritic(nn.Module):
    """(N, C, *S) and maps -> the logits of its patches, of which a pair's is the mean.

    It has no layer that sees the whole: what it judges is whether every patch belongs to the map below it (Isola et al.
    2017). The interface is that of `nets.Discriminator`; a sample without its map is never judged.

    shape   (C, *S)
    told    K, the width of the condition's vector
    mapped  M, the channels of the map, which is stacked onto x
    width   channels of the finest level
    blocks  residual blocks a level
    """

    def __init__(
        self, shape: Sequence[int], told: int, mapped: int, width: int = 64, blocks: int = 1
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, 0, mapped, width, lambda level: blocks)
        features = self.trunk.plan.widths[-1]
        self.pair = convolution(self.trunk.plan.rank, features, 1, 1)
        self.embed = nn.Linear(told, features, bias=False) if told else None
        self.shown = torch.zeros(1)

    def forward(self, x: torch.Tensor, maps: torch.Tensor, sets: int = 1) -> torch.Tensor:
        """(N, C, *S), (N, M, *S) -> features of the patches (N, F, *coarsest)."""
        out: torch.Tensor = self.trunk(x, maps[:, :0], maps)
        return out

    def remember(self, shown: torch.Tensor) -> None:
        """Nothing: no patch knows of other samples."""

    def judge_alone(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, F, *coarsest) -> logits (N,), whatever the condition's vector is."""
        logits: torch.Tensor = self.pair(features).flatten(1).mean(1)
        return logits

    def judge_pair(self, features: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        """Features (N, F, *coarsest) and vec (N, K) -> logits (N,) of the pair."""
        logits = self.judge_alone(features)
        if self.embed is not None:
            mean = features.flatten(2).mean(2)  # (N, F, *coarsest) -> (N, F)
            logits = logits + (mean * self.embed(vec.to(mean))).sum(1) / math.sqrt(mean.shape[1])
        return logits
