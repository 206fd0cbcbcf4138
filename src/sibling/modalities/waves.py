"""Sound files <-> mono waveforms: decoded by soundfile, resampled by soxr, trimmed and cut by declared policies."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import BadSample, UsageError

__all__ = ["Wave", "active", "cut", "encoded", "opened", "resampled"]

MOST_SECONDS = 60  # of a file; what comes later is not looked at
LEAST_SECONDS = 0.02
SILENT = 1e-4  # of full scale: a peak below it is silence
_QUIET_DB = 35  # below the loudest 10 ms; what is quieter at both ends is no part of the sound
_LEAD, _TAIL = 0.03, 0.06  # seconds that are kept before and after it


@dataclass(frozen=True)
class Wave:
    """One sound: float32 (T,), mono, at `rate`.

    rate      samples a second; 0 for an array, which does not say
    channels  of the source, before they were averaged
    seconds   of the whole file
    kind      what soundfile calls the container and its numbers: "WAV PCM_16"
    """

    samples: np.ndarray
    rate: int
    channels: int
    seconds: float
    kind: str


def _library(name: str) -> Any:
    """soundfile or soxr. Raises UsageError where the extra is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: the package is there, its C library is not
        raise UsageError(f"Sounds need the package {name} ({error}): pip install 'sibling[audio]'") from error


@contextmanager
def _sound(source: bytes | BinaryIO) -> Iterator[Any]:
    soundfile = _library("soundfile")
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with soundfile.SoundFile(file) as sound:
            yield sound
    except (BadSample, MemoryError):
        raise
    except Exception as error:  # libsndfile has one type, what it wraps has several
        empty = file.seek(0, io.SEEK_END) == 0
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadSample("is empty" if empty else f"cannot be decoded as a sound: {reason}") from error


def opened(source: bytes | BinaryIO | np.ndarray) -> Wave:
    """A file or an array (T,) or (T, channels) -> a mono waveform, at most the first minute of it. Raises BadSample."""
    if isinstance(source, np.ndarray):
        if source.ndim not in (1, 2) or source.dtype.kind not in "uif" or 0 in source.shape:
            raise BadSample(f"is {source.dtype} {source.shape}; a sound is (T,) or (T, channels)")
        samples = source[:, None] if source.ndim == 1 else source
        samples = samples.astype(np.float32)
        if source.dtype.kind == "u":
            samples -= np.float32(2 ** (8 * source.dtype.itemsize - 1))  # unsigned sounds rest at the middle
        if source.dtype.kind in "ui":
            samples /= np.float32(2 ** (8 * source.dtype.itemsize - 1))
        return _checked(samples, 0, float(len(samples)), "array")
    with _sound(source) as sound:
        rate, kind = int(sound.samplerate), f"{sound.format} {sound.subtype}"
        seconds = max(0, sound.frames) / rate
        samples = sound.read(MOST_SECONDS * rate, dtype="float32", always_2d=True)
    return _checked(samples, rate, seconds, kind)


def _checked(samples: np.ndarray, rate: int, seconds: float, kind: str) -> Wave:
    if len(samples) < LEAST_SECONDS * rate or len(samples) == 0:
        raise BadSample(f"holds {len(samples)} samples of sound; at least {LEAST_SECONDS} seconds are needed")
    if not np.isfinite(samples).all():
        raise BadSample("holds values that are not finite")
    return Wave(samples.mean(1), rate, samples.shape[1], seconds, kind)


def resampled(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """float32 (T,) at another rate."""
    if rate in (0, target):
        return samples
    out: np.ndarray = _library("soxr").resample(samples, rate, target)
    return out.astype(np.float32)


def active(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """(first, after the last) sample of what is louder than 35 dB below the loudest 10 ms, with a little around it."""
    step = max(1, rate // 100)
    n = -(-len(samples) // step)
    padded = np.pad(samples, (0, n * step - len(samples)))
    power = np.square(padded, dtype=np.float64).reshape(n, step).mean(1)  # (T,) -> (T / 10 ms,)
    loud = np.flatnonzero(power > power.max() * 10 ** (-_QUIET_DB / 10))
    if not len(loud):
        return 0, len(samples)
    first = loud[0] * step - round(_LEAD * rate)
    last = (loud[-1] + 1) * step + round(_TAIL * rate)
    return max(0, int(first)), min(len(samples), int(last))


def cut(samples: np.ndarray, length: int) -> np.ndarray:
    """(length,): the loudest stretch of a longer sound; a shorter one, then silence. Faded in and out where cut."""
    if len(samples) > length:
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        start = int(np.argmax(energy[length:] - energy[:-length]))
        samples = samples[start : start + length].copy()
    out = np.zeros(length, np.float32)
    out[: len(samples)] = samples
    fade = min(len(samples) // 4, 80)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    if fade:
        out[:fade] *= ramp
        out[len(samples) - fade : len(samples)] *= ramp[::-1]
    return out


def encoded(samples: np.ndarray, rate: int, suffix: str) -> bytes:
    """float32 (T,) in [-1, 1] -> the bytes of a .wav or .flac of 16 bits."""
    buffer = io.BytesIO()
    kind = {".wav": "WAV", ".flac": "FLAC"}[suffix]
    _library("soundfile").write(buffer, samples, rate, format=kind, subtype="PCM_16")
    return buffer.getvalue()
