"""The numbers of `evaluate` that train nothing for a verdict: distances, coverage, variety, copies, memorisation.

Each stands beside its floor, what real samples get in the place of the synthetic ones, and names its feature space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .dataset import Dataset
from .device import generator, numpy_generator
from .errors import UsageError
from .judge import MOST_HELD, MOST_TRAIN, NearestReal, Numbers, fetcher, most_rows, random_features
from .metrics import MEMORISATION, METRICS
from .metrics.agreement import Agreement, agreement
from .metrics.alignment import as_grid, coarse, damped
from .metrics.features import RandomFeatures, in_batches
from .metrics.memorisation import Nearest, copy_share, nearest_by_features, threshold
from .metrics.nearness import LEAST, LEAST_HELD, Nearness
from .metrics.points import shuffled
from .metrics.score import memorisation_score, project, score
from .metrics.wording import wording_scores
from .registry import lookup, names
from .spaces import Space, spaces_of
from .types import Score

__all__ = ["MOST_SCORED", "copies", "fidelity", "like_the_test_part"]

MOST_SCORED = 2_000  # samples a side
LEAST_SCORED = 10  # samples a side, below which a distance means nothing
AXES = 64  # principal axes of a feature space that are kept, at most
SAMPLES_AN_AXIS = 10
REFERENCE = 0.3  # share of the train part that no space learns from: it stands for a perfect generator
PAIRS_SHOWN = 20
CROP = 0.9  # of each side

# ---- copies and memorisation ----------------------------------------------------------------------


def copies(
    data: Dataset,
    fake: Dataset,
    network: RandomFeatures,
    seed: int,
    notes: list[str],
    *,
    learned: Dataset | None = None,
) -> tuple[dict[str, Any], list[Score]]:
    """The synthetic samples that are nearest to a training sample, as pictures; the share of copies; memorisation.

    data: the real samples
    fake: the synthetic ones
    network: the feature space in which copies are looked for besides pixels
    seed: of everything that is drawn
    notes: gets a sentence where nobody can tell
    learned: what the generator has learned from, where that is more than the train part of `data`

    Copies are found in pixels, with flips, shifts, turns and zooms undone, and in features, where the training samples
    are looked at mirrored and cropped too. The val part sets the limits, so that floors are counted on the
    test part; the memorisation metrics compare with the test part, and the val part stands in for the fakes in
    their floors. With fewer than 50 test samples those have no value.
    """
    rows = most_rows(np.arange(len(fake)), MOST_SCORED, seed, "copies")
    known = NearestReal(data if learned is None else learned, network)
    held = {part: most_rows(data.rows(part, "real"), MOST_HELD, "nearest", part) for part in ("val", "test")}
    by_features = _by_features(data, known)
    found = {
        "pixels, aligned": (known(fake, rows), known.held_out("val"), known.held_out("test")),
        network.space: (
            by_features(fake, rows), by_features(data, held["val"]), by_features(data, held["test"]),
        ),
    }  # fmt: skip
    limits = {space: threshold(val.ratio) for space, (_, val, _) in found.items()}
    scores = [
        _copy_share(space, limits[space], made, fresh, known) for space, (made, _, fresh) in found.items()
    ]
    for part, what in (
        ("val", "which samples count as copies"),
        ("test", "whether training samples are given away"),
    ):
        if len(held[part]) < LEAST_HELD:
            notes.append(
                f"Cannot tell {what}: {len(held[part])} held-out samples in the {part} part; {LEAST_HELD} are the least."
                f"{' The copy shares take the ratio 0.5.' if part == 'val' else ''}"
            )
    shown = {space: (made, limits[space]) for space, (made, _, _) in found.items()}
    return _pictures(data, fake, rows, known, shown), scores + _memorisation(
        data, fake, known, held, seed, notes
    )


def _copy_share(space: str, limit: float, made: Nearest, fresh: Nearest, known: NearestReal) -> Score:
    found, expected = copy_share(made.ratio, limit), copy_share(fresh.ratio, limit)
    meaning = (
        f"Share of the synthetic samples that one training sample explains far better than any other (ratio of distances "
        f"below {limit:.2f}); real test samples give the floor. A high share means copies, not siblings.{known.note}"
    )
    counts = {"real": len(known.train), "fake": found.total}
    return Score(
        "copy_share",
        found.value,
        found.low,
        found.high,
        "min",
        expected.value,
        space,
        counts,
        meaning=meaning,
    )


def _by_features(data: Dataset, known: NearestReal) -> Callable[[Dataset, np.ndarray], Nearest]:
    """What `NearestReal` does, in the feature space alone."""
    views = [known.features]
    for view in _views(data.shape):
        views.append(in_batches(known.network, lambda part, view=view: view(known.x[part]), len(known.train)))  # type: ignore[misc]
    train = torch.stack(views)
    return lambda source, rows: nearest_by_features(
        train=train, fake=random_features(source, rows, known.network), groups=known.groups
    )


def _views(shape: tuple[int, ...]) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """How a training sample is looked at besides as it is: pictures and films mirrored, pictures cropped."""
    if len(shape) < 3:
        return []
    if len(shape) > 3:
        return [lambda x: x.flip(-1)]
    return [lambda x: x.flip(-1), _cropped, lambda x: _cropped(x).flip(-1)]


def _cropped(x: torch.Tensor) -> torch.Tensor:
    """The middle of each picture, at the full size again."""
    down, across = (round(size * (1 - CROP) / 2) for size in x.shape[-2:])
    middle = x[..., down : x.shape[-2] - down, across : x.shape[-1] - across]
    return F.interpolate(middle, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _pictures(
    data: Dataset,
    fake: Dataset,
    rows: np.ndarray,
    known: NearestReal,
    found: dict[str, tuple[Nearest, float]],
) -> dict[str, Any]:
    """The fakes nearest to being copies, each beside its training sample, by the space in which it is nearer to it."""
    spaces = list(found)
    # a ratio means something only against the limit of its space
    relative = torch.stack(
        [torch.nan_to_num(near.ratio.double(), nan=9.0) / limit for near, limit in found.values()]
    )
    value, space = relative.min(dim=0)
    order = value.argsort(stable=True)[:PAIRS_SHOWN].tolist()
    classes = fake.classes(rows) if fake.condition.columns else [None] * len(rows)
    shown, real = [], []
    for i in order:
        near = found[spaces[int(space[i])]][0]
        real.append(known.train[int(near.index[i])])
        shown.append(
            {
                "fake": fake.table["key"][rows[i]],
                "real": known.data.table["key"][real[-1]],
                "y": classes[i],
                "ratio": float(near.ratio[i]),
                "space": spaces[int(space[i])],
            }
        )
    if hasattr(data.modality, "texts"):
        pairs = zip(
            data.modality.texts(fake.raw[rows[order]]),
            data.modality.texts(data.raw[np.asarray(real, np.int64)]),
            strict=True,
        )
        for entry, (made, own) in zip(shown, pairs, strict=True):
            entry |= {"fake_text": made, "real_text": own}
    return {
        "copies": shown,
        "copies_fake": data.modality.preview(fake.raw[rows[order]]),
        "copies_real": data.modality.preview(known.data.raw[np.asarray(real, np.int64)]),
    }


def _memorisation(
    data: Dataset, fake: Dataset, known: NearestReal, held: dict[str, np.ndarray], seed: int, notes: list[str]
) -> list[Score]:
    """Every metric of three sets, in features and in pixels; neither space has learned from any sample."""
    test, val = held["test"], held["val"]
    chosen = like_the_test_part(data, fake, test, MOST_SCORED, seed)
    if len(chosen) < LEAST:
        notes.append(
            f"Cannot tell whether training samples are given away: {len(chosen)} of {len(fake):,} synthetic samples have "
            f"the class proportions of the test part; {LEAST} are the least."
        )
    once = np.unique(known.groups.numpy(), return_index=True)[
        1
    ]  # a sample that was there twice weighs no more
    spaces: list[tuple[str, torch.Tensor, Callable[[Dataset, np.ndarray], torch.Tensor]]] = [
        (
            known.network.space, known.features[once],
            lambda source, rows: random_features(source, rows, known.network),
        ),
        ("pixels, coarse", _coarse(known.x[once]), lambda source, rows: _coarse(source.x(rows))),
    ]  # fmt: skip
    scores = []
    held_y, fake_y = data.classes(test), fake.classes(chosen)
    for space, train, features in spaces:
        fresh = features(data, test)
        near = Nearness(train, fresh, features(fake, chosen))
        floor = Nearness(train, fresh, features(data, val))
        for name in names(MEMORISATION, "sibling.memorisation"):
            metric = lookup(MEMORISATION, "sibling.memorisation", name)()
            scores.append(
                memorisation_score(
                    metric, near=near, floor_near=floor, space=space, rng=generator(seed, "memorisation", space, name),
                    held_y=held_y, fake_y=fake_y,
                )
            )  # fmt: skip
    return scores


def _coarse(x: torch.Tensor) -> torch.Tensor:
    """Averages over 8 x 8 places, most of the brightness taken away: (N, C, *S) -> (N, D)."""
    return coarse(damped(as_grid(x, "x")))


# ---- fidelity and diversity -----------------------------------------------------------------------


def fidelity(
    data: Dataset, fake: Dataset, seed: int, notes: list[str], features: Sequence[str] = ()
) -> list[Score]:
    """Every metric of the table in each feature space, with the value that real samples get in its place.

    data: the real samples
    fake: the synthetic ones
    seed: of everything that is drawn or trained
    notes: gets a sentence about what was left out
    features: names of feature spaces; default (): the random one and the recogniser's
    Raises UsageError for a space that is not known, or that these data do not allow.

    Features are projected on at most 64 principal axes and at least 10 samples an axis, fitted on real samples that
    no space has learned from. These are also what the floor compares the test part with.
    """
    train = data.rows("train", "real")
    test = most_rows(data.rows("test", "real"), MOST_SCORED, seed, "test")
    order = numpy_generator(seed, "reference").permutation(train)
    # A network's own training samples lie apart from others in its space: the floor needs real
    # samples that it has not seen either.
    share = max(2, int(REFERENCE * len(train)))
    unseen, seen = np.sort(order[:share]), np.sort(order[share:])
    if len(test) < LEAST_SCORED or len(unseen) < LEAST_SCORED:
        notes.append(
            f"Distances were left out: {len(test)} test and {len(unseen)} reference samples are too few to mean anything."
        )
        return []
    unseen = most_rows(unseen, MOST_SCORED, seed, "unseen")
    chosen = like_the_test_part(data, fake, test, len(unseen), seed)
    sources = [(data, unseen), (data, test), (fake, chosen)]
    spaces = spaces_of(features, data, seen, seed, notes)
    scores = _agreements(spaces, data, fake, seen, test, seed) + _wording(data, fake, test, chosen, seed)
    if len(chosen) < LEAST_SCORED:
        notes.append(
            f"Distances were left out: {len(chosen)} of {len(fake):,} synthetic samples have the class proportions of the "
            f"test part, too few to mean anything; {LEAST_SCORED} are the least."
        )
        return scores
    for space, metrics in _measured(spaces, data, seen, seed, notes):
        raw = [in_batches(space, fetcher(source, rows), len(rows)) for source, rows in sources]
        axes = max(2, min(AXES, min(map(len, raw)) // SAMPLES_AN_AXIS))
        projected = project(*raw, dims=axes)
        rng = generator(seed, "score", space.space)
        for metric in metrics:
            # what a metric that is made for one space measures are its features as they are
            own = bool(getattr(metric, "only_space", ""))
            reference, real, made = raw if own else projected
            # Most distances depend on how many samples they see; rows lie class by class, so that the first few are no
            # sample of all.
            reference = shuffled(reference)[: len(made)]
            found = score(
                metric, real=real, fake=made, floor_pair=(real, reference), space=space.space, rng=rng,
                real_y=data.classes(test), fake_y=fake.classes(chosen), principal=not own,
            )  # fmt: skip
            if math.isfinite(found.value) and not math.isfinite(found.low):
                notes.append(
                    f"{found.name} was left out: {len(made)} synthetic samples are too few for its interval."
                )
                continue
            scores.append(found)
    return scores


def _measured(
    spaces: Sequence[Space], data: Dataset, seen: np.ndarray, seed: int, notes: list[str]
) -> Iterator[tuple[Space, list[Any]]]:
    """Each space with the metrics that mean something in it; a metric may bring a space of its own."""
    metrics = [lookup(METRICS, "sibling.metrics", name)() for name in names(METRICS, "sibling.metrics")]
    owners: dict[str, list[Any]] = {
        metric.only_space: [] for metric in metrics if getattr(metric, "only_space", "")
    }
    for metric in metrics:
        if getattr(metric, "only_space", ""):
            owners[metric.only_space].append(metric)
    common = [metric for metric in metrics if not getattr(metric, "only_space", "")]
    for space in spaces:
        yield space, common + owners.pop(space.name, [])
    for name, own in owners.items():
        yield spaces_of([name], data, seen, seed, notes)[0], own


def like_the_test_part(data: Dataset, fake: Dataset, test: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows of fakes with the class shares of the test part, as far as each class has as many.

    test: rows of the real test samples
    most: fakes, at most
    seed: of which they are
    """
    names_fake = np.asarray(fake.classes(np.arange(len(fake))))
    names_test = np.asarray(data.classes(test))
    rng = numpy_generator(seed, "fakes")
    most = min(most, len(fake))
    chosen: list[int] = []
    for name in np.unique(names_test):
        own = rng.permutation(np.flatnonzero(names_fake == name))
        chosen += own[: max(1, round(most * float((names_test == name).mean())))].tolist()
    return np.sort(np.asarray(chosen or list(range(most)), np.int64))


