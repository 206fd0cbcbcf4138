"""Networks of any rank, 0 too: fold and unfold, shapes, the silent branches, what reaches the gradient, logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sibling.grids import Plan, fold, unfold
from sibling.nets import Block, Decoder, Discriminator, Encoder, convolution

SHAPES = [
    (2,), (7,), (1, 8, 8), (1, 28, 28), (2, 9, 13), (3, 28, 28), (4, 64, 48), (1, 33), (2, 100), (1, 6, 8, 5),
]  # fmt: skip


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
    critic = Discriminator(shape, told, mapped, width=8, features=5)
    vec, maps = random(2, told), random(2, mapped, *shape[1:])
    assert encoder(random(2, *shape), vec, maps).shape == (2, 6)
    x = decoder(random(2, 3), vec, maps)
    assert x.shape == (2, *shape)
    assert torch.isfinite(x).all()
    features = critic(random(2, *shape), maps)
    assert features.shape == (2, 5)
    assert critic.judge_alone(features).shape == critic.judge_pair(features, vec).shape == (2,)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_cropped_again(shape: tuple[int, ...]) -> None:
    plan = Plan(shape, 8)
    x = random(2, *shape)
    padded = plan.pad(x)
    assert padded.shape[2:] == plan.padded
    assert torch.equal(plan.crop(padded), x)
    assert max(plan.coarsest, default=1) <= 8


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


@pytest.mark.parametrize(
    "shape", [(2,), (1, 8, 8), (3, 28, 20), (1, 33), (1, 6, 8, 5), (1, 40, 4, 8)], ids=str
)
def test_what_a_map_does_depends_on_the_code(shape: tuple[int, ...]) -> None:
    """A map that is only added to the sample can say nothing about where the code shows what."""
    network, vec = Decoder(shape, 4, 0, 2, width=8), torch.zeros(1, 0)
    codes, maps = random(2, 4), random(2, 2, *shape[1:])

    def difference(code: torch.Tensor) -> torch.Tensor:
        a, b = (network(code[None], vec, maps[i : i + 1]) for i in range(2))
        return (a - b).detach()

    first, second = difference(codes[0]), difference(codes[1])
    assert float((first - second).abs().max()) > 0.05 * float(first.abs().max())
    with torch.no_grad():  # the control: with what joins the features switched off it is a sum again
        for layer in network.drawn:
            layer.weight.zero_()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(difference(codes[0]), difference(codes[1]), atol=1e-5, rtol=1e-5)


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


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 28, 28), (1, 33), (1, 6, 8, 5)])
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


# ---- rank 0: samples without axes, which are plain vectors -------------------------------------------


def test_without_axes_a_convolution_is_a_linear_layer() -> None:
    layer = convolution(0, 5, 3, 7)
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (3, 5)
    out = convolution(0, 64, 64, 3)(random(4_000, 64))
    assert math.isclose(float(out.detach().std()), 1.0, abs_tol=0.1)
    assert convolution(0, 4, 4, 3, gain=0)(random(1, 4)).abs().max() == 0
    assert not isinstance(convolution(1, 5, 3, 7), nn.Linear)


def test_without_axes_there_is_nothing_to_fold_pad_or_crop() -> None:
    x, plan = random(3, 2), Plan((2,), 8)
    assert (plan.rank, plan.channels, plan.patch) == (0, 2, 1)
    assert plan.spatial == plan.padded == plan.coarsest == ()
    for same in (unfold(x, 2), fold(x, 2), plan.pad(x), plan.crop(x)):
        assert torch.equal(same, x)


def test_a_vector_is_a_picture_of_one_pixel() -> None:
    """The same weights in the middle of the kernels: a rank is only a way of lying in memory."""
    flat, square = Discriminator((2,), 3, width=8), Discriminator((2, 1, 1), 3, width=8)
    weights = dict(square.state_dict())
    for key, value in flat.state_dict().items():
        if value.ndim == 2 and weights[key].ndim == 4 and value.shape == weights[key].shape[:2]:
            edge = weights[key].shape[-1] // 2
            weights[key] = torch.zeros_like(weights[key])
            weights[key][..., edge, edge] = value
        elif "downs" in key and value.ndim == 2:  # unfolding brings 4 places, of which 3 are padding
            weights[key] = torch.zeros_like(weights[key])
            weights[key][:, ::4, 0, 0] = value
        else:
            weights[key] = value
    square.load_state_dict(weights)
    x, none = random(4, 2), torch.zeros(4, 0)
    expected = flat(x, none)
    torch.testing.assert_close(square(x[..., None, None], none[..., None, None]), expected)
    assert not torch.allclose(square(2 * x[..., None, None], none[..., None, None]), expected)


# ---- the discriminator ----------------------------------------------------------------------------


def test_the_logit_of_a_pair_is_the_projection_by_hand() -> None:
    """psi(h) + <h, e(y)> / sqrt(F), with F = 4 and weights that a person can add up."""
    critic = Discriminator((2,), told=3, width=8, features=4)
    with torch.no_grad():
        critic.alone.weight.copy_(torch.tensor([[1.0, 0.0, -1.0, 2.0]]))
        critic.alone.bias.fill_(0.5)
        critic.pair.weight.copy_(torch.tensor([[0.0, 3.0, 1.0, -1.0]]))
        critic.pair.bias.fill_(-2.0)
        critic.embed.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0], [1.0, 1.0, 1.0]]))
    h = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 1.0, 0.5]])
    assert critic.judge_alone(h).tolist() == [6.5, -0.5]
    # e of the classes: (1, 0, 0, 1), (0, 2, 0, 1), (0, 0, 3, 1); <h, e> halved, as sqrt(F) = 2
    psi = [6.0 + 3.0 - 4.0 - 2.0, 1.0 - 0.5 - 2.0]
    inner = {0: (5.0, -0.5), 1: (8.0, 0.5), 2: (13.0, 3.5)}
    for y, of in inner.items():
        vec = torch.eye(3)[[y, y]]
        assert critic.judge_pair(h, vec).tolist() == pytest.approx(
            [a + b / 2 for a, b in zip(psi, of, strict=True)]
        )
    assert critic.judge_pair(h, torch.zeros(2, 3)).tolist() == pytest.approx(psi)  # nothing is said
    mixed = torch.tensor([[0.5, 0.5, 0.0]] * 2)  # a multi-hot or continuous y is a sum of directions
    assert critic.judge_pair(h, mixed).tolist() == pytest.approx([psi[0] + 6.5 / 2, psi[1]])


def test_without_a_condition_a_pair_is_judged_as_x_alone() -> None:
    critic = Discriminator((1, 8, 8), width=8)
    assert critic.pair is None
    assert critic.embed is None
    h = critic(random(3, 1, 8, 8), torch.zeros(3, 0, 8, 8))
    assert torch.equal(critic.judge_pair(h, torch.zeros(3, 0)), critic.judge_alone(h))
    told = Discriminator((1, 8, 8), told=2, width=8)
    h = told(random(3, 1, 8, 8), torch.zeros(3, 0, 8, 8))
    assert not torch.allclose(told.judge_pair(h, torch.eye(2)[[0, 1, 0]]), told.judge_alone(h))


def test_a_logit_depends_on_y_for_the_pair_and_not_for_x_alone() -> None:
    critic, x = Discriminator((1, 8, 8), told=2, width=8), random(3, 1, 8, 8)
    h = critic(x, torch.zeros(3, 0, 8, 8))
    a, b = torch.eye(2)[[0, 0, 0]], torch.eye(2)[[1, 1, 1]]
    assert (critic.judge_pair(h, a) != critic.judge_pair(h, b)).all()


def test_a_map_reaches_the_logits_and_has_a_head_of_its_own() -> None:
    critic, x = Discriminator((1, 8, 8), mapped=2, width=8), random(3, 1, 8, 8)
    assert critic.embed is None
    vec = torch.zeros(3, 0)
    logits = [
        critic.judge_pair(critic(x, maps), vec) for maps in (torch.zeros(3, 2, 8, 8), torch.ones(3, 2, 8, 8))
    ]
    assert not torch.allclose(logits[0], logits[1])
    h = critic(x, torch.ones(3, 2, 8, 8))
    assert not torch.allclose(critic.judge_pair(h, vec), critic.judge_alone(h))


@pytest.mark.parametrize("spread", [False, True])
def test_each_sample_can_be_judged_by_itself(spread: bool) -> None:
    """sets = 0: no statistics over a batch, so that the score of a sample is the same alone and among others."""
    critic = Discriminator((1, 8, 8), told=2, width=8, spread=spread)
    x, none, vec = random(6, 1, 8, 8), torch.zeros(6, 0, 8, 8), torch.eye(2)[[0, 1] * 3]

    def judged(rows: slice, sets: int) -> torch.Tensor:
        return critic.judge_pair(critic(x[rows], none[rows], sets=sets), vec[rows])

    torch.testing.assert_close(judged(slice(2, 3), 0), judged(slice(6), 0)[2:3])
    same = torch.allclose(judged(slice(2, 3), 1), judged(slice(6), 1)[2:3])
    assert same != spread  # the control


def test_what_reals_usually_show_is_remembered_for_samples_that_are_judged_alone() -> None:
    critic, none = Discriminator((1, 8, 8), width=8, spread=True), torch.zeros(8, 0, 8, 8)
    x = random(8, 1, 8, 8)
    x[4:] = 0.0  # the second set, the fakes, is not what is remembered
    before = critic(x, none, sets=0)
    for _ in range(1_000):
        critic(x, none, sets=2)
        critic.remember(critic.shown[0])
    torch.testing.assert_close(critic(x, none, sets=0)[:4], critic(x, none, sets=2)[:4], atol=1e-3, rtol=0)
    assert not torch.allclose(critic(x, none, sets=0), before)
    now = critic.usual.clone()
    for sets in (0, 1, 2):  # a look alone leaves it as it is, in training too: its update may be skipped
        critic(x, none, sets=sets)
    assert torch.equal(critic.usual, now)


def test_without_spread_there_is_nothing_to_remember() -> None:
    critic, none = Discriminator((1, 8, 8), width=8), torch.zeros(4, 0, 8, 8)
    x = random(4, 1, 8, 8)
    before = critic(x, none, sets=0)
    critic.remember(critic.shown[0] + 1)
    assert torch.equal(critic(x, none, sets=0), before)
    assert not any(key.endswith("usual") for key in critic.state_dict())


def test_the_spread_of_a_set_is_seen_and_sets_are_kept_apart() -> None:
    """Minibatch deviation: fakes that are all alike are found out, and reals cannot hide them."""
    critic, none = Discriminator((1, 8, 8), width=8, spread=True), torch.zeros(8, 0, 8, 8)
    x = random(8, 1, 8, 8)
    alike = torch.cat([x[:4], x[4:5].expand(4, -1, -1, -1)])
    varied, other = critic(x, none, sets=2), critic(alike, none, sets=2)
    torch.testing.assert_close(other[:4], varied[:4])  # the first set is as it was
    assert not torch.allclose(other[4], varied[4])  # the same sample, among samples that equal it
    assert not torch.allclose(critic(alike, none)[:4], critic(x, none)[:4])  # in one set it is seen by all
    without = Discriminator((1, 8, 8), width=8)
    torch.testing.assert_close(without(alike, none, sets=2)[4], without(x, none, sets=2)[4])


def test_the_slope_by_x_exists_and_can_be_trained_through() -> None:
    """What the gradient penalty needs."""
    critic = Discriminator((1, 8, 8), told=2, width=8)
    x = random(3, 1, 8, 8).requires_grad_(True)
    logits = critic.judge_pair(critic(x, torch.zeros(3, 0, 8, 8)), torch.eye(2)[[0, 1, 0]])
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert slope.abs().max() > 0
    first = next(critic.parameters())
    assert first.grad is not None
    assert first.grad.abs().max() > 0
    assert critic.embed.weight.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (1, 33)])
def test_the_gradient_of_both_logits_reaches_every_parameter(shape: tuple[int, ...]) -> None:
    """Behind a convolution that starts at zero nothing arrives in the first step; in the second all do."""
    critic = Discriminator(shape, 2, width=8)
    silent = {id(p) for m in critic.modules() if isinstance(m, Block) for p in inside(m)}
    given, vec = (random(3, *shape), torch.zeros(3, 0, *shape[1:])), random(3, 2)
    for step in range(2):
        critic.zero_grad()
        h = critic(*given)
        (critic.judge_alone(h).square() + critic.judge_pair(h, vec).square()).sum().backward()
        for name, parameter in critic.named_parameters():
            assert parameter.grad is not None, name
            if step == 0:
                assert (parameter.grad.abs().max() > 0) != (id(parameter) in silent), name
                parameter.data -= 1e-3 * parameter.grad
            else:
                assert parameter.grad.abs().max() > 0, name
