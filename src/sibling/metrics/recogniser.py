"""A small convolutional network and the loop that trains it: the judge of labels, and the subject of the lift."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..device import autocast, best, generator, numpy_generator, seeded
from ..errors import Stopped
from ..grids import joined, unfold

__all__ = ["Pool", "Recogniser", "epochs_of", "new_recogniser", "optimise", "train_recogniser"]

Augment = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]
SMOOTHING = 0.05  # of labels


class Pool:
    """Samples from several sources behind one index, without copying them together.

    sources  list of (fetch, labels): `fetch(rows)` gives float32 (N, C, *S), labels is (n, ...): class numbers,
             0 and 1 for each of several labels, or numbers

    After that: labels (N, ...) of all, origins (N,) the number of the source of each
    """

    def __init__(self, sources: Sequence[tuple[Callable[[np.ndarray], torch.Tensor], np.ndarray]]) -> None:
        sources = [source for source in sources if len(source[1])] or sources
        self._fetch = [fetch for fetch, _ in sources]
        self._starts = np.cumsum([0, *(len(labels) for _, labels in sources)])
        self.labels = np.concatenate([labels for _, labels in sources])
        self.origins = np.repeat(np.arange(len(sources)), [len(labels) for _, labels in sources])

    def __len__(self) -> int:
        return len(self.labels)

    def x(self, rows: np.ndarray) -> torch.Tensor:
        """float32 (N, C, *S) of these rows, in this order."""
        parts, order = [], []
        for number, fetch in enumerate(self._fetch):
            inside = np.flatnonzero((rows >= self._starts[number]) & (rows < self._starts[number + 1]))
            if len(inside):
                parts.append(fetch(rows[inside] - self._starts[number]))
                order.append(inside)
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))]


class Recogniser(nn.Module):
    """Convolutions with pooling and batch normalisation, then a mean over space and a linear layer.

    The frames of a short clip are channels of one picture, as in `nets`.

    shape    (C, *S)
    classes  G
    width    channels of the first layer
    """

    def __init__(self, shape: Sequence[int], classes: int, width: int = 32) -> None:
        super().__init__()
        channels, *spatial = joined(shape)
        rank = self.rank = len(spatial)
        longest = max(spatial)
        self.patch = 1 if longest <= 40 else 2 if longest <= 80 else 4
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
        widths = [channels * self.patch**rank, width, 2 * width, 4 * width]
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for a, b in itertools.pairwise(widths):
            self.layers.append(kind(a, b, 3, padding=1, bias=False))
            self.norms.append(norm(b))
        self.pools = sum(min(spatial) // self.patch >= 2 * 2**level for level in range(2))
        self.head = nn.Linear(4 * width, classes)
        self.space = ""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, F), what the last layer sees."""
        if x.ndim == self.rank + 3:
            x = x.flatten(1, 2)  # (N, C, T, H, W) -> (N, C T, H, W)
        pad = [amount for size in reversed(x.shape[2:]) for amount in (0, -size % self.patch)]
        h = unfold(F.pad(x, pad, mode="replicate") if any(pad) else x, self.patch)
        if self.rank == 2:
            h = h.contiguous(memory_format=torch.channels_last)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.rank - 1]
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            h = layer(h)
            if number < self.pools:
                h = pool(h, 2)  # before the rest, which then has a quarter of the work, and learns as much
            h = F.relu(norm(h))
        return h.flatten(2).mean(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> logits (N, G)."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits

    @torch.no_grad()
    def probabilities(self, fetch: Callable[[slice], torch.Tensor], n: int, size: int = 256) -> torch.Tensor:
        """(n, G) class probabilities of n samples that `fetch(slice)` brings."""
        self.eval()
        device = next(self.parameters()).device
        parts = [
            torch.softmax(self(fetch(slice(start, min(n, start + size))).to(device)).float(), 1).cpu()
            for start in range(0, n, size)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.head.out_features)


def train_recogniser(
    pool: Pool,
    *,
    shape: Sequence[int],
    classes: int,
    steps: int,
    seed: int,
    batch: int = 128,
    augment: Augment | None = None,
    strength: float = 0.0,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.02,
    even_classes: bool = False,
    stop: Sequence[int] = (),
) -> Recogniser:
    """Train a recogniser for a number of optimiser steps.

    pool           samples and labels
    steps          updates; the same number for every arm of a comparison, never epochs: more data at a
                   fixed number of epochs would mean more training
    batch          samples an update, the same in every arm of a comparison
    seed           of weights, order and augmentation
    augment        classic augmentation, applied with `strength`
    learning_rate  of AdamW at its peak (one cycle)
    weight_decay   of AdamW
    even_classes   learn what a sample shows, whatever its class: while it learns each logit is raised by the logarithm of
                   the class's share, so that what is common needs no logit for it. Changes nothing where all have
                   equally many. Source: Menon et al., "Long-tail learning via logit adjustment" (2021), equation 10
    stop           looked at between steps: a signal number in it ends the training with Stopped
    """
    network = new_recogniser(shape, classes, seed, "recogniser")
    device = next(network.parameters()).device
    order = epochs_of(len(pool), steps * batch, seed, "pool")
    labels = pool.labels.astype(np.int64)

    def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = order[step * batch : (step + 1) * batch]
        x = pool.x(rows)
        if augment is not None:
            x = augment(x, strength, generator(seed, "augment", step))
        return x, torch.from_numpy(labels[rows]).to(device)

    counts = np.bincount(labels, minlength=classes).clip(1) if even_classes else np.ones(classes)
    share = torch.from_numpy((counts / counts.sum()).astype(np.float32)).to(device)

    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # Labels are smoothed in these shares too: evenly, a rare class would get more from others than from its own.
        wanted = (1 - SMOOTHING) * F.one_hot(y, classes) + SMOOTHING * share
        return F.cross_entropy(logits + share.log(), wanted)

    optimise(
        network, batch_of, loss, steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, stop=stop,
    )  # fmt: skip
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in network.parameters())
    network.space = f"recogniser {hashlib.sha256(weights).hexdigest()[:8]}"
    return network


def new_recogniser(shape: Sequence[int], outputs: int, *path: int | str) -> Recogniser:
    """An untrained recogniser on the device; its weights depend on `path` alone."""
    with seeded(*path):
        network = Recogniser(shape, outputs).to(best())
    if len(joined(shape)) == 3:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def optimise(
    network: nn.Module,
    batch_of: Callable[[int], tuple[torch.Tensor, Any]],
    loss: Callable[[torch.Tensor, Any], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    stop: Sequence[int] = (),
) -> None:
    """One cycle of AdamW: a short warm-up, then a cosine to 0. Leaves the network frozen, in evaluation mode.

    batch_of  step -> x (N, C, *S) and whatever `loss` compares the network's outputs with
    loss      (outputs float32, that) -> a scalar
    stop      looked at between steps: a signal number in it ends the training with Stopped
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
    network.train()
    for step in range(steps):
        if stop:
            raise Stopped("Stopped while training a recogniser; nothing of this stage was written.", stop[0])
        warm = min(1.0, (step + 1) / (0.1 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm
        x, wanted = batch_of(step)
        with autocast(device):
            said = network(x.to(device))
        value = loss(said.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval().requires_grad_(False)


def epochs_of(n: int, total: int, *path: int | str) -> np.ndarray:
    """`total` row numbers of n, one permutation after the other, each from the random stream of `path`."""
    epochs = -(-total // n)
    return np.concatenate([numpy_generator(*path, epoch).permutation(n) for epoch in range(epochs)])[:total]
