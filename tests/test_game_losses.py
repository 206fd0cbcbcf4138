"""The losses of the game against closed forms: the value, each player's loss, penalties, the pairs that D judges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from sibling.conditions.label import Label
from sibling.conditions.none import Unconditional
from sibling.device import generator
from sibling.models.critic import LOGIT_MEMORY
from sibling.models.game import EQUILIBRIUM, LOSSES, gradient_penalty, lecam, probabilities, value
from sibling.models.gan import GAN
from sibling.types import Batch, Cond

LOG2 = math.log(2)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- the value of the game ------------------------------------------------------------------------

DENSITIES = [(0.0, 1.0), (0.5, 1.0), (1.5, 1.0), (0.0, 0.5), (-3.0, 2.0)]  # q; p is N(0, 1)
MANY = 200_000


def divergence(q: Any) -> float:
    """The Jensen-Shannon divergence of N(0, 1) and q in nats, by numerical integration."""
    p = norm(0, 1)

    def integrand(x: float) -> float:
        a, b = p.pdf(x), q.pdf(x)
        m = (a + b) / 2
        return sum(0.5 * d * math.log(d / m) for d in (a, b) if d > 0)

    return float(quad(integrand, -25, 25, points=[-3, 0, 3], limit=400)[0])


def judged(q: Any, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of p and of q as D* = p / (p + q) sees them, its logits log p - log q moved by `shift`."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(MANY), q.rvs(MANY, random_state=rng)
    logits = [torch.from_numpy(norm.logpdf(a) - q.logpdf(a)) + shift for a in (x, y)]
    return torch.sigmoid(logits[0]), torch.sigmoid(logits[1])


def error(d_real: torch.Tensor, d_fake: torch.Tensor) -> float:
    """Standard error of the value, from the two samples that it is a mean over."""
    return float((d_real.log().var() / MANY + (1 - d_fake).log().var() / MANY).sqrt())


@pytest.mark.parametrize("q", DENSITIES, ids=str)
def test_at_the_optimal_discriminator_the_value_is_twice_the_divergence_less_log_4(
    q: tuple[float, float],
) -> None:
    """Goodfellow et al. 2014, theorem 1."""
    other = norm(*q)
    d_real, d_fake = judged(other)
    expected = 2 * divergence(other) - math.log(4)
    assert float(value(d_real, d_fake)) == pytest.approx(expected, abs=4 * error(d_real, d_fake) + 1e-9)
    # The control: no other D reaches as much, and the tolerance would have seen it.
    for shift in (-0.5, 0.5):
        moved = judged(other, shift)
        assert float(value(*moved)) < expected - 4 * error(*moved)


def test_where_real_and_fake_are_alike_the_value_is_minus_log_4() -> None:
    half = torch.full((7,), 0.5, dtype=torch.float64)
    assert float(value(half, half)) == pytest.approx(-math.log(4), abs=1e-15)
    assert pytest.approx(-math.log(4), abs=1e-15) == EQUILIBRIUM
    assert float(value(*judged(norm(0, 1)))) == pytest.approx(EQUILIBRIUM, abs=1e-12)
    assert float(value(half + 0.2, half - 0.2)) > EQUILIBRIUM + 0.5


def test_the_value_is_finite_where_the_discriminator_is_certain() -> None:
    one, zero = torch.ones(3), torch.zeros(3)
    assert float(value(one, zero)) == 0.0
    assert math.isfinite(float(value(zero, one)))
    assert float(value(zero, one)) < -20


# ---- each player's loss ---------------------------------------------------------------------------

# loss -> (logit at the equilibrium, D's loss there, G's loss there), by hand
BALANCE = {
    "relativistic": (0.0, LOG2, LOG2),
    "minimax": (0.0, 2 * LOG2, -LOG2),
    "nonsaturating": (0.0, 2 * LOG2, LOG2),
    "least-squares": (0.5, 0.5, 0.25),
    "hinge": (0.0, 2.0, 0.0),
}


def test_every_loss_is_tested() -> None:
    assert BALANCE.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_at_the_equilibrium_each_loss_has_its_known_value_and_one_half_is_said(name: str) -> None:
    at, of_d, of_g = BALANCE[name]
    logits = torch.full((5,), at, dtype=torch.float64)
    assert LOSSES[name].discriminator(logits, logits).tolist() == pytest.approx([of_d] * 5)
    assert LOSSES[name].generator(logits, logits).tolist() == pytest.approx([of_g] * 5)
    d_real, d_fake = probabilities(name, logits, logits)
    assert d_real.tolist() == d_fake.tolist() == [0.5] * 5
    assert float(value(d_real, d_fake)) == pytest.approx(EQUILIBRIUM)


def slopes(term: Any, r: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r, f = r.clone().requires_grad_(True), f.clone().requires_grad_(True)
    grads = torch.autograd.grad(term(r, f).sum(), (r, f), allow_unused=True)
    return tuple(torch.zeros_like(r) if g is None else g for g in grads)  # type: ignore[return-value]


@pytest.mark.parametrize("name", LOSSES)
def test_each_player_pulls_its_own_way(name: str) -> None:
    r, f = torch.rand(2, 50, generator=generator("logits"), dtype=torch.float64) * 0.9 + 0.05
    on_r, on_f = slopes(LOSSES[name].discriminator, r, f)
    assert (on_r < 0).all()  # D's loss falls where it finds a real sample more real,
    assert (on_f > 0).all()  # and rises where it finds a fake more real
    _, on_f = slopes(LOSSES[name].generator, r, f)
    assert (on_f < 0).all()  # G wants the opposite of the fakes
    on_r, on_w = slopes(LOSSES[name].wrong, r, f)
    assert (on_w > 0).all()  # a real with a wrong y is a fake to D,
    assert (on_r < 0).all() if LOSSES[name].paired else (on_r == 0).all()  # and not a real a second time


# ---- the equilibrium with pairs of a real x and a wrong y ------------------------------------------

# Six pairs (x, y): the first three are seen, the last three are wrong, as they are where classes are clear-cut.
SEEN = torch.tensor([0.5, 0.3, 0.2, 0.0, 0.0, 0.0], dtype=torch.float64)
WRONG = torch.tensor([0.0, 0.0, 0.0, 0.2, 0.2, 0.6], dtype=torch.float64)


def loss_of_d(
    name: str,
    logits: torch.Tensor,
    p_real: torch.Tensor,
    p_fake: torch.Tensor,
    p_wrong: torch.Tensor,
    m: float,
) -> torch.Tensor:
    """E over all pairs of a real and a fake, and over those of a real and a wrong one; densities on six points."""
    rule, r, other = LOSSES[name], logits[:, None].expand(6, 6), logits[None, :].expand(6, 6)
    terms = torch.outer(p_real, p_fake) * rule.discriminator(r, other)
    return (terms + m * torch.outer(p_real, p_wrong) * rule.wrong(r, other)).sum()


def best_d(name: str, *densities: Any) -> torch.Tensor:
    """D as a probability where its loss is least, found numerically."""
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logits], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = loss_of_d(name, logits, *densities)
        value.backward()
        return value

    search.step(loss)
    found = logits.detach()
    return found if name == "least-squares" else torch.sigmoid(found)


PLAIN = ["minimax", "nonsaturating", "least-squares"]


@pytest.mark.parametrize("m", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", PLAIN)
def test_for_clear_cut_classes_the_equilibrium_stays_at_one_half_with_matching(name: str, m: float) -> None:
    """p_real = p_fake and wrong pairs elsewhere: D* = p_real / (p_real + p_fake + m p_wrong) is 1/2 on what is seen."""
    found = best_d(name, SEEN, SEEN, WRONG, m)
    torch.testing.assert_close(found[:3], torch.full((3,), 0.5, dtype=torch.float64), atol=1e-5, rtol=0)
    if m:
        assert (found[3:] < 0.02).all()  # and wrong pairs are found out


@pytest.mark.parametrize("m", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", PLAIN)
def test_the_optimal_discriminator_is_the_closed_form_where_all_overlap(name: str, m: float) -> None:
    p_real, p_fake, p_wrong = (torch.softmax(random(6, seed=seed), 0) for seed in range(3))
    found = best_d(name, p_real, p_fake, p_wrong, m)
    torch.testing.assert_close(found, p_real / (p_real + p_fake + m * p_wrong), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in LOSSES if not LOSSES[name].paired])
def test_at_the_equilibrium_matching_does_not_move_what_d_says_of_seen_pairs(name: str) -> None:
    at = BALANCE[name][0]
    logits = torch.full((6,), at, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss_of_d(name, logits, SEEN, SEEN, WRONG, 0.5), logits)
    torch.testing.assert_close(slope[:3], torch.zeros(3, dtype=torch.float64))
    assert (slope[3:] > 0).all()  # the control: wrong pairs are pushed down


def test_minimax_is_the_value_itself() -> None:
    r, f = random(1_000), random(1_000, seed=1)
    d_real, d_fake = torch.sigmoid(r), torch.sigmoid(f)
    rule = LOSSES["minimax"]
    torch.testing.assert_close(rule.discriminator(r, f).mean(), -value(d_real, d_fake))
    torch.testing.assert_close(rule.generator(r, f), (1 - d_fake).log())
    fewer = LOSSES["nonsaturating"].generator(r, f)  # the control: the non-saturating one is another number
    assert not torch.allclose(fewer, (1 - d_fake).log())
    torch.testing.assert_close(fewer, -d_fake.log())


def test_only_a_saturated_game_is_slow_in_the_minimax_form() -> None:
    """Why the non-saturating form exists: where D is sure of a fake, minimax has no slope left."""
    r, f = torch.full((1,), 8.0), torch.full((1,), -8.0)
    assert abs(float(slopes(LOSSES["minimax"].generator, r, f)[1])) < 1e-3
    for name in ("nonsaturating", "relativistic"):
        assert abs(float(slopes(LOSSES[name].generator, r, f)[1])) > 0.99


@pytest.mark.parametrize("name", LOSSES)
def test_only_a_paired_loss_depends_on_differences_alone(name: str) -> None:
    r, f = random(20), random(20, seed=1)
    rule = LOSSES[name]
    same = [
        torch.allclose(term(r + 3, f + 3), term(r, f))
        for term in (rule.discriminator, rule.generator, lambda a, b: torch.cat(probabilities(name, a, b)))
    ]
    assert all(same) == any(same) == rule.paired
    assert rule.paired == (name == "relativistic")


def test_probabilities_by_hand() -> None:
    r, f = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    relative = probabilities("relativistic", r, f)  # the means are 1 and 0
    assert relative[0].tolist() == pytest.approx([sigmoid(2), sigmoid(0)])
    assert relative[1].tolist() == pytest.approx([sigmoid(-2), sigmoid(0)])
    squares = probabilities("least-squares", r, f)
    assert [t.tolist() for t in squares] == [[1.0, 0.0], [0.0, 1.0]]
    for name in ("minimax", "nonsaturating", "hinge"):
        both = probabilities(name, r, f)
        assert both[0].tolist() == pytest.approx([sigmoid(2), sigmoid(0)])
        assert both[1].tolist() == pytest.approx([sigmoid(-1), sigmoid(1)])


# ---- penalties ------------------------------------------------------------------------------------


class Smooth(torch.nn.Module):
    """A small network without kinks, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(12, 5).double()
        self.last = torch.nn.Linear(5, 1).double()
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(random(*parameter.shape, seed=number))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.tanh(self.first(x.flatten(1))))[:, 0]
        return out


