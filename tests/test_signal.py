"""Series of numbers: sources, policies, exact inverses, and the whole way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sibling
from sibling.cli import main
from sibling.dataset import make_modality
from sibling.device import generator
from sibling.errors import BadInput, BadSample, UsageError
from sibling.modalities.signal import Signal


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def chosen(*sources: Any, size: int | None = None) -> Signal:
    signal, _ = Signal.choose([Signal().look(source) for source in sources], size=size, most=64)
    return signal


def waves(n: int = 6, channels: int = 2, steps: int = 40, seed: int = 0) -> np.ndarray:
    """float64 (n, T, C): the second channel a hundred times larger and far from 0."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps) / steps
    phase, speed = rng.uniform(0, 6, (n, 1, channels)), rng.uniform(1, 3, (n, 1, 1))
    scale = 100.0 ** np.arange(channels)
    return np.sin(6.28 * speed * t[None, :, None] + phase) * scale + 10 * (scale - 1)


SOURCES: dict[str, Any] = {
    "npy": npy,
    "npz": lambda values: npz(anything=values),
    "csv": lambda values: "\n".join(",".join(map(repr, row.tolist())) for row in values).encode(),
    "csv with a header": lambda values: b"ax,ay\n" + SOURCES["csv"](values) + b"\n\n",
    "csv; and a comment": lambda values: b"# a sensor\r\n" + SOURCES["csv"](values).replace(b",", b";"),
    "csv with spaces": lambda values: SOURCES["csv"](values).replace(b",", b"   "),
    "csv with a mark": lambda values: b"\xef\xbb\xbf" + SOURCES["csv with a header"](values),
    "turned": lambda values: npy(np.asfortranarray(values.T)),
}


@pytest.mark.parametrize("kind", list(SOURCES))
def test_every_source_gives_the_same_series_and_its_inverse(kind: str) -> None:
    series = waves()
    sources = [SOURCES[kind](one) for one in series]
    signal = chosen(*sources)
    assert signal.shape == (2, 40)
    for one, source in zip(series, sources, strict=True):
        raw = signal.decode(source)
        assert raw.dtype == np.uint16
        step = np.ptp(series, axis=(0, 1))[:, None] / 65535
        assert (np.abs(signal.values(raw) - one.T) <= 0.51 * step).all()
        assert np.array_equal(signal.decode(signal.encode(raw)), raw)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int64", "bool", "float32", "float16"])
def test_numbers_are_written_as_they_came(dtype: str) -> None:
    values = (np.random.default_rng(0).normal(size=(4, 30)) * 40 + 50).clip(0, 120).astype(dtype)
    signal = chosen(*map(npy, values))
    again = np.load(io.BytesIO(signal.encode(signal.decode(npy(values[1])))))
    exact = values.dtype.kind in "iub"
    assert np.allclose(again, values[1].astype(float), atol=0 if exact else 0.002)
    if exact:
        assert again.dtype.kind in "iu"
        made = signal.to_raw(torch.rand(3, 1, 30, generator=generator(1)) * 2 - 1)  # whole numbers, too
        assert np.array_equal(signal.to_raw(signal.to_x(made)), made)


