"""Networks of any rank: fold and unfold, shapes, the silent branches, what reaches the gradient."""

from __future__ import annotations

import math

import pytest
import torch

from sibling.nets import Block, Decoder, Encoder, Plan, convolution, fold, unfold

SHAPES = [(1, 8, 8), (1, 28, 28), (2, 9, 13), (3, 28, 28), (4, 64, 48), (1, 33), (2, 100), (1, 6, 8, 5)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_fold_undoes_unfold(rank: int, patch: int) -> None:
    x = random(2, 3, *[8, 4, 12][:rank])
    folded = unfold(x, patch)
    assert folded.shape == (2, 3 * patch**rank, *(size // patch for size in x.shape[2:]))
    assert torch.equal(fold(folded, patch), x)
    if patch > 1:  # the control: unfolding does move numbers
        assert not torch.equal(folded.flatten(), x.flatten())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unfold_keeps_a_patch_in_one_place(rank: int) -> None:
    x = torch.zeros(1, 1, *[8] * rank)
    x[(0, 0, *(slice(2, 4) for _ in range(rank)))] = 1  # exactly the patch at position 1
    folded = unfold(x, 2)
    assert folded[(0, slice(None), *[1] * rank)].eq(1).all()
    assert folded.sum() == 2**rank


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("told", "mapped"), [(0, 0), (3, 0), (3, 2)])
def test_any_shape_goes_in_and_out(shape: tuple[int, ...], told: int, mapped: int) -> None:
    encoder = Encoder(shape, 6, told, mapped, width=8)
    decoder = Decoder(shape, 3, told, mapped, width=8)
    vec, maps = random(2, told), random(2, mapped, *shape[1:])
    assert encoder(random(2, *shape), vec, maps).shape == (2, 6)
    x = decoder(random(2, 3), vec, maps)
    assert x.shape == (2, *shape)
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_cropped_again(shape: tuple[int, ...]) -> None:
    plan = Plan(shape, 8)
    x = random(2, *shape)
    padded = plan.pad(x)
    assert padded.shape[2:] == plan.padded
    assert torch.equal(plan.crop(padded), x)
    assert max(plan.coarsest) <= 8


def test_a_condition_changes_what_comes_out() -> None:
    shape, x, z = (1, 8, 8), random(1, 1, 8, 8), random(1, 4)
    none, a, b = torch.zeros(1, 0, 8, 8), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for network, given in ((Encoder(shape, 4, 2, width=8), x), (Decoder(shape, 4, 2, width=8), z)):
        assert not torch.allclose(network(given, a, none), network(given, b, none))
        assert torch.equal(network(given, a, none), network(given, a, none))


def test_a_map_changes_what_comes_out() -> None:
    shape, x, z, vec = (1, 8, 8), random(1, 1, 8, 8), random(1, 4), torch.zeros(1, 0)
    maps = [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]
    for network, given in ((Encoder(shape, 4, 0, 1, width=8), x), (Decoder(shape, 4, 0, 1, width=8), z)):
        assert not torch.allclose(network(given, vec, maps[0]), network(given, vec, maps[1]))


def test_a_block_starts_silent() -> None:
    x = random(2, 8, 6, 6)
    block = Block(2, 8)
    assert torch.equal(block(x), x)
    torch.nn.init.ones_(block.last.weight)
    assert not torch.equal(block(x), x)


def test_a_convolution_keeps_variance_and_size() -> None:
    out = convolution(2, 64, 64, 3)(random(4, 64, 32, 32))
    assert out.shape == (4, 64, 32, 32)
    assert math.isclose(float(out[..., 1:-1, 1:-1].detach().std()), 1.0, abs_tol=0.1)
    assert convolution(1, 4, 4, 3, gain=0)(random(1, 4, 9)).abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 33), (1, 6, 8, 5)])
def test_gradient_reaches_every_parameter_that_is_not_behind_a_silent_path(shape: tuple[int, ...]) -> None:
    """Behind a convolution that starts at zero nothing arrives in the first step; in the second all do."""
    networks = [Encoder(shape, 4, 2, width=8), Decoder(shape, 4, 2, width=8)]
    inputs = [random(3, *shape), random(3, 4)]
    maps, vec = torch.zeros(3, 0, *shape[1:]), random(3, 2)
    for network, given in zip(networks, inputs, strict=True):
        silent = {id(p) for m in network.modules() if isinstance(m, Block) for p in inside(m)}
        network(given, vec, maps).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad.abs().max() > 0) != (id(parameter) in silent), name
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 1e-3 * parameter.grad
        network.zero_grad()
        network(given, vec, maps).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def inside(block: Block) -> list[torch.nn.Parameter]:
    """The parameters of a block that lie behind its last convolution."""
    return [p for name, p in block.named_parameters() if not name.startswith("last")]
