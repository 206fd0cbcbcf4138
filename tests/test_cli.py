"""The command line: help, one-line errors, exit codes, pipes, signals."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image as PIL
import pytest
from fake_run import dump, regression, undecided, verdict, write_evaluation

import sibling
from sibling import cli as cli_module
from sibling import commands
from sibling.cli import main
from sibling.snapshot import Snapshot

VERBS = [*cli_module._VERBS]
ROLES = ["rival", "rival", "rival", "rival", "candidate", "control", "reference"]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
    assert {
        "convert",
        "curate",
        "enlarge",
        "evaluate",
        "example",
        "fit",
        "read",
        "report",
        "sample",
        "verify",
        "write",
    } <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: sibling {verb}" in shown
    if verb not in ("models", "latent"):
        parameters = set(
            getattr(sibling, verb).__code__.co_varnames[: getattr(sibling, verb).__code__.co_kwonlyargcount]
        )
        assert all(f"--{name.replace('_', '-')}" in shown for name in parameters - {"like", "place"})


@pytest.mark.parametrize("look", [*cli_module._LATENT])
def test_every_look_has_help_with_its_options(look: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latent", "--help"]) == 0
    assert look in capsys.readouterr().out
    assert main(["latent", look, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: sibling latent {look}" in shown
    code = getattr(sibling, look).__code__
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    assert all(f"--{name.replace('_', '-')}" in shown for name in named)


def test_looks_write_pictures_and_say_what_they_show(
    run: Snapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = str(run.folder), run.data.table["key"][0]
    calls = [
        ["truncate", place, "--psi", "0", "1", "--group", "3"],
        ["interpolate", place, "--group", "3", "--to-group", "8", "--frames", "4"],
        ["interpolate", place, "--images", key, "--images", run.data.table["key"][1]],
        ["vary", place, "--over", "label=3,8", "--rows", "2"],
        ["project", place, key, run.data.table["key"][1], "--codes", str(tmp_path / "codes.npz")],
    ]
    for number, call in enumerate(calls):
        out = tmp_path / f"{number}.{'gif' if number == 1 else 'png'}"
        assert main(["latent", *call, "--out", str(out)]) == 0
        assert str(out) in capsys.readouterr().out
        assert out.stat().st_size > 100
        assert main(["latent", *call, "--out", str(out)]) == 2
        assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "codes.npz").is_file()
    assert main(["latent", "vary", place, "--rows", "1"]) == 0
    assert "No picture was written" in capsys.readouterr().out
    assert main(["latent", "project", place, key]) == 0
    assert f"{key}  root mean squared error 0." in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == sibling.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fit"], 2, "data"),
        (["fti"], 2, "fti"),
        (["read", "{digits}", "--sise", "3"], 2, "--sise"),
        (["read", "{digits}", "--size", "three"], 2, "three"),
        (["read", "{digits}", "--size", "2"], 2, "size is 2"),
        (["read", "{digits}", "--on-bad", "ignore"], 2, "known: auto, skip, stop"),
        (["read", "/no/where"], 3, "nothing at /no/where"),
        (["fit", "{digits}", "--out", "{tmp}/r", "--steps", "1", "--minutes", "1"], 2, "not both"),
        (["fit", "{digits}", "--out", "{tmp}/r", "--model", "vea"], 2, "Did you mean 'vae'"),
        (["fit", "{digits}", "--out", "{tmp}/r", "--arguments", "{"], 2, "not JSON"),
        (["fit", "{digits}", "--out", "{tmp}/r", "--arguments", "[1]"], 2, "not a JSON object"),
        (["fit", "{digits}", "--out", "{tmp}/r", "--arguments", '{"latnet": 3}'], 2, "latent"),
        (["fit", "{digits}", "--out", "{digits}/r"], 2, "lie in each other"),
        (["sample", "{tmp}"], 3, "no run.json"),
        (["sample", "{run}", "--want", "many"], 2, "known: balance, x5, 500"),
        (["sample", "{run}", "--want", '{"q": 3}'], 2, "no class 'q'"),
        (["write", "{digits}", "--out", "{tmp}/w", "--link", "soft"], 2, "known: copy, hard, sym"),
        (["write", "--out", "{tmp}/w"], 2, "nothing to write"),
        (["verify", "{tmp}"], 3, "not made by Sibling"),
        (["report", "{tmp}"], 3, ""),
        (["latent", "vray"], 2, "vray"),
        (["latent", "reject", "{run}"], 2, "no discriminator"),
        (["latent", "vary", "{run}", "--over", "sise=0:1:3"], 2, "no column 'sise'"),
        (["latent", "truncate", "{run}", "--out", "{tmp}/a.jpg"], 2, ".png, or a .gif"),
        (["latent", "project", "{run}", "/no/where.png"], 3, "neither a file nor a key"),
        (["enlarge", "{digits}", "{digits}/larger"], 2, "lie in each other"),
        (["example", "{digits}"], 2, "--overwrite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_with_its_code(
    arguments: list[str], code: int, said: str, digits: Path, run: Snapshot, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    filled = [a.replace("{digits}", str(digits)).replace("{tmp}", str(tmp_path)).replace("{run}", str(run.folder))
              for a in arguments]  # fmt: skip
    assert main(filled) == code
    out, shown = capsys.readouterr()
    lines = [line for line in shown.splitlines() if line.startswith("sibling: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in out + shown
    assert not (tmp_path / "r").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(sibling.SiblingError):
        main(["sample", str(tmp_path), "--debug"])


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        cli_module._guarded(broken, debug=False)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError(), 4, "Memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 4, "Memory ran out"),
        (PermissionError(13, "Permission denied", "/x/y"), 4, "/x/y: Permission denied"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert cli_module._guarded(work, debug=False) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_names_with_terminal_escapes_are_shown_not_obeyed(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "red\x1b[31m\x07"
    for name in (evil, "plain"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for source in sorted((digits / "3").iterdir())[:5]:
            (tmp_path / "in" / name / source.name).write_bytes(source.read_bytes())
    (tmp_path / "in" / evil / "broken.png").write_text("no picture")
    main(["read", str(tmp_path / "in"), "--on-bad", "skip"])
    main(["read", str(tmp_path / evil)])
    out, shown = capsys.readouterr()
    assert "\x1b" not in out + shown
    assert "\\x1b[31m\\x07" in out
    assert "\\x1b[31m\\x07" in shown


def test_models_lists_every_model_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "vae" in shown
    assert "bootstrap" in shown
    assert "latent" in shown


def test_read_says_what_is_there(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", str(digits)]) == 0
    shown = capsys.readouterr().out
    assert "300 samples" in shown
    assert "split" in shown


def test_evaluate_prints_floors_arms_and_the_sentence(
    own_run: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    made = own_run.folder.parent / "made"
    sibling.sample(own_run, want=3, out=made)
    assert (
        main(["evaluate", str(made), "--against", str(own_run.folder), "--seeds", "1", "--steps", "5"]) == 0
    )
    shown = capsys.readouterr().out
    assert "floor" in shown
    assert "shuffled labels" in shown
    assert f"sibling report {own_run.folder}" in shown
    assert shown.splitlines()[-1].startswith(("The synthetic", "There is no evidence", "Nobody can tell"))


def test_evaluate_prints_what_the_files_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_evaluation(tmp_path / "made-evaluation", ["a", "b"])
    commands._after_evaluate(SimpleNamespace(folder=folder), {})
    lines = capsys.readouterr().out.splitlines()
    arms = {line[:22].strip(): line[22:].split() for line in lines[1:8]}
    assert lines[0].split("  ")[0] == "arm"
    assert arms["real + classic"] == ["90.5", "%", "+2.1", "+0.3", "to", "+3.9", "3", "rival"]
    assert arms["real"] == ["76.2", "%", "-", "1", "rival,", "stopped"]
    assert arms["shuffled labels"][-1] == "control"
    assert len({line.index(word) for line, word in zip(lines[1:8], ROLES, strict=True)}) == 1
    heads = [line.split()[0] for before, line in itertools.pairwise(lines) if before == ""]
    assert heads == ["fidelity", "copies", "labels", "note"]
    assert lines[-5:] == [
        f"scores    {folder / 'scores.json'}", f"verdict   {folder / 'verdict.json'}",
        f"report    {folder / 'report.html'}",
        "warning   61 % of the synthetic samples are copies <of> a training sample.", verdict(["a"])["sentence"],
    ]  # fmt: skip
    assert sibling.verify(folder) == []
    # The report has the warning in the box of the verdict, before any section.
    head = (folder / "report.html").read_text().partition("<main>")[0]
    assert "61 % of the synthetic samples are copies &lt;of&gt; a training sample." in head


@pytest.mark.parametrize("answer", [regression(), undecided()], ids=["regression", "undecided"])
def test_evaluate_prints_other_verdicts(
    answer: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_evaluation(tmp_path / "made-evaluation", ["a"], answer=answer)
    assert commands._after_evaluate(SimpleNamespace(folder=folder), {}) is None  # so the exit code is 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == answer["sentence"]
    assert ("lift over it (of severity)" in shown) == bool(answer["arms"])
    assert "nan" not in shown
    assert "None" not in shown


@pytest.mark.parametrize(
    ("answer", "anyway", "said"),
    [
        (
            verdict(["a", "b"]),
            False,
            "200 of 996 synthetic samples, the part that was tested (Tested, and so",
        ),
        (verdict(["a", "b"]), True, "all 996 synthetic samples, against the verdict (--write-anyway)"),
        (regression(), False, "the tuned classic augmentation (augmentation.json), and no synthetic sample"),
        (undecided(), False, "no synthetic sample, because the verdict does not support it"),
    ],
)
def test_enlarge_says_what_was_written(
    answer: dict[str, Any], anyway: bool, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump(tmp_path / "run" / "run.json", {})
    folder = write_evaluation(tmp_path / "run" / "evaluation", ["a"], answer=answer)
    commands._after_enlarge(SimpleNamespace(folder=folder), {"out": "larger", "write_anyway": anyway})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == answer["sentence"]
    assert lines[1].startswith(f"written   {said}")
    assert lines[2] == "warning   61 % of the synthetic samples are copies <of> a training sample."
    assert lines[3:] == ["data set  larger", f"report    {tmp_path / 'run' / 'report.html'}"]


def test_a_folder_of_another_tool_gets_a_report_each_time(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("3", "8"):
        (tmp_path / "made" / name).mkdir(parents=True)
        for source in sorted((digits / name).iterdir())[:8]:
            pixels = 255 - np.asarray(PIL.open(source))
            PIL.fromarray(pixels).save(tmp_path / "made" / name / source.name)
    given = [
        "evaluate",
        str(tmp_path / "made"),
        "--against",
        str(digits),
        "--no-lift",
        "--features",
        "random",
    ]
    for _ in range(2):  # the report of the first one does not stand in the way of the second
        assert main(given) == 0
        assert "Nobody can tell: the lift was not asked for." in capsys.readouterr().out.splitlines()[-1]
        assert (tmp_path / "made-evaluation" / "report.html").is_file()
    assert main(["verify", str(tmp_path / "made-evaluation")]) == 0
    assert main(["report", str(tmp_path / "made-evaluation")]) == 0
    assert main(["verify", str(tmp_path / "made-evaluation")]) == 0


def test_own_functions_and_verdicts_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, options in (
        ("evaluate", ["--features STR", "--classifier STR", "--against PATH"]),
        ("enlarge", ["--classifier STR", "--write-anyway"]),
        ("write", ["--verdict PATH", "--write-anyway"]),
    ):
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(option in shown for option in options), shown


# ---- as real processes ----------------------------------------------------------------------------


def test_python_m_sibling_and_the_script_are_the_same() -> None:
    script = Path(sys.executable).with_name("sibling")
    shown = [
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        for command in ([sys.executable, "-m", "sibling", "--help"], [script, "--help"])
    ]
    assert shown[0] == shown[1]
    assert "enlarge" in shown[0]


def test_an_error_reaches_the_shell(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = cli("verify", "/no/where")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("sibling: /no/where has no MANIFEST.json")


@pytest.mark.parametrize("lines", [0, 1])
def test_a_closed_pipe_is_no_traceback(lines: int, digits: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sibling", "read", str(digits)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": str(lines)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stdout.readline()
    process.stdout.close()
    shown = process.stderr.read().decode()
    assert process.wait(60) == 0
    assert "Traceback" not in shown
    assert "BrokenPipe" not in shown
    process.stderr.close()


def test_a_stdout_without_unicode_is_no_traceback(digits: Path) -> None:
    command = [sys.executable, "-m", "sibling", "read", str(digits)]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60
    )
    assert done.returncode == 0
    assert b"300 samples" in done.stdout
