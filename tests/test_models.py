"""The VAE, its prior, the bootstrap, and the update that cannot poison the weights."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, blobs, dataset

from sibling.conditions.label import Label
from sibling.conditions.map import Map
from sibling.conditions.none import Unconditional
from sibling.dataset import Dataset
from sibling.device import generator
from sibling.errors import NumericalError, UnsafeFile, UsageError
from sibling.models import prior
from sibling.models.bootstrap import Bootstrap
from sibling.models.prior import fit_mixture, way
from sibling.models.update import MOST_SKIPS, guarded_update, load_strictly
from sibling.models.vae import VAE, kl_to_normal, reparameterise
from sibling.nets import Block
from sibling.snapshot import make_model
from sibling.types import Batch, Cond


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(shape: tuple[int, ...] = (1, 8, 8), classes: tuple[str, ...] = ("a", "b"), **arguments: Any) -> VAE:
    vae = VAE(**{**TINY, **arguments})
    vae.build(shape, Label(classes) if classes else Unconditional(), generator("weights"))
    return vae


def batch_of(shape: tuple[int, ...] = (1, 8, 8), n: int = 6, width: int = 2, progress: float = 0.5) -> Batch:
    vec = torch.eye(width)[torch.arange(n) % width] if width else torch.zeros(n, 0)
    return Batch(
        random(n, *shape).tanh(), Cond(vec, torch.zeros(n, 0, *shape[1:])), generator("step"), progress
    )


# ---- the two terms of the loss --------------------------------------------------------------------


def test_kl_is_the_closed_form() -> None:
    mean, log_variance = random(7, 5), random(7, 5, seed=1)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(kl_to_normal(mean, log_variance), expected)
    assert torch.equal(kl_to_normal(torch.zeros(3, 2), torch.zeros(3, 2)), torch.zeros(2))


def test_reparameterised_codes_have_the_asked_mean_and_deviation() -> None:
    mean, log_variance = torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(9.0)])
    z = reparameterise(mean.expand(40_000, 2), log_variance.expand(40_000, 2), random(40_000, 2))
    torch.testing.assert_close(z.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 3.0]), atol=0.06, rtol=0)


def test_reparameterised_codes_let_the_gradient_through() -> None:
    mean, log_variance = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, 2, requires_grad=True)
    noise = random(4, 2)
    reparameterise(mean, log_variance, noise).sum().backward()
    assert torch.equal(mean.grad, torch.ones(4, 2))
    torch.testing.assert_close(log_variance.grad, 0.5 * noise)


def terms(vae: VAE, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, what is decoded from the mean code, and the KL of each dimension; computed apart from the model."""
    vec, maps = batch.cond.vec, batch.cond.map
    mean, log_variance = vae.networks["encoder"](batch.x, vec, maps).chunk(2, 1)
    return batch.x, vae.networks["decoder"](mean, vec, maps), kl_to_normal(mean, log_variance)


