"""README.md and croissant.json beside a result: true, read by others, and the user's once they are changed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import badzoo
import fsspec
import pytest
import yaml
from huggingface_hub import DatasetCard

import sibling
from sibling import files
from sibling.cards import About, write_cards
from sibling.errors import UsageError
from sibling.formats import FORMATS
from sibling.registry import lookup, names
from sibling.types import Evaluation, Verdict

ALL = [  # all but those of other kinds of samples
    name
    for name in names(FORMATS, "sibling.formats")
    if getattr(lookup(FORMATS, "sibling.formats", name), "modality", "image") == "image"
]
ODD = ["yes", "a: b # c", "</td>|*x*", 'q"\\n', "12", "dög\u2028\x85", "- x"]
SENTENCE = "Nobody can tell: the interval <holds> 0."


def labelled(root: Path) -> Path:
    """Classes, a JPEG among PNGs, splits (one sample has none), synthetic samples, a number, a list and a map."""
    rows = []
    for i in range(12):
        name = f"{'cat' if i % 2 else 'my test'}/{i:02d}.{'jpg' if i == 3 else 'png'}"
        picture = badzoo.picture(i, height=20, width=30)
        badzoo.put(root / name, badzoo.save(picture, "JPEG" if i == 3 else "PNG"))
        row: dict[str, Any] = {"file_name": name, "label": name.split("/")[0], "patient": i // 3}
        row |= {"tags": ["a", "b"] if i % 2 else ["b"], "weight": i + 0.5}
        row["split"] = ["train", "train", "val", "test"][i % 4] if i else None
        if i > 8:
            row |= {"origin": "synthetic", "split": "train", "seed": 1, "index": i, "snapshot": "abc"}
        rows.append(row)
    badzoo.put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("first") / "set")


@pytest.fixture(scope="module")
def made(first: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The set in every format."""
    root = tmp_path_factory.mktemp("made")
    return {
        name: Path(sibling.convert(first, root / name, format=name, label_column="label")) for name in ALL
    }


def front(folder: Path) -> dict[str, Any]:
    """The YAML of a card, as the hub reads it."""
    card = DatasetCard((folder / "README.md").read_text("utf-8"))
    told: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---")[1])
    assert card.data.to_dict() == told
    return told


def body(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8").split("\n---\n", 1)[1]


def described(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "croissant.json").read_text())
    return told


@pytest.mark.parametrize("name", ALL)
def test_a_card_says_what_lies_there(name: str, made: dict[str, Path]) -> None:
    told = front(made[name])
    assert told["tags"] == ["synthetic", "sibling"]
    assert told["task_categories"] == ["image-classification"]
    assert told["size_categories"] == ["n<1K"]
    assert "license" not in told  # nobody has chosen one
    text = body(made[name])
    assert "9 real and 3 synthetic image samples" in text
    assert "| cat | 4 | 2 |" in text
    assert "| my test | 5 | 1 |" in text
    assert "3 by the snapshot abc" in text
    assert "there was no verdict" in text
    assert not {"private", "privacy", "anonymous"} & {*text.lower().split()}
    manifest, wrong = files.check_manifest(made[name])
    assert wrong == []
    assert {*files.CARDS} <= manifest["files"].keys()
    assert sibling.verify(made[name]) == []


@pytest.mark.parametrize("name", ALL)
def test_they_are_no_samples(name: str, made: dict[str, Path]) -> None:
    again = sibling.read(made[name])
    assert len(again) == 12
    assert again.found["format"] == name
    assert not any(
        "README" in note or "croissant" in note or "other files" in note for note in again.found["notes"]
    )


def test_a_set_without_synthetic_samples_is_not_called_one(first: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (first / "metadata.jsonl").read_text().splitlines()]
    real = [row for row in rows if "origin" not in row]
    badzoo.put(tmp_path / "in" / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in real).encode())
    for row in real:
        badzoo.put(tmp_path / "in" / row["file_name"], (first / row["file_name"]).read_bytes())
    out = Path(sibling.convert(tmp_path / "in", tmp_path / "out", label_column="label"))
    assert front(out)["tags"] == ["sibling"]
    assert "no synthetic ones" in body(out)
    assert "snapshot" not in body(out)
    assert "synthetic" not in described(out)["keywords"]


