"""The larger set: real files as they were, synthetic ones that say so, whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sibling
from sibling import files
from sibling.dataset import Dataset
from sibling.errors import ResourceError, UsageError
from sibling.snapshot import Snapshot


@pytest.fixture(scope="module")
def made(run: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """20 samples with the scores of a curation."""
    own = Snapshot(shutil.copytree(run.folder, tmp_path_factory.mktemp("made") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sibling.judge.steps_for", lambda n: 60)
        return sibling.curate(sibling.sample(own, want=2), against=own, rounds=9)


@pytest.fixture(scope="module")
def larger(data: Dataset, made: Dataset, run: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sibling.write(data, made, out=tmp_path_factory.mktemp("larger") / "set", against=run)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_every_file_has_a_row_and_every_row_its_file(larger: Path, data: Dataset, made: Dataset) -> None:
    rows = rows_of(larger)
    pictures = {path.relative_to(larger).as_posix() for path in larger.rglob("*.png")}
    assert {row["file_name"] for row in rows} == pictures
    assert len(rows) == len(pictures) == len(data) + len(made)
    for row in rows:
        assert row["file_name"].split("/")[0] == row["label"]
        assert row["origin"] in ("real", "synthetic")


def test_real_files_are_byte_identical_copies(larger: Path, digits: Path) -> None:
    real = [row for row in rows_of(larger) if row["origin"] == "real"]
    assert len(real) == 300
    for row in real:
        assert (larger / row["file_name"]).read_bytes() == (digits / row["key"]).read_bytes()
        assert row["split"] in ("train", "val", "test")


def test_synthetic_files_say_what_they_are(larger: Path, made: Dataset, run: Snapshot) -> None:
    rows = {row["key"]: row for row in rows_of(larger) if row["origin"] == "synthetic"}
    assert set(rows) == set(made.table["key"])
    for key, raw in zip(made.table["key"], made.raw, strict=True):
        row = rows[key]
        assert row["split"] == "train"
        assert row["snapshot"] == run.name
        assert isinstance(row["seed"], int)
        assert isinstance(row["index"], int)
        assert {"copy_ratio", "label_agreement"} <= row["scores"].keys()
        assert row["nearest_real"]
        again = made.modality.decode((larger / row["file_name"]).read_bytes())
        assert np.array_equal(again, raw)


def test_the_manifest_comes_last_and_names_the_snapshot(larger: Path, run: Snapshot) -> None:
    manifest, wrong = files.check_manifest(larger)
    assert wrong == []
    assert manifest["kind"] == "dataset"
    assert manifest["snapshot"] == run.hash
    assert len(manifest["files"]) == len(rows_of(larger)) + 3  # metadata.jsonl and the two cards
    card = (larger / "README.md").read_text()
    assert f"- 20 by the snapshot {run.name} (sha256 of its weights: `{run.hash}`)" in card


def test_the_same_write_gives_the_same_bytes(
    larger: Path, data: Dataset, made: Dataset, run: Snapshot, tmp_path: Path
) -> None:
    again = sibling.write(data, made, out=tmp_path / "set", against=run)
    assert (again / "MANIFEST.json").read_bytes() == (larger / "MANIFEST.json").read_bytes()


def test_origin_is_not_lost_when_the_set_is_read_again(larger: Path, data: Dataset, made: Dataset) -> None:
    again = sibling.read(larger)
    assert again.table["origin"].count("synthetic") == len(made)
    assert set(again.rows(origin="synthetic")) <= set(again.rows("train"))
    parts = {key: part for key, part in zip(data.table["key"], data.table["split"], strict=True)}
    known = {row["file_name"]: row["key"] for row in rows_of(larger)}
    for name, part, origin in zip(
        again.table["key"], again.table["split"], again.table["origin"], strict=True
    ):
        if origin == "real":
            assert part == parts[known[name]]


def test_datasets_reads_the_labels(larger: Path, tmp_path: Path) -> None:
    """The outside judge: Hugging Face `datasets`, offline, in a process of its own."""
    code = """
