"""How alike are two samples once small moves are undone? Pure pixel geometry, no learning.

Any rank becomes a picture: frames of a film join the channels (they move together), a sequence becomes
a picture of height 1. "Last two axes" in the public functions means this picture's axes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import NumericalError, UsageError

__all__ = [
    "aligned_distance",
    "as_grid",
    "coarse",
    "coarse_variants",
    "damped",
    "reachable",
    "shifted_distance",
]

SIDE = 32  # an image axis longer than this is averaged down to it before anything is compared
LENGTH = 4_096  # the same for the axis of a sequence
FRAMES = 8  # the same for the frames of a film
COARSE = 8  # side of the small picture that candidates are found by
COARSE_LENGTH = 128
COARSE_CHANNELS = 12
STEPS = 4
SOFT_SIDE = 16  # pictures at least this large are compared blurred as well
TURN = 0.22  # largest rotation that is undone, in radians: 12.6 degrees
ZOOM = 0.13  # largest change of scale
MOVE = 0.25  # largest shift, as a share of half a side: 12.5 % of the side
GAIN = (0.8, 1.25)  # contrast between these is undone
DAMPING = 0.9  # share of a picture's own mean that the search for candidates ignores
OFFSET = 0.2  # brightness up to 10 % of the range [-1, 1]


def as_grid(x: Tensor, name: str) -> Tensor:
    """Samples of any rank as small pictures, float32 (N, C', H, W).

    x: (N, C, *S) in [-1, 1] with one, two or three spatial axes
    name: what to call it in an error

    (N, C, H, W) stays, (N, C, T) becomes (N, C, 1, T), (N, C, T, H, W) becomes (N, C T, H, W). Image
    axes above 32, sequences above 4,096 and frames above 8 are averaged down.
    Raises UsageError for another rank and NumericalError where a number is not finite.
    """
    if not isinstance(x, Tensor) or x.ndim not in (3, 4, 5) or 0 in x.shape[1:]:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UsageError(f"{name} must be samples (N, C, *S) with 1 to 3 spatial axes; it is {shape}.")
    out = x.detach().float()
    if not bool(torch.isfinite(out).all()):
        raise NumericalError(f"{name} holds a NaN or an infinite number.")
    limits = {3: (LENGTH,), 4: (SIDE, SIDE), 5: (FRAMES, SIDE, SIDE)}[x.ndim]
    size = [min(have, most) for have, most in zip(out.shape[2:], limits, strict=True)]
    if len(out) and size != list(out.shape[2:]):
        out = F.interpolate(out, size=size, mode="area")
    if x.ndim == 3:
        return out[:, :, None, :]
    return out.flatten(1, 2) if x.ndim == 5 else out


def damped(grid: Tensor) -> Tensor:
    """Pictures (..., C', H, W) with 90 % of their own mean taken away: what candidates are searched by.

    A copy that was made a little darker must not lose its place to a picture of the right darkness.
    """
    return grid - DAMPING * grid.mean(dim=(-3, -2, -1), keepdim=True)


def coarse(grid: Tensor) -> Tensor:
    """The small picture of each sample, flat: (N, C', H, W) -> (N, D) with D of about 64 to 768."""
    _, channels, height, width = grid.shape
    side = COARSE_LENGTH if height == 1 else COARSE
    size = (min(channels, COARSE_CHANNELS), min(height, COARSE), min(width, side))
    return F.adaptive_avg_pool3d(grid[:, None], size).flatten(1)


def reachable(grid: Tensor, shifts: int) -> tuple[int, int]:
    """How far a sample may be shifted along its two axes: at most a quarter of the side."""
    return min(shifts, grid.shape[-2] // 4), min(shifts, grid.shape[-1] // 4)


def _faces(grid: Tensor, flips: bool) -> list[Tensor]:
    return [grid, grid.flip(-1)] if flips and grid.shape[-2] > 1 else [grid]


def coarse_variants(grid: Tensor, flips: bool, shifts: int) -> Tensor:
    """The small pictures of every flip and shift: (B, C', H, W) -> (V, B, D)."""
    down, across = reachable(grid, shifts)
    height, width = grid.shape[-2:]
    out = []
    for face in _faces(grid, flips):
        padded = F.pad(face, (across, across, down, down), mode="replicate")
        for i in range(2 * down + 1):
            for j in range(2 * across + 1):
                out.append(coarse(padded[..., i : i + height, j : j + width]))
    return torch.stack(out)


def shifted_distance(fake: Tensor, others: Tensor, flips: bool, shifts: int) -> tuple[Tensor, Tensor, Tensor]:
    """The smallest mean squared difference over flips and whole-pixel shifts, on the overlap.

    fake: pictures (B, C', H, W)
    others: pictures that each is compared with, (B, K, C', H, W)
    flips: whether a picture is also compared mirrored left to right; never a sequence
    shifts: largest shift along both axes, in pixels

    Returns that difference (B, K), whether the mirrored picture gave it (B, K), and the shift of
    the fake against the other, (B, K, 2) down and across.
    """
    down, across = reachable(fake, shifts)
    size, height, width = len(fake), *fake.shape[-2:]
    moves = [(i, j) for i in range(-down, down + 1) for j in range(-across, across + 1)]
    ones = F.pad(torch.ones_like(fake[:1]), (across, across, down, down))
    variants, masks = [], []
    for face in _faces(fake, flips):
        padded = F.pad(face, (across, across, down, down))
        for i, j in moves:
            window = (..., slice(i + down, i + down + height), slice(j + across, j + across + width))
            variants.append(padded[window])
            masks.append(ones[window])
    a, mask = torch.stack(variants, dim=1).flatten(2), torch.cat(masks).flatten(1)
    b = others.flatten(2)
    # |a - b|^2 on the overlap as three matrix products: a is 0 outside it, b is masked
    squares = a.square().sum(dim=2)[:, :, None] + (b.square() @ mask.T).transpose(1, 2)
    squares = torch.baddbmm(squares, a, b.transpose(1, 2), alpha=-2.0).clamp_(min=0.0)
    smallest, which = (squares / mask.sum(dim=1)[None, :, None]).min(dim=1)
    shift = torch.tensor(moves, device=fake.device)[which % len(moves)]
    return smallest.view(size, -1), which >= len(moves), shift


def _blurred(x: Tensor) -> Tensor:
    """A Gaussian blur of 1 pixel: gradients then see further than one pixel."""
    kernel = torch.exp(-torch.arange(-2, 3, device=x.device, dtype=x.dtype).square() / 2)
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    x = F.pad(x, (2, 2, 2, 2), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _matrix(scale: Tensor, turn: Tensor, move: Tensor, aspect: float) -> Tensor:
    """Similarity maps (P, 3, 3) in the coordinates of `affine_grid`, where each side runs from -1 to 1."""
    cos, sin = scale * turn.cos(), scale * turn.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = (cos, -sin * aspect, move[:, 0], sin / aspect, cos, move[:, 1], zero, zero, one)
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _within_bounds(matrix: Tensor, aspect: float) -> Tensor:
    cos, sin = matrix[:, 0, 0], matrix[:, 1, 0] * aspect
    scale = (cos.square() + sin.square()).sqrt().clamp(1 - ZOOM, 1 + ZOOM)
    turn = torch.atan2(sin, cos).clamp(-TURN, TURN)
    return _matrix(scale, turn, matrix[:, :2, 2].clamp(-MOVE, MOVE), aspect)


def _warp(x: Tensor, places: Tensor) -> Tensor:
    return F.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)


def _difference(warped: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference on the mask (P, 1, H, W) after the best gain and offset within bounds; (P,)."""
    weight = mask.expand_as(fake).flatten(1)
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
    a, b = warped.flatten(1), fake.flatten(1)
    mean_a, mean_b = (weight * a).sum(dim=1), (weight * b).sum(dim=1)
    a, b = a - mean_a[:, None], b - mean_b[:, None]
    spread_a, spread_b = (weight * a * a).sum(dim=1), (weight * b * b).sum(dim=1)
    gain = ((weight * a * b).sum(dim=1) / spread_a.clamp(min=1e-6)).clamp(*GAIN)
    rest = mean_b - gain * mean_a
    rest = rest - rest.clamp(-OFFSET, OFFSET)
    plain = spread_b + gain.square() * spread_a - 2 * gain * (weight * a * b).sum(dim=1)
    return plain.clamp(min=0.0) + rest.square()


def _step(warped: Tensor, fake: Tensor, mask: Tensor, aspect: float) -> Tensor:
    """One Gauss-Newton step: the small similarity map (P, 3, 3) that brings `warped` nearer to `fake`."""
    height, width = fake.shape[-2:]
    y = ((torch.arange(height, device=fake.device) + 0.5) / height * 2 - 1).view(1, 1, -1, 1)
    x = ((torch.arange(width, device=fake.device) + 0.5) / width * 2 - 1).view(1, 1, 1, -1)
    padded = F.pad(warped, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * (width / 4)
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * (height / 4)
    turn = x / aspect * along_y - y * aspect * along_x
    columns = (along_x, along_y, turn, x * along_x + y * along_y, warped, torch.ones_like(warped))
    slopes = (torch.stack(columns, dim=1) * mask[:, None]).flatten(2)
    normal = slopes @ slopes.transpose(1, 2)
    # relative damping keeps a flat picture, whose gradients are all 0, solvable
    normal = normal + torch.diag_embed(normal.diagonal(dim1=1, dim2=2) * 1e-3 + 1e-6)
    wanted = slopes @ (fake - warped).flatten(1)[:, :, None]
    found = torch.linalg.solve(normal, wanted)[:, :, 0]
    scale, angle = 1 + found[:, 3].clamp(-0.1, 0.1), found[:, 2].clamp(-0.1, 0.1)
    return _matrix(scale, angle, found[:, :2].clamp(-0.15, 0.15), aspect)


def aligned_distance(train: Tensor, fake: Tensor, shift: Tensor, aspect: float) -> Tensor:
    """The smallest root mean square differences while the train sample moves onto the fake; (2, P).

    The first row compares the pictures as they are. The second compares both blurred by 1 pixel, which
    looks past noise and finds the soft copies that an auto-encoder makes; pictures with a side below
    16 are nothing but fine detail, and the second row repeats the first.

    train: pictures (P, C', H, W)
    fake: pictures (P, C', H, W), already mirrored where that is better
    shift: where to start, (P, 2) whole pixels down and across, as `shifted_distance` gives it
    aspect: height / width of the samples before they were averaged down

    From the start, 4 Gauss-Newton steps over shift, rotation (up to 12.6 degrees), scale (up to 13 %),
    contrast (0.8 to 1.25) and brightness (10 % of the range); the smallest difference on the way
    counts. The TRAIN sample is the one that is resampled, so that a fake made by such a move has been
    resampled as often as its source. Sequences keep the start.

    Source: Lucas and Kanade (1981), in the compositional form of Baker and Matthews (2004).
    """
    height, width = fake.shape[-2:]
    device = fake.device
    move = torch.stack([-shift[:, 1] * (2.0 / width), -shift[:, 0] * (2.0 / height)], dim=1)
    ones, zeros = torch.ones(len(fake), device=device), torch.zeros(len(fake), device=device)
    matrix = _matrix(ones, zeros, move.to(fake.dtype), aspect)
    soft_train, soft_fake = _blurred(train), _blurred(fake)
    best = torch.full((2, len(fake)), math.inf, device=device)
    pairs = [(train, fake), (soft_train, soft_fake)] if min(height, width) >= SOFT_SIDE else [(train, fake)]
    steps = STEPS if height > 1 else 0
    for step in range(steps + 1):
        places = F.affine_grid(matrix[:, :2], list(train.shape), align_corners=False)
        mask = (places.abs() <= 1 + 1e-4).all(dim=3)[:, None].to(fake.dtype)
        found = [_difference(_warp(a, places), b, mask) for a, b in pairs]
        best = torch.minimum(best, torch.stack(found).expand(2, -1))
        if step < steps:
            change = _step(_warp(soft_train, places), soft_fake, mask, aspect)
            matrix = _within_bounds(matrix @ change, aspect)
    return best.sqrt()
