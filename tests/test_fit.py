"""Training: small data, the plan, stopping, and going on to exactly the same end."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY, blobs, dataset

import sibling
from sibling import checkpoint, files
from sibling.dataset import Dataset
from sibling.errors import BadInput, NumericalError, Stopped, UnsafeFile, UsageError
from sibling.models.vae import VAE
from sibling.snapshot import Snapshot, load_tensors, save_tensors

fit_module: Any = importlib.import_module("sibling.training")
STEPS = 60


def fit(data: Any, out: Path, **options: Any) -> Snapshot:
    return sibling.fit(data, out=out, **{"steps": STEPS, "arguments": TINY, "tensorboard": False, **options})


@pytest.fixture(scope="module")
def easy() -> Dataset:
    return dataset(*blobs(80))


# ---- small data -----------------------------------------------------------------------------------


def pictures(place: Path, counts: dict[str, int]) -> Path:
    """Noise pictures in class folders; the class "" lies at the top."""
    raw, _ = blobs(sum(counts.values()))
    taken = iter(raw)
    data = dataset(raw, [None] * len(raw))
    for name, n in counts.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (place / name / f"{i}.png").write_bytes(data.modality.encode(next(taken)))
    return place


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"a": 3, "b": 2}, "training samples in all"),
        ({"a": 80}, "There is one class"),
        ({"a": 80, "b": 1}, "The class 'b' has 1 training samples"),
        ({"": 20}, "training samples in all"),
    ],
    ids=["five in all", "one class", "one in a class", "unlabelled"],
)
def test_little_data_works_and_says_what_it_cannot_do(
    counts: dict[str, int], says: str, tmp_path: Path
) -> None:
    run = fit(pictures(tmp_path / "in", counts), tmp_path / "run", steps=20)
    assert any(says in note for note in run.run["notes"])
    made = sibling.sample(run, want=3)
    assert len(made) == 3 * len(counts)
    assert set(made.table["y"]) == ({None} if "" in counts else set(counts))
    judged = sibling.evaluate(made, against=run, seeds=1, steps=5)
    if len(counts) == 1 or sum(counts.values()) < 20:
        assert not judged.verdict.decided
    assert sibling.verify(run.folder) == []


def test_enough_data_brings_no_warning(data: Dataset, tmp_path: Path) -> None:
    assert fit(data, tmp_path / "run", steps=1).run["notes"] == []


def test_nothing_is_learned_from_synthetic_samples(run: Snapshot, tmp_path: Path) -> None:
    made = sibling.sample(run, want=3, out=tmp_path / "made")
    with pytest.raises(BadInput, match="no real samples in the train part"):
        fit(made, tmp_path / "run")
    with pytest.raises(BadInput):
        fit(tmp_path / "made", tmp_path / "run")


# ---- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"minutes": 1, "steps": 10},
        {"steps": None, "minutes": 0},
        {"steps": None, "minutes": float("nan")},
        {"steps": 0},
        {"batch": 0},
        {"keep": "encoder"},
        {"model": "vea"},
        {"arguments": {"latnet": 3}},
    ],
)
def test_arguments_that_cannot_work_are_refused_before_any_work(
    options: dict[str, Any], easy: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        fit(easy, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_minutes_become_a_recorded_number_of_steps(easy: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sibling.plan._seconds_a_step", lambda *_: 0.1)
    run = fit(easy, tmp_path / "run", steps=None, minutes=0.05)
    assert run.run["steps"] == int(0.05 * 60 * 0.94 / 0.1)
    assert "measured now" in next(row["why"] for row in run.run["derived"] if row["name"] == "steps")


def test_a_step_is_measured_early_and_late_in_turn(easy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discriminator that comes in after half of the training takes its time too."""
    measure: Any = importlib.import_module("sibling.plan")
    clock, seen = itertools.count(), []

    class Slow(VAE):
        def step(self, batch: Any) -> dict[str, float]:
            seen.append(batch.progress)
            for _ in range(9 if batch.progress > 0.5 else 0):
                next(clock)
            next(clock)
            return {}

    monkeypatch.setattr(measure, "make_model", lambda name, arguments: Slow(**arguments))
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    plan = {"model": "vae", "arguments": TINY, "batch": 8, "seed": 0}
    seconds = measure._seconds_a_step(easy, easy.rows("train"), plan)
    counted = seen[3:]  # the first ones warm up
    assert len(counted) % 8 == 0
    assert sum(progress > 0.5 for progress in counted) == len(counted) / 2
    assert seconds == pytest.approx((1 + 10) / 2, rel=0.15)  # and what looking at the clock costs


