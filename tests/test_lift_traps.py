"""What would make a verdict say something false: answers that are no numbers, uneven classes, splits that overlap."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import blobs, dataset
from scipy.stats import norm
from test_lift import ARMS, TINY, bench_of, constructed, hard, made_of, noisy_blobs, said, side, with_y
from torch import nn

from sibling.dataset import Dataset
from sibling.errors import NumericalError
from sibling.evaluate import verdict_json
from sibling.folds import split_anew
from sibling.lift.answer import answer, given_up
from sibling.lift.arms import CANDIDATE, CONTROL, Arm, arms_of, names_of, shuffled
from sibling.lift.compare import _advice, _source, compare, why_no_task
from sibling.lift.effort import EFFORTS
from sibling.lift.recipe import Recipe, Run, Source, choose, pool_of, train
from sibling.lift.statistics import Lifts, evenness, expected_power, power, samples_tested
from sibling.lift.tasks import Classes, Labels, Values, task_of
from sibling.lift.trial import _hopeless, cost
from sibling.support import supported
from sibling.types import Verdict

TASK = Classes(list("abcd"))

# ---- answers that are no numbers ------------------------------------------------------------------


def test_a_training_that_went_bad_is_never_the_least_surprised() -> None:
    fine, bad = np.full(30, 0.7), np.full(30, math.nan)
    one_bad = np.where(np.arange(30) == 3, math.nan, 0.1)
    assert choose([bad, fine]) == 1
    assert choose([one_bad, fine]) == 1
    assert choose([fine, bad], usual=1) == 0
    assert choose([bad, bad, fine], usual=0) == 2
    assert choose([np.full(30, math.inf), fine]) == 1


class Broken(nn.Module):
    """Learns like any other, and answers with NaN once it is asked."""

    def __init__(self, shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(x)
        if not self.training:
            self.asked += 1
        return out * math.nan if self.asked > 1 else out  # the first question is whether it fits at all


def test_answers_that_are_no_numbers_decide_nothing() -> None:
    with pytest.raises(NumericalError, match="no finite numbers"):
        train(pool_of(side(20)), Recipe(2, 8), bench_of(build=Broken), 0, "own")
    train(pool_of(side(20)), Recipe(2, 8), bench_of(build=Broken), 0, "own", test=False)  # it only loses
    data = hard(30)
    found = quickly(data, made_of(*noisy_blobs(20, 7), data), build=Broken)
    assert (found.answer, found.decided) == ("no evidence", False)
    assert "no finite numbers" in found.sentence
    assert found.protocol["effort"] == "quick"


def quickly(data: Dataset, fake: Dataset, splits: int = 1, **options: Any) -> Verdict:
    effort = TINY.but(strengths=(0.0,), most_seeds=2)
    return compare(
        iter([(data, fake)] * splits), data, splits=splits, effort=effort, seed=0, steps=3, **options
    )


# ---- uneven classes -------------------------------------------------------------------------------


def test_what_serves_rare_classes_is_not_hopeless_by_plain_accuracy() -> None:
    y = np.array([0] * 90 + [1] * 10)
    common = np.zeros(100, int)  # always the common class: 90 % right, and no rare one
    alike = np.where(
        np.arange(100) < 90, np.arange(100) % 10 < 6, 1
    )  # 40 % of the common class, all rare ones
    nothing = np.zeros(100)
    runs = {
        name: [Run(said(found), said(found), nothing)]
        for name, found in (("real + classic", common), ("real + class weights", alike))
    }
    pool = pool_of(Source(lambda rows: torch.zeros(len(rows), 1), y))
    arms = [Arm(name, pool, Recipe(1, 8), "rival", "") for name in runs]
    held = Source(lambda rows: torch.zeros(len(rows), 1), y)
    balanced = bench_of(task=Classes(["a", "b"], balanced=True), val=held)
    assert "real + class weights" not in _hopeless(arms, runs, balanced)
    assert _hopeless(arms, runs, bench_of(val=held)) == ["real + class weights"]  # there each sample counts


def test_samples_of_one_class_alone_are_wrongly_labelled_in_the_control() -> None:
    """Shuffled among themselves they would stay right, and the control would do as well as the candidate."""
    real, rng = side(40), np.random.default_rng(0)
    only = Source(real.fetch, np.ones(25, np.int64))
    arms = arms_of(
        real=real, fake=only, chosen=np.arange(25), recipe=Recipe(10, 8), own=Recipe(10, 8), mixing=None,
        task=Classes(["left", "right"]), imbalanced=False, rng=rng,
    )  # fmt: skip
    wrong = next(arm for arm in arms if arm.name == CONTROL)
    assert (wrong.pool.labels[len(real) :] == 0).all()
    right = next(arm for arm in arms if arm.name == CANDIDATE)
    assert (right.pool.labels[len(real) :] == 1).all()
    same = np.zeros((6, 2), np.float32)
    other = np.array([[0, 0], [0, 1]], np.float32)
    assert shuffled(same, other, rng).tolist() == [[0, 1]] * 6
    several = np.arange(20) % 3
    assert sorted(shuffled(several, several, rng)) == sorted(several)


def test_the_expected_power_knows_how_few_samples_a_rare_class_has() -> None:
    y = np.repeat([0, 1, 2], [97, 97, 6])
    by_hand = 100 * 1.959964 * math.sqrt(0.1 / 9 * (1 / 97 + 1 / 97 + 1 / 6))  # of a mean of three recalls
    assert power(len(y) * evenness(y)) == pytest.approx(by_hand, rel=1e-5)
    assert evenness(np.repeat([0, 1, 4], 50)) == pytest.approx(1)
    made = constructed({}, np.random.default_rng(0), n=200)
    made.y = np.repeat([0, 1, 2], [97, 97, 6])
    shown = {
        balanced: answer(
            [made],
            Classes(list("abcd"), balanced=balanced),
            rng=np.random.default_rng(0),
            protocol={},
            draws=100,
        ).power
        for balanced in (False, True)
    }
    assert shown[False] == pytest.approx(power(200))
    assert shown[True] == pytest.approx(by_hand, rel=1e-5)


def test_the_power_that_is_printed_is_that_of_the_metric(caplog: pytest.LogCaptureFixture) -> None:
    raw, names = blobs(200)
    rows = [*range(0, 160, 2), *range(1, 31, 2)]  # 80 of the left, 15 of the right
    data = dataset(raw[rows], [names[i] for i in rows])
    data.table["split"] = ["test" if i % 3 == 0 else "train" for i in range(len(data))]
    fresh, y = blobs(20, seed=5)
    caplog.set_level(logging.INFO)
    quickly(data, made_of(fresh, y, data))
    line = next(one.getMessage() for one in caplog.records if "power" in one.getMessage())
    test = data.rows("test", "real")
    rare = data.classes(test).count("right")
    own = 100 * 1.96 * math.sqrt(0.1 / 4 * (1 / rare + 1 / (len(test) - rare)))
    assert f"below about {own:.1f} points of balanced accuracy" in line
    plan = next(one.getMessage() for one in caplog.records if "seeds each" in one.getMessage())
    assert ", ".join(names_of(imbalanced=True, pseudo=False)) in plan
    assert "; 2 seeds each, the last two 1" in plan
    assert "trainings of" in caplog.text


def test_labels_and_numbers_have_an_expected_power_too() -> None:
    half = (np.arange(200) % 2)[:, None].astype(np.float32)
    labels = Labels(["hat"])
    as_classes = expected_power(Classes(["a", "b"]), half[:, 0].astype(int), 200)
    assert expected_power(labels, half, 200) == as_classes.replace("accuracy", "macro-F1")
    rare = half * (np.arange(200) < 20)[:, None]
    assert expected_power(labels, rare, 200) == f"a lift below about {power(20):.1f} points of macro-F1"
    assert "macro-F1" in expected_power(labels, np.zeros((5, 1)), 5)  # nobody has it: nothing can be seen
    # Numbers: what a paired interval over simulated errors of this kind is wide.
    rng, n = np.random.default_rng(0), 400
    gauss = rng.multivariate_normal([0, 0], [[1, 0.62], [0.62, 1]], 200_000)
    errors = -np.log(norm.sf(gauss))  # exponential; correlated by a half
    assert np.corrcoef(errors.T)[0, 1] == pytest.approx(0.55, abs=0.05)
    width = 196 * (errors[:, 0] - errors[:, 1]).std() / np.sqrt(n) / errors.mean()
    told = expected_power(Values(["age"], np.zeros(1), np.ones(1)), np.zeros((n, 1)), n)
    assert told == "a change of the mean absolute error by less than about 10 %"
    assert width == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("imbalanced", "pseudo"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_the_arms_that_are_announced_are_those_that_come(imbalanced: bool, pseudo: bool) -> None:
    real = side(20)
    arms = arms_of(
        real=real, fake=side(10), chosen=np.arange(10), recipe=Recipe(10, 8), own=Recipe(10, 8),
        mixing=Recipe(10, 8, mix="mixup"),
        task=Classes(["left", "right"]), imbalanced=imbalanced, rng=np.random.default_rng(0),
        pseudo=side(5) if pseudo else None,
    )  # fmt: skip
    assert [arm.name for arm in arms] == names_of(imbalanced=imbalanced, pseudo=pseudo)


# ---- several splits -------------------------------------------------------------------------------


def test_a_sample_that_is_tested_twice_is_one_sample() -> None:
    rng = np.random.default_rng(0)
    made = [constructed({CANDIDATE: 0.9, CONTROL: 0.3}, rng, n=100) for _ in range(3)]
    for each in made:
        each.keys = [f"{i}" for i in range(100)]
    assert samples_tested(made) == 100
    found = answer(made, TASK, rng=rng, protocol={}, draws=200)
    assert "on 100 real test samples" in found.sentence
    assert found.power == pytest.approx(power(100))
    made[1].keys = [f"other {i}" for i in range(100)]
    assert samples_tested(made) == 200
    made[1].keys = []  # nobody knows
    assert samples_tested(made) == 300


def test_a_rival_is_left_out_only_where_it_was_hopeless_on_every_split() -> None:
    """Each split may find another one hopeless: to leave all of them out would leave nobody to beat."""
    rng = np.random.default_rng(0)
    made = [constructed({CONTROL: 0.3}, rng) for _ in range(3)]
    for each, name in zip(made, ("real", "real + classic", "real + duplicates"), strict=True):
        each.stopped.append(name)
        each.answers[name] = each.answers[name][:1]
    assert given_up(made) == []
    found = answer(made, TASK, rng=rng, protocol={}, draws=200)
    assert all("lift_over_it" in found.arms[name] for name in ("real", "real + classic", "real + duplicates"))
    for each in made[1:]:
        each.stopped.append("real")
    assert given_up(made) == ["real"]


def test_what_is_written_after_several_splits_is_what_their_candidates_took() -> None:
    """Candidates that took rare classes alone do not speak for the others."""
    data = dataset(*blobs(40))
    fake = made_of(blobs(20)[0], ["left"] * 10 + ["right"] * 10, data)
    rng = np.random.default_rng(0)
    made = [constructed({CANDIDATE: 0.95, CONTROL: 0.3}, rng) for _ in range(3)]
    for each, taken in zip(made, (10, 5, 5), strict=True):
        each.made = ["left"] * 8 + ["right"] * 10
        each.chosen = 8 + np.arange(taken)
    found = answer(made, TASK, rng=rng, protocol={}, draws=200)
    assert found.answer == "helps"
    assert _advice(found, made, TASK, fake)["amount"] == {"right": 5}
    assert _advice(found, made, TASK, fake)["write"] == "some"
    for each in made:
        each.chosen = np.arange(18)
    assert _advice(found, made, TASK, fake)["write"] == "all"


def test_folds_keep_to_one_seed_where_one_was_asked_for() -> None:
    one = EFFORTS["default"].but(seeds=1, most_seeds=1).for_folds().for_steps(10)
    assert one.seeds == 1
    assert EFFORTS["default"].for_folds().for_steps(10).seeds == 2


def test_a_new_split_leaves_out_what_was_left_out() -> None:
    data = dataset(*blobs(60), test=0.2, val=0.1)
    data.table["split"][3] = "left out"
    assert data.table["key"][3] not in split_anew(data, 0, 0).table["key"]
    assert len(split_anew(data, 0, 0)) == 59


def test_samples_of_no_group_are_drawn_one_by_one() -> None:
    """-1 is no group: taken for one, all test samples would be drawn together and the interval had no width."""
    data = hard(30)
    fake = made_of(*noisy_blobs(20, 7), data)
    grouped = quickly(data, fake)
    data.table["group"] = [-1] * len(data)
    alone = quickly(data, fake)
    assert (alone.low, alone.high) == (grouped.low, grouped.high)


# ---- what stands beside the answer ----------------------------------------------------------------


def test_the_best_arm_is_the_one_whose_recipe_is_given() -> None:
    rng = np.random.default_rng(0)
    data = dataset(*blobs(40))
    fake = made_of(*blobs(8), data)
    made = constructed({"real + duplicates": 0.9, CONTROL: 0.3}, rng)
    recipes = {"real + duplicates": Recipe(10, 8, balance="weights", strength=None)}
    made.arms = [Arm(a.name, a.pool, recipes.get(a.name, a.recipe), a.role, "") for a in made.arms]
    found = answer([made], TASK, rng=rng, protocol={}, draws=200)
    told = _advice(found, [made], TASK, fake)["augmentation"]
    assert (told["best_arm"], told["balance"], told["strength"]) == ("real + duplicates", "weights", None)
    made = constructed({CANDIDATE: 0.95, CONTROL: 0.3}, rng)
    recipes = {CANDIDATE: Recipe(10, 8, mix="mixup")}
    made.arms = [Arm(a.name, a.pool, recipes.get(a.name, a.recipe), a.role, "") for a in made.arms]
    made.chosen = np.arange(8)
    told = _advice(answer([made], TASK, rng=rng, protocol={}, draws=200), [made], TASK, fake)["augmentation"]
    assert (told["best_arm"], told["mix"]) == (CANDIDATE, "mixup")


@pytest.mark.parametrize("best", ["real + duplicates", CANDIDATE])
def test_a_recipe_for_real_samples_alone_does_not_speak_of_synthetic_ones(best: str) -> None:
    """A placebo is drawn as the candidate is; who is told to write no synthetic sample cannot do that."""
    data, rng = dataset(*blobs(40)), np.random.default_rng(0)
    made = constructed({best: 0.95, CONTROL: 0.3}, rng)
    made.arms = [Arm(a.name, a.pool, Recipe(10, 8, balance="origins"), a.role, "") for a in made.arms]
    made.chosen = np.arange(8)
    found = answer([made], TASK, rng=rng, protocol={}, draws=200)
    told = _advice(found, [made], TASK, made_of(*blobs(8), data))["augmentation"]
    assert (told["best_arm"], told["balance"]) == (best, "origins" if best == CANDIDATE else "sampling")


@pytest.mark.parametrize("kind", ["value", "labels", "label"])
def test_a_part_of_the_samples_is_a_part_of_each_group_and_what_is_written_is_that_part(kind: str) -> None:
    """Synthetic samples come group by group: the first half of them would be the smaller numbers alone."""
    ys: dict[str, list[Any]] = {
        "value": [{"age": float(i)} for i in range(60)],
        "labels": [["a"]] * 20 + [["a", "b"]] * 20 + [["b"]] * 20,
        "label": ["left"] * 40 + ["right"] * 20,
    }
    kinds = {"value": {"age": "value"}, "labels": {"seen": "labels"}}
    data = with_y(ys[kind], kinds[kind]) if kind in kinds else dataset(blobs(60)[0], ys[kind])
    fake = made_of(np.asarray(data.raw), ys[kind], data)
    task = task_of(data)
    assert task is not None
    made = _source(fake, np.arange(60), task)
    rows = made.first(30)
    groups = np.array(fake.classes(np.arange(60)))
    for name in np.unique(groups):
        assert (groups[rows] == name).sum() == pytest.approx((groups == name).sum() / 2, abs=1)
    each = constructed({CANDIDATE: 0.95, CONTROL: 0.3}, np.random.default_rng(0))
    each.chosen = rows
    found = answer([each], TASK, rng=np.random.default_rng(0), protocol={}, draws=200)
    advice = _advice(found, [each], TASK, fake)
    assert advice["write"] == "some"
    assert supported(fake, advice).table["key"] == [fake.table["key"][i] for i in rows]
    assert made.take(np.arange(10, 50)).first(20).max() < 40


def test_numbers_that_are_all_the_same_are_called_so() -> None:
    data = with_y([{"age": 4.0}] * 40, {"age": "value"})
    assert task_of(data) is None
    assert why_no_task(data) == "a recogniser needs numbers that differ, and these are all the same"


def test_far_ends_of_an_interval_are_not_those_of_the_outermost_draw() -> None:
    rng = np.random.default_rng(0)
    found = Lifts(["real"], np.zeros(1), rng.normal(size=(1_000, 1)))
    assert found.low(1e-5)[0] < -4  # 4.26 deviations; of 1,000 draws none lies there
    assert found.high(1e-5)[0] > 4
    assert found.low(0.025)[0] == np.quantile(found.drawn, 0.025)
    ends = [found.low(level)[0] for level in (0.025, 0.01, 0.004, 0.001, 1e-4)]
    assert ends == sorted(ends, reverse=True)


def test_less_error_is_called_less_and_more_more() -> None:
    task = Values(["age"], np.zeros(1), np.ones(1))
    rng = np.random.default_rng(0)
    sentences = {}
    for name, error in (("better", 0.5), ("worse", 2.0)):
        made = constructed({}, rng, n=60)
        made.y = rng.normal(size=(60, 1))
        made.answers = {
            arm: made.y + (error if arm == CANDIDATE else 1.0) * (1 + 0.01 * rng.normal(size=(3, 60, 1)))
            for arm in ARMS
        }
        found = answer([made], task, rng=rng, protocol={}, draws=200)
        sentences[name] = found.sentence
        assert found.power == pytest.approx((found.high - found.low) / 2)
    assert re.search(r"help: 0\.\d+ less mean absolute error \(of age\) than “", sentences["better"])
    assert re.search(r"harm: [\d.]+ more mean absolute error \(of age\) than “", sentences["worse"])
    assert "interval of the lift -" in sentences["worse"]


def test_every_name_in_the_verdict_is_documented() -> None:
    data = hard(30)
    found = verdict_json(quickly(data, made_of(*noisy_blobs(20, 7), data)))
    text = (Path(__file__).parents[1] / "docs" / "verdict.md").read_text("utf-8")
    told = set(re.findall(r"`(\w+)`", text))
    names = {*found, *found["protocol"], *found["advice"], *found["advice"]["augmentation"]}
    names |= {name for arm in found["arms"] for name in arm}
    assert names - told == set()
    assert "no_such_name" not in told


def test_of_numbers_one_more_strength_is_tried_and_announced() -> None:
    """No augmentation at all: a turn or a shift may be the very number."""
    real, effort = side(20), EFFORTS["quick"]
    numbers = Values(["age"], np.zeros(1), np.ones(1))
    y = np.zeros((20, 1), np.float32)
    of_numbers = Source(real.fetch, y)
    announced = [
        cost(each, bench_of(task=task, val=each, test=each), Recipe(2, 8), effort, 0)[0]
        for each, task in ((real, Classes(["left", "right"])), (of_numbers, numbers))
    ]
    assert announced[1] == announced[0] + 2  # for the real samples, and for the candidate
