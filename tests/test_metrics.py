"""Distances, coverage, diversity, scores and label agreement: closed forms, properties, controls."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sibling.errors import NumericalError, UsageError
from sibling.metrics import METRICS
from sibling.metrics.agreement import agreement, calibrated_limit, mislabelled
from sibling.metrics.coverage import Coverage, Density, Precision, Recall
from sibling.metrics.distance import FrechetDistance, FrechetInfinity, KernelDistance
from sibling.metrics.diversity import Diversity
from sibling.metrics.intervals import share_of, wilson
from sibling.metrics.points import closest, shuffled
from sibling.metrics.score import project, score
from sibling.metrics.spectrum import SpectrumDistance
from sibling.metrics.vendi import Vendi
from sibling.types import Metric

ALL = [
    KernelDistance, FrechetDistance, FrechetInfinity, Precision, Recall, Density, Coverage, Diversity, Vendi,
    SpectrumDistance,
]  # fmt: skip
CHUNKED = [KernelDistance, Precision, Recall, Density, Coverage]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, f: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, f, generator=gen(seed))


@pytest.mark.parametrize("name", METRICS)
def test_table_entries_keep_the_protocol(name: str) -> None:
    module, _, attribute = METRICS[name].partition(":")
    metric = getattr(import_module(module), attribute)()
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert metric.goal in ("min", "max")
    assert metric.range[0] < metric.range[1]
    assert metric.meaning.endswith(".")


@pytest.mark.parametrize("kind", ALL)
def test_refuses_what_it_cannot_measure(kind: type) -> None:
    metric, good = kind(), normal(20)
    with pytest.raises(UsageError, match="fake must be"):
        metric(real=good, fake=good[0])
    with pytest.raises(UsageError, match="8 features and fake has 7"):
        metric(real=good, fake=good[:, :7])
    bad = good.clone()
    bad[3, 1] = math.nan
    with pytest.raises(NumericalError, match="real has 1 of 20 rows"):
        metric(real=bad, fake=good)
    with pytest.raises(NumericalError, match="fake has 1 of 20 rows"):
        metric(real=good, fake=bad)
    with pytest.raises(TypeError):
        metric(good, good)


@pytest.mark.parametrize(
    ("kind", "least_real", "least_fake"),
    [
        (KernelDistance, 2, 2),
        (FrechetDistance, 2, 2),
        (FrechetInfinity, 10, 10),
        (Precision, 2, 1),
        (Recall, 1, 2),
        (Density, 2, 1),
        (Coverage, 2, 1),
        (Diversity, 2, 2),
        (Vendi, 2, 2),
        (SpectrumDistance, 2, 2),
    ],
)
def test_too_few_samples_give_nan_and_just_enough_a_number(
    kind: type, least_real: int, least_fake: int
) -> None:
    metric, a, b = kind(), normal(12, seed=1), normal(12, seed=2)
    assert math.isnan(metric(real=a[: least_real - 1], fake=b))
    assert math.isnan(metric(real=a, fake=b[: least_fake - 1]))
    assert math.isfinite(metric(real=a[:least_real], fake=b[:least_fake]))


@pytest.mark.parametrize("kind", ALL)
def test_order_of_samples_does_not_matter(kind: type) -> None:
    metric, a, b = kind(), normal(60, seed=1), normal(40, seed=2) + 0.3
    value = metric(real=a, fake=b)
    mixed = metric(real=a[torch.randperm(60, generator=gen(3))], fake=b[torch.randperm(40, generator=gen(4))])
    assert mixed == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert metric(real=a, fake=2 * b) != pytest.approx(value, rel=1e-6)  # the value does see the samples


@pytest.mark.parametrize("kind", CHUNKED)
def test_chunk_size_does_not_matter(kind: type) -> None:
    a, b = normal(70, seed=1), normal(50, seed=2)
    whole = kind()(real=a, fake=b)
    for chunk in (1, 7, 64):
        assert kind(chunk=chunk)(real=a, fake=b) == pytest.approx(whole, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_inputs_stay_as_they_are(kind: type) -> None:
    a, b = normal(30, seed=1).double(), normal(30, seed=2).double()
    before = a.clone(), b.clone()
    kind()(real=a, fake=b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_equal_sets() -> None:
    a = normal(200)
    assert FrechetDistance()(real=a, fake=a) == pytest.approx(0, abs=1e-9)
    assert KernelDistance()(real=a, fake=a) < 0  # unbiased: the shared samples make it too small
    for share in (Precision, Recall, Coverage):
        assert share()(real=a, fake=a) == 1
    assert Diversity()(real=a, fake=a) == 1
    assert Vendi()(real=a, fake=a) == pytest.approx(1)
    assert FrechetInfinity()(real=a, fake=a) == pytest.approx(0, abs=1e-9)
    assert SpectrumDistance()(real=a, fake=a) == 0


@pytest.mark.parametrize("kind", ALL)
def test_constant_features_and_single_samples_repeated(kind: type) -> None:
    """What cannot be said is nan, and nothing warns or fails: all equal, one column constant, one sample repeated."""
    metric, a, flat = kind(), normal(40, seed=1), torch.full((40, 8), 3.0)
    for real, fake in ((flat, flat), (flat, a), (a, flat)):
        value = metric(real=real, fake=fake)
        assert math.isnan(value) or metric.range[0] <= value <= metric.range[1]
    half = a.clone()
    half[:, ::2] = 3.0
    assert math.isfinite(metric(real=half, fake=half.flip(0)))


@pytest.mark.parametrize("kind", ALL)
def test_two_halves_of_one_set_score_at_the_floor(kind: type) -> None:
    """Real sets in three: the second is to the first what the third is. Noise in the second's place is not."""
    gaps, inside, outside = [], 0, 0
    for seed in range(10):
        real, other, third = normal(360, seed=seed).split(120)
        arguments = {"real": real, "floor_pair": (real, third), "space": "x", "rng": gen(seed), "draws": 20}
        s = score(kind(), fake=other, **arguments)  # type: ignore[arg-type]
        gaps.append(s.value - s.floor)
        inside += s.low <= s.floor <= s.high
        s = score(kind(), fake=3 * other + 1, **arguments)  # type: ignore[arg-type]
        outside += not s.low <= s.floor <= s.high
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / math.sqrt(10)
    assert inside >= 6  # the floor has a sample of its own: 83 to 95 % of 10
    assert outside == 10


