"""The codes z of a trained model: drawn, walked between, found for real samples, scored by the discriminator.

A model that has codes offers `codes(groups, seeds, psi) -> z (N, Z)` and `generate(z, cond) -> x`
(differentiable); a VAE also `encode(x, cond)`, a GAN a network called "discriminator".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from .device import best, generator, seed_of
from .errors import UsageError
from .snapshot import Snapshot
from .types import Cond

__all__ = ["Space", "between", "pyramid_loss", "search", "slerp"]

_CHUNK = 64  # the batch shape of sample.py: with the same one the same code gives the same bytes
_RATE = 0.1  # of Adam on codes, as in StyleGAN2's projection (Karras et al. 2020, appendix D)
_PULL = 0.001  # weight of (|z|^2 / Z - 1)^2: enough to keep a code where the model was trained
_FINALISTS = 4  # random starts that are followed to the end: one alone ends too often in a bad valley
_COARSEST = 4  # pixels of the longer edge at the top of the pyramid


class Space:
    """What there is to do with the codes of a snapshot.

    straight  whether one walks between codes on a straight line: the mixture of a VAE has no common centre
              around which to turn; codes from N(0, I) lie on a shell, and are walked between on it

    Raises UsageError for a model without codes.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.model: Any = snapshot.model
        self.shape = tuple(snapshot.run["shape"])
        name = snapshot.run["model"]
        if not all(callable(getattr(self.model, needed, None)) for needed in ("codes", "generate")):
            raise UsageError(
                f"The model {name!r} has no codes to look at or to walk between: it does not generate from any. "
                "Use a run of a model that does, for example sibling fit --model vae or --model gan."
            )
        self.straight = getattr(self.model, "prior", "normal") != "normal"

    @property
    def can_encode(self) -> bool:
        """Whether there is an encoder."""
        return callable(getattr(self.model, "encode", None)) and "encoder" in self.model.networks

    def codes(self, groups: Sequence[str], seeds: Sequence[int], psi: float = 1.0) -> torch.Tensor:
        """Codes (N, Z), drawn as `sample` draws them."""
        z: torch.Tensor = self.model.codes(groups, seeds, psi=psi)
        return z

    def white(self, seeds: Sequence[int]) -> torch.Tensor | None:
        """The noise (N, C, *S) of which `sample` makes the fine grain of a VAE; None where there is no grain."""
        if not (getattr(self.model, "texture", 0) and getattr(self.model, "grain", None)):
            return None
        return torch.stack([torch.randn(self.shape, generator=generator(seed, "texture")) for seed in seeds])

    def cond(self, y: Sequence[Any]) -> Cond:
        """The encoded y."""
        told: Cond = self.snapshot.condition.encode(y, self.shape[1:])
        return told

    def x(self, z: torch.Tensor, cond: Cond, white: torch.Tensor | None = None) -> torch.Tensor:
        """Codes (N, Z) -> samples (N, C, *S) in [-1, 1], bit for bit as `sample` gives them."""
        out = torch.empty(len(z), *self.shape)
        with torch.inference_mode(), torch.autocast(best().type, enabled=False):
            for rows in _chunks(len(z)):
                x = self.model.generate(z[rows], cond[rows]).clamp(-1, 1)
                if white is not None:
                    x = self.model.finish(x, white[rows])
                kept = min(_CHUNK, len(z) - rows[0])
                out[rows[0] : rows[0] + kept] = x[:kept]
        return out

    def encode(self, x: torch.Tensor, cond: Cond) -> torch.Tensor:
        """Samples (N, C, *S) -> the means (N, Z) of their posteriors. Raises UsageError without an encoder."""
        if not self.can_encode:
            raise UsageError(
                f"This snapshot of {self.snapshot.run['model']!r} has no encoder. Search for the code with "
                "--by search (by='search'), or train a VAE and keep everything: sibling fit --model vae --keep all."
            )
        parts = []
        with torch.no_grad(), torch.autocast(best().type, enabled=False):
            for rows in _chunks(len(x)):
                mean, _ = self.model.encode(x[rows], cond[rows])
                parts.append(mean[: len(x) - rows[0]])
        return torch.cat(parts)

    @property
    def critic(self) -> Any:
        """The discriminator. Raises UsageError where the snapshot has none."""
        critic = self.model.networks.get("discriminator")
        if critic is None:
            raise UsageError(
                f"This snapshot of {self.snapshot.run['model']!r} has no discriminator, so nothing scores its "
                "samples. Use a run of a model that keeps one (sibling fit --model gan --keep all), or drop bad "
                "samples with sibling curate."
            )
        return critic

    def scores(self, x: torch.Tensor, cond: Cond) -> torch.Tensor:
        """The discriminator's logits (N,) of pairs (x, y): the higher, the more real; comparable for one y only.

        Each sample is judged alone. Raises UsageError.
        """
        _ = self.critic  # raises with what to do
        parts = []
        with torch.inference_mode(), torch.autocast(best().type, enabled=False):
            for rows in _chunks(len(x)):
                parts.append(self.model.critic.score(x[rows], cond[rows]).cpu()[: len(x) - rows[0]])
        return torch.cat(parts) if parts else torch.zeros(0)


