"""What y is: a class, labels, numbers, a map, several of these, or nothing."""

from __future__ import annotations

import base64
import io
import json
import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sibling.conditions import CONDITIONS
from sibling.conditions.joint import Joint
from sibling.conditions.label import Label
from sibling.conditions.labels import Labels
from sibling.conditions.map import Map
from sibling.conditions.none import Unconditional
from sibling.conditions.value import Value
from sibling.errors import BadInput, UsageError

NAMES = ["cat", "0", "00", "0.0", "10", "9", "é", "=cmd", "a\nb", "x" * 300]


def test_names_are_never_made_numbers() -> None:
    label = Label().fit(["0", "00", "0.0", "1e3", "1000"])
    assert set(label.classes) == {"0", "00", "0.0", "1e3", "1000"}
    assert label.width == 5


def test_numbers_are_sorted_as_numbers() -> None:
    assert Label().fit(["10", "9", "b", "a", "0", "100"]).classes == ["0", "9", "10", "100", "a", "b"]


@settings(max_examples=100)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=30))
def test_the_order_of_the_samples_says_nothing(y: list[str]) -> None:
    label = Label().fit(y)
    assert label.classes == Label().fit(y[::-1]).classes
    assert sum(label.counts) == len(y)
    again = Label(**{key: value for key, value in label.to_json().items() if key != "name"})
    assert (again.classes, again.counts) == (label.classes, label.counts)
    cond = label.encode(y, (4, 5))
    assert cond.vec.shape == (len(y), label.width)
    assert cond.map.shape == (len(y), 0, 4, 5)
    assert (cond.vec.sum(1) == 1).all()
    assert [label.classes[i] for i in cond.vec.argmax(1)] == y


def test_an_unknown_class_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"no class 'cst'.*Did you mean 'cat'"):
        Label().fit(["cat", "dog"]).encode(["cst"], (4, 4))


def test_draw_follows_the_data() -> None:
    label = Label().fit(["a"] * 90 + ["b"] * 10)
    drawn = label.draw(2_000, np.random.default_rng(0))
    assert 0.07 < drawn.count("b") / 2_000 < 0.13
    assert drawn == label.draw(2_000, np.random.default_rng(0))


def test_a_mismatch_is_always_wrong_and_uniform() -> None:
    label = Label().fit(NAMES)
    y = NAMES * 200
    wrong = label.mismatch(y, np.random.default_rng(0))
    assert all(a != b for a, b in zip(y, wrong, strict=True))
    for_cat = [b for a, b in zip(y, wrong, strict=True) if a == "cat"]
    assert set(for_cat) == set(NAMES) - {"cat"}
    with pytest.raises(UsageError, match="at least two"):
        Label().fit(["a"]).mismatch(["a"], np.random.default_rng(0))


def test_many_long_names_take_little_memory() -> None:
    # numpy would give each of a million samples the width of the longest name
    y = ["x" * 2_000, *["a"] * 200_000]
    assert Label().fit(y).counts == [200_000, 1]


def test_no_class_is_all_zeros() -> None:
    label = Label().fit(["a", "b"])
    assert torch.equal(label.null(3, (2, 2)).vec, torch.zeros(3, 2))


def test_unconditional() -> None:
    nothing = Unconditional().fit([None, None])
    cond = nothing.encode([None] * 3, (4, 4))
    assert cond.vec.shape == (3, 0)
    assert cond.map.shape == (3, 0, 4, 4)
    assert nothing.groups([None] * 2) == ["all", "all"]
    assert nothing.draw(2, np.random.default_rng(0)) == [None, None]
    assert nothing.to_json() == {"name": "none"}
    with pytest.raises(UsageError):
        nothing.mismatch([None], np.random.default_rng(0))


RNG = np.random.default_rng


def png(pixels: Any, mode: str | None = None) -> str:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def again(condition: Any) -> Any:
    """The same condition from its JSON."""
    saved = json.loads(json.dumps(condition.to_json()))
    return type(condition)(**{key: value for key, value in saved.items() if key != "name"})


# ---- label and none -------------------------------------------------------------------------------


def test_the_json_of_a_label_opens_in_old_stores() -> None:
    assert Label().fit(["a", "b"]).to_json() == {"name": "label", "classes": ["a", "b"], "counts": [1, 1]}
    kind = Label(column="kind").fit(["a"])
    assert kind.columns == ("kind",)
    assert again(kind).column == "kind"


def test_a_label_is_given_by_its_column_or_as_label() -> None:
    label = Label(column="kind").fit(["leaf", "3"])
    assert label.complete({"kind": "leaf"}, 2, RNG(0)) == ["leaf", "leaf"]
    assert label.complete({"label": 3}, 1, RNG(0)) == ["3"]
    with pytest.raises(UsageError, match=r"no class 'leaff'.*Did you mean 'leaf'"):
        label.complete({"kind": "leaff"}, 1, RNG(0))
    with pytest.raises(UsageError, match="twice"):
        label.complete({"kind": "leaf", "label": "3"}, 1, RNG(0))