def test_frechet_infinity_is_unbiased_where_the_distance_is_not() -> None:
    sd = 1 / torch.arange(1, 21).sqrt()
    trace = float(sd.square().sum())
    for shift in (0.0, 0.3):
        pairs = [(sd * normal(200, 20, s), sd * (normal(200, 20, 500 + s) + shift)) for s in range(24)]
        endless = np.array([FrechetInfinity()(real=a, fake=b) for a, b in pairs]) / trace
        plain = np.array([FrechetDistance()(real=a, fake=b) for a, b in pairs]) / trace
        error = endless.std() / math.sqrt(len(pairs))
        assert abs(endless.mean() - shift**2) < 3 * error  # all that is between them is the shift
        assert plain.mean() - shift**2 > 5 * error


def test_frechet_infinity_with_unequal_sizes() -> None:
    found = [FrechetInfinity()(real=normal(600, 6, s), fake=normal(90, 6, 50 + s)) for s in range(20)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(20)


def test_spectrum_closed_form_and_growth() -> None:
    a = normal(300, 5, 1)
    assert SpectrumDistance()(real=a, fake=a + 0.7) == pytest.approx(0.7, rel=1e-6)
    one = torch.zeros(5)
    one[2] = 1.0
    assert SpectrumDistance()(real=a, fake=a + one) == pytest.approx(math.sqrt(1 / 5), rel=1e-6)


def test_vendi_counts() -> None:
    """m places at one distance, each held k times, are as many samples as m of them held once."""

    def effective(shares: list[float]) -> float:
        # between different places the kernel is exp(-2), at half of their distance as its width
        k = math.exp(-2)
        root = np.sqrt(shares)
        values = np.linalg.eigvalsh(np.outer(root, root) * (k + (1 - k) * np.eye(len(root))))
        return math.exp(-sum(v * math.log(v) for v in values if v > 1e-12))

    real = torch.eye(60)
    for shares in ([1.0], [0.5, 0.5], [0.2] * 5, [1 / 60] * 60, [0.5, 0.3, 0.2]):
        fake = torch.cat([real[i : i + 1].repeat(round(60 * s), 1) for i, s in enumerate(shares)])
        want = effective(shares) / effective([1 / 60] * 60)
        assert Vendi()(real=real, fake=fake) == pytest.approx(want, rel=1e-6)


def test_vendi_sees_lost_modes_and_repeats_and_diversity_hardly() -> None:
    centres, kind = 2 * normal(10, 20, 7), torch.arange(400) % 10
    real, same = (centres[kind] + normal(400, 20, s) for s in (1, 2))
    lost = centres[kind % 5] + normal(400, 20, 3)
    repeated = same[:40].repeat(10, 1)
    assert Vendi()(real=real, fake=same) == pytest.approx(1, abs=0.05)
    assert Vendi()(real=real, fake=lost) < 0.75
    assert Vendi()(real=real, fake=repeated) < 0.65
    assert Diversity()(real=real, fake=repeated) > 0.9


def test_closest_and_shuffled() -> None:
    a, b = normal(30, 4, 1).double(), normal(50, 4, 2).double()
    distance, index = closest(a, b)
    everything = torch.cdist(a, b)
    assert torch.allclose(distance, everything.min(1).values)
    assert torch.equal(index, everything.argmin(1))
    assert torch.equal(closest(a, b, chunk=7)[1], index)
    assert (closest(b, b)[0] == 0).all()  # exactly, though |a|^2 + |b|^2 - 2ab is not
    order = torch.randperm(50, generator=gen(3))
    assert torch.equal(shuffled(b), shuffled(b[order]))
    assert not torch.equal(shuffled(b), b)
    assert torch.equal(shuffled(b).sort(0).values, b.sort(0).values)
    assert shuffled(b[:0]).shape == (0, 4)


def test_frechet_closed_form() -> None:
    """Exactly known means and covariances: whitened points, then stretched and shifted."""
    raw = normal(500, 4).double()
    raw = raw - raw.mean(0)
    values, vectors = torch.linalg.eigh(raw.T @ raw / 499)
    white = raw @ vectors / values.sqrt()  # mean 0, covariance 1
    stretch = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    shift = torch.tensor([1.0, 0.0, -2.0, 0.0], dtype=torch.float64)
    value = FrechetDistance()(real=white, fake=white * stretch + shift)
    assert value == pytest.approx(5.0 + float((stretch - 1).square().sum()), rel=1e-9)


def test_frechet_survives_fewer_samples_than_features() -> None:
    assert math.isfinite(FrechetDistance()(real=normal(5, 40, 1), fake=normal(6, 40, 2)))


def test_frechet_needs_its_floor_and_the_kernel_distance_does_not() -> None:
    frechet = [FrechetDistance()(real=normal(50, 32, s), fake=normal(50, 32, 100 + s)) for s in range(40)]
    kernel = [KernelDistance()(real=normal(50, 32, s), fake=normal(50, 32, 100 + s)) for s in range(40)]
    assert min(frechet) > 3  # far from 0 for two samples of one distribution
    error = np.std(kernel) / math.sqrt(len(kernel))
    assert abs(np.mean(kernel)) < 3 * error
    assert min(kernel) < 0 < max(kernel)
    moved = [KernelDistance()(real=normal(50, 32, s), fake=normal(50, 32, 100 + s) + 0.5) for s in range(40)]
    assert np.mean(moved) > 10 * error


def test_kernel_distance_by_hand() -> None:
    a, b = normal(6, 3, 1).double(), normal(5, 3, 2).double()

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within_a = sum(k(a[i], a[j]) for i in range(6) for j in range(6) if i != j) / 30
    within_b = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(k(x, y) for x in a for y in b) / 30
    assert KernelDistance()(real=a, fake=b) == pytest.approx(within_a + within_b - 2 * across, rel=1e-9)


@pytest.mark.parametrize("kind", [KernelDistance, FrechetDistance, FrechetInfinity])
def test_distance_grows_with_noise(kind: type) -> None:
    a, b, noise = normal(300, seed=1), normal(300, seed=2), normal(300, seed=3)
    values = [kind()(real=a, fake=b + s * noise) for s in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[3] > values[0] + 0.5


@pytest.mark.parametrize("kind", [Precision, Density, Coverage])
def test_fidelity_falls_with_noise(kind: type) -> None:
    a, b, noise = normal(300, seed=1), normal(300, seed=2), normal(300, seed=3)
    values = [kind()(real=a, fake=b + s * noise) for s in (0.0, 1.0, 2.0, 4.0)]
    assert values == sorted(values, reverse=True)
    assert values[3] < values[0] / 2


def test_precision_and_recall_are_not_swapped() -> None:
    real = normal(300, 2, 1)
    collapsed = 0.01 * normal(300, 2, 2)  # perfect samples of one spot
    assert Precision()(real=real, fake=collapsed) > 0.99
    assert Recall()(real=real, fake=collapsed) < 0.05
    assert Coverage()(real=real, fake=collapsed) < 0.1
    scattered = torch.cat([normal(100, 2, 3), 20 * normal(300, 2, 4)])  # all modes, and much rubbish
    assert Precision()(real=real, fake=scattered) < 0.6
    assert Recall()(real=real, fake=scattered) > 0.9
    # the two are each other's mirror
    assert Precision()(real=real, fake=scattered) == Recall()(real=scattered, fake=real)


def test_coverage_cannot_be_fooled_by_an_outlier() -> None:
    real = normal(200, 2, 1)
    spot = 0.01 * normal(50, 2, 2) + 2
    # each of the outliers is far from the next, so its ball is huge and holds all that is real
    outliers = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]])
    assert Recall()(real=real, fake=torch.cat([spot, outliers])) > 0.99
    assert Recall()(real=real, fake=spot) < 0.5
    assert Coverage()(real=real, fake=torch.cat([spot, outliers])) < 0.2


