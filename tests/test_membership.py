"""Metrics of train, held-out and fake samples: closed forms, null values, copiers at known shares, hostile input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from sibling.errors import NumericalError, UsageError
from sibling.metrics import MEMORISATION
from sibling.metrics.authenticity import Authenticity
from sibling.metrics.copying import CopyingTest, cells_of
from sibling.metrics.membership import MembershipAuc, MembershipTpr, auc_interval
from sibling.metrics.nearness import LEAST_HELD, Memorisation, Nearness
from sibling.metrics.score import memorisation_score
from sibling.metrics.tails import BelowFivePercent, BelowMinimum, NearestRatio
from sibling.registry import lookup
from sibling.types import Score

ALL = [NearestRatio, BelowFivePercent, BelowMinimum, MembershipAuc, MembershipTpr, CopyingTest, Authenticity]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, f: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(n, f, generator=gen(seed))


def copier(share: float, seed: int, *, train: int = 200, held: int = 100, fake: int = 500) -> Nearness:
    """Fakes of which this share are training samples with a little noise, the rest fresh."""
    known, fresh, made = normal(train + held + fake, seed=seed).split([train, held, fake])
    made, copied = made.clone(), round(share * fake)
    made[:copied] = known[torch.randint(train, (copied,), generator=gen(seed))] + 0.2 * normal(
        copied, seed=seed + 1
    )
    return Nearness(known, fresh, made)


def scored(kind: type, near: Nearness, seed: int = 0, **options: object) -> Score:
    return memorisation_score(kind(), near=near, space="x", rng=gen(seed), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MEMORISATION)
def test_table_entries_keep_the_protocol(name: str) -> None:
    metric = lookup(MEMORISATION, "sibling.memorisation", name)()
    assert isinstance(metric, Memorisation)
    assert metric.name == name
    assert metric.goal in ("min", "max")
    assert metric.range[0] < metric.range[1]
    assert metric.meaning.endswith(".")
    assert type(metric) in ALL


@pytest.mark.parametrize("kind", ALL)
def test_fresh_samples_stand_at_the_floor_and_copies_do_not(kind: type) -> None:
    """Over ten worlds: the mean of nothing copied is the floor's, and a fifth of copies lies away from it."""
    gaps, inside, away = [], 0, 0
    for seed in range(10):
        fresh, copied = copier(0.0, 10 * seed), copier(0.2, 10 * seed)
        floor = Nearness(fresh.train, fresh.held, normal(500, seed=10 * seed + 5))
        s = scored(kind, fresh, seed, floor_near=floor, draws=40)
        gaps.append(s.value - s.floor)
        inside += s.low <= s.floor <= s.high
        assert s.low <= s.value <= s.high
        c = scored(kind, copied, seed, floor_near=floor, draws=40)
        away += (c.low > c.floor) if kind().goal == "min" else (c.high < c.floor)
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / math.sqrt(10)
    assert inside >= 7  # of ten 95 % intervals 6 or fewer hold in 1 case of 1,000
    assert away >= 9 if kind is not NearestRatio else away >= 1  # a median hardly moves with a fifth


@pytest.mark.parametrize("kind", ALL)
def test_more_copies_are_worse(kind: type) -> None:
    sign = 1 if kind().goal == "min" else -1
    values = [
        float(np.mean([sign * kind().of(*kind().samples(copier(share, s))) for s in (0, 50, 100)]))
        for share in (0.0, 0.2, 0.5, 1.0)
    ]
    assert values == sorted(values)
    assert values[-1] > values[0]


@pytest.mark.parametrize("kind", ALL)
def test_swapping_train_and_held_out_copies_gives_nothing_away(kind: type) -> None:
    """The control of the control: copies of samples that are in neither set are no copies."""
    near = copier(0.0, 3)
    other = normal(200, seed=77)
    fake = other[torch.randint(200, (500,), generator=gen(4))] + 0.2 * normal(500, seed=5)
    world = Nearness(near.train, near.held, fake)
    s = scored(kind, world, floor_near=Nearness(near.train, near.held, normal(500, seed=6)), draws=40)
    copied = scored(kind, copier(1.0, 3), draws=40)
    assert (s.value < copied.value) if kind().goal == "min" else (s.value > copied.value)