def test_nothing_can_be_given_where_there_is_no_y() -> None:
    nothing = Unconditional()
    assert nothing.complete({}, 2, RNG(0)) == [None, None]
    assert nothing.within("all", RNG(0)) is None
    with pytest.raises(UsageError, match="no y, so 'kind'"):
        nothing.complete({"kind": "leaf"}, 1, RNG(0))


# ---- labels ---------------------------------------------------------------------------------------


def test_labels_are_multi_hot() -> None:
    labels = Labels().fit([["smile", "hat"], [], ["10"], ["9"], ["hat", "hat"]])
    assert labels.labels == ["9", "10", "hat", "smile"]
    vec = labels.encode([["smile", "hat"], [], ["9"]], (2, 2)).vec
    assert vec.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert labels.classes == ["none", "9", "10", "hat", "hat+smile"]
    assert labels.groups([["smile", "hat"], []]) == ["hat+smile", "none"]
    assert labels.encode([["9", "smile"]], (2, 2)).vec.sum() == 2  # never seen together
    with pytest.raises(UsageError, match=r"no label 'hut'.*Did you mean 'hat'"):
        labels.encode([["hut"]], (2, 2))
    with pytest.raises(UsageError, match="must be a list"):
        labels.encode(["hat"], (2, 2))  # text is no list of letters


def test_of_many_combinations_the_rarest_label_is_the_group() -> None:
    sets = [[name for bit, name in enumerate("abcde") if number >> bit & 1] for number in range(31)]
    assert len(Labels().fit(sets[:30]).classes) == 30
    y = [*sets, *[["a"]] * 3, *[["b"]] * 2, ["a", "b"]]  # a is in 19, b in 18, c and d in 15 or 14, e in 15
    many = Labels().fit(y)
    assert len(many.combinations) == 31
    assert many.groups([["a", "b"], ["a"], [], ["a", "e"]]) == ["b", "a", "none", "e"]
    assert set(many.classes) == {"none", *"abcde"}
    for group in many.classes:
        assert many.groups([many.within(group, RNG(i)) for i in range(5)]) == [group] * 5


def test_labels_are_drawn_as_often_as_they_were_seen_and_text_is_parsed() -> None:
    labels = Labels(column="tags").fit([["hat"]] * 90 + [["hat", "smile"]] * 10)
    drawn = labels.draw(2_000, RNG(0))
    assert 0.07 < drawn.count(["hat", "smile"]) / 2_000 < 0.13
    for text in ("smile|hat", "hat;smile", '["smile", "hat"]', " hat | smile "):
        assert labels.complete({"tags": text}, 1, RNG(0)) == [["hat", "smile"]]
    with pytest.raises(UsageError, match=r"exactly.*'smile'.*--allow-outside"):
        labels.complete({"tags": "smile"}, 1, RNG(0))
    assert labels.complete({"tags": "smile"}, 1, RNG(0), outside=True) == [["smile"]]
    assert labels.complete({"labels": "none"}, 1, RNG(0), outside=True) == [[]]
    with pytest.raises(UsageError, match="no JSON list"):
        labels.complete({"tags": "[hat"}, 1, RNG(0))


def test_what_an_error_says_was_seen_can_be_given() -> None:
    few = Labels().fit([["wet"], [], ["old", "wet"], ["a+b"]])
    many = Labels().fit(
        [[f"t{i:02d}", f"t{(i + 1 + i % 2) % 40:02d}"] for i in range(40) for _ in range(1 + i % 3)]
    )
    for known, unseen in ((few, "old"), (many, "t00")):
        with pytest.raises(UsageError, match=r"Give one of those") as raised:
            known.complete({"labels": unseen}, 1, RNG(0))
        shown = str(raised.value).partition("Seen: ")[2].partition(". Give")[0].partition(" and ")[0]
        assert shown.count(",") >= 3
        for text in shown.split(", "):
            (value,) = known.complete({"labels": text}, 1, RNG(0))
            assert known.encode([value], ()).vec.sum() == len(value)
            assert value == ["a+b"] or "+".join(value) == text or (value == [] and text == "none")
    # Two combinations of one name: neither is meant.
    twice = Labels().fit([["a", "b+c"], ["a+b", "c"], ["a"], ["c"]])
    with pytest.raises(UsageError, match="no label"):
        twice.complete({"labels": "a+b+c"}, 1, RNG(0))


def test_a_label_called_none_is_not_the_empty_list() -> None:
    labels = Labels().fit([["none"], []])
    assert labels.groups([["none"], []]) == ["none", "no label"]


@settings(max_examples=60)
@given(st.lists(st.lists(st.text(max_size=4), max_size=4), min_size=1, max_size=40))
def test_labels_keep_any_text(y: list[list[str]]) -> None:
    labels = Labels().fit(y)
    assert again(labels).to_json() == labels.to_json() == Labels().fit(y[::-1]).to_json()
    assert sum(labels.counts) == len(y)
    vec = labels.encode(y, (2, 2)).vec
    assert [{labels.labels[i] for i in row.nonzero()[:, 0]} for row in vec] == [set(value) for value in y]
    assert set(labels.groups(y)) == set(labels.classes)


