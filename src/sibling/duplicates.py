"""Group samples that show the same thing, so that no copy of a training sample is in the test part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

__all__ = ["LEAST_CORRELATION", "MOST_BITS", "group", "rows_at_a_time"]

MOST_BITS = 6  # of 64: a perceptual hash moves by a few bits when a picture is saved again
LEAST_CORRELATION = 0.985  # of the pixels, as a second witness: simple pictures share hashes by chance
_SAME_SHADE = 0.02  # of the full range: two samples of one colour have no correlation to look at
_SKETCH = 64  # numbers a sample
Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]
_CELLS = 4_000_000  # numbers in memory at a time
_PAIRS = 4_096  # whose sketches are compared at a time


def group(
    raw: np.ndarray,
    rows: np.ndarray,
    digests: Sequence[str],
    hashes: Sequence[int],
    alike: Alike | None = None,
) -> tuple[list[int], int, int]:
    """Give every sample the number of its group of duplicates.

    raw      (N, C, *S), possibly memory-mapped
    rows     (n,) which rows hold samples
    digests  (n,) a hash of the decoded content: equal means the same sample
    hashes   (n,) 64-bit perceptual hashes: close means nearly the same, if the pixels agree
    alike    what says so of two stacks of samples (n, C, *S), where it is not the correlation
    Returns (group number of each of the n samples, exact duplicates, near-duplicates), the last two
    counted beyond the first of each group.
    """
    if len(rows) == 0:
        return [], 0, 0
    first: dict[str, int] = {}
    roots = np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], np.int64)
    unique = np.flatnonzero(roots == np.arange(len(rows)))
    near = _join_near(raw, rows, unique, np.asarray(hashes, np.uint64), roots, alike)
    names = [int(roots[root]) for root in roots]  # a copy points to its first, and that to its group
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names], len(rows) - len(unique), near


def rows_at_a_time(shape: Sequence[int]) -> int:
    """How many samples of a shape are held as floats at once, whatever their size: some 16 MB of them."""
    return max(1, _CELLS // math.prod(shape))


def _join_near(
    raw: np.ndarray,
    rows: np.ndarray,
    unique: np.ndarray,
    hashes: np.ndarray,
    roots: np.ndarray,
    alike: Alike | None,
) -> int:
    """Give near-duplicates among `unique` one root, in place; returns how many lost their own.

    A pair must pass three tests, the cheap ones first: the hashes, a sketch of 64 numbers, the pixels.
    The sketch is an orthogonal projection of the standardised sample, so its distance is never larger
    than that of the samples: it refuses no pair that the pixels would accept.
    """
    sketches = np.zeros((len(roots), min(_SKETCH, raw[0].size)), np.float32)
    step = rows_at_a_time(raw.shape[1:])
    for start in range(0, len(unique), step):
        part = unique[start : start + step]
        sketches[part] = _sketch(raw[rows[part]])
    # |a - b|^2 = 2 - 2 correlation for standardised a, b; a little slack for float32
    limit = np.float32(2 - 2 * LEAST_CORRELATION + 1e-4)
    near = 0
    members: dict[int, list[int]] = {}  # of groups of more than one
    for a, b in _close_hashes(unique, hashes):
        while len(a):
            apart = roots[a] != roots[b]
            a, b = a[apart], b[apart]
            some_a, some_b, a, b = a[:_PAIRS], b[:_PAIRS], a[_PAIRS:], b[_PAIRS:]
            if alike is None:
                close = np.square(sketches[some_a] - sketches[some_b]).sum(1) <= limit
                some_a, some_b = some_a[close], some_b[close]
                same = _alike(raw, rows[some_a], rows[some_b])
            else:
                same = alike(raw[rows[some_a]], raw[rows[some_b]])
            for i, j in zip(some_a[same], some_b[same], strict=True):
                near += _join(roots, members, int(i), int(j))
    return near


def _join(roots: np.ndarray, members: dict[int, list[int]], i: int, j: int) -> bool:
    """Bring two groups together, the smaller into the larger; False when they are one already."""
    small, large = sorted((int(roots[i]), int(roots[j])), key=lambda root: len(members.get(root, (root,))))
    if small == large:
        return False
    moved = members.pop(small, [small])
    roots[moved] = large
    members.setdefault(large, [large]).extend(moved)
    return True


def _close_hashes(unique: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of samples whose hashes differ in at most 6 bits, in portions: two arrays of numbers.

    Two 64-bit hashes that differ in at most 6 bits agree in at least one of 7 bands (pigeonhole), so
    only samples that share a band are compared.
    """
    edges = np.linspace(0, 64, MOST_BITS + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        band = (hashes[unique] >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        for members in np.split(unique[order], np.flatnonzero(np.diff(band[order])) + 1):
            step = max(1, _CELLS // len(members))
            for start in range(0, len(members), step):
                part, rest = members[start : start + step], members[start:]
                bits = np.bitwise_count(hashes[part][:, None] ^ hashes[rest][None, :])  # (part, rest)
                i, j = np.nonzero(bits <= MOST_BITS)
                later = j > i
                yield part[i[later]], rest[j[later]]


def _standardised(raw: np.ndarray) -> np.ndarray:
    """Raw (N, C, *S) -> float32 (N, C prod(S)), each of mean 0 and length 1; all 0 for one colour."""
    x = raw.reshape(len(raw), -1).astype(np.float32)
    x -= x.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    x /= np.where(length > 0, length, 1)
    return x


def _sketch(raw: np.ndarray) -> np.ndarray:
    """Raw (N, C, *S) -> float32 (N, up to 64): sums of neighbouring values over the root of their count,
    which makes it an orthogonal projection."""
    x = _standardised(raw)
    starts = np.unique(np.arange(_SKETCH) * x.shape[1] // _SKETCH)
    counts = np.diff(np.append(starts, x.shape[1]))
    sums: np.ndarray = np.add.reduceat(x, starts, axis=1) / np.sqrt(counts, dtype=np.float32)
    return sums


def _alike(raw: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) whether rows a and b of raw agree: by correlation, or by the shade where both have one colour."""
    agree = np.zeros(len(a), bool)
    step = rows_at_a_time(raw.shape[1:])
    for start in range(0, len(a), step):
        x, y = raw[a[start : start + step]], raw[b[start : start + step]]
        p, q = _standardised(x), _standardised(y)
        flat = ~p.any(axis=1) & ~q.any(axis=1)
        whole = tuple(range(1, x.ndim))
        shades = np.abs(x.mean(axis=whole) - y.mean(axis=whole)) / np.iinfo(raw.dtype).max
        correlation = np.einsum("nf,nf->n", p, q)
        agree[start : start + step] = np.where(flat, shades <= _SAME_SHADE, correlation >= LEAST_CORRELATION)
    return agree
