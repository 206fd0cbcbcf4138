"""The game as it is played: who learns when, from what, and what is remembered."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sibling.conditions.label import Label
from sibling.conditions.none import Unconditional
from sibling.device import generator
from sibling.errors import NumericalError, UnsafeFile, UsageError
from sibling.models import critic as critic_module
from sibling.models.game import LOSSES
from sibling.models.gan import GAN
from sibling.models.update import MOST_SKIPS, guarded_update, skipping
from sibling.nets import USUAL_MEMORY
from sibling.types import Batch, Cond
from sibling.watch import keep_good, roll_back

N, Z = 6, 3
SMALL: dict[str, Any] = {"latent": Z, "width": 8, "critic_width": 8}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(condition: Any = None, shape: tuple[int, ...] = (2,), **arguments: Any) -> GAN:
    gan = GAN(**{**SMALL, "strength": 0.0, **arguments})
    gan.build(shape, condition or Label(["a", "b", "c"]), generator("weights"))
    return gan


def told(numbers: list[int], width: int = 3) -> Cond:
    return Cond(torch.eye(width)[numbers], torch.zeros(len(numbers), 0))


A, B = told([0, 1, 2] * 2), told([1, 2, 0] * 2)


def batch_of(cond: Cond = A, progress: float = 0.5, stream: str = "step", **more: Any) -> Batch:
    return Batch(random(len(cond), 2).tanh(), cond, generator(stream), progress, **more)


def weights_of(gan: GAN) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {k: v.clone() for k, v in network.state_dict().items()}
        for name, network in gan.networks.items()
    }


def logits(gan: GAN, batch: Batch, cond: Cond) -> torch.Tensor:
    """D(x, y) as it is in a step, with the reals as a set of their own."""
    network: Any = gan.networks["discriminator"]
    with torch.no_grad():
        found: torch.Tensor = network.judge_pair(network(batch.x, cond.map), cond.vec)
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of D, then of G, at each step, in float32 on every machine; the weights stay as they are."""
    seen: list[float] = []

    def loss_only(optimizer: Any, loss: torch.Tensor, **_: Any) -> tuple[float, int]:
        seen.append(float(loss.detach()))
        return 0.0, 0

    monkeypatch.setattr("sibling.device.has_fast_bf16", lambda device: False)
    for player in ("critic", "gan"):
        monkeypatch.setattr(f"sibling.models.{player}.guarded_update", loss_only)
    return seen


# ---- who learns when ------------------------------------------------------------------------------


def test_each_player_is_frozen_while_the_other_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    gan, moved, free = built(), [], []

    def spy(optimizer: torch.optim.Optimizer, loss: torch.Tensor, **options: Any) -> tuple[float, int]:
        before = weights_of(gan)
        learning = {name for name, other in gan.optimizers.items() if other is optimizer}
        free.append({p.requires_grad for p in gan.networks["discriminator"].parameters()})
        result = guarded_update(optimizer, loss, **options)
        after = weights_of(gan)
        moved.append((learning, {name for name in ("discriminator", "generator")
                                 if not same(before[name], after[name])}))  # fmt: skip
        return result

    for player in ("critic", "gan"):
        monkeypatch.setattr(f"sibling.models.{player}.guarded_update", spy)
    for _ in range(3):
        gan.step(batch_of())
    assert moved == [({"discriminator"},) * 2, ({"generator"},) * 2] * 3
    assert free == [{True}, {False}] * 3


