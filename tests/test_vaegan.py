"""A VAE whose decoder a discriminator sharpens: when it plays, how hard it pulls, what is kept and what comes back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, TRAINING, blobs, dataset, poison, stop_at

import sibling
from sibling import files
from sibling.conditions.label import Label
from sibling.dataset import Dataset
from sibling.device import generator
from sibling.errors import NumericalError, Stopped, UnsafeFile, UsageError
from sibling.models.update import skipping
from sibling.models.vae import CRITIC_RATE, VAE
from sibling.snapshot import Snapshot, load_tensors
from sibling.types import Batch, Cond
from sibling.watch import keep_good, roll_back

N = 6


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(**arguments: Any) -> VAE:
    plain = {"adversarial": 0.5, "adversarial_from": 0.5, "prior": "normal", "texture": 0.0}
    vae = VAE(**{**TINY, **plain, **arguments})
    vae.build((1, 8, 8), Label(["a", "b"]), generator("weights"))
    return vae


TOLD = Cond(torch.eye(2)[[0, 1] * (N // 2)], torch.zeros(N, 0, 8, 8))
NAMES = ["a", "b"] * (N // 2)


def batch_of(progress: float, number: int = 1) -> Batch:
    return Batch(random(N, 1, 8, 8).tanh(), TOLD, generator("step", number), progress, number=number)


def weights_of(vae: VAE) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.clone()
        for name, network in vae.networks.items()
        for key, value in network.state_dict().items()
    }


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {key.split("/")[0] for key in before if not torch.equal(before[key], after[key])}


# ---- when it plays --------------------------------------------------------------------------------


def test_the_discriminator_is_idle_before_its_time_and_learns_after_it() -> None:
    vae = built()
    before = weights_of(vae)
    for number in range(3):
        row = vae.step(batch_of(0.49, number))
        assert not {"loss/d", "loss/g"} & row.keys()
    assert moved(before, weights_of(vae)) == {"encoder", "decoder"}
    assert not vae.optimizers["discriminator"].state
    before = weights_of(vae)
    for number in range(3):
        row = vae.step(batch_of(0.5, number))
        assert {"loss/d", "loss/g", "game/d_real", "game/d_fake"} <= row.keys()
        assert all(math.isfinite(value) for value in row.values())
    assert moved(before, weights_of(vae)) == {"encoder", "decoder", "discriminator", "ledger"}


def test_without_it_there_is_no_discriminator_and_no_watch() -> None:
    vae = built(adversarial=0.0)
    assert vae.networks.keys() == {"encoder", "decoder"}
    assert vae.optimizers.keys() == {"adam"}
    assert not vae.watched
    assert built().watched
    assert not {"loss/d", "loss/g"} & vae.step(batch_of(0.9)).keys()
    with pytest.raises(UsageError, match="no discriminator"):
        _ = vae.critic


def test_before_its_time_the_vae_is_the_plain_one() -> None:
    ends = []
    for adversarial in (0.0, 0.5):
        vae = built(adversarial=adversarial)
        vae.step(batch_of(0.49))
        ends.append(weights_of(vae))
    plain = {key: value for key, value in ends[0].items() if key.startswith(("encoder", "decoder"))}
    first = built()
    assert moved(plain, weights_of(first)) == {"encoder", "decoder"}
    # Networks are built one after the other, so those of the VAE do not depend on what comes after them.
    assert moved(plain, ends[1]) == set()


def test_reconstructions_are_its_fakes_and_the_samples_its_reals() -> None:
    vae, decoded, judged = built(), [], []
    vae.ledger.strength.fill_(0.0)  # seen as they are
    vae.networks["decoder"].register_forward_hook(lambda _, given, out: decoded.append(out.detach().float()))
    vae.networks["discriminator"].register_forward_pre_hook(lambda _, given: judged.append(given[0].detach()))
    batch = batch_of(0.6)
    vae.step(batch)
    assert len(decoded) == 1
    assert torch.equal(judged[0], torch.cat([batch.x, decoded[0]]))
    assert torch.equal(judged[1], decoded[0])


# ---- how hard it pulls ----------------------------------------------------------------------------


def slopes(
    monkeypatch: pytest.MonkeyPatch, adversarial: float, strength: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """At the output (N, 1, 8, 8): of the whole loss, of the reconstruction by hand, and of D's own wish by hand."""
    vae, decoded, found = built(adversarial=adversarial), [], []
    vae.ledger.strength.fill_(strength)
    vae.networks["decoder"].register_forward_hook(lambda _, given, out: decoded.append(out))

    def at_the_output(optimizer: Any, loss: torch.Tensor, **_: Any) -> tuple[float, int]:
        found.append(torch.autograd.grad(loss, decoded[0])[0])
        return 0.0, 0

    monkeypatch.setattr("sibling.device.has_fast_bf16", lambda device: False)
    monkeypatch.setattr("sibling.models.vae.guarded_update", at_the_output)
    monkeypatch.setattr("sibling.models.critic.guarded_update", lambda *_, **__: (0.0, 0))
    batch = batch_of(0.6)
    vae.step(batch)
    output = decoded[0].detach().requires_grad_(True)
    own = 0.5 * torch.log((output - batch.x).square().mean() + 1e-6)  # nats a number of a sample
    critic: Any = vae.networks["discriminator"]

    def logit(x: torch.Tensor) -> torch.Tensor:
        judged: torch.Tensor = critic.judge_pair(critic(x, TOLD.map), TOLD.vec)
        return judged

    wish = F.softplus(logit(batch.x) - logit(output)).mean()
    return (
        found[0],
        torch.autograd.grad(own, output)[0],
        torch.autograd.grad(wish, output)[0],
    )


