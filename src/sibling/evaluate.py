"""5 · real, fake -> Scores with their floors, and a Verdict from real test samples that nothing has seen."""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import torch

from . import files
from .dataset import Dataset, kinds_of
from .device import cores, generator, numpy_generator, threads
from .errors import UsageError
from .judge import (
    NearestReal,
    Numbers,
    batch_for,
    fetcher,
    judged_rows,
    label_errors,
    most_rows,
    recogniser_of,
    steps_for,
    synthetic_of,
)
from .metrics import METRICS
from .metrics.agreement import agreement
from .metrics.features import RandomFeatures, in_batches
from .metrics.lift import ARMS, CANDIDATE, LEAST_TEST, Arm, arms_of, power, run_arm, verdict
from .metrics.memorisation import copy_share, threshold
from .metrics.recogniser import Pool, train_recogniser
from .metrics.score import project, score
from .progress import Display
from .read import read
from .registry import lookup, names
from .signals import stopping
from .snapshot import Snapshot
from .types import Evaluation, Score, Verdict

__all__ = ["evaluate"]

log = logging.getLogger("sibling")

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
MOST_SCORED = 2_000  # samples a side for the distances
MOST_CLASSES_SHOWN = 40


def evaluate(
    fake: str | Path | Dataset,
    *,
    against: str | Path | Snapshot,
    seeds: int = 3,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    lift: bool = True,
) -> Evaluation:
    """Judge synthetic samples: distances, coverage, copies, label agreement, and the lift.

    Args:
        fake: synthetic samples: a Dataset, or a folder that `sample` or `curate` wrote.
        against: the run folder that they come from; its frozen test part is the judge.
        seeds: how many recognisers each arm of the lift is trained with.
        steps: optimiser steps of each recogniser, the same in every arm; None = derived from the data.
        seed: of everything that is drawn here.
        out: where to write evaluation.json and the pictures; None = "evaluation" in the run folder.
        lift: train the recognisers of the verdict; False leaves the scores alone.

    Raises BadInput, UsageError.
    """
    if seeds < 1:
        raise UsageError(f"seeds is {seeds}; at least 1 is needed.")
    snapshot = against if isinstance(against, Snapshot) else Snapshot(against)
    data = snapshot.data
    if not isinstance(fake, Dataset):
        files.refuse_overlap(Path(out) if out is not None else snapshot.folder, Path(fake))
        fake = read(fake, like=data)
    fake = synthetic_of(fake, snapshot)
    notes = _curation_notes(snapshot)
    if len(judged := judged_rows(fake)) < len(fake):
        notes.append(f"{len(fake) - len(judged)} samples of no class that was seen were left out.")
        fake = fake.subset(judged)
    test = data.rows("test", "real")
    if len(test) >= LEAST_TEST:
        smallest = power(len(test))
        log.info(
            "  power        with %d real test samples a lift below about %.1f points cannot be seen",
            len(test),
            smallest,
        )
    network = RandomFeatures(data.shape)
    pictures, copy_scores = _copies(data, fake, network, seed)
    scores = copy_scores + _fidelity(data, fake, network, seed, notes)
    scored = most_rows(np.arange(len(fake)), MOST_SCORED, seed, "label errors")
    scores += label_errors(data, fake, scored, seed, notes)
    answer = (
        _lift(data, fake, seeds, steps, seed, notes) if lift else _no_verdict("the lift was not asked for")
    )
    folder = Path(out) if out is not None else snapshot.folder / "evaluation"
    _add_grids(pictures, data, fake)
    evaluation = Evaluation(scores, answer, notes, folder)
    _save(evaluation, pictures)
    log.info("  verdict      %s", answer.sentence)
    return evaluation


# ---- copies ---------------------------------------------------------------------------------------


def _curation_notes(snapshot: Snapshot) -> list[str]:
    """After curation no copy is left by construction: how many there were belongs beside the score."""
    if not (snapshot.folder / "curation.json").exists():
        return []
    summary = files.read_json(snapshot.folder / "curation.json")
    notes = [f"Curation left fewer than asked for: {short}." for short in summary.get("short") or []]
    first = summary.get("copies_at_first") or {}
    if first.get("looked_at"):
        notes.append(f"Before curation {first['copies']} of {first['looked_at']:,} samples were copies.")
    return notes


