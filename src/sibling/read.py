"""1 · A place on disk -> a Dataset, decoded once, with a frozen split. Every choice is said aloud."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import files, remote
from .asked import Found, agreed, view
from .conditions.columns import learned
from .dataset import Dataset, is_store, kinds_of, open_store, save_store
from .detect import array_modality, place_modality
from .device import numpy_generator
from .duplicates import LEAST_CORRELATION, MOST_BITS
from .errors import BadInput, ResourceError, UsageError
from .formats import FORMATS
from .intake import decode
from .modalities import MODALITIES
from .registry import lookup, names
from .split import assign, split_hash
from .tolerance import harmless_flips
from .types import Condition

__all__ = ["describe", "found_at", "modality_of", "read", "require_real"]

log = logging.getLogger("sibling")

_NEARNESS = f"at most {MOST_BITS} of 64 hash bits apart, correlation at least {LEAST_CORRELATION}"
_ASKED, _LIKE = "asked for", "that of the other data set"


def read(
    place: str | Path | Dataset,
    *,
    out: str | Path | None = None,
    modality: str | None = None,
    size: int | None = None,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    label_column: str | Sequence[str] | None = None,
    condition: str | None = None,
    on_bad: str = "auto",
    like: Dataset | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Read a place on disk: class folders, files plus metadata, a flat folder, Parquet, tar shards (WebDataset), a CSV or
    JSON lines file that names files, a table of texts, IDX, .npz, or a store.

    Args:
        place: the folder or file, also as a URL (s3://, gs://, file://, ...); a Dataset or a store is taken as it is.
        out: where to keep the decoded store; None = a temporary folder that goes with the data set.
        modality: what one sample is: "image", "audio", "video", "text", "signal"; None = found by looking at the files.
        size: the longer edge of the working size in pixels, or the length of a series in steps, of a text in symbols;
            None = the data's own, at most what two CPU cores learn in minutes.
        val: share of the samples for validation.
        test: share of the samples for the test part, which nothing that learns ever sees.
        seed: of the split.
        label_column: the columns of the metadata file that are y, one name or several ("kind,severity"), each
            possibly with what it holds ("age:value"; known: label, labels, value, map). None = found by looking.
        condition: what y is: "label", "labels", "value", "map", "joint" or "none". None = found by looking.
        on_bad: what to do about broken samples: "auto" skips up to 1 % and stops above, "skip" skips all,
            "stop" stops at the first. Each is listed with its reason.
        like: take modality and condition from this data set instead of choosing them (for synthetic sets).
        overwrite: replace a finished store at `out`.

    Raises BadInput, UnsafeFile, UsageError, ResourceError.
    """
    if isinstance(place, Dataset):
        return place
    if remote.is_url(place):
        fetched = _TemporaryFolder()
        data = read(
            remote.fetch(str(place), fetched.path), out=out, modality=modality, size=size, val=val, test=test,
            seed=seed, label_column=label_column, condition=condition, on_bad=on_bad, like=like, overwrite=overwrite,
        )  # fmt: skip
        data._keep = (fetched, data._keep)
        return data
    place = Path(remote.local_or_url(place))
    _check_arguments(place, val, test, on_bad)
    for folder in (place, place / "data"):
        if is_store(folder):
            return _opened(folder, label_column, condition)
    temporary = _TemporaryFolder() if out is None else None
    store = temporary.path / "store" if temporary else Path(out or "")
    files.refuse_overlap(store, place)
    files.refuse_used(store, overwrite=overwrite)  # before any work
    modality, why = modality_of(place, modality, like)
    _check_size(size, modality)
    found, modality, why = found_at(place, modality, why, label_column, condition, like)
    found = agreed(found, label_column, condition, like)
    with files.new_folder(store, kind="store", overwrite=overwrite) as folder:
        maps = [column for column, kind in found.kinds.items() if kind == "map"]
        data = decode(found.records, folder, modality, size, like, on_bad, found.condition, maps)
        data.found.update(format=found.format, source=place.resolve().name)
        data.found["notes"] = found.notes + data.found["notes"]
        data.found["choices"].insert(0, found.choice())
        if modality != "image":
            data.found["choices"].insert(0, {"name": "modality", "value": modality, "why": why})
        _freeze(data, val, test, seed, like)
        save_store(folder, data)
    del found, data  # a million rows twice in memory would be a gigabyte too many
    opened = open_store(store)
    opened._keep = temporary
    return opened


