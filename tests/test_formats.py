"""How samples lie on disk: what each format finds, and that what `write` wrote is read back the same."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import badplaces
import badzoo
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sibling
from sibling.errors import BadInput, UnsafeFile
from sibling.formats.folder import Folder
from sibling.formats.idx import Idx
from sibling.formats.labels import label_of, safe_name, split_of
from sibling.formats.npz import Npz
from sibling.modalities.image import Image
from sibling.types import Record


def found(root: Path, label_column: str | None = None) -> tuple[dict[str, Record], list[str]]:
    reader = Folder(label_column)
    records = list(reader.read(root, Image.suffixes))
    return {record.key: record for record in records}, reader.notes


# ---- folders -----------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, ("cat", "dog"), each=2)
    badzoo.put(tmp_path / "cat" / "indoor" / "deep.png", badzoo.good_png(9))
    records, notes = found(tmp_path)
    assert {key: record.y for key, record in records.items()} == {
        "cat/000.png": "cat", "cat/001.png": "cat", "cat/indoor/deep.png": "cat",
        "dog/000.png": "dog", "dog/001.png": "dog",
    }  # fmt: skip
    assert notes == []


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, (".",), each=3)
    records, _ = found(tmp_path)
    assert [record.y for record in records.values()] == [None] * 3


def test_names_stay_text(tmp_path: Path) -> None:
    names = (
        "0",
        "00",
        "0.0",
        "1e3",
        "True",
        "null",
        " lead",
        "-dash",
        "=cmd",
        "a\tb",
        "x" * 200,
        "日本",
        "CON",
    )
    badzoo.classes(tmp_path, names, each=1)
    records, _ = found(tmp_path)
    assert sorted(record.y for record in records.values()) == sorted(names)


def test_two_unicode_forms_are_one_class_aloud(tmp_path: Path) -> None:
    forms = tuple(unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    badzoo.classes(tmp_path, (*forms, "tea"), each=2)
    records, notes = found(tmp_path)
    assert Counter(record.y for record in records.values()) == {forms[0]: 4, "tea": 2}
    assert any("2 folders are called café" in note for note in notes)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)
    Path(os.fsdecode(odd), "a.png").write_bytes(badzoo.good_png())
    badzoo.classes(tmp_path, ("tea",), each=1)
    records, _ = found(tmp_path)
    for record in records.values():
        (record.key + str(record.y)).encode()
        assert isinstance(record.source, Path)
        assert record.source.is_file()


def test_system_files_are_left_alone_and_counted(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, each=1)
    for name in (".DS_Store", "__MACOSX/cat/._a.png", "cat/Thumbs.db", ".ipynb_checkpoints/x.png"):
        badzoo.put(tmp_path / name, badzoo.good_png())
    (tmp_path / "empty").mkdir()
    records, notes = found(tmp_path)
    assert len(records) == 2
    assert notes == ["4 hidden or system files were left alone."]


def test_pipes_and_links(tmp_path: Path) -> None:
    place, elsewhere = (
        badzoo.classes(tmp_path / "set", each=2),
        badzoo.classes(tmp_path / "other", ("bird",), each=2),
    )
    os.mkfifo(place / "cat" / "pipe.png")  # opened, it would block for ever
    (place / "cat" / "gone.png").symlink_to("nowhere.png")
    (place / "cat" / "self.png").symlink_to("self.png")
    (place / "cat" / "round").symlink_to(place)
    (place / "dog" / "000b.png").symlink_to("000.png")
    (place / "bird").symlink_to(elsewhere / "bird")
    records, notes = found(place)
    assert Counter(record.y for record in records.values()) == {"bird": 2, "cat": 2, "dog": 3}
    text = " ".join(notes)
    assert "3 entries are no files" in text
    assert "1 links lead out" in text
    assert "1 folders are links to folders that were read already" in text


def test_other_files_are_named(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, (".",), each=2)
    for name in ("labels.csv", "readme.md"):
        badzoo.put(tmp_path / name, b"x")
    text = " ".join(found(tmp_path)[1])
    assert "2 other files were left alone" in text
    assert "labels.csv was not read" in text
    assert "metadata.csv" in text


@pytest.mark.parametrize("wrapper", ["", "photos/", "photos/all/"])
def test_own_splits_and_wrappers(tmp_path: Path, wrapper: str) -> None:
    for split in ("train", "valid", "Test"):
        badzoo.classes(tmp_path / wrapper / split, each=1)
    records, notes = found(tmp_path)
    assert {(record.split, record.y) for record in records.values()} == {
        (split, y) for split in ("train", "val", "test") for y in ("cat", "dog")
    }
    assert any("one level down" in note for note in notes) == bool(wrapper)


def test_classes_called_like_splits_beside_others(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, ("test", "exam"), each=1)
    assert {record.y for record in found(tmp_path)[0].values()} == {"test", "exam"}


# ---- label files -------------------------------------------------------------------------------

ROWS = [
    {"file_name": f"{i}.png", "label": ["a", 'é, "b"'][i % 2], "age": i, "split": ["train", "test"][i % 2]}
    for i in range(6)
]


def _labelled(root: Path, kind: str) -> Path:
    badplaces.labelled(root, [])
    (root / "metadata.csv").unlink()
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), root / "metadata.parquet")
    elif kind == "jsonl":
        (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    else:
        kinds = {"csv": (",", "\n", ""), "semicolon": (";", "\r\n", "\ufeff"), "tab": ("\t", "\n", "")}
        delimiter, end, head = kinds[kind]
        text = io.StringIO()
        writer = csv.DictWriter(text, ROWS[0], delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        writer.writerows(ROWS)
        (root / "metadata.csv").write_bytes((head + text.getvalue()).encode())
    return root


@pytest.mark.parametrize("kind", ["csv", "semicolon", "tab", "jsonl", "parquet"])
def test_label_files(tmp_path: Path, kind: str) -> None:
    records, _ = found(_labelled(tmp_path, kind))
    assert {key: record.y for key, record in records.items()} == {
        row["file_name"]: row["label"] for row in ROWS
    }
    assert {key: record.split for key, record in records.items()} == {
        r["file_name"]: r["split"] for r in ROWS
    }
    assert str(records["3.png"].info["age"]) == "3"


def test_another_column_can_be_the_label(tmp_path: Path) -> None:
    records, _ = found(_labelled(tmp_path, "csv"), "age")
    assert sorted(record.y for record in records.values()) == list("012345")
    with pytest.raises(BadInput, match=r"no column 'size'.*file_name, label, age"):
        found(tmp_path, "size")


def test_label_files_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        badplaces.labelled(tmp_path / split, [])
    records, _ = found(tmp_path)
    assert Counter((record.split, record.y) for record in records.values()) == {
        ("train", "a"): 3, ("train", "b"): 3, ("test", "a"): 3, ("test", "b"): 3,
    }  # fmt: skip


def test_a_list_made_on_windows(tmp_path: Path) -> None:
    badzoo.classes(tmp_path, ("cat",), each=1)
    badzoo.put(tmp_path / "metadata.csv", b"file_name,label\r\ncat\\000.png,x\r\n")
    assert found(tmp_path)[0]["cat/000.png"].y == "x"


def test_a_list_and_a_disk_in_two_unicode_forms(tmp_path: Path) -> None:
    badzoo.put(tmp_path / unicodedata.normalize("NFD", "é.png"), badzoo.good_png())
    badzoo.put(tmp_path / "metadata.csv", unicodedata.normalize("NFC", "file_name,label\né.png,x\n").encode())
    assert [(record.y, record.info) for record in found(tmp_path)[0].values()] == [("x", {})]


def test_cells_that_json_does_not_know(tmp_path: Path) -> None:
    badzoo.put(tmp_path / "0.png", badzoo.good_png())
    row = {"file_name": "0.png", "label": "a", "taken": datetime.datetime(2020, 1, 2), "blob": b"\xff"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "metadata.parquet")
    assert found(tmp_path)[0]["0.png"].info["taken"].startswith("2020-01-02")
    sibling.read(tmp_path, on_bad="stop")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("name", badplaces.ESCAPES)
def test_escaping_names_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    place = badplaces.escaping(tmp_path, name, kind)
    with pytest.raises(UnsafeFile, match=r"row 7: file_name .* nothing was read"):
        found(place)


def test_names_that_do_not_escape(tmp_path: Path) -> None:
    # the control: names that only look strange
    names = [
        "a..b.png",
        "..png.png",
        "a/./b.png",
        "~/x.png",
        "$HOME.png",
        "ab:c/x.png",
        "%2e%2e/x.png",
        "x//y.png",
    ]
    for name in names:
        safe_name(name, "here", PurePosixPath("."), tmp_path.resolve())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "a", "/", "\\", "C:", "~", "out", "file:", "//", "\0", " "]), max_size=6
    )
)
def test_no_name_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    root = tmp_path_factory.getbasetemp().resolve() / "escape"
    (root / "a").mkdir(parents=True, exist_ok=True)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to(root.parent)
    try:
        name = safe_name("".join(parts), "here", PurePosixPath("."), root)
    except (UnsafeFile, BadInput):
        return
    assert Path(os.path.realpath(root / name)).is_relative_to(root)


def test_labels_and_splits() -> None:
    assert [label_of(value, "") for value in ("00", 0, 0.0, True, None, "", float("nan"))] == [
        "00", "0", "0.0", "True", None, None, None,
    ]  # fmt: skip
    assert [split_of(value, "") for value in ("Train", "validation", "dev", None, "", "left out")] == [
        "train", "val", "val", None, None, None,
    ]  # fmt: skip
    with pytest.raises(BadInput, match="holdout"):
        split_of("holdout", "here")


# ---- idx, npz ----------------------------------------------------------------------------------

X = np.random.default_rng(0).integers(0, 256, (20, 9, 7), dtype=np.uint8)
Y = np.arange(20) % 3


@pytest.mark.parametrize("packed", [True, False])
def test_idx(tmp_path: Path, packed: bool) -> None:
    badzoo.idx(tmp_path, X[:15], Y[:15], "train", packed)
    badzoo.idx(tmp_path, X[15:], Y[15:], "t10k", packed)
    assert Idx().matches(tmp_path)
    records = list(Idx().read(tmp_path, ()))
    assert Counter(record.split for record in records) == {"train": 15, "test": 5}
    by_key = {record.key: record for record in records}
    assert np.array_equal(by_key["t10k/000002"].source, X[17])
    assert by_key["t10k/000002"].y == str(Y[17])


def test_idx_of_emnist_names_and_colour(tmp_path: Path) -> None:
    colour = np.repeat(X[..., None], 3, 3)
    badzoo.idx(tmp_path, colour, Y, "emnist-letters-test")
    record = next(iter(Idx().read(tmp_path, ())))
    assert (record.split, record.source.shape) == ("test", (9, 7, 3))


@pytest.mark.parametrize(
    ("shape", "hwc"),
    [
        ((20, 9, 7), (9, 7)),
        ((20, 9, 7, 3), (9, 7, 3)),
        ((20, 3, 9, 7), (9, 7, 3)),
        ((20, 1, 9, 7), (9, 7, 1)),
    ],
)
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...], hwc: tuple[int, ...]) -> None:
    place = badzoo.npz(tmp_path / "x.npz", x=np.zeros(shape, np.uint8), y=Y)
    assert {record.source.shape for record in Npz().read(place, ())} == {hwc}


@pytest.mark.parametrize(
    ("y", "names", "expected"),
    [
        (np.array([0, 1, 2]), None, ["0", "1", "2"]),
        (np.array([2, 0, 1]), np.array(["a", "b", "c"]), ["c", "a", "b"]),
        (np.array(["x", "00", "0"]), None, ["x", "00", "0"]),
        (np.array([b"x", b"y", b"z"]), None, ["x", "y", "z"]),
        (np.array([[1], [0], [1]]), None, ["1", "0", "1"]),
        (np.array([True, False, True]), None, ["True", "False", "True"]),
    ],
)
def test_npz_labels(tmp_path: Path, y: np.ndarray, names: np.ndarray | None, expected: list[str]) -> None:
    more = {} if names is None else {"class_names": names}
    place = badzoo.npz(tmp_path / "x.npz", x=X[:3], y=y, **more)
    assert [record.y for record in Npz().read(place, ())] == expected


def test_npz_of_keras(tmp_path: Path) -> None:
    place = badzoo.npz(tmp_path / "x.npz", x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:])
    assert Counter(record.split for record in Npz().read(place, ())) == {"train": 15, "test": 5}


def test_a_folder_with_pictures_and_an_npz_is_a_folder(tmp_path: Path) -> None:
    badzoo.npz(tmp_path / "features.npz", x=X)
    assert Npz().matches(tmp_path)
    badzoo.classes(tmp_path, each=1)
    assert not Npz().matches(tmp_path)
