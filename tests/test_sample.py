"""How many samples, of which class, and that each is the same whatever is drawn beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, blobs, dataset

import sibling
from sibling import files
from sibling.errors import BadInput, NumericalError, UnsafeFile, UsageError
from sibling.sample import MOST_DERIVED, draw, resolve_want
from sibling.snapshot import Snapshot, load_tensors, save_tensors


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A run of 30 left and 10 right pictures."""
    raw, names = blobs(60)
    rows = [i for i, name in enumerate(names) if name == "left"] + [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    data = dataset(raw[rows], [names[i] for i in rows])
    out = tmp_path_factory.mktemp("uneven") / "run"
    return sibling.fit(data, out=out, steps=20, arguments=TINY, tensorboard=False)


@pytest.mark.parametrize(
    ("want", "counts"),
    [
        (None, (120, 40)),
        (7, (7, 7)),
        ("7", (7, 7)),
        (" 7 ", (7, 7)),
        ("x5", (120, 40)),
        ("\u00d73", (60, 20)),
        ("x1.5", (15, 5)),
        ("balance", (0, 20)),
        ({"right": 4}, (0, 4)),
        ('{"left": 2, "right": 0}', (2, 0)),
    ],
    ids=str,
)
def test_every_spelling_of_want(want: Any, counts: tuple[int, int], uneven: Snapshot) -> None:
    asked = resolve_want(want, uneven)
    assert (asked.get("left", 0), asked.get("right", 0)) == counts


@pytest.mark.parametrize(
    "want",
    [0, -3, "0", "-3", "x1", "x0.5", "x", "5x", "many", "", "1e3", "{", '{"left": 1.5}', '{"left": -1}', "[3]",
     {"left": True}, {"left": "3"}, 2.5, True],
    ids=repr,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_as_usage(want: Any, uneven: Snapshot) -> None:
    with pytest.raises(UsageError, match=r"want (is|says)") as caught:
        sibling.sample(uneven, want=want)
    assert caught.value.exit_code == 2


def test_an_unknown_class_gives_did_you_mean(uneven: Snapshot) -> None:
    with pytest.raises(UsageError, match=r"no class 'lefft' in this run\. Did you mean 'left'"):
        sibling.sample(uneven, want={"lefft": 3})


def test_balance_of_what_is_balanced_is_said(run: Snapshot) -> None:
    with pytest.raises(UsageError, match="already has 30 samples"):
        sibling.sample(run, want="balance")


def test_the_default_never_exceeds_its_cap(run: Snapshot) -> None:
    run_json = {"data": {"counts": {"train": {str(i): 100_000 for i in range(10)}}}}
    big = Snapshot.__new__(Snapshot)
    big.run, big.condition = run_json, run.condition  # type: ignore[misc]
    assert sum(resolve_want(None, big).values()) <= MOST_DERIVED


def test_samples_say_what_made_them(run: Snapshot) -> None:
    made = sibling.sample(run, want={"3": 2, "7": 1}, seed=5)
    assert made.table["y"] == ["3", "3", "7"]
    assert set(made.table["origin"]) == {"synthetic"}
    assert set(made.table["split"]) == {"train"}
    assert [info["index"] for info in made.table["info"]] == [0, 1, 0]
    assert all(info["seed"] == 5 and info["snapshot"] == run.name for info in made.table["info"])
    assert len(set(made.table["key"])) == 3


def test_sample_i_is_the_same_whatever_is_drawn_beside_it(run: Snapshot) -> None:
    many = sibling.sample(run, want={"1": 70, "2": 70})
    few = sibling.sample(run, want={"2": 3})
    assert np.array_equal(few.raw, many.raw[70:73])
    late = draw(run, {"1": range(65, 70)}, 0)
    assert np.array_equal(late.raw, many.raw[65:70])
    assert not np.array_equal(late.raw, many.raw[60:65])
    assert few.table["key"] == many.table["key"][70:73]


def test_two_seeds_share_no_key_and_no_sample(run: Snapshot) -> None:
    a, b = (sibling.sample(run, want=3, seed=seed) for seed in (0, 1))
    assert not set(a.table["key"]) & set(b.table["key"])
    assert not {x.tobytes() for x in a.raw} & {x.tobytes() for x in b.raw}


def test_threads_do_not_change_the_pixels(run: Snapshot) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = sibling.sample(run, want=4)
        torch.set_num_threads(2)
        two = sibling.sample(run, want=4)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(one.raw, two.raw)


def test_samples_are_written_and_read_again(run: Snapshot, tmp_path: Path) -> None:
    made = sibling.sample(run, want=2, out=tmp_path / "made")
    again = sibling.read(tmp_path / "made", like=run.data)
    assert sorted(map(bytes, again.raw)) == sorted(map(bytes, made.raw))
    assert sorted(again.table["y"]) == sorted(made.table["y"])
    assert set(again.table["origin"]) == {"synthetic"}


# ---- snapshots that cannot be trusted -------------------------------------------------------------


def test_a_place_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.json"):
        sibling.sample(tmp_path)


def test_an_unfinished_run_is_called_so(tmp_path: Path) -> None:
    from sibling import files

    with files.lock(tmp_path / "run"):
        pass
    for look in (lambda: sibling.sample(tmp_path / "run"), lambda: sibling.report(tmp_path / "run")):
        with pytest.raises(BadInput, match=r"unfinished run.*--resume"):
            look()


def resigned(run: Snapshot) -> Snapshot:
    """The run with a manifest that fits what now lies there, as someone who means harm would make it."""
    listed = files.read_json(run.folder / "MANIFEST.json")["files"]
    files.write_manifest(run.folder, kind="run", only=listed)
    return Snapshot(run.folder)


def test_a_flipped_weight_is_found(own_run: Snapshot) -> None:
    path = own_run.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    load_tensors(path)  # the control: the file itself loads without a word
    with pytest.raises(BadInput, match=r"model\.safetensors: its content has changed"):
        sibling.sample(own_run.folder, want=1)


def test_nan_weights_are_refused(own_run: Snapshot) -> None:
    path = own_run.folder / "model.safetensors"
    weights = load_tensors(path)
    key = next(key for key in weights if key.startswith("decoder/"))
    weights[key].view(-1)[0] = float("nan")
    save_tensors(path, weights)
    with pytest.raises(UnsafeFile, match="not finite"):
        sibling.sample(resigned(own_run), want=1)


def test_a_pickle_in_place_of_the_weights_is_refused(own_run: Snapshot) -> None:
    torch.save({"decoder/head.weight": torch.zeros(1)}, own_run.folder / "model.safetensors")
    with pytest.raises(UnsafeFile, match="not a safetensors file"):
        sibling.sample(resigned(own_run), want=1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 99}, BadInput),
        ({"arguments": {"latent": 5, "width": 8}}, UnsafeFile),
        ({"arguments": {"lattent": 4}}, UsageError),
        ({"model": "gan2"}, UsageError),
    ],
    ids=["format", "other width", "unknown argument", "unknown model"],
)
def test_a_run_that_does_not_fit_itself_is_refused(
    change: dict[str, Any], error: type[Exception], own_run: Snapshot
) -> None:
    path = own_run.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(error):
        sibling.sample(resigned(own_run), want=1)


def test_samples_that_are_not_finite_are_never_made(own_run: Snapshot) -> None:
    snapshot = Snapshot(own_run.folder)
    decoder = snapshot.model.networks["decoder"]
    next(iter(decoder.parameters())).data.fill_(float("nan"))
    with pytest.raises(NumericalError, match="not finite"):
        sibling.sample(snapshot, want=1)
