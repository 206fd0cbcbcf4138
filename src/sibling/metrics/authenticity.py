"""Are fakes nearer to a training sample than the next training sample is?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .intervals import wilson
from .nearness import Nearness, ThreeSets
from .points import row_chunks, squared_distances

__all__ = ["Authenticity"]


class Authenticity(ThreeSets):
    """Share of the fakes that are farther from their nearest training sample than that one is from ITS nearest.

    Fresh real samples do not reach 1, nor 1/2, but about .7: the sample that is nearest to something tends to lie in a
    crowd. So the held-out samples in the fakes' place are the floor. It sees a fifth of copies, not a twentieth.

    Source: Alaa et al., "How faithful is your synthetic data?" (2022).
    """

    name = "authenticity"
    goal: Literal["min", "max"] = "max"
    range = (0.0, 1.0)
    meaning = (
        "Share of the generated samples that are no nearer to a training sample than its own neighbour is; "
        "fresh real ones reach the floor, not 1."
    )

    def samples(self, near: Nearness) -> tuple[Tensor, Tensor]:
        """1 for each authentic fake, else 0; the same for the held-out samples: (M,) and (H,)."""
        (made, made_index), (fresh, fresh_index) = near.fake_to_train, near.held_to_train
        asked, place = torch.unique(torch.cat([made_index, fresh_index]), return_inverse=True)
        own = _own_neighbour(near.train, asked, near.chunk)[place]
        return (made > own[: len(made)]).double(), (fresh > own[len(made) :]).double()

    def of(self, first: Tensor, second: Tensor) -> float:
        """The share, in [0, 1]."""
        return float(first.mean())

    def widest(self, value: float, first: Tensor, second: Tensor) -> tuple[float, float]:
        """The Wilson interval of the count."""
        return wilson(value * len(first), len(first))


def _own_neighbour(train: Tensor, asked: Tensor, chunk: int | None) -> Tensor:
    """The distance of these training samples to their nearest other one, (A,)."""
    out = torch.empty(len(asked), dtype=torch.float64)
    for rows in row_chunks(len(asked), len(train), chunk):
        block = squared_distances(train[asked[rows]], train)
        block[torch.arange(len(block)), asked[rows]] = torch.inf
        nearest = block.argmin(dim=1)
        out[rows] = (train[asked[rows]] - train[nearest]).norm(dim=1)
    return out
