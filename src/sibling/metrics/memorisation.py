"""Is a generated sample a near copy of a training sample? And does it repeat an earlier one?

A sample is a copy when ONE training sample explains it far better than every other does: the ratio of
the distances to the nearest and to the second nearest training sample (of another duplicate group)
is small. Fresh real samples set the bar. This finds copies that were moved a little (mirrored,
shifted, turned, zoomed, made brighter or noisier). It says nothing about what else a model may leak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from .alignment import aligned_distance, as_grid, coarse, coarse_variants, damped, shifted_distance
from .intervals import Share, share_of
from .points import checked, row_chunks, squared_distances

__all__ = ["Nearest", "copies", "copy_share", "doubles", "nearest", "nearest_by_features", "threshold"]

REFINED = 12  # candidate groups that are aligned
SAME = 1e-6  # of the largest feature vector: convolutions round otherwise in batches of another size
IDENTICAL = 1e-3  # root mean square in [-1, 1]; a grey level of 8 bits is 8e-3
DEFAULT_LIMIT = 0.5
LIMITS = (0.3, 0.7)
HELD_OUT_MIN = 50
FALSE_ALARMS = 0.01
DOUBLE = 0.25
TYPICAL_FROM = 1_000  # real samples whose nearest neighbour sets the scale of `doubles`
TRAIN_BLOCK = 2_048


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest training sample of each fake.

    ratio     (N,) d1 / d2 in [0, 1]: distance to the nearest over that to the nearest of another
              duplicate group; 0 for an identical sample; nan where train is a single group
    distance  (N,) d1, root mean square per pixel in units of the range [-1, 1], after alignment
    index     (N,) int64, the row of the nearest training sample
    """

    ratio: Tensor
    distance: Tensor
    index: Tensor


def nearest(
    *,
    train: Tensor,
    fake: Tensor,
    groups: Tensor | None = None,
    train_features: Tensor | None = None,
    fake_features: Tensor | None = None,
    flips: bool = True,
    shifts: int = 2,
    candidates: int = 16,
    chunk: int = 32,
) -> Nearest:
    """The nearest training sample of each fake, small moves undone, and how much nearer it is.

    train: training samples, (N, C, *S) in [-1, 1], one to three spatial axes
    fake: samples to judge, (M, C, *S); held-out real samples for `threshold`
    groups: duplicate group of each training sample, (N,) integers; default None: each its own group.
        Without it two equal training samples hide a copy of both
    train_features: features of the training samples, (N, F); default None: candidates by pixels alone
    fake_features: features of the fakes, (M, F); given together with train_features
    flips: compare left-right mirrored pictures too; default True; never applies to sequences
    shifts: largest shift of the search along the last two axes, in pixels; default 2
    candidates: training samples to look at closely per search (pixels, features), default 16
    chunk: fakes at a time; default 32; the result does not depend on it
    Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.

    Candidates are the nearest on a grid of 8 x 8 averages over every flip and shift, and the nearest
    in feature space. Of these the best 12 duplicate groups are aligned (`aligned_distance`) and
    measured. Samples above 32 pixels a side are averaged down to 32 first (see `as_grid`).
    Source of the ratio: Yoon et al. (2023) and the two-neighbour rule of DiffMemorize; of the rest:
    measured (see tests/test_memorisation.py).
    """
    spaces = _features(train, fake, train_features, fake_features)
    known, made = as_grid(train, "train"), as_grid(fake, "fake").to(train.device)
    if known.shape[1:] != made.shape[1:] or train.shape[1:] != fake.shape[1:]:
        raise UsageError(f"train is {tuple(train.shape)} and fake {tuple(fake.shape)}: shapes must agree.")
    if len(known) == 0 or candidates < 2 or shifts < 0 or chunk < 1:
        raise UsageError("nearest needs a training sample, candidates >= 2, shifts >= 0 and chunk >= 1.")
    group = torch.arange(len(known)) if groups is None else groups.detach().to("cpu")
    if group.shape != (len(known),) or group.is_floating_point():
        raise UsageError(f"groups must be {len(known)} integers; it is {tuple(group.shape)}, {group.dtype}.")
    group = torch.unique(group, return_inverse=True)[1].to(known.device)
    aspect = train.shape[-2] / train.shape[-1] if train.ndim > 3 else 1.0
    small = coarse(damped(known))
    parts = []
    for start in range(0, len(made), chunk):
        part = made[start : start + chunk]
        grids = [_coarse_distance(small, part, flips, shifts)]
        grids += [_plain_distance(a, b[start : start + chunk]) for a, b in spaces]
        picked = torch.cat([_candidates(d, group, candidates) for d in grids], dim=1)
        parts.append(_refine(known, part, picked, group, flips, shifts, aspect))
    if not parts:
        return Nearest(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.int64))
    ratio, distance, index = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Nearest(ratio, distance, index)