@pytest.mark.parametrize("kind", ALL)
def test_order_chunks_scale_and_duplicates_do_not_matter(kind: type) -> None:
    near = copier(0.1, 1)
    train, held, fake = near.train, near.held, near.fake
    metric = kind()
    value = metric.of(*metric.samples(near))
    mixed = [x[torch.randperm(len(x), generator=gen(i))] for i, x in enumerate((train, held, fake))]
    assert metric(train=mixed[0], held=mixed[1], fake=mixed[2]) == pytest.approx(value, abs=1e-9)
    for chunk in (1, 33):
        assert metric.of(*metric.samples(Nearness(train, held, fake, chunk))) == pytest.approx(
            value, abs=1e-9
        )
    assert metric(train=4 * train, held=4 * held, fake=4 * fake) == pytest.approx(value, abs=1e-9)
    twice = torch.cat([train, train[:80]])  # the same samples again change no verdict
    assert metric(train=twice, held=held, fake=fake) == pytest.approx(value, abs=1e-9)
    assert metric(train=fake, held=held, fake=train) != pytest.approx(value, abs=1e-9)  # it does see the sets


@pytest.mark.parametrize("kind", ALL)
def test_too_few_samples_are_nan_and_said_to_be(kind: type) -> None:
    train, held, fake = normal(60, seed=1), normal(LEAST_HELD, seed=2), normal(60, seed=3)
    assert math.isfinite(kind()(train=train, held=held, fake=fake))
    for few in (
        (train, held[:-1], fake), (train[:9], held, fake), (train, held, fake[:9]), (train[:0], held, fake),
        (train, held[:0], fake), (train, held, fake[:0]), (train[:1], held[:1], fake[:1]),
        (train[:1].repeat(60, 1), held, fake),
    ):  # fmt: skip
        assert math.isnan(kind()(train=few[0], held=few[1], fake=few[2]))
        s = scored(kind, Nearness(*few))
        assert all(math.isnan(v) for v in (s.value, s.low, s.high, s.floor))
        assert s.meaning.startswith(f"cannot tell: {len(few[1])} held-out samples")


@pytest.mark.parametrize("kind", ALL)
def test_hostile_input(kind: type) -> None:
    good = normal(60)
    with pytest.raises(UsageError, match="16, 16 and 15 features"):
        kind()(train=good, held=good, fake=good[:, :15])
    with pytest.raises(UsageError, match="held must be"):
        kind()(train=good, held=good[0], fake=good)
    bad = good.clone()
    bad[7, 2] = math.inf
    with pytest.raises(NumericalError, match="fake has 1 of 60"):
        kind()(train=good, held=good, fake=bad)
    with pytest.raises(TypeError):
        kind()(good, good, good)
    half = good.clone()
    half[:, ::2] = 3.0  # constant columns
    assert math.isfinite(kind()(train=half, held=half + 1, fake=half.flip(0) + 0.5))
    same = scored(kind, Nearness(good, good, good))  # everything is everything: no warning, no false number
    assert math.isnan(same.value) or metric_in_range(kind, same.value)


def metric_in_range(kind: type, value: float) -> bool:
    low, high = kind().range
    return bool(low <= value <= high)


def test_auc_matches_scikit_learn_with_ties() -> None:
    first = torch.randint(0, 12, (70,), generator=gen(1)).double()
    second = torch.randint(2, 14, (60,), generator=gen(2)).double()
    want = roc_auc_score([1] * 70 + [0] * 60, (-torch.cat([first, second])).numpy())
    assert MembershipAuc().of(first, second) == pytest.approx(want, abs=1e-12)
    assert MembershipAuc().of(first, first) == pytest.approx(0.5)
    assert MembershipAuc().of(first - 100, first) == 1


