"""One declared policy for each oddity of a picture, and bits that come through unharmed."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import badzoo
import imagehash
import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sibling.errors import BadSample, UsageError
from sibling.modalities import pixels
from sibling.modalities.image import Image


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """As `read` does: what Pillow warns about is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def seen(*files: bytes, size: int | None = None) -> tuple[Image, np.ndarray, dict[str, str]]:
    """What `read` makes of these files: the final modality, raw (N, C, H, W), and its choices."""
    working, choices = Image.choose([Image().look(file) for file in files], size=size, most=64)
    raw = np.stack([working.decode(file) for file in files])
    final, more = working.refine(raw, np.arange(len(raw)))
    return final, working.convert(raw, final), {c["name"]: c["value"] for c in choices + more}


def outcome(work: Callable[[bytes], Any], content: bytes) -> str:
    """The reason that was given, or "accepted"."""
    try:
        work(content)
    except BadSample as error:
        return str(error)
    return "accepted"


def rgba(alpha: int, *, edge: int = 16) -> bytes:
    """Red, and transparent in its left half by this much."""
    values = np.zeros((edge, edge, 4), np.uint8)
    values[..., 0], values[..., 3] = 255, 255
    values[:, : edge // 2, 3] = alpha
    return badzoo.save(PIL.Image.fromarray(values), "PNG")


@pytest.mark.parametrize("name", badzoo.ODD_FILES)
def test_odd_files_are_read(name: str) -> None:
    make, channels = badzoo.ODD_FILES[name]
    look = Image().look(make())
    working, _ = Image.choose([look], size=None, most=64)
    raw = working.decode(make())
    assert look["channels"] == channels
    assert raw.shape == working.shape
    assert raw.dtype == working.dtype
    assert raw[0].std() > 0 or name == "bilevel.png"


@pytest.mark.parametrize("name", badzoo.BAD_FILES)
def test_bad_files_have_a_reason_and_nothing_else(name: str) -> None:
    make, reason = badzoo.BAD_FILES[name]
    with pytest.raises(BadSample, match=reason) as caught:
        Image(8, 8).decode(make())
    assert "\n" not in str(caught.value)
    assert re.search(f"{reason}|accepted", outcome(Image().look, make()))


def test_ghostscript_is_never_asked() -> None:
    eps = badzoo.BAD_FILES["ghostscript.png"][0]()
    assert PIL.Image.open(io.BytesIO(eps)).format == "EPS"  # the control: Pillow alone takes it for a picture
    with pytest.raises(BadSample, match="not a picture"):
        Image().look(eps)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(badzoo.ODD_FILES)), data=st.data())
def test_damage_never_raises_anything_else(name: str, data: st.DataObject) -> None:
    damaged = bytearray(badzoo.ODD_FILES[name][0]())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for content in (bytes(damaged), bytes(damaged[:cut])):
        for work in (Image().look, Image(8, 8, 4).decode):
            assert len(outcome(work, content)) < 300


# ---- depth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gray16.png", "gray16.tif", "gray16.pgm"])
def test_16_bit_gray_keeps_every_bit(name: str) -> None:
    final, raw, choices = seen(badzoo.ODD_FILES[name][0]())
    assert np.array_equal(raw[0, 0], badzoo.gray16())
    assert choices["bits"] == "16"
    again = np.asarray(PIL.Image.open(io.BytesIO(final.encode(raw[0]))))
    assert np.array_equal(again, badzoo.gray16())
    assert np.array_equal(final.to_raw(final.to_x(raw)), raw)


def test_pillow_alone_would_clip_16_bits() -> None:
    picture = PIL.Image.open(io.BytesIO(badzoo.ODD_FILES["gray16.png"][0]()))
    assert np.asarray(picture.convert("L")).mean() > 200  # the control: nearly everything becomes white


def test_8_bit_files_beside_16_bit_ones_are_scaled_up() -> None:
    gray8 = badzoo.save(PIL.Image.fromarray(np.full((16, 16), 255, np.uint8)), "PNG")
    _, raw, _ = seen(gray8, badzoo.ODD_FILES["gray16.png"][0]())
    assert (raw[0] == 65535).all()
    assert np.array_equal(raw[1, 0], badzoo.gray16())


def test_16_bit_colour_files_say_what_pillow_leaves_of_them() -> None:
    _, raw, choices = seen(badzoo.rgb48_png())
    assert choices["colour bits"] == "8"
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    assert np.abs(raw[0].transpose(1, 2, 0) - values / 257).max() <= 1


