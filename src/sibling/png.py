"""PNG bytes and arrays, both ways, the same bytes for the same array: how a map lies in y and in files."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import PIL.Image

from .errors import BadInput

__all__ = ["from_text", "to_array", "to_png", "to_text"]


def to_png(array: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) -> the bytes of a PNG; equal red, green and blue are written as gray."""
    if array.ndim == 3 and (array == array[..., :1]).all():
        array = array[..., 0]
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(array)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def to_array(content: bytes) -> np.ndarray:
    """The bytes of a PNG of ours -> uint8 (H, W) or (H, W, 3). Raises BadInput."""
    try:
        with PIL.Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            array: np.ndarray = np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"))
            return array
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"A map is not a PNG that can be decoded ({reason}).") from error


def to_text(content: bytes) -> str:
    """Bytes as base64 text, as JSON can hold them."""
    return base64.b64encode(content).decode("ascii")


def from_text(text: str) -> bytes:
    """Base64 text -> bytes. Raises BadInput."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"A map is {text[:40]!r}, which is not base64 text ({error}).") from error
