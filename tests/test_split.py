"""The frozen split: whole groups, every class, the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sibling.split import assign, split_hash


def split(classes: list[str], groups: list[int] | None = None, given: list[str | None] | None = None,
          *, val: float = 0.1, test: float = 0.2, seed: int = 0) -> tuple[list[str], list[str]]:  # fmt: skip
    n = len(classes)
    rng = np.random.default_rng(seed)
    return assign(classes, groups or list(range(n)), given or [None] * n, val=val, test=test, rng=rng)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), min_size=1, max_size=80),
    st.floats(0, 0.5),
    st.floats(0, 0.45),
)
def test_laws(samples: list[tuple[str, int]], val: float, test: float) -> None:
    classes, groups = [name for name, _ in samples], [number for _, number in samples]
    parts, _ = split(classes, groups, val=val, test=test)
    homes = defaultdict(set)
    for number, part in zip(groups, parts, strict=True):
        homes[number].add(part)
    assert all(len(home) == 1 for home in homes.values())  # no group is divided
    first = {number: name for number, name in reversed(list(zip(groups, classes, strict=True)))}
    for name in set(first.values()):  # every class keeps something to train with
        assert any(
            part == "train" for number, part in zip(groups, parts, strict=True) if first[number] == name
        )
    if val == 0:
        assert "val" not in parts
    if test == 0:
        assert "test" not in parts
    assert split(classes, groups, val=val, test=test)[0] == parts


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 2}),
        (3, {"train": 2, "test": 1}),
        (6, {"train": 4, "test": 1, "val": 1}),
        (100, {"train": 70, "test": 20, "val": 10}),
    ],
)
def test_small_classes(count: int, expected: dict[str, int]) -> None:
    parts, notes = split(["big"] * 100 + ["small"] * count)
    assert Counter(parts[100:]) == expected
    assert Counter(parts[:100]) == {"train": 70, "test": 20, "val": 10}
    assert bool(notes) == (count < 3)


def test_stratified_under_imbalance() -> None:
    classes = ["common"] * 1000 + ["rare"] * 10
    parts, _ = split(classes)
    rare = Counter(parts[1000:])
    assert rare == {"train": 7, "test": 2, "val": 1}


def test_a_large_group_is_not_the_whole_test_part() -> None:
    groups = [0] * 90 + list(range(1, 11))
    for seed in range(10):
        parts, _ = split(["a"] * 100, groups, seed=seed)
        assert parts[0] == "train"
        assert 1 <= parts.count("test") <= 10


def test_another_seed_is_another_split() -> None:
    classes = ["a", "b"] * 50
    assert split(classes, seed=0)[0] == split(classes, seed=0)[0] != split(classes, seed=1)[0]


def test_a_given_split_is_kept() -> None:
    given = ["train"] * 60 + ["test"] * 40
    parts, notes = split(["a"] * 100, given=given)
    assert parts[60:] == ["test"] * 40
    assert Counter(parts[:60]) == {"train": 54, "val": 6}
    assert "kept" in notes[0]
    everything = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    assert split(["a"] * 100, given=everything)[0] == everything


def test_a_million_samples_have_a_bounded_test_part() -> None:
    parts, _ = split(["a"] * 200_000)
    assert parts.count("test") == 10_000
    assert parts.count("val") == 2_000


def test_the_hash_is_of_who_is_where() -> None:
    keys, digests, parts = ["a", "b"], ["1", "2"], ["train", "test"]
    base = split_hash(keys, digests, parts)
    assert base == split_hash(keys[::-1], digests[::-1], parts[::-1])  # the order says nothing
    assert base != split_hash(keys, digests, parts[::-1])
    assert base != split_hash(keys, ["1", "3"], parts)
    assert base != split_hash(["a", "c"], digests, parts)
