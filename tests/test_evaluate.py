"""Scores with floors, the lift and its verdict, and the networks that they look through."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from sibling.evaluate import _thin_classes
from sibling.judge import Numbers, label_errors
from sibling.lift.arms import CANDIDATE, CONTROL
from sibling.metrics import METRICS
from sibling.metrics.features import RandomFeatures, in_batches
from sibling.metrics.recogniser import Pool, Recogniser, train_recogniser
from sibling.png import to_png, to_text
from sibling.snapshot import Snapshot
from sibling.types import Evaluation

Side = tuple[Callable[[np.ndarray], torch.Tensor], np.ndarray]


def side(n: int, seed: int = 0) -> Side:
    raw, names = blobs(n, seed=seed)
    x = torch.from_numpy(raw.astype(np.float32) / 127.5 - 1)
    return (lambda rows: x[rows]), np.array([name == "right" for name in names], np.int64)


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
    return sibling.evaluate(sibling.sample(easy, want=60), against=easy, quick=True, steps=20)


def test_every_score_has_a_floor_and_a_space(judged: Evaluation) -> None:
    names = [score.name for score in judged.scores]
    assert {"copy_share", "label_agreement", *METRICS} <= set(names)
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
    assert {"real", "real + classic", "real + duplicates", CANDIDATE, CONTROL, "synthetic only"} <= set(
        found.arms
    )
    assert found.seeds == 4  # short trainings are repeated more often
    assert found.steps == 20
    assert all(0 <= arm["worst_class"] <= arm["mean"] <= 1 for arm in found.arms.values())
    assert all(arm["meaning"] for arm in found.arms.values())
    assert any("strength of classic augmentation" in line for line in found.protocol["tuning"])


def test_what_is_written_is_what_is_returned(judged: Evaluation, easy: Snapshot) -> None:
    sibling.evaluate(sibling.sample(easy, want=60), against=easy, quick=True, steps=20)
    saved = files.read_json(easy.folder / "evaluation" / "scores.json")
    assert [row["value"] for row in saved["scores"]] == [score.value for score in judged.scores]
    assert saved["notes"] == judged.notes
    verdict = files.read_json(easy.folder / "evaluation" / "verdict.json")
    assert {"verdict", "lift", "low", "high", "metric", "arms", "protocol"} <= set(verdict)
    assert verdict["verdict"] in ("helps", "no evidence", "harms")
    assert verdict["sentence"] == judged.verdict.sentence
    assert [arm["name"] for arm in verdict["arms"]] == list(judged.verdict.arms)
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
    found = sibling.evaluate(sibling.sample(run, want=2), against=run, quick=True, steps=5)
    assert not found.verdict.decided
    assert math.isnan(found.verdict.lift)
    assert "5 real test samples are too few" in found.verdict.sentence
    assert any("too few to mean anything" in note for note in found.notes)
    assert "kernel_distance" not in {score.name for score in found.scores}
    saved = files.read_json(out / "evaluation" / "verdict.json")
    assert (saved["verdict"], saved["decided"]) == ("no evidence", False)
    assert saved["lift"] is None  # JSON has no NaN


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
    assert not found.verdict.decided
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
            if "trainings of" in line:  # the estimate is the last line before the recognisers
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
    assert not found.verdict.decided


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
    found = sibling.evaluate(kept, against=run, seeds=2, steps=20)
    assert found.score("label_error").value < 0.06
    assert found.verdict.metric == "mean absolute error"
    saved = files.read_json(run.folder / "evaluation" / "pictures.json")
    assert saved["classes"] == [name for name in run.condition.classes]
    assert all(isinstance(row["y"], str) for row in saved["copies"])


@pytest.mark.parametrize("what", ["nothing", "map"])
def test_without_classes_the_verdict_says_why(what: str, tmp_path: Path) -> None:
    raw, _ = blobs(120)
    data = dataset(raw, [None] * 120)
    reason = "these samples have none"
    if what == "map":
        shown = [to_text(to_png(sample[0])) for sample in raw]
        data.table["y"] = [{"sketch": text} for text in shown]
        data.condition = condition_of({"sketch": "map"}).fit(data.table["y"])
        reason = "a map is none here"
    run = sibling.fit(data, out=tmp_path / "run", steps=10, arguments=TINY, tensorboard=False)
    found = sibling.evaluate(sibling.sample(run, want=60), against=run)
    assert not found.verdict.decided
    assert reason in found.verdict.sentence
    assert {score.name for score in found.scores} >= {"copy_share"}


def test_where_curation_leaves_nothing_the_verdict_says_so(own_run: Snapshot, tmp_path: Path) -> None:
    """The real samples and the reason are still written: who has waited for a data set gets one."""
    none = sibling.sample(own_run, want=4).subset([])
    found = sibling.evaluate(none, against=own_run, quick=True)
    assert (found.verdict.answer, found.verdict.decided) == ("no evidence", False)
    assert "curation dropped all of them" in found.verdict.sentence
    saved = files.read_json(own_run.folder / "evaluation" / "verdict.json")
    assert saved["sentence"] == found.verdict.sentence
    assert sibling.report(own_run.folder).is_file()
    sibling.write(own_run.data, none, out=tmp_path / "out", against=own_run, verdict=found)
    rows = files.read_jsonl(tmp_path / "out" / "metadata.jsonl")
    assert {row["origin"] for row in rows} == {"real"}
    told = files.read_json(tmp_path / "out" / "augmentation.json")
    assert (told["written"], told["reason"]) == ("nothing", found.verdict.sentence)


def test_classes_that_hardly_stand_in_the_test_part_are_said() -> None:
    assert _thin_classes(["a"] * 30 + ["b"] * 5) == []
    (note,) = _thin_classes(["a"] * 30 + ["b"] * 30 + ["c", "d"])
    assert "'c' 1, 'd' 1" in note
    assert "2 of 62 test samples are 50% of it" in note
    (many,) = _thin_classes([f"{i:02d}" for i in range(15)])
    assert "and 5 more classes" in many
