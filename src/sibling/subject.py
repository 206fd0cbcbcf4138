"""What is judged, and against what: samples of one of our runs, or a folder that another tool made."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import files
from .dataset import Dataset, is_store
from .duplicates import group
from .errors import BadInput, UsageError
from .judge import judged_rows, synthetic_of
from .read import read
from .snapshot import Snapshot

__all__ = ["Subject", "subject_of"]

SHOWN = 10  # names in a sentence, at most


@dataclass
class Subject:
    """Synthetic samples beside the real ones that they are judged against.

    snapshot  the run that made them; None where another tool did
    folder    where the evaluation goes
    notes     what a reader must know about them
    """

    data: Dataset
    fake: Dataset
    snapshot: Snapshot | None
    folder: Path
    notes: list[str] = field(default_factory=list)


def subject_of(
    fake: str | Path | Dataset,
    against: str | Path | Snapshot | Dataset,
    out: str | Path | None,
    label_column: str | Sequence[str] | None = None,
) -> Subject:
    """Read both sides. Raises BadInput, UsageError.

    against       a run folder; or real samples: a folder, a store, a Dataset
    label_column  the columns of y in the metadata of `fake`, of another tool; None = found
    """
    if (
        isinstance(against, str | Path)
        and (Path(against) / "run.json").is_file()
        and not is_store(Path(against))
    ):
        against = Snapshot(against)
    if label_column is not None and (isinstance(against, Snapshot) or isinstance(fake, Dataset)):
        raise UsageError(
            f"label_column (--label-column) is {label_column!r}: it names columns in a folder that another tool wrote. "
            + (
                "The samples of a run have those of the run: leave it out."
                if isinstance(against, Snapshot)
                else "These samples are read already: give it to read."
            )
        )
    if isinstance(against, Snapshot):
        return _own(fake, against, out)
    return _foreign(fake, against, out, label_column)


def _own(fake: str | Path | Dataset, snapshot: Snapshot, out: str | Path | None) -> Subject:
    data = snapshot.data
    folder = Path(out) if out is not None else snapshot.folder / "evaluation"
    if not isinstance(fake, Dataset):
        files.refuse_overlap(Path(out) if out is not None else snapshot.folder, Path(fake))
        fake = read(fake, like=data)
    notes = _curation_notes(fake, snapshot)
    if isinstance(fake, Dataset) and not len(fake):  # what `curate` gives where it drops all
        return Subject(data, fake, snapshot, folder, notes)
    fake = synthetic_of(fake, snapshot)
    if len(judged := judged_rows(fake)) < len(fake):
        notes.append(f"{len(fake) - len(judged)} samples of no class that was seen were left out.")
        fake = fake.subset(judged)
    return Subject(data, fake, snapshot, folder, notes)


def _foreign(
    fake: str | Path | Dataset,
    against: str | Path | Dataset,
    out: str | Path | None,
    label_column: str | Sequence[str] | None,
) -> Subject:
    """Samples of another tool: nobody knows what it has seen, so what can be seen of that is looked for and said."""
    if isinstance(fake, Dataset):
        folder = Path(out) if out is not None else Path("evaluation")
    else:
        place = Path(fake)
        folder = Path(out) if out is not None else place.with_name(place.name + "-evaluation")
        files.refuse_overlap(folder, place)
        if isinstance(against, str | Path):
            files.refuse_overlap(folder, Path(against))
    data = read(against)
    if not len(data.rows("train", "real")):
        raise BadInput("There are no real samples in the train part to judge against.")
    made = fake if isinstance(fake, Dataset) else read(fake, like=data, label_column=label_column)
    rows = made.rows(origin="synthetic")
    if len(rows) == 0:  # another tool does not say that its samples are synthetic
        rows = np.arange(len(made))
    notes = [
        "These samples were made by another tool. Whether it has seen the test part of the real ones cannot be known "
        "from here: if it has, the verdict is too good. Train it on the train part alone."
    ]
    notes += _unlike(made, data)
    rows = _of_known_classes(made, data, rows, notes)
    rows = _not_held_out(made, data, rows, notes)
    made = made.subset(rows)
    for name in ("origin", "split"):
        made.table[name] = ["synthetic" if name == "origin" else "train"] * len(made)
    return Subject(data, made, None, folder, notes)


def _unlike(made: Dataset, data: Dataset) -> list[str]:
    """A sentence each for files of another size and of other colours than the real ones have, and for broken ones."""
    notes = []
    for name, what in (("sizes", "sizes"), ("modes", "colours")):
        theirs, ours = (dict(side.found.get(name) or {}) for side in (made, data))
        # Where all differ: of photographs with sizes of their own some are always new.
        if theirs and ours and not {*theirs} & {*ours} and sum(ours.values()) == len(data):
            told = [
                ", ".join(f"{key} ({n:,})" for key, n in list(side.items())[:5]) for side in (theirs, ours)
            ]
            shape = " x ".join(map(str, data.shape))
            notes.append(
                f"The synthetic samples have other {what} than the real ones, {told[0]} against {told[1]}: they were brought to "
                f"{shape}, as the real ones are. What is lost or added by that counts against them."
            )
    notes += [note for note in made.found.get("notes") or [] if "label_column" in note]
    if bad := made.found.get("bad_count"):
        first = made.found["bad"][0]
        notes.append(
            f"{bad} synthetic samples are broken and were left out, first {first['key']}: {first['reason']}"
        )
    return notes


def _of_known_classes(made: Dataset, data: Dataset, rows: np.ndarray, notes: list[str]) -> np.ndarray:
    """Those whose class the real samples have. Raises BadInput where none is left."""
    known = {*data.condition.classes}
    names = made.classes(rows)
    if data.condition.columns and not any(y is not None for y in made.y(rows)):
        raise BadInput(
            f"The synthetic samples have no labels, the real ones have {_listed(sorted(known))}. Put each into a folder "
            "called after its class, or name files and labels in a metadata.csv (file_name,label)."
        )
    strange = sorted({name for name in names if name not in known})
    if strange:
        kept = np.array([i for i, name in zip(rows, names, strict=True) if name in known], np.int64)
        if len(kept) == 0:
            raise BadInput(
                f"No synthetic sample is of a class that the real ones have: {_listed(strange)}; known: "
                f"{_listed(sorted(known))}. Give their folders, or their labels, the names of the real classes"
                f"{_hint(strange, sorted(known))}."
            )
        notes.append(
            f"{len(rows) - len(kept)} samples of classes that the real ones lack were left out: {_listed(strange)}"
            f"{_hint(strange, sorted(known))}; known: {_listed(sorted(known))}."
        )
        rows = kept
    if lacking := sorted(known - {*names}):
        notes.append(
            f"There is no synthetic sample of {len(lacking)} of the {len(known)} classes: {_listed(lacking)}. What is "
            "compared with the test part takes the classes in its proportions, so only few samples of the others."
        )
    return rows


def _listed(names: list[str]) -> str:
    """The first ten, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _hint(strange: list[str], known: list[str]) -> str:
    """Which of the known names may be meant, however they are written; "" where none is like them."""
    folded = {name.casefold(): name for name in known}
    for name in strange:
        if near := difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6):
            return f" (by {name!r}, did you mean {folded[near[0]]!r}?)"
    return ""


