"""Pictures and sounds that a page holds in itself: sheets as PNG or GIF, clips as WAV, as data URIs."""

from __future__ import annotations

import base64
import io
import struct
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["fitting", "moving_sheet", "png", "sheet", "shrunk", "uri", "wav_uri"]

EDGES = (128, 96, 64, 48, 32, 24, 16)  # the longest side of one picture in pixels, tried in turn


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def uri(data: bytes) -> str:
    """The bytes of a PNG or GIF file as a data URI."""
    kind = "gif" if data[:4] == b"GIF8" else "png"
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def wav_uri(samples: np.ndarray, rate: int) -> str:
    """int16 (T,) -> a mono WAV file as a data URI."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)  # PCM, one channel, 16 bits
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    content = struct.pack("<4sI", b"RIFF", len(body)) + body
    return "data:audio/wav;base64," + base64.b64encode(content).decode("ascii")


def sheet(pictures: np.ndarray, columns: int, edge: int) -> bytes:
    """uint8 (n, H, W, 3) -> one PNG with the pictures in rows, none longer than `edge` pixels."""
    return png(_whole(pictures, columns, edge))


def moving_sheet(clips: np.ndarray, columns: int, edge: int, rate: float) -> bytes:
    """uint8 (n, T, H, W, 3) -> one endless GIF of the clips in rows, T frames at `rate` a second."""
    white = (255, 255, 255, 255)
    frames = []
    for t in range(clips.shape[1]):
        whole = _whole(clips[:, t], columns, edge)
        frames.append(Image.alpha_composite(Image.new("RGBA", whole.size, white), whole).convert("RGB"))
    palette = frames[len(frames) // 2].quantize(256)  # one for all: else colours flicker
    still = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    still[0].save(
        file, "GIF", save_all=True, append_images=still[1:], duration=max(20, round(1000 / rate)), loop=0
    )
    return file.getvalue()


def _whole(pictures: np.ndarray, columns: int, edge: int) -> Image.Image:
    _, height, width, _ = pictures.shape
    scale = min(1.0, edge / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gap = 1 if max(size) < 24 else 2
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGBA", (columns * (size[0] + gap) - gap, rows * (size[1] + gap) - gap))
    for i, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        if scale < 1:
            picture = picture.resize(size, Image.Resampling.BOX)
        row, column = divmod(i, columns)
        whole.paste(picture, (column * (size[0] + gap), row * (size[1] + gap)))
    return whole


def fitting(make: Callable[[int], Iterable[bytes]], budget: int) -> list[str]:
    """Sheets as data URIs, at the largest picture size whose bytes stay within a budget.

    make    (longest side of one picture) -> the sheets, one by one
    budget  bytes before base64, which adds a third; the smallest size is taken whatever it needs
    """
    for edge in EDGES:
        sheets: list[bytes] = []
        used = 0
        for one in make(edge):
            sheets.append(one)
            used += len(one)
            if used > budget and edge != EDGES[-1]:
                break
        else:
            break
    return [uri(one) for one in sheets]


def shrunk(path: Path, budget: int) -> Image.Image:
    """A PNG file, decoded, at a size whose PNG stays within a budget of bytes. Raises ValueError, OSError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=["PNG"]) as file:
                picture = file.convert("RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError("the picture is too large to be shown") from error
    picture.thumbnail((1200, 1200))
    while len(png(picture)) > budget:
        picture.thumbnail((max(1, picture.width // 2), max(1, picture.height // 2)))
    return picture
