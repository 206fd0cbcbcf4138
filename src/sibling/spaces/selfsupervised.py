"""A small network that learns without labels which two views are of one sample.

SimCLR (Chen et al. 2020, "A simple framework for contrastive learning of visual representations"): two
augmented views of a sample shall lie nearer to each other than to the other views of the batch. What the
modality's augmentation changes becomes unimportant, what tells samples apart is kept. The features are
those before the projection that the loss sees, as there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..dataset import Dataset
from ..device import best, generator, seed_of, seeded
from ..errors import UsageError
from ..grids import joined
from ..judge import fetcher
from ..metrics.recogniser import Augment, Recogniser, epochs_of, optimise

__all__ = ["LEAST_ROWS", "SelfSupervised", "build", "contrast", "train_selfsupervised"]

LEAST_ROWS = 20  # real samples, below which a batch holds nothing to be told apart from
STEPS = 300
BATCH = 64  # samples an update, each seen twice
STRENGTH = 0.5  # of the augmentation, as for a recogniser
TEMPERATURE = 0.5
PROJECTED = 64


class SelfSupervised:
    """What the last convolution of a trained network sees, averaged over space.

    network  convolutions as in a recogniser; its head is not used
    """

    name = "selfsupervised"

    def __init__(self, network: Recogniser) -> None:
        self.network = network.eval()
        weights = b"".join(p.detach().cpu().numpy().tobytes() for p in network.parameters())
        self.space = f"self-supervised {hashlib.sha256(weights).hexdigest()[:8]}"

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, F)."""
        device = next(self.network.parameters()).device
        return self.network.features(x.to(device)).float().cpu()


class _Projection(nn.Module):
    """The network with two layers behind its features, between which the batch is normalised."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Recogniser(shape, PROJECTED)
        self.norm = nn.BatchNorm1d(PROJECTED)
        self.last = nn.Linear(PROJECTED, PROJECTED, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, P)."""
        projected: torch.Tensor = self.last(F.relu(self.norm(self.trunk(x))))
        return projected


def contrast(projected: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """The loss of SimCLR (NT-Xent): each view is to find the other view of its sample among all others.

    projected  (2N, P): first one view of N samples, then another of each in the same order
    Returns a scalar, log(2N - 1) where all views are alike.
    """
    direction = F.normalize(projected, dim=1)
    cosine = direction @ direction.T / temperature  # (2N, 2N)
    itself = torch.eye(len(projected), dtype=torch.bool, device=projected.device)
    other = torch.arange(len(projected), device=projected.device).roll(len(projected) // 2)
    return F.cross_entropy(cosine.masked_fill(itself, -torch.inf), other)


def train_selfsupervised(
    fetch: Callable[[np.ndarray], torch.Tensor],
    n: int,
    *,
    shape: Sequence[int],
    augment: Augment,
    seed: int,
    steps: int = STEPS,
    batch: int = BATCH,
) -> SelfSupervised:
    """Train the network for a number of optimiser steps; no label is asked for.

    fetch    brings x (N, C, *S) of these positions within the n samples
    augment  gives the two views
    seed     of weights, order and augmentation
    """
    batch = min(batch, n)
    with seeded(seed, "self-supervised"):
        network = _Projection(shape).to(best())
    if len(joined(shape)) == 3:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    order = epochs_of(n, steps * batch, seed, "self-supervised")

    def views_of(step: int) -> tuple[torch.Tensor, None]:
        x = fetch(order[step * batch : (step + 1) * batch])
        rng = generator(seed, "views", step)
        return torch.cat([augment(x, STRENGTH, rng), augment(x, STRENGTH, rng)]), None

    optimise(
        network,
        views_of,
        lambda projected, _: contrast(projected),
        steps=steps,
        learning_rate=3e-3,
        weight_decay=0.02,
    )
    return SelfSupervised(network.trunk)


def build(data: Dataset, rows: np.ndarray, seed: int) -> SelfSupervised:
    """A network that learned from these real train rows, without their labels.

    Takes about half a minute on one core for samples of 28 x 28. Raises UsageError for too few rows.
    """
    if len(rows) < LEAST_ROWS:
        raise UsageError(
            f"The selfsupervised space needs {LEAST_ROWS} real training samples; there are {len(rows)}. "
            "Choose other spaces, for example random and spectrum."
        )
    return train_selfsupervised(
        fetcher(data, rows), len(rows), shape=data.shape, augment=data.modality.augment,
        seed=seed_of(seed, "selfsupervised space"),
    )  # fmt: skip