def test_density_is_one_for_one_distribution_and_more_in_the_crowd() -> None:
    real = normal(1000, 8, 1)
    same = Density()(real=real, fake=normal(1000, 8, 2))
    assert same == pytest.approx(1.0, abs=0.15)
    assert Density()(real=real, fake=0.1 * normal(1000, 8, 2)) > 2 * same


def test_equal_points_are_inside_their_own_ball() -> None:
    """More duplicates than neighbours: the balls have radius 0 and still hold their centre."""
    sites = torch.randint(-1000, 1000, (5, 6), generator=gen(1)).float() / 7
    real = sites.repeat(8, 1)
    for kind in (Precision, Recall, Coverage):
        assert kind()(real=real, fake=real) == 1
        assert kind()(real=real, fake=real + 1) == 0


def test_neighbours_survive_a_large_common_offset() -> None:
    a, b = normal(200, seed=1).double(), normal(200, seed=2).double() + 0.5
    for kind in (Precision, Recall, Density, Coverage, Diversity):
        assert kind()(real=a + 1e5, fake=b + 1e5) == pytest.approx(kind()(real=a, fake=b), rel=1e-3)


def test_diversity() -> None:
    real = normal(100)
    assert Diversity()(real=real, fake=0.5 * real) == pytest.approx(0.5)
    assert Diversity()(real=real, fake=2 * real + 7) == pytest.approx(2)
    assert Diversity()(real=real, fake=real[:1].repeat(50, 1)) == 0
    assert math.isnan(Diversity()(real=real[:1].repeat(50, 1), fake=real))
    large = normal(5000, seed=3)
    assert Diversity()(real=large, fake=large[:2000]) == pytest.approx(1, abs=0.03)
    assert Diversity()(real=large, fake=large) == 1


