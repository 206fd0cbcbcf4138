"""Copies are found, exact and near, and nothing else is."""

from __future__ import annotations

import io
import time

import badzoo
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sibling.duplicates import LEAST_CORRELATION, _sketch, _standardised, group
from sibling.files import hash_bytes
from sibling.modalities.image import Image


def grouped(raw: np.ndarray) -> tuple[list[int], int, int]:
    """The groups of raw (N, C, H, W) as `read` finds them."""
    modality = Image(raw.shape[2], raw.shape[3], raw.shape[1], bits=8 * raw.itemsize)
    digests = [hash_bytes(sample.tobytes()) for sample in raw]
    return group(raw, np.arange(len(raw)), digests, modality.fingerprints(raw))


def photos(n: int, edge: int = 64, seed: int = 0) -> np.ndarray:
    """Different pictures with coarse and fine structure, as photographs have it, uint8 (N, 3, H, W)."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, 3, edge, edge))
    for cells, weight in ((3, 0.5), (6, 0.3), (12, 0.2)):
        coarse = rng.integers(0, 256, (n, cells, cells), dtype=np.uint8)
        for i, sample in enumerate(coarse):
            fine = PIL.Image.fromarray(sample).resize((edge, edge), PIL.Image.Resampling.BICUBIC)
            out[i] += weight * np.asarray(fine, float) * rng.uniform(0.6, 1, (3, 1, 1))
    return out.astype(np.uint8)


def saved_again(sample: np.ndarray, quality: int) -> np.ndarray:
    data = badzoo.save(PIL.Image.fromarray(sample.transpose(1, 2, 0)), "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(io.BytesIO(data))).transpose(2, 0, 1)


def resized(sample: np.ndarray, edge: int) -> np.ndarray:
    picture = PIL.Image.fromarray(sample.transpose(1, 2, 0))
    return np.asarray(picture.resize((edge, edge)).resize(picture.size)).transpose(2, 0, 1)


def test_exact_copies() -> None:
    raw = photos(6)
    raw[4] = raw[1]
    raw[5] = raw[1]
    assert grouped(raw) == ([0, 1, 2, 3, 1, 1], 2, 0)


@pytest.mark.parametrize("quality", [75, 95])
def test_pictures_that_were_saved_again(quality: int) -> None:
    raw = photos(20)
    both = np.concatenate([raw, np.stack([saved_again(sample, quality) for sample in raw])])
    numbers, exact, near = grouped(both)
    assert (numbers[20:], exact, near) == (numbers[:20], 0, 20)
    assert len(set(numbers)) == 20


def test_pictures_that_were_scaled_or_brightened() -> None:
    raw = photos(10)
    scaled = np.stack([resized(sample, 40) for sample in raw])
    darker = (raw * 0.9 + 5).astype(np.uint8)
    numbers, _, near = grouped(np.concatenate([raw, scaled, darker]))
    assert numbers[:10] == numbers[10:20] == numbers[20:]
    assert near == 20


def test_a_copy_of_a_near_copy_is_in_the_group() -> None:
    raw = photos(3)
    again = saved_again(raw[2], 80)
    numbers, exact, near = grouped(np.concatenate([raw, again[None], again[None]]))
    assert (numbers, exact, near) == ([0, 1, 2, 2, 2], 1, 1)


def test_different_pictures_are_no_copies() -> None:
    assert grouped(photos(300, edge=16))[1:] == (0, 0)


def test_samples_of_one_colour() -> None:
    shades = np.array([10, 11, 100, 200], np.uint8)[:, None, None, None]
    numbers, exact, near = grouped(np.broadcast_to(shades, (4, 1, 8, 8)).copy())
    assert (numbers, exact, near) == ([0, 0, 1, 2], 0, 1)
    mixed = np.concatenate([np.full((1, 1, 8, 8), 9, np.uint8), photos(1, 8)[:, :1]])
    assert len(set(grouped(mixed)[0])) == 2


def test_16_bit_samples() -> None:
    raw = np.random.default_rng(0).integers(0, 4096, (5, 1, 16, 16), dtype=np.uint16)
    nearly = raw[3:4] + np.random.default_rng(1).integers(0, 20, (1, 1, 16, 16), dtype=np.uint16)
    assert grouped(np.concatenate([raw, nearly]))[0] == [0, 1, 2, 3, 4, 3]


def test_rows_may_be_some_of_the_store() -> None:
    raw = photos(6)
    raw[5] = raw[2]
    rows = np.array([2, 3, 5])
    digests = [hash_bytes(sample.tobytes()) for sample in raw[rows]]
    assert group(raw, rows, digests, Image(64, 64, 3).fingerprints(raw[rows])) == ([0, 1, 0], 1, 0)
    assert group(raw, np.array([], np.int64), [], []) == ([], 0, 0)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.uint8, (2, 3, 9, 7)), st.floats(0, 0.4))
def test_the_sketch_refuses_no_pair_that_the_pixels_accept(raw: np.ndarray, noise: float) -> None:
    jitter = np.random.default_rng(0).normal(0, 1 + 255 * noise, raw[0].shape)
    raw[1] = np.clip(raw[0] + jitter, 0, 255).astype(np.uint8)
    x, sketch = _standardised(raw), _sketch(raw)
    assert np.square(sketch[0] - sketch[1]).sum() <= np.square(x[0] - x[1]).sum() + 1e-4


def test_the_result_is_that_of_comparing_every_pair() -> None:
    rng = np.random.default_rng(0)
    raw = photos(60, edge=16)
    copies = raw[rng.integers(0, 60, 60)].astype(float) + rng.normal(
        0, rng.uniform(1, 30, (60, 1, 1, 1)), raw.shape
    )
    raw = np.concatenate([raw, np.clip(copies, 0, 255).astype(np.uint8)])
    hashes = np.array(Image(16, 16, 3).fingerprints(raw), np.uint64)
    x = _standardised(raw)
    alike = (x @ x.T >= LEAST_CORRELATION) & (np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= 6)
    numbers = np.array(grouped(raw)[0])
    reached = np.linalg.matrix_power(alike.astype(float), 20) > 0
    assert np.array_equal(numbers[:, None] == numbers[None, :], reached)
    assert reached.sum() > 120  # the control: there are pairs to find, and pairs that are none
    assert not alike[:60, 60:].all(1).any()


def test_thousands_of_near_copies_of_one_picture_end_in_time() -> None:
    noise = np.random.default_rng(0).integers(0, 4, (5_000, 1, 16, 16), dtype=np.uint8)
    raw = photos(1, edge=16)[:, :1] // 2 + noise
    start = time.monotonic()
    numbers, _, near = grouped(raw)
    assert time.monotonic() - start < 20
    assert set(numbers) == {0}
    assert near == len(raw) - 1
