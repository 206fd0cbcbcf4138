"""Unlabelled samples: none leaks, only sure labels count, and nobody takes them for real ones."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import TRAINING, blobs, dataset

import sibling
from sibling.cli import main
from sibling.dataset import Dataset, Stacked, joined
from sibling.errors import BadInput, UsageError
from sibling.folds import cross_validated, folds_of
from sibling.judge import NearestReal
from sibling.lift.arms import PSEUDO
from sibling.metrics.features import RandomFeatures
from sibling.plan import batch_at
from sibling.snapshot import Snapshot, make_model
from sibling.unlabelled import RIGHT, balanced_caps, sure_limit

SIZE = (10, 10)
QUICK = {"model": "bootstrap", "tensorboard": False}
JUDGE: Any = importlib.import_module("sibling.judge")


@pytest.fixture(scope="module", autouse=True)
def short_trainings() -> Iterator[None]:
    """25 steps are enough for two easy classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JUDGE, "steps_for", lambda n: 25)
        yield


def picture(raw: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(raw[0]).save(path)


@dataclass
class World:
    """Labelled and unlabelled pictures in folders: of the latter 40 new ones, and a copy of one of each labelled part."""

    labelled: Path
    more: Path
    data: Dataset
    truth: dict[str, str]
    leaks: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("unlabelled")
    raw, names = blobs(120, size=SIZE)
    for i, name in enumerate(names):
        picture(raw[i], root / "photos" / name / f"{i:03d}.png")
    data = sibling.read(root / "photos", out=root / "store")
    raw, names = blobs(40, size=SIZE, seed=1)
    for i in range(40):  # at any depth: a folder says nothing here
        picture(raw[i], root / "more" / ("deep/folder" if i % 3 else "") / f"{i:03d}.png")
    truth = {f"{i:03d}.png": name for i, name in enumerate(names)}
    leaks = {}
    for part in ("train", "val", "test"):
        source = data.table["source"][data.rows(part)[0]]
        leaks[part] = f"leak-{part}.jpg"  # saved again: a near-duplicate, no exact one
        PIL.Image.open(source).save(root / "more" / leaks[part], quality=90)
    (root / "more" / "notes.txt").write_text("not a picture")
    return World(root / "photos", root / "more", data, truth, leaks)


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    out = tmp_path_factory.mktemp("runs") / "run"
    return sibling.fit(world.data, out=out, unlabelled=world.more, **QUICK)


def pool_of(run: Snapshot) -> Dataset:
    assert run.unlabelled is not None
    return run.unlabelled


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


# ---- what is used, and as what --------------------------------------------------------------------


def test_copies_of_labelled_samples_are_left_out_and_counted(world: World, run: Snapshot) -> None:
    kept = set(pool_of(run).table["key"])
    assert not kept & set(world.leaks.values())
    assert {Path(key).name for key in kept} == set(world.truth)  # and nothing else is
    told = run.run["unlabelled"]
    assert told["copies"] == {"train": 1, "val": 1, "test": 1}
    assert (
        "3 (near-)duplicates of labelled samples were left out, 1 of them of the test part"
        in told["sentence"]
    )


def test_labels_are_right_and_sure(world: World, run: Snapshot) -> None:
    pool, told = pool_of(run), run.run["unlabelled"]
    rows = pool.rows("train")
    right = [pool.table["y"][i] == world.truth[Path(pool.table["key"][i]).name] for i in rows]
    assert len(rows) >= 30
    assert np.mean(right) >= RIGHT
    assert told["held_out_right"] >= RIGHT * told["held_out_sure"]
    assert told["held_out"] == len(world.data.rows("train", "real"))  # of the train part alone
    assert all(pool.table["info"][i]["sure"] >= told["limit"] - 1e-4 for i in rows)
    assert all(pool.table["y"][i] is None for i in pool.rows("left out"))


def test_they_are_never_real(world: World, run: Snapshot) -> None:
    pool, learned = pool_of(run), run.learned
    assert set(pool.table["origin"]) == {"unlabelled"}
    assert len(run.data) == len(world.data)
    assert run.data.fingerprint() == world.data.fingerprint() == learned.fingerprint()
    for part in ("train", "val", "test"):
        assert learned.rows(part, "real").tolist() == world.data.rows(part, "real").tolist()
    assert learned.counts() == run.run["data"]["counts"] == world.data.counts()
    groups = learned.table["group"]
    assert not set(groups[: len(world.data)]) & set(groups[len(world.data) :])


def test_the_plan_and_the_report_say_how(world: World, run: Snapshot) -> None:
    assert sibling.files.read_json(run.folder / "plan.json")["unlabelled"] == run.run["unlabelled"]
    page = sibling.report(run.folder).read_text()
    assert "unlabelled samples were trained with" in page
    assert sibling.verify(run.folder) == []
    assert sum(run.run["unlabelled"]["used"].values()) == len(pool_of(run).rows("train"))


def test_the_generator_learns_from_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Dataset, np.ndarray]] = []
    original = TRAINING.batch_at

    def spy(data: Dataset, rows: np.ndarray, *rest: Any, **more: Any) -> Any:
        asked.append((data, rows))
        return original(data, rows, *rest, **more)

    monkeypatch.setattr(TRAINING, "batch_at", spy)
    made = sibling.fit(
        world.data, out=tmp_path / "run", model="vae", steps=2, batch=16, arguments={"width": 8, "latent": 4},
        unlabelled=world.more, tensorboard=False,
    )  # fmt: skip
    data, rows = asked[0]
    origins = [data.table["origin"][i] for i in rows]
    assert origins.count("unlabelled") == len(pool_of(made).rows("train")) >= 30
    assert origins.count("real") == len(world.data.rows("train", "real"))
    assert {data.table["split"][i] for i in rows} == {"train"}


