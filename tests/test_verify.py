"""Each fault of a folder is named; a sound one has none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import sibling
from sibling import files
from sibling.cli import main
from sibling.dataset import Dataset
from sibling.errors import BadInput
from sibling.snapshot import Snapshot, load_tensors, save_tensors


@pytest.fixture(scope="module")
def sound(data: Dataset, run: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written set of 40 real and 10 synthetic samples."""
    out = tmp_path_factory.mktemp("sound") / "set"
    return sibling.write(data.subset(range(40)), sibling.sample(run, want=1), out=out, against=run)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "set")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def sign(folder: Path) -> None:
    """A manifest that fits what lies there now: what hashes cannot find must be found otherwise."""
    kind = files.read_json(folder / "MANIFEST.json")["kind"]
    files.write_manifest(folder, kind=kind, only=None if kind == "dataset" else files.read_json(
        folder / "MANIFEST.json")["files"])  # fmt: skip


def a_picture(folder: Path, origin: str = "synthetic") -> Path:
    rows = files.read_jsonl(folder / "metadata.jsonl")
    return folder / next(row["file_name"] for row in rows if row["origin"] == origin)


def code(folder: Path) -> int:
    return main(["verify", str(folder)])


def test_a_sound_set_is_code_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sibling.verify(folder) == []
    assert code(folder) == 0
    assert capsys.readouterr().out == f"{folder}: sound\n"


@pytest.mark.parametrize("format_name", ["npz", "idx"])
def test_other_formats_are_verified_too(format_name: str, data: Dataset, tmp_path: Path) -> None:
    out = sibling.write(data.subset(range(20)), out=tmp_path / "set", format=format_name)
    assert code(out) == 0
    flip(next(path for path in out.iterdir() if path.suffix in (".npz", ".gz")))
    assert code(out) == 3