def _wording(data: Dataset, fake: Dataset, test: np.ndarray, chosen: np.ndarray, seed: int) -> list[Score]:
    """What only texts have; nothing for other modalities."""
    if not hasattr(data.modality, "texts"):
        return []
    train = most_rows(data.rows("train", "real"), MOST_TRAIN, seed, "wording")
    parts = {"train": (data, train), "test": (data, test), "fake": (fake, chosen)}
    texts = {
        name: data.modality.texts(np.asarray(source.raw[rows])) for name, (source, rows) in parts.items()
    }
    classes = {f"{name}_y": source.classes(rows) for name, (source, rows) in parts.items()}
    return wording_scores(**texts, **classes, rng=numpy_generator(seed, "wording"))


def _agreements(
    spaces: Sequence[Space], data: Dataset, fake: Dataset, seen: np.ndarray, test: np.ndarray, seed: int
) -> list[Score]:
    """The label agreement of the first space that knows classes; where none was asked for, of a recogniser."""
    judges = [space for space in spaces if hasattr(space, "probabilities")]
    if not judges:
        try:
            judges = [
                s for s in spaces_of(["recogniser"], data, seen, seed, []) if hasattr(s, "probabilities")
            ]
        except UsageError:
            return []  # one class or no y: there is nothing to agree with
    return [_agreement(judge, data, fake, test, seed) for judge in judges[:1]]