def test_a_sample_that_copies_one_is_a_copy(run: Snapshot) -> None:
    pool = pool_of(run)
    own = pool.rows("train")[:8]
    near = NearestReal(run.learned, RandomFeatures(run.data.shape))(pool, own)
    assert (near.ratio < 0.5).all()
    assert NearestReal(run.learned, RandomFeatures(run.data.shape)).note.endswith("are unlabelled ones.")
    alone = NearestReal(run.data, RandomFeatures(run.data.shape))(pool, own)
    assert (alone.ratio > 0.5).all()  # the search among real ones alone would let them pass


def test_curation_drops_copies_of_them_by_name(run: Snapshot) -> None:
    pool, own = pool_of(run), pool_of(run).rows("train")[:4]
    fake = sibling.sample(run, want=2)
    fake.raw[:4] = pool.raw[own]
    fake.table["y"][:4] = pool.y(own)
    sibling.curate(fake, against=run, filters="copy", effects=False, refill=False)
    found = {row["key"]: row for row in sibling.files.read_jsonl(run.folder / "curation.jsonl")}
    for i, row in enumerate(own):
        told = found[fake.table["key"][i]]
        assert told["nearest_real"] == f"unlabelled/{pool.table['key'][row]}"


def test_wrong_pairs_leave_guessed_labels_out(run: Snapshot) -> None:
    learned = run.learned
    rows = np.concatenate([learned.rows("train", "real")[:8], learned.rows("train", "unlabelled")[:8]])
    batch = batch_at(learned, rows, 0, {"batch": 16, "seed": 0}, 10, model=make_model("gan", {}))
    assert batch.wrong is not None
    assert batch.certain is not None
    assert batch.certain.tolist() == [2.0] * 8 + [0.0] * 8
    real = batch_at(learned, rows[:8], 0, {"batch": 8, "seed": 0}, 10, model=make_model("gan", {}))
    assert real.certain is None
    gan = make_model("gan", {"width": 8, "latent": 4})
    gan.build(learned.shape, learned.condition, torch.Generator().manual_seed(0))
    assert all(np.isfinite(value) for value in gan.step(batch).values())


# ---- the verdict ----------------------------------------------------------------------------------


def test_what_they_do_by_themselves_is_a_rival(run: Snapshot) -> None:
    found = sibling.evaluate(sibling.sample(run, want=10), against=run, quick=True, seeds=1, steps=8)
    arm = found.verdict.arms[PSEUDO]
    used = len(pool_of(run).rows("train"))
    assert arm["role"] == "rival"
    assert str(used) in arm["meaning"]
    assert found.verdict.protocol["pseudo_labelled_samples"] == [used]
    assert found.verdict.protocol["train_samples"] == len(run.data.rows("train", "real"))
    assert found.verdict.arms["real + synthetic"]["role"] == "candidate"


