"""5 · real, fake -> Scores with their floors, and a Verdict from real test samples that nothing has seen."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from . import __version__, files
from .alarm import alarms
from .dataset import Dataset
from .errors import UsageError
from .fidelity import MOST_SCORED, copies, fidelity
from .folds import cross_validated, folds_of, split_anew
from .judge import Numbers, label_errors, most_rows
from .lift.answer import undecided
from .lift.brought import brought
from .lift.compare import compare
from .lift.effort import EFFORTS, Effort
from .metrics.features import RandomFeatures
from .snapshot import Snapshot
from .subject import Subject, subject_of
from .types import Evaluation, Verdict

__all__ = ["check_effort", "evaluate", "verdict_json"]

log = logging.getLogger("sibling")

MOST_CLASSES_SHOWN = 40
SHOWN = ("classes", "copies", "rate", "frame_rate", "texts")  # of the pictures: what pictures.json says
# Where samples can be listened to: classes, and clips of each.
CLASSES_HEARD, REAL_HEARD, FAKE_HEARD = 12, 2, 4
LEAST_OF_CLASS = 5  # test samples of a class, below which nothing is said of it alone
SMALL_TEST = 50  # fewer test samples show no lift below 9 points: every sample is tested once instead
LEAST_FOLDED = 30  # real samples; below that even all of them show nothing


def evaluate(
    fake: str | Path | Dataset,
    *,
    against: str | Path | Snapshot | Dataset,
    quick: bool = False,
    thorough: bool = False,
    seeds: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    features: str | Sequence[str] | None = None,
    classifier: str | Callable[[Sequence[int], int], nn.Module] | None = None,
    label_column: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    lift: bool = True,
) -> Evaluation:
    """Judge synthetic samples: distances, coverage, copies, label agreement, and the lift.

    Args:
        fake: synthetic samples: a Dataset, or a folder: one that `sample` or `curate` wrote, or what another tool
            made (class folders or files plus metadata).
        against: the run folder that they come from, or the real samples (a folder, a store); the frozen test part is
            the judge.
        quick: a first look: fewer seeds and less tuning.
        thorough: more seeds, more tuning, and further splits with a generator each.
        seeds: how many recognisers each arm of the lift is trained with; None = 2, 3 or 5.
        steps: optimiser steps of each recogniser, the same in every arm; None = derived from the data.
        seed: of everything that is drawn here.
        features: the feature spaces of the distances, "random,recogniser": random, recogniser, selfsupervised,
            spectrum, efficientnet-lite0, or a function of your own as "module:function"; None = random and recogniser.
        classifier: a recogniser of your own as "module:build": build(shape, outputs) gives a torch module that maps
            (N, *shape) in [-1, 1] to (N, outputs), a logit a class; it is trained and tuned like ours. None = ours.
        label_column: the columns of the metadata that another tool has written for `fake` which are y, where they have
            other names or stand among others; None = found by looking.
        out: where to write scores.json, verdict.json and the pictures; None = "evaluation" in the run folder, or
            beside `fake`.
        lift: train the recognisers of the verdict; False leaves the scores alone.

    Raises BadInput, UsageError.
    """
    effort = _effort(quick, thorough, seeds)
    spaces = (
        [name.strip() for name in features.split(",")] if isinstance(features, str) else list(features or ())
    )
    subject = subject_of(fake, against, out, label_column)
    data, made, notes = subject.data, subject.fake, subject.notes
    learned = subject.snapshot.learned if subject.snapshot is not None else data
    build = brought(classifier, learned)  # before the work: a mistake in it is found at once
    if not len(made):
        return _nothing_left(subject)
    pictures, scores = copies(data, made, RandomFeatures(data.shape), seed, notes, learned=learned)
    scores += fidelity(data, made, seed, notes, spaces)
    scored = most_rows(np.arange(len(made)), MOST_SCORED, seed, "label errors")
    scores += label_errors(data, made, scored, seed, notes)
    if lift:
        name = classifier if isinstance(classifier, str) else getattr(classifier, "__qualname__", "")
        answer = _lift(subject, effort, steps, seed, build, name)
    else:
        answer = undecided("the lift was not asked for")
    _add_grids(pictures, data, made)
    notes[:] = dict.fromkeys(notes)  # two feature spaces may lack the same
    evaluation = Evaluation(scores, answer, notes, subject.folder)
    _save(evaluation, pictures, subject)
    for alarm in alarms(scores):
        log.warning("  warning      %s", alarm)
    log.info("  verdict      %s", answer.sentence)
    return evaluation


def _nothing_left(subject: Subject) -> Evaluation:
    """An evaluation without scores: a run whose samples were all dropped still has an answer, and a data set."""
    answer = undecided("no synthetic sample is left, curation dropped all of them")
    evaluation = Evaluation([], answer, subject.notes, subject.folder)
    _save(evaluation, {}, subject)
    log.warning("  verdict      %s", answer.sentence)
    return evaluation


def check_effort(quick: bool, thorough: bool) -> None:
    """Raises UsageError where both are asked for."""
    if quick and thorough:
        raise UsageError("quick and thorough exclude each other: give --quick or --thorough.")


def _effort(quick: bool, thorough: bool, seeds: int | None) -> Effort:
    check_effort(quick, thorough)
    effort = EFFORTS["quick" if quick else "thorough" if thorough else "default"]
    if seeds is None:
        return effort
    if seeds < 1:
        raise UsageError(f"seeds is {seeds}; at least 1 is needed.")
    return effort.but(seeds=seeds, most_seeds=seeds, control_seeds=min(seeds, effort.control_seeds))


def _lift(
    subject: Subject, effort: Effort, steps: int | None, seed: int, build: Any, classifier: str
) -> Verdict:
    """The verdict on one split, on further ones, or cross-validated, as the data and the effort demand."""
    data, made, snapshot, notes = subject.data, subject.fake, subject.snapshot, subject.notes
    n_test, n_real = len(data.rows("test", "real")), len(data.rows(origin="real"))
    # With the pseudo-labelled samples, if there are any: they are a rival of their own.
    learned = snapshot.learned if snapshot is not None else data
    pairs: Iterator[tuple[Dataset, Dataset]] = iter([(learned, made)])
    splits = 1
    fixed = data.found.get("own_split", False)
    if n_test < SMALL_TEST and effort.folds and snapshot is not None and not fixed and n_real >= LEAST_FOLDED:
        parts = [part for r in range(effort.repeats) for part in folds_of(data, effort.folds, seed, r)]
        pairs, splits, effort = cross_validated(snapshot, made, parts, seed), len(parts), effort.for_folds()
        minutes = float(snapshot.run.get("minutes") or 0) * splits
        log.info(
            "  power        %d test samples are too few: every sample is tested once, with %d generators, about %.1f "
            "minutes (--quick leaves that out)", n_test, splits, minutes,
        )  # fmt: skip
        notes.append(
            f"The frozen test part has {n_test} samples, too few to show anything: the verdict comes from "
            f"{splits}-fold cross-validation, with a generator trained anew for each fold."
        )
    elif effort.splits and snapshot is not None and not fixed:
        more = [split_anew(data, seed, number) for number in range(effort.splits)]
        pairs = _chain(learned, made, cross_validated(snapshot, made, more, seed))
        splits += len(more)
    elif n_test < SMALL_TEST:
        why = (
            "it brings its own split"
            if fixed
            else "only a run of ours can be trained anew"
            if snapshot is None
            else "--quick leaves cross-validation out"
            if not effort.folds
            else ""
        )
        notes.append(f"{n_test} test samples show little{f', and {why}' if why else ''}: read the interval.")
    found = compare(
        pairs,
        learned,
        splits=splits,
        effort=effort,
        seed=seed,
        steps=steps,
        build=build,
        classifier=classifier,
    )
    if found.metric == "balanced accuracy" and found.arms and splits == 1:
        notes += _thin_classes(data.classes(data.rows("test", "real")))
    return found


def _thin_classes(tested: Sequence[str]) -> list[str]:
    """A sentence on classes with so few test samples that one of them moves balanced accuracy by points.

    tested  the class of each test sample
    """
    counts = Counter(tested)
    thin = {name: n for name, n in sorted(counts.items()) if n < LEAST_OF_CLASS}
    if not thin:
        return []
    shown = ", ".join(f"{name!r} {n}" for name, n in list(thin.items())[:10])
    more = f" and {len(thin) - 10} more classes" if len(thin) > 10 else ""
    return [
        f"In balanced accuracy each class counts alike, and some have fewer than {LEAST_OF_CLASS} test samples ({shown}{more}): "
        f"{sum(thin.values())} of {len(tested):,} test samples are {len(thin) / len(counts):.0%} of it. The interval knows no "
        "others of these classes: more real samples of them say more."
    ]


def _chain(
    data: Dataset, made: Dataset, more: Iterator[tuple[Dataset, Dataset]]
) -> Iterator[tuple[Dataset, Dataset]]:
    yield data, made
    yield from more


# ---- what the report reads ------------------------------------------------------------------------


def _add_grids(pictures: dict[str, Any], data: Dataset, fake: Dataset) -> None:
    """Up to 8 real and 16 synthetic samples of each class as previews, or as clips where they move; and some of them as
    sounds."""
    numbers = Numbers.of(data)
    train, everything = data.rows("train", "real"), np.arange(len(fake))
    real_classes, fake_classes = np.asarray(data.classes(train)), np.asarray(fake.classes(everything))
    pictures["classes"] = [name for name in numbers.names if name in set(fake_classes)][:MOST_CLASSES_SHOWN]
    for number, name in enumerate(pictures["classes"]):
        real = train[np.flatnonzero(real_classes == name)[:8]]
        made = np.flatnonzero(fake_classes == name)[:16]
        shown = getattr(data.modality, "animate", data.modality.preview)
        pictures[f"real_{number}"], pictures[f"fake_{number}"] = shown(data.raw[real]), shown(fake.raw[made])
        if hasattr(data.modality, "listen") and number < CLASSES_HEARD:
            # The real ones too are found back from what a model sees: the ear then compares like with like.
            for kind, raw in (("real", data.raw[real[:REAL_HEARD]]), ("fake", fake.raw[made[:FAKE_HEARD]])):
                if len(raw):
                    pictures[f"{kind}_sound_{number}"], pictures["rate"] = data.modality.listen(raw)
        if hasattr(data.modality, "texts"):
            said = {"real": data.modality.texts(data.raw[real]), "fake": data.modality.texts(fake.raw[made])}
            pictures.setdefault("texts", []).append(said)
    if hasattr(data.modality, "animate"):
        pictures["frame_rate"] = getattr(data.modality, "rate", 8.0)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """What verdict.json holds; docs/verdict.md explains each name."""
    row = asdict(verdict)
    arms = row.pop("arms")
    return {
        "format": 1,
        "verdict": row.pop("answer"),
        **{name: row.pop(name) for name in ("lift", "low", "high", "metric", "unit", "goal", "sentence")},
        "arms": [{"name": name, **arm} for name, arm in arms.items()],
        "protocol": row.pop("protocol"),
        **row,
    }


def _save(evaluation: Evaluation, pictures: dict[str, Any], subject: Subject) -> None:
    folder = subject.folder
    buffer = io.BytesIO()
    arrays = {key: value for key, value in pictures.items() if isinstance(value, np.ndarray)}
    np.savez_compressed(buffer, **cast(Any, arrays))
    with files.new_folder(folder, kind="evaluation", overwrite=True) as staging:
        files.write_bytes(staging / "pictures.npz", buffer.getvalue())
        files.write_json(
            staging / "pictures.json",
            {name: pictures[name] for name in SHOWN if name in pictures},
        )
        scores = [asdict(item) for item in evaluation.scores]
        files.write_json(
            staging / "scores.json",
            {
                "format": 1,
                "sibling": __version__,
                "scores": scores,
                "warnings": alarms(evaluation.scores),
                "notes": evaluation.notes,
            },
        )
        files.write_json(staging / "verdict.json", verdict_json(evaluation.verdict))
