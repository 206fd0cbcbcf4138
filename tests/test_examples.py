"""The examples do what they say: the small games end at their equilibrium, with every mode and the right classes."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sibling.conditions.none import Unconditional
from sibling.device import generator

EXAMPLES = Path(__file__).parents[1] / "examples"
MANY = 4_000


def load(name: str) -> ModuleType:
    """A script of the folder `examples` as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


example = load("ring")


@pytest.fixture(scope="module")
def ring_game() -> Any:
    return example.ring_game(steps=1_000, show=(50,))


@pytest.fixture(scope="module")
def moons_game() -> Any:
    return example.moons_game(steps=500, show=(50,))


def at_the_end(game: Any) -> tuple[float, float]:
    return sum(game.d_real[-50:]) / 50, sum(game.d_fake[-50:]) / 50


def is_good_ring(x: torch.Tensor) -> bool:
    """All 8 modes, each with at least 5 % of the samples, and most samples in a mode."""
    found = example.modes(x)
    return bool((found >= 0.05).all()) and float(found.sum()) >= 0.7


def are_good_moons(x: torch.Tensor, names: list[str]) -> bool:
    """Both moons all along, and a sample is of the class that was asked for."""
    real, real_names = example.moons(2_000, generator("judge"))
    right = example.right_class(x, names, real, real_names)
    return right >= 0.95 and example.coverage(x, names, real, real_names) >= 0.9


# ---- the measures themselves ----------------------------------------------------------------------


def test_real_samples_pass_and_lie_where_the_picture_shows_them() -> None:
    x, y = example.ring(MANY, generator("real"))
    assert y == [None] * MANY
    assert x.abs().max() < 1
    assert is_good_ring(x)
    torch.testing.assert_close(example.modes(x), torch.full((8,), 1 / 8), atol=0.03, rtol=0)
    x, names = example.moons(MANY, generator("real"))
    assert x.abs().max() < 1
    assert are_good_moons(x, names)


def test_what_is_not_good_does_not_pass() -> None:
    """The controls: a circle without modes, half of the modes, one mode, noise; swapped and missing moons."""
    angle = torch.arange(MANY) * (2 * math.pi / MANY)
    circle = example.RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    x, _ = example.ring(MANY, generator("real"))
    half = torch.where(x[:, 1:] < -0.1, -x, x)
    noise = torch.randn(MANY, 2, generator=generator("noise")) * 0.5
    for bad in (circle, half, x[:1].expand(MANY, 2), noise):
        assert not is_good_ring(bad)
    x, names = example.moons(MANY, generator("real"))
    swapped = ["upper" if name == "lower" else "lower" for name in names]
    first = {name: names.index(name) for name in names}
    assert not are_good_moons(x, swapped)
    assert not are_good_moons(x[[first[name] for name in names]], names)  # one sample a class
    assert not are_good_moons(torch.cat([x[:1], noise[1:]]), names)


# ---- the ring -------------------------------------------------------------------------------------


def test_the_ring_is_learned_with_all_its_modes(ring_game: Any) -> None:
    x = ring_game.samples(MANY, [None] * MANY, seed=7)
    assert is_good_ring(x), example.modes(x)


def test_the_ring_ends_where_d_can_tell_nothing(ring_game: Any) -> None:
    for said in at_the_end(ring_game):
        assert 0.45 <= said <= 0.55
    assert max(ring_game.d_real) > 0.55  # the control: on the way it could


def test_without_training_there_is_no_ring(ring_game: Any) -> None:
    early, _ = ring_game.shown[50]
    assert not is_good_ring(early)
    untrained = example.play(example.ring, Unconditional(), 1)
    assert not is_good_ring(untrained.samples(MANY, [None] * MANY, seed=7))


# ---- the moons ------------------------------------------------------------------------------------


def asked(game: Any, names: list[str]) -> torch.Tensor:
    x: torch.Tensor = game.samples(len(names), names, seed=7)
    return x


def test_the_moons_are_learned_each_for_its_class(moons_game: Any) -> None:
    names = ["upper", "lower"] * 1_000
    x = asked(moons_game, names)
    assert are_good_moons(x, names)
    swapped = ["lower", "upper"] * 1_000
    assert not are_good_moons(x, swapped)  # the control: it is the class that was asked for
    assert are_good_moons(asked(moons_game, swapped), swapped)


def test_the_moons_end_where_d_can_tell_nothing(moons_game: Any) -> None:
    for said in at_the_end(moons_game):
        assert 0.45 <= said <= 0.55


def test_without_training_there_are_no_moons(moons_game: Any) -> None:
    assert not are_good_moons(*moons_game.shown[50])
    untrained = example.play(example.moons, example.MOONS, 1)
    names = ["upper", "lower"] * 1_000
    assert not are_good_moons(asked(untrained, names), names)


# ---- the script -----------------------------------------------------------------------------------


def test_a_game_is_a_function_of_its_seed() -> None:
    ends = []
    for seed in (0, 0, 1):
        ends.append(example.moons_game(seed, steps=8, show=()).samples(5, ["upper"] * 5))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_picture_is_drawn(ring_game: Any, moons_game: Any, tmp_path: Path) -> None:
    out = tmp_path / "ring.png"
    example.draw({"ring": (example.ring, ring_game), "moons": (example.moons, moons_game)}, out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size > 20_000


def test_the_folder_holds_the_picture_that_its_page_shows() -> None:
    page = (EXAMPLES / "README.md").read_text()
    assert "](ring.png)" in page
    assert (EXAMPLES / "ring.png").read_bytes().startswith(b"\x89PNG")
    for script in EXAMPLES.glob("*.py"):
        assert script.name in page
