"""What the discriminator sees: augmentation of any rank, through which the generator's gradient flows."""

from __future__ import annotations

import math

import pytest
import torch

from sibling.device import generator
from sibling.models.diffaug import HOLE, KINDS, SHIFT, augment_pair

SHAPES = [(1, 24), (3, 20), (1, 8, 8), (3, 16, 12), (4, 9, 13), (2, 6, 8, 5), (3, 4, 6, 8)]
KINDS_ALONE = [(kind,) for kind in KINDS]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def none_of(x: torch.Tensor) -> torch.Tensor:
    """A map without channels."""
    return x[:, :0]


def augment(
    x: torch.Tensor, strength: float = 1.0, seed: int = 0, kinds: tuple[str, ...] = KINDS
) -> torch.Tensor:
    return augment_pair(x, none_of(x), strength, generator("augment", seed), kinds=kinds)[0]


# ---- any shape, and nothing at all ----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mapped", [0, 2])
def test_any_rank_and_any_channels_keep_their_shape(shape: tuple[int, ...], mapped: int) -> None:
    x, maps = random(5, *shape), random(5, mapped, *shape[1:], seed=1)
    x_, maps_ = augment_pair(x, maps, 1.0, generator("a"))
    assert x_.shape == x.shape
    assert maps_.shape == maps.shape
    assert torch.isfinite(x_).all()
    assert not torch.equal(x_, x)
    assert x_.dtype == x.dtype


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strength_0_is_the_identity_and_draws_nothing(shape: tuple[int, ...]) -> None:
    x, maps, rng = random(5, *shape), random(5, 1, *shape[1:], seed=1), generator("a")
    before = rng.get_state()
    x_, maps_ = augment_pair(x, maps, 0.0, rng)
    assert torch.equal(x_, x)
    assert torch.equal(maps_, maps)
    assert torch.equal(rng.get_state(), before)
    augment_pair(x, maps, 0.1, rng)
    assert not torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("kinds", [*KINDS_ALONE, KINDS], ids=str)
def test_the_same_stream_gives_the_same_and_another_another(kinds: tuple[str, ...]) -> None:
    x = random(16, 3, 8, 8)
    assert torch.equal(augment(x, 0.5, 1, kinds), augment(x, 0.5, 1, kinds))
    assert not torch.equal(augment(x, 0.5, 1, kinds), augment(x, 0.5, 2, kinds))


def test_the_global_stream_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    augment(random(16, 3, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kinds", [*KINDS_ALONE, KINDS], ids=str)
def test_a_sample_is_changed_by_what_is_drawn_for_it_alone(kinds: tuple[str, ...]) -> None:
    """Not by the other samples of its batch: D must not learn to tell batches apart."""
    x = random(6, 3, 8, 8)
    other = x.clone()
    other[0] = random(3, 8, 8, seed=9)
    a, b = augment(x, kinds=kinds), augment(other, kinds=kinds)
    assert torch.equal(a[1:], b[1:])
    assert not torch.equal(a[0], b[0])


# ---- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 7), (3, 4, 5), (1, 3, 4, 3)], ids=str)
@pytest.mark.parametrize("kinds", [*KINDS_ALONE, KINDS], ids=str)
def test_the_gradient_agrees_with_finite_differences(kinds: tuple[str, ...], shape: tuple[int, ...]) -> None:
    x = random(3, *shape).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: augment(x, kinds=kinds), (x,))


def test_the_gradient_reaches_the_sample_except_where_it_was_cut_out() -> None:
    x = random(40, 1, 8, 8).requires_grad_(True)
    seen = augment(x, kinds=("cutout",))
    seen.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, seen != 0)
    whole = random(40, 1, 8, 8).requires_grad_(True)  # the control
    augment(whole, kinds=("colour",)).sum().backward()
    assert whole.grad is not None
    assert (whole.grad != 0).all()


# ---- how often ------------------------------------------------------------------------------------

MANY = 4_000


