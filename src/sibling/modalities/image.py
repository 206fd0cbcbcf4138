"""Pictures of 1 to 4 channels, 8 or 16 bits, any size.

raw is uint8 or uint16 (C, H, W) with C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.
Every policy is an argument with one meaning; `choose` and `refine` set them by looking at the data,
and say why.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
import torch
from scipy.fftpack import dct

from ..errors import NumericalError, UsageError
from . import pixels
from .choices import Choice, array_range, choice, depth, resize_policy, working_size
from .classic import augment

__all__ = ["Image"]

_HASHED_EDGE = 32  # pHash looks at 32 x 32 pixels and keeps the 8 x 8 lowest frequencies


class Image:
    """An image modality with all its choices made.

    height, width  pixels of the working size
    channels       1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha
    bits           8 or 16 a channel
    resize         how another size becomes the working size: "stretch", "crop" (centre) or "pad"
                   (with the picture's own border colour)
    matte          0-255: what lies under transparent pixels when alpha is composited
    low, high      raw values that become -1 and 1; for 16 bits the range that the data use, so that
                   12-bit scans in 16-bit files are not squeezed into a corner
    array_high     for array sources: the largest value, which becomes the full range; 0 = as it is
    flips          axes that may be mirrored without changing what a sample is: "horizontal",
                   "vertical"; found by `read`, never assumed
    """

    name = "image"
    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")
    suffix = ".png"

    def __init__(
        self,
        height: int = 0,
        width: int = 0,
        channels: int = 3,
        bits: int = 8,
        resize: str = "stretch",
        matte: int = 255,
        low: int = 0,
        high: int = 0,
        array_high: float = 0.0,
        flips: Sequence[str] = (),
    ) -> None:
        self.height = height
        self.width = width
        self.channels = channels
        self.bits = bits
        self.resize = resize
        self.matte = matte
        self.low = low
        self.high = high or 2**bits - 1
        self.array_high = array_high
        self.flips = tuple(flips)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The type of raw."""
        return np.uint8 if self.bits == 8 else np.uint16

    def to_json(self) -> dict[str, Any]:
        """All arguments."""
        return {"name": self.name, **vars(self), "flips": list(self.flips)}

    def changed(self, **changes: Any) -> Image:
        """The same with some arguments changed."""
        arguments = {key: value for key, value in self.to_json().items() if key != "name"}
        return Image(**{**arguments, **changes})

    # ---- looking, before anything is decoded --------------------------------------------------

    def look(self, source: bytes | BinaryIO | np.ndarray) -> dict[str, Any]:
        """Size and mode from the header alone. Raises BadSample."""
        return pixels.look(source)

    @classmethod
    def choose(
        cls,
        looks: Sequence[dict[str, Any]],
        *,
        size: int | None,
        most: int,
    ) -> tuple[Image, list[Choice]]:
        """The working shape from what all headers say, with the reason of each choice.

        looks  what `look` returned for each readable sample
        size   the longer edge in pixels; None = the data's own, at most `most`
        most   the largest longer edge that is chosen without being asked for
        """
        choices: list[Choice] = []
        height, width = working_size(looks, size, most, choices)
        resize = resize_policy(looks, (height, width), choices)
        channels = max(look["channels"] for look in looks)
        if any(look["channels"] == 2 for look in looks) and channels == 3:
            channels = 4
        bits = depth(looks, choices)
        array_high = array_range(looks, choices)
        animated = sum(bool(look.get("animated")) for look in looks)
        if animated:
            choices.append(choice("frames", "the first", f"{animated} files hold several frames or pages"))
        return cls(height, width, channels, bits, resize, array_high=array_high), choices

    # ---- bytes <-> raw -----------------------------------------------------------------------

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or an array (H, W[, C]) -> raw (C, H, W). Raises BadSample."""
        full = 2**self.bits - 1
        if isinstance(source, np.ndarray):
            return self._fit(pixels.array_pixels(source, full, self.array_high))
        with pixels.opened(source) as picture:
            return self._fit(pixels.file_pixels(picture, full, self.height, self.width, self.resize))

    def _fit(self, values: np.ndarray) -> np.ndarray:
        """float32 (H, W, C), C as the source has them -> raw (C, height, width)."""
        full = 2**self.bits - 1
        values = pixels.adapted(values, self.channels, self.matte, full)
        has_alpha = self.channels in (2, 4)
        if has_alpha:
            colour, alpha = values[..., :-1], values[..., -1:]
            values = np.concatenate([colour * (alpha / full), alpha], 2)  # no fringes when resized
        if values.shape[:2] != (self.height, self.width):
            values = pixels.resized(values, self.height, self.width, self.resize)
        if has_alpha:
            alpha = values[..., -1:] / full
            # What lies under a transparent pixel is nobody's picture: it becomes the matte.
            colour = values[..., :-1] / np.maximum(alpha, 1 / 255)
            colour = np.where(alpha > 1 / 255, colour, self.matte * full / 255)
            values = np.concatenate([colour, values[..., -1:]], 2)
        raw = np.clip(np.rint(values), 0, full).astype(self.dtype)
        return np.ascontiguousarray(raw.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (C, H, W) -> a PNG, lossless. 16-bit colour has no PNG in Pillow: it is refused by name."""
        if raw.dtype == np.uint16 and raw.shape[0] != 1:
            raise UsageError(
                f"16-bit pictures with {raw.shape[0]} channels cannot be written as PNG; use --format npz "
                "(format='npz')."
            )
        values = raw[0] if raw.shape[0] == 1 else raw.transpose(1, 2, 0)  # (C, H, W) -> (H, W[, C])
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.ascontiguousarray(values)).save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()

    # ---- after all are decoded ---------------------------------------------------------------

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Image, list[Choice]]:
        """Drop channels that say nothing and find the range in use, by reading the whole store once.

        raw   (N, C, H, W), possibly memory-mapped
        rows  which of them hold samples
        """
        choices: list[Choice] = []
        has_alpha, full = self.channels in (2, 4), 2**self.bits - 1
        colourless, transparent, low, high = self.channels >= 3, 0, full, 0
        step = max(1, 2**22 // raw[0].size)
        for start in range(0, len(rows), step):
            part = raw[rows[start : start + step]]
            colour = part[:, : self.channels - has_alpha]
            colourless = colourless and bool((colour == colour[:, :1]).all())
            if has_alpha:
                transparent += int((part[:, -1] < full).any(axis=(1, 2)).sum())
                colour = np.where(part[:, -1:] > 0, colour, colour[:1, :1, :1, :1])  # what can be seen
            low, high = min(low, int(colour.min())), max(high, int(colour.max()))
        keep_alpha = has_alpha and transparent >= 0.5 * len(rows)
        if colourless:
            choices.append(choice("colour", "gray", "every picture has equal red, green and blue"))
        if has_alpha:
            choices.append(self._alpha_choice(keep_alpha, transparent, len(rows)))
        channels = (1 if colourless or self.channels < 3 else 3) + keep_alpha
        if self.bits == 8 or high <= low:
            return self.changed(channels=channels), choices
        choices.append(choice("range", f"{low} to {high}", "the 16-bit values that occur become -1 to 1"))
        self.low, self.high = low, high  # for `convert`
        if channels == 1:
            return self.changed(channels=1), choices
        why = f"no PNG writer holds 16 bits in {channels} channels; the range in use becomes 0 to 255"
        choices.append(choice("colour bits", "8", why))
        return self.changed(channels=channels, bits=8, low=0, high=255), choices

    def _alpha_choice(self, keep: bool, transparent: int, total: int) -> Choice:
        if not transparent:
            return choice("alpha", "dropped", "every picture is opaque")
        why = f"{transparent} of {total} pictures are transparent somewhere"
        return choice("alpha", "kept as a channel" if keep else f"composited on {self.matte}", why)

    def convert(self, raw: np.ndarray, target: Image) -> np.ndarray:
        """Raw (N, C, H, W) of this modality -> raw of `target`, as `refine` decided."""
        full = 2**self.bits - 1
        has_alpha, keeps_alpha = self.channels in (2, 4), target.channels in (2, 4)
        colour, alpha = raw[:, : self.channels - has_alpha], raw[:, -1:]
        colour = colour[:, :1] if target.channels < 3 else colour
        if has_alpha and not keeps_alpha:
            share = alpha.astype(np.float32) / full
            colour = np.rint(colour * share + self.matte * full / 255 * (1 - share)).astype(raw.dtype)
        if target.bits < self.bits:
            scaled = (colour.astype(np.float32) - self.low) * (255 / (self.high - self.low))
            colour = np.rint(scaled.clip(0, 255)).astype(np.uint8)
            alpha = np.rint(alpha / 257).astype(np.uint8)
        return np.concatenate([colour, alpha], 1) if keeps_alpha else colour

    # ---- raw <-> x ---------------------------------------------------------------------------

    def to_x(self, raw: np.ndarray) -> torch.Tensor:
        """Raw (N, C, H, W) -> float32 in [-1, 1]."""
        x = torch.from_numpy(raw.astype(np.float32))
        return x.sub_(self.low).mul_(2 / (self.high - self.low)).sub_(1).clamp_(-1, 1)

    def to_raw(self, x: torch.Tensor) -> np.ndarray:
        """float32 (N, C, H, W) -> raw. Raises NumericalError: NaN would become a silent black picture."""
        if not torch.isfinite(x).all():
            raise NumericalError("A generated sample holds values that are not finite; nothing was written.")
        values = (x.float().clamp(-1, 1) + 1) * ((self.high - self.low) / 2) + self.low
        return values.round().numpy().astype(self.dtype)

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """At 1 shifts and scales by up to 12 %, rotates by up to 12 degrees, changes brightness and contrast by up to 20 %
        and cuts out a square; mirroring only where the data tolerate it.

        x  float32 (N, C, H, W) in [-1, 1]
        """
        return augment(x, strength, rng, flips=self.flips, colour_channels=3 if self.channels >= 3 else 1)

    def fingerprint(self, raw: np.ndarray) -> int:
        """A 64-bit perceptual hash (pHash) of one raw sample; alike pictures differ in few bits."""
        return self.fingerprints(raw[None])[0]

    def fingerprints(self, raw: np.ndarray) -> list[int]:
        """The same for many raw samples (N, C, H, W) at once, bit for bit as `imagehash.phash` gives it.

        Source: ImageHash 4.3 (BSD), after hackerfactor.com/blog, "Looks Like It". One transform for all
        is several times faster than one each.
        """
        gray = raw[:, : 3 if raw.shape[1] >= 3 else 1].astype(np.float32).mean(1)  # (N, H, W)
        if self.bits == 16:  # each by its own range: 12-bit values would all be black in the full one
            gray -= gray.min(axis=(1, 2), keepdims=True)
            gray *= 255 / np.maximum(gray.max(axis=(1, 2), keepdims=True), 1)
        gray = gray.astype(np.uint8)
        edges, lanczos = (_HASHED_EDGE, _HASHED_EDGE), PIL.Image.Resampling.LANCZOS
        small = np.stack([np.asarray(PIL.Image.fromarray(sample).resize(edges, lanczos)) for sample in gray])
        low = dct(dct(small, axis=1), axis=2)[:, :8, :8].reshape(len(raw), 64)
        bits = low > np.median(low, axis=1, keepdims=True)
        return [int.from_bytes(packed.tobytes(), "big") for packed in np.packbits(bits, axis=1)]

    def preview(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, H, W) -> uint8 (N, H, W, 3); alpha over a light checkerboard."""
        x = (raw.astype(np.float32) - self.low) / (self.high - self.low)
        has_alpha = raw.shape[1] in (2, 4)
        colour = x[:, : raw.shape[1] - has_alpha]
        colour = np.repeat(colour, 3, 1) if colour.shape[1] == 1 else colour
        if has_alpha:
            alpha = raw[:, -1:].astype(np.float32) / (2**self.bits - 1)
            rows, columns = np.indices(raw.shape[2:]) // 4
            board = 0.8 + 0.2 * ((rows + columns) % 2)
            colour = colour * alpha + board * (1 - alpha)
        return (np.clip(colour, 0, 1).transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
