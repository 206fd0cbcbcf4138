"""The frozen split: by groups of duplicates, stratified by class, seeded."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["assign", "split_hash"]

MOST_VAL = 2_000  # more than this costs evaluation time and tells nothing new
MOST_TEST = 10_000


def assign(
    classes: Sequence[str],
    groups: Sequence[int],
    given: Sequence[str | None],
    *,
    val: float,
    test: float,
    rng: np.random.Generator,
) -> tuple[list[str], list[str]]:
    """A split for every sample, and plain sentences about how it came about.

    classes  (N,) the class of each sample: every class gets its share of each part
    groups   (N,) duplicates share a number: a group is never divided
    given    (N,) the split that the data set brings, or None
    val      share of the samples for validation, 0 to 1
    test     share of the samples for the frozen test part, 0 to 1
    """
    n = len(classes)
    notes = []
    present = {part for part in given if part}
    wanted = {"test": min(test, MOST_TEST / max(1, n)), "val": min(val, MOST_VAL / max(1, n))}
    for part in ("test", "val"):
        if part in present:
            wanted[part] = 0.0
    result = [part or "train" for part in given]
    if present:
        made = [part for part in ("test", "val") if wanted[part] > 0]
        carved = f"; {' and '.join(made)} taken from its train part" if made else ""
        own = ", ".join(sorted(present))
        notes.append(f"The data set brings its own split ({own}), which is kept{carved}.")
    free: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    home: dict[int, str] = {}
    for i in range(n):
        if result[i] == "train":
            # A group with contradicting labels goes, whole, with the class of its first member.
            free[home.setdefault(groups[i], classes[i])][groups[i]].append(i)
    thin = []
    for name in sorted(free):
        members = list(free[name].values())
        rng.shuffle(members)
        if len(members) < 3:
            thin.append(name)
            continue
        size = sum(map(len, members))
        for part, least in (("test", 3), ("val", 5)):
            if wanted[part] > 0 and len(members) >= least:
                members, chosen = _take(members, wanted[part] * size)
                for i in chosen:
                    result[i] = part
    if thin:
        shown = ", ".join(thin[:5]) + (" ..." if len(thin) > 5 else "")
        notes.append(f"{len(thin)} classes have fewer than 3 different samples, all for training: {shown}.")
    return result, notes


def _take(members: list[list[int]], target: float) -> tuple[list[list[int]], list[int]]:
    """Groups that together come closest to `target` samples from below, at least the smallest group.

    Returns (the groups that stay, the samples that were taken). A group larger than the target stays:
    taken, one group of many copies would be the whole part.
    """
    stay: list[list[int]] = []
    taken: list[int] = []
    left = len(members)
    for group in reversed(members):
        if left > 1 and len(taken) + len(group) / 2 <= target:
            taken.extend(group)
            left -= 1
        else:
            stay.append(group)
    stay.reverse()
    if not taken:
        taken = stay.pop(min(range(len(stay)), key=lambda i: len(stay[i])))
    return stay, taken


def split_hash(keys: Sequence[str], digests: Sequence[str], splits: Sequence[str]) -> str:
    """sha256 of who is in which part."""
    rows: list[tuple[Any, ...]] = sorted(zip(keys, digests, splits, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
