"""CSV and JSON lines that name files: read wherever they lie, written with their files, and never outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import badplaces
import badzoo
import pytest

import sibling
from sibling.dataset import Dataset
from sibling.errors import BadInput, UnsafeFile
from sibling.formats import FORMATS
from sibling.modalities.image import Image
from sibling.registry import lookup
from sibling.types import Record

BOTH = pytest.mark.parametrize("kind", ["csv", "jsonl"])


def listed(root: Path, kind: str, rows: list[dict[str, Any]], pictures: int = 6) -> Path:
    """Pictures with a list of this kind beside them; a picture that no row names, too."""
    for i in range(pictures + 1):
        badzoo.put(root / "files" / f"{i}.png", badzoo.good_png(i))
    place = root / f"all.{kind}"
    if kind == "jsonl":
        place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        with place.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return place


def rows(column: str = "file_name", **more: Any) -> list[dict[str, Any]]:
    return [{column: f"files/{i}.png", "label": ["00", 'é, "b"'][i % 2], "age": i, **more} for i in range(6)]


def found(place: Path, kind: str, *asked: Any) -> tuple[list[Record], list[str]]:
    reader = lookup(FORMATS, "sibling.formats", kind)(*asked)
    assert reader.matches(place)
    return list(reader.read(place, Image.suffixes)), reader.notes


@BOTH
@pytest.mark.parametrize("column", ["file_name", "path", "image", "filename"])
def test_a_list_names_the_files(kind: str, column: str, tmp_path: Path) -> None:
    records, notes = found(listed(tmp_path, kind, rows(column, split="test")), kind)
    assert [(r.key, r.y, r.split) for r in records[:2]] == [
        ("files/0.png", "00", "test"),
        ("files/1.png", 'é, "b"', "test"),
    ]
    assert len(records) == 6  # not the one that it does not name
    assert records[0].source == tmp_path / "files" / "0.png"
    assert bool(notes) == (column != "file_name")
    data = sibling.read(tmp_path / f"all.{kind}", label_column="age:value")
    assert (data.found["format"], data.condition.name) == (kind, "value")


@BOTH
@pytest.mark.parametrize("name", badplaces.ESCAPES)
def test_no_name_leaves_the_folder(kind: str, name: str, tmp_path: Path) -> None:
    place = badplaces.escaping(tmp_path, name, kind)
    with pytest.raises(UnsafeFile, match=r"row 7: file_name .* nothing was read"):
        found(place / f"metadata.{kind}", kind)


def _tsv(root: Path) -> Path:
    badzoo.put(root / "0.png", badzoo.good_png())
    return badzoo.put(root / "x.tsv", b"path\tlabel\n0.png\ta\n")


def test_tabs(tmp_path: Path) -> None:
    assert [r.y for r in found(_tsv(tmp_path), "csv")[0]] == ["a"]


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.csv", b"", "no rows"),
    "header only": ("x.csv", b"path,label\n", "no rows"),
    "no names": ("x.csv", b"id,label\n1,a\n", "no column of file names; it has id, label"),
    "twice": ("x.csv", b"path,label,label\n0.png,a,b\n", "appears twice"),
    "ragged": ("x.csv", b"path,label\n0.png\n", "line 2: 1 fields"),
    "latin-1": ("x.csv", b"path,label\n0.png,\xe9\n", "line 2: not UTF-8"),
    "utf-16": ("x.csv", "path,label\n".encode("utf-16"), "UTF-16"),
    "torn": ("x.jsonl", b'{"path": "0.png"', "line 1: not JSON"),
    "no object": ("x.jsonl", b"[]\n", "line 1: a row is an object"),
    "no text": ("x.jsonl", b'{"path": 3, "label": "a"}\n', "file_name is '3'"),
    "two labels": ("x.csv", b"path,label\n0.png,a\n0.png,b\n", "two labels"),
    "no split": ("x.csv", b"path,label,split\n0.png,a,holdout\n", "holdout"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_broken_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    file, data, reason = BAD[name]
    badzoo.put(tmp_path / "0.png", badzoo.good_png())
    with pytest.raises(BadInput, match=reason):
        found(badzoo.put(tmp_path / file, data), file.rpartition(".")[2])


@BOTH
def test_names_of_nothing_are_listed(kind: str, tmp_path: Path) -> None:
    place = listed(tmp_path, kind, [*rows(), {"file_name": "files/99.png", "label": "00", "age": 1}])
    with pytest.raises(BadInput, match=r"files/99\.png: is named in all.*not on the disk"):
        sibling.read(place)


# ---- what we write ------------------------------------------------------------------------------


@BOTH
def test_real_files_stay_as_they_are(kind: str, data: Dataset, digits: Path, tmp_path: Path) -> None:
    out = sibling.write(data, out=tmp_path / "set", format=kind)
    records, _ = found(out, kind)
    assert len(records) == len(data)
    for record in records:
        assert isinstance(record.source, Path)
        assert record.source.read_bytes() == (digits / record.info["key"]).read_bytes()
    assert sibling.verify(out) == []
    (out / records[0].key).unlink()
    assert any(records[0].key in sentence for sentence in sibling.verify(out))


@BOTH
def test_what_is_known_comes_back(kind: str, data: Dataset, tmp_path: Path) -> None:
    some = data.subset(range(20))
    some.table["info"] = [{"seed": 3, "scores": {"copy": 0.5}, "note": 'a "b", c\n'} for _ in range(20)]
    out = sibling.write(some, out=tmp_path / "set", format=kind)
    for record in found(out, kind)[0]:
        assert record.info.pop("key")
        assert record.info == some.table["info"][0]


def test_a_csv_is_one_for_other_tools(data: Dataset, tmp_path: Path) -> None:
    out = sibling.write(data, out=tmp_path / "set", format="csv")
    with (out / "samples.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(data)
    assert [*table[0]] == ["file_name", "label", "origin", "split", "key", "info"]
    assert all((out / row["file_name"]).is_file() for row in table)


def test_without_its_manifest_such_a_folder_is_class_folders(data: Dataset, tmp_path: Path) -> None:
    out = sibling.write(data, out=tmp_path / "set", format="csv")
    (out / "MANIFEST.json").unlink()
    again = sibling.read(out)
    assert again.found["format"] == "folder"
    assert any("samples.csv was not read" in note for note in again.found["notes"])
