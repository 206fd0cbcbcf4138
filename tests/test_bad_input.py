"""One line that says what to do, the right exit code; nothing half-written, nothing opened outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import badplaces
import badzoo
import numpy as np
import pytest

import sibling
from sibling import files
from sibling.cli import main
from sibling.errors import BadInput, ResourceError, UsageError
from sibling.read import describe, read

# ---- bad places --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", badplaces.BAD_PLACES)
def test_bad_places(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, code, reason = badplaces.BAD_PLACES[name]
    place, out = make(tmp_path / "in"), tmp_path / "store"
    assert main(["read", str(place), "--out", str(out)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(reason, printed.err)
    assert printed.err.startswith("sibling: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1500
    assert sorted(path.name for path in tmp_path.iterdir()) in (["in"], [])  # nothing was begun
    assert not Path("/tmp/sibling-canary").exists()


@pytest.mark.parametrize("name", badzoo.BAD_FILES)
def test_bad_files_are_listed_and_the_rest_goes_on(name: str, tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in")
    badzoo.put(place / "cat" / name, badzoo.BAD_FILES[name][0]())
    with pytest.raises(BadInput, match=r"1 of 13 samples cannot be used.*on_bad='skip'"):
        read(place)
    data = read(place, on_bad="skip")
    assert len(data) == len(data.raw) == 12
    assert [entry["key"] for entry in data.found["bad"]] == [f"cat/{name}"]
    assert re.search(badzoo.BAD_FILES[name][1], data.found["bad"][0]["reason"])
    assert any(f"cat/{name}" in line for line in describe(data))


def test_one_bad_in_a_hundred_is_skipped_and_two_stop(tmp_path: Path) -> None:
    place = badzoo.classes(tmp_path / "in", each=50)
    badzoo.put(place / "cat" / "000.png", b"broken")
    assert len(read(place)) == 99
    with pytest.raises(BadInput, match="1 of 100"):
        read(place, on_bad="stop")
    badzoo.put(place / "dog" / "000.png", b"broken")
    with pytest.raises(BadInput, match="2 of 100"):
        read(place)
    assert len(read(place, on_bad="skip")) == 98


def test_no_permission_and_vanishing_files(tmp_path: Path) -> None:
    # /proc/self/mem is a regular file that cannot be read at its start, even by root
    place = badzoo.classes(tmp_path / "in")
    (place / "cat" / "memory.png").symlink_to("/proc/self/mem")
    data = read(place, on_bad="skip")
    assert data.found["bad"][0]["reason"].startswith("cannot be")
    assert len(data) == 12


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 3}, "size is 3"),
        ({"val": 0.5, "test": 0.5}, "val is 0.5"),
        ({"test": -0.1}, "test is -0.1"),
        ({"on_bad": "ignore"}, "known: auto, skip, stop"),
        ({"modality": "smell"}, "'smell'.*image"),
    ],
)
def test_wrong_arguments(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    badzoo.classes(tmp_path)
    with pytest.raises(UsageError, match=reason):
        read(tmp_path, **options)


# ---- the real command line, and what it opens --------------------------------------------------

_SPY = """
import sys
opened = open(sys.argv.pop(1), "w")
def spy(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "pickle.find_class", "subprocess.Popen"):
        opened.write(f"{event} {arguments[0]!r}\\n")
sys.addaudithook(spy)
from sibling.cli import main
for place in sys.argv[1:]:
    print("==", place, main(["read", place, "--on-bad", "skip"]), flush=True)
    opened.write("==")
"""


def spied(log: Path, *places: Path) -> tuple[str, str, list[str]]:
    """Read places in a real process that notes every file it opens: stdout, stderr, what each opened."""
    command = [sys.executable, "-c", _SPY, str(log), *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr, log.read_text().split("==")


def test_what_is_refused_is_never_opened(tmp_path: Path) -> None:
    place = badplaces.escaping(tmp_path / "a", "link-out.png")
    control = badplaces.escaping(tmp_path / "b", "link-out.png")
    (control / "metadata.csv").unlink()
    objects = badzoo.npz(tmp_path / "x.npz", x=np.zeros((3, 9, 9)), y=np.array([badplaces.Canary()] * 3))
    out, err, opened = spied(tmp_path / "log", place, control, objects)
    assert f"== {place} 6" in out
    assert "canary" not in opened[0]
    assert "link-out" not in opened[0]
    assert "0.png" not in opened[0]  # not even what is inside
    assert f"{place}/metadata.csv" in opened[0]
    assert (
        f"== {control} 0" in out
    )  # the control: without a label file links are followed, aloud, and the spy sees it
    assert "folder-out/canary.png" in opened[1]
    assert "2 links lead out of the folder" in out
    assert f"== {objects} 6" in out
    assert "pickle.find_class" not in "".join(opened)
    assert not Path("/tmp/sibling-canary").exists()
    assert err.count("\n") == 2


_SMALL = """
import os, resource, signal, sys
from sibling.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    print(main(["read", sys.argv[1], "--out", sys.argv[2] + "/store"]), os.listdir(sys.argv[2]))
"""


def test_a_full_disk(tmp_path: Path) -> None:
    place, disk = badzoo.classes(tmp_path / "in", each=40), tmp_path / "disk"
    disk.mkdir()
    limits = ["1000", "10000", "50000", "1000000"]  # raw alone takes 61 568 bytes
    command = [sys.executable, "-c", _SMALL, str(place), str(disk), *limits]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert [line.split()[0] for line in done.stdout.splitlines() if line[0] in "04"] == [
        "4",
        "4",
        "4",
        "0",
    ], done.stderr
    assert done.stdout.count("4 []") == 3  # nothing is left
    assert re.fullmatch(r"(sibling: The disk is full.*Free some space.*\n){3}", done.stderr)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES"])
def test_no_failing_write_leaves_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    place, disk = badzoo.classes(tmp_path / "in"), tmp_path / "disk"
    disk.mkdir()
    for k in range(1, 40):
        monkeypatch.setattr(files, "_operations", 0)
        monkeypatch.setenv("SIBLING_FAULT", f"{error}@{k}")
        try:
            data = read(place, out=disk / "store")
        except ResourceError:
            assert os.listdir(disk) == []
        else:
            break
    assert len(data) == 12
    assert k > 5  # the control: several writes did fail


def test_a_read_only_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = badzoo.classes(tmp_path / "in")
    assert main(["read", str(place), "--out", "/proc/nowhere/store"]) == 4
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "/proc/nowhere" in printed.err


def test_nowhere_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(ResourceError, match=r"--out"):
        read(badzoo.classes(tmp_path))


def test_strange_names_are_shown_and_not_obeyed(
    tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    odd = ("\x1b[31mred", "a\nb", "\u202eabc", "<script>", "=cmd()", os.fsdecode(b"caf\xe9"), "x" * 250)
    place = badzoo.classes(tmp_path / "in", (*odd, "ok"), each=4)
    badzoo.put(place / "ok" / "\x1b]0;title\x07.png", b"broken")
    done = cli("read", place, "--on-bad", "skip", "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "classes     8:" in done.stdout
    assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\u202e"}
    data = read(tmp_path / "store")
    assert all(Path(source).is_file() for source in data.table["source"])
    assert len(set(data.table["y"])) == 8
    again = read(sibling.write(data, out=tmp_path / "out"))
    assert Counter(again.table["y"]) == Counter(data.table["y"])