def test_what_is_derived_has_a_reason_and_what_is_asked_for_wins(easy: Dataset, tmp_path: Path) -> None:
    derived = {row["name"]: row for row in fit(easy, tmp_path / "run", steps=2).run["derived"]}
    assert derived["latent"]["why"] == "asked for"
    assert derived["latent"]["value"] == "4"
    assert all(row["why"] for row in derived.values())


def test_keep_decoder_leaves_the_encoder_out(easy: Dataset, tmp_path: Path) -> None:
    whole, small = fit(easy, tmp_path / "a"), fit(easy, tmp_path / "b", keep="decoder")
    weights = load_tensors(small.folder / "model.safetensors")
    parts = {key.split("/")[0] for key in weights}
    assert {"decoder", "prior"} <= parts
    assert "encoder" not in parts
    assert "encoder" in {key.split("/")[0] for key in load_tensors(whole.folder / "model.safetensors")}
    assert (sibling.sample(whole, want=4).raw == sibling.sample(small, want=4).raw).all()
    with pytest.raises(UsageError, match="cannot encode"):
        small.model.encode(easy.x([0]), easy.cond([0]))  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_bytes_and_another_others(easy: Dataset, tmp_path: Path) -> None:
    a, b, c = (
        fit(easy, tmp_path / name, steps=20, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert a.hash == b.hash != c.hash


def test_every_batch_is_a_function_of_seed_and_step(data: Dataset) -> None:
    rows, plan = data.rows("train"), {"batch": 50, "seed": 1}
    epoch = [fit_module.batch_at(data, rows, step, plan, 10) for step in range(21)]  # five times through 210
    again = fit_module.batch_at(data, rows, 17, plan, 10)
    assert torch.equal(again.x, epoch[17].x)
    assert torch.equal(torch.randn(3, generator=again.rng), torch.randn(3, generator=epoch[17].rng))
    assert not torch.equal(epoch[0].x, epoch[1].x)
    seen = torch.cat([batch.x for batch in epoch]).flatten(1)
    counts = torch.unique(seen, dim=0, return_counts=True)[1]
    assert set((counts % 5).tolist()) == {0}


def test_a_poisoned_training_ends_with_code_5_and_no_snapshot(
    easy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fit_module.batch_at

    def poisoned(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Any:
        batch = original(data, rows, step, *rest, **more)
        batch.x = batch.x * float("nan") if step >= 11 else batch.x
        return batch

    monkeypatch.setattr(fit_module, "batch_at", poisoned)
    with pytest.raises(NumericalError, match="10 times in a row"):
        fit(easy, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(BadInput):
        Snapshot(tmp_path / "run")


@pytest.mark.parametrize("bad", [9, 10])
def test_a_stop_in_a_streak_of_skipped_updates_does_not_begin_their_count_anew(
    bad: int, easy: Dataset, stop_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine in a row end the same, stopped in their middle or not; ten are an error either way."""
    original = fit_module.batch_at

    def poisoned(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Any:
        batch = original(data, rows, step, *rest, **more)
        batch.x = batch.x * float("nan") if 11 <= step < 11 + bad else batch.x
        return batch

    monkeypatch.setattr(fit_module, "batch_at", poisoned)
    ended = []
    for name in ("whole", "stopped"):
        out = tmp_path / name
        if name == "stopped":
            stop_at(15, signal.SIGTERM)
            with pytest.raises(Stopped):
                fit(easy, out, threads=1)
        if bad < 10:
            ended.append(content(fit(easy, out, threads=1, resume=name == "stopped")))
        else:
            with pytest.raises(NumericalError, match="10 times in a row"):
                fit(easy, out, threads=1, resume=name == "stopped")
    assert not ended or ended[0] == ended[1]


def test_the_log_has_whole_rows_in_order(run: Snapshot) -> None:
    rows = files.read_jsonl(run.folder / "stats.jsonl")
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == run.run["step"]
    assert rows[-1]["loss/total"] < rows[0]["loss/total"]
    assert any("val/loss" in row for row in rows)


def test_tensorboard_events_are_written_where_asked_for(easy: Dataset, tmp_path: Path) -> None:
    run = fit(easy, tmp_path / "run", steps=3, tensorboard=True)
    assert list((run.folder / "tensorboard").glob("events.out.tfevents*"))
    again = fit(easy, tmp_path / "run", steps=3, overwrite=True)  # and they are known to be ours
    assert not (again.folder / "tensorboard").exists()


# ---- stopped and resumed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(easy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What an uninterrupted training ends with."""
    return fit(easy, tmp_path_factory.mktemp("whole") / "run", threads=1)


def content(run: Snapshot) -> tuple[bytes, list[Any]]:
    rows = files.read_jsonl(run.folder / "stats.jsonl")
    return (run.folder / "model.safetensors").read_bytes(), [{**row, "minutes": 0} for row in rows]


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Send a signal to ourselves when a step begins."""
    original = fit_module.batch_at
    plan: dict[int, int] = {}

    def batch(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Any:
        if step in plan:
            os.kill(os.getpid(), plan.pop(step))
        return original(data, rows, step, *rest, **more)

    monkeypatch.setattr(fit_module, "batch_at", batch)
    return plan.__setitem__


@pytest.mark.parametrize("steps", [(0,), (7,), (27, 28), (STEPS - 1,)], ids=str)
def test_a_stopped_training_ends_the_same(
    steps: tuple[int, ...], easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    """In the middle of an epoch, right after a validation, twice, and in the last step."""
    for number, step in enumerate(steps):
        stop_at(step, signal.SIGTERM)
        with pytest.raises(Stopped) as caught:
            fit(easy, tmp_path / "run", threads=1, resume=number > 0)
        assert caught.value.exit_code == 143
        assert "--resume" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # handlers are put back
    ended = fit(easy, tmp_path / "run", threads=1, resume=True)
    assert content(ended) == content(whole)
    assert not (ended.folder / "checkpoints").exists()
    assert sibling.verify(ended.folder) == []


def stopped(easy: Dataset, out: Path, stop_at: Any, step: int = 40) -> Path:
    stop_at(step, signal.SIGINT)
    with pytest.raises(Stopped) as caught:
        fit(easy, out, threads=1)
    assert caught.value.exit_code == 130
    return out


def rewrite(out: Path, change: Any) -> None:
    """Change the tensors and the JSON of a checkpoint, with a manifest that fits again."""
    folder = sorted((out / "checkpoints").iterdir())[-1]
    tensors, saved = load_tensors(folder / "state.safetensors"), files.read_json(folder / "state.json")
    change(tensors, saved)
    save_tensors(folder / "state.safetensors", tensors)
    files.write_json(folder / "state.json", saved)
    files.write_manifest(folder, kind="checkpoint")


def zeros(prefix: str, suffix: str = "") -> Any:
    def change(tensors: dict[str, torch.Tensor], saved: dict[str, Any]) -> None:
        found = [key for key in tensors if key.startswith(prefix) and key.endswith(suffix)]
        assert found
        for key in found:
            tensors[key] = torch.zeros_like(tensors[key])

    return change


@pytest.mark.parametrize(
    "change",
    [
        zeros("network/decoder"),
        zeros("network/encoder"),
        zeros("average/decoder"),
        zeros("optimizer/adam", "exp_avg"),
        zeros("optimizer/adam", "exp_avg_sq"),
        zeros("optimizer/adam", "step"),
        lambda tensors, saved: saved.update(step=saved["step"] - 1),
        lambda tensors, saved: saved.update(best_loss=-1e9),
    ],
    ids=["decoder", "encoder", "average", "moment", "second moment", "adam step", "step", "best loss"],
)
def test_without_one_part_of_the_state_the_end_differs(
    change: Any, easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    """The control of the resume tests: each part of a checkpoint is needed."""
    out = stopped(easy, tmp_path / "run", stop_at)
    rewrite(out, change)
    assert fit(easy, out, threads=1, resume=True).hash != whole.hash


def test_a_rewritten_but_equal_checkpoint_ends_the_same(
    easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    """The control of that control."""
    out = stopped(easy, tmp_path / "run", stop_at)
    rewrite(out, lambda tensors, saved: None)
    assert fit(easy, out, threads=1, resume=True).hash == whole.hash


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "zeros at the end", "text", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 0.0)
    out = stopped(easy, tmp_path / "run", stop_at, step=5)
    before, newest = sorted((out / "checkpoints").iterdir())
    path, size = newest / "state.safetensors", (newest / "state.safetensors").stat().st_size
    if damage == "flipped":
        flip(path)
    elif damage == "zeros at the end":
        path.write_bytes(path.read_bytes()[:-512] + bytes(512))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": path.read_bytes()[: size - 1], "empty": b"", "text": b"no tensors here"}[damage]
        )
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 45.0)
    with caplog.at_level(logging.INFO, "sibling"):
        assert fit(easy, out, threads=1, resume=True).hash == whole.hash
    assert f"checkpoint {newest.name} cannot be used" in caplog.text
    assert f"Going on at step {int(before.name[5:])} " in caplog.text


def test_without_any_whole_checkpoint_it_starts_again(
    easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    out = stopped(easy, tmp_path / "run", stop_at)
    for path in (out / "checkpoints").rglob("state.safetensors"):
        flip(path)
    assert fit(easy, out, threads=1, resume=True).hash == whole.hash


def test_a_checkpoint_is_no_pickle(easy: Dataset, stop_at: Any, tmp_path: Path) -> None:
    out = stopped(easy, tmp_path / "run", stop_at)
    rewrite(out, lambda tensors, saved: None)
    folder = sorted((out / "checkpoints").iterdir())[-1]
    torch.save({"a": torch.zeros(1)}, folder / "state.safetensors")
    with pytest.raises(UnsafeFile):
        load_tensors(folder / "state.safetensors")


def test_resume_starts_where_there_is_nothing(easy: Dataset, whole: Snapshot, tmp_path: Path) -> None:
    assert fit(easy, tmp_path / "run", threads=1, resume=True).hash == whole.hash


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *sorted(folder.rglob("*"))]}


def test_resuming_a_finished_run_rewrites_nothing(easy: Dataset, whole: Snapshot) -> None:
    before = state_of(whole.folder)
    assert fit(easy, whole.folder, threads=1, resume=True).hash == whole.hash
    assert state_of(whole.folder) == before


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"model": "bootstrap", "arguments": {}},
        {"steps": STEPS + 1},
        {"steps": None, "minutes": 3.0},
        {"batch": 7},
        {"keep": "decoder"},
        {"arguments": {**TINY, "latent": 5}},
        {"threads": 2},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_with_other_arguments_is_not_resumed(
    options: dict[str, Any], finished: bool, easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    out = whole.folder if finished else stopped(easy, tmp_path / "run", stop_at, step=1)
    before = state_of(out / "data")
    with pytest.raises(UsageError, match="was started with"):
        fit(easy, out, **{"threads": 1, **options}, resume=True)
    assert state_of(out / "data") == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_with_other_data_is_not_resumed(
    finished: bool, easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    out = whole.folder if finished else stopped(easy, tmp_path / "run", stop_at, step=1)
    fewer = easy.subset(range(79))
    relabelled = easy.subset(range(80))
    relabelled.table["y"][40] = "right" if relabelled.table["y"][40] == "left" else "left"
    for other in (fewer, relabelled):
        with pytest.raises(UsageError, match="data have changed"):
            fit(other, out, threads=1, resume=True)


def test_a_damaged_plan_is_named(easy: Dataset, stop_at: Any, tmp_path: Path) -> None:
    out = stopped(easy, tmp_path / "run", stop_at, step=1)
    (out / "plan.json").write_text('{"steps": 3}')
    with pytest.raises(BadInput, match=r"plan\.json is damaged"):
        fit(easy, out, threads=1, resume=True)


# ---- the place ------------------------------------------------------------------------------------


def test_an_unfinished_run_is_neither_continued_nor_replaced_unasked(
    easy: Dataset, whole: Snapshot, stop_at: Any, tmp_path: Path
) -> None:
    out = stopped(easy, tmp_path / "run", stop_at, step=1)
    with pytest.raises(UsageError, match="--resume"):
        fit(easy, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        fit(easy, out, overwrite=True)
    assert (out / "checkpoints").is_dir()
    (out / "notes.txt").unlink()
    assert fit(easy, out, threads=1, overwrite=True).hash == whole.hash


def test_a_run_that_was_killed_while_reading_can_be_replaced(easy: Dataset, tmp_path: Path) -> None:
    with files.lock(tmp_path / "run"):
        pass
    with pytest.raises(UsageError, match="unfinished"):
        fit(easy, tmp_path / "run", steps=1)
    fit(easy, tmp_path / "run", steps=1, overwrite=True)


def test_a_finished_run_is_replaced_only_when_asked(easy: Dataset, tmp_path: Path) -> None:
    first = fit(easy, tmp_path / "run", steps=2)
    with pytest.raises(UsageError, match="--overwrite"):
        fit(easy, tmp_path / "run", steps=2)
    sibling.curate(sibling.sample(first, want=2), against=first)
    sibling.evaluate(sibling.sample(first, want=2), against=first, lift=False)
    assert fit(easy, tmp_path / "run", steps=2, seed=1, overwrite=True).hash != first.hash
    assert not (tmp_path / "run" / "curation.json").exists()
    assert not (tmp_path / "run" / "evaluation").exists()


def test_overwrite_never_deletes_foreign_files(own_run: Snapshot, easy: Dataset) -> None:
    sibling.evaluate(sibling.sample(own_run, want=2), against=own_run, lift=False)
    for place in (
        "mine.txt",
        "evaluation/mine.txt",
        "previews/mine.png",
        "tensorboard/mine",
        "new/MANIFEST.json",
    ):
        foreign = own_run.folder / place
        foreign.parent.mkdir(exist_ok=True)
        foreign.write_text("{}")
        before = content_of(own_run.folder)
        with pytest.raises(UsageError, match="did not write"):
            fit(easy, own_run.folder, overwrite=True)
        assert content_of(own_run.folder) == before
        foreign.unlink()
    fit(easy, own_run.folder, steps=1, overwrite=True)  # the control: those files were the only reason


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    }


def test_a_failing_input_leaves_the_old_run_alone(own_run: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        fit(tmp_path / "nothing", own_run.folder, overwrite=True)
    assert Snapshot(own_run.folder).hash == own_run.hash


def test_a_foreign_folder_is_refused(easy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not made by Sibling"):
            fit(easy, tmp_path / "run", overwrite=overwrite)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_the_run_may_not_lie_in_the_data(digits: Path) -> None:
    for data in (digits, sibling.read(digits)):
        with pytest.raises(UsageError, match="the input"):
            fit(data, digits / "run")
    assert not (digits / "run").exists()


def test_a_second_training_in_the_same_folder_is_refused(easy: Dataset, tmp_path: Path) -> None:
    with files.lock(tmp_path / "run"):
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
                fit(easy, tmp_path / "run", **options)
    fit(easy, tmp_path / "run", steps=1, resume=True)  # the lock is gone with its holder


# ---- real processes -------------------------------------------------------------------------------

# One process imports torch once and forks a child for each command: a real process for each, cheaply.
FORKS = """
import importlib, json, os, signal, sys, time
import torch._dynamo, pyarrow.parquet, sibling.commands  # what each child would import otherwise
module = importlib.import_module("sibling.training")
from sibling import files
from sibling.cli import main
module.CHECKPOINT_SECONDS = 0.0
def run(arguments, fault=None, stop=None):
    pid = os.fork()
    if pid == 0:
      try:
        signal.signal(signal.SIGTERM, importlib.import_module("sibling.cli")._terminate)
        files._operations = 0
        os.environ["SIBLING_FAULT"] = fault or ""
        original = module.batch_at
        def batch(data, rows, step, *rest, **more):
            if stop and step == stop[0]:
                os.kill(os.getpid(), stop[1])
            return original(data, rows, step, *rest, **more)
        module.batch_at = batch
        os._exit(main(arguments))
      finally:
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def forks(code: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", FORKS + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


KILLS = """
data, out, runs = sys.argv[1], sys.argv[2], []
common = ["fit", data, "--steps", "24", "--threads", "1", "--no-tensorboard",
          "--arguments", '{"width": 8, "latent": 4}', "--resume", "--out"]
codes = {"whole": run([*common, out + "/whole"])}
codes["int"] = [run([*common, out + "/int"], stop=(17, signal.SIGINT)), run([*common, out + "/int"])]
codes["term"] = [run([*common, out + "/term"], stop=(17, signal.SIGTERM)), run([*common, out + "/term"])]
codes["kill"] = [run([*common, out + "/kill"], stop=(at, signal.SIGKILL)) for at in (0, 9, 22)]
codes["kill"].append(run([*common, out + "/kill"]))
codes["writes"], at = [], 1
while True:  # killed inside a disk operation, again and again, further on each time
    codes["writes"].append(run([*common, out + "/writes"], fault=f"kill@{at}"))
    at += 31
    if codes["writes"][-1] != -9:
        break
print(json.dumps(codes))
"""


def test_a_killed_process_goes_on_to_the_same_end(data: Dataset, tmp_path: Path) -> None:
    codes = forks(KILLS, data.folder, tmp_path)
    assert codes["whole"] == 0
    assert codes["int"] == [130, 0]
    assert codes["term"] == [143, 0]
    assert codes["kill"] == [-9, -9, -9, 0]
    assert codes["writes"][-1] == 0
    assert codes["writes"].count(-9) == len(codes["writes"]) - 1 >= 5
    expected = content(Snapshot(tmp_path / "whole"))
    for name in ("int", "term", "kill", "writes"):
        assert content(Snapshot(tmp_path / name)) == expected, name
        assert sibling.verify(tmp_path / name) == []
        assert not list((tmp_path / name).rglob(".sibling-partial-*"))


FULL = """
data, out = sys.argv[1], sys.argv[2]
common = ["fit", data, "--steps", "8", "--threads", "1", "--no-tensorboard",
          "--arguments", '{"width": 8, "latent": 4}', "--resume", "--out", out + "/run"]
codes, at = [], 1
while True:
    codes.append(run(common, fault=f"{'ENOSPC' if at % 2 else 'EACCES'}@{at}"))
    at += 11
    if codes[-1] != 4:
        break
codes.append(run([*common[:-1], out + "/whole"]))
print(json.dumps(codes))
"""


def test_a_full_disk_is_code_4_and_costs_no_checkpoint(data: Dataset, tmp_path: Path) -> None:
    codes = forks(FULL, data.folder, tmp_path)
    assert codes[-2:] == [0, 0]
    assert set(codes[:-2]) == {4}
    assert len(codes) >= 5
    assert content(Snapshot(tmp_path / "run")) == content(Snapshot(tmp_path / "whole"))


def test_a_stop_in_the_first_second_is_no_traceback(digits: Path, tmp_path: Path) -> None:
    """SIGTERM while torch is still being imported or the data are read."""
    command = [
        sys.executable,
        "-m",
        "sibling",
        "fit",
        str(digits),
        "--out",
        str(tmp_path / "run"),
        "--minutes",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "MANIFEST.json").exists()


def test_checkpoints_are_two_at_most(easy: Dataset, stop_at: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 0.0)
    out = stopped(easy, tmp_path / "run", stop_at, step=20)
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["step-00000020", "step-00000021"]
    state = checkpoint.State(Snapshot.__new__(Snapshot), {})  # a state that fits nothing: hashes come first
    flip(out / "checkpoints" / kept[0] / "state.json")
    shutil.rmtree(out / "checkpoints" / kept[1])
    assert checkpoint.load_newest(out, state, {"steps": 1}) == 0


def test_a_checkpoint_knows_its_content(easy: Dataset, stop_at: Any, tmp_path: Path) -> None:
    out = stopped(easy, tmp_path / "run", stop_at, step=20)
    folder = next((out / "checkpoints").iterdir())
    listed = files.read_json(folder / "MANIFEST.json")["files"]
    digest = hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()
    assert listed["state.safetensors"]["sha256"] == digest
