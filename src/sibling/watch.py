"""An eye on an adversarial training: how far its samples are from held-out ones, whether they collapse,
and the way back to the last good weights when they do.

A game has no loss that falls. What tells whether it goes well is the kernel distance between samples and
held-out real ones, and how varied the samples are: over all, and inside each group, where conditional
networks collapse first.
"""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import torch

from .dataset import Dataset
from .device import seed_of
from .errors import NumericalError
from .judge import fetcher, most_rows
from .metrics.distance import KernelDistance
from .metrics.diversity import Diversity
from .metrics.features import RandomFeatures, in_batches
from .models.update import skipping
from .types import Model

__all__ = [
    "COLLAPSED",
    "LEAST_HELD",
    "LEAST_SCALE",
    "MOST_ROLLBACKS",
    "Watch",
    "has_collapsed",
    "keep_good",
    "roll_back",
]

log = logging.getLogger("sibling")

MOST_WATCHED = 1_024  # real samples a side
LEAST_WATCHED = 512  # fakes, about; few held-out samples are given several fakes each
LEAST_HELD = 16  # held-out samples; fewer give no distance to choose by and say nothing about overfitting
LEAST_GROUP = 5  # real samples of a group; fewer have no spread to compare with
COLLAPSED = 0.3  # spread or diversity, relative to real ones
MOST_ROLLBACKS = 4
LEAST_SCALE = 0.1  # the smallest deviation that a feature is measured by, relative to the median feature's
BLOCKS = 5
LEAST_BLOCK = 16  # real samples


