"""The scores of an evaluation: spaces, floors, copies in pixels and features, and what nobody can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
import torch

from sibling.conditions.label import Label
from sibling.dataset import Dataset, synthetic
from sibling.errors import UsageError
from sibling.fidelity import _floor_of_classes, copies, fidelity, like_the_test_part
from sibling.metrics import MEMORISATION, METRICS
from sibling.metrics.agreement import Agreement
from sibling.metrics.features import RandomFeatures
from sibling.metrics.intervals import share_of
from sibling.modalities.image import Image
from sibling.types import Score

CLASSES = ["dark", "light"]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """A recogniser of 12 x 12 pictures needs no 200 steps, wherever it is trained."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("judge", "spaces.recogniser"):
            patch.setattr(f"sibling.{module}.steps_for", lambda n: 30)
        yield


def pictures(n: int, seed: int, classes: int = 2) -> tuple[np.ndarray, list[str]]:
    """Smooth random pictures, raw (n, 1, 12, 12), the second class brighter."""
    kind = np.arange(n) % classes
    rough = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, size=12, mode="bilinear")
    raw = 100 + 30 * smooth.numpy() + 50 * kind[:, None, None, None]
    return raw.clip(0, 255).astype(np.uint8), [CLASSES[k] for k in kind]


def real(train: int = 200, val: int = 60, test: int = 80, classes: int = 2) -> Dataset:
    n = train + val + test
    raw, y = pictures(n, 1, classes)
    table = {
        "key": [f"r{i}" for i in range(n)], "y": y, "origin": ["real"] * n,
        "split": ["train"] * train + ["val"] * val + ["test"] * test, "group": list(range(n)),
        "sha256": [""] * n, "source": [None] * n, "info": [{} for _ in range(n)],
    }  # fmt: skip
    return Dataset(raw, table, Image(1, 12, 12), Label().fit(y))


def fakes(raw: np.ndarray, y: list[str], like: Dataset) -> Dataset:
    return synthetic(raw, list(y), [f"f{i}" for i in range(len(raw))], [{} for _ in raw], like)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return real()


@pytest.fixture(scope="module")
def fresh(data: Dataset) -> Dataset:
    return fakes(*pictures(150, 2), data)


def copier(data: Dataset, n: int = 150, *, mirrored: bool = False) -> Dataset:
    raw = np.asarray(data.raw[:n]).astype(np.int64)
    raw = raw[..., ::-1] if mirrored else raw
    noise = np.random.default_rng(0).integers(-2, 3, raw.shape)
    return fakes((raw + noise).clip(0, 255).astype(np.uint8), data.y(range(n)), data)


def found(data: Dataset, fake: Dataset) -> tuple[dict[tuple[str, str], Score], list[str], dict[str, object]]:
    notes: list[str] = []
    shown, scores = copies(data, fake, RandomFeatures(data.shape), 0, notes)
    return {(s.name, s.space.split(" ")[0].strip(",")): s for s in scores}, notes, shown


def test_copies_has_every_score_in_two_spaces(data: Dataset, fresh: Dataset) -> None:
    scores, notes, _ = found(data, fresh)
    assert set(scores) == {(name, s) for name in ("copy_share", *MEMORISATION) for s in ("pixels", "random")}
    assert notes == []
    for score in scores.values():
        assert math.isfinite(score.floor)
        assert score.low <= score.value <= score.high
        assert score.counts["fake"] > 100
        assert score.meaning
    assert next(iter(scores)) == ("copy_share", "pixels")  # the one that a look-up by name finds


@pytest.mark.parametrize("space", ["pixels", "random"])
def test_copies_are_told_from_fresh_samples(data: Dataset, fresh: Dataset, space: str) -> None:
    good, bad = (found(data, fake)[0] for fake in (fresh, copier(data)))
    assert bad["copy_share", space].value > 0.9
    assert good["copy_share", space].value < 0.1
    for name in MEMORISATION:
        sign = 1 if good[name, space].goal == "min" else -1
        assert sign * bad[name, space].value > sign * good[name, space].value
    assert bad["membership_auc", space].low > 0.6
    assert good["membership_auc", space].low < 0.5 < good["membership_auc", space].high


