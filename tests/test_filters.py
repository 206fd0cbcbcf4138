"""Each filter catches what is planted for it; real samples that nothing has seen are its control."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import blobs, dataset

import sibling
from sibling import files
from sibling.dataset import Dataset, condition_of, synthetic
from sibling.errors import UsageError
from sibling.filters import FILTERS, Filter, Finding, builders_of, filters_of
from sibling.filters.basis import LEAST, Real, Seen, tail
from sibling.filters.discriminator import LOWEST, LowScore
from sibling.filters.effect import Effect
from sibling.filters.manifold import _Space
from sibling.judge import FOLDS, cross_recognisers, folds_within
from sibling.snapshot import Snapshot


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    """Recognisers of 8 x 8 pictures need no 200 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sibling.judge.steps_for", lambda n: 60)
        patch.setattr("sibling.filters.effect.STEPS", 25)
        yield


@pytest.fixture(scope="module")
def real(run: Snapshot) -> Real:
    """The real digits, with recognisers that are trained once."""
    return Real(run, 0)


@pytest.fixture(scope="module")
def filters(real: Real) -> dict[str, Filter]:
    return {one.name: one for one in filters_of(builders_of(None), real)}


def made(raw: np.ndarray, y: list[Any], like: Dataset, **info: Any) -> Dataset:
    n = len(raw)
    keys = [f"made-{i:03d}" for i in range(n)]
    return synthetic(np.asarray(raw), list(y), keys, [{"index": i, **info} for i in range(n)], like)


def look(one: Filter, fakes: Dataset, real: Real) -> Finding:
    found = one.look(Seen(fakes, fakes.subset([]), real))
    assert found.wrong.shape == (len(fakes),)
    assert set(found.why) == set(np.flatnonzero(found.wrong).tolist())  # each with its reason
    return found


def unseen(real: Real) -> tuple[np.ndarray, list[Any]]:
    """Raw samples and y of the test part."""
    rows = real.data.rows("test", "real")
    return np.asarray(real.data.raw[rows]), real.data.y(rows)


def swapped(y: list[str]) -> list[str]:
    return [str((int(name) + 1) % 10) for name in y]


def in_memory(data: Dataset, model: Any = None) -> Real:
    """Real samples without a run folder."""
    snapshot: Any = SimpleNamespace(data=data, learned=data, model=model or SimpleNamespace(networks={}), run={
        "shape": data.shape, "model": "none"})  # fmt: skip
    return Real(snapshot, 0)


# ---- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_keeps_the_protocol(name: str, filters: dict[str, Filter]) -> None:
    one = filters[name]
    assert isinstance(one, Filter)
    assert one.meaning.endswith(".")
    assert one.rule
    assert one.calibrated_on
    assert (one.limit is None) == ("not looked at" in one.rule)


@pytest.mark.parametrize("name", FILTERS)
def test_real_samples_that_nothing_has_seen_pass(name: str, filters: dict[str, Filter], real: Real) -> None:
    """The control of every filter: of sixty at most three go, the false alarms that the limits allow and chance."""
    raw, y = unseen(real)
    assert look(filters[name], made(raw, y, real.data), real).wrong.sum() <= 3


def test_names_are_told_apart_and_what_looks_at_the_rest_comes_last(real: Real) -> None:
    with pytest.raises(UsageError, match=r"no filter 'copies'\. Did you mean 'copy'"):
        builders_of("copies")
    with pytest.raises(UsageError, match="no filter"):
        builders_of("")
    assert builders_of([]) == []
    assert len(builders_of(None)) == len(FILTERS)
    chosen = filters_of(builders_of("double, copy,double"), real)
    assert [one.name for one in chosen] == ["copy", "double"]


