"""Several splits of one data set: every sample is tested once, duplicates stay together, nothing leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, blobs, dataset

import sibling
from sibling.dataset import Dataset
from sibling.folds import cross_validated, folds_of, split_anew
from sibling.snapshot import Snapshot


def grouped(n: int = 60) -> Dataset:
    """Samples of which each three make a group of duplicates."""
    data = dataset(*blobs(n), test=0.2, val=0.1)
    data.table["group"] = [i // 6 * 2 + i % 2 for i in range(n)]  # of one class each: classes alternate
    return data


def test_every_sample_is_tested_once_and_no_group_is_torn() -> None:
    data = grouped()
    splits = folds_of(data, 5, seed=0)
    assert len(splits) == 5
    tested = [key for each in splits for key in (each.table["key"][i] for i in each.rows("test"))]
    assert sorted(tested) == sorted(data.table["key"])
    for each in splits:
        parts: dict[int, set[str]] = {}
        for number, part in zip(each.table["group"], each.table["split"], strict=True):
            parts.setdefault(number, set()).add(part)
        assert all(len(found) == 1 for found in parts.values())
        assert {"train", "val", "test"} == set(each.table["split"])
        assert len(set(each.classes(each.rows("test")))) == 2
        assert set(each.classes(each.rows("train"))) == {"left", "right"}


def test_folds_are_a_function_of_seed_and_repeat() -> None:
    data = grouped()
    parts = [
        [each.table["split"] for each in folds_of(data, 3, seed, repeat)]
        for seed, repeat in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]
    assert parts[0] != parts[3]


def test_a_new_split_is_another_one() -> None:
    data = grouped()
    a, b = split_anew(data, 0, 0), split_anew(data, 0, 1)
    assert a.table["split"] != b.table["split"]
    assert 6 <= len(a.rows("test")) <= 18


def test_rare_classes_do_not_stop_the_folds() -> None:
    raw, y = blobs(40)
    y[0] = y[1] = "odd"
    splits = folds_of(dataset(raw, y), 5, seed=0)
    assert sum(len(each.rows("test")) for each in splits) == 40


def test_left_out_samples_stay_out() -> None:
    data = grouped()
    data.table["split"][0] = "left out"
    splits = folds_of(data, 3, seed=0)
    assert all(data.table["key"][0] not in each.table["key"] for each in splits)


def test_each_fold_has_a_generator_that_has_not_seen_its_test_part(tmp_path: Path) -> None:
    data = dataset(*blobs(60), test=0.2, val=0.1)
    run = sibling.fit(data, out=tmp_path / "run", model="bootstrap", tensorboard=False)
    fake = sibling.curate(sibling.sample(run, want=8), against=run)
    pairs = list(cross_validated(run, fake, folds_of(data, 3, seed=0), seed=0))
    assert len(pairs) == 3
    for real, made in pairs:
        seen = {real.table["key"][i] for i in real.rows("train")}
        nearest = {info["nearest_real"] for info in made.table["info"]}
        assert nearest <= seen  # curated against its own train part
        assert set(made.table["origin"]) == {"synthetic"}
    assert (
        len(
            {tuple(made.table["info"][0]["snapshot"] for made in [pair[1]]) for pair in pairs if len(pair[1])}
        )
        >= 1
    )


def test_a_small_test_part_is_replaced_by_folds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = dataset(*blobs(60), test=0.2, val=0.1)
    run = sibling.fit(data, out=tmp_path / "run", steps=10, arguments=TINY, tensorboard=False)
    made = sibling.sample(run, want=20)
    caplog.set_level("INFO")
    found = sibling.evaluate(made, against=run, steps=10)
    assert found.verdict.protocol["cross_validation"]
    assert found.verdict.protocol["splits"] == 5
    assert found.verdict.protocol["test_samples"] == 60
    assert any("cross-validation" in note for note in found.notes)
    assert "about" in caplog.text
    alone = sibling.evaluate(made, against=Snapshot(tmp_path / "run"), steps=10, quick=True)
    assert not alone.verdict.protocol["cross_validation"]
    assert np.isfinite(alone.verdict.lift) or not alone.verdict.decided
