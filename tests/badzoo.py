"""A zoo of odd and bad inputs, made on the spot: no binary lies in git. Numbers as in reference/faults.md.

`ODD_FILES` must be read, `BAD_FILES` must be refused with a reason. Whole places are in `badplaces`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

EDGE = 16


# ---- pictures ----------------------------------------------------------------------------------


def pixels(seed: int = 0, height: int = EDGE, width: int = EDGE, channels: int = 3) -> np.ndarray:
    """uint8 (H, W, C): smooth blobs, so that lossy formats keep them about as they are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, channels), dtype=np.uint8)
    planes = [
        np.asarray(PIL.Image.fromarray(coarse[..., c]).resize((width, height), PIL.Image.Resampling.BICUBIC))
        for c in range(channels)
    ]
    return np.stack(planes, 2)


def save(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int = 0, mode: str = "RGB", height: int = EDGE, width: int = EDGE) -> PIL.Image.Image:
    """A picture of smooth blobs."""
    return PIL.Image.fromarray(pixels(seed, height, width)).convert(mode)


def good_png(seed: int = 0, height: int = EDGE, width: int = EDGE) -> bytes:
    """A picture that nothing is wrong with."""
    return save(picture(seed, height=height, width=width), "PNG")


def gray16(seed: int = 0) -> np.ndarray:
    """uint16 (16, 16) with low bits that 8 bits cannot hold."""
    return np.random.default_rng(seed).integers(0, 65536, (EDGE, EDGE), dtype=np.uint16)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: Pillow writes neither 16-bit colour nor headers that lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def rgb48_png() -> bytes:
    """A PNG with 16 bits a colour."""
    values = np.random.default_rng(0).integers(0, 65536, (EDGE, EDGE, 3)).astype(">u2")
    return raw_png(EDGE, EDGE, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))