def test_each_fold_makes_the_labels_anew(run: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[set[str]] = []
    original = JUDGE.recogniser_of

    def spy(data: Dataset, rows: np.ndarray, *rest: Any) -> Any:
        taught.append({data.table["key"][i] for i in rows})
        return original(data, rows, *rest)

    monkeypatch.setattr(JUDGE, "recogniser_of", spy)
    splits = folds_of(run.data, 2, seed=0)
    pairs = list(cross_validated(run, sibling.sample(run, want=4), splits, seed=0))
    assert len(taught) == 6
    for number, (learned, _) in enumerate(pairs):
        tested = {learned.table["key"][i] for i in learned.rows("test")}
        assert all(not keys & tested for keys in taught[3 * number : 3 * number + 3])
        assert len(learned.rows("train", "unlabelled")) >= 20
        assert {learned.table["origin"][i] for i in learned.rows("test")} == {"real"}


def test_they_are_not_written(world: World, run: Snapshot, tmp_path: Path) -> None:
    fake = sibling.sample(run, want=2)
    out = sibling.write(world.data, fake, out=tmp_path / "larger", against=run, write_anyway=True)
    rows = sibling.files.read_jsonl(out / "metadata.jsonl")
    assert len(rows) == len(world.data) + len(fake)
    assert {row["origin"] for row in rows} == {"real", "synthetic"}


# ---- the limit ------------------------------------------------------------------------------------


def test_the_limit_is_the_lowest_that_keeps_95_per_cent() -> None:
    sure = np.linspace(0.99, 0.51, 100)
    right = np.arange(100) < 60  # the surest 60 are right, no other is
    said = np.stack([sure, 1 - sure], 1)
    own = np.where(right, 0, 1)
    limit = sure_limit(said, own)
    above = sure >= limit
    assert above.sum() == 63  # 60 of 63 are right, 60 of 64 would be too few
    assert sure_limit(said[:19], own[:19]) is None  # too few to know
    assert sure_limit(np.full((50, 3), 1 / 3), np.zeros(50, int)) is None  # never less than even
    tied = np.tile([0.9, 0.1], (40, 1))
    assert sure_limit(tied, np.arange(40) % 10 // 9) is None  # 90 %: equal ones are above it together


def test_caps_keep_the_classes_balanced() -> None:
    real = np.array([10, 10, 20, 10, 0])
    assert balanced_caps(np.array([500, 20, 40, 20, 0]), real).tolist() == [40, 40, 80, 40, 0]
    assert balanced_caps(np.array([9_000] * 5), real).tolist() == [100, 100, 200, 100, 0]
    assert balanced_caps(np.array([500, 0, 0, 0, 0]), real).tolist() == [10, 10, 20, 10, 0]


def test_with_labels_that_mean_nothing_none_is_used(world: World, tmp_path: Path) -> None:
    raw, _ = blobs(120, size=SIZE)
    names: list[str | None] = [str(c) for c in np.random.default_rng(3).permutation(np.arange(120) % 2)]
    made = sibling.fit(dataset(raw, names), out=tmp_path / "run", unlabelled=world.more, **QUICK)
    told = made.run["unlabelled"]
    assert told["used"] == {}
    assert len(made.learned) == 120
    assert "no label is sure enough" in told["sentence"]
    found = sibling.evaluate(sibling.sample(made, want=4), against=made, quick=True, seeds=1, steps=2)
    assert "real + synthetic" in found.verdict.arms
    assert PSEUDO not in found.verdict.arms


# ---- what is refused ------------------------------------------------------------------------------


def test_another_y_than_classes_is_refused(world: World, tmp_path: Path) -> None:
    raw, _ = blobs(40, size=SIZE)
    with pytest.raises(UsageError, match="one class a sample; here it is nothing"):
        sibling.fit(dataset(raw, [None] * 40), out=tmp_path / "a", unlabelled=world.more, **QUICK)
    with pytest.raises(UsageError, match="one class only"):
        sibling.fit(dataset(raw, ["left"] * 40), out=tmp_path / "b", unlabelled=world.more, **QUICK)
    rows = "".join(f"{i:03d}.png,{i / 40}\n" for i in range(40))
    for i in range(40):
        picture(raw[i], tmp_path / "numbers" / f"{i:03d}.png")
    (tmp_path / "numbers" / "metadata.csv").write_text("file_name,severity\n" + rows)
    with pytest.raises(UsageError, match=r"severity \(value\)"):
        sibling.fit(tmp_path / "numbers", out=tmp_path / "c", unlabelled=world.more, **QUICK)
    assert not any((tmp_path / name).exists() for name in "abc")


def test_samples_of_another_shape_are_refused(world: World, tmp_path: Path) -> None:
    for i in range(10):
        picture(np.full((1, 10, 50), 10 * i, np.uint8), tmp_path / "wide" / f"{i}.png")
        picture(np.full((1, 4, 4), 10 * i, np.uint8), tmp_path / "tiny" / f"{i}.png")
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").write_bytes(b"RIFF")
    for name, words in (("wide", "50x10 pixels"), ("tiny", "4x4 pixels"), ("sounds", "no samples")):
        with pytest.raises(BadInput, match=words):
            sibling.fit(world.data, out=tmp_path / "run", unlabelled=tmp_path / name, **QUICK)
    with pytest.raises(UsageError, match="were read as 1 x 8 x 8"):
        sibling.fit(world.data, out=tmp_path / "run", unlabelled=dataset(*blobs(9)), **QUICK)


def test_the_labelled_files_themselves_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="among the labelled and the unlabelled"):
        sibling.fit(world.data, out=tmp_path / "run", unlabelled=world.labelled / "left", **QUICK)
    shutil.copytree(world.labelled / "left", tmp_path / "again")
    with pytest.raises(BadInput, match="none can be used"):
        sibling.fit(world.data, out=tmp_path / "run", unlabelled=tmp_path / "again", **QUICK)


def test_bad_files_are_listed(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(world.more, tmp_path / "more")
    (tmp_path / "more" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"broken\.png"):
        sibling.fit(world.data, out=tmp_path / "run", unlabelled=tmp_path / "more", **QUICK)
    caplog.set_level("INFO", "sibling")
    made = sibling.fit(world.data, out=tmp_path / "run", unlabelled=tmp_path / "more", on_bad="skip", **QUICK)
    assert made.run["unlabelled"]["bad"] == 1
    assert any("broken.png" in line for line in caplog.messages)


# ---- again, and from where it stopped -------------------------------------------------------------


def test_the_same_bytes_again_also_after_a_stop(
    world: World, run: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stop(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TRAINING.Training, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            sibling.fit(world.data, out=out, unlabelled=world.more, **QUICK)
    shutil.copytree(world.more, tmp_path / "fewer", ignore=shutil.ignore_patterns("000.png"))
    with pytest.raises(UsageError, match="other unlabelled samples"):
        sibling.fit(world.data, out=out, unlabelled=tmp_path / "fewer", resume=True, **QUICK)
    sibling.fit(world.data, out=out, unlabelled=world.more, resume=True, **QUICK)
    first, again = bytes_of(run.folder), bytes_of(out)
    for name in (
        "model.safetensors",
        "unlabelled/raw.npy",
        "unlabelled/table.parquet",
        "unlabelled/store.json",
    ):
        assert first[name] == again[name], name
    assert (
        sibling.fit(world.data, out=out, resume=True, **QUICK).hash == run.hash
    )  # it need not be named again


def test_a_run_without_them_takes_none_later(world: World, tmp_path: Path) -> None:
    sibling.fit(world.data, out=tmp_path / "run", **QUICK)
    with pytest.raises(UsageError, match="no unlabelled samples"):
        sibling.fit(world.data, out=tmp_path / "run", unlabelled=world.more, resume=True, **QUICK)


def test_the_command_line_takes_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more, run = str(world.more), tmp_path / "run"
    asked = ["fit", str(world.labelled), "--out", str(run), "--model", "bootstrap", "--unlabelled"]
    assert main([*asked, str(tmp_path / "nowhere")]) == 3
    assert "There is nothing at" in capsys.readouterr().err
    assert main([*asked, more]) == 0
    assert sum(Snapshot(run).run["unlabelled"]["used"].values()) >= 30
    passed: dict[str, Any] = {}

    def fit(data: Dataset, **options: Any) -> None:
        passed.update(options)
        raise UsageError("enough")

    monkeypatch.setattr(importlib.import_module("sibling.enlarge"), "fit", fit)
    assert main(["enlarge", str(world.labelled), str(tmp_path / "larger"), "--unlabelled", more]) == 2
    assert passed["unlabelled"] == world.more
    assert main(["enlarge", str(world.labelled), str(world.more / "larger"), "--unlabelled", more]) == 2
    assert "lie in each other" in capsys.readouterr().err


# ---- several arrays as one ------------------------------------------------------------------------


def test_stacked_is_the_concatenation(world: World, run: Snapshot) -> None:
    parts = [
        np.arange(24, dtype=np.uint8).reshape(4, 1, 2, 3),
        np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3),
    ]
    whole, one = np.concatenate(parts), Stacked(parts)
    assert (one.shape, one.dtype, len(one), one.ndim) == (whole.shape, whole.dtype, len(whole), 4)
    for rows in (0, 5, -1, slice(1, 5), [4, 0, 4], np.array([5, 3]), np.array([], np.int64)):
        assert np.array_equal(one[rows], whole[rows])
    more = joined(run.data, pool_of(run))
    assert np.array_equal(more.subset([len(run.data), 0]).raw, [pool_of(run).raw[0], run.data.raw[0]])
