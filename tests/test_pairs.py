"""Folders A and B: what is told to the model, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sibling
from sibling.errors import BadInput
from sibling.formats.pairs import MAP_COLUMN, could_be_pairs, pairs_of


def pictures(folder: Path, names: list[str], shade: int) -> None:
    """Pictures that all differ, the brightness of their middle says of which side they are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    for name in names:
        picture = rng.integers(0, 60, (12, 12)).astype(np.uint8)
        picture[4:8, 4:8] = shade
        Image.fromarray(picture).save(folder / name)


def names(n: int) -> list[str]:
    return [f"{i:02d}.png" for i in range(n)]


def is_paired(data: sibling.Dataset) -> bool:
    """Samples are of B, and each has the map of its own name."""
    told = data.condition.encode(data.y(range(len(data))), data.shape[1:]).map
    raw = np.asarray(data.raw[:])
    return bool((raw[:, 0, 5, 5] == 220).all()) and bool((told[:, 0, 5, 5] < 0.3).all())


@pytest.mark.parametrize(
    "sides", [("A", "B"), ("a", "b"), ("train/A", "train/B"), ("trainA", "trainB"), ("train_A", "train_B")]
)
def test_pairs_are_read_however_their_folders_are_called(tmp_path: Path, sides: tuple[str, str]) -> None:
    for side, shade in zip(sides, (120, 220), strict=True):
        pictures(tmp_path / "pairs" / side, names(24), shade)
    data = sibling.read(tmp_path / "pairs", condition="map")
    assert data.condition.name == "map"
    assert len(data.rows(origin="real")) == 24
    assert is_paired(data)


def test_a_split_of_the_folders_is_kept_and_needs_nothing_to_be_said(tmp_path: Path) -> None:
    for part, n in (("train", 24), ("test", 9)):
        for side, shade in (("A", 120), ("B", 220)):
            pictures(tmp_path / "pairs" / f"{part}{side}", [f"{part}{name}" for name in names(n)], shade)
    data = sibling.read(tmp_path / "pairs")
    assert data.condition.columns == (MAP_COLUMN,) or list(data.condition.columns) == [MAP_COLUMN]
    assert len(data.rows("test", "real")) == 9
    assert is_paired(data)


def test_two_classes_called_a_and_b_stay_classes_and_it_is_said(tmp_path: Path) -> None:
    for side, shade in (("A", 120), ("B", 220)):
        pictures(tmp_path / "letters" / side, names(24), shade)
    data = sibling.read(tmp_path / "letters")
    assert list(data.condition.classes) == ["A", "B"]
    assert any("--condition map" in note for note in data.found["notes"])
    for name in names(24)[:5]:  # the control: other names are no pairs
        (tmp_path / "letters" / "A" / name).rename(tmp_path / "letters" / "A" / f"other-{name}")
    again = sibling.read(tmp_path / "letters")
    assert not any("--condition map" in note for note in again.found["notes"])


def test_classes_called_a_and_b_within_parts_stay_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for side, shade in (("a", 120), ("b", 220)):
            pictures(tmp_path / "letters" / part / side, [f"{part}{name}" for name in names(12)], shade)
    data = sibling.read(tmp_path / "letters")
    assert list(data.condition.classes) == ["a", "b"]
    assert len(data.rows("test", "real")) == 24


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "pairs" / "A", [*names(30), "spare.png"], 120)
    pictures(tmp_path / "pairs" / "B", [*names(30), "lonely.png"], 220)
    with pytest.raises(BadInput, match="no partner of the same name in A"):
        sibling.read(tmp_path / "pairs", condition="map", on_bad="stop")
    data = sibling.read(tmp_path / "pairs", condition="map", on_bad="skip")
    assert len(data) == 30
    assert any("1 files of A have no partner" in note for note in data.found["notes"])


def test_endings_may_differ_and_other_folders_make_it_no_pairs() -> None:
    found = pairs_of(["A/1.png", "B/1.jpg", "A/deep/2.png", "B/deep/2.png"], asked=True)
    assert found is not None
    assert [row["file_name"] for row in found.rows] == ["B/1.jpg", "B/deep/2.png"]
    for others in (
        ["A/1.png", "B/1.png", "C/1.png"],
        ["A/1.png"],
        ["1.png"],
        [],
        ["cat/A/1.png", "cat/B/1.png"],
    ):
        assert pairs_of(others, asked=True) is None
    assert pairs_of(["A/1.png", "B/1.png"], asked=False) is None
    assert not could_be_pairs(["A/1.png", "B/2.png"])