def test_no_gradient_is_left_for_the_other_player() -> None:
    gan = built()
    gan.step(batch_of())
    d, g = gan.networks["discriminator"], gan.networks["generator"]
    assert all(p.grad is not None for p in g.parameters())
    before = [p.grad.clone() for p in d.parameters() if p.grad is not None]
    fake = g(random(N, Z), A.vec, A.map)
    gan.critic.teach(batch_of(), fake, A, [torch.zeros(N)], share=1.0).backward()
    after = [p.grad for p in d.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_in_a_few_steps_every_parameter_moves() -> None:
    gan = built(transition=(0.0, 0.9), loss="nonsaturating")  # both of the heads of D are in use
    before = weights_of(gan)
    for _ in range(3):
        gan.step(batch_of())
    after = weights_of(gan)
    for name in ("generator", "discriminator"):
        still = [key for key, value in before[name].items() if torch.equal(value, after[name][key])]
        assert still == []


def test_a_relativistic_game_leaves_the_zero_point_of_the_logits_alone() -> None:
    """The bias of a logit cancels in each difference: it has no gradient."""
    for loss in ("relativistic", "nonsaturating"):
        gan = built(transition=(0.0, 0.9), matching=0.0, loss=loss)
        for number in (1, 2):  # behind a convolution that starts at zero nothing arrives in the first one
            gan.step(batch_of(number=number))
        for key, parameter in gan.networks["discriminator"].named_parameters():
            size = float(parameter.grad.abs().max())
            still = loss == "relativistic" and key in ("alone.bias", "pair.bias")
            assert size < 1e-6 if still else size > 1e-6, (loss, key)


# ---- what they are shown --------------------------------------------------------------------------


class Watched:
    """What goes into the networks of a GAN, call by call."""

    def __init__(self, gan: GAN) -> None:
        self.g: list[tuple[torch.Tensor, ...]] = []
        self.d: list[tuple[torch.Tensor, ...]] = []
        self.made: list[torch.Tensor] = []
        gan.networks["generator"].register_forward_hook(self._generated)
        gan.networks["discriminator"].register_forward_pre_hook(
            lambda _, given: self.d.append(tuple(t.detach().clone() for t in given))
        )

    def _generated(self, _: Any, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        self.g.append(tuple(t.detach().clone() for t in given))
        self.made.append(out.detach().clamp(-1, 1))  # samples are held there


def test_n_fakes_are_mixed_with_n_reals_and_judged_at_once() -> None:
    gan = built()
    seen, batch = Watched(gan), batch_of()
    gan.step(batch)
    assert [len(x) for x, _ in seen.d] == [2 * N, N]
    assert torch.equal(seen.d[0][0][:N], batch.x)
    assert torch.equal(seen.d[0][0][N:], seen.made[0].float())
    assert torch.equal(seen.d[1][0], seen.made[1].float())  # then N new fakes alone


def test_g_learns_from_another_n_noise_vectors_and_all_follow_from_the_stream() -> None:
    def noise(stream: str) -> list[torch.Tensor]:
        gan = built()
        seen = Watched(gan)
        gan.step(batch_of(stream=stream))
        return [given[0] for given in seen.g]

    for_d, for_g = noise("one")
    assert for_d.shape == for_g.shape == (N, Z)
    assert not torch.isin(for_g, for_d).any()
    again, other = noise("one"), noise("other")
    assert torch.equal(torch.stack(again), torch.stack([for_d, for_g]))
    assert not torch.isin(torch.stack(other), torch.stack(again)).any()
    rng = generator("one")
    assert torch.equal(for_d, torch.randn(N, Z, generator=rng))


def test_a_step_is_a_function_of_the_weights_and_the_batch() -> None:
    rows, ends = [], []
    for noise in (0, 1):
        gan = built(strength=0.5, shape=(1, 8, 8))
        torch.manual_seed(noise)  # the global stream is not asked
        batch = Batch(random(N, 1, 8, 8), Cond(A.vec, torch.zeros(N, 0, 8, 8)), generator("s"), 0.5)
        rows.append(gan.step(batch))
        ends.append(weights_of(gan))
    assert rows[0] == rows[1]
    assert all(same(ends[0][name], ends[1][name]) for name in ends[0])
    assert all(isinstance(value, float) and math.isfinite(value) for value in rows[0].values())


def test_what_g_is_told_is_batch_made_and_d_hears_the_target() -> None:
    gan = built()
    seen, pairs = Watched(gan), []
    judge = gan.networks["discriminator"].judge_pair
    gan.networks["discriminator"].judge_pair = lambda h, vec: (pairs.append(vec), judge(h, vec))[1]
    gan.step(batch_of(A, made=B))
    assert all(torch.equal(vec, B.vec) for _, vec, _ in seen.g)
    assert len(seen.g) == 2
    assert len(pairs) == 3  # of reals, of fakes, of G's fakes
    assert all(torch.equal(vec, A.vec) for vec in pairs)
    gan.step(batch_of(A))  # the control
    assert torch.equal(seen.g[-1][1], A.vec)


def test_fakes_are_held_in_range_and_only_a_way_back_has_a_gradient() -> None:
    """Above 1 a step down is let through, below -1 a step up; inside, everything."""
    gan, where = built(), torch.tensor([[-3.0, 3.0], [-1.0, 1.0], [0.5, -0.5]])
    for slope in (1.0, -1.0):
        x = where.clone().requires_grad_(True)
        gan.networks["generator"].forward = lambda z, vec, maps, x=x: x  # type: ignore[method-assign]
        held = gan._generate(random(3, Z), A[slice(3)])
        assert held.tolist() == [[-1.0, 1.0], [-1.0, 1.0], [0.5, -0.5]]
        (slope * held).sum().backward()
        outside = [0.0, 1.0] if slope > 0 else [-1.0, 0.0]  # a step goes against its slope
        assert x.grad.tolist() == [outside, [slope, slope], [slope, slope]]


def test_a_generator_that_is_far_out_of_range_comes_back() -> None:
    z = random(N, Z)
    ends = []
    for steps in (0, 150):
        gan = built(Unconditional(), learning_rate=0.01)
        with torch.no_grad():
            gan.networks["generator"].head.bias.fill_(4.0)  # type: ignore[union-attr, operator]
        for step in range(steps):
            cond = Unconditional().null(N, ())
            gan.step(Batch(0.5 * random(N, 2).tanh(), cond, generator("step", step), 0.0, number=step))
        ends.append(gan.networks["generator"](z, torch.zeros(N, 0), torch.zeros(N, 0)).detach())
    assert (ends[0] > 1.5).all()  # the control: all of it is outside, where a clamp has no slope
    assert float((ends[1].abs() <= 1).float().mean()) > 0.5


def mapped(shape: tuple[int, ...] = (1, 8, 8), **arguments: Any) -> tuple[GAN, Batch]:
    condition = SimpleNamespace(width=0, channels=2, unambiguous=True)
    gan = built(condition, shape, **arguments)
    maps = random(N, 2, *shape[1:], seed=5)
    return gan, Batch(random(N, *shape), Cond(torch.zeros(N, 0), maps), generator("step"), 0.5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 24), (1, 6, 8, 5)], ids=str)