def _agreement(judge: Any, data: Dataset, fake: Dataset, test: np.ndarray, seed: int) -> Score:
    numbers = Numbers.of(data)
    rows = most_rows(np.arange(len(fake)), MOST_SCORED, seed, "agreement")
    result = {}
    for what, source, chosen in (("fake", fake, rows), ("real", data, test)):
        probabilities = judge.probabilities(fetcher(source, chosen), len(chosen))
        result[what] = agreement(probabilities, torch.from_numpy(numbers(source, chosen)))
    overall, (floor, counted) = result["fake"].overall, _floor_of_classes(result["fake"], result["real"])
    per_class = {numbers.names[c]: share.value for c, share in result["fake"].per_class.items()}
    meaning = "Share of the synthetic samples in which a recogniser of real samples sees the class that was asked for."
    return Score(
        "label_agreement", overall.value, overall.low, overall.high, "max", floor, judge.space,
        {"real": counted, "fake": overall.total}, per_class, meaning,
    )  # fmt: skip


def _floor_of_classes(fake: Agreement, real: Agreement) -> tuple[float, int]:
    """What real samples reach with the class shares of the synthetic ones, and how many real ones say so: a
    recogniser knows some classes better than others, and a tool may have made the hard ones alone."""
    both = [c for c in fake.per_class if c in real.per_class]
    made = sum(fake.per_class[c].total for c in both)
    if not made:
        return math.nan, 0
    floor = sum(real.per_class[c].value * fake.per_class[c].total for c in both) / made
    return floor, sum(real.per_class[c].total for c in both)
