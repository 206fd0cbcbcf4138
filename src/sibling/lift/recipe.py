"""How a recogniser is trained, and how that is tuned on the val part: the rival first, and as hard as the candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..device import best, generator, numpy_generator, seed_of, seeded
from ..errors import NumericalError, UsageError
from ..metrics.features import in_batches
from ..metrics.recogniser import Augment, Pool, epochs_of, new_recogniser, optimise
from .tasks import Classes, Task, even_weights

__all__ = ["Bench", "Recipe", "Run", "Source", "choose", "mixed", "pool_of", "subset", "train"]

Fetch = Callable[[np.ndarray], torch.Tensor]
MIXES = ("mixup", "cutmix")
BALANCES = {
    "": "",
    "weights": "; rare classes weigh more in the loss",
    "sampling": "; rare classes are drawn more often",
    "origins": "; all classes are drawn alike often, and in each of them real samples as often as synthetic ones",
}
ALPHA = 0.4  # of the Beta distribution of mixup


@dataclass(frozen=True)
class Recipe:
    """How one recogniser is trained.

    steps          optimiser steps, the same in every arm
    batch          samples a step
    learning_rate  of AdamW at its peak
    weight_decay   of AdamW
    strength       of classic augmentation; None = not even the harmless flips
    mix            "", "mixup" (Zhang et al. 2018) or "cutmix" (Yun et al. 2019)
    balance        "", "weights" (rare classes weigh more in the loss), "sampling" (they are drawn more often) or "origins"
                   (all classes are drawn alike often, and within a class the real samples as often as the others)
    """

    steps: int
    batch: int
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    strength: float | None = 0.5
    mix: str = ""
    balance: str = ""

    def but(self, **changes: Any) -> Recipe:
        """The same with some arguments changed."""
        return replace(self, **changes)

    def of_one_origin(self, task: Task) -> Recipe:
        """The same for real or synthetic samples alone: of "origins" there is left that classes are drawn alike often."""
        if self.balance != "origins":
            return self
        return self.but(balance="sampling" if isinstance(task, Classes) else "")

    @property
    def in_words(self) -> str:
        """How the samples are changed, for people."""
        if self.strength is None:
            changed = f"{self.mix} and no other augmentation" if self.mix else "no augmentation"
        else:
            changed = f"classic augmentation of strength {self.strength:g}" + (
                f" and {self.mix}" if self.mix else ""
            )
        return changed + BALANCES[self.balance]


@dataclass(frozen=True)
class Source:
    """Samples to train on: `fetch(rows)` brings x of positions, y is what is to be read off them.

    kinds  (n,) names of their groups, which a part of them keeps in their shares; None = y itself, where it is a class
    """

    fetch: Fetch
    y: np.ndarray
    kinds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> Source:
        """Some of its samples, in this order; a row may come more than once."""
        kinds = None if self.kinds is None else self.kinds[rows]
        return Source(lambda positions: self.fetch(rows[positions]), self.y[rows], kinds)

    def first(self, most: int, classes: Sequence[int] | None = None) -> np.ndarray:
        """The first rows of each group, see `subset`; of some classes only, if given."""
        return subset(self.y if classes is not None or self.kinds is None else self.kinds, most, classes)


def pool_of(*sources: Source) -> Pool:
    """Several sources behind one index."""
    return Pool([(source.fetch, source.y) for source in sources])


def subset(y: np.ndarray, most: int, classes: Sequence[int] | None = None) -> np.ndarray:
    """The first rows of each class, `most` in all, each class keeping its share; of some classes only, if given.

    The first, not drawn ones: what is written later is then exactly what was tested.
    """
    if y.ndim != 1:
        return np.arange(min(most, len(y)))
    rows = np.arange(len(y)) if classes is None else np.flatnonzero(np.isin(y, list(classes)))
    if len(rows) <= most:
        return rows
    # The k-th of the n samples of a class comes at k / n of the way: a cut leaves each class its share.
    place = np.empty(len(rows))
    for c in np.unique(y[rows]):
        own = np.flatnonzero(y[rows] == c)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.sort(rows[np.argsort(place, kind="stable")[:most]])


@dataclass(frozen=True)
class Bench:
    """What all trainings of one comparison share.

    build    (shape, outputs) -> a network of the user's own; None = ours
    stop     a signal number in it ends the work between two steps
    """

    task: Task
    shape: Sequence[int]
    augment: Augment
    val: Source
    test: Source
    build: Callable[[Sequence[int], int], nn.Module] | None = None
    stop: Sequence[int] = ()


@dataclass
class Run:
    """What one trained recogniser says of the val and of the test part, and how the val part surprises it (n_val,)."""

    val: np.ndarray
    test: np.ndarray
    surprises: np.ndarray


def train(pool: Pool, recipe: Recipe, bench: Bench, *path: int | str, test: bool = True) -> Run:
    """Train one recogniser and ask it; a function of its arguments and of `path`, its random stream.

    test  ask it about the test part too: no training whose answer is chosen by may see that
    Raises NumericalError where its answers about the test part are no numbers; on the val part such a recipe only loses.
    """
    seed = seed_of(*path)
    network = _network(bench, seed)
    weight = _class_weights(pool, bench.task, recipe)
    # Dropout and the like draw from torch's global stream, which threads share: with it each training has to be alone.
    with nullcontext() if bench.build is None else seeded(seed, "training"):
        optimise(
            network, _batches(pool, recipe, bench, seed), _mixed_loss(bench.task, weight), steps=recipe.steps,
            learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, stop=bench.stop,
        )  # fmt: skip
    task, val = bench.task, _ask(network, bench.val, bench.task)
    found = task.surprises(val, torch.from_numpy(bench.val.y)) if len(val) else np.zeros(0)
    asked = _ask(network, bench.test, task) if test else val[:0]
    if not bool(torch.isfinite(asked).all()):
        raise NumericalError(
            f"a recogniser that was trained at the rate {recipe.learning_rate:g} gives answers that are no finite numbers"
        )
    return Run(task.answers(val), task.answers(asked), found)


def _network(bench: Bench, seed: int) -> nn.Module:
    """Our recogniser, or the user's. Raises UsageError where theirs does not do what is needed."""
    if bench.build is None:
        return new_recogniser(bench.shape, bench.task.outputs, seed, "recogniser")
    with seeded(seed, "recogniser"):
        network = bench.build(tuple(bench.shape), bench.task.outputs)
    told = f"--classifier: build({tuple(bench.shape)}, {bench.task.outputs})"
    if not isinstance(network, nn.Module):
        raise UsageError(f"{told} gave a {type(network).__name__}; it must give a torch.nn.Module.")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"{told} gave a network without anything to train.")
    network = network.to(best()).eval()
    with torch.no_grad():
        said = network(torch.zeros(2, *bench.shape, device=best()))
    if not isinstance(said, torch.Tensor) or tuple(said.shape) != (2, bench.task.outputs):
        shape = tuple(said.shape) if isinstance(said, torch.Tensor) else type(said).__name__
        raise UsageError(
            f"{told}: for 2 samples the network gave {shape}; it must give logits (2, {bench.task.outputs})."
        )
    return network


