"""A map of any size -> the small PNG beside its sample: the same cut and scale as the sample itself had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from . import png
from .errors import BadSample, UsageError
from .modalities import pixels
from .modalities.image import Image

__all__ = ["content_of", "fitted", "fitted_text", "how_fitted", "same_proportions"]

_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
FEW_COLOURS = 32  # at most so many are classes of a label map: a mean of two of them would be a third one


def fitted_text(source: Path | bytes | np.ndarray, modality: Any) -> str:
    """A map as the text that stands in y: base64 of a PNG of the working size. Raises BadSample, UsageError."""
    content = content_of(source)
    try:
        return png.to_text(fitted(content, modality))
    except BadSample as error:
        raise BadSample(f"has a map that {error}") from error


def content_of(source: Path | bytes | np.ndarray) -> bytes:
    """The bytes of a map, an array as a PNG. Raises BadSample."""
    if isinstance(source, np.ndarray):
        return png.to_png(source)
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise BadSample(f"has a map that cannot be read ({source.name}): {error.strerror}") from error


def same_proportions(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (H, W) are of one shape, up to the rounding of an edge to whole pixels."""
    (h, w), (high, wide) = first, second
    return abs(h - high * w / wide) <= 1 or abs(w - wide * h / high) <= 1


def how_fitted(modality: Any) -> str:
    """In a word, what becomes of a map whose proportions are not those of the samples."""
    return {"crop": "cut", "pad": "padded"}.get(modality.resize, "stretched")


def fitted(content: bytes, modality: Any) -> bytes:
    """The bytes of a picture -> a PNG of 8 bits, gray or RGB, of the modality's height and width.

    modality  how the sample itself became the working size: stretched, cut or padded
    Maps of at most 32 colours are scaled by the nearest pixel, others as pictures are.
    Raises BadSample, UsageError.
    """
    if not isinstance(modality, Image):
        raise UsageError(
            f"A map lies beside pictures; these samples are {modality.name}. Leave its column out with --label-column "
            "(label_column=)."
        )
    height, width = modality.height, modality.width
    with pixels.opened(content) as picture:
        wide = picture.mode == "F" or picture.mode.startswith("I")
        gray = wide or picture.mode in ("1", "L", "LA", "La")
        few = None if wide else _few_colours(picture, gray)
    if few is not None:
        return png.to_png(_nearest(few, height, width, modality.resize))
    raw = Image(height, width, 1 if gray else 3, resize=modality.resize, matte=0).decode(content)  # (C, H, W)
    return png.to_png(raw[0] if gray else raw.transpose(1, 2, 0))


def _few_colours(picture: PIL.Image.Image, gray: bool) -> np.ndarray | None:
    """uint8 (H, W[, 3]), upright, of a picture of at most 32 colours, black where it is transparent; None where
    there are more."""
    picture.load()
    picture = PIL.ImageOps.exif_transpose(picture)
    if picture.mode in _ALPHA or "transparency" in picture.info:  # what colour hides there is nobody's choice
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}.get(picture.mode, picture.mode)).convert(
            "RGBA"
        )
        black = PIL.Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = PIL.Image.alpha_composite(black, picture)
    picture = picture.convert("L" if gray else "RGB")
    return np.asarray(picture) if picture.getcolors(FEW_COLOURS) is not None else None


def _nearest(values: np.ndarray, height: int, width: int, policy: str) -> np.ndarray:
    """uint8 (H, W[, 3]) -> (height, width[, 3]) by the nearest pixel; the geometry is that of `pixels.resized`."""
    have_h, have_w = values.shape[:2]
    if (have_h, have_w) == (height, width):
        return values
    if policy == "crop":
        scale = max(height / have_h, width / have_w)
        crop_h, crop_w = min(have_h, round(height / scale)), min(have_w, round(width / scale))
        top, left = (have_h - crop_h) // 2, (have_w - crop_w) // 2
        values = values[top : top + crop_h, left : left + crop_w]
    if policy != "pad":
        return _picked(values, height, width)
    ratio = max(have_h / height, have_w / width)
    inner_h, inner_w = max(1, min(height, round(have_h / ratio))), max(1, min(width, round(have_w / ratio)))
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    sheet = np.empty((height, width, *values.shape[2:]), np.uint8)
    sheet[:] = colours[counts.argmax()]  # the commonest, as a median would be no class of a label map
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    sheet[top : top + inner_h, left : left + inner_w] = _picked(values, inner_h, inner_w)
    return sheet


def _picked(values: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    picked: np.ndarray = values[rows][:, columns]
    return picked
