"""What every entry of every table keeps, and every product of entries. A new entry is tested by being there."""

from __future__ import annotations

import base64
import inspect
import io
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image as Picture

import sibling
from sibling.conditions import CONDITIONS
from sibling.dataset import Dataset, make_condition, make_modality
from sibling.device import generator
from sibling.errors import BadInput, NumericalError, UnsafeFile, UsageError
from sibling.formats import FORMATS
from sibling.metrics import METRICS
from sibling.modalities import MODALITIES
from sibling.models import MODELS
from sibling.registry import lookup, names
from sibling.sample import draw
from sibling.snapshot import equip, make_model
from sibling.types import Batch, Condition, Format, Metric, Modality, Model

ALL = {
    "models": names(MODELS, "sibling.models"),
    "conditions": names(CONDITIONS, "sibling.conditions"),
    "modalities": names(MODALITIES, "sibling.modalities"),
    "formats": names(FORMATS, "sibling.formats"),
    "metrics": names(METRICS, "sibling.metrics"),
}


def png(seed: int, size: tuple[int, int] = (9, 13)) -> str:
    """A tiny gray picture as a map lies in y: a PNG in base64."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    Picture.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# 24 values of y that a condition can know; those of "label" serve a condition that is not named here.
VALUES: dict[str, list[Any]] = {
    "none": [None] * 24,
    "labels": [["hat"], ["hat", "smile"], [], ["smile"]] * 6,
    "value": [{"severity": i / 23, "size": float(i * 7 % 24)} for i in range(24)],
    "map": [{"conditioning_image": png(i)} for i in range(24)],
    "joint": [{"kind": ["leaf", "stem"][i % 2], "severity": i / 23} for i in range(24)],
}
MADE_FROM: dict[str, tuple[int, ...]] = {
    "signal": (16,),
    "audio": (4000,),
    "video": (5, 9, 8),
}  # shape of an array that is decoded; (9, 13) else


def condition_of(name: str) -> tuple[Condition, list[Any]]:
    y = VALUES.get(name, ["cat", "dog", "cat", "eel"] * 6)
    return lookup(CONDITIONS, "sibling.conditions", name)().fit(y), y


def modality_of(name: str, channels: int = 1, n: int = 24) -> tuple[Modality, np.ndarray]:
    """A modality that was chosen by looking at n random arrays, and their raw form."""
    rng = np.random.default_rng(0)
    shape = MADE_FROM.get(name, (9, 13))
    shape = shape if channels == 1 else (*shape, channels)
    sources: list[Any] = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(n)]
    if name == "text":
        sources = ["".join(rng.choice(list("ab(é日🙂 "), 9)).strip() + "." for _ in range(n)]
        sources = [np.array(source) for source in sources]
    kind = lookup(MODALITIES, "sibling.modalities", name)
    modality, _ = kind.choose([kind().look(source) for source in sources], size=None, most=64)
    return modality, np.stack([modality.decode(source) for source in sources])


def data_of(condition: str, modality: str, channels: int = 1) -> Dataset:
    known, y = condition_of(condition)
    kind, raw = modality_of(modality, channels, len(y))
    n = len(raw)
    table = {
        "key": [f"{i:03d}" for i in range(n)], "y": list(y), "origin": ["real"] * n,
        "split": (["train"] * 4 + ["val", "test"]) * (n // 6), "group": list(range(n)),
        "sha256": list(map(str, range(n))), "source": [None] * n, "info": [{} for _ in range(n)],
    }  # fmt: skip
    return Dataset(raw, table, kind, known)


# ---- models ---------------------------------------------------------------------------------------


def product(*tables: str) -> list[Any]:
    return [
        pytest.param(*entry, id="-".join(entry)) for entry in itertools.product(*(ALL[t] for t in tables))
    ]


def learnable(*tables: str) -> list[Any]:
    """The product of models and conditions without those that `misfit` says are refused, which a test of their own sees."""
    return [
        entry
        for entry in product(*tables)
        if "translate" not in entry.values
        or any(condition_of(name)[0].channels for name in entry.values if name in ALL["conditions"])
    ]


def small(name: str) -> dict[str, Any]:
    known = make_model(name, {}).arguments()
    return {key: value for key, value in {**TINY, "critic_width": 8}.items() if key in known}


def trained(name: str, data: Dataset) -> Model:
    model = make_model(name, small(name))
    model.build(data.shape, data.condition, generator("weights"))
    equip(model, data.modality)
    rows = data.rows("train")

    def batches() -> Iterator[tuple[Batch, list[str]]]:
        yield Batch(data.x(rows), data.cond(rows), generator("settle"), 1.0), data.classes(rows)

    for step in range(3):
        losses = model.step(Batch(data.x(rows), data.cond(rows), generator("step", step), step / 3))
        assert math.isfinite(losses["loss/total"])
        assert all(isinstance(value, float) for value in losses.values())
    total, count = model.validate(Batch(data.x(rows), data.cond(rows), generator("val"), 1.0))
    assert math.isfinite(total)
    assert count == len(rows)
    model.settle(batches, np.random.default_rng(0))
    return model


def misfit(model: str, data: Dataset) -> str:
    """Why a model cannot learn these data, as its error says it; "" where it can."""
    if model == "translate" and not data.condition.channels:
        return "needs a picture in y"
    return "two spatial axes" if data.condition.channels and len(data.shape) != 3 else ""


def samples(model: Model, data: Dataset) -> torch.Tensor:
    rows = data.rows("train")[:4]
    with torch.inference_mode():
        return model.sample(data.cond(rows), data.classes(rows), [1, 2, 3, 4])


@pytest.mark.parametrize(("model", "condition", "modality"), product("models", "conditions", "modalities"))
def test_a_model_trains_samples_and_comes_back_from_its_state(
    model: str, condition: str, modality: str
) -> None:
    data = data_of(condition, modality)
    if why := misfit(model, data):
        with pytest.raises(UsageError, match=why):
            trained(model, data)
        return
    made = trained(model, data)
    assert isinstance(made, Model)
    assert set(made.generating) <= set(made.networks)
    x = samples(made, data)
    assert x.shape == (4, *data.shape)
    assert x.dtype == torch.float32
    assert float(x.abs().max()) <= 1
    state = made.state()
    assert state
    assert all(torch.isfinite(value).all() for value in state.values())
    again = make_model(model, made.arguments())
    again.build(data.shape, data.condition, generator("other weights"))
    equip(again, data.modality)
    again.load(state)
    assert torch.equal(samples(again, data), x)
    assert again.state().keys() == state.keys()


@pytest.mark.parametrize("fault", ["unknown name", "name missing", "shape", "nan"])
@pytest.mark.parametrize(("model", "condition"), learnable("models", "conditions"))
def test_a_state_that_does_not_fit_is_refused(model: str, condition: str, fault: str) -> None:
    data = data_of(condition, ALL["modalities"][0])
    state = trained(model, data).state()
    for key, value in state.items():
        bad = dict(state)
        if fault == "unknown name":
            bad[key + "x"] = bad.pop(key)
        elif fault == "name missing":
            part, _, name = key.partition("/")
            if name and sum(other.startswith(f"{part}/") for other in state) == 1:
                continue  # a part of one name: without it the whole part is absent, as an encoder may be
            del bad[key]
        elif fault == "shape":
            bad[key] = value[None]
        elif value.is_floating_point():
            bad[key] = value.clone()
            bad[key].view(-1)[-1] = math.nan
        else:
            continue
        fresh = make_model(model, small(model))
        fresh.build(data.shape, data.condition, generator("weights"))
        with pytest.raises(UnsafeFile):
            fresh.load(bad)
    fresh.load(state)  # the control: what was refused was the fault


@pytest.mark.parametrize(("model", "condition"), product("models", "conditions"))
def test_sample_i_depends_on_snapshot_seed_i_and_y_alone(model: str, condition: str, tmp_path: Path) -> None:
    data = data_of(condition, ALL["modalities"][0])
    if why := misfit(model, data):
        with pytest.raises(UsageError, match=why):
            sibling.fit(data, out=tmp_path / "run", model=model, steps=5, tensorboard=False)
        assert not (tmp_path / "run").exists()
        return
    run = sibling.fit(
        data, out=tmp_path / "run", model=model, steps=5, arguments=small(model), tensorboard=False
    )
    first, *others = list(dict.fromkeys(data.classes(data.rows())))
    wanted = {first: range(70), **{name: range(3) for name in others}}
    whole = draw(run, wanted, seed=3)
    pixels = dict(zip(whole.table["key"], whole.raw, strict=True))
    backwards = draw(run, {name: wanted[name] for name in reversed(wanted)}, seed=3)
    for key, raw in zip(backwards.table["key"], backwards.raw, strict=True):
        assert np.array_equal(raw, pixels[key])
    for i in (0, 63, 69):  # one alone, wherever it lay in a batch
        alone = draw(run, {first: range(i, i + 1)}, seed=3)
        assert np.array_equal(alone.raw[0], pixels[alone.table["key"][0]])
    other = draw(run, {first: range(3)}, seed=4)
    assert not np.array_equal(other.raw, whole.raw[:3])
    assert not np.array_equal(whole.raw[0], whole.raw[1])


# ---- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL["conditions"])
def test_a_condition_keeps_its_contract(name: str) -> None:
    condition, y = condition_of(name)
    assert isinstance(condition, Condition)
    assert condition.name == name
    assert isinstance(condition.unambiguous, bool)
    for cond in (condition.encode(y, (4, 5)), condition.null(len(y), (4, 5))):
        assert cond.vec.shape == (len(y), condition.width)
        assert cond.map.shape == (len(y), condition.channels, 4, 5)
        assert cond.vec.dtype == cond.map.dtype == torch.float32
        assert len(cond[:2]) == 2
    rng = np.random.default_rng(0)
    drawn = condition.draw(50, rng)
    assert len(condition.encode(drawn, (4, 5))) == 50
    assert all(value in y for value in drawn)  # as the data have them
    assert list(dict.fromkeys(condition.classes)) == list(condition.classes)
    assert set(condition.groups(y)) == set(condition.classes)


@pytest.mark.parametrize("name", ALL["conditions"])
def test_a_condition_comes_back_from_its_json(name: str) -> None:
    condition, y = condition_of(name)
    saved = json.loads(json.dumps(condition.to_json(), allow_nan=False))
    assert saved == condition.to_json()
    again = make_condition(saved)
    assert again.to_json() == saved
    for what in ("width", "channels", "unambiguous"):
        assert getattr(again, what) == getattr(condition, what)
    for what in ("classes", "columns"):
        assert list(getattr(again, what)) == list(getattr(condition, what))
    for ask in (
        lambda c, r: c.draw(9, r),
        lambda c, r: c.within(c.classes[0], r),
        lambda c, r: c.complete({}, 3, r),
    ):
        assert ask(again, np.random.default_rng(3)) == ask(condition, np.random.default_rng(3))
    assert all(value in y for value in again.draw(9, np.random.default_rng(0)))


@pytest.mark.parametrize("name", ALL["conditions"])
def test_what_a_condition_tells_is_the_same_each_time_and_in_each_batch(name: str) -> None:
    condition, y = condition_of(name)
    again = make_condition(condition.to_json())
    first = condition.encode(y, (4, 5))
    for other in (condition.encode(y, (4, 5)), again.encode(y, (4, 5))):
        assert torch.equal(other.vec, first.vec)
        assert torch.equal(other.map, first.map)
    for i, value in enumerate(y):  # one alone, as `sample` may ask
        alone = condition.encode([value], (4, 5))
        assert torch.equal(alone.vec[0], first.vec[i])
        assert torch.equal(alone.map[0], first.map[i])


@pytest.mark.parametrize("name", ALL["conditions"])
def test_a_y_within_a_group_lies_in_it(name: str) -> None:
    condition, y = condition_of(name)
    rng = np.random.default_rng(0)
    for group in condition.classes:
        for _ in range(5):
            value = condition.within(group, rng)
            assert condition.groups([value]) == [group]
            assert value in y
    with pytest.raises(UsageError, match="Did you mean"):
        condition.within(condition.classes[0] + "q", rng)


def given_text(value: Any) -> str:
    """A value as a person writes it on the command line."""
    return "|".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("name", ALL["conditions"])
def test_complete_keeps_what_is_given_and_draws_the_rest(name: str) -> None:
    condition, y = condition_of(name)
    rng = np.random.default_rng(0)
    assert len(condition.complete({}, 7, rng)) == 7
    assert condition.complete({}, 0, rng) == []
    for column in condition.columns:
        for row in y[:6]:
            value = row[column] if isinstance(row, dict) else row
            for said in (value, given_text(value)):
                made = condition.complete({column: said}, 5, rng)
                assert len(made) == 5
                assert all((one[column] if isinstance(one, dict) else one) == value for one in made)
                condition.encode(made, (4, 5))
    if isinstance(y[0], dict):  # all of them at once
        assert condition.complete(y[3], 2, rng) == [y[3], y[3]]


@pytest.mark.parametrize("name", ALL["conditions"])
def test_complete_refuses_what_is_not_known(name: str) -> None:
    condition, y = condition_of(name)
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"no column|no y"):
        condition.complete({"qqqq": "1"}, 1, rng)
    for column in condition.columns:
        with pytest.raises(UsageError, match=f"Did you mean '{column}'"):
            condition.complete({column + "e": "1"}, 1, rng)
        value = y[0][column] if isinstance(y[0], dict) else y[0]
        if isinstance(value, list) or (isinstance(value, str) and not value.startswith("iVBOR")):
            with pytest.raises(UsageError, match="Did you mean"):
                condition.complete({column: given_text(value) + "t"}, 1, rng)
        else:
            with pytest.raises(UsageError, match=column):
                condition.complete({column: "qqqq"}, 1, rng)
        if isinstance(value, float):
            with pytest.raises(UsageError, match=r"outside .* 0 to .*--allow-outside.*allow_outside=True"):
                condition.complete({column: "99"}, 1, rng)
            made = condition.complete({column: "99"}, 2, rng, outside=True)  # type: ignore[call-arg]
            assert [one[column] for one in made] == [99.0, 99.0]
            assert torch.isfinite(condition.encode(made, (4, 5)).vec).all()
            assert set(condition.groups(made)) <= set(condition.classes)


@pytest.mark.parametrize("name", ALL["conditions"])
def test_a_mismatched_y_is_never_the_own_one(name: str) -> None:
    condition, y = condition_of(name)
    rng = np.random.default_rng(0)
    if condition.width + condition.channels == 0:
        with pytest.raises(UsageError):
            condition.mismatch(y, rng)
        return
    for _ in range(20):
        wrong = condition.mismatch(y, rng)
        assert len(wrong) == len(y)
        assert all(a != b for a, b in zip(wrong, y, strict=True))
        condition.encode(wrong, (4, 5))  # known values all the same
    only = type(condition)().fit([y[0]] * 3)
    with pytest.raises(UsageError, match="at least two"):
        only.mismatch([y[0]], rng)


@pytest.mark.parametrize("name", ALL["conditions"])
def test_a_vicinity_is_offered_where_y_is_a_number_and_nowhere_else(name: str) -> None:
    condition, y = condition_of(name)
    numbers = isinstance(y[0], dict) and any(isinstance(value, float) for value in y[0].values())
    assert hasattr(condition, "vicinity") == numbers
    assert hasattr(make_condition(condition.to_json()), "vicinity") == numbers


# ---- modalities -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ALL["modalities"])
def test_a_modality_keeps_its_contract(name: str, channels: int) -> None:
    modality, raw = modality_of(name, channels)
    assert isinstance(modality, Modality)
    assert raw.shape[1:] == modality.shape
    again = modality.decode(modality.encode(raw[0]))
    if lossless(modality):
        assert np.array_equal(again, raw[0])
    else:
        assert again.shape == raw[0].shape
    x = modality.to_x(raw)
    assert x.shape == raw.shape
    assert x.dtype == torch.float32
    assert -1 <= float(x.min()) < float(x.max()) <= 1
    assert np.array_equal(modality.to_raw(x), raw)
    assert torch.equal(modality.augment(x, 0.0, generator("a")), x)
    moved = modality.augment(x, 1.0, generator("a"))
    assert moved.shape == x.shape
    assert not torch.equal(moved, x)
    assert torch.equal(moved, modality.augment(x, 1.0, generator("a")))
    preview = modality.preview(raw)
    assert preview.dtype == np.uint8
    assert preview.ndim == 4
    assert preview.shape[3] == 3
    assert make_modality(modality.to_json()).to_json() == modality.to_json()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ALL["modalities"])
def test_a_sample_that_is_not_finite_is_never_written(name: str, value: float) -> None:
    modality, raw = modality_of(name)
    x = modality.to_x(raw)
    x.view(-1)[7] = value
    with pytest.raises(NumericalError):
        modality.to_raw(x)


# ---- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("format_name", "condition"), product("formats", "conditions"))
def test_what_is_written_is_read_again(
    format_name: str, condition: str, channels: int, tmp_path: Path
) -> None:
    kind = lookup(FORMATS, "sibling.formats", format_name)
    assert isinstance(kind(), Format)
    data = data_of(condition, "image", channels)
    if format_name == "texts":
        with pytest.raises(BadInput, match=r"holds texts.*--format folder"):
            sibling.write(data, out=tmp_path / "set", format=format_name)
        return
    out = sibling.write(data, out=tmp_path / "set", format=format_name)
    again = sibling.read(out, like=data)
    assert len(again) == len(data)
    content = sorted((raw.tobytes(), str(y), split) for raw, y, split in rows_of(data))
    assert sorted((raw.tobytes(), str(y), split) for raw, y, split in rows_of(again)) == content
    assert sibling.verify(out) == []


OTHERS = [name for name in ALL["modalities"] if name != "image"]


@pytest.mark.parametrize("modality", OTHERS)
@pytest.mark.parametrize(("format_name", "condition"), product("formats", "conditions"))
def test_other_modalities_are_read_again_or_refused_by_name(
    format_name: str, condition: str, modality: str, tmp_path: Path
) -> None:
    data = data_of(condition, modality)
    refused = {
        "idx": r"IDX holds 8-bit samples.*--format folder",
        "texts": r"holds (texts|no maps).*--format folder",
    }
    # Of these only clips are 8-bit arrays of two axes or more.
    no_idx = format_name == "idx" and modality != "video"
    if no_idx or (format_name == "texts" and (modality != "text" or condition == "map")):
        with pytest.raises(BadInput, match=refused[format_name]):
            sibling.write(data, out=tmp_path / "set", format=format_name)
        return
    out = sibling.write(data, out=tmp_path / "set", format=format_name)
    if condition == "map":
        # A tar shard has no place for the picture beside a sound: there it is missing.
        told = (
            "has no conditioning_image"
            if format_name == "webdataset"
            else "lies beside pictures; these samples are"
        )
        with pytest.raises((UsageError, BadInput), match=told):
            sibling.read(out, like=data)
        return
    for again in (sibling.read(out, like=data), sibling.read(out)):
        assert again.modality.name == modality
        assert again.condition.name == condition
        columns = ("y", "split")
        assert sorted(zip(*(map(str, again.table[c]) for c in columns), strict=True)) == sorted(
            zip(*(map(str, data.table[c]) for c in columns), strict=True)
        )
    if lossless(data.modality):
        same = sibling.read(out, like=data)
        assert sorted(raw.tobytes() for raw in same.raw) == sorted(raw.tobytes() for raw in data.raw)
    assert sibling.verify(out) == []


def lossless(modality: Modality) -> bool:
    """Whether what is encoded is decoded to the same raw; else nearly so."""
    return getattr(modality, "lossless", True)


def rows_of(data: Dataset) -> Iterator[tuple[np.ndarray, Any, str]]:
    names_of = {name: str(i) for i, name in enumerate(sorted({str(y) for y in data.table["y"]}))}
    for raw, y, split in zip(data.raw, data.table["y"], data.table["split"], strict=True):
        yield np.asarray(raw), names_of[str(y)], split  # IDX keeps classes as numbers, in their order


# ---- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL["metrics"])
def test_a_metric_keeps_its_contract(name: str) -> None:
    metric = lookup(METRICS, "sibling.metrics", name)()
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert metric.goal in ("min", "max")
    parameters = inspect.signature(metric).parameters
    assert {"real", "fake"} <= parameters.keys()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    few = torch.randn(1, 4, generator=generator("few"))
    assert math.isnan(metric(real=few, fake=few))
    many = torch.randn(60, 4, generator=generator("many"))
    low, high = metric.range
    assert low <= metric(real=many[:30], fake=many[30:]) <= high


# ---- format x condition x model -------------------------------------------------------------------


def said(data: Dataset) -> list[tuple[bytes, str, str, str]]:
    """What must come back of each sample: pixels, y, origin and split."""
    columns = (data.table[name] for name in ("y", "origin", "split"))
    return sorted(
        (np.asarray(raw).tobytes(), json.dumps(y, sort_keys=True), origin, split)
        for raw, y, origin, split in zip(data.raw, *columns, strict=True)
    )


@pytest.mark.parametrize(("format_name", "condition"), product("formats", "conditions"))
def test_a_condition_is_found_again_where_it_was_written(
    format_name: str, condition: str, tmp_path: Path
) -> None:
    data = data_of(condition, "text" if format_name == "texts" else "image")
    if format_name == "texts" and condition == "map":
        with pytest.raises(BadInput, match=r"holds no maps.*--format folder"):
            sibling.write(data, out=tmp_path / "once", format=format_name)
        return
    once = sibling.read(sibling.write(data, out=tmp_path / "once", format=format_name))
    again = sibling.read(sibling.write(once, out=tmp_path / "again", format=format_name))
    for found in (once, again):
        assert found.found["format"] == format_name
        assert found.condition.name == condition
        assert list(found.condition.columns) == list(data.condition.columns)
        assert said(found) == said(data)
        assert found.condition.to_json()["name"] == data.condition.to_json()["name"]


@pytest.mark.parametrize(("condition", "model"), learnable("conditions", "models"))
def test_what_a_model_makes_is_read_again_with_its_y(condition: str, model: str, tmp_path: Path) -> None:
    """In every format; one training serves them all."""
    data = data_of(condition, "image")
    run = sibling.fit(
        data, out=tmp_path / "run", model=model, steps=3, arguments=small(model), tensorboard=False
    )
    made = sibling.sample(run, want=2)
    assert all(y in data.table["y"] for y in made.table["y"])
    assert run.condition.groups(made.table["y"]) == [name for name in run.condition.classes for _ in "ab"]
    for format_name in [name for name in ALL["formats"] if name != "texts"]:
        out = sibling.write(data, made, out=tmp_path / format_name, format=format_name, against=run)
        assert (
            said(sibling.read(out)) == said(sibling.read(out, like=data)) == sorted(said(data) + said(made))
        )
        assert sibling.verify(out) == []
