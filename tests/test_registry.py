"""A user's own function by "module:function": where it is looked for, and what every mistake is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sibling.errors import UsageError
from sibling.registry import own


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder; modules that are imported from it are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_in_the_working_folder_is_found(here: Path) -> None:
    (here / "helper_of_mine.py").write_text("TWO = 2\n")
    (here / "my_functions.py").write_text("from helper_of_mine import TWO\ndef double(x): return TWO * x\n")
    path = list(sys.path)
    assert str(here) not in path
    assert own("my_functions:double", "The function")(21) == 42
    assert sys.path == path  # importable for the import alone
    with pytest.raises(ModuleNotFoundError):
        __import__("another_of_mine")


def test_a_module_in_a_package_and_an_installed_one_are_found(here: Path) -> None:
    (here / "my_package").mkdir()
    (here / "my_package" / "__init__.py").write_text("")
    (here / "my_package" / "inner.py").write_text("def one(): return 1\n")
    assert own("my_package.inner:one", "The function")() == 1
    assert own("math:sqrt", "The function")(9.0) == 3.0


def test_a_file_written_a_moment_ago_is_found(here: Path) -> None:
    with pytest.raises(UsageError, match="no module 'late_module'"):
        own("late_module:f", "The function")
    before = here.stat()
    (here / "late_module.py").write_text("def f(): return 3\n")
    os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns))  # within one tick of a coarse clock
    assert own("late_module:f", "The function")() == 3


def test_the_path_is_as_before_when_the_import_fails(here: Path) -> None:
    (here / "my_failing.py").write_text("1 / 0\n")
    path = list(sys.path)
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        own("my_failing:f", "The function")
    assert sys.path == path


def test_a_working_folder_that_python_looks_in_anyway_stays_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(here)
    (here / "my_kept.py").write_text("def f(): return 4\n")
    path = list(sys.path)
    assert own("my_kept:f", "The function")() == 4
    assert sys.path == path


@pytest.mark.parametrize(
    "spec",
    ["mymodule", "mymodule:", ":build", "folder/mymodule.py:build", "my-module:build", "..up:f", "a:b:c"],
)
def test_another_form_is_refused_and_the_right_one_shown(spec: str) -> None:
    with pytest.raises(UsageError, match=r"The classifier .* is not of the form module:function"):
        own(spec, "The classifier")


def test_a_misspelt_module_and_function_give_did_you_mean(here: Path) -> None:
    (here / "my_spelling.py").write_text("def features(x): return x\ndef _hidden(): pass\nNUMBER = 3\n")
    with pytest.raises(
        UsageError, match=r"no module 'my_speling', neither in .* Did you mean 'my_spelling'\?"
    ):
        own("my_speling:features", "The space")
    with pytest.raises(
        UsageError, match=r"my_spelling.py has no 'feature'. Did you mean 'features'\?"
    ) as caught:
        own("my_spelling:feature", "The space")
    assert "_hidden" not in str(caught.value)
    assert str(here) in str(caught.value)  # the file that was looked in
    with pytest.raises(UsageError, match=r"'NUMBER' in .*my_spelling.py cannot be called, it is of type int"):
        own("my_spelling:NUMBER", "The space")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "import a_package_that_is_not_there",
            r"needs the package 'a_package_that_is_not_there': pip install",
        ),
        ("def f(:", r"importing the module 'my_broken' failed: SyntaxError.* python -c \"import my_broken\""),
        ("raise ValueError('seven')", "ValueError: seven"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_fails_is_told_apart_from_a_missing_one(here: Path, text: str, told: str) -> None:
    (here / "my_broken.py").write_text(text + "\n")
    with pytest.raises(UsageError, match=told):
        own("my_broken:f", "The space")


def test_an_interrupt_is_not_taken_for_a_fault_of_the_module(here: Path) -> None:
    (here / "my_interrupt.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        own("my_interrupt:f", "The space")


def test_a_file_in_the_working_folder_never_replaces_a_module_of_python(here: Path) -> None:
    """A data folder may hold an ssl.py or a torch.py: what else is imported meanwhile must not find it."""
    (here / "colorsys.py").write_text("raise RuntimeError('the wrong one')\n")
    (here / "my_user.py").write_text("import colorsys\ndef f(): return colorsys.__file__\n")
    sys.modules.pop("colorsys", None)
    assert not Path(own("my_user:f", "The space")()).is_relative_to(here)
    with pytest.raises(
        UsageError, match=r"colorsys.py is hidden by another module .* Give yours another name"
    ):
        own("colorsys:rgb_to_hsv", "The space")


def test_a_module_of_the_same_name_in_another_folder_is_not_taken_for_this_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        (here / str(number)).mkdir()
        (here / str(number) / "my_twin.py").write_text(f"def f(): return {number}\n")
    monkeypatch.chdir(here / "1")
    assert own("my_twin:f", "The space")() == 1
    assert own("my_twin:f", "The space")() == 1
    monkeypatch.chdir(here / "2")
    with pytest.raises(UsageError, match="is hidden by another module of the same name"):
        own("my_twin:f", "The space")
