"""A place on disk -> a frozen Dataset, or one line that says what to do; nothing half-written."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import badzoo
import numpy as np
import PIL.Image
import pytest

import sibling
from sibling import intake
from sibling.dataset import Dataset, condition_of, kinds_of
from sibling.errors import BadInput, SiblingError, UsageError
from sibling.read import describe, read, require_real

# ---- what is found, and the frozen split -------------------------------------------------------


def test_everything_is_said(digits: Path) -> None:
    lines = describe(read(digits))
    text = "\n".join(lines)
    for part in (
        "classes     10: 0 30",
        "8x8 (300)",
        "L (300)",
        "duplicates  0 exact",
        "bad files   0",
        "split       test 60, train 210, val 30",
        "working size 8 x 8",
        "1 x 8 x 8",
        "mirroring   never",
    ):
        assert part in text


def test_the_split_is_frozen(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in", each=20)
    first, second, other = read(place), read(place), read(place, seed=1)
    assert first.found["split_hash"] == second.found["split_hash"] != other.found["split_hash"]
    assert first.table["split"] == second.table["split"]
    assert first.fingerprint() == second.fingerprint()
    assert Counter(zip(first.table["y"], first.table["split"], strict=True)) == {
        (name, part): n for name in ("cat", "dog") for part, n in (("train", 14), ("test", 4), ("val", 2))
    }


def test_copies_are_on_one_side(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in", each=20)
    for i in range(10):
        content = (place / "cat" / f"{i:03d}.png").read_bytes()
        badzoo.put(place / "cat" / f"copy-{i}.png", content)
        badzoo.put(place / "dog" / f"wrong-{i}.png", content)
    data = read(place)
    homes = defaultdict(set)
    for number, part in zip(data.table["group"], data.table["split"], strict=True):
        homes[number].add(part)
    assert all(len(home) == 1 for home in homes.values())
    assert data.found["exact_duplicates"] == 20
    assert len(data.found["contradictions"]) == 10
    assert "cat/000.png (cat), cat/copy-0.png (cat), dog/wrong-0.png (dog)" in "\n".join(describe(data))


def test_training_copies_of_a_given_test_part_are_left_out(tmp_path: Path) -> None:
    badzoo.classes(tmp_path / "train", each=20)
    badzoo.classes(tmp_path / "test", each=3)  # the same pictures as the first of train
    data = read(tmp_path)
    assert data.found["leaks"] == 6
    assert Counter(data.table["split"])["test"] == 6
    held = {
        sha for sha, part in zip(data.table["sha256"], data.table["split"], strict=True) if part == "test"
    }
    learned = {
        sha for sha, part in zip(data.table["sha256"], data.table["split"], strict=True) if part == "train"
    }
    assert not held & learned


def test_synthetic_samples_are_never_held_out(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in", (".",), each=40)
    rows = [
        {
            "file_name": f"{i:03d}.png",
            "label": "a",
            "origin": ["real", "synthetic"][i % 2],
            "split": "test" if i < 4 else "",
        }
        for i in range(40)
    ]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = read(place)
    parts = Counter(zip(data.table["origin"], data.table["split"], strict=True))
    assert parts["synthetic", "train"] == 20
    assert parts["real", "test"] == 2
    assert set(data.table["group"][i] for i in range(40) if data.table["origin"][i] == "synthetic") == {-1}
    assert len(require_real(data)) == parts["real", "train"]


def drawn_values(condition: Any) -> str:
    """What a condition remembers for drawing, as text."""
    saved = {name: value for name, value in condition.to_json().items() if name in ("rows", "maps", "ranges")}
    parts = condition.to_json().get("parts", [])
    return json.dumps([saved, *({n: p[n] for n in ("rows", "maps", "ranges") if n in p} for p in parts)])


@pytest.mark.parametrize(
    "columns", [["severity"], ["m_mask"], ["label", "severity"], ["label", "m_mask"]], ids=str
)
def test_no_held_out_value_is_ever_drawn(tmp_path: Path, columns: list[str]) -> None:
    """Of test, val, what was left out as a copy of these, and synthetic samples."""
    place = badzoo.classes(tmp_path / "in", (".",), each=60)
    badzoo.put(place / "006.png", (place / "000.png").read_bytes())  # a copy of a test sample: left out
    rows = []
    for i in range(60):
        part = ["test", "val"][i % 2] if i < 6 else "train"
        mask = np.full((16, 16), i, np.uint8)
        if "m_mask" in columns:
            badzoo.put(place / "masks" / f"{i:03d}.png", badzoo.save(PIL.Image.fromarray(mask), "PNG"))
        row = {
            "file_name": f"{i:03d}.png", "split": part, "origin": "synthetic" if i in (7, 8) else "real",
            "label": "rare" if i < 2 else "ab"[i % 2], "severity": 0.5 + (i - 30) / 8,
            "m_mask": f"masks/{i:03d}.png",
        }  # fmt: skip
        rows.append({name: row[name] for name in ("file_name", "split", "origin", *columns)})
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = read(place, label_column=columns)
    splits, origins = data.table["split"], data.table["origin"]
    assert Counter(splits) == {"test": 3, "val": 3, "left out": 1, "train": 53}
    train = data.y(data.rows("train", "real"))
    held = [
        y for y, s, o in zip(data.table["y"], splits, origins, strict=True) if s != "train" or o != "real"
    ]
    assert (len(train), len(held)) == (51, 9)
    kept = drawn_values(data.condition)
    values = [value for y in held for value in y.values() if value not in ("a", "b", "rare")]
    assert len(values) == 9
    assert not any(json.dumps(value) in kept for value in values)
    everything = drawn_values(condition_of(kinds_of(data.condition)).fit(data.table["y"]))
    assert all(json.dumps(value) in everything for value in values)  # control: before the split it knew them
    assert all(y in train for y in data.condition.draw(300, np.random.default_rng(0)))
    rng = np.random.default_rng(0)
    for wrong in data.condition.mismatch(train * 4, rng):  # what D is shown as a fake
        assert all(value in [y[name] for y in train] for name, value in wrong.items())
    assert len(data.cond(range(60))) == 60  # all can be told and have their group
    assert set(data.classes(range(60))) == set(data.condition.classes) == set(data.found["counts"])
    if "label" in columns:
        assert any("in rare: samples that are made of it are a guess" in note for note in data.found["notes"])
        assert data.condition.groups([data.condition.within("rare", rng)]) == ["rare"]
    again = read(sibling.write(data, out=tmp_path / "set"), like=data)
    assert again.condition.to_json() == data.condition.to_json()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_classes_of_one_two_and_three(tmp_path: Path, count: int) -> None:
    place = badzoo.classes(tmp_path / "in", ("many",), each=30)
    for i in range(count):
        badzoo.put(place / "few" / f"{i}.png", badzoo.good_png(500 + i))
    data = read(place)
    parts = Counter(part for part, y in zip(data.table["split"], data.table["y"], strict=True) if y == "few")
    assert parts == ({"train": count} if count < 3 else {"train": 2, "test": 1})
    assert any("fewer than 3" in note for note in data.found["notes"]) == (count < 3)


def test_one_class_no_class_and_alike_classes_are_said(tmp_path: Path) -> None:
    one = read(badzoo.classes(tmp_path / "one", ("cat",)))
    assert any("one class only, cat" in note for note in one.found["notes"])
    assert one.condition.name == "label"
    flat = read(badzoo.classes(tmp_path / "flat", (".",)))
    assert (flat.condition.name, set(flat.table["y"])) == ("none", {None})
    assert any("no labels" in note for note in flat.found["notes"])
    alike = read(badzoo.classes(tmp_path / "alike", ("Cat", "cat")))
    assert alike.condition.classes == ["Cat", "cat"]
    assert any("differ in case" in note for note in alike.found["notes"])


def test_samples_of_one_colour_are_counted(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in")
    badzoo.put(place / "cat" / "black.png", badzoo.save(PIL.Image.new("RGB", (16, 16)), "PNG"))
    assert "1 samples are of one colour throughout." in read(place).found["notes"]


def test_some_with_labels_and_some_without(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 9, 9), dtype=np.uint8)
    badzoo.idx(tmp_path, x[:20], np.arange(20) % 2, "train")
    badzoo.idx(tmp_path, x[20:], None, "t10k")
    with pytest.raises(BadInput, match=r"10 of 30.*has no label, while others have one"):
        read(tmp_path)
    assert set(read(tmp_path, on_bad="skip").table["y"]) == {"0", "1"}


# ---- shapes through to the store ---------------------------------------------------------------


def test_mixed_sizes_modes_and_turns(tmp_path: Path) -> None:
    files = {name: make() for name, (make, _) in badzoo.ODD_FILES.items() if name != "strip.png"}
    for number, (name, content) in enumerate(files.items()):
        badzoo.put(tmp_path / "in" / "ab"[number % 2] / name, content)
    data = read(tmp_path / "in", on_bad="stop")
    assert len(data) == len(files)
    choices = {choice["name"]: choice for choice in data.found["choices"]}
    said = {"working size", "other aspects", "bits", "colour bits", "frames", "alpha", "shape", "mirroring"}
    assert said <= set(choices)
    assert choices["frames"]["why"].startswith("4 files")
    assert data.x(range(len(data))).abs().max() <= 1


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (5, 64), (33, 9)])
def test_non_square_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    data = read(badzoo.classes(tmp_path / "in", each=4, height=shape[0], width=shape[1]))
    assert data.shape == (3, *shape)
    original = np.asarray(PIL.Image.open(data.table["source"][0]))
    assert np.array_equal(data.raw[0].transpose(1, 2, 0), original)


def test_a_store_is_mapped_and_opened_again(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in")
    data = read(place, out=tmp_path / "store")
    assert isinstance(data.raw, np.memmap)
    assert data.raw.dtype == np.uint8
    again = read(tmp_path / "store")
    assert again.fingerprint() == data.fingerprint()
    assert read(data) is data
    with pytest.raises(UsageError, match="--overwrite"):
        read(place, out=tmp_path / "store")
    with pytest.raises(UsageError, match="lie in each other"):
        read(place, out=place / "store")
    assert read(place, out=tmp_path / "store", overwrite=True).fingerprint() == data.fingerprint()


def test_the_temporary_store_goes_with_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    data: Dataset | None = read(badzoo.classes(tmp_path / "in"))
    assert len(os.listdir(tmp_path / "tmp")) == 1
    del data
    assert os.listdir(tmp_path / "tmp") == []
    with pytest.raises(SiblingError):
        read(badzoo.put(tmp_path / "bad" / "a.png", b"").parent)
    assert os.listdir(tmp_path / "tmp") == []


# ---- many --------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return badzoo.classes(tmp_path / "in", each=200)


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_cores_change_nothing(many: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(intake, "cores", lambda: 1)
    alone = read(many)
    monkeypatch.setattr(intake, "cores", lambda: 2)
    monkeypatch.setattr(intake, "_MANY_FILES", 10 if how == "processes" else 10**9)
    together = read(many)
    assert together.fingerprint() == alone.fingerprint()
    assert np.array_equal(together.raw, alone.raw)
    assert together.table["group"] == alone.table["group"]


def test_files_are_not_held(many: Path, tmp_path: Path) -> None:
    """Memory does not grow with the content: a few numbers and names a sample are kept, never its bytes."""
    padding = os.urandom(100_000)
    for path in many.rglob("*.png"):  # 400 files of 100 kB, most of it behind the pixels
        path.write_bytes(path.read_bytes() + padding)
    read(many)
    tracemalloc.start()
    data = read(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == 400
    assert peak < 20_000_000  # of 40 MB


def test_ten_thousand_arrays_take_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    badzoo.idx(tmp_path, rng.integers(0, 256, (10_000, 16, 16), dtype=np.uint8), rng.integers(0, 10, 10_000))
    start = time.monotonic()
    assert len(read(tmp_path)) == 10_000
    assert time.monotonic() - start < 30


def test_mirroring_is_tried_on_samples_from_all_over(tmp_path: Path) -> None:
    # sorted by class and more than are looked at: the first of them would be of one class
    y = np.repeat([0, 1], 2_600)
    x = np.random.default_rng(0).integers(0, 100, (len(y), 8, 8), dtype=np.uint8)
    x[y == 0, :, :4] += 100
    x[y == 1, :, 4:] += 100
    data = read(badzoo.idx(tmp_path, x, y))
    assert data.modality.flips == ("vertical",)


@pytest.mark.parametrize("stray", ["high", "inf"])
def test_a_stray_cell_among_numbers_is_a_fault_and_no_class(stray: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["file_name,severity"]
    for i in range(40):
        PIL.Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{stray if i == 5 else i / 41}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=f"row 6.*{stray}"):
        sibling.read(tmp_path)
    (tmp_path / "metadata.csv").write_text("\n".join(lines).replace(stray, "0.5"))
    assert sibling.read(tmp_path).condition.name == "value"  # the control