def test_mirrored_copies_are_found_and_shown(data: Dataset, fresh: Dataset) -> None:
    fake = copier(data, mirrored=True)
    scores, _, shown = found(data, fake)
    assert scores["copy_share", "pixels"].value > 0.9
    assert scores["copy_share", "random"].value > 0.9
    pairs = shown["copies"]
    assert isinstance(pairs, list)
    assert len(pairs) == 20
    assert all(pair["fake"][1:] == pair["real"][1:] for pair in pairs)  # f7 was made of r7
    assert {pair["space"] for pair in pairs} <= {score.space for score in scores.values()}
    images = [shown[name] for name in ("copies_fake", "copies_real")]
    assert all(isinstance(x, np.ndarray) and x.shape[0] == 20 and x.dtype == np.uint8 for x in images)


@pytest.mark.parametrize(("val", "test"), [(60, 49), (20, 80), (0, 0), (1, 1)])
def test_too_few_held_out_samples_cannot_tell(fresh: Dataset, val: int, test: int) -> None:
    data = real(val=val, test=test)
    scores, notes, _ = found(data, fakes(np.asarray(fresh.raw), fresh.table["y"], data))
    for part, n in (("val", val), ("test", test)):
        said = [note for note in notes if note.startswith("Cannot tell") and f"{part} part" in note]
        assert len(said) == (n < 50)
        assert all(f"{n} held-out samples" in note for note in said)
    for (name, _), score in scores.items():
        if name != "copy_share":
            assert math.isnan(score.value) == (test < 50)
            assert score.meaning.startswith("cannot tell") == (test < 50)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_fakes(data: Dataset, fresh: Dataset, n: int) -> None:
    few = fresh.subset(range(n))
    scores, _, shown = found(data, few)
    assert all(math.isnan(s.value) for (name, _), s in scores.items() if name != "copy_share")
    assert len(shown["copies"]) == n  # type: ignore[arg-type]
    assert all(
        math.isnan(s.low) or s.low <= s.value <= s.high for s in fidelity(data, few, 0, [], ["random"])
    )


def test_fidelity_names_two_spaces_and_a_floor_for_each_metric(data: Dataset, fresh: Dataset) -> None:
    notes: list[str] = []
    scores = fidelity(data, fresh, 0, notes)
    assert notes == []
    names = [score.name for score in scores]
    assert {name: names.count(name) for name in set(names)} == {
        **{name: 2 for name in METRICS}, "spectrum_distance": 1, "label_agreement": 1,
    }  # fmt: skip
    for score in scores:
        assert math.isfinite(score.floor)
        assert score.low <= score.value <= score.high
        assert set(score.per_class) == set(CLASSES)
    assert {s.space.split(" ")[0] for s in scores} == {"random", "recogniser", "power"}
    again = fidelity(data, fresh, 0, [])
    assert [asdict(s) for s in again] == [asdict(s) for s in scores]


def test_fresh_samples_stand_at_the_floor_and_noise_does_not(data: Dataset, fresh: Dataset) -> None:
    noise = np.random.default_rng(0).integers(0, 256, fresh.raw.shape, dtype=np.uint8)
    good, bad = (
        {s.name: s for s in fidelity(data, fake, 0, [], ["random"])}
        for fake in (fresh, fakes(noise, fresh.table["y"], data))
    )
    for name in ("kernel_distance", "frechet_distance", "frechet_infinity", "spectrum_distance"):
        assert abs(good[name].value - good[name].floor) < 0.2 * (bad[name].value - bad[name].floor)
    for name in ("precision", "density", "coverage"):
        assert good[name].value > bad[name].value + 0.3


def test_spaces_are_the_ones_that_were_asked_for(data: Dataset, fresh: Dataset) -> None:
    scores = fidelity(data, fresh, 0, [], ["spectrum", "random"])
    spaces = [s.space.split(" ")[0] for s in scores if s.name == "kernel_distance"]
    assert spaces == ["power", "random"]
    assert [s.name for s in scores].count("spectrum_distance") == 1  # the space was there already
    assert [s.name for s in scores].count("label_agreement") == 1  # of a recogniser that was not asked for
    with pytest.raises(UsageError, match="nonsense"):
        fidelity(data, fresh, 0, [], ["nonsense"])


