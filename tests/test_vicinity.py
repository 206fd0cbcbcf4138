"""Vicinal training pairs, against the formulas of CcGAN by hand, with a negative control beside each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sibling.conditions.joint import Joint
from sibling.conditions.value import Value
from sibling.conditions.vicinity import KINDS, Vicinity, bandwidth, kappa, radius, soft_weights
from sibling.errors import UsageError

RNG = np.random.default_rng


def test_bandwidth_is_silvermans_rule() -> None:
    values = np.array([0.0, 0.2, 0.4, 1.0])
    mean = 1.6 / 4
    std = math.sqrt((mean**2 + 0.2**2 + 0 + 0.6**2) / 4)
    assert float(bandwidth(values)) == pytest.approx(1.06 * std * 4 ** (-0.2), rel=1e-12)
    assert float(bandwidth(values)) != pytest.approx(1.06 * std * 4 ** (-0.25), rel=1e-3)  # control
    # a part of 1,000 stands for all of them, with their n
    assert float(bandwidth(values, 1_000)) == pytest.approx(1.06 * std * 1_000 ** (-0.2), rel=1e-12)
    both = np.stack([values, 2 * values], axis=1)
    assert bandwidth(both).tolist() == pytest.approx([float(bandwidth(values)), 2 * float(bandwidth(values))])


def test_kappa_is_the_largest_gap_of_sorted_unique_values() -> None:
    values = np.array([0.5, 0.0, 0.5, 0.1, 1.0, 0.1])
    assert kappa(values) == 0.5  # 0, 0.1, 0.5, 1
    assert kappa(values) != float(np.diff(values).max())  # control: neither of the unsorted ones
    assert kappa(np.array([0.3, 0.3])) == 0
    assert kappa(np.array([[0.0, 0.0], [0.3, 0.4], [0.0, 0.0]])) == pytest.approx(0.5)  # hypot(0.3, 0.4)


def test_soft_weights_by_hand() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.9])
    found = soft_weights(values, 0.1, 100.0)
    assert found.tolist() == pytest.approx([math.exp(-1), 1.0, math.exp(-1), 0.0], rel=1e-12)
    assert found[3] == 0  # exp(-64) is below 1e-3 and dropped
    edge = math.sqrt(-math.log(1e-3) / 100)
    kept, dropped = soft_weights(np.array([edge * 0.999, edge * 1.001]), 0.0, 100.0)
    assert kept >= 1e-3
    assert dropped == 0
    plane = soft_weights(np.array([[0.0, 0.0], [0.3, 0.4]]), np.array([0.0, 0.0]), 2.0)
    assert plane.tolist() == pytest.approx([1.0, math.exp(-2 * 0.25)])
    assert plane[1] != pytest.approx(math.exp(-2 * 0.5))  # control: d, not d^2


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_radius_is_that_of_brute_force(width: int) -> None:
    rng = RNG(0)
    values = rng.random((40, width))
    for neighbours in (1, 8, 40):
        target = rng.random(width)
        away = sorted(math.dist(row, target) for row in values)
        assert radius(values, target, neighbours) == pytest.approx(away[neighbours - 1], rel=1e-12)
        if neighbours < 40:
            assert radius(values, target, neighbours) < away[neighbours]  # control: not one more
    assert radius(values, values[3], 1) == 0
    assert radius(values, target, 1_000) == pytest.approx(away[-1])  # fewer than asked: all of them


def numbers_of(y: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    return np.array([[row[name] for name in names] for row in y])


def sample(width: int, n: int = 200, seed: int = 0) -> tuple[list[dict[str, float]], list[str]]:
    names = ["a", "b"][:width]
    table = RNG(seed).beta(2, 3, (n, width))
    table = (table - table.min(0)) / (table.max(0) - table.min(0))  # so that scaled is what was given
    return [dict(zip(names, row.tolist(), strict=True)) for row in table], names


def reach_of(vicinity: Vicinity, table: np.ndarray, target: np.ndarray) -> float:
    """How far the vicinity of a target goes, by brute force."""
    if vicinity.kind == "hard":
        return vicinity.kappa
    if vicinity.kind == "soft":
        return math.sqrt(-math.log(1e-3) / vicinity.nu)
    away = sorted(math.dist(row, target) for row in table)
    return away[max(8, int(math.sqrt(len(table)))) - 1]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_and_every_fake_lies_in_the_vicinity_of_its_target(kind: str, width: int) -> None:
    y, names = sample(width)
    vicinity = Value().fit(y).vicinity(y, kind)
    table = numbers_of(y, names)
    anchors = RNG(1).integers(len(y), size=600)
    targets, rows, made, weight = vicinity.draw(anchors, RNG(2))
    assert weight.dtype == np.float32
    assert weight.shape == rows.shape == (600,)
    told, fake = numbers_of(targets, names), numbers_of(made, names)
    assert (told >= 0).all()
    assert (told <= 1).all()
    assert (fake >= 0).all()
    assert (fake <= 1).all()
    for target, row, one, w in zip(told, rows, fake, weight, strict=True):
        reach = reach_of(vicinity, table, target) * (1 + 1e-9)
        assert math.dist(table[row], target) <= reach
        assert math.dist(one, target) <= reach
        wanted = math.exp(-vicinity.nu * math.dist(table[row], target) ** 2) if kind == "soft" else 1.0
        assert w == pytest.approx(wanted, rel=1e-5)
    assert weight.min() >= 1e-3 * (1 - 1e-5)
    if kind == "soft":
        assert weight.min() < 0.9
    strangers = RNG(3).permutation(rows)  # control: rows of other targets lie outside
    outside = [
        math.dist(table[row], target) > reach_of(vicinity, table, target)
        for row, target in zip(strangers, told, strict=True)
    ]
    assert np.mean(outside) > 0.2


def test_the_jitter_of_targets_has_the_spread_sigma() -> None:
    y = [{"v": float(v)} for v in np.linspace(0, 1, 501)]
    vicinity = Value().fit(y).vicinity(y)
    sigma = 1.06 * np.std(np.linspace(0, 1, 501)) * 501 ** (-0.2)
    assert vicinity.sigma[0] == pytest.approx(sigma)
    middle = np.full(4_000, 250)  # 0.5, far from both ends: nothing is clipped
    targets, *_ = vicinity.draw(middle, RNG(0))
    jitter = numbers_of(targets, ["v"])[:, 0] - 0.5
    assert abs(jitter.mean()) < 4 * sigma / math.sqrt(4_000)
    assert jitter.std() == pytest.approx(sigma, rel=0.05)
    inside = np.mean(np.abs(jitter) < sigma)
    assert inside == pytest.approx(0.683, abs=0.03)  # of a normal distribution
    half, *_ = Value().fit(y[::4]).vicinity(y[::4]).draw(np.full(4_000, 62), RNG(0))
    assert numbers_of(half, ["v"])[:, 0].std() > 1.2 * sigma  # control: fewer samples, wider


def test_fakes_are_uniform_in_the_vicinity() -> None:
    y = [{"v": float(v)} for v in np.linspace(0, 1, 101)]
    vicinity = Value().fit(y).vicinity(y, "hard")
    targets, _, made, _ = vicinity.draw(np.full(4_000, 50), RNG(0))
    away = (numbers_of(made, ["v"]) - numbers_of(targets, ["v"]))[:, 0] / vicinity.kappa
    assert np.abs(away).max() <= 1 + 1e-9
    assert away.std() == pytest.approx(1 / math.sqrt(3), rel=0.05)
    plane = [{"a": a / 20, "b": b / 20} for a in range(21) for b in range(21)]
    flat = Value().fit(plane).vicinity(plane, "hard")
    targets, _, made, _ = flat.draw(np.full(4_000, 220), RNG(0))
    away = np.linalg.norm(numbers_of(made, ["a", "b"]) - numbers_of(targets, ["a", "b"]), axis=1) / flat.kappa
    assert np.mean(away < math.sqrt(0.5)) == pytest.approx(
        0.5, abs=0.03
    )  # half of the area, not of the radius


@pytest.mark.parametrize("width", [1, 2])
def test_fakes_of_a_soft_vicinity_are_as_near_as_its_weighted_reals(width: int) -> None:
    """CcGAN weighs the fakes of a soft vicinity too: else D is shown fakes from farther away than its reals."""
    side = np.linspace(0, 1, 21) if width == 2 else np.linspace(0, 1, 101)
    names = ["a", "b"][:width]
    y = [
        dict(zip(names, row, strict=True))
        for row in np.stack(np.meshgrid(*[side] * width), -1).reshape(-1, width).tolist()
    ]
    vicinity = Value().fit(y).vicinity(y, "soft")
    targets, rows, made, weight = vicinity.draw(np.full(20_000, len(y) // 2), RNG(0))
    told, table = numbers_of(targets, names), numbers_of(y, names)
    real, fake = (np.square(other - told).sum(1) for other in (table[rows], numbers_of(made, names)))
    expected = width * vicinity.kappa**2 / 2  # of a normal density exp(-d^2 / kappa^2), width dimensions
    assert np.average(real, weights=weight) == pytest.approx(expected, rel=0.05)
    assert fake.mean() == pytest.approx(expected, rel=0.05)
    assert real.mean() > 2 * expected  # the control: without the weights they are farther away


def test_real_rows_are_drawn_alike_from_tied_values() -> None:
    y = [{"v": float(i % 4)} for i in range(400)]
    _, rows, _, _ = Value().fit(y).vicinity(y).draw(np.zeros(3_000, int), RNG(0))
    seen = np.bincount(rows[rows % 4 == 0] // 4, minlength=100)
    assert (seen > 0).all()  # all of the 100 samples with the same number, not the first few


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_of_a_joint_stays_the_anchors(kind: str) -> None:
    rng = RNG(0)
    y = [{"kind": "leaf" if i % 3 else "stem", "v": float(v)} for i, v in enumerate(rng.random(150))]
    vicinity = Joint().fit(y).vicinity(y, kind)
    anchors = rng.integers(150, size=300)
    targets, rows, made, _ = vicinity.draw(anchors, rng)
    for anchor, target, row, one in zip(anchors, targets, rows, made, strict=True):
        assert target["kind"] == one["kind"] == y[row]["kind"] == y[anchor]["kind"]
        assert list(target) == list(y[0])
    plain = [{"v": row["v"]} for row in y]
    _, rows, _, _ = Value().fit(plain).vicinity(plain, kind).draw(anchors, rng)
    assert any(y[row]["kind"] != y[a]["kind"] for row, a in zip(rows, anchors, strict=True))  # control


def test_a_sample_alone_with_its_label_keeps_its_number() -> None:
    y = [{"kind": "rare", "v": 0.5}, *({"kind": "often", "v": i / 20} for i in range(21))]
    for kind in KINDS:
        vicinity = Joint().fit(y).vicinity(y, kind)
        targets, rows, _, weight = vicinity.draw(np.zeros(20, int), RNG(0))
        assert targets == [y[0]] * 20
        assert rows.tolist() == [0] * 20
        assert weight.tolist() == [1.0] * 20
        others, *_ = vicinity.draw(np.ones(20, int), RNG(0))
        assert any(target != y[1] for target in others)  # control


@pytest.mark.parametrize("kind", KINDS)
def test_where_all_numbers_are_equal_targets_are_too(kind: str) -> None:
    y = [{"v": 3.0, "w": 1.0}] * 20
    targets, _, made, weight = Value().fit(y).vicinity(y, kind).draw(np.arange(20), RNG(0))
    assert targets == made == y
    assert weight.tolist() == [1.0] * 20


def test_far_targets_of_a_hard_vicinity_are_drawn_again() -> None:
    # two clusters of one label each far apart, kappa small: most targets of "a" lie where no sample is
    y = [{"kind": "a", "v": 0.0}, {"kind": "a", "v": 1.0}]
    y += [{"kind": "b", "v": i / 1_000} for i in range(1_001)]
    vicinity = Joint().fit(y).vicinity(y, "hard")
    targets, rows, _, _ = vicinity.draw(np.zeros(200, int), RNG(0))
    assert set(rows.tolist()) == {0}
    assert max(target["v"] for target in targets) <= vicinity.kappa


def test_draw_is_a_function_of_the_generator() -> None:
    y, _ = sample(2)
    vicinity = Value().fit(y).vicinity(y)
    first, again, other = (vicinity.draw(np.arange(50), RNG(seed)) for seed in (5, 5, 6))
    assert first[0] == again[0]
    assert first[1].tolist() == again[1].tolist()
    assert first[2] == again[2]
    assert first[0] != other[0]


def test_an_unknown_kind_and_no_samples_are_refused() -> None:
    y, _ = sample(1)
    with pytest.raises(UsageError, match="Did you mean 'nearest'"):
        Value().fit(y).vicinity(y, "neares")
    with pytest.raises(UsageError, match="at least one"):
        Value().fit(y).vicinity([])
