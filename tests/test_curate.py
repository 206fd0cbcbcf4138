"""Planted copies, doubles and wrong labels go with the right reason; fresh real samples stay."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs

import sibling
from sibling import files
from sibling.dataset import Dataset, synthetic
from sibling.errors import BadInput, UsageError
from sibling.snapshot import Snapshot
from sibling.subject import subject_of


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recogniser of 8 x 8 digits needs no 200 steps."""
    monkeypatch.setattr("sibling.judge.steps_for", lambda n: 50)
    monkeypatch.setattr("sibling.filters.effect.STEPS", 10)


def as_fakes(raw: np.ndarray, y: list[str], like: Dataset) -> Dataset:
    n = len(raw)
    info = [{"seed": 0, "index": i} for i in range(n)]
    return synthetic(np.asarray(raw), list(y), [f"planted-{i:03d}" for i in range(n)], info, like)


def reasons(run: Snapshot) -> dict[str, str]:
    return {row["key"]: row["reason"] for row in files.read_jsonl(run.folder / "curation.jsonl")}


def curated(fakes: Dataset, run: Snapshot) -> tuple[Dataset, dict[str, str]]:
    kept = sibling.curate(fakes, against=run, refill=False, effects=False)
    dropped = reasons(run)
    assert set(kept.table["key"]) | set(dropped) == set(fakes.table["key"])
    assert not set(kept.table["key"]) & set(dropped)
    return kept, dropped


def test_fresh_real_samples_pass(own_run: Snapshot) -> None:
    """The control of every rule: real samples that nothing has seen are what fakes should be."""
    data = own_run.data
    rows = data.rows("test", "real")
    kept, dropped = curated(as_fakes(data.raw[rows], data.y(rows), data), own_run)
    assert len(kept) >= 0.9 * len(rows), Counter(dropped.values())


def test_copies_of_training_samples_go(own_run: Snapshot) -> None:
    data, rng = own_run.data, np.random.default_rng(0)
    rows = data.rows("train", "real")[::7]
    exact = np.asarray(data.raw[rows])
    near = np.clip(exact.astype(int) + rng.integers(-6, 7, exact.shape), 0, 255).astype(np.uint8)
    brighter = np.clip(exact.astype(int) * 0.9 + 8, 0, 255).astype(np.uint8)
    for planted, least in ((exact, 1.0), (near, 0.95), (brighter, 0.9)):
        _, dropped = curated(as_fakes(planted, data.y(rows), data), own_run)
        assert Counter(dropped.values())["copy"] >= least * len(rows)


def test_a_copy_names_what_it_copies(own_run: Snapshot) -> None:
    data = own_run.data
    row = int(data.rows("train", "real")[3])
    curated(as_fakes(data.raw[[row]], data.y([row]), data), own_run)
    (found,) = files.read_jsonl(own_run.folder / "curation.jsonl")
    assert found["reason"] == "copy"
    assert found["nearest_real"] == data.table["key"][row]
    assert found["detail"]


def test_doubles_go_and_the_first_stays(own_run: Snapshot) -> None:
    data = own_run.data
    rows = data.rows("test", "real")[:12]
    fakes = as_fakes(np.concatenate([data.raw[rows]] * 2), data.y(rows) * 2, data)
    kept, dropped = curated(fakes, own_run)
    second = [f"planted-{i:03d}" for i in range(12, 24)]
    first_kept = {key for key in kept.table["key"] if key not in second}
    assert all(
        dropped[key] == "double" for key in second if f"planted-{int(key[-3:]) - 12:03d}" in first_kept
    )
    assert len(first_kept) >= 10


def test_swapped_labels_go_and_right_ones_stay(own_run: Snapshot) -> None:
    data = own_run.data
    rows = data.rows("test", "real")
    swapped = [str((int(name) + 1) % 10) for name in data.y(rows)]
    _, dropped = curated(as_fakes(data.raw[rows], swapped, data), own_run)
    assert Counter(dropped.values())["mislabelled"] >= 0.85 * len(rows)


def test_noise_is_unreal(own_run: Snapshot) -> None:
    data = own_run.data
    noise = np.random.default_rng(0).integers(0, 2, (10, *data.shape), dtype=np.uint8) * 255
    kept, dropped = curated(as_fakes(noise, ["3"] * 10, data), own_run)
    assert len(kept) == 0
    assert set(dropped.values()) <= {"unreal", "mislabelled"}
    assert "unreal" in dropped.values()


def test_refill_reaches_the_wanted_count(own_run: Snapshot) -> None:
    """One rule that drops some of the fakes: then others of the same class take their places."""
    made = sibling.sample(own_run, want={"1": 6, "4": 6})
    data = own_run.data
    made.raw[:3] = data.raw[data.rows("train", "real")[:3]]  # three copies
    kept = sibling.curate(made, against=own_run, rounds=60)
    assert Counter(kept.table["y"]) == {"1": 6, "4": 6}
    assert not {"1/synthetic-000000", "1/synthetic-000001"} & set(kept.table["key"])
    assert len(set(kept.table["key"])) == 12
    summary = files.read_json(own_run.folder / "curation.json")
    assert summary["asked"] == summary["kept"] == 12
    assert summary["dropped"]["copy"] >= 1
    assert summary["rounds"] >= 2
    assert len(summary["rules"]) == len(summary["filters"]) == 6


