"""Pictures of many samples at once."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

__all__ = ["grid"]


def grid(samples: np.ndarray, *, columns: int, edge: int = 56, gap: int = 2) -> bytes:
    """uint8 (N, H, W, 3) -> the bytes of a PNG with `columns` samples a row.

    columns  samples a row
    edge     pixels of the longer edge of a sample; smaller ones are enlarged without smoothing
    gap      pixels between samples
    """
    n, height, width, _ = samples.shape
    scale = max(1, round(edge / max(height, width)))
    samples = samples.repeat(scale, 1).repeat(scale, 2)
    height, width = height * scale, width * scale
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, sample in enumerate(samples):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = sample
    buffer = io.BytesIO()
    PIL.Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()
