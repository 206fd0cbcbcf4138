"""Paired translation: what belongs to a map is made, in its place, and more than one of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import sibling
from sibling.conditions.label import Label
from sibling.device import generator
from sibling.errors import UsageError
from sibling.models.translate import APART, Translate, closeness
from sibling.types import Batch, Cond
from sibling.unet import PatchCritic, UNet


class Told:
    """A condition of one gray map."""

    name, channels, width, classes = "map", 1, 0, ("all",)


def pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (n, 1, 8, 8) that show where, and samples in which a square lies there: bright or dark, nobody says which."""
    rng = np.random.default_rng(seed)
    maps, x = -np.ones((n, 1, 8, 8), np.float32), np.zeros((n, 1, 8, 8), np.float32)
    for i, (row, column) in enumerate(rng.integers(0, 5, (n, 2))):
        maps[i, 0, row : row + 4, column : column + 4] = 1
        x[i, 0, row : row + 4, column : column + 4] = rng.choice([-0.8, 0.8])
    return torch.from_numpy(maps), torch.from_numpy(x)


def told(maps: torch.Tensor) -> Cond:
    return Cond(torch.zeros(len(maps), 0), maps)


def trained(steps: int = 300, **options: Any) -> Translate:
    model = Translate(latent=4, width=8, critic_width=8, strength=0.0, adaptive=False, **options)
    model.build((1, 8, 8), Told(), generator("weights"))  # type: ignore[arg-type]
    maps, x = pairs(400, 0)
    for step in range(steps):
        own, wrong = (torch.randint(400, (32,), generator=generator(name, step)) for name in ("own", "wrong"))
        batch = Batch(
            x[own],
            told(maps[own]),
            generator("step", step),
            step / steps,
            number=step,
            wrong=told(maps[wrong]),
        )
        assert math.isfinite(model.step(batch)["loss/total"])
    return model


def shown(model: Translate, maps: torch.Tensor, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean of each sample within its square (n,), mean absolute value outside of it (n,))."""
    n = len(maps)
    x = model.sample(told(maps), ["all"] * n, range(first, first + n))
    inside = maps > 0
    return (x * inside).sum((1, 2, 3)) / 16, (x * ~inside).abs().sum((1, 2, 3)) / 48


def test_one_map_has_several_samples_and_each_lies_where_the_map_says() -> None:
    maps, _ = pairs(100, 1)
    model = trained()
    (a, outside), (b, _) = shown(model, maps), shown(model, maps, 100)
    assert float(a.abs().mean()) > 0.5
    assert float(outside.mean()) < 0.2
    assert 0.25 < float((a > 0).float().mean()) < 0.75  # bright ones and dark ones
    assert float((a - b).abs().mean()) > 0.3  # for one map, too


def test_a_plain_l1_gives_one_sample_for_a_map() -> None:
    """The control: without the game and the distance of two samples nothing asks for a second one."""
    maps, _ = pairs(100, 1)
    model = trained(100, game=0.0, apart=0.0)
    (a, _), (b, _) = shown(model, maps), shown(model, maps, 100)
    assert float((a - b).abs().mean()) < 0.1


def test_closeness_is_smallest_where_samples_vary_as_the_real_ones_do() -> None:
    """For normal samples in closed form, Bendel et al. 2023, proposition 3.1; a plain L1 is smallest at no variation."""
    rng = generator("normal")
    real, a, b = (torch.randn(200_000, 1, 1, generator=rng) for _ in range(3))
    widths = [0.0, 0.5, 0.8, 1.0, 1.25, 2.0]
    found = [float(closeness(2 + 3 * real, 2 + 3 * w * a, 2 + 3 * w * b).mean()) for w in widths]
    assert int(np.argmin(found)) == 3
    plain = [float((3 * real - 3 * w * (a + b) / 2).abs().mean()) for w in widths]
    assert int(np.argmin(plain)) == 0
    by_hand = 3 * math.sqrt(2 / math.pi) * (math.sqrt(1.5) - APART * math.sqrt(2))  # at a width of 1
    assert found[3] == pytest.approx(by_hand, rel=0.01)
    shifted = float(closeness(2 + 3 * real, 3 + 3 * a, 3 + 3 * b).mean())
    assert shifted > found[3]


@pytest.mark.parametrize("shape", [(1, 9, 13), (3, 64, 64), (2, 40), (1, 6, 8, 8)])
def test_the_networks_take_any_shape(shape: tuple[int, ...]) -> None:
    maps = torch.randn(2, 3, *shape[1:], generator=generator("map"))
    vec = torch.zeros(2, 5)
    net, critic = UNet(shape, 4, 5, 3, width=8), PatchCritic(shape, 5, 3, width=8)
    x = net(torch.randn(2, 4, generator=generator("z")), vec, maps)
    assert x.shape == (2, *shape)
    assert critic.judge_pair(critic(x, maps), vec).shape == (2,)


def test_a_patch_is_judged_by_what_lies_near_it() -> None:
    critic = PatchCritic((1, 128, 128), 0, 1, width=8)
    for block in critic.trunk.blocks.modules():
        if isinstance(block, torch.nn.Conv2d) and not block.weight.any():
            torch.nn.init.normal_(block.weight)  # branches start silent, which would hide what they see
    x = torch.zeros(1, 1, 128, 128, requires_grad=True)
    logits = critic.pair(critic(x, torch.zeros(1, 1, 128, 128)))
    logits[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert float(x.grad[0, 0, :16, :16].abs().max()) > 0
    assert float(x.grad[0, 0, -16:, -16:].abs().max()) == 0


def test_what_has_no_map_is_refused_before_any_work(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="folders A and B"):
        Translate.refuse(Label(["a", "b"]))
    with pytest.raises(UsageError, match="one has to count"):
        Translate(close=0, game=0)


def test_pairs_are_translated_from_folder_to_folder(tmp_path: Any) -> None:
    """The whole way: pairs read, trained, samples for given maps, written with them."""
    from PIL import Image

    maps, x = pairs(40, 2)
    for i, (told_one, one) in enumerate(zip(maps, x, strict=True)):
        for side, value in (("A", told_one), ("B", one)):
            place = tmp_path / "pairs" / side / f"{i:02d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(((value[0].numpy() + 1) * 127.5).astype(np.uint8)).save(place)
    run = sibling.fit(
        tmp_path / "pairs", out=tmp_path / "run", model="translate", condition="map", steps=12, tensorboard=False,
        arguments={"width": 8, "critic_width": 8},
    )  # fmt: skip
    made = sibling.sample(run, given={"conditioning_image": tmp_path / "pairs" / "A" / "00.png"}, count=3)
    assert len(made) == 3
    assert not np.array_equal(made.raw[0], made.raw[1])
    out = sibling.write(run.data, made, out=tmp_path / "larger", against=run)
    again = sibling.read(out)
    assert again.condition.name == "map"
    assert len(again.rows(origin="synthetic")) == 3
