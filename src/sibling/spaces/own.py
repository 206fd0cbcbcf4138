"""A function of the user's own, "module:function", as a feature space; what it returns is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..errors import SiblingError, UsageError
from ..registry import own

__all__ = ["Own"]

CLOSE = 1e-3  # of the largest feature: convolutions round otherwise in batches of another size
ENOUGH = 10  # samples that differ: where all of these have the same features, the function sees nothing
WHAT = "The feature space"


class Own:
    """Calls the user's function, x (N, C, *S) float32 in [-1, 1] -> features (N, F).

    spec  "module:function"
    Each call is checked for shape and finite numbers; the first with two samples or more also for features
    that depend on the rest of the batch, as those of a network in training mode do, and for those that are the same
    whatever the sample is.
    Raises UsageError, here for a function that cannot be found, in a call for what is wrong with its result.
    """

    def __init__(self, spec: str) -> None:
        self.name = self.space = spec
        self._function: Callable[..., Any] = own(spec, WHAT)
        self._width: int | None = None
        self._looked_at = False

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) -> (N, F)."""
        features = self._features(x)
        if not self._looked_at and len(x) > 1:
            self._looked_at = True
            alone = torch.cat([self._features(x[:1]), self._features(x[-1:])])
            both = features[[0, -1]]
            if float((alone - both).abs().max()) > CLOSE * float(both.abs().max()):
                raise self._wrong(
                    "gives a sample other features alone than in a batch. Call .eval() on a network, take no mean or "
                    "deviation over the batch, and draw no random numbers"
                )
            if len(x) >= ENOUGH and _all_same(features) and not _all_same(x):
                raise self._wrong(
                    f"gave {len(x)} samples the same features: in such a space whatever was made looks like real samples"
                )
        return features

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        try:
            said = self._function(x.clone())  # which it may write to
        except SiblingError:
            raise
        except Exception as error:
            raise self._wrong(
                f"raised {type(error).__name__}: {error} for x of shape {tuple(x.shape)}. Mend it; --debug shows where"
            ) from error
        features = self._as_tensor(said)
        wanted = "one row of F numbers a sample, (N, F), was expected"
        if features.ndim != 2 or len(features) != len(x) or features.shape[1] == 0:
            raise self._wrong(f"gave {tuple(features.shape)} for {len(x)} samples; {wanted}")
        if self._width not in (None, features.shape[1]):
            raise self._wrong(f"gave {features.shape[1]} features a sample, before {self._width}; {wanted}")
        if bad := int((~torch.isfinite(features).all(1)).sum()):
            raise self._wrong(
                f"gave NaN or an infinite number for {bad} of {len(x)} samples. Look for a division by 0 or a "
                "logarithm of 0"
            )
        self._width = features.shape[1]
        return features

    def _as_tensor(self, said: Any) -> torch.Tensor:
        try:
            features = said.detach() if isinstance(said, torch.Tensor) else torch.as_tensor(np.asarray(said))
            if features.is_complex():
                raise TypeError("complex numbers")
            return features.to("cpu", torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._wrong(
                f"gave a {type(said).__name__}, no table of real numbers ({error}). Return a tensor or an array (N, F)"
            ) from error

    def _wrong(self, how: str) -> UsageError:
        return UsageError(f"{WHAT} {self.space!r} {how}.")


def _all_same(rows: torch.Tensor) -> bool:
    """Whether all rows (n, ...) are equal."""
    return bool((rows == rows[:1]).all())
