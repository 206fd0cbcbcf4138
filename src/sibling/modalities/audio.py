"""Short sounds as log-mel spectrograms: files .wav .flac .ogg .mp3, decoded to mono at one rate.

raw is uint8 (1, H, W): H mel bands from low to high, W frames of 16 ms, 0 = silence, 255 = the clip's own loudest point.
A sound that is written is found back from it by Griffin and Lim's method: nearly the same, never exactly
(`lossless`). What was measured of this, and why no complex spectrogram: LOG.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch

from ..errors import NumericalError
from . import mel, waves
from .choices import Choice, choice
from .image import Image

__all__ = ["Audio"]

BANDS = 64
MOST_RATE = 16_000  # samples a second; speech has little above 8 kHz, and time costs with every band
ARRAY_RATE = 16_000  # of arrays, which do not say
_PEAK = 0.95  # of full scale: what the loudest sample of each clip becomes
_LEAST_FRAMES = 16
_STEPS_DB = -mel.FLOOR_DB / 255  # of raw
_ANCHORS = np.array(  # dark to light, as eyes order it; low points of a spectrogram are black
    [[0, 0, 4], [40, 17, 89], [114, 31, 129], [182, 54, 121], [241, 96, 93], [254, 176, 120], [252, 253, 191]]
)


class Audio:
    """A sound modality with all its choices made.

    rate    samples a second
    bands   H, mel bands
    frames  W, frames of a quarter window (16 ms): (W - 1) * hop samples of sound
    trim    whether quiet ends are cut off before a clip is brought to its length
    suffix  ".wav" or ".flac": what is written, as it came where that is possible
    """

    name = "audio"
    suffixes = (".wav", ".flac", ".ogg", ".mp3")
    noun = "clip"
    flat = "silent"
    axes = "mel bands x frames"
    largest = 512
    dtype = np.uint8
    lossless = False

    def __init__(
        self,
        rate: int = MOST_RATE,
        bands: int = BANDS,
        frames: int = 64,
        trim: bool = True,
        suffix: str = ".wav",
    ) -> None:
        self.rate, self.bands, self.frames, self.trim, self.suffix = rate, bands, frames, trim, suffix

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, H, W)."""
        return 1, self.bands, self.frames

    @property
    def length(self) -> int:
        """Samples of one clip."""
        return (self.frames - 1) * mel.sizes(self.rate)[1]

    def to_json(self) -> dict[str, Any]:
        """All arguments."""
        return {"name": self.name, **vars(self)}

    @staticmethod
    def claims(array: np.ndarray) -> bool:
        """No array is taken for a sound unasked: it does not say its rate."""
        return False

    # ---- looking, before the shape is chosen --------------------------------------------------

    def look(self, source: bytes | BinaryIO | np.ndarray) -> dict[str, Any]:
        """Rate, channels, length, and how much of it is not silence, for which it is decoded. Raises BadSample."""
        wave = waves.opened(source)
        rate = wave.rate or ARRAY_RATE
        first, last = waves.active(wave.samples, rate)
        return {
            "size": (len(wave.samples),),
            "mode": f"{wave.kind} {wave.rate} Hz {('mono', 'stereo')[wave.channels - 1] if wave.channels < 3 else wave.channels}",
            "rate": wave.rate,
            "kind": wave.kind.split()[0],
            "seconds": round(wave.seconds if wave.rate else len(wave.samples) / rate, 4),
            "active": round((last - first) / rate, 2),
            "silent": bool(np.abs(wave.samples).max() < waves.SILENT),
        }

    @classmethod
    def choose(
        cls, looks: Sequence[dict[str, Any]], *, size: int | None, most: int
    ) -> tuple[Audio, list[Choice]]:
        """Rate, length and ends from what all clips say, with the reason of each choice.

        looks  what `look` returned for each readable clip
        size   frames of 16 ms; None = what the clips need, at most 1.5 times `most`
        most   the largest edge of a picture that is chosen unasked
        """
        choices: list[Choice] = []
        rate = _rate(looks, choices)
        hop_seconds = mel.sizes(rate)[1] / rate
        lengths = Counter(look["seconds"] for look in looks)
        (common, count) = lengths.most_common(1)[0]
        if count >= 0.8 * len(looks):
            trim, seconds, why = False, common, f"{count} of {len(looks)} clips last {common:g} s"
        else:
            trim, seconds = True, float(np.percentile([look["active"] for look in looks], 95))
            why = f"without quiet ends 19 of 20 clips last at most {seconds:.2f} s"
        needed = math.ceil((seconds / hop_seconds + 1) / 8) * 8
        frames = size or int(np.clip(needed, _LEAST_FRAMES, 3 * most // 2))
        if size:
            why += f"; asked for {size} frames of {1000 * hop_seconds:.0f} ms"
        elif needed > frames:
            why += "; the loudest stretch of longer ones is kept; more with --size"
        kind, _ = Counter(look["kind"] for look in looks).most_common(1)[0]
        made = cls(rate, BANDS, frames, trim, ".wav" if kind in ("WAV", "array") else ".flac")
        choices.append(choice("length", f"{made.length / rate:.2f} s", why))
        why = (
            "quieter than 35 dB below the loudest 10 ms"
            if trim
            else "the clips were cut to one length on purpose"
        )
        choices.append(choice("quiet ends", "cut off" if trim else "kept", why))
        choices.append(
            choice(
                "loudness",
                "left out: each clip's loudest point is 1",
                "recordings differ in it more than classes do",
            )
        )
        value = f"{BANDS} mel bands x {frames} frames of {1000 * hop_seconds:.0f} ms"
        choices.append(
            choice(
                "grid",
                value,
                "log power down to -70 dB below the loudest point; a sound is found back from it",
            )
        )
        choices.append(choice("written as", made.suffix, f"most clips are {kind}"))
        return made, choices

    # ---- bytes <-> raw -----------------------------------------------------------------------

    def wave(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or an array -> float32 (length,) at our rate, its peak at -0.4 dB. Raises BadSample."""
        read = waves.opened(source)
        samples = waves.resampled(read.samples, read.rate, self.rate)
        # A clip of exactly our length is one of ours, or was cut on purpose: it stays as it is.
        if self.trim and len(samples) != self.length:
            first, last = waves.active(samples, self.rate)
            samples = samples[first:last]
        samples = waves.cut(samples, self.length)
        peak = float(np.abs(samples).max())
        quiet = peak < waves.SILENT
        scaled: np.ndarray = np.zeros_like(samples) if quiet else samples * np.float32(_PEAK / peak)
        return scaled

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or an array (T,) or (T, channels) -> raw (1, H, W). Raises BadSample."""
        decibels = mel.log_mel(torch.from_numpy(self.wave(source))[None], self.rate, self.bands)  # (1, H, W)
        raw: np.ndarray = (
            ((decibels - mel.FLOOR_DB) / _STEPS_DB).round().clamp(0, 255).numpy().astype(np.uint8)
        )
        return raw

    def waves(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, 1, H, W) -> sounds, float32 (N, length), the peak of each at -0.4 dB; silence stays silence."""
        decibels = torch.from_numpy(raw[:, 0].astype(np.float32)) * _STEPS_DB + mel.FLOOR_DB  # (N, H, W)
        sounds = mel.waveform(decibels, self.rate, self.length)
        peak = sounds.abs().amax(1, keepdim=True)
        scaled: np.ndarray = torch.where(
            peak < waves.SILENT, 0, sounds * (_PEAK / peak.clamp(min=1e-9))
        ).numpy()
        return scaled

    def array(self, raw: np.ndarray) -> np.ndarray:
        """Raw (1, H, W) -> the sound, float32 (length,), as array formats keep it."""
        sound: np.ndarray = self.waves(raw[None])[0]
        return sound

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (1, H, W) -> the bytes of a .wav or .flac of 16 bits. Nearly, not exactly, the same raw when decoded."""
        return waves.encoded(self.array(raw), self.rate, self.suffix)

    # ---- after decoding ----------------------------------------------------------------------

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Audio, list[Choice]]:
        """Nothing is left to decide."""
        return self, []

    def convert(self, raw: np.ndarray, target: Audio) -> np.ndarray:
        """Raw of this modality is raw of what `refine` gave."""
        return raw

    # ---- raw <-> x ---------------------------------------------------------------------------

    def to_x(self, raw: np.ndarray) -> torch.Tensor:
        """Raw (N, 1, H, W) -> float32 in [-1, 1]."""
        return torch.from_numpy(raw.astype(np.float32)).mul_(2 / 255).sub_(1)

    def to_raw(self, x: torch.Tensor) -> np.ndarray:
        """float32 (N, 1, H, W) -> raw. Raises NumericalError."""
        if not torch.isfinite(x).all():
            raise NumericalError("A generated sample holds values that are not finite; nothing was written.")
        raw: np.ndarray = ((x.float().clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)
        return raw

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """Shift in time by up to 12 %, gain by up to 4 dB, and in half of the clips each a mask over up to 15 % of the
        frames and one over up to 15 % of the bands (Park et al. 2019, SpecAugment).

        x  float32 (N, 1, H, W) in [-1, 1]; strength 1 is strong, 0 changes nothing. Never mirrored: neither upside
        down nor reversed in time.
        """
        if strength <= 0:
            return x
        n, _, bands, frames = x.shape

        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(n, generator=rng) * (high - low) + low

        shift = (uniform(-1, 1) * (0.12 * strength * frames)).round().long()
        gain = uniform(-1, 1) * (4 * strength * 2 / -mel.FLOOR_DB)
        at = torch.arange(frames)[None] + shift[:, None]  # (N, W)
        inside = ((at >= 0) & (at < frames))[:, None, None]
        moved = x.gather(3, at.clamp(0, frames - 1)[:, None, None].expand_as(x))
        moved = torch.where(inside, moved, -1.0)  # silence comes in
        # Silence has no gain.
        moved = torch.where(moved > -1, (moved + gain.view(-1, 1, 1, 1)).clamp(-1, 1), moved)
        mean = moved.mean(dim=(1, 2, 3), keepdim=True)
        for size, shape in ((bands, (n, 1, bands, 1)), (frames, (n, 1, 1, frames))):
            width, start = uniform(0, 0.15 * strength) * size, uniform(0, 1) * size
            chosen = uniform(0, 1) < 0.5
            place = torch.arange(size)[None]
            hidden = (place >= start[:, None]) & (place < (start + width)[:, None]) & chosen[:, None]
            moved = torch.where(hidden.view(shape), mean, moved)
        return moved

    def fingerprints(self, raw: np.ndarray) -> list[int]:
        """A 64-bit perceptual hash of each spectrogram (N, 1, H, W), as of a picture."""
        return Image(self.bands, self.frames, 1).fingerprints(raw)

    def preview(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, 1, H, W) -> uint8 (N, H, W, 3): spectrograms, low bands at the bottom, louder is lighter."""
        level = raw[:, 0, ::-1] / 255  # (N, H, W)
        places = np.linspace(0, 1, len(_ANCHORS))
        colours = np.stack([np.interp(level, places, _ANCHORS[:, c]) for c in range(3)], -1)
        return colours.round().astype(np.uint8)

    def listen(self, raw: np.ndarray) -> tuple[np.ndarray, int]:
        """Raw (N, 1, H, W) -> (int16 (N, length), samples a second), to be heard."""
        return np.rint(self.waves(raw) * 32767).astype(np.int16), self.rate


def _rate(looks: Sequence[dict[str, Any]], choices: list[Choice]) -> int:
    """The commonest rate, at most 16 kHz."""
    rates = Counter(look["rate"] for look in looks)
    common, count = rates.most_common(1)[0]
    if common == 0:
        choices.append(choice("rate", f"{ARRAY_RATE} Hz", "arrays do not say theirs"))
        return ARRAY_RATE
    rate = int(min(common, MOST_RATE))
    why = f"{count} of {len(looks)} clips have {common}"
    if common > MOST_RATE:
        why += f"; at most {MOST_RATE}, because the work grows with it"
    if len(rates) > 1:
        why += "; all are resampled to it, in one channel"
    choices.append(choice("rate", f"{rate} Hz", why))
    return rate
