"""From any format to any: the same pixels, y, split, origin and whatever else is known; what is lost is said."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import badzoo
import numpy as np
import PIL.Image
import pytest

import sibling
from sibling.cli import main
from sibling.errors import BadInput, UsageError
from sibling.formats import FORMATS
from sibling.modalities.image import Image
from sibling.read import found_at
from sibling.registry import lookup, names
from sibling.types import Record

ALL = [  # all but those of other kinds of samples
    name
    for name in names(FORMATS, "sibling.formats")
    if getattr(lookup(FORMATS, "sibling.formats", name), "modality", "image") == "image"
]
FILES = [name for name in ALL if getattr(lookup(FORMATS, "sibling.formats", name), "as_files", False)]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes, splits (one sample has none), synthetic samples and scores, in pictures too large to train with."""
    root = tmp_path_factory.mktemp("first") / "set"
    rows = []
    for i in range(12):
        name = f"{'cat' if i % 2 else 'dög'}/{i:02d}.{'jpg' if i == 3 else 'png'}"
        data = badzoo.save(badzoo.picture(i, height=70, width=90), "JPEG" if i == 3 else "PNG")
        badzoo.put(root / name, data)
        row: dict[str, Any] = {"file_name": name, "label": "cat" if i % 2 else "dög", "patient": i // 3}
        row["split"] = ["train", "train", "val", "test"][i % 4] if i else None
        if i > 8:
            row |= {"origin": "synthetic", "split": "train", "seed": 1, "index": i, "snapshot": "abc"}
            row["scores"] = {"copy_ratio": 0.5}
        rows.append(row)
    badzoo.put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return root


def records(place: Path, **asked: Any) -> list[Record]:
    return found_at(place, "image", "", asked.get("label_column"), asked.get("condition"), None)[0].records


def pixels(source: Any) -> bytes:
    if not isinstance(source, np.ndarray):
        source = np.moveaxis(
            Image(70, 90, 3).decode(source.read_bytes() if isinstance(source, Path) else source), 0, -1
        )
    return np.ascontiguousarray(source).tobytes()


def said(found: list[Record]) -> Counter[Any]:
    return Counter((pixels(r.source), str(r.y), r.origin, r.split) for r in found)


def known(place: Path) -> list[Any]:
    """The bytes of each sample, and all that is known of it besides."""
    return sorted(
        (
            (r.source.read_bytes() if isinstance(r.source, Path) else r.source),
            json.dumps({k: v for k, v in r.info.items() if k != "key"}, sort_keys=True),
        )
        for r in records(place)
    )  # type: ignore[type-var]


@pytest.fixture(scope="module")
def once(first: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The set in every format."""
    root = tmp_path_factory.mktemp("once")
    return {name: Path(sibling.convert(first, root / name, format=name)) for name in ALL}


# A reader and a writer meet in records alone, whose source is a path (folder), bytes (parquet) or an array (npz): each of
# these into every format, and every format into the next one, go through all that a full product would.
PAIRS = sorted(
    {*itertools.product(("folder", "parquet", "npz"), ALL), *zip(ALL, [*ALL[1:], ALL[0]], strict=True)}
)


def test_the_pairs_cover_every_kind_of_source_and_every_format(once: dict[str, Path]) -> None:
    kinds = {name: {type(record.source) for record in records(place)} for name, place in once.items()}
    told = [next(iter(kinds[name])) for name in ("folder", "parquet", "npz")]
    assert [issubclass(told[0], Path), *told[1:]] == [True, bytes, np.ndarray]
    assert all(len(kind) == 1 and kind <= {*told} for kind in kinds.values())
    assert {a for a, _ in PAIRS} == {b for _, b in PAIRS} == {*ALL}


@pytest.mark.parametrize("name", ALL)
def test_every_format_says_the_same(name: str, once: dict[str, Path], first: Path) -> None:
    assert said(records(once[name])) == said(records(first))
    assert sibling.verify(once[name]) == []
    if name in FILES:
        assert known(once[name]) == known(first)


@pytest.mark.parametrize(("middle", "last"), PAIRS)
def test_there_and_back(middle: str, last: str, once: dict[str, Path], first: Path, tmp_path: Path) -> None:
    """Between formats of files every byte stays, and all that is known."""
    again = Path(sibling.convert(once[middle], tmp_path / "again", format=last))
    assert said(records(again)) == said(records(first))
    assert sibling.verify(again) == []
    if middle in FILES and last in FILES:
        assert known(again) == known(first)
        assert sum('"patient": 2' in info for _, info in known(again)) == 3
        if last in ("folder", "csv", "jsonl"):
            assert len(list(again.rglob("*.jpg"))) == 1  # the only JPEG is still called one


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("what", ["label,patient:value", "patient:value"])
def test_chosen_columns_of_y(name: str, what: str, first: Path, tmp_path: Path) -> None:
    out = sibling.convert(first, tmp_path / "out", format=name, label_column=what)
    expected = Counter(str(r.y) for r in records(first, label_column=what))
    assert Counter(str(r.y) for r in records(out)) == expected


@pytest.mark.parametrize("name", ALL)
def test_maps(name: str, tmp_path: Path) -> None:
    """Also one that is no PNG; a label map of few values keeps each of them."""
    root, rng = tmp_path / "set", np.random.default_rng(0)
    maps = [rng.integers(0, 3, (16, 16), dtype=np.uint8) for _ in range(4)]
    rows = []
    for i, one in enumerate(maps):
        kind = "bmp" if i == 1 else "png"
        badzoo.put(root / f"{i}.png", badzoo.good_png(i))
        badzoo.put(root / f"m{i}.{kind}", badzoo.save(PIL.Image.fromarray(one), kind.upper()))
        rows.append({"file_name": f"{i}.png", "organ_mask": f"m{i}.{kind}"})
    badzoo.put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    out = sibling.convert(root, tmp_path / "out", format=name, label_column="organ_mask")
    data = sibling.read(out)
    assert data.condition.name == "map"
    found = []
    for record in records(out):
        one = record.y["organ_mask"]
        if not isinstance(one, np.ndarray):
            one = Image(16, 16, 1).decode(one.read_bytes() if isinstance(one, Path) else one)[0]
        found.append(one.tobytes())
    assert sorted(found) == sorted(one.tobytes() for one in maps)


def test_integers_of_any_range_are_not_scaled(tmp_path: Path) -> None:
    """`read` makes the largest value of an array white; a conversion does not."""
    for top in (16, 255, 4000):
        x = (
            np.random.default_rng(top)
            .integers(0, top + 1, (9, 12, 8))
            .astype(np.uint16 if top > 255 else np.uint8)
        )
        x[0, 0, 0] = top
        place = badzoo.npz(tmp_path / f"{top}.npz", x=x, y=np.arange(9) % 2)
        out = sibling.convert(
            sibling.convert(place, tmp_path / f"{top}-files"), tmp_path / f"{top}-again.npz"
        )
        with np.load(out / "data.npz") as again:
            assert sorted(one.tobytes() for one in again["x"].astype(x.dtype)) == sorted(
                one.tobytes() for one in x
            )


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.parquet", "parquet"),
        ("a.tar", "webdataset"),
        ("a.npz", "npz"),
        ("a.csv", "csv"),
        ("a.jsonl", "jsonl"),
        ("a", "folder"),
        ("a.b", "folder"),
    ],
)
def test_the_name_tells_the_format(name: str, format_name: str, first: Path, tmp_path: Path) -> None:
    assert main(["convert", str(first), str(tmp_path / name)]) == 0
    assert sibling.read(tmp_path / name).found["format"] == format_name
    assert json.loads((tmp_path / name / "MANIFEST.json").read_text())["format"] == format_name


def test_what_is_lost_is_said(first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sibling"):
        sibling.convert(first, tmp_path / "a", format="parquet")
        assert "kept" not in caplog.text
        sibling.convert(first, tmp_path / "b", format="npz")
    assert "Pixels are kept, the files are not" in caplog.text


def test_what_cannot_be_held_is_refused(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    floats = badzoo.npz(tmp_path / "f.npz", x=np.random.default_rng(0).random((4, 8, 8)))
    with pytest.raises(BadInput, match="float64, which no file"):
        sibling.convert(floats, out)
    sibling.convert(floats, tmp_path / "same.npz")  # the control
    mixed = badzoo.classes(tmp_path / "mixed", each=2)
    badzoo.put(mixed / "cat" / "large.png", badzoo.good_png(5, height=40))
    with pytest.raises(BadInput, match="2 sizes"):
        sibling.convert(mixed, out, format="npz")
    badzoo.put(mixed / "cat" / "text.png", b"text")
    with pytest.raises(BadInput, match=r"1 of 6 .*text\.png"):
        sibling.convert(mixed, out)
    with pytest.raises(BadInput, match="There is nothing"):
        sibling.convert(tmp_path / "nowhere", out)
    with pytest.raises(UsageError, match="Did you mean 'parquet'"):
        sibling.convert(mixed, out, format="parkett")
    with pytest.raises(UsageError, match="the input"):
        sibling.convert(first, first / "inside")
    assert not out.exists()
    assert len(records(sibling.convert(mixed, out, on_bad="skip"))) == 5


def test_a_store_is_converted_too(first: Path, tmp_path: Path) -> None:
    data = sibling.read(first, out=tmp_path / "store")
    out = sibling.convert(tmp_path / "store", tmp_path / "out.parquet")
    assert len(records(out)) == len(data)
