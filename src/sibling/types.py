"""The types that cross a stage border, and the Protocols that a plug-in keeps.

Legend for the whole package: N samples, C channels, S spatial axes (H, W or T or T, H, W),
K condition width, M map channels, F features, Z latent width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = [
    "Batch",
    "Cond",
    "Condition",
    "Evaluation",
    "Format",
    "Metric",
    "Modality",
    "Model",
    "Record",
    "Score",
    "Verdict",
]

Origin: TypeAlias = Literal["real", "synthetic", "unlabelled"]
Split: TypeAlias = Literal["train", "val", "test"]


@dataclass(slots=True)
class Record:
    """One sample as a format yields it, before decoding.

    key     unique in its data set; for files the path relative to the data set's folder
    source  a file to read, bytes, or an integer or float array (H, W) or (H, W, C); None when gone
    y       the condition, a JSON value: a class name, {"severity": 0.7}, ...; None where there is none
    origin  "real" or "synthetic"; in a run also "unlabelled": real, with a label that was guessed
    split   "train", "val" or "test" where the source says so; None leaves it to `read`
    info    everything else that is known, JSON values only: seed, index, snapshot, scores, ...
    """

    key: str
    source: Path | bytes | np.ndarray | None
    y: Any = None
    origin: Origin = "real"
    split: Split | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Cond:
    """What a model is told about y: a vector and a map, each possibly of width 0.

    vec  float32 (N, K)
    map  float32 (N, M, *S)
    """

    vec: torch.Tensor
    map: torch.Tensor

    def __len__(self) -> int:
        return self.vec.shape[0]

    def __getitem__(self, rows: Any) -> Cond:
        return Cond(self.vec[rows], self.map[rows])


@dataclass(slots=True)
class Batch:
    """What `Model.step` sees.

    x         float32 (N, C, *S) in [-1, 1]
    cond      the condition of each sample
    rng       the random stream of this step, a function of (seed, step) alone
    progress  the share of the planned steps that is done, in [0, 1]; every schedule reads it
    wrong     for each sample a condition that is wrong for it (`Condition.mismatch`); None = not asked for
    certain   (N,) weights of the pairs with a wrong condition: 0 where the label itself is a guess; None = all 1
    made      what a generator is told instead of `cond` (vicinal training, CcGAN); None = `cond`
    weight    (N,) vicinal weights of the pairs; None = all 1
    held      a batch of held-out samples, now and then, for models that gauge overfitting; else None
    number    the number of the step, from 0
    """

    x: torch.Tensor
    cond: Cond
    rng: torch.Generator
    progress: float
    wrong: Cond | None = None
    made: Cond | None = None
    weight: torch.Tensor | None = None
    held: Batch | None = None
    number: int = 0
    certain: torch.Tensor | None = None


@dataclass(slots=True)
class Score:
    """One metric on one pair of sample sets, with what is needed to judge it.

    value      the metric between real and fake
    low, high  95 % interval (bootstrap over samples); nan where it cannot be computed
    goal       "min" or "max": which direction is good
    floor      the same metric between two sets of real samples of the same sizes: what a perfect
               generator would reach; nan where there are too few real samples
    space      the feature space, with the hash of its network
    counts     {"real": N, "fake": M}
    per_class  class name -> value
    """

    name: str
    value: float
    low: float
    high: float
    goal: Literal["min", "max"]
    floor: float
    space: str
    counts: dict[str, int]
    per_class: dict[str, float] = field(default_factory=dict)
    meaning: str = ""


@dataclass(slots=True)
class Verdict:
    """Does the larger set help a recogniser, on real test samples that nothing has seen?

    answer     "helps", "no evidence" or "harms"
    lift       the arm with synthetic samples against the best arm without, in `unit`; positive is better
    low, high  95 % interval of the lift
    arms       arm name -> {"mean", "runs" (a value a run), "role", "meaning", "per_class", further measures}
    seeds      how many recognisers each arm was trained with, at least
    power      the smallest lift that was expected to be seen, before the work; of labels and numbers half the interval
    steps      optimiser steps, the same for each arm
    sentence   the answer in plain words
    metric     what was compared: "accuracy", "balanced accuracy", "macro-F1", "mean absolute error"
    unit       of the lift: "points", or that of the number
    goal       "max" or "min": which direction of the metric is good
    rival      the best arm without synthetic samples
    per_class  class -> {"lift", "low", "high"} of its recall over the best rival
    protocol   how this was found: arms, seeds, splits, sizes, tuning, minutes
    advice     what the verdict supports: {"write": "all", "some" or "nothing", "amount" and "of" (group -> samples),
               "reason", "augmentation" (the tuned recipe)}
    decided    False where nobody can tell, and the sentence says why
    worth      {"real_samples", "low", "high"}: about so many more real samples would give the same; {} = unknown
    """

    answer: Literal["helps", "no evidence", "harms"]
    lift: float
    low: float
    high: float
    arms: dict[str, dict[str, Any]]
    seeds: int
    power: float
    steps: int
    sentence: str
    metric: str = "accuracy"
    unit: str = "points"
    goal: Literal["min", "max"] = "max"
    rival: str = ""
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    advice: dict[str, Any] = field(default_factory=dict)
    decided: bool = True
    worth: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Evaluation:
    """What `evaluate` returns: scores with floors, and the verdict.

    scores   list of Score
    verdict  a Verdict
    notes    plain sentences about what could not be measured and why
    folder   where it was written; None when it was not
    """

    scores: list[Score]
    verdict: Verdict
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None

    def score(self, name: str, space: str | None = None) -> Score:
        """The first score of this name (in this space). Raises KeyError."""
        for score in self.scores:
            if score.name == name and (space is None or score.space.startswith(space)):
                return score
        raise KeyError(name)


@runtime_checkable
class Format(Protocol):
    """How samples lie on disk. A format never sees tensors and never decodes.

    A module with `matches`, `read` and `write`; see `formats/__init__.py`. What a format may have besides:
    columns   column -> kind, as `read` found it; set before `write`
    classes   column -> all names, set before `write`, so that no format needs to look at all records first
    chooses   it is made with (label_column, condition, known) and looks for those columns itself
    as_files  it writes sources that are bytes or files; else arrays
    notes, found_in  what `read` has to say, and where y was found
    """

    def matches(self, path: Path) -> bool:
        """Whether this format can read what lies at `path`."""

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield the records at `path`; `suffixes` are those that the modality decodes."""

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write records whose source is bytes or a file; returns one row of metadata for each."""


@runtime_checkable
class Modality(Protocol):
    """What one sample is. The only place that knows bytes and value ranges.

    raw is an unsigned integer array (C, *S) as it lies in the store; x is float32 in [-1, 1].
    """

    name: str
    suffixes: Sequence[str]
    shape: tuple[int, ...]

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes or an array -> raw (C, *S). Raises BadSample."""

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (C, *S) -> the bytes of one file; lossless."""

    def look(self, source: Any) -> dict[str, Any]:
        """Size and mode from the header alone, before anything is decoded. Raises BadSample."""

    def choose(
        self, looks: Sequence[dict[str, Any]], *, size: int | None, most: int
    ) -> tuple[Modality, list[dict[str, str]]]:
        """The working shape from what all headers say, with the reason of each choice; a class method."""

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Modality, list[dict[str, str]]]:
        """The final modality, after everything was decoded once."""

    def convert(self, raw: np.ndarray, target: Any) -> np.ndarray:
        """Raw of this modality -> raw of the one that `refine` gave."""

    def fingerprints(self, raw: np.ndarray) -> list[int]:
        """A 64-bit perceptual hash of each raw sample (N, C, *S)."""

    def to_x(self, raw: np.ndarray) -> torch.Tensor:
        """Raw (N, C, *S) -> float32 (N, C, *S) in [-1, 1]."""

    def to_raw(self, x: torch.Tensor) -> np.ndarray:
        """float32 (N, C, *S) -> raw. Raises NumericalError where x is not finite."""

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """Classic, label-preserving augmentation; 1 is strong, strength 0 only mirrors, where `flips` says
        that this is harmless."""

    def preview(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, *S) -> uint8 (N, H, W, 3), to be looked at."""

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs to make this modality again."""


@runtime_checkable
class Condition(Protocol):
    """What y is. A condition never sees x.

    name         its name in the table
    width        K, what `encode` gives as vec (N, K)
    channels     M, what `encode` gives as map (N, M, *S)
    classes      the names of all groups, in the order in which they are shown
    columns      the names under which the parts of y stand in a metadata file, for example ("severity",)
    unambiguous  whether a real sample with a wrong y may count as fake (matching-aware discriminator)
    """

    name: str
    width: int
    channels: int
    classes: Sequence[str]
    columns: Sequence[str]
    unambiguous: bool

    def fit(self, y: Sequence[Any]) -> Condition:
        """The condition that knows these values."""

    def learned(self, y: Sequence[Any]) -> Condition:
        """The same vocabulary (classes, groups, width, channels); what is drawn, and the seen range, from these
        values alone: those of the real train rows, some of the values that it was fitted with."""

    def encode(self, y: Sequence[Any], spatial: Sequence[int]) -> Cond:
        """Values -> Cond. Raises UsageError for an unknown value."""

    def draw(self, n: int, rng: np.random.Generator) -> list[Any]:
        """n values as the data have them."""

    def mismatch(self, y: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """For each value another one that is wrong for its sample."""

    def null(self, n: int, spatial: Sequence[int]) -> Cond:
        """The Cond that says nothing."""

    def groups(self, y: Sequence[Any]) -> list[str]:
        """The class of each value: what is counted, balanced and reported."""

    def within(self, group: str, rng: np.random.Generator) -> Any:
        """One y of this group, as the data have them. Raises UsageError for an unknown group."""

    def complete(
        self, given: Mapping[str, Any], n: int, rng: np.random.Generator, *, outside: bool = False
    ) -> list[Any]:
        """n values of y in which the given columns have the given values; the other columns are drawn as
        the data have them. Text is parsed.

        outside  allow numbers outside the seen range, and labels that were never seen together
        Raises UsageError for an unknown column or label, and for what `outside` would allow.
        """

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs to make this condition again."""


