"""Does a recogniser see in a generated sample the class that it was made for?

The recogniser must be trained on the train part alone. Probabilities in, numbers out: this file knows
no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import NumericalError, UsageError
from .intervals import Share, share_of

__all__ = ["Agreement", "agreement", "calibrated_limit", "mislabelled"]

FALSE_ALARMS = 0.02  # share of real held-out samples that may fall below the limit


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the recogniser's answer is the claimed class.

    overall    over all samples
    per_class  class index -> the same among the samples that claim this class; absent classes are left out
    """

    overall: Share
    per_class: dict[int, Share]


def _checked(probabilities: Tensor, classes: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if probabilities.ndim != 2 or probabilities.shape[1] == 0:
        raise UsageError(f"probabilities must be (N, classes); they are {tuple(probabilities.shape)}.")
    if classes.shape != probabilities.shape[:1] or classes.is_floating_point() or classes.is_complex():
        raise UsageError(
            f"{name} must be {len(probabilities)} class indices, one for each row of probabilities; "
            f"it is {tuple(classes.shape)}, {classes.dtype}."
        )
    p, y = probabilities.detach().to("cpu").double(), classes.detach().to("cpu").long()
    if not bool(torch.isfinite(p).all()):
        raise NumericalError("probabilities hold a NaN or an infinite number.")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < p.shape[1]:
        raise UsageError(
            f"{name} runs from {int(y.min())} to {int(y.max())}, but the recogniser knows the classes "
            f"0 to {p.shape[1] - 1}."
        )
    return p, y


def agreement(probabilities: Tensor, claimed: Tensor) -> Agreement:
    """Share of samples whose most probable class is the claimed one, with 95 % Wilson intervals.

    probabilities: what the recogniser gives to each class, (N, classes)
    claimed: the class index that each sample was made for, (N,) integers
    Raises UsageError for wrong shapes or unknown classes, NumericalError for numbers not finite.

    Read it against the recogniser's own accuracy on real samples. Source: "GAN-test" of Shmelkov,
    Schmid and Alahari, "How good is my GAN?" (2018).
    """
    p, y = _checked(probabilities, claimed, "claimed")
    right = p.argmax(dim=1) == y
    per_class = {
        int(c): share_of(int(right[y == c].sum()), int((y == c).sum())) for c in torch.unique(y).tolist()
    }
    return Agreement(share_of(int(right.sum()), len(right)), per_class)


def calibrated_limit(probabilities_val: Tensor, y_val: Tensor) -> float:
    """The probability of the claimed class below which a sample counts as mislabelled; in [0, 1].

    probabilities_val: what the recogniser gives to each class for real held-out samples, (N, classes)
    y_val: their true class indices, (N,) integers
    Raises UsageError for wrong shapes or unknown classes, NumericalError for numbers not finite.

    The 2 % quantile of what real samples get for their own class (the lowest value where there are
    fewer than 50), so that at most about 2 % of correctly labelled samples are lost, however weak the
    recogniser is: a weak one lowers the limit instead of emptying the set. Classes count alike, since as many
    samples may be asked for of a rare class, which is read less well; but no sample counts for half of what may be lost,
    or the only one of a class would set the limit. 0 (nothing is dropped) without any held-out sample.
    """
    p, y = _checked(probabilities_val, y_val, "y_val")
    if not len(y):
        return 0.0
    own, order = p.gather(1, y[:, None])[:, 0].sort()
    counts = torch.bincount(y).double()
    share = (1 / (counts[y] * (counts > 0).sum())).clamp(max=FALSE_ALARMS / 2)
    below = (share / share.sum())[order].cumsum(0)  # (N,) share that is lost above each sample
    number = int((below <= FALSE_ALARMS + 1e-9).sum())
    return float(own[min(number, len(own) - 1)].clamp(0.0, 1.0))


def mislabelled(probabilities: Tensor, claimed: Tensor, limit: float) -> Tensor:
    """Which samples are seen as another class; bool (N,).

    probabilities: what the recogniser gives to each class, (N, classes)
    claimed: the class index that each sample was made for, (N,) integers
    limit: see `calibrated_limit`, in [0, 1]
    Raises UsageError for wrong shapes or unknown classes, NumericalError for numbers not finite.

    Both must hold: the claimed class gets less than the limit, and another class wins. With a sharp
    recogniser the limit can lie above 1/2, and an unusual but correctly seen sample must stay.
    """
    p, y = _checked(probabilities, claimed, "claimed")
    if not 0.0 <= limit <= 1.0:
        raise UsageError(f"limit must lie in [0, 1]; it is {limit}.")
    return (p.gather(1, y[:, None])[:, 0] < limit) & (p.argmax(dim=1) != y)
