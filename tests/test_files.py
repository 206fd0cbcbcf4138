"""The only place that writes: whole or not at all, locked, hashed, and swept after a kill."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sibling import files
from sibling.errors import BadInput, ResourceError, UsageError

Fault = Callable[[str], None]


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """`fault("ENOSPC@3")`: the third disk operation from now on fails."""

    def plan(text: str) -> None:
        monkeypatch.setattr(files, "_operations", 0)
        monkeypatch.setenv("SIBLING_FAULT", text)

    return plan


def make(out: Path, content: str = "new", **options: bool) -> Path:
    with files.new_folder(out, kind="dataset", **options) as folder:
        files.write_bytes(folder / "a" / "one.txt", content.encode(), durable=False)
        files.write_json(folder / "two.json", {"content": content}, durable=False)
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- one file -------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "deep" / "x", b"one")
    files.write_bytes(tmp_path / "deep" / "x", b"two")
    assert tree(tmp_path) == {"deep/x": b"two"}


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "EACCES", "EDQUOT", "EROFS"])
def test_a_failing_write_leaves_the_old_file(kind: str, at: int, fault: Fault, tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "x", b"old")
    fault(f"{kind}@{at}")
    with pytest.raises(ResourceError, match=str(tmp_path / "x")) as caught:
        files.write_bytes(tmp_path / "x", b"new")
    assert caught.value.exit_code == 4
    assert tree(tmp_path) == {"x": b"old"}
    files.write_bytes(tmp_path / "x", b"new")  # the fault was the only reason
    assert tree(tmp_path) == {"x": b"new"}


def test_a_full_disk_says_what_to_do(fault: Fault, tmp_path: Path) -> None:
    fault("ENOSPC@1")
    with pytest.raises(ResourceError, match=r"disk is full.*MB free.*run the same command again"):
        files.write_bytes(tmp_path / "x", b"new")


def test_a_file_size_limit_is_a_full_disk_too(tmp_path: Path) -> None:
    """A real limit of the operating system instead of a planned fault."""
    code = """
import resource, signal, sys
from pathlib import Path
from sibling import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = Path(sys.argv[1]) / "x"
files.write_bytes(target, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write_bytes(target, bytes(5000))
except files.ResourceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "disk is full" in done.stdout
    assert tree(tmp_path) == {"x": b"old"}


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "two.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


def test_readers_see_old_or_new_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"n": 0, "pad": "x" * 5000})
    code = """
import sys
from pathlib import Path
from sibling import files
for n in range(1500):
    files.write_json(Path(sys.argv[1]), {"n": n, "pad": "x" * 5000}, durable=False)
"""
    writer = subprocess.Popen([sys.executable, "-c", code, path])
    seen = set()
    while writer.poll() is None:
        seen.add(json.loads(path.read_text())["n"])
    assert writer.returncode == 0
    assert len(seen) > 1


# ---- JSON -----------------------------------------------------------------------------------------


def test_json_has_no_nan(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, np.float32(1.5), np.int64(3)], 4: (1, Path("x")), "é": "ü"}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == {"a": None, "b": [None, 1.5, 3], "4": [1, "x"], "é": "ü"}
    assert "NaN" not in (tmp_path / "x.json").read_text()


def test_a_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    files.write_json(tmp_path / "x.json", [name])
    files.append_jsonl(tmp_path / "x.jsonl", [{"n": name}])
    assert files.read_json(tmp_path / "x.json") == [name]
    assert files.read_jsonl(tmp_path / "x.jsonl") == [{"n": name}]


def test_a_torn_last_row_is_left_out_and_a_torn_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert files.read_jsonl(path) == []
    files.append_jsonl(path, [{"a": 1}, {"a": 2}])
    path.write_text(path.read_text() + '{"a": 3')
    assert files.read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(BadInput, match="line 2: not JSON"):
        files.read_jsonl(path)


@pytest.mark.parametrize("text", [None, "", "{", "nul"])
def test_a_broken_json_file_is_named(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=r"x\.json"):
        files.read_json(tmp_path / "x.json")