def share_changed(strength: float, kinds: tuple[str, ...]) -> float:
    x = random(MANY, 3, 8, 8)
    apart = (augment(x, strength, kinds=kinds) - x).abs().flatten(1).amax(1)
    return float((apart > 1e-5).float().mean())  # adding and taking away a mean leaves rounding


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("kinds", "unmoved"), [(("colour",), 0.0), (("cutout",), 0.0), (("translation",), 1 / 9)], ids=str
)
def test_strength_is_the_share_of_samples_that_change(
    strength: float, kinds: tuple[str, ...], unmoved: float
) -> None:
    """A shift of 0 by 0, one of 3 x 3 at this size, is a shift too, but changes nothing."""
    expected = strength * (1 - unmoved)
    tolerance = 4 * math.sqrt(expected * (1 - expected) / MANY)
    assert share_changed(strength, kinds) == pytest.approx(expected, abs=tolerance)


def test_the_kinds_meet_a_sample_independently() -> None:
    expected = 1 - (1 - 0.3) ** 2 * (1 - 0.3 * 8 / 9)
    assert share_changed(0.3, KINDS) == pytest.approx(expected, abs=0.035)


# ---- translation ----------------------------------------------------------------------------------


def is_time(axis: int, spatial: tuple[int, ...]) -> bool:
    """The first axis of a clip: none of its frames is moved, and all are changed alike."""
    return len(spatial) == 3 and axis == 0


def places(*spatial: int) -> torch.Tensor:
    """(1, R, *S): each place holds its own coordinates."""
    return torch.stack(torch.meshgrid(*[torch.arange(float(s)) for s in spatial], indexing="ij"))[None]