def test_a_clock_is_no_channel_and_is_written_again() -> None:
    rows = [f"{1.5 + 0.02 * i:.2f},{i % 7},{i * i % 11}" for i in range(50)]
    source = ("time,a,b\n" + "\n".join(rows)).encode()
    signal = chosen(source, source)
    assert signal.shape == (2, 50)
    assert signal.encode(signal.decode(source)).decode().splitlines()[:3] == [
        "time,a,b", "1.500000,0,0", "1.520000,1,1",
    ]  # fmt: skip
    ramp = "\n".join(f"{i % 7},{i * i % 11}" for i in range(50)).encode()  # the control: no column that rises
    assert chosen(ramp).shape == (2, 50)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n# nothing\n", "is empty"),
    "header only": (b"a,b\n", "header line and no numbers"),
    "ragged": (b"1,2\n3,4\n5\n6,7\n", "ragged: line 3 has 1"),
    "words": (b"1,2\n3,4\nfive,6\n", r"no numbers \(line 3"),
    "nan": (b"1,2\n3,nan\n5,6\n7,8\n", "1 of 8 values that are not finite"),
    "a gap": (b"1,2\n3,\n5,6\n7,8\n", "ragged|not finite"),
    "inf": (npy(np.array([1.0, np.inf, 3, 4, 5])), "1 of 5 values that are not finite"),
    "objects": (npy(np.array([{}] * 8)), "Python objects.*refused"),
    "text": (npy(np.array(["a"] * 8)), "not real numbers"),
    "complex": (npy(np.zeros(8, complex)), "not real numbers"),
    "short": (npy(np.zeros(3)), "at least 4 steps"),
    "three axes": (npy(np.zeros((8, 2, 2))), "one axis, or two"),
    "cut": (npy(np.zeros(100))[:-9], "its data have another size"),
    "a lie": (npy(np.zeros(8)).replace(b"(8,), ", b"(9**9,"), "cannot be decoded as .npy"),
    "two arrays": (npz(a=np.zeros(8), b=np.zeros(8)), r"holds 2 arrays \(a.npy, b.npy\)"),
    "no archive": (b"PK\x03\x04 and nothing", "cannot be decoded as .npz"),
    "bytes": (bytes(range(128, 256)), "neither .npy, .npz nor text"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_refused_with_its_reason(name: str) -> None:
    source, reason = BAD[name]
    with pytest.raises(BadSample, match=reason):
        Signal().look(source)
    with pytest.raises(BadSample, match=reason):
        chosen(npy(np.zeros((8, 2)))).decode(source)


def test_other_lengths_are_stretched_when_alike_and_cut_or_held_when_not() -> None:
    alike = [npy(np.linspace(0, 1, steps)) for steps in (100, 100, 96, 104, 97)]
    signal = chosen(*alike)
    assert signal.fit_length == "resample"
    raw = signal.decode(alike[2])
    assert raw.shape == (1, signal.length)
    assert raw[0, 0] < 700
    assert raw[0, -1] > 64_800  # the whole of it is there
    mixed = [npy(np.linspace(0, 1, steps)) for steps in (100, 40, 160, 200)]
    signal = chosen(*mixed)
    assert signal.fit_length == "pad"
    short = signal.decode(mixed[1])
    assert (short[0, 41:] == short[0, -1]).all()  # held at its last value
    assert chosen(*mixed, size=64).length == 64
    assert chosen(npy(np.zeros(9000) + np.arange(9000))).length == 512


def test_a_channel_too_many_is_a_bad_sample() -> None:
    signal = chosen(*[npy(np.random.default_rng(i).normal(size=(30, 2))) for i in range(3)])
    with pytest.raises(BadSample, match="has 3 channels; most have 2"):
        signal.decode(npy(np.zeros((30, 3))))


def test_the_scale_is_that_of_the_train_part_alone(tmp_path: Path) -> None:
    for part, top in (("train", 1.0), ("test", 5.0)):
        for name in ("a", "b"):
            (tmp_path / "in" / part / name).mkdir(parents=True)
            for i in range(6):
                values = np.random.default_rng([i, top == 5, name == "b"]).uniform(-top, top, 32)
                np.save(tmp_path / "in" / part / name / f"{i}.npy", values)
    data = sibling.read(tmp_path / "in")
    assert data.modality.name == "signal"
    train, test = data.x(data.rows("train")), data.x(data.rows("test"))
    assert float(train.min()) == -1
    assert float(train.max()) == 1
    assert float((test.abs() == 1).float().mean()) > 0.5  # what lies beyond the train part's range is its end
    modality = make_modality(data.modality.to_json())
    assert torch.equal(modality.to_x(data.raw[data.rows("train")]), train)


def test_a_constant_channel_does_no_harm() -> None:
    values = np.stack([np.arange(20.0), np.full(20, 7.0)], 1)
    signal = chosen(npy(values + 0.5))
    fitted, _ = signal.fit(signal.decode(npy(values + 0.5))[None], np.array([0]))
    raw = fitted.decode(npy(values + 0.5))
    assert torch.isfinite(fitted.to_x(raw[None])).all()
    assert np.array_equal(fitted.to_raw(fitted.to_x(raw[None]))[0], raw)
    assert np.allclose(fitted.values(raw)[1], 7.5)


def test_augmentation_shifts_and_never_reverses_time() -> None:
    ramp = torch.linspace(-0.5, 0.5, 100).expand(32, 1, 100)
    signal = Signal(1, 100)
    moved = signal.augment(ramp, 1.0, generator("augment"))
    slope = (moved[:, 0, 60:].mean(1) - moved[:, 0, :40].mean(1)) / 0.6
    assert (slope > 0.5).all()
    assert float(moved.std(0).mean()) > 0.02
    assert signal.augment(ramp, 0.0, generator("augment")) is ramp


def test_copies_are_grouped_and_others_are_not(tmp_path: Path) -> None:
    series = waves(n=30, channels=3)
    (tmp_path / "in").mkdir()
    for i, one in enumerate(series):
        np.save(tmp_path / "in" / f"{i:02d}.npy", one)
    np.save(tmp_path / "in" / "exact.npy", series[3])
    noise = np.random.default_rng(0).normal(0, 0.001, series[5].shape) * 100.0 ** np.arange(3)
    np.save(tmp_path / "in" / "near.npy", series[5] + noise)
    data = sibling.read(tmp_path / "in")
    group = dict(zip(data.table["key"], data.table["group"], strict=True))
    assert group["exact.npy"] == group["03.npy"]
    assert group["near.npy"] == group["05.npy"]
    assert len(set(group.values())) == 30


def test_a_preview_shows_the_line() -> None:
    picture = Signal(1, 64).preview(np.linspace(0, 65535, 64).astype(np.uint16)[None, None])[0]
    assert picture.shape == (48, 96, 3)
    dark = picture[..., 0] < 200
    left, right = (np.flatnonzero(dark[:, column]).mean() for column in (8, 88))
    assert left > 35
    assert right < 12  # up is large


def series_folder(root: Path, ending: str, n: int = 30) -> Path:
    rng = np.random.default_rng(0)
    t = np.arange(48) / 48
    for name, speed in (("slow", 1), ("fast", 4)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            wave = np.sin(6.28 * (speed * t + rng.uniform())) * rng.uniform(0.5, 1.5) + rng.normal(
                0, 0.05, 48
            )
            values = np.stack([wave, np.cumsum(wave)], 1)
            if ending == ".csv":
                header = "t,x,total\n"
                rows = "\n".join(f"{k * 0.01:.2f},{a:.5f},{b:.5f}" for k, (a, b) in enumerate(values))
                (root / name / f"{i}.csv").write_text(header + rows + "\n")
            else:
                np.save(root / name / f"{i}{ending}", values.astype(np.float32))
    return root


@pytest.mark.parametrize(("model", "ending"), [("vae", ".csv"), ("gan", ".npy"), ("bootstrap", ".npy")])
def test_series_go_the_whole_way(model: str, ending: str, tmp_path: Path) -> None:
    place = series_folder(tmp_path / "in", ending)
    data = sibling.read(place)
    assert data.modality.name == "signal"
    assert data.shape == (2, 48)
    arguments = {"vae": {"width": 8, "latent": 4}, "gan": {"width": 8}}.get(model)
    run = sibling.fit(
        data, out=tmp_path / "run", model=model, steps=20, arguments=arguments, tensorboard=False
    )
    made = sibling.sample(run, want=10, out=tmp_path / "fakes")
    kept = made
    if model == "vae":  # once: it takes most of the time
        kept = sibling.curate(made, against=run, rounds=1)
        kept = kept if len(kept) else made  # 20 steps may make nothing that can be used
        judged = sibling.evaluate(kept, against=run, seeds=1, steps=10, quick=True)
        assert judged.folder is not None
        assert main(["report", str(run.folder)]) == 0
    out = sibling.write(data, kept, out=tmp_path / "larger", against=run)
    assert sibling.verify(out) == []
    again = sibling.read(out)
    assert again.modality.name == "signal"
    assert again.shape == data.shape
    assert len(again) == len(data) + len(kept)
    written = sorted(out.rglob(f"synthetic-*{ending}"))
    assert len(written) == len(kept)
    if ending == ".csv":
        assert written[0].read_text().startswith("t,x,total\n0.")


def test_enlarge_needs_no_option_and_names_the_modality(tmp_path: Path, capsys: Any) -> None:
    place = series_folder(tmp_path / "in", ".npy")
    bad = place / "slow" / "zz.npy"
    bad.write_bytes(b"")
    with pytest.raises(BadInput, match=r"slow/zz\.npy: is empty"):
        sibling.read(place)
    assert main(["read", str(place), "--on-bad", "skip"]) == 0
    said = capsys.readouterr().out
    assert "modality    signal: 61 files end like that" in said
    assert "channels x time" in said


def test_a_map_and_a_size_that_cannot_be_are_named(tmp_path: Path) -> None:
    place = series_folder(tmp_path / "in", ".npy", n=4)
    with pytest.raises(UsageError, match="size is 99999; the size must be 4 to 16384 steps"):
        sibling.read(place, size=99_999)
    assert sibling.read(place, size=32).shape == (2, 32)
