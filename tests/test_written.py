"""What `write` wrote is read back the same, under names that fit every system."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import badzoo
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sibling
from sibling.dataset import Dataset, synthetic
from sibling.errors import BadInput
from sibling.formats.idx import Idx
from sibling.formats.naming import Names
from sibling.types import Record

X = np.random.default_rng(0).integers(0, 256, (20, 9, 7), dtype=np.uint8)


# ---- names that are written --------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), st.text(max_size=60)), max_size=12))
def test_written_names_fit_every_system(samples: list[tuple[str, str]]) -> None:
    names = Names()
    seen = [names.name(Record(key, b"", y=y), ".png") for y, key in samples]
    assert len({name.lower() for name in seen}) == len(seen)
    homes = {}
    for (y, _), name in zip(samples, seen, strict=True):
        folder, _, file = name.rpartition("/")
        assert folder
        assert "/" not in folder
        assert homes.setdefault(y, folder) == folder
        for part in (folder, file):
            assert 0 < len(part.encode("utf-8", "replace")) <= 255
            assert part.strip(" .") == part
            assert not set(part) & set('<>:"\\|?*\0\n')
    assert len({folder.lower() for folder in homes.values()}) == len(homes)


def test_many_files_of_one_name_are_named_fast() -> None:
    names = Names()
    made = [names.name(Record(f"{i}/image.png", b"", y="a"), ".png") for i in range(20_000)]
    assert made[:3] == ["a/image.png", "a/image-2.png", "a/image-3.png"]
    assert len(set(made)) == 20_000


# ---- written and read again --------------------------------------------------------------------


def _synthetic(data: Dataset, n: int = 5) -> Dataset:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (n, *data.shape)).astype(data.raw.dtype)
    y = [data.table["y"][i] for i in range(n)]
    info = [{"seed": 0, "index": i, "snapshot": "abc"} for i in range(n)]
    return synthetic(raw, y, [f"{name}/synthetic-{i:06d}" for i, name in enumerate(y)], info, data)


def _rows(data: Dataset) -> Counter[tuple[str, ...]]:
    """What must survive: the content, the label, the origin, the split."""
    columns = (data.table[name] for name in ("y", "origin", "split"))
    return Counter(
        (sample.tobytes(), *row) for sample, *row in zip(np.asarray(data.raw), *columns, strict=True)
    )


@pytest.mark.parametrize("format_name", ["folder", "npz", "idx"])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_back(
    tmp_path: Path, format_name: str, labelled: bool, channels: int
) -> None:
    names = ("cat", "00", 'dog: "big"', "train", "a\u2028b") if labelled else (".",)
    place = badzoo.classes(tmp_path / "in", names, each=12, height=9, width=14)
    if channels == 1:
        for path in place.rglob("*.png"):
            path.write_bytes(badzoo.save(PIL.Image.open(path).convert("L"), "PNG"))
    data = sibling.read(place)
    made = _synthetic(data)
    out = sibling.write(data, made, out=tmp_path / "out", format=format_name)
    again = sibling.read(out)
    assert again.found["format"] == format_name
    assert again.shape == data.shape == (channels, 9, 14)
    assert _rows(again) == _rows(data) + _rows(made)
    assert not any("left alone" in note for note in again.found["notes"])
    assert Counter(again.table["origin"]) == {"real": len(data), "synthetic": 5}
    if format_name != "npz":
        kept = [info for info in again.table["info"] if "seed" in info]
        assert [info["snapshot"] for info in kept] == ["abc"] * 5


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("format_name", ["folder", "npz"])
def test_every_mode_is_written_and_read_back(tmp_path: Path, mode: str, format_name: str) -> None:
    for i in range(8):
        if mode == "I;16":
            picture = PIL.Image.fromarray(badzoo.gray16(i))
        else:
            picture = badzoo.picture(i, mode)
            if mode in ("LA", "RGBA"):
                picture.putalpha(badzoo.picture(50 + i, "L").point(lambda value: max(2, value)))
        badzoo.put(tmp_path / "in" / "ab"[i % 2] / f"{i}.png", badzoo.save(picture, "PNG"))
    data = sibling.read(tmp_path / "in")
    made = _synthetic(data)
    if data.shape[0] in (2, 4):
        made.raw[:, -1] = np.maximum(made.raw[:, -1], 2)
    again = sibling.read(sibling.write(data, made, out=tmp_path / "out", format=format_name))
    assert again.raw.dtype == data.raw.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert data.shape[0] == {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    assert _rows(again) == _rows(data) + _rows(made)


def test_idx_says_what_it_cannot_hold(tmp_path: Path) -> None:
    wide = [Record("a", np.zeros((9, 9), np.uint16), y="a")]
    many = [Record(str(i), X[0], y=str(i)) for i in range(257)]
    mixed = [Record("a", X[0], y="a"), Record("b", X[0])]
    for records, reason in ((wide, "8-bit"), (many, "256 classes"), (mixed, "cannot hold both")):
        with pytest.raises(BadInput, match=reason):
            Idx().write(tmp_path, records, "")
