"""Samples of another tool against a folder of real ones: what is read, what is left out, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs
from PIL import Image

import sibling
from sibling import files
from sibling.cli import main
from sibling.errors import BadInput, UsageError
from sibling.read import read
from sibling.subject import subject_of


def tree(folder: Path, n: int, seed: int, rename: Callable[[str], str] = str) -> Path:
    """Class folders of PNG files."""
    raw, names = blobs(n, seed=seed)
    for i, (picture, name) in enumerate(zip(raw, names, strict=True)):
        place = folder / rename(name)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[0]).save(place / f"{seed}-{i:03d}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Real pictures with their own train and test part."""
    tree(tmp_path / "photos" / "train", 60, 0)
    tree(tmp_path / "photos" / "test", 60, 1)
    return tmp_path / "photos"


def test_any_folder_is_judged_against_a_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tree(tmp_path / "other", 40, 5)
    before = sorted(path.as_posix() for path in tmp_path.rglob("*") if "evaluation" not in path.as_posix())
    assert main(["evaluate", str(other), "--against", str(photos), "--quick", "--steps", "12"]) == 0
    folder = tmp_path / "other-evaluation"
    verdict, scores = (files.read_json(folder / f"{name}.json") for name in ("verdict", "scores"))
    assert verdict["verdict"] in ("helps", "no evidence", "harms")
    assert {"lift", "low", "high", "metric", "arms", "protocol"} <= set(verdict)
    assert verdict["protocol"]["test_samples"] == 60
    assert "another tool" in " ".join(scores["notes"])
    assert verdict["sentence"] in capsys.readouterr().out
    assert sibling.verify(folder) == []
    after = sorted(path.as_posix() for path in tmp_path.rglob("*") if "evaluation" not in path.as_posix())
    assert after == before  # neither the samples nor the real ones were touched


def test_all_samples_of_a_foreign_folder_are_synthetic(photos: Path, tmp_path: Path) -> None:
    subject = subject_of(tree(tmp_path / "other", 40, 5), photos, None)
    assert set(subject.fake.table["origin"]) == {"synthetic"}
    assert set(subject.fake.table["split"]) == {"train"}
    assert subject.snapshot is None
    assert len(subject.fake) == 40


def test_copies_of_held_out_samples_are_left_out_and_said(photos: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "other", 40, 5)
    for path in sorted((photos / "test" / "left").iterdir())[:3]:
        (other / "left" / f"stolen-{path.name}").write_bytes(path.read_bytes())
    subject = subject_of(other, photos, None)
    assert not any("stolen" in key for key in subject.fake.table["key"])
    assert any("has seen the test part" in note for note in subject.notes)
    with pytest.raises(BadInput, match="duplicate of a held-out"):
        subject_of(photos / "test", photos, tmp_path / "out")


def test_unknown_classes_are_left_out_with_a_hint(photos: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "other", 20, 5, lambda name: "lefft" if name == "left" else name)
    subject = subject_of(other, photos, None)
    assert set(subject.fake.classes(np.arange(len(subject.fake)))) == {"right"}
    assert any("lefft" in note and "left" in note for note in subject.notes)
    assert any("no synthetic sample of 1 of the 2 classes: 'left'" in note for note in subject.notes)
    with pytest.raises(BadInput, match="No synthetic sample is of a class"):
        subject_of(tree(tmp_path / "strange", 10, 5, lambda name: "x" + name * 3), photos, None)


def test_classes_written_otherwise_are_named_once(photos: Path, tmp_path: Path) -> None:
    """Another tool may write LEFTS for left: the error names each list once, and the class that was meant."""
    with pytest.raises(BadInput, match="did you mean 'left'") as raised:
        subject_of(tree(tmp_path / "loud", 10, 5, lambda name: name.upper() + "S"), photos, None)
    assert str(raised.value).count("nown:") == 1
    assert "'LEFTS', 'RIGHTS'; known: 'left', 'right'" in str(raised.value)
    with pytest.raises(BadInput) as raised:
        subject_of(tree(tmp_path / "strange", 10, 5, lambda name: "qqq" + name[0]), photos, None)
    assert "did you mean" not in str(raised.value)
    complete = subject_of(tree(tmp_path / "complete", 10, 6), photos, None)
    assert not any("no synthetic sample of" in note for note in complete.notes)


def test_the_evaluation_never_lies_in_what_it_judges(photos: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "other", 20, 5)
    for out in (other / "evaluation", photos / "evaluation"):
        with pytest.raises(UsageError):
            subject_of(other, photos, out)


