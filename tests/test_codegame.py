"""The prior that is a game on codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sibling.conditions.label import Label
from sibling.device import generator
from sibling.errors import UnsafeFile, UsageError
from sibling.metrics.distance import KernelDistance
from sibling.models import codegame
from sibling.models.codegame import fit_game, moved, shapes_of_game
from sibling.models.prior import fit_local
from sibling.models.vae import VAE
from sibling.types import Batch, Cond

NAMES = ["ring", "heap"]


def codes(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """A ring of radius 4 and a heap elsewhere, in three dimensions: no Gaussian is like the ring."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    ring = np.stack([4 * np.cos(angle), 4 * np.sin(angle), np.zeros(n)], 1) + rng.normal(0, 0.2, (n, 3))
    heap = rng.normal(0, 0.5, (n, 3)) + np.array([0.0, 0.0, 5.0])
    return np.concatenate([ring, heap]), ["ring"] * n + ["heap"] * n


def start(found: np.ndarray, classes: list[str]) -> dict[str, np.ndarray]:
    """One Gaussian a class: what the game has to mend."""
    return fit_local(found, classes, NAMES, components=1, rng=np.random.default_rng(0))


def drawn(fitted: dict[str, np.ndarray], group: int, n: int, *, game: bool = True) -> torch.Tensor:
    tensors = {name: torch.from_numpy(value) for name, value in fitted.items()}
    noise = torch.randn(n, 3, generator=generator("noise"))
    codes = tensors["means"][group, 0] + noise @ tensors["cholesky"][group, 0].T
    return torch.stack([moved(tensors, code, group, 2) for code in codes]) if game else codes


@pytest.fixture(scope="module")
def fitted() -> Iterator[dict[str, np.ndarray]]:
    found, classes = codes(400, 0)
    first = start(found, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegame, "STEPS", 700)
        yield first | fit_game(found, classes, NAMES, start=first, rng=np.random.default_rng(0))


def test_the_game_moves_codes_to_where_those_of_the_class_are(fitted: dict[str, np.ndarray]) -> None:
    fresh = torch.from_numpy(codes(500, 1)[0].astype(np.float32))
    for group, real in enumerate((fresh[:500], fresh[500:])):
        apart, before = (
            KernelDistance()(real=real, fake=drawn(fitted, group, 500, game=game)) for game in (True, False)
        )
        assert apart < 0.2 * max(before, 0.01)
        assert apart < 0.1 * KernelDistance()(real=real, fake=drawn(fitted, 1 - group, 500))
    ring, control = (drawn(fitted, 0, 500, game=game)[:, :2] for game in (True, False))
    assert (
        float((ring.norm(dim=1) < 2).float().mean()) < 0.05 < float((control.norm(dim=1) < 2).float().mean())
    )
    assert float(ring.std(0).min()) > 2  # all around it, not one place


def test_what_comes_out_is_a_function_of_the_arguments(
    fitted: dict[str, np.ndarray], monkeypatch: Any
) -> None:
    monkeypatch.setattr(codegame, "STEPS", 20)
    found, classes = codes(30, 0)
    first = start(found, classes)
    a, b, c = (
        fit_game(found, classes, NAMES, start=first, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert any(not np.array_equal(a[name], c[name]) for name in a)
    assert {name: value.shape for name, value in a.items()} == shapes_of_game(2, 3)


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_codes_give_a_finite_prior(n: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(codegame, "STEPS", 20)
    found, classes = np.ones((n, 3)), ["ring"] * n
    got = fit_game(found, classes, NAMES, start=start(found, classes), rng=np.random.default_rng(0))
    assert all(np.isfinite(value).all() for value in got.values())


def test_a_vae_with_this_prior_is_saved_and_loaded(monkeypatch: Any) -> None:
    monkeypatch.setattr(codegame, "STEPS", 20)
    condition = Label(["a", "b"])

    def built(**options: Any) -> VAE:
        model = VAE(latent=4, width=8, prior="adversarial", **options)
        model.build((1, 8, 8), condition, generator("weights"))
        return model

    model = built()
    names = ["a", "b"] * 8
    cond: Cond = condition.encode(names, (8, 8))
    batch = Batch(torch.rand(16, 1, 8, 8, generator=generator("x")) * 2 - 1, cond, generator("b"), 0.5)
    model.step(batch)
    model.settle(lambda: iter([(batch, names)]), np.random.default_rng(0))
    x = model.sample(cond, names, range(16))
    again = built()
    again.load(model.state())
    assert torch.equal(again.sample(cond, names, range(16)), x)
    torch.testing.assert_close(
        model.sample(cond[slice(0, 1)], names[:1], [0]), x[:1]
    )  # alone as among others
    assert not torch.equal(x[0], x[2])
    state = {**model.state(), "prior/last": torch.zeros(2, 2)}
    with pytest.raises(UnsafeFile, match="last must be finite"):
        built().load(state)
    with pytest.raises(UsageError, match="adversarial"):
        VAE(prior="gauss")