def _not_held_out(made: Dataset, data: Dataset, rows: np.ndarray, notes: list[str]) -> np.ndarray:
    """Those that are no (near-)duplicate of a real sample of the test or val part: these would be the answer itself."""
    held = np.concatenate([data.rows(part, "real") for part in ("test", "val")])
    if len(held) == 0 or len(rows) == 0:
        return rows
    raw = np.concatenate([np.asarray(data.raw[held]), np.asarray(made.raw[rows])])
    digests = [files.hash_bytes(np.ascontiguousarray(sample).tobytes()) for sample in raw]
    numbers, _, _ = group(raw, np.arange(len(raw)), digests, data.modality.fingerprints(raw))
    of_held = set(numbers[: len(held)])
    kept = np.array(
        [i for i, n in zip(rows, numbers[len(held) :], strict=True) if n not in of_held], np.int64
    )
    if len(kept) < len(rows):
        notes.append(
            f"{len(rows) - len(kept)} of {len(rows):,} synthetic samples are (near-)duplicates of held-out real ones: they "
            "were left out, and whoever made them has seen the test part."
        )
    if len(kept) == 0:
        raise BadInput(
            "Every synthetic sample is a duplicate of a held-out real one: there is nothing to judge."
        )
    return kept


def _curation_notes(fake: Dataset, snapshot: Snapshot) -> list[str]:
    """After curation no copy is left by construction: how many there were belongs beside the score.

    The run folder holds the last curation, which may have been of other samples.
    """
    if not (snapshot.folder / "curation.json").exists():
        return []
    summary = files.read_json(snapshot.folder / "curation.json")
    if summary.get("kept_draws") != fake.draws():
        return []
    short = list(summary.get("short") or [])
    more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
    notes = [f"Curation left fewer than asked for: {', '.join(short[:SHOWN])}{more}."] if short else []
    first = summary.get("copies_at_first") or {}
    if first.get("looked_at"):
        notes.append(f"Before curation {first['copies']} of {first['looked_at']:,} samples were copies.")
    return notes