def test_a_new_filter_is_one_file_and_one_line(
    own_run: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        import numpy as np
        from sibling.filters import Finding

        class Dark:
            name, meaning, rule, limit = "dark", "Dark samples.", "a mean below the limit", -0.8
            calibrated_on, last = "nothing", False

            def look(self, seen):
                mean = seen.fakes.x(seen.rows).flatten(1).mean(1).numpy()
                return Finding(mean < self.limit, scores={"mean": mean})

        def build(real):
            return Dark()
    """
    (tmp_path / "plugin_dark.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FILTERS, "dark", "plugin_dark:build")
    raw, y = unseen(Real(own_run, 0))
    raw[:5] = 0
    fakes = made(raw[:20], y[:20], own_run.data)
    kept = sibling.curate(fakes, against=own_run, refill=False, filters=["dark"], effects=False)
    rows = files.read_jsonl(own_run.folder / "curation.jsonl")
    assert [(row["key"], row["reason"], row["detail"]) for row in rows] == [
        (f"made-{i:03d}", "dark", "a mean below the limit") for i in range(5)
    ]
    assert len(kept) == 15
    assert all(info["scores"]["mean"] >= -0.8 for info in kept.table["info"])


# ---- limits ---------------------------------------------------------------------------------------


def test_a_limit_leaves_the_share_beyond_that_it_says() -> None:
    numbers = np.random.default_rng(0).permutation(100).astype(float)
    high, low = tail(numbers, 0.02, upper=True), tail(numbers, 0.02, upper=False)
    assert ((numbers > high).sum(), (numbers < low).sum()) == (2, 2)
    few = np.array([3.0, math.nan, 1.0])
    assert (tail(few, upper=True), tail(few, upper=False)) == (3.0, 1.0)
    assert tail(few[:0], upper=True) == math.inf
    assert tail(few[1:2], upper=False) == -math.inf


def test_each_sample_is_left_out_once_and_duplicates_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(*blobs(90), test=0.0, val=0.0)
    data.table["group"] = [i // 3 if i < 30 else -1 for i in range(90)]
    rows = data.rows("train", "real")
    pairs = folds_within(data, rows, 0)
    assert len(pairs) == FOLDS
    assert sorted(np.concatenate([left for _, left in pairs]).tolist()) == rows.tolist()
    for seen, left in pairs:
        assert sorted([*seen, *left]) == rows.tolist()
        groups = [{data.table["group"][i] for i in part} - {-1} for part in (seen, left)]
        assert not groups[0] & groups[1]
        assert set(data.classes(left)) == {"left", "right"}
        assert 20 <= len(left) <= 40
    monkeypatch.setattr("sibling.judge.MOST_TRAIN", 80)
    assert len(folds_within(data, rows, 0)) == 1
    assert folds_within(data, rows[:1], 0) == []


def test_what_is_held_out_is_judged_by_whom_has_not_learned_it() -> None:
    """Labels that mean nothing: learned by heart, they are known; held out, they are guessed."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (72, 1, 8, 8)).astype(np.uint8)
    data = dataset(raw, [str(name) for name in rng.choice(["a", "b"], 72)], test=0.0, val=0.0)
    judges = cross_recognisers(data, folds_within(data, data.rows(), 0), 0)
    said, rows = judges.held_out()
    assert sorted(rows.tolist()) == list(range(72))
    numbers = np.array([["a", "b"].index(name) for name in data.classes(rows)])
    assert (said.argmax(1) == numbers).mean() < 0.7
    by_heart = judges(data, rows)  # two of three have learned each of these
    assert (by_heart.argmax(1) == numbers).mean() > 0.85
    assert by_heart.sum(1) == pytest.approx(np.ones(72))


def test_too_few_held_out_samples_set_no_limit() -> None:
    data = dataset(*blobs(24), test=0.2, val=0.1)
    one = in_memory(data)
    assert len(one.train) < LEAST
    fakes = made(np.full((6, 1, 8, 8), 255, np.uint8), ["left"] * 6, data)
    for name in ("unreal", "mislabelled", "off-manifold", "discriminator"):
        (idle,) = filters_of(builders_of(name), one)
        assert idle.limit is None
        assert "not looked at" in idle.rule
        assert not look(idle, fakes, one).wrong.any()
    (copy,) = filters_of(builders_of("copy"), one)
    assert copy.calibrated_on == "a fixed limit"


# ---- what each catches ----------------------------------------------------------------------------


def test_planted_faults_are_caught_by_the_filter_that_is_for_them(
    filters: dict[str, Filter], real: Real
) -> None:
    raw, y = unseen(real)
    rng, data = np.random.default_rng(0), real.data
    rows = real.train[::4]
    noise = rng.integers(0, 2, (30, *data.shape), dtype=np.uint8) * 255
    noisy = np.clip(raw.astype(int) + rng.normal(0, 110, raw.shape), 0, 255).astype(np.uint8)
    torn = np.array([rng.permutation(sample.ravel()).reshape(sample.shape) for sample in raw])
    planted: dict[str, list[tuple[Dataset, float]]] = {
        "copy": [(made(data.raw[rows], data.y(rows), data), 1.0)],
        "mislabelled": [(made(raw, swapped(y), data), 0.85)],
        "unreal": [(made(noise, ["3"] * 30, data), 0.9)],
        "off-manifold": [(made(noisy, y, data), 0.7), (made(torn, y, data), 0.9), (made(noise, ["3"] * 30, data), 1.0),
                         (made(raw, swapped(y), data), 0.8)],
    }  # fmt: skip
    for name, sets in planted.items():
        for fakes, least in sets:
            assert look(filters[name], fakes, real).wrong.mean() >= least, name
    assert look(filters["copy"], planted["mislabelled"][0][0], real).wrong.mean() == 0  # not by everything
    assert look(filters["mislabelled"], planted["copy"][0][0], real).wrong.mean() < 0.1
    assert look(filters["unreal"], planted["copy"][0][0], real).wrong.mean() == 0


def test_doubles_are_looked_for_among_what_is_left(filters: dict[str, Filter], real: Real) -> None:
    raw, y = unseen(real)
    fakes = made(np.concatenate([raw[:8]] * 2), y[:8] * 2, real.data)
    seen = Seen(fakes, fakes.subset([]), real)
    assert np.flatnonzero(filters["double"].look(seen).wrong).tolist() == list(range(8, 16))
    seen.staying[:4] = False  # the first of these pairs go for another reason
    assert np.flatnonzero(filters["double"].look(seen).wrong).tolist() == list(range(12, 16))
    again = Seen(fakes.subset(range(8)), fakes.subset(range(3)), real)  # three were kept before
    assert np.flatnonzero(filters["double"].look(again).wrong).tolist() == [0, 1, 2]


def test_the_distance_is_that_to_the_fifth_nearest_of_the_class() -> None:
    """Closed form: class a at 0, 1, 2, ... on a line, class b far away and ten times as wide apart."""
    place = np.concatenate([np.arange(60), 100 + np.arange(60) * 2]).astype(np.uint8)
    data = dataset(np.tile(place[:, None, None, None], (1, 1, 8, 8)), ["a"] * 60 + ["b"] * 60, test=0, val=0)
    one = in_memory(data)
    one.__dict__["folds"] = [(np.arange(120), np.arange(120))]  # a sample is its own nearest here
    space = _Space("line", [lambda x: (x.flatten(1).mean(1, keepdim=True) + 1) * 127.5], one)
    assert space.scale == pytest.approx([2, 4], abs=1e-3)  # itself, and two on either side
    fakes = made(np.full((2, 1, 8, 8), 100, np.uint8), ["a", "b"], data)
    distance = space(fakes, np.arange(2), np.array([0, 1]))
    assert distance == pytest.approx([(100 - 55) / 2, (108 - 100) / 4], abs=1e-3)


def test_samples_outside_of_what_was_seen_are_let_pass(filters: dict[str, Filter], real: Real) -> None:
    """Whoever asks for what no real sample shows must not lose it for that."""
    raw, y = unseen(real)
    fakes = made(raw, swapped(y), real.data, outside=True)
    found = look(filters["off-manifold"], fakes, real)
    assert not found.wrong.any()
    assert np.isnan(found.scores["manifold"]).all()


# ---- numbers --------------------------------------------------------------------------------------


def bars(n: int, seed: int) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Pictures as bright on the left as their severity says, and a number that they do not show."""
    rng = np.random.default_rng(seed)
    severity, hidden = rng.random(n), rng.random(n)
    raw = rng.integers(0, 40, (n, 1, 8, 8))
    raw[..., :4] += (200 * severity).astype(int)[:, None, None, None]
    y = [{"severity": float(a), "hidden": float(b)} for a, b in zip(severity, hidden, strict=True)]
    return raw.astype(np.uint8), y


def test_wrong_numbers_go_and_what_nobody_can_read_is_not_looked_at() -> None:
    raw, y = bars(240, 0)
    data = dataset(raw, [None] * 240)
    data.condition = condition_of({"severity": "value", "hidden": "value"}).fit(y)
    data.table["y"] = y
    one = in_memory(data)
    (judge,) = filters_of(builders_of("mislabelled"), one)
    assert "hidden is not looked at" in judge.rule
    assert judge.limit is not None
    assert 0 < judge.limit < 0.3
    raw, y = bars(100, 5)
    honest, lying = made(raw, y, data), made(raw, y[::-1], data)
    assert look(judge, honest, one).wrong.mean() <= 0.06
    caught = look(judge, lying, one)
    off = np.array([abs(a["severity"] - b["severity"]) for a, b in zip(y, y[::-1], strict=True)])
    assert caught.wrong[off > judge.limit + 0.15].all()
    assert caught.scores["error_severity"] == pytest.approx(off, abs=0.15)
    assert "was asked for" in next(iter(caught.why.values()))
    for row in lying.table["info"]:
        row["outside"] = True
    assert not look(judge, lying, one).wrong.any()


# ---- the discriminator ----------------------------------------------------------------------------


class Scored:
    """A discriminator that reads its logit off the first pixel, and off the class."""

    def scores(self, x: torch.Tensor, cond: Any) -> torch.Tensor:
        return x.flatten(1)[:, 0] * 100 + 50 * cond.vec[:, 0]


def scored(logits: np.ndarray, names: list[str], like: Dataset | None = None) -> Any:
    raw = np.zeros((len(logits), 1, 8, 8), np.uint8)
    raw[:, 0, 0, 0] = np.round((logits / 100 + 1) * 127.5)
    return dataset(raw, names, test=0.0, val=0.3) if like is None else made(raw, names, like)


@pytest.fixture
def game() -> tuple[Real, LowScore]:
    """Real samples with logits around 40, two classes; the second has logits higher by 50 for no reason of its own."""
    rng = np.random.default_rng(0)
    data = scored(rng.normal(40, 5, 800), ["left", "right"] * 400)
    one = in_memory(data)
    return one, LowScore(one, Scored())  # type: ignore[arg-type]


def test_fakes_as_good_as_held_out_ones_lose_next_to_none(game: tuple[Real, LowScore]) -> None:
    one, judge = game
    rng = np.random.default_rng(1)
    names = ["left", "right"] * 300
    alike = look(judge, scored(rng.normal(40, 5, 600), names, one.data), one)
    assert 0 < alike.wrong.mean() <= 0.035
    judge.lowest = None  # as at a first look: a twentieth is the lowest, and none of it is too low
    assert not look(judge, scored(rng.normal(55, 5, 600), names, one.data), one).wrong.any()


def test_a_discriminator_that_knows_every_fake_does_not_empty_the_set(game: tuple[Real, LowScore]) -> None:
    one, judge = game
    rng, names = np.random.default_rng(1), ["left", "right"] * 40
    logits = np.concatenate(
        [rng.permutation(40)[:, None] - 80.0, rng.permutation(40)[:, None] - 70.0], 1
    ).ravel()
    first = look(judge, scored(logits, names, one.data), one)
    lowest = [
        i for i in range(80) if logits[i] < (-78, -68)[i % 2]
    ]  # of each class its own, whatever the other's are
    assert np.flatnonzero(first.wrong).tolist() == lowest
    assert len(lowest) == LOWEST * 80
    # The limit stays: all of worse ones go, none of better ones.
    assert look(judge, scored(np.full(40, -90.0), names[:40], one.data), one).wrong.all()
    assert not look(judge, scored(np.full(40, -40.0), names[:40], one.data), one).wrong.any()


def test_a_few_fakes_have_no_lowest_twentieth(game: tuple[Real, LowScore]) -> None:
    one, judge = game
    logits = np.concatenate([np.full(30, -60.0), np.linspace(-90, -60, LEAST - 1)])
    found = look(judge, scored(logits, ["left"] * 30 + ["right"] * (LEAST - 1), one.data), one)
    assert not found.wrong[30:].any()


def test_the_discriminator_of_a_run_is_asked(
    data: Dataset, tmp_path: Path, filters: dict[str, Filter]
) -> None:
    assert "keeps no discriminator" in filters["discriminator"].rule  # that of a VAE
    small = {"width": 8, "critic_width": 8, "latent": 4}
    run = sibling.fit(
        data, out=tmp_path / "gan", model="gan", steps=40, batch=16, arguments=small, tensorboard=False
    )
    fakes = sibling.sample(run, want=20)
    kept = sibling.curate(fakes, against=run, refill=False, filters="discriminator", effects=False)
    summary = files.read_json(run.folder / "curation.json")
    assert "lowest 5%" in summary["rules"][0]
    assert len(fakes) - len(kept) <= LOWEST * len(fakes)
    assert all(math.isfinite(info["scores"]["discriminator"]) for info in kept.table["info"])


# ---- what dropping does ---------------------------------------------------------------------------


def halves(real: Real) -> tuple[Dataset, np.ndarray]:
    """All real digits as fakes, every second with a wrong label, and which of them have one."""
    rows = real.train
    bad = np.arange(len(rows)) % 2 == 1
    names = [
        w if b else n for n, w, b in zip(real.data.y(rows), swapped(real.data.y(rows)), bad, strict=True)
    ]
    return made(real.data.raw[rows], names, real.data), bad


def test_utility_rises_where_what_harms_is_dropped(real: Real, filters: dict[str, Filter]) -> None:
    fakes, bad = halves(real)
    effect = Effect(real, Seen(fakes, fakes.subset([]), real))
    one = filters["mislabelled"]
    right, wrong, none = effect(one, bad), effect(one, ~bad), effect(one, np.zeros(len(bad), bool))
    assert right["dropped"] == bad.sum()
    assert right["of"] == len(bad)
    assert right["utility_after"] > right["utility_before"] + 0.1
    assert wrong["utility_after"] < 0.3  # the control: those with the right labels are dropped
    assert none["utility_after"] == none["utility_before"] == right["utility_before"]
    assert "30 real val samples" in right["meaning"]
    assert right["diversity_after"] == pytest.approx(right["diversity_before"], rel=0.1)


def test_diversity_rises_where_repeats_are_dropped(real: Real, filters: dict[str, Filter]) -> None:
    """Closed form: m + n samples of which n are one and the same, and the same without n - 1 of them."""
    raw, y = unseen(real)
    fakes = made(np.concatenate([raw, np.repeat(raw[:1], 60, 0)]), y + y[:1] * 60, real.data)
    effect = Effect(real, Seen(fakes, fakes.subset([]), real))
    row = effect(filters["double"], np.arange(120) >= 60)
    assert row["diversity_before"] < 0.85
    assert row["diversity_after"] == pytest.approx(1, abs=0.1)
    everything = effect(filters["double"], np.ones(120, bool))
    assert everything["diversity_after"] is None
    assert everything["utility_after"] is None


def test_there_is_no_utility_where_it_would_be_chance_or_y_is_a_number(filters: dict[str, Filter]) -> None:
    few = in_memory(dataset(*blobs(60)))
    raw, y = bars(60, 0)
    numbers = dataset(raw, [None] * 60)
    numbers.condition = condition_of({"severity": "value", "hidden": "value"}).fit(y)
    numbers.table["y"] = y
    for one, said in ((few, "too few"), (in_memory(numbers), "no classes")):
        rows = one.train
        fakes = made(one.data.raw[rows], one.data.y(rows), one.data)
        row = Effect(one, Seen(fakes, fakes.subset([]), one))(filters["copy"], np.zeros(len(rows), bool))
        assert row["utility_before"] is None
        assert row["utility_after"] is None
        assert said in row["meaning"]
        assert row["diversity_before"] == pytest.approx(1)


def test_curation_tells_what_each_filter_did(own_run: Snapshot) -> None:
    real = Real(own_run, 0)
    raw, y = unseen(real)
    rows = real.train[:10]
    fakes = made(np.concatenate([raw, real.data.raw[rows]]), y + real.data.y(rows), real.data)
    sibling.curate(fakes, against=own_run, refill=False, filters="double,copy")
    summary = files.read_json(own_run.folder / "curation.json")
    copy, double = summary["filters"]
    assert set(copy) == {
        "name", "dropped", "of", "limit", "calibrated_on", "diversity_before", "diversity_after", "utility_before",
        "utility_after", "meaning",
    }  # fmt: skip
    assert (copy["name"], copy["dropped"], copy["of"]) == ("copy", 10, 70)
    assert (double["name"], double["dropped"], double["limit"]) == ("double", 0, 0.25)
    assert 0 <= copy["utility_after"] <= 1
    assert len(summary["rules"]) == 2
    sibling.curate(fakes, against=own_run, refill=False, filters=["copy"], effects=False)
    assert files.read_json(own_run.folder / "curation.json")["filters"] == []