def test_auc_interval() -> None:
    """Half-widths at 1/2 that were published, and a width at the ends."""
    for n, half in ((20, 0.18), (50, 0.11), (100, 0.08), (500, 0.04)):
        # an area as far from 1/2 as chance goes just reaches it; published to two digits
        assert auc_interval(0.5 + half + 0.006, n, n)[0] > 0.5
        assert auc_interval(0.5 + half - 0.006, n, n)[0] < 0.5
        low, high = auc_interval(0.5, n, n)
        assert low + high == pytest.approx(1)
    assert auc_interval(1.0, 100, 100)[1] == 1
    assert 0.9 < auc_interval(1.0, 100, 100)[0] < 1
    assert auc_interval(0.0, 100, 100)[0] == 0
    low, high = auc_interval(0.9, 40, 80)
    assert low < 0.9 < high
    assert 0.9 - low > high - 0.9  # towards 1 there is less room
    assert all(math.isnan(v) for v in (*auc_interval(0.5, 0, 9), *auc_interval(math.nan, 9, 9)))


def test_auc_interval_covers() -> None:
    """Unit exponentials against slower ones: the area is 1 / (1 + rate), and 95 % intervals hold it."""
    rate, inside = 0.4, 0
    for seed in range(200):
        first = -torch.rand(50, generator=gen(seed)).log()
        second = -torch.rand(60, generator=gen(500 + seed)).log() / rate
        low, high = auc_interval(MembershipAuc().of(first, second), 50, 60)
        inside += low <= 1 / (1 + rate) <= high
    assert 182 <= inside <= 199


def test_tpr_allows_one_false_alarm_in_a_hundred() -> None:
    held = torch.arange(1, 101).double()  # the limit is the second: one of a hundred lies below it
    assert MembershipTpr().of(torch.tensor([0.5, 1.5, 1.9, 2.0, 30.0]).double(), held) == pytest.approx(0.6)
    assert MembershipTpr().of(torch.tensor([0.5, 1.5]).double(), held[:99]) == pytest.approx(0.5)
    assert MembershipTpr().null(100) == pytest.approx(2 / 101)
    assert MembershipTpr().null(50) == pytest.approx(1 / 51)
    found = [
        MembershipTpr().of(torch.rand(300, generator=gen(s)), torch.rand(100, generator=gen(900 + s)))
        for s in range(200)
    ]
    assert np.mean(found) == pytest.approx(2 / 101, abs=4 * np.std(found) / math.sqrt(200))


def test_tails_by_hand() -> None:
    held = torch.arange(1, 102).double()  # the 5 % quantile is 6
    fake = torch.tensor([0.5, 5.0, 6.5, 51.0]).double()
    assert NearestRatio().of(fake, held) == pytest.approx(5.75 / 51)
    assert BelowFivePercent().of(fake, held) == 0.5
    assert BelowMinimum().of(fake, held) == 0.25
    assert math.isnan(
        NearestRatio().of(fake, torch.zeros(60).double())
    )  # held-out samples are the training samples
    assert BelowMinimum().of(fake, torch.zeros(60).double()) == 0


def test_copying_test_is_the_mann_whitney_z() -> None:
    from scipy.stats import mannwhitneyu

    fake = torch.randint(0, 20, (80,), generator=gen(1)).double()
    held = torch.randint(0, 25, (60,), generator=gen(2)).double()
    one = torch.stack([fake, torch.zeros(80)], 1), torch.stack([held, torch.zeros(60)], 1)
    answer = mannwhitneyu(
        fake.numpy(), held.numpy(), use_continuity=False, method="asymptotic", alternative="less"
    )
    from scipy.stats import norm

    assert CopyingTest().of(*one) == pytest.approx(norm.ppf(answer.pvalue), rel=1e-9)
    two = [torch.cat([x, x + torch.tensor([0.0, 1.0])]) for x in one]  # the same in two cells: their mean
    assert CopyingTest().of(*two) == pytest.approx(CopyingTest().of(*one), rel=1e-12)


def test_p_values_of_the_copying_test_are_uniform() -> None:
    """One cell, nothing copied: a standard normal. Its spread would be .7 or 1.4 with a wrong variance."""
    metric = CopyingTest(cells=1)
    z = [metric.of(*metric.samples(copier(0.0, 10 * s, train=150, held=80, fake=80))) for s in range(60)]
    assert abs(np.mean(z)) < 4 / math.sqrt(60)
    assert 0.75 < np.std(z) < 1.25


