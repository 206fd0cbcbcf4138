"""Adversarial networks: a generator and a discriminator play V(G, D), with or without a condition.

One step of the game: N noise vectors give N fakes, which are mixed with N reals to train D; another N
noise vectors train G through a D that is frozen. With a condition D sees pairs (x, y), and a real x
with a wrong y counts as fake too (Reed et al. 2016, GAN-CLS).

The default loss pairs each real with a fake of the same y (relativistic, Jolicoeur-Martineau 2018)
under gradient penalties on both kinds (R1 + R2, lazily); that and networks without normalisation are
R3GAN's recipe (Huang et al. 2024), which converges without further tricks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ..device import autocast, best, generator, seeded
from ..errors import UnsafeFile, UsageError
from ..grids import joined
from ..nets import Decoder, Discriminator
from ..types import Batch, Cond, Condition
from .critic import CLIP, Critic, Ledger, channels_last, faded, on_device
from .game import LOSSES
from .update import guarded_update, load_strictly

__all__ = ["GAN"]

VICINITIES = ("nearest", "hard", "soft")


class GAN:
    """Generator against discriminator.

    latent              Z, the width of the noise
    width               channels of the finest level of the generator
    critic_width        the same of the discriminator
    blocks              residual blocks a level
    loss                "relativistic", "minimax", "nonsaturating", "least-squares" or "hinge"
    gamma               weight of the gradient penalties R1 and R2 (each gamma / 2)
    lazy                penalties every so many steps, with so many times the weight
    lecam               weight of the LeCam regulariser; 0 = none
    strength            of the discriminator's augmentation at the start, 0 to 1
    adaptive            let a held-out gauge of overfitting drive the strength
    target              what the gauge is kept at
    matching            a real x with a wrong y counts as fake, with this weight; 0 = not at all
    transition          the condition comes in between these shares of the training; (0, 0) = from the start
    vicinity            of a continuous condition (CcGAN): "nearest", "hard" or "soft"
    spread              show the discriminator how varied its batch is
    learning_rate       of Adam for the generator at the start; falls to a tenth as a cosine
    critic_rate         the same of the discriminator, as a multiple of the generator's
    keep_discriminator  keep the discriminator in the snapshot, to reject samples by its score
    """

    generating: Sequence[str] = ("generator",)
    game = 1.0  # how much the game counts in what the generator loses
    wants_wrong = True
    wants_held = True
    wants_balance = True
    wants_vicinity = True
    watched = True
    most_batch = 64
    patience = 8

    def __init__(
        self,
        latent: int = 64,
        width: int = 32,
        critic_width: int = 32,
        blocks: int = 1,
        loss: str = "relativistic",
        gamma: float = 0.2,
        lazy: int = 8,
        lecam: float = 0.0,
        strength: float = 0.1,
        adaptive: bool = True,
        target: float = 0.4,
        matching: float = 0.2,
        transition: Sequence[float] = (0.0, 0.0),
        vicinity: str = "nearest",
        spread: bool = True,
        learning_rate: float = 2e-3,
        critic_rate: float = 1.0,
        keep_discriminator: bool = True,
    ) -> None:
        if loss not in LOSSES:
            raise UsageError(f"loss is {loss!r}; known: {', '.join(LOSSES)}.")
        if lazy < 1:
            raise UsageError(f"lazy is {lazy}; the penalties come every 1, 2, 3, ... steps.")
        if not 0 <= strength <= 1:
            raise UsageError(f"strength is {strength}; it is a probability, 0 to 1.")
        if vicinity not in VICINITIES:
            raise UsageError(f"vicinity is {vicinity!r}; known: {', '.join(VICINITIES)}.")
        if len(transition) != 2 or not 0 <= transition[0] <= transition[1] <= 1:
            raise UsageError(f"transition is {transition!r}; give two shares, for example [0.2, 0.45].")
        self.latent = latent
        self.width = width
        self.critic_width = critic_width
        self.blocks = blocks
        self.loss = loss
        self.gamma = gamma
        self.lazy = lazy
        self.lecam = lecam
        self.strength = strength
        self.adaptive = adaptive
        self.target = target
        self.matching = matching
        self.transition = tuple(transition)
        self.learning_rate = learning_rate
        self.vicinity = vicinity
        self.spread = spread
        self.critic_rate = critic_rate
        self.keep_discriminator = keep_discriminator
        self.networks: dict[str, nn.Module] = {}
        self.device = best()
        self.skipped = 0

    @staticmethod
    def derive(n: int, classes: int, shape: Sequence[int]) -> list[tuple[str, Any, str]]:
        """Arguments that follow from the data: (name, value, reason)."""
        size = math.prod(shape[1:])
        gamma = float(f"{max(0.05, 0.15 * size / 32**2):.2g}")
        strength = 0.3 if n < 1_000 else 0.1
        return [
            ("gamma", gamma, f"0.15 at 32 x 32, in proportion to the {size:,} positions of a sample"),
            ("strength", strength, f"{n:,} training samples: 0.3 below 1,000; the gauge moves it from there"),
        ]

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this model again."""
        names = (
            "latent", "width", "critic_width", "blocks", "loss", "gamma", "lazy", "lecam", "strength", "adaptive",
            "target", "matching", "transition", "vicinity", "spread", "learning_rate", "critic_rate", "keep_discriminator",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "transition": list(self.transition)}

    def build(self, shape: Sequence[int], condition: Condition, rng: torch.Generator) -> None:
        """Make the networks; their initial weights depend on `rng` alone."""
        self.shape = tuple(shape)
        told, mapped = condition.width, condition.channels
        self.conditional = told + mapped > 0
        with seeded(int(torch.randint(2**62, (), generator=rng))):
            self.networks = {**self._players(told, mapped), "ledger": Ledger(self.strength)}
        layout = torch.channels_last if len(joined(shape)) == 3 else torch.contiguous_format
        for network in self.networks.values():
            network.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def _players(self, told: int, mapped: int) -> dict[str, nn.Module]:
        """Generator and discriminator for a condition of width `told` with `mapped` channels of maps."""
        shape, blocks = self.shape, self.blocks
        return {
            "generator": Decoder(shape, self.latent, told, mapped, self.width, blocks, skips=True),
            "discriminator": Discriminator(
                shape, told, mapped, self.critic_width, blocks, spread=self.spread
            ),
        }

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam without momentum for each player: momentum makes a game go in circles (R3GAN, StyleGAN)."""
        return {
            name: torch.optim.Adam(
                self.networks[name].parameters(), self.learning_rate, betas=(0.0, 0.99), fused=True
            )
            for name in ("discriminator", "generator")
        }

    @property
    def decides_from(self) -> float:
        """The share of the training before which nothing is chosen: the condition shall have come in whole.

        Until then a sample, which is told all of y, is none of what the generator was trained to make.
        """
        return max(0.3, min(0.9, self.transition[1]))

    @cached_property
    def critic(self) -> Critic:
        """The discriminator with its loss, penalties and augmentation. Raises UsageError without it."""
        if "discriminator" not in self.networks:
            raise UsageError(
                "This snapshot was kept without its discriminator (--keep decoder): it cannot judge."
            )
        return Critic(
            self.networks["discriminator"],  # type: ignore[arg-type]
            self.ledger,
            loss=self.loss,
            gamma=self.gamma,
            lazy=self.lazy,
            lecam=self.lecam,
            matching=self.matching,
            adaptive=self.adaptive,
            target=self.target,
        )

    @property
    def ledger(self) -> Ledger:
        """Strength, gauge and averages."""
        ledger: Ledger = self.networks["ledger"]  # type: ignore[assignment]
        return ledger

    # ---- training ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> dict[str, float]:
        """One update of D, then one of G."""
        self._set_rates(batch.progress)
        critic, share = self.critic, self._share(batch.progress)
        told = faded(on_device(batch.cond, self.device), share)
        made = told if batch.made is None else faded(on_device(batch.made, self.device), share)
        if share < 1:  # the generator hears of y as much as the discriminator judges by it
            made = Cond(share * made.vec, made.map)
        real = channels_last(batch.x.to(self.device))
        with torch.no_grad(), autocast(self.device):
            fake = self._generate(self._noise(len(real), batch.rng), made)
        row, real_logits = critic.learn(
            self.optimizers["discriminator"], batch, real, fake, told, share=share
        )
        # G hears `made` here too, where CcGAN's G hears the target itself: it shall be judged as it was in D's
        # step, by a D that has learned what numbers from the whole vicinity look like at the target.
        with autocast(self.device):
            fake = self._generate(self._noise(len(real), batch.rng), made)
        loss = self.game * critic.teach(batch, fake, told, real_logits, share=share)
        beside = self._beside(real, fake, made, batch.rng)
        loss = loss + sum(beside.values())
        norm, self.skipped = guarded_update(
            self.optimizers["generator"], loss, clip=CLIP, skipped=self.skipped
        )
        lost = float(loss.detach())
        row.update({"loss/g": lost, "loss/total": row["loss/d"] + lost, "gradient/g": norm})
        return row | {name: float(part.detach()) for name, part in beside.items()}

    def _beside(
        self, real: torch.Tensor, fake: torch.Tensor, made: Cond, rng: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """What the generator loses besides the game, by name: nothing here."""
        return {}

    def _set_rates(self, progress: float) -> None:
        shape = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
        rate = self.learning_rate * shape * float(self.ledger.rate)
        for name, factor in (("generator", 1.0), ("discriminator", self.critic_rate)):
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate * factor

    def _share(self, progress: float) -> float:
        """How much the condition counts: 0 before the transition, 1 after it."""
        start, end = self.transition
        if not self.conditional:
            return 1.0
        if start == end:
            return float(progress >= end)
        return 1.0 if progress >= end else max(0.0, (progress - start) / (end - start))  # start < end here

    def _noise(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(n, self.latent, generator=rng).to(self.device)

    def _generate(self, z: torch.Tensor, cond: Cond) -> torch.Tensor:
        x: torch.Tensor = _Held.apply(self.networks["generator"](z, cond.vec, cond.map))  # type: ignore[no-untyped-call]
        return x

    @torch.no_grad()
    def validate(self, batch: Batch) -> tuple[float, int]:
        """What D loses on these held-out samples against fakes of the same y, without augmentation.

        A game has no loss that falls: `fit` chooses by the kernel distance of `watch.py` instead.
        """
        told = on_device(batch.cond, self.device)
        fake = self._generate(self._noise(len(batch.x), batch.rng), told)
        r, f = self.critic.score(batch.x, batch.cond), self.critic.score(fake, batch.cond)
        return float(LOSSES[self.loss].discriminator(r, f).sum()), len(batch.x)

    # ---- after training ----------------------------------------------------------------------

    def settle(
        self, batches: Callable[[], Iterator[tuple[Batch, list[str]]]], rng: np.random.Generator
    ) -> None:
        """Nothing to fit: the generator is the whole sampler."""

    def codes(self, y: Sequence[str], seeds: Sequence[int], psi: float = 1.0) -> torch.Tensor:
        """Noise vectors (N, Z), each a function of its seed alone, psi times as far from the centre."""
        return psi * torch.stack(
            [torch.randn(self.latent, generator=generator(seed, "code")) for seed in seeds]
        )

    def generate(self, z: torch.Tensor, cond: Cond) -> torch.Tensor:
        """Codes (N, Z) -> x (N, C, *S) in [-1, 1]; differentiable."""
        x: torch.Tensor = (
            self._generate(z.to(self.device), on_device(cond, self.device)).float().clamp(-1, 1).cpu()
        )
        return x

    @torch.no_grad()
    def sample(self, cond: Cond, y: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """(N, C, *S); sample i depends on cond[i] and seeds[i] alone."""
        return self.generate(self.codes(y, seeds), cond)

    def state(self) -> dict[str, torch.Tensor]:
        """generator/* and, unless it was dropped, discriminator/*."""
        kept = ["generator"]
        if self.keep_discriminator and "discriminator" in self.networks:
            kept.append("discriminator")
        return {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name in kept
            for key, value in self.networks[name].state_dict().items()
        }

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a state. Raises UnsafeFile."""
        parts: dict[str, dict[str, torch.Tensor]] = {"generator": {}, "discriminator": {}}
        for key, tensor in state.items():
            part, _, name = key.partition("/")
            if part not in parts:
                raise UnsafeFile(f"A GAN has no part {part!r}; known: {', '.join(parts)}.")
            parts[part][name] = tensor
        load_strictly(self.networks["generator"], parts["generator"], "generator")
        if parts["discriminator"]:
            load_strictly(self.networks["discriminator"], parts["discriminator"], "discriminator")
        else:
            self.networks.pop("discriminator", None)


class _Held(torch.autograd.Function):
    """x held in [-1, 1]; outside, a gradient passes only where a step along it leads back.

    Much of an image is exactly black or white. A clamp would let no gradient back, a tanh has none left
    there, and without either D would see at once which blacks are not quite black.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        (slope,) = slopes
        # A step goes against the slope: above 1 it leads back where the slope is positive, below -1 where not.
        away = ((x > 1) & (slope < 0)) | ((x < -1) & (slope > 0))
        return slope.masked_fill(away, 0)
