"""What a recogniser reads off a sample: a class, several labels, or numbers; its loss and its measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from ..dataset import Dataset, kinds_of
from ..judge import Numbers, numbers_in

__all__ = [
    "Classes",
    "Labels",
    "Task",
    "Values",
    "calibration_error",
    "even_weights",
    "rare_among",
    "task_of",
]

RARE = 0.5  # a class with fewer samples than this share of the median class, or of half the largest, is rare
IMBALANCED = 3.0  # largest class over smallest, in the train part: above it each class counts alike
BINS = 15  # of the calibration error
SMOOTHING = 0.05
CLASS = np.dtype([("y", np.int32), ("p", np.float32)])  # the predicted class and its probability


class Task(Protocol):
    """What every task has. R runs of an arm, N samples, D draws of a bootstrap.

    metric     what the verdict compares
    goal       "max" or "min": which direction of the metric is good
    unit       of the lift
    scale      the lift in `unit` is this many times the difference of two values
    outputs    of the network
    names      of the classes, labels or numbers
    chosen_by  what `surprises` are
    """

    metric: str
    goal: Literal["min", "max"]
    unit: str
    scale: float
    outputs: int
    names: list[str]
    chosen_by: str

    def targets(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n, ...) what is to be read off these rows."""

    def loss(self, said: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """The training loss; `weight` (outputs,) of the classes, where the arm weighs them."""

    def answers(self, said: torch.Tensor) -> np.ndarray:
        """(n, ...) what the network's outputs (n, outputs) say."""

    def surprises(self, said: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        """(n,) how far each output (n, outputs) lies from the truth: what recipes are chosen by on val, less is better.

        On a hundred samples an accuracy is known to four points, and of several recipes the best is a lucky one; how
        likely an answer held each class tells more. Confidence is set right first, with one temperature for all samples:
        else whatever makes answers cautious, as mixing does, would look better or worse than it is. Squared errors of
        probabilities and not their logarithm: a few samples that no recipe reads would decide by how wrong they are.
        """

    def values(self, answers: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(D, R) the metric, turned so that more is better, of runs (R, N, ...) under weights (D, N), in their
        precision: draws are many and come in float32, a value that is shown has weights of float64."""

    def measures(self, answers: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Everything that the report shows of an arm's runs (R, N, ...), means over the runs."""


class Classes:
    """One class a sample.

    names     of all classes, in order
    balanced  each class counts alike (mean of the recalls) instead of each sample
    rare      numbers of the classes with far fewer samples than the others, the same on every split; None = each split
              is looked at by itself
    """

    def __init__(
        self, names: Sequence[str], *, balanced: bool = False, rare: Sequence[int] | None = None
    ) -> None:
        self.names = list(names)
        self.outputs = len(self.names)
        self.balanced = balanced
        self.rare = None if rare is None else list(rare)
        self.metric = "balanced accuracy" if balanced else "accuracy"
        self.goal: Literal["min", "max"] = "max"
        self.unit, self.scale = "points", 100.0
        self.chosen_by = "Brier score, once confidence is set right"

    def targets(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n,) class numbers. Raises BadInput for a class that is not known."""
        return Numbers(self.names)(data, rows)

    def loss(self, said: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Cross-entropy with a little label smoothing."""
        return F.cross_entropy(said, y, weight=weight, label_smoothing=SMOOTHING)

    def answers(self, said: torch.Tensor) -> np.ndarray:
        """(n,) pairs of the predicted class and its probability."""
        top = torch.softmax(said.float(), 1).max(1)
        out = np.empty(len(said), CLASS)
        out["y"], out["p"] = top.indices.cpu().numpy(), top.values.cpu().numpy()
        return out

    def surprises(self, said: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        """(n,) Brier score, 0 to 2; each class counts alike where it does in the metric."""
        wanted = F.one_hot(y, self.outputs)
        found = _at_its_best(lambda scale: (torch.softmax(said.double() * scale, 1) - wanted).square().sum(1))
        if self.balanced:
            found = found * even_weights(y.numpy(), self.outputs)[y.numpy()]
        return found

    def values(self, answers: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(D, R) accuracy, or the mean of the recalls of the classes that are there."""
        weights = _as_float(weights)
        right = (answers["y"] == y[None]).astype(weights.dtype)  # (R, N)
        if not self.balanced:
            shares: np.ndarray = (weights @ right.T) / weights.sum(1, keepdims=True)
            return shares
        present = np.unique(y)
        recalls = np.zeros((len(weights), len(right)), weights.dtype)
        counted = np.zeros((len(weights), 1), weights.dtype)
        for c in present:
            own = weights[:, y == c]  # (D, n_c)
            total = own.sum(1, keepdims=True)
            # A draw without any sample of a class says nothing about it and leaves it out.
            recalls += np.where(total > 0, own @ right[:, y == c].T / np.maximum(total, 1e-9), 0)
            counted += total > 0
        means: np.ndarray = recalls / np.maximum(counted, 1)
        return means

    def measures(self, answers: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Accuracy, macro-F1, worst-class recall, calibration error, recall of each class."""
        found = answers["y"]
        recalls = {c: float((found[:, y == c] == c).mean()) for c in np.unique(y).tolist()}
        f1 = []
        for c in np.unique(y).tolist():
            hit = ((found == c) & (y == c)[None]).sum(1)
            f1.append(2 * hit / np.maximum((found == c).sum(1) + (y == c).sum(), 1))
        return {
            "accuracy": float((found == y[None]).mean()),
            "balanced_accuracy": float(np.mean(list(recalls.values()))),
            "macro_f1": float(np.mean(f1)),
            "worst_class": min(recalls.values()),
            "calibration_error": float(
                np.mean([calibration_error(run["p"], run["y"] == y) for run in answers])
            ),
            "per_class": {self.names[c]: recall for c, recall in recalls.items()},
        }


class Labels:
    """Any number of labels a sample; the metric is macro-F1 at a probability of 1/2."""

    def __init__(self, names: Sequence[str], column: str | None = None) -> None:
        self.names = list(names)
        self.outputs = len(self.names)
        self.column = column
        self.metric = "macro-F1"
        self.goal: Literal["min", "max"] = "max"
        self.unit, self.scale = "points", 100.0
        self.chosen_by = "Brier score, once confidence is set right"

    def targets(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n, L) float32 of 0 and 1."""
        number = {name: i for i, name in enumerate(self.names)}
        out = np.zeros((len(rows), self.outputs), np.float32)
        for i, y in enumerate(data.y(rows)):
            own = y[self.column] if isinstance(y, dict) and self.column else y
            for name in own or ():
                if name in number:
                    out[i, number[name]] = 1.0
        return out

    def loss(self, said: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Binary cross-entropy of each label."""
        return F.binary_cross_entropy_with_logits(said, y, pos_weight=weight)

    def answers(self, said: torch.Tensor) -> np.ndarray:
        """(n, L) which labels are seen."""
        seen: np.ndarray = (said > 0).cpu().numpy()
        return seen

    def surprises(self, said: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        """(n,) Brier score of each label, the mean over the labels, 0 to 1."""
        return _at_its_best(lambda scale: (torch.sigmoid(said.double() * scale) - y).square().mean(1))

    def values(self, answers: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(D, R) the mean of F1 over the labels that occur in the draw."""
        weights = _as_float(weights)
        truth, seen = y.astype(weights.dtype), answers.astype(weights.dtype)
        positives = weights @ truth  # (D, L)
        out = np.empty((len(weights), len(seen)), weights.dtype)
        for r, run in enumerate(seen):
            hit, said = weights @ (run * truth), weights @ run  # (D, L)
            f1 = 2 * hit / np.maximum(said + positives, 1e-9)
            out[:, r] = (f1 * (positives > 0)).sum(1) / np.maximum((positives > 0).sum(1), 1)
        return out

    def measures(self, answers: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Macro-F1, the worst F1, the share of samples with all labels right, F1 of each label."""
        every = np.ones((1, len(y)))
        per_label = {
            name: float(self.values(answers[..., i : i + 1], y[:, i : i + 1], every).mean())
            for i, name in enumerate(self.names)
            if y[:, i].any()
        }
        return {
            "macro_f1": float(self.values(answers, y, every).mean()),
            "worst_class": min(per_label.values(), default=0.0),
            "all_right": float((answers == y[None].astype(bool)).all(2).mean()),
            "per_class": per_label,
        }


class Values:
    """Numbers; the metric is the mean absolute error, of several in units of their deviations.

    columns       their names
    mean, spread  (D,) of the train part: the network says standardised numbers
    """

    def __init__(self, columns: Sequence[str], mean: np.ndarray, spread: np.ndarray) -> None:
        self.names = list(columns)
        self.outputs = len(self.names)
        self.mean, self.spread = mean, np.where(spread > 0, spread, 1.0)
        self.metric = "mean absolute error"
        self.goal: Literal["min", "max"] = "min"
        self.unit = f"of {self.names[0]}" if len(self.names) == 1 else "standard deviations"
        self.scale = 1.0
        self.chosen_by = "error"

    def targets(self, data: Dataset, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32, standardised."""
        found = numbers_in(data, rows, self.names).reshape(len(rows), self.outputs)
        scaled: np.ndarray = (found - self.mean) / self.spread
        return scaled.astype(np.float32)

    def loss(self, said: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Huber loss of standardised numbers: a wrong label must not pull like a hundred."""
        return F.smooth_l1_loss(said, y)

    def answers(self, said: torch.Tensor) -> np.ndarray:
        """(n, D) standardised numbers."""
        found: np.ndarray = said.float().cpu().numpy()
        return found

    def surprises(self, said: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        """(n,) absolute errors, which are what is measured."""
        errors: np.ndarray = self._errors(said.float().numpy()[None], y.numpy())[0]
        return errors

    def _errors(self, answers: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(R, N) absolute errors, in the unit of the number where there is one number."""
        errors: np.ndarray = np.abs(answers - y[None]).mean(2)
        if self.outputs == 1:
            errors = errors * self.spread[0]
        return errors

    def values(self, answers: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(D, R) minus the mean absolute error."""
        means: np.ndarray = (weights @ self._errors(answers, y).T) / weights.sum(1, keepdims=True)
        return -means

    def measures(self, answers: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Mean absolute error, and that of each number in its own unit."""
        own = (np.abs(answers - y[None]) * self.spread).mean((0, 1))
        return {
            "mean_absolute_error": float(self._errors(answers, y).mean()),
            "per_class": {name: float(value) for name, value in zip(self.names, own, strict=True)},
        }


def _at_its_best(losses: Callable[[float], torch.Tensor]) -> np.ndarray:
    """(n,) losses at the scale of the logits, 1/20 to 20, that makes their mean smallest.

    Source: temperature scaling, Guo, Pleiss, Sun and Weinberger (2017), section 4.2; with the score of Brier (1950).
    """
    found = minimize_scalar(
        lambda log: float(losses(math.exp(log)).mean()), bounds=(-3.0, 3.0), method="bounded"
    )
    best: np.ndarray = losses(math.exp(found.x)).numpy()
    return best


def even_weights(y: np.ndarray, outputs: int) -> np.ndarray:
    """(outputs,) a weight for each class, in proportion to 1 / count, 1 on average over the samples y (n,); 0 where
    there are none of it."""
    counts = np.bincount(y, minlength=outputs)
    present = np.maximum(1, (counts > 0).sum())
    return np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)


def calibration_error(p: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, in 15 bins of equal width.

    p      (N,) the probability that was given to the answer
    right  (N,) whether it was right
    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (2017), equation 3.
    """
    number = np.minimum((p * BINS).astype(int), BINS - 1)
    total = 0.0
    for i in np.unique(number):
        own = number == i
        total += own.mean() * abs(float(right[own].mean()) - float(p[own].mean()))
    return float(total)


def task_of(data: Dataset) -> Task | None:
    """What a recogniser is asked about these data: classes where there are any, else labels, else numbers.

    None where there is nothing to read: no y, one class, or only maps.
    """
    kinds, train = kinds_of(data.condition), data.rows("train", "real")
    by_kind = {kind: [c for c, k in kinds.items() if k == kind] for kind in ("label", "labels", "value")}
    if by_kind["label"] or (kinds and not any(by_kind.values()) and "map" not in kinds.values()):
        found = data.classes(train)
        names = list(data.condition.classes)
        counts = np.array([found.count(name) for name in names])
        present = counts[counts > 0]
        if len(present) < 2:
            return None
        return Classes(
            names, balanced=bool(present.max() > IMBALANCED * present.min()), rare=rare_among(counts)
        )
    if by_kind["labels"]:
        column = by_kind["labels"][0]
        ys = data.y(train)
        lists = [y[column] if isinstance(y, dict) else y for y in ys]
        names = sorted({name for own in lists for name in own or ()})
        return Labels(names, column) if names else None
    if by_kind["value"]:
        columns = by_kind["value"]
        known = numbers_in(data, train, columns)
        if len(known) < 2 or not (known.std(0) > 0).any():
            return None
        return Values(columns, known.mean(0), known.std(0))
    return None


def rare_among(counts: np.ndarray) -> list[int]:
    """The classes with far fewer samples than the others, of counts (outputs,)."""
    present = counts[counts > 0]
    if not len(present):
        return []
    limit = RARE * max(float(np.median(present)), float(present.max()) / 2)
    return [c for c, n in enumerate(counts.tolist()) if 0 < n < limit]


def _as_float(weights: np.ndarray) -> np.ndarray:
    floats: np.ndarray = weights.astype(np.result_type(weights, np.float32), copy=False)
    return floats
