"""In what space are samples compared? One file a feature space; one line here for each.

A feature space is made from the real train part and gives every sample F numbers. No space sees everything:
random convolutions see noise and blur, a recogniser what the classes differ in, so that at least two are
named beside each number, and where they disagree, both are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..errors import UsageError
from ..registry import lookup

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..dataset import Dataset

__all__ = ["DEFAULT", "SPACES", "Space", "spaces_of"]

SPACES = {
    "random": "sibling.spaces.random:build",
    "recogniser": "sibling.spaces.recogniser:build",
    "selfsupervised": "sibling.spaces.selfsupervised:build",
    "spectrum": "sibling.spaces.spectrum:build",
    "efficientnet-lite0": "sibling.spaces.efficientnet:build",
}
DEFAULT = ("random", "recogniser")


@runtime_checkable
class Space(Protocol):
    """Gives every sample F numbers, whatever samples are beside it in the batch.

    name   the one that it was asked for by, for example "random"
    space  what stands beside a score: with the hash of its weights or of its definition
    A space that can tell classes apart may have `probabilities(fetch, n)` besides, as a Recogniser has it.
    """

    name: str
    space: str

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, *S) in [-1, 1] -> float32 (N, F), on the CPU."""


def spaces_of(
    names: Sequence[str], data: Dataset, rows: np.ndarray, seed: int, notes: list[str]
) -> list[Space]:
    """The feature spaces of these names, in this order, each once.

    names  of the table, of a plug-in, or the user's own "module:function"; none = "random" and "recogniser"
    rows   real train rows: all that a space may learn from
    seed   of whatever is trained
    notes  gets a sentence about each space of the default that these data do not allow
    Raises UsageError for an unknown name, and for a space that was asked for and cannot be made.
    """
    if isinstance(names, str):
        names = [names]
    spaces: list[Space] = []
    for name in dict.fromkeys(names or DEFAULT):
        try:
            spaces.append(_builder(name)(data, rows, seed))
        except UsageError as error:
            if names:
                raise
            notes.append(f"The feature space {name} was left out. {error}")
    return spaces


def _builder(name: str) -> Callable[[Dataset, np.ndarray, int], Space]:
    if ":" in name:
        from .own import Own

        return lambda data, rows, seed: Own(name)
    found: Callable[[Dataset, np.ndarray, int], Space] = lookup(SPACES, "sibling.spaces", name)
    return found