@pytest.mark.parametrize("spatial", [(16,), (16, 24), (8, 9, 16)], ids=str)
def test_translation_moves_by_whole_steps_and_repeats_the_border(spatial: tuple[int, ...]) -> None:
    x = places(*spatial).expand(200, -1, *spatial)
    moved = augment(x, kinds=("translation",))
    for axis, size in enumerate(spatial):
        most = 0 if is_time(axis, spatial) else round(size * SHIFT)
        at = moved[:, axis].movedim(axis + 1, 1).reshape(200, size, -1)  # (N, size, others)
        assert (at == at[..., :1]).all()  # the same shift all along the other axes
        rows = at[..., 0]
        shift = rows[:, size // 2] - size // 2
        assert torch.equal(rows, (torch.arange(float(size)) + shift[:, None]).clamp(0, size - 1))
        assert sorted(set(shift.tolist())) == list(range(-most, most + 1))  # each way, each as far


def test_translation_brings_no_value_that_was_not_there() -> None:
    x = random(50, 2, 8, 8) + 100  # zeros at the border would be seen
    assert float(augment(x, kinds=("translation",)).min()) > 90
    assert float(augment(x, kinds=("cutout",)).min()) == 0  # the control


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_edges_are_shifted_by_one_at_most(size: int) -> None:
    x = places(size, 16).expand(100, -1, size, 16)
    moved = augment(x, kinds=("translation",))
    assert float((moved[:, 0] - x[:, 0]).abs().max()) == (1 if size > 1 else 0)


# ---- the sample and its map -----------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("translation",), ("cutout",), ("translation", "cutout")], ids=str)
@pytest.mark.parametrize("shape", [(1, 32), (1, 12, 16), (1, 6, 8, 9)], ids=str)
def test_a_map_is_moved_and_cut_as_its_sample_is(kinds: tuple[str, ...], shape: tuple[int, ...]) -> None:
    x = random(60, *shape)
    maps = torch.cat([x, 2 * x], 1)
    x_, maps_ = augment_pair(x, maps, 0.7, generator("a"), kinds=kinds)
    assert torch.equal(maps_, torch.cat([x_, 2 * x_], 1))
    assert not torch.equal(x_, x)


def test_colour_leaves_the_map_alone() -> None:
    x = random(20, 3, 8, 8)
    x_, maps_ = augment_pair(x, x, 1.0, generator("a"), kinds=("colour",))
    assert torch.equal(maps_, x)
    assert not torch.allclose(x_, x)


def test_a_map_changes_nothing_for_its_sample() -> None:
    x = random(20, 3, 8, 8)
    with_map, _ = augment_pair(x, random(20, 2, 8, 8, seed=1), 0.5, generator("augment", 0))
    assert torch.equal(with_map, augment(x, 0.5))


# ---- cutout ---------------------------------------------------------------------------------------


def covered(size: int) -> float:
    """The mean share of an edge under a hole of half of it whose centre lies anywhere on it."""
    ends = [((i + 0.5) / size - HOLE / 2, (i + 0.5) / size + HOLE / 2) for i in range(size)]
    return sum(min(1.0, high) - max(0.0, low) for low, high in ends) / size


@pytest.mark.parametrize("spatial", [(32,), (16, 24), (8, 12, 16)], ids=str)
def test_cutout_is_a_box_of_half_of_each_edge(spatial: tuple[int, ...]) -> None:
    x = torch.ones(2_000, 2, *spatial)
    hole = augment(x, kinds=("cutout",)) == 0
    assert torch.equal(hole[:, 0], hole[:, 1])  # all channels
    hole = hole[:, 0]
    sides = []
    for axis, size in enumerate(spatial):
        if is_time(axis, spatial):  # the same box on all frames
            sides.append(size * hole.flatten(1).any(1))
            assert torch.equal(hole, hole[:, :1].expand_as(hole))
            continue
        others = tuple(a for a in range(1, len(spatial) + 1) if a != axis + 1)
        line = hole.any(others) if others else hole  # (N, size)
        length = line.sum(1)
        assert int(length.max()) == size // 2
        assert int(length.min()) == size // 4  # centred on an end
        runs = (line[:, 1:] != line[:, :-1]).sum(1)
        assert int(runs.max()) <= 2  # in one piece
        assert float(length.float().mean() / size) == pytest.approx(covered(size), abs=0.015)
        sides.append(length)
    assert torch.equal(hole.flatten(1).sum(1), torch.stack(sides).prod(0))  # a full box
    edges = [size for axis, size in enumerate(spatial) if not is_time(axis, spatial)]
    expected = math.prod(covered(size) for size in edges)
    assert float(hole.float().mean()) == pytest.approx(expected, abs=0.015)
    assert 0.4 ** len(edges) < expected < 0.5 ** len(edges)


def test_without_an_axis_of_place_nothing_is_cut_or_moved() -> None:
    """A vector has no box in it: cut out, it would be gone."""
    x, maps = torch.randn(50, 3, generator=generator("vector")), torch.zeros(50, 0)
    assert torch.equal(augment_pair(x, maps, 1.0, generator("cut"), kinds=("translation", "cutout"))[0], x)
    assert not torch.equal(augment_pair(x, maps, 1.0, generator("cut"))[0], x)  # the control: colours change


def test_cutout_leaves_the_rest_as_it_was() -> None:
    x = random(50, 1, 8, 8)
    seen = augment(x, kinds=("cutout",))
    assert torch.equal(seen[seen != 0], x[seen != 0])


# ---- colour ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_without_colour_there_is_brightness_and_contrast_only(channels: int) -> None:
    """x -> (x + b - m) c + m with m the mean of x + b: b in +-0.5 and c in 0.5 to 1.5, one of each a sample."""
    x = random(3_000, channels, 6, 6)
    seen = augment(x, kinds=("colour",))
    brightness = (seen - x).flatten(1).mean(1)
    contrast = seen.flatten(1).std(1) / x.flatten(1).std(1)
    for drawn, middle in ((brightness, 0.0), (contrast, 1.0)):
        assert float(drawn.min()) == pytest.approx(middle - 0.5, abs=0.01)
        assert float(drawn.max()) == pytest.approx(middle + 0.5, abs=0.01)
        assert float(drawn.mean()) == pytest.approx(middle, abs=4 * math.sqrt(1 / 12 / 3_000))
    mean = x.flatten(1).mean(1).reshape(-1, 1, 1, 1)
    rebuilt = (x - mean) * contrast.reshape(-1, 1, 1, 1) + mean + brightness.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(seen, rebuilt, atol=1e-5, rtol=1e-5)


def test_saturation_moves_along_the_gray_axis_where_there_is_colour() -> None:
    x = random(2_000, 3, 4, 4)
    seen = augment(x, kinds=("colour",))
    chroma = [(image - image.mean(1, keepdim=True)).flatten(1) for image in (x, seen)]
    factor = (chroma[1] * chroma[0]).sum(1) / chroma[0].square().sum(1)
    torch.testing.assert_close(chroma[1], factor[:, None] * chroma[0], atol=1e-5, rtol=1e-4)
    assert float(factor.min()) == pytest.approx(0, abs=0.02)
    assert 2.4 < float(factor.max()) <= 3  # saturation up to 2, contrast up to 1.5
    gray = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    still = augment(gray, kinds=("colour",))
    torch.testing.assert_close(still, still[:, :1].expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)
