"""A recogniser of the user's own: each mistake is found before the work, and told so that it can be mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import pytest
import torch
from conftest import blobs, dataset
from test_subject import tree
from torch import nn

import sibling
from sibling.cli import main
from sibling.dataset import Dataset
from sibling.errors import UsageError
from sibling.lift.brought import brought


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(*blobs(20))


def linear(shape: Sequence[int], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), outputs))


def raising(shape: Sequence[int], outputs: int) -> nn.Module:
    raise ValueError("no weights here")


def for_colour(shape: Sequence[int], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, outputs, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def pair(shape: Sequence[int], outputs: int) -> nn.Module:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear(shape, outputs)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.inner(x), x

    return Pair()


def frozen(shape: Sequence[int], outputs: int) -> nn.Module:
    return linear(shape, outputs).requires_grad_(False)


MISTAKES: dict[str, tuple[Callable[..., object], str]] = {
    "raises": (raising, "raised ValueError: no weights here"),
    "no arguments": (lambda: nn.Linear(1, 1), "raised TypeError"),
    "another number of channels": (for_colour, "the network raised RuntimeError"),
    "no module": (lambda shape, outputs: 5, "gave int; it must give a torch.nn.Module"),
    "another width": (lambda shape, outputs: linear(shape, outputs + 1), "a logit a class"),
    "a pair": (pair, "the network gave tuple"),
    "nothing to train": (frozen, "without anything to train"),
    "a softmax": (
        lambda shape, outputs: nn.Sequential(linear(shape, outputs), nn.Softmax(1)),
        "Leave the softmax",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name: str, data: Dataset) -> None:
    build, told = MISTAKES[name]
    with pytest.raises(UsageError, match=told):
        brought(build, data)  # type: ignore[arg-type]


def test_the_same_network_for_every_arm_is_refused(data: Dataset) -> None:
    kept = linear(data.shape, 2)
    body = nn.Sequential(nn.Flatten(), nn.Linear(prod(data.shape), 5)).requires_grad_(False)
    with pytest.raises(UsageError, match="same weights twice"):
        brought(lambda shape, outputs: kept, data)
    with pytest.raises(UsageError, match="same weights twice"):  # a shared part is enough
        brought(lambda shape, outputs: nn.Sequential(nn.Sequential(kept), nn.Linear(2, outputs)), data)
    head = brought(
        lambda shape, outputs: nn.Sequential(body, nn.Linear(5, outputs)), data
    )  # that nobody trains
    assert head is not None


def test_to_look_at_it_draws_nothing_from_the_stream_of_the_caller(data: Dataset) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    brought(lambda shape, outputs: nn.Sequential(linear(shape, outputs), nn.Dropout()), data)
    assert torch.equal(torch.rand(3), wanted)


def test_what_is_right_is_built_as_it_is(data: Dataset) -> None:
    build = brought(linear, data)
    assert build is not None
    assert isinstance(build(data.shape, 2), nn.Sequential)
    assert brought(None, data) is None
    dropped = brought(lambda shape, outputs: nn.Sequential(linear(shape, outputs), nn.Dropout()), data)
    assert dropped is not None


def test_a_module_that_fails_ends_with_a_sentence_and_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text(
        "def build(shape, outputs):\n    raise ValueError('my own trouble')\n"
    )
    monkeypatch.chdir(tmp_path)
    photos, other = tree(tmp_path / "photos", 20, 4), tree(tmp_path / "other", 20, 5)
    command = ["evaluate", str(other), "--against", str(photos), "--quick", "--classifier", "failing:build"]
    assert main(command) == 2
    assert "my own trouble" in capsys.readouterr().err
    assert not (tmp_path / "other-evaluation").exists()


def test_enlarge_finds_a_mistake_before_it_trains(tmp_path: Path) -> None:
    photos = tree(tmp_path / "photos", 20, 4)
    for spec in ("no_such_module:build", "torch.nn:Flatten"):
        with pytest.raises(UsageError, match="classifier"):
            sibling.enlarge(photos, tmp_path / "larger", classifier=spec, minutes=0.01)
        assert not (tmp_path / "larger-run").exists()