def test_sigma_likelihood_is_the_optimal_gaussian() -> None:
    """-log N(x; x', s^2) at the s^2 that minimises it is D/2 log s^2 up to a constant (Rybkin et al. 2021)."""
    vae, batch = built(likelihood="sigma"), batch_of()
    x, output, _ = terms(vae, batch)
    variance = (x - output).square().mean()
    likelihood = torch.distributions.Normal(output, variance.sqrt()).log_prob(x).flatten(1).sum(1).mean()
    constant = 0.5 * 64 * (1 + math.log(2 * math.pi))
    reconstruction, mse = vae._reconstruction(output, x)
    torch.testing.assert_close(reconstruction, -likelihood - constant, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(mse, variance)
    for factor in (0.8, 1.25):  # the control: another variance is worse
        other = torch.distributions.Normal(output, (factor * variance).sqrt())
        assert other.log_prob(x).flatten(1).sum(1).mean() < likelihood


def test_mse_likelihood_is_that_of_the_textbook() -> None:
    """A Gaussian of variance 1: half the summed squared error, up to a constant."""
    vae, batch = built(likelihood="mse"), batch_of()
    x, output, _ = terms(vae, batch)
    expected = -torch.distributions.Normal(output, 1.0).log_prob(x).flatten(1).sum(1).mean()
    constant = 0.5 * 64 * math.log(2 * math.pi)
    torch.testing.assert_close(vae._reconstruction(output, x)[0], expected - constant, atol=1e-3, rtol=1e-5)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the optimiser is given at each step, as nats a sample; the weights stay as they are."""
    seen: list[float] = []

    def loss_only(optimizer: Any, loss: torch.Tensor, **_: Any) -> tuple[float, int]:
        seen.append(float(loss.detach()) * 64)
        return 0.0, 0

    monkeypatch.setattr("sibling.models.vae.guarded_update", loss_only)
    return seen


def test_free_bits_are_the_least_a_dimension_costs(losses: list[float]) -> None:
    rows = [built(free_bits=bits).step(batch_of()) for bits in (100.0, 0.0)]
    used = [loss - row["loss/reconstruction"] for loss, row in zip(losses, rows, strict=True)]
    assert used[0] == pytest.approx(100.0 * TINY["latent"], rel=1e-4)
    assert rows[0]["loss/kl"] == rows[1]["loss/kl"] < 100.0
    assert used[1] == pytest.approx(rows[1]["loss/kl"], abs=1e-3)


def test_kl_comes_in_over_the_warm_up(losses: list[float]) -> None:
    vae = built(warm_up=0.2, beta=2.0, free_bits=0.0)
    rows = [vae.step(batch_of(progress=progress)) for progress in (0.0, 0.1, 0.2, 0.9)]
    shares = [
        (weight - row["loss/reconstruction"]) / row["loss/kl"]
        for weight, row in zip(losses, rows, strict=True)
    ]
    assert shares == pytest.approx([0.0, 1.0, 2.0, 2.0], abs=0.02)


def test_two_steps_move_every_parameter() -> None:
    vae = built()
    before = {k: v.clone() for n in vae.networks.values() for k, v in n.named_parameters(prefix=str(id(n)))}
    silent = {id(p) for n in vae.networks.values() for m in n.modules() if isinstance(m, Block)
              for name, p in m.named_parameters() if not name.startswith("last")}  # fmt: skip
    vae.step(batch_of())
    for network in vae.networks.values():
        for name, parameter in network.named_parameters(prefix=str(id(network))):
            assert parameter.grad is not None, name
            assert bool(parameter.grad.abs().max() > 0) != (id(parameter) in silent), name
    vae.step(batch_of())
    after = {k: v for n in vae.networks.values() for k, v in n.named_parameters(prefix=str(id(n)))}
    assert all(not torch.equal(before[key], after[key]) for key in before)


def test_validation_is_minus_the_evidence_lower_bound() -> None:
    vae, batch = built(likelihood="mse"), batch_of()
    total, n = vae.validate(Batch(batch.x, batch.cond, generator("v"), 1.0))
    vec, maps = batch.cond.vec, batch.cond.map
    mean, log_variance = vae.encode(batch.x, batch.cond)
    z = reparameterise(mean, log_variance, torch.randn(6, TINY["latent"], generator=generator("v")))
    error = 0.5 * (vae.networks["decoder"](z, vec, maps) - batch.x).square().sum()
    assert total / n == pytest.approx(
        float(error.detach()) / 6 + float(kl_to_normal(mean, log_variance).sum()), rel=1e-5
    )


@pytest.mark.parametrize("argument", [{"likelihood": "mes"}, {"prior": "gauss"}])
def test_an_unknown_choice_is_refused(argument: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="known: "):
        VAE(**argument)


# ---- sampling -------------------------------------------------------------------------------------


def batches_of(data: Dataset, rows: np.ndarray) -> Any:
    def batches() -> Iterator[tuple[Batch, list[str]]]:
        yield Batch(data.x(rows), data.cond(rows), generator("settle"), 1.0), data.classes(rows)

    return batches


@pytest.fixture(scope="module")
def easy() -> Dataset:
    return dataset(*blobs(80))


@pytest.fixture(scope="module")
def vae(easy: Dataset) -> VAE:
    """Trained until left and right can be told apart."""
    model, rows, steps = VAE(**TINY), easy.rows("train"), 120
    model.build(easy.shape, easy.condition, generator("weights"))
    for step in range(steps):
        model.step(Batch(easy.x(rows), easy.cond(rows), generator("step", step), step / steps))
    model.settle(batches_of(easy, rows), np.random.default_rng(0))
    return model


def share_left(x: torch.Tensor) -> float:
    return float((x[..., :4].mean((1, 2, 3)) > x[..., 4:].mean((1, 2, 3))).float().mean())


def drawn(model: VAE, data: Dataset, name: str, n: int = 40) -> torch.Tensor:
    return model.sample(data.condition.encode([name] * n, data.shape[1:]), [name] * n, list(range(n)))


def test_a_sample_of_a_class_looks_like_the_class(vae: VAE, easy: Dataset) -> None:
    assert share_left(drawn(vae, easy, "left")) >= 0.9
    assert share_left(drawn(vae, easy, "right")) <= 0.1
    untrained = VAE(**TINY)
    untrained.build(easy.shape, easy.condition, generator("weights"))
    untrained.settle(batches_of(easy, easy.rows("train")), np.random.default_rng(0))
    apart = share_left(drawn(untrained, easy, "left")) - share_left(drawn(untrained, easy, "right"))
    assert abs(apart) < 0.8  # the control: it is training that tells them apart


def test_samples_of_a_class_differ_from_each_other(vae: VAE, easy: Dataset) -> None:
    x = drawn(vae, easy, "left")
    assert float(x.std(0).mean()) > 0.01


def test_the_textbook_prior_is_a_standard_normal(vae: VAE) -> None:
    fitted = {**vae.arguments(), "prior": "normal"}
    textbook = VAE(**fitted)
    textbook.build(vae.shape, Label(["left", "right"]), generator("weights"))
    textbook.load(vae.state())
    codes = textbook.codes(["left"] * 4_000, range(4_000))
    torch.testing.assert_close(codes.mean(0), torch.zeros(4), atol=0.08, rtol=0)
    torch.testing.assert_close(codes.T.cov(), torch.eye(4), atol=0.12, rtol=0)
    assert torch.equal(codes[:1], textbook.codes(["right"], [0]))  # the class is in the condition alone
    torch.testing.assert_close(textbook.codes(["left"], [0], psi=0.5), 0.5 * codes[:1])


def test_codes_of_few_samples_lie_on_the_ways_between_them(vae: VAE, easy: Dataset) -> None:
    for g, name in enumerate(vae.names):
        n = int(vae.mixture["counts"][g])
        middles = (vae.mixture["starts"] + vae.mixture["spans"] / 2)[g, :n]
        codes = vae.codes([name] * 3_000, range(3_000))
        torch.testing.assert_close(codes.mean(0), middles.mean(0), atol=0.15, rtol=0)
        centres = vae.codes([name] * 50, range(50), psi=0.0)  # the middle of its way, for each code
        assert all((middles == centre).all(1).any() for centre in centres)


def test_codes_follow_the_fitted_mixture() -> None:
    model = built((1, 8, 8), ("a", "b"))
    rng = np.random.default_rng(0)
    fitted = fit_mixture(
        np.concatenate([rng.normal(-2, 1, (300, 4)), rng.normal(3, 0.5, (300, 4))]), ["a"] * 300 + ["b"] * 300,
        ["a", "b"], components=model.components, rng=rng,
    )  # fmt: skip
    model.mixture = {key: torch.from_numpy(value) for key, value in fitted.items()}
    for g, name in enumerate(model.names):
        codes = model.codes([name] * 3_000, range(3_000))
        weights, means = model.mixture["weights"][g], model.mixture["means"][g]
        torch.testing.assert_close(codes.mean(0), weights @ means, atol=0.15, rtol=0)
        centres = model.codes([name] * 50, range(50), psi=0.0)  # that of its component, for each code
        assert all((means == centre).all(1).any() for centre in centres)


def test_a_snapshot_without_its_encoder_samples_the_same(vae: VAE, easy: Dataset) -> None:
    small = VAE(**{**vae.arguments(), "keep_encoder": False})
    small.build(vae.shape, easy.condition, generator("other"))
    small.load({key: value for key, value in vae.state().items() if not key.startswith("encoder/")})
    assert torch.equal(drawn(small, easy, "left"), drawn(vae, easy, "left"))
    assert not any(key.startswith("encoder/") for key in small.state())
    rows = easy.rows("val")
    with pytest.raises(UsageError, match="cannot encode"):
        small.encode(easy.x(rows), easy.cond(rows))
    assert vae.encode(easy.x(rows), easy.cond(rows))[0].shape == (len(rows), 4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 13), (3, 16, 16), (4, 8, 8), (1, 40), (1, 6, 8, 5)])
@pytest.mark.parametrize("classes", [(), ("a", "b")])
def test_any_shape_is_learned_and_sampled(shape: tuple[int, ...], classes: tuple[str, ...]) -> None:
    model = built(shape, classes)
    batch = batch_of(shape, width=len(classes))
    names = ["ab"[i % 2] if classes else "all" for i in range(6)]
    losses = [model.step(batch)["loss/mse"] for _ in range(20)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    model.settle(lambda: iter([(batch, names)]), np.random.default_rng(0))
    x = model.sample(batch.cond, names, range(6))
    assert x.shape == (6, *shape)
    assert float(x.abs().max()) <= 1


# ---- the prior ------------------------------------------------------------------------------------


def gaussian(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, covariance = np.array([2.0, -1.0]), np.array([[1.0, 0.6], [0.6, 2.0]])
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n), mean, covariance


@pytest.mark.parametrize("components", [1, 10])
def test_a_known_gaussian_is_found_again(components: int) -> None:
    codes, mean, covariance = gaussian(3_000)
    fitted = fit_mixture(codes, ["a"] * 3_000, ["a"], components=components, rng=np.random.default_rng(0))
    w, m = fitted["weights"][0], fitted["means"][0]
    c = fitted["cholesky"][0] @ fitted["cholesky"][0].transpose(0, 2, 1)
    assert w.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(w @ m, mean, atol=0.1)
    total = np.einsum("k,kij->ij", w, c) + np.einsum("k,ki,kj->ij", w, m, m) - np.outer(w @ m, w @ m)
    np.testing.assert_allclose(total, covariance, atol=0.3)


def test_two_far_clusters_of_a_class_get_two_components() -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(-5, 0.3, (200, 2)), rng.normal(5, 0.3, (200, 2))])
    fitted = fit_mixture(codes, ["a"] * 400, ["a"], components=4, rng=rng)
    means = fitted["means"][0][fitted["weights"][0] > 0]
    assert (means.mean(1) < -4).any()
    assert (means.mean(1) > 4).any()
    assert (np.abs(means.mean(1)) > 4).all()  # and none in between, where nothing lies


def on_ways(fitted: dict[str, np.ndarray], g: int, n: int, psi: float = 1.0) -> np.ndarray:
    """(n, Z) codes of a class that has few samples."""
    tensors = {name: torch.from_numpy(value) for name, value in fitted.items()}
    rng, width = generator("ways"), fitted["around"].shape[0]
    rows = [
        way(tensors, g, torch.rand(2, generator=rng), torch.randn(width, generator=rng), psi)
        for _ in range(n)
    ]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("counts", [(1,), (2,), (1, 1), (1, 60), (2, 60), (5, 60), (0, 60), (1, 2, 5, 0)])
def test_few_samples_give_finite_codes(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(len(counts))]
    classes = [name for name, n in zip(names, counts, strict=True) for _ in range(n)]
    codes = rng.normal(size=(len(classes), 6))
    fitted = fit_mixture(codes, classes, names, components=10, rng=rng)
    for value in fitted.values():
        assert np.isfinite(value).all()
    for g in range(len(names)):
        if fitted["counts"][g]:
            assert np.isfinite(on_ways(fitted, g, 20)).all()
            assert on_ways(fitted, g, 20).std(0).min() > 0
            continue
        assert fitted["weights"][g].sum() == pytest.approx(1.0, abs=1e-5)
        c = fitted["cholesky"][g] @ fitted["cholesky"][g].transpose(0, 2, 1)
        assert (np.linalg.eigvalsh(c) > 0).all()


def test_a_class_of_one_sample_leans_on_the_spread_of_the_others() -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(0, 3, (200, 2)), [[50.0, 50.0]]])
    fitted = fit_mixture(codes, ["many"] * 200 + ["one"], ["many", "one"], components=3, rng=rng)
    drawn = on_ways(fitted, 1, 2_000)
    np.testing.assert_allclose(drawn.mean(0), [50, 50], atol=0.2)
    np.testing.assert_allclose(drawn.std(0), [1.5, 1.5], atol=0.35)


def test_few_samples_of_a_class_have_others_between_them_and_not_in_their_midst() -> None:
    """Samples on a ring: one Gaussian for all of them would fill it."""
    angles = np.arange(16) * 2 * np.pi / 16
    ring = np.zeros((16, 6))
    ring[:, 0], ring[:, 1] = 10 * np.cos(angles), 10 * np.sin(angles)
    rng = np.random.default_rng(0)
    others = rng.normal(0, 2, (300, 6)) + 30
    fitted = fit_mixture(
        np.concatenate([ring, others]),
        ["ring"] * 16 + ["many"] * 300,
        ["ring", "many"],
        components=10,
        rng=rng,
    )
    drawn = on_ways(fitted, 0, 2_000)
    radius = np.linalg.norm(drawn[:, :2], axis=1)
    assert (radius > 6).all()
    assert radius.mean() == pytest.approx(9, abs=1)
    assert len(np.unique(np.arctan2(drawn[:, 1], drawn[:, 0]).round(1))) > 55  # all around it: of 63
    one = np.cov(ring.T)  # the negative control
    assert (np.linalg.norm(rng.multivariate_normal(np.zeros(6), one, 2_000)[:, :2], axis=1) < 6).mean() > 0.2


@pytest.mark.parametrize(("n", "turns"), [(2, 1), (10, 5), (35, 1), (49, 1)])
def test_all_samples_have_equally_many_ways(n: int, turns: int) -> None:
    """Room for 50 ways: five from each of ten samples, one from each of more than 25."""
    codes = np.random.default_rng(0).normal(size=(n, 2))
    fitted = fit_mixture(codes, ["a"] * n, ["a"], components=3, rng=np.random.default_rng(0))
    starts = fitted["starts"][0, : fitted["counts"][0]]
    _, counts = np.unique(starts, axis=0, return_counts=True)
    assert counts.tolist() == [turns] * n


def test_a_way_leads_to_another_sample_and_costs_little_memory() -> None:
    """Two of these three have the same code: neither is its own neighbour."""
    codes = np.array([[1.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    fitted = fit_mixture(codes, ["a"] * 3, ["a"], components=3, rng=np.random.default_rng(0))
    n = fitted["counts"][0]
    middles = (fitted["starts"] + fitted["spans"] / 2)[0, :n, 0]
    assert sorted(middles.tolist()) == pytest.approx([1, 1, 3, 3, 3, 3])  # three pairs, there and back
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(380, 64))  # 74 MB if all differences were held at once
    tracemalloc.start()
    try:
        prior._between(wide, rng)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_the_same_codes_give_the_same_prior() -> None:
    codes, _, _ = gaussian(200)
    a, b = (
        fit_mixture(codes, ["a"] * 200, ["a"], components=3, rng=np.random.default_rng(1)) for _ in range(2)
    )
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_codes_that_are_all_equal_give_a_prior() -> None:
    fitted = fit_mixture(np.ones((30, 3)), ["a"] * 30, ["a"], components=2, rng=np.random.default_rng(0))
    assert np.isfinite(fitted["cholesky"]).all()


# ---- the bootstrap --------------------------------------------------------------------------------


def remembered(easy: Dataset, **arguments: Any) -> Bootstrap:
    model = Bootstrap(**arguments)
    model.build(easy.shape, easy.condition, generator("weights"))
    model.settle(batches_of(easy, easy.rows("train")), np.random.default_rng(0))
    return model


def test_the_bootstrap_gives_back_training_samples(easy: Dataset) -> None:
    model = remembered(easy, noise=0.0)
    x = model.sample(easy.cond(easy.rows("train")[:5]), ["left"] * 5, range(5))
    raw = easy.modality.to_raw(x)
    train = [easy.raw[i].tobytes() for i in easy.rows("train") if easy.table["y"][i] == "left"]
    assert all(sample.tobytes() in train for sample in raw)
    noisy = easy.modality.to_raw(remembered(easy, noise=0.1).sample(None, ["left"] * 5, range(5)))
    assert not any(sample.tobytes() in train for sample in noisy)


def test_the_bootstrap_augments_what_it_remembers(easy: Dataset) -> None:
    model = remembered(easy, noise=0.0)
    before = model.sample(None, ["left"], [1])
    model.augment = easy.modality.augment
    after = model.sample(None, ["left"], [1])
    assert not torch.equal(before, after)
    assert torch.equal(after, model.sample(None, ["left"], [1]))


def test_the_bootstrap_remembers_no_more_than_it_may(easy: Dataset) -> None:
    model = remembered(easy, most=7)
    assert len(model.memory) == len(model.numbers) == 7
    everything = {row.numpy().tobytes() for row in remembered(easy).memory}
    assert all(row.numpy().tobytes() in everything for row in model.memory)


def test_a_class_that_the_bootstrap_never_saw_is_drawn_from_all() -> None:
    raw, _ = blobs(6)
    data = dataset(raw, ["left"] * 6, test=0, val=0)
    data.condition = Label(["left", "right"])
    assert remembered(data).sample(None, ["right"], [3]).shape == (1, 1, 8, 8)


def test_a_memory_of_unknown_classes_is_refused(easy: Dataset) -> None:
    state = remembered(easy).state()
    fresh = Bootstrap()
    fresh.build(easy.shape, easy.condition, generator("weights"))
    with pytest.raises(UnsafeFile):
        fresh.load({**state, "numbers": state["numbers"] + 1})
    fresh.load(state)


# ---- the update -----------------------------------------------------------------------------------


def line() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    return network, torch.optim.Adam(network.parameters(), 0.1)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(poison: float) -> None:
    network, optimizer = line()
    before = network.weight.detach().clone()
    _, skipped = guarded_update(optimizer, network(torch.ones(3, 2)).sum() * poison, clip=1.0, skipped=0)
    assert skipped == 1
    assert torch.equal(network.weight, before)
    assert not optimizer.state  # nor the moments
    norm, skipped = guarded_update(optimizer, network(torch.ones(3, 2)).sum(), clip=1.0, skipped=skipped)
    assert skipped == 0
    assert math.isfinite(norm)
    assert not torch.equal(network.weight, before)
    assert torch.isfinite(network.weight).all()


def test_without_the_guard_one_nan_is_enough() -> None:
    """The control: this is what the guard is for."""
    network, optimizer = line()
    (network(torch.ones(3, 2)).sum() * math.nan).backward()
    optimizer.step()
    assert torch.isnan(network.weight).all()


def test_ten_in_a_row_are_an_error_of_code_5() -> None:
    network, optimizer = line()
    skipped = 0
    for _ in range(MOST_SKIPS - 1):
        _, skipped = guarded_update(
            optimizer, network(torch.ones(1, 2)).sum() * math.nan, clip=1.0, skipped=skipped
        )
    with pytest.raises(NumericalError, match="10 times in a row") as caught:
        guarded_update(optimizer, network(torch.ones(1, 2)).sum() * math.nan, clip=1.0, skipped=skipped)
    assert caught.value.exit_code == 5


def test_a_poisoned_batch_is_skipped_by_the_vae() -> None:
    vae, batch = built(), batch_of()
    bad = Batch(batch.x * math.nan, batch.cond, batch.rng, batch.progress)
    for _ in range(3):
        vae.step(bad)
    assert all(torch.isfinite(value).all() for value in vae.state().values())
    assert math.isfinite(vae.step(batch)["loss/total"])


def test_a_large_gradient_is_clipped() -> None:
    network, _ = line()
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    before = network.weight.detach().clone()
    norm, _ = guarded_update(optimizer, 1e6 * network(torch.ones(1, 2)).sum(), clip=1.0, skipped=0)
    assert norm > 1e5
    assert float((network.weight - before).detach().norm()) < 1.01


def test_weights_are_loaded_strictly() -> None:
    network, _ = line()
    good = {k: v.clone() for k, v in network.state_dict().items()}
    for bad in ({"weight": good["weight"]}, {**good, "x": good["bias"]}, {**good, "bias": torch.zeros(2)}):
        with pytest.raises(UnsafeFile):
            load_strictly(network, bad, "line")
    with pytest.raises(UnsafeFile, match="not finite"):
        load_strictly(network, {**good, "bias": torch.tensor([math.nan])}, "line")
    load_strictly(network, good, "line")


@pytest.mark.parametrize(
    ("name", "arguments", "must"),
    [
        ("gan", {"adaptive": "no"}, "true or false"),
        ("gan", {"gamma": "x"}, "number from 0 up"),
        ("gan", {"gamma": -1}, "number from 0 up"),
        ("gan", {"lecam": math.nan}, "number from 0 up"),
        ("gan", {"width": 0}, "whole number from 1 up"),
        ("gan", {"transition": 0.5}, "a list"),
        ("vae", {"adversarial": True}, "number from 0 up"),
        ("vae", {"prior": 3}, "a text"),
    ],
)
def test_an_argument_of_another_kind_is_refused(name: str, arguments: dict[str, Any], must: str) -> None:
    with pytest.raises(UsageError, match=must):
        make_model(name, arguments)
    assert make_model(name, make_model(name, {}).arguments())  # the control: all defaults pass


# ---- a map ----------------------------------------------------------------------------------------


def halves(n: int, stream: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, 1, 8, 8): one half of it is +0.8 or -0.8 by chance, the rest 0; and a map, 1 on that half and else -1."""
    rng = generator(stream)
    low = torch.arange(8) < 4
    half = torch.stack([side.expand(8, 8) for side in (low, ~low, low[:, None], ~low[:, None])])
    where = half[torch.randint(4, (n,), generator=rng)][:, None]
    sign = 2.0 * torch.randint(2, (n, 1, 1, 1), generator=rng) - 1
    return 0.8 * sign * where, 2.0 * where - 1


def test_samples_lie_where_their_map_says() -> None:
    """What is in a half depends on the code and where it is on the map: both must meet inside the decoder."""
    vae = VAE(latent=4, width=8, texture=0.0, learning_rate=5e-3)
    vae.build((1, 8, 8), Map("m", maps=["a"]), generator("halves"))
    x, maps = halves(256, "train")
    cond, rounds = Cond(torch.zeros(256, 0), maps), 250
    for step in range(rounds):
        rng = generator("halves", step)
        rows = torch.randint(256, (32,), generator=rng)
        vae.step(Batch(x[rows], cond[rows], rng, step / rounds, number=step))
    vae.settle(
        lambda: iter([(Batch(x, cond, generator("settle"), 1.0), ["all"] * 256)]), np.random.default_rng(0)
    )
    _, asked = halves(64, "test")
    made = vae.sample(Cond(torch.zeros(64, 0), asked), ["all"] * 64, list(range(64)))
    inside = made[asked > 0].reshape(64, -1)
    assert float(inside.abs().mean()) > 0.5
    assert float(made[asked < 0].abs().mean()) < 0.15
    assert 0.1 < float((inside.mean(1) > 0).float().mean()) < 0.9  # and not one sign for all
    assert (
        float(made[asked.roll(1, 0) < 0].abs().mean()) > 0.15
    )  # the control: where another map says nothing is
