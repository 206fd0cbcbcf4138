"""Video files <-> frames with their times: GIF through Pillow, every other container through PyAV."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from ..errors import BadSample, UsageError
from .pixels import LEAST_EDGE

__all__ = ["Facts", "frames_at", "is_moving_gif", "probe", "to_gif", "to_mp4"]

MOST_PIXELS = 16_777_216  # of a frame: 4096 x 4096
MOST_SECONDS = 60  # of a file; what comes later is not looked at
MOST_DECODED = 4_000  # frames of a file, whatever its times say
LEAST_FRAMES = 2
_QUALITY = "10"  # x264's constant rate factor: 0 is exact, 18 is where an eye begins to see the loss
_GIF_TICKS = 100  # a second
_SLOW_GIF = 0.1  # seconds of a frame that says 0 or 1 hundredths, as every browser shows it
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


@dataclass(frozen=True)
class Facts:
    """What a file says about itself.

    height, width  of an upright frame
    frames         how many there are; 0 = it does not say
    seconds        from the first frame to the end of the last
    kind           container and codec: "mov h264", "gif"
    gray           whether its pixels have no colour at all
    rotation       degrees, counter-clockwise, that set a stored frame upright
    """

    height: int
    width: int
    frames: int
    seconds: float
    kind: str
    gray: bool
    rotation: int = 0


def _library() -> Any:
    """PyAV. Raises UsageError where the extra is not installed."""
    from importlib import import_module

    try:
        return import_module("av")
    except (ImportError, OSError) as error:
        raise UsageError(f"Clips need the package av ({error}): pip install 'sibling[video]'") from error


def _container(file: BinaryIO) -> str:
    """The name of the only demuxer that may read a file: others (playlists, image lists) could open other files.

    Raises BadSample.
    """
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    if head[:4] == b"GIF8":
        return "gif"
    if head[4:8] in _ATOMS:
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    raise BadSample("is no clip of a known format (MP4, MOV, WebM, MKV, AVI, GIF)" if head else "is empty")


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever a decoder raises becomes BadSample: half a dozen types all mean a broken file."""
    try:
        yield
    except (BadSample, UsageError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadSample(f"cannot be decoded as a clip: {reason}") from error


@contextmanager
def _opened(source: bytes | BinaryIO) -> Iterator[tuple[str, Any, Any]]:
    """(container, what is open, its video stream; None for a GIF). Raises BadSample."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    kind = _container(file)
    with _faults():
        if kind == "gif":
            with PIL.Image.open(file, formats=("GIF",)) as picture:
                _refuse_size(picture.height, picture.width)
                yield kind, picture, None
            return
        with _library().open(file, format=kind) as container:
            if not container.streams.video:
                raise BadSample("holds sound but no pictures" if container.streams else "holds no pictures")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise BadSample("has pictures in a codec that is not known")
            _refuse_size(context.height, context.width)
            context.thread_count = 1  # samples are decoded side by side already
            yield kind, container, stream


def _refuse_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise BadSample(f"has frames of {width} x {height}: more than {MOST_PIXELS // 10**6} million pixels")
    if min(height, width) < LEAST_EDGE:
        raise BadSample(
            f"has frames of {width} x {height} pixels; the shorter edge must be at least {LEAST_EDGE}"
        )


def probe(source: bytes | BinaryIO) -> Facts:
    """Size, length and codec of a file; of its pictures only the first is decoded. Raises BadSample."""
    with _opened(source) as (kind, opened, stream):
        if stream is None:
            return _gif_facts(opened)
        seconds = (
            float(stream.duration * stream.time_base) if stream.duration else (opened.duration or 0) / 1e6
        )
        first = next(opened.decode(stream), None)
        if first is None:
            raise BadSample("holds no frame")
        frames = int(stream.frames)
        if seconds <= 0 or not frames:
            counted, frames = _counted(opened, stream)
            seconds = seconds if seconds > 0 else counted
        if seconds <= 0 or frames == 1:
            raise BadSample("holds one frame only: a clip needs at least two")
        rotation = round(first.rotation / 90) * 90 % 360
        height, width = (first.width, first.height) if rotation % 180 else (first.height, first.width)
        gray = first.format.name.startswith("gray")
        return Facts(height, width, frames, seconds, f"{kind} {stream.codec_context.name}", gray, rotation)


def _counted(container: Any, stream: Any) -> tuple[float, int]:
    """(seconds, frames) from the times of all packets, where the header does not say. Nothing is decoded."""
    container.seek(0)
    times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    if len(times) < LEAST_FRAMES:
        return 0.0, len(times)
    span = float((max(times) - min(times)) * stream.time_base)
    return span * len(times) / (len(times) - 1), len(times)


def _gif_facts(picture: Any) -> Facts:
    delays: list[float] = []
    gray = True
    for _ in _gif_frames(picture, delays):
        gray = gray and picture.mode == "L"
    if len(delays) == 1 and not picture.info.get("duration"):
        raise BadSample("holds one frame only: a clip needs at least two")
    return Facts(picture.height, picture.width, len(delays), sum(delays), "gif", gray)


def _gif_frames(picture: Any, delays: list[float]) -> Iterator[Any]:
    """The frames of a GIF as Pillow shows them; the seconds of each are appended to `delays`."""
    for number in range(MOST_DECODED):
        try:
            picture.seek(number)
        except EOFError:
            return
        milliseconds = float(picture.info.get("duration", 0))
        delays.append(milliseconds / 1000 if milliseconds >= 20 else _SLOW_GIF)
        yield picture
        if sum(delays) > MOST_SECONDS:
            return


def is_moving_gif(path: Any) -> bool:
    """Whether a file is a GIF of several frames; False for what cannot be read, or is no plain file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a pipe would be waited for
            return False
        with PIL.Image.open(path, formats=("GIF",)) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:
        return False


def frames_at(source: bytes | BinaryIO, facts: Facts, times: np.ndarray, edge: int) -> list[np.ndarray]:
    """What is on the screen at each of these times: float32 (H, W, C) in 0 to 255, upright, C = 1, 3 or 4.

    facts  what `probe` said of the same file
    times  (T,) seconds after the first frame, rising; beyond the end the last frame stays
    edge   frames of which both edges are more than three times as large come out smaller
    Raises BadSample.
    """
    shown: list[np.ndarray] = []
    with _opened(source) as (_, opened, stream):
        wanted = [float(time) for time in times]
        last, ended = None, 0.0
        for picture, start, end in _pictures(opened, stream, facts):
            while last is not None and len(shown) < len(wanted) and wanted[len(shown)] < start:
                shown.append(_pixels(last, facts, edge))  # the one before is still there
            if len(shown) == len(wanted):
                return shown
            last, ended = picture, end
        if last is None:
            raise BadSample("holds no frame")
        if facts.frames and ended < 0.8 * min(facts.seconds, MOST_SECONDS) - 0.5:
            raise BadSample(f"breaks off after {ended:.2f} of {facts.seconds:.2f} seconds")
        final = _pixels(last, facts, edge)
        return shown + [final] * (len(wanted) - len(shown))


def _pictures(opened: Any, stream: Any, facts: Facts) -> Iterator[tuple[Any, float, float]]:
    """(picture, start, end) of each frame in the order of their times, in seconds after the first one."""
    if stream is None:
        delays: list[float] = []
        for picture in _gif_frames(opened, delays):
            end = sum(delays)
            yield picture.copy(), end - delays[-1], end
        return
    step = facts.seconds / max(1, facts.frames)
    first: float | None = None
    for number, frame in enumerate(opened.decode(stream)):
        time = number * step if frame.time is None else float(frame.time)
        first = time if first is None else first
        start = time - first
        if number >= MOST_DECODED or start > MOST_SECONDS:
            return
        length = float(frame.duration * frame.time_base) if frame.duration else step
        yield frame, start, start + length


def _pixels(picture: Any, facts: Facts, edge: int) -> np.ndarray:
    if not isinstance(picture, PIL.Image.Image):
        picture = picture.to_image()  # RGB
        if facts.rotation:
            picture = picture.rotate(facts.rotation, expand=True)
    elif picture.mode != "L":
        picture = picture.convert(
            "RGBA" if "transparency" in picture.info or picture.mode == "RGBA" else "RGB"
        )
    factor = int(min(picture.size) / (3 * edge))
    if factor > 1:
        picture = picture.reduce(factor)
    pixels = np.asarray(picture, np.float32)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def to_mp4(frames: np.ndarray, rate: float) -> bytes:
    """uint8 (T, H, W, C), C = 1 or 3, even edges -> the bytes of an .mp4: H.264, or MPEG-4 where PyAV has none."""
    av = _library()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    frames = np.repeat(frames, 3, 3) if frames.shape[3] == 1 else frames
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        # One thread: the same bytes on every machine.
        stream.options = (
            {"crf": _QUALITY, "threads": "1"} if codec == "libx264" else {"qscale": "1", "threads": "1"}
        )
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            planes = picture.reformat(format="yuv420p").to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    return buffer.getvalue()


def to_gif(frames: np.ndarray, rate: float) -> bytes:
    """uint8 (T, H, W, C), C = 1 (kept exactly) or 3 (at most 256 colours a frame) -> the bytes of an endless .gif."""
    ends = np.rint(np.arange(len(frames) + 1) * (_GIF_TICKS / rate)).astype(int)
    pictures = [_gif_picture(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], loop=0, optimize=False,
        duration=_milliseconds(np.diff(ends)),
    )  # fmt: skip
    return buffer.getvalue()


def _milliseconds(ticks: Sequence[int] | np.ndarray) -> list[int]:
    return [1000 // _GIF_TICKS * max(2, int(tick)) for tick in ticks]


def _gif_picture(frame: np.ndarray) -> Any:
    if frame.shape[2] == 1:
        return PIL.Image.fromarray(np.ascontiguousarray(frame[..., 0]))
    return PIL.Image.fromarray(np.ascontiguousarray(frame)).quantize(256, dither=PIL.Image.Dither.NONE)