class _TemporaryFolder:
    """A folder that goes when nothing refers to this any more. Silently, unlike that of tempfile."""

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="sibling-"))
        except OSError as error:
            reason = error.strerror or error
            raise ResourceError(
                f"No place for temporary files: {reason}. Name one with --out (out=)."
            ) from error
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _check_arguments(place: Path, val: float, test: float, on_bad: str) -> None:
    if not place.exists():
        raise BadInput(f"There is nothing at {place}. Give a folder of samples, an .npz file or a store.")
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"val is {val} and test is {test}; both are shares, and train needs one too.")
    if on_bad not in ("auto", "skip", "stop"):
        raise UsageError(f"on_bad is {on_bad!r}; known: auto, skip, stop.")


def modality_of(place: Path, modality: str | None, like: Dataset | None) -> tuple[str, str]:
    """(the name of the modality of the samples at a place, the reason); "" where only the arrays can tell."""
    if like is not None:
        return like.modality.name, _LIKE
    if modality is not None:
        return modality, _ASKED
    return place_modality(place)


def _check_size(size: int | None, modality: str) -> None:
    """Raises UsageError."""
    kind = lookup(MODALITIES, "sibling.modalities", modality or "image")
    most, flat = getattr(kind, "largest", 1024), "height" in getattr(kind, "axes", "height x width")
    if size is not None and not 4 <= size <= most:
        edge, unit = ("longer edge must be", "pixels") if flat else ("size must be", "steps")
        raise UsageError(f"size is {size}; the {edge} 4 to {most} {unit} (--size, size=).")


def _opened(folder: Path, label_column: str | Sequence[str] | None, condition: str | None) -> Dataset:
    """A store, in which y was settled when it was made. Raises UsageError where something else is asked for."""
    data = open_store(folder)
    if condition not in (None, data.condition.name) or label_column is not None:
        asked = f"the condition {condition!r}" if label_column is None else f"the columns {label_column!r}"
        raise UsageError(
            f"{folder} is a store, in which y is {data.condition.name!r} "
            f"({', '.join(data.condition.columns) or 'nothing'}); {asked} cannot be chosen any more. "
            "Read the original data set again."
        )
    return data


def found_at(
    place: Path,
    modality: str,
    why: str,
    label_column: str | Sequence[str] | None,
    condition: str | None,
    like: Dataset | None,
) -> tuple[Found, str, str]:
    """The records that lie at a place, by the first format that takes it, not decoded; the modality and its reason.

    Raises BadInput, UnsafeFile.
    """
    suffixes = lookup(MODALITIES, "sibling.modalities", modality or "image").suffixes
    # The folder format takes any folder: it comes after those of installed third parties too.
    for name in sorted(names(FORMATS, "sibling.formats"), key=lambda name: name == "folder"):
        kind = lookup(FORMATS, "sibling.formats", name)
        known = kinds_of(like.condition) if like is not None else None
        chooses = getattr(kind, "chooses", False)
        reader = kind(label_column, condition, known) if chooses else kind()
        holds = getattr(kind, "modality", "")
        if holds and modality != holds and why in (_ASKED, _LIKE):
            continue
        if reader.matches(place):
            records = list(reader.read(place, suffixes))
            notes = list(getattr(reader, "notes", []))
            if not records:
                seen = f" {' '.join(notes)}" if notes else ""
                raise BadInput(
                    f"There are no samples in {place}: no file there ends in {', '.join(suffixes)}.{seen} "
                    "Is it the right folder?"
                )
            where = getattr(reader, "found_in", "") or place.name
            if holds:
                modality, why = holds, why if modality == holds else f"the format {name} holds nothing else"
            elif not modality:
                modality, why = array_modality(records)
            found = Found(records, name, notes, where, dict(getattr(reader, "columns", {})), chooses)
            return found, modality, why
    raise BadInput(
        f"{place} is of no known format ({', '.join(names(FORMATS, 'sibling.formats'))}). "
        "Give a folder of samples or an .npz file; unpack an archive first."
    )


