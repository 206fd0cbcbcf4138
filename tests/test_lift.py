"""The lift: tasks, arms, recipes, statistics on constructed predictions, and whole small comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import blobs, dataset
from scipy.stats import norm
from torch import nn

from sibling.dataset import Dataset, condition_of, synthetic
from sibling.errors import UsageError
from sibling.lift import recipe
from sibling.lift.answer import LEAST_TEST, answer
from sibling.lift.arms import CANDIDATE, PLACEBO, Arm, arms_of, is_imbalanced, like, rare_classes
from sibling.lift.compare import compare
from sibling.lift.curve import equivalent
from sibling.lift.effort import EFFORTS, Effort
from sibling.lift.recipe import Bench, Recipe, Source, choose, mixed, pool_of, subset, train
from sibling.lift.statistics import lifts, power
from sibling.lift.tasks import CLASS, Classes, Labels, Values, calibration_error, task_of
from sibling.lift.trial import Trial, _amounts, _candidate, in_parallel, job, trial
from sibling.types import Verdict

RIVALS = ("real", "real + classic", "real + duplicates")
ARMS = (*RIVALS, CANDIDATE, "shuffled labels")
TINY = EFFORTS["quick"].but(strengths=(0.5,), seeds=2, most_seeds=2)


# ---- tasks: closed forms --------------------------------------------------------------------------


def said(found: Sequence[Sequence[int]], p: float = 0.9) -> np.ndarray:
    out = np.zeros(np.shape(found), CLASS)
    out["y"], out["p"] = found, p
    return out


def test_accuracy_and_balanced_accuracy_by_hand() -> None:
    y = np.array([0, 0, 0, 1])
    answers = said([[0, 0, 1, 1], [0, 0, 0, 0]])
    every = np.ones((1, 4))
    assert Classes(["a", "b"]).values(answers, y, every)[0].tolist() == [0.75, 0.75]
    balanced = Classes(["a", "b"], balanced=True).values(answers, y, every)[0]
    assert balanced.tolist() == pytest.approx([(2 / 3 + 1) / 2, 0.5])
    weights = np.array([[0, 0, 1, 1], [1, 1, 1, 0]])  # the second draw has no sample of class b
    assert Classes(["a", "b"], balanced=True).values(answers, y, weights)[:, 1].tolist() == [0.5, 1.0]
    shown = Classes(["a", "b"]).measures(answers, y)
    assert shown["worst_class"] == pytest.approx(0.5)
    assert shown["per_class"] == {"a": pytest.approx(5 / 6), "b": 0.5}
    # F1 of a: 2*2/(2*2+0+1) and 2*3/(2*3+1+0); of b: 2*1/(2*1+1+0) and 0
    assert shown["macro_f1"] == pytest.approx(np.mean([[4 / 5, 6 / 7], [2 / 3, 0]]))
    # What is shown is exact: 4 of 5 is 0.8 and no 0.800000011920929.
    five = np.zeros((1, 5), answers.dtype)
    truth = np.array([0, 0, 0, 0, 1])
    assert Classes(["a", "b"]).values(five, truth, np.ones((1, 5)))[0, 0] == 0.8
    assert Classes(["a", "b"]).values(five, truth, np.ones((1, 5), np.float32)).dtype == np.float32


def test_macro_f1_of_labels_by_hand_and_against_sklearn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    y, seen = rng.random((50, 3)) < 0.4, rng.random((2, 50, 3)) < 0.5
    task = Labels(["a", "b", "c"])
    found = task.values(seen, y.astype(np.float32), np.ones((1, 50)))[0]
    assert found.tolist() == pytest.approx([f1_score(y, run, average="macro") for run in seen], rel=1e-5)
    weights = rng.integers(0, 3, (4, 50))
    drawn = task.values(seen, y.astype(np.float32), weights)
    rows = np.repeat(np.arange(50), weights[1])
    assert drawn[1, 0] == pytest.approx(f1_score(y[rows], seen[0][rows], average="macro"), rel=1e-5)


def test_the_error_of_numbers_is_in_their_own_unit() -> None:
    task = Values(["age"], np.array([50.0]), np.array([10.0]))
    y = np.array([[0.0], [1.0]], np.float32)
    off = np.array([[[0.5], [1.0]]], np.float32)
    assert task.values(off, y, np.ones((1, 2)))[0, 0] == pytest.approx(-2.5)  # 5 years once, none once
    assert task.values(off, y, np.array([[1, 0], [0, 1]]))[:, 0].tolist() == pytest.approx([-5, 0])
    assert task.measures(off, y)["mean_absolute_error"] == pytest.approx(2.5)
    assert (task.unit, task.goal) == ("of age", "min")


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.full(10, 0.8), np.arange(10) < 8) == pytest.approx(0)
    assert calibration_error(np.full(10, 0.9), np.arange(10) < 5) == pytest.approx(0.4)
    p = np.array([0.55] * 4 + [0.95] * 6)
    right = np.array([1, 1, 0, 0] + [1] * 6, bool)
    assert calibration_error(p, right) == pytest.approx(0.4 * 0.05 + 0.6 * 0.05)


def test_the_task_follows_from_y() -> None:
    raw, names = blobs(60)
    data = dataset(raw, names)
    assert isinstance(task_of(data), Classes)
    assert not task_of(data).balanced  # type: ignore[union-attr]
    rare = dataset(raw[:40], ["left"] * 34 + ["right"] * 6)
    assert task_of(rare).metric == "balanced accuracy"  # type: ignore[union-attr]
    assert task_of(dataset(raw, ["only"] * 60)) is None
    data = with_y([{"age": float(i)} for i in range(60)], {"age": "value"})
    assert isinstance(task_of(data), Values)
    data = with_y([["a"] if i % 2 else ["a", "b"] for i in range(60)], {"seen": "labels"})
    task = task_of(data)
    assert isinstance(task, Labels)
    assert task.names == ["a", "b"]
    assert task.targets(data, np.array([0, 1])).tolist() == [[1, 1], [1, 0]]


def with_y(y: list[Any], kinds: dict[str, str], raw: np.ndarray | None = None) -> Dataset:
    raw = blobs(len(y))[0] if raw is None else raw
    data = dataset(raw, [None] * len(y))
    data.table["y"] = y
    data.condition = condition_of(kinds).fit(y)
    return data


# ---- statistics, on constructed predictions -------------------------------------------------------


def constructed(
    accuracy: dict[str, float], rng: np.random.Generator, *, n: int = 400, seeds: int = 3, sd: float = 0.0,
    groups: np.ndarray | None = None, arms: Sequence[str] = ARMS,
) -> Trial:  # fmt: skip
    """A trial whose arms have these accuracies (0.7 where nothing is said); they find the same samples hard."""
    hard, y = rng.normal(size=n), np.arange(n) % 4
    answers = {}
    for name in arms:
        runs = []
        for _ in range(seeds):
            own = math.sqrt(0.7) * hard + math.sqrt(0.3) * rng.normal(size=n)
            level = np.clip(accuracy.get(name, 0.7) + sd * rng.normal(), 0, 1)
            runs.append(np.where(own < norm.ppf(level), y, (y + 1) % 4))
        answers[name] = said(runs)
    roles = {CANDIDATE: "candidate", "shuffled labels": "control"}
    nothing = pool_of(Source(lambda rows: torch.zeros(len(rows), 1), np.zeros(1)))
    known = [Arm(name, nothing, Recipe(10, 8), roles.get(name, "rival"), "") for name in arms]  # type: ignore[arg-type]
    groups = np.arange(n) if groups is None else groups
    return Trial(answers, y, groups, known, Recipe(10, 8), np.arange(1), 0.25)


def answered(accuracy: dict[str, float], trials: int = 1, **options: Any) -> Verdict:
    rng = np.random.default_rng(0)
    accuracy = {"shuffled labels": 0.3, **accuracy}
    made = [constructed(accuracy, rng, **options) for _ in range(trials)]
    return answer(made, Classes(list("abcd")), rng=np.random.default_rng(1), protocol={}, draws=500)


def test_clearly_better_helps() -> None:
    found = answered({CANDIDATE: 0.9})
    assert found.answer == "helps"
    assert 10 < found.low < found.lift < found.high < 30
    assert found.sentence.startswith("The synthetic samples help: +")
    assert found.decided


def test_clearly_worse_harms() -> None:
    found = answered({CANDIDATE: 0.5})
    assert found.answer == "harms"
    assert found.low < found.lift < found.high < 0
    assert "Train without them" in found.sentence


def test_equal_is_no_evidence() -> None:
    found = answered({})
    assert found.answer == "no evidence"
    assert found.low < 0 < found.high
    assert "could not have been seen." in found.sentence


def test_a_test_part_that_is_read_well_without_them_is_said_to_leave_no_room() -> None:
    found = answered({name: 1.0 for name in (*RIVALS, CANDIDATE)}, n=40)
    assert found.answer == "no evidence"
    assert found.sentence.endswith("could not have been seen, and no more than 0.0 points were left to gain.")


@pytest.mark.parametrize("rival", RIVALS)
def test_the_best_rival_counts_whichever_it_is(rival: str) -> None:
    found = answered({CANDIDATE: 0.9, rival: 0.9})
    assert found.answer == "no evidence"
    assert found.rival == rival
    assert answered({CANDIDATE: 0.5, rival: 0.95}).answer == "harms"


def test_what_the_placebo_does_as_well_is_no_harm_of_the_samples() -> None:
    """A candidate far behind the best rival, and its placebo with it: its recipe was a bad one."""
    behind = answered({CANDIDATE: 0.6, PLACEBO: 0.6, "real + classic": 0.9})
    assert behind.answer == "no evidence"
    assert behind.high < 0
    assert "Repeated real samples in their place did about as badly" in behind.sentence
    assert answered({CANDIDATE: 0.6, PLACEBO: 0.9, "real + classic": 0.9}).answer == "harms"  # the control


def test_a_control_that_does_as_well_takes_the_help_away() -> None:
    """Wrong labels that help as much as right ones: then it was not what the samples show."""
    found = answered({CANDIDATE: 0.9, "shuffled labels": 0.93})
    assert found.answer == "no evidence"
    assert "shuffled labels" in found.sentence
    assert not found.decided


def test_a_tiny_test_part_cannot_tell_however_large_the_lift() -> None:
    every = {CANDIDATE: 1.0, **dict.fromkeys(RIVALS, 0.02)}
    found = answered(every, n=LEAST_TEST - 1)
    assert (found.answer, found.decided) == ("no evidence", False)
    assert "too few" in found.sentence
    assert answered(every, n=LEAST_TEST).answer == "helps"


def test_one_seed_cannot_tell() -> None:
    found = answered({CANDIDATE: 0.95}, seeds=1)
    assert (found.answer, found.decided) == ("no evidence", False)
    assert "spread between two trainings" in found.sentence


def test_stopped_rivals_are_shown_but_do_not_count() -> None:
    rng = np.random.default_rng(0)
    made = constructed({CANDIDATE: 0.9, "shuffled labels": 0.3}, rng)
    made.answers["real"] = made.answers["real"][:1]
    made.stopped.append("real")
    found = answer([made], Classes(list("abcd")), rng=rng, protocol={}, draws=200)
    assert found.seeds == 3
    assert found.arms["real"]["stopped"]
    assert "lift_over_it" not in found.arms["real"]


def test_every_class_has_its_own_lift() -> None:
    rng = np.random.default_rng(0)
    made = constructed({"shuffled labels": 0.3}, rng, n=800, seeds=4)
    first = made.y == 0
    made.answers[CANDIDATE]["y"][:, first] = 0  # perfect in one class, and there alone
    found = answer([made], Classes(list("abcd")), rng=rng, protocol={}, draws=300)
    assert found.per_class["a"]["low"] > 10
    assert all(found.per_class[name]["low"] < 0 < found.per_class[name]["high"] for name in "bcd")


def simulated(
    runs: int, accuracy: dict[str, float], arms: Sequence[str], **options: Any
) -> tuple[float, float, float]:
    """Shares of simulated comparisons that say "helps", "harms", and whose interval holds the truth."""
    rng, task = np.random.default_rng(0), Classes(list("abcd"))
    rivals = [name for name in arms if name != CANDIDATE]
    truth = 100 * (accuracy.get(CANDIDATE, 0.7) - max(accuracy.get(name, 0.7) for name in rivals))
    helps = harms = covered = 0
    for _ in range(runs):
        found = lifts([constructed(accuracy, rng, arms=arms, **options)], task, CANDIDATE, rivals, rng, 200)
        low, high = found.low().min(), found.high(0.025 / len(rivals)).min()
        helps, harms, covered = helps + (low > 0), harms + (high < 0), covered + (low <= truth <= high)
    return helps / runs, harms / runs, covered / runs


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "n"), [(2, 100), (3, 200)])
def test_the_statistics_keep_their_promise(seeds: int, n: int) -> None:
    """2,000 simulated comparisons of equal arms in all: "helps" in at most 5 %, intervals that hold in 93 % or more."""
    arms = (CANDIDATE, "real", "real + classic")
    helps, harms, covered = simulated(500, {}, arms, seeds=seeds, n=n, sd=0.015)
    assert helps <= 0.05
    assert harms <= 0.05
    assert covered >= 0.93
    # One rival: no slack from taking the best of several, so the level itself is seen, from both sides.
    helps, harms, covered = simulated(500, {}, (CANDIDATE, "real"), seeds=seeds, n=n, sd=0.015)
    assert 0.001 <= helps <= 0.05
    assert 0.93 <= covered <= 0.995


def test_a_real_lift_is_seen() -> None:
    """The negative control of the test above: an interval that always holds 0 would pass it."""
    helps, harms, covered = simulated(60, {CANDIDATE: 0.78}, (CANDIDATE, "real"), seeds=4, n=800, sd=0.01)
    assert helps > 0.9
    assert harms == 0
    assert covered >= 0.85


def test_duplicates_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    made = constructed({CANDIDATE: 0.75}, rng, n=200, seeds=3)
    task = Classes(list("abcd"))
    alone = lifts([made], task, CANDIDATE, ["real"], np.random.default_rng(1), 1_000)
    doubled = Trial(
        {k: np.repeat(v, 2, 1) for k, v in made.answers.items()}, np.repeat(made.y, 2),
        np.repeat(made.groups, 2), made.arms, made.recipe, made.chosen, made.share,
    )  # fmt: skip
    twice = lifts([doubled], task, CANDIDATE, ["real"], np.random.default_rng(1), 1_000)
    assert twice.drawn.std() == pytest.approx(alone.drawn.std(), rel=0.1)
    doubled.groups = np.arange(400)  # as if they were other samples: too sure by the root of two
    wrong = lifts([doubled], task, CANDIDATE, ["real"], np.random.default_rng(1), 1_000)
    assert wrong.drawn.std() < 0.9 * alone.drawn.std()


def test_several_splits_are_wider_than_their_own_spread() -> None:
    """Splits share their training samples: as Nadeau and Bengio have it, (1 / T + share) in place of 1 / T."""
    rng, task = np.random.default_rng(0), Classes(list("abcd"))
    made = [constructed({CANDIDATE: 0.75}, rng, n=5_000, seeds=2) for _ in range(5)]
    points = [lifts([each], task, CANDIDATE, ["real"], rng, 50).value[0] for each in made]
    found = lifts(made, task, CANDIDATE, ["real"], rng, 2_000)
    assert found.value[0] == pytest.approx(np.mean(points))
    least = 2.776 / 1.96 * math.sqrt((1 / 5 + 0.25) * np.var(points, ddof=1))
    assert found.drawn.std() >= 0.97 * least


def test_arms_that_agree_on_every_sample_may_still_differ_on_others() -> None:
    rng = np.random.default_rng(0)
    made = constructed({}, rng, n=50, arms=(CANDIDATE, "real"))
    made.answers["real"] = made.answers[CANDIDATE] = made.answers["real"][:1].repeat(3, 0)
    found = lifts([made], Classes(list("abcd")), CANDIDATE, ["real"], rng, 1_000)
    assert found.value[0] == 0
    assert found.high()[0] == pytest.approx(100 * 1.96 * math.sqrt(3) / 50, rel=0.15)


def test_power_is_that_of_mcnemar() -> None:
    assert power(100) == pytest.approx(100 * 1.96 * math.sqrt(0.1 / 100), rel=1e-4)
    assert power(400) == pytest.approx(power(100) / 2)


# ---- arms and recipes -----------------------------------------------------------------------------


def side(n: int, seed: int = 0) -> Source:
    raw, names = blobs(n, seed=seed)
    x = torch.from_numpy(raw.astype(np.float32) / 127.5 - 1)
    return Source(lambda rows: x[rows], np.array([name == "right" for name in names], np.int64))


def keep(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    return x


def noisy_blobs(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Pictures uint8 (n, 1, 8, 8) of two classes that few samples do not teach: a faint pattern in much noise."""
    rng = np.random.default_rng(seed)
    pattern = np.random.default_rng(99).normal(size=(2, 1, 8, 8)) * 9
    y = np.arange(n) % 2
    raw = 128 + pattern[y] + rng.normal(0, 40, (n, 1, 8, 8))
    return raw.clip(0, 255).astype(np.uint8), ["left" if c == 0 else "right" for c in y]