def test_diversity_of_a_large_set_sorted_by_class_sees_all_classes() -> None:
    far = torch.cat([normal(3000, 2, 1), normal(3000, 2, 2) + 100])
    assert Diversity()(real=far[:3000], fake=far) > 20


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    f=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([1, 2, 1000]),
)
def test_values_stay_in_range(n: int, m: int, f: int, seed: int, levels: int) -> None:
    g = gen(seed)
    real = torch.randint(0, levels, (n, f), generator=g).float()
    fake = torch.randint(0, levels, (m, f), generator=g).float()
    for kind in ALL:
        metric = kind()
        value = metric(real=real, fake=fake)
        assert math.isnan(value) or metric.range[0] <= value <= metric.range[1]
        few = kind is FrechetInfinity and min(n, m) < 10
        varied = kind in (Diversity, Vendi) and levels <= 2
        assert not math.isnan(value) or few or varied or bool((real == real[0]).all())


# --- score ---------------------------------------------------------------------------------------


def test_score_carries_everything() -> None:
    real, fake = normal(60, seed=1), normal(90, seed=2) + 0.5
    labels = ["a"] * 30 + ["b"] * 25 + ["few"] * 5
    s = score(
        FrechetDistance(),
        real=real,
        fake=fake,
        floor_pair=(real[:30], real[30:]),
        space="test:0",
        rng=gen(),
        draws=20,
        real_y=labels,
        fake_y=(labels + ["new"] * 30),
    )
    assert (s.name, s.goal, s.space, s.counts) == (
        "frechet_distance",
        "min",
        "test:0",
        {"real": 60, "fake": 90},
    )
    assert s.value == FrechetDistance()(real=real, fake=fake)
    assert s.floor == FrechetDistance()(real=real[:30], fake=real[30:])
    assert 0 <= s.low < s.value < s.high
    assert s.per_class == {
        "a": FrechetDistance()(real=real[:30], fake=fake[:30]),
        "b": FrechetDistance()(real=real[30:55], fake=fake[30:55]),
    }
    assert s.meaning