def by_differences(
    f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, h: float = 1e-5
) -> torch.Tensor:
    """The slope of a scalar function at x, coordinate by coordinate."""
    slope = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros(x.numel(), dtype=x.dtype)
        step[i] = h
        step = step.reshape(x.shape)
        slope.view(-1)[i] = (f(x + step) - f(x - step)) / (2 * h)
    return slope


def test_the_gradient_penalty_agrees_with_finite_differences() -> None:
    network, x = Smooth(), random(4, 3, 2, 2, seed=9)
    with torch.no_grad():
        slope = by_differences(lambda at: network(at).sum(), x)
    expected = slope.square().sum((1, 2, 3)).mean()
    x.requires_grad_(True)
    torch.testing.assert_close(gradient_penalty(network(x), x), expected, rtol=1e-7, atol=0)
    assert not torch.isclose(gradient_penalty(2 * network(x), x), expected)


def test_the_gradient_of_the_penalty_agrees_with_finite_differences() -> None:
    """It is trained with: so its own gradient by the weights must be right too."""
    network, x = Smooth(), random(4, 3, 2, 2, seed=9).requires_grad_(True)
    weight = network.first.weight
    (exact,) = torch.autograd.grad(gradient_penalty(network(x), x), weight)
    here = weight.detach().clone()

    def penalty(at: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            weight.copy_(at)
        return gradient_penalty(network(x), x).detach()

    torch.testing.assert_close(exact, by_differences(penalty, here), rtol=1e-5, atol=1e-8)


def test_the_penalty_of_a_linear_discriminator_is_its_squared_weight() -> None:
    w, x = random(3, 4, 4).requires_grad_(True), random(6, 3, 4, 4, seed=1).requires_grad_(True)
    penalty = gradient_penalty((x * w).sum((1, 2, 3)) + 5, x)
    torch.testing.assert_close(penalty, w.square().sum())
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], 2 * w)
    flat = gradient_penalty((x * 0).sum((1, 2, 3)) + 5, x)
    assert float(flat) == 0