def test_what_is_refilled_is_what_sample_would_have_drawn_next(own_run: Snapshot) -> None:
    made = sibling.sample(own_run, want={"0": 3})
    made.raw[0] = own_run.data.raw[own_run.data.rows("train", "real")[0]]
    kept = sibling.curate(made, against=own_run, rounds=60)
    more = sibling.sample(own_run, want={"0": 400})
    pixels = dict(zip(more.table["key"], map(bytes, more.raw), strict=True))
    refilled = [i for i, key in enumerate(kept.table["key"]) if key not in made.table["key"]]
    assert refilled
    assert all(bytes(kept.raw[i]) == pixels[kept.table["key"][i]] for i in refilled)


def test_without_refill_the_rest_is_kept_and_said(
    own_run: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    data = own_run.data
    rows = data.rows("train", "real")[:5]
    kept = sibling.curate(as_fakes(data.raw[rows], data.y(rows), data), against=own_run, refill=False)
    assert len(kept) == 0
    assert "Fewer than asked for" in caplog.text
    assert " 0 of " in caplog.text  # each class by name


def test_kept_samples_carry_their_scores(own_run: Snapshot) -> None:
    data = own_run.data
    rows = data.rows("test", "real")[:10]
    kept, _ = curated(as_fakes(data.raw[rows], data.y(rows), data), own_run)
    for info in kept.table["info"]:
        assert info["nearest_real"] in data.table["key"]
        assert {"copy_ratio", "label_agreement"} <= info["scores"].keys()


def test_nothing_that_judges_has_seen_the_test_part(own_run: Snapshot) -> None:
    """The same fakes get the same answers when the test pictures are replaced by noise."""
    made = sibling.sample(own_run, want=3)
    first = sibling.curate(made, against=own_run, refill=False)
    answers = reasons(own_run)
    scores = [dict(info["scores"]) for info in first.table["info"]]
    data = own_run.data
    raw = np.array(data.raw)
    raw[data.rows("test")] = np.random.default_rng(0).integers(0, 256, raw[data.rows("test")].shape)
    data.raw = raw
    again = sibling.curate(made, against=own_run, refill=False)
    assert reasons(own_run) == answers
    assert [info["scores"] for info in again.table["info"]] == scores


def test_a_folder_is_curated_into_a_folder(own_run: Snapshot, tmp_path: Path) -> None:
    sibling.sample(own_run, want={"1": 4}, out=tmp_path / "made")
    before = (tmp_path / "made" / "MANIFEST.json").read_bytes()
    kept = sibling.curate(tmp_path / "made", against=own_run.folder, rounds=40)
    assert len(kept) == 4
    assert sibling.verify(tmp_path / "made-curated") == []
    assert (tmp_path / "made" / "MANIFEST.json").read_bytes() == before
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.curate(tmp_path / "made", against=own_run.folder)


def test_what_curation_found_is_told_of_the_samples_that_it_looked_at(
    own_run: Snapshot, tmp_path: Path
) -> None:
    made = sibling.sample(own_run, want={"1": 4, "2": 4})
    kept = sibling.curate(made, against=own_run, rounds=40)
    sibling.write(fake=kept, out=tmp_path / "kept", against=own_run)

    def told(fake: Dataset | Path) -> bool:
        return any("Before curation" in note for note in subject_of(fake, own_run, tmp_path / "out").notes)

    assert told(kept)
    assert told(tmp_path / "kept")  # written and read again
    assert not told(sibling.sample(own_run, want={"1": 4, "2": 5}))  # the control: never curated
    with pytest.raises(UsageError, match="leave it out"):
        subject_of(tmp_path / "kept", own_run, None, "digit")


def test_classes_that_the_run_does_not_know_are_named(own_run: Snapshot, tmp_path: Path) -> None:
    raw, _ = blobs(3)
    for i, sample in enumerate(raw):
        (tmp_path / "made" / "zebra").mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / "zebra" / f"{i}.png").write_bytes(own_run.data.modality.encode(sample))
    rows = [{"file_name": f"zebra/{i}.png", "label": "zebra", "origin": "synthetic"} for i in range(3)]
    (tmp_path / "made" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInput, match="class 'zebra', which the run does not know"):
        sibling.curate(tmp_path / "made", against=own_run)


def test_nothing_to_curate_is_no_error(own_run: Snapshot) -> None:
    data = own_run.data
    kept = sibling.curate(as_fakes(data.raw[:0], [], data), against=own_run)
    assert len(kept) == 0
    assert files.read_json(own_run.folder / "curation.json")["asked"] == 0


def test_samples_of_another_run_are_refused(own_run: Snapshot) -> None:
    """That run's generator may have learned from this run's test part."""
    made = sibling.sample(own_run, want=2)
    assert len(sibling.curate(made, against=own_run, refill=False)) <= len(made)  # its own are welcome
    made.table["info"][1]["snapshot"] = "somebody else"
    with pytest.raises(UsageError, match="come from the snapshot somebody else"):
        sibling.curate(made, against=own_run)


def test_real_samples_are_not_curated(own_run: Snapshot) -> None:
    with pytest.raises(BadInput, match="no synthetic samples"):
        sibling.curate(own_run.data, against=own_run)