def turned(kind: str) -> bytes:
    """24 wide and 16 high in the file, the other way round for a person: EXIF orientation 6."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return save(picture(1, height=16, width=24), kind, exif=exif)


def _palette(transparent: bool) -> bytes:
    options = {"transparency": 0} if transparent else {}
    return save(picture(2).quantize(8), "PNG", **options)


def _frames(kind: str) -> bytes:
    first, *rest = (picture(seed) for seed in range(3))
    return save(first, kind, save_all=True, append_images=rest)


def _damaged_exif() -> bytes:
    return save(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 40)


# name -> (bytes, channels that must be found)
ODD_FILES: dict[str, tuple[Callable[[], bytes], int]] = {
    "bilevel.png": (lambda: save(picture(mode="1"), "PNG"), 1),
    "gray.png": (lambda: save(picture(mode="L"), "PNG"), 1),
    "gray-alpha.png": (lambda: save(picture(mode="LA"), "PNG"), 2),
    "gray-trns.png": (lambda: save(picture(mode="L"), "PNG", transparency=3), 2),
    "palette.png": (lambda: _palette(False), 3),
    "palette-alpha.png": (lambda: _palette(True), 4),
    "rgba.png": (lambda: save(picture(mode="RGBA"), "PNG"), 4),
    "rgb-trns.png": (lambda: save(picture(), "PNG", transparency=(1, 2, 3)), 4),
    "gray16.png": (lambda: save(PIL.Image.fromarray(gray16()), "PNG"), 1),
    "gray16.tif": (lambda: save(PIL.Image.fromarray(gray16()), "TIFF"), 1),
    "gray16.pgm": (lambda: b"P5 16 16 65535\n" + gray16().astype(">u2").tobytes(), 1),
    "rgb48.png": (rgb48_png, 3),
    "float.tif": (lambda: save(PIL.Image.fromarray(gray16().astype(np.float32) / 65535), "TIFF"), 1),
    "cmyk.jpg": (lambda: save(picture(mode="CMYK"), "JPEG"), 3),
    "cmyk.tif": (lambda: save(picture(mode="CMYK"), "TIFF"), 3),
    "ycbcr.tif": (lambda: save(picture(mode="YCbCr"), "TIFF"), 3),
    "lab.tif": (lambda: _lab(), 3),
    "turned.jpg": (lambda: turned("JPEG"), 3),
    "turned.png": (lambda: turned("PNG"), 3),
    "turned.tif": (lambda: turned("TIFF"), 3),
    "turned.webp": (lambda: turned("WEBP"), 3),
    "damaged-exif.jpg": (_damaged_exif, 3),
    "frames.gif": (lambda: _frames("GIF"), 3),
    "frames.png": (lambda: _frames("PNG"), 3),
    "frames.webp": (lambda: _frames("WEBP"), 3),
    "pages.tif": (lambda: _frames("TIFF"), 3),
    "jpeg-named.png": (lambda: save(picture(), "JPEG"), 3),
    "bmp-named.png": (lambda: save(picture(), "BMP"), 3),
    "no-iend.png": (lambda: good_png()[:-12], 3),
    "plain.ppm": (lambda: save(picture(), "PPM"), 3),
    "strip.png": (lambda: good_png(height=4, width=400), 3),
}


def _lab() -> bytes:
    return save(PIL.Image.merge("LAB", picture(3).split()), "TIFF")


def _flipped(data: bytes, kind: bytes) -> bytes:
    middle = data.index(kind) + 4 + (len(data) - data.index(kind)) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def _jpeg() -> bytes:
    return save(
        PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG"
    )


def _webp() -> bytes:
    return save(picture(), "WEBP", lossless=True)


# name -> (bytes, what the reason must say); one fault of section D each
BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.png": (lambda: b"", "is empty"),  # 42
    "one-byte.png": (lambda: b"\x89", "not a picture"),
    "text.png": (lambda: b"I am a text file.\n", "not a picture"),
    "page.jpg": (lambda: b"<!doctype html><html><body>404</body></html>", "not a picture"),
    "drawing.png": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture"),
    "half.jpg": (lambda: _jpeg()[: len(_jpeg()) // 2], "cannot be decoded.*truncated"),  # 43
    "half.png": (lambda: good_png()[: len(good_png()) // 2], "cannot be decoded"),  # 44
    "header-only.png": (lambda: good_png()[:33], "not a picture|cannot be decoded"),
    "flipped.png": (lambda: _flipped(good_png(), b"IDAT"), "cannot be decoded"),  # 45
    "ghostscript.png": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
        "not a picture",
    ),  # 48
    "float.tif": (
        lambda: save(PIL.Image.fromarray(np.full((9, 9), 300, np.float32)), "TIFF"),
        "floats from 300",
    ),
    "nan.tif": (
        lambda: save(PIL.Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "floats from",
    ),
    "wide.tif": (lambda: save(PIL.Image.fromarray(np.full((9, 9), 70_000, np.int32)), "TIFF"), "70000"),
    "bomb.png": (lambda: raw_png(15_000, 15_000, 1, 0, b"\0"), "million pixels"),  # 55
    "bomb-below-pillow.png": (lambda: raw_png(9_000, 9_000, 8, 0, b"\0"), "million pixels"),  # 57
    "long-text.png": (
        lambda: raw_png(9, 9, 8, 0, b"\0" * 90, chunk(b"zTXt", b"k\0\0" + zlib.compress(b" " * 10**8, 9))),
        "cannot be",
    ),  # 58
    "no-width.png": (lambda: raw_png(0, 9, 8, 0, b"\0"), "not a picture|cannot be"),  # 59
    "dot.png": (lambda: good_png(height=1, width=1), "1 x 1 pixels"),  # 60
    "line.png": (lambda: good_png(height=1, width=10_000), "10000 x 1 pixels"),
    "half.webp": (lambda: _webp()[: len(_webp()) // 2], "cannot be|not a picture"),
    "half.gif": (lambda: _frames("GIF")[:900], "cannot be decoded"),
    "loop.tif": (lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "not a picture|cannot be"),
    "pickle.png": (lambda: pickle.dumps([1, 2, 3]), "not a picture"),
    "archive.png": (lambda: archive_of({"a.png": good_png()}), "not a picture"),
    "noise.png": (lambda: np.random.default_rng(0).bytes(5_000), "not a picture"),
}


def archive_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# ---- folders -----------------------------------------------------------------------------------


def put(path: Path, data: bytes) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def classes(root: Path, names: tuple[str, ...] = ("cat", "dog"), each: int = 6, **shape: int) -> Path:
    """Class folders of different good pictures."""
    for number, name in enumerate(names):
        for i in range(each):
            put(root / name / f"{i:03d}.png", good_png(1000 * number + i, **shape))
    return root


def idx(
    root: Path, images: np.ndarray, labels: np.ndarray | None, part: str = "train", packed: bool = True
) -> Path:
    """The IDX files of one part."""
    root.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images", images), ("labels", labels)):
        if array is not None:
            data = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            data += array.astype(np.uint8).tobytes()
            name = f"{part}-{kind}-idx{array.ndim}-ubyte"
            put(root / (name + ".gz" * packed), gzip.compress(data) if packed else data)
    return root


def npz(path: Path, **arrays: np.ndarray) -> Path:
    """An .npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=True, **arrays)
    return path
