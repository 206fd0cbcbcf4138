"""Texts as small pictures, for grids of samples. A report shows the text itself besides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

__all__ = ["drawn"]

_EDGE = 12  # pixels of a letter, and of a line
_ACROSS = 24  # symbols a line
_MOST_LINES = 6


def drawn(texts: Sequence[str], length: int) -> np.ndarray:
    """N texts -> uint8 (N, H, W, 3), black on white, broken into lines; what does not fit is left out.

    length  symbols of the longest, which sets the size

    The letters are those of DejaVu Sans, which comes with matplotlib. It has none for Chinese, Japanese and Korean:
    they are boxes here.
    """
    across = min(_ACROSS, max(8, length))
    lines = min(_MOST_LINES, -(-length // across))
    width, height = across * _EDGE * 2 // 3 + 4, lines * (_EDGE + 2) + 4
    pictures = np.empty((len(texts), height, width, 3), np.uint8)
    for i, text in enumerate(texts):
        picture = PIL.Image.new("RGB", (width, height), "white")
        draw = PIL.ImageDraw.Draw(picture)
        for number, line in enumerate(_broken(text, width - 4)[:lines]):
            draw.text((2, 1 + number * (_EDGE + 2)), line, fill="black", font=_font())
        pictures[i] = np.asarray(picture)
    return pictures


@lru_cache(maxsize=1)
def _font() -> PIL.ImageFont.FreeTypeFont:
    import matplotlib

    return PIL.ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf",
        _EDGE,
        layout_engine=PIL.ImageFont.Layout.BASIC,
    )


def _broken(text: str, width: int) -> list[str]:
    """Lines that are no wider than so many pixels."""
    lines = [""]
    for character in text:
        if character == "\n" or _font().getlength(lines[-1] + character) > width:
            lines.append("")
        if character != "\n":
            lines[-1] += character
    return lines
