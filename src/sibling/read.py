"""1 · A place on disk -> a Dataset, decoded once, with a frozen split. Every choice is said aloud."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from . import files
from .conditions import CONDITIONS
from .dataset import Dataset, is_store, open_store, save_store
from .device import cores, numpy_generator
from .duplicates import group
from .errors import BadInput, BadSample, UsageError
from .formats import FORMATS
from .modalities import MODALITIES
from .registry import lookup, names
from .split import assign, split_hash
from .tolerance import harmless_flips
from .types import Record

__all__ = ["read"]

log = logging.getLogger("sibling")

MOST_EDGE = 64  # pixels; what two CPU cores can learn in minutes
MOST_BAD = 0.01
_CHUNK = 64
_FEW = 512  # below this many files starting processes costs more than it saves


def read(
    place: str | Path | Dataset,
    *,
    out: str | Path | None = None,
    modality: str = "image",
    size: int | None = None,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    label_column: str | None = None,
    on_bad: str = "auto",
    like: Dataset | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Read a place on disk: class folders, files plus metadata, a flat folder, IDX, .npz, or a store.

    Args:
        place: the folder or file; a Dataset or a store is taken as it is.
        out: where to keep the decoded store; None = a temporary folder that goes with the data set.
        modality: what one sample is.
        size: the longer edge of the working size in pixels; None = the data's own, at most 64.
        val: share of the samples for validation.
        test: share of the samples for the test part, which nothing that learns ever sees.
        seed: of the split.
        label_column: the column of the metadata file that is y.
        on_bad: what to do about broken samples: "auto" skips up to 1 % and stops above, "skip" skips all,
            "stop" stops at the first. Each is listed with its reason.
        like: take modality and condition from this data set instead of choosing them (for synthetic sets).
        overwrite: replace a finished store at `out`.

    Raises BadInput, UnsafeFile, UsageError, ResourceError.
    """
    if isinstance(place, Dataset):
        return place
    place = Path(place)
    _check_arguments(place, size, val, test, on_bad)
    if is_store(place):
        return open_store(place)
    if is_store(place / "data"):
        return open_store(place / "data")
    records, format_name, notes = _records(place, modality, label_column)
    if out is None:
        temporary = tempfile.TemporaryDirectory(prefix="sibling-")
        store = Path(temporary.name) / "store"
    else:
        temporary, store = None, Path(out)
        files.refuse_overlap(store, place)
    with files.new_folder(store, kind="store", overwrite=overwrite) as folder:
        data = _decode(records, folder, modality, size, like, on_bad)
        data.found.update(format=format_name, source=place.resolve().name)
        data.found["notes"] = notes + data.found["notes"]
        _freeze(data, val, test, seed, like)
        save_store(folder, data)
    opened = open_store(store)
    opened._keep = temporary
    return opened


def _check_arguments(place: Path, size: int | None, val: float, test: float, on_bad: str) -> None:
    if not place.exists():
        raise BadInput(f"There is nothing at {place}. Give a folder of samples, an .npz file or a store.")
    if size is not None and not 4 <= size <= 1024:
        raise UsageError(f"size is {size}; the longer edge must be 4 to 1024 pixels (--size, size=).")
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"val is {val} and test is {test}; both are shares and must leave something for training.")
    if on_bad not in ("auto", "skip", "stop"):
        raise UsageError(f"on_bad is {on_bad!r}; known: auto, skip, stop.")


def _records(place: Path, modality: str, label_column: str | None) -> tuple[list[Record], str, list[str]]:
    suffixes = lookup(MODALITIES, "sibling.modalities", modality).suffixes
    for name in names(FORMATS, "sibling.formats"):
        kind = lookup(FORMATS, "sibling.formats", name)
        reader = kind(label_column) if name == "folder" else kind()
        if reader.matches(place):
            records = list(reader.read(place, suffixes))
            if not any(record.source is not None for record in records):
                endings = ", ".join(suffixes[:6])
                raise BadInput(f"There are no samples in {place}: no file ends in {endings}, ... Is it the right folder?")
            return records, name, list(getattr(reader, "notes", []))
    raise BadInput(f"{place} is of no known format ({', '.join(FORMATS)}).")


