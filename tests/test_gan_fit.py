"""The game inside `fit`: rows of rare groups, stopped and resumed, rolled back."""

from __future__ import annotations

import importlib
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import blobs, dataset

import sibling
from sibling import files
from sibling.dataset import Dataset
from sibling.errors import NumericalError, Stopped
from sibling.models.gan import GAN
from sibling.plan import balanced
from sibling.snapshot import Snapshot, load_tensors, save_tensors
from sibling.types import Batch

SMALL: dict[str, Any] = {"latent": 3, "width": 8, "critic_width": 8}
TRAINING: Any = importlib.import_module("sibling.training")

# ---- rows of rare groups --------------------------------------------------------------------------


def unbalanced(counts: dict[str, int]) -> Dataset:
    y = [name for name, n in counts.items() for _ in range(n)]
    return dataset(np.zeros((len(y), 1, 4, 4), np.uint8), y, test=0, val=0)  # type: ignore[arg-type]


def counted(counts: dict[str, int]) -> dict[str, int]:
    data = unbalanced(counts)
    names, found = np.unique(data.classes(balanced(data, data.rows("train"))), return_counts=True)
    return dict(zip(names.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize("counts", [{"a": 10, "b": 10}, {"a": 10, "b": 14}, {"a": 7}], ids=str)
def test_balanced_rows_stay_as_they_are(counts: dict[str, int]) -> None:
    data = unbalanced(counts)
    rows = data.rows("train")
    assert np.array_equal(balanced(data, rows), rows)


def test_up_to_twenty_to_one_all_groups_weigh_alike_afterwards() -> None:
    assert counted({"a": 10, "b": 100}) == {"a": 100, "b": 100}
    assert counted({"a": 5, "b": 100, "c": 30}) == {"a": 100, "b": 100, "c": 100}
    assert counted({"a": 20, "b": 30}) == {"a": 30, "b": 30}


def test_beyond_twenty_to_one_the_repeats_grow_as_the_root() -> None:
    assert counted({"a": 2, "b": 200}) == {"a": 89, "b": 200}  # sqrt(20 * 100) times
    assert counted({"a": 4, "b": 400, "c": 100}) == {"a": 179, "b": 400, "c": 400}
    assert (
        counted({"a": 10, "b": 200})["a"] == 200 > counted({"a": 1, "b": 200})["a"] == 63
    )  # never a step back


def test_each_sample_of_a_group_is_repeated_alike_and_none_is_lost() -> None:
    data = unbalanced({"a": 7, "b": 100})
    rows = data.rows("train")
    again = balanced(data, rows)
    found, times = np.unique(again, return_counts=True)
    assert np.array_equal(found, rows)
    assert set(times[:7]) == {14, 15}
    assert set(times[7:]) == {1}
    assert np.array_equal(again, np.sort(again))


# ---- stopped, resumed, rolled back ----------------------------------------------------------------

STEPS = 24


@pytest.fixture(scope="module")
def easy() -> Dataset:
    return dataset(*blobs(120), val=0.2)  # enough held-out samples for the gauge


@pytest.fixture(autouse=True, scope="module")
def _patient() -> Iterator[None]:
    """All planned steps: so short a training is worth the same at each validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GAN, "patience", 1_000, raising=False)
        yield


def fit(data: Dataset, out: Path, **options: Any) -> Snapshot:
    plain = {
        "model": "gan",
        "steps": STEPS,
        "batch": 16,
        "arguments": SMALL,
        "threads": 1,
        "tensorboard": False,
    }
    return sibling.fit(data, out=out, **{**plain, **options})


@pytest.fixture(scope="module")
def whole(easy: Dataset, _patient: None, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What an uninterrupted training ends with."""
    return fit(easy, tmp_path_factory.mktemp("whole") / "run")


def content(run: Snapshot) -> tuple[bytes, list[Any]]:
    rows = files.read_jsonl(run.folder / "stats.jsonl")
    return (run.folder / "model.safetensors").read_bytes(), [{**row, "minutes": 0} for row in rows]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Any]]:
    """What to do to the batch of a step when it begins."""
    original, planned = TRAINING.batch_at, {}

    def batch(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Batch:
        made = original(data, rows, step, *rest, **more)
        return planned[step](made) if step in planned else made

    monkeypatch.setattr(TRAINING, "batch_at", batch)
    return planned


def stop_at(change: dict[int, Any], step: int) -> None:
    def stop(batch: Batch) -> Batch:
        del change[step]
        os.kill(os.getpid(), signal.SIGTERM)
        return batch

    change[step] = stop


def poison(batch: Batch) -> Batch:
    batch.x = batch.x * math.nan
    return batch


@pytest.mark.parametrize("step", [0, 9, 16, STEPS - 1])
def test_a_stopped_game_ends_the_same(
    step: int, easy: Dataset, whole: Snapshot, change: dict[int, Any], tmp_path: Path
) -> None:
    stop_at(change, step)
    with pytest.raises(Stopped):
        fit(easy, tmp_path / "run")
    ended = fit(easy, tmp_path / "run", resume=True)
    assert content(ended) == content(whole)


def test_the_run_under_test_has_something_to_remember(whole: Snapshot) -> None:
    rows = files.read_jsonl(whole.folder / "stats.jsonl")
    assert rows[-1]["game/strength"] != rows[0]["game/strength"]
    assert {"game/diversity", "val/loss"} <= {key for row in rows for key in row}
    assert whole.run["model"] == "gan"


@pytest.mark.parametrize(
    "part",
    [
        "network/generator", "network/discriminator", "network/ledger/strength", "network/ledger/rate",
        "average/generator", "optimizer/generator", "optimizer/discriminator",
    ],
)  # fmt: skip
def test_without_one_part_of_the_state_the_end_differs(
    part: str, easy: Dataset, whole: Snapshot, change: dict[int, Any], tmp_path: Path
) -> None:
    """The control: each player, its optimiser, the average and the ledger are needed."""
    out = tmp_path / "run"
    stop_at(change, 5)  # before the time from which the best weights are kept
    with pytest.raises(Stopped):
        fit(easy, out)
    folder = sorted((out / "checkpoints").iterdir())[-1]
    tensors = load_tensors(folder / "state.safetensors")
    assert any(key.startswith(part) for key in tensors)
    for key in tensors:
        if key.startswith(part):
            tensors[key] = (0.9 * tensors[key]).to(tensors[key])
    save_tensors(folder / "state.safetensors", tensors)
    files.write_manifest(folder, kind="checkpoint")
    assert fit(easy, out, resume=True).hash != whole.hash


def test_a_game_that_fails_for_a_while_goes_back_and_ends_well(
    easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    change.update(dict.fromkeys(range(6, 16), poison))
    run = fit(easy, tmp_path / "run")
    assert run.run["rollbacks"] == 1
    rows = files.read_jsonl(run.folder / "stats.jsonl")
    assert [row["step"] for row in rows if "game/rollback" in row] == [16]
    weights = load_tensors(run.folder / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_rolled_back_game_that_was_stopped_ends_the_same(
    easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    hashes = []
    for stopped in (False, True):
        change.clear()
        change.update(dict.fromkeys(range(6, 16), poison))
        out = tmp_path / str(stopped)
        if stopped:
            stop_at(change, 18)
            with pytest.raises(Stopped):
                fit(easy, out)
        hashes.append(fit(easy, out, resume=stopped).hash)
    assert hashes[0] == hashes[1]


def test_a_game_that_never_recovers_ends_with_code_5_and_no_snapshot(
    easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    change.update(dict.fromkeys(range(6, 200), poison))
    with pytest.raises(NumericalError, match="rollbacks did not help") as caught:
        fit(easy, tmp_path / "run", steps=100)
    assert caught.value.exit_code == 5
    assert not (tmp_path / "run" / "run.json").exists()


def test_one_class_can_be_learned(tmp_path: Path) -> None:
    """With a label, but without another one that could be wrong."""
    raw, _ = blobs(40)
    run = fit(dataset(raw, ["only"] * 40), tmp_path / "run", steps=3)
    assert sibling.sample(run, want=3).table["y"] == ["only"] * 3