# ---- a whole folder -------------------------------------------------------------------------------


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    out = make(tmp_path / "deep" / "out")
    manifest, wrong = files.check_manifest(out)
    assert wrong == []
    assert manifest["kind"] == "dataset"
    assert set(manifest["files"]) == {"a/one.txt", "two.json"}


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.new_folder(tmp_path / "out", kind="dataset") as folder:
            files.write_bytes(folder / "x", b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


KILLS = """
import os, sys
from pathlib import Path
from sibling import files
out, overwrite = Path(sys.argv[1]), bool(int(sys.argv[2]))
for at in range(1, 40):
    child = os.fork()
    if child == 0:
        os.environ["SIBLING_FAULT"] = f"{sys.argv[3]}@{at}"
        files._operations = 0
        try:
            with files.new_folder(out, kind="dataset", overwrite=overwrite) as folder:
                files.write_bytes(folder / "a" / "one.txt", b"new", durable=False)
                files.write_json(folder / "two.json", {"content": "new"}, durable=False)
            os._exit(0)
        except files.ResourceError:
            os._exit(4)
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    held = (out / "two.json").read_text() if (out / "two.json").exists() else "nothing"
    wrong = files.check_manifest(out)[1] if out.exists() else []
    print(at, code, "new" if "new" in held else "old" if "old" in held else "nothing", len(wrong))
    if code == 0:
        break
"""


@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_stopped_at_any_operation_a_folder_is_old_or_new_or_absent(
    kind: str, overwrite: bool, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if overwrite:
        make(out, "old")
    done = subprocess.run(
        [sys.executable, "-c", KILLS, out, str(int(overwrite)), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) >= 8
    assert [row[1] for row in rows[:-1]] == ["-9" if kind == "kill" else "4"] * (len(rows) - 1)
    assert rows[-1][1:] == ["0", "new", "0"]
    assert {row[3] for row in rows} == {"0"}
    before = {row[2] for row in rows[:-1]}
    # Killed between the two renames of an overwrite the place is empty, and the next run brings the old one back.
    assert before <= (
        {"old", "nothing"} if overwrite and kind == "kill" else {"old"} if overwrite else {"nothing"}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # what was left half-written is swept


def test_between_the_two_renames_the_old_one_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    (tmp_path / "out").rename(tmp_path / f".sibling-partial-{dead.stdout.strip()}-old-out")
    files.sweep(tmp_path)
    assert "old" in (tmp_path / "out" / "two.json").read_text()


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    for name in (f".sibling-partial-{dead.stdout.strip()}-x", f".sibling-partial-{os.getpid()}-x", "x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / f".sibling-partial-{dead.stdout.strip()}-file").touch()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".sibling-partial-{os.getpid()}-x", "x"]
    files.sweep(tmp_path / "nothing there")


def test_a_finished_folder_needs_overwrite_and_a_foreign_one_is_never_touched(tmp_path: Path) -> None:
    out = make(tmp_path / "out", "old")
    with pytest.raises(UsageError, match="--overwrite"):
        make(out)
    assert make(out, overwrite=True)
    (out / "mine.txt").write_text("mine")
    before = tree(out)
    with pytest.raises(UsageError, match=r"did not write.*mine\.txt"):
        make(out, overwrite=True)
    assert tree(out) == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x").touch()
    (tmp_path / "file").touch()
    for place, said in (("foreign", "not made by Sibling"), ("file", "is a file")):
        with pytest.raises(UsageError, match=said):
            make(tmp_path / place, overwrite=True)
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


def test_a_very_long_name_works(tmp_path: Path) -> None:
    out = make(tmp_path / ("x" * 250))
    files.write_bytes(out / ("y" * 250), b"1")
    make(tmp_path / "z")


# ---- manifests ------------------------------------------------------------------------------------


def test_every_change_is_found(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    path = out / "a" / "one.txt"
    content = path.read_bytes()
    for change, said in (
        (content[:-1] + b"!", "its content has changed"),
        (content + b"!", "the manifest says 3"),
        (b"", "0 bytes"),
        (None, "missing"),
    ):
        path.unlink(missing_ok=True)
        if change is not None:
            path.write_bytes(change)
        (sentence,) = files.check_manifest(out)[1]
        assert sentence.startswith("a/one.txt: ")
        assert said in sentence
    path.write_bytes(content)
    assert files.check_manifest(out)[1] == []


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}', "{}"])
def test_a_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    (out / "MANIFEST.json").write_text(text)
    with pytest.raises(BadInput, match=r"MANIFEST\.json"):
        files.check_manifest(out)
    (out / "MANIFEST.json").unlink()
    with pytest.raises(BadInput, match="not finished, or not made by Sibling"):
        files.check_manifest(out)


def test_a_manifest_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    (tmp_path / "secret").write_text("secret")
    entry = {"bytes": 6, "sha256": files.hash_file(tmp_path / "secret")}
    for name in ("../secret", str(tmp_path / "secret"), "a/../../secret"):
        files.write_json(out / "MANIFEST.json", {"files": {name: entry}})
        assert "cannot be right" in files.check_manifest(out)[1][0]


# ---- places ---------------------------------------------------------------------------------------


def test_output_and_input_may_not_lie_in_each_other(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for out in ("in", "in/new", "in/sub/new", "link/new", "other/../in/new", "."):
        with pytest.raises(UsageError, match="lie in each other"):
            files.refuse_overlap(tmp_path / out, tmp_path / "in")
    for out in ("in2", "inn/new", "other"):  # a common beginning of the name is no overlap
        files.refuse_overlap(tmp_path / out, tmp_path / "in", None)


def test_a_lock_is_held_by_one_and_dies_with_its_holder(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from sibling import files
with files.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"in use by process {holder.pid} on "), files.lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with files.lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_copies_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"picture")
    for how in ("copy", "hard", "sym"):
        target = tmp_path / how / "x"
        files.copy_file(source, target, how=how)
        assert target.read_bytes() == b"picture"
        assert target.is_symlink() == (how == "sym")
        assert (target.stat().st_ino == source.stat().st_ino) == (how != "copy")


def test_a_hard_link_across_devices_becomes_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "other device")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "source").write_bytes(b"picture")
    files.copy_file(tmp_path / "source", tmp_path / "x", how="hard")
    assert (tmp_path / "x").read_bytes() == b"picture"


def test_an_array_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="disk is full"):
        files.new_array(tmp_path / "x.npy", (2**50,), np.uint8)
    array = files.new_array(tmp_path / "y.npy", (3, 2), np.uint8)
    array[1] = 7
    array.flush()
    assert files.open_array(tmp_path / "y.npy").tolist() == [[0, 0], [7, 7], [0, 0]]