# ---- value ----------------------------------------------------------------------------------------


def test_fourier_features_by_hand() -> None:
    value = Value().fit([{"angle": 10.0, "size": 0.0}, {"angle": 30.0, "size": 2.0}])
    vec = value.encode([{"size": 2.0, "angle": 15.0}], (2, 2)).vec[0].double()
    assert value.width == len(vec) == 30
    v = 0.25  # (15 - 10) / (30 - 10)
    sines = [math.sin(math.pi * 2**k * v) for k in range(7)]
    cosines = [math.cos(math.pi * 2**k * v) for k in range(7)]
    assert vec[:15].tolist() == pytest.approx([v, *sines, *cosines], abs=1e-7)
    assert vec[15].item() == 1.0
    assert value.encode([{"angle": 40.0, "size": 0.0}], (2, 2)).vec[0, 0].item() == 1.5  # outside
    for bad in ({"angle": 15.0}, {"angle": "x", "size": 1.0}, 0.5, {"angle": math.nan, "size": 1.0}):
        with pytest.raises(UsageError):
            value.encode([bad], (2, 2))


def test_groups_are_quantile_bins_with_distinct_names() -> None:
    y = [{"severity": i / 1000} for i in range(1001)]
    value = Value().fit(y)
    pairs = [(0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)]
    assert value.classes == [f"severity {a} to {b}" for a, b in pairs]
    counts = np.unique(value.groups(y), return_counts=True)[1]
    assert counts.max() - counts.min() <= 2
    assert value.groups([{"severity": -5.0}, {"severity": 5.0}]) == [value.classes[0], value.classes[-1]]
    assert Value().fit([{"v": 2.0}, {"v": 7.0}, {"v": 2.0}]).classes == ["v 2", "v 7"]
    assert Value().fit([{"year": 1980.0 + i} for i in range(41)]).classes[0] == "year 1980 to 1988"
    assert len(set(Value().fit([{"v": 1 + i * 1e-9} for i in range(100)]).classes)) == 5
    most_zero = Value().fit([{"v": 0.0}] * 95 + [{"v": float(i)} for i in range(1, 11)])
    assert most_zero.groups([{"v": 0.0}, {"v": 5.0}]) == most_zero.classes


@settings(max_examples=100)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60))
def test_no_group_of_numbers_is_empty_or_double(numbers: list[float]) -> None:
    y = [{"v": number} for number in numbers]
    value = Value().fit(y)
    assert 1 <= len(value.classes) <= 5
    assert len(set(value.classes)) == len(value.classes)
    assert set(value.groups(y)) == set(value.classes)
    assert all(value.groups([value.within(g, RNG(0))]) == [g] for g in value.classes)
    assert torch.isfinite(value.encode(y, (2, 2)).vec).all()
    assert again(value).classes == value.classes


def test_a_wrong_number_is_more_than_three_sigma_away() -> None:
    y = [{"v": float(v)} for v in RNG(0).uniform(5, 15, 500)]
    value = Value().fit(y)
    table = np.array([row["v"] for row in y])
    sigma = 1.06 * table.std() * 500 ** (-0.2)
    wrong = np.array([row["v"] for row in value.mismatch(y, RNG(0))])
    assert (np.abs(wrong - table) > 3 * sigma * (1 - 1e-9)).all()
    assert np.abs(wrong - table).min() < 4 * sigma  # not all at the far end
    drawn = np.array([row["v"] for row in value.draw(500, RNG(0))])
    assert (np.abs(drawn - table) < 3 * sigma).mean() > 0.3  # control: a plain draw is often too near
    few = [{"v": float(i)} for i in range(5)]  # 3 sigma is wider than the range: the farthest
    assert [row["v"] for row in value.fit(few).mismatch(few, RNG(0))][:2] == [4.0, 4.0]
    assert value.fit(few).mismatch([{"v": 4.0}], RNG(0)) == [{"v": 0.0}]


def test_the_numbers_that_are_not_given_come_from_near_rows() -> None:
    value = Value().fit([{"a": i / 999, "b": 10 * i / 999} for i in range(1000)])
    made = value.complete({"a": "0.5"}, 300, RNG(0))
    assert all(row["a"] == 0.5 for row in made)
    b = [row["b"] for row in made]
    assert 4.45 <= min(b) < 4.7  # 10 % of the rows: 0.45 to 0.55
    assert 5.3 < max(b) <= 5.55
    with pytest.raises(UsageError, match=r"a = 1\.2 lies outside of the seen range 0 to 1"):
        value.complete({"a": 1.2}, 1, RNG(0))
    assert value.complete({"a": 1.2}, 1, RNG(0), outside=True)[0]["a"] == 1.2
    for bad in ("much", "nan", None, "0,5"):
        with pytest.raises(UsageError, match="no finite number"):
            value.complete({"a": bad}, 1, RNG(0))
    assert Value().fit([{"a": 0.0}, {"a": 1.0}]).complete({"value": "0.5"}, 1, RNG(0)) == [{"a": 0.5}]