def test_classes_see_no_more_features_than_their_samples_allow() -> None:
    real, fake = normal(90, 20, 1), normal(90, 20, 2)
    labels = ["large"] * 60 + ["small"] * 30
    arguments = {
        "real": real,
        "fake": fake,
        "space": "x",
        "rng": gen(),
        "draws": 0,
        "real_y": labels,
        "fake_y": labels,
    }
    few = score(FrechetDistance(), **arguments, principal=True)  # type: ignore[arg-type]
    assert few.per_class == {
        "large": FrechetDistance()(real=real[:60, :3], fake=fake[:60, :3]),
        "small": FrechetDistance()(real=real[60:, :3], fake=fake[60:, :3]),
    }
    every = score(FrechetDistance(), **arguments)  # type: ignore[arg-type]
    assert few.value == every.value
    assert few.per_class["small"] < every.per_class["small"] / 3  # most of that was error
    kernel = [score(KernelDistance(), **arguments, principal=p).per_class for p in (False, True)]  # type: ignore[arg-type]
    assert kernel[0] == kernel[1]  # unbiased whatever the dimension


def test_a_metric_may_ask_for_fewer_draws() -> None:
    class Counted(KernelDistance):
        draws = 3
        calls = 0

        def __call__(self, *, real: Tensor, fake: Tensor) -> float:
            self.calls += 1
            return super().__call__(real=real, fake=fake)

    for draws, calls in ((100, 4), (2, 3), (0, 1)):
        metric = Counted()
        score(metric, real=normal(40), fake=normal(40, seed=1), space="x", rng=gen(), draws=draws)
        assert metric.calls == calls


def test_score_says_nan_where_it_cannot_know() -> None:
    a = normal(9)
    s = score(Precision(), real=a, fake=a, space="x", rng=gen())
    assert math.isnan(s.low)
    assert math.isnan(s.high)
    assert math.isnan(s.floor)
    assert s.value == 1
    assert s.per_class == {}
    assert math.isnan(score(FrechetDistance(), real=a[:1], fake=a, space="x", rng=gen()).value)
    with pytest.raises(UsageError, match="fake_y has 2 labels for 9"):
        score(Precision(), real=a, fake=a, space="x", rng=gen(), real_y=["a"] * 9, fake_y=["a"] * 2)