def rows_changed(change: Callable[[list[dict[str, object]]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        rows = files.read_jsonl(folder / "metadata.jsonl")
        change(rows)
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return spoil


def cut(folder: Path) -> None:
    path = a_picture(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_size(folder: Path) -> None:
    from sibling.modalities.image import Image

    a_picture(folder).write_bytes(Image(9, 8, 1).encode(np.zeros((1, 9, 8), np.uint8)))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (lambda f: flip(a_picture(f, "real")), "its content has changed"),
    "missing": (lambda f: a_picture(f).unlink(), "missing"),
    "extra": (
        lambda f: (f / "3" / "extra.png").write_bytes(a_picture(f).read_bytes()),
        "not in the manifest",
    ),
    "cut": (cut, "the manifest says"),
    "edited row": (rows_changed(lambda rows: rows[0].update(label="zebra")), "metadata.jsonl: "),
    "no metadata": (lambda f: (f / "metadata.jsonl").unlink(), "metadata.jsonl: missing"),
    "torn metadata": (lambda f: (f / "metadata.jsonl").write_text('{"a\n{}\n{}\n'), "line 1: not JSON"),
    "rows that are no objects": (lambda f: (f / "metadata.jsonl").write_text("[]\n[]\n"), "no JSON object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_code_3(fault: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, said = FAULTS[fault]
    spoil(folder)
    assert code(folder) == 3
    out = capsys.readouterr().out
    assert said in out
    assert out.splitlines()[-1].endswith(("fault", "faults"))


SIGNED: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "cannot be decoded"),
    "text": (lambda f: a_picture(f).write_text("no picture"), "not a picture"),
    "empty": (lambda f: a_picture(f).write_bytes(b""), "is empty"),
    "no row": (rows_changed(lambda rows: rows.pop()), "no row in metadata.jsonl"),
    "two rows": (rows_changed(lambda rows: rows.append(rows[0])), "2 rows in metadata.jsonl"),
    "no file": (
        rows_changed(lambda rows: rows.append({**rows[0], "file_name": "3/no.png"})),
        "not in the manifest",
    ),
    "no origin": (rows_changed(lambda rows: rows[0].pop("origin")), "its origin is None"),
    "no seed": (rows_changed(lambda rows: rows[-1].pop("seed")), "seed, index or snapshot is missing"),
    "other size": (other_size, "2 different sizes or modes"),
}


@pytest.mark.parametrize("fault", SIGNED)
def test_a_fault_with_a_fitting_manifest_is_named_too(fault: str, folder: Path) -> None:
    spoil, said = SIGNED[fault]
    spoil(folder)
    sign(folder)
    assert files.check_manifest(folder)[1] == []
    assert any(said in sentence for sentence in sibling.verify(folder)), sibling.verify(folder)


def test_an_extra_file_in_the_manifest_has_no_row(folder: Path) -> None:
    shutil.copy(a_picture(folder), folder / "3" / "extra.png")
    sign(folder)
    assert sibling.verify(folder) == ["3/extra.png: no row in metadata.jsonl"]


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not finished, or not made by Sibling"):
        sibling.verify(tmp_path)
    assert code(tmp_path) == 3


# ---- runs and stores ------------------------------------------------------------------------------


def test_a_sound_run_and_a_sound_store_are_code_0(own_run: Snapshot, data: Dataset) -> None:
    assert code(own_run.folder) == 0
    assert data.folder is not None
    assert code(data.folder) == 0


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "run.json", "stats.jsonl", "data/raw.npy", "data/table.parquet", "data/store.json"],
)
def test_a_flipped_byte_anywhere_in_a_run_is_named(name: str, own_run: Snapshot) -> None:
    content = (own_run.folder / name).read_bytes()
    (own_run.folder / name).unlink()  # a copy of a run shares no file with it, whatever links there are
    (own_run.folder / name).write_bytes(content)
    flip(own_run.folder / name)
    wrong = sibling.verify(own_run.folder)
    assert any(name in sentence for sentence in wrong), wrong
    assert code(own_run.folder) == 3


def test_nan_weights_are_named(own_run: Snapshot) -> None:
    path = own_run.folder / "model.safetensors"
    weights = load_tensors(path)
    key = next(key for key in weights if key.startswith("decoder/"))
    weights[key] = torch.full_like(weights[key], float("nan"))
    save_tensors(path, weights)
    sign(own_run.folder)
    assert any("not finite" in sentence for sentence in sibling.verify(own_run.folder))
    assert code(own_run.folder) == 3


def test_a_damaged_evaluation_is_named(own_run: Snapshot) -> None:
    with files.new_folder(own_run.folder / "evaluation", kind="evaluation") as folder:
        files.write_json(folder / "scores.json", {"scores": []})
    assert sibling.verify(own_run.folder) == []
    flip(own_run.folder / "evaluation" / "scores.json")
    assert any(s.startswith("evaluation/scores.json") for s in sibling.verify(own_run.folder))


def test_other_data_in_a_run_are_named(own_run: Snapshot, data: Dataset) -> None:
    """Someone swaps the store for another sound one."""
    other = sibling.fit(
        data.subset(range(250)), out=own_run.folder.parent / "other", steps=1, tensorboard=False
    )
    shutil.rmtree(own_run.folder / "data")
    shutil.copytree(other.folder / "data", own_run.folder / "data")
    sign(own_run.folder)
    assert any("not the data set that this run was trained on" in s for s in sibling.verify(own_run.folder))


def test_a_test_sample_that_leaks_into_training_is_named(own_run: Snapshot) -> None:
    from sibling.dataset import open_store, save_store

    folder = own_run.folder / "data"
    data = open_store(folder)
    data.table["group"][int(data.rows("train")[0])] = data.table["group"][int(data.rows("test")[0])]
    save_store(folder, data)
    files.write_manifest(folder, kind="store")
    assert sibling.verify(folder) == ["data: 1 groups of duplicates lie in train and in test"]
