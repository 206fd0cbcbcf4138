"""A prior that is a game of its own: a small generator and a small critic on the codes of a trained VAE.

Texts, and whatever else has no gradient from a sample back to a network, can still be learned adversarially where
everything is continuous: among the codes. The decoder then turns what the generator makes into samples. Source:
Zhao et al., "Adversarially regularized autoencoders" (2018), here after the VAE's training instead of beside it. The
generator does not start from noise, from which it did not find the classes in 64 dimensions (LOG.md), but moves codes of
the local prior: at first not at all, then to where the critic no longer tells them from real ones. The loss and its
penalties are those of `gan.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .game import LOSSES, gradient_penalty

__all__ = ["fit_game", "moved", "shapes_of_game"]

WIDTH = 256
STEPS, BATCH = 2_000, 128
RATE = 1e-3
GAMMA = 0.3  # of R1 and R2; codes are scaled to a deviation of 1
LAZY = 4
MEMORY = 0.998  # of the average of the generator's weights
LOSS = LOSSES["relativistic"]
_SLOPE = 0.2


def shapes_of_game(groups: int, latent: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what `fit_game` gives: `groups` classes, codes of width `latent`."""
    return {**_shapes(latent + groups, latent), "centre": (latent,), "scale": (latent,)}


def _shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {
        "first": (inputs, WIDTH), "first_bias": (WIDTH,), "second": (WIDTH, WIDTH), "second_bias": (WIDTH,),
        "last": (WIDTH, outputs), "last_bias": (outputs,),
    }  # fmt: skip


def _network(inputs: int, outputs: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
    """Weights of three layers."""
    out = {}
    for name, shape in _shapes(inputs, outputs).items():
        gain = math.sqrt(2 / ((1 + _SLOPE**2) * shape[0])) if len(shape) == 2 else 0.0
        out[name] = (gain * torch.randn(shape, generator=rng)).requires_grad_()
    return out


def _through(weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """(N, inputs) -> (N, outputs)."""
    h = F.leaky_relu(x @ weights["first"] + weights["first_bias"], _SLOPE)
    h = F.leaky_relu(h @ weights["second"] + weights["second_bias"], _SLOPE)
    return h @ weights["last"] + weights["last_bias"]


def fit_game(
    codes: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    *,
    start: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Play the game until its time is over.

    codes    (N, Z) drawn codes of the train part
    classes  (N,) the class of each
    names    (G,) all classes
    start    the mixture whose codes the generator moves, as `prior.fit_local` gives it
    Returns the generator's weights, averaged over the steps, and how codes were scaled: see `shapes_of_game`.
    """
    draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
    centre, scale = codes.mean(0), codes.std(0) + 1e-6
    real = torch.from_numpy(((codes - centre) / scale).astype(np.float32))
    number = {name: i for i, name in enumerate(names)}
    groups = torch.tensor([number[name] for name in classes])
    told = F.one_hot(groups, len(names)).float()
    generator, critic = (_network(real.shape[1] + len(names), n, draws) for n in (real.shape[1], 1))
    with torch.no_grad():
        generator["last"].zero_()
    averaged = {name: value.detach().clone() for name, value in generator.items()}
    players = [
        torch.optim.Adam(net.values(), RATE, betas=(0.0, 0.99), fused=True) for net in (critic, generator)
    ]
    mixture = {name: torch.from_numpy(value) for name, value in start.items()}
    drawn = _Drawn(
        mixture, torch.from_numpy(centre.astype(np.float32)), torch.from_numpy(scale.astype(np.float32))
    )

    def logits(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return _through(critic, torch.cat([x, y], 1))[:, 0]

    for step in range(STEPS):
        for player in players:
            player.param_groups[0]["lr"] = RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        rows = torch.randint(len(real), (BATCH,), generator=draws)
        x, y = real[rows].requires_grad_(), told[rows]
        fake = _step_from(generator, drawn(groups[rows], draws), y).detach().requires_grad_()
        r, f = logits(x, y), logits(fake, y)
        loss = LOSS.discriminator(r, f).mean()
        if step % LAZY == 0:
            loss = loss + LAZY * GAMMA / 2 * (gradient_penalty(r, x) + gradient_penalty(f, fake))
        _update(players[0], loss)
        with torch.no_grad():
            r = logits(x, y)
        f = logits(_step_from(generator, drawn(groups[rows], draws), y), y)
        _update(players[1], LOSS.generator(r, f).mean())
        for name, value in generator.items():
            averaged[name].lerp_(value.detach(), 1 - min(MEMORY, step / (step + 10)))
    return {
        **{name: value.numpy() for name, value in averaged.items()},
        "centre": centre.astype(np.float32), "scale": scale.astype(np.float32),
    }  # fmt: skip


class _Drawn:
    """Codes of a mixture, scaled: groups (N,) -> (N, Z)."""

    def __init__(
        self, mixture: Mapping[str, torch.Tensor], centre: torch.Tensor, scale: torch.Tensor
    ) -> None:
        self.mixture, self.centre, self.scale = mixture, centre, scale

    def __call__(self, groups: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        means, roots = self.mixture["means"], self.mixture["cholesky"]
        k = torch.multinomial(self.mixture["weights"][groups], 1, generator=draws)[:, 0]
        noise = torch.randn(len(groups), means.shape[2], generator=draws)
        z = means[groups, k] + torch.einsum("nij,nj->ni", roots[groups, k], noise)
        return (z - self.centre) / self.scale


def _step_from(weights: Mapping[str, torch.Tensor], z: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Scaled codes (N, Z), one-hot classes (N, G) -> where the generator moves them."""
    return z + _through(weights, torch.cat([z, told], 1))


def _update(player: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    player.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    player.step()


def moved(fitted: Mapping[str, torch.Tensor], code: torch.Tensor, group: int, groups: int) -> torch.Tensor:
    """Where the generator moves a code (Z,) of the mixture: a function of these alone."""
    told = F.one_hot(torch.tensor(group), groups).float()
    z = (code - fitted["centre"]) / fitted["scale"]
    return fitted["centre"] + fitted["scale"] * _step_from(fitted, z[None], told[None])[0]
