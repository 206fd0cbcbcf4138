"""What `curate` and `evaluate` both need: recognisers of the real train part, and the nearest real sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .dataset import Dataset, kinds_of
from .device import numpy_generator, seed_of
from .errors import BadInput, UsageError
from .metrics.features import RandomFeatures, in_batches
from .metrics.memorisation import Nearest, nearest
from .metrics.recogniser import Pool, Recogniser, train_recogniser
from .metrics.regressor import Regressor, error_score, train_regressor
from .registry import suggest
from .snapshot import Snapshot
from .types import Score

__all__ = [
    "CrossFitted",
    "NearestReal",
    "Numbers",
    "batch_for",
    "cross_recognisers",
    "cross_regressors",
    "fetcher",
    "folds_within",
    "judged_rows",
    "label_errors",
    "most_rows",
    "numbers_in",
    "random_features",
    "recogniser_of",
    "steps_for",
    "synthetic_of",
]

MOST_TRAIN = 20_000  # training samples that a fake is compared with, unless fewer
MOST_HELD = 1_000  # held-out real samples that set a limit or a floor
CLASSIC_STRENGTH = 0.5
LEAST_HELD = 10  # held-out real samples that tell whether a regressor has learned anything
USELESS = 0.9  # of the error of always saying the median: a regressor above this judges nothing
FOLDS = 3  # of cross-fitting, up to MOST_TRAIN training samples; above that one split says enough


@dataclass
class Numbers:
    """Classes as numbers, in the order of the condition."""

    names: list[str]

    @classmethod
    def of(cls, data: Dataset) -> Numbers:
        """The classes of a data set."""
        return cls(list(data.condition.classes) or ["all"])

    def __call__(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n,) class numbers of these rows. Raises BadInput for a class that is not known."""
        index = {name: number for number, name in enumerate(self.names)}
        found = data.classes(rows)
        for name in found:
            if name not in index:
                raise BadInput(
                    f"There are samples of the class {name!r}, which the run does not know.{suggest(name, self.names)}"
                )
        return np.array([index[name] for name in found], np.int64)


def judged_rows(fake: Dataset) -> np.ndarray:
    """The rows whose class is known. Samples that say that they lie outside of what was seen may be of none, such as
    labels in a new combination: no recogniser can judge those. Others of no class are somebody's mistake."""
    known = {*fake.condition.classes}
    outside = [bool(info.get("outside")) for info in fake.table["info"]]
    groups = fake.classes(range(len(fake)))
    return np.array([i for i, name in enumerate(groups) if name in known or not outside[i]], np.int64)


def fetcher(data: Dataset, rows: np.ndarray) -> Callable[[Any], torch.Tensor]:
    """A function that brings x (N, C, *S) of positions within `rows`: an array of them, or a slice."""
    return lambda positions: data.x(rows[positions])


