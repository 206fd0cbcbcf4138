"""A look into a trained model: psi, rejection, ways between samples, one code under many y, codes of pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import blobs, dataset
from test_contract import png

import sibling
from sibling.codes import Space, between, pyramid_loss, search, slerp
from sibling.conditions.joint import Joint
from sibling.conditions.label import Label
from sibling.conditions.labels import Labels
from sibling.conditions.map import Map
from sibling.conditions.none import Unconditional
from sibling.conditions.value import Value
from sibling.dataset import Dataset
from sibling.device import generator, seed_of
from sibling.errors import BadInput, UsageError
from sibling.modalities.image import Image
from sibling.sample import draw_given
from sibling.snapshot import Snapshot, make_model
from sibling.types import Batch, Cond

GAN = {"latent": 6, "width": 8, "critic_width": 8}
VAE = {"latent": 4, "width": 8}


def fitted(data: Dataset, out: Path, model: str, **more: Any) -> Snapshot:
    arguments = {"gan": GAN, "vae": VAE, "bootstrap": {}}[model] | more.pop("arguments", {})
    return sibling.fit(
        data,
        out=out,
        model=model,
        steps=60,
        batch=16,
        arguments=arguments,
        threads=1,
        tensorboard=False,
        **more,
    )


def graded(kind: str) -> Dataset:
    """80 pictures that are the brighter the higher their `shade`; joint: on the left or on the right."""
    raw, names = blobs(80)
    rng = np.random.default_rng(1)
    shades = [round(i / 79, 3) for i in range(80)]
    for i, shade in enumerate(shades):
        raw[i] = (raw[i] * (0.2 + 0.8 * shade) + rng.integers(0, 4, raw[i].shape)).clip(0, 255)
    if kind == "value":
        y: list[Any] = [{"shade": shade} for shade in shades]
        condition: Any = Value().fit(y)
    else:
        y = [{"side": name, "shade": shade} for name, shade in zip(names, shades, strict=True)]
        condition = Joint().fit(y)
    data = dataset(raw, names)
    order = rng.permutation(80)  # the split is by position
    data.table["split"] = [data.table["split"][i] for i in order]
    data.table["y"] = y
    return Dataset(data.raw, data.table, data.modality, condition)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Snapshot]:
    """Runs by name. Read only."""
    place = tmp_path_factory.mktemp("runs")
    raw, names = blobs(80)
    labelled, plain = dataset(raw, list(names)), dataset(raw, [None] * 80)
    return {
        "gan": fitted(labelled, place / "gan", "gan"),
        "vae": fitted(labelled, place / "vae", "vae"),
        "normal": fitted(labelled, place / "normal", "vae", arguments={"prior": "normal"}),
        "decoder": fitted(labelled, place / "decoder", "vae", keep="decoder"),
        "plain": fitted(plain, place / "plain", "gan"),
        "value": fitted(graded("value"), place / "value", "gan"),
        "joint": fitted(graded("joint"), place / "joint", "vae"),
        "bootstrap": fitted(labelled, place / "bootstrap", "bootstrap"),
    }


EVERY = pytest.mark.parametrize("name", ["gan", "vae", "normal", "plain", "value", "joint"])


def tiles(picture: bytes, edge: int = 56, gap: int = 2) -> tuple[int, int]:
    """(rows, columns) of samples of 8 x 8 pixels in a grid."""
    width, height = PIL.Image.open(io.BytesIO(picture)).size
    assert (height - gap) % (edge + gap) == 0
    assert (width - gap) % (edge + gap) == 0
    return (height - gap) // (edge + gap), (width - gap) // (edge + gap)


# ---- ways between codes ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 64])
def test_slerp_keeps_the_norm_and_turns_by_equal_angles(width: int) -> None:
    a, b = torch.randn(2, width, generator=generator("slerp", width))
    b = b * (a.norm() / b.norm())
    way = between(a, b, [i / 8 for i in range(9)], straight=False)
    assert torch.equal(way[0], a)
    assert torch.equal(way[-1], b)
    assert torch.allclose(way.norm(dim=1), a.norm(), rtol=1e-5)
    cosines = torch.cosine_similarity(way[1:].double(), way[:-1].double())
    assert float(cosines.max() - cosines.min()) < 1e-5
    assert float(between(a, b, [0.5], straight=True).norm()) < float(a.norm())  # the control: a line does not


def test_slerp_of_vectors_that_have_no_one_way() -> None:
    a = torch.tensor([3.0, 0.0, 4.0])
    assert torch.allclose(slerp(a, -a, 0.5).norm(), a.norm())
    assert abs(float(slerp(a, -a, 0.5) @ a)) < 1e-5
    assert torch.allclose(slerp(a, a, 0.3), a)
    assert torch.allclose(slerp(a, 2 * a, 0.5), 1.5 * a)
    assert torch.equal(slerp(torch.zeros(3), a, 0.5), a / 2)
    assert torch.equal(slerp(torch.tensor([1.0]), torch.tensor([-1.0]), 0.25), torch.tensor([0.5]))
    assert slerp(a.reshape(1, 3), -a.reshape(1, 3), 0.5).shape == (1, 3)


@pytest.mark.parametrize("spatial", [(), (21,), (9, 13), (5, 8, 6)], ids=str)
def test_the_pyramid_sees_coarse_differences_more_than_fine_ones(spatial: tuple[int, ...]) -> None:
    target = torch.zeros(2, 1, *spatial)
    coarse, fine = torch.ones(2, 1, *spatial), torch.randn(2, 1, *spatial, generator=generator("fine")).sign()
    assert torch.equal(pyramid_loss(target, target), torch.zeros(2))
    assert torch.allclose(pyramid_loss(coarse, target), torch.ones(2))
    if spatial:
        assert (pyramid_loss(fine, target) < pyramid_loss(coarse, target)).all()


@pytest.mark.parametrize("shape", [(2,), (1, 12), (1, 5, 8, 6)], ids=str)
def test_a_search_works_for_any_rank(shape: tuple[int, ...]) -> None:
    model = make_model("vae", VAE)
    model.build(shape, Unconditional(), generator("weights"))
    for step in range(20):
        x = torch.randn(16, *shape, generator=generator("data", step)).tanh()
        cond = Unconditional().null(16, shape[1:])
        model.step(Batch(x, cond, generator("step", step), step / 20))
    for network in model.networks.values():
        network.requires_grad_(False)
    run = {"shape": shape, "model": "vae"}
    space = Space(SimpleNamespace(model=model, run=run, condition=Unconditional()))  # type: ignore[arg-type]
    cond = Unconditional().null(2, shape[1:])
    x = space.x(space.codes(["all", "all"], [5, 6]), cond)
    z = search(space, x, cond, ["all", "all"], starts=8, steps=40, seed=0)
    other = space.x(space.codes(["all", "all"], [7, 8]), cond)
    assert (pyramid_loss(space.x(z, cond), x) < pyramid_loss(other, x)).all()


# ---- psi ------------------------------------------------------------------------------------------


@EVERY
def test_psi_1_is_the_sample_itself(name: str, runs: dict[str, Snapshot]) -> None:
    sheet = sibling.truncate(runs[name], psi=(0.3, 1.0), columns=6, seed=3)
    groups = list(runs[name].condition.classes)
    made = sibling.sample(runs[name], want=6, seed=3)
    for column in range(6):
        group, index = groups[column % len(groups)], column // len(groups)
        row = groups.index(group) * 6 + index
        assert np.array_equal(sheet.raw[6 + column], made.raw[row])
        assert sheet.y[6 + column] == made.table["y"][row]
    assert not np.array_equal(sheet.raw[:6], sheet.raw[6:])
    assert torch.equal(sheet.codes, sibling.truncate(runs[name], psi=(0.3, 1.0), columns=6, seed=3).codes)


def test_psi_0_of_a_gan_is_one_picture_a_group(runs: dict[str, Snapshot]) -> None:
    sheet = sibling.truncate(runs["gan"], psi=(0.0, 1.0), columns=8)
    centre, drawn = sheet.raw[:8], sheet.raw[8:]
    for side in (0, 1):
        assert (centre[side::2] == centre[side]).all()
        assert not (drawn[side::2] == drawn[side]).all()
    assert not np.array_equal(centre[0], centre[1])


def test_a_smaller_psi_varies_less(runs: dict[str, Snapshot]) -> None:
    for name in ("gan", "vae"):
        sheet = sibling.truncate(runs[name], psi=(0.2, 1.0), columns=32, group="left")
        spread = sheet.codes.reshape(2, 32, -1).std(1).mean(1)
        assert float(spread[0]) < float(spread[1])


def test_given_samples_are_those_of_sample(runs: dict[str, Snapshot]) -> None:
    sheet = sibling.truncate(runs["joint"], psi=(1.0,), given="side=left", columns=4)
    made = sibling.sample(runs["joint"], given={"side": "left"}, count=4)
    assert np.array_equal(sheet.raw, made.raw)
    assert {y["side"] for y in sheet.y} == {"left"}


# ---- D --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gan", "plain", "value"])
def test_reject_keeps_the_highest_scores_of_each_group(name: str, runs: dict[str, Snapshot]) -> None:
    run = runs[name]
    kept = sibling.reject(run, want=5, keep=0.25, seed=2)
    drawn = sibling.sample(run, want=20, seed=2)
    space, rows = Space(run), np.arange(len(drawn))
    scores = space.scores(drawn.x(rows), drawn.cond(rows)).numpy()
    place = {key: row for row, key in enumerate(drawn.table["key"])}
    assert len(kept) == 5 * len(run.condition.classes)
    groups = np.asarray(drawn.classes(rows))
    for group in run.condition.classes:
        own = [
            place[key]
            for key, g in zip(kept.table["key"], kept.classes(range(len(kept))), strict=True)
            if g == group
        ]
        rest = np.setdiff1d(np.flatnonzero(groups == group), own)
        assert len(own) == 5
        assert scores[own].min() >= scores[rest].max()
        assert own == sorted(own)
    noted = [info["scores"]["discriminator"] for info in kept.table["info"]]
    assert np.allclose(noted, [scores[place[key]] for key in kept.table["key"]], atol=1e-3)


def test_the_score_agrees_with_the_network(runs: dict[str, Snapshot]) -> None:
    run = runs["gan"]
    space = Space(run)
    x, cond = run.data.x(range(70)), run.data.cond(range(70))
    scores = space.scores(x, cond)
    for i in (0, 69):
        with torch.no_grad():
            features = space.critic(x[i : i + 1], cond.map[i : i + 1], sets=0)
            logit = space.critic.judge_pair(features, cond[[i]].vec)
        assert torch.allclose(scores[i], logit, atol=1e-4)
        assert torch.equal(space.scores(x[i : i + 1], cond[[i]]), scores[i : i + 1])


def test_reject_keeps_all_when_asked_and_writes_a_data_set(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    everything = sibling.reject(runs["gan"], want=3, keep=1.0)
    assert np.array_equal(everything.raw, sibling.sample(runs["gan"], want=3).raw)
    kept = sibling.reject(runs["gan"], want={"left": 2, "right": 0}, keep=0.7, out=tmp_path / "set")
    again = sibling.read(tmp_path / "set")
    assert len(kept) == len(again) == 2
    sibling.reject(runs["gan"], want=3, keep=0.5, out=tmp_path / "kept.png")
    assert tiles((tmp_path / "kept.png").read_bytes()) == (4, 3)
    sibling.reject(runs["gan"], want=3, keep=1, out=tmp_path / "all.png")
    assert tiles((tmp_path / "all.png").read_bytes()) == (2, 3)


# ---- from one to another --------------------------------------------------------------------------


@EVERY
def test_the_ends_of_a_way_are_the_samples_themselves(name: str, runs: dict[str, Snapshot]) -> None:
    groups = list(runs[name].condition.classes)
    way = sibling.interpolate(
        runs[name], group=groups[0], to_group=groups[-1], index=1, to_index=2, frames=5, seed=4
    )
    made = sibling.sample(runs[name], want=3, seed=4)
    assert np.array_equal(way.raw[0], made.raw[1])
    assert np.array_equal(way.raw[-1], made.raw[-1])
    assert [way.y[0], way.y[-1]] == [made.table["y"][1], made.table["y"][-1]]
    middle = (way.codes[0] + way.codes[-1]) / 2
    assert torch.allclose(way.codes[2], middle, atol=1e-6) == (name in ("vae", "joint"))


def test_numbers_on_the_way_are_numbers(runs: dict[str, Snapshot]) -> None:
    way = sibling.interpolate(runs["value"], given="shade=0.2", to_given={"shade": 0.8}, to_index=0, frames=4)
    assert [round(y["shade"], 6) for y in way.y] == [0.2, 0.4, 0.6, 0.8]
    first = draw_given(runs["value"], [({"shade": 0.2}, 1)], 0)
    last = draw_given(runs["value"], [({"shade": 0.8}, 1)], 0)
    assert np.array_equal(way.raw[[0, -1]], np.concatenate([first.raw, last.raw]))
    # Each step is told the encoding of its own number, not a mixture of two encodings.
    space = Space(runs["value"])
    x = space.x(way.codes[1:2], space.cond([way.y[1]]))
    assert np.array_equal(runs["value"].modality.to_raw(x)[0], way.raw[1])


def test_labels_on_the_way_are_mixed(runs: dict[str, Snapshot]) -> None:
    way = sibling.interpolate(runs["gan"], group="left", to_group="right", frames=3)
    space = Space(runs["gan"])
    half = space.x(way.codes[1:2], Cond(torch.full((1, 2), 0.5), torch.zeros(1, 0, 8, 8)))
    assert np.array_equal(runs["gan"].modality.to_raw(half)[0], way.raw[1])
    joint = sibling.interpolate(
        runs["joint"], given="side=left,shade=0.25", to_given="side=right,shade=0.75", frames=3
    )
    assert [y["shade"] for y in joint.y] == [0.25, 0.5, 0.75]
    assert [y["side"] for y in joint.y] == ["left", "right", "right"]


def test_a_way_between_real_pictures(runs: dict[str, Snapshot]) -> None:
    for name in ("vae", "normal"):
        run = runs[name]
        keys = [run.data.table["key"][i] for i in (0, 3)]
        way = sibling.interpolate(run, images=keys, frames=5)
        assert len(way) == len(way.y) == len(way.codes) == 7
        assert np.array_equal(way.raw[[0, -1]], run.data.raw[[0, 3]])
        made = sibling.project(run, keys)
        assert np.array_equal(way.raw[[1, -2]], made.raw[1::2])
        assert way.keys == keys


# ---- one code, many y -----------------------------------------------------------------------------


def test_vary_keeps_the_code_of_a_row(runs: dict[str, Snapshot]) -> None:
    for name in ("gan", "vae", "value"):
        sheet = sibling.vary(runs[name], rows=3, seed=5)
        groups = list(runs[name].condition.classes)
        codes = sheet.codes.reshape(3, len(groups), -1)
        assert (codes == codes[:, :1]).all()
        assert not torch.equal(codes[0], codes[1])
        assert runs[name].condition.groups(sheet.y) == groups * 3
        assert len({sheet.raw[i].tobytes() for i in range(len(groups))}) > 1


def test_looks_at_a_run_with_maps(
    tmp_path: Path, runs: dict[str, Snapshot], caplog: pytest.LogCaptureFixture
) -> None:
    raw, _ = blobs(40)
    data = dataset(raw, [None] * 40)
    data.table["y"] = [{"sketch": png(i)} for i in range(40)]
    mapped = Dataset(data.raw, data.table, data.modality, Map().fit(data.table["y"]))
    run = fitted(mapped, tmp_path / "run", "gan")
    sheet = sibling.vary(run, rows=2)
    assert sheet.columns == 8
    assert len({y["sketch"] for y in sheet.y}) > 1
    with pytest.raises(UsageError, match="sketch=FILE,FILE"):
        sibling.vary(run, over="sketch")
    way = sibling.interpolate(run, frames=3)
    assert np.array_equal(way.raw[[0, -1]], sibling.sample(run, want=2).raw)
    for each, told in ((run, True), (runs["gan"], False)):
        caplog.clear()
        assert len(sibling.reject(each, want=2)) == 2 * len(each.condition.classes)
        assert ("D then also chooses between maps" in caplog.text) == told


def test_rows_of_vary_are_samples_in_the_same_style(runs: dict[str, Snapshot]) -> None:
    sheet = sibling.vary(runs["gan"], rows=3, seed=5)
    made = sibling.sample(runs["gan"], want=3, seed=5, shared_style=True)
    assert np.array_equal(sheet.raw.reshape(3, 2, 1, 8, 8).swapaxes(0, 1).reshape(6, 1, 8, 8), made.raw)


def test_vary_over_numbers_changes_nothing_else(runs: dict[str, Snapshot]) -> None:
    sheet = sibling.vary(runs["joint"], over="shade=0.1:0.9:5", given="side=right", rows=2)
    assert sheet.columns == 5
    assert {y["side"] for y in sheet.y} == {"right"}
    assert [round(y["shade"], 6) for y in sheet.y[:5]] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert sheet.y[:5] == sheet.y[5:]
    free = sibling.vary(runs["joint"], over={"shade": [0.2, 0.4]}, rows=1)
    assert free.y[0]["side"] == free.y[1]["side"]
    kinds = sibling.vary(runs["joint"], over="side=left,right", given={"shade": 0.5}, rows=1)
    assert kinds.y == [{"side": "left", "shade": 0.5}, {"side": "right", "shade": 0.5}]
    assert sibling.vary(runs["gan"], over="label=right,left", rows=1).y == ["right", "left"]


def test_a_column_alone_varies_over_all_of_it(runs: dict[str, Snapshot]) -> None:
    sides = sibling.vary(runs["joint"], over="side", rows=1)
    assert [y["side"] for y in sides.y] == ["left", "right"]
    shades = [y["shade"] for y in sibling.vary(runs["joint"], over="shade", given="side=left", rows=1).y]
    low, high = next(part for part in runs["joint"].condition.parts if part.name == "value").ranges[0]  # type: ignore[attr-defined]
    assert shades == pytest.approx(np.linspace(low, high, 8))


def test_what_all_columns_have_in_common_is_said(runs: dict[str, Snapshot]) -> None:
    free = sibling.vary(runs["joint"], over="shade", rows=1)
    assert free.meaning.endswith(f" In all: side={free.y[0]['side']}.")
    sides = sibling.vary(runs["joint"], rows=1)
    assert sides.meaning.endswith(f" In all: shade={sides.y[0]['shade']:g}.")
    assert "In all" not in sibling.vary(runs["value"], rows=1).meaning
    assert "In all" not in sibling.vary(runs["gan"], rows=1).meaning


def test_a_file_of_the_data_set_is_pointed_to_its_key(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    for name, pointed in (("0000.png", True), ("10000.png", False)):
        (tmp_path / name).write_text(png(1))  # it is not opened
        with pytest.raises(UsageError, match="--given") as refused:
            sibling.project(runs["gan"], tmp_path / name)
        assert ("its y is known: 0000.png" in str(refused.value)) == pointed


# ---- real pictures --------------------------------------------------------------------------------


def random_errors(run: Snapshot, raw: np.ndarray, group: str) -> np.ndarray:
    """Root mean squared errors of the pictures of 16 random codes: what a search has to beat."""
    space = Space(run)
    z = space.codes([group] * 16, [seed_of("control", k) for k in range(16)])
    x = space.x(z, space.cond([group] * 16))
    return (x - run.modality.to_x(raw[None])).square().flatten(1).mean(1).sqrt().numpy()


@pytest.mark.parametrize("name", ["gan", "decoder"])
def test_a_search_finds_a_generated_picture_again(
    name: str, runs: dict[str, Snapshot], tmp_path: Path
) -> None:
    run = runs[name]
    space = Space(run)
    x = space.x(space.codes(["left", "right"], [1, 2]), space.cond(["left", "right"]))
    raw = run.modality.to_raw(x)
    for i, side in enumerate(("left", "right")):
        (tmp_path / f"{side}.png").write_bytes(run.modality.encode(raw[i]))
        sheet = sibling.project(run, tmp_path / f"{side}.png", given={"label": side}, steps=150)
        assert np.array_equal(sheet.raw[0], raw[i])
        control = random_errors(run, raw[i], side)
        assert sheet.errors[0] < 0.15 * np.median(control)


def test_a_search_does_not_depend_on_its_neighbours(runs: dict[str, Snapshot]) -> None:
    keys = runs["gan"].data.table["key"][:2]
    both = sibling.project(runs["gan"], keys, steps=20, starts=8)
    alone = sibling.project(runs["gan"], [keys[1]], steps=20, starts=8)
    assert torch.equal(both.codes[1], alone.codes[0])
    assert both.errors[1] == alone.errors[0]
    other = sibling.project(runs["gan"], [keys[1]], steps=20, starts=8, seed=1)
    assert not torch.equal(other.codes, alone.codes)


def test_the_encoder_gives_the_mean_of_the_posterior(runs: dict[str, Snapshot]) -> None:
    run = runs["vae"]
    sheet = sibling.project(run, run.data.table["key"][:3])
    model: Any = run.model
    mean, _ = model.encode(run.data.x(range(3)), run.data.cond(range(3)))
    assert torch.allclose(sheet.codes, mean, atol=1e-5)
    assert np.array_equal(sheet.raw[::2], run.data.raw[:3])
    x = run.modality.to_x(sheet.raw[1::2])
    errors = (x - run.data.x(range(3))).square().flatten(1).mean(1).sqrt()
    assert np.allclose(sheet.errors, errors, atol=0.01)
    searched = sibling.project(run, run.data.table["key"][:3], by="search", steps=100)
    assert np.mean(searched.errors) < np.mean(sheet.errors)


def test_codes_are_written_without_pickle(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    run = runs["joint"]
    keys = run.data.table["key"][:2]
    sheet = sibling.project(run, keys, codes=tmp_path / "codes.npz", out=tmp_path / "real.png")
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as saved:
        assert np.array_equal(saved["z"], sheet.codes.numpy())
        assert np.allclose(saved["rmse"], sheet.errors)
        assert saved["key"].tolist() == keys
        assert [json.loads(y) for y in saved["y"]] == run.data.table["y"][:2]
        assert str(saved["snapshot"]) == run.name
    assert tiles((tmp_path / "real.png").read_bytes()) == (2, 2)
    given = sibling.project(run, keys, given="side=left")
    assert [y["side"] for y in given.y] == ["left", "left"]
    assert [y["shade"] for y in given.y] == [y["shade"] for y in run.data.table["y"][:2]]


# ---- pictures -------------------------------------------------------------------------------------


def test_pictures_have_the_expected_size(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    run = runs["gan"]
    sibling.truncate(run, psi=(0, 0.5, 1), columns=5, out=tmp_path / "t.png")
    assert tiles((tmp_path / "t.png").read_bytes()) == (3, 5)
    sibling.interpolate(run, frames=9, out=tmp_path / "i.png")
    assert tiles((tmp_path / "i.png").read_bytes()) == (1, 9)
    sibling.interpolate(run, frames=15, out=tmp_path / "long.PNG")
    assert tiles((tmp_path / "long.PNG").read_bytes()) == (2, 12)
    sibling.vary(run, rows=3, out=tmp_path / "v.png")
    assert tiles((tmp_path / "v.png").read_bytes()) == (3, 2)


def test_a_gif_goes_there_and_back(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    for model, frames, size in ((sibling.interpolate, 6, (1, 1)), (sibling.vary, 2, (1, 3))):
        more: dict[str, Any] = (
            {"frames": 6, "to_group": "right"} if model is sibling.interpolate else {"rows": 3}
        )
        model(runs["vae"], out=tmp_path / "a.gif", seconds=0.2, overwrite=True, **more)
        with PIL.Image.open(tmp_path / "a.gif") as picture:
            assert picture.n_frames == max(2, 2 * frames - 2)  # type: ignore[attr-defined]
            assert picture.info["duration"] == 200
            assert picture.info["loop"] == 0
            assert picture.size == (2 + 58 * size[1], 2 + 58 * size[0])
    sheet = sibling.truncate(runs["vae"], psi=(0, 1), columns=2)
    assert sheet.gif(0.1) == sheet.gif(0.1)
    assert sheet.png() == sibling.truncate(str(runs["vae"].folder), psi=(0, 1), columns=2).png()


def test_nothing_is_overwritten_unasked(runs: dict[str, Snapshot], tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"mine")
    for call in (sibling.truncate, sibling.interpolate, sibling.vary, sibling.reject):
        with pytest.raises(UsageError, match="--overwrite"):
            call(runs["gan"], out=place)
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.project(runs["gan"], runs["gan"].data.table["key"][0], out=place)
    assert place.read_bytes() == b"mine"
    sibling.vary(runs["gan"], rows=1, out=place, overwrite=True)
    assert tiles(place.read_bytes()) == (1, 2)
    (tmp_path / "c.npz").write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.project(runs["vae"], runs["vae"].data.table["key"][0], codes=tmp_path / "c.npz")


# ---- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("bootstrap", lambda run: sibling.truncate(run), "'bootstrap' has no codes"),
        ("bootstrap", lambda run: sibling.vary(run), "--model vae or --model gan"),
        ("vae", lambda run: sibling.reject(run), r"no discriminator.*sibling curate"),
        ("gan", lambda run: sibling.reject(run, keep=0), "keep is 0"),
        ("gan", lambda run: sibling.reject(run, keep=1.5), "above 0 to 1"),
        ("gan", lambda run: sibling.reject(run, want="many"), "known: balance"),
        ("gan", lambda run: sibling.truncate(run, psi=(-1.0,)), "from 0 up"),
        ("gan", lambda run: sibling.truncate(run, psi=()), "from 0 up"),
        ("gan", lambda run: sibling.truncate(run, columns=0), "columns is 0"),
        ("gan", lambda run: sibling.truncate(run, group="lef"), "Did you mean 'left'"),
        ("gan", lambda run: sibling.truncate(run, group="left", given="label=left"), "Give one of them"),
        ("gan", lambda run: sibling.truncate(run, out="a.jpg"), r"\.png, or a \.gif"),
        ("gan", lambda run: sibling.truncate(run, seconds=0), "seconds is 0"),
        ("gan", lambda run: sibling.interpolate(run, frames=1), "frames is 1"),
        ("gan", lambda run: sibling.interpolate(run, index=-1), "index is -1"),
        ("gan", lambda run: sibling.interpolate(run, images=["0000.png"]), "two ends"),
        ("gan", lambda run: sibling.interpolate(run, images=["0000.png"] * 2, group="left"), "images and group"),
        ("gan", lambda run: sibling.vary(run, rows=0), "rows is 0"),
        ("gan", lambda run: sibling.vary(run, given="label=left"), "--over"),
        ("gan", lambda run: sibling.vary(run, over="shade=0:1:3"), "no column 'shade'"),
        ("gan", lambda run: sibling.vary(run, over="label="), "LOW:HIGH:COUNT"),
        ("gan", lambda run: sibling.vary(run, over="lable"), "Did you mean 'label'"),
        ("value", lambda run: sibling.vary(run, over="shade=0:1"), "shade=0:1:9"),
        ("joint", lambda run: sibling.vary(run, given="side=left"), "Known: side, shade"),
        ("value", lambda run: sibling.vary(run, over="shade=0:9:3"), "outside of the seen range"),
        ("value", lambda run: sibling.vary(run, over="shade=0:1:2.5"), "whole number"),
        ("value", lambda run: sibling.vary(run, over="shade=a:b:3"), "no finite number"),
        ("value", lambda run: sibling.vary(run, over={"shade": []}), "over a list of values"),
        ("value", lambda run: sibling.vary(run, over={"shade": 0.5}), "over a list of values"),
        ("gan", lambda run: sibling.vary(run, over={"label": "left"}), "over a list of values"),
        ("joint", lambda run: sibling.vary(run, over={"shade": [0, 1], "side": ["left"]}), "one column varies"),
        ("joint", lambda run: sibling.vary(run, over='{"shade": [0], "side": ["left"]}'), "one column varies"),
        ("gan", lambda run: sibling.vary(run, over={}), "one column varies"),
        ("value", lambda run: sibling.vary(run, over="shade=0:1:2", given="shade=0.5"), "shade is both given"),
        ("gan", lambda run: sibling.vary(run, over="label=left", given="label=right"), "label is both given"),
        ("plain", lambda run: sibling.truncate(run, given="label=left"), "no y"),
        ("plain", lambda run: sibling.vary(run, over="shade=0:1:3"), "no column 'shade'"),
        ("gan", lambda run: sibling.project(run, []), "images is empty"),
        ("gan", lambda run: sibling.project(run, "0000.png", by="magic"), "known: encoder, search"),
        ("gan", lambda run: sibling.project(run, "0000.png", by="encoder"), "--by search"),
        ("decoder", lambda run: sibling.project(run, "0000.png", by="encoder"), "no encoder"),
        ("gan", lambda run: sibling.project(run, "0000.png", steps=0), "steps is 0"),
        ("gan", lambda run: sibling.project(run, __file__), "--given"),
        ("gan", lambda run: sibling.project(run, "0000.png", codes="a.npy"), r"\.npz"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name: str, call: Any, said: str, runs: dict[str, Snapshot]) -> None:
    with pytest.raises(UsageError, match=said):
        call(runs[name])


def test_files_that_are_no_pictures_are_bad_input(runs: dict[str, Snapshot]) -> None:
    with pytest.raises(BadInput, match=r"neither a file nor a key.*0000\.png"):
        sibling.project(runs["gan"], "no such file")
    with pytest.raises(BadInput, match=r"test_latent\.py is not a picture"):
        sibling.project(runs["gan"], __file__, given="label=left")


def test_numbers_outside_of_what_was_seen_are_allowed_when_asked(runs: dict[str, Snapshot]) -> None:
    sheet = sibling.vary(runs["value"], over={"shade": [0.5, 1.5]}, rows=1, allow_outside=True)
    assert [y["shade"] for y in sheet.y] == [0.5, 1.5]


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A VAE, whose codes differ from group to group, of samples with any of two labels. Read only."""
    raw, names = blobs(80)
    data = dataset(raw, names)
    y = [[["wet"], [], ["caf\u00e9", "wet"]][i % 3] for i in range(80)]
    data.table["y"] = y
    known = Dataset(data.raw, data.table, data.modality, Labels().fit(y))
    return fitted(known, tmp_path_factory.mktemp("tags") / "run", "vae")