def _content(record: Record) -> bytes | np.ndarray:
    """Read once: the same bytes are hashed and decoded. Raises BadSample."""
    if isinstance(record.source, Path):
        try:
            return record.source.read_bytes()
        except OSError as error:
            raise BadSample(f"cannot be read: {error.strerror}") from error
    if record.source is None:
        raise BadSample(record.info.get("bad", "has no content"))
    return record.source


def _in_parallel(job: Callable[..., Any], parts: Sequence[Any], *fixed: Any, many: bool) -> Iterator[Any]:
    """Run `job(part, *fixed)` for every part on all cores, results in order."""
    workers = min(cores(), len(parts))
    if workers < 2 or not many:
        return (job(part, *fixed) for part in parts)
    results: Iterator[Any] = joblib.Parallel(n_jobs=workers, return_as="generator")(
        joblib.delayed(job)(part, *fixed) for part in parts
    )
    return results


def _look_chunk(records: list[Record], kind: Any) -> list[dict[str, Any] | str]:
    looks: list[dict[str, Any] | str] = []
    for record in records:
        try:
            looks.append(kind().look(_content(record)))
        except BadSample as error:
            looks.append(str(error))
    return looks


def _decode_chunk(part: list[tuple[int, Record]], modality: Any, path: Path) -> list[tuple[int, str, str, int, str | None]]:
    """Decode into rows of the array at `path`: (row, sha256 of the source, of raw, perceptual hash, fault)."""
    raw = files.open_array(path)
    results: list[tuple[int, str, str, int, str | None]] = []
    for row, record in part:
        try:
            content = _content(record)
            sample = modality.decode(content)
        except BadSample as error:
            results.append((row, "", "", 0, str(error)))
            continue
        raw[row] = sample
        digest = hashlib.sha256(sample.tobytes()).hexdigest()
        source = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else digest
        results.append((row, source, digest, modality.fingerprint(sample), None))
    return results


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]


def _decode(
    records: list[Record], folder: Path, modality_name: str, size: int | None, like: Dataset | None, on_bad: str
) -> Dataset:
    """Look at every header, choose the working shape, decode everything into `folder`/raw.npy."""
    kind = lookup(MODALITIES, "sibling.modalities", modality_name)
    many = len(records) > _FEW and isinstance(records[0].source, Path)
    parts = _chunks(records)
    looks = [look for part in _in_parallel(_look_chunk, parts, kind, many=many) for look in part]
    bad = {i: str(look) for i, look in enumerate(looks) if isinstance(look, str)}
    good_looks = [look for look in looks if isinstance(look, dict)]
    _stop_if_bad(records, bad, on_bad)
    if like is None:
        modality, choices = kind.choose(good_looks, size=size, most=MOST_EDGE)
    else:
        modality, choices = like.modality, []
    jobs = [(i, record) for i, record in enumerate(records) if i not in bad]
    path = folder / "raw.npy"
    files.new_array(path, (len(records), *modality.shape), modality.dtype)
    table: dict[str, list[Any]] = {name: [] for name in ("key", "y", "origin", "split", "sha256", "source", "info")}
    rows: list[int] = []
    digests: list[str] = []
    hashes: list[int] = []
    for part in _in_parallel(_decode_chunk, _chunks(jobs), modality, path, many=many):
        for row, sha256, digest, perceptual, fault in part:
            if fault is not None:
                bad[row] = fault
                continue
            rows.append(row)
            digests.append(digest)
            hashes.append(perceptual)
            _append(table, records[row], sha256)
    _stop_if_bad(records, bad, on_bad)
    raw = files.open_array(path)
    found: dict[str, Any] = {"choices": choices, "notes": [], **_seen(records, bad, looks)}
    modality = _compact(raw, np.array(rows), path, modality, like, choices)
    raw = np.load(path, mmap_mode="r")
    table["group"], found["exact_duplicates"], found["near_duplicates"] = group(raw, np.arange(len(rows)), digests, hashes)
    condition = like.condition if like is not None else _condition(table["y"])
    return Dataset(raw, table, modality, condition, found=found)


