"""The eye on an adversarial training: what it sees in samples, and the way back to good weights."""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import blobs, dataset

from sibling.conditions.label import Label
from sibling.dataset import Dataset
from sibling.device import generator
from sibling.errors import NumericalError
from sibling.models.gan import GAN
from sibling.models.vae import VAE
from sibling.types import Batch, Cond
from sibling.watch import COLLAPSED, LEAST_SCALE, MOST_ROLLBACKS, Watch, has_collapsed, keep_good, roll_back

# ---- what counts as a collapse --------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"game/diversity": 0.1, "game/spread": 0.9},
        {"game/diversity": 0.9, "game/spread": 0.1},  # as varied as its classes, but one sample a class
        {"game/diversity": 0.0},
        {"game/diversity": math.nan, "val/loss": math.nan},
        {"game/diversity": COLLAPSED - 1e-6, "game/spread": 1.0},
    ],
    ids=str,
)
def test_samples_that_are_all_alike_or_not_finite_are_a_collapse(row: dict[str, float]) -> None:
    assert has_collapsed(row)


@pytest.mark.parametrize(
    "row",
    [
        {"game/diversity": 0.9, "game/spread": 0.8, "game/spread_worst": 0.1},  # one class alone is no end
        {"game/diversity": COLLAPSED, "game/spread": COLLAPSED},
        {"game/diversity": 1.4},
        {},
    ],
    ids=str,
)
def test_samples_that_vary_are_none(row: dict[str, float]) -> None:
    assert not has_collapsed(row)


# ---- what the watch sees --------------------------------------------------------------------------

Sampler = Callable[[torch.Tensor, list[str], torch.Generator], torch.Tensor]


class Model:
    """Samples that a function makes of real ones of the same groups."""

    def __init__(self, data: Dataset, make: Sampler) -> None:
        self.make = make
        rows = data.rows("train")
        self.x, self.names = data.x(rows), np.array(data.classes(rows))

    def sample(self, cond: Cond, y: list[str], seeds: list[int]) -> torch.Tensor:
        rng = generator("sample", seeds[0])
        own = [np.flatnonzero(self.names == name) for name in y]
        rows = [rows[int(torch.randint(len(rows), (), generator=rng))] for rows in own]
        return self.make(self.x[rows], list(y), rng)


@pytest.fixture(scope="module")
def easy() -> Dataset:
    return dataset(*blobs(160), test=0.1, val=0.4)


@pytest.fixture(scope="module")
def watch(easy: Dataset) -> Watch:
    return Watch(easy, easy.rows("train"), 0)


def seen(watch: Watch, easy: Dataset, make: Sampler) -> dict[str, float]:
    row = watch(Model(easy, make))  # type: ignore[arg-type]
    assert row == watch(Model(easy, make))  # type: ignore[arg-type]  # the same noise each time
    return row


@pytest.fixture(scope="module")
def good(watch: Watch, easy: Dataset) -> dict[str, float]:
    return seen(watch, easy, lambda x, y, rng: x)


def test_samples_like_real_ones_are_near_and_as_varied(good: dict[str, float]) -> None:
    assert good["game/diversity"] == pytest.approx(1, abs=0.1)
    assert good["game/spread"] == pytest.approx(1, abs=0.15)
    assert good["game/spread_worst"] <= good["game/spread"]
    assert abs(good["val/loss"]) < 0.05
    assert not has_collapsed(good)


def test_one_sample_for_all_is_a_collapse(watch: Watch, easy: Dataset, good: dict[str, float]) -> None:
    row = seen(watch, easy, lambda x, y, rng: easy.x([0]).expand_as(x))
    assert row["game/diversity"] < 0.01
    assert has_collapsed(row)
    assert row["val/loss"] > good["val/loss"] + 0.05


def test_one_sample_a_class_is_a_collapse_that_only_the_groups_show(watch: Watch, easy: Dataset) -> None:
    def one_each(x: torch.Tensor, y: list[str], rng: torch.Generator) -> torch.Tensor:
        first = {name: easy.classes(range(len(easy))).index(name) for name in set(y)}
        return easy.x([first[name] for name in y])

    row = seen(watch, easy, one_each)
    assert row["game/diversity"] > COLLAPSED
    assert row["game/spread"] < 0.01
    assert has_collapsed(row)