def test_cells_without_points_are_left_out() -> None:
    fake = torch.tensor([[1.0, 0.0]] * 20 + [[1.0, 1.0]] * 4 + [[9.0, 3.0]] * 40).double()
    held = torch.tensor(
        [[1.0, 0.0]] * 10 + [[2.0, 0.0]] * 10 + [[0.1, 1.0]] * 30 + [[5.0, 2.0]] * 10
    ).double()
    alone = CopyingTest().of(fake[:20], held[:20])
    assert math.isfinite(alone)
    assert CopyingTest().of(fake, held) == alone  # cell 1 has 4 fakes, 2 none, 3 no held-out sample
    assert math.isnan(CopyingTest().of(fake[20:24], held))


def test_cells_follow_clusters() -> None:
    centres = 30 * torch.eye(8, dtype=torch.float64)
    kind = torch.arange(400) % 8
    train = centres[kind] + normal(400, 8, 1)
    other = centres[kind] + normal(400, 8, 2)
    (found,) = cells_of(train, other, number=8)
    assert len({(int(a), int(b)) for a, b in zip(kind, found, strict=True)}) == 8  # one to one
    (again,) = cells_of(train.flip(0), other, number=8)
    assert len({(int(a), int(b)) for a, b in zip(found, again, strict=True)}) == 8
    assert torch.unique(cells_of(torch.ones(30, 3).double(), other[:, :3], number=5)[0]).tolist() == [0]


def test_authenticity_by_hand() -> None:
    train = torch.tensor([[0.0], [1.0], [10.0], [14.0]])  # their own neighbours: 1, 1, 4, 4
    fake = torch.tensor([[-0.5], [-1.5], [7.0], [5.8], [20.0]])
    first, second = Authenticity().samples(Nearness(train, fake[:2], fake))
    assert first.tolist() == [0, 1, 0, 1, 1]
    assert second.tolist() == [0, 1]


def test_values_per_class() -> None:
    """A class with enough held-out samples has its own value, measured against its own held-out samples."""
    train, held, fake = normal(300, seed=1), normal(130, seed=2), normal(200, seed=3)
    held_y = ["copied"] * 60 + ["fresh"] * 60 + ["few"] * 10
    fake_y = ["copied"] * 80 + ["fresh"] * 80 + ["few"] * 40
    fake[:80] = train[:80] + 0.1 * normal(80, seed=4)
    near = Nearness(train, held, fake)
    found = scored(BelowMinimum, near, held_y=held_y, fake_y=fake_y).per_class
    assert set(found) == {"copied", "fresh"}
    assert found["copied"] == 1
    assert found["fresh"] < 0.15
    assert scored(MembershipAuc, near, held_y=held_y, fake_y=fake_y).per_class == {}
    with pytest.raises(UsageError, match="held_y has 2 labels for 130"):
        scored(BelowMinimum, near, held_y=["a", "b"], fake_y=fake_y)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5])
def test_the_published_table(share: float) -> None:
    """Shares of copies and what they do to each metric, from the simulation with 200, 100 and 1,000 samples."""
    wanted = {
        0.01: {"below_held_out_minimum": 0.019, "membership_auc": 0.521, "membership_tpr": 0.069},
        0.05: {"below_held_out_minimum": 0.059, "membership_auc": 0.610, "membership_tpr": 0.238},
        0.2: {"below_held_out_minimum": 0.208, "membership_auc": 0.814, "membership_tpr": 0.637},
        0.5: {"below_held_out_minimum": 0.505, "membership_auc": 0.960, "membership_tpr": 0.917},
    }[share]
    for kind in (BelowMinimum, MembershipAuc, MembershipTpr):
        found = [scored(kind, copier(share, 10 * s, fake=1000), s, draws=30) for s in range(8)]
        inside = sum(s.low <= wanted[s.name] <= s.high for s in found)
        assert inside >= 6
        fresh = [scored(kind, copier(0.0, 10 * s, fake=1000), s, draws=30) for s in range(8)]
        if share >= 0.05:
            assert sum(s.low <= wanted[s.name] <= s.high for s in fresh) <= 2


def test_intervals_depend_on_their_generator_alone() -> None:
    near = copier(0.1, 1)
    one, two, other = (scored(BelowFivePercent, near, seed, draws=10) for seed in (1, 1, 2))
    assert (one.low, one.high) == (two.low, two.high) != (other.low, other.high)
    none = scored(NearestRatio, near, draws=0)
    assert none.low == none.value == none.high
