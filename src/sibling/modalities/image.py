"""Pictures of 1 to 4 channels, 8 or 16 bits, any size.

raw is uint8 or uint16 (C, H, W) with C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.
Every policy is an argument with one meaning; `choose` and `refine` set them by looking at the data,
and say why.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any, Literal, cast

import imagehash
import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from ..errors import BadSample, NumericalError, UsageError
from .classic import augment

__all__ = ["Image"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # never EPS: Pillow would run Ghostscript
MOST_PIXELS = 50_000_000
LEAST_EDGE = 4
_GRAY = {"1", "L", "I", "I;16", "I;16B", "I;16L", "F"}
_WIDE = {"I", "I;16", "I;16B", "I;16L", "F"}

Choice = dict[str, str]


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

    def look(self, source: bytes | np.ndarray) -> dict[str, Any]:
        """Size and mode from the header alone. Raises BadSample."""
        if isinstance(source, np.ndarray):
            height, width = source.shape[:2]
            channels = 1 if source.ndim == 2 else source.shape[2]
            top = float(source.max()) if source.size else 0.0
            kind = "float" if source.dtype.kind == "f" else f"{8 * source.dtype.itemsize}-bit"
            return {"size": (height, width), "mode": f"array {channels} x {kind}", "channels": channels, "top": top}
        with _opened(source) as picture:
            width, height = picture.size
            if picture.format in ("JPEG", "TIFF", "WEBP", "PNG") and picture.getexif().get(0x0112, 1) >= 5:
                height, width = width, height
            alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
            colour = picture.mode not in _GRAY and picture.mode not in ("LA", "La")
            return {
                "size": (height, width),
                "mode": picture.mode,
                "channels": (3 if colour else 1) + alpha,
                "wide": picture.mode in _WIDE,
                "frames": int(getattr(picture, "n_frames", 1)),
            }

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
        height, width = _working_size(looks, size, most, choices)
        resize = _resize_policy([look["size"] for look in looks], (height, width), choices)
        channels = max(look["channels"] for look in looks)
        if any(look["channels"] == 2 for look in looks) and channels == 3:
            channels = 4
        wide = any(look.get("wide") for look in looks)
        tops = [look["top"] for look in looks if "top" in look]
        array_high = _array_high(looks, max(tops)) if tops else 0.0
        bits = 16 if wide or (tops and 255 < max(tops) and _is_integer(looks)) else 8
        if wide:
            choices.append(_choice("bits", "16", "some files hold 16 bits; 8-bit ones are scaled up, nothing is clipped"))
        animated = sum(look.get("frames", 1) > 1 for look in looks)
        if animated:
            choices.append(_choice("frames", "the first", f"{animated} files hold several frames or pages"))
        return cls(height, width, channels, bits, resize, array_high=array_high), choices

    # ---- bytes <-> raw -----------------------------------------------------------------------

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or an array (H, W[, C]) -> raw (C, H, W). Raises BadSample."""
        try:
            if isinstance(source, np.ndarray):
                return self._fit(self._from_array(source))
            with _opened(source) as picture:
                return self._fit(self._from_picture(picture))
        except BadSample:
            raise
        # Pillow raises half a dozen types for a broken file (OSError, SyntaxError, ValueError,
        # struct.error, ...): all of them mean the same here, and here only.
        except Exception as error:
            raise BadSample(f"cannot be decoded: {str(error) or type(error).__name__}") from error

    def _from_picture(self, picture: PIL.Image.Image) -> np.ndarray:
        """float32 (H, W, C) in the full range of `bits`, orientation applied."""
        if picture.format == "JPEG" and self.bits == 8:
            longer = 2 * max(self.height, self.width)
            picture.draft(None, (longer, longer))  # type: ignore[arg-type]  # decodes large JPEGs at a reduced size
        picture.load()
        picture = PIL.ImageOps.exif_transpose(picture)
        full = 2**self.bits - 1
        if picture.mode in _WIDE:
            values = _wide_values(picture)  # (H, W) in 0..1
            pixels = np.repeat(values[..., None] * full, 3 if self.channels > 2 else 1, axis=2)
            opaque = np.full((*values.shape, 1), full, np.float32)
            return np.concatenate([pixels, opaque], 2) if self.channels in (2, 4) else pixels
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[self.channels]
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
        elif "transparency" in picture.info:
            picture = picture.convert("RGBA")
        pixels = np.asarray(picture.convert(mode), np.float32)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        return pixels * (full / 255)

    def _from_array(self, array: np.ndarray) -> np.ndarray:
        pixels = np.asarray(array, np.float32)
        if not np.isfinite(pixels).all():
            raise BadSample("holds values that are not finite")
        if pixels.min() < 0:
            raise BadSample(f"holds negative values (the smallest is {pixels.min():g})")
        if pixels.ndim == 2:
            pixels = pixels[..., None]  # (H, W) -> (H, W, 1)
        if pixels.ndim != 3 or pixels.shape[2] > 4:
            raise BadSample(f"has the shape {array.shape}; (H, W) or (H, W, C) with C up to 4 is known")
        have = pixels.shape[2]
        full = 2**self.bits - 1
        if self.array_high:
            pixels = pixels * (full / self.array_high)
        if have < self.channels:
            alpha = pixels[..., -1:] if have == 2 else np.full((*pixels.shape[:2], 1), full, np.float32)
            colour = np.repeat(pixels[..., :1], 3, 2) if have < 3 and self.channels > 2 else pixels[..., :3]
            pixels = np.concatenate([colour, alpha], 2)[..., : self.channels]
        return pixels

    def _fit(self, pixels: np.ndarray) -> np.ndarray:
        """float32 (H, W, C) -> raw (C, height, width)."""
        height, width = pixels.shape[:2]
        if min(height, width) < LEAST_EDGE:
            raise BadSample(f"is {width} x {height} pixels; the shorter edge must be at least {LEAST_EDGE}")
        full = 2**self.bits - 1
        if self.channels in (2, 4):
            alpha = pixels[..., -1:] / full
            pixels = np.concatenate([pixels[..., :-1] * alpha, pixels[..., -1:]], 2)  # no fringes when resized
        if (height, width) != (self.height, self.width):
            pixels = _resized(pixels, self.height, self.width, self.resize)
        if self.channels in (2, 4):
            alpha = pixels[..., -1:] / full
            # What lies under a transparent pixel is nobody's picture: it becomes the matte.
            colour = np.where(alpha > 1 / 255, pixels[..., :-1] / np.maximum(alpha, 1 / 255), self.matte * full / 255)
            pixels = np.concatenate([colour, pixels[..., -1:]], 2)
        raw = np.clip(np.rint(pixels), 0, full).astype(self.dtype)
        return np.ascontiguousarray(raw.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (C, H, W) -> a PNG, lossless. 16-bit colour has no PNG in Pillow: it is refused by name."""
        pixels = raw.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        if raw.dtype == np.uint16:
            if raw.shape[0] != 1:
                raise UsageError(f"16-bit pictures with {raw.shape[0]} channels cannot be written as PNG; use --format npz.")
            picture = PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        else:
            picture = PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if raw.shape[0] == 1 else pixels))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()

    # ---- after all are decoded ---------------------------------------------------------------

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Image, list[Choice]]:
        """Drop channels that say nothing and find the range in use, by reading the whole store once.

        raw   (N, C, H, W), possibly memory-mapped
        rows  which of them hold samples
        """
        choices: list[Choice] = []
        gray = colourless = self.channels >= 3
        opaque = has_alpha = self.channels in (2, 4)
        transparent, low, high = 0, 2**self.bits - 1, 0
        for start in range(0, len(rows), 1024):
            part = raw[rows[start : start + 1024]]
            colour = part[:, : self.channels - has_alpha]
            low, high = min(low, int(colour.min())), max(high, int(colour.max()))
            colourless = colourless and bool((colour == colour[:, :1]).all())
            if has_alpha:
                transparent += int((part[:, -1] < 2**self.bits - 1).any(axis=(1, 2)).sum())
        opaque = has_alpha and transparent == 0
        keep_alpha = has_alpha and transparent >= 0.5 * len(rows)
        if gray and colourless:
            choices.append(_choice("colour", "gray", "every picture has equal red, green and blue"))
        if opaque:
            choices.append(_choice("alpha", "dropped", "every picture is opaque"))
        elif keep_alpha:
            choices.append(_choice("alpha", "kept as a channel", f"{transparent} of {len(rows)} pictures are transparent somewhere"))
        elif has_alpha:
            choices.append(_choice("alpha", f"composited on {self.matte}", f"only {transparent} of {len(rows)} pictures are transparent somewhere"))
        channels = (1 if colourless or self.channels < 3 else 3) + keep_alpha
        window = {}
        if self.bits == 16 and high > low:
            window = {"low": low, "high": high}
            choices.append(_choice("range", f"{low} to {high}", "the 16-bit values that occur become -1 to 1"))
        return self.changed(channels=channels, **window), choices

    def convert(self, raw: np.ndarray, target: Image) -> np.ndarray:
        """Raw (N, C, H, W) of this modality -> raw of `target`, as `refine` decided."""
        full = 2**self.bits - 1
        has_alpha, keeps_alpha = self.channels in (2, 4), target.channels in (2, 4)
        colour = raw[:, : self.channels - has_alpha]
        if has_alpha and not keeps_alpha:
            alpha = raw[:, -1:].astype(np.float32) / full
            colour = np.rint(colour * alpha + self.matte * full / 255 * (1 - alpha)).astype(raw.dtype)
        colour = colour[:, :1] if target.channels < 3 else colour
        return np.concatenate([colour, raw[:, -1:]], 1) if keeps_alpha else colour

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
        return cast(np.ndarray, values.round().numpy().astype(self.dtype))

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """Flips that are harmless, shift, scale, rotation, brightness, contrast, cutout (N, C, H, W)."""
        return augment(x, strength, rng, flips=self.flips, colour_channels=3 if self.channels >= 3 else 1)

    def fingerprint(self, raw: np.ndarray) -> int:
        """A 64-bit perceptual hash (pHash) of one raw sample; alike pictures differ in few bits."""
        gray = raw[: 3 if raw.shape[0] >= 3 else 1].astype(np.float32).mean(0)
        scaled = (gray - self.low) * (255 / max(1, self.high - self.low))
        hashed = imagehash.phash(PIL.Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8)))
        return int(str(hashed), 16)

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


def _choice(name: str, value: str, why: str) -> Choice:
    return {"name": name, "value": value, "why": why}


class _opened:
    """Open a picture from bytes: formats allow-listed, size capped, warnings are errors."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> PIL.Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
                warnings.simplefilter("ignore", UserWarning)  # damaged EXIF is no reason to refuse a picture
                picture = PIL.Image.open(io.BytesIO(self.data), formats=FORMATS)
        except PIL.UnidentifiedImageError:
            raise BadSample("is empty" if not self.data else "is not a picture of a known format") from None
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
            raise BadSample(f"has more than {MOST_PIXELS // 10**6} million pixels") from None
        except Exception as error:
            raise BadSample(f"cannot be opened: {error}") from error
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise BadSample(f"is {width} x {height}: more than {MOST_PIXELS // 10**6} million pixels")
        self.picture = picture
        return picture

    def __exit__(self, *_: object) -> Literal[False]:
        self.picture.close()
        return False


def _wide_values(picture: PIL.Image.Image) -> np.ndarray:
    """Gray pictures of more than 8 bits -> float32 (H, W) in 0..1. Never through Pillow's clipping convert."""
    values = np.asarray(picture, np.float32)
    if picture.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise BadSample(f"holds floats from {values.min():g} to {values.max():g}; only 0 to 1 is known")
        return values
    if values.min() < 0 or values.max() > 65535:
        raise BadSample(f"holds integers from {values.min():.0f} to {values.max():.0f}; only 16 bits are known")
    return values / 65535


def _resized(pixels: np.ndarray, height: int, width: int, policy: str) -> np.ndarray:
    """float32 (H, W, C) -> (height, width, C), antialiased."""
    have_h, have_w = pixels.shape[:2]
    if policy == "crop":
        scale = max(height / have_h, width / have_w)
        crop_h, crop_w = min(have_h, round(height / scale)), min(have_w, round(width / scale))
        top, left = (have_h - crop_h) // 2, (have_w - crop_w) // 2
        pixels = pixels[top : top + crop_h, left : left + crop_w]
    elif policy == "pad":
        ratio = max(have_h / height, have_w / width)
        pad_h, pad_w = max(have_h, round(ratio * height)), max(have_w, round(ratio * width))
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        padded = np.empty((pad_h, pad_w, pixels.shape[2]), np.float32)
        padded[:] = np.median(border, axis=0)
        top, left = (pad_h - have_h) // 2, (pad_w - have_w) // 2
        padded[top : top + have_h, left : left + have_w] = pixels
        pixels = padded
    planes = [
        np.asarray(
            PIL.Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize(
                (width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0
            )
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, 2)


def _working_size(
    looks: Sequence[dict[str, Any]], size: int | None, most: int, choices: list[Choice]
) -> tuple[int, int]:
    sizes = Counter(look["size"] for look in looks)
    (common, count) = sizes.most_common(1)[0]
    if count >= 0.8 * len(looks):
        height, width = common
        why = f"{count} of {len(looks)} pictures have {common[1]} x {common[0]} pixels"
    else:
        ratio = math.exp(median(math.log(w / h) for h, w in (look["size"] for look in looks)))
        ratio = 1.0 if 0.87 < ratio < 1.15 else ratio
        longer = median(max(look["size"]) for look in looks)
        height, width = (round(longer / ratio), round(longer)) if ratio > 1 else (round(longer), round(longer * ratio))
        why = f"{len(sizes)} sizes, the median longer edge is {longer:.0f} pixels, the median aspect {ratio:.2f}"
    longer_edge = max(height, width)
    wanted = size if size is not None else min(longer_edge, most)
    if size is not None and size > longer_edge:
        why += f"; asked for {size}, which enlarges most of them"
    elif size is not None:
        why += f"; asked for a longer edge of {size}"
    elif longer_edge > most:
        why += f"; at most {most} without --size, because training time grows with the area"
    if wanted != longer_edge:
        scale = wanted / longer_edge
        height, width = (max(LEAST_EDGE, round(edge * scale / 4) * 4) for edge in (height, width))
    choices.append(_choice("working size", f"{width} x {height}", why))
    return height, width


def _resize_policy(sizes: Sequence[tuple[int, int]], target: tuple[int, int], choices: list[Choice]) -> str:
    aspect = target[1] / target[0]
    spread = sorted(abs(math.log((w / h) / aspect)) for h, w in sizes)
    if spread[-1] < 0.03:
        return "stretch"
    share = sum(s < 0.3 for s in spread) / len(spread)
    policy = "crop" if share >= 0.9 else "pad"
    why = f"{share:.0%} of the pictures have about the working aspect"
    choices.append(_choice("other aspects", {"crop": "cropped to the centre", "pad": "padded with their border colour"}[policy], why))
    return policy


def _is_integer(looks: Sequence[dict[str, Any]]) -> bool:
    return not any("float" in look["mode"] for look in looks)


def _array_high(looks: Sequence[dict[str, Any]], top: float) -> float:
    """The array value that becomes full range: 255 stays as it is, 16 (scikit-learn's digits) is scaled."""
    if _is_integer(looks) and 128 <= top <= 255:
        return 0.0
    if _is_integer(looks) and top > 255:
        return 65535.0
    return 1.0 if top <= 1 and not _is_integer(looks) else max(top, 1e-12)