def steps_for(n: int) -> int:
    """Optimiser steps of a recogniser for n training samples: 30 passes over the data, 200 to 800 steps."""
    return int(np.clip(30 * n // 128, 200, 800))


def batch_for(n: int) -> int:
    """Samples an update of a recogniser for n real training samples, 8 to 128."""
    return int(np.clip(n, 8, 128))


def recogniser_of(data: Dataset, rows: np.ndarray, seed: int, what: str) -> Recogniser:
    """A recogniser trained on these real rows with classic augmentation. It judges samples that were asked for one by
    one, so a class that is rare among the rows is as likely to it as the others."""
    numbers = Numbers.of(data)
    return train_recogniser(
        Pool([(fetcher(data, rows), numbers(data, rows))]),
        shape=data.shape,
        classes=len(numbers.names),
        steps=steps_for(len(rows)),
        batch=batch_for(len(rows)),
        seed=seed_of(seed, what),
        augment=data.modality.augment,
        strength=CLASSIC_STRENGTH,
        even_classes=True,
    )


class CrossFitted:
    """Recognisers, or regressors, of the real train part, each of which has left out one fold of it.

    data    the real samples
    folds   (learned from, left out) a judge: row numbers of `data`
    judges  one a fold

    What a judge says of samples that it has learned from is too good to set a limit; what each says of its own
    fold is not, and there are many more of those than in a small val part.
    """

    def __init__(
        self,
        data: Dataset,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
        judges: Sequence[Recogniser | Regressor],
    ) -> None:
        self.data = data
        self.folds = folds
        self.judges = judges

    @property
    def networks(self) -> list[Recogniser]:
        """The networks, one a fold."""
        return [judge.network if isinstance(judge, Regressor) else judge for judge in self.judges]

    def __call__(self, source: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n, G) the mean over the judges of what they say: probabilities of classes, or numbers."""
        said: np.ndarray = np.mean([_said(judge, source, rows) for judge in self.judges], 0)
        return said

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """(what is said (n, G), rows (n,) of `data`): each fold by the judge that left it out."""
        pairs = zip(self.judges, self.folds, strict=True)
        said = [_said(judge, self.data, left) for judge, (_, left) in pairs]
        return np.concatenate(said), np.concatenate([left for _, left in self.folds])

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The same with the val part behind it, of which all judges say the mean."""
        said, rows = self.left_out()
        val = most_rows(self.data.rows("val", "real"), MOST_HELD, "cross-fitted", "val")
        if not len(val):
            return said, rows
        return np.concatenate([said, self(self.data, val)]), np.concatenate([rows, val])


def _said(judge: Recogniser | Regressor, source: Dataset, rows: np.ndarray) -> np.ndarray:
    if isinstance(judge, Regressor):
        return judge.numbers(fetcher(source, rows), len(rows))
    probabilities: np.ndarray = judge.probabilities(fetcher(source, rows), len(rows)).double().numpy()
    return probabilities


def folds_within(data: Dataset, rows: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learned from, left out) three times, so that each of these rows is left out once; one pair above 20,000.

    Duplicates stay together, and each class is dealt out evenly. Fewer pairs where there are too few rows.
    """
    classes = data.classes(rows)
    groups = data.duplicates(rows).tolist()
    fold_of: dict[int, int] = {}
    turn: Counter[str] = Counter({name: start for start, name in enumerate(dict.fromkeys(classes))})
    for i in numpy_generator(seed, "folds").permutation(len(rows)).tolist():
        if groups[i] not in fold_of:
            fold_of[groups[i]] = turn[classes[i]] % FOLDS
            turn[classes[i]] += 1
    fold = np.array([fold_of[group] for group in groups], np.int64)
    count = FOLDS if len(rows) <= MOST_TRAIN else 1
    pairs = [(rows[fold != k], most_rows(rows[fold == k], MOST_TRAIN, seed, "left")) for k in range(count)]
    return [(seen, left) for seen, left in pairs if len(seen) and len(left)]


def cross_recognisers(
    data: Dataset, folds: Sequence[tuple[np.ndarray, np.ndarray]], seed: int
) -> CrossFitted:
    """A recogniser of the classes for each fold."""
    judges = [recogniser_of(data, seen, seed, f"curate {k}") for k, (seen, _) in enumerate(folds)]
    return CrossFitted(data, folds, judges)


def cross_regressors(
    data: Dataset, folds: Sequence[tuple[np.ndarray, np.ndarray]], columns: list[str], seed: int
) -> CrossFitted:
    """A regressor of these columns of y for each fold."""
    judges = [
        train_regressor(
            fetcher(data, seen), numbers_in(data, seen, columns), shape=data.shape, steps=steps_for(len(seen)),
            batch=batch_for(len(seen)), seed=seed_of(seed, "curate regressor", k),
        )
        for k, (seen, _) in enumerate(folds)
    ]  # fmt: skip
    return CrossFitted(data, folds, judges)


def label_errors(data: Dataset, fake: Dataset, rows: np.ndarray, seed: int, notes: list[str]) -> list[Score]:
    """For each number in y: how far off a regressor of the real train part finds these synthetic samples.

    rows   of `fake`; those that lie outside of the seen range are left out, where no regressor can know
    notes  gets a sentence about each number that a regressor cannot read off real samples either
    """
    columns = [column for column, kind in kinds_of(data.condition).items() if kind == "value"]
    train, val, test = (data.rows(part, "real") for part in ("train", "val", "test"))
    rows = np.array([i for i in rows.tolist() if not fake.table["info"][i].get("outside")], np.int64)
    if not columns:
        return []
    if min(len(train), len(test)) < LEAST_HELD or len(rows) == 0:
        notes.append(
            f"Whether samples show their {', '.join(columns)} was not looked at: {len(train)} training, {len(test)} test and "
            f"{len(rows)} synthetic samples are too few."
        )
        return []
    judge = train_regressor(
        fetcher(data, train), numbers_in(data, train, columns), shape=data.shape, steps=steps_for(len(train)),
        batch=batch_for(len(train)), seed=seed_of(seed, "regressor"),
    )  # fmt: skip
    held = val if len(val) >= LEAST_HELD else test
    middle = np.median(numbers_in(data, train, columns), 0)
    errors = {
        what: np.abs(
            judge.numbers(fetcher(source, chosen), len(chosen)) - numbers_in(source, chosen, columns)
        )
        for what, source, chosen in (("held", data, held), ("real", data, test), ("fake", fake, rows))
    }
    guess = np.abs(numbers_in(data, held, columns) - middle).mean(0)
    scores = []
    for i, column in enumerate(columns):
        if errors["held"][:, i].mean() >= USELESS * guess[i]:
            notes.append(
                f"No label_error of {column}: a regressor cannot read it off held-out real samples either (error "
                f"{errors['held'][:, i].mean():.3g}; always saying the median {guess[i]:.3g})."
            )
            continue
        own = {what: error[:, i] for what, error in errors.items() if what != "held"}
        scores.append(error_score(column, judge.space, **own, groups=fake.classes(rows)))
    return scores


def numbers_in(data: Dataset, rows: np.ndarray, columns: list[str]) -> np.ndarray:
    """(n, D) the numbers of these rows."""
    return np.array([[y[column] for column in columns] for y in data.y(rows)], np.float64)


def random_features(data: Dataset, rows: np.ndarray, network: RandomFeatures) -> torch.Tensor:
    """(n, F) features of these rows in a space that was never trained."""
    return in_batches(network, fetcher(data, rows), len(rows))


def most_rows(rows: np.ndarray, most: int, *path: int | str) -> np.ndarray:
    """At most so many of these rows, drawn by the random stream of `path`, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(numpy_generator(*path).permutation(rows)[:most])


class NearestReal:
    """Looks up the nearest training sample; what does not change between two looks is computed once.

    data  the real samples, with the pseudo-labelled ones that the generator has learned from, if any: a copy of one
          of those is a copy too

    At most 20,000 training samples, drawn at random, are compared with, real ones first: `note` says so where it
    matters.
    """

    def __init__(self, data: Dataset, network: RandomFeatures) -> None:
        self.data = data
        self.network = network
        real, more = data.rows("train", "real"), data.rows("train", "unlabelled")
        everything = np.concatenate([real, more])
        real = most_rows(real, MOST_TRAIN, "nearest", "train")
        more = most_rows(more, MOST_TRAIN - len(real), "nearest", "unlabelled")
        self.train = np.concatenate([real, more])
        self.groups = torch.tensor([data.table["group"][i] for i in self.train])
        self.x = data.x(self.train)
        self.features = random_features(data, self.train, network)
        self.note = ""
        if len(self.train) < len(everything):
            self.note = f" Compared with {len(self.train):,} of {len(everything):,} training samples."
        if len(more):
            self.note += f" {len(more):,} of the training samples are unlabelled ones."

    def __call__(self, source: Dataset, rows: np.ndarray) -> Nearest:
        """The nearest training sample of each of these rows; `index` counts within `train`."""
        if len(rows) == 0:
            return Nearest(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long))
        return nearest(
            train=self.x,
            fake=source.x(rows),
            groups=self.groups,
            train_features=self.features,
            fake_features=random_features(source, rows, self.network),
        )

    def held_out(self, part: str) -> Nearest:
        """The same for at most 1,000 real samples of the val or test part: what fresh samples give."""
        return self(self.data, most_rows(self.data.rows(part, "real"), MOST_HELD, "nearest", part))


def synthetic_of(fake: Dataset, snapshot: Snapshot) -> Dataset:
    """The synthetic samples of a data set, which must come from this run.

    Samples of another run may come from a generator that has seen this run's test part.
    Raises BadInput, UsageError.
    """
    rows = fake.rows(origin="synthetic")
    if len(rows) == 0:
        raise BadInput("There are no synthetic samples (their origin must be 'synthetic').")
    strangers = {info.get("snapshot") for info in (fake.table["info"][i] for i in rows)} - {
        snapshot.name,
        None,
    }
    if strangers:
        raise UsageError(
            f"These samples come from the snapshot {sorted(strangers)[0]}, not from {snapshot.name} in {snapshot.folder}: "
            "that one may have learned from this run's test part. Name the run that they come from."
        )
    return fake if len(rows) == len(fake) else fake.subset(rows)
