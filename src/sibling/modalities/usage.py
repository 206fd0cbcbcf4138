"""Which symbols are used alike: signs that two of them share the more, the more their neighbours are the same.

A generator that is not sure gives a blend of code words. With words that only lie far apart a blend is near to
nothing; with these signs among them it is near to the symbols that fit there: an eye stays an eye.
"""

from __future__ import annotations

import numpy as np

__all__ = ["from_text", "signs", "to_text"]

_CONTEXTS = 500  # the most frequent symbols are looked at as neighbours
_PLACES = (-2, -1, 1, 2)
_SMOOTH = 5.0  # neighbours that every symbol has besides, as all symbols have them
_AXES = 24


def signs(numbers: np.ndarray, count: int, width: int) -> np.ndarray:
    """float32 (count, width) of +1 and -1 for the symbols of texts.

    numbers  (N, T) from 0, the end, to count - 1
    width    signs of each

    Pointwise mutual information with the neighbours two to the left and two to the right, its 24 strongest axes
    (Levy and Goldberg 2014), and the side of random planes on which each symbol then lies (Charikar 2002).
    """
    table = np.full((count, 0), 0.0)
    few = min(count, _CONTEXTS)
    for place in _PLACES:
        left, right = numbers[:, : -abs(place)], numbers[:, abs(place) :]
        symbol, beside = (right, left) if place < 0 else (left, right)
        near = (beside < few) & ((symbol > 0) | (beside > 0))
        own = np.zeros((count, few))
        np.add.at(own, (symbol[near], beside[near]), 1)
        table = np.concatenate([table, own], 1)
    usual = (table.sum(0) + 1) / (table.sum() + table.shape[1])
    total = table.sum(1, keepdims=True)
    shift = np.log((table + _SMOOTH * usual) / ((total + _SMOOTH) * usual))
    left, strength, _ = np.linalg.svd(
        np.maximum(shift, 0) - np.maximum(shift, 0).mean(0), full_matrices=False
    )
    axes = left[:, :_AXES] * strength[:_AXES]
    axes *= np.sign(
        axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    )  # the sign of an axis is arbitrary
    planes = np.random.default_rng(0).normal(size=(axes.shape[1], width))
    sides = axes @ planes
    found: np.ndarray = np.where(sides > np.median(sides, 0), 1, -1).astype(np.float32)
    return found


def to_text(signs_of: np.ndarray) -> list[str]:
    """Signs (V, width) as hexadecimal numbers, for JSON."""
    return [np.packbits(row > 0).tobytes().hex() for row in signs_of]


def from_text(lines: list[str], width: int) -> np.ndarray:
    """The inverse of `to_text`."""
    if not lines:
        return np.zeros((0, width), np.float32)
    bits = np.unpackbits(np.array([list(bytes.fromhex(line)) for line in lines], np.uint8), axis=1)
    return bits[:, :width] * np.float32(2) - 1
