"""Files and arrays -> float32 pixels (H, W, C), with one declared policy for each oddity of a format."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from ..errors import BadSample

__all__ = [
    "FORMATS",
    "LEAST_EDGE",
    "MOST_PIXELS",
    "adapted",
    "array_pixels",
    "file_pixels",
    "look",
    "opened",
    "resized",
]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # never EPS: Pillow would run Ghostscript
MOST_PIXELS = 50_000_000
LEAST_EDGE = 4
_GRAY = {"1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F", "LA", "La"}
_WIDE = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what sets the picture upright

PIL.Image.init()  # here, once: threads that decode at the same time must not race to register the plug-ins


@contextmanager
def opened(source: bytes | BinaryIO) -> Iterator[PIL.Image.Image]:
    """A picture from a file's content: formats allow-listed, size capped.

    Whatever fails inside the block becomes BadSample. Pillow raises half a dozen types for a broken
    file (OSError, SyntaxError, ValueError, struct.error, ...): all mean the same, here and only here.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with PIL.Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise BadSample(f"is {width} x {height}: more than {MOST_PIXELS // 10**6} million pixels")
            _refuse_thin(width, height)
            yield picture
    except (BadSample, MemoryError):
        raise
    except PIL.UnidentifiedImageError:
        empty = file.seek(0, io.SEEK_END) == 0
        unknown = f"is not a picture of a known format ({', '.join(FORMATS)})"
        raise BadSample("is empty" if empty else unknown) from None
    except PIL.Image.DecompressionBombError:
        raise BadSample(f"has more than {MOST_PIXELS // 10**6} million pixels") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadSample(f"cannot be decoded: {reason}") from error


def _refuse_thin(width: int, height: int) -> None:
    if min(height, width) < LEAST_EDGE:
        raise BadSample(f"is {width} x {height} pixels; the shorter edge must be at least {LEAST_EDGE}")


def look(source: bytes | BinaryIO | np.ndarray) -> dict[str, Any]:
    """Size, mode and depth from the header alone. Raises BadSample."""
    if isinstance(source, np.ndarray):
        return _look_at_array(source)
    with opened(source) as picture:
        width, height = picture.size
        # Pillow gives the size of a TIFF as it is after turning, of the others as it is before.
        if picture.format != "TIFF" and _orientation(picture) >= 5:
            height, width = width, height
        return {
            "size": (height, width),
            "mode": picture.mode,
            "channels": (1 if picture.mode in _GRAY else 3) + _has_alpha(picture),
            "wide": picture.mode in _WIDE,
            # Pillow names the packing in the tile: 16 bits a colour there, but 8 in the mode that it gives.
            "narrowed": picture.mode not in _WIDE and _packed_wide(picture),
            # not n_frames: counting walks through the whole file
            "animated": bool(getattr(picture, "is_animated", False)),
        }


def _look_at_array(array: np.ndarray) -> dict[str, Any]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise BadSample(f"has the shape {array.shape}; (H, W) or (H, W, C) with C from 1 to 4 is known")
    height, width = array.shape[:2]
    _refuse_thin(width, height)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise BadSample("holds values that are not finite")
    if low < 0:
        raise BadSample(f"holds negative values (the smallest is {low:g}); shift them to 0 and above")
    kind = "float" if array.dtype.kind == "f" else f"{8 * array.dtype.itemsize}-bit"
    channels = 1 if array.ndim == 2 else array.shape[2]
    return {"size": (height, width), "mode": f"array {channels} x {kind}", "channels": channels, "top": high}


def _has_alpha(picture: PIL.Image.Image) -> bool:
    return picture.mode in _ALPHA or ("transparency" in picture.info and picture.mode not in _WIDE)


