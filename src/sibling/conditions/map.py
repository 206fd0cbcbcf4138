"""y is a picture: a mask, a sketch, a depth map, told to the model as channels beside the sample."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import BadInput, UsageError
from ..types import Cond
from .columns import arguments, evenly, no_class, resolve

__all__ = ["PNG_TEXT", "Map"]

PNG_TEXT = "iVBORw0KGgo"  # how every PNG in base64 begins
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_MAPS = 256
_MOST_PIXELS = 64_000_000
_MOST_COLOURS = 32  # a picture with at most so many is a label map: its colours are never mixed
_MOST_INDEX = 63  # a gray map with few values, all up to this, holds class numbers and not brightness
_CACHED = 4096  # decoded maps, 8 bit; 48 MiB of RGB at 64 x 64


class Map:
    """A picture in base64 by the name of its column: {"conditioning_image": "iVBORw0KGgo..."}.

    column    the name of its column in a metadata file
    channels  M: 1 where all maps are gray, else 3 (RGB; transparent parts become black)
    top       what 8-bit value becomes 1.0: 255, or the highest class number where the maps hold those
    maps      at most 256 seen maps: what `draw` follows
    """

    name = "map"
    width = 0
    unambiguous = True
    classes: Sequence[str] = ("all",)

    def __init__(
        self,
        column: str = "conditioning_image",
        channels: int = 1,
        top: int = 255,
        maps: Sequence[str] = (),
    ) -> None:
        self.column = column
        self.columns: Sequence[str] = (column,)
        self.channels = channels
        self.top = top
        self.maps = list(maps)

    def fit(self, y: Sequence[Any]) -> Map:
        """A Map that knows these: all are decoded once, which finds damaged ones. Raises BadInput."""
        column = self.column
        if len(y) and isinstance(y[0], Mapping) and column not in y[0] and len(y[0]) == 1:
            column = next(iter(y[0]))
        texts = Map(column).texts(y)
        gray, values = True, np.zeros(256, bool)
        for text in dict.fromkeys(texts):
            pixels = np.asarray(_open(text))
            gray = gray and (pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all()))
            if gray:
                values[np.unique(pixels) if pixels.dtype == np.uint8 else 255] = True
        top = int(np.flatnonzero(values).max(initial=0))
        classes = gray and 0 < top <= _MOST_INDEX and values.sum() <= _MOST_COLOURS
        kept = [texts[i] for i in evenly(len(texts), _MOST_MAPS)]
        return Map(column, 1 if gray else 3, top if classes else 255, kept)

    def learned(self, y: Sequence[Any]) -> Map:
        """The same column, channels and scale; what is drawn is one of these maps."""
        texts = self.texts(y)
        return type(self)(
            **{**arguments(self.to_json()), "maps": [texts[i] for i in evenly(len(texts), _MOST_MAPS)]}
        )

    def texts(self, y: Sequence[Any]) -> list[str]:
        """The base64 of each y. Raises UsageError where y has none."""
        found = [row.get(self.column) if isinstance(row, Mapping) else None for row in y]
        for row, text in zip(y, found, strict=True):
            if not isinstance(text, str):
                raise UsageError(
                    f"y is {str(row)[:80]!r}; it must give a PNG in base64 by name, like {{{self.column!r}: '{PNG_TEXT}...'}}."
                )
        return [str(text) for text in found]

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """Maps float32 (N, M, H, W) in [-1, 1], resized where they differ from `spatial` (H, W).

        Label maps (at most 32 colours) take the nearest pixel; others the mean of an area, or bilinear when enlarged.
        Raises UsageError where the samples are no pictures, BadInput for a map that cannot be decoded.
        """
        if len(spatial) != 2:
            raise UsageError(
                f"A map needs samples with two spatial axes (height, width); these have {len(spatial)}. "
                "Leave the map out of y."
            )
        size = (int(spatial[0]), int(spatial[1]))
        out = np.empty((len(y), self.channels, *size), np.float32)
        for row, text in enumerate(self.texts(y)):
            pixels = _decoded(text, self.channels, size)
            top = self.top if pixels.dtype == np.uint8 else 65535
            np.multiply(pixels, np.float32(2 / top), out=out[row])
        out -= 1
        np.minimum(out, 1, out=out)  # a class number above all seen ones; `complete` refuses it unless asked
        return Cond(torch.zeros(len(y), 0), torch.from_numpy(out))

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n seen maps, uniformly."""
        return [{self.column: self.maps[i]} for i in rng.integers(len(self.maps), size=n)]

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each y the map of another sample, a different one. Raises UsageError when only one is known."""
        known = list(dict.fromkeys(self.maps))
        if len(known) < 2:
            raise UsageError("A wrong map needs at least two different maps; this data set has one.")
        where = {text: i for i, text in enumerate(known)}
        step = rng.integers(1, len(known), len(y)).tolist()
        own = [where.get(text, 0) for text in self.texts(y)]  # a map that was not kept differs from all
        return [{self.column: known[(i + s) % len(known)]} for i, s in zip(own, step, strict=True)]

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """All zeros: gray, the middle of the range."""
        return Cond(torch.zeros(n, 0), torch.zeros(n, self.channels, *spatial))

    def groups(self, y: Sequence[Any]) -> list[str]:
        """All in one group."""
        return ["all"] * len(y)

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """A seen map. Raises UsageError for another group than "all"."""
        if group != "all":
            raise no_class(group, self.classes)
        return self.draw(1, rng)[0]

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n times the given map, which need not be a seen one; drawn where none is given.

        given    {its column or "map": a PNG in base64, as bytes, or the path of a PNG file}
        outside  allow class numbers above all seen ones, which become the highest, and colours where all seen
                 maps are gray, which become gray
        Raises UsageError for an unknown column, for what is no PNG, and for a map of another kind than the seen.
        """
        found = resolve(given, self.columns, self.name)
        if not found:
            return self.draw(n, rng)
        text = _given(found[self.column], self.column)
        if not outside:
            self._refuse_unlike(text)
        return [{self.column: text} for _ in range(n)]

    def _refuse_unlike(self, text: str) -> None:
        """Raises UsageError for a map whose numbers or colours say nothing beside those of the seen maps."""
        pixels = np.asarray(_open(text))
        allow = "or allow it with --allow-outside (allow_outside=True)."
        if self.channels == 1 and pixels.ndim == 3 and (pixels != pixels[..., :1]).any():
            raise UsageError(
                f"{self.column} has colours, while all maps that were seen are gray. Give a gray PNG, {allow}"
            )
        highest = int(pixels.max())
        if self.top < 255 and highest > self.top:
            raise UsageError(
                f"{self.column} holds the number {highest}; the maps that were seen hold classes from 0 to {self.top}. "
                f"Give class numbers in that range, {allow}"
            )

    def to_json(self) -> dict[str, Any]:
        """The column, the channels and the kept maps."""
        return {
            "name": self.name, "column": self.column, "channels": self.channels, "top": self.top,
            "maps": self.maps,
        }  # fmt: skip