def _chunks(n: int, size: int = _CHUNK) -> Iterator[list[int]]:
    """Row numbers in parts of one size, the last row repeated: the last bits depend on the batch shape."""
    for start in range(0, n, size):
        yield [min(row, n - 1) for row in range(start, start + size)]


# ---- between two ----------------------------------------------------------------------------------


def slerp(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    """From a to b on the shell: the direction turns by equal angles, the norm goes from one to the other.

    a, b   vectors of any one shape
    share  0 gives a, 1 gives b, bit for bit
    Source: Shoemake, "Animating rotation with quaternion curves" (1985); White, "Sampling generative
    networks" (2016): codes from N(0, I) have norms near sqrt(Z), a straight line between two has not.
    """
    if share in (0, 1):
        return (b if share else a).clone()
    u, v = a.double().flatten(), b.double().flatten()
    norms = u.norm(), v.norm()
    if min(norms) == 0 or u.numel() == 1:
        return torch.lerp(a, b, share)  # no direction to turn from, or none to turn through
    u, v = u / norms[0], v / norms[1]
    angle = torch.atan2((u - v).norm(), (u + v).norm()) * 2
    across = v - (u @ v) * u
    if across.norm() < 1e-9:  # opposite: any way round is the shortest; equal: it does not matter
        across = F.one_hot(u.abs().argmin(), len(u)).to(u)
        across = across - (u @ across) * u
    direction = torch.cos(share * angle) * u + torch.sin(share * angle) * across / across.norm()
    moved: torch.Tensor = torch.lerp(norms[0], norms[1], share) * direction
    return moved.to(a.dtype).reshape(a.shape)


def between(a: torch.Tensor, b: torch.Tensor, shares: Sequence[float], *, straight: bool) -> torch.Tensor:
    """Vectors on the way from a to b, one a share: (len(shares), *a.shape)."""
    return torch.stack([torch.lerp(a, b, share) if straight else slerp(a, b, share) for share in shares])


# ---- the code of a given sample -------------------------------------------------------------------


def pyramid_loss(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error (N,), averaged over the scales of a pyramid of mean-pooled pictures.

    x, target  (N, C, *S), any number of spatial axes; each scale halves all of them, until none is above 4
    Coarse scales give a gradient where fine parts do not overlap yet. A perceptual network would do that
    better, but none may be downloaded.
    """
    rank = x.ndim - 2
    total, scales = (x - target).square().flatten(1).mean(1), 1
    pools: tuple[Any, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    while rank and max(x.shape[2:]) > _COARSEST:
        size = [max(1, edge // 2) for edge in x.shape[2:]]
        x, target = pools[rank - 1](x, size), pools[rank - 1](target, size)
        total, scales = total + (x - target).square().flatten(1).mean(1), scales + 1
    return total / scales


def search(
    space: Space, x: torch.Tensor, cond: Cond, groups: Sequence[str], *, starts: int, steps: int, seed: int
) -> torch.Tensor:
    """Codes (N, Z) whose samples come near to x (N, C, *S), by Adam from the best of random starts.

    starts  random codes of the sample's group that are tried; the best 4 are followed
    steps   of Adam
    Each sample on its own, so that its code does not depend on the others. Source: the projection of
    Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020), in spirit.
    """
    found = []
    for i in range(len(x)):
        seeds = [seed_of(seed, "search", k) for k in range(starts)]
        z = space.codes([groups[i]] * starts, seeds)
        losses = pyramid_loss(space.x(z, cond[[i] * starts]), x[[i] * starts])
        finalists = z[losses.argsort(stable=True)[:_FINALISTS]]
        with torch.enable_grad(), torch.autocast(best().type, enabled=False):
            found.append(_descend(space, finalists, x[i : i + 1], cond[[i] * len(finalists)], steps))
    return torch.stack(found)


def _descend(space: Space, z: torch.Tensor, target: torch.Tensor, cond: Cond, steps: int) -> torch.Tensor:
    """The best code (Z,) that was met on the ways down from the starts z (K, Z)."""
    z = z.clone().requires_grad_(True)
    target = target.expand(len(z), *target.shape[1:])
    optimizer = torch.optim.Adam([z], _RATE)
    least, chosen = torch.full((len(z),), math.inf), z.detach().clone()
    for step in range(steps + 1):
        error = pyramid_loss(space.model.generate(z, cond), target)
        loss = error + _PULL * (z.square().mean(1) - 1).square()
        better = loss.detach() < least
        least = torch.where(better, loss.detach(), least)
        chosen = torch.where(better[:, None], z.detach(), chosen)
        if step == steps:
            break
        done = step / steps  # a short way up, a cosine down over the last quarter, as in the source
        rate = min(1.0, (step + 1) / (0.05 * steps)) * (
            0.5 - 0.5 * math.cos(math.pi * min(1, 4 * (1 - done)))
        )
        optimizer.param_groups[0]["lr"] = _RATE * rate
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        optimizer.step()
    return chosen[int(least.argmin())]