def test_lecam_is_the_formula() -> None:
    r, f = random(30), random(30, seed=1)
    mean_real, mean_fake = torch.tensor(0.7), torch.tensor(-0.4)
    expected = np.mean([max(0, a + 0.4) ** 2 for a in r.tolist()])
    expected += np.mean([max(0, 0.7 - b) ** 2 for b in f.tolist()])
    assert float(lecam(r, f, mean_real, mean_fake)) == pytest.approx(float(expected))
    # Reals below the fakes' mean and fakes above the reals' cost nothing: D is held back, not pushed.
    assert float(lecam(torch.full((3,), -2.0), torch.full((3,), 2.0), mean_real, mean_fake)) == 0


# ---- in the model's step --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers on every machine: bf16 has too few digits for what is computed by hand here."""
    monkeypatch.setattr("sibling.device.has_fast_bf16", lambda device: False)


N = 6


def built(classes: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> GAN:
    plain: dict[str, Any] = {"strength": 0.0, "gamma": 0.0, "matching": 0.0}
    gan = GAN(latent=3, width=8, critic_width=8, **{**plain, **arguments})
    gan.build((2,), Label(classes) if classes else Unconditional(), generator("weights"))
    discriminator = gan.networks["discriminator"]
    with torch.no_grad():  # no zeros: every part of the network counts
        for number, parameter in enumerate(discriminator.parameters()):
            parameter.copy_(0.3 * random(*parameter.shape, seed=number, dtype=torch.float32))
    return gan


def batch_of(width: int = 3, progress: float = 1.0, number: int = 0, **more: Any) -> Batch:
    vec = torch.eye(width)[torch.arange(N) % width] if width else torch.zeros(N, 0)
    x = random(N, 2, dtype=torch.float32)
    return Batch(x, Cond(vec, torch.zeros(N, 0)), generator("step"), progress, number=number, **more)


def wrong_of(width: int = 3) -> Cond:
    return Cond(torch.eye(width)[(torch.arange(N) + 1) % width], torch.zeros(N, 0))


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The loss of D, then of G, at each step; the weights stay as they are."""
    seen: list[torch.Tensor] = []

    def loss_only(optimizer: Any, loss: torch.Tensor, **_: Any) -> tuple[float, int]:
        seen.append(loss)
        return 0.0, 0

    for player in ("critic", "gan"):
        monkeypatch.setattr(f"sibling.models.{player}.guarded_update", loss_only)
    return seen


def pair_logits(gan: GAN, batch: Batch, cond: Cond, x: torch.Tensor | None = None) -> torch.Tensor:
    """D(x, y) by hand: psi(h) + <h, e(y)> / sqrt(F)."""
    critic: Any = gan.networks["discriminator"]
    h = critic(batch.x if x is None else x, batch.cond.map)
    alone = h @ critic.pair.weight[0] + critic.pair.bias
    return alone + (h * (cond.vec @ critic.embed.weight.T)).sum(1) / math.sqrt(h.shape[1])


def fakes_of(gan: GAN, batch: Batch) -> torch.Tensor:
    """What D is shown, from a stream like that of the batch."""
    z = torch.randn(N, gan.latent, generator=generator("step"))
    return gan.networks["generator"](z, batch.cond.vec, batch.cond.map).detach()


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_of_a_step_are_those_of_the_table(name: str, losses: list[torch.Tensor]) -> None:
    gan, batch = built(loss=name), batch_of()
    row = gan.step(batch)
    r, f = pair_logits(gan, batch, batch.cond), pair_logits(gan, batch, batch.cond, fakes_of(gan, batch))
    torch.testing.assert_close(losses[0], LOSSES[name].discriminator(r, f).mean())
    assert row["loss/d"] == pytest.approx(float(losses[0].detach()))
    d_real, d_fake = probabilities(name, r, f)
    assert row["game/d_real"] == pytest.approx(float(d_real.mean().detach()), abs=1e-6)
    assert row["game/d_fake"] == pytest.approx(float(d_fake.mean().detach()), abs=1e-6)
    assert row["game/value"] == pytest.approx(float(value(d_real, d_fake).detach()), abs=1e-5)


# loss -> what a real x with a wrong y costs D, of the logits of the right and of the wrong pair
COSTS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "relativistic": lambda r, w: torch.log1p((w - r).exp()),
    "minimax": lambda r, w: torch.log1p(w.exp()),
    "nonsaturating": lambda r, w: torch.log1p(w.exp()),
    "least-squares": lambda r, w: w**2,
    "hinge": lambda r, w: (1 + w).clamp(min=0),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("transition", [(0.0, 0.0), (0.2, 0.6)])
def test_the_matching_aware_term_is_the_hand_computed_loss(
    transition: tuple[float, float], name: str, losses: list[torch.Tensor]
) -> None:
    """A real x with a wrong y counts as one more fake, with the weight share * matching."""
    weight, progress = 0.7, 0.5
    share = 1.0 if transition[1] == 0 else 0.75
    batch = batch_of(progress=progress)
    for matching in (0.0, weight):
        gan = built(loss=name, matching=matching, transition=transition)
        gan.step(batch_of(progress=progress, wrong=wrong_of()))
    r, w = pair_logits(gan, batch, batch.cond), pair_logits(gan, batch, wrong_of())
    expected = share * weight * COSTS[name](r, w).mean()
    torch.testing.assert_close(losses[2] - losses[0], expected, atol=1e-6, rtol=1e-5)
    assert float(expected.detach()) > 0.005
    torch.testing.assert_close(losses[3], losses[1])  # G is told nothing of wrong pairs


@pytest.mark.parametrize("why", ["no wrong y", "before the transition", "unconditional"])
def test_without_a_wrong_y_there_is_no_third_kind_of_pair(why: str, losses: list[torch.Tensor]) -> None:
    width = 0 if why == "unconditional" else 3
    for matching in (0.0, 0.7):
        gan = built(
            ("a", "b", "c") if width else (), matching=matching,
            transition=(0.6, 0.9) if why == "before the transition" else (0.0, 0.0),
        )  # fmt: skip
        gan.step(batch_of(width, progress=0.5, wrong=wrong_of() if why != "no wrong y" and width else None))
    assert torch.equal(losses[2], losses[0])


def gradients(gan: GAN, losses: list[torch.Tensor], numbers: range) -> list[torch.Tensor]:
    """The sum over steps of what would reach the weights of D, which stay as they are."""
    parameters = list(gan.networks["discriminator"].parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for number in numbers:
        losses.clear()
        gan.step(batch_of(number=number))
        gan.networks["discriminator"].requires_grad_(True)
        for sum_, g in zip(total, torch.autograd.grad(losses[0], parameters, allow_unused=True), strict=True):
            sum_ += 0 if g is None else g
    return total


def test_lazy_penalties_weigh_as_much_as_those_of_each_step(losses: list[torch.Tensor]) -> None:
    k, gamma = 4, 3.0
    without = gradients(built(gamma=0.0), losses, range(k))
    each = gradients(built(gamma=gamma, lazy=1), losses, range(k))
    lazy = gradients(built(gamma=gamma, lazy=k), losses, range(k))
    between = gradients(built(gamma=gamma, lazy=k), losses, range(1, k + 1))  # wherever one starts to count
    for a, b, c in zip(each, lazy, between, strict=True):
        torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(c, a, atol=1e-4, rtol=1e-4)
    apart = sum(float((a - none).abs().sum()) for a, none in zip(each, without, strict=True))
    assert apart > 0.1  # the control: the penalty does something
    skipped = gradients(built(gamma=gamma, lazy=k), losses, range(1, k))
    alone = gradients(built(gamma=0.0), losses, range(1, k))
    for a, b in zip(skipped, alone, strict=True):  # and between two penalties there is none
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lazy", [1, 8])
def test_the_penalty_of_a_step_is_r1_and_r2_each_with_half_of_gamma(
    lazy: int, losses: list[torch.Tensor]
) -> None:
    gamma, batch = 3.0, batch_of()
    built(gamma=0.0).step(batch_of())
    gan = built(gamma=gamma, lazy=lazy)
    row = gan.step(batch_of())
    expected = torch.zeros(())
    for x in (batch.x.clone(), fakes_of(gan, batch)):  # R1 on real ones, R2 on fakes
        x.requires_grad_(True)
        gan.networks["discriminator"].requires_grad_(True)
        expected = expected + gradient_penalty(pair_logits(gan, batch, batch.cond, x), x)
    assert row["loss/penalty"] == pytest.approx(float(expected.detach()), rel=1e-5)
    extra = losses[2] - losses[0]
    torch.testing.assert_close(extra, 0.5 * gamma * lazy * expected, atol=1e-4, rtol=1e-5)


def test_lecam_enters_the_loss_with_the_averages_that_the_ledger_keeps(losses: list[torch.Tensor]) -> None:
    batch, weight = batch_of(), 0.3
    for given in (0.0, weight):
        gan = built(lecam=given)
        gan.ledger.mean_real.fill_(0.4)
        gan.ledger.mean_fake.fill_(-0.2)
        gan.step(batch_of())
    r, f = pair_logits(gan, batch, batch.cond), pair_logits(gan, batch, batch.cond, fakes_of(gan, batch))
    expected = weight * lecam(r, f, torch.tensor(0.4), torch.tensor(-0.2))
    torch.testing.assert_close(losses[2] - losses[0], expected, atol=1e-6, rtol=1e-5)
    for name, before, logits in (("mean_real", 0.4, r), ("mean_fake", -0.2, f)):
        moved = LOGIT_MEMORY * before + (1 - LOGIT_MEMORY) * float(logits.mean().detach())
        assert float(getattr(gan.ledger, name)) == pytest.approx(moved, rel=1e-5)
