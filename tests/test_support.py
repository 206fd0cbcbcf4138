"""What is written after a verdict: what it supports, and the recipe that needs no synthetic sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import blobs, dataset

import sibling
from sibling import files
from sibling.dataset import Dataset, synthetic
from sibling.errors import BadInput, UsageError
from sibling.lift.answer import undecided
from sibling.modalities import MODALITIES
from sibling.registry import lookup
from sibling.support import advice_of, recipe_json, supported
from sibling.types import Evaluation


def made(n: int = 20) -> tuple[Dataset, Dataset]:
    raw, y = blobs(60)
    real = dataset(raw, y)
    fresh, names = blobs(n, seed=3)
    info = [{"seed": 0, "index": i, "snapshot": "0123456789ab"} for i in range(n)]
    return real, synthetic(fresh, list(names), [f"s{i}" for i in range(n)], info, real)


def judged(write: str, amount: dict[str, int]) -> Evaluation:
    answer = undecided("this is a test")
    answer.advice = {
        "write": write, "amount": amount, "of": {"left": 10, "right": 10}, "reason": "Because.",
        "augmentation": {"strength": 0.5, "batch": 32, "best_arm": "real + classic"},
    }  # fmt: skip
    return Evaluation([], answer)


def origins(folder: Path) -> list[str]:
    return [row["origin"] for row in files.read_jsonl(folder / "metadata.jsonl")]


@pytest.mark.parametrize(
    ("write", "amount", "count"),
    [("all", {"left": 10, "right": 10}, 20), ("some", {"left": 3}, 3), ("nothing", {}, 0)],
)
def test_what_the_verdict_supports_is_written(
    write: str, amount: dict[str, int], count: int, tmp_path: Path
) -> None:
    real, fake = made()
    sibling.write(real, fake, out=tmp_path / "out", verdict=judged(write, amount))
    assert origins(tmp_path / "out").count("synthetic") == count
    assert origins(tmp_path / "out").count("real") == 60
    recipe = files.read_json(tmp_path / "out" / "augmentation.json")
    assert (recipe["written"], recipe["reason"]) == (write, "Because.")
    assert recipe["augmentation"]["strength"] == 0.5
    assert sibling.verify(tmp_path / "out") == []
    assert len(sibling.read(tmp_path / "out")) == 60 + count  # the recipe is no sample


@pytest.mark.parametrize(
    ("modality", "told"),
    [
        ("image", "rotates"),
        ("video", "rotates"),
        ("audio", "gain"),
        ("signal", "jitter"),
        ("text", "symbols"),
    ],
)
def test_the_recipe_says_what_augmentation_does_to_samples_of_this_kind(modality: str, told: str) -> None:
    kind = lookup(MODALITIES, "sibling.modalities", modality)
    shell = kind.__new__(kind)  # its name and its augmentation are those of the class
    meaning = recipe_json(judged("nothing", {}).verdict.advice, write_anyway=False, modality=shell)[
        "augmentation"
    ]["meaning"]
    assert told in meaning
    assert ("degrees" in meaning) == (modality in ("image", "video"))


def test_write_anyway_writes_all_and_says_so(tmp_path: Path) -> None:
    real, fake = made()
    sibling.write(real, fake, out=tmp_path / "out", verdict=judged("nothing", {}), write_anyway=True)
    assert origins(tmp_path / "out").count("synthetic") == 20
    recipe = files.read_json(tmp_path / "out" / "augmentation.json")
    assert recipe["against_the_verdict"]


def test_without_a_verdict_all_is_written_and_no_recipe(tmp_path: Path) -> None:
    real, fake = made()
    sibling.write(real, fake, out=tmp_path / "out")
    assert origins(tmp_path / "out").count("synthetic") == 20
    assert not (tmp_path / "out" / "augmentation.json").exists()


def test_nothing_at_all_is_refused_with_the_way_out(tmp_path: Path) -> None:
    _, fake = made()
    with pytest.raises(UsageError, match="--write-anyway"):
        sibling.write(fake=fake, out=tmp_path / "out", verdict=judged("nothing", {}))
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_each_class_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    _, fake = made()
    kept = supported(fake, judged("some", {"left": 4, "right": 2}).verdict.advice)
    names = np.array(fake.classes(np.arange(len(fake))))
    first = [fake.table["key"][i] for i in np.flatnonzero(names == "left")[:4]]
    assert [key for key in kept.table["key"] if key in first] == first
    assert len(kept) == 6
    whole = supported(fake, {"write": "some", "amount": {"all": 5}, "reason": ""})
    assert whole.table["key"] == fake.table["key"][:5]  # where y is no class
    supported(fake, judged("nothing", {}).verdict.advice)
    assert "--write-anyway" in caplog.text


def test_advice_comes_from_a_folder_too(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    saved: dict[str, Any] = {"advice": {"write": "some", "amount": {"left": 1}}, "sentence": "So."}
    files.write_json(tmp_path / "evaluation" / "verdict.json", saved)
    assert advice_of(tmp_path)["amount"] == {"left": 1}
    assert advice_of(tmp_path / "evaluation")["write"] == "some"
    files.write_json(tmp_path / "evaluation" / "verdict.json", {"sentence": "So."})
    assert advice_of(tmp_path) == {"write": "nothing", "amount": {}, "reason": "So.", "augmentation": {}}
    assert advice_of(None) == {}
    with pytest.raises(BadInput):
        advice_of(tmp_path / "elsewhere")
    assert recipe_json(advice_of(tmp_path), write_anyway=False)["written"] == "nothing"