def _append(table: dict[str, list[Any]], record: Record, sha256: str) -> None:
    source = str(record.source.resolve()) if isinstance(record.source, Path) else None
    values = (record.key, record.y, record.origin, record.split, sha256, source, record.info)
    for name, value in zip(("key", "y", "origin", "split", "sha256", "source", "info"), values, strict=True):
        table[name].append(value)


def _condition(y: list[Any]) -> Any:
    name = "none" if all(value is None for value in y) else "label"
    return lookup(CONDITIONS, "sibling.conditions", name)().fit(y)


def _stop_if_bad(records: list[Record], bad: dict[int, str], on_bad: str) -> None:
    """Stop when too much is broken, with the first reasons. Raises BadInput."""
    if len(bad) == len(records):
        first = next(iter(bad))
        raise BadInput(f"None of the {len(records)} samples can be used; the first, {records[first].key}, {bad[first]}.")
    if not bad or on_bad == "skip":
        return
    label_file = [i for i in bad if records[i].info.get("label_file")]
    listed = label_file or list(bad)
    shown = "; ".join(f"{records[i].key}: {bad[i]}" for i in listed[:5])
    more = f"; and {len(listed) - 5} more" if len(listed) > 5 else ""
    if label_file:
        raise BadInput(
            f"The label file and the folder disagree about {len(label_file)} files: {shown}{more}. "
            "Mend the label file, or leave these files out with --on-bad skip (on_bad='skip')."
        )
    if on_bad == "stop" or len(bad) > max(1, MOST_BAD * len(records)):
        raise BadInput(
            f"{len(bad)} of {len(records)} samples cannot be used: {shown}{more}. "
            "Mend or remove them, or go on without them with --on-bad skip (on_bad='skip')."
        )


def _seen(records: list[Record], bad: dict[int, str], looks: list[Any]) -> dict[str, Any]:
    good = [look for look in looks if isinstance(look, dict)]
    sizes = Counter(f"{look['size'][1]}x{look['size'][0]}" for look in good)
    return {
        "bad_count": len(bad),
        "bad": [{"key": records[i].key, "reason": bad[i]} for i in sorted(bad)[:1000]],
        "sizes": sizes.most_common(20),
        "modes": Counter(look["mode"] for look in good).most_common(20),
    }


def _compact(raw: np.ndarray, rows: np.ndarray, path: Path, modality: Any, like: Dataset | None, choices: list[Any]) -> Any:
    """Drop the rows of bad samples and the channels that say nothing; returns the final modality."""
    final = modality
    if like is None:
        final, more = modality.refine(raw, rows)
        choices.extend(more)
    choices.append({"name": "shape", "value": " x ".join(map(str, final.shape)), "why": "channels x height x width"})
    if final.shape == modality.shape and len(rows) == len(raw):
        return final
    target = path.with_name("compact.npy")
    new = files.new_array(target, (len(rows), *final.shape), final.dtype)
    for start in range(0, len(rows), 1024):
        new[start : start + 1024] = modality.convert(np.asarray(raw[rows[start : start + 1024]]), final)
    new.flush()
    target.replace(path)
    return final