def test_a_data_set_in_memory_can_be_what_it_is_judged_against(photos: Path, tmp_path: Path) -> None:
    data = sibling.read(photos)
    made = sibling.read(tree(tmp_path / "other", 20, 5), like=data)
    found = sibling.evaluate(made, against=data, out=tmp_path / "out", lift=False)
    assert found.scores
    assert not found.verdict.decided
    assert "not asked for" in found.verdict.sentence


def test_quick_and_thorough_exclude_each_other(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        sibling.evaluate(tmp_path, against=photos, quick=True, thorough=True)
    with pytest.raises(UsageError, match="seeds is 0"):
        sibling.evaluate(tmp_path, against=photos, seeds=0)


def test_a_classifier_of_ones_own_from_the_command_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mymodule.py").write_text(
        "from math import prod\n"
        "from torch import nn\n\n"
        "def build(shape, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), outputs))\n"
    )
    monkeypatch.chdir(tmp_path)
    other = tree(tmp_path / "other", 20, 5)
    command = ["evaluate", str(other), "--against", str(photos), "--quick", "--steps", "5"]
    assert main([*command, "--classifier", "mymodule:build"]) == 0
    verdict = files.read_json(tmp_path / "other-evaluation" / "verdict.json")
    assert verdict["protocol"]["classifier"] == "mymodule:build"
    assert main([*command, "--classifier", "mymodule:bild"]) == 2


def test_files_of_another_size_or_in_colour_are_said(photos: Path, tmp_path: Path) -> None:
    def saved(name: str, size: tuple[int, int], mode: str) -> list[str]:
        for path in tree(tmp_path / name, 20, 5).rglob("*.png"):
            with Image.open(path) as picture:
                changed = picture.resize(size).convert(mode)
            changed.save(path)
        return [
            note for note in subject_of(tmp_path / name, photos, None).notes if "than the real ones" in note
        ]

    assert saved("same", (8, 8), "L") == []
    (large,) = saved("large", (32, 16), "L")
    assert "other sizes" in large
    assert "32x16 (20) against 8x8 (120)" in large
    (coloured,) = saved("coloured", (8, 8), "RGB")
    assert "other colours" in coloured
    assert "RGB (20) against L (120)" in coloured


def test_broken_files_of_another_tool_are_said(photos: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "other", 120, 5)
    assert not any("broken" in note for note in subject_of(other, photos, None).notes)
    (other / "left" / "half.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert any(
        "1 synthetic samples are broken" in n and "half.png" in n
        for n in subject_of(other, photos, None).notes
    )


def test_samples_without_labels_are_told_what_they_lack(photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in tree(tmp_path / "other", 20, 5).rglob("*.png"):
        path.rename(flat / path.name)
    with pytest.raises(
        BadInput, match=r"have no labels, the real ones have 'left', 'right'\. Put each into a folder"
    ):
        subject_of(flat, photos, None)
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in tree(tmp_path / "more", 20, 6).rglob("*.png"):
        path.rename(bare / path.name)
    assert len(subject_of(flat, bare, None).fake) == 20  # where the real ones have none either


def test_the_columns_of_another_tool_can_be_named(photos: Path, tmp_path: Path) -> None:
    """Its class stands in one of two columns, neither of which is called as the real ones call it."""
    made = tmp_path / "made"
    made.mkdir()
    lines = ["file_name,digit,batch"]
    for number, place in enumerate(sorted(photos.glob("train/*/*.png"))[::5]):
        (made / f"{number}.png").write_bytes(place.read_bytes())
        lines.append(f"{number}.png,{place.parent.name},{'ab'[number % 2]}")
    (made / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(BadInput, match="--label-column"):
        subject_of(made, photos, None)
    subject = subject_of(made, photos, None, "digit")
    assert set(subject.fake.classes(range(len(subject.fake)))) <= set(subject.data.condition.classes)
    with pytest.raises(BadInput, match="no column 'digits'"):
        subject_of(made, photos, None, "digits")
    with pytest.raises(BadInput, match="in that order"):
        subject_of(made, photos, None, "digit,batch")


def test_columns_that_cannot_be_chosen_are_not_passed_over(photos: Path, tmp_path: Path) -> None:
    made = tree(tmp_path / "made", 20, 6)
    subject = subject_of(made, photos, None, "digit")  # class folders have no columns
    assert any("no columns to choose from" in note for note in subject.notes)
    assert not any("no columns to choose from" in note for note in subject_of(made, photos, None).notes)
    with pytest.raises(UsageError, match="read already"):
        subject_of(read(made), photos, None, "digit")
