"""Short clips: files .mp4 .webm .mov .avi .mkv and .gif that move, as a fixed number of frames at one rate.

raw is uint8 (C, T, H, W), C = 1 gray or 3 RGB. What is on the screen at the middle of each of the T steps is
taken, whatever the times of the file's own frames are. The pace is kept: a longer clip is cut around its middle, a
shorter one holds its last frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn

from ..errors import BadSample, NumericalError
from . import clips, pixels
from .choices import Choice, choice, resize_policy, working_size
from .classic import augment

__all__ = ["Video"]

MOST_FRAMES = (
    16  # that are chosen unasked: with 32 x 32 pixels as many positions as two cores learn in minutes
)
MOST_EDGE = 32
LEAST_RATE = 4.0  # frames a second; below it a motion falls apart into stills
ARRAY_RATE = 8.0  # of arrays, which do not say
STILLS = 4  # frames of a clip that a still picture of it shows
_GRAY = 6  # of 255: channels that differ by no more are the codec's rounding, not colour


class Video:
    """A clip modality with all its choices made.

    height, width  pixels of the working size
    frames         T
    rate           frames a second
    channels       1 gray, 3 RGB
    resize         how another size becomes the working size: "stretch", "crop" (centre) or "pad"
    suffix         ".mp4" or ".gif": what is written, as it came
    array_high     for array sources: the largest value, which becomes 255; 0 = as it is
    flips          axes that may be mirrored without changing what a clip is: "horizontal", "vertical"; found by
                   `read`, never assumed
    """

    name = "video"
    suffixes = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".gif")
    noun = "clip"
    axes = "frames x height x width"
    largest = 256
    dtype = np.uint8

    def __init__(
        self,
        height: int = 0,
        width: int = 0,
        frames: int = MOST_FRAMES,
        rate: float = ARRAY_RATE,
        channels: int = 3,
        resize: str = "stretch",
        suffix: str = ".mp4",
        array_high: float = 0.0,
        flips: Sequence[str] = (),
    ) -> None:
        self.height, self.width, self.frames, self.rate = height, width, frames, rate
        self.channels, self.resize, self.suffix = channels, resize, suffix
        self.array_high, self.flips = array_high, tuple(flips)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W)."""
        return self.channels, self.frames, self.height, self.width

    @property
    def lossless(self) -> bool:
        """Whether what is encoded is decoded to the same raw: a gray .gif only."""
        return self.suffix == ".gif" and self.channels == 1

    def to_json(self) -> dict[str, Any]:
        """All arguments."""
        return {"name": self.name, **vars(self), "flips": list(self.flips)}

    @staticmethod
    def claims(array: np.ndarray) -> bool:
        """Whether an array of which nothing is known is a clip: (T, H, W, C), or (T, H, W) with more than 4 columns."""
        return array.ndim == 4 or (array.ndim == 3 and array.shape[2] > 4)

    @staticmethod
    def claims_file(path: Path) -> bool:
        """Whether a file whose ending pictures have too is a clip: a .gif that moves."""
        return clips.is_moving_gif(path)

    # ---- looking, before the shape is chosen --------------------------------------------------

    def look(self, source: bytes | BinaryIO | np.ndarray) -> dict[str, Any]:
        """Size, length and codec from the header and the first frame. Raises BadSample."""
        if isinstance(source, np.ndarray):
            return _look_at_array(source)
        facts = clips.probe(source)
        return {
            "size": (facts.height, facts.width),
            "mode": facts.kind,
            "channels": 1 if facts.gray else 3,
            "frames": facts.frames,
            "seconds": round(min(facts.seconds, clips.MOST_SECONDS), 3),
            "turned": facts.rotation != 0,
            "kind": facts.kind.split()[0],
        }

    @classmethod
    def choose(
        cls, looks: Sequence[dict[str, Any]], *, size: int | None, most: int
    ) -> tuple[Video, list[Choice]]:
        """Size, length and rate from what all clips say, with the reason of each choice.

        looks  what `look` returned for each readable clip
        size   the longer edge in pixels; None = the data's own, at most 32
        most   the largest edge of a picture that is chosen unasked
        """
        choices: list[Choice] = []
        kind, count = Counter(look["kind"] for look in looks).most_common(1)[0]
        channels = max(look["channels"] for look in looks)
        suffix = ".gif" if kind == "gif" or (kind == "array" and channels == 1) else ".mp4"
        height, width = working_size(looks, size, min(most, MOST_EDGE), choices)
        if suffix == ".mp4" and (height % 2 or width % 2):
            height, width = height + height % 2, width + width % 2
            choices.append(choice("even size", f"{width} x {height}", "an .mp4 has no odd edges"))
        resize = resize_policy(looks, (height, width), choices)
        frames, rate = _length(looks, choices)
        turned = sum(look["turned"] for look in looks)
        if turned:
            choices.append(choice("turned clips", "set upright", f"{turned} files say how they were held"))
        high = _array_high(looks, choices)
        choices.append(choice("written as", suffix, f"{count} of {len(looks)} clips are {kind}"))
        return cls(height, width, frames, rate, channels, resize, suffix, high), choices

    # ---- bytes <-> raw -----------------------------------------------------------------------

    def times(self, seconds: float) -> np.ndarray:
        """(T,) the moments that are taken of a clip of this length: the middles of our steps, around its middle."""
        start = max(0.0, (seconds - self.frames / self.rate) / 2)
        if start < 0.5 / self.rate:  # one of ours, whose length was rounded when it was written
            start = 0.0
        moments: np.ndarray = start + (np.arange(self.frames) + 0.5) / self.rate
        return moments

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or an array (T, H, W[, C]) -> raw (C, T, H, W). Raises BadSample."""
        if isinstance(source, np.ndarray):
            at = np.floor(self.times(len(source) / ARRAY_RATE) * ARRAY_RATE).astype(int)
            _look_at_array(source)
            shown = [
                pixels.array_pixels(source[i], 255, self.array_high) for i in at.clip(0, len(source) - 1)
            ]
        else:
            facts = clips.probe(source)
            times = self.times(min(facts.seconds, clips.MOST_SECONDS))
            shown = clips.frames_at(source, facts, times, max(self.height, self.width))
        return np.stack([self._fit(frame) for frame in shown], 1)  # (C, T, H, W)

    def _fit(self, values: np.ndarray) -> np.ndarray:
        """float32 (H, W, C), C as the source has them -> uint8 (C, height, width)."""
        values = pixels.adapted(values, self.channels, 255, 255)
        if values.shape[:2] != (self.height, self.width):
            values = pixels.resized(values, self.height, self.width, self.resize)
        raw: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8).transpose(2, 0, 1)
        return raw

    def array(self, raw: np.ndarray) -> np.ndarray:
        """Raw (C, T, H, W) -> uint8 (T, H, W, C), as array formats keep it."""
        return np.ascontiguousarray(raw.transpose(1, 2, 3, 0))

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (C, T, H, W) -> the bytes of an .mp4 (nearly the same when decoded) or a .gif (gray: the same)."""
        write = clips.to_gif if self.suffix == ".gif" else clips.to_mp4
        return write(self.array(raw), self.rate)

    # ---- after all are decoded ---------------------------------------------------------------

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Video, list[Choice]]:
        """Gray where no clip has colour, by reading the whole store (N, C, T, H, W) once."""
        if self.channels == 1:
            return self, []
        for row in rows:
            clip = raw[row].astype(np.int16)
            if int(np.ptp(clip, axis=0).max()) > _GRAY:
                return self, []
        arguments = {key: value for key, value in self.to_json().items() if key != "name"}
        made = choice("colour", "gray", "every frame has equal red, green and blue")
        return Video(**{**arguments, "channels": 1}), [made]

    def convert(self, raw: np.ndarray, target: Video) -> np.ndarray:
        """Raw (N, C, T, H, W) of this modality -> raw of `target`, as `refine` decided."""
        if target.channels == self.channels:
            return raw
        gray: np.ndarray = np.rint(raw.mean(1, keepdims=True, dtype=np.float32)).astype(np.uint8)
        return gray

    # ---- raw <-> x ---------------------------------------------------------------------------

    def to_x(self, raw: np.ndarray) -> torch.Tensor:
        """Raw (N, C, T, H, W) -> float32 in [-1, 1]."""
        return torch.from_numpy(raw.astype(np.float32)).mul_(2 / 255).sub_(1).clamp_(-1, 1)

    def to_raw(self, x: torch.Tensor) -> np.ndarray:
        """float32 (N, C, T, H, W) -> raw. Raises NumericalError."""
        if not torch.isfinite(x).all():
            raise NumericalError("A generated sample holds values that are not finite; nothing was written.")
        raw: np.ndarray = ((x.float().clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)
        return raw

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """At 1 shifts and scales by up to 12 %, rotates by up to 12 degrees, changes brightness and contrast by up to 20 %
        and cuts out a square, the same on all frames; mirroring only where the data tolerate it.

        x  float32 (N, C, T, H, W) in [-1, 1]. Never reversed in time.
        """
        flat = x.flatten(1, 2)  # (N, C, T, H, W) -> (N, C T, H, W): a picture of many channels
        moved = augment(flat, strength, rng, flips=self.flips, colour_channels=flat.shape[1])
        return moved.reshape(x.shape)

    def fingerprints(self, raw: np.ndarray) -> list[int]:
        """A 64-bit perceptual hash of each clip (N, C, T, H, W): the signs, about their median, of the 4 x 4 x 4 lowest
        frequencies in time and space. A clip played backwards has another one."""
        gray = torch.from_numpy(raw.mean(1, keepdims=True, dtype=np.float32))  # (N, 1, T, H, W)
        small = F.adaptive_avg_pool3d(gray, (8, 16, 16))[:, 0].numpy()
        low = dctn(small, axes=(1, 2, 3))[:, :4, :4, :4].reshape(len(raw), 64)
        bits = low > np.median(low, axis=1, keepdims=True)
        return [int.from_bytes(packed.tobytes(), "big") for packed in np.packbits(bits, axis=1)]

    def animate(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, T, H, W) -> uint8 (N, T, H, W, 3), to be played at `rate`."""
        colour = np.repeat(raw, 3, 1) if raw.shape[1] == 1 else raw
        return np.ascontiguousarray(colour.transpose(0, 2, 3, 4, 1))

    def preview(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, T, H, W) -> uint8 (N, H, W', 3): a strip of up to 4 frames, the first at the left."""
        at = np.linspace(0, raw.shape[2] - 1, min(STILLS, raw.shape[2])).round().astype(int)
        shown = self.animate(raw)[:, at]  # (N, 4, H, W, 3)
        strip = np.full((len(raw), self.height, len(at) * (self.width + 1) - 1, 3), 128, np.uint8)
        for i in range(len(at)):
            strip[:, :, i * (self.width + 1) : i * (self.width + 1) + self.width] = shown[:, i]
        return strip


def _look_at_array(array: np.ndarray) -> dict[str, Any]:
    """What `look` says of an array (T, H, W) or (T, H, W, C). Raises BadSample."""
    if (
        array.ndim not in (3, 4)
        or array.dtype.kind not in "uif"
        or (array.ndim == 4 and not 1 <= array.shape[3] <= 4)
    ):
        raise BadSample(
            f"is {array.dtype} {array.shape}; a clip is (T, H, W) or (T, H, W, C) with C from 1 to 4"
        )
    if len(array) < clips.LEAST_FRAMES:
        raise BadSample(f"holds {len(array)} frames: a clip needs at least two")
    first = pixels.look(array[0] if array.ndim == 4 else array[0][..., None])
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all() or low < 0:
        raise BadSample(f"holds values from {low:g} to {high:g}; they must be finite and not below 0")
    return {
        "size": first["size"],
        "mode": first["mode"],
        "channels": 1 if first["channels"] < 3 else 3,
        "frames": len(array),
        "seconds": round(len(array) / ARRAY_RATE, 3),
        "turned": False,
        "kind": "array",
        "top": high,
        "whole": array.dtype.kind != "f",
    }


def _array_high(looks: Sequence[dict[str, Any]], choices: list[Choice]) -> float:
    """The array value that becomes 255; 0 = values stay as they are."""
    tops = [look["top"] for look in looks if "top" in look]
    whole = all(look.get("whole", True) for look in looks)
    if not tops or (max(tops) <= 255 and (whole or max(tops) > 1)):
        return 0.0
    high = 1.0 if max(tops) <= 1 else max(tops)
    choices.append(choice("range", f"0 to {high:g}", f"the largest value of all arrays is {max(tops):g}"))
    return high


def _length(looks: Sequence[dict[str, Any]], choices: list[Choice]) -> tuple[int, float]:
    """(frames, frames a second): all that a usual clip has where 16 frames can hold them."""
    lengths = [look["seconds"] for look in looks]
    common, count = Counter(lengths).most_common(1)[0]
    rates = [look["frames"] / look["seconds"] for look in looks if look["frames"]]
    own = float(np.median(rates)) if rates else ARRAY_RATE
    if count >= 0.8 * len(looks):
        seconds, why = common, f"{count} of {len(looks)} clips last {common:g} s"
    else:
        seconds = float(np.percentile(lengths, 90))
        why = f"clips last {min(lengths):g} to {max(lengths):g} s, nine of ten at most {seconds:.2f} s"
    needed = max(clips.LEAST_FRAMES, round(seconds * own))
    frames, rate = min(needed, MOST_FRAMES), own
    if needed > MOST_FRAMES:
        rate = max(frames / seconds, min(LEAST_RATE, own))
        why += f", at about {own:.3g} frames a second; at most {MOST_FRAMES} frames, because the work grows with them"
    rate = round(rate, 4)
    choices.append(choice("frames", f"{frames} at {rate:.4g} a second", why))
    window = frames / rate
    if max(lengths) > window + 1 / rate or min(lengths) < window - 1 / rate:
        value = "cut around the middle; shorter ones hold their last frame"
        choices.append(choice("longer clips", value, f"the pace is kept, and {window:.2f} s are seen"))
    if len({round(rate, 1) for rate in rates}) > 1:
        why = f"the clips have {min(rates):.3g} to {max(rates):.3g} frames a second"
        choices.append(choice("other rates", "resampled by their times", why))
    return frames, rate