def test_a_map_reaches_both_players(shape: tuple[int, ...]) -> None:
    gan, batch = mapped(shape)
    seen = Watched(gan)
    gan.step(batch)
    assert all(torch.equal(given[2], batch.cond.map) for given in seen.g)
    assert torch.equal(seen.d[0][1], torch.cat([batch.cond.map] * 2))
    assert torch.equal(seen.d[1][1], batch.cond.map)
    other = Cond(batch.cond.vec, -batch.cond.map)
    z = random(N, Z)
    assert not torch.allclose(gan.generate(z, other), gan.generate(z, batch.cond))
    assert not torch.allclose(gan.critic.score(batch.x, other), gan.critic.score(batch.x, batch.cond))


def test_a_wrong_map_makes_a_third_kind_of_pair(losses: list[float]) -> None:
    gan, batch = mapped()
    gan.step(batch)
    wrong = Cond(batch.cond.vec, batch.cond.map.flip(0))
    gan.step(Batch(batch.x, batch.cond, generator("step"), 0.5, wrong=wrong))
    r, w = logits(gan, batch, batch.cond), logits(gan, batch, wrong)
    expected = gan.matching * torch.nn.functional.softplus(w - r).mean()
    assert losses[2] - losses[0] == pytest.approx(float(expected), abs=1e-4)
    assert losses[3] == pytest.approx(losses[1])


