"""mislabelled: recognisers of real samples see another class, or another number, than was asked for.

They are cross-fitted over the train part, so that every training sample, held out from the one that judges it,
helps to set the limit. Source: the confident learning of Northcutt, Jiang and Chuang (2021), with a limit that
bounds what is lost of correctly labelled samples instead of one that estimates the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..judge import USELESS, CrossFitted, numbers_in
from ..metrics.agreement import calibrated_limit, mislabelled
from . import Filter, Finding, Idle
from .basis import Real, Seen, tail

__all__ = ["Mislabelled", "build"]

MEANING = "Samples that do not show what they are labelled as: each would teach something wrong."


@dataclass
class _Column:
    """A number in y that regressors can read off real samples.

    limit  the largest error that is let pass, in its own unit
    """

    name: str
    number: int
    limit: float


class Mislabelled:
    """The probability of the claimed class, and the error of each number, by the mean of the cross-fitted judges."""

    name = "mislabelled"
    meaning = MEANING
    last = False

    def __init__(self, real: Real) -> None:
        self.real = real
        self.limit: float | None = None
        self.class_limit: float | None = None
        self.columns: list[_Column] = []
        counts, rules = [], []
        if (judges := real.recognisers) is not None:
            said, rows = judges.held_out()
            own = torch.from_numpy(real.numbers(real.data, rows))
            self.class_limit = self.limit = calibrated_limit(torch.from_numpy(said), own)
            counts.append(len(rows))
            rules.append(
                f"{len(judges.judges)} cross-fitted recognisers of the real train part give the claimed class less than "
                f"{self.class_limit:.3f} and another class more; {len(rows)} held-out real samples set the limit"
            )
        if (readers := real.regressors) is not None:
            counts.append(self._calibrate(readers, rules))
        if self.limit is None and self.columns:
            self.limit = self.columns[0].limit
        self.calibrated_on = f"{max(counts)} held-out real samples (cross-fitted train, and val)"
        self.rule = "; ".join(rules)

    def _calibrate(self, readers: CrossFitted, rules: list[str]) -> int:
        """Set the limit of each number that regressors can read; says what is not. Returns the count of samples."""
        said, rows = readers.held_out()
        true = numbers_in(self.real.data, rows, self.real.columns)
        errors = np.abs(said - true)
        guess = np.abs(true - np.median(true, 0)).mean(0)
        for number, name in enumerate(self.real.columns):
            error = float(errors[:, number].mean())
            if error >= USELESS * guess[number]:
                rules.append(
                    f"{name} is not looked at: regressors cannot read it off held-out real samples either (error "
                    f"{error:.3g}; always saying the median {guess[number]:.3g})"
                )
                continue
            column = _Column(name, number, tail(errors[:, number], upper=True))
            self.columns.append(column)
            rules.append(
                f"cross-fitted regressors see a {name} that is off by more than {column.limit:.3g}; {len(rows)} held-out "
                "real samples set the limit"
            )
        return len(rows)

    def look(self, seen: Seen) -> Finding:
        """Samples that show another y; those of no class that was seen, or with numbers outside, are let pass."""
        found = Finding(np.zeros(len(seen.rows), bool))
        if self.class_limit is not None and self.real.recognisers is not None and len(seen.judged):
            self._classes(seen, self.real.recognisers, self.class_limit, found)
        if self.columns and self.real.regressors is not None and len(seen.inside):
            self._numbers(seen, self.real.regressors, found)
        return found

    def _classes(self, seen: Seen, judges: CrossFitted, limit: float, found: Finding) -> None:
        said = torch.from_numpy(judges(seen.fakes, seen.judged))
        claimed = torch.from_numpy(seen.claimed)
        own = said.gather(1, claimed[:, None])[:, 0].numpy()
        agreement = np.full(len(seen.rows), math.nan)
        agreement[seen.judged] = own
        found.scores["label_agreement"] = agreement
        for at in np.flatnonzero(mislabelled(said, claimed, limit).numpy()).tolist():
            name = self.real.numbers.names[int(said[at].argmax())]
            found.wrong[seen.judged[at]] = True
            found.why[int(seen.judged[at])] = (
                f"looks like {name!r} (claimed class {own[at]:.3f}, limit {limit:.3f})"
            )

    def _numbers(self, seen: Seen, readers: CrossFitted, found: Finding) -> None:
        rows = seen.judged[seen.inside]
        said = readers(seen.fakes, rows)
        asked = numbers_in(seen.fakes, rows, self.real.columns)
        for column in self.columns:
            error = np.abs(said - asked)[:, column.number]
            noted = np.full(len(seen.rows), math.nan)
            noted[rows] = error
            found.scores[f"error_{column.name}"] = noted
            for at in np.flatnonzero(error > column.limit).tolist():
                found.wrong[rows[at]] = True
                found.why.setdefault(
                    int(rows[at]),
                    f"shows a {column.name} of {said[at, column.number]:.3g}, {asked[at, column.number]:.3g} was asked for "
                    f"(limit {column.limit:.3g} off)",
                )


def build(real: Real) -> Filter:
    """The filter for this run; idle where y has nothing to recognise, or nobody can."""
    if real.recognisers is None and real.regressors is None:
        return Idle(
            "mislabelled",
            MEANING,
            "not looked at (it needs two classes or a number in y, and twenty training samples)",
        )
    made = Mislabelled(real)
    return made if made.limit is not None else Idle("mislabelled", MEANING, made.rule)
