"""A recogniser of the user's own: looked at before anything is trained, so that a mistake costs no work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..dataset import Dataset
from ..device import best, seeded
from ..errors import SiblingError, UsageError
from ..registry import own
from .tasks import Classes, task_of

__all__ = ["Build", "brought"]

Build = Callable[[Sequence[int], int], nn.Module]
LOOKED_AT = 4  # samples of noise that the network is shown
CLOSE = 1e-4  # so near to 1 lie the sums of probabilities


def brought(classifier: str | Build | None, data: Dataset) -> Build | None:
    """The user's function, after it has built two networks for these samples; None where they have brought none.

    classifier  "module:build", or the function: build(shape, outputs) gives a torch module
    data        the real samples: how many numbers the network has to give follows from their y
    Raises UsageError for a function that cannot be found or that raises, for networks that cannot take these samples,
    that give another shape, that share weights from one training to the next, or that end in a softmax.
    """
    if classifier is None:
        return None
    named = isinstance(classifier, str)
    told = (
        f"--classifier {classifier}"
        if named
        else f"classifier={getattr(classifier, '__qualname__', classifier)}"
    )
    function = own(classifier, "The classifier") if isinstance(classifier, str) else classifier

    def build(shape: Sequence[int], outputs: int) -> nn.Module:
        try:
            return function(shape, outputs)
        except SiblingError:
            raise
        except Exception as error:
            raise UsageError(
                f"{told}: build({tuple(shape)}, {outputs}) raised {type(error).__name__}: {error}. It is called with the "
                "shape of a sample, (C, *S), and the count of outputs. Mend it; --debug shows where."
            ) from error

    task = task_of(data)
    if task is not None:
        shape = tuple(data.shape)
        told_of = f"{told}: build({shape}, {task.outputs})"
        with seeded(0, "brought"):  # dropout draws as well: what the caller draws next shall not depend on it
            first, second = build(shape, task.outputs), build(shape, task.outputs)
            _look_at(first, second, shape, task.outputs, told_of, isinstance(task, Classes))
    return build


def _look_at(
    first: nn.Module, second: nn.Module, shape: tuple[int, ...], outputs: int, told: str, classes: bool
) -> None:
    """Raises UsageError where two networks of one function are not what a comparison can be made with."""
    for network in (first, second):
        if not isinstance(network, nn.Module):
            raise UsageError(f"{told} gave {type(network).__name__}; it must give a torch.nn.Module.")
    weights = [{id(p) for p in network.parameters() if p.requires_grad} for network in (first, second)]
    if not weights[0]:
        raise UsageError(f"{told} gave a network without anything to train.")
    if weights[0] & weights[1]:
        raise UsageError(
            f"{told} gave the same weights twice: what one arm has learned would go on in the next. Make a new network in "
            "each call (copy.deepcopy of a ready one does it)."
        )
    said = _said(first, shape, told)
    if not isinstance(said, torch.Tensor) or tuple(said.shape) != (LOOKED_AT, outputs):
        found = tuple(said.shape) if isinstance(said, torch.Tensor) else type(said).__name__
        raise UsageError(
            f"{told}: for {LOOKED_AT} samples the network gave {found}; it must give ({LOOKED_AT}, {outputs}): "
            + (
                "a logit a class."
                if classes
                else "a number for each label or number that is read off a sample."
            )
        )
    if classes and bool((said >= 0).all()) and bool(((said.sum(1) - 1).abs() < CLOSE).all()):
        raise UsageError(
            f"{told}: the network gave probabilities, rows that sum to 1. Leave the softmax at its end out: the loss "
            "has it, and twice it learns badly."
        )


def _said(network: nn.Module, shape: tuple[int, ...], told: str) -> object:
    """What a network says of noise (LOOKED_AT, C, *S) in [-1, 1], as it is trained and as it is asked."""
    device = best()
    with torch.no_grad():
        x = torch.rand(LOOKED_AT, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            network.to(device).train()(x.to(device))
            return network.eval()(x.to(device))
        except Exception as error:
            raise UsageError(
                f"{told}: the network raised {type(error).__name__}: {error} for x of shape {tuple(x.shape)}. "
                "Mend it; --debug shows where."
            ) from error
