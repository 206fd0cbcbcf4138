"""One optimiser update that cannot poison the weights, and the reading of a saved state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import NumericalError, UnsafeFile

__all__ = ["MOST_SKIPS", "guarded_update", "load_strictly", "skipping"]

MOST_SKIPS = 10


def guarded_update(
    optimizer: torch.optim.Optimizer, loss: torch.Tensor, *, clip: float, skipped: int
) -> tuple[float, int]:
    """Back-propagate, clip, and step; skip the step where the gradient is not finite.

    A single NaN step makes every weight NaN, and an average of weights never recovers: so the check
    comes before the step.

    loss     a scalar
    clip     largest norm of the gradient
    skipped  how many updates in a row were skipped before this one
    Returns (norm of the gradient, updates in a row that were skipped). Raises NumericalError after 10.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
    if math.isfinite(norm) and math.isfinite(float(loss.detach())):
        optimizer.step()
        return norm, 0
    if skipped + 1 >= MOST_SKIPS:
        raise NumericalError(
            f"The loss was not finite {MOST_SKIPS} times in a row (now {float(loss.detach())}). "
            "Try a smaller learning rate (--arguments '{\"learning_rate\": 0.0003}')."
        )
    return norm, skipped + 1


def skipping(model: Any) -> dict[str, Any]:
    """Name -> the parts of a model that count how many updates in a row were skipped (`skipped`)."""
    critic = getattr(model, "critic", None) if "discriminator" in model.networks else None
    parts = {"model": model, "critic": critic}
    return {name: part for name, part in parts.items() if hasattr(part, "skipped")}


def load_strictly(module: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Load weights that have exactly the right names and shapes and are finite. Raises UnsafeFile."""
    own = module.state_dict()
    if own.keys() != state.keys():
        odd = sorted(own.keys() ^ state.keys())
        raise UnsafeFile(
            f"The weights of {name} do not fit: {len(odd)} names differ, the first is {odd[0]!r}."
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise UnsafeFile(
                f"{name}: {key} has the shape {tuple(value.shape)}, not {tuple(own[key].shape)}."
            )
        if not torch.isfinite(value).all():
            raise UnsafeFile(f"{name}: {key} holds values that are not finite.")
    module.load_state_dict(dict(state))