def faint(n: int, seed: int) -> Source:
    raw, names = noisy_blobs(n, seed)
    x = torch.from_numpy(raw.astype(np.float32) / 127.5 - 1)
    return Source(lambda rows: x[rows], np.array([name == "right" for name in names], np.int64))


def bench_of(**options: Any) -> Bench:
    known: dict[str, Any] = {
        "task": Classes(["left", "right"]), "shape": (1, 8, 8), "augment": keep, "val": side(40, 3), "test": side(60, 4),
    }  # fmt: skip
    return Bench(**{**known, **options})


def all_arms(real: Source, fake: Source, **options: Any) -> dict[str, Arm]:
    known: dict[str, Any] = {
        "chosen": np.arange(len(fake)), "recipe": Recipe(10, 8), "own": Recipe(10, 8), "mixing": Recipe(10, 8, mix="mixup"),
        "task": Classes(["left", "right"]), "imbalanced": False, "rng": np.random.default_rng(0),
    }  # fmt: skip
    return {arm.name: arm for arm in arms_of(real=real, fake=fake, **{**known, **options})}


def test_the_arms_are_what_they_say() -> None:
    real, fake = side(40), side(60, seed=1)
    arms = all_arms(real, fake, imbalanced=True)
    assert {name: (len(arm.pool), arm.role) for name, arm in arms.items()} == {
        "real": (40, "rival"), "real + classic": (40, "rival"), "real + classic + mix": (40, "rival"),
        "real + class weights": (40, "rival"), "real + balanced sampling": (40, "rival"),
        "real + duplicates": (100, "rival"), CANDIDATE: (100, "candidate"), "shuffled labels": (100, "control"),
        "synthetic only": (60, "reference"),
    }  # fmt: skip
    assert len({arm.recipe.steps for arm in arms.values()}) == 1
    assert len({arm.recipe.batch for arm in arms.values()}) == 1
    assert arms["real"].recipe.strength is None
    placebo = arms["real + duplicates"].pool
    known = {row.numpy().tobytes() for row in real.fetch(np.arange(40))}
    assert {row.numpy().tobytes() for row in placebo.x(np.arange(40, 100))} <= known
    left = placebo.x(np.flatnonzero(placebo.labels == 0))  # repeated with their own labels
    assert (left[..., :4].mean((1, 2, 3)) > left[..., 4:].mean((1, 2, 3))).all()
    wrong = arms["shuffled labels"].pool
    assert sorted(wrong.labels[40:]) == sorted(fake.y)
    assert (wrong.labels[40:] != fake.y).any()