def _batches(
    pool: Pool, recipe: Recipe, bench: Bench, seed: int
) -> Callable[[int], tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, float]]]:
    """step -> x and (y, the y that it is mixed with, the share of the first)."""
    device = best()
    order = _order(pool, recipe, bench.task, seed)

    def batch_of(step: int) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, float]]:
        rows = order[step * recipe.batch : (step + 1) * recipe.batch]
        x, y = pool.x(rows), torch.from_numpy(pool.labels[rows])
        if recipe.strength is not None:
            x = bench.augment(x, recipe.strength, generator(seed, "augment", step))
        other, share = y, 1.0
        if recipe.mix:
            x, at, share = mixed(x, recipe.mix, numpy_generator(seed, "mix", step))
            other = y[at]
        return x, (y.to(device), other.to(device), share)

    return batch_of


def mixed(x: torch.Tensor, mix: str, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A batch (N, C, *S) with itself in another order: (x, that order (N,), the share that is still its own)."""
    at = torch.from_numpy(rng.permutation(len(x)))
    if mix == "mixup":
        share = float(rng.beta(ALPHA, ALPHA))
        return share * x + (1 - share) * x[at], at, share
    # CutMix: a box with a uniform share of the sample comes from the other one, in half of the batches.
    if rng.random() < 0.5:
        return x, at, 1.0
    edge = (1 - float(rng.random())) ** (1 / (x.ndim - 2))
    box: list[slice] = []
    for size in x.shape[2:]:
        half, centre = edge * size / 2, float(rng.random()) * size
        box.append(slice(max(0, round(centre - half)), min(size, round(centre + half))))
    where = (slice(None), slice(None), *box)
    out = x.clone()
    out[where] = x[at][where]
    cut = float(np.prod([part.stop - part.start for part in box])) / float(np.prod(x.shape[2:]))
    return out, at, 1 - cut


def _order(pool: Pool, recipe: Recipe, task: Task, seed: int) -> np.ndarray:
    """Which samples come when: in epochs, or drawn so that all classes, and in them all origins, come alike often."""
    total = recipe.steps * recipe.batch
    if recipe.balance not in ("sampling", "origins"):
        return epochs_of(len(pool), total, seed, "pool")
    kinds = pool.labels if isinstance(task, Classes) else np.zeros(len(pool), np.int64)
    p = 1 / np.bincount(kinds)[kinds]
    if recipe.balance == "origins":
        cells = kinds * (pool.origins.max() + 1) + pool.origins
        # A class of one origin still comes as often as the others.
        origins = np.array([len(np.unique(pool.origins[kinds == kind])) for kind in range(kinds.max() + 1)])
        p = 1 / (np.bincount(cells)[cells] * origins[kinds])
    return numpy_generator(seed, "pool").choice(len(pool), total, p=p / p.sum())


def _class_weights(pool: Pool, task: Task, recipe: Recipe) -> torch.Tensor | None:
    """(outputs,) weights of the classes in the loss, where the recipe weighs them."""
    if recipe.balance != "weights":
        return None
    return torch.from_numpy(even_weights(pool.labels, task.outputs).astype(np.float32)).to(best())


def _mixed_loss(task: Task, weight: torch.Tensor | None) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    def loss(said: torch.Tensor, wanted: tuple[torch.Tensor, torch.Tensor, float]) -> torch.Tensor:
        y, other, share = wanted
        own = task.loss(said, y, weight)
        return own if share == 1.0 else share * own + (1 - share) * task.loss(said, other, weight)

    return loss


def _ask(network: nn.Module, source: Source, task: Task) -> torch.Tensor:
    """(n, outputs) what a network says of a source."""
    if not len(source):
        return torch.zeros(0, task.outputs)
    device, rows = best(), np.arange(len(source))
    return in_batches(lambda x: network(x.to(device)).cpu(), lambda part: source.fetch(rows[part]), len(rows))


def choose(surprises: Sequence[np.ndarray], usual: int | None = None) -> int:
    """The number of the best of several trainings, by how little the val part surprises each.

    surprises  (n,) each, of the same samples in the same order
    usual      the one that is taken unless another is better by more than a standard error of the difference, sample
               by sample: the best of several is often a lucky one
    """
    # A training that went bad is surprised by everything; NaN would be taken for the least of all.
    surprises = [np.nan_to_num(own, nan=np.inf, posinf=np.inf) for own in surprises]
    means = [own.mean() for own in surprises]
    best_one = int(np.argmin(means))
    if usual is None or usual == best_one or not np.isfinite(means[usual]):
        return best_one
    gain = surprises[usual] - surprises[best_one]
    return usual if gain.mean() <= gain.std(ddof=1) / np.sqrt(len(gain)) else best_one