def test_without_a_condition_there_is_one_head_and_nothing_is_told() -> None:
    gan = built(Unconditional())
    seen = Watched(gan)
    cond = Unconditional().null(N, ())
    row = gan.step(batch_of(cond))
    assert all(math.isfinite(value) for value in row.values())
    assert [given[1].shape for given in seen.g] == [(N, 0)] * 2
    assert not any("embed" in key or "pair" in key for key in gan.state())
    assert gan.generate(random(4, Z), Unconditional().null(4, ())).shape == (4, 2)


# ---- the condition comes in -----------------------------------------------------------------------


def both_losses(
    losses: list[float], cond: Cond, progress: float, *, deaf: bool = False
) -> tuple[float, float]:
    """Of D and of G, with weights that do not move; a deaf G makes the same of its noise whatever y is."""
    gan = built(transition=(0.2, 0.6), matching=0.0, gamma=0.0)
    if deaf:
        with torch.no_grad():
            for layer in gan.networks["generator"].modules():
                if isinstance(layer, torch.nn.Linear) and layer.in_features == Z + 3:
                    layer.weight[:, Z:] = 0
    losses.clear()
    gan.step(batch_of(cond, progress))
    return losses[0], losses[1]


def test_before_its_start_a_condition_has_no_effect_on_the_losses_and_after_its_end_it_has(
    losses: list[float],
) -> None:
    for progress in (0.0, 0.1, 0.2):
        assert both_losses(losses, A, progress) == both_losses(losses, B, progress)
    for progress in (0.3, 0.6, 1.0):
        for deaf in (False, True):
            for a, b in zip(
                both_losses(losses, A, progress, deaf=deaf),
                both_losses(losses, B, progress, deaf=deaf),
                strict=True,
            ):
                assert abs(a - b) > 1e-4


def test_the_condition_comes_in_linearly_and_then_the_pair_alone_counts(losses: list[float]) -> None:
    alone, pair = (both_losses(losses, A, progress, deaf=True) for progress in (0.2, 0.6))
    for progress, share in ((0.3, 0.25), (0.4, 0.5), (0.5, 0.75)):
        for now, a, p in zip(both_losses(losses, A, progress, deaf=True), alone, pair, strict=True):
            assert now == pytest.approx(a + share * p, abs=1e-5)
    assert both_losses(losses, A, 0.9, deaf=True) == pytest.approx(pair)


def test_the_generator_hears_of_y_as_much_as_the_discriminator_judges_by_it() -> None:
    for progress, share in ((0.0, 0.0), (0.2, 0.0), (0.3, 0.25), (0.5, 0.75), (0.6, 1.0), (1.0, 1.0)):
        gan = built(transition=(0.2, 0.6))
        seen = Watched(gan)
        gan.step(batch_of(progress=progress))
        for _, vec, _ in seen.g:
            torch.testing.assert_close(vec, share * A.vec)


def test_before_its_start_a_map_has_no_effect_either(losses: list[float]) -> None:
    for sign in (1, -1):
        gan, batch = mapped(transition=(0.2, 0.6))
        cond = Cond(batch.cond.vec, sign * batch.cond.map)
        gan.step(Batch(batch.x, cond, generator("step"), 0.1))
    assert losses[0] == pytest.approx(losses[2])


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_a_transition_without_a_length_is_a_switch(at: float) -> None:
    for progress in sorted({0.0, max(0.0, at - 1e-6), at, min(1.0, at + 1e-6), 1.0}):
        gan = built(transition=[at, at])
        seen = Watched(gan)
        row = gan.step(batch_of(progress=progress))
        assert all(math.isfinite(value) for value in row.values())
        for _, vec, _ in seen.g:
            torch.testing.assert_close(vec, float(progress >= at) * A.vec)


