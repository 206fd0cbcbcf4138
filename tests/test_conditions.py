"""What y is: a class, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibling.conditions.label import Label
from sibling.conditions.none import Unconditional
from sibling.errors import UsageError

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