import collections, json, sys, warnings
warnings.simplefilter("ignore")
import datasets
found = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[2])
print(json.dumps([found.column_names, collections.Counter(map(str, found["label"])), found[0]["image"].size]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, larger, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    columns, labels, size = json.loads(done.stdout.splitlines()[-1])
    assert {"image", "label", "origin", "seed", "index", "snapshot"} <= set(columns)
    expected: dict[str, int] = {}
    for row in rows_of(larger):
        expected[row["label"]] = expected.get(row["label"], 0) + 1
    assert labels == expected
    assert size == [8, 8]


@pytest.mark.parametrize("link", ["hard", "sym"])
def test_real_files_can_be_linked(link: str, data: Dataset, digits: Path, tmp_path: Path) -> None:
    out = sibling.write(data, out=tmp_path / "set", link=link)
    for row in rows_of(out)[:20]:
        target, source = out / row["file_name"], digits / row["key"]
        assert target.samefile(source)
        assert target.is_symlink() == (link == "sym")
        assert "link" not in row
    assert sibling.verify(out) == []


def test_two_files_of_one_name_do_not_meet(tmp_path: Path, data: Dataset) -> None:
    for number, folder in enumerate(("in/cat/one", "in/cat/two", "in/dog/one")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(data.modality.encode(data.raw[number]))
    out = sibling.write(sibling.read(tmp_path / "in"), out=tmp_path / "set")
    assert sorted(row["file_name"] for row in rows_of(out)) == ["cat/a-2.png", "cat/a.png", "dog/a.png"]


# ---- what is refused ------------------------------------------------------------------------------


def test_the_output_may_not_lie_in_the_input(digits: Path, data: Dataset) -> None:
    for real in (digits, data, sibling.read(digits)):
        for out in (digits, digits / "larger", digits / "3" / "larger"):
            with pytest.raises(UsageError, match="the input"):
                sibling.write(real, out=out, overwrite=True)
    assert len(list(digits.iterdir())) == 12  # ten classes, metadata.jsonl, MANIFEST.json


def test_foreign_and_finished_places_are_refused(data: Dataset, made: Dataset, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not made by Sibling"):
        sibling.write(data, out=tmp_path / "foreign", overwrite=True)
    out = sibling.write(fake=made, out=tmp_path / "set")
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.write(fake=made, out=out)
    (out / "3" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"3/mine\.txt"):
        sibling.write(fake=made, out=out, overwrite=True)
    (out / "3" / "mine.txt").unlink()
    assert sibling.write(data, out=out, overwrite=True)
    assert len(rows_of(out)) == 300
    assert (tmp_path / "foreign" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "options",
    [{"link": "soft"}, {"format": "foldr"}, {}, {"empty": True}],
    ids=["link", "format", "nothing", "empty"],
)
def test_what_cannot_be_written_is_refused(options: dict[str, Any], data: Dataset, tmp_path: Path) -> None:
    real = None if not options else data.subset([]) if options.pop("empty", False) else data
    with pytest.raises(UsageError):
        sibling.write(real, out=tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


# ---- stopped in the middle ------------------------------------------------------------------------

FORKS = """
import os, sys
from pathlib import Path
import sibling, sibling.commands, sibling.write as module, pyarrow.parquet
from sibling import files
from sibling.cli import main
store = Path(sys.argv[1])
for plan in sys.argv[3:]:
    kind, _, at = plan.partition("@")
    out = Path(sys.argv[2]) / kind
    child = os.fork()
    if child == 0:
        try:
            os.environ["SIBLING_FAULT"] = plan if at != "0" else ""
            files._operations = 0
            os._exit(main(["write", str(store), "--out", str(out)]))
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(plan, code, int(out.exists()), flush=True)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of 30 digits."""
    folder = tmp_path_factory.mktemp("small")
    sibling.read(sibling.example(folder / "in", per_class=3), out=folder / "store")
    return folder / "store"


def test_stopped_at_any_operation_nothing_is_half_written(store: Path, tmp_path: Path) -> None:
    """The first and the last of 30 copies, those of metadata, cards and manifest, the two of the rename; then none."""
    points = [1, 30, 31, 33, 35, 37, 39, 40, 30 + 2 + 4 + 3 + 2]
    plans = [f"{kind}@{at}" for kind in ("ENOSPC", "kill") for at in (*points, 0)] + ["EACCES@17", "EACCES@0"]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, store, tmp_path, *plans],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows = [line.split() for line in done.stdout.splitlines() if "@" in line]
    assert [row[0] for row in rows] == plans
    for plan, code, there in rows:
        expected = ("0", "1") if plan.endswith("@0") else ("-9" if plan.startswith("kill") else "4", "0")
        assert (code, there) == expected, plan
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EACCES", "ENOSPC", "kill"]
    assert all(sibling.verify(folder) == [] for folder in tmp_path.iterdir())


AS_NOBODY = """
import json, os, sys
import torch._dynamo, pyarrow.parquet, sibling.commands, sibling.fit, sibling.write  # nobody may read all of Python
from sibling.cli import main
os.setgid(65534)
os.setuid(65534)
codes = []
for arguments in json.loads(sys.argv[1]):
    print("----", *arguments, file=sys.stderr)
    codes.append(main(arguments))
print(json.dumps(codes))
"""


def test_a_place_that_is_not_ours_is_code_4(tmp_path: Path) -> None:
    """As a user whom modes bind: root ignores them."""
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        place.chmod(0o755)
        sibling.read(sibling.example(place / "in", per_class=3), out=place / "store")
        (place / "locked").mkdir(mode=0o555)
        (place / "open").mkdir()
        (place / "open").chmod(0o777)
        store = str(place / "store")
        jobs = [
            ["write", store, "--out", str(place / "locked" / "x")],
            ["fit", store, "--steps", "1", "--out", str(place / "locked" / "x")],
            ["write", store, "--out", str(place / "open" / "x")],  # the control: elsewhere the same user may
        ]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, json.dumps(jobs)], capture_output=True, text=True, timeout=90
        )
        assert json.loads(done.stdout.splitlines()[-1]) == [4, 4, 0], done.stderr
        assert done.stderr.count("No permission to write") == 2
        assert "Traceback" not in done.stderr
        assert "training samples" not in done.stderr  # found out before the work
        assert list((place / "locked").iterdir()) == []
    finally:
        shutil.rmtree(place)


def test_a_source_that_cannot_be_read_is_named_as_such(tmp_path: Path) -> None:
    data = sibling.read(sibling.example(tmp_path / "in", per_class=3))
    (tmp_path / "in" / "3" / "3-001.png").unlink()
    (tmp_path / "in" / "3" / "3-001.png").mkdir()
    out = sibling.write(data, out=tmp_path / "set")  # what is gone comes from the store
    assert sibling.verify(out) == []
    with pytest.raises(ResourceError, match="could not be read"):
        files.copy_file(tmp_path / "nothing", tmp_path / "target")


def test_samples_of_another_tool_are_written_as_synthetic_and_in_no_test_part(
    data: Dataset, digits: Path, tmp_path: Path
) -> None:
    """Their folder does not say so; taken for real ones they would end up in the test part of the larger set."""
    out = Path(sibling.write(data, digits, out=tmp_path / "out"))
    rows = rows_of(out)
    made = [row for row in rows if row["origin"] == "synthetic"]
    assert len(made) == len(data) == len(rows) - len(made)
    assert {row["split"] for row in made} == {"train"}
    other = sibling.read(digits)
    before = list(other.table["split"])
    again = rows_of(Path(sibling.write(fake=other, out=tmp_path / "again")))
    assert {row["origin"] for row in again} == {"synthetic"}
    assert other.table["split"] == before  # what the caller holds stays as it is
    assert set(other.table["origin"]) == {"real"}
