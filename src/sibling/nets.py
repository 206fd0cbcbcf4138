"""Convolution networks of any rank: the rank comes from the shape (C, *S).

No normalisation layers: residual branches end in a convolution that starts at zero, so that a deep
network begins as a shallow one (Zhang et al. 2019, Fixup; Huang et al. 2024, R3GAN). A patch stem and
a pixel-shuffle head keep every convolution off the full resolution: that is what makes a CPU enough.
For the same reason the frames of a short clip are channels of one picture, not an axis of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .grids import Plan, changes, fold, unfold

__all__ = [
    "Block",
    "Decoder",
    "Discriminator",
    "Encoder",
    "Trunk",
    "convolution",
]

SLOPE = 0.2
USUAL_MEMORY = 0.99  # decay of the moving average of what a batch of reals shows, a step


def convolution(rank: int, inputs: int, outputs: int, kernel: int, *, gain: float = 1.0) -> nn.Module:
    """A convolution with `rank` spatial axes that keeps their sizes (odd kernels); a linear layer for rank 0.

    gain  of the initial weights; 0 makes a branch that starts silent
    """
    layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    if rank == 0:
        layer = nn.Linear(inputs, outputs)
    else:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        layer = kind(inputs, outputs, kernel, padding=kernel // 2)
    with torch.no_grad():
        fan_in = inputs * kernel**rank
        layer.weight.normal_(0, gain / math.sqrt(fan_in)) if gain else layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


class Block(nn.Module):
    """x + conv(act(conv(act(x)))), the last convolution starting at zero; optionally told about y.

    width  channels
    told   K of the vector that shifts the channels inside; 0 = none
    """

    def __init__(self, rank: int, width: int, told: int = 0) -> None:
        super().__init__()
        gain = math.sqrt(2 / (1 + SLOPE**2))
        self.first = convolution(rank, width, width, 3, gain=gain)
        self.last = convolution(rank, width, width, 3, gain=0)
        self.shift = nn.Linear(told, width) if told else None

    def forward(self, x: torch.Tensor, vec: torch.Tensor | None = None) -> torch.Tensor:
        inner = self.first(F.leaky_relu(x, SLOPE))
        if self.shift is not None and vec is not None:
            inner = inner + _as_map(self.shift(vec), inner)
        out: torch.Tensor = x + self.last(F.leaky_relu(inner, SLOPE))
        return out


def _as_map(vec: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return vec.reshape(*vec.shape, *[1] * (like.ndim - 2))  # (N, C) -> (N, C, 1, ...)


class Trunk(nn.Module):
    """(N, C, *S) with maps stacked onto it -> features at the coarsest level (N, W, *coarsest).

    shape    (C, *S)
    told     K of a vector that shifts the channels after the first layer; 0 = none
    mapped   M, the channels of the condition's map
    width    channels of the finest level
    blocks   residual blocks at each level, finest first
    """

    def __init__(
        self, shape: Sequence[int], told: int, mapped: int, width: int, blocks: Callable[[int], int]
    ) -> None:
        super().__init__()
        self.plan = plan = Plan(shape, width)
        self.stem = convolution(
            plan.rank, (plan.channels + mapped * plan.frames) * plan.patch**plan.rank, plan.widths[0], 3
        )
        self.told = nn.Linear(told, plan.widths[0]) if told else None
        self.blocks = nn.ModuleList()
        self.downs = nn.ModuleList()
        for level, w in enumerate(plan.widths):
            self.blocks.append(nn.ModuleList(Block(plan.rank, w) for _ in range(blocks(level))))
            if level + 1 < plan.levels:
                self.downs.append(convolution(plan.rank, w * 2**plan.rank, plan.widths[level + 1], 1))

    @property
    def outputs(self) -> int:
        """How many numbers a sample becomes."""
        width: int = self.plan.widths[-1] * math.prod(self.plan.coarsest)
        return width

    def levels(self, x: torch.Tensor, vec: torch.Tensor) -> list[torch.Tensor]:
        """What each level sees (N, W, *size), finest first; maps are stacked onto x already."""
        out: list[torch.Tensor] = []
        h: torch.Tensor = self.stem(unfold(self.plan.pad(x), self.plan.patch))
        if self.told is not None:
            h = h + _as_map(self.told(vec), h)
        for level, blocks in enumerate(self.blocks):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h)
            out.append(h)
            if level < len(self.downs):
                h = self.downs[level](unfold(h, 2))
        return out

    def forward(self, x: torch.Tensor, vec: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        if maps.shape[1]:
            x = torch.cat([x, maps.to(x)], 1)
        return F.leaky_relu(self.levels(x, vec)[-1], SLOPE)


class Encoder(nn.Module):
    """(N, C, *S) and Cond -> (N, outputs).

    shape    (C, *S)
    outputs  width of the result
    told     K, the width of the condition's vector
    mapped   M, the channels of the condition's map, which is stacked onto x
    width    channels of the finest level
    blocks   residual blocks a level, but none at the finest
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        told: int = 0,
        mapped: int = 0,
        width: int = 64,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        # None at the finest level: a third of the time for nothing that the held-out loss shows (LOG.md).
        self.trunk = Trunk(shape, told, mapped, width, lambda level: blocks if level else 0)
        gain = math.sqrt(2 / (1 + SLOPE**2))
        self.head = nn.Linear(self.trunk.outputs + told, outputs)
        nn.init.normal_(self.head.weight, 0, gain / math.sqrt(self.head.in_features))
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor, vec: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        flat = self.trunk(x, vec, maps).flatten(1)  # (N, W * prod(coarsest))
        out: torch.Tensor = self.head(torch.cat([flat, vec.to(flat)], 1) if vec.shape[1] else flat)
        return out