def test_a_group_that_was_never_seen_is_looked_at_like_any_other(tags: Snapshot) -> None:
    """Its code is one of a seen group, as `sample` makes it; no look ends in an error of a list."""
    new, allowed = {"labels": ["caf\u00e9"]}, {"allow_outside": True}
    own = sibling.sample(tags, given=new, count=2, **allowed)
    assert tags.condition.groups(own.table["y"][:1])[0] not in tags.condition.classes  # the control
    shown = sibling.truncate(tags, psi=(1.0,), given=new, columns=2, **allowed)
    assert np.array_equal(shown.raw, own.raw)
    way = sibling.interpolate(tags, given=new, to_given="labels=wet", frames=3, **allowed)
    assert np.array_equal(way.raw[0], own.raw[0])
    sheet = sibling.vary(tags, over={"labels": [["caf\u00e9"], ["wet"]]}, rows=2, **allowed)
    assert sheet.y == [["caf\u00e9"], ["wet"]] * 2
    key = tags.data.table["key"][0]
    searched = sibling.project(tags, key, given=new, by="search", starts=4, steps=2, **allowed)
    assert torch.isfinite(searched.codes).all()
    twice = sibling.project(tags, [key, key], given=new, by="search", starts=4, steps=2, **allowed)
    assert torch.equal(twice.codes, searched.codes.repeat(2, 1))  # whatever stands beside it
    for call in (sibling.truncate, sibling.interpolate):
        with pytest.raises(UsageError, match="--allow-outside"):
            call(tags, given=new)


def test_a_group_is_found_in_any_unicode_form(tags: Snapshot) -> None:
    one, two = (
        sibling.truncate(tags, psi=(1.0,), group=name, columns=1)
        for name in ("caf\u00e9+wet", "cafe\u0301+wet")
    )
    assert np.array_equal(one.raw, two.raw)


def test_labels_and_numbers_have_their_conditions(runs: dict[str, Snapshot]) -> None:
    """The control of this file: the runs are what their names say."""
    assert isinstance(runs["gan"].condition, Label)
    assert isinstance(runs["value"].condition, Value)
    assert isinstance(runs["joint"].condition, Joint)
    assert isinstance(runs["plain"].condition, Unconditional)
    assert isinstance(runs["gan"].modality, Image)
