"""What y is: found by looking or asked for by name, and asked of a model in words, numbers and files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import badzoo
import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from conftest import TINY

import sibling
from sibling import png
from sibling.cli import main
from sibling.conditions.label import Label
from sibling.conditions.labels import Labels
from sibling.conditions.value import Value
from sibling.dataset import Dataset, condition_of, kinds_of
from sibling.errors import BadInput, UnsafeFile, UsageError
from sibling.formats.columns import cell_of
from sibling.given import as_mapping, rows_of_file
from sibling.maps import fitted, same_proportions
from sibling.modalities.image import Image
from sibling.read import describe
from sibling.sample import draw_given
from sibling.snapshot import Snapshot

N = 60
EDGE = 8


def picture(kind: str, severity: float, seed: int) -> np.ndarray:
    """uint8 (8, 8): a bar on one side, as bright as the severity says."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 40, (EDGE, EDGE))
    side = slice(0, 4) if kind == "leaf" else slice(4, 8)
    pixels[:, side] += int(40 + 170 * severity)
    return pixels.astype(np.uint8)


def rows_of_leaves(n: int = N) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "file_name": f"{i:03d}.png",
            "kind": ["leaf", "stem"][i % 2],
            "severity": round(float(rng.random()), 3),
            "tags": [["wet"], [], ["old", "wet"]][i % 3],
            "lung_mask": f"masks/{i:03d}.png",
        }
        for i in range(n)
    ]


