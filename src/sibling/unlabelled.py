"""Samples without a label: read like the labelled ones, none of which they may repeat, and given labels that are sure.

The labels come from cross-fitted recognisers of the real train part alone. How sure a label must be is read off the
samples that each recogniser has left out. Source: the pseudo-labels of Lee (2013), with a limit that held-out
samples set instead of a fixed one; nothing is trained on them in turn, so that no error feeds on itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .dataset import Dataset, Stacked, condition_of, is_store, kinds_of, open_store, save_store
from .device import numpy_generator, seed_of, threads
from .duplicates import group, rows_at_a_time
from .errors import BadInput, UsageError
from .intake import MOST_BAD
from .judge import Numbers, cross_recognisers, folds_within
from .read import read, require_real

__all__ = ["balanced_caps", "check_place", "keep_unlabelled", "read_unlabelled", "sure_limit"]

log = logging.getLogger("sibling")

RIGHT = 0.95  # of the held-out labels above the limit must be right
CLASS_RIGHT = 0.8  # of those that were given one class: there are few of each
LIKELY = 0.5  # a label is never less likely than all others together, however right the held-out ones are
LEAST_SURE = 20  # held-out samples above the limit, below which their share says nothing
LEAST_TRAIN = 20  # real training samples, below which no recogniser is asked
MOST_RATIO = 10.0  # pseudo-labelled samples a real one: the hard samples are among the real ones
UNEVEN = 2.0  # times the ratio of the middle class: what a class may have of them at most
MOST_APART = 2.0  # times as narrow, as wide or as small as any labelled sample


def check_place(place: str | Path | Dataset | None) -> None:
    """Find out before any work that nothing is there. Raises BadInput."""
    if isinstance(place, str | Path) and not Path(place).exists():
        raise BadInput(
            f"There is nothing at {place}. Give a folder of unlabelled samples (--unlabelled, unlabelled=)."
        )


def _check_classes(data: Dataset) -> None:
    """Labels can be given where y is one class a sample, and there are two. Raises UsageError."""
    kinds = kinds_of(data.condition)
    told = ", ".join(f"{column} ({kind})" for column, kind in kinds.items()) or "nothing"
    if list(kinds.values()) != ["label"] or data.condition.name != "label":
        raise UsageError(
            f"Unlabelled samples can be used where y is one class a sample; here it is {told}. Leave --unlabelled "
            "(unlabelled=) out, or choose the column with the class with --label-column (label_column=)."
        )
    if len(set(data.classes(require_real(data)))) < 2:
        raise UsageError(
            "The train part has one class only, so nobody can tell which unlabelled samples are of it. Put those that are "
            "into its folder, or leave --unlabelled (unlabelled=) out."
        )


def read_unlabelled(place: str | Path | Dataset, data: Dataset, on_bad: str) -> Dataset:
    """Samples as the modality of the labelled ones has them; what labels they have is not looked at.

    place   anything that `read` can read; or a Dataset
    data    the labelled samples
    on_bad  what to do about broken samples
    Raises UsageError, BadInput where they cannot be of the same kind, or are the labelled samples themselves.
    """
    _check_classes(data)
    if isinstance(place, Dataset):
        pool, name = place, "these samples"
    else:
        _refuse_own_scale(data)
        columns: dict[str, list[Any]] = {column: [] for column in data.table}
        bare = Dataset(data.raw[:0], columns, data.modality, condition_of({}))
        stored = is_store(Path(place)) or is_store(Path(place) / "data")
        pool, name = read(place, like=bare, condition=None if stored else "none", on_bad=on_bad), str(place)
        log.info("  unlabelled   %s samples in %s", f"{len(pool):,}", place)
        for entry in pool.found.get("bad", [])[:5]:
            log.info("    bad file   %s: %s", entry["key"], entry["reason"])
    ours, theirs = ({**each.modality.to_json(), "flips": []} for each in (data, pool))
    if ours != theirs:
        shapes = (" x ".join(map(str, each.shape)) for each in (pool, data))
        raise UsageError(
            "{}: the unlabelled samples were read as {}, the labelled ones as {}, or with other ranges. Give the folder "
            "that they were read from.".format(name, *shapes)
        )
    _refuse_shapes(pool, data, name)
    _refuse_same(pool, data)
    return pool


def _refuse_own_scale(data: Dataset) -> None:
    """16-bit colour was scaled by the range of the labelled samples, which the modality does not keep."""
    if any(choice.get("name") == "colour bits" for choice in data.found.get("choices", [])):
        raise UsageError(
            "The labelled samples are 16-bit colour, brought to 8 bits by the range that they use: unlabelled ones cannot be "
            "brought to the same scale. Save all as 8 bits first."
        )


def _refuse_shapes(pool: Dataset, data: Dataset, name: str) -> None:
    """Samples that would have to be distorted or blown up to fit. Raises BadInput above 1 % of them."""
    known = [_edges(size) for size, _ in data.found.get("sizes", [])]
    if not known:
        return
    ratios = [width / height for width, height in known]
    least = [min(edge) / MOST_APART for edge in zip(*known, (data.shape[-1], data.shape[-2]), strict=True)]
    strange: list[tuple[str, int]] = []
    for size, n in pool.found.get("sizes", []):
        width, height = _edges(size)
        narrow = width / height * MOST_APART < min(ratios) or width / height > MOST_APART * max(ratios)
        if narrow or width < least[0] or height < least[1]:
            strange.append((size, n))
    if sum(n for _, n in strange) > MOST_BAD * len(pool):
        raise BadInput(
            f"{name}: {sum(n for _, n in strange)} of {len(pool):,} unlabelled samples are of another kind than the labelled "
            f"ones: {strange[0][0]} pixels, while those have {data.found['sizes'][0][0]} and the working size is "
            f"{data.shape[-1]}x{data.shape[-2]}. Give samples of the same shape, or crop these first."
        )
    modes = [mode for mode, _ in pool.found.get("modes", [])]
    if strangers := [m for m in modes if m not in dict(data.found.get("modes", []))]:
        log.warning(
            "  unlabelled   some have another mode than the labelled samples: %s.", ", ".join(strangers)
        )


def _edges(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _refuse_same(pool: Dataset, data: Dataset) -> None:
    """The same files on both sides are a mistake about folders. Raises UsageError."""
    labelled = {source for source in data.table["source"] if source}
    both = [source for source in pool.table["source"] if source in labelled]
    if both:
        raise UsageError(
            f"{len(both)} files are among the labelled and the unlabelled samples, for example {both[0]}. Keep the unlabelled "
            "ones in a folder beside that of the labelled ones."
        )


# ---- into the run folder --------------------------------------------------------------------------


def keep_unlabelled(out: Path, data: Dataset, pool: Dataset | None, seed: int) -> Dataset | None:
    """The unlabelled samples of a run, as a store in its folder: made once, found again by a resumed run.

    out   the run folder
    data  its labelled samples
    pool  what `read_unlabelled` gave; None = none, or those that the run was started with
    seed  of the recognisers
    Each sample has origin "unlabelled". Those with a label that is sure are of split "train", the others "left out".
    Raises UsageError where the run was started with others.
    """
    folder = out / "unlabelled"
    stored = open_store(folder) if is_store(folder) else None
    if pool is None:
        return stored
    if stored is not None and stored.found["given"] == _given(pool):
        return stored
    if stored is not None or (out / "plan.json").exists():
        told = "other unlabelled samples" if stored is not None else "no unlabelled samples"
        raise UsageError(
            f"The run {out} was started with {told}. Leave them as they were, or start a new run."
        )
    rows, groups, copies = _apart(pool, data)
    if not len(rows):
        raise BadInput(
            f"Of {len(pool):,} unlabelled samples none can be used: each is synthetic or a (near-)duplicate of a labelled one."
        )
    table = {name: [column[i] for i in rows] for name, column in pool.table.items()}
    with files.new_folder(folder, kind="store") as staging:
        raw = files.new_array(staging / "raw.npy", (len(rows), *pool.shape), pool.raw.dtype)
        step = rows_at_a_time(pool.shape)
        for start in range(0, len(rows), step):
            raw[start : start + step] = pool.raw[rows[start : start + step]]
        kept = Dataset(raw, table, data.modality, data.condition)
        names, sure, facts = _labels(kept, data, seed)
        kept.table.update(
            y=names, origin=["unlabelled"] * len(rows), group=groups,
            split=["train" if name is not None else "left out" for name in names],
            info=[{"sure": round(float(p), 4)} for p in sure],
        )  # fmt: skip
        record = {
            "source": pool.found.get("source", ""), "samples": len(pool), "bad": pool.found.get("bad_count", 0),
            "copies": copies, "left": len(rows), **facts,
        }  # fmt: skip
        record["sentence"] = _sentence(record)
        kept.found = {"unlabelled": record, "given": _given(pool)}
        save_store(staging, kept)
        del raw, kept
    log.info("  unlabelled   %s", record["sentence"])
    return open_store(folder)


def _given(pool: Dataset) -> str:
    """sha256 over key and content of every sample as it was given."""
    digest = hashlib.sha256()
    for row in zip(pool.table["key"], pool.table["sha256"], strict=True):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _apart(pool: Dataset, data: Dataset) -> tuple[np.ndarray, list[int], dict[str, int]]:
    """(rows of `pool` that are no duplicate of a labelled sample of any part, their groups, duplicates by part).

    A sample that is one of several parts counts as of the test part before val before train. Synthetic ones go too.
    """
    both: Any = Stacked([data.raw, pool.raw])
    step = rows_at_a_time(pool.shape)
    digests: list[str] = []
    hashes: list[int] = []
    for start in range(0, len(both), step):
        part = both[np.arange(start, min(len(both), start + step))]
        digests += [files.hash_bytes(np.ascontiguousarray(sample).tobytes()) for sample in part]
        hashes += data.modality.fingerprints(part)
    numbers, _, _ = group(both, np.arange(len(both)), digests, hashes)
    parts_of: dict[int, set[str]] = {}
    for number, part_name in zip(numbers, data.table["split"], strict=False):
        parts_of.setdefault(number, set()).add(part_name)
    copies = {"train": 0, "val": 0, "test": 0}
    kept = []
    for i, number in enumerate(numbers[len(data) :]):
        if number in parts_of:
            copies[next((p for p in ("test", "val") if p in parts_of[number]), "train")] += 1
        elif pool.table["origin"][i] != "synthetic":
            kept.append(i)
    return np.array(kept, np.int64), [numbers[len(data) + i] for i in kept], copies


# ---- labels ---------------------------------------------------------------------------------------


def _labels(pool: Dataset, data: Dataset, seed: int) -> tuple[list[str | None], np.ndarray, dict[str, Any]]:
    """(a class or None for each sample, how sure the recognisers are (n,), what was found and decided).

    On one thread: the last bits of a training depend on how many there are, and a label must not.
    """
    train, numbers = require_real(data), Numbers.of(data)
    none: list[str | None] = [None] * len(pool)
    facts: dict[str, Any] = {"recognisers": 0, "held_out": 0, "limit": None, "sure": {}, "used": {}}
    if len(train) < LEAST_TRAIN:
        why = f"{len(train)} real training samples are too few to learn labels from"
        return none, np.zeros(len(pool)), facts | {"why": why}
    own_seed = seed_of(seed, "unlabelled")
    with threads(1):
        judges = cross_recognisers(data, folds_within(data, train, own_seed), own_seed)
        held, rows = judges.left_out()
        said = judges(pool, np.arange(len(pool)))
    own = numbers(data, rows)
    facts |= {"recognisers": len(judges.judges), "held_out": len(rows)}
    limit = sure_limit(held, own)
    if limit is None:
        why = (
            f"there is no limit above which {RIGHT:.0%} of at least {LEAST_SURE} held-out real samples are recognised, so no "
            "label is sure enough"
        )
        return none, said.max(1), facts | {"why": why}
    above, right = held.max(1) >= limit, held.argmax(1) == own
    facts |= {"limit": limit, "held_out_sure": int(above.sum()), "held_out_right": int((above & right).sum())}
    trusted = _trusted(held[above], right[above])
    guess = np.where((said.max(1) >= limit) & np.isin(said.argmax(1), trusted), said.argmax(1), -1)
    real = np.bincount(numbers(data, train), minlength=len(numbers.names))
    chosen = _chosen(guess, real, own_seed)
    names = [numbers.names[c] if c >= 0 else None for c in chosen.tolist()]
    for what, classes in (("sure", guess), ("used", chosen)):
        facts[what] = {name: n for c, name in enumerate(numbers.names) if (n := int((classes == c).sum()))}
    facts["doubted"] = [name for c, name in enumerate(numbers.names) if c not in trusted]
    if not facts["used"]:
        facts["why"] = f"none of them has a label that is at least {limit:.3f} sure"
    return names, said.max(1), facts


def _trusted(said: np.ndarray, right: np.ndarray) -> list[int]:
    """The classes that held-out samples above the limit were taken for, at least 80 % of them rightly.

    said   (n, G) probabilities of the held-out samples above the limit
    right  (n,) whether the likeliest class is the true one
    """
    told = said.argmax(1)
    return [c for c in np.unique(told).tolist() if right[told == c].mean() >= CLASS_RIGHT]


def _chosen(guess: np.ndarray, real: np.ndarray, seed: int) -> np.ndarray:
    """(n,) class numbers with those beyond the caps as -1. Drawn, not the surest: those are all alike."""
    caps = balanced_caps(np.bincount(guess[guess >= 0], minlength=len(real)), real)
    chosen = np.full(len(guess), -1)
    for c, most in enumerate(caps.tolist()):
        chosen[numpy_generator(seed, "cap", c).permutation(np.flatnonzero(guess == c))[:most]] = c
    return chosen


def sure_limit(said: np.ndarray, own: np.ndarray) -> float | None:
    """The least probability that the likeliest class must have: 95 % of the held-out samples with it are right.

    said  (n, G) probabilities of held-out samples, of recognisers that have not learned from them
    own   (n,) their true classes
    None where no limit has that, or fewer than 20 samples lie above it. At least 0.5: where every held-out sample is
    right the unsurest of them sets no limit, and unlabelled ones may come from elsewhere.
    """
    sure, right = said.max(1), said.argmax(1) == own
    order = np.argsort(-sure, kind="stable")
    count = np.arange(1, len(order) + 1)
    share = np.cumsum(right[order]) / count
    # Of equal probabilities only the last can be a limit: all of them lie above it.
    last = np.append(np.diff(sure[order]) < 0, True)[: len(order)]
    good = np.flatnonzero((count >= LEAST_SURE) & (share >= RIGHT) & last & (sure[order] >= LIKELY))
    return float(sure[order][good[-1]]) if len(good) else None


def balanced_caps(sure: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(G,) how many pseudo-labelled samples each class may have at most.

    sure, real  (G,) samples with a sure label, and real training samples

    In samples a real one of the class: twice what the middle class has, at least 1 and at most 10. A class that is
    recognised easily would otherwise crowd out the others, and sure samples the hard ones.
    """
    seen = real > 0
    middle = float(np.median(sure[seen] / real[seen])) if seen.any() else 0.0
    caps: np.ndarray = (real * min(MOST_RATIO, max(1.0, UNEVEN * middle))).astype(np.int64)
    return caps


def _sentence(record: dict[str, Any]) -> str:
    """What was done, for a person."""
    used, sure, copies = sum(record["used"].values()), sum(record["sure"].values()), record["copies"]
    parts = [f"{used:,} of {record['samples']:,} unlabelled samples were trained with"]
    if "why" in record:
        parts.append(record["why"])
    if record["limit"] is not None:
        parts.append(
            f"their labels are those of {record['recognisers']} cross-fitted recognisers of the real train part, at least "
            f"{record['limit']:.3f} sure: {record['held_out_right']} of {record['held_out_sure']} held-out real samples "
            f"above that are right ({record['held_out']} were looked at)"
        )
    if record.get("doubted"):
        parts.append(f"no held-out sample was rightly enough taken for {', '.join(record['doubted'][:10])}")
    if sure > used:
        parts.append(f"{sure - used:,} sure ones were left out to keep the classes balanced")
    if found := sum(copies.values()):
        parts.append(
            f"{found:,} (near-)duplicates of labelled samples were left out, {copies['test']:,} of them of the test part"
        )
    return "; ".join(parts) + "."