def test_score_depends_on_its_generator_alone() -> None:
    a, b = normal(50, seed=1), normal(50, seed=2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two, other = (score(Density(), real=a, fake=b, space="x", rng=gen(s), draws=20) for s in (1, 1, 2))
    assert (one.low, one.high) == (two.low, two.high) != (other.low, other.high)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_share_of_all_is_not_certain() -> None:
    real = normal(60, 2, 1)
    s = score(Precision(), real=real, fake=0.01 * normal(40, 2, 2), space="x", rng=gen(), draws=20)
    assert (s.value, s.high) == (1, 1)
    assert s.low == pytest.approx(wilson(40, 40)[0])  # no half-sample differs, the next sample may


def test_interval_narrows_with_more_samples() -> None:
    def width(n: int) -> float:
        a, b = normal(n, 4, 1), normal(n, 4, 2) + 0.5
        s = score(KernelDistance(), real=a, fake=b, space="x", rng=gen(), draws=50)
        return s.high - s.low

    small, large = width(50), width(3200)  # the second exceeds the cap on points
    assert small / large == pytest.approx(8, rel=0.4)


@pytest.mark.parametrize("kind", [KernelDistance, Density, Coverage, Precision, Vendi])
def test_interval_covers_the_expectation(kind: type) -> None:
    """95 % intervals over 40 data sets: the share that holds the mean of the metric."""
    metric = kind()

    def pair(seed: int) -> tuple[Tensor, Tensor]:
        return normal(60, 6, 2 * seed), 0.8 * normal(60, 6, 2 * seed + 1) + 0.4

    truth = float(np.mean([metric(real=a, fake=b) for a, b in map(pair, range(1000, 1200))]))
    inside = wide = 0
    for seed in range(40):
        a, b = pair(seed)
        s = score(metric, real=a, fake=b, space="x", rng=gen(seed), draws=40)
        inside += s.low <= truth <= s.high
        wide += s.low <= truth + 3 * abs(s.high - s.low) <= s.high
    assert inside >= 34  # 95 % of 40 is 38; 34 or fewer has a chance of 1 %
    assert wide == 0


# --- project -------------------------------------------------------------------------------------


def test_project_keeps_the_variance_of_train_and_is_fitted_on_it_alone() -> None:
    scale = torch.tensor([5.0, 3.0, 2.0] + [0.1] * 7)
    train, other = normal(100, 10, 1) * scale, normal(50, 10, 2) * scale
    a, b = project(train, other, dims=3)
    assert a.shape == (100, 3)
    assert b.shape == (50, 3)
    assert a.var(0).sum() > 0.99 * train.double().var(0).sum()
    assert (a.var(0).diff() < 0).all()
    again = project(train, other * 100, dims=3)[0]
    assert torch.equal(a, again)
    assert not torch.allclose(a, project(train * scale, other, dims=3)[0])


def test_project_allows_at_most_a_tenth_of_the_samples() -> None:
    assert project(normal(200, 64))[0].shape == (200, 20)
    assert project(normal(2000, 64))[0].shape == (2000, 64)
    assert project(normal(12, 64))[0].shape == (12, 2)
    assert project(normal(2, 64))[0].shape == (2, 1)


@pytest.mark.parametrize("f", [20, 300])
def test_project_has_one_sign_and_ignores_order(f: int) -> None:
    train = normal(120, f, 1)
    order = torch.randperm(120, generator=gen(2))
    a, b = project(train)[0], project(train[order])[0]
    assert torch.allclose(a[order], b, atol=1e-8)


def test_project_matches_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    train, other = normal(150, 30, 1) @ normal(30, 30, 5), normal(20, 30, 2)
    mine = project(train, other, dims=5)
    model = PCA(5, svd_solver="full").fit(train.double().numpy())
    for got, points in zip(mine, (train, other), strict=True):
        want = torch.from_numpy(model.transform(points.double().numpy()))
        sign = torch.sign((got * want).sum(0))
        assert torch.allclose(got, want * sign, atol=1e-7)


def test_project_refuses() -> None:
    with pytest.raises(UsageError, match=r"others\[0\] has 7"):
        project(normal(20), normal(20)[:, :7])
    with pytest.raises(UsageError, match="at least 2"):
        project(normal(1))


# --- shares and labels ---------------------------------------------------------------------------


def test_wilson() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Brown, Cai, DasGupta's form
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert all(math.isnan(v) for v in wilson(0, 0))
    empty = share_of(0, 0)
    assert math.isnan(empty.value)


def test_agreement() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1]])
    out = agreement(p, torch.tensor([0, 1, 0, 2]))
    assert (out.overall.found, out.overall.total) == (2, 4)
    assert {c: (s.found, s.total) for c, s in out.per_class.items()} == {0: (1, 2), 1: (1, 1), 2: (0, 1)}
    assert out.overall.low < 0.5 < out.overall.high
    with pytest.raises(UsageError, match="classes 0 to 2"):
        agreement(p, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(UsageError, match="4 class indices"):
        agreement(p, torch.tensor([0, 1]))
    with pytest.raises(NumericalError):
        agreement(p * math.nan, torch.tensor([0, 1, 0, 2]))
    assert math.isnan(agreement(p[:0], torch.zeros(0, dtype=torch.long)).overall.value)


def recogniser(n: int, sharp: float, seed: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(0, 5, (n,), generator=gen(seed))
    logits = torch.randn(n, 5, generator=gen(seed + 1)) + sharp * torch.nn.functional.one_hot(y, 5)
    return torch.softmax(2 * logits, dim=1), y


@pytest.mark.parametrize("sharp", [1.0, 3.0])
def test_limit_keeps_real_samples_and_drops_wrong_labels(sharp: float) -> None:
    limit = calibrated_limit(*recogniser(1000, sharp, 1))
    p, y = recogniser(1000, sharp, 3)
    kept = mislabelled(p, y, limit).double().mean()
    wrong = mislabelled(p, (y + 1) % 5, limit).double().mean()
    assert kept < 0.04
    assert wrong > 5 * kept


def test_limit_adapts_to_the_recogniser() -> None:
    assert calibrated_limit(*recogniser(500, 0.5, 1)) < calibrated_limit(*recogniser(500, 4.0, 1)) / 3
    assert calibrated_limit(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long)) == 0
    p, y = recogniser(20, 1.0, 1)
    assert calibrated_limit(p, y) == pytest.approx(float(p.gather(1, y[:, None]).min()))


def test_limit_spares_a_rare_class_that_is_read_less_well() -> None:
    rng = np.random.default_rng(0)
    own = np.concatenate([rng.uniform(0.9, 1, 500), rng.uniform(0.2, 0.6, 20)])
    p = torch.tensor(np.stack([own, 1 - own], 1))
    p[500:] = p[500:].flip(1)
    y = torch.tensor([0] * 500 + [1] * 20)
    limit = calibrated_limit(p, y)
    assert (own[500:] < limit).sum() <= 1
    assert (own[500:] < np.sort(own)[10]).sum() == 10  # the control: 2 % of all are half of that class
    alone = np.append(rng.uniform(0.9, 1, 400), 0.001)  # the only sample of a class, misread
    p = torch.tensor(np.stack([alone, 1 - alone, np.zeros(401)], 1))
    p[-1] = p[-1].roll(2)
    assert calibrated_limit(p, torch.tensor([0] * 200 + [0] * 200 + [2])) > 0.85


def test_only_another_winner_makes_a_mislabel() -> None:
    p = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    assert mislabelled(p, torch.tensor([0, 0]), 0.9).tolist() == [False, True]
    assert mislabelled(p, torch.tensor([0, 0]), 0.3).tolist() == [False, False]
    with pytest.raises(UsageError, match="limit"):
        mislabelled(p, torch.tensor([0, 0]), 1.5)
