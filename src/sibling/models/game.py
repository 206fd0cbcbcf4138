"""The two players' losses and penalties, as functions of logits: no networks, no optimisers.

r = D(x) and f = D(G(z)) are logits (N,). D ascends, and G descends, the value of the game

    V(G, D) = E log D(x) + E log(1 - D(G(z)))        (Goodfellow et al. 2014)

whose equilibrium is D = 1/2 everywhere and V = -log 4. The other losses have the same equilibrium and
better gradients on the way there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["EQUILIBRIUM", "LOSSES", "Loss", "gradient_penalty", "lecam", "probabilities", "value"]

EQUILIBRIUM = -math.log(4)

_Term = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """What each player minimises, per pair of a real and a fake logit: (N,), (N,) -> (N,).

    wrong   what D minimises beside it for a real with a wrong y, which counts as one more fake: its logit
            stands in place of f. The real of the pair is not counted twice, so that D = 1/2 stays the equilibrium
    paired  D is a difference: only r - f means something, a logit alone does not
    """

    discriminator: _Term
    generator: _Term
    wrong: _Term
    paired: bool = False


# Goodfellow et al. 2014, equation 1 and section 3 (non-saturating); Mao et al. 2017 (least squares, targets
# 1 and 0); Lim and Ye 2017 (hinge); Jolicoeur-Martineau 2018, Huang et al. 2024 (relativistic pairing).
LOSSES = {
    "relativistic": Loss(
        lambda r, f: F.softplus(f - r),
        lambda r, f: F.softplus(r - f),
        lambda r, w: F.softplus(w - r),
        paired=True,
    ),
    "minimax": Loss(
        lambda r, f: F.softplus(-r) + F.softplus(f), lambda r, f: -F.softplus(f), lambda r, w: F.softplus(w)
    ),
    "nonsaturating": Loss(
        lambda r, f: F.softplus(-r) + F.softplus(f), lambda r, f: F.softplus(-f), lambda r, w: F.softplus(w)
    ),
    "least-squares": Loss(
        lambda r, f: (1 - r).square() + f.square(), lambda r, f: (1 - f).square(), lambda r, w: w.square()
    ),
    "hinge": Loss(lambda r, f: F.relu(1 - r) + F.relu(1 + f), lambda r, f: -f, lambda r, w: F.relu(1 + w)),
}


def probabilities(name: str, r: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """D(x) and D(G(z)) as probabilities (N,), (N,): what a person watches.

    A relativistic logit has no zero point, so each is measured from the mean of the other kind, which is
    the relativistic average (Jolicoeur-Martineau 2018). Least squares has its targets at 0 and 1, so its
    output is the probability; the hinge's lies at -1 and 1.
    """
    if LOSSES[name].paired:
        return torch.sigmoid(r - f.mean()), torch.sigmoid(f - r.mean())
    if name == "least-squares":
        return r.clamp(0, 1), f.clamp(0, 1)
    return torch.sigmoid(r), torch.sigmoid(f)


def value(d_real: torch.Tensor, d_fake: torch.Tensor) -> torch.Tensor:
    """V(G, D) from probabilities; -log 4 at the equilibrium, 0 where D is never wrong."""
    least = 1e-6
    return d_real.clamp(min=least).log().mean() + (1 - d_fake).clamp(min=least).log().mean()


def gradient_penalty(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """|| d logits / d x ||^2 summed over C and S, averaged over the batch; differentiable.

    logits  (N,), made from x
    x       (N, C, *S), which requires a gradient
    R1 with real x (Mescheder et al. 2018), R2 with fake x; the caller multiplies with gamma / 2.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def lecam(r: torch.Tensor, f: torch.Tensor, mean_real: torch.Tensor, mean_fake: torch.Tensor) -> torch.Tensor:
    """E relu(r - mean_fake)^2 + E relu(mean_real - f)^2 with moving averages of the logits.

    Source: Tseng et al., "Regularizing generative adversarial networks under limited data" (2021).
    """
    return F.relu(r - mean_fake).square().mean() + F.relu(mean_real - f).square().mean()