def _features(
    train: Tensor, fake: Tensor, train_features: Tensor | None, fake_features: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    if train_features is None and fake_features is None:
        return []
    if train_features is None or fake_features is None:
        raise UsageError("train_features and fake_features must be given together.")
    a, b = train_features.detach().float(), fake_features.detach().float()
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(f"Features must be (N, F) and (M, F); they are {tuple(a.shape)}, {tuple(b.shape)}.")
    if len(a) != len(train) or len(b) != len(fake):
        raise UsageError(
            f"{len(a)} train_features for {len(train)} samples, {len(b)} fake_features for {len(fake)}."
        )
    centre = a.mean(dim=0)  # small numbers: the distance is a difference of squares
    return [((a - centre).to(train.device), (b - centre).to(train.device))]


def _plain_distance(train: Tensor, fake: Tensor) -> Tensor:
    return torch.addmm(train.square().sum(dim=1)[None, :], fake, train.T, alpha=-2.0)


def _coarse_distance(small: Tensor, fake: Tensor, flips: bool, shifts: int) -> Tensor:
    """Squared distance (B, N) on the small pictures, the smallest over flips and shifts."""
    variants = coarse_variants(damped(fake), flips, shifts)
    count, size, width = variants.shape
    flat = variants.reshape(count * size, width)
    # one product gives |a|^2 + |b|^2 - 2ab: the squares ride along as two more columns
    left = torch.cat([-2 * flat, flat.square().sum(dim=1, keepdim=True), torch.ones_like(flat[:, :1])], dim=1)
    out = torch.empty(size, len(small), device=small.device)
    for start in range(0, len(small), TRAIN_BLOCK):
        block = small[start : start + TRAIN_BLOCK]
        right = torch.cat(
            [block, torch.ones_like(block[:, :1]), block.square().sum(dim=1, keepdim=True)], dim=1
        )
        out[:, start : start + len(block)] = (left @ right.T).view(count, size, -1).amin(dim=0)
    return out


def _candidates(distance: Tensor, group: Tensor, count: int) -> Tensor:
    """The rows of the nearest training samples (B, K), of more than one group where there is one."""
    first = distance.topk(min(count, len(group)), dim=1, largest=False).indices
    if int(group.max()) + 1 == len(group):
        return first
    # a group of many duplicates could fill all places, and the second distance would be missing
    same = group[None, :] == group[first[:, 0]][:, None]
    others = distance.masked_fill(same, math.inf)
    second = others.topk(min(count, len(group)), dim=1, largest=False).indices
    return torch.cat([first, second], dim=1)


def _refine(
    train: Tensor, fake: Tensor, picked: Tensor, group: Tensor, flips: bool, shifts: int, aspect: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Ratio, distance and row (each (B,)) of the best among the candidates `picked` (B, K)."""
    rough, mirrored, shift = shifted_distance(damped(fake), damped(train[picked]), flips, shifts)
    order = rough.argsort(dim=1)
    picked, rough = picked.gather(1, order), rough.gather(1, order)
    mirrored, shift = mirrored.gather(1, order), shift.gather(1, order[:, :, None].expand(-1, -1, 2))
    # one candidate a group, its best: the second distance is then always to another group
    same = group[picked][:, :, None] == group[picked][:, None, :]
    repeated = torch.tril(same, diagonal=-1).any(dim=2)
    order = (rough + repeated * 1e6).argsort(dim=1, stable=True)[:, :REFINED]
    chosen, mirrored, repeated = picked.gather(1, order), mirrored.gather(1, order), repeated.gather(1, order)
    shift = shift.gather(1, order[:, :, None].expand(-1, -1, 2))

    size, kept = chosen.shape
    faces = fake[:, None].expand(-1, kept, -1, -1, -1)
    faces = torch.where(mirrored[:, :, None, None, None], faces.flip(-1), faces).flatten(0, 1)
    distance = aligned_distance(train[chosen].flatten(0, 1), faces, shift.flatten(0, 1), aspect)
    distance = distance.view(2, size, kept).masked_fill(repeated, math.inf)
    d1, best = distance.min(dim=2)
    others = distance.scatter(2, best[:, :, None], math.inf)
    d2 = others.amin(dim=2)
    ratio = torch.where(d2 > 0, d1 / d2.clamp(min=1e-12), torch.zeros_like(d1))
    ratio = torch.where(torch.isinf(d2), torch.full_like(ratio, math.nan), ratio)
    ratio = torch.where(
        d1 < IDENTICAL, torch.zeros_like(ratio), ratio
    )  # identical is a copy, whatever else is there
    ratio, sharp_or_soft = ratio.min(dim=0)  # whichever of the two comparisons gives the copy away
    row = best.gather(0, sharp_or_soft[None])[0]
    return ratio, distance[0].gather(1, row[:, None])[:, 0], chosen.gather(1, row[:, None])[:, 0]


def nearest_by_features(*, train: Tensor, fake: Tensor, groups: Tensor, chunk: int | None = None) -> Nearest:
    """The same as `nearest` in a feature space, where the moves to undo are made with the training samples.

    train: features of the training samples in each of their views (as they are, mirrored, ...), (V, N, F)
    fake: features of the fakes, (M, F)
    groups: duplicate group of each training sample, (N,) integers
    chunk: fakes at a time; default None bounds a block to 32 MB; the result does not depend on it
    Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.

    The distance to a training sample is that to its nearest view, in units of the features.
    """
    if train.ndim != 3 or len(groups) != train.shape[1] or 0 in train.shape:
        raise UsageError(
            f"train must be (V, N, F) with N groups; it is {tuple(train.shape)}, {len(groups)} groups."
        )
    views, n, width = train.shape
    known, made = checked(train.flatten(0, 1), "train"), checked(fake, "fake")
    if made.shape[1] != width:
        raise UsageError(f"train has {width} features and fake has {made.shape[1]}.")
    centre = known.mean(dim=0)
    known, made = known - centre, made - centre
    ratio, distance = torch.empty(2, len(made), dtype=torch.float64)
    index = torch.empty(len(made), dtype=torch.int64)
    for rows in row_chunks(len(made), len(known), chunk):
        near, view = squared_distances(made[rows], known).view(-1, views, n).min(dim=1)
        best = near.argmin(dim=1, keepdim=True)
        view = view.gather(1, best)[:, 0]
        best = best[:, 0]
        # once more as a difference: in |a|^2 + |b|^2 - 2ab equal points lie up to 1e-7 apart
        d1 = (made[rows] - known[view * n + best]).norm(dim=1)
        d2 = near.masked_fill(groups[None, :] == groups[best][:, None], math.inf).amin(dim=1).sqrt()
        ratio[rows] = torch.where(torch.isinf(d2), math.nan, (d1 / d2).clamp(max=1.0))
        ratio[rows] = torch.where(d1 <= SAME * known.norm(dim=1).max(), 0.0, ratio[rows])
        distance[rows], index[rows] = d1, best
    return Nearest(ratio, distance, index)


def threshold(held_out_ratio: Tensor) -> float:
    """The ratio below which a sample counts as a copy; in [0.3, 0.7].

    held_out_ratio: ratios (N,) that `nearest` gives to real samples which the generator never saw,
        against the same training samples; nan are left out

    The 1 % quantile, so that about 1 % of fresh real samples are taken for copies. Kept within [0.3,
    0.7]: below .3 noisy copies would pass (a held-out set with duplicates in train pulls it there),
    above .7 a set of very even distances would make anything a copy. With fewer than 50 held-out
    samples a 1 % quantile is a guess, and the fixed 0.5 is used.
    """
    finite = held_out_ratio.detach().to("cpu").double().flatten()
    finite = finite[torch.isfinite(finite)]
    if len(finite) < HELD_OUT_MIN:
        return DEFAULT_LIMIT
    low, high = LIMITS
    return min(high, max(low, float(finite.quantile(FALSE_ALARMS))))


def copies(ratio: Tensor, limit: float) -> Tensor:
    """Which samples count as copies: bool (N,); nan is not a copy.

    ratio: from `nearest`, (N,)
    limit: from `threshold`
    """
    return ratio < limit


def copy_share(ratio: Tensor, limit: float) -> Share:
    """How many samples count as copies, with the 95 % Wilson interval; nan ratios are not counted at all.

    ratio: from `nearest`, (N,)
    limit: from `threshold`

    Compare it with the same share of held-out real samples (about 1 %), not with 0.
    """
    known = torch.isfinite(ratio)
    return share_of(int(copies(ratio, limit)[known].sum()), int(known.sum()))


def doubles(fake: Tensor, *, real: Tensor, share: float = DOUBLE, chunk: int = 512) -> Tensor:
    """Which fakes nearly equal an EARLIER fake that is kept: bool (M,); the first of each stays False.

    fake: samples in order of preference, (M, C, *S) in [-1, 1]
    real: real samples, (N, C, *S), which set the scale; at most 1,000 of them are asked for their
        nearest neighbour
    share: nearer than this share of the typical (median) distance between a real sample and its
        nearest other one is a double; default 0.25
    chunk: fakes at a time; default 512; the result does not depend on it
    Raises UsageError for wrong shapes and NumericalError for numbers that are not finite.

    No flips or shifts are undone: a mirrored or moved sample is another sample to a recogniser.
    """
    made, known = as_grid(fake, "fake").flatten(1).cpu(), as_grid(real, "real").flatten(1).cpu()
    if fake.shape[1:] != real.shape[1:] or chunk < 1 or share < 0:
        raise UsageError(
            f"doubles needs equal shapes, chunk >= 1 and share >= 0; got {tuple(fake.shape)}, "
            f"{tuple(real.shape)}, {chunk} and {share}."
        )
    reach = share * _typical(known)
    out = torch.zeros(len(made), dtype=torch.bool)
    kept = made[:0]
    for start in range(0, len(made), chunk):
        part = made[start : start + chunk]
        hit = torch.zeros(len(part), dtype=torch.bool)
        for block in torch.split(kept, TRAIN_BLOCK):
            hit |= (_exact(part, block) <= reach).any(dim=1)
        near = _exact(part, part) <= reach
        for i in range(1, len(part)):
            # only against those that stay: a chain of small steps must not lose more than its links
            hit[i] = hit[i] | (near[i, :i] & ~hit[:i]).any()
        out[start : start + len(part)] = hit
        kept = torch.cat([kept, part[~hit]])
    return out


def _exact(left: Tensor, right: Tensor) -> Tensor:
    """Root mean square difference (N, M), in float64: near-equal samples are the point here."""
    return torch.cdist(left.double(), right.double()) / math.sqrt(left.shape[1])


def _typical(real: Tensor) -> float:
    """The median distance from a real sample to its nearest other, different one; 0 where there is none."""
    rows = torch.arange(min(len(real), TYPICAL_FROM)) * len(real) // max(1, min(len(real), TYPICAL_FROM))
    if len(real) < 2:
        return 0.0
    smallest = torch.full((len(rows),), math.inf, dtype=torch.float64)
    for block in torch.split(real, TRAIN_BLOCK):
        distance = _exact(real[rows], block)
        distance[distance < IDENTICAL] = math.inf  # itself and its duplicates
        smallest = torch.minimum(smallest, distance.amin(dim=1))
    finite = smallest[torch.isfinite(smallest)]
    return float(finite.median()) if len(finite) else 0.0