def test_the_candidate_and_its_placebo_have_equally_many() -> None:
    arms = all_arms(side(40), side(60, seed=1), chosen=np.arange(25), mixing=None)
    sizes = {name: len(arm.pool) for name, arm in arms.items()}
    assert sizes[CANDIDATE] == sizes["real + duplicates"] == sizes["shuffled labels"] == 65
    assert "real + classic + mix" not in arms


def test_the_candidate_its_placebo_and_its_control_are_trained_alike() -> None:
    own = Recipe(10, 8, strength=None, mix="cutmix")
    arms = all_arms(side(40), side(60, seed=1), own=own)
    assert [name for name, arm in arms.items() if arm.recipe == own] == [
        "real + duplicates", CANDIDATE, "shuffled labels", "synthetic only",
    ]  # fmt: skip
    assert arms["real + classic"].recipe == Recipe(10, 8)
    assert "cutmix and no other augmentation" in arms[CANDIDATE].meaning
    arms = all_arms(side(40), side(60, seed=1), own=Recipe(10, 8, balance="origins"))
    assert "real samples as often as synthetic ones" in arms[CANDIDATE].meaning
    only = arms["synthetic only"]  # has one origin
    assert only.meaning.endswith("rare classes are drawn more often")
    orders = [recipe._order(only.pool, r, bench_of().task, 0) for r in (only.recipe, arms[CANDIDATE].recipe)]
    assert np.array_equal(*orders)
    numbers = Values(["age"], np.zeros(1), np.ones(1))
    assert Recipe(10, 8, balance="origins").of_one_origin(numbers).balance == ""