def test_one_class_has_no_agreement_and_too_few_samples_no_distance() -> None:
    alone = real(classes=1)
    fake = fakes(*pictures(60, 3, classes=1), alone)
    notes: list[str] = []
    scores = fidelity(alone, fake, 0, notes)
    assert {s.space.split(" ")[0] for s in scores} == {"random", "power"}
    assert "recogniser" in notes[0]
    notes = []
    assert fidelity(real(test=9), fake, 0, notes) == []
    assert "9 test" in notes[0]


def test_like_the_test_part() -> None:
    data = real()
    raw, _ = pictures(200, 5)
    fake = fakes(raw, ["dark"] * 170 + ["light"] * 30, data)
    test = data.rows("test", "real")[:40]
    rows = like_the_test_part(data, fake, test, 60, 0)
    assert fake.classes(rows).count("dark") == 30
    assert fake.classes(rows).count("light") == 30  # all that there are
    assert len(like_the_test_part(data, fake, test, 20, 0)) == 20
    one = fakes(raw[:50], ["dark"] * 50, data)  # a class missing on one side
    assert set(one.classes(like_the_test_part(data, one, test, 60, 0))) == {"dark"}
    assert len(like_the_test_part(data, fake, test[:0], 7, 0)) == 7


def test_a_floor_of_few_rows_is_of_all_classes() -> None:
    """Rows lie class by class: the first few of them were the dark ones alone, far from the test part by any metric."""
    mixed = real()
    data = mixed.subset(np.argsort(mixed.table["y"], kind="stable"))
    assert data.classes(data.rows("train"))[:50] == ["dark"] * 50
    raw, _ = pictures(48, 3)
    found = fidelity(data, fakes(raw[::2], ["dark"] * 24, data), 0, [], ["random"])
    alone = next(score for score in found if score.name == "kernel_distance")
    assert alone.counts["fake"] < 30  # of the 60 reference samples, 30 are dark
    assert alone.floor < 0.3 * alone.value


def test_wrong_labels_are_caught_by_the_agreement() -> None:
    """Perfect pictures of the wrong class: distances cannot see that, the agreement does."""
    data = real()
    raw, y = pictures(80, 3)
    wrong = {"dark": "light", "light": "dark"}
    found = {
        name: next(
            s
            for s in fidelity(data, fakes(raw, labels, data), 0, [], ["recogniser"])
            if s.name == "label_agreement"
        )
        for name, labels in (("right", y), ("wrong", [wrong[one] for one in y]))
    }
    assert found["right"].high >= found["right"].floor > 0.9
    assert found["wrong"].high < 0.3
    assert found["wrong"].per_class.keys() == {"dark", "light"}


def test_the_floor_of_the_agreement_is_of_the_classes_that_were_made() -> None:
    """A recogniser that knows class 0 well and class 1 badly: a tool that made class 1 alone made no wrong labels."""
    real = Agreement(share_of(7, 10), {0: share_of(5, 5), 1: share_of(2, 5)})
    only = Agreement(share_of(16, 40), {1: share_of(16, 40)})
    assert _floor_of_classes(only, real) == (pytest.approx(0.4), 5)
    like_real = Agreement(share_of(10, 20), {0: share_of(5, 10), 1: share_of(5, 10)})
    assert _floor_of_classes(like_real, real) == (pytest.approx(0.7), 10)
    uneven = Agreement(share_of(20, 40), {0: share_of(10, 30), 1: share_of(10, 10)})
    assert _floor_of_classes(uneven, real)[0] == pytest.approx(0.85)
    unseen = Agreement(share_of(3, 4), {7: share_of(3, 4)})
    assert math.isnan(_floor_of_classes(unseen, real)[0])


def test_a_handful_of_fakes_gets_no_distance_without_an_interval() -> None:
    data, notes = real(), []
    raw, y = pictures(8, 3)
    found = fidelity(data, fakes(raw, y, data), 0, notes, ["random"])
    assert [score.name for score in found] == [
        "label_agreement"
    ]  # a share, which has an interval for any number
    assert found[0].low < found[0].value or found[0].high > found[0].value
    assert "8 of 8 synthetic samples" in notes[0]
    enough, y = pictures(16, 3)
    notes.clear()
    found = fidelity(data, fakes(enough, y, data), 0, notes, ["random"])
    assert notes == ["frechet_infinity was left out: 16 synthetic samples are too few for its interval."]
    shown = [score for score in found if math.isfinite(score.value)]
    assert len(shown) > 5
    assert all(math.isfinite(score.low) and math.isfinite(score.high) for score in shown)