def test_of_many_rows_2000_are_kept_and_the_spread_stays_that_of_all() -> None:
    table = RNG(0).exponential(size=9_000)
    value = Value().fit([{"v": float(v)} for v in table])
    assert len(value.rows) == 2_000
    assert value.seen == 9_000
    assert value.ranges == [[table.min(), table.max()]]
    kept = np.array(value.rows)[:, 0]
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(kept, share) == pytest.approx(np.quantile(table, share), rel=0.02)


# ---- map ------------------------------------------------------------------------------------------


def test_a_map_is_decoded_to_minus_one_to_one() -> None:
    gray = png(np.array([[0, 255], [51, 204]], np.uint8))
    known = Map().fit([{"mask": gray}])
    assert known.columns == ("mask",)
    assert known.channels == 1
    decoded = known.encode([{"mask": gray}], (2, 2)).map
    assert decoded.flatten().tolist() == pytest.approx([-1, 1, -0.6, 0.6], abs=1e-6)
    colour = png(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8))
    both = Map("mask").fit([{"mask": gray}, {"mask": colour}])
    assert both.channels == 3
    assert both.encode([{"mask": colour}], (1, 2)).map[0, :, 0].tolist() == [[1, -1], [-1, 1], [-1, -1]]
    assert both.encode([{"mask": gray}], (2, 2)).map[0, 2].tolist() == decoded[0, 0].tolist()


@pytest.mark.parametrize(
    ("text", "channels", "first"),
    [
        (png(np.full((2, 2), 65535, np.uint16)), 1, 1.0),  # 16 bit, as depth
        (png(np.full((2, 2), 13107, np.uint16)), 1, -0.6),
        (png(Image.new("1", (2, 2), 1)), 1, 1.0),
        (png(Image.new("RGB", (2, 2), (102, 102, 102))), 1, -0.2),  # gray, whatever the mode says
        (png(Image.new("RGBA", (2, 2), (255, 255, 255, 0))), 1, -1.0),  # transparent becomes black
        (png(Image.new("LA", (2, 2), (255, 255))), 1, 1.0),
        (png(Image.new("RGB", (2, 2), (255, 0, 0)), "P"), 3, 1.0),
    ],
)
def test_maps_of_every_mode(text: str, channels: int, first: float) -> None:
    known = Map().fit([{"m": text}])
    assert known.channels == channels
    assert known.encode([{"m": text}], (2, 2)).map[0, 0, 0, 0].item() == pytest.approx(first, abs=1e-4)


def test_class_numbers_fill_the_range() -> None:
    masks = [{"m": png(np.full((2, 2), number, np.uint8))} for number in range(3)]
    known = Map().fit(masks)
    assert known.top == 2
    assert known.encode(masks, (2, 2)).map[:, 0, 0, 0].tolist() == [-1, 0, 1]
    assert again(known).encode([{"m": png(np.full((2, 2), 9, np.uint8))}], (2, 2)).map.max() == 1
    photo = [{"m": png(np.arange(64, dtype=np.uint8).reshape(8, 8))}]
    assert Map().fit(photo).top == 255  # control: many values are brightness


def test_label_maps_are_never_mixed_and_photographs_are() -> None:
    blocks = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((5, 5), np.uint8))
    y = [{"m": png(blocks)}]
    assert set(Map().fit(y).encode(y, (3, 3)).map.unique().tolist()) == {-1.0, 1.0}
    photo = RNG(0).integers(0, 256, (16, 16)).astype(np.uint8)
    mean = photo.reshape(4, 4, 4, 4).mean((1, 3)) / 127.5 - 1  # by area
    for pixels, most in ((photo, 1.01 / 127.5), (photo.astype(np.uint16) * 257, 1e-4)):
        y = [{"m": png(pixels)}]
        small = Map().fit(y).encode(y, (4, 4)).map[0, 0].numpy()
        assert np.abs(small - mean).max() <= most
    assert len(Map().fit(y).encode(y, (40, 40)).map.unique()) > 256  # bilinear: new values in between