def _freeze(data: Dataset, val: float, test: float, seed: int, like: Dataset | None) -> None:
    """Assign the split, hash it, and record counts, contradictions and tolerances in `found`."""
    table, found = data.table, data.found
    classes = data.classes(np.arange(len(data)))
    # Synthetic samples are never split: whatever they show, they can only be trained with.
    real = [i for i, origin in enumerate(table["origin"]) if origin == "real"]
    for i, origin in enumerate(table["origin"]):
        if origin == "synthetic":
            table["split"][i] = "train"
        elif like is not None:
            table["split"][i] = table["split"][i] or "train"
    if like is None and real:
        rng = numpy_generator(seed, "split")
        given = [table["split"][i] for i in real]
        groups = [table["group"][i] for i in real]
        found["own_split"] = any(given)
        parts, notes = assign([classes[i] for i in real], groups, given, val=val, test=test, rng=rng)
        for i, part in zip(real, parts, strict=True):
            table["split"][i] = part
        found["notes"] += notes
    found["leaks"] = _drop_leaks(data)
    if like is None and hasattr(data.modality, "fit"):  # what is scaled knows the train part only
        data.modality, choices = data.modality.fit(data.raw, data.rows("train", "real"))
        found["choices"] += choices
    if like is None:
        # Until here it knew all samples, whose classes must have a name; what is drawn is that of train alone.
        train = data.y(data.rows("train", "real"))
        data.condition = learned(data.condition, train)
        found["notes"] += _unseen_notes(set(data.condition.groups(train)), classes, data.condition)
    kinds = kinds_of(data.condition)
    named = {"label", "labels"} & {*kinds.values()}  # near-duplicates may differ a little in a number
    found["contradictions"] = _contradictions(table["key"], table["group"], classes) if named else []
    found["split"] = dict(Counter(table["split"]))
    found["split_hash"] = split_hash(table["key"], table["sha256"], table["split"])
    counts = Counter(classes)
    found["counts"] = {name: counts[name] for name in data.condition.classes}
    found["total"] = len(data)
    found["origin"] = dict(Counter(table["origin"]))
    if like is None:
        found["notes"] += _class_notes(counts, data.condition)
    if like is None and hasattr(data.modality, "flips"):
        data.modality.flips, reason = _mirroring(data, kinds)
        value = ", ".join(data.modality.flips) or "never"
        found["choices"].append({"name": "mirroring", "value": value, "why": reason})


