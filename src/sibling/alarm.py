"""What scores say so clearly that it belongs beside the verdict, in a sentence each.

A verdict speaks of the use of synthetic samples alone: copies may do no harm, and a few wrong labels may not show on
a small test part. Who reads nothing but the verdict has to know of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .types import Score

__all__ = ["LEEWAY", "alarms"]

# By so much an end of the interval must lie beyond the floor, which itself is known from few real samples.
LEEWAY = 0.05


def alarms(scores: Sequence[Score]) -> list[str]:
    """A sentence for copies and one for labels where their interval lies more than five points beyond the floor.

    scores: what `evaluate` has measured; those without a value, and labels without a floor, give no alarm
    """
    copied = [
        s
        for s in scores
        if s.name == "copy_share" and s.low - LEEWAY > (s.floor if math.isfinite(s.floor) else 0.0)
    ]
    wrong = [s for s in scores if s.name == "label_agreement" and s.high + LEEWAY < s.floor]
    said = []
    if copied:
        worst = max(copied, key=lambda s: s.value)
        said.append(
            f"{_percent(worst.value)} of the synthetic samples are copies of a training sample {_ends(worst)}; of held-out "
            f"real samples {_percent(worst.floor)} look like one. A recogniser learns nothing new from a copy."
        )
    if wrong:
        worst = min(wrong, key=lambda s: s.value)
        said.append(
            f"A recogniser of real samples sees the class that was asked for in {_percent(worst.value)} of the synthetic "
            f"samples {_ends(worst)}, in real ones of these classes in {_percent(worst.floor)}: labels are wrong, or the "
            "samples do not show their class."
        )
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "an unknown share"


def _ends(score: Score) -> str:
    return f"(95 % interval {100 * score.low:.0f} to {100 * score.high:.0f} %)"