def test_the_candidate_has_a_strength_of_its_own() -> None:
    """Augmentation that hides what the classes differ by: whoever must keep it cannot learn."""

    def blank(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        return x * (1 - strength)

    real, bench = side(40), bench_of(augment=blank)
    effort = TINY.but(strengths=(1.0,))
    own = _candidate(real, side(60, seed=1), bench, Recipe(30, 8, strength=1.0), "mixup", effort, 0, [], [])[
        1
    ]
    assert own.strength is None
    kept = _candidate(
        real, side(60, seed=1), bench_of(), Recipe(30, 8, strength=1.0), "mixup", effort, 0, [], []
    )[1]
    assert (kept.steps, kept.batch, kept.weight_decay) == (30, 8, Recipe(30, 8).weight_decay)


def test_the_amounts_that_are_tried() -> None:
    real = Source(side(110).fetch, np.repeat([0, 1], [100, 10]))
    fake = Source(side(300).fetch, np.repeat([0, 1], [100, 200]))

    def sizes(fake: Source, rare: list[int]) -> list[int]:
        return [len(rows) for _, rows in _amounts(real, fake, TINY.but(ratios=(0.5, 1.0, 4.0)), rare)]

    assert sizes(fake, []) == [300, 110, 55]
    assert sizes(fake, [1]) == [100, 10, 300]  # ten and one for each rare real one, and all
    assert set(fake.y[_amounts(real, fake, TINY, [1])[0][1]]) == {1}
    assert sizes(fake.take(np.arange(100, 108)), [1]) == [8]  # no part of so few is another choice
    assert sizes(fake.take(np.arange(50)), [1]) == [50]  # none of the rare class


def test_the_placebo_has_the_classes_of_the_fakes() -> None:
    def of(y: np.ndarray, kinds: list[str] | None = None) -> Source:
        return Source(lambda rows: torch.zeros(len(rows), 1), y, None if kinds is None else np.array(kinds))

    rng = np.random.default_rng(0)
    rows = like(of(np.ones(50, int)), of(np.array([0] * 90 + [1] * 10)), rng)
    assert set(rows) <= set(range(90, 100))
    real = of(np.zeros((6, 2)), ["low"] * 3 + ["high"] * 3)  # numbers, by their ranges
    assert set(like(of(np.ones((40, 2)), ["high"] * 40), real, rng)) == {3, 4, 5}
    assert set(like(of(np.ones((40, 2)), ["never seen"] * 40), real, rng)) == set(range(6))
    assert len(like(of(np.zeros((5, 2))), of(np.zeros((3, 2))), rng)) == 5  # no groups


def test_a_subset_keeps_shares_and_takes_the_first_of_each_class() -> None:
    y = np.array([0] * 60 + [1] * 30 + [2] * 10)
    rows = subset(y, 50)
    assert [int((y[rows] == c).sum()) for c in range(3)] == [30, 15, 5]
    assert rows[:30].tolist() == list(range(30))
    assert subset(y, 1_000).tolist() == list(range(100))
    assert set(y[subset(y, 100, [1, 2])]) == {1, 2}
    assert len(subset(np.zeros((9, 2)), 4)) == 4


def test_rare_classes_are_found_and_only_where_there_are_some() -> None:
    task = Classes(list("abcd"))
    assert rare_classes(np.repeat([0, 1, 2, 3], [500, 500, 10, 10]), task) == [2, 3]
    assert rare_classes(np.repeat([0, 1, 2, 3], [500, 10, 10, 10]), task) == [1, 2, 3]
    assert rare_classes(np.repeat([0, 1, 2, 3], [50, 45, 40, 50]), task) == []
    assert rare_classes(np.zeros((3, 1)), Values(["a"], np.zeros(1), np.ones(1))) == []
    settled = Classes(list("ab"), rare=[1])  # by all real samples: a fold may look otherwise
    assert rare_classes(np.repeat([0, 1], 20), settled) == [1]
    raw, _ = blobs(200)
    found = task_of(dataset(raw[:110], ["left"] * 100 + ["right"] * 10))
    assert isinstance(found, Classes)
    assert (found.balanced, found.rare) == (True, [1])


def test_where_classes_count_alike_what_balances_them_is_a_rival_though_none_is_rare() -> None:
    """The candidate may draw them alike often there."""
    names, y = list("abcd"), np.repeat([0, 1, 2, 3], [15, 25, 25, 50])
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(len(y), 1, 8, 8)).astype(np.float32))
    real = Source(lambda rows: x[rows], y)
    even, uneven = Classes(names), Classes(names, balanced=True)
    assert rare_classes(y, uneven) == []
    assert is_imbalanced(y, uneven)
    assert not is_imbalanced(y, even)  # the control
    found = trial(
        real=real, fake=real, groups=np.arange(len(y)), bench=bench_of(task=uneven, val=real, test=real),
        recipe=Recipe(2, 8), effort=TINY, seed=0,
    )  # fmt: skip
    assert {"real + class weights", "real + balanced sampling"} <= {*found.answers}
    (told,) = [one for one in found.tuning if one.startswith("mix: ")]
    assert "mixup; rare classes are drawn more often" in told  # as the candidate may mix and balance at once
    arm = next(one for one in found.arms if one.name == "real + classic + mix")
    assert (
        arm.meaning
        == arm.recipe.in_words
        == f"classic augmentation of strength 0.5 and {told[5:].split(', on')[0]}"
    )


