"""One split: tune the recipe on val, then train every arm with several seeds and ask it about the test part."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..device import cores, numpy_generator, threads
from ..metrics.recogniser import Pool
from ..progress import Display
from .arms import PLACEBO, Arm, arms_of, is_imbalanced, rare_classes
from .effort import Effort
from .recipe import BALANCES, MIXES, Bench, Recipe, Run, Source, choose, pool_of, train
from .tasks import Classes, Values, even_weights

__all__ = ["Trial", "cost", "in_parallel", "job", "trial"]

log = logging.getLogger("sibling")

LEAST_VAL = 20  # fewer cannot choose between recipes
RARE_RATIOS = (10, 1)  # synthetic samples of rare classes for each real one of those, the usual number first
HOPELESS = 3.5  # standard errors on the val part: a rival that far behind another is not repeated


@dataclass
class Trial:
    """What came out on one split.

    answers  arm -> (S, n_test, ...) what its S recognisers say of the test part
    y        (n_test, ...) what is true
    groups   (n_test,) duplicates share a number
    arms     in order
    recipe   tuned on the val part
    chosen   rows of the synthetic samples that the candidate took
    share    test samples a training sample: what neighbouring splits have in common
    stopped  rivals that were not repeated, because they could not win
    pseudo   how many pseudo-labelled samples were a rival
    keys     (n_test,) of the test samples: several splits may test one sample more than once
    made     (M,) the group of each synthetic sample
    """

    answers: dict[str, np.ndarray]
    y: np.ndarray
    groups: np.ndarray
    arms: list[Arm]
    recipe: Recipe
    chosen: np.ndarray
    share: float
    tuning: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    pseudo: int = 0
    keys: Sequence[str] = ()
    made: Sequence[str] = ()


def trial(
    *,
    real: Source,
    fake: Source,
    groups: np.ndarray,
    bench: Bench,
    recipe: Recipe,
    effort: Effort,
    seed: int,
    pseudo: Source | None = None,
    keys: Sequence[str] = (),
    made: Sequence[str] = (),
) -> Trial:
    """Tune, then train all arms; a function of its arguments.

    real, fake  the real train part, and the synthetic samples
    groups      (n_test,) duplicates share a number
    recipe      to start from: its steps stay
    pseudo      pseudo-labelled samples, which are a rival by themselves
    keys, made  of the test samples, and the groups of the synthetic ones
    """
    with threads(1):  # a small network does not gain from a second thread; a second network does
        rare = rare_classes(real.y, bench.task)
        recipe, mixing, tuning = _tuned(real, bench, recipe, effort, seed)
        chosen, own = _candidate(real, fake, bench, recipe, mixing.mix, effort, seed, rare, tuning)
        arms = arms_of(
            real=real, fake=fake, chosen=chosen, recipe=recipe, own=own, mixing=mixing, task=bench.task,
            imbalanced=is_imbalanced(real.y, bench.task), rng=numpy_generator(seed, "arms"),
            pseudo=pseudo,
        )  # fmt: skip
        runs, stopped = _repeated(arms, bench, effort, seed)
    return Trial(
        answers={name: np.stack([run.test for run in own]) for name, own in runs.items()},
        y=bench.test.y, groups=groups, arms=arms, recipe=recipe, chosen=chosen,
        share=len(bench.test) / max(1, len(real)), tuning=tuning, stopped=stopped,
        pseudo=0 if pseudo is None else len(pseudo), keys=keys, made=made,
    )  # fmt: skip


def in_parallel(name: str, jobs: Sequence[Callable[[], Run]]) -> list[Run]:
    """Run trainings on all cores, one thread each; the results in order."""
    found: list[Run] = []
    # The pool waits for its threads whatever happens: one that still trains while the interpreter leaves aborts it.
    with Display(name, len(jobs)) as display, ThreadPoolExecutor(min(cores(), len(jobs))) as pool:
        waiting = [pool.submit(job) for job in jobs]
        try:
            for each in waiting:
                found.append(each.result())
                display.update(len(found))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return found


def job(pool: Pool, recipe: Recipe, bench: Bench, *path: int | str, test: bool = False) -> Callable[[], Run]:
    return lambda: train(pool, recipe, bench, *path, test=test)


def _best(
    name: str,
    options: Sequence[tuple[str, Pool, Recipe]],
    bench: Bench,
    seed: int,
    usual: int | None = None,
) -> tuple[int, str]:
    """Which of several (label, pool, recipe) is best on the val part, and a sentence with all of them.

    usual  the one that stays unless another is clearly better
    """
    if len(options) == 1:
        return 0, f"{name}: {options[0][0]}"
    runs = in_parallel(
        name, [job(pool, recipe, bench, seed, "tune", name, label) for label, pool, recipe in options]
    )
    y, every = bench.val.y, np.ones((1, len(bench.val)))
    number = choose([run.surprises for run in runs], usual)
    shown = ", ".join(
        f"{label} {run.surprises.mean():.3g} ({abs(float(bench.task.values(run.val[None], y, every)[0, 0])):.4g})"
        for (label, _, _), run in zip(options, runs, strict=True)
    )
    how = "the usual one, and none was clearly better" if number == usual else "the best"
    return number, (
        f"{name}: {options[number][0]}, on the val part {how} of {shown}: {bench.task.chosen_by} "
        f"({bench.task.metric})"
    )


def _tuned(
    real: Source, bench: Bench, recipe: Recipe, effort: Effort, seed: int
) -> tuple[Recipe, Recipe, list[str]]:
    """The recipe of the real samples, and that with the better of mixup and CutMix, which may draw classes alike often
    where the candidate may; each step says what it chose from."""
    pool, notes = pool_of(real), []
    turns = not isinstance(bench.task, Values)  # a turn or a shift may be the very number
    recipe = recipe.but(strength=0.5 if turns else 0.0)
    if len(bench.val) < LEAST_VAL:
        notes.append(f"{len(bench.val)} val samples are too few to tune anything: the usual recipe is used.")
        return recipe, recipe.but(mix="mixup"), notes
    rates = effort.own_rates if bench.build is not None else (recipe.learning_rate,)
    batches = sorted({max(8, min(len(real), round(recipe.batch * factor))) for factor in effort.batches})
    grid = [
        recipe.but(learning_rate=rate, weight_decay=decay, batch=batch)
        for rate in rates for decay in effort.decays for batch in batches
    ]  # fmt: skip
    options = [
        (f"rate {r.learning_rate:g}, weight decay {r.weight_decay:g}, batch {r.batch}", pool, r) for r in grid
    ]
    usual = grid.index(recipe) if recipe in grid else None
    number, note = _best("rate, weight decay and batch", options, bench, seed, usual)
    recipe = grid[number]
    notes.append(note)
    tried = _strengths(bench, effort)
    number, note = _best(
        "strength of classic augmentation",
        [(f"{s:g}", pool, recipe.but(strength=s)) for s in tried],
        bench,
        seed,
    )
    recipe = recipe.but(strength=tried[number])
    notes.append(note)
    balances = ("", "sampling") if is_imbalanced(real.y, bench.task) else ("",)
    mixings = [recipe.but(mix=mix, balance=balance) for balance in balances for mix in MIXES[: effort.mixes]]
    number, note = _best("mix", [(f"{r.mix}{BALANCES[r.balance]}", pool, r) for r in mixings], bench, seed)
    notes.append(note)
    return recipe, mixings[number], notes


def _candidate(
    real: Source, fake: Source, bench: Bench, recipe: Recipe, mix: str, effort: Effort, seed: int, rare: list[int],
    notes: list[str],
) -> tuple[np.ndarray, Recipe]:  # fmt: skip
    """Rows of the synthetic samples that the candidate takes, and how it is trained. It is tuned as the real samples
    are, on the same part: augmented as much, or not at all, its classes and origins drawn as they come or alike often,
    with all, fewer or those of rare classes alone, mixed or not. A candidate that must keep the rival's recipe would
    compare recipes: samples enough need no augmentation."""
    if len(bench.val) < LEAST_VAL:
        return np.arange(len(fake)), recipe

    def best(what: str, options: Sequence[tuple[str, Pool, Recipe]], usual: int | None) -> int:
        number, note = _best(f"candidate's {what}", options, bench, seed, usual)
        notes.append(note)
        return number

    # Rare classes: some synthetic samples of each, and weights for what they still lack. Else all, as they come.
    amounts = _amounts(real, fake, effort, rare)
    balances = ("weights", "origins", "") if rare else ("", "origins")
    start, pool = recipe.but(balance=balances[0]), pool_of(real, fake.take(amounts[0][1]))
    strengths = [start.but(strength=s) for s in (None, *_strengths(bench, effort))]
    own = strengths[best("augmentation", [(r.in_words, pool, r) for r in strengths], None)]
    grid = [(name, rows, own.but(balance=balance)) for name, rows in amounts for balance in balances]
    pools = [(f"{name}{BALANCES[r.balance]}", pool_of(real, fake.take(rows)), r) for name, rows, r in grid]
    number = best("amount and balance", pools, 0)
    pool, (_, rows, own) = pools[number][1], grid[number]
    mixes = [own, own.but(mix=mix)]
    own = mixes[best("mix", [("as it is", pool, own), (f"{mix} too", pool, mixes[1])], 0)]
    return rows, own


def _amounts(real: Source, fake: Source, effort: Effort, rare: Sequence[int]) -> list[tuple[str, np.ndarray]]:
    """(in words, rows of the synthetic samples), the usual ones first: all of them, and parts; with rare classes some of
    those alone, then all."""
    if rare:
        have = int(np.isin(real.y, rare).sum())
        few = [fake.first(factor * have, rare) for factor in RARE_RATIOS]
        alone = {
            f"the {len(rows):,} synthetic samples of rare classes": rows
            for rows in few
            if 0 < len(rows) < len(fake)
        }
        return [*alone.items(), (f"{len(fake):,} synthetic samples", np.arange(len(fake)))]
    sizes = {len(fake)} | {min(len(fake), max(1, round(ratio * len(real)))) for ratio in effort.ratios}
    return [(f"{size:,} synthetic samples", fake.first(size)) for size in sorted(sizes, reverse=True)]


def _strengths(bench: Bench, effort: Effort) -> list[float]:
    """The strengths of classic augmentation that are tried; 0 too where a turn may be the very number."""
    strengths = (0.0, *effort.strengths) if isinstance(bench.task, Values) else effort.strengths
    return list(dict.fromkeys(strengths))


def _repeated(
    arms: list[Arm], bench: Bench, effort: Effort, seed: int
) -> tuple[dict[str, list[Run]], list[str]]:
    """arm -> its runs. After the first round, rivals that are hopeless on val are not repeated."""
    jobs = [job(arm.pool, arm.recipe, bench, seed, "arm", arm.name, 0, test=True) for arm in arms]
    runs = {arm.name: [run] for arm, run in zip(arms, in_parallel("arms", jobs), strict=True)}
    stopped = _hopeless(arms, runs, bench)
    todo = [
        (arm, number)
        for number in range(1, effort.seeds)
        for arm in arms
        if arm.name not in stopped and (arm.role in ("rival", "candidate") or number < effort.control_seeds)
    ]
    jobs = [job(arm.pool, arm.recipe, bench, seed, "arm", arm.name, n, test=True) for arm, n in todo]
    if jobs:
        for (arm, _), run in zip(todo, in_parallel("arms again", jobs), strict=True):
            runs[arm.name].append(run)
    return runs, stopped


def _hopeless(arms: list[Arm], runs: dict[str, list[Run]], bench: Bench) -> list[str]:
    """Rivals that another rival beats on val by far: to leave them out can only cost a fluke."""
    n = len(bench.val)
    rivals = [arm.name for arm in arms if arm.role == "rival"]
    if n < LEAST_VAL or not isinstance(bench.task, Classes) or len(rivals) < 2:
        return []
    # Each sample counts as it does in the metric: by plain accuracy whatever serves rare classes would look hopeless.
    y = bench.val.y
    weight = even_weights(y, bench.task.outputs)[y] if bench.task.balanced else np.ones(n)
    right = {name: weight * (runs[name][0].val["y"] == y) for name in rivals}
    best = max(rivals, key=lambda name: float(right[name].mean()))
    out = []
    for name in (name for name in rivals if name != PLACEBO):  # without it nobody can tell what harms
        behind = right[best] - right[name]
        if behind.mean() > HOPELESS * max(float(behind.std()), 0.1) / np.sqrt(n) + 0.02:
            out.append(name)
    return out


def cost(
    real: Source,
    bench: Bench,
    recipe: Recipe,
    effort: Effort,
    seed: int,
    pseudo: bool = False,
) -> tuple[int, float]:
    """How many trainings a trial needs, and minutes, from 5 steps of one of them on one thread."""
    with threads(1):
        start = time.perf_counter()
        few = Bench(
            bench.task, bench.shape, bench.augment, bench.val.take(np.arange(0)), bench.test, bench.build
        )
        train(pool_of(real), recipe.but(steps=6), few, seed, "cost", test=False)
        seconds = (time.perf_counter() - start) / 6 * recipe.steps
    effort = effort.but(strengths=tuple(_strengths(bench, effort)))
    trainings = effort.trainings(
        is_imbalanced(real.y, bench.task), own=bench.build is not None, pseudo=pseudo
    )
    at_once = min(cores(), trainings) if bench.build is None else 1  # see `train`
    return trainings, trainings * seconds / at_once / 60
