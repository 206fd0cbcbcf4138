"""Convolutions that were never trained: they see noise, blur and missing classes, and nobody's labels.

Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", use such features
beside those of a trained network.
"""

from __future__ import annotations

import numpy as np

from ..dataset import Dataset
from ..metrics.features import RandomFeatures

__all__ = ["build"]


def build(data: Dataset, rows: np.ndarray, seed: int) -> RandomFeatures:
    """The random convolutions for samples of this shape.

    rows, seed  change nothing: with the same weights in every evaluation their numbers can be compared
    """
    return RandomFeatures(data.shape)