def test_16_bit_gray_beside_colour_is_brought_to_8_bits_aloud() -> None:
    final, raw, choices = seen(badzoo.good_png(1), badzoo.ODD_FILES["gray16.png"][0]())
    assert (final.channels, final.bits, raw.dtype, choices["colour bits"]) == (3, 8, np.uint8, "8")
    assert np.abs(raw[1, 0] - badzoo.gray16() / 257).max() <= 1
    assert np.abs(raw[0].transpose(1, 2, 0).astype(int) - badzoo.pixels(1)).max() <= 1
    final.encode(raw[0])


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.uint16, (12, 9), elements=st.integers(0, 65535)), st.integers(256, 65535))
def test_16_bit_arrays_come_through_unharmed(values: np.ndarray, top: int) -> None:
    values[0, 0] = top
    final, _ = Image.choose([Image().look(values)], size=None, most=64)
    raw = final.decode(values)
    assert np.array_equal(raw[0], values)
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(final.encode(raw)))), values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 255], np.uint8), [0, 255]),
        (np.array([0, 200], np.uint8), [0, 200]),  # as it is
        (np.array([0, 16.0]), [0, 255]),  # scikit-learn's digits
        (np.array([0, 1], np.uint8), [0, 255]),  # masks
        (np.array([0, 1.0]), [0, 255]),
        (np.array([0, 0.5]), [0, 128]),
        (np.array([0, 255.0]), [0, 255]),
        (np.array([0, 4095], np.int64), [0, 4095]),
        (np.array([0, 70_000], np.int64), [0, 65535]),  # scaled, never clipped
    ],
)
def test_ranges_of_arrays(values: np.ndarray, expected: list[int]) -> None:
    sample = np.repeat(values, 32).reshape(8, 8)
    modality, choices = Image.choose([Image().look(sample)], size=None, most=64)
    assert np.unique(modality.decode(sample)).tolist() == expected
    scaled = expected[-1] != values[-1]
    assert any(choice["name"] == "range" for choice in choices) >= scaled


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_arrays_with_impossible_values(value: float) -> None:
    sample = np.zeros((8, 8))
    sample[3, 3] = value
    for work in (Image().look, Image(8, 8, 1).decode):
        with pytest.raises(BadSample, match=r"finite|negative"):
            work(sample)


def test_16_bit_colour_is_refused_by_name_when_written() -> None:
    with pytest.raises(UsageError, match="--format npz"):
        Image(8, 8, 3, bits=16).encode(np.zeros((3, 8, 8), np.uint16))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (30, 5)])
def test_encode_and_decode_are_inverse(channels: int, shape: tuple[int, int]) -> None:
    modality = Image(*shape, channels)
    raw = np.random.default_rng(0).integers(0, 256, modality.shape, dtype=np.uint8)
    if channels in (2, 4):
        raw[-1] = np.maximum(raw[-1], 2)  # what lies under full transparency is not kept, on purpose
    assert np.array_equal(modality.decode(modality.encode(raw)), raw)


# ---- alpha, colour -----------------------------------------------------------------------------


def test_hidden_colour_never_appears() -> None:
    naive = np.asarray(PIL.Image.open(io.BytesIO(rgba(0))).convert("RGB"))
    assert (naive[:, :8] == [255, 0, 0]).all()  # the control: what Pillow would show
    final, raw, choices = seen(rgba(0), rgba(0))
    assert (final.channels, choices["alpha"]) == (4, "kept as a channel")
    assert (raw[:, :3, :, :8] == 255).all()
    shown = final.preview(raw)
    assert (shown[:, :, :8].std(axis=3) == 0).all()  # a gray board where it is transparent


def test_alpha_is_composited_where_few_are_transparent() -> None:
    final, raw, choices = seen(rgba(0), *[rgba(255)] * 3)
    assert (final.channels, choices["alpha"]) == (3, "composited on 255")
    assert (raw[0, :, :, :8] == 255).all()
    assert (raw[1, :, 0, 0] == [255, 0, 0]).all()


def test_alpha_goes_where_all_is_opaque() -> None:
    final, _, choices = seen(rgba(255))
    assert (final.channels, choices["alpha"]) == (3, "dropped")


def test_a_modality_without_alpha_composites_too() -> None:
    raw = Image(16, 16, 3, matte=0).decode(rgba(0))
    assert (raw[:, :, :8] == 0).all()


def test_no_fringes_from_hidden_colour() -> None:
    values = np.zeros((64, 64, 4), np.uint8)
    values[..., 2] = 255  # hidden blue
    values[16:48, 16:48] = (255, 0, 0, 255)
    raw = Image(16, 16, 4).decode(badzoo.save(PIL.Image.fromarray(values), "PNG"))
    visible = raw[3] > 8
    assert raw[2][visible].max() < 8


def test_gray_saved_as_colour_becomes_gray() -> None:
    gray = badzoo.save(badzoo.picture(mode="L").convert("RGB"), "PNG")
    final, _, choices = seen(gray)
    assert (final.channels, choices["colour"]) == (1, "gray")
    assert seen(badzoo.good_png())[0].channels == 3


def test_cmyk_is_converted() -> None:
    cyan_free = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    _, raw, _ = seen(badzoo.save(cyan_free, "TIFF"), badzoo.good_png())
    assert raw[0, :, 0, 0].tolist() == [255, 0, 0]