def test_a_map_can_be_given_as_text_bytes_or_a_file(tmp_path: Path) -> None:
    text, new = (png(np.full((2, 2), number, np.uint8)) for number in (0, 1))
    known = Map().fit([{"m": text}])
    (tmp_path / "a.png").write_bytes(base64.b64decode(new))
    for said in (new, base64.b64decode(new), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert known.complete({"m": said}, 2, RNG(0)) == [{"m": new}] * 2
    assert known.complete({"map": new}, 1, RNG(0)) == [{"m": new}]
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    for bad in (tmp_path / "b.png", tmp_path / "none.png", new[:40], 7, "a\0b"):
        with pytest.raises(UsageError):
            known.complete({"m": bad}, 1, RNG(0))


def test_a_given_map_of_another_kind_than_the_seen_ones_is_refused() -> None:
    """A mask of 0 and 255 for maps of classes 0 to 2 would become the highest class, colours would become gray."""
    classes = Map().fit([{"m": png(np.full((2, 2), number, np.uint8))} for number in range(3)])
    mask = png(np.array([[0, 255]], np.uint8))
    with pytest.raises(UsageError, match=r"number 255; .* classes from 0 to 2.*allow_outside=True"):
        classes.complete({"m": mask}, 1, RNG(0))
    assert classes.complete({"m": mask}, 1, RNG(0), outside=True) == [{"m": mask}]
    assert classes.complete({"m": png(np.array([[2, 0]], np.uint8))}, 1, RNG(0))  # the control
    gray = Map().fit([{"m": png(np.arange(256, dtype=np.uint8).reshape(16, 16))}])
    assert gray.complete({"m": mask}, 1, RNG(0)) == [{"m": mask}]
    red = png(np.array([[[255, 0, 0]]], np.uint8))
    with pytest.raises(UsageError, match=r"has colours.*gray.*--allow-outside"):
        gray.complete({"m": red}, 1, RNG(0))
    both = Joint().fit([{"m": png(np.full((2, 2), i % 3, np.uint8)), "kind": "ab"[i % 2]} for i in range(6)])
    with pytest.raises(UsageError, match="number 255"):
        both.complete({"m": mask, "kind": "a"}, 1, RNG(0))
    assert both.complete({"m": mask, "kind": "a"}, 1, RNG(0), outside=True) == [{"m": mask, "kind": "a"}]
    coloured = Map().fit([{"m": red}])
    assert coloured.complete({"m": red}, 1, RNG(0)) == [{"m": red}]
    assert coloured.complete({"m": mask}, 1, RNG(0)) == [{"m": mask}]  # gray is a colour


@pytest.mark.parametrize("text", ["", "iVBORw0KGgo", "no base64!", png(np.zeros((9, 9), np.uint8))[:60]])
def test_a_damaged_map_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be decoded"):
        Map().fit([{"m": text}])


def test_a_map_needs_pictures_and_256_are_kept() -> None:
    y = [{"m": png(np.full((1, 1), i % 256, np.uint8))} for i in range(600)]
    known = Map().fit(y)
    assert len(known.maps) == 256
    with pytest.raises(UsageError, match="two spatial axes"):
        known.encode(y[:1], (16,))
    for bad in (None, {"m": Path("x")}, {"other": "x"}):
        with pytest.raises(UsageError, match="base64"):
            known.encode([bad], (2, 2))


# ---- joint ----------------------------------------------------------------------------------------


def leaves(n: int = 200) -> list[dict[str, Any]]:
    numbers = RNG(0).random(n).tolist()
    return [
        {"kind": "leaf" if i % 10 else "stem", "severity": v, "size": 10 * v} for i, v in enumerate(numbers)
    ]


def test_parts_follow_from_the_types() -> None:
    mask = png(np.zeros((2, 2), np.uint8))
    y = [
        {"a": 1, "kind": "leaf", "tags": ["x"], "b": 0.5, "mask": mask, "flag": True},
        {"a": 2, "kind": "stem", "tags": [], "b": 0.7, "mask": mask, "flag": False},
    ]
    joint = Joint().fit(y)
    assert [part.name for part in joint.parts] == ["value", "label", "labels", "map", "label"]
    assert joint.columns == ("a", "b", "kind", "tags", "mask", "flag")
    assert joint.width == 30 + 2 + 1 + 2
    assert joint.channels == 1
    assert joint.classes == ["leaf, x, True", "stem, none, False"]
    assert not joint.unambiguous
    cond = joint.encode(y, (2, 2))
    assert cond.vec[0, :30].tolist() == joint.parts[0].encode(y, (2, 2)).vec[0].tolist()
    assert cond.vec[0, 30:].tolist() == [1, 0, 1, 0, 1]
    assert torch.equal(again(joint).encode(y, (2, 2)).map, cond.map)
    for bad in ([{"a": 1}, {"a": "x"}], [{"a": 1}, {}], [{"a": None}], ["a"], [{}], []):
        with pytest.raises(UsageError):
            Joint().fit(bad)


def test_parts_can_be_said() -> None:
    y = leaves()
    label, severity = {"name": "label", "column": "kind"}, {"name": "value", "names": ["severity"]}
    joint = Joint(parts=[label, severity]).fit(y)
    assert joint.columns == ("kind", "severity")
    assert joint.classes == ["leaf", "stem"]
    assert joint.counts == [180, 20]
    assert joint.width == 2 + 15
    assert joint.unambiguous
    only = Joint(parts=[severity]).fit(y)
    assert only.classes == Value(["severity"]).fit(y).classes
    assert Joint(parts=[{"name": "none"}, label]).fit(y).classes == ["leaf", "stem"]
    with pytest.raises(UsageError, match="two parts with numbers"):
        Joint(parts=[severity, {"name": "value", "names": ["size"]}])
    with pytest.raises(UsageError, match="Two parts of y have the column 'kind'"):
        Joint(parts=[label, label])
    with pytest.raises(UsageError, match="Did you mean 'label'"):
        Joint(parts=[{"name": "lable"}])
    with pytest.raises(UsageError, match="no kind"):
        joint.encode([{"severity": 0.5}], (2, 2))


SHADE = """
    import torch
    from sibling.types import Cond

    class Shade:
        '''A y of its own kind: two columns, told as one number; made by a stranger.'''
        name, width, channels, columns, unambiguous = "shade", 1, 0, ("r", "g"), True
        classes = ("dark", "light")

        def fit(self, y):
            return self

        def encode(self, y, spatial):
            return Cond(torch.tensor([[v["r"] + v["g"]] for v in y]), torch.zeros(len(y), 0, *spatial))

        def groups(self, y):
            return ["light" if v["r"] + v["g"] > 1 else "dark" for v in y]

        def mismatch(self, y, rng):
            return [{"r": 1 - v["r"], "g": 1 - v["g"]} for v in y]

        def complete(self, given, n, rng):
            return [{"r": 0.0, "g": 0.0, **given}] * n

        def to_json(self):
            return {"name": "shade"}
"""


def test_any_condition_of_the_table_can_be_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_shade.py").write_text(textwrap.dedent(SHADE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(CONDITIONS, "shade", "plugin_shade:Shade")
    y = [{"kind": "ab"[i % 2], "r": 0.25 * (i % 4), "g": 0.75} for i in range(8)]
    joint = Joint(parts=[{"name": "label", "column": "kind"}, {"name": "shade"}]).fit(y)
    assert joint.columns == ("kind", "r", "g")
    assert joint.classes == ["a, dark", "a, light", "b, dark", "b, light"]
    assert joint.encode(y, (2, 2)).vec[1].tolist() == [0, 1, 1.0]
    assert not hasattr(joint, "vicinity")
    assert all(row["r"] == 0.5 for row in joint.complete({"r": 0.5}, 5, RNG(0)))
    assert all(a != b for a, b in zip(joint.mismatch(y, RNG(0)), y, strict=True))


def test_one_part_of_a_joint_is_wrong_at_a_time() -> None:
    y = leaves()
    wrong = Joint().fit(y).mismatch(y, RNG(0))
    kinds = [a["kind"] != b["kind"] for a, b in zip(wrong, y, strict=True)]
    sizes = [a["severity"] != b["severity"] for a, b in zip(wrong, y, strict=True)]
    assert all(a != b for a, b in zip(kinds, sizes, strict=True))  # one of the two, never both
    assert 0.35 < np.mean(kinds) < 0.65
    one_kind = [{**row, "kind": "leaf"} for row in y]
    wrong = Joint().fit(one_kind).mismatch(one_kind, RNG(0))
    assert {row["kind"] for row in wrong} == {"leaf"}
    assert all(a["severity"] != b["severity"] for a, b in zip(wrong, one_kind, strict=True))
    with pytest.raises(UsageError, match="at least two"):
        Joint().fit(y[:1] * 3).mismatch(y[:1], RNG(0))


def test_the_rest_of_a_joint_is_drawn_from_rows_that_agree() -> None:
    y = [{"kind": "leaf", "severity": i / 100} for i in range(101)]
    y += [{"kind": "stem", "severity": 2 + i / 100} for i in range(101)]
    joint = Joint().fit(y)
    stems = [row["severity"] for row in joint.complete({"kind": "stem"}, 200, RNG(0))]
    assert min(stems) >= 2
    assert len(set(stems)) > 50
    assert joint.complete({"severity": "0.3"}, 50, RNG(0)) == [{"kind": "leaf", "severity": 0.3}] * 50
    both = {"kind": "stem", "severity": 2.3}
    assert joint.complete(both, 1, RNG(0)) == [both]
    assert joint.complete({"label": "stem", "value": 2.5}, 1, RNG(0)) == [{"kind": "stem", "severity": 2.5}]
    with pytest.raises(UsageError, match="twice"):
        joint.complete({"label": "stem", "kind": "leaf"}, 1, RNG(0))


def test_values_that_never_went_together_need_to_be_allowed() -> None:
    joint = Joint().fit([{"kind": k, "site": s} for k, s in [("leaf", "A"), ("stem", "B")] * 5])
    assert joint.classes == ["leaf, A", "stem, B"]
    new = {"kind": "leaf", "site": "B"}
    with pytest.raises(UsageError, match=r"kind=leaf and site=B.*--allow-outside"):
        joint.complete(new, 1, RNG(0))
    assert joint.complete(new, 2, RNG(0), outside=True) == [new, new]
    mapped = Joint().fit(
        [{"kind": "ab"[i % 2], "m": png(np.full((2, 2), 80 * i, np.uint8))} for i in range(4)]
    )
    drawn = {"kind": "b", "m": png(np.full((3, 3), 77, np.uint8))}  # a map need not be a seen one
    assert mapped.complete(drawn, 1, RNG(0)) == [drawn]


def test_of_many_rows_every_group_is_kept_and_drawn_as_often_as_seen() -> None:
    numbers = RNG(0).random(20_000).tolist()
    joint = Joint().fit([{"kind": "often" if i > 2 else "rare", "v": v} for i, v in enumerate(numbers)])
    assert len(joint.rows) <= 5_000
    assert dict(zip(joint.classes, joint.counts, strict=True)) == {"often": 19_997, "rare": 3}
    assert joint.within("rare", RNG(0))["kind"] == "rare"
    drawn = joint.draw(20_000, RNG(0))
    assert sum(row["kind"] == "rare" for row in drawn) < 10  # 3 expected; 12 were it 3 in 5,000
    v = np.array([row["v"] for row in drawn])
    assert np.quantile(v, [0.1, 0.9]).tolist() == pytest.approx([0.1, 0.9], abs=0.02)
    many = [{"kind": f"{i % 300}", "m": png(np.full((1, 1), i % 7, np.uint8))} for i in range(900)]
    mapped = Joint().fit(many)
    assert len(mapped.rows) == len(mapped.classes) == 300  # more groups than the 256 rows that maps may take
    assert again(mapped).draw(20, RNG(0)) == mapped.draw(20, RNG(0))


# ---- what is drawn comes from the train part, what has a name from all ----------------------------

# (all values, the first so many of them are those of the train part)
PARTS: dict[str, tuple[list[Any], int]] = {
    "none": ([None] * 8, 6),
    "label": (["a", "b", "c", "a", "b", "a", "d", "c"], 6),
    "labels": ([["a"], ["a", "b"], [], ["a"], ["b"], ["c"], ["c", "a"]], 5),
    "many labels": ([[n for b, n in enumerate("abcdef") if i >> b & 1] for i in range(64)], 32),
    "value": ([{"v": i / 40, "w": -i / 3} for i in range(60)], 40),
    "few values": ([{"v": float(i % 3)} for i in range(30)] + [{"v": 3.0}] * 5, 30),
    "map": ([{"m": png(np.full((2, 2), i, np.uint8))} for i in range(9)], 6),
    "joint": ([{"k": "ab"[i % 2], "v": i / 40} for i in range(40)] + [{"k": "c", "v": 7.0 + i} for i in range(9)], 40),
    "joint of values": ([{"v": i / 40, "m": png(np.full((2, 2), i, np.uint8))} for i in range(60)], 40),
    "joint of labels": ([{"k": "ab"[i % 2], "t": ["x"] * (i % 3)} for i in range(24)] + [{"k": "a", "t": ["y"]}], 24),
}  # fmt: skip


def parted(name: str) -> tuple[Any, Any, list[Any], list[Any]]:
    """(what knows all values, the same after its train part, the train values, all values)."""
    y, n = PARTS[name]
    kinds: dict[str, Any] = {"joint": Joint, "labels": Labels, "label": Label, "value": Value, "map": Map}
    kind = next((kinds[word] for word in kinds if word in name), Unconditional)
    known = kind().fit(y)
    return known, known.learned(y[:n]), y[:n], y


def same(a: Any, b: Any) -> bool:
    return sorted(a) == sorted(b) if isinstance(a, list) else bool(a == b)


@pytest.mark.parametrize("name", PARTS)
def test_only_train_values_are_drawn_and_all_have_their_group(name: str) -> None:
    known, narrow, train, y = parted(name)
    for condition in (narrow, again(narrow)):
        drawn = condition.draw(400, RNG(0))
        wrong = condition.mismatch(y * 8, RNG(0)) if name != "none" else []
        filled = condition.complete({}, 100, RNG(0))
        for value in [*drawn, *filled]:
            assert any(same(value, one) for one in train)
        if "joint" not in name:  # there one part is of one sample, the rest of another
            assert all(any(same(value, one) for one in train) for value in wrong)
        assert not any(same(a, b) for a, b in zip(wrong, y * 8, strict=False))
        assert list(condition.classes) == list(known.classes)
        assert condition.groups(y) == known.groups(y)
        assert (condition.width, condition.channels) == (known.width, known.channels)
        assert torch.isfinite(condition.encode(y, (2, 2)).vec).all()
        for group in condition.classes:
            value = condition.within(group, RNG(0))
            assert condition.groups([value]) == [group]
            has = group in known.groups(train)
            assert not has or any(same(value, one) for one in train)
        with pytest.raises(UsageError, match="no class"):
            condition.within("qqqq", RNG(0))
    held = [value for value in y if not any(same(value, one) for one in train)]
    everything = known.draw(2_000, RNG(0))  # control: what knows all values draws the others too
    assert name == "none" or any(same(value, one) for value in everything for one in held)


def test_nothing_of_the_held_out_values_is_kept() -> None:
    for name in ("value", "joint", "joint of values", "map"):
        known, narrow, _, _ = parted(name)
        sharp = {"value": "1.475", "joint": "15.0", "joint of values": "1.475"}
        secret = sharp.get(name) or png(np.full((2, 2), 8, np.uint8))
        assert secret in json.dumps(known.to_json())
        assert secret not in json.dumps({**narrow.to_json(), "classes": [], "groups": []})


def test_the_range_and_the_counts_are_those_of_train() -> None:
    _, value, _, _ = parted("value")
    assert value.ranges == [[0.0, 39 / 40], [-13.0, 0.0]]
    assert value.seen == 40
    with pytest.raises(UsageError, match=r"v = 1\.2 lies outside of the seen range 0 to 0\.975"):
        value.complete({"v": 1.2}, 1, RNG(0))
    assert value.encode([{"v": 39 / 40, "w": 0.0}], (2, 2)).vec[0, 0] == 1
    _, label, _, _ = parted("label")
    assert label.to_json()["counts"] == [3, 2, 1, 0]
    assert set(label.mismatch(["d"] * 50, RNG(0))) <= {"a", "b", "c"}
    _, labels, _, _ = parted("labels")
    assert sum(labels.counts) == 5
    with pytest.raises(UsageError, match=r"exactly.*'c'\. Seen: none, a, a\+b, b\. Give"):
        labels.complete({"labels": "c"}, 1, RNG(0))
    _, joint, _, _ = parted("joint")
    assert joint.counts == [20, 20, 0]
    masks = Map().fit([{"m": png(np.full((2, 2), i, np.uint8))} for i in range(4)])
    assert (masks.learned([{"m": masks.maps[0]}]).top, masks.top) == (3, 3)  # the scale stays


def test_a_group_that_train_lacks_is_made_of_what_is_known() -> None:
    _, label, _, _ = parted("label")
    assert label.within("d", RNG(0)) == "d"
    _, labels, _, _ = parted("labels")
    assert labels.within("a+c", RNG(0)) == ["a", "c"]
    _, few, _, _ = parted("few values")
    assert few.within("v 3", RNG(0)) == {"v": 3.0}
    known, value, _, _ = parted("value")
    far = value.within(known.classes[-1], RNG(0))  # 1.2 to 1.475; the nearest of train is 0.975
    assert far == {"v": pytest.approx(1.2, abs=0.03), "w": -13.0}
    _, joint, _, _ = parted("joint")
    made = joint.within("c", RNG(0))
    assert made["k"] == "c"
    assert 0 <= made["v"] <= 1
    _, both, _, _ = parted("joint of labels")
    assert both.within("a, y", RNG(0)) == {"k": "a", "t": ["y"]}


def test_what_was_written_before_opens() -> None:
    y = PARTS["joint"][0]
    for condition, new in (
        (Value().fit([{"v": row["v"]} for row in y]), ("classes", "cuts")),
        (Joint().fit(y), ("groups", "ranges")),
        (Labels().fit(PARTS["labels"][0]), ("often",)),
    ):
        saved = condition.to_json()
        old = type(condition)(**{k: v for k, v in saved.items() if k not in (*new, "name")})
        assert old.to_json() == saved
        assert old.draw(20, RNG(0)) == condition.draw(20, RNG(0))


# ---- numbers that were not seen with a label ------------------------------------------------------


def two_ranges(n: int) -> list[dict[str, Any]]:
    """Leaves of severity 0 to 1 and stems of 2 to 3."""
    leaf = [{"kind": "leaf", "severity": i / (n - 1), "part": "xy"[i % 2]} for i in range(n)]
    return leaf + [{**row, "kind": "stem", "severity": 2 + row["severity"]} for row in leaf]


@pytest.mark.parametrize("n", [101, 6_001])  # all rows are kept; some are left out
def test_numbers_are_refused_where_their_label_was_not_seen_with_them(n: int) -> None:
    joint = Joint().fit(two_ranges(n))
    for condition in (joint, again(joint)):
        with pytest.raises(
            UsageError, match=r"severity = 0\.3 .* seen with kind=stem, 2 to 3, .*--allow-outside"
        ):
            condition.complete({"kind": "stem", "severity": 0.3}, 1, RNG(0))
        with pytest.raises(UsageError, match=r"seen with kind=stem and part=x, 2 to 3,"):
            condition.complete({"kind": "stem", "severity": 1.5, "part": "x"}, 1, RNG(0))
        with pytest.raises(UsageError, match=r"outside of the seen range 0 to 3,"):
            condition.complete({"kind": "stem", "severity": 4}, 1, RNG(0))
        for wish in (
            {"kind": "stem", "severity": 2},  # the ends of its range are in it
            {"kind": "stem", "severity": 3},
            {"kind": "leaf", "severity": 0.3},
            {"severity": 1.5},  # between both, and no label is given
            {"severity": 0.3},
        ):
            (made,) = condition.complete(wish, 1, RNG(0))
            assert wish.items() <= made.items()
        allowed = condition.complete({"kind": "stem", "severity": 0.3}, 2, RNG(0), outside=True)
        assert [(row["kind"], row["severity"]) for row in allowed] == [("stem", 0.3)] * 2


def test_what_is_given_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = two_ranges(200)
    looked = []
    plain = Value.nearest

    def nearest(self: Value, *arguments: Any) -> np.ndarray:
        looked.append(self)
        return plain(self, *arguments)

    monkeypatch.setattr(Value, "nearest", nearest)
    for condition in (Joint().fit(rows), Value(["severity"]).fit(rows)):
        looked.clear()
        draw = condition.completer({"severity": 0.5})
        assert [draw(1, RNG(i))[0] for i in range(50)] == [draw(1, RNG(i))[0] for i in range(50)]
        assert len(looked) == 1
        assert draw(50, RNG(0)) == condition.complete({"severity": 0.5}, 50, RNG(0))
        assert len(looked) == 2