def place(root: Path, rows: list[dict[str, Any]], columns: Sequence[str], suffix: str = "csv") -> Path:
    """Pictures of leaves with a label file that has these columns."""
    for i, row in enumerate(rows):
        content = badzoo.save(PIL.Image.fromarray(picture(row["kind"], row["severity"], i)), "PNG")
        badzoo.put(root / row["file_name"], content)
        if "lung_mask" in columns:
            mask = np.zeros((EDGE, EDGE), np.uint8)
            mask[: 1 + i % 6, :3] = 255
            badzoo.put(root / row["lung_mask"], badzoo.save(PIL.Image.fromarray(mask), "PNG"))
    kept = [{name: row[name] for name in ("file_name", *columns)} for row in rows]
    write_rows(root / f"metadata.{suffix}", kept)
    return root


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({k: "|".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return path


def leaves(root: Path, *columns: str, suffix: str = "csv") -> Path:
    return place(root, rows_of_leaves(), columns, suffix)


# ---- found by looking -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("columns", "name", "kinds"),
    [
        (["kind"], "label", {"kind": "label"}),
        (["severity"], "value", {"severity": "value"}),
        (["tags"], "labels", {"tags": "labels"}),
        (["lung_mask"], "map", {"lung_mask": "map"}),
        (["kind", "severity"], "joint", {"kind": "label", "severity": "value"}),
        (
            ["kind", "severity", "tags", "lung_mask"],
            "joint",
            {"kind": "label", "severity": "value", "tags": "labels", "lung_mask": "map"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_condition_is_found_by_looking(
    tmp_path: Path, columns: list[str], name: str, kinds: dict[str, str], suffix: str
) -> None:
    data = sibling.read(leaves(tmp_path / "in", *columns, suffix=suffix))
    assert data.condition.name == name
    assert kinds_of(data.condition) == kinds
    assert len(data) == N  # masks are no samples
    wanted = {row["file_name"]: row for row in rows_of_leaves()}
    for key, y in zip(data.table["key"], data.table["y"], strict=True):
        cells = y if isinstance(y, dict) else {columns[0]: y}
        for column in {*columns} - {"lung_mask"}:
            assert cells[column] == wanted[key][column]
        if "lung_mask" in columns:
            mask = png.to_array(png.from_text(cells["lung_mask"]))
            assert mask.shape == (EDGE, EDGE)
            assert (mask[:, 0] > 0).sum() == 1 + int(key[:3]) % 6
    told = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    assert f"  condition   {name}: {told}; found in metadata.{suffix}" in describe(data)


def column_of(tmp_path: Path, name: str, values: list[Any], **asked: Any) -> Dataset:
    rows = [
        {"file_name": f"{i}.png", name: value, "kind": "leaf", "severity": 0.5}
        for i, value in enumerate(values)
    ]
    place(tmp_path, rows, [name])
    return sibling.read(tmp_path, on_bad="stop", **asked)


FRACTIONS = [i / 7 for i in range(40)]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("label", ["0", "1", "00"] * 8, "label"),
        ("label", [0.5, 1.0, 1.5] * 8, "label"),  # a few numbers are names of classes
        ("label", FRACTIONS, "value"),
        ("y", FRACTIONS, "value"),
        ("y", list(range(40)), "label"),
        ("digit", list(range(26)) * 2, "label"),
        ("severity", [0.5, 1.0, 1.5] * 8, "value"),
        ("labels", ["cat", "dog"] * 12, "label"),  # one name each
        ("labels", ["cat|dog", "dog", ""] * 8, "labels"),
        ("labels", ['["cat", "a|b"]', "[]"] * 12, "labels"),
    ],
)
def test_one_column_is_what_it_looks_like(
    tmp_path: Path, name: str, values: list[Any], expected: str
) -> None:
    data = column_of(tmp_path, name, values)
    assert data.condition.name == expected
    assert list(data.condition.columns) == [name]
    notes = " ".join(data.found["notes"])
    assert ("taken as a value" in notes) == (expected == "value" and name != "severity")
    assert ("each is a class" in notes) == (values[:3] == [0, 1, 2])


def test_numbers_of_classes_can_be_a_quantity(tmp_path: Path) -> None:
    assert column_of(tmp_path / "a", "age", list(range(40)), condition="value").condition.name == "value"
    data = column_of(tmp_path / "b", "age", list(range(40)), label_column="age:value")
    assert data.table["y"][3] == {"age": float(data.table["key"][3].removesuffix(".png"))}
    assert column_of(tmp_path / "c", "label", FRACTIONS, condition="label").condition.name == "label"


@pytest.mark.parametrize(
    "extra",
    [
        {"patient": lambda i: i // 3},  # numbers that repeat
        {"remark": lambda i: f"remark {i}"},  # texts that are all different
        {"site": lambda i: "A"},  # the same everywhere
    ],
    ids=["patient", "remark", "site"],
)
def test_columns_that_may_be_anything_are_asked_about(tmp_path: Path, extra: dict[str, Any]) -> None:
    rows = [row | {name: make(i) for name, make in extra.items()} for i, row in enumerate(rows_of_leaves())]
    place(tmp_path, rows, ["kind", "severity", *extra])
    with pytest.raises(BadInput, match=r"which one is the label\? .*--label-column.*label_column="):
        sibling.read(tmp_path)
    data = sibling.read(tmp_path, label_column="kind,severity")
    assert kinds_of(data.condition) == {"kind": "label", "severity": "value"}
    assert all(extra.keys() <= info.keys() for info in data.table["info"])


@pytest.mark.parametrize(
    ("make", "doubt"),
    [
        (lambda i: "nan" if i % 4 == 0 else f"{i / 60}", "number in most rows, but 'nan'"),
        (lambda i: f"{i / 60:.3f}".replace(".", ","), "number in most rows, but '0,000'.*with a point"),
        (lambda i: i % 3, "whole numbers.*grade:value"),
        (lambda i: 0.5, "the same everywhere"),
        (lambda i: "", "is empty"),
        (lambda i: f"text {i}", "60 different texts in 60 rows"),
    ],
)
def test_a_column_in_doubt_is_told_why(tmp_path: Path, make: Callable[[int], Any], doubt: str) -> None:
    rows = [row | {"grade": make(i)} for i, row in enumerate(rows_of_leaves())]
    with pytest.raises(BadInput, match=f"In doubt: grade .*{doubt}"):
        sibling.read(place(tmp_path, rows, ["kind", "grade"]))
    if "most rows" in doubt:
        notes = sibling.read(tmp_path, label_column="kind,grade").found["notes"]
        assert any("If it is a quantity" in note and "grade" in note for note in notes)
        assert not any("kind is" in note for note in notes)


def test_a_number_far_from_all_others_is_pointed_at(tmp_path: Path) -> None:
    def notes_of(folder: str, last: float) -> list[str]:
        rows = [row | {"severity": last if i == 7 else i / 60} for i, row in enumerate(rows_of_leaves())]
        (tmp_path / folder).mkdir()
        place(tmp_path / folder, rows, ["kind", "severity"])
        data = sibling.read(tmp_path / folder, label_column="kind,severity")
        return [note for note in data.found["notes"] if "lies far from" in note]

    (said,) = notes_of("slip", 9e9)
    assert "severity: 9e+09" in said
    assert notes_of("usual", 1.4) == []  # the control: outside the others, and no slip


def test_beside_a_label_other_columns_are_taken_when_asked_for(tmp_path: Path) -> None:
    rows = [row | {"label": row["kind"], "patient": i} for i, row in enumerate(rows_of_leaves())]
    place(tmp_path, rows, ["label", "severity", "lung_mask", "patient"])
    data = sibling.read(tmp_path)
    assert kinds_of(data.condition) == {"label": "label"}
    assert len(data) == N
    assert any("--label-column label,lung_mask" in note for note in data.found["notes"])
    for asked in ("label,severity", ["label", "severity"], ("label", "severity:value")):
        assert kinds_of(sibling.read(tmp_path, label_column=asked).condition) == {
            "label": "label", "severity": "value",
        }  # fmt: skip
    for condition, kinds in (
        ("value", {"severity": "value"}),
        ("map", {"lung_mask": "map"}),
        ("joint", {"label": "label", "severity": "value", "lung_mask": "map"}),
        ("none", {}),
    ):
        assert kinds_of(sibling.read(tmp_path, condition=condition).condition) == kinds


@pytest.mark.parametrize(
    ("asked", "error", "reason"),
    [
        ({"label_column": "severty"}, BadInput, r"no column 'severty'; it has .*Did you mean 'severity'"),
        ({"label_column": "kind,severty"}, BadInput, "no column 'severty'"),
        ({"label_column": "kind,kind"}, UsageError, "asked for twice"),
        ({"condition": "vlaue"}, UsageError, "Did you mean 'value'"),
        ({"condition": "map"}, BadInput, "none of kind, severity is a map"),
        ({"condition": "joint", "label_column": "kind"}, UsageError, "kind .label."),
        ({"condition": "label", "label_column": "kind,severity"}, UsageError, "--label-column"),
        ({"condition": "value", "label_column": "kind"}, BadInput, "'leaf' is not a number"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(
    tmp_path: Path, asked: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        sibling.read(leaves(tmp_path, "kind", "severity"), **asked)


def test_a_column_may_not_be_called_like_ours(tmp_path: Path) -> None:
    rows = [row | {"seed": row["severity"]} for row in rows_of_leaves()]
    place(tmp_path, rows, ["kind", "seed"])
    with pytest.raises(UsageError, match=r"'seed', which Sibling uses.*Rename"):
        sibling.read(tmp_path)
    alone = sibling.read(tmp_path, label_column="seed:label")
    assert kinds_of(alone.condition) == {"label": "label"}


def test_class_folders_of_numbers_can_be_a_value(tmp_path: Path) -> None:
    badzoo.classes(tmp_path / "in", ("10", "20", "35.5"))
    assert sibling.read(tmp_path / "in").condition.name == "label"
    data = sibling.read(tmp_path / "in", condition="value", label_column="age")
    assert {y["age"] for y in data.table["y"]} == {10.0, 20.0, 35.5}
    badzoo.classes(tmp_path / "cats")
    with pytest.raises(UsageError, match=r"needs numbers; cat/000.png has 'cat'"):
        sibling.read(tmp_path / "cats", condition="value")


def test_samples_without_their_part_of_y_are_bad(tmp_path: Path) -> None:
    rows = rows_of_leaves()
    place(tmp_path, rows, ["kind", "severity"])
    rows[3]["severity"] = ""
    write_rows(
        tmp_path / "metadata.csv", [{k: r[k] for k in ("file_name", "kind", "severity")} for r in rows]
    )
    with pytest.raises(BadInput, match=r"003.png: has no severity \(metadata.csv, row 4\)"):
        sibling.read(tmp_path)
    assert len(sibling.read(tmp_path, on_bad="skip")) == N - 1


def test_a_broken_map_is_a_bad_sample(tmp_path: Path) -> None:
    leaves(tmp_path, "lung_mask")
    (tmp_path / "masks" / "004.png").write_bytes(b"hello")
    with pytest.raises(BadInput, match=r"004.png: has a map that is not a picture"):
        sibling.read(tmp_path)
    (tmp_path / "masks" / "004.png").unlink()
    with pytest.raises(BadInput, match=r"004.png: has a map that cannot be read"):
        sibling.read(tmp_path)


@pytest.mark.parametrize("policy", ["stretch", "crop"])
def test_maps_of_another_size_than_their_pictures_are_told_of(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of other proportions lands elsewhere than its picture: that may be meant, but it is never silent."""
    root = leaves(tmp_path / "in", "lung_mask")
    monkeypatch.setattr("sibling.modalities.image.resize_policy", lambda *_: policy)
    assert not [note for note in sibling.read(root).found["notes"] if "map" in note]  # the control
    badzoo.put(root / "masks/003.png", badzoo.save(PIL.Image.new("L", (16, 16)), "PNG"))
    badzoo.put(root / "masks/004.png", badzoo.save(PIL.Image.new("L", (4, 4)), "PNG"))
    badzoo.put(root / "masks/007.png", badzoo.save(PIL.Image.new("L", (30, 16)), "PNG"))
    data = sibling.read(root)
    same, other = (note for note in data.found["notes"] if "map" in note)
    assert same == "2 maps have another size than their pictures; they were scaled to 8 x 8 as these were."
    assert other.startswith("1 maps have other proportions than their pictures and were ")
    assert {"stretch": "were stretched to 8 x 8", "crop": "were cut to 8 x 8"}[policy] in other
    assert "007.png: 30 x 16 beside 8 x 8. Give maps" in other
    assert any(other in line for line in describe(data))


def test_proportions_are_the_same_up_to_a_pixel() -> None:
    for first, second in (
        ((8, 8), (32, 32)),
        ((480, 640), (30, 40)),
        ((33, 50), (67, 100)),
        ((4, 4), (5, 5)),
    ):
        assert same_proportions(first, second)
        assert same_proportions(second, first)
    for first, second in (((8, 8), (16, 30)), ((480, 640), (40, 30)), ((100, 100), (100, 110))):
        assert not same_proportions(first, second)
        assert not same_proportions(second, first)


def test_maps_may_not_lie_outside(tmp_path: Path) -> None:
    rows = rows_of_leaves()
    place(tmp_path / "in", rows, ["lung_mask"])
    badzoo.put(tmp_path / "secret.png", badzoo.good_png())
    rows[0]["lung_mask"] = "../secret.png"
    kept = [{name: row[name] for name in ("file_name", "lung_mask")} for row in rows]
    write_rows(tmp_path / "in" / "metadata.csv", kept)
    with pytest.raises(UnsafeFile, match="leaves the data folder"):
        sibling.read(tmp_path / "in")


def test_cells() -> None:
    assert [cell_of(v, "labels", "") for v in ("a|b", "b; a", '["a"]', "", [], ["b", "a", "b"], None)] == [
        ["a", "b"], ["a", "b"], ["a"], [], [], ["a", "b"], None,
    ]  # fmt: skip
    assert [cell_of(v, "value", "") for v in ("0.5", 2, " 1e3 ", "", None, float("nan"))] == [
        0.5, 2.0, 1000.0, None, None, None,
    ]  # fmt: skip
    for kind, value in (
        ("value", "x"),
        ("value", "inf"),
        ("value", True),
        ("labels", "[1,]"),
        ("labels", [[1]]),
    ):
        with pytest.raises(BadInput, match="here"):
            cell_of(value, kind, "here")


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
def test_a_map_is_cut_as_its_sample_is(policy: str) -> None:
    """What a map shows stays where it is in the sample, and a label map gets no new colours."""
    shown = np.zeros((40, 60, 3), np.uint8)
    shown[8:30, 10:44] = (200, 10, 90)
    content = badzoo.save(PIL.Image.fromarray(shown), "PNG")
    modality = Image(12, 12, 3, resize=policy)
    sample = modality.decode(content).transpose(1, 2, 0)
    few = png.to_array(fitted(content, modality))
    assert few.shape == (12, 12, 3)
    assert {tuple(colour) for colour in few.reshape(-1, 3).tolist()} <= {(0, 0, 0), (200, 10, 90)}
    assert np.abs(few.astype(int) - sample).mean() < 14  # the edges differ
    many = shown + np.arange(40, dtype=np.uint8)[:, None, None]
    smooth = badzoo.save(PIL.Image.fromarray(many), "PNG")
    assert np.array_equal(png.to_array(fitted(smooth, modality)), modality.decode(smooth).transpose(1, 2, 0))
    again = fitted(content, modality)
    assert fitted(again, modality) == again


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize("many", [False, True])
def test_what_is_transparent_in_a_map_is_black(mode: str, many: bool) -> None:
    """As `Map` has it, whatever colour hides there: a mask is often drawn on nothing."""
    picture = PIL.Image.new(mode if mode in ("P", "L") else "RGBA", (8, 8))
    if mode in ("P", "L"):  # one value stands for nothing
        picture.putpalette([90, 90, 90, 255, 255, 255]) if mode == "P" else None
        picture.paste(1, (0, 0, 4, 8))
        content = badzoo.save(picture, "PNG", transparency=1)
        shown = 90 if mode == "P" else 0
    else:
        for x in range(8):
            for y in range(8):
                value = 60 + 8 * y + x if many else 90
                picture.putpixel((x, y), (255, 255, 255, 0) if x < 4 else (value, value, value, 255))
        content = badzoo.save(picture.convert(mode), "PNG")
        shown = 64 if many else 90
    drawn = png.to_array(fitted(content, Image(8, 8, 1)))
    assert not drawn[:, :4].any()
    assert drawn[:, 4:].min() == shown  # the control: the rest is as it was


# ---- asked of a model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A run of leaves and stems with their severity."""
    root = tmp_path_factory.mktemp("joint")
    data = sibling.read(leaves(root / "in", "kind", "severity"))
    return sibling.fit(data, out=root / "run", steps=20, arguments=TINY, tensorboard=False)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A run of leaves by their masks."""
    root = tmp_path_factory.mktemp("masks")
    data = sibling.read(leaves(root / "in", "lung_mask"))
    return sibling.fit(data, out=root / "run", steps=5, arguments=TINY, tensorboard=False)


def test_every_spelling_of_given() -> None:
    for given in ("kind=leaf,severity=0.7", " kind = leaf , severity = 0.7 "):
        assert as_mapping(given) == {"kind": "leaf", "severity": "0.7"}
    assert as_mapping('{"kind": "a, b", "severity": 0.7}') == {"kind": "a, b", "severity": 0.7}
    assert as_mapping({"kind": "leaf"}) == {"kind": "leaf"}
    assert as_mapping("formula=a=b") == {"formula": "a=b"}
    for wrong in ("leaf", "", "kind=a,kind=b", "=leaf", "{", "kind=leaf,0.7"):
        with pytest.raises(UsageError, match="given"):
            as_mapping(wrong)


def test_what_is_given_is_what_y_is(joint: Snapshot) -> None:
    made = sibling.sample(joint, given="kind=leaf,severity=0.7", count=5)
    assert made.table["y"] == [{"kind": "leaf", "severity": 0.7}] * 5
    info = made.table["info"]
    assert all(i["given"] == {"kind": "leaf", "severity": 0.7} and "outside" not in i for i in info)
    assert [i["index"] for i in info] == list(range(5))
    assert len({raw.tobytes() for raw in made.raw}) == 5
    spoken = sibling.sample(joint, given={"severity": 0.7, "kind": "leaf"}, count=3)
    assert np.array_equal(spoken.raw, made.raw[:3])  # the same wish, however it is said
    assert spoken.table["key"] == made.table["key"][:3]


def test_what_is_not_given_is_as_the_data_have_it(joint: Snapshot) -> None:
    made = sibling.sample(joint, given="kind=stem", count=30)
    seen = [y for y in joint.data.table["y"] if y["kind"] == "stem"]
    assert all(y in seen for y in made.table["y"])
    assert len({y["severity"] for y in made.table["y"]}) > 5
    fewer = sibling.sample(joint, given="kind=stem", count=4)
    assert fewer.table["y"] == made.table["y"][:4]
    assert np.array_equal(fewer.raw, made.raw[:4])


def test_outside_of_what_was_seen(joint: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match=r"outside.*--allow-outside \(allow_outside=True\)"):
        sibling.sample(joint, given="kind=leaf,severity=3")
    assert not caplog.records
    made = sibling.sample(joint, given="kind=leaf,severity=3", count=2, allow_outside=True)
    assert [info["outside"] for info in made.table["info"]] == [True, True]
    assert made.table["y"][0] == {"kind": "leaf", "severity": 3.0}
    assert any("guess" in record.message for record in caplog.records)
    inside = sibling.sample(joint, given="kind=leaf,severity=0.5", allow_outside=True)
    assert "outside" not in inside.table["info"][0]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"given": "kind=leef"}, "Did you mean 'leaf'"),
        ({"given": "kind=leef", "allow_outside": True}, "Did you mean 'leaf'"),
        ({"given": "knd=leaf"}, "Did you mean 'kind'"),
        ({"given": "severity=high"}, "severity"),
        ({"given": "kind=leaf", "want": 3}, "want and given both"),
        ({"given": "kind=leaf", "count": 0}, "count is 0"),
        ({"given": "kind=leaf", "count": 2.5}, "count is 2.5"),
        ({"count": 3}, "--given"),
        ({"allow_outside": True}, r"allow_outside takes given numbers outside.*--given \(given=\)"),
        ({"allow_outside": True, "want": 3}, "allow_outside takes given numbers outside"),
    ],
    ids=str,
)
def test_wishes_that_make_no_sense(joint: Snapshot, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        sibling.sample(joint, **asked)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_wishes_in_a_file(joint: Snapshot, tmp_path: Path, suffix: str) -> None:
    rows = [
        {"kind": "leaf", "severity": 0.25, "count": 2},
        {"kind": "stem", "severity": None if suffix != "csv" else "", "count": 1},
        {"kind": "leaf", "severity": 0.25, "count": 1},
        {"kind": "leaf", "severity": 0.75, "count": 0},
    ]
    path = write_rows(tmp_path / f"wanted.{suffix}", rows)
    made = sibling.sample(joint, given_file=path)
    assert [y["kind"] for y in made.table["y"]] == ["leaf", "leaf", "stem", "leaf"]
    assert [y["severity"] for y in made.table["y"]][::3] == [0.25, 0.25]
    assert made.table["info"][3]["index"] == 2  # the same wish goes on counting
    assert len(set(made.table["key"])) == 4
    same = sibling.sample(joint, given={"kind": "leaf", "severity": 0.25}, count=3)
    assert np.array_equal(made.raw[[0, 1, 3]], same.raw)


def test_the_rows_of_a_metadata_file_are_wishes(
    joint: Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"file_name": "a.png", "kind": "leaf", "severity": 0.25, "split": "train"}] * 2
    with caplog.at_level("INFO", logger="sibling"):
        made = sibling.sample(joint, given_file=write_rows(tmp_path / "metadata.csv", rows))
    assert made.table["y"] == [{"kind": "leaf", "severity": 0.25}] * 2
    assert "file_name, split in metadata.csv: no part of y" in caplog.text
    with pytest.raises(UsageError, match="in its column 'count'"):
        sibling.sample(joint, given_file=tmp_path / "metadata.csv", count=3)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (
            "kind,severty\nleaf,1\n",
            UsageError,
            "row 1: there is no column 'severty'.*Did you mean 'severity'",
        ),
        ("kind,count\nleaf,many\n", UsageError, "row 1: the count is 'many'"),
        ("kind,n\nleaf,-1\n", UsageError, "row 1: the count is '-1'"),
        ("kind,n\nleaf,-inf\n", UsageError, "row 1: the count is '-inf'"),
        ("kind,n\nleaf,inf\n", UsageError, "row 1: the count is 'inf'"),
        ("kind,n\nleaf,nan\n", UsageError, "row 1: the count is 'nan'"),
        ("kind,n\nleaf,1\nleaf,1e30\n", UsageError, "row 2: the count is '1e30'.*from 0 to 10,000,000"),
        ("kind,n\nleaf,1.5\n", UsageError, "row 1: the count is '1.5'"),
        ("kind\nleef\n", UsageError, "Did you mean 'leaf'"),
        ("kind,count\nleaf,0\n", UsageError, "nothing to make"),
        ("", BadInput, "no rows"),
    ],
    ids=repr,
)
def test_files_of_wishes_that_make_no_sense(
    joint: Snapshot, tmp_path: Path, text: str, error: type[Exception], reason: str
) -> None:
    (tmp_path / "wanted.csv").write_text(text)
    with pytest.raises(error, match=reason):
        sibling.sample(joint, given_file=tmp_path / "wanted.csv")
    with pytest.raises(BadInput, match="no file"):
        rows_of_file(tmp_path / "nothing.csv", joint.condition)


def test_a_style_can_be_shared(joint: Snapshot) -> None:
    """With one style the same index differs in y alone: equal y give equal samples."""
    part = {"severity": 0.3}
    (whole,) = draw_given(joint, [(part, 1)], 0).table["y"]  # the kind that is drawn for it
    apart = draw_given(joint, [(whole, 2), (part, 1)], 0)
    shared = draw_given(joint, [(whole, 2), (part, 1)], 0, shared_style=True)
    assert apart.table["y"] == shared.table["y"] == [whole] * 3
    assert not np.array_equal(apart.raw[0], apart.raw[2])  # another wish, another noise
    assert not np.array_equal(shared.raw[0], shared.raw[1])
    assert np.array_equal(shared.raw[0], shared.raw[2])
    assert all(info["style"] == "shared" for info in shared.table["info"])
    assert not set(apart.table["key"]) & set(shared.table["key"])
    one = draw_given(joint, [({"kind": "leaf", "severity": 0.4}, 1)], 0, shared_style=True)
    two = draw_given(joint, [({"kind": "leaf", "severity": 0.40001}, 1)], 0, shared_style=True)
    far = draw_given(joint, [({"kind": "leaf", "severity": 0.40001}, 1)], 0)
    near = np.abs(one.raw.astype(int) - two.raw).mean()
    assert near < np.abs(one.raw.astype(int) - far.raw).mean()


def test_numbers_that_were_not_seen_with_a_label_are_a_guess(tmp_path: Path) -> None:
    """Leaves at most 1, stems at least 2: a stem of 0.3 is outside, though leaves have that."""
    rows = [row | {"severity": row["severity"] + 2 * (row["kind"] == "stem")} for row in rows_of_leaves()]
    data = sibling.read(place(tmp_path / "in", rows, ["kind", "severity"]))
    run = sibling.fit(data, out=tmp_path / "run", steps=3, arguments=TINY, tensorboard=False)
    with pytest.raises(
        UsageError, match=r"severity = 0\.3 .*seen with kind=stem, 2\.\d+ to .*--allow-outside"
    ):
        sibling.sample(run, given="kind=stem,severity=0.3")
    made = sibling.sample(run, given="kind=stem,severity=0.3", allow_outside=True)
    assert made.table["info"][0]["outside"]
    for given in ("kind=leaf,severity=0.3", "severity=0.3"):
        assert "outside" not in sibling.sample(run, given=given, allow_outside=True).table["info"][0]


def test_a_wish_is_looked_up_once_for_all_of_its_samples(
    joint: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    plain = Value.nearest

    def nearest(self: Value, *arguments: Any) -> np.ndarray:
        looked.append(self)
        return plain(self, *arguments)

    monkeypatch.setattr(Value, "nearest", nearest)
    made = draw_given(joint, [({"severity": 0.4}, 20), ({"kind": "leaf"}, 20)], 0)
    assert len(made) == 40
    assert len(looked) == 2  # one a wish


def test_a_map_is_given_as_a_file(masks: Snapshot, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    path = badzoo.put(tmp_path / "a" / "mask.png", badzoo.save(PIL.Image.fromarray(mask), "PNG"))
    made = sibling.sample(masks, given=f"lung_mask={path}", count=2)
    shown = png.to_array(png.from_text(made.table["y"][0]["lung_mask"]))
    assert np.array_equal(shown, np.repeat([[255], [0]], 4, 0) * np.ones((1, 8), int))
    assert made.table["info"][0]["given"] == {"lung_mask": "(a map)"}
    (tmp_path / "a" / "wanted.csv").write_text("lung_mask,count\nmask.png,2\n")
    again = sibling.sample(masks, given_file=tmp_path / "a" / "wanted.csv")
    assert np.array_equal(again.raw, made.raw)
    badzoo.put(tmp_path / "secret.png", badzoo.good_png())
    (tmp_path / "a" / "wanted.csv").write_text("lung_mask\n../secret.png\n")
    with pytest.raises(UnsafeFile):
        sibling.sample(masks, given_file=tmp_path / "a" / "wanted.csv")


def test_a_given_map_of_other_proportions_is_told_of(
    masks: Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, size in (("square", (32, 32)), ("wide", (32, 16))):
        path = badzoo.put(tmp_path / f"{name}.png", badzoo.save(PIL.Image.new("L", size), "PNG"))
        caplog.clear()
        sibling.sample(masks, given=f"lung_mask={path}")
        told = "lung_mask of 32 x 16 is stretched to the 8 x 8 of the samples" in caplog.text
        assert told == (name == "wide")


def test_without_y_nothing_can_be_given(tmp_path: Path) -> None:
    data = sibling.read(badzoo.classes(tmp_path / "in", (".",), each=20))
    run = sibling.fit(data, out=tmp_path / "run", steps=3, arguments=TINY, tensorboard=False)
    with pytest.raises(UsageError, match=r"no y.*--want"):
        sibling.sample(run, given="label=cat")


def test_a_label_is_given_by_its_column_or_as_label(run: Snapshot) -> None:
    made = sibling.sample(run, given="label=3", count=2)
    assert made.table["y"] == ["3", "3"]
    with pytest.raises(UsageError, match="no class"):
        sibling.sample(run, given="label=33")


# ---- through the other stages ---------------------------------------------------------------------


def test_given_samples_are_drawn_anew_as_they_were_given(joint: Snapshot, tmp_path: Path) -> None:
    import shutil

    own = Snapshot(shutil.copytree(joint.folder, tmp_path / "run"))
    made = sibling.sample(own, given="kind=leaf,severity=0.5", count=6)
    made.raw[1:] = made.raw[0]  # all but one are doubles
    kept = sibling.curate(made, against=own, rounds=1)
    assert all(y == {"kind": "leaf", "severity": 0.5} for y in kept.table["y"])
    late = [info["index"] for info in kept.table["info"] if info["index"] >= 6]
    fresh = sibling.sample(own, given="kind=leaf,severity=0.5", count=6 + len(late))
    for raw, info in zip(kept.raw, kept.table["info"], strict=True):
        if info["index"] >= 6:
            assert np.array_equal(raw, fresh.raw[info["index"]])


def test_written_conditions_are_opened_by_datasets(tmp_path: Path) -> None:
    """The outside judge: lists, numbers and maps arrive as such."""
    data = sibling.read(leaves(tmp_path / "in", "kind", "severity", "tags", "lung_mask", suffix="jsonl"))
    out = sibling.write(data, out=tmp_path / "set")
    code = """
import json, sys, warnings
warnings.simplefilter("ignore")
import datasets
found = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[2])
row = found[0]
print(json.dumps([len(found), type(row["image"]).__name__, type(row["lung_mask"]).__name__, row["lung_mask"].size,
                  row["kind"], row["severity"], row["tags"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, out, tmp_path / "cache"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    count, image, mask, size, kind, severity, tags = json.loads(done.stdout.splitlines()[-1])
    assert (count, size) == (N, [EDGE, EDGE])
    assert image == mask == "PngImageFile"
    assert {"kind": kind, "severity": severity, "tags": tags} in [
        {name: y[name] for name in ("kind", "severity", "tags")} for y in data.table["y"]
    ]
    first = json.loads((out / "metadata.jsonl").read_text().splitlines()[0])
    assert first["lung_mask_file_name"].startswith("maps/")
    assert first["file_name"].split("/")[0] != "maps"


def test_real_and_synthetic_must_have_the_same_y(joint: Snapshot, run: Snapshot, tmp_path: Path) -> None:
    made = sibling.sample(joint, want=1)
    with pytest.raises(UsageError, match=r"label .label..*kind .label., severity .value."):
        sibling.write(run.data, made, out=tmp_path / "set")
    with pytest.raises(BadInput, match="no column 'label'"):
        sibling.read(sibling.write(fake=made, out=tmp_path / "made"), like=run.data)


def test_the_real_set_is_read_with_the_y_of_the_run(joint: Snapshot, tmp_path: Path) -> None:
    place_ = leaves(tmp_path / "in", "kind", "severity", "tags")
    out = sibling.write(place_, sibling.sample(joint, want=1), out=tmp_path / "set", against=joint)
    assert kinds_of(sibling.read(out).condition) == {"kind": "label", "severity": "value"}


def test_a_store_has_its_y_already(tmp_path: Path) -> None:
    sibling.read(leaves(tmp_path / "in", "kind", "severity"), out=tmp_path / "store")
    assert sibling.read(tmp_path / "store", condition="joint").condition.name == "joint"
    with pytest.raises(UsageError, match="Read the original"):
        sibling.read(tmp_path / "store", condition="value")


def test_conditions_from_columns() -> None:
    assert condition_of({}).name == "none"
    assert condition_of({"a": "value", "k": "label", "b": "value"}).columns == ("a", "b", "k")
    assert kinds_of(condition_of({"k": "labels"})) == {"k": "labels"}


Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command_line_asks_the_same(
    joint: Snapshot,
    tmp_path: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = leaves(tmp_path / "in", "kind", "severity", "tags")
    done = cli("read", where, "--condition", "value", "--label-column", "severity")
    assert "condition   value: severity (value); found in metadata.csv" in done.stdout, done.stderr
    assert main(["read", str(where), "--label-column", "kind,severity", "--out", str(tmp_path / "s")]) == 0
    assert sibling.read(tmp_path / "s").condition.name == "joint"
    out = tmp_path / "made"
    asked = ["--given", "kind=leaf,severity=0.7", "--count", "3", "--out", str(out)]
    assert main(["sample", str(joint.folder), *asked]) == 0
    made = sibling.read(out, like=joint.data)
    assert made.table["y"] == [{"kind": "leaf", "severity": 0.7}] * 3
    assert main(["sample", str(joint.folder), "--given", "kind=leef"]) == 2
    capsys.readouterr()
    assert main(["sample", str(joint.folder), "--given", "severity=9", "--allow-outside"]) == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert (
        main(["fit", str(where), "--label-column", "severity", "--out", str(tmp_path / "r"), "--steps", "1"])
        == 0
    )
    assert "condition   value: severity (value); found in metadata.csv" in caplog.text
    assert main(["verify", str(out)]) == 0


def test_a_new_combination_of_labels_goes_all_the_way(tmp_path: Path) -> None:
    """No recogniser knows its class: it is neither dropped for that nor counted."""
    rows = [row | {"tags": [["wet"], ["old"]][i % 2]} for i, row in enumerate(rows_of_leaves())]
    data = sibling.read(place(tmp_path / "in", rows, ["tags"], "jsonl"))
    run = sibling.fit(data, out=tmp_path / "run", steps=20, arguments=TINY, tensorboard=False)
    with pytest.raises(UsageError, match="--allow-outside"):
        sibling.sample(run, given="tags=old|wet")
    for slip in ("old wet", "old+wett"):
        with pytest.raises(UsageError, match=r"There is no label.* Several are written with \|"):
            sibling.sample(run, given=f"tags={slip}")
    made = sibling.sample(run, given="tags=old+wet", count=4, allow_outside=True)  # as groups are called
    assert (
        made.table["info"]
        == sibling.sample(run, given="tags=old|wet", count=4, allow_outside=True).table["info"]
    )
    assert made.table["y"] == [["old", "wet"]] * 4
    kept = sibling.curate(made, against=run, refill=False)
    assert all("label_agreement" not in info["scores"] for info in kept.table["info"])
    both = sibling.write(fake=made, out=tmp_path / "made")
    assert sibling.read(both, like=run.data).table["y"] == [["old", "wet"]] * 4
    known = [({"tags": "old"}, 20), ({"tags": "wet"}, 20)]
    for more, left_out in (([], []), ([({"tags": "old|wet"}, 4)], ["4 samples of no class"])):
        fakes = draw_given(run, [*known, *more], 0, allow_outside=True)
        out = sibling.write(fake=fakes, out=tmp_path / f"set-{len(more)}")
        found = sibling.evaluate(sibling.read(out, like=run.data), against=run, lift=False)
        assert [note[:21] for note in found.notes if "no class" in note] == left_out
        assert found.score("label_agreement").counts["fake"] == 40


# ---- on disk --------------------------------------------------------------------------------------


def test_folders_are_called_after_groups(joint: Snapshot, tmp_path: Path) -> None:
    rows = rows_of_leaves()
    data = sibling.read(place(tmp_path / "in", rows, ["severity", "lung_mask"]))
    out = sibling.write(data, out=tmp_path / "set")
    groups = {path.name for path in out.iterdir() if path.is_dir()}
    assert groups == {*data.condition.classes, "maps"}
    assert {path.name for path in sibling.write(joint.data, out=tmp_path / "two").iterdir()} >= {
        "leaf",
        "stem",
    }
    written = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert not any({"folder", "link"} & row.keys() for row in written)
    again = sibling.read(out)
    assert len(again) == N
    assert not any("left alone" in note for note in again.found["notes"])


def test_a_class_called_maps_has_its_own_folder(tmp_path: Path) -> None:
    rows = [row | {"kind": ["leaf", "maps"][i % 2]} for i, row in enumerate(rows_of_leaves())]
    for row in rows:
        row["label"] = row["kind"]
    data = sibling.read(place(tmp_path / "in", rows, ["label", "lung_mask"]), condition="joint")
    out = sibling.write(data, out=tmp_path / "set")
    written = map(json.loads, (out / "metadata.jsonl").read_text().splitlines())
    assert {row["file_name"].split("/")[0] for row in written} in ({"leaf", "c00_maps"}, {"leaf", "c01_maps"})
    assert sorted(map(str, sibling.read(out).table["y"])) == sorted(map(str, data.table["y"]))


def test_what_a_data_set_says_about_y_can_be_overruled_and_can_be_lost(
    joint: Snapshot, tmp_path: Path
) -> None:
    out = sibling.write(joint.data, out=tmp_path / "set")
    told = json.loads((out / "MANIFEST.json").read_text())
    assert (told["condition"], told["columns"]) == ("joint", {"kind": "label", "severity": "value"})
    assert sibling.read(out, label_column="severity").condition.name == "value"
    (out / "MANIFEST.json").unlink()
    assert sibling.read(out).condition.name == "none"  # as before: our own columns are no labels
    assert sibling.read(out, label_column="kind,severity").condition.name == "joint"
    (out / "MANIFEST.json").write_text('{"kind": "dataset", "columns": {"kind": "../x"}, "files": []}')
    assert sibling.read(out).condition.name == "none"


def test_npz_holds_an_array_for_each_column(tmp_path: Path) -> None:
    data = sibling.read(leaves(tmp_path / "in", "kind", "severity", "tags", "lung_mask"))
    out = sibling.write(data, out=tmp_path / "set", format="npz")
    with np.load(out / "data.npz", allow_pickle=False) as arrays:
        assert arrays["columns"].tolist() == list(data.condition.columns)
        assert arrays["y_kind"].tolist() == [y["kind"] for y in data.table["y"]]
        assert arrays["y_severity"].tolist() == [y["severity"] for y in data.table["y"]]
        assert arrays["y_tags"].dtype == bool
        assert arrays["y_tags_names"].tolist() == ["old", "wet"]
        assert arrays["map_lung_mask"].shape == (N, EDGE, EDGE)
    kept = sibling.read(out, label_column="kind,severity")
    assert kinds_of(kept.condition) == {"kind": "label", "severity": "value"}
    assert sibling.read(out, condition="none").condition.name == "none"
    with pytest.raises(UsageError, match="Did you mean 'kind'"):
        sibling.read(out, label_column="kimd")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kinds": np.array(["label", "number"])}, "each column has one of"),
        ({"kinds": np.array(["label"])}, "each column has one of"),
        ({"y_severity": np.zeros(3)}, "which is no value of"),
        ({"y_severity": np.array(["a"] * N)}, "which is no value of"),
        ({"columns": np.array(["kind", "size"])}, "holds no y_size"),
    ],
    ids=["kind", "count", "rows", "type", "missing"],
)
def test_npz_that_does_not_fit_itself_is_refused(
    joint: Snapshot, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    out = sibling.write(joint.data, out=tmp_path / "set", format="npz")
    with np.load(out / "data.npz", allow_pickle=False) as arrays:
        np.savez(tmp_path / "x.npz", **{**arrays, **change})
    with pytest.raises(BadInput, match=reason):
        sibling.read(tmp_path / "x.npz")


def test_a_map_forbids_mirroring_and_a_number_is_asked_too(tmp_path: Path) -> None:
    rows = rows_of_leaves(400)
    data = sibling.read(place(tmp_path / "a", rows, ["kind", "lung_mask"]))
    choices = {choice["name"]: choice for choice in data.found["choices"]}
    assert choices["mirroring"]["value"] == "never"
    assert "a map lies beside" in choices["mirroring"]["why"]
    assert "horizontal" not in sibling.read(place(tmp_path / "b", rows, ["kind", "severity"])).modality.flips
    alone = sibling.read(place(tmp_path / "c", rows, ["severity"]))
    assert "horizontal" in alone.modality.flips  # the side says nothing about the severity


def test_names_that_look_the_same_are_the_same() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    label = Label().fit([decomposed, decomposed, "tea"])
    assert label.complete({"label": composed}, 1, np.random.default_rng(0)) == [decomposed]
    with pytest.raises(UsageError, match="There is no class 'cafe'"):
        label.complete({"label": "cafe"}, 1, np.random.default_rng(0))
    labels = Labels().fit([[composed], ["tea"], [composed, "tea"]])
    assert labels.complete({"labels": [decomposed]}, 1, np.random.default_rng(0)) == [[composed]]
    both = Label().fit([composed, decomposed])  # two classes that only a machine can tell apart
    assert both.complete({"label": composed}, 1, np.random.default_rng(0)) == [composed]


@pytest.mark.parametrize("number", [1e308, -1e101])
def test_numbers_that_nothing_can_scale_are_refused(number: float) -> None:
    with pytest.raises(UsageError, match=r"age is .* cannot be scaled"):
        Value(["age"]).fit([{"age": 0.0}, {"age": number}])
    assert Value(["age"]).fit([{"age": 0.0}, {"age": 1e99}]).ranges == [[0.0, 1e99]]