@runtime_checkable
class Model(Protocol):
    """p(x | y). `step` does one update of everything; a GAN alternates its players inside it.

    networks    name -> torch module, trained; all of them are saved for an exact resume
    generating  the names of the networks that sampling needs: these are averaged (EMA) and kept
    optimizers  name -> torch optimiser

    What a model may have besides, and `fit` then looks at:
    wants_augment   its `augment` is set to the modality's
    wants_wrong     `Batch.wrong`; wants_held: `Batch.held`; wants_vicinity: `made` and `weight`, of the kind
                    that its argument `vicinity` names; wants_balance: rare groups are repeated
    refuse          (condition): raises UsageError for one that it cannot learn, before any work
    watched         it is chosen by its samples instead of `validate`, and rolled back when they collapse: it
                    then has a network "ledger" as `ledger` with a buffer `rate`, the factor of its learning rates
    patience        validations without a better one, of 20, before a watched training ends
    decides_from    share of the training before which no weights are the best ones
    most_batch      the largest batch that is derived
    skipped         updates in a row that were skipped; saved with the rest
    codes, generate, encode, critic: what `sibling latent` works with
    """

    networks: dict[str, torch.nn.Module]
    generating: Sequence[str]
    optimizers: dict[str, torch.optim.Optimizer]

    def build(self, shape: Sequence[int], condition: Condition, rng: torch.Generator) -> None:
        """Make the networks for samples of `shape` (C, *S)."""

    def step(self, batch: Batch) -> dict[str, float]:
        """One update; returns {"loss/...": float}."""

    def validate(self, batch: Batch) -> tuple[float, int]:
        """(sum over the batch, count) of the held-out loss, lower is better."""

    def settle(
        self, batches: Callable[[], Iterator[tuple[Batch, list[str]]]], rng: np.random.Generator
    ) -> None:
        """After training: fit what sampling needs (a prior, a memory) on the train part.

        `batches()` goes once through the train part in order: (batch, the class of each sample).
        """

    def sample(self, cond: Cond, y: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """float32 (N, C, *S) in [-1, 1]; sample i depends on cond[i], y[i] and seeds[i] alone.

        y  (N,) the group of each sample, as `Condition.groups` names it
        """

    def state(self) -> dict[str, torch.Tensor]:
        """What `sample` needs, as named tensors."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a state. Raises UnsafeFile for unknown names, wrong shapes or NaN."""

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this model again."""

    @staticmethod
    def derive(n: int, classes: int, shape: Sequence[int]) -> list[tuple[str, Any, str]]:
        """Arguments that follow from n training samples of `shape`: (name, value, reason)."""


@runtime_checkable
class Metric(Protocol):
    """Is it good? Sees features (N, F) and nothing else; `real=` and `fake=` by keyword."""

    name: str
    goal: Literal["min", "max"]
    range: tuple[float, float]
    meaning: str

    def __call__(self, *, real: torch.Tensor, fake: torch.Tensor) -> float:
        """The value. nan, never a number, where it cannot be computed."""
