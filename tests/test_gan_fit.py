"""The game inside `fit`: rows of rare groups, stopped and resumed, rolled back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, TRAINING, blobs, dataset, poison, stop_at

import sibling
from sibling import checkpoint, files
from sibling.conditions.joint import Joint
from sibling.dataset import Dataset
from sibling.errors import NumericalError, Stopped, UsageError
from sibling.models.gan import GAN
from sibling.models.update import skipping
from sibling.plan import balanced
from sibling.snapshot import Snapshot, load_tensors, save_tensors
from sibling.types import Batch

SMALL: dict[str, Any] = {"latent": 3, "width": 8, "critic_width": 8}
STEPS = 24

# ---- rows of rare groups --------------------------------------------------------------------------


def unbalanced(counts: dict[str, int]) -> Dataset:
    y = [name for name, n in counts.items() for _ in range(n)]
    return dataset(np.zeros((len(y), 1, 4, 4), np.uint8), y, test=0, val=0)  # type: ignore[arg-type]


def counted(counts: dict[str, int]) -> dict[str, int]:
    data = unbalanced(counts)
    names, found = np.unique(data.classes(balanced(data, data.rows("train"))), return_counts=True)
    return dict(zip(names.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize("counts", [{"a": 10, "b": 10}, {"a": 7}], ids=str)
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


def test_one_sample_more_never_makes_a_group_lighter() -> None:
    shares = [
        counted({"a": n, "b": 200})["a"] for n in range(1, 134)
    ]  # up to 1.5 to 1, where nothing is repeated
    assert shares == sorted(shares)
    assert shares[0] < 180 < shares[8] < shares[9] == shares[-1] == 200  # and none makes it leap


# ---- numbers: other samples around the batch's own ------------------------------------------------

COMMON, RARE = 400, 40


@pytest.fixture(scope="module")
def numbered() -> Dataset:
    """A rare and a common kind, each with a number of its own in every sample; the pixels say which row it is."""
    n = COMMON + RARE
    raw = np.zeros((n, 1, 8, 8), np.uint8)
    raw[:, 0, 0, 0], raw[:, 0, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    kinds = ["common"] * COMMON + ["rare"] * RARE
    data = dataset(raw, kinds, test=0, val=0)  # type: ignore[arg-type]
    severity = np.random.default_rng(0).random(n)
    data.table["y"] = [{"kind": k, "severity": float(s)} for k, s in zip(kinds, severity, strict=True)]
    data.condition = Joint().fit(data.table["y"])
    return data


def training(data: Dataset, out: Path, *, model: str = "gan", steps: int = STEPS, **arguments: Any) -> Any:
    """A training that has not begun."""
    plain: dict[str, Any] = {"gan": SMALL, "vae": TINY}[model]
    plan = {"model": model, "arguments": {**plain, **arguments}, "seed": 0, "batch": 32, "steps": steps}
    return TRAINING.Training(data, data.rows("train"), out, plan)


def rows_in(x: torch.Tensor) -> np.ndarray:
    pixels = ((x[:, 0, 0, :2] + 1) * 127.5).round().long().numpy()
    return np.asarray(pixels[:, 0] * 256 + pixels[:, 1])


@pytest.mark.parametrize(("row", "own"), [(3, COMMON), (COMMON + 3, RARE)], ids=["common", "rare"])
def test_a_vicinity_holds_so_many_different_samples_though_rare_ones_are_repeated(
    row: int, own: int, numbered: Dataset, tmp_path: Path
) -> None:
    game = training(numbered, tmp_path)
    assert (game.drawn == COMMON + 3).sum() == COMMON // RARE  # rare ones are drawn ten times as often
    nearby = game.nearby
    nearby.vicinity.sigma = nearby.vicinity.sigma * 0  # all targets at the anchor itself
    anchor = int(np.searchsorted(nearby.rows, row))
    _, near, _, _ = nearby.vicinity.draw(np.full(2_000, anchor), np.random.default_rng(0))
    assert len(np.unique(nearby.rows[near])) == max(8, math.isqrt(own))


def test_a_batch_is_made_of_samples_near_its_numbers_and_of_their_kind(
    numbered: Dataset, tmp_path: Path
) -> None:
    game = training(numbered, tmp_path)
    rare, moved, plain = 0, 0, numbered.condition
    for step in range(8):
        batch = game_batch(game, step)
        rows = rows_in(batch.x)
        y = numbered.y(rows)
        width = len(plain.classes)
        own = plain.encode(y, (8, 8)).vec
        assert torch.equal(own[:, :width], batch.cond.vec[:, :width])  # the kind is that of the sample,
        assert torch.equal(own[:, :width], batch.made.vec[:, :width])
        away = (
            own[:, width] - batch.cond.vec[:, width]
        ).abs()  # and its number is near the one that D is told
        assert float(away.max()) < 0.3
        moved += int((away > 0).sum())
        rare += int((rows >= COMMON).sum())
    assert 0.35 < rare / (8 * 32) < 0.65  # repeated until both kinds weigh alike
    assert moved > 8 * 16


def game_batch(game: Any, step: int) -> Batch:
    batch: Batch = TRAINING.batch_at(
        game.data, game.drawn, step, game.plan, STEPS, model=game.model, nearby=game.nearby
    )
    return batch


def test_only_a_model_that_wants_vicinities_of_numbers_gets_them(
    numbered: Dataset, easy: Dataset, tmp_path: Path
) -> None:
    assert training(numbered, tmp_path, model="vae").nearby is None
    assert training(easy, tmp_path).nearby is None
    assert training(numbered, tmp_path, vicinity="soft").nearby.vicinity.kind == "soft"


# ---- stopped, resumed, rolled back ----------------------------------------------------------------


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


@pytest.fixture(scope="module")
def rolled_back(easy: Dataset, _patient: None, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What an uninterrupted training ends with in which ten updates in a row are skipped."""
    original = TRAINING.batch_at

    def batch(data: Dataset, rows: Any, step: int, *rest: Any, **more: Any) -> Batch:
        made: Batch = original(data, rows, step, *rest, **more)
        return poison(made) if 6 <= step < 16 else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRAINING, "batch_at", batch)
        return fit(easy, tmp_path_factory.mktemp("rolled") / "run")