def test_mixup_and_cutmix_by_hand() -> None:
    x = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    out, at, share = mixed(x, "mixup", np.random.default_rng(0))
    torch.testing.assert_close(out, share * x + (1 - share) * x[at])
    cuts = [mixed(x, "cutmix", np.random.default_rng(seed)) for seed in range(20)]
    for out, at, share in cuts:
        own = (out == x).float().mean((1, 2, 3))
        others = at != torch.arange(4)
        torch.testing.assert_close(own[others], torch.full_like(own[others], share))
    assert {share == 1.0 for _, _, share in cuts} == {True, False}
    sound, clip = torch.randn(3, 1, 20), torch.randn(3, 1, 4, 6, 6)
    assert mixed(sound, "cutmix", np.random.default_rng(1))[0].shape == sound.shape
    assert mixed(clip, "cutmix", np.random.default_rng(1))[0].shape == clip.shape


def test_a_training_is_a_function_of_its_arguments() -> None:
    runs = [
        train(pool_of(side(30)), Recipe(5, 8, mix=mix), bench_of(), 0, "x")
        for mix in ("", "", "mixup", "cutmix")
    ]
    assert np.array_equal(runs[0].test, runs[1].test)
    assert np.array_equal(runs[0].surprises, runs[1].surprises)
    assert len({float(run.surprises.mean()) for run in runs}) == 3


