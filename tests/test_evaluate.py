"""Scores with floors, the lift and its verdict, and the networks that they look through."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, blobs, dataset

import sibling
from sibling import files
from sibling.dataset import Dataset, condition_of, synthetic
from sibling.errors import BadInput, UsageError
from sibling.judge import Numbers, label_errors
from sibling.metrics import METRICS
from sibling.metrics.features import RandomFeatures, in_batches
from sibling.metrics.lift import ARMS as lift_arms
from sibling.metrics.lift import CANDIDATE, LEAST_TEST, RIVALS, Arm, arms_of, power, run_arm, verdict
from sibling.metrics.recogniser import Pool, Recogniser, train_recogniser
from sibling.png import to_png, to_text
from sibling.snapshot import Snapshot
from sibling.types import Evaluation, Verdict

# ---- the verdict, on constructed predictions ------------------------------------------------------

ARMS = [*RIVALS, CANDIDATE, "synthetic only", "shuffled labels"]


def predictions(
    accuracy: dict[str, float], n: int = 400, seeds: int = 3, classes: int = 4
) -> tuple[Any, np.ndarray]:
    """arm -> (seeds, n) predictions that are right with this probability; 0.7 where nothing is said."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    right = {arm: rng.random((seeds, n)) < accuracy.get(arm, 0.7) for arm in ARMS}
    return {arm: np.where(r, y, (y + 1) % classes) for arm, r in right.items()}, y


def answered(accuracy: dict[str, float], **sizes: int) -> Verdict:
    predicted, y = predictions(accuracy, **sizes)
    return verdict(predicted, y, steps=10, meanings={}, rng=np.random.default_rng(1), draws=400)


def test_clearly_better_helps() -> None:
    found = answered({CANDIDATE: 0.9})
    assert found.answer == "helps"
    assert 10 < found.low < found.lift < found.high < 30
    assert found.sentence.startswith("The synthetic samples help: +")


def test_clearly_worse_harms() -> None:
    found = answered({CANDIDATE: 0.5})
    assert found.answer == "harms"
    assert found.low < found.lift < found.high < 0
    assert "Train without them" in found.sentence


def test_equal_is_no_evidence() -> None:
    found = answered({})
    assert found.answer == "no evidence"
    assert found.low < 0 < found.high
    assert "could not have been seen" in found.sentence


def test_identical_predictions_are_no_evidence() -> None:
    predicted, y = predictions({})
    same = dict.fromkeys(ARMS, predicted["real"])
    found = verdict(same, y, steps=10, meanings={}, rng=np.random.default_rng(1), draws=100)
    assert found.answer == "no evidence"
    assert found.lift == 0


def test_a_tiny_test_part_cannot_tell_however_large_the_lift() -> None:
    found = answered({CANDIDATE: 1.0, **dict.fromkeys(RIVALS, 0.0)}, n=LEAST_TEST - 1)
    assert found.answer == "cannot tell"
    assert "too few" in found.sentence
    assert answered({CANDIDATE: 1.0, **dict.fromkeys(RIVALS, 0.0)}, n=LEAST_TEST).answer == "helps"


@pytest.mark.parametrize("rival", RIVALS)
def test_the_best_rival_counts_whichever_it_is(rival: str) -> None:
    """Better than two of three is not better: one rival as good as the candidate takes the lift away."""
    assert answered({CANDIDATE: 0.9, rival: 0.9}).answer == "no evidence"
    assert answered({CANDIDATE: 0.8, rival: 0.95}).answer == "harms"


def test_arms_that_are_no_rivals_do_not_count() -> None:
    assert answered({CANDIDATE: 0.9, "synthetic only": 1.0, "shuffled labels": 1.0}).answer == "helps"