def _copies(
    data: Dataset, fake: Dataset, network: RandomFeatures, seed: int
) -> tuple[dict[str, Any], list[Score]]:
    rows = most_rows(np.arange(len(fake)), MOST_SCORED, seed, "copies")
    nearest = NearestReal(data, network)
    near, train = nearest(fake, rows), nearest.train
    # The val part sets the limit, so the floor is counted on the test part.
    limit, fresh = threshold(nearest.held_out("val").ratio), nearest.held_out("test")
    found, expected = copy_share(near.ratio, limit), copy_share(fresh.ratio, limit)
    meaning = (
        f"Share of the synthetic samples that one training sample explains far better than any other (ratio of distances "
        f"below {limit:.2f}); real test samples give the floor. A high share means copies, not siblings.{nearest.note}"
    )
    share = Score(
        "copy_share", found.value, found.low, found.high, "min", expected.value, "pixels, aligned",
        {"real": len(train), "fake": found.total}, meaning=meaning,
    )  # fmt: skip
    order = torch.argsort(torch.nan_to_num(near.ratio, nan=9.0))[:12].tolist()
    classes = fake.classes(rows) if fake.condition.columns else [None] * len(rows)
    shown = [
        {
            "fake": fake.table["key"][rows[i]],
            "real": data.table["key"][train[int(near.index[i])]],
            "y": classes[i],
            "ratio": float(near.ratio[i]),
        }
        for i in order
    ]
    pictures = {
        "copies": shown,
        "copies_fake": data.modality.preview(fake.raw[rows[order]]),
        "copies_real": data.modality.preview(data.raw[train[[int(near.index[i]) for i in order]]]),
    }
    return pictures, [share]


# ---- fidelity and diversity -----------------------------------------------------------------------


def _fidelity(
    data: Dataset, fake: Dataset, network: RandomFeatures, seed: int, notes: list[str]
) -> list[Score]:
    """Every metric of the table in both spaces, each with the value that real samples get in its place."""
    train = data.rows("train", "real")
    test = most_rows(data.rows("test", "real"), MOST_SCORED, seed, "test")
    order = numpy_generator(seed, "reference").permutation(train)
    # The recogniser's own training samples lie apart from others in its space: the floor needs real
    # samples that it has not seen either.
    share = max(2, int(0.3 * len(train)))
    unseen, seen = np.sort(order[:share]), np.sort(order[share:])
    if len(test) < 10 or len(unseen) < 10:
        notes.append(
            f"Distances were left out: {len(test)} test and {len(unseen)} reference samples are too few to mean anything."
        )
        return []
    unseen = most_rows(unseen, MOST_SCORED, seed, "unseen")
    chosen = _like_the_test_part(data, fake, test, len(unseen), seed)
    spaces: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [(network.space, network)]
    scores: list[Score] = []
    if len(set(data.classes(train))) > 1 and len(seen) >= 20:
        judge = recogniser_of(data, seen, seed, "evaluate")
        spaces.append((judge.space, judge.features))
        scores += _agreement(judge, data, fake, test, seed)
    for space, features in spaces:
        raw = [
            in_batches(features, fetcher(source, rows), len(rows))
            for source, rows in ((data, unseen), (data, test), (fake, chosen))
        ]
        reference, real, made = project(raw[0], raw[1], raw[2])
        reference = reference[: len(made)]  # most distances depend on how many samples they see
        rng = generator(seed, "score", space)
        for name in names(METRICS, "sibling.metrics"):
            metric = lookup(METRICS, "sibling.metrics", name)()
            scores.append(
                score(
                    metric, real=real, fake=made, floor_pair=(real, reference), space=space, rng=rng,
                    real_y=data.classes(test), fake_y=fake.classes(chosen),
                )
            )  # fmt: skip
    return scores


