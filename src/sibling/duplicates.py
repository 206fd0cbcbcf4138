"""Group samples that show the same thing, so that no copy of a training sample is in the test part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

__all__ = ["group"]

MOST_BITS = 6  # of 64: a perceptual hash moves by a few bits when a picture is saved again
LEAST_CORRELATION = 0.985  # of the pixels, as a second witness: simple pictures share hashes by chance
_CHUNK = 512


def group(raw: np.ndarray, rows: np.ndarray, digests: Sequence[str], hashes: Sequence[int]) -> tuple[list[int], int, int]:
    """Give every sample the number of its group of duplicates.

    raw      (N, C, *S), possibly memory-mapped
    rows     (n,) which rows hold samples
    digests  (n,) a hash of the decoded content: equal means the same sample
    hashes   (n,) 64-bit perceptual hashes: close means nearly the same, if the pixels agree
    Returns (group number of each of the n samples, exact duplicates, near-duplicates), the last two
    counted beyond the first of each group.
    """
    parent = np.arange(len(rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    first: dict[str, int] = {}
    exact = 0
    for i, digest in enumerate(digests):
        parent[i] = first.setdefault(digest, i)
        exact += parent[i] != i
    unique = np.array([i for i in range(len(rows)) if parent[i] == i], np.int64)
    near = 0
    for a, b in _near_pairs(raw, rows, unique, np.asarray(hashes, np.uint64)):
        ra, rb = root(a), root(b)
        if ra != rb:
            parent[max(ra, rb)] = min(ra, rb)
            near += 1
    roots = [root(i) for i in range(len(rows))]
    numbers = {r: n for n, r in enumerate(dict.fromkeys(roots))}
    return [numbers[r] for r in roots], int(exact), near


def _near_pairs(raw: np.ndarray, rows: np.ndarray, unique: np.ndarray, hashes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs with close hashes and agreeing pixels.

    Two 64-bit hashes that differ in at most 6 bits agree in at least one of 7 bands, so only samples
    that share a band are compared.
    """
    found: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, MOST_BITS + 2).astype(np.uint64)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        band = (hashes[unique] >> low) & np.uint64((1 << int(high - low)) - 1)
        buckets: dict[int, list[int]] = defaultdict(list)
        for i, value in zip(unique, band, strict=True):
            buckets[int(value)].append(int(i))
        for members in buckets.values():
            if len(members) > 1:
                found.update(_close_in(np.array(members), hashes))
    return [pair for pair in sorted(found) if _alike(raw, rows, *pair)]


def _close_in(members: np.ndarray, hashes: np.ndarray) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(members), _CHUNK):
        part = members[start : start + _CHUNK]
        bits = np.bitwise_count(hashes[part][:, None] ^ hashes[members][None, :])  # (chunk, members)
        for i, j in zip(*np.nonzero(bits <= MOST_BITS), strict=True):
            if part[i] < members[j]:
                pairs.append((int(part[i]), int(members[j])))
    return pairs


def _alike(raw: np.ndarray, rows: np.ndarray, a: int, b: int) -> bool:
    x = raw[rows[a]].astype(np.float32).ravel()
    y = raw[rows[b]].astype(np.float32).ravel()
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if norm == 0:
        return bool(x @ x == y @ y)
    return float(x @ y) / norm >= LEAST_CORRELATION
