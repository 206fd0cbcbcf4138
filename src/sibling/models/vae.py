"""Variational auto-encoder, conditional where there is a condition.

The encoder gives mean and deviation, a code is drawn by re-parameterising, the loss is reconstruction
plus KL to N(0, 1) (Kingma and Welling 2014). Two likelihoods: "mse", the textbook's squared error, and
the default "sigma", a Gaussian whose variance is the optimal one for each batch, which takes the
balance of the two terms out of the user's hands (Rybkin et al. 2021). After training a prior is fitted
on the codes (`prior.py`); the encoder is then not needed any more.

With `adversarial` above 0 a discriminator sharpens the decoder from half of the training on (Larsen et
al. 2016, VAE-GAN): reconstructions are its fakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..device import autocast, best, generator, seeded
from ..errors import UnsafeFile, UsageError
from ..grids import joined
from ..nets import Decoder, Discriminator, Encoder
from ..types import Batch, Cond, Condition
from .codegame import fit_game, moved, shapes_of_game
from .critic import Critic, Ledger, channels_last, on_device
from .prior import fit_local, fit_mixture, shapes_of_mixture, way
from .texture import BINS, add_texture, fit_texture
from .update import guarded_update, load_strictly

__all__ = ["VAE", "kl_to_normal", "reparameterise"]

PRIORS = ("mixture", "local", "adversarial", "normal")
NOISE_SAMPLES = 4_000  # training samples whose residuals set the texture
CRITIC_STRENGTH = 0.2  # of the augmentation that the discriminator sees
CRITIC_RATE = 5e-4  # learning rate of the discriminator
Z_LIMIT = 6.0  # log-variances beyond this are numerically one-sided


class VAE:
    """Encoder, decoder, and a prior on the codes.

    latent         Z, the width of a code
    width          channels at the finest level of both networks
    blocks         residual blocks a level
    beta           weight of the KL term
    likelihood     "sigma": optimal variance; "mse": squared error, as in the textbook
    free_bits      nats of KL a code dimension may have for nothing; keeps dimensions alive
    warm_up        share of the training over which the KL term comes in
    prior          "mixture": fitted on the codes of each class; "local": of many small components, for what comes in
                   separate pieces; "adversarial": the local one, whose codes a small generator moves to where a critic
                   takes them for real; "normal": N(0, I), as in the textbook
    components     the most mixture components of a class that has samples enough for one
    texture        how much of the likelihood's fine grain a sample gets: 1 as fitted, 0 the decoder's mean
    adversarial    how hard a discriminator pulls at the decoder, relative to the reconstruction's gradient;
                   0 = there is none
    adversarial_from  the share of the training after which it pulls
    learning_rate  of AdamW at the start; falls to nothing as a cosine
    weight_decay   of AdamW
    keep_encoder   keep the encoder in the snapshot (to encode real samples); False = decoder alone
    """

    def __init__(
        self,
        latent: int = 32,
        width: int = 32,
        blocks: int = 1,
        beta: float = 1.0,
        likelihood: str = "sigma",
        free_bits: float = 0.02,
        warm_up: float = 0.2,
        prior: str = "mixture",
        components: int = 10,
        texture: float = 0.75,
        adversarial: float = 0.0,
        adversarial_from: float = 0.5,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        keep_encoder: bool = True,
    ) -> None:
        if likelihood not in ("sigma", "mse"):
            raise UsageError(f"likelihood is {likelihood!r}; known: sigma, mse.")
        if prior not in PRIORS:
            raise UsageError(f"prior is {prior!r}; known: {', '.join(PRIORS)}.")
        for name, share in (("warm_up", warm_up), ("adversarial_from", adversarial_from)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} is {share}; it is a share of the training, 0 to 1.")
        self.latent = latent
        self.width = width
        self.blocks = blocks
        self.beta = beta
        self.likelihood = likelihood
        self.free_bits = free_bits
        self.warm_up = warm_up
        self.prior = prior
        self.components = components
        self.texture = texture
        self.adversarial = adversarial
        self.adversarial_from = adversarial_from
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.keep_encoder = keep_encoder
        self.networks: dict[str, torch.nn.Module] = {}
        self.mixture: dict[str, torch.Tensor] = {}
        self.grain: dict[str, torch.Tensor] = {}
        self.device = best()
        self.skipped = 0

    generating: Sequence[str] = ("encoder", "decoder")

    @staticmethod
    def derive(n: int, classes: int, shape: Sequence[int]) -> list[tuple[str, Any, str]]:
        """Arguments that follow from the data: (name, value, reason)."""
        latent = 16 if n < 500 else 32 if n < 20_000 else 64
        return [("latent", latent, f"{n:,} training samples: 16 below 500, 32 below 20,000, else 64")]

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this model again."""
        names = (
            "latent", "width", "blocks", "beta", "likelihood", "free_bits", "warm_up", "prior",
            "components", "texture", "adversarial", "adversarial_from", "learning_rate", "weight_decay", "keep_encoder",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def build(self, shape: Sequence[int], condition: Condition, rng: torch.Generator) -> None:
        """Make the networks; their initial weights depend on `rng` alone."""
        self.shape = tuple(shape)
        self.names = list(getattr(condition, "classes", ())) or ["all"]
        told, mapped = condition.width, condition.channels
        with seeded(int(torch.randint(2**62, (), generator=rng))):
            self.networks = {
                "encoder": Encoder(shape, 2 * self.latent, told, mapped, self.width, self.blocks),
                "decoder": Decoder(shape, self.latent, told, mapped, self.width, self.blocks),
            }
            if self.adversarial > 0:
                self.networks["discriminator"] = Discriminator(shape, told, mapped, self.width, self.blocks)
                self.networks["ledger"] = Ledger(CRITIC_STRENGTH)
        layout = torch.channels_last if len(joined(shape)) == 3 else torch.contiguous_format
        for network in self.networks.values():
            network.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW for both networks; made when training asks for it: sampling would pay two seconds for its imports."""
        parameters = [p for name in self.generating for p in self.networks[name].parameters()]
        made: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.AdamW(
                parameters, self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay, fused=True
            )
        }
        if self.adversarial > 0:
            judges = self.networks["discriminator"].parameters()
            made["discriminator"] = torch.optim.Adam(judges, CRITIC_RATE, betas=(0.0, 0.99), fused=True)
        return made

    @property
    def watched(self) -> bool:
        """Whether `fit` chooses by samples: the evidence lower bound only falls when a discriminator pulls."""
        return self.adversarial > 0

    @property
    def decides_from(self) -> float:
        """The share of the training before which nothing is chosen: the discriminator shall have pulled."""
        return max(0.3, min(0.9, self.adversarial_from + 0.2)) if self.adversarial > 0 else 0.3

    @property
    def ledger(self) -> Ledger:
        """What the discriminator's side remembers between steps."""
        ledger: Ledger = self.networks["ledger"]  # type: ignore[assignment]
        return ledger

    @cached_property
    def critic(self) -> Critic:
        """The discriminator that sharpens the decoder. Raises UsageError where there is none."""
        if "discriminator" not in self.networks:
            raise UsageError(
                "This VAE has no discriminator: it was trained without `adversarial`, or kept as decoder alone."
            )
        return Critic(self.networks["discriminator"], self.ledger, adaptive=False)  # type: ignore[arg-type]

    # ---- training ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> dict[str, float]:
        """One update of encoder and decoder on the (negative) evidence lower bound."""
        optimizer = self.optimizers["adam"]
        warm = min(1.0, batch.progress / 0.02) * 0.5 * (1 + math.cos(math.pi * batch.progress))
        rate = float(self.ledger.rate) if self.adversarial > 0 else 1.0
        for group in optimizer.param_groups:
            group["lr"] = rate * self.learning_rate * warm
        beta = self.beta * min(1.0, batch.progress / self.warm_up) if self.warm_up else self.beta
        x, told = channels_last(batch.x.to(self.device)), on_device(batch.cond, self.device)
        noise = torch.randn(len(x), self.latent, generator=batch.rng).to(self.device)
        with autocast(self.device):
            mean, log_variance = self._posterior(self.networks["encoder"](x, told.vec, told.map))
            z = reparameterise(mean, log_variance, noise)
            output = self.networks["decoder"](z, told.vec, told.map)
        output = output.float()
        reconstruction, mse = self._reconstruction(output, x)
        a_dimension = kl_to_normal(mean, log_variance)  # (Z,)
        kl, size = a_dimension.sum(), math.prod(self.shape)
        loss = (reconstruction + beta * a_dimension.clamp(min=self.free_bits).sum()) / size
        row: dict[str, float] = {}
        if self.adversarial > 0 and batch.progress >= self.adversarial_from:
            pull, row = self._sharpen(batch, output, x, told, reconstruction / size)
            loss = loss + pull
        norm, self.skipped = guarded_update(optimizer, loss, clip=1.0, skipped=self.skipped)
        return row | {
            "loss/total": float(reconstruction.detach() + beta * kl.detach()),
            "loss/reconstruction": float(reconstruction.detach()),
            "loss/kl": float(kl.detach()),
            "loss/mse": float(mse.detach()),
            "gradient/norm": norm,
        }

    def _sharpen(
        self, batch: Batch, output: torch.Tensor, x: torch.Tensor, told: Cond, own: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """One update of the discriminator, and a term that pulls the decoder towards what it takes for real.

        The pull is measured at the output, `adversarial` times as strong as the reconstruction's own (Esser
        et al. 2021, VQGAN, who measure it at the last layer): no balance depends on the scale of a loss.
        """
        critic = self.critic
        for group in self.optimizers["discriminator"].param_groups:
            group["lr"] = float(self.ledger.rate) * CRITIC_RATE
        row, real_logits = critic.learn(
            self.optimizers["discriminator"], batch, x, output.detach(), told, share=1.0
        )
        leaf = output.detach().requires_grad_(True)
        lost = critic.teach(batch, leaf, told, real_logits, share=1.0)
        (slope,) = torch.autograd.grad(lost, leaf)
        (slope_own,) = torch.autograd.grad(own, output, retain_graph=True)
        factor = self.adversarial * slope_own.norm() / slope.norm().clamp(min=1e-12)
        if not torch.isfinite(factor):
            return output.new_zeros(()), row
        row["loss/g"] = float(lost.detach())
        return factor * (output * slope).sum(), row

    def _reconstruction(self, output: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(nats a sample, mean squared error) of a decoded batch under the likelihood."""
        mse = (output - x).square().mean()
        size = math.prod(self.shape)
        return 0.5 * size * (torch.log(mse + 1e-6) if self.likelihood == "sigma" else mse), mse

    def _posterior(self, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = out.float().chunk(2, 1)  # (N, 2Z) -> (N, Z), (N, Z)
        return mean, log_variance.clamp(-2 * Z_LIMIT, Z_LIMIT)

    @torch.no_grad()
    def validate(self, batch: Batch) -> tuple[float, int]:
        """Minus the evidence lower bound at beta 1, in nats, with the code drawn from `batch.rng`."""
        x, told = batch.x.to(self.device), on_device(batch.cond, self.device)
        noise = torch.randn(len(x), self.latent, generator=batch.rng).to(self.device)
        mean, log_variance = self._posterior(self.networks["encoder"](x, told.vec, told.map))
        output = self.networks["decoder"](reparameterise(mean, log_variance, noise), told.vec, told.map)
        reconstruction, _ = self._reconstruction(output, x)
        return float(reconstruction + kl_to_normal(mean, log_variance).sum()) * len(x), len(x)

    # ---- after training ----------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, x: torch.Tensor, cond: Cond) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, C, *S) -> mean (N, Z) and log-variance (N, Z) of the posterior. Raises UsageError without encoder."""
        if "encoder" not in self.networks:
            raise UsageError("This snapshot was kept without its encoder (--keep decoder): it cannot encode.")
        told = on_device(cond, self.device)
        mean, log_variance = self._posterior(self.networks["encoder"](x.to(self.device), told.vec, told.map))
        return mean.cpu(), log_variance.cpu()

    def settle(
        self, batches: Callable[[], Iterator[tuple[Batch, list[str]]]], rng: np.random.Generator
    ) -> None:
        """Fit the mixture prior on codes drawn for the train part, and the noise on what they leave out."""
        codes: list[torch.Tensor] = []
        classes: list[str] = []
        for batch, names in batches():
            mean, log_variance = self.encode(batch.x, batch.cond)
            codes.append(reparameterise(mean, log_variance, torch.randn(mean.shape, generator=batch.rng)))
            classes += names
        everything = torch.cat(codes).numpy()
        fit = fit_mixture if self.prior in ("mixture", "normal") else fit_local
        fitted = fit(everything, classes, self.names, components=self.components, rng=rng)
        if self.prior == "adversarial":
            fitted |= fit_game(everything, classes, self.names, start=fitted, rng=rng)
        self.mixture = {name: torch.from_numpy(value) for name, value in fitted.items()}
        # Every n-th sample, not the first ones: data often lie sorted by class.
        stride = max(1, len(classes) // NOISE_SAMPLES)
        decoded, residual = [], []
        for (batch, _), z in zip(batches(), codes, strict=True):
            with torch.no_grad():
                decoded.append(self.generate(z[::stride], batch.cond[slice(None, None, stride)]).clamp(-1, 1))
            residual.append(batch.x[::stride] - decoded[-1])
        self.grain = {"sigma": fit_texture(torch.cat(decoded), torch.cat(residual))}

    @torch.no_grad()
    def sample(self, cond: Cond, y: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Decode a code from the prior of each class (N, C, *S); code i depends on y[i] and seeds[i] alone."""
        x = self.generate(self.codes(y, seeds), cond).clamp(-1, 1)
        if self.texture and self.grain:
            white = torch.stack(
                [torch.randn(self.shape, generator=generator(seed, "texture")) for seed in seeds]
            )
            x = self.finish(x, white)
        return x

    def finish(self, x: torch.Tensor, white: torch.Tensor) -> torch.Tensor:
        """Put the fine grain on decoded samples (N, C, *S) in [-1, 1]; `white` is N(0, 1) of the same shape."""
        return add_texture(x, self.texture * white, self.grain["sigma"]).clamp(-1, 1)

    def generate(self, z: torch.Tensor, cond: Cond) -> torch.Tensor:
        """Codes (N, Z) -> the decoder's mean (N, C, *S), unbounded; differentiable."""
        told = on_device(cond, self.device)
        x: torch.Tensor = self.networks["decoder"](z.to(self.device), told.vec, told.map).float().cpu()
        return x

    def codes(self, y: Sequence[str], seeds: Sequence[int], psi: float = 1.0) -> torch.Tensor:
        """Codes (N, Z) from the prior of each group; code i depends on y[i] and seeds[i] alone.

        psi  how far from the centre of its mixture component: 1 as the prior has it, 0 the centre itself
        """
        return torch.stack([self._code(name, seed, psi) for name, seed in zip(y, seeds, strict=True)])

    def _code(self, name: str, seed: int, psi: float) -> torch.Tensor:
        rng = generator(seed, "code")
        u, noise = torch.rand((), generator=rng), torch.randn(self.latent, generator=rng)
        if self.prior == "normal" or not self.mixture:
            return psi * noise
        g = self.names.index(name)
        if "counts" in self.mixture and self.mixture["counts"][g]:
            return way(self.mixture, g, torch.stack([u, torch.rand((), generator=rng)]), noise, psi)
        edges = self.mixture["weights"][g].cumsum(0)
        k = int(torch.searchsorted(edges, u * edges[-1]).clamp(max=len(edges) - 1))
        code = self.mixture["means"][g, k] + psi * self.mixture["cholesky"][g, k] @ noise
        return moved(self.mixture, code, g, len(self.names)) if self.prior == "adversarial" else code

    def state(self) -> dict[str, torch.Tensor]:
        """decoder/*, prior/*, grain/* and, unless they were dropped, encoder/* and discriminator/*."""
        kept: tuple[str, ...] = (
            ("encoder", "decoder") if self.keep_encoder and "encoder" in self.networks else ("decoder",)
        )
        if self.keep_encoder and "discriminator" in self.networks:
            kept = (*kept, "discriminator")
        weights = {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name in kept
            for key, value in self.networks[name].state_dict().items()
        }
        fitted = {f"prior/{key}": value for key, value in self.mixture.items()}
        return {**weights, **fitted, **{f"grain/{key}": value for key, value in self.grain.items()}}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a state. Raises UnsafeFile."""
        parts: dict[str, dict[str, torch.Tensor]] = {
            part: {} for part in ("encoder", "decoder", "discriminator", "prior", "grain")
        }
        for key, value in state.items():
            part, _, name = key.partition("/")
            if part not in parts or (part == "discriminator" and part not in self.networks):
                raise UnsafeFile(f"A VAE has no part {part!r}; known: {', '.join(parts)}.")
            parts[part][name] = value
        load_strictly(self.networks["decoder"], parts["decoder"], "decoder")
        for part in ("encoder", "discriminator"):
            if parts[part]:
                load_strictly(self.networks[part], parts[part], part)
            else:
                self.networks.pop(part, None)
        missing = [
            part
            for part, asked in (("prior", self.prior != "normal"), ("grain", self.texture > 0))
            if asked and not parts[part]
        ]
        if missing:
            raise UnsafeFile(f"The snapshot has no {' and no '.join(missing)}, which its arguments ask for.")
        few = self.prior in ("mixture", "normal")
        shapes = shapes_of_mixture(len(self.names), self.components, self.latent, few=few)
        if self.prior == "adversarial":
            shapes |= shapes_of_game(len(self.names), self.latent)
        self.mixture = _checked(parts["prior"], shapes)
        self.grain = _checked(parts["grain"], {"sigma": (self.shape[0], BINS)})


def reparameterise(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """z = mean + deviation * noise, all (N, Z)."""
    return mean + torch.exp(0.5 * log_variance) * noise


def kl_to_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, averaged over the batch: (N, Z), (N, Z) -> (Z,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)


def _checked(saved: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors with exactly these names and shapes, finite; or none at all. Raises UnsafeFile."""
    if not saved:
        return {}
    if saved.keys() != shapes.keys():
        raise UnsafeFile(f"The snapshot holds {', '.join(sorted(saved))} where {', '.join(shapes)} belong.")
    for name, shape in shapes.items():
        if tuple(saved[name].shape) != shape or not torch.isfinite(saved[name]).all():
            raise UnsafeFile(f"{name} must be finite and {shape}, it is {tuple(saved[name].shape)}.")
    return saved
