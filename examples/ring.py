"""Two games that are small enough to be watched: a ring of eight Gaussians, and two moons with a class.

    python examples/ring.py        # half a minute on one core, without a GPU; draws examples/ring.png

The samples are points in the plane: shape (2,), one channel for each coordinate and no spatial axes. The
model is `sibling.models.gan.GAN` as `sibling fit` uses it; here its step loop is written out, which is all
that is needed to train it on tensors that are no pictures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from sibling.conditions.label import Label
from sibling.conditions.none import Unconditional
from sibling.device import generator
from sibling.models.gan import GAN
from sibling.types import Batch, Condition

__all__ = ["MOONS", "Game", "coverage", "draw", "modes", "moons", "play", "right_class", "ring"]

MODES = 8
RADIUS, SPREAD = 0.7, 0.02  # of the ring, and the standard deviation of each of its modes
NEAR = 0.15 * RADIUS  # a sample that is farther from each centre lies between the modes
NOISE = 0.05  # of the moons, in units of their radius
MOONS = Label(["upper", "lower"])
BATCH = 128
PLAIN = {"latent": 2, "width": 64, "critic_width": 64, "strength": 0.0, "adaptive": False}  # no augmentation
AVERAGED = 0.99  # decay of the generator's moving average: over the last hundred steps

Drawn = tuple[torch.Tensor, list[Any]]  # x (N, 2) in [-1, 1], and y of each sample
Draw = Callable[[int, torch.Generator], Drawn]


# ---- the data -------------------------------------------------------------------------------------


def centres() -> torch.Tensor:
    """(8, 2): the middle of each mode of the ring."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def ring(n: int, rng: torch.Generator) -> Drawn:
    """n points of eight narrow Gaussians on a circle; y is None."""
    mode = torch.randint(MODES, (n,), generator=rng)
    return centres()[mode] + SPREAD * torch.randn(n, 2, generator=rng), [None] * n


def moons(n: int, rng: torch.Generator) -> Drawn:
    """n points of two half circles that reach into each other; y says which of them."""
    lower = torch.randint(2, (n,), generator=rng).bool()
    angle = math.pi * torch.rand(n, generator=rng)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.where(lower[:, None], torch.tensor([1.0, 0.5]) - x, x) + NOISE * torch.randn(
        n, 2, generator=rng
    )
    return (x - torch.tensor([0.5, 0.25])) / 1.8, [MOONS.classes[int(i)] for i in lower]


# ---- the game -------------------------------------------------------------------------------------


@dataclass
class Game:
    """A training as it went.

    model   its generator is the moving average of the trained one
    d_real  D(x) at each step, the mean over the batch; d_fake: D(G(z))
    shown   step -> samples (N, 2) at that moment, made of the same noise each time, with their y
    """

    model: GAN
    condition: Condition
    d_real: list[float] = field(default_factory=list)
    d_fake: list[float] = field(default_factory=list)
    shown: dict[int, Drawn] = field(default_factory=dict)

    def samples(self, n: int, y: Sequence[Any], seed: int = 0) -> torch.Tensor:
        """(n, 2) of these y."""
        z = torch.randn(n, self.model.latent, generator=generator(seed, "noise"))
        with torch.no_grad():
            return self.model.generate(z, self.condition.encode(y, ()))


def play(
    data: Draw, condition: Condition, steps: int, *, show: Sequence[int] = (), seed: int = 0, **arguments: Any
) -> Game:
    """Train a GAN on fresh samples of `data`.

    show       the steps at which samples are kept
    arguments  of the GAN
    """
    model = GAN(**{**PLAIN, **arguments})
    model.build((2,), condition, generator(seed, "weights"))
    game, trained = Game(model, condition), model.networks["generator"]
    average = AveragedModel(trained, multi_avg_fn=_average)
    _, told = data(1_000, generator(seed, "shown"))
    for step in range(steps):
        rng = generator(seed, "step", step)
        x, y = data(BATCH, rng)
        wrong = None
        if condition.unambiguous:  # D also sees real samples with a wrong y, which count as fake
            wrong = condition.encode(condition.mismatch(y, _numpy(rng)), ())
        row = model.step(
            Batch(x, condition.encode(y, ()), rng, progress=step / steps, wrong=wrong, number=step)
        )
        average.update_parameters(trained)
        game.d_real.append(row["game/d_real"])
        game.d_fake.append(row["game/d_fake"])
        if step + 1 in show or step + 1 == steps:
            model.networks["generator"] = average.module
            game.shown[step + 1] = game.samples(len(told), told), told
            model.networks["generator"] = trained
    model.networks["generator"] = average.module
    return game