class Decoder(nn.Module):
    """(N, Z) and Cond -> (N, C, *S), unbounded.

    shape   (C, *S)
    latent  Z
    told    K, the width of the condition's vector
    mapped  M, the channels of the condition's map, which joins the features before the blocks of each level and
            stands beside the finest ones: behind the last non-linearity alone it could only be added to the sample
    width   channels of the finest level
    blocks  residual blocks a level
    skips   the code reaches every block, not the first layer alone (Brock et al. 2019, "skip-z")
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent: int,
        told: int = 0,
        mapped: int = 0,
        width: int = 64,
        blocks: int = 1,
        skips: bool = False,
    ) -> None:
        super().__init__()
        self.plan = plan = Plan(shape, width)
        gain = math.sqrt(2 / (1 + SLOPE**2))
        self.skips = skips
        self.start = nn.Linear(latent + told, plan.widths[-1] * math.prod(plan.coarsest))
        nn.init.normal_(self.start.weight, 0, 1 / math.sqrt(latent + told))
        nn.init.zeros_(self.start.bias)
        self.blocks = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.drawn = nn.ModuleList()  # what a level sees of the map
        pixels = mapped * plan.frames * plan.patch**plan.rank
        for level in reversed(range(plan.levels)):
            w = plan.widths[level]
            if mapped:
                self.drawn.append(convolution(plan.rank, pixels, w, 3))
            shifts = told + latent if skips else told
            self.blocks.append(nn.ModuleList(Block(plan.rank, w, shifts) for _ in range(blocks)))
            if level:
                self.ups.append(convolution(plan.rank, w, plan.widths[level - 1] * 2**plan.rank, 1))
        finest = plan.widths[0] + pixels
        self.head = convolution(plan.rank, finest, plan.channels * plan.patch**plan.rank, 3, gain=gain)

    def forward(self, z: torch.Tensor, vec: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        code = torch.cat([z, vec], 1) if vec.shape[1] else z
        shifts = code if self.skips else vec
        h = self.start(code)
        h = h.reshape(len(z), self.plan.widths[-1], *self.plan.coarsest)  # (N, W * prod) -> (N, W, *coarsest)
        if self.plan.rank == 2:
            h = h.contiguous(memory_format=torch.channels_last)
        drawn = unfold(self.plan.pad(maps), self.plan.patch).to(h) if maps.shape[1] else None
        for level, blocks in enumerate(self.blocks):
            if drawn is not None:
                h = h + self.drawn[level](_pooled(drawn, 2 ** (len(self.ups) - level)))
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, shifts)
            if level < len(self.ups):
                h = fold(self.ups[level](h), 2)
        h = F.leaky_relu(h, SLOPE)
        if drawn is not None:
            h = torch.cat([h, drawn], 1)
        return self.plan.crop(fold(self.head(h), self.plan.patch))


def _pooled(x: torch.Tensor, edge: int) -> torch.Tensor:
    """The means of blocks of `edge` positions along each axis of S: (N, C, *S) -> (N, C, *S / edge)."""
    if edge == 1 or x.ndim == 2:
        return x
    pooled: torch.Tensor = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3](x, edge)
    return pooled


class Discriminator(nn.Module):
    """(N, C, *S) and Cond -> features, and from them logits of a sample and of a pair (sample, y).

    Of clips (C, T, H, W) it sees the frames and what each adds to the one before.

    shape     (C, *S)
    told      K, the width of the condition's vector
    mapped    M, the channels of the condition's map, which is stacked onto x
    width     channels of the finest level
    blocks    residual blocks a level
    features  F, the width of what the logits are made of
    spread    show the features how varied their batch is, so that alike fakes are found out (Karras et
              al. 2018, minibatch deviation)
    """

    usual: torch.Tensor

    def __init__(
        self,
        shape: Sequence[int],
        told: int = 0,
        mapped: int = 0,
        width: int = 64,
        blocks: int = 1,
        features: int = 128,
        spread: bool = False,
    ) -> None:
        super().__init__()
        self.moving = len(shape) == 4
        seen = (2 * shape[0], *shape[1:]) if self.moving else shape
        self.trunk = Trunk(seen, 0, mapped, width, lambda level: blocks)
        self.spread = spread
        if spread:  # what a batch of reals shows, for samples that are judged one by one
            self.register_buffer("usual", torch.tensor(0.0))
        self.shown = torch.zeros(1)  # (N,) what the last batch showed
        inputs = self.trunk.outputs + (math.prod(self.trunk.plan.coarsest) if spread else 0)
        self.flat = nn.Linear(inputs, features)
        nn.init.normal_(self.flat.weight, 0, math.sqrt(2 / (1 + SLOPE**2)) / math.sqrt(inputs))
        nn.init.zeros_(self.flat.bias)
        self.alone = nn.Linear(features, 1)
        self.embed = nn.Linear(told, features, bias=False) if told else None
        self.pair = nn.Linear(features, 1) if told or mapped else None
        for head in (self.alone, self.pair):
            if head is not None:
                nn.init.normal_(head.weight, 0, 1 / math.sqrt(features))

    def forward(self, x: torch.Tensor, maps: torch.Tensor, sets: int = 1) -> torch.Tensor:
        """(N, C, *S), (N, M, *S) -> features (N, F).

        sets  equal parts of the batch that `spread` keeps apart: the reals and the fakes; 0 = each sample
              is judged alone, as if in a batch of reals
        """
        if self.moving:
            x = torch.cat([x, changes(x)], 1)  # (N, C, T, H, W) -> (N, 2C, T, H, W)
        h = self.trunk(x, maps[:, :0], maps)
        if self.spread:
            shown = _spread(h, sets) if sets else self.usual.expand(len(h))
            self.shown = shown.detach()
            column = shown.reshape(-1, *[1] * (h.ndim - 1)).expand(-1, 1, *h.shape[2:])
            h = torch.cat([h, column.to(h)], 1)
        out: torch.Tensor = F.leaky_relu(self.flat(h.flatten(1)), SLOPE)
        return out

    @torch.no_grad()
    def remember(self, shown: torch.Tensor) -> None:
        """Take the deviation that a batch of reals has shown (`self.shown`) into what reals usually show."""
        if self.spread:
            self.usual.lerp_(shown, 1 - USUAL_MEMORY)

    def judge_alone(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, F) -> logits (N,) of x, whatever y is."""
        logits: torch.Tensor = self.alone(features)[:, 0]
        return logits

    def judge_pair(self, features: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        """Features (N, F) and vec (N, K) -> logits (N,) of the pair: psi(h) + <h, e(y)> / sqrt(F).

        Source: Miyato and Koyama, "cGANs with projection discriminator" (2018), equation 3.
        """
        if self.pair is None:
            return self.judge_alone(features)
        logits: torch.Tensor = self.pair(features)[:, 0]
        if self.embed is not None:
            logits = logits + (features * self.embed(vec.to(features))).sum(1) / math.sqrt(features.shape[1])
        return logits


def _spread(h: torch.Tensor, sets: int) -> torch.Tensor:
    """The mean deviation of the features over the samples of each set, repeated for each sample (N,)."""
    each = h.float().reshape(sets, len(h) // sets, -1)
    deviation = (each.var(1, unbiased=False) + 1e-8).sqrt().mean(1)  # (sets,)
    return deviation.repeat_interleave(len(h) // sets)
