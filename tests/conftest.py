"""Fixtures that many tests share: a small folder of digits, its store, and one tiny trained run."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two busy threads on shared cores are slower than one
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import importlib
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sibling
from sibling.conditions.label import Label
from sibling.dataset import Dataset
from sibling.modalities.image import Image
from sibling.snapshot import Snapshot
from sibling.types import Batch

TINY = {"width": 8, "latent": 4}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 real digits in ten class folders. Read only."""
    return sibling.example(tmp_path_factory.mktemp("digits") / "digits", per_class=30)


@pytest.fixture(scope="session")
def data(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The store of the digits. Read only."""
    return sibling.read(digits, out=tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A VAE of the digits, trained for a second. Read only; see `own_run`."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return sibling.fit(data, out=folder, steps=250, batch=32, arguments=TINY, tensorboard=False)


@pytest.fixture
def own_run(run: Snapshot, tmp_path: Path) -> Snapshot:
    """A copy of the run that a test may write to."""
    return Snapshot(shutil.copytree(run.folder, tmp_path / "run"))


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`sibling ...` as a real process, with a wall around it: see GUARD."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", GUARD, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]

    return call


# No network, no other program and no unpickling in any command, whatever a library might want.
GUARD = """
import sys
def guard(event, arguments):
    if event in ("pickle.find_class", "socket.connect", "subprocess.Popen", "os.system"):
        raise RuntimeError(f"forbidden: {event} {arguments}")
sys.addaudithook(guard)
from sibling.cli import main
main()
"""


def blobs(n: int, *, size: tuple[int, int] = (8, 8), seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """n easy pictures, uint8 (n, 1, H, W): bright on the left or on the right, with noise."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 60, (n, 1, *size))
    names = ["left" if i % 2 == 0 else "right" for i in range(n)]
    half = size[1] // 2
    for i, name in enumerate(names):
        side = slice(0, half) if name == "left" else slice(half, None)
        raw[i, :, :, side] += rng.integers(100, 190)
    return raw.astype(np.uint8), names


def dataset(raw: np.ndarray, y: list[str | None], *, test: float = 0.2, val: float = 0.1) -> Dataset:
    """A Dataset in memory, all real, split by position."""
    n = len(raw)
    splits = ["test" if i < test * n else "val" if i < (test + val) * n else "train" for i in range(n)]
    condition = Label().fit(y) if any(value is not None for value in y) else None
    table = {
        "key": [f"{i:04d}.png" for i in range(n)], "y": list(y), "origin": ["real"] * n, "split": splits,
        "group": list(range(n)), "sha256": [f"{i}" for i in range(n)], "source": [None] * n, "info": [{}] * n,
    }  # fmt: skip
    from sibling.conditions.none import Unconditional

    modality = Image(raw.shape[2], raw.shape[3], raw.shape[1])
    return Dataset(raw, table, modality, condition or Unconditional())


# ---- trainings that are disturbed at a step ----

TRAINING: Any = importlib.import_module("sibling.training")


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """What to do to the batch of a step when it begins."""
    original = TRAINING.batch_at
    planned: dict[int, Any] = {}

    def batch(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Batch:
        made: Batch = original(data, rows, step, *rest, **more)
        return planned[step](made) if step in planned else made

    monkeypatch.setattr(TRAINING, "batch_at", batch)
    return planned


def stop_at(change: dict[int, Any], step: int) -> None:
    """Once, beside whatever else happens to the batch of that step."""
    before = change.get(step, lambda batch: batch)

    def stop(batch: Batch) -> Batch:
        change[step] = before
        os.kill(os.getpid(), signal.SIGTERM)
        return before(batch)  # type: ignore[no-any-return]

    change[step] = stop


def poison(batch: Batch) -> Batch:
    batch.x = batch.x * math.nan
    return batch