def _freeze(data: Dataset, val: float, test: float, seed: int, like: Dataset | None) -> None:
    """Assign the split, hash it, and record counts, contradictions and tolerances in `found`."""
    table, found = data.table, data.found
    everything = np.arange(len(data))
    classes = data.classes(everything)
    if like is None:
        given = ["train" if o == "synthetic" else s for s, o in zip(table["split"], table["origin"], strict=True)]
        table["split"], notes = assign(
            classes, table["group"], given, val=val, test=test, rng=numpy_generator(seed, "split")
        ) if not all(o == "synthetic" for o in table["origin"]) else (["train"] * len(data), [])
        found["notes"] += notes
    else:
        table["split"] = [split or "train" for split in table["split"]]
    by_group: dict[int, set[str]] = {}
    for number, name in zip(table["group"], classes, strict=True):
        by_group.setdefault(number, set()).add(name)
    torn = [number for number, found_classes in by_group.items() if len(found_classes) > 1]
    found["contradictions"] = [
        [table["key"][i] for i in everything if table["group"][i] == number] for number in torn[:100]
    ]
    found["leaks"] = _drop_leaks(data)
    found["split"] = dict(Counter(table["split"]))
    found["split_hash"] = split_hash(table["key"], table["sha256"], table["split"])
    found["counts"] = {name: n for name, n in sorted(Counter(classes).items())}
    found["total"] = len(data)
    found["origin"] = dict(Counter(table["origin"]))
    if like is None and hasattr(data.modality, "flips"):
        data.modality.flips, reason = harmless_flips(data)
        found["choices"].append(
            {"name": "mirroring", "value": ", ".join(data.modality.flips) or "never", "why": reason}
        )


def _drop_leaks(data: Dataset) -> int:
    """A data set that brings its own split may hold a test sample in train too: it leaves training."""
    held = {g for g, s in zip(data.table["group"], data.table["split"], strict=True) if s == "test"}
    leaks = 0
    for i, (number, part, origin) in enumerate(
        zip(data.table["group"], data.table["split"], data.table["origin"], strict=True)
    ):
        if number in held and part != "test" and origin == "real":
            data.table["split"][i] = "left out"
            leaks += 1
    if leaks:
        data.found["notes"].append(
            f"{leaks} samples of the train or val part are (near-)duplicates of test samples and are left out of both."
        )
    return leaks


def describe(data: Dataset) -> list[str]:
    """What was found and chosen, as lines for a person."""
    found = data.found
    lines = [f"{found.get('source', 'data')}: {len(data):,} samples ({found.get('format', 'store')})"]
    counts: dict[str, int] = found.get("counts", {})
    shown = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:12])
    lines.append(f"  classes     {len(counts)}: {shown}{' ...' if len(counts) > 12 else ''}")
    if found.get("sizes"):
        lines.append("  sizes       " + ", ".join(f"{name} ({n:,})" for name, n in found["sizes"][:5]))
        lines.append("  modes       " + ", ".join(f"{name} ({n:,})" for name, n in found["modes"][:5]))
    lines.append(
        f"  duplicates  {found.get('exact_duplicates', 0)} exact, {found.get('near_duplicates', 0)} near; "
        f"{len(found.get('contradictions', []))} groups with contradicting labels"
    )
    for keys in found.get("contradictions", [])[:5]:
        lines.append(f"    contradiction: {', '.join(keys[:4])}")
    lines.append(f"  bad files   {found.get('bad_count', 0)}")
    for entry in found.get("bad", [])[:5]:
        lines.append(f"    {entry['key']}: {entry['reason']}")
    lines.append("  split       " + ", ".join(f"{name} {n:,}" for name, n in sorted(found.get("split", {}).items())))
    for choice in found.get("choices", []):
        lines.append(f"  {choice['name']:<11} {choice['value']}: {choice['why']}")
    lines.extend(f"  note        {note}" for note in found.get("notes", []))
    return lines


def require_real(data: Dataset) -> np.ndarray:
    """The rows to learn from: real samples of the train part. Raises BadInput when there are none."""
    rows = data.rows("train", "real")
    if len(rows) == 0:
        raise BadInput("There are no real samples in the train part; nothing is ever learned from synthetic ones.")
    return rows