def test_class_weights_and_sampling_by_hand() -> None:
    y = np.repeat([0, 1], [90, 10])
    pool, task = pool_of(Source(lambda rows: torch.zeros(len(rows), 1), y)), Classes(["a", "b"])
    plain = Recipe(100, 10)
    weight = recipe._class_weights(pool, task, plain.but(balance="weights"))
    assert weight is not None
    assert weight.tolist() == pytest.approx([100 / 180, 100 / 20])
    assert recipe._class_weights(pool, task, plain) is None
    drawn = y[recipe._order(pool, plain.but(balance="sampling"), task, 0)]
    assert 0.45 < drawn.mean() < 0.55
    assert y[recipe._order(pool, plain, task, 0)].mean() == pytest.approx(0.1)


def test_origins_come_alike_often_in_each_class() -> None:
    def of(y: np.ndarray) -> Source:
        return Source(lambda rows: torch.zeros(len(rows), 1), y)

    # Class 0 has 90 real samples and no synthetic one, class 1 has 10 and 190, class 2 none and 50.
    pool = pool_of(of(np.repeat([0, 1], [90, 10])), of(np.repeat([1, 2], [190, 50])))
    drawn = recipe._order(pool, Recipe(400, 10, balance="origins"), Classes(list("abc")), 0)
    cells = [
        ((pool.labels[drawn] == c) & (pool.origins[drawn] == o)).mean() for c in range(3) for o in range(2)
    ]
    assert cells == pytest.approx([1 / 3, 0, 1 / 6, 1 / 6, 0, 1 / 3], abs=0.03)
    numbers = pool_of(
        Source(of(np.zeros(30)).fetch, np.zeros((30, 2))), Source(of(np.zeros(90)).fetch, np.zeros((90, 2)))
    )
    task = Values(["u", "v"], np.zeros(2), np.ones(2))
    drawn = recipe._order(numbers, Recipe(400, 10, balance="origins"), task, 0)
    assert (drawn < 30).mean() == pytest.approx(0.5, abs=0.03)