def test_few_helps_come_from_noise() -> None:
    """The interval keeps its promise: equal arms are called different in few of 60 draws."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(60):
        y = np.arange(200) % 4
        runs = {arm: np.where(rng.random((3, 200)) < 0.7, y, (y + 1) % 4) for arm in ARMS}
        wrong += verdict(runs, y, steps=1, meanings={}, rng=rng, draws=200).answer == "helps"
    assert wrong <= 6


def test_power_is_that_of_mcnemar() -> None:
    assert power(100) == pytest.approx(100 * 1.96 * math.sqrt(0.1 / 100))
    assert power(400) == pytest.approx(power(100) / 2)


# ---- the arms -------------------------------------------------------------------------------------

Side = tuple[Callable[[np.ndarray], torch.Tensor], np.ndarray]


def side(n: int, seed: int = 0) -> Side:
    raw, names = blobs(n, seed=seed)
    x = torch.from_numpy(raw.astype(np.float32) / 127.5 - 1)
    return (lambda rows: x[rows]), np.array([name == "right" for name in names], np.int64)


def test_the_arms_are_what_they_say() -> None:
    real, fake = side(40), side(60, seed=1)
    arms = {
        arm.name: arm for arm in arms_of(real=real, fake=fake, strength=0.5, rng=np.random.default_rng(0))
    }
    assert set(arms) == set(ARMS)
    sizes = {name: len(arm.pool) for name, arm in arms.items()}
    assert sizes == {
        "real": 40, "real + classic": 40, "real + synthetic": 100, "synthetic only": 60,
        "real + duplicates": 100, "shuffled labels": 100,
    }  # fmt: skip
    assert arms["real"].strength == 0
    fair = (CANDIDATE, "real + classic", "real + duplicates", "shuffled labels")
    assert {arms[name].strength for name in fair} == {0.5}
    for name in (
        "real + synthetic",
        "real + duplicates",
    ):  # the placebo has real pictures with their own labels
        pool = arms[name].pool
        left = pool.x(np.flatnonzero(pool.labels == 0))
        assert (left[..., :4].mean((1, 2, 3)) > left[..., 4:].mean((1, 2, 3))).all()
    placebo = arms["real + duplicates"].pool
    known = {row.numpy().tobytes() for row in real[0](np.arange(40))}
    assert {row.numpy().tobytes() for row in placebo.x(np.arange(40, 100))} <= known
    shuffled = arms["shuffled labels"].pool
    assert sorted(shuffled.labels[40:]) == sorted(fake[1])
    assert (shuffled.labels[40:] != fake[1]).any()


def test_every_arm_gets_equally_many_optimiser_steps(
    monkeypatch: pytest.MonkeyPatch, own_run: Snapshot
) -> None:
    counts: list[int] = []
    original = torch.optim.AdamW.step

    def counted(self: Any, *rest: Any) -> Any:
        self.steps_done = getattr(self, "steps_done", 0) + 1
        if self.steps_done == 1:
            counts.append(0)
            self.number = len(counts) - 1
        counts[self.number] += 1
        return original(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    monkeypatch.setattr(import_module("sibling.evaluate"), "cores", lambda: 1)
    made = sibling.sample(own_run, want=20)
    found = sibling.evaluate(made, against=own_run, seeds=1, steps=13)
    assert found.verdict.steps == 13
    assert counts.count(13) >= len(ARMS)
    assert set(counts[-len(ARMS) :]) == {13}


def test_shuffled_labels_lose_on_easy_data() -> None:
    real, fake, test = side(12), side(200, seed=1), side(80, seed=2)
    arms = arms_of(real=real, fake=fake, strength=0.0, rng=np.random.default_rng(0))
    right = {}
    for arm in arms:
        if arm.name in ("real + synthetic", "shuffled labels"):
            predicted = run_arm(
                arm, shape=(1, 8, 8), classes=2, steps=60, batch=32, seed=0, augment=keep, test=test
            )
            right[arm.name] = float((predicted == test[1]).mean())
    assert right["real + synthetic"] > 0.95
    assert right["shuffled labels"] < right["real + synthetic"] - 0.1


def keep(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    return x


# ---- the recogniser and the feature spaces --------------------------------------------------------


def learned(n: int = 60, steps: int = 40, seed: int = 0, **options: Any) -> Recogniser:
    pool = Pool([side(n)])
    return train_recogniser(pool, shape=(1, 8, 8), classes=2, steps=steps, seed=seed, **options)


def test_the_recogniser_learns_easy_data_and_nothing_from_noise() -> None:
    fetch, y = side(100, seed=5)
    found = learned().probabilities(lambda part: fetch(np.arange(part.start, part.stop)), 100)
    torch.testing.assert_close(found.sum(1), torch.ones(100))
    assert float((found.argmax(1).numpy() == y).mean()) > 0.95
    noise = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    blind = train_recogniser(
        Pool([(lambda rows: noise[rows], np.arange(60) % 2)]), shape=(1, 8, 8), classes=2, steps=20, seed=0
    )
    guessed = blind.probabilities(lambda part: fetch(np.arange(part.start, part.stop)), 100)
    assert float((guessed.argmax(1).numpy() == y).mean()) < 0.9


def test_a_recogniser_is_a_function_of_its_seed() -> None:
    assert learned(steps=3).space == learned(steps=3).space
    assert learned(steps=3).space != learned(steps=3, seed=1).space
    before = torch.get_rng_state()
    learned(steps=2)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers are touched


def test_augmentation_has_a_stream_of_its_own_for_each_step() -> None:
    seen: list[int] = []

    def augment(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        assert strength == 0.7
        seen.append(rng.initial_seed())
        return x

    learned(steps=4, augment=augment, strength=0.7)
    assert len(set(seen)) == 4


SHAPES = [(1, 4, 4), (1, 8, 8), (3, 9, 13), (1, 96, 64), (2, 40), (1, 6, 8, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_features_take_any_shape(shape: tuple[int, ...]) -> None:
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0)).tanh()
    network = RandomFeatures(shape)
    features = network(x)
    assert features.shape == (5, 128)
    assert torch.isfinite(features).all()
    assert in_batches(network, lambda part: x[part], 0).shape == (0, 128)
    torch.testing.assert_close(in_batches(network, lambda part: x[part], 5, size=2), features)
    recogniser = Recogniser(shape, 3).eval()
    assert recogniser(x).shape == (5, 3)
    assert torch.isfinite(recogniser.features(x)).all()


def test_a_feature_space_is_named_by_its_weights() -> None:
    assert RandomFeatures((1, 8, 8)).space == RandomFeatures((1, 8, 8)).space
    assert RandomFeatures((1, 8, 8)).space != RandomFeatures((1, 8, 8), seed=1).space


def test_a_pool_brings_rows_of_all_sources_in_the_asked_order() -> None:
    a, b = torch.arange(4.0)[:, None], torch.arange(10.0, 13.0)[:, None]
    pool = Pool([(lambda rows: a[rows], np.zeros(4)), (lambda rows: b[rows], np.ones(3))])
    assert len(pool) == 7
    assert pool.x(np.array([5, 0, 6, 3, 5]))[:, 0].tolist() == [11, 0, 12, 3, 11]
    assert pool.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


# ---- the whole evaluation -------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """A recogniser of 8 x 8 pictures needs no 200 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sibling.judge.steps_for", lambda n: 60)
        yield


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A run of 200 easy pictures."""
    data = dataset(*blobs(200), test=0.3, val=0.2)
    out = tmp_path_factory.mktemp("easy") / "run"
    return sibling.fit(data, out=out, steps=100, arguments=TINY, tensorboard=False)


@pytest.fixture(scope="module")
def judged(easy: Snapshot) -> Evaluation:
    return sibling.evaluate(sibling.sample(easy, want=60), against=easy, seeds=1, steps=20)


def test_every_score_has_a_floor_and_a_space(judged: Evaluation) -> None:
    names = [score.name for score in judged.scores]
    assert {"copy_share", "label_agreement", *METRICS} == set(names)
    assert all(names.count(name) == 2 for name in METRICS)
    for score in judged.scores:
        assert math.isfinite(score.value)
        assert math.isfinite(score.floor)
        assert score.space
        assert score.meaning.endswith(".")
        assert score.low <= score.value <= score.high
        assert min(score.counts.values()) > 0
    spaces = {score.space.rpartition(" ")[0] for score in judged.scores}
    assert {"random convolutions", "recogniser"} <= spaces


def test_the_floor_is_what_real_samples_get(easy: Snapshot, judged: Evaluation) -> None:
    """Held-out real samples as fakes come near the floor; noise does not."""
    data = easy.data
    rows = data.rows("val", "real")
    noise = np.random.default_rng(0).integers(0, 256, (40, *data.shape), dtype=np.uint8)
    found = {}
    for name, raw, y in (("real", data.raw[rows], data.y(rows)), ("noise", noise, ["left", "right"] * 20)):
        fakes = synthetic(
            np.asarray(raw), list(y), [f"{i}" for i in range(len(raw))], [{} for _ in raw], data
        )
        found[name] = sibling.evaluate(fakes, against=easy, lift=False, out=easy.folder / "evaluation")
    real, fake = (found[name].score("kernel_distance", "random") for name in ("real", "noise"))
    assert abs(real.value - real.floor) < 0.2 * (fake.value - fake.floor)
    assert found["real"].score("label_agreement").value > 0.9
    assert found["noise"].score("label_agreement").value < 0.9


def test_the_verdict_has_every_arm(judged: Evaluation) -> None:
    found = judged.verdict
    assert set(found.arms) == set(ARMS)
    assert found.seeds == 1
    assert found.steps == 20
    assert all(0 <= arm["worst_class"] <= arm["mean"] <= 1 for arm in found.arms.values())
    assert all(arm["meaning"] for arm in found.arms.values())
    assert any("Classic augmentation has strength" in note for note in judged.notes)


def test_what_is_written_is_what_is_returned(judged: Evaluation, easy: Snapshot) -> None:
    sibling.evaluate(sibling.sample(easy, want=60), against=easy, seeds=1, steps=20)
    saved = files.read_json(easy.folder / "evaluation" / "evaluation.json")
    assert [row["value"] for row in saved["scores"]] == [score.value for score in judged.scores]
    assert saved["verdict"]["sentence"] == judged.verdict.sentence
    assert sibling.verify(easy.folder / "evaluation") == []
    with np.load(easy.folder / "evaluation" / "pictures.npz", allow_pickle=False) as pictures:
        assert {"real_0", "fake_0", "copies_real", "copies_fake"} <= set(pictures.files)
        assert all(
            pictures[name].dtype == np.uint8 and pictures[name].shape[3] == 3 for name in pictures.files
        )


def test_the_bootstrap_copies_and_the_vae_does_not(data: Dataset, run: Snapshot, tmp_path: Any) -> None:
    copier = sibling.fit(data, out=tmp_path / "copier", model="bootstrap", tensorboard=False)
    share = {
        name: sibling.evaluate(
            sibling.sample(snapshot, want=12), against=snapshot, lift=False, out=tmp_path / name
        ).score("copy_share")
        for name, snapshot in (("bootstrap", copier), ("vae", run))
    }
    assert share["bootstrap"].value > 0.5
    assert share["bootstrap"].low > share["bootstrap"].floor + 0.3
    assert share["vae"].value < share["vae"].floor + 0.1


def test_too_little_of_anything_is_said_not_guessed(own_run: Snapshot) -> None:
    few = own_run.data
    keep_rows = [*few.rows("train")[:40], *few.rows("test")[:5]]
    small = few.subset(keep_rows)
    out = own_run.folder.parent / "small"
    run = sibling.fit(small, out=out, steps=5, arguments=TINY, tensorboard=False)
    found = sibling.evaluate(sibling.sample(run, want=2), against=run, seeds=1, steps=5)
    assert found.verdict.answer == "cannot tell"
    assert math.isnan(found.verdict.lift)
    assert "5 real test samples are too few" in found.verdict.sentence
    assert any("too few to mean anything" in note for note in found.notes)
    assert [score.name for score in found.scores] == ["copy_share"]
    saved = files.read_json(out / "evaluation" / "evaluation.json")
    assert saved["verdict"]["lift"] is None  # JSON has no NaN


def test_one_class_cannot_be_judged_by_a_recogniser(tmp_path: Any) -> None:
    raw, _ = blobs(150)
    run = sibling.fit(
        dataset(raw, ["only"] * 150, test=0.3),
        out=tmp_path / "run",
        steps=5,
        arguments=TINY,
        tensorboard=False,
    )
    found = sibling.evaluate(sibling.sample(run, want=40), against=run, seeds=1, steps=5)
    assert found.verdict.answer == "cannot tell"
    assert "two classes" in found.verdict.sentence
    assert math.isfinite(found.score("kernel_distance").value)


def test_only_synthetic_samples_are_judged(easy: Snapshot) -> None:
    with pytest.raises(BadInput, match="no synthetic samples"):
        sibling.evaluate(easy.data, against=easy)
    with pytest.raises(UsageError, match="seeds is 0"):
        sibling.evaluate(easy.data, against=easy, seeds=0)


def test_classes_are_numbered_in_the_order_of_the_condition(easy: Snapshot) -> None:
    numbers = Numbers.of(easy.data)
    assert numbers.names == ["left", "right"]
    assert numbers(easy.data, np.array([0, 1])).tolist() == [0, 1]


def test_an_arm_is_a_function_of_its_seed() -> None:
    arm = Arm("real", Pool([side(30)]), 0.0, "")
    test = side(20, seed=2)
    a, b = (
        run_arm(arm, shape=(1, 8, 8), classes=2, steps=3, batch=32, seed=1, augment=keep, test=test)
        for _ in range(2)
    )
    assert np.array_equal(a, b)


def test_equal_arms_are_rarely_called_harmful() -> None:
    """The best of three rivals is picked on the test part: chance alone must not make it a winner."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(60):
        y = np.arange(300) % 4
        spread = rng.normal(0, 0.02, (len(ARMS), 3))
        runs = {
            arm: np.where(rng.random((3, 300)) < 0.8 + spread[k][:, None], y, (y + 1) % 4)
            for k, arm in enumerate(ARMS)
        }
        wrong += verdict(runs, y, steps=1, meanings={}, rng=rng, draws=200).answer == "harms"
    assert wrong <= 6


