"""Sets of feature points: the one place that checks them and measures distances between them.

Everything is computed in float64 on the CPU: |a|^2 + |b|^2 - 2ab in float32 loses the small distances
that copies and nearest neighbours live on, and a result must not depend on which card was there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import NumericalError, UsageError

__all__ = [
    "checked",
    "closest",
    "nearest_radii",
    "pair",
    "row_chunks",
    "shuffled",
    "squared_distances",
    "tie_margin",
]

CHUNK_NUMBERS = 4_000_000  # float64 numbers in one block of distances: 32 MB
TIE = 1e-9  # relative; distances that differ by less are the same distance up to rounding


def checked(points: Tensor, name: str) -> Tensor:
    """One set of points as float64 on the CPU.

    points: (N, F), any floating or integer type
    name: what to call it in an error, for example "real"
    Raises UsageError unless it is a two-dimensional tensor with F >= 1, and NumericalError where a
    number is not finite.
    """
    if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] == 0:
        shape = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise UsageError(f"{name} must be a tensor of features (N, F) with F >= 1; it is {shape}.")
    if points.is_complex():
        raise UsageError(f"{name} must hold real numbers; it is {points.dtype}.")
    out = points.detach().to("cpu").to(torch.float64)
    bad = int((~torch.isfinite(out).all(dim=1)).sum())
    if bad:
        raise NumericalError(f"{name} has {bad} of {len(out)} rows with a NaN or an infinite number.")
    return out


def pair(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of points in one feature space, checked; float64 (N, F) and (M, F).

    real: features of real samples, (N, F)
    fake: features of generated samples, (M, F)
    Raises UsageError or NumericalError that says which of the two is wrong, and how.
    """
    left, right = checked(real, "real"), checked(fake, "fake")
    if left.shape[1] != right.shape[1]:
        raise UsageError(
            f"real has {left.shape[1]} features and fake has {right.shape[1]}: "
            "both must come from the same feature network."
        )
    return left, right


def row_chunks(rows: int, columns: int, chunk: int | None = None) -> Iterator[slice]:
    """Slices over `rows` such that a block of (slice, columns) float64 stays near 32 MB.

    rows: how many rows there are
    columns: how wide a block is
    chunk: rows in a slice; default None takes the bound above
    """
    step = max(1, chunk if chunk is not None else CHUNK_NUMBERS // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """|a - b|^2 for each a in `left` (N, F) and b in `right` (M, F) -> (N, M), never negative.

    Both must be near the origin against their spread (subtract a common mean first).
    """
    squares = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)[None, :]
    return torch.addmm(squares, left, right.T, alpha=-2.0).clamp_(min=0.0)


def tie_margin(points: Tensor) -> float:
    """The rounding error to allow in a squared distance between centred points (N, F)."""
    return 1e-13 * float(points.square().sum(dim=1).max()) if len(points) else 0.0


def nearest_radii(points: Tensor, k: int, chunk: int | None = None) -> Tensor:
    """The squared distance from each point to its k-th nearest other point, (N,).

    points: (N, F), centred, N > k
    k: which neighbour, 1 is the nearest; the point itself does not count, an equal point does
    chunk: rows at a time; default None bounds a block to 32 MB, whatever N is
    """
    radii = torch.empty(len(points), dtype=points.dtype)
    for rows in row_chunks(len(points), len(points), chunk):
        block = squared_distances(points[rows], points)
        here = torch.arange(rows.start, rows.stop)
        block[here - rows.start, here] = torch.inf
        radii[rows] = block.topk(k, dim=1, largest=False).values[:, -1]
    return radii * (1.0 + TIE) + tie_margin(points)


def closest(left: Tensor, right: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """The distance from each point of `left` to the nearest of `right`, and which that is: (N,) and (N,).

    left: (N, F), centred
    right: (M, F), M >= 1
    chunk: rows at a time; default None bounds a block to 32 MB, whatever M is
    """
    distance = torch.empty(len(left), dtype=torch.float64)
    index = torch.empty(len(left), dtype=torch.int64)
    for rows in row_chunks(len(left), len(right), chunk):
        _, index[rows] = squared_distances(left[rows], right).min(dim=1)
        # once more as a difference: in |a|^2 + |b|^2 - 2ab equal points lie up to 1e-7 apart
        distance[rows] = (left[rows] - right[index[rows]]).norm(dim=1)
    return distance, index


def shuffled(points: Tensor) -> Tensor:
    """The same points (N, F) in an order that looks random and does not depend on the one they came in.

    Subsets of them are then neither sorted by class nor another answer for another order of the same samples.
    """
    rng = torch.Generator().manual_seed(0)
    direction = torch.randn(points.shape[1], generator=rng, dtype=points.dtype)
    order = torch.argsort(points @ direction, stable=True)
    return points[order[torch.randperm(len(points), generator=rng)]]