def _given(value: Any, column: str) -> str:
    """The base64 of a PNG that a user gave. Raises UsageError."""
    if isinstance(value, str) and value.startswith(PNG_TEXT):
        text = value
    else:
        content = value
        if isinstance(value, str | Path):
            try:
                content = Path(value).read_bytes()
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"{column} is {str(value)[:120]!r}, which is no file that can be read."
                ) from error
        if not isinstance(content, bytes) or not content.startswith(_SIGNATURE):
            raise UsageError(
                f"{column} is {str(value)[:120]!r}, which is no PNG. Give the path of a PNG file."
            )
        text = base64.b64encode(content).decode()
    try:
        _open(text)
    except BadInput as error:
        raise UsageError(f"{column}: {error}") from error
    return text


def _open(text: str) -> Image.Image:
    """A picture in mode "L", "RGB" or "I;16". Raises BadInput."""
    try:
        content = base64.b64decode(text, validate=True)
        image: Image.Image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > _MOST_PIXELS:
            raise BadInput(f"The map of {image.width} x {image.height} pixels is too large: make it smaller.")
        image.load()
    except (binascii.Error, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"The map {text[:20]!r}... cannot be decoded as a PNG: {error}. Replace it."
        ) from error
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        shown = image.convert("RGBA")
        image = Image.composite(shown, Image.new("RGBA", shown.size, (0, 0, 0, 255)), shown.getchannel("A"))
    if image.mode in ("I", "I;16", "I;16B"):  # 16 bit gray, as depth is kept
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


@lru_cache(maxsize=_CACHED)
def _decoded(text: str, channels: int, size: tuple[int, int]) -> np.ndarray:
    """One map, uint8 or (16 bit gray) uint16 (channels, H, W). Raises BadInput."""
    image = _open(text)
    if image.mode == "I;16" and channels == 3:
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode != "I;16":
        image = image.convert("L" if channels == 1 else "RGB")
    if (image.height, image.width) != size:
        image = _resized(image, size)
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    pixels = np.ascontiguousarray(pixels)
    pixels.setflags(write=False)  # it is shared by all who ask
    return pixels


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if image.mode == "I;16":
        few = len(np.unique(np.asarray(image))) <= _MOST_COLOURS
    else:
        few = image.getcolors(_MOST_COLOURS) is not None
    if few:
        return image.resize((width, height), Image.Resampling.NEAREST)
    smaller = height <= image.height and width <= image.width
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    if image.mode != "I;16":
        return image.resize((width, height), how)
    floats = Image.fromarray(np.asarray(image).astype(np.float32)).resize((width, height), how)
    return Image.fromarray(np.asarray(floats).round().clip(0, 65535).astype(np.uint16))