@pytest.mark.parametrize("adversarial", [0.3, 2.0])
def test_the_pull_is_so_many_times_as_strong_as_the_reconstruction_and_goes_where_d_says(
    adversarial: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, own, wish = slopes(monkeypatch, adversarial)
    pull = whole - own
    assert float(pull.norm()) == pytest.approx(adversarial * float(own.norm()), rel=1e-4)
    torch.testing.assert_close(pull / pull.norm(), wish / wish.norm(), atol=1e-4, rtol=1e-3)
    assert float(wish.norm()) != pytest.approx(float(pull.norm()), rel=0.1)  # the control: scaled it is


def test_the_pull_is_as_strong_through_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, own, _ = slopes(monkeypatch, 0.7, strength=0.8)
    assert float((whole - own).norm()) == pytest.approx(0.7 * float(own.norm()), rel=1e-4)


def test_a_pull_that_is_not_finite_is_none() -> None:
    vae = built()
    vae.step(batch_of(0.6))
    with torch.no_grad():
        vae.networks["discriminator"].flat.bias.fill_(math.nan)  # type: ignore[union-attr, operator]
    row = vae.step(batch_of(0.6))
    assert "loss/g" not in row
    assert all(torch.isfinite(value).all() for value in vae.networks["decoder"].state_dict().values())
    assert (vae.skipped, vae.critic.skipped) == (0, 1)


# ---- rates and the way back -----------------------------------------------------------------------


def rates(vae: VAE, progress: float) -> list[float]:
    vae.step(batch_of(progress))
    return [vae.optimizers[name].param_groups[0]["lr"] for name in ("adam", "discriminator")]


def test_the_ledger_scales_both_rates() -> None:
    vae = built(learning_rate=0.004)
    assert rates(vae, 0.5) == pytest.approx([0.002, CRITIC_RATE])  # half of the cosine; D has no schedule
    vae.ledger.rate.fill_(0.25)
    assert rates(vae, 0.5) == pytest.approx([0.0005, CRITIC_RATE / 4])


def test_a_rollback_restores_all_networks_halves_both_rates_and_forgets() -> None:
    vae = built(learning_rate=0.004)
    vae.step(batch_of(0.6))
    good, before = keep_good(vae), weights_of(vae)
    for number in range(3):
        vae.step(batch_of(0.6, number))
    bad = batch_of(0.6)
    bad.x = bad.x * math.nan
    vae.step(bad)
    assert {name: part.skipped for name, part in skipping(vae).items()} == {"model": 1, "critic": 1}
    roll_back(vae, good, "why", 30, 0)
    after = weights_of(vae)
    assert float(after.pop("ledger/rate")) == 0.5
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(optimizer.state for optimizer in vae.optimizers.values())
    assert {part.skipped for part in skipping(vae).values()} == {0}
    assert rates(vae, 0.5) == pytest.approx([0.001, CRITIC_RATE / 2])


# ---- the state ------------------------------------------------------------------------------------


def test_a_state_brings_everything_back() -> None:
    vae, other = built(), built(keep_encoder=False)
    for number in range(3):
        vae.step(batch_of(0.6, number))
    assert {key.split("/")[0] for key in vae.state()} == {"encoder", "decoder", "discriminator"}
    other = built()
    other.build((1, 8, 8), Label(["a", "b"]), generator("other"))
    x = batch_of(0.6).x
    assert not torch.equal(other.critic.score(x, TOLD), vae.critic.score(x, TOLD))
    other.load(vae.state())
    assert torch.equal(other.critic.score(x, TOLD), vae.critic.score(x, TOLD))
    assert torch.equal(other.sample(TOLD, NAMES, range(N)), vae.sample(TOLD, NAMES, range(N)))
    assert torch.equal(other.encode(x, TOLD)[0], vae.encode(x, TOLD)[0])


def test_kept_as_decoder_alone_it_samples_the_same_and_judges_nothing() -> None:
    vae, small = built(), built(keep_encoder=False)
    vae.step(batch_of(0.6))
    assert {key.split("/")[0] for key in small.state()} == {"decoder"}
    small.load({key: value for key, value in vae.state().items() if key.startswith("decoder/")})
    assert torch.equal(small.sample(TOLD, NAMES, range(N)), vae.sample(TOLD, NAMES, range(N)))
    assert {key.split("/")[0] for key in small.state()} == {"decoder"}
    with pytest.raises(UsageError, match="no discriminator"):
        _ = small.critic


def test_a_plain_vae_refuses_a_discriminator() -> None:
    with pytest.raises(UnsafeFile, match="no part 'discriminator'"):
        built(adversarial=0.0).load(built().state())


# ---- inside fit -----------------------------------------------------------------------------------

STEPS = 40
FROM = 0.4  # 16 steps; weights are chosen from 0.6 on: 24 steps
ARGUMENTS: dict[str, Any] = {**TINY, "adversarial": 0.5, "adversarial_from": FROM}


@pytest.fixture(scope="module")
def easy() -> Dataset:
    return dataset(*blobs(120), val=0.2)  # enough held-out samples for a distance


@pytest.fixture(autouse=True, scope="module")
def _patient() -> Iterator[None]:
    """All planned steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAE, "patience", 1_000, raising=False)
        yield


def fit(data: Dataset, out: Path, **options: Any) -> Snapshot:
    plain = {"steps": STEPS, "batch": 16, "arguments": ARGUMENTS, "threads": 1, "tensorboard": False}
    return sibling.fit(data, out=out, **{**plain, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(easy: Dataset, _patient: None, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What an uninterrupted training ends with."""
    return fit(easy, tmp_path_factory.mktemp("whole") / "run")


def content(run: Snapshot) -> tuple[bytes, list[Any]]:
    rows = files.read_jsonl(run.folder / "stats.jsonl")
    return (run.folder / "model.safetensors").read_bytes(), [{**row, "minutes": 0} for row in rows]


def test_it_trains_is_watched_and_the_discriminator_comes_in_when_it_shall(whole: Snapshot) -> None:
    rows = files.read_jsonl(whole.folder / "stats.jsonl")
    assert [row["step"] for row in rows if "loss/d" in row] == [
        row["step"] for row in rows if row["step"] > FROM * STEPS
    ]
    assert len([row for row in rows if "loss/d" in row]) >= 5
    assert rows[-1]["loss/mse"] < rows[0]["loss/mse"]
    looks = [row for row in rows if "val/loss" in row]
    assert len(looks) == 20
    assert all({"game/diversity", "game/spread"} <= row.keys() for row in looks)
    assert all(math.isfinite(row["val/loss"]) for row in looks)
    assert whole.run["rollbacks"] == 0
    assert sibling.verify(whole.folder) == []
    assert sibling.sample(whole, want=3).table["y"] == ["left"] * 3 + ["right"] * 3


@pytest.mark.parametrize("keep", ["all", "decoder"])
def test_what_is_kept_of_a_run(keep: str, easy: Dataset, whole: Snapshot, tmp_path: Path) -> None:
    run = whole if keep == "all" else fit(easy, tmp_path / "run", keep=keep)
    parts = {key.split("/")[0] for key in load_tensors(run.folder / "model.safetensors")}
    more = {"encoder", "discriminator"} if keep == "all" else set()
    assert parts == {"decoder", "prior", "grain"} | more
    assert (sibling.sample(run, want=4).raw == sibling.sample(whole, want=4).raw).all()
    model: Any = run.model
    if keep == "decoder":
        with pytest.raises(UsageError, match="no discriminator"):
            _ = model.critic
    else:
        scores = model.critic.score(easy.x(range(8)), easy.cond(range(8)))
        assert torch.isfinite(scores).all()
        assert len(scores.unique()) > 1


@pytest.mark.parametrize(
    ("adversarial", "since", "share"),
    [(0.5, 0.5, 0.7), (0.5, 0.4, 0.6), (0.5, 0.0, 0.3), (0.5, 0.95, 0.9), (0.0, 0.5, 0.3)],
)
def test_nothing_is_chosen_before_the_discriminator_has_pulled(
    adversarial: float, since: float, share: float
) -> None:
    assert VAE(adversarial=adversarial, adversarial_from=since).decides_from == pytest.approx(share)


@pytest.mark.parametrize("name", ["warm_up", "adversarial_from"])
def test_a_share_of_the_training_is_at_most_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 1.5.*0 to 1"):
        VAE(**{name: 1.5})
    assert VAE(**{name: 1.0}).arguments()[name] == 1.0  # the control


@pytest.mark.parametrize("best", [24, 30, STEPS])
def test_the_weights_of_the_best_distance_from_then_on_are_kept_with_their_discriminator(
    best: int, easy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def look(self: Any, step: int) -> dict[str, float]:
        seen[step] = weights_of(self.model)  # averaged where they are
        early = (
            step < FROM * STEPS + 0.2 * STEPS - 4
        )  # blurred reconstructions are near, and not what is asked for
        return {"game/diversity": 1.0, "val/loss": 0.0 if early else 1.0 + abs(step - best)}

    monkeypatch.setattr(TRAINING.Training, "_watched", look)
    run = fit(easy, tmp_path / "run")
    assert run.run["best_step"] == best
    kept = load_tensors(run.folder / "model.safetensors")
    for part in ("encoder", "decoder", "discriminator"):
        own = [key for key in kept if key.startswith(f"{part}/")]
        assert own
        assert all(torch.equal(kept[key], seen[best][key]) for key in own)
        assert not all(torch.equal(kept[key], seen[best - 2][key]) for key in own)  # the control


@pytest.mark.parametrize(
    "step", [8, 20, 30], ids=["before D plays", "while it does", "after the choice begins"]
)
def test_a_stopped_training_ends_the_same(
    step: int, easy: Dataset, whole: Snapshot, change: dict[int, Any], tmp_path: Path
) -> None:
    stop_at(change, step)
    with pytest.raises(Stopped):
        fit(easy, tmp_path / "run")
    assert content(fit(easy, tmp_path / "run", resume=True)) == content(whole)


def test_a_training_that_fails_for_a_while_goes_back_and_ends_the_same_when_stopped(
    easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    ended = []
    for stopped in (False, True):
        change.update(dict.fromkeys(range(20, 30), poison))
        out = tmp_path / str(stopped)
        if stopped:
            stop_at(change, 25)  # in the middle of the streak
            with pytest.raises(Stopped):
                fit(easy, out)
        ended.append(fit(easy, out, resume=stopped))
        assert ended[-1].run["rollbacks"] == 1
    assert content(ended[0]) == content(ended[1])
    weights = load_tensors(ended[0].folder / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_training_that_never_recovers_says_what_to_try(
    easy: Dataset, change: dict[int, Any], tmp_path: Path
) -> None:
    change.update(dict.fromkeys(range(4, 200), poison))
    with pytest.raises(NumericalError, match=r'rollbacks did not help.*"learning_rate": 0\.0005}') as caught:
        fit(easy, tmp_path / "run", steps=80)
    assert "gamma" not in str(caught.value)  # it has none
    assert not (tmp_path / "run" / "run.json").exists()


# ---- its judgement is of use ----------------------------------------------------------------------


def test_samples_can_be_rejected_by_its_discriminator(whole: Snapshot, easy: Dataset, tmp_path: Path) -> None:
    kept = sibling.reject(whole, want=4, keep=0.5, seed=2)
    assert kept.table["y"] == ["left"] * 4 + ["right"] * 4
    every = sibling.reject(whole, want=8, keep=1.0, seed=2)
    for name in ("left", "right"):
        of = [
            sorted(
                (row["scores"]["discriminator"] for row, y in zip(made.table["info"], made.table["y"], strict=True)
                 if y == name), reverse=True,
            )
            for made in (kept, every)
        ]  # fmt: skip
        assert of[0] == of[1][:4]
        assert of[1][0] > of[1][-1]
    small = fit(easy, tmp_path / "run", steps=4, keep="decoder")
    with pytest.raises(UsageError, match="no discriminator"):
        sibling.reject(small, want=2)