# ---- geometry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(kind: str) -> None:
    content = badzoo.turned(kind)
    assert Image().look(content)["size"] == (24, 16)
    raw = Image(24, 16, 3).decode(content)
    upright = np.rot90(badzoo.pixels(1, 16, 24), -1)
    assert np.abs(raw.transpose(1, 2, 0).astype(int) - upright).mean() < 12
    assert np.abs(raw.transpose(1, 2, 0).astype(int) - upright[::-1, ::-1]).mean() > 25  # the control


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_agree_with_pillow(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = badzoo.save(badzoo.picture(1, height=16, width=24), "PNG", exif=exif)
    with pixels.opened(content) as picture:
        ours = pixels.file_pixels(picture, 255, 16, 24, "stretch")
    theirs = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content)))
    assert np.array_equal(ours, np.asarray(theirs, np.float32))


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    assert Image().look(badzoo.ODD_FILES["damaged-exif.jpg"][0]())["size"] == (16, 16)


def test_looking_at_a_png_does_not_decode_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content, turned = badzoo.good_png(), badzoo.turned("PNG")
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert Image().look(content)["size"] == (16, 16)
    assert Image().look(turned)["size"] == (24, 16)
    with pytest.raises(pytest.fail.Exception):  # the control: Pillow looks for EXIF behind the pixels
        PIL.Image.open(io.BytesIO(content)).getexif()


@pytest.mark.parametrize(("policy", "row"), [("pad", 8), ("crop", 8), ("stretch", 8)])
def test_resize_policies(policy: str, row: int) -> None:
    wide = np.zeros((16, 64, 3), np.uint8)
    wide[:, :16], wide[:, 48:] = (255, 0, 0), (0, 0, 255)
    raw = Image(16, 16, 3, resize=policy).decode(badzoo.save(PIL.Image.fromarray(wide), "PNG"))
    left, middle, right = raw[:, row, 0], raw[:, row, 8], raw[:, row, 15]
    assert middle.max() < 40
    if policy == "crop":
        assert max(left.max(), right.max()) < 40  # only the black middle is left
    else:
        assert left[0] > 150
        assert right[2] > 150
    if policy == "pad":
        assert (raw[:, 0] == raw[:, 0, :1]).all()  # one border colour above


def test_a_sliver_is_refused_and_takes_no_memory() -> None:
    strip = badzoo.good_png(height=4, width=100_000)
    with pytest.raises(BadSample, match="too narrow"):
        Image(16, 16, 3, resize="pad").decode(strip)
    assert Image(16, 16, 3, resize="crop").decode(strip).shape == (3, 16, 16)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_large_pictures_are_reduced_before_they_become_floats(mode: str) -> None:
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.full((3000, 2000), 40_000, np.uint16))
    else:
        picture = PIL.Image.new(mode, (2000, 3000), 77)
    with pixels.opened(badzoo.save(picture, "PNG")) as opened:
        values = pixels.file_pixels(opened, 255, 30, 20, "stretch")
    assert values.shape[:2] == (100, 67) or values.shape[:2] == (91, 61)
    assert np.allclose(values[..., 0], values[0, 0, 0], atol=0.01)


def test_choices_of_the_working_size() -> None:
    def size_of(*shapes: tuple[int, int], size: int | None = None) -> tuple[int, int]:
        looks = [{"size": shape, "mode": "L", "channels": 1} for shape in shapes]
        modality, _ = Image.choose(looks, size=size, most=64)
        return modality.height, modality.width

    assert size_of(*[(28, 28)] * 9, (100, 100)) == (28, 28)
    assert size_of((45, 30)) == (45, 30)  # the data's own size is left alone
    assert size_of((480, 640)) == (48, 64)
    assert size_of((480, 640), size=32) == (24, 32)
    assert size_of((8, 8), size=16) == (16, 16)
    assert size_of((100, 100), (200, 200), (50, 60)) == (64, 64)
    assert size_of((4, 4000)) == (4, 64)


# ---- the perceptual hash -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (64, 40), (33, 70)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_hash_is_that_of_imagehash(shape: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, channels, *shape), dtype=np.uint8)
    smooth = np.stack([badzoo.pixels(i, *shape, channels).transpose(2, 0, 1) for i in range(20)])
    mirrored = np.concatenate([smooth[..., : shape[1] // 2], smooth[..., : shape[1] // 2][..., ::-1]], 3)
    plain = np.stack([np.full((channels, *shape), value, np.uint8) for value in (0, 1, 255)])
    for raw in (noise, smooth, mirrored, plain):
        colour = raw[:, :3] if channels >= 3 else raw[:, :1]
        gray = colour.astype(np.float32).mean(1).astype(np.uint8)
        expected = [int(str(imagehash.phash(PIL.Image.fromarray(sample))), 16) for sample in gray]
        modality = Image(raw.shape[2], raw.shape[3], channels)
        assert modality.fingerprints(raw) == expected
        assert [modality.fingerprint(sample) for sample in raw] == expected


def test_the_hash_of_12_bit_values_is_not_all_black() -> None:
    raw = np.random.default_rng(0).integers(0, 4096, (8, 1, 16, 16), dtype=np.uint16)
    assert len(set(Image(16, 16, 1, bits=16).fingerprints(raw))) == 8
