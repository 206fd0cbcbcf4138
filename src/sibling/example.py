"""Real pictures to begin with: the handwritten digits that scikit-learn ships, as a folder of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import files
from .formats.folder import Folder
from .modalities.image import Image
from .types import Record

__all__ = ["example"]


def example(out: str | Path, *, per_class: int = 100, overwrite: bool = False) -> Path:
    """Write the built-in digits (8 x 8 gray, 10 classes) as class folders of PNG files.

    Args:
        out: the folder to make.
        per_class: how many of each class, 1 to 177 or so.
        overwrite: replace an earlier example at `out`.

    Source: UCI Optical Recognition of Handwritten Digits, through sklearn.datasets.load_digits.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    modality = Image(8, 8, channels=1)
    records = []
    for label in range(10):
        for number, row in enumerate(np.flatnonzero(digits.target == label)[:per_class]):
            raw = np.rint(digits.images[row] * (255 / 16)).astype(np.uint8)[None]  # (1, 8, 8)
            records.append(Record(f"{label}-{number:03d}.png", modality.encode(raw), y=str(label)))
    out = Path(out)
    with files.new_folder(out, kind="example", overwrite=overwrite) as folder:
        Folder().write(folder, records, ".png")
    return out
