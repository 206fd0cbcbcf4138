"""The judging side of a game: a discriminator with its loss, its penalties and its augmentation.

Used by the GAN, and by a VAE whose decoder it sharpens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from ..device import autocast
from ..nets import Discriminator
from ..types import Batch, Cond
from .diffaug import augment_pair
from .game import LOSSES, gradient_penalty, lecam, probabilities, value
from .update import guarded_update

__all__ = ["CLIP", "Critic", "Ledger", "channels_last", "faded", "on_device"]

LOGIT_MEMORY = 0.99  # decay of the moving averages of the logits, a step
GAUGE_MEMORY = 0.9  # decay of the moving average of the gauge, a held-out batch
STRENGTH_STEP = 0.01  # of the augmentation, a held-out batch
MOST_STRENGTH = 0.8  # beyond it augmented artefacts leak into the samples
LEAST_APART = 0.05  # a D whose logits of real and fake are nearer than this tells nothing apart
CLIP = 10.0  # largest norm of a gradient


class Ledger(nn.Module):
    """What the game remembers between steps besides weights; saved and resumed with them.

    strength    of the discriminator's augmentation, 0 to 1
    gauge       how far D tells training samples from held-out ones, 0 to 1
    mean_real   moving average of the logits of real samples; mean_fake that of fakes
    rate        factor of both learning rates; a rollback halves it
    """

    strength: torch.Tensor
    gauge: torch.Tensor
    mean_real: torch.Tensor
    mean_fake: torch.Tensor
    rate: torch.Tensor

    def __init__(self, strength: float) -> None:
        super().__init__()
        first = {"strength": strength, "gauge": 0.0, "mean_real": 0.0, "mean_fake": 0.0, "rate": 1.0}
        for name, number in first.items():
            self.register_buffer(name, torch.tensor(float(number)))


@dataclass
class Critic:
    """A discriminator and how it is used.

    network    the discriminator
    ledger     strength, gauge and averages
    loss       a name of LOSSES
    gamma      weight of the gradient penalties R1 and R2 (each gamma / 2)
    lazy       penalties every so many steps, with so many times the weight
    lecam      weight of the LeCam regulariser; 0 = none
    matching   weight of the pairs of a real x and a wrong y, which count as fake; 0 = none
    adaptive   let the gauge drive the strength, towards the target
    target     what the gauge is kept at
    """

    network: Discriminator
    ledger: Ledger
    loss: str = "relativistic"
    gamma: float = 0.5
    lazy: int = 8
    lecam: float = 0.0
    matching: float = 0.0
    adaptive: bool = True
    target: float = 0.4
    skipped: int = field(default=0)

    def learn(
        self,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        real: torch.Tensor,
        fake: torch.Tensor,
        told: Cond,
        *,
        share: float,
    ) -> tuple[dict[str, float], list[torch.Tensor]]:
        """One update of D on N reals mixed with N fakes.

        real, fake  (N, C, *S), of the same y pair by pair
        told        the condition of each pair
        share       how much the pair (x, y) counts beside x alone: below 1 both logits are judged
        Returns a row for the log, and the logits of the reals, which the generator is measured against.
        """
        network = self.network.requires_grad_(True)
        device = real.device
        penalised = self.gamma > 0 and batch.number % self.lazy == 0
        wrong = self._wrong(batch, share)
        channels = told.map.shape[1]
        seen = torch.cat([told.map, wrong.map], 1) if wrong is not None else told.map
        x = torch.cat([real, fake.to(real)])
        x, maps = augment_pair(x, torch.cat([seen, seen]), float(self.ledger.strength), batch.rng)
        maps, wrong_maps = maps[:, :channels], maps[: len(real), channels:]
        x = channels_last(x).detach().requires_grad_(penalised)
        # The penalty is a derivative of a derivative: bf16 has too few digits for it.
        with autocast(device, enabled=not penalised):
            features = network(x, maps, sets=2)
        shown = network.shown[0]  # of the reals
        h_real, h_fake = features.float().chunk(2)  # (2N, F) -> (N, F), (N, F)
        rule = LOSSES[self.loss]
        weight = None if batch.weight is None else batch.weight.to(device)
        certain = None if batch.certain is None else batch.certain.to(device)
        loss, penalty = real.new_zeros(()), real.new_zeros(())
        reals, fakes = self._logits(h_real, told, share), self._logits(h_fake, told, share)
        for (r, part), (f, _) in zip(reals, fakes, strict=True):
            loss = loss + part * _weighted(rule.discriminator(r, f), weight)
            if penalised:  # the mean over reals and fakes together, twice: R1 + R2
                penalty = penalty + part * 2 * gradient_penalty(torch.cat([r, f]), x)
        if wrong is not None:
            if channels:  # only a wrong map needs another look at x
                with autocast(device):
                    h_real = network(x[: len(real)].detach(), wrong_maps).float()
            mismatch = rule.wrong(r, network.judge_pair(h_real, wrong.vec))
            loss = loss + part * self.matching * _weighted(mismatch, _both(weight, certain))
        if self.lecam:
            loss = loss + self.lecam * lecam(r, f, self.ledger.mean_real, self.ledger.mean_fake)
        if batch.held is not None:  # before the update: the three kinds of logits must be of one network
            self._measure(batch.held, float(r.detach().mean()), float(f.detach().mean()), share)
        whole = loss + 0.5 * self.gamma * self.lazy * penalty
        clip = CLIP * self.lazy if penalised else CLIP  # or the clip would undo what laziness multiplies
        norm, self.skipped = guarded_update(optimizer, whole, clip=clip, skipped=self.skipped)
        row = self._row(r.detach(), f.detach(), shown)
        row.update({"loss/d": float(loss.detach()), "gradient/d": norm})
        if penalised:
            row["loss/penalty"] = float(penalty.detach())
        return row, [logits.detach() for logits, _ in reals]

    def teach(
        self,
        batch: Batch,
        fake: torch.Tensor,
        told: Cond,
        real_logits: list[torch.Tensor],
        *,
        share: float,
    ) -> torch.Tensor:
        """What the generator loses with these fakes, as a scalar; D is frozen and sees them augmented."""
        network = self.network.requires_grad_(False)
        x, maps = augment_pair(fake.float(), told.map, float(self.ledger.strength), batch.rng)
        with autocast(fake.device):
            features = network(channels_last(x), maps)
        weight = None if batch.weight is None else batch.weight.to(fake.device)
        loss = torch.zeros((), device=fake.device)
        judged = self._logits(features.float(), told, share)
        for r, (f, part) in zip(real_logits, judged, strict=True):
            loss = loss + part * _weighted(LOSSES[self.loss].generator(r, f), weight)
        return loss

    @torch.no_grad()
    def _measure(self, held: Batch, real: float, fake: float, share: float) -> None:
        """How far D tells training samples from held-out ones: 0 not at all, 1 as well as from fakes.

        (E D(train) - E D(held out)) / (E D(train) - E D(fake)), Karras et al. 2020, equation 1; above the
        target the augmentation grows, below it falls.
        """
        ledger, device = self.ledger, self.ledger.gauge.device
        told = faded(on_device(held.cond, device), share)
        x, maps = augment_pair(held.x.to(device), told.map, float(ledger.strength), held.rng)
        with autocast(device):
            features = self.network(channels_last(x), maps)
        if not real - fake > LEAST_APART:
            return  # it cannot have learned anything by heart either
        missed = (real - float(self._logits(features.float(), told, share)[-1][0].mean())) / (real - fake)
        if not math.isfinite(missed):
            return
        ledger.gauge.lerp_(torch.tensor(min(1.5, max(-0.5, missed)), device=device), 1 - GAUGE_MEMORY)
        if self.adaptive:
            way = 1.0 if float(ledger.gauge) > self.target else -1.0
            ledger.strength.add_(way * STRENGTH_STEP).clamp_(0.0, MOST_STRENGTH)

    @torch.no_grad()
    def score(self, x: torch.Tensor, cond: Cond) -> torch.Tensor:
        """The logit (N,) of each pair (x, y), without augmentation: higher is more like real."""
        told = on_device(cond, self.ledger.gauge.device)
        features = self.network(channels_last(x.to(told.vec.device)), told.map, sets=0)
        logits: torch.Tensor = self._logits(features.float(), told, 1.0)[-1][0]
        return logits

    def _logits(self, features: torch.Tensor, told: Cond, share: float) -> list[tuple[torch.Tensor, float]]:
        """[(logits (N,), weight)]: of x alone, of the pair, or of both while the condition comes in."""
        network = self.network
        if network.pair is None or share <= 0:
            return [(network.judge_alone(features), 1.0)]
        pair = (network.judge_pair(features, told.vec), share)
        return [pair] if share >= 1 else [(network.judge_alone(features), 1.0), pair]

    def _wrong(self, batch: Batch, share: float) -> Cond | None:
        """The wrong conditions of the reals where they shall count."""
        if self.matching <= 0 or share <= 0 or self.network.pair is None or batch.wrong is None:
            return None
        return faded(on_device(batch.wrong, self.ledger.gauge.device), share)

    @torch.no_grad()
    def _row(self, r: torch.Tensor, f: torch.Tensor, shown: torch.Tensor) -> dict[str, float]:
        if self.skipped == 0:  # a batch whose update was skipped is not remembered either: it may hold NaN
            self.ledger.mean_real.lerp_(r.mean(), 1 - LOGIT_MEMORY)
            self.ledger.mean_fake.lerp_(f.mean(), 1 - LOGIT_MEMORY)
            self.network.remember(shown)
        d_real, d_fake = probabilities(self.loss, r, f)
        return {
            "game/d_real": float(d_real.mean()),
            "game/d_fake": float(d_fake.mean()),
            "game/value": float(value(d_real, d_fake)),
            "game/strength": float(self.ledger.strength),
            "game/gauge": float(self.ledger.gauge),
        }


def on_device(cond: Cond, device: torch.device) -> Cond:
    """The condition where the networks are."""
    return Cond(cond.vec.to(device), cond.map.to(device))


def faded(cond: Cond, share: float) -> Cond:
    """The condition while it comes in: a map is seen by both players, so that it must fade in itself."""
    return cond if share >= 1 or not cond.map.shape[1] else Cond(cond.vec, share * cond.map)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Images as the convolutions want them in memory."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _both(weight: torch.Tensor | None, certain: torch.Tensor | None) -> torch.Tensor | None:
    """The product of two weights (N,), each possibly absent."""
    if weight is None or certain is None:
        return weight if certain is None else certain
    return weight * certain


def _weighted(terms: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return terms.mean() if weight is None else (terms * weight).mean()