def test_the_least_surprised_recipe_is_chosen_and_the_usual_one_stays_within_chance() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 100)
    runs = [0.5 + noise, 0.49 + noise[::-1], 0.9 + noise]
    assert choose(runs) == 1
    assert choose(runs, usual=0) == 0  # it stays: the other is not clearly better
    assert choose(runs, usual=2) == 1  # the control: another is
    assert (
        choose([0.5 + noise, 0.49 + noise], usual=0) == 1
    )  # better on every single sample, by ever so little
    assert choose(runs, usual=1) == 1


def test_surprises_do_not_depend_on_how_sure_all_answers_are() -> None:
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 3, 200))
    logits = torch.from_numpy(rng.normal(size=(200, 3))) + 1.5 * torch.eye(3)[y]
    task = Classes(list("abc"))
    loss = task.surprises(logits, y)
    assert loss.shape == (200,)
    for scale in (0.2, 3.0):  # as mixing and few steps do, and too many
        np.testing.assert_allclose(task.surprises(scale * logits, y), loss, atol=2e-3)
    plain = (torch.softmax(3 * logits, 1) - torch.eye(3)[y]).square().sum(1)  # the Brier score
    assert loss.mean() < float(plain.mean()) - 0.01  # the control: without it they do depend on it
    worse = logits[torch.from_numpy(rng.permutation(200))]
    assert task.surprises(worse, y).mean() > loss.mean() + 0.1
    seen = (logits > 0.5).float()
    labels = Labels(list("abc"))
    np.testing.assert_allclose(labels.surprises(2 * logits, seen), labels.surprises(logits, seen), atol=2e-3)


def test_surprises_count_classes_alike_where_the_metric_does() -> None:
    y = torch.tensor([0] * 90 + [1] * 10)
    logits = torch.tensor([[1.0, 0.0]]).expand(100, 2)  # always the common class
    each, alike = Classes(["a", "b"]), Classes(["a", "b"], balanced=True)
    found = alike.surprises(logits, y)
    own = each.surprises(logits, y)
    np.testing.assert_allclose(found[:90].sum(), own[:90].mean() * 50)
    np.testing.assert_allclose(found[90:].sum(), own[90:].mean() * 50)
    numbers = Values(["a"], np.zeros(1), np.array([2.0]))
    assert numbers.surprises(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])).tolist() == [0, 2]


def test_shuffled_labels_lose_on_easy_data() -> None:
    arms = all_arms(side(12), side(200, seed=1), recipe=Recipe(40, 32, strength=0.0))
    test = bench_of()
    right = {
        name: float(
            (train(arms[name].pool, arms[name].recipe, test, 0, name).test["y"] == test.test.y).mean()
        )
        for name in (CANDIDATE, "shuffled labels")
    }
    assert right[CANDIDATE] > 0.95
    assert right["shuffled labels"] < right[CANDIDATE] - 0.1


# ---- a recogniser of the user's own ---------------------------------------------------------------


def linear(shape: Sequence[int], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))


def test_a_recogniser_of_ones_own_is_trained_like_ours() -> None:
    run = train(pool_of(side(60)), Recipe(40, 32, learning_rate=0.02), bench_of(build=linear), 0, "own")
    assert float((run.test["y"] == bench_of().test.y).mean()) > 0.9