def _mirroring(data: Dataset, kinds: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """The axes along which mirroring changes no part of y, and the reason."""
    if "map" in kinds.values():
        return (), "a map lies beside each sample and would no longer fit it"
    if len(kinds) < 2:
        return harmless_flips(data)
    flips, reasons = None, []
    for column, kind in kinds.items():
        harmless, reason = harmless_flips(view(data, column, kind))
        flips = harmless if flips is None else tuple(axis for axis in flips if axis in harmless)
        reasons.append((column, reason))
    if len({reason for _, reason in reasons}) == 1:
        return flips or (), reasons[0][1]
    return flips or (), "; ".join(f"{column}: {reason}" for column, reason in reasons)


def _contradictions(keys: list[str], groups: list[int], classes: list[str]) -> list[list[str]]:
    """The first hundred groups of duplicates with more than one label, as keys with their labels."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(groups):
        if number >= 0:
            members[number].append(i)
    torn = [rows for rows in members.values() if len({classes[i] for i in rows}) > 1]
    return [[f"{keys[i]} ({classes[i]})" for i in rows] for rows in torn[:100]]


def _class_notes(counts: Counter[str], condition: Condition) -> list[str]:
    if not condition.columns:
        return ["There are no labels: p(x) is learned, and no recogniser can be tried."]
    if tuple(condition.classes) == ("all",) and condition.name != "label":
        return ["There are no classes: p(x | y) is learned, and no recogniser can be tried."]
    notes = []
    if len(counts) == 1:
        notes.append(f"There is one class only, {next(iter(counts))}: no recogniser can be tried.")
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        alike[name.strip().casefold()].append(name)
    for same in alike.values():
        if len(same) > 1:
            shown = ", ".join(repr(name) for name in sorted(same))
            notes.append(f"The classes {shown} differ in case or spaces only; they are kept apart.")
    return notes


def _unseen_notes(trained: set[str], classes: list[str], condition: Condition) -> list[str]:
    """What is held out entirely: its name is known, and nothing else of it is learned."""
    unseen = [name for name in condition.classes if name in {*classes} - trained]
    if not unseen or not trained:
        return []
    shown = ", ".join(unseen[:10]) + (f" and {len(unseen) - 10} more" if len(unseen) > 10 else "")
    return [f"No real sample of the train part is in {shown}: samples that are made of it are a guess."]


def _drop_leaks(data: Dataset) -> int:
    """A data set that brings its own split may hold a test sample in train too: it leaves training."""
    groups, splits = data.table["group"], data.table["split"]
    leaks = 0
    for part, lower in (("test", ("train", "val")), ("val", ("train",))):
        held = {number for number, split in zip(groups, splits, strict=True) if split == part and number >= 0}
        for i, number in enumerate(groups):
            if number in held and splits[i] in lower:
                splits[i] = "left out"
                leaks += 1
    if leaks:
        data.found["notes"].append(
            f"{leaks} samples are (near-)duplicates of samples in a held-out part: left out of training."
        )
    return leaks


def describe(data: Dataset) -> list[str]:
    """What was found and chosen, as lines for a person."""
    found = data.found
    lines = [f"{found.get('source', 'data')}: {len(data):,} samples ({found.get('format', 'store')})"]
    if set(origins := found.get("origin", {})) - {"real"}:
        lines.append("  origin      " + ", ".join(f"{n:,} {name}" for name, n in origins.items()))
    counts: dict[str, int] = found.get("counts", {})
    shown = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:12])
    what = "classes" if data.condition.name in ("label", "none") else "groups"
    lines.append(f"  {what:<11} {len(counts)}: {shown}{' ...' if len(counts) > 12 else ''}")
    if found.get("sizes"):
        lines.append("  sizes       " + ", ".join(f"{name} ({n:,})" for name, n in found["sizes"][:5]))
        lines.append("  modes       " + ", ".join(f"{name} ({n:,})" for name, n in found["modes"][:5]))
    contradictions = found.get("contradictions", [])
    lines.append(
        f"  duplicates  {found.get('exact_duplicates', 0)} exact, {found.get('near_duplicates', 0)} near "
        f"({getattr(data.modality, 'nearness', _NEARNESS)}); "
        f"{len(contradictions)} groups with contradicting labels"
    )
    lines.extend(f"    contradiction: {', '.join(keys[:4])}" for keys in contradictions[:5])
    lines.append(f"  bad files   {found.get('bad_count', 0)}")
    lines.extend(f"    {entry['key']}: {entry['reason']}" for entry in found.get("bad", [])[:5])
    parts = sorted(found.get("split", {}).items())
    lines.append("  split       " + ", ".join(f"{name} {n:,}" for name, n in parts))
    if found.get("split_hash"):
        lines.append(f"  frozen as   {found['split_hash'][:16]}")
    for choice in found.get("choices", []):
        lines.append(f"  {choice['name']:<11} {choice['value']}: {choice['why']}")
    lines.extend(f"  note        {note}" for note in found.get("notes", []))
    return lines


def require_real(data: Dataset) -> np.ndarray:
    """The rows to learn from: real samples of the train part. Raises BadInput when there are none."""
    rows = data.rows("train", "real")
    if len(rows) == 0:
        raise BadInput("There are no real samples in the train part; nothing is learned from synthetic ones.")
    return rows
