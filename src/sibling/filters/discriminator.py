"""discriminator: the discriminator that the model was trained against takes a sample for fake.

Source: Azadi et al. 2019, "Discriminator rejection sampling", in its simplest form: ranks.
"""

from __future__ import annotations

import math

import numpy as np

from ..codes import Space
from ..dataset import Dataset
from ..errors import UsageError
from ..judge import MOST_HELD, most_rows
from . import Filter, Finding, Idle
from .basis import LEAST, Real, Seen, tail

__all__ = ["LowScore", "build"]

LOWEST = 0.05  # share of the fakes of a class that may go
MEANING = (
    "The samples that the discriminator of the model finds least real, where it finds no real one so unreal."
)


class LowScore:
    """The discriminator's logit of (x, y) beside those of real samples and of other fakes of the class.

    Held-out real samples alone cannot set this limit: the discriminator was trained to tell just these fakes from
    real samples, and a good one would empty the set. The lowest fakes alone cannot either: a twentieth would
    go however good they are. So both must hold. Logits mean something within one y only, so that a sample
    is compared with its class, from the median logit of the real training samples of that class.
    """

    name = "discriminator"
    meaning = MEANING
    last = False

    def __init__(self, real: Real, space: Space) -> None:
        self.real = real
        self.space = space
        data = real.data
        rows = most_rows(real.train, MOST_HELD, "discriminator", "train")
        scores, classes = self._logits(data, rows), real.numbers(data, rows)
        self.middle = np.full(len(real.numbers.names), np.median(scores))
        for c in np.unique(classes).tolist():
            self.middle[c] = np.median(scores[classes == c])
        held = most_rows(real.val, MOST_HELD, "discriminator", "val")
        low = tail(self._logits(data, held) - self.middle[real.numbers(data, held)], upper=False)
        self.limit: float | None = low
        self.lowest: np.ndarray | None = None
        self.calibrated_on = f"{len(held)} real val samples"
        self.rule = (
            f"its logit is among the lowest {LOWEST:.0%} of the first fakes of its class ({LEAST} are needed), and "
            f"further below the median of real training samples of its class ({low:.2f}) than 98 % of {len(held)} "
            "held-out real samples; held-out samples alone would be too strict a limit for fakes against which the "
            "discriminator was trained"
        )

    def _logits(self, source: Dataset, rows: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self.space.scores(source.x(rows), source.cond(rows)).double().numpy()
        return scores

    def look(self, seen: Seen) -> Finding:
        """The lowest of each class; the first look sets what low is, so that later ones are judged alike."""
        found = Finding(np.zeros(len(seen.rows), bool))
        if not len(seen.judged):
            return found
        logits = self._logits(seen.fakes, seen.judged)
        score = logits - self.middle[seen.claimed]
        if self.lowest is None:
            self.lowest = np.full(len(self.middle), -math.inf)
            for c in np.unique(seen.claimed).tolist():
                own = score[seen.claimed == c]
                if len(own) >= LEAST:
                    self.lowest[c] = tail(own, LOWEST, upper=False)
        limit = np.minimum(self.lowest[seen.claimed], float(self.limit or 0.0))
        for at in np.flatnonzero(score < limit).tolist():
            found.wrong[seen.judged[at]] = True
            found.why[int(seen.judged[at])] = (
                f"the discriminator's logit lies {-score[at]:.2f} below that of real samples of its class (limit "
                f"{-limit[at]:.2f})"
            )
        noted = np.full(len(seen.rows), math.nan)
        noted[seen.judged] = logits
        found.scores["discriminator"] = noted
        return found


def build(real: Real) -> Filter:
    """The filter for this run; idle where it keeps no discriminator, or with too few held-out samples."""
    try:
        space = Space(real.snapshot)
        _ = space.critic
    except UsageError:
        return Idle("discriminator", MEANING, "not looked at (this run keeps no discriminator)")
    if len(real.val) < LEAST or not len(real.train):
        return Idle(
            "discriminator",
            MEANING,
            f"not looked at (it needs {LEAST} held-out samples; there are {len(real.val)})",
        )
    return LowScore(real, space)