def test_samples_of_the_wrong_class_are_far_though_they_are_as_varied(
    watch: Watch, easy: Dataset, good: dict[str, float]
) -> None:
    row = seen(watch, easy, lambda x, y, rng: x.flip(-1))  # left becomes right
    assert row["game/diversity"] == pytest.approx(good["game/diversity"], abs=0.1)
    assert row["val/loss"] > good["val/loss"] + 0.05


def test_samples_that_are_not_finite_are_a_collapse_and_no_error(watch: Watch, easy: Dataset) -> None:
    row = watch(Model(easy, lambda x, y, rng: x * math.nan))  # type: ignore[arg-type]
    assert has_collapsed(row)
    assert math.isnan(row["val/loss"])


def test_the_worse_the_samples_the_larger_the_distance(watch: Watch, easy: Dataset) -> None:
    def noisy(amount: float) -> Sampler:
        return lambda x, y, rng: x + amount * torch.randn(x.shape, generator=rng)

    distances = [seen(watch, easy, noisy(amount))["val/loss"] for amount in (0.0, 0.3, 1.0)]
    assert distances == sorted(distances)
    assert distances[2] > distances[0] + 0.02


@pytest.mark.parametrize(("least", "sound"), [(LEAST_SCALE, True), (0.0, False)])
def test_no_feature_that_real_samples_hardly_move_outweighs_all_others(
    least: float, sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stroke where all real pictures are black gave distances of 10^8, and early, empty weights were kept."""
    from sklearn.datasets import load_digits

    monkeypatch.setattr("sibling.watch.LEAST_SCALE", least)
    images, digits = load_digits(n_class=2, return_X_y=True)
    raw = np.pad(images[:200].reshape(-1, 1, 8, 8) * 15.9, ((0, 0), (0, 0), (4, 4), (4, 4))).astype(np.uint8)
    black = dataset(raw, [str(digit) for digit in digits[:200]], test=0, val=0.4)
    eye = Watch(black, black.rows("train"), 0)
    moved = seen(eye, black, lambda x, y, rng: x.roll(3, -1))["val/loss"]
    one_for_all = seen(eye, black, lambda x, y, rng: x.mean(0, keepdim=True).expand_as(x))["val/loss"]
    assert one_for_all > 10
    assert (moved < 100 * one_for_all) == sound


@pytest.mark.parametrize(
    ("held_out", "enough"), [(0, False), (2, False), (15, False), (16, True), (30, True)]
)
def test_with_few_held_out_samples_the_training_ones_stand_in_and_there_is_no_distance(
    held_out: int, enough: bool
) -> None:
    """Nothing may be chosen by a distance to training samples: the best one would be that of a copy."""
    data = dataset(*blobs(100), test=0, val=held_out / 100)
    assert len(data.rows("val")) == held_out
    eye = Watch(data, data.rows("train"), 0)
    row = eye(Model(data, lambda x, y, rng: x))  # type: ignore[arg-type]
    assert row["game/diversity"] == pytest.approx(1, abs=0.2)
    assert ("val/loss" in row) == eye.has_val == enough
    assert set(eye.rows) <= set(data.rows("val" if enough else "train"))
    assert len(eye.rows) * eye.fold == pytest.approx(512, abs=len(eye.rows) / 2)


def test_a_group_that_is_too_small_has_no_spread() -> None:
    raw, _ = blobs(60)
    data = dataset(raw, ["many"] * 57 + ["few"] * 3, test=0, val=0)
    row = Watch(data, data.rows("train"), 0)(Model(data, lambda x, y, rng: x))  # type: ignore[arg-type]
    assert row["game/spread"] == row["game/spread_worst"]
    assert math.isfinite(row["game/spread"])


# ---- the way back ---------------------------------------------------------------------------------

N = 6


def trained() -> GAN:
    gan = GAN(latent=3, width=8, critic_width=8)
    gan.build((2,), Label(["a", "b"]), generator("weights"))
    play(gan, 0)
    return gan


def play(gan: GAN, first: int, steps: int = 3) -> None:
    cond = Cond(torch.eye(2)[[0, 1] * (N // 2)], torch.zeros(N, 0))
    for step in range(first, first + steps):
        rng = generator("step", step)
        gan.step(Batch(torch.randn(N, 2, generator=rng), cond, rng, 0.0, number=step))


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.clone()
        for name, network in model.networks.items()
        for key, value in network.state_dict().items()
    }


def test_kept_weights_are_a_copy_of_all_networks() -> None:
    gan = trained()
    kept, before = keep_good(gan), weights_of(gan)
    assert kept.keys() == gan.networks.keys()
    play(gan, 3)
    flat = {f"{name}/{key}": value for name, part in kept.items() for key, value in part.items()}
    assert all(torch.equal(flat[key], before[key]) for key in before)
    assert not all(torch.equal(weights_of(gan)[key], before[key]) for key in before)


def test_a_rollback_restores_halves_and_forgets(caplog: pytest.LogCaptureFixture) -> None:
    gan = trained()
    kept, before = keep_good(gan), weights_of(gan)
    play(gan, 3)
    with torch.no_grad():
        for parameter in gan.networks["generator"].parameters():
            parameter.fill_(math.nan)
    assert all(optimizer.state for optimizer in gan.optimizers.values())
    with caplog.at_level(logging.WARNING, "sibling"):
        roll_back(gan, kept, "the samples are all alike", 30, 0)
    assert "Step 30: the samples are all alike" in caplog.text
    after = weights_of(gan)
    assert float(after.pop("ledger/rate")) == 0.5
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(optimizer.state for optimizer in gan.optimizers.values())
    play(gan, 6)  # and it goes on
    assert all(torch.isfinite(value).all() for value in weights_of(gan).values())
    assert gan.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(gan.learning_rate / 2)
    assert all(torch.equal(kept["generator"][key[10:]], value) for key, value in before.items()
               if key.startswith("generator/"))  # fmt: skip


def test_each_rollback_halves_the_rate_again_though_the_kept_one_is_older() -> None:
    gan = trained()
    kept = keep_good(gan)  # with a rate of 1
    for number in range(3):
        roll_back(gan, kept, "why", 30, number)
        assert float(gan.ledger.rate) == 0.5 ** (number + 1)


def test_what_a_rolled_back_game_does_next_depends_on_the_good_weights_alone() -> None:
    ends = []
    for detour in (1, 5):
        gan = trained()
        kept = keep_good(gan)
        play(gan, 3, detour)
        roll_back(gan, kept, "why", 30, 0)
        play(gan, 20)
        ends.append(weights_of(gan))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("so_far", [MOST_ROLLBACKS, MOST_ROLLBACKS + 1])
def test_after_too_many_rollbacks_the_training_has_failed(so_far: int) -> None:
    gan = trained()
    before = weights_of(gan)
    with pytest.raises(NumericalError, match=f"step 30 .*{so_far} rollbacks did not help.*gamma") as caught:
        roll_back(gan, keep_good(gan), "why", 30, so_far)
    assert caught.value.exit_code == 5
    assert all(torch.equal(value, before[key]) for key, value in weights_of(gan).items())
    roll_back(gan, keep_good(gan), "why", 30, MOST_ROLLBACKS - 1)  # the control: the last one that is allowed


def test_without_good_weights_there_is_no_way_back() -> None:
    with pytest.raises(NumericalError, match="the loss") as caught:
        roll_back(trained(), {}, "the loss was not finite", 30, 0)
    assert "rollbacks did not help" not in str(caught.value)


def advice(model: Any) -> dict[str, float]:
    """The arguments that a training that failed suggests, as the command line takes them."""
    with pytest.raises(NumericalError) as caught:
        roll_back(model, {}, "why", 30, 0)
    found = re.search(r"--arguments '(\{.*?\})' \(arguments=(\{.*?\})\)", str(caught.value))
    assert found is not None, str(caught.value)
    advised: dict[str, float] = json.loads(found[1])
    assert advised == ast.literal_eval(found[2])  # and as Python takes them
    return advised


@pytest.mark.parametrize(("gamma", "rate"), [(0.2, 2e-3), (8.0, 1e-4)])
def test_what_is_advised_after_a_failure_is_milder_than_what_was_tried(gamma: float, rate: float) -> None:
    advised = advice(GAN(gamma=gamma, learning_rate=rate))
    assert advised == pytest.approx({"learning_rate": rate / 4, "gamma": 4 * gamma})
    GAN(**advised)  # type: ignore[arg-type]


def test_only_arguments_that_the_model_has_are_advised() -> None:
    assert advice(VAE(adversarial=1.0, learning_rate=4e-3)) == pytest.approx({"learning_rate": 1e-3})
    assert advice(SimpleNamespace(arguments=dict)) == {}
