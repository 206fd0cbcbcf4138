"""The whole comparison: on one split, or on several with a generator each; from there to a verdict and to advice."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..dataset import Dataset, kinds_of
from ..device import numpy_generator, seed_of
from ..errors import NumericalError
from ..judge import batch_for, fetcher, steps_for
from ..signals import stopping
from ..types import Verdict
from .answer import LEAST_TEST, answer, given_up, undecided
from .arms import CANDIDATE, is_imbalanced, names_of
from .curve import worth
from .effort import Effort
from .recipe import Bench, Recipe, Source
from .statistics import expected_power, samples_tested
from .tasks import Classes, Task, task_of
from .trial import Trial, cost, trial

__all__ = ["Pair", "compare", "why_no_task"]

log = logging.getLogger("sibling")

Pair = tuple[
    Dataset, Dataset
]  # real samples with their frozen split, and synthetic ones that know none of its test part
MOST_HELD_BYTES = 1 << 30


def compare(
    pairs: Iterator[Pair],
    first: Dataset,
    *,
    splits: int,
    effort: Effort,
    seed: int,
    steps: int | None = None,
    build: Callable[[Sequence[int], int], nn.Module] | None = None,
    classifier: str = "",
) -> Verdict:
    """Train the recognisers of every arm on every split and say what they show.

    pairs       one a split; made when it is asked for, which may train a generator. Pseudo-labelled samples that
                stand behind the real ones (origin "unlabelled") are a rival by themselves
    first       the real samples of the first pair, to say what will happen before it does
    splits      how many pairs there will be
    steps       optimiser steps of each recogniser; None = derived
    build       the user's own network; `classifier` is what it is called
    """
    task = task_of(first)
    plan = {"effort": effort.name, "splits": splits, "cross_validation": splits > 1, "seed": seed}
    if task is None:
        return undecided(why_no_task(first), plan)
    start = time.perf_counter()
    trials: list[Trial] = []
    last: Pair | None = None
    with stopping("the recognisers") as stop:
        for number, (data, fake) in enumerate(pairs):
            bench, real, made = _sides(data, fake, task, build, stop)
            pseudo = _pseudo(data, task, splits)
            if lacks := _lacks(bench, made, number, splits):
                return undecided(lacks, plan)
            recipe = _recipe(len(real), steps, effort)
            if number == 0:
                effort = effort.for_steps(recipe.steps)
                _say_plan(data, bench, real, recipe, effort, splits, seed, pseudo is not None)
            rows = data.rows("test", "real")
            try:
                each = trial(
                    real=real, fake=made, groups=data.duplicates(rows), bench=bench, recipe=recipe, effort=effort,
                    seed=seed_of(seed, "split", number) if number else seed, pseudo=pseudo,
                    keys=[data.table["key"][i] for i in rows], made=fake.classes(np.arange(len(fake))),
                )  # fmt: skip
            except NumericalError as error:  # of a recogniser of the user's own; the scores are worth keeping
                return undecided(str(error), plan)
            trials.append(each)
            last = data, fake
        if last is None:
            return undecided("no split could be made", plan)
        protocol = _protocol(trials, last[0], effort, seed, classifier)
        found = answer(trials, task, rng=numpy_generator(seed, "verdict"), protocol=protocol)
        if found.answer == "helps" and effort.curve and len(trials) == 1 and isinstance(task, Classes):
            found.worth = worth(trials[0], found, real, bench, seed)
    protocol["minutes"] = round((time.perf_counter() - start) / 60, 2)
    found.advice = _advice(found, trials, task, last[1])
    return found


def _lacks(bench: Bench, made: Source, number: int, splits: int) -> str:
    """What a split has too little of to compare anything; "" where it has enough."""
    if len(bench.test) < (LEAST_TEST if splits == 1 else 2):
        return f"{len(bench.test)} real test samples are too few; {LEAST_TEST} are the least"
    where = f" of split {number + 1}" if splits > 1 else ""
    return "" if len(made) else f"there is no synthetic sample{where} to train with"


def _sides(
    data: Dataset, fake: Dataset, task: Task, build: Any, stop: Sequence[int]
) -> tuple[Bench, Source, Source]:
    """What all trainings share, the real train part, and the synthetic samples."""

    train, val, test = (data.rows(part, "real") for part in ("train", "val", "test"))
    bench = Bench(
        task=task, shape=data.shape, augment=data.modality.augment, val=_source(data, val, task),
        test=_source(data, test, task), build=build, stop=stop,
    )  # fmt: skip
    return bench, _source(data, train, task), _source(fake, np.arange(len(fake)), task)


def _pseudo(data: Dataset, task: Task, splits: int) -> Source | None:
    """The pseudo-labelled samples beside the real ones; None where there are none.

    Of several splits one may have none that are sure: its arm is then that of the real samples, as the arms of all
    splits must be the same.
    """
    rows = data.rows("train", "unlabelled")
    if not len(rows) and (splits == 1 or "unlabelled" not in data.found):
        return None
    return _source(data, rows, task)


def _source(samples: Dataset, rows: np.ndarray, task: Task) -> Source:
    y, size = task.targets(samples, rows), 4 * len(rows) * int(np.prod(samples.shape))
    kinds = np.array(samples.classes(rows), str)
    if size > MOST_HELD_BYTES:
        return Source(fetcher(samples, rows), y, kinds)
    x = samples.x(rows)  # decoded once for all trainings
    return Source(lambda positions: x[positions], y, kinds)


def _recipe(n: int, steps: int | None, effort: Effort) -> Recipe:
    return Recipe(steps=steps or max(1, round(effort.steps * steps_for(n))), batch=batch_for(n))


def _say_plan(
    data: Dataset,
    bench: Bench,
    real: Source,
    recipe: Recipe,
    effort: Effort,
    splits: int,
    seed: int,
    pseudo: bool,
) -> None:
    """What can be seen at all, what will be done, and how long it will take: before it is done."""
    held = min(splits * len(bench.test), len(data.rows(origin="real")))
    log.info(
        "  power        with %d real test samples %s cannot be seen",
        held, expected_power(bench.task, bench.test.y, held),
    )  # fmt: skip
    trainings, minutes = cost(real, bench, recipe, effort, seed, pseudo)
    names = names_of(imbalanced=is_imbalanced(real.y, bench.task), pseudo=pseudo)
    log.info(
        "  arms         %s; %d seeds each, the last two %d",
        ", ".join(names), effort.seeds, min(effort.seeds, effort.control_seeds),
    )  # fmt: skip
    log.info(
        "  lift         %s: %d trainings of %d steps%s, about %.1f minutes%s",
        effort.name,
        trainings * splits,
        recipe.steps,
        f" on {splits} splits" if splits > 1 else "",
        minutes * splits,
        ", and a generator a split" if splits > 1 else "",
    )


def _protocol(
    trials: Sequence[Trial], data: Dataset, effort: Effort, seed: int, classifier: str
) -> dict[str, Any]:
    """How the verdict was found, for a statistician and for a machine."""
    first = trials[0]
    own = next(arm.recipe for arm in first.arms if arm.name == CANDIDATE)
    parts = {part: len(data.rows(part, "real")) for part in ("train", "val", "test")}
    pseudo = [each.pseudo for each in trials]
    return {
        "effort": effort.name,
        "splits": len(trials),
        "cross_validation": len(trials) > 1,
        "seeds": effort.seeds,
        "seed": seed,
        "train_samples": parts["train"],
        "val_samples": parts["val"],
        "test_samples": samples_tested(trials),
        **({"pseudo_labelled_samples": pseudo} if any(pseudo) else {}),
        "synthetic_samples": [len(each.chosen) for each in trials],
        "steps": first.recipe.steps,
        "batch": first.recipe.batch,
        "learning_rate": first.recipe.learning_rate,
        "weight_decay": first.recipe.weight_decay,
        "strength": first.recipe.strength,
        "candidate_strength": own.strength,
        "candidate_mix": own.mix,
        "candidate_balance": own.balance,
        "tuning": first.tuning,
        "stopped": sorted(given_up(trials)),
        "trainings": sum(len(own) for each in trials for own in each.answers.values()),
        "classifier": classifier or "sibling.metrics.recogniser",
        "interval": (
            "hierarchical bootstrap over "
            + ("splits, seeds" if len(trials) > 1 else "seeds")
            + " and groups of test samples, with Student's t for few repeats"
            + (" and the correction of Nadeau and Bengio for splits that share samples" if len(trials) > 1 else "")
        ),
        "helps_if": (
            "the lower end of the lift over every rival is above 0, and the candidate is better than the same samples with "
            "shuffled labels"
        ),
    }  # fmt: skip


def _advice(found: Verdict, trials: Sequence[Trial], task: Task, fake: Dataset) -> dict[str, Any]:
    """What the verdict supports: exactly the mix that was tested, or nothing but the augmentation."""
    winner = CANDIDATE if found.answer == "helps" else found.rival
    recipe = next(arm.recipe for arm in trials[0].arms if arm.name == winner)
    if (
        winner != CANDIDATE
    ):  # a placebo has the candidate's recipe, and what it stands for has no synthetic sample
        recipe = recipe.of_one_origin(task)
    augmentation = {
        "strength": recipe.strength, "batch": recipe.batch, "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay, "mix": recipe.mix, "balance": recipe.balance, "best_arm": winner,
    }  # fmt: skip
    names = fake.classes(np.arange(len(fake)))
    have = dict(Counter(names))
    if found.answer != "helps":
        return {
            "write": "nothing",
            "amount": {},
            "of": have,
            "reason": found.sentence,
            "augmentation": augmentation,
        }
    if len(trials) == 1:
        amount = dict(Counter(names[i] for i in trials[0].chosen))
    else:  # each split had synthetic samples of its own: how much of each group, in the middle
        shares = {name: _middle_share(name, trials) for name in have}
        amount = {name: max(1, round(shares[name] * n)) for name, n in have.items() if shares[name] > 0}
    whole = amount == have
    reason = (
        found.sentence
        if whole
        else f"{found.sentence} Tested, and so supported, was this part of the synthetic samples."
    )
    return {
        "write": "all" if whole else "some", "amount": amount, "of": have, "reason": reason, "augmentation": augmentation,
    }  # fmt: skip


def _middle_share(name: str, trials: Sequence[Trial]) -> float:
    """The share of the synthetic samples of a group that the candidates took, the median over the splits that had any."""
    made = [np.array(each.made, str) == name for each in trials]
    shares = [own[each.chosen].sum() / own.sum() for own, each in zip(made, trials, strict=True) if own.any()]
    return float(np.median(shares)) if shares else 0.0


def why_no_task(data: Dataset) -> str:
    """Why a recogniser has nothing to read off these samples."""
    if not data.condition.columns:
        return "a recogniser needs labels, and these samples have none"
    kinds = sorted(set(kinds_of(data.condition).values()))
    if "label" in kinds or "labels" in kinds:
        return "a recogniser needs at least two classes"
    if "value" in kinds:
        return "a recogniser needs numbers that differ, and these are all the same"
    return f"a recogniser reads classes, labels or numbers off a sample, and a {' and '.join(kinds)} is none here"
