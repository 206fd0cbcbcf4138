"""What may be done to a sample without changing what it is: found by looking, never assumed."""

from __future__ import annotations

import math

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from .dataset import Dataset

__all__ = ["harmless_flips"]

_MOST = 2_000
_LEAST = 40


def harmless_flips(data: Dataset) -> tuple[tuple[str, ...], str]:
    """The axes along which mirroring keeps the class, and the reason.

    A nearest-neighbour classifier on coarse pixels learns from the train part and is asked about the
    val part as it is and mirrored. Mirroring is harmless when its accuracy falls by no more than two
    standard errors of the difference. Needs classes and at least 40 samples in val; otherwise: never.
    """
    train, val = (_spread(data.rows(part, "real")) for part in ("train", "val"))
    y_train, y_val = data.classes(train), data.classes(val)
    if len(set(y_train)) < 2 or len(val) < _LEAST:
        return (), "too little labelled data to find out whether it changes the class"
    pooled = {"train": _coarse(data.raw, train), "val": _coarse(data.raw, val)}
    nearest = KNeighborsClassifier(1).fit(pooled["train"].reshape(len(train), -1), y_train)
    plain = nearest.predict(pooled["val"].reshape(len(val), -1)) == np.asarray(y_val)
    chance = max(y_val.count(name) for name in set(y_val)) / len(y_val)
    if plain.mean() < chance + 0.1:
        return (), "a simple recogniser cannot tell the classes apart, so this cannot be found out"
    harmless, parts = [], []
    for name, axis in (("horizontal", -1), ("vertical", -2)):
        mirrored = np.flip(pooled["val"], axis).reshape(len(val), -1)
        kept = nearest.predict(mirrored) == np.asarray(y_val)
        loss = plain.astype(float) - kept.astype(float)
        error = float(loss.std(ddof=1)) / math.sqrt(len(val))
        parts.append(f"{name} {plain.mean():.0%} to {kept.mean():.0%}")
        if loss.mean() <= 2 * error and loss.mean() < 0.02:
            harmless.append(name)
    return tuple(harmless), "accuracy of a simple recogniser on mirrored samples: " + ", ".join(parts)


def _spread(rows: np.ndarray) -> np.ndarray:
    """At most 2,000 of these rows, from all over: a folder is sorted by class, its start is one class."""
    return rows[:: max(1, -(-len(rows) // _MOST))]


def _coarse(raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of raw (N, C, H, W) or (N, C, T, H, W) -> float32 (n, C or C T, about 12, about 12) by average pooling."""
    planes, (full_h, full_w) = int(np.prod(raw.shape[1:-2])), raw.shape[-2:]
    step_h, step_w = max(1, full_h // 12), max(1, full_w // 12)
    height, width = full_h // step_h * step_h, full_w // step_w * step_w
    pooled = np.empty((len(rows), planes, height // step_h, width // step_w), np.float32)
    for i, row in enumerate(rows):
        # (C, ..., H, W) -> (C ..., H/s, s, W/s, s)
        blocks = raw[row][..., :height, :width].reshape(-1, height // step_h, step_h, width // step_w, step_w)
        pooled[i] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return pooled
