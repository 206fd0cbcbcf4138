"""Paired translation: y is a picture, and the model makes what belongs to it; many samples for one picture.

A conditional game with a U-Net for a generator and a critic of patches (Isola et al. 2017, pix2pix); a real x with a wrong
map counts as fake. Beside the game the mean of two samples for one map shall be near the real one, and the two shall lie
apart: with the weight of Bendel et al. (2023, rcGAN) the two terms are smallest where samples vary as the real ones do for one
map, while a plain L1 is smallest where they do not vary at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..device import autocast
from ..errors import UsageError
from ..types import Batch, Cond, Condition
from ..unet import PatchCritic, UNet
from .critic import CLIP, channels_last, on_device
from .gan import GAN
from .update import guarded_update

__all__ = ["Translate", "closeness"]

# gamma_P * beta_SD of Bendel et al., equations 8 and 10, for P = 2 samples, times the distance of the two from their mean.
APART = math.sqrt(math.pi / 4) * math.sqrt(2 / (2 * math.pi * 3))


def closeness(
    real: torch.Tensor, first: torch.Tensor, second: torch.Tensor, apart: float = 1.0
) -> torch.Tensor:
    """|x - (a + b) / 2| less `apart` times 0.289 |a - b|, means over C and S: (N, C, *S) each -> (N,)."""
    near = (real - (first + second) / 2).abs().flatten(1).mean(1)
    return near - apart * APART * (first - second).abs().flatten(1).mean(1)


class Translate(GAN):
    """Generator of what belongs to a map, against a critic of patches.

    latent              Z, the width of the noise
    width               channels of the finest level of the generator
    critic_width        the same of the critic
    blocks              residual blocks a level
    close               weight of the closeness beside the game; 0 = the game alone
    apart               how far two samples for one map shall lie apart: 1 as the real ones do, 0 = a plain L1, which wants
                        one for each
    game                weight of the game; 0 = the closeness alone
    loss                "relativistic", "minimax", "nonsaturating", "least-squares" or "hinge"
    gamma               weight of the gradient penalties R1 and R2 (each gamma / 2)
    lazy                penalties every so many steps, with so many times the weight
    strength            of the critic's augmentation at the start, 0 to 1: sample and map move together
    adaptive            let a held-out gauge of overfitting drive the strength
    target              what the gauge is kept at
    matching            a real x with a wrong y counts as fake, with this weight; 0 = not at all
    learning_rate       of Adam for the generator at the start; falls to a tenth as a cosine
    critic_rate         the same of the critic, as a multiple of the generator's
    keep_discriminator  keep the critic in the snapshot, to reject samples by its score
    """

    wants_vicinity = False
    watched = False  # unlike a game alone it has a loss that falls: closeness on held-out pairs

    def __init__(
        self,
        latent: int = 16,
        width: int = 32,
        critic_width: int = 32,
        blocks: int = 1,
        close: float = 10.0,
        apart: float = 1.0,
        game: float = 1.0,
        loss: str = "relativistic",
        gamma: float = 0.2,
        lazy: int = 8,
        strength: float = 0.1,
        adaptive: bool = True,
        target: float = 0.4,
        matching: float = 0.2,
        learning_rate: float = 1e-3,
        critic_rate: float = 1.0,
        keep_discriminator: bool = True,
    ) -> None:
        if close < 0 or game < 0 or close + game == 0:
            raise UsageError(
                f"close is {close} and game {game}; neither can be negative, and one has to count."
            )
        super().__init__(
            latent=latent, width=width, critic_width=critic_width, blocks=blocks, loss=loss, gamma=gamma, lazy=lazy,
            strength=strength, adaptive=adaptive, target=target, matching=matching, spread=False,
            learning_rate=learning_rate, critic_rate=critic_rate, keep_discriminator=keep_discriminator,
        )  # fmt: skip
        self.close, self.apart, self.game = close, apart, game

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this model again."""
        names = (
            "latent", "width", "critic_width", "blocks", "close", "apart", "game", "loss", "gamma", "lazy", "strength",
            "adaptive", "target", "matching", "learning_rate", "critic_rate", "keep_discriminator",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def refuse(condition: Condition) -> None:
        """Raises UsageError for a condition without a map."""
        if not condition.channels:
            raise UsageError(
                f"Translation needs a picture in y, and the condition {condition.name!r} has none. Give pairs: folders A and B "
                "with equal names and --condition map, or a column conditioning_image; or choose another model."
            )

    def build(self, shape: Sequence[int], condition: Condition, rng: torch.Generator) -> None:
        """Make the networks. Raises UsageError for a condition without a map."""
        self.refuse(condition)
        super().build(shape, condition, rng)

    def _players(self, told: int, mapped: int) -> dict[str, nn.Module]:
        return {
            "generator": UNet(self.shape, self.latent, told, mapped, self.width, self.blocks),
            "discriminator": PatchCritic(self.shape, told, mapped, self.critic_width, self.blocks),
        }

    def step(self, batch: Batch) -> dict[str, float]:
        """One update of the critic, then one of the generator; of that alone where there is no game."""
        if self.game:
            return super().step(batch)
        self._set_rates(batch.progress)
        made = on_device(batch.cond, self.device)
        real = channels_last(batch.x.to(self.device))
        with autocast(self.device):
            fake = self._generate(self._noise(len(real), batch.rng), made)
        loss = self._beside(real, fake, made, batch.rng)["loss/close"]
        norm, self.skipped = guarded_update(
            self.optimizers["generator"], loss, clip=CLIP, skipped=self.skipped
        )
        lost = float(loss.detach())
        return {"loss/close": lost, "loss/total": lost, "gradient/g": norm}

    def _beside(
        self, real: torch.Tensor, fake: torch.Tensor, made: Cond, rng: torch.Generator
    ) -> dict[str, torch.Tensor]:
        if not self.close:
            return {}
        with autocast(self.device):
            other = self._generate(self._noise(len(real), rng), made)
        return {"loss/close": self.close * closeness(real, fake.float(), other.float(), self.apart).mean()}

    @torch.no_grad()
    def validate(self, batch: Batch) -> tuple[float, int]:
        """The closeness of two samples for each held-out map."""
        told = on_device(batch.cond, self.device)
        first, second = (self._generate(self._noise(len(batch.x), batch.rng), told) for _ in range(2))
        return float(closeness(batch.x.to(self.device), first, second, self.apart).sum()), len(batch.x)
