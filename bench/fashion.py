"""Fashion-MNIST, all 60,000 (Debian package dataset-fashion-mnist): the VAE for 10 minutes.

Claim: a recogniser trained on its samples alone reaches at least 0.81 on the 10,000 real test images.
"""

from __future__ import annotations

import shutil

from common import OUT, fashion, interval, options, real_only, show, synthetic_only

import sibling
from sibling.preview import grid
from sibling.sample import draw

if __name__ == "__main__":
    given = options(minutes=10.0, seeds=1, model="vae", threads=0)
    data = fashion()
    scores: dict[str, list[float]] = {"mixture prior": [], "N(0, I), textbook": [], "real": []}
    for seed in range(given.seeds):
        run = OUT / f"fashion-{given.model}-{seed}"
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
        (OUT / f"fashion-{given.model}-{seed}.png").write_bytes(
            grid(data.modality.preview(made.raw), columns=10)
        )
        scores["mixture prior"].append(
            synthetic_only(snapshot, per_class=5000, steps=1500, seed=seed, prior="mixture")
        )
        scores["N(0, I), textbook"].append(
            synthetic_only(snapshot, per_class=2000, steps=800, seed=seed, prior="normal")
        )
        scores["real"].append(real_only(data, steps=1500, seed=seed))
    rows = [("trained on", "accuracy on 10,000 real test images")]
    rows += [(name, interval(values)) for name, values in scores.items()]
    show(f"fashion, {given.model}, {given.minutes:g} minutes", rows)
