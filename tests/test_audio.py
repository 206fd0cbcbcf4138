"""Sounds: every kind of file, policies, spectrograms and back, and the whole way. All sounds are made here."""

from __future__ import annotations

import base64
import io
import re
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sibling
from sibling.cli import main
from sibling.dataset import make_modality
from sibling.device import generator
from sibling.errors import BadInput, BadSample, NumericalError, UsageError
from sibling.modalities import mel, waves
from sibling.modalities.audio import Audio

soundfile = pytest.importorskip("soundfile")


def tone(
    seconds: float = 0.4, rate: int = 8000, hertz: float = 440.0, seed: int = 0, quiet: float = 0.0
) -> np.ndarray:
    """float64 (T,): a gliding tone with overtones and a little noise; `quiet` seconds of near silence around it."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    glide = hertz * (1 + 0.1 * rng.uniform(-1, 1) * t / seconds)
    sound = sum(np.sin(2 * np.pi * k * np.cumsum(glide) / rate) / k for k in (1, 2, 3))
    sound *= np.minimum(1, np.minimum(t, t[::-1]) / 0.03) * 0.3
    silence = rng.normal(0, 1e-4, round(quiet * rate))
    return np.concatenate([silence, sound + rng.normal(0, 1e-3, len(t)), silence])


def file(samples: np.ndarray, rate: int = 8000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def chosen(*sources: Any, size: int | None = None) -> Audio:
    audio, _ = Audio.choose([Audio().look(source) for source in sources], size=size, most=64)
    return audio


KINDS = [
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAV", "ULAW"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_every_kind_of_file_gives_the_same_spectrogram(kind: str, subtype: str, channels: int) -> None:
    sound = tone(rate=16_000)
    samples = np.stack([sound] * channels, 1) if channels > 1 else sound
    audio = Audio(16_000, frames=32)
    wanted = audio.decode(file(sound, 16_000, subtype="DOUBLE")).astype(int)
    found = audio.decode(file(samples, 16_000, kind, subtype)).astype(int)
    loud = wanted > 130  # below -40 dB coders may differ
    assert loud.sum() > 100
    assert np.abs(wanted - found)[loud].mean() < 6  # of 255: less than 2 dB


@pytest.mark.parametrize("rate", [11_025, 22_050, 44_100, 48_000])
def test_another_rate_is_resampled(rate: int) -> None:
    audio = Audio(8000, frames=24, trim=False)
    wanted = audio.decode(file(tone(rate=8000, hertz=300), 8000)).astype(int)
    found = audio.decode(file(tone(rate=rate, hertz=300), rate)).astype(int)
    loud = wanted > 150
    assert np.abs(wanted - found)[loud].mean() < 10
    # the control: the same samples under a wrong rate are another sound
    other = audio.decode(file(tone(rate=rate, hertz=300), round(rate * 1.5))).astype(int)
    assert np.abs(wanted - other)[loud].mean() > 20


def test_a_sine_has_its_power_in_its_band() -> None:
    rate, t = 8000, torch.arange(8000) / 8000
    decibels = mel.log_mel(torch.sin(2 * torch.pi * 1000 * t)[None], rate, 64)[0, :, 10]
    edges = mel._hz(torch.linspace(0, float(mel._mel(torch.tensor(4000.0))), 66))
    assert edges[int(decibels.argmax())] < 1000 < edges[int(decibels.argmax()) + 2]
    assert -3 < float(decibels.max()) <= 0
    assert float(mel.log_mel(torch.zeros(1, 8000), rate, 64).max()) == pytest.approx(mel.FLOOR_DB)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_a_sound_is_found_back_from_its_spectrogram(rate: int) -> None:
    audio = Audio(rate, frames=32)
    raw = audio.decode(file(tone(rate=rate), rate))
    encoded = audio.encode(raw)
    again = audio.decode(encoded)
    loud = raw > 128
    assert np.abs(raw.astype(int) - again)[loud].mean() * 70 / 255 < 4  # dB
    shuffled = raw[:, np.random.default_rng(0).permutation(64)]  # the control: another sound is far away
    assert np.abs(shuffled.astype(int) - again)[loud].mean() * 70 / 255 > 8
    assert audio.encode(raw) == encoded  # the same bytes again
    samples, told = soundfile.read(io.BytesIO(encoded))
    assert told == rate
    assert len(samples) == audio.length
    assert 0.9 < np.abs(samples).max() <= 1


def test_silence_stays_silence() -> None:
    audio = Audio(8000, frames=16)
    raw = audio.decode(file(np.zeros(4000)))
    assert raw.max() == 0
    assert np.abs(audio.array(raw)).max() == 0
    assert chosen(*[file(np.zeros(4000))] * 3).shape == (1, 64, 40)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "is empty"),
        (lambda: b"RIFF\x00\x00\x00\x00WAVE", "cannot be decoded as a sound"),
        (lambda: b"no sound at all, only words " * 20, "cannot be decoded as a sound"),
        (lambda: file(np.zeros(0)), "holds 0 samples"),
        (lambda: file(np.zeros(9)), "holds 9 samples"),
        (lambda: file(np.array([0.1, np.nan] * 500), subtype="FLOAT"), "not finite"),
        (lambda: file(tone(), kind="FLAC")[:60], "cannot be decoded|holds 0 samples"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(make: Any, reason: str) -> None:
    for ask in (Audio().look, Audio(8000, frames=16).decode):
        with pytest.raises(BadSample, match=reason):
            ask(make())


def test_a_cut_file_gives_what_is_there_or_a_reason() -> None:
    content = file(tone(1.0))
    try:
        look = Audio().look(content[: len(content) // 2])
    except BadSample:
        return
    assert look["active"] < 0.6


def test_rate_length_and_ends_are_chosen_by_looking() -> None:
    mixed = [
        file(tone(0.3 + 0.02 * i, rate, quiet=0.2), rate) for i, rate in enumerate([44_100] * 4 + [8000] * 2)
    ]
    audio, choices = Audio.choose([Audio().look(clip) for clip in mixed], size=None, most=64)
    told = {row["name"]: row for row in choices}
    assert audio.rate == 16_000
    assert "4 of 6 clips have 44100; at most 16000" in told["rate"]["why"]
    assert audio.trim
    assert 0.35 < audio.length / audio.rate < 0.7  # the quiet ends do not count
    assert chosen(*[file(tone(0.5), 8000)] * 5).rate == 8000
    assert not chosen(*[file(tone(0.5, seed=i), 8000) for i in range(5)]).trim  # cut to one length on purpose
    assert chosen(*mixed, size=40).frames == 40
    assert chosen(*[file(tone(9.0))] * 5).frames == 96  # as long as is chosen unasked
    assert [chosen(file(tone(), kind=kind)).suffix for kind in ("WAV", "FLAC", "OGG")] == [
        ".wav",
        ".flac",
        ".flac",
    ]


def test_quiet_ends_are_cut_and_the_loudest_stretch_of_a_long_clip_is_kept() -> None:
    audio = Audio(8000, frames=32)
    late = audio.decode(file(tone(quiet=0.7)))
    early = audio.decode(file(tone()))
    assert np.flatnonzero(late[0].max(0) > 150)[0] <= np.flatnonzero(early[0].max(0) > 150)[0] + 4
    long = np.concatenate([np.random.default_rng(0).normal(0, 0.02, 80_000), tone(0.5), np.zeros(40_000)])
    kept = waves.cut(long.astype(np.float32), 4000)
    assert np.abs(kept).max() > 0.2
    start = waves.active(np.concatenate([np.zeros(800), tone(0.2)]), 8000)[0]
    assert 400 <= start <= 800


def test_augmentation_masks_and_never_mirrors() -> None:
    audio = Audio(8000, bands=64, frames=64)
    x = torch.full((64, 1, 64, 64), -1.0)
    x[:, :, :20, :20] = 0.5  # low bands, early
    moved = audio.augment(x, 1.0, generator("augment"))
    mass = (moved + 1).mean(0)[0]
    assert mass[:32].sum() > 10 * mass[32:].sum() - 200
    assert mass[:32, :32].sum() > 5 * mass[32:, 32:].sum()
    assert mass[:24, :28].mean() > 5 * mass[40:, 36:].mean()
    assert audio.augment(x, 0.0, generator("augment")) is x
    assert not hasattr(audio, "flips")  # nothing asks whether a sound may be mirrored
    assert float(moved.min()) >= -1
    assert float(moved.max()) <= 1


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NumericalError):
        Audio().to_raw(torch.full((1, 1, 64, 64), float("nan")))


def test_a_preview_has_low_bands_at_the_bottom() -> None:
    raw = np.zeros((1, 1, 64, 64), np.uint8)
    raw[0, 0, :8] = 255
    picture = Audio().preview(raw)[0].astype(int).sum(2)
    assert picture[-4:].mean() > 10 * picture[:32].mean()


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UsageError, match=r"need the package soundfile.*pip install 'sibling\[audio\]'"):
        Audio().look(file_bytes)


file_bytes = file(tone())


def clips(root: Path, ending: str = ".wav", n: int = 24) -> Path:
    """Two classes: a low and a high gliding tone."""
    kind = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}[ending]
    for name, hertz in (("low", 200), ("high", 900)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            sound = tone(
                0.12 + 0.004 * (i % 7), 8000, hertz * (1 + 0.02 * (i % 9)), seed=i, quiet=0.02 * (i % 3)
            )
            (root / name / f"{i:02d}{ending}").write_bytes(file(sound, 8000, kind))
    return root


@pytest.mark.parametrize(("model", "ending"), [("vae", ".wav"), ("gan", ".flac"), ("bootstrap", ".ogg")])
def test_sounds_go_the_whole_way(model: str, ending: str, tmp_path: Path) -> None:
    place = clips(tmp_path / "in", ending)
    data = sibling.read(place)
    assert data.modality.name == "audio"
    assert data.shape == (1, 64, 16)
    assert torch.equal(data.x(data.rows()), make_modality(data.modality.to_json()).to_x(data.raw))
    arguments = {"vae": {"width": 8, "latent": 4}, "gan": {"width": 8}}.get(model)
    run = sibling.fit(
        data, out=tmp_path / "run", model=model, steps=20, arguments=arguments, tensorboard=False
    )
    made = sibling.sample(run, want=8, out=tmp_path / "fakes")
    kept = made
    heard = sibling.read(tmp_path / "fakes", like=data)  # from the written sounds
    assert len(heard) == len(made)
    assert sorted(heard.table["y"]) == sorted(made.table["y"])
    if model == "vae":  # once: it takes most of the time
        kept = sibling.curate(made, against=run, rounds=1)
        kept = kept if len(kept) else made  # 20 steps may make nothing that can be used
        judged = sibling.evaluate(kept, against=run, seeds=1, steps=10, quick=True)
        assert judged.folder is not None
        assert main(["report", str(run.folder)]) == 0
        check_players((run.folder / "report.html").read_text(), data.modality.length)
    out = sibling.write(data, kept, out=tmp_path / "larger", against=run)
    assert sibling.verify(out) == []
    again = sibling.read(out)
    assert again.modality.name == "audio"
    assert len(again) == len(data) + len(kept)
    written = sorted(out.rglob("synthetic-*" + {".ogg": ".flac"}.get(ending, ending)))
    assert len(written) == len(kept)
    assert soundfile.info(written[0]).samplerate == 8000


def check_players(page: str, length: int) -> None:
    assert "media-src data:" in page
    players = re.findall(r'<audio controls[^>]*src="data:audio/wav;base64,([^"]+)"', page)
    assert len(players) >= 4
    with wave.open(io.BytesIO(base64.b64decode(players[0]))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 1, 2)
        assert sound.getnframes() == length
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_folder_of_sounds_is_told_by_its_endings_and_bad_ones_are_listed(
    tmp_path: Path, capsys: Any
) -> None:
    place = clips(tmp_path / "in", n=4)
    (place / "low" / "zz.wav").write_bytes(b"RIFF")
    (place / "notes.npy").write_bytes(b"")
    with pytest.raises(BadInput, match=r"low/zz\.wav: cannot be decoded"):
        sibling.read(place)
    assert main(["read", str(place), "--on-bad", "skip"]) == 0
    said = capsys.readouterr().out
    assert "modality    audio: 9 files end like that; 1 like signal" in said
    assert "rate        8000 Hz" in said
    shutil.rmtree(place)


def test_copies_of_a_sound_are_grouped(tmp_path: Path) -> None:
    place = clips(tmp_path / "in", n=6)
    shutil.copy(place / "low" / "03.wav", place / "low" / "exact.wav")
    louder, rate = soundfile.read(place / "high" / "02.wav")
    soundfile.write(place / "high" / "near.flac", louder * 0.5, rate)
    data = sibling.read(place)
    group = dict(zip(data.table["key"], data.table["group"], strict=True))
    assert group["low/exact.wav"] == group["low/03.wav"]
    assert group["high/near.flac"] == group["high/02.wav"]
    assert group["low/03.wav"] != group["high/02.wav"]


def test_a_store_of_sounds_resamples_nothing_twice(tmp_path: Path) -> None:
    place = clips(tmp_path / "in", n=4)
    first, second = (sibling.read(place, out=tmp_path / name) for name in ("a", "b"))
    assert np.array_equal(first.raw, second.raw)
    assert first.fingerprint() == second.fingerprint()