@pytest.mark.parametrize("step", [10, 15, 18], ids=["in the streak", "in its last step", "after it"])
def test_a_rolled_back_game_that_was_stopped_ends_the_same(
    step: int, easy: Dataset, rolled_back: Snapshot, change: dict[int, Any], tmp_path: Path
) -> None:
    """A stop in the middle of skipped updates does not begin their count anew."""
    change.update(dict.fromkeys(range(6, 16), poison))
    stop_at(change, step)
    with pytest.raises(Stopped):
        fit(easy, tmp_path / "run")
    ended = fit(easy, tmp_path / "run", resume=True)
    assert ended.run["rollbacks"] == 1
    assert content(ended) == content(rolled_back)


@pytest.mark.parametrize("part", ["model", "critic"])
def test_what_each_player_has_skipped_in_a_row_outlives_a_stop(
    part: str, easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    change.update(dict.fromkeys(range(6, 11), poison))
    stop_at(change, 9)
    with pytest.raises(Stopped):
        fit(easy, tmp_path / "run")
    folder = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert files.read_json(folder / "state.json")["skipped"] == {"model": 4, "critic": 4}
    again = training(easy, tmp_path / "run")
    assert checkpoint.load_newest(tmp_path / "run", again.state, {"steps": STEPS}) == 10
    assert skipping(again.model)[part].skipped == 4


@pytest.mark.parametrize("stop", [None, 18])
def test_the_kept_discriminator_is_the_one_of_the_best_step(
    stop: int | None, easy: Dataset, change: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score means something for the generator that a discriminator has played against."""
    best, seen = 14, {}

    def look(self: Any, step: int) -> dict[str, float]:
        networks = self.model.networks  # averaged where they are
        seen[step] = {
            f"{name}/{key}": value.clone()
            for name in ("generator", "discriminator")
            for key, value in networks[name].state_dict().items()
        }
        return {"game/diversity": 1.0, "val/loss": 1.0 + abs(step - best)}

    monkeypatch.setattr(TRAINING.Training, "_watched", look)
    if stop is not None:
        stop_at(change, stop)
        with pytest.raises(Stopped):
            fit(easy, tmp_path / "run")
    run = fit(easy, tmp_path / "run", resume=stop is not None)
    assert run.run["best_step"] == best
    kept = load_tensors(run.folder / "model.safetensors")
    assert kept.keys() == seen[best].keys()
    assert all(torch.equal(value, seen[best][key]) for key, value in kept.items())
    for step in (best - 1, best + 1, STEPS):  # the control: each step has others
        for player in ("generator", "discriminator"):
            own = [key for key in kept if key.startswith(player)]
            assert not all(torch.equal(kept[key], seen[step][key]) for key in own)


@pytest.mark.parametrize("finished", [False, True])
def test_arguments_that_are_tuples_are_the_same_when_resumed(
    finished: bool, easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    """JSON has lists alone: (0.0, 0.5) is kept as [0.0, 0.5]."""
    arguments = {**SMALL, "transition": (0.0, 0.5)}
    out = tmp_path / "run"
    if finished:
        fit(easy, out, steps=3, arguments=arguments)
    else:
        stop_at(change, 1)
        with pytest.raises(Stopped):
            fit(easy, out, steps=3, arguments=arguments)
    with pytest.raises(UsageError, match="transition"):
        fit(easy, out, steps=3, arguments={**SMALL, "transition": (0.0, 0.6)}, resume=True)
    for given in (arguments, {**SMALL, "transition": [0.0, 0.5]}):
        assert fit(easy, out, steps=3, arguments=given, resume=True).run["step"] == 3


@pytest.mark.parametrize(
    ("model", "steps", "patience"),
    [
        ("gan", 10, 6),  # one validation, at the end
        ("gan", 20, 8),
        ("gan", 30, 12),  # 30 validations: 8 of 20 are 12 of 30
        ("gan", 10_000, 8),
        ("gan", 40_000, 32),  # 80 validations, one every 500 steps
        ("vae", 30, 6),
        ("vae", 40_000, 6),  # not watched: its loss falls or it does not
    ],
)
def test_the_patience_of_a_game_is_a_share_of_the_training(
    model: str, steps: int, patience: int, easy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GAN, "patience", 8)
    made = training(easy, tmp_path, model=model, steps=steps)
    made.state.since_best = patience - 1
    assert not made._is_over()
    made.state.since_best = patience
    assert made._is_over()


def test_with_too_few_held_out_samples_the_last_weights_are_kept(tmp_path: Path) -> None:
    runs = {n: fit(dataset(*blobs(100), test=0, val=n / 100), tmp_path / str(n)) for n in (15, 16)}
    distances = {
        n: [row["val/loss"] for row in files.read_jsonl(run.folder / "stats.jsonl") if "val/loss" in row]
        for n, run in runs.items()
    }
    assert set(distances[15]) == {None}
    assert runs[15].run["best_step"] == runs[15].run["step"] == STEPS
    assert all(math.isfinite(distance) for distance in distances[16])  # the control


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


@pytest.mark.parametrize(
    ("model", "a_step", "few"), [("gan", 1.0, True), ("gan", 0.1, False), ("vae", 1.0, False)]
)
def test_minutes_that_are_too_few_for_a_game_are_said(
    model: str, a_step: float, few: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sibling.plan import make_plan

    monkeypatch.setattr("sibling.plan._seconds_a_step", lambda *_: a_step)
    data = dataset(*blobs(160))
    asked = {
        "model": model,
        "seed": 0,
        "keep": "all",
        "minutes": 0.5,
        "steps": None,
        "batch": None,
        "threads": 1,
    }
    plan = make_plan(data, data.rows("train"), {**asked, "arguments": {}})
    assert any("updates are few" in note and "--minutes" in note for note in plan["notes"]) == few