def test_dropout_of_ones_own_recogniser_does_not_depend_on_what_else_is_trained() -> None:
    def dropped(shape: Any, outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, outputs))

    bench = bench_of(build=dropped)
    jobs = [
        job(pool_of(side(60)), Recipe(40, 32, learning_rate=0.02), bench, "own", n, test=True)
        for n in range(6)
    ]
    alone = [one().surprises for one in jobs]
    together = [run.surprises for run in in_parallel("together", jobs)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda shape, outputs: "no network", "gave a str"),
        (lambda shape, outputs: nn.Flatten(), "without anything to train"),
        (lambda shape, outputs: linear(shape, outputs + 1), "must give logits"),
    ],
)
def test_a_recogniser_that_does_not_fit_is_refused(build: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        train(pool_of(side(20)), Recipe(2, 8), bench_of(build=build), 0, "own")


# ---- whole comparisons ----------------------------------------------------------------------------


def hard(train_n: int = 40) -> Dataset:
    raw, names = noisy_blobs(train_n + 60 + 600, 0)
    data = dataset(raw, names)
    parts = ["train"] * train_n + ["val"] * 60 + ["test"] * 600
    data.table["split"] = parts
    data.table["group"] = list(range(len(parts)))
    return data


def made_of(raw: np.ndarray, y: list[Any], like_data: Dataset) -> Dataset:
    return synthetic(raw, list(y), [f"{i}" for i in range(len(y))], [{} for _ in y], like_data)


def judged(data: Dataset, fake: Dataset, effort: Effort = TINY, **options: Any) -> Verdict:
    return compare(iter([(data, fake)]), data, splits=1, effort=effort, seed=0, steps=60, **options)


def test_truly_new_samples_help_and_wrong_labels_do_not() -> None:
    data = hard()
    raw, names = noisy_blobs(800, 7)
    found = judged(data, made_of(raw, names, data), TINY.but(seeds=4, most_seeds=4))
    assert found.answer == "helps", found.sentence
    assert found.arms["shuffled labels"]["mean"] < found.arms[CANDIDATE]["mean"] - 0.05
    assert found.advice["write"] in ("all", "some")
    assert sum(found.advice["amount"].values()) == found.protocol["synthetic_samples"][0]
    wrong = [names[i] for i in np.random.default_rng(1).permutation(len(names))]
    lying = judged(data, made_of(raw, wrong, data))
    assert lying.answer != "helps"
    assert lying.advice["write"] == "nothing"
    rival = next(arm for name, arm in lying.arms.items() if name == lying.rival)
    assert (lying.advice["augmentation"]["strength"] is None) == ("no augmentation" in rival["meaning"])


def test_copies_of_the_training_samples_do_not_help() -> None:
    data = hard()
    rows = np.random.default_rng(0).choice(data.rows("train"), 80)
    found = judged(data, made_of(np.asarray(data.raw[rows]), data.y(rows), data))
    assert found.answer != "helps", found.sentence


def test_every_arm_gets_equally_many_optimiser_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[int, int] = {}
    original = torch.optim.AdamW.step

    def counted(self: Any, *rest: Any) -> Any:
        counts[id(self)] = counts.get(id(self), 0) + 1
        kept.append(self)
        return original(self, *rest)

    kept: list[Any] = []  # an id belongs to one optimiser only as long as that lives
    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    data = hard()
    raw, names = noisy_blobs(30, 7)
    found = compare(iter([(data, made_of(raw, names, data))]), data, splits=1, effort=TINY, seed=0, steps=13)
    assert found.steps == 13
    assert sorted(set(counts.values())) == [6, 13]  # 6: the short measurement of what it will cost
    assert list(counts.values()).count(6) == 1


def test_the_same_seed_gives_the_same_verdict() -> None:
    data = hard()
    raw, names = noisy_blobs(40, 7)
    a, b = (judged(data, made_of(raw, names, data)) for _ in range(2))
    a.protocol.pop("minutes"), b.protocol.pop("minutes")
    assert a == b


def test_numbers_are_compared_by_their_error() -> None:
    rng = np.random.default_rng(0)
    level = rng.random(330)
    raw = (np.clip(level[:, None, None, None] * 200 + rng.normal(0, 60, (330, 1, 8, 8)), 0, 255)).astype(
        np.uint8
    )
    data = with_y([{"level": float(v)} for v in level], {"level": "value"}, raw)
    data.table["split"] = ["train"] * 30 + ["val"] * 60 + ["test"] * 240
    data.table["group"] = list(range(330))
    more = rng.random(300)
    made = (np.clip(more[:, None, None, None] * 200 + rng.normal(0, 60, (300, 1, 8, 8)), 0, 255)).astype(
        np.uint8
    )
    found = judged(data, made_of(made, [{"level": float(v)} for v in more], data))
    assert (found.metric, found.goal, found.unit) == ("mean absolute error", "min", "of level")
    assert found.arms[CANDIDATE]["mean"] < 0.25  # always saying the mean gives 0.25
    assert found.lift == pytest.approx(
        found.arms[found.rival]["mean"] - found.arms[CANDIDATE]["mean"], abs=1e-6
    )
    assert found.arms["shuffled labels"]["mean"] > found.arms[CANDIDATE]["mean"]


def test_several_labels_are_compared_by_macro_f1() -> None:
    rng = np.random.default_rng(0)
    on = rng.random((300, 2)) < 0.5
    raw = rng.integers(0, 60, (300, 1, 8, 8))
    raw[:, :, :4] += (150 * on[:, :1, None, None]).astype(int)
    raw[:, :, 4:] += (150 * on[:, 1:, None, None]).astype(int)
    y = [[name for name, has in zip(("top", "bottom"), row, strict=True) if has] for row in on]
    data = with_y(y, {"seen": "labels"}, raw.astype(np.uint8))
    data.table["split"] = ["train"] * 60 + ["val"] * 60 + ["test"] * 180
    data.table["group"] = list(range(300))
    found = judged(data, made_of(raw[:40].astype(np.uint8), y[:40], data))
    assert found.metric == "macro-F1"
    assert found.arms[CANDIDATE]["mean"] > 0.9
    assert set(found.arms[CANDIDATE]["per_class"]) == {"top", "bottom"}


def test_the_learning_curve_is_read_at_the_reached_error() -> None:
    sizes = [100, 200, 400]
    errors = [0.4 * (n / 100) ** -0.5 for n in sizes]  # halves from 100 to 400
    found = equivalent(sizes, errors, {"real_samples": 0.1, "low": 0.2, "high": 0.0})
    assert found["real_samples"] == pytest.approx(1200)  # 1,600 samples reach 0.1
    assert found["low"] == pytest.approx(0)
    assert math.isinf(found["high"])
    assert equivalent(sizes, [0.3, 0.3, 0.3], {"real_samples": 0.1}) == {}
    assert equivalent(sizes, [0.1, 0.0, 0.0], {"real_samples": 0.1}) == {}