@pytest.mark.parametrize("transition", [(0.5, 0.2), (-0.1, 0.2), (0.2, 1.2), (0.1,)])
def test_a_transition_that_cannot_be_is_refused(transition: Any) -> None:
    with pytest.raises(UsageError, match="two shares"):
        GAN(transition=transition)


@pytest.mark.parametrize(
    ("transition", "share"), [((0.0, 0.0), 0.3), ((0.2, 0.45), 0.45), ((0.1, 0.2), 0.3), ((0.5, 1.0), 0.9)]
)
def test_nothing_is_chosen_before_the_condition_has_come_in(
    transition: tuple[float, float], share: float
) -> None:
    assert GAN(transition=transition).decides_from == pytest.approx(share)


@pytest.mark.parametrize(
    "argument", [{"loss": "wasserstein"}, {"lazy": 0}, {"strength": 1.5}, {"vicinity": "far"}]
)
def test_arguments_that_cannot_work_are_refused(argument: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        GAN(**argument)


# ---- weights of the pairs -------------------------------------------------------------------------


@pytest.mark.parametrize("matching", [0.0, 0.5])
def test_vicinal_weights_multiply_the_terms(matching: float, losses: list[float]) -> None:
    def play(weight: torch.Tensor | None) -> tuple[float, float]:
        losses.clear()
        built(matching=matching, gamma=0.0).step(batch_of(weight=weight, wrong=B))
        return losses[0], losses[1]

    plain = play(None)
    assert play(torch.ones(N)) == pytest.approx(plain)
    assert play(torch.zeros(N)) == (0.0, 0.0)
    assert play(torch.full((N,), 0.5)) == pytest.approx([loss / 2 for loss in plain])
    alone = [play(torch.eye(N)[i]) for i in range(N)]
    assert [sum(a) for a in zip(*alone, strict=True)] == pytest.approx(plain, rel=1e-5)
    assert len({round(a, 7) for a, _ in alone}) == N  # the control: the terms differ


# ---- what the ledger remembers --------------------------------------------------------------------


def test_the_averages_of_the_logits_forget_slowly(losses: list[float]) -> None:
    gan = built()
    steps = 40
    for _ in range(steps):
        gan.step(batch_of())  # the weights stay, so the logits do too
    z = torch.randn(N, Z, generator=generator("step"))
    fake = gan.networks["generator"](z, A.vec, A.map).detach().clamp(-1, 1)
    for name, x in (("mean_real", batch_of().x), ("mean_fake", fake)):
        mean = float(logits(gan, Batch(x, A, generator("step"), 0.5), A).mean())
        expected = (1 - critic_module.LOGIT_MEMORY**steps) * mean
        assert float(getattr(gan.ledger, name)) == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert abs(expected) > 1e-3


def judged_in_pictures(**more: Any) -> tuple[GAN, Batch]:
    """A D that is shown how varied its batch is, and a batch in which reals, fakes and held-out ones differ in it."""
    gan = built(shape=(1, 8, 8), **more)
    maps = torch.zeros(N, 0, 8, 8)
    held = Batch(2 * random(N, 1, 8, 8, seed=3), Cond(A.vec, maps), generator("held"), 0.0)
    return gan, Batch(random(N, 1, 8, 8).tanh(), Cond(A.vec, maps), generator("step"), 0.5, held=held)


def usual(gan: GAN) -> float:
    return float(gan.networks["discriminator"].usual)  # type: ignore[arg-type]


def test_an_update_of_d_remembers_what_its_reals_have_shown_and_nothing_else_does(
    losses: list[float],
) -> None:
    gan, batch = judged_in_pictures()
    network: Any = gan.networks["discriminator"]
    with torch.no_grad():
        network(batch.x, batch.cond.map)
    shown = float(network.shown[0])
    gan.critic.score(batch.x, batch.cond)
    gan.validate(batch)
    gan.critic.teach(batch, batch.x, batch.cond, [torch.zeros(N)], share=1.0)
    assert usual(gan) == 0.0
    gan.step(batch)
    assert usual(gan) == pytest.approx((1 - USUAL_MEMORY) * shown, rel=1e-5)
    assert shown > 0.01


def test_a_second_look_at_the_reals_with_wrong_maps_is_not_what_is_remembered(losses: list[float]) -> None:
    remembered = []
    for amount in (0.0, 5.0):
        gan, batch = mapped()
        wrong = Cond(batch.cond.vec, batch.cond.map.flip(0) * amount)
        gan.step(Batch(batch.x, batch.cond, generator("step"), 0.5, wrong=wrong))
        remembered.append(usual(gan))
    assert remembered[0] == remembered[1] > 0


def test_an_update_that_is_skipped_remembers_nothing_though_its_logits_are_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for skipped in (1, 0):  # 0 is the control
        monkeypatch.setattr("sibling.models.critic.guarded_update", lambda *_, n=skipped, **__: (math.inf, n))
        gan, batch = judged_in_pictures()
        gan.step(batch)
        kept = [usual(gan), float(gan.ledger.mean_real), float(gan.ledger.mean_fake)]
        assert (kept == [0.0] * 3) == bool(skipped)
        assert gan.critic.skipped == skipped


@pytest.mark.parametrize(("gamma", "lazy"), [(0.2, 4), (0.2, 1), (0.0, 4)])
def test_where_a_penalty_weighs_more_the_gradient_may_be_longer(
    gamma: float, lazy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips: dict[str, list[float]] = {"critic": [], "gan": []}

    def spy(player: str) -> Any:
        return lambda optimizer, loss, *, clip, skipped: (clips[player].append(clip), (0.0, 0))[1]

    for player in clips:
        monkeypatch.setattr(f"sibling.models.{player}.guarded_update", spy(player))
    gan = built(gamma=gamma, lazy=lazy)
    for number in range(8):
        gan.step(batch_of(number=number))
    often = [number for number in range(8) if gamma and number % lazy == 0]
    assert clips["critic"] == [critic_module.CLIP * (lazy if n in often else 1) for n in range(8)]
    assert clips["gan"] == [critic_module.CLIP] * 8  # G has no penalty


class Judge(torch.nn.Module):
    """A discriminator whose logit is 1 for what it knows and -1 for the rest."""

    pair = None

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.known = known
        self.shown = torch.zeros(1)

    def forward(self, x: torch.Tensor, maps: torch.Tensor, **_: Any) -> torch.Tensor:
        return x

    def remember(self, shown: torch.Tensor) -> None:
        """It sees one sample at a time."""

    def judge_alone(self, x: torch.Tensor) -> torch.Tensor:
        near = (x[:, None] - self.known[None]).abs().amax(2).amin(1) < 1e-6  # (N, known, C) -> (N,)
        return near.float() * 2 - 1

    def judge_pair(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        return self.judge_alone(x)


def measured(known: int, strength: float, steps: int, **options: Any) -> tuple[float, float]:
    """Gauge and strength after steps of a D that holds what it knows for real and the rest for fake."""
    train, held, fake = (random(40, 2, seed=seed) for seed in (0, 1, 2))
    ledger, cond = critic_module.Ledger(strength), Unconditional().null(40, ())
    judge: Any = Judge(torch.cat([train, held[:known]]))
    critic = critic_module.Critic(judge, ledger, gamma=0.0, target=0.3, **options)
    for step in range(steps):
        rng = generator("game", step)
        batch = Batch(train, cond, rng, 0.0, held=Batch(held, cond, rng, 0.0), number=step)
        critic.learn(None, batch, train, fake, cond, share=0.0)  # type: ignore[arg-type]
    return float(ledger.gauge), float(ledger.strength)


@pytest.fixture
def _still(losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """No updates, and samples as they are whatever the strength is."""
    monkeypatch.setattr(critic_module, "augment_pair", lambda x, maps, strength, rng: (x, maps))


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize(("known", "gauge"), [(0, 1.0), (20, 0.5), (40, 0.0)])
def test_the_gauge_tells_a_discriminator_that_memorised_from_one_that_did_not(
    known: int, gauge: float
) -> None:
    """`known` of the 40 held-out samples are held for real as well: with all of them nothing was memorised."""
    found, strength = measured(known, 0.4, 60)
    assert found == pytest.approx(gauge, abs=0.02)
    first, _ = measured(known, 0.4, 1)
    assert first == pytest.approx(gauge * (1 - critic_module.GAUGE_MEMORY), abs=1e-6)
    assert (strength > 0.4) == (gauge > 0.3)  # and the augmentation grows or falls


@pytest.mark.usefixtures("_still")
def test_the_strength_stays_within_its_bounds_and_where_it_is_not_adaptive() -> None:
    assert measured(0, 0.5, 200)[1] == pytest.approx(critic_module.MOST_STRENGTH)
    assert measured(40, 0.5, 200)[1] == 0.0
    for known in (0, 40):
        assert measured(known, 0.5, 20, adaptive=False)[1] == 0.5
    up, down = (measured(known, 0.5, 1)[1] - 0.5 for known in (0, 40))
    assert down == pytest.approx(-critic_module.STRENGTH_STEP, abs=1e-6)
    assert up == pytest.approx(-critic_module.STRENGTH_STEP, abs=1e-6)  # one look alone is not believed yet


@pytest.mark.usefixtures("_still")
def test_a_discriminator_that_tells_nothing_apart_is_not_gauged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "judge_alone", lambda self, x: 0.01 * x[:, 0])
    assert measured(0, 0.5, 20) == (0.0, 0.5)


@pytest.mark.usefixtures("_still")
def test_before_the_transition_the_gauge_compares_logits_of_one_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "pair", True)
    monkeypatch.setattr(Judge, "judge_pair", lambda self, x, vec: self.judge_alone(x) - 50)
    assert measured(40, 0.5, 60)[0] == pytest.approx(0, abs=0.02)


def gauge_after_training(n: int) -> float:
    """The gauge of a D that saw n points of Gaussian noise in 16 dimensions, again and again."""
    gan = built(
        Unconditional(), (16,), adaptive=False, gamma=0.01, width=16, critic_width=32, learning_rate=3e-3
    )
    train, cond = random(n, 16) * 0.3, Unconditional().null(32, ())
    for step in range(64):
        rng = generator("game", step)
        rows = torch.randint(n, (32,), generator=rng)
        held = Batch(torch.randn(32, 16, generator=rng) * 0.3, cond, rng, 0.0) if step % 4 == 0 else None
        gan.step(Batch(train[rows], cond, rng, 0.0, held=held, number=step))
    return float(gan.ledger.gauge)


def test_a_discriminator_that_sees_few_samples_learns_them_by_heart_and_the_gauge_shows_it() -> None:
    few, many = gauge_after_training(8), gauge_after_training(20_000)

    assert few > many + 0.2, (few, many)
    assert abs(many) < 0.3


# ---- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lecam", [0.0, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains_without_a_number_that_is_not_finite(loss: str, lecam: float) -> None:
    gan = built(shape=(1, 8, 8), loss=loss, lecam=lecam, strength=0.3, transition=(0.2, 0.6))
    for step in range(30):
        rng = generator("step", step)
        maps = torch.zeros(N, 0, 8, 8)
        x = torch.randn(N, 1, 8, 8, generator=rng).tanh()
        held = Batch(x.flip(0), Cond(A.vec, maps), rng, 0.0) if step % 8 == 0 else None
        row = gan.step(Batch(x, Cond(A.vec, maps), rng, step / 30, Cond(B.vec, maps), held=held, number=step))
        assert all(math.isfinite(value) for value in row.values()), row
        assert ("loss/penalty" in row) == (step % gan.lazy == 0)
    assert all(torch.isfinite(value).all() for value in gan.state().values())
    assert 0 <= row["game/d_real"] <= 1
    assert 0 <= row["game/d_fake"] <= 1
    assert row["game/value"] <= 0


def test_the_learning_rates_follow_progress_and_the_ledger(losses: list[float]) -> None:
    gan = built(learning_rate=0.01, critic_rate=3.0)

    def rates(progress: float) -> list[float]:
        gan.step(batch_of(progress=progress))
        return [gan.optimizers[name].param_groups[0]["lr"] for name in ("generator", "discriminator")]

    assert rates(0.0) == pytest.approx([0.01, 0.03])
    assert rates(1.0) == pytest.approx([0.001, 0.003])  # a tenth, as a cosine
    assert rates(0.5) == pytest.approx([0.0055, 0.0165])
    gan.ledger.rate.fill_(0.5)
    assert rates(0.0) == pytest.approx([0.005, 0.015])


def test_a_poisoned_batch_reaches_no_weight_and_is_not_remembered() -> None:
    gan = built(lecam=0.1)
    gan.step(batch_of())
    before = weights_of(gan)
    bad = batch_of()
    bad.x = bad.x * math.nan
    gan.step(bad)
    after = weights_of(gan)
    assert all(same(before[name], after[name]) for name in before)  # nor `usual`, nor the ledger
    assert all(math.isfinite(value) for value in gan.step(batch_of()).values())


def test_after_a_rollback_one_bad_batch_is_skipped_like_any_other() -> None:
    gan = built()
    gan.step(batch_of())
    good = keep_good(gan)
    bad = batch_of()
    bad.x = bad.x * math.nan
    for _ in range(MOST_SKIPS - 1):
        gan.step(bad)
    with pytest.raises(NumericalError, match="in a row"):
        gan.step(bad)
    roll_back(gan, good, "why", 1, 0)
    gan.step(bad)


def test_both_players_count_what_they_skip_and_a_generator_alone_does_too() -> None:
    gan, bad = built(), batch_of()
    bad.x = bad.x * math.nan
    gan.step(bad)
    assert {name: part.skipped for name, part in skipping(gan).items()} == {"model": 1, "critic": 1}
    gan.step(batch_of())
    assert {name: part.skipped for name, part in skipping(gan).items()} == {"model": 0, "critic": 0}
    small = built(keep_discriminator=False)
    small.load({key: value for key, value in gan.state().items() if key.startswith("generator/")})
    assert skipping(small) == {"model": small}
    assert skipping(SimpleNamespace(networks={})) == {}


# ---- the state ------------------------------------------------------------------------------------


def test_without_its_discriminator_a_snapshot_samples_the_same() -> None:
    gan = built()
    for _ in range(3):
        gan.step(batch_of())
    small = built(keep_discriminator=False)
    assert {key.split("/")[0] for key in gan.state()} == {"generator", "discriminator"}
    assert {key.split("/")[0] for key in small.state()} == {"generator"}
    small.load({key: value for key, value in gan.state().items() if key.startswith("generator/")})
    assert torch.equal(small.sample(A, ["a"] * N, range(N)), gan.sample(A, ["a"] * N, range(N)))
    assert {key.split("/")[0] for key in small.state()} == {"generator"}
    whole = built()
    whole.load(gan.state())
    assert torch.equal(whole.critic.score(random(N, 2), A), gan.critic.score(random(N, 2), A))


def test_a_state_with_unknown_parts_is_refused() -> None:
    gan = built()
    with pytest.raises(UnsafeFile, match="no part"):
        gan.load({**gan.state(), "encoder/weight": torch.zeros(1)})


def test_a_sample_depends_on_its_seed_and_y_and_on_psi() -> None:
    gan = built()
    x = gan.sample(A, ["a"] * N, range(N))
    assert torch.allclose(gan.sample(A[2:3], ["a"], [2]), x[2:3], atol=1e-6)
    assert not torch.allclose(gan.sample(A, ["a"] * N, range(1, N + 1)), x)
    assert not torch.allclose(gan.sample(B, ["a"] * N, range(N)), x)
    torch.testing.assert_close(gan.codes(["a"], [7], psi=0.5), 0.5 * gan.codes(["a"], [7]))