@pytest.mark.parametrize(
    ("asked", "modality", "tasks"),
    [
        ("label", "image", ["image-classification"]),
        ("tags", "audio", ["audio-classification"]),
        ("weight", "image", None),  # no task of the hub is one with numbers
        ("label", "signal", None),
    ],
)
def test_tasks_are_named_where_they_are_known(
    asked: str, modality: str, tasks: list[str] | None, tmp_path: Path
) -> None:
    kinds = {"label": "label", "tags": "labels", "weight": "value"}
    write_cards(tmp_path, [{"origin": "real"}], About("x", modality, "idx", {asked: kinds[asked]}))
    assert front(tmp_path).get("task_categories") == tasks


# ---- what other programs make of them -------------------------------------------------------------

LOAD = """
import collections, json, sys, warnings
warnings.simplefilter("ignore")
import datasets
for place in sys.argv[2:]:
    found = datasets.load_dataset(place, cache_dir=sys.argv[1])
    told = {}
    for part, one in found.items():
        column = "label" if "label" in one.column_names else "cls"
        labels = one[column]
        if hasattr(one.features[column], "names"):
            labels = [one.features[column].names[i] for i in labels]
        picture = one[0].get("image") or one[0].get("png")  # tars: of the files that the first sample has
        told[part] = [len(one), dict(collections.Counter(map(str, labels))), picture and picture.size]
    print(json.dumps(told))
"""


def test_datasets_loads_the_folder_by_its_card(made: dict[str, Path], tmp_path: Path) -> None:
    """Without a word on the format: the card says where the parts lie; a class called "my test" is no part."""
    places = [made["folder"], made["parquet"], made["webdataset"]]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path, *places], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ignoring" not in done.stderr
    folder, parquet, tars = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert folder == {"train": [12, {"cat": 6, "my test": 6}, [30, 20]]}
    assert {part: one[0] for part, one in parquet.items()} == {
        "train": 7, "validation": 2, "test": 2, "left_out": 1,
    }  # fmt: skip
    assert parquet["train"] == [7, {"cat": 4, "my test": 3}, [30, 20]]
    assert {part: one[0] for part, one in tars.items()} == {part: one[0] for part, one in parquet.items()}