class Watch:
    """Compares samples with held-out real ones; what belongs to the real side is computed once.

    data  with a val part; where it is too small the train part stands in for it in spread and diversity,
          and there is no distance
    """

    def __init__(self, data: Dataset, rows: np.ndarray, seed: int) -> None:
        self.data = data
        self.seed = seed
        val = data.rows("val", "real")
        self.has_val = len(val) >= LEAST_HELD
        self.rows = most_rows(val if self.has_val else rows, MOST_WATCHED, seed, "watch")
        self.network = RandomFeatures(data.shape)
        features = in_batches(self.network, fetcher(data, self.rows), len(self.rows))
        self.centre, scale = features.mean(0), features.std(0, unbiased=False)
        # A feature that real samples hardly move would weigh a thousand times as much as any other as soon as a
        # sample moves it, and the grain of an early one would be all that the distance sees.
        self.scale = scale.clamp(min=max(1e-4, LEAST_SCALE * float(scale.median())))
        self.groups = data.classes(self.rows)
        self.names = sorted(set(self.groups))
        self.real = self._placed(features)
        self.fold = max(1, round(LEAST_WATCHED / len(self.rows)))

    def _placed(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.centre) / self.scale

    def _with_groups(self, placed: torch.Tensor, groups: list[str]) -> torch.Tensor:
        """Features beside the group as one-hot, so heavy that samples of a wrong group are far away."""
        index = {name: number for number, name in enumerate(self.names)}
        told = torch.zeros(len(placed), len(self.names))
        told[torch.arange(len(placed)), torch.tensor([index[name] for name in groups])] = 1
        return torch.cat([placed, math.sqrt(placed.shape[1]) * told], 1)  # (N, F + G)

    @torch.no_grad()
    def __call__(self, model: Model) -> dict[str, float]:
        """val/loss (kernel distance of samples with their groups) and val/noise, how far it is off by chance;
        diversity, spread inside the groups."""
        rows = np.tile(self.rows, self.fold)
        groups = self.groups * self.fold
        # The same noise each time: two looks differ by their weights alone.
        seeds = [seed_of(self.seed, "watch", i) for i in range(len(rows))]
        parts = [
            self.network(
                model.sample(self.data.cond(rows[i : i + 256]), groups[i : i + 256], seeds[i : i + 256])
            )
            for i in range(0, len(rows), 256)
        ]
        fake = self._placed(torch.cat(parts))
        if not torch.isfinite(fake).all():
            return {"game/diversity": math.nan, "val/loss": math.nan}
        spreads = self._spreads(fake, groups)
        diversity = Diversity()(real=self.real, fake=fake)
        row = {"game/diversity": diversity} if math.isfinite(diversity) else {}  # all real samples are one
        if spreads:
            row["game/spread"] = float(np.mean(spreads))
            row["game/spread_worst"] = min(spreads)
        if self.has_val:
            real, made = self._with_groups(self.real, self.groups), self._with_groups(fake, groups)
            row["val/loss"] = KernelDistance()(real=real, fake=made)
            row["val/noise"] = self._noise(real, made)
        return row

    def _noise(self, real: torch.Tensor, fake: torch.Tensor) -> float:
        """The standard error of the kernel distance, from disjoint blocks of samples; 0 where they are too few.

        Close to 0 the distance falls as 1 / N, not as its root, and this is about twice too large: wide enough
        for the question that is asked, whether one look is worse than another.
        """
        blocks = min(BLOCKS, len(real) // LEAST_BLOCK)
        if blocks < 2:
            return 0.0
        found = []
        for number in range(blocks):
            own = torch.arange(number, len(real), blocks)
            made = torch.cat([own + part * len(real) for part in range(self.fold)])  # the fakes of the same y
            found.append(KernelDistance()(real=real[own], fake=fake[made]))
        return float(np.std(found, ddof=1)) / math.sqrt(blocks)

    def _spreads(self, fake: torch.Tensor, groups: list[str]) -> list[float]:
        real_groups, fake_groups = np.array(self.groups), np.array(groups)
        spreads = []
        for name in self.names:
            own = torch.from_numpy(np.flatnonzero(real_groups == name))
            made = torch.from_numpy(np.flatnonzero(fake_groups == name))
            if len(own) >= LEAST_GROUP:
                spreads.append(Diversity()(real=self.real[own], fake=fake[made]))
        return [spread for spread in spreads if math.isfinite(spread)]


def has_collapsed(row: dict[str, float]) -> bool:
    """Whether a look at the samples found them all alike, or not finite."""
    worst = min(row.get("game/diversity", 1.0), row.get("game/spread", 1.0))
    return not worst >= COLLAPSED


def keep_good(model: Model) -> dict[str, dict[str, torch.Tensor]]:
    """A copy of all weights, to come back to."""
    return {
        name: {key: value.detach().clone() for key, value in network.state_dict().items()}
        for name, network in model.networks.items()
    }


def _milder(model: Model) -> str:
    """Arguments that make a game steadier, as the command line takes them."""
    now = model.arguments()
    milder = {"learning_rate": now["learning_rate"] / 4} if "learning_rate" in now else {}
    if "gamma" in now:
        milder["gamma"] = now["gamma"] * 4
    return f"--arguments '{json.dumps(milder)}' (arguments={milder})"


def roll_back(
    model: Model, good: dict[str, dict[str, torch.Tensor]], why: str, step: int, so_far: int
) -> None:
    """Back to the last good weights, at half the learning rate, the optimisers' memory cleared.

    Raises NumericalError where there is nothing to go back to, or after MOST_ROLLBACKS times.
    """
    if not good or so_far >= MOST_ROLLBACKS:
        helped = f", {so_far} rollbacks did not help" if so_far else ""
        raise NumericalError(f"The training failed at step {step} ({why}){helped}. Try {_milder(model)}.")
    rate = float(model.ledger.rate)  # type: ignore[attr-defined]
    for name, weights in good.items():
        model.networks[name].load_state_dict(weights)
    model.ledger.rate.fill_(rate / 2)  # type: ignore[attr-defined]
    for optimizer in model.optimizers.values():
        optimizer.state.clear()
    for player in skipping(model).values():
        player.skipped = 0
    log.warning("Step %d: %s; back to the last good weights, learning rate halved.", step, why)