def test_one_seed_cannot_tell() -> None:
    found = answered({CANDIDATE: 0.95}, seeds=1)
    assert found.answer == "cannot tell"
    assert "spread between two trainings" in found.sentence


def test_the_placebo_has_the_classes_of_the_fakes() -> None:
    real, fake = np.array([0] * 90 + [1] * 10), np.array([1] * 50)
    arms = arms_of(
        real=(lambda rows: torch.zeros(len(rows), 1, 8, 8), real),
        fake=(lambda rows: torch.zeros(len(rows), 1, 8, 8), fake),
        strength=0.0,
        rng=np.random.default_rng(0),
    )
    placebo = next(arm for arm in arms if arm.name == "real + duplicates")
    assert (placebo.pool.labels[len(real) :] == 1).all()


def test_an_evaluation_never_replaces_a_run(own_run: Snapshot) -> None:
    with pytest.raises(UsageError, match="another kind of result"):
        sibling.evaluate(
            sibling.sample(own_run, want=4), against=own_run, seeds=1, steps=5, out=own_run.folder
        )
    assert (own_run.folder / "model.safetensors").exists()


def test_a_signal_ends_the_recognisers_and_is_no_abort(own_run: Snapshot, tmp_path: Path) -> None:
    """Threads that still train while the interpreter leaves abort the process: they are asked to end first."""
    made = tmp_path / "made"
    sibling.sample(own_run, want=40, out=made)
    command = [sys.executable, "-m", "sibling", "evaluate", str(made), "--against", str(own_run.folder)]
    command += ["--steps", "100000", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "arms x" in line:  # the estimate is the last line before the recognisers
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 143, rest
    assert "sibling: Stopped" in rest
    assert not (tmp_path / "out").exists()


def test_five_pictures_are_evaluated_without_a_fault(tmp_path: Path) -> None:
    raw, y = blobs(5)
    data = dataset(raw, y)
    run = sibling.fit(data, out=tmp_path / "run", steps=4, arguments=TINY, tensorboard=False)
    kept = sibling.curate(sibling.sample(run, want=3), against=run)
    found = sibling.evaluate(kept, against=run, seeds=1, steps=5)
    assert found.verdict.answer == "cannot tell"


def test_the_arms_are_those_that_the_estimate_counts() -> None:
    nothing = (lambda rows: torch.zeros(len(rows), 1, 8, 8), np.array([0, 1]))
    arms = arms_of(real=nothing, fake=nothing, strength=0.0, rng=np.random.default_rng(0))
    assert tuple(arm.name for arm in arms) == lift_arms


# ---- numbers, maps and no y -----------------------------------------------------------------------


def bars(n: int = 300, seed: int = 0, *, noise: bool = False) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Pictures uint8 (n, 1, 8, 8) as bright as their severity says, or of noise, and a number that they do not show."""
    rng = np.random.default_rng(seed)
    severity, hidden = rng.random(n), rng.random(n)
    raw = rng.integers(0, 40, (n, 1, 8, 8))
    if not noise:
        raw[..., :4] += (200 * severity).astype(int)[:, None, None, None]
    y = [{"severity": float(a), "hidden": float(b)} for a, b in zip(severity, hidden, strict=True)]
    return raw.astype(np.uint8), y


def of_numbers(noise: bool = False) -> Dataset:
    raw, y = bars(noise=noise)
    data = dataset(raw, [None] * len(raw))
    data.condition = condition_of({"severity": "value", "hidden": "value"}).fit(y)
    data.table["y"] = y
    return data


def made_like(data: Dataset, y: list[Any], raw: np.ndarray, **info: Any) -> Dataset:
    keys = [f"{i}" for i in range(len(y))]
    return synthetic(raw, y, keys, [dict(info) for _ in y], data)


def test_a_number_that_samples_show_has_a_small_error_and_a_wrong_one_a_large_one() -> None:
    data, notes = of_numbers(), []
    raw, y = bars(100, seed=5)
    honest, lying = made_like(data, y, raw), made_like(data, y[::-1], raw)
    rows = np.arange(100)
    (right,) = label_errors(data, honest, rows, 0, notes)
    (wrong,) = label_errors(data, lying, rows, 0, notes)
    assert (right.name, right.goal) == ("label_error", "min")
    assert right.space.startswith("severity: regressor ")
    assert right.floor < 0.05
    assert right.low <= right.value <= right.high < 0.05
    assert wrong.value > 0.2  # two uniform numbers are 1/3 apart
    assert right.floor == wrong.floor  # the same regressor, the same real samples
    assert set(right.per_class) <= set(data.condition.classes)
    assert right.counts == {"real": 60, "fake": 100}
    assert "No label_error of hidden: a regressor cannot read it off" in notes[0]
    assert Evaluation([right], None).score("label_error", "severity") is right  # type: ignore[arg-type]


def test_samples_outside_of_what_was_seen_are_not_held_against_a_model() -> None:
    data, notes = of_numbers(), []
    raw, y = bars(40, seed=5)
    fake = made_like(data, y, raw)
    for i in range(20):
        fake.table["y"][i] = {"severity": 9.0, "hidden": 0.5}
        fake.table["info"][i] = {"outside": True}
    (found,) = label_errors(data, fake, np.arange(40), 0, notes)
    assert found.counts["fake"] == 20
    assert found.value < 0.05


def test_what_no_regressor_can_see_is_not_judged() -> None:
    data, notes = of_numbers(noise=True), []
    raw, y = bars(30, seed=5, noise=True)
    assert label_errors(data, made_like(data, y, raw), np.arange(30), 0, notes) == []
    assert len(notes) == 2
    few, notes = data.subset(range(75)), []
    assert label_errors(few, made_like(data, y, raw), np.arange(30), 0, notes) == []
    assert "too few" in notes[0]


def test_the_whole_evaluation_of_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = of_numbers()
    run = sibling.fit(data, out=tmp_path / "run", steps=30, arguments=TINY, tensorboard=False)
    raw, y = bars(100, seed=5)
    kept = sibling.curate(made_like(data, y, raw, snapshot=run.name, index=0), against=run, refill=False)
    assert len(kept) > 50
    monkeypatch.setattr(import_module("sibling.evaluate"), "steps_for", lambda n: 20)
    found = sibling.evaluate(kept, against=run, seeds=2)
    assert found.score("label_error").value < 0.06
    assert set(found.score("label_agreement").per_class) <= set(run.condition.classes)
    assert found.verdict.arms  # the bins of the first number are classes
    saved = files.read_json(run.folder / "evaluation" / "evaluation.json")
    assert saved["pictures"]["classes"] == [name for name in run.condition.classes]
    assert all(isinstance(row["y"], str) for row in saved["pictures"]["copies"])


@pytest.mark.parametrize("what", ["nothing", "map"])
def test_without_classes_the_verdict_says_why(what: str, tmp_path: Path) -> None:
    raw, _ = blobs(120)
    data = dataset(raw, [None] * 120)
    reason = "these samples have no labels"
    if what == "map":
        shown = [to_text(to_png(sample[0])) for sample in raw]
        data.table["y"] = [{"sketch": text} for text in shown]
        data.condition = condition_of({"sketch": "map"}).fit(data.table["y"])
        reason = "a map makes none here"
    run = sibling.fit(data, out=tmp_path / "run", steps=10, arguments=TINY, tensorboard=False)
    found = sibling.evaluate(sibling.sample(run, want=60), against=run)
    assert found.verdict.answer == "cannot tell"
    assert reason in found.verdict.sentence
    assert {score.name for score in found.scores} >= {"copy_share"}
