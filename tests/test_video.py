"""Clips: containers and their oddities, times, policies, round trips, what networks see of time, and the whole way."""

from __future__ import annotations

import io
import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
import torch

import sibling
from sibling.cli import main
from sibling.dataset import make_modality
from sibling.device import generator
from sibling.errors import BadInput, BadSample, UsageError
from sibling.grids import changes, joined
from sibling.metrics.features import RandomFeatures
from sibling.modalities import clips
from sibling.modalities.video import Video
from sibling.nets import Decoder, Discriminator, Encoder


def blob(frames: int = 12, size: tuple[int, int] = (24, 32), colour: tuple[int, ...] = (230,)) -> np.ndarray:
    """uint8 (T, H, W, C): a smooth spot that crosses the picture from left to right."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    centre = np.linspace(6, size[1] - 6, frames)[:, None, None]
    spot = np.exp(-((rows - size[0] / 3) ** 2 + (columns - centre) ** 2) / 18)
    return np.rint(spot[..., None] * np.array(colour)).astype(np.uint8)


def film(
    frames: np.ndarray,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    rate: float = 8,
    pixel: str = "yuv420p",
    at: list[int] | None = None,
) -> bytes:
    """A file written by PyAV; `at` gives the time of each frame in sixtieths of a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixel
        stream.options = {"crf": "8"}
        stream.bit_rate = 4_000_000
        if at is not None:
            stream.codec_context.time_base = Fraction(1, 60)
        for i, frame in enumerate(np.repeat(frames, 3, 3) if frames.shape[3] == 1 else frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if at is not None:
                picture.pts, picture.time_base = at[i], Fraction(1, 60)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return file.getvalue()


def chosen(*sources: Any, size: int | None = None) -> Video:
    video, _ = Video.choose([Video().look(source) for source in sources], size=size, most=64)
    return video


def gap(video: Video, source: bytes, frames: np.ndarray) -> int:
    """The largest difference between what is decoded and these frames."""
    return int(np.abs(video.array(video.decode(source)).astype(int) - frames).max())


# ---- files and their inverse ----------------------------------------------------------------------


CONTAINERS = [
    ("mp4", "libx264"), ("mp4", "mpeg4"), ("webm", "libvpx-vp9"), ("mov", "libx264"), ("avi", "mpeg4"),
    ("matroska", "libx264"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_every_container_gives_the_same_clip(container: str, codec: str) -> None:
    frames = blob()
    source = film(frames, container=container, codec=codec)
    video = chosen(source)
    assert video.shape == (3, 12, 24, 32)
    assert video.rate == pytest.approx(8, abs=0.1)
    assert video.suffix == ".mp4"
    raw = video.decode(source)
    gray, _ = video.refine(raw[None], np.array([0]))
    assert gray.channels == 1  # nobody said so: it was found by looking
    decoded = video.convert(raw[None], gray)[0, 0].astype(int)
    assert np.abs(decoded - frames[..., 0]).max() < 24
    assert np.abs(decoded - frames[::-1, ..., 0]).max() > 100  # the control: the order of frames counts


@pytest.mark.parametrize("colour", [(230,), (230, 120, 40)])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_what_is_written_is_nearly_or_exactly_what_is_read(suffix: str, colour: tuple[int, ...]) -> None:
    frames = blob(colour=colour)
    video = Video(24, 32, 12, 8.53, len(colour), suffix=suffix)
    raw = frames.transpose(3, 0, 1, 2)
    content = video.encode(raw)
    again = video.decode(content)
    assert content == video.encode(raw)  # the same bytes each time
    assert video.lossless == (suffix == ".gif" and len(colour) == 1)
    difference = np.abs(again.astype(int) - raw)
    if video.lossless:
        assert difference.max() == 0
    assert difference.mean() < 1.5  # chroma has half the resolution in an .mp4, a .gif 256 colours
    assert difference.max() < (60 if len(colour) == 3 else 12)
    assert chosen(content).frames == 12


def test_a_gray_gif_is_exact_for_any_frames_and_any_rate() -> None:
    rng = np.random.default_rng(0)
    for rate in (3.0, 8.53, 24.0, 30.0):
        raw = rng.integers(0, 256, (1, 7, 9, 8), dtype=np.uint8)
        raw[:, 3:5] = raw[:, 2:3]  # frames that stay are one frame in the file
        video = Video(9, 8, 7, rate, 1, suffix=".gif")
        assert np.array_equal(video.decode(video.encode(raw)), raw)
    still = np.full((1, 7, 9, 8), 77, np.uint8)
    assert np.array_equal(video.decode(video.encode(still)), still)


def test_a_gif_with_transparency_lies_on_white() -> None:
    pictures = []
    for i in range(3):
        picture = PIL.Image.new("RGBA", (12, 8), (0, 0, 0, 0))
        picture.paste((200, 0, 0, 255), (i * 4, 0, i * 4 + 4, 8))
        pictures.append(picture)
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=120, disposal=2)
    source = file.getvalue()
    raw = chosen(source).decode(source)
    assert raw.shape == (3, 3, 8, 12)
    for i in range(3):
        assert (raw[:, i, :, i * 4 : i * 4 + 4].reshape(3, -1).T == (200, 0, 0)).all()
        assert (np.delete(raw[:, i], range(i * 4, i * 4 + 4), axis=2) == 255).all()


def test_times_decide_not_the_number_of_a_frame() -> None:
    frames = blob(6)
    at = [0, 6, 12, 60, 66, 72]  # sixtieths: the third stays for most of a second
    source = film(frames, at=at)
    video = Video(24, 32, 13, 10.0, 3)
    shown = video.decode(source)[0].astype(int)
    wanted = [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 5]
    assert [int(np.abs(frames[..., 0] - frame).mean((1, 2)).argmin()) for frame in shown] == wanted
    even = video.decode(film(frames, at=[0, 12, 24, 36, 48, 60]))[0].astype(int)  # the control
    assert [int(np.abs(frames[..., 0] - frame).mean((1, 2)).argmin()) for frame in even] != wanted


def test_a_longer_clip_is_cut_around_its_middle_and_a_shorter_one_holds_its_last_frame() -> None:
    video = Video(24, 32, 8, 8.0, 3)
    long, short = blob(16), blob(4)
    assert gap(video, film(long), np.repeat(long[4:12], 3, 3)) < 24
    assert gap(video, film(short), np.repeat(short[[0, 1, 2, 3, 3, 3, 3, 3]], 3, 3)) < 24
    looks = [Video().look(film(one)) for one in (long, short)]
    _, choices = Video.choose(looks, size=None, most=64)
    assert any("hold their last frame" in choice["value"] for choice in choices)


def test_frames_and_rate_follow_the_data_within_a_budget() -> None:
    few = chosen(*[film(blob(10))] * 3)
    assert (few.frames, few.rate) == (10, 8.0)  # all that there are
    many = chosen(*[film(blob(50), rate=25)] * 3)
    assert (many.frames, many.rate) == (16, 8.0)  # two seconds, thinned out
    endless = chosen(film(blob(120), rate=10))
    assert (endless.frames, endless.rate) == (16, 4.0)  # fewer a second would be stills
    wide = chosen(film(blob(4, size=(40, 100))))
    assert (wide.height, wide.width) == (12, 32)
    assert chosen(clips.to_gif(blob(5, size=(15, 17)), 8)).shape[2:] == (15, 17)
    assert chosen(film(blob(5, size=(30, 34))), size=17).shape[2:] == (16, 16)  # an .mp4 has even edges


def turned(source: bytes) -> bytes:
    """The same .mp4, held a quarter turn: what a telephone writes that is held upright."""
    at = source.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    return source[:at] + matrix + source[at + 36 :]


def test_a_clip_that_says_how_it_was_held_is_set_upright() -> None:
    frames = np.zeros((4, 16, 32, 1), np.uint8)
    frames[:, :, :8] = 220  # bright at the left: at the top when it is turned clockwise
    source = film(frames)
    upright = chosen(turned(source))
    assert (upright.height, upright.width) == (32, 16)
    shown = upright.decode(turned(source))[0, 0].astype(int)
    assert shown[:6].min() > 180
    assert shown[12:].max() < 40
    assert chosen(source).shape[2:] == (16, 32)  # the control


# ---- bad files ------------------------------------------------------------------------------------


def sound_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream: Any = out.add_stream("aac", rate=16_000)
        samples = np.zeros((1, 16_000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(800))
    return file.getvalue()


def png_as_gif() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(blob(1)[0, ..., 0]).save(file, "GIF")
    return file.getvalue()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"not a clip at all, whatever its name says", "no clip of a known format"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no clip of a known format"),
    "list of files": (b"ffconcat version 1.0\nfile /etc/passwd\n", "no clip of a known format"),
    "sound in RIFF": (wav(), "no clip of a known format"),
    "sound only": (sound_only(), "holds sound but no pictures"),
    "cut": (film(blob())[:-300], "cannot be decoded as a clip"),
    "half": (film(blob())[:400], "cannot be decoded as a clip"),
    "zeros": (film(blob())[:32] + bytes(2000), "cannot be decoded|no pictures"),
    "no frame": (film(blob()[:0]), "is empty|no frame"),
    "one frame": (film(blob(1)), "one frame only"),
    "one frame of webm": (film(blob(1), container="webm", codec="libvpx-vp9"), "one frame only"),
    "a still GIF": (png_as_gif(), "one frame only"),
    "half a GIF": (clips.to_gif(blob(), 8)[:900], "cannot be decoded|one frame"),
    "a vast GIF": (b"GIF89a" + struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0) + b"\x3b", "million pixels|cannot be"),
    "thin": (film(blob(4, size=(2, 32))), "32 x 2 pixels; the shorter edge must be at least 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_refused_with_its_reason(name: str) -> None:
    source, reason = BAD[name]
    with pytest.raises(BadSample, match=reason):
        Video().look(source)
    with pytest.raises(BadSample, match=reason):
        Video(24, 32, 12, 8.0).decode(source)


def test_vast_frames_are_refused_before_one_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    source = film(blob(2, size=(64, 64)))
    assert Video().look(source)["size"] == (64, 64)  # the control
    monkeypatch.setattr(clips, "MOST_PIXELS", 64 * 63)
    monkeypatch.setattr(av.VideoFrame, "to_ndarray", None, raising=False)
    with pytest.raises(BadSample, match="has frames of 64 x 64: more than"):
        Video().look(source)


def test_a_file_that_breaks_off_is_refused_by_decode() -> None:
    source = film(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), dtype=np.uint8), rate=8)
    at = source.index(b"moov")
    index = source[at - 4 :]
    broken = (
        source[: at - 4][: at // 8] + bytes(at - 4 - at // 8) + index
    )  # the index is whole, most pictures are not
    with pytest.raises(BadSample, match=r"cannot be decoded|breaks off"):
        Video(32, 32, 16, 3.2).decode(broken)
    Video(32, 32, 16, 3.2).decode(source)  # the control


@pytest.mark.parametrize(
    "array",
    [np.zeros((1, 8, 8)), np.zeros((4, 8, 8, 7)), np.zeros((4, 3, 8)), np.full((4, 8, 8), -1.0), np.full((4, 8, 8), np.nan)],
)  # fmt: skip
def test_an_array_that_is_no_clip_is_refused(array: np.ndarray) -> None:
    with pytest.raises(BadSample):
        Video().look(array)


def test_numbers_above_255_and_shares_of_1_become_the_full_range() -> None:
    for top in (1.0, 4095.0):
        array = np.linspace(0, top, 5 * 8 * 9).reshape(5, 8, 9)
        raw = chosen(array).decode(array)
        assert (raw.min(), raw.max()) == (0, 255)
    same = np.arange(5 * 8 * 9).reshape(5, 8, 9) % 250
    assert np.array_equal(chosen(same).decode(same)[0], same)


# ---- which modality, which mirroring --------------------------------------------------------------


def folder(root: Path, write: Any, suffix: str, n: int = 6) -> Path:
    """Two classes that differ in the way of the motion alone."""
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
        for i in range(n):
            frames = blob(8, size=(16, 20)) // np.uint8(1 + i % 3) + np.uint8(i * 3)
            (root / name / f"{i:02d}{suffix}").write_bytes(write(frames[::-1] if name == "left" else frames))
    return root


def test_a_gif_that_moves_is_a_clip_and_one_that_does_not_is_a_picture(tmp_path: Path) -> None:
    moving = folder(tmp_path / "moving", lambda frames: clips.to_gif(frames, 8), ".gif")
    assert sibling.read(moving).modality.name == "video"
    still = folder(tmp_path / "still", lambda frames: clips.to_gif(frames[:1], 8), ".gif")
    assert sibling.read(still).modality.name == "image"
    (still / "left" / "00.gif").write_bytes((moving / "left" / "00.gif").read_bytes())  # one of twelve
    assert sibling.read(still).modality.name == "image"
    assert sibling.read(moving, modality="image").shape[1:] == (16, 20)


def test_a_mirrored_motion_is_another_motion(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", lambda frames: clips.to_gif(frames, 8), ".gif", n=40)
    data = sibling.read(place, val=0.6, test=0.1)
    assert "horizontal" not in data.modality.flips
    backwards = np.array([number == "left" for number in data.classes(range(len(data)))])
    raw = np.asarray(data.raw)
    hashes = data.modality.fingerprints(raw)
    assert not set(np.array(hashes)[backwards]) & set(np.array(hashes)[~backwards])


# ---- x --------------------------------------------------------------------------------------------


def test_all_frames_are_augmented_alike_and_time_runs_forwards() -> None:
    still = torch.rand(6, 3, 1, 16, 16, generator=generator("still")).expand(-1, -1, 5, -1, -1) - 0.5
    video = Video(16, 16, 5, flips=("horizontal",))
    moved = video.augment(still, 1.0, generator("augment"))
    assert torch.allclose(moved, moved[:, :, :1].expand_as(moved), atol=1e-5)
    assert not torch.allclose(moved, still, atol=0.05)  # the control
    brighter = torch.linspace(-0.5, 0.5, 5).view(1, 1, 5, 1, 1).expand(8, 1, 5, 16, 16)
    slope = video.augment(brighter, 1.0, generator("more")).mean((1, 3, 4)).diff(dim=1)
    assert (slope > 0.02).all()
    assert torch.equal(Video(16, 16, 5).augment(still, 0.0, generator("none")), still)


def test_a_hash_is_the_same_for_another_encoding_and_another_one_for_another_motion() -> None:
    video = Video(24, 32, 12, 8.0, 1)
    raw = blob()[None, ..., 0][:, None]
    again = raw + np.random.default_rng(0).integers(0, 4, raw.shape, dtype=np.uint8)
    first, near, backwards = (video.fingerprints(one)[0] for one in (raw, again, raw[:, :, ::-1]))
    assert (first ^ near).bit_count() <= 6
    assert (first ^ backwards).bit_count() > 12


def test_a_preview_is_a_strip_and_an_animation_has_all_frames() -> None:
    video = Video(24, 32, 12, 8.0, 1)
    raw = blob()[None, ..., 0][:, None]
    strip = video.preview(raw)
    assert strip.shape == (1, 24, 4 * 33 - 1, 3)
    centres = [strip[0, :, i * 33 : i * 33 + 32, 0].sum(0).argmax() for i in range(4)]
    assert centres == sorted(centres)
    assert np.array_equal(video.animate(raw)[0, ..., 0], raw[0, 0])
    assert make_modality(video.to_json()).to_json() == video.to_json()


# ---- what networks see ----------------------------------------------------------------------------


def test_changes_are_differences_of_frames() -> None:
    x = torch.rand(2, 3, 5, 4, 4, generator=generator("x"))
    assert torch.allclose(changes(x).cumsum(2) + x[:, :, :1], x, atol=1e-6)
    assert joined((3, 16, 32, 24)) == (48, 32, 24)
    assert joined((3, 64, 32, 24)) == (3, 64, 32, 24)  # too many frames for channels: an axis of convolutions
    assert joined((3, 32, 24)) == (3, 32, 24)


@pytest.mark.parametrize("frames", [1, 5, 40])
def test_networks_take_short_and_long_clips(frames: int) -> None:
    shape = (2, frames, 9, 8)
    x, none = torch.rand(2, *shape, generator=generator("x")), torch.zeros(2, 0, *shape[1:])
    vec = torch.zeros(2, 0)
    assert Encoder(shape, 6, width=4)(x, vec, none).shape == (2, 6)
    assert Decoder(shape, 3, width=4)(torch.zeros(2, 3), vec, none).shape == x.shape
    assert Discriminator(shape, width=4, features=5)(x, none).shape == (2, 5)
    assert torch.isfinite(RandomFeatures(shape)(x)).all()


def test_random_features_tell_a_motion_from_the_same_frames_in_another_order() -> None:
    x = torch.from_numpy(blob().astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    network = RandomFeatures(x.shape[1:])
    forwards, backwards = network(x), network(x.flip(2))
    half = forwards.shape[1] // 2
    assert torch.allclose(
        forwards[:, :half], backwards[:, :half], atol=1e-4
    )  # of frames: their order is no matter
    assert not torch.allclose(forwards[:, half:], backwards[:, half:], atol=1e-2)  # of changes: it is


# ---- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "suffix"), [("vae", ".mp4"), ("gan", ".gif"), ("bootstrap", ".gif")])
def test_clips_go_the_whole_way(model: str, suffix: str, tmp_path: Path) -> None:
    write = film if suffix == ".mp4" else lambda frames: clips.to_gif(frames, 8)
    place = folder(tmp_path / "in", write, suffix, n=14)  # few enough for one split
    data = sibling.read(place)
    assert data.modality.name == "video"
    assert data.shape == (1, 8, 16, 20)
    arguments = {"vae": {"width": 8, "latent": 4}, "gan": {"width": 8, "critic_width": 8}}.get(model)
    run = sibling.fit(
        data, out=tmp_path / "run", model=model, steps=12, arguments=arguments, tensorboard=False
    )
    made = sibling.sample(run, want=10, out=tmp_path / "fakes")
    kept = sibling.curate(made, against=run, rounds=1)
    kept = kept if len(kept) else made
    if model == "bootstrap":  # judging costs most, and does not ask what made the clips
        judged = sibling.evaluate(kept, against=run, seeds=1, steps=8)
        assert judged.folder is not None
        assert main(["report", str(run.folder)]) == 0
        page = (run.folder / "report.html").read_text()
        assert page.count("data:image/gif;base64,") >= 2  # real and synthetic clips move
    out = sibling.write(data, kept, out=tmp_path / "larger", against=run)
    assert sibling.verify(out) == []
    again = sibling.read(out)
    assert again.modality.name == "video"
    assert again.shape == data.shape
    assert len(again) == len(data) + len(kept)
    assert len(sorted(out.rglob(f"synthetic-*{suffix}"))) == len(kept)


def test_a_bad_clip_is_listed_and_sizes_are_in_pixels(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", film, ".mp4")
    (place / "left" / "zz.mp4").write_bytes(sound_only())
    with pytest.raises(BadInput, match=r"left/zz\.mp4: holds sound but no pictures"):
        sibling.read(place)
    data = sibling.read(place, on_bad="skip")
    assert data.found["bad_count"] == 1
    with pytest.raises(UsageError, match="the longer edge must be 4 to 256 pixels"):
        sibling.read(place, modality="video", size=9_999)


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    source = film(blob(4))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install 'sibling\[video\]'"):
        Video().look(source)
    gif = clips.to_gif(blob(4), 8)
    assert chosen(gif).decode(gif).shape[1] == 4  # which need nothing more