def _average(averaged: Any, current: Any, count: Any) -> None:
    """A moving average that follows quickly at first."""
    decay = min(AVERAGED, (1 + float(count)) / (10 + float(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)


def _numpy(rng: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))


# ---- is it good -----------------------------------------------------------------------------------


def modes(x: torch.Tensor) -> torch.Tensor:
    """(8,): the share of all samples that lie in each mode; what is missing from 1 lies between them."""
    distance, mode = torch.cdist(x, centres()).min(1)
    return torch.bincount(mode[distance < NEAR], minlength=MODES) / len(x)


def right_class(x: torch.Tensor, y: Sequence[str], real: torch.Tensor, real_y: Sequence[str]) -> float:
    """The share of samples whose nearest real point is of their class."""
    nearest = torch.cdist(x, real).argmin(1).tolist()
    return sum(real_y[i] == name for i, name in zip(nearest, y, strict=True)) / len(x)


def coverage(
    x: torch.Tensor, y: Sequence[str], real: torch.Tensor, real_y: Sequence[str], reach: float = 0.1
) -> float:
    """The share of real points with a sample of their class within reach."""
    apart = torch.cdist(real, x)
    of_real, of_x = (torch.tensor([MOONS.index(name) for name in names]) for names in (real_y, y))
    other = of_real[:, None] != of_x[None]
    return float((apart.masked_fill(other, math.inf).amin(1) < reach).float().mean())


# ---- the picture ----------------------------------------------------------------------------------

INK, REAL, FAKE = "#333333", "#2b6cb0", "#c05621"
CLASSES = ["#6b46c1", "#2f855a"]


def draw(games: dict[str, tuple[Draw, Game]], out: Path) -> None:
    """A row a game: real samples, synthetic ones as the training goes, and what D says of both."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 2 + max(len(game.shown) for _, game in games.values())
    figure, axes = plt.subplots(
        len(games), columns, figsize=(2.3 * columns + 1.2, 2.5 * len(games)), squeeze=False,
        width_ratios=[1] * (columns - 1) + [1.5], layout="constrained",
    )  # fmt: skip
    for row, (name, (data, game)) in zip(axes, games.items(), strict=True):
        _points(row[0], f"{name}: real", *data(1_000, generator("picture")), first=REAL)
        for axis, (step, (x, y)) in zip(row[1:-1], game.shown.items(), strict=True):
            _points(axis, f"synthetic, step {step:,}", x, y, first=FAKE)
        _curves(row[-1], game)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _points(axis: Any, title: str, x: torch.Tensor, y: Sequence[Any], first: str) -> None:
    names = list(dict.fromkeys(sorted(map(str, y))))
    colours = [first] if len(names) == 1 else CLASSES
    for name, colour in zip(names, colours, strict=True):
        chosen = torch.tensor([str(value) == name for value in y])
        axis.scatter(*x[chosen].T, s=3, color=colour, alpha=0.5, linewidths=0, label=name)
    if len(names) > 1:
        axis.legend(loc="lower left", fontsize=7, frameon=False, markerscale=3, handletextpad=0.1)
    axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=9, color=INK)


def _curves(axis: Any, game: Game) -> None:
    axis.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
    axis.plot(game.d_real, color=REAL, linewidth=0.9, label="D(x)")
    axis.plot(game.d_fake, color=FAKE, linewidth=0.9, label="D(G(z))")
    axis.set(ylim=(0, 1), yticks=[0, 0.5, 1], yticklabels=["0", "1/2", "1"], xlim=(0, len(game.d_real)))
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper right")
    axis.set_title("what D says of real and synthetic", fontsize=9, color=INK)
    axis.spines[["top", "right"]].set_visible(False)


# ---- both, with numbers ---------------------------------------------------------------------------

RING: dict[str, Any] = {"steps": 1_600, "gamma": 0.02, "learning_rate": 3e-3}
TWO_MOONS: dict[str, Any] = {"steps": 800, "gamma": 0.05, "learning_rate": 3e-3}


def ring_game(seed: int = 0, **changes: Any) -> Game:
    """The ring, without a condition."""
    return play(ring, Unconditional(), seed=seed, **{"show": (50, 300), **RING, **changes})


def moons_game(seed: int = 0, **changes: Any) -> Game:
    """The moons, each point told with its class."""
    return play(moons, MOONS, seed=seed, **{"show": (50, 200), **TWO_MOONS, **changes})


def main() -> None:
    """Play both games, say how they ended, draw them."""
    torch.set_num_threads(1)  # so small a network is no faster with more
    start = time.perf_counter()
    first, second = ring_game(), moons_game()
    found = modes(first.samples(4_000, [None] * 4_000, seed=1))
    print(
        f"ring   {int((found > 0.05).sum())} of {MODES} modes, {float(found.sum()):.1%} of the samples in one of them"
    )
    real, names = moons(2_000, generator("judge"))
    x = second.samples(len(real), names, seed=1)
    print(f"moons  {right_class(x, names, real, names):.1%} nearest to their own class, "
          f"{coverage(x, names, real, names):.1%} of the real points have a sample nearby")  # fmt: skip
    for name, game in (("ring", first), ("moons", second)):
        d_real, d_fake = (sum(said[-100:]) / 100 for said in (game.d_real, game.d_fake))
        print(f"{name:<6} at the end D(x) = {d_real:.2f}, D(G(z)) = {d_fake:.2f}; 1/2 is the equilibrium")
    out = Path(__file__).with_name("ring.png")
    draw({"ring": (ring, first), "moons": (moons, second)}, out)
    print(f"{out}, after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
