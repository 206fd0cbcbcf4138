"""Waveforms <-> log-mel spectrograms in torch, both ways.

The way back is Griffin and Lim's (1984) with the momentum of Perraudin, Balazs and Sondergaard (2013), "A fast
Griffin-Lim algorithm", from a magnitude that non-negative least squares finds for the mel bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

__all__ = ["FLOOR_DB", "log_mel", "sizes", "waveform"]

FLOOR_DB = -70.0  # below the loudest point of a sound: what is quieter counts as silence
_LEAST = 1e-12  # power of nothing
_ROUNDS = 16  # of Griffin-Lim
_MOMENTUM = 0.99
_UPDATES = 30  # multiplicative ones, of the least squares


def sizes(rate: int) -> tuple[int, int]:
    """(window, hop) in samples: 64 ms and a quarter of it, of which the window is a power of two."""
    window = 2 ** round(math.log2(0.064 * rate))
    return window, window // 4


@lru_cache(maxsize=8)
def _bank(rate: int, bands: int) -> torch.Tensor:
    """Triangles on the mel scale of Slaney (1998), each of area 1 in Hz: float32 (bands, window / 2 + 1)."""
    window, _ = sizes(rate)
    edges = _hz(torch.linspace(0, float(_mel(torch.tensor(rate / 2))), bands + 2, dtype=torch.float64))
    hertz = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    bank = torch.minimum(rising, falling).clamp(min=0)
    # The lowest bands are narrower than a bin and may hold none: each then takes the nearest one.
    nearest = (hertz[None] - middle).abs().argmin(1)
    lonely = bank.sum(1) < 0.5
    bank[lonely, nearest[lonely]] = 1.0
    return (bank / bank.sum(1, keepdim=True)).float()


def _mel(hertz: torch.Tensor) -> torch.Tensor:
    """Linear below 1 kHz (15 mel), logarithmic above: 27 steps for a factor of 6.4."""
    return torch.where(
        hertz < 1000, hertz * 3 / 200, 15 + 27 * torch.log(hertz.clamp(min=1) / 1000) / math.log(6.4)
    )


def _hz(mel: torch.Tensor) -> torch.Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def _stft(wave: torch.Tensor, rate: int) -> torch.Tensor:
    """float32 (N, T) -> complex (N, window / 2 + 1, frames); a sine of full scale has the magnitude 1."""
    window, hop = sizes(rate)
    shape = torch.hann_window(window)
    return torch.stft(wave, window, hop, window=shape, return_complex=True) * (2 / shape.sum())


def _istft(spectrum: torch.Tensor, rate: int, length: int) -> torch.Tensor:
    window, hop = sizes(rate)
    shape = torch.hann_window(window)
    return torch.istft(spectrum * (shape.sum() / 2), window, hop, window=shape, length=length)


def log_mel(wave: torch.Tensor, rate: int, bands: int) -> torch.Tensor:
    """float32 (N, T) -> power in dB below the loudest point of each, (N, bands, 1 + T / hop), at least -70.

    So it says nothing of the volume, and a sound that was found back has the same spectrogram at any volume.
    """
    power = _bank(rate, bands) @ _stft(wave, rate).abs().square()
    loudest = power.amax(dim=(1, 2), keepdim=True)
    decibels = 10 * torch.log10(power.clamp(min=_LEAST) / loudest.clamp(min=_LEAST))
    return torch.where(loudest > _LEAST, decibels.clamp(min=FLOOR_DB), FLOOR_DB)


def waveform(decibels: torch.Tensor, rate: int, length: int, *, rounds: int = _ROUNDS) -> torch.Tensor:
    """The inverse of `log_mel`, nearly: (N, bands, frames) -> float32 (N, length). The same input gives the same bits.

    rounds  of Griffin-Lim; more are slower and a little better
    """
    power = torch.where(decibels <= FLOOR_DB + 0.5, 0.0, 10 ** (decibels / 10))  # the floor is silence
    magnitude = _unmel(power, rate).sqrt()
    # Phases that a fixed generator draws: zero phases make a click of every frame.
    rng = torch.Generator().manual_seed(0)
    phase = torch.rand(1, *magnitude.shape[1:], generator=rng) * (2 * math.pi)
    angles = torch.polar(torch.ones_like(phase), phase).expand_as(magnitude)
    before = torch.zeros_like(angles)
    for _ in range(rounds):
        rebuilt = _stft(_istft(magnitude * angles, rate, length), rate)
        angles = rebuilt + _MOMENTUM * (rebuilt - before)
        before = rebuilt
        angles = angles / angles.abs().clamp(min=1e-12)
    return _istft(magnitude * angles, rate, length)


def _unmel(power: torch.Tensor, rate: int) -> torch.Tensor:
    """Non-negative power of each bin whose bands fit best: (N, bands, frames) -> (N, window / 2 + 1, frames).

    Multiplicative updates of Lee and Seung (2001), from the transposed bank.
    """
    bank = _bank(rate, power.shape[1])
    toward = bank.T @ power
    found = (bank.T / bank.sum(0)[:, None].clamp(min=1e-8)) @ power + 1e-12
    for _ in range(_UPDATES):  # two thin products are cheaper than one with bank.T @ bank
        found = found * toward / (bank.T @ (bank @ found) + 1e-12)
    return found
