"""Several splits of one data set, each with a generator that has not seen its test part.

Where one test part is too small to show anything, every sample is tested once (cross-validation); for a
thorough verdict a large one is split anew. In both cases the generator is trained again, as the first was.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from .conditions.columns import learned
from .curate import curate
from .dataset import Dataset, joined
from .device import numpy_generator, seed_of
from .fit import fit
from .sample import sample
from .snapshot import Snapshot
from .split import assign

__all__ = ["cross_validated", "folds_of", "split_anew"]

log = logging.getLogger("sibling")

VAL = 0.12  # share of what is not tested
TEST = 0.2


def folds_of(data: Dataset, folds: int, seed: int, repeat: int = 0) -> list[Dataset]:
    """The same real samples split `folds` times, so that each is tested once; duplicates stay together."""
    rows = _in_a_part(data)
    classes = np.array(data.classes(rows))
    groups = data.duplicates(rows)
    common = [name if n >= folds else "rare" for name, n in ((c, int((classes == c).sum())) for c in classes)]
    maker = StratifiedGroupKFold(folds, shuffle=True, random_state=seed_of(seed, "folds", repeat) % 2**31)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class is too small to be in each of them
        parts_of = list(maker.split(rows, common, groups))
    out = []
    for fold, (rest, held) in enumerate(parts_of):
        given: list[str | None] = [None] * len(rows)
        for i in held:
            given[i] = "test"
        rng = numpy_generator(seed, "fold", repeat, fold)
        free = [str(c) for c in classes[rest]]
        parts, _ = assign(free, groups[rest].tolist(), [None] * len(rest), val=VAL, test=0.0, rng=rng)
        for i, part in zip(rest, parts, strict=True):
            given[i] = part
        out.append(_resplit(data, rows, given))
    return out


def split_anew(data: Dataset, seed: int, number: int) -> Dataset:
    """The same real samples with another random split."""
    rows = _in_a_part(data)
    classes, groups = data.classes(rows), [data.table["group"][i] for i in rows]
    parts, _ = assign(
        classes,
        groups,
        [None] * len(rows),
        val=VAL * (1 - TEST),
        test=TEST,
        rng=numpy_generator(seed, "anew", number),
    )
    return _resplit(data, rows, parts)


def _in_a_part(data: Dataset) -> np.ndarray:
    """The rows of the real samples that are in one of the three parts."""
    rows = data.rows(origin="real")
    return rows[[data.table["split"][i] in ("train", "val", "test") for i in rows]]


def _resplit(data: Dataset, rows: np.ndarray, parts: list[Any]) -> Dataset:
    """These rows with these splits; the condition draws from its train part alone."""
    changed = data.subset(rows)
    changed.table["split"] = [str(part) for part in parts]
    changed.condition = learned(data.condition, changed.y(changed.rows("train", "real")))
    return changed


def cross_validated(
    snapshot: Snapshot, fake: Dataset, splits: list[Dataset], seed: int
) -> Iterator[tuple[Dataset, Dataset]]:
    """Each split with synthetic samples of its own: trained, drawn and curated as the given ones were.

    Unlabelled samples of the run get their labels anew from the train part of each split, and come with its real
    samples. Nothing of these trainings stays: they lie in a temporary folder.
    """
    counts = Counter(fake.classes(np.arange(len(fake))))
    curated = any("scores" in info for info in fake.table["info"])
    known = {key: snapshot.run.get(key) for key in ("model", "steps", "batch", "arguments")}
    for number, data in enumerate(splits):
        with tempfile.TemporaryDirectory(prefix="sibling-") as place:
            log.info(
                "  split %d of %d: training a generator that has not seen its test part",
                number + 1,
                len(splits),
            )
            run = fit(
                data, out=Path(place) / "run", seed=seed_of(seed, "generator", number) % 2**31, tensorboard=False,
                unlabelled=snapshot.unlabelled, model=str(known["model"]), steps=known["steps"], batch=known["batch"],
                arguments=known["arguments"],
            )  # fmt: skip
            want = {name: n for name, n in counts.items() if name in run.condition.classes}
            made = sample(run, want=want, seed=seed)
            kept = curate(made, against=run, seed=seed, effects=False) if curated else made
            pseudo = run.unlabelled
            yield data if pseudo is None else joined(data, pseudo.subset(pseudo.rows("train"))), kept