def _packed_wide(picture: PIL.Image.Image) -> bool:
    tiles = getattr(picture, "tile", None)
    if not tiles:
        return False
    tile = tiles[0]
    if picture.format == "PPM":
        return isinstance(tile.args, tuple) and isinstance(tile.args[-1], int) and tile.args[-1] > 255
    return ";16" in str(tile.args)


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Damaged EXIF is no reason to refuse a picture: it counts as 1."""
    told = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
    if picture.format == "PNG" and not any(name in picture.info for name in told):
        return 1  # else Pillow decodes the whole file to look for EXIF behind the pixels
    try:
        value = int(picture.getexif().get(0x0112, 1))
    except Exception:
        return 1
    return value if 1 <= value <= 8 else 1


def file_pixels(picture: PIL.Image.Image, full: int, height: int, width: int, policy: str) -> np.ndarray:
    """An opened picture -> float32 (H, W, C) in 0..full, upright, C = 1 to 4 as the picture has them.

    Pictures much larger than (height, width) come out smaller, with at least three times its pixels
    along each edge, so that no 50-million-pixel scan is ever held as floats.
    """
    if picture.format == "JPEG" and full == 255:
        longer = 3 * max(height, width)
        picture.draft(None, (longer, longer))  # JPEG can decode at a reduced size
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.mode in _WIDE:
        picture = PIL.Image.fromarray(_wide_values(picture))
        scale = float(full)
    else:
        if _has_alpha(picture):
            picture = picture.convert("LA" if picture.mode in ("L", "1", "LA", "La") else "RGBA")
        else:
            picture = picture.convert("L" if picture.mode in ("L", "1") else "RGB")
        scale = full / 255
    across, down = picture.width / width, picture.height / height
    factor = int((max(across, down) if policy == "pad" else min(across, down)) / 3)
    if factor > 1:
        picture = picture.reduce((min(factor, picture.width), min(factor, picture.height)))
    pixels = np.asarray(picture, np.float32)
    return (pixels[..., None] if pixels.ndim == 2 else pixels) * np.float32(scale)


def _wide_values(picture: PIL.Image.Image) -> np.ndarray:
    """Gray of more than 8 bits -> float32 (H, W) in 0..1. Never through Pillow's clipping convert."""
    values = np.asarray(picture, np.float32)
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F":
        if not np.isfinite(values).all() or low < 0 or high > 1:
            raise BadSample(f"holds floats from {low:g} to {high:g}; only 0 to 1 is known")
        return values
    if low < 0 or high > 65535:
        raise BadSample(f"holds integers from {low:.0f} to {high:.0f}; only 16 bits are known")
    return values / np.float32(65535)


def array_pixels(array: np.ndarray, full: int, array_high: float) -> np.ndarray:
    """An array (H, W) or (H, W, C) -> float32 (H, W, C) in 0..full. Raises BadSample."""
    _look_at_array(array)
    pixels = np.asarray(array, np.float32)
    if pixels.ndim == 2:
        pixels = pixels[..., None]  # (H, W) -> (H, W, 1)
    return pixels * np.float32(full / array_high) if array_high else pixels


def adapted(pixels: np.ndarray, channels: int, matte: int, full: int) -> np.ndarray:
    """float32 (H, W, C) of 1 to 4 channels -> (H, W, channels): alpha composited or added, colour or gray."""
    have = pixels.shape[2]
    if have == channels:
        return pixels
    has_alpha, wants_alpha = have in (2, 4), channels in (2, 4)
    colour = pixels[..., : have - has_alpha]
    alpha = pixels[..., -1:] if has_alpha else np.full((*pixels.shape[:2], 1), full, np.float32)
    if has_alpha and not wants_alpha:
        share = alpha / full
        colour = colour * share + matte * full / 255 * (1 - share)
    if colour.shape[2] == 1 and channels > 2:
        colour = np.repeat(colour, 3, 2)
    elif colour.shape[2] == 3 and channels < 3:
        colour = colour @ np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601 luma
    return np.concatenate([colour, alpha], 2) if wants_alpha else colour


def resized(pixels: np.ndarray, height: int, width: int, policy: str) -> np.ndarray:
    """float32 (H, W, C) -> (height, width, C), antialiased. Raises BadSample for a sliver."""
    have_h, have_w = pixels.shape[:2]
    if policy == "pad":
        return _padded(pixels, height, width)
    if policy == "crop":
        scale = max(height / have_h, width / have_w)
        crop_h, crop_w = min(have_h, round(height / scale)), min(have_w, round(width / scale))
        top, left = (have_h - crop_h) // 2, (have_w - crop_w) // 2
        pixels = pixels[top : top + crop_h, left : left + crop_w]
    return _scaled(pixels, height, width)


def _padded(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture inside (height, width), on its own border colour."""
    have_h, have_w = pixels.shape[:2]
    ratio = max(have_h / height, have_w / width)
    inner_h, inner_w = min(height, round(have_h / ratio)), min(width, round(have_w / ratio))
    if min(inner_h, inner_w) < 1:
        raise BadSample(f"is too narrow: at {width} x {height} pixels nothing of its shorter edge is left")
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    # Scaled first and padded then: padding a long strip first would take memory by the square of its edge.
    sheet = np.empty((height, width, pixels.shape[2]), np.float32)
    sheet[:] = np.median(border, axis=0)
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    sheet[top : top + inner_h, left : left + inner_w] = _scaled(pixels, inner_h, inner_w)
    return sheet


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = [
        np.asarray(
            PIL.Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize(
                (width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0
            )
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, 2)