def test_features_in_the_card_are_those_of_the_table(first: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    asked = "label,tags:labels,weight:value"
    out = Path(sibling.convert(first, tmp_path / "out", format="parquet", label_column=asked))
    told = datasets.Features._from_yaml_list(front(out)["dataset_info"]["features"])
    import pyarrow.parquet as parquet

    schema = parquet.read_schema(next((out / "data").glob("train-*")))
    assert told == datasets.Features.from_arrow_schema(schema)
    assert {"image", "label", "tags", "weight"} <= told.keys()


def test_odd_names_stay_what_they_are(tmp_path: Path) -> None:
    for i in range(len(ODD)):
        badzoo.put(tmp_path / "in" / f"{i}.png", badzoo.good_png(i))
    rows = [{"file_name": f"{i}.png", "label": name} for i, name in enumerate(ODD)]
    badzoo.put(tmp_path / "in" / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    out = Path(sibling.convert(tmp_path / "in", tmp_path / "x: #1", format="parquet"))
    told = front(out)
    assert told["pretty_name"] == "x: #1"
    names_told = told["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert [*names_told.values()] == sorted(ODD)
    assert r"| &lt;/td>\|\*x\* | 1 | 0 |" in body(out)
    assert len([line for line in body(out).splitlines() if line.startswith("| ")]) == 1 + len(ODD)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_mlcroissant_reads_it(name: str, made: dict[str, Path]) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    found = mlcroissant.Dataset(jsonld=str(made[name] / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    recommended = found.metadata.ctx.issues.warnings
    assert all("is recommended" in one for one in recommended), recommended
    if name == "webdataset":  # mlcroissant does not read what lies in archives
        assert found.metadata.record_sets == []
        return
    records = list(found.records("samples"))
    assert Counter(one["samples/origin"] for one in records) == {b"real": 9, b"synthetic": 3}
    labels = Counter(one["samples/label"] for one in records)
    assert labels == ({0: 6, 1: 6} if name == "parquet" else {b"cat": 6, b"my test": 6})
    if name in ("folder", "csv", "jsonl", "parquet"):
        assert all(one["samples/image"].size == (30, 20) for one in records)


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_every_kind_of_y(first: Path, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    for i in range(12):
        badzoo.put(tmp_path / "in" / "masks" / f"{i}.png", badzoo.good_png(i))
    rows = [json.loads(line) for line in (first / "metadata.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        badzoo.put(tmp_path / "in" / row["file_name"], (first / row["file_name"]).read_bytes())
        row |= {"organ_mask": f"masks/{i}.png", "the way: é": i + 0.5}
    badzoo.put(tmp_path / "in" / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    asked = ["label", "tags:labels", "the way: é:value", "organ_mask:map"]
    for name in ("folder", "parquet"):
        out = Path(sibling.convert(tmp_path / "in", tmp_path / name, format=name, label_column=asked))
        found = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
        assert not found.metadata.ctx.issues.errors
        records = list(found.records("samples"))
        assert len(records) == 12  # the maps are none
        assert sum(one["samples/the%20way%3A%20%C3%A9"] for one in records) == sum(i + 0.5 for i in range(12))
        assert sum(len(one["samples/tags"]) for one in records) == 18
        told = described(out)["distribution"]
        assert ("map-files" in {one["@id"] for one in told}) == (name == "folder")


@pytest.mark.filterwarnings("ignore")
def test_a_table_of_texts(tmp_path: Path) -> None:
    for i in range(8):
        badzoo.put(
            tmp_path / "in" / ("good" if i % 2 else "bad") / f"{i}.txt", f"text {i} of some words".encode()
        )
    for name in ("texts", "folder"):
        out = Path(sibling.convert(tmp_path / "in", tmp_path / name, format=name))
        assert sibling.verify(out) == []
        assert len(sibling.read(out)) == 8
        assert front(out)["task_categories"] == ["text-classification"]
    told = front(tmp_path / "texts")
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": ["texts.jsonl"]}]
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    found = mlcroissant.Dataset(jsonld=str(tmp_path / "texts" / "croissant.json"))
    records = [(one["samples/text"], one["samples/label"]) for one in found.records("samples")]
    assert sorted(records)[0] == (b"text 0 of some words", b"bad")
    assert len(records) == 8


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_would_say_what_is_wrong(made: dict[str, Path], tmp_path: Path) -> None:
    """The control: the judge of the tests above does refuse."""
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    good = described(made["folder"])
    for spoil in (
        lambda one: one.pop("conformsTo"),
        lambda one: one["distribution"][0].pop("sha256"),
        lambda one: one["distribution"][1].pop("includes"),
        lambda one: one["recordSet"][0]["field"][1]["source"]["fileObject"].update({"@id": "nothing"}),
        lambda one: one["recordSet"][0]["field"][0].pop("references"),
    ):
        bad = json.loads(json.dumps(good))
        spoil(bad)
        (tmp_path / "croissant.json").write_text(json.dumps(bad))
        with pytest.raises(mlcroissant.ValidationError):
            mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))


def test_files_are_told_with_their_hashes(made: dict[str, Path]) -> None:
    told = [one for one in described(made["webdataset"])["distribution"] if one["@type"] == "cr:FileObject"]
    assert {one["contentUrl"] for one in told} == {path.name for path in made["webdataset"].glob("*.tar")}
    for one in told:
        assert one["sha256"] == files.hash_file(made["webdataset"] / one["contentUrl"])


# ---- the verdict ----------------------------------------------------------------------------------


def judged(write: str) -> Evaluation:
    advice = {"write": write, "amount": {}, "reason": "r", "augmentation": {}}
    verdict = Verdict("no evidence", 0, -1, 1, {}, 3, 1, 9, SENTENCE, advice=advice)
    return Evaluation([], verdict)


def test_the_verdict_stands_in_the_card(first: Path, tmp_path: Path) -> None:
    data = sibling.read(first, label_column="label")
    synthetic = data.subset(data.rows(origin="synthetic"))
    real = data.subset(data.rows(origin="real"))
    out = Path(sibling.write(real, synthetic, out=tmp_path / "all", verdict=judged("all")))
    assert "the interval &lt;holds> 0." in body(out)
    assert "no verdict" not in body(out)
    again = Path(sibling.convert(out, tmp_path / "again", format="parquet"))
    assert "the interval &lt;holds> 0." in body(again)  # what was measured stays known
    none = Path(sibling.write(real, synthetic, out=tmp_path / "none", verdict=judged("nothing")))
    assert "no synthetic ones" in body(none)
    assert "were tested and are not in here. Nobody can tell" in body(none)
    without = Path(sibling.write(real, synthetic, out=tmp_path / "without"))
    assert "there was no verdict" in body(without)


def test_all_that_made_it_is_told(tmp_path: Path) -> None:
    """Two snapshots, the weights of one of which are known, and another tool."""
    rows = [{"origin": "synthetic", "snapshot": name} for name in ("abc", "abc", "xyz", None)]
    write_cards(tmp_path, rows, About("x", "image", "idx", {}, snapshot="abcdef"))
    assert "- 2 by the snapshot abc (sha256 of its weights: `abcdef`), which" in body(tmp_path)
    assert "- 1 by the snapshot xyz, which" in body(tmp_path)
    assert "- 1 do not say what made them." in body(tmp_path)


# ---- they belong to the user ----------------------------------------------------------------------


def test_a_readme_of_the_user_is_left_alone(first: Path, tmp_path: Path) -> None:
    place = labelled(tmp_path / "in")
    badzoo.put(place / "README.md", b"mine")
    badzoo.put(place / "croissant.json", b"{}")
    found = sibling.read(place, label_column="label")
    assert not any("other files" in note for note in found.found["notes"])
    badzoo.put(place / "notes.md", b"mine")  # the control
    assert any("notes.md" in note for note in sibling.read(place, label_column="label").found["notes"])
    sibling.convert(place, tmp_path / "out", label_column="label")
    assert (place / "README.md").read_bytes() == b"mine"
    assert b"mine" not in (tmp_path / "out" / "README.md").read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="not made by Sibling"):
        sibling.convert(place, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", files.CARDS)
def test_a_card_that_was_filled_in_is_sound_and_never_replaced(
    name: str, first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = Path(sibling.convert(first, tmp_path / "out", label_column="label"))
    sibling.convert(first, out, label_column="label", overwrite=True)  # the control: as it was written
    text = (out / name).read_text().replace("n<1K", "n<2K").replace("my test", "mine") + " "
    (out / name).write_text(text)
    with caplog.at_level(logging.INFO, "sibling"):
        assert sibling.verify(out) == []
    assert f"{name} was changed since it was written" in caplog.text
    with pytest.raises(UsageError, match=f"{name} was changed"):
        sibling.convert(first, out, label_column="label", overwrite=True)
    with pytest.raises(UsageError, match=f"{name} was changed"):
        files.refuse_used(out, overwrite=True)  # before the work, too
    assert (out / name).read_text() == text
    (out / name).unlink()
    assert sibling.verify(out) == [f"{name}: missing"]
    sibling.convert(first, out, label_column="label", overwrite=True)
    assert sibling.verify(out) == []


def test_behind_a_url_too(first: Path) -> None:
    memory, url = fsspec.filesystem("memory"), "memory://cards/photos larger"
    try:
        sibling.convert(first, url, label_column="label")
        card = memory.cat_file("/cards/photos larger/README.md")
        assert b'pretty_name: "photos larger"' in card
        sibling.convert(first, url, label_column="label", overwrite=True)  # the control
        memory.pipe_file("/cards/photos larger/README.md", card + b"license: mit")
        with pytest.raises(UsageError, match=r"README\.md was changed"):
            sibling.convert(first, url, label_column="label", overwrite=True)
        assert memory.cat_file("/cards/photos larger/README.md") == card + b"license: mit"
    finally:
        memory.rm("/cards", recursive=True)
