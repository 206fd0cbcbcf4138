"""What dropping samples does to the rest: how varied they stay, and what a recogniser learns from them alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..device import seed_of
from ..judge import fetcher, most_rows, random_features
from ..metrics.diversity import Diversity
from ..metrics.intervals import Z95
from ..metrics.recogniser import Pool, train_recogniser
from . import Filter
from .basis import Real, Seen

__all__ = ["Effect"]

MOST = 2_000  # synthetic samples that are measured, and real ones beside them
MOST_VAL = 1_000
LEAST_VAL = 30  # real val samples, below which an accuracy is chance
STEPS = 150  # of a recogniser: enough to rank sets of samples, cheap enough for one training a filter
BATCH = 64


class Effect:
    """Diversity and utility of synthetic samples, with and without what one filter alone drops of them.

    Diversity: the mean distance between two of them in random features, relative to real training samples.
    Utility: the accuracy on real val samples, of the classes that were made, of a recogniser that is trained on them
    alone, with equal steps and the same seed. The val part also set the limits; the frozen test part is not looked at.
    """

    def __init__(self, real: Real, seen: Seen) -> None:
        self.real = real
        self.seen = seen
        self.rows = most_rows(seen.rows, MOST, real.seed, "effect")
        train = most_rows(real.train, MOST, real.seed, "effect", "train")
        self.features = random_features(seen.fakes, self.rows, real.network)
        self.real_features = random_features(real.data, train, real.network)
        made = np.isin(real.numbers(real.data, real.val), seen.claimed) if real.has_classes else slice(None)
        self.val = most_rows(real.val[made], MOST_VAL, real.seed, "effect", "val")
        self.before = self._measured(np.ones(len(self.rows), bool))

    def __call__(self, one: Filter, wrong: np.ndarray) -> dict[str, Any]:
        """A row of curation.json for a filter that finds `wrong` (N,) bool among the N samples."""
        stay = ~wrong[self.rows]
        after = self.before if stay.all() else self._measured(stay)
        return {
            "name": one.name,
            "dropped": int(wrong.sum()),
            "of": len(wrong),
            "limit": one.limit,
            "calibrated_on": one.calibrated_on,
            "diversity_before": self.before[0],
            "diversity_after": after[0],
            "utility_before": self.before[1],
            "utility_after": after[1],
            "meaning": f"{one.meaning} {self._told() if one.limit is not None else _sentence(one.rule)}",
        }

    def _measured(self, stay: np.ndarray) -> tuple[float | None, float | None]:
        """(diversity, utility) of the measured samples that stay; None where there is no number."""
        ratio = Diversity()(real=self.real_features, fake=self.features[np.flatnonzero(stay)])
        return (round(ratio, 4) if math.isfinite(ratio) else None), self._utility(self.rows[stay])

    def _utility(self, rows: np.ndarray) -> float | None:
        rows = rows[np.isin(rows, self.seen.judged)]
        if not self._can_recognise or not len(rows):
            return None
        real, fakes = self.real, self.seen.fakes
        pool = Pool([(fetcher(fakes, rows), real.numbers(fakes, rows))])
        recogniser = train_recogniser(
            pool, shape=real.data.shape, classes=len(real.numbers.names), steps=STEPS, batch=BATCH,
            seed=seed_of(real.seed, "utility"), even_classes=True,
        )  # fmt: skip
        said = recogniser.probabilities(fetcher(real.data, self.val), len(self.val)).argmax(1).numpy()
        return round(float((said == real.numbers(real.data, self.val)).mean()), 4)

    @property
    def _can_recognise(self) -> bool:
        return self.real.has_classes and len(self.val) >= LEAST_VAL

    def _told(self) -> str:
        """What the utility is, and what of a change is chance; or why there is none."""
        if not self.real.has_classes:
            return "No utility: y has no classes to recognise."
        if not self._can_recognise:
            return f"No utility: {len(self.val)} real val samples of these classes are too few ({LEAST_VAL} are needed)."
        share, n = self.before[1] or 0.0, len(self.val)
        chance = Z95 * math.sqrt(2 * max(share * (1 - share), 1 / n) / n)
        return (
            f"Utility is the accuracy on {n:,} real val samples of a recogniser trained on {len(self.rows):,} synthetic "
            f"samples alone; a change of less than {100 * chance:.0f} points can be chance."
        )


def _sentence(rule: str) -> str:
    return f"{rule[:1].upper()}{rule[1:]}."
