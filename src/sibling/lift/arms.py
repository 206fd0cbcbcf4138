"""The arms of the comparison: what each recogniser is trained on, and how. All get equally many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..metrics.recogniser import Pool
from .recipe import Recipe, Source, pool_of
from .tasks import Classes, Task, rare_among

__all__ = [
    "CANDIDATE",
    "CLASSIC",
    "CONTROL",
    "PLACEBO",
    "PSEUDO",
    "Arm",
    "arms_of",
    "is_imbalanced",
    "like",
    "names_of",
    "rare_classes",
    "shuffled",
]

Role = Literal["rival", "candidate", "control", "reference"]
CANDIDATE = "real + synthetic"
CONTROL = "shuffled labels"
PLACEBO = "real + duplicates"
PSEUDO = "real + pseudo-labelled"
WEIGHTS, SAMPLING = "real + class weights", "real + balanced sampling"
CLASSIC, MIXED = "real + classic", "real + classic + mix"
ONLY = "synthetic only"


@dataclass(frozen=True)
class Arm:
    """One way to train the recogniser.

    pool     its samples
    recipe   how it is trained
    role     "rival": the candidate has to beat it; "candidate"; "control": must lose; "reference": only shown
    meaning  in plain words
    """

    name: str
    pool: Pool
    recipe: Recipe
    role: Role
    meaning: str


def arms_of(
    *,
    real: Source,
    fake: Source,
    chosen: np.ndarray,
    recipe: Recipe,
    own: Recipe,
    mixing: Recipe | None,
    task: Task,
    imbalanced: bool,
    rng: np.random.Generator,
    pseudo: Source | None = None,
) -> list[Arm]:
    """All arms.

    real, fake  the real train part, and all synthetic samples
    chosen      rows of `fake` that the candidate takes, chosen on the val part
    recipe      tuned for the real samples on the val part
    own         tuned for the candidate there: its strength and whether it mixes may differ; its placebo and its control
                have the same
    mixing      the recipe with mixup or CutMix, whichever is better there; None leaves that arm out
    imbalanced  class weights and balanced sampling are rivals too
    pseudo      the pseudo-labelled samples that the generator has learned from: what they do by themselves is a rival;
                None leaves that arm out
    """
    kept = fake.take(chosen)
    placebo = real.take(like(kept, real, rng))
    wrong = Source(kept.fetch, shuffled(kept.y, real.y, rng))
    both, plain = pool_of(real, kept), pool_of(real)
    share, alone = f"{len(kept):,} synthetic samples", own.of_one_origin(task)
    arms = [
        Arm(
            "real", plain, recipe.but(strength=None), "rival", "the real train part as it is, no augmentation"
        ),
        Arm(CLASSIC, plain, recipe, "rival", recipe.in_words),
    ]
    if mixing is not None:
        arms.append(Arm(MIXED, plain, mixing, "rival", mixing.in_words))
    if imbalanced:
        arms += [
            Arm(WEIGHTS, plain, recipe.but(balance="weights"), "rival",
                "classic augmentation; rare classes weigh more in the loss"),
            Arm(SAMPLING, plain, recipe.but(balance="sampling"), "rival",
                "classic augmentation; rare classes are drawn more often"),
        ]  # fmt: skip
    if pseudo is not None:
        arms.append(Arm(PSEUDO, pool_of(real, pseudo), recipe, "rival",
                        f"classic augmentation and {len(pseudo):,} unlabelled samples with the labels that the generator "
                        "learned from"))  # fmt: skip
    return [
        *arms,
        Arm(PLACEBO, pool_of(real, placebo), own, "rival",
            f"placebo: {len(kept):,} repeated real samples in place of the synthetic ones"),
        Arm(CANDIDATE, both, own, "candidate", f"{share}; {own.in_words}"),
        Arm(CONTROL, pool_of(real, wrong), own, "control",
            "must lose: the same synthetic samples with their labels shuffled"),
        Arm(ONLY, pool_of(fake), alone, "reference", f"no real sample at all, {alone.in_words}"),
    ]  # fmt: skip


def names_of(*, imbalanced: bool, pseudo: bool) -> list[str]:
    """The names of all arms, as `arms_of` will have them, for who wants to know before the work."""
    rare = [WEIGHTS, SAMPLING] if imbalanced else []
    return [
        "real",
        CLASSIC,
        MIXED,
        *rare,
        *[PSEUDO] * pseudo,
        PLACEBO,
        CANDIDATE,
        CONTROL,
        ONLY,
    ]


def like(fake: Source, real: Source, rng: np.random.Generator) -> np.ndarray:
    """(M,) a row of `real` of the same class for each of `fake`: the placebo must balance the classes as the fakes do.

    Several labels or numbers count by their groups; without any, or for one that no real sample has, it is any row.
    """
    rows = rng.integers(0, len(real), len(fake))
    known, asked = (real.y, fake.y) if fake.y.ndim == 1 else (real.kinds, fake.kinds)
    if known is not None and asked is not None:
        for group in np.unique(asked):
            own, wanted = np.flatnonzero(known == group), np.flatnonzero(asked == group)
            if len(own):
                rows[wanted] = rng.choice(own, len(wanted))
    return rows


def shuffled(y: np.ndarray, y_real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same targets, each with another sample; where all are the same, those of real samples that differ.

    y, y_real  (M, ...), (N, ...) targets
    Synthetic samples of one rare class alone, shuffled among themselves, would stay rightly labelled: no control.
    """
    if len(y) and bool((y == y[0]).all()):
        others: np.ndarray = y_real[(y_real != y[0]).reshape(len(y_real), -1).any(1)]
        if len(others):
            return others.take(rng.integers(0, len(others), len(y)), 0)
    return y.take(rng.permutation(len(y)), 0)


def is_imbalanced(y: np.ndarray, task: Task) -> bool:
    """Whether class weights and balanced sampling are rivals too: where classes count alike in the metric, as the
    candidate may draw them alike often, and where some are rare.

    y  (n, ...) targets of the real train part
    """
    return isinstance(task, Classes) and (task.balanced or bool(rare_classes(y, task)))


def rare_classes(y: np.ndarray, task: Task) -> list[int]:
    """The classes with far fewer samples than the others; empty where there are none, or no classes."""
    if not isinstance(task, Classes):
        return []
    return rare_among(np.bincount(y, minlength=task.outputs)) if task.rare is None else task.rare