def _like_the_test_part(data: Dataset, fake: Dataset, test: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Fakes with the class shares of the test part, as far as each class has as many."""
    names_fake = np.asarray(fake.classes(np.arange(len(fake))))
    names_test = np.asarray(data.classes(test))
    rng = numpy_generator(seed, "fakes")
    most = min(most, len(fake))
    chosen: list[int] = []
    for name in np.unique(names_test):
        own = rng.permutation(np.flatnonzero(names_fake == name))
        chosen += own[: max(1, round(most * float((names_test == name).mean())))].tolist()
    return np.sort(np.asarray(chosen or list(range(most)), np.int64))


def _agreement(judge: Any, data: Dataset, fake: Dataset, test: np.ndarray, seed: int) -> list[Score]:
    numbers = Numbers.of(data)
    rows = most_rows(np.arange(len(fake)), MOST_SCORED, seed, "agreement")
    result = {}
    for what, source, chosen in (("fake", fake, rows), ("real", data, test)):
        probabilities = judge.probabilities(fetcher(source, chosen), len(chosen))
        result[what] = agreement(probabilities, torch.from_numpy(numbers(source, chosen)))
    overall, floor = result["fake"].overall, result["real"].overall
    per_class = {numbers.names[c]: share.value for c, share in result["fake"].per_class.items()}
    meaning = "Share of the synthetic samples in which a recogniser of real samples sees the class that was asked for."
    return [
        Score(
            "label_agreement", overall.value, overall.low, overall.high, "max", floor.value, judge.space,
            {"real": floor.total, "fake": overall.total}, per_class, meaning,
        )
    ]  # fmt: skip


# ---- the lift -------------------------------------------------------------------------------------


def _no_verdict(why: str) -> Verdict:
    return Verdict(
        "cannot tell", math.nan, math.nan, math.nan, {}, 0, math.nan, 0, f"Nobody can tell: {why}."
    )


def _why_no_classes(data: Dataset) -> str:
    needs = "a recogniser needs at least two classes"
    if not data.condition.columns:
        return f"{needs}, and these samples have no labels"
    kinds = " and ".join(sorted(set(kinds_of(data.condition).values())))
    return needs if "label" in kinds else f"{needs}, and a {kinds} makes none here"


def _lift(
    data: Dataset, fake: Dataset, seeds: int, steps: int | None, seed: int, notes: list[str]
) -> Verdict:
    numbers = Numbers.of(data)
    train, val, test = (data.rows(part, "real") for part in ("train", "val", "test"))
    if len(set(data.classes(train))) < 2:
        return _no_verdict(_why_no_classes(data))
    if len(test) < LEAST_TEST:
        return _no_verdict(f"{len(test)} real test samples are too few; {LEAST_TEST} are the least")
    steps = steps or steps_for(len(train))
    augment = data.modality.augment
    real = (fetcher(data, train), numbers(data, train))
    common: dict[str, Any] = {
        "shape": data.shape, "classes": len(numbers.names), "steps": steps, "augment": augment,
        "batch": batch_for(len(train)),
    }  # fmt: skip
    everything = np.arange(len(fake))
    y = numbers(data, test)
    with stopping("the recognisers") as stop:
        common["stop"] = stop
        workers = min(cores(), len(ARMS) * seeds)
        pool = Pool([real])
        _say_cost(pool, common, seeds, workers, seed)
        strength = _best_strength(pool, (fetcher(data, val), numbers(data, val)), common, seed, notes)
        arms = arms_of(
            real=real,
            fake=(fetcher(fake, everything), numbers(fake, everything)),
            strength=strength,
            rng=numpy_generator(seed, "arms"),
        )
        predicted = _run_arms(arms, common, seeds, workers, seed, (fetcher(data, test), y))
    answer = verdict(
        predicted,
        y,
        steps=steps,
        meanings={arm.name: arm.meaning for arm in arms},
        rng=numpy_generator(seed, "verdict"),
        groups=np.array([data.table["group"][i] for i in test]),
    )
    if answer.arms["shuffled labels"]["mean"] >= answer.arms["real + classic"]["mean"]:
        notes.append(
            "The control with shuffled labels did not lose: this recogniser hardly learns from the added samples."
        )
    return answer


def _say_cost(pool: Pool, common: dict[str, Any], seeds: int, workers: int, seed: int) -> None:
    """How long the recognisers will take, from 5 steps of one of them on one thread."""
    with threads(1):
        start = time.perf_counter()
        train_recogniser(pool, seed=seed, strength=0.5, **{**common, "steps": 5})
        seconds = (time.perf_counter() - start) / 5 * common["steps"]
    trainings = len(STRENGTHS) + len(ARMS) * seeds / workers
    log.info(
        "  lift         %d arms x %d seeds x %d steps: about %.1f minutes",
        len(ARMS),
        seeds,
        common["steps"],
        seconds * trainings / 60,
    )


def _run_arms(
    arms: list[Arm], common: dict[str, Any], seeds: int, workers: int, seed: int, test: Any
) -> dict[str, np.ndarray]:
    """arm -> (seeds, n_test) predicted classes. One thread a recogniser and a recogniser a core: small
    networks do not gain from a second thread.
    """
    jobs = [(arm, run) for run in range(seeds) for arm in arms]
    results: dict[str, list[np.ndarray]] = {arm.name: [] for arm in arms}
    with Display("lift", len(jobs)) as display, threads(1):
        run = joblib.Parallel(n_jobs=workers, backend="threading", return_as="generator")
        calls = (joblib.delayed(_one)(arm, number, seed, common, test) for arm, number in jobs)
        for done, ((arm, _), predicted) in enumerate(zip(jobs, run(calls), strict=True), 1):
            results[arm.name].append(predicted)
            display.update(done, arm.name)
    return {name: np.stack(runs) for name, runs in results.items()}


def _one(arm: Arm, run: int, seed: int, common: dict[str, Any], test: Any) -> np.ndarray:
    return run_arm(arm, seed=1_000 * seed + run, test=test, **common)


def _best_strength(pool: Pool, val: Any, common: dict[str, Any], seed: int, notes: list[str]) -> float:
    """The strength of classic augmentation that is best on the val part: the rival is tuned, too."""
    fetch, y = val
    if len(y) < LEAST_TEST:
        notes.append(f"{len(y)} val samples are too few to tune classic augmentation; its strength is 0.5.")
        return 0.5
    accuracy = {}
    for strength in STRENGTHS:
        network = train_recogniser(pool, seed=seed, strength=strength, **common)
        probabilities = network.probabilities(fetch, len(y))
        accuracy[strength] = float((probabilities.argmax(1).numpy() == y).mean())
    best = max(accuracy, key=lambda strength: accuracy[strength])
    shown = ", ".join(f"{strength:g}: {value:.1%}" for strength, value in accuracy.items())
    notes.append(f"Classic augmentation has strength {best:g}, the best on the val part ({shown}).")
    return best


# ---- what the report reads ------------------------------------------------------------------------


def _add_grids(pictures: dict[str, Any], data: Dataset, fake: Dataset) -> None:
    """Up to 8 real and 16 synthetic samples of each class, as previews."""
    numbers = Numbers.of(data)
    train, everything = data.rows("train", "real"), np.arange(len(fake))
    real_classes, fake_classes = np.asarray(data.classes(train)), np.asarray(fake.classes(everything))
    pictures["classes"] = [name for name in numbers.names if name in set(fake_classes)][:MOST_CLASSES_SHOWN]
    for number, name in enumerate(pictures["classes"]):
        real = train[np.flatnonzero(real_classes == name)[:8]]
        made = np.flatnonzero(fake_classes == name)[:16]
        pictures[f"real_{number}"] = data.modality.preview(data.raw[real])
        pictures[f"fake_{number}"] = data.modality.preview(fake.raw[made])


def _save(evaluation: Evaluation, pictures: dict[str, Any]) -> None:
    folder = evaluation.folder
    if folder is None:
        return
    buffer = io.BytesIO()
    arrays = {key: value for key, value in pictures.items() if isinstance(value, np.ndarray)}
    np.savez_compressed(buffer, **cast(Any, arrays))
    with files.new_folder(folder, kind="evaluation", overwrite=True) as staging:
        files.write_bytes(staging / "pictures.npz", buffer.getvalue())
        files.write_json(
            staging / "evaluation.json",
            {
                "scores": [asdict(item) for item in evaluation.scores],
                "verdict": asdict(evaluation.verdict),
                "notes": evaluation.notes,
                "pictures": {"classes": pictures["classes"], "copies": pictures["copies"]},
                "candidate": CANDIDATE,
            },
        )
