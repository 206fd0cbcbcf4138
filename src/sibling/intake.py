"""The work of `read`: look at every header, choose the working shape, decode everything into a store."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from . import files
from .dataset import COLUMNS, Dataset
from .device import cores
from .duplicates import group, rows_at_a_time
from .errors import BadInput, BadSample, ResourceError
from .maps import content_of, fitted_text, how_fitted, same_proportions
from .modalities import MODALITIES
from .registry import lookup
from .types import Condition, Record

__all__ = ["decode", "sound"]

log = logging.getLogger("sibling")

MOST_EDGE = 64  # pixels; what two CPU cores can learn in minutes
MOST_BAD = 0.01
_CHUNK = 64
# Threads start at once and suffice while Pillow decodes, which it does outside of Python's lock. Starting
# processes takes seconds (each imports torch) and pays only for many files; arrays would be copied to them.
_MANY_FILES = 50_000


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of the decoders: damaged EXIF is no news, and pictures have our own size limit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def _in_process(job: Callable[..., Any], *arguments: Any) -> Any:
    with _quiet():
        return job(*arguments)


def _in_thread(job: Callable[..., Any], *arguments: Any) -> Any:
    return job(*arguments)


def _in_parallel(
    job: Callable[..., Any], items: Sequence[Any], *fixed: Any, processes: bool, chunk: int = _CHUNK
) -> Iterator[Any]:
    """Run `job(some items, *fixed)` for all items on all cores; what the jobs return, in order."""
    starts = range(0, len(items), chunk)
    workers = min(cores(), len(starts))
    # A daemonic process (a worker of somebody else's pool) may not start processes of its own.
    processes = processes and not multiprocessing.current_process().daemon
    if workers < 2:
        results: Iterator[Any] = (job(items[start : start + chunk], *fixed) for start in starts)
    else:
        prefer = "processes" if processes else "threads"
        pool = joblib.Parallel(n_jobs=workers, return_as="generator", prefer=prefer)
        call = joblib.delayed(_in_process if processes else _in_thread)
        results = pool(call(job, items[start : start + chunk], *fixed) for start in starts)
    try:
        with _quiet():  # here, not in the threads: the filters of `warnings` belong to the whole process
            for result in results:
                yield from result
    except BrokenProcessPool as error:
        raise ResourceError(
            "A process that decodes samples was killed, most likely because memory ran out. "
            "Close other programs, or give smaller files, then run the same command again."
        ) from error


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


def _look(record: Record, modality: Any) -> dict[str, Any]:
    if not isinstance(record.source, Path):
        look: dict[str, Any] = modality.look(_content(record))
        return look
    try:
        with record.source.open("rb") as file:  # the header is enough here
            look = modality.look(file)
            return look
    except OSError as error:
        raise BadSample(f"cannot be read: {error.strerror}") from error


def _look_chunk(records: Sequence[Record], kind: Any) -> list[dict[str, Any] | str]:
    looks: list[dict[str, Any] | str] = []
    for record in records:
        try:
            looks.append(_look(record, kind()))
        except BadSample as error:
            looks.append(str(error))
    return looks


# Sizes (H, W) of a picture and of a map of it that is not as large.
_Other = tuple[tuple[int, int], tuple[int, int]]
# (row, sha256 of the source, of raw, y, perceptual hash, whether it is of one colour, its maps of another size, fault)
_Decoded = tuple[int, str, str, Any, int, bool, list[_Other], str | None]


def _decode_chunk(
    part: Sequence[tuple[int, Record]], modality: Any, path: Path, maps: Sequence[str]
) -> list[_Decoded]:
    """Decode samples into their rows of the array at `path`; the columns `maps` of y become text."""
    raw = files.open_array(path)
    results: list[_Decoded] = []
    good: list[tuple[int, str, str, Any]] = []
    others: list[list[_Other]] = []
    samples: list[np.ndarray] = []
    for row, record in part:
        try:
            content = _content(record)
            sample = modality.decode(content)
            y, other = _with_maps(record.y, maps, modality, content)
        except BadSample as error:
            results.append((row, "", "", None, 0, False, [], str(error)))
            continue
        digest = hashlib.sha256(sample.tobytes()).hexdigest()
        source = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else digest
        good.append((row, source, digest, y))
        others.append(other)
        samples.append(sample)
        raw[row] = sample
    if samples:
        stack = np.stack(samples)
        planes = stack.reshape(*stack.shape[:2], -1)  # (N, C, prod(S))
        flat = (planes == planes[..., :1]).all(axis=(1, 2))
        hashes = modality.fingerprints(stack)
        for names, hashed, constant, other in zip(good, hashes, flat, others, strict=True):
            results.append((*names, hashed, bool(constant), other, None))
    return sorted(results, key=lambda result: result[0])


def _with_maps(
    y: Any, maps: Sequence[str], modality: Any, content: bytes | np.ndarray
) -> tuple[Any, list[_Other]]:
    """y with its maps as text of the working size, and the sizes of those that are not as large as their picture.

    content  of the picture
    Raises BadSample.
    """
    if not maps or not y:
        return y, []
    texts, other = {}, []
    for column in maps:
        drawn = content_of(y[column])
        texts[column] = fitted_text(drawn, modality)
        sizes = modality.look(content)["size"], modality.look(drawn)["size"]
        if sizes[0] != sizes[1]:
            other.append(sizes)
    return y | texts, other


def _map_notes(other: Sequence[tuple[str, _Other]], modality: Any) -> list[str]:
    """What was done to maps that are not as large as their pictures (key, sizes), in plain words."""
    if not other:
        return []
    turned = [(key, sizes) for key, sizes in other if not same_proportions(*sizes)]
    working = f"{modality.width} x {modality.height}"
    notes = []
    if len(other) > len(turned):
        notes.append(
            f"{len(other) - len(turned)} maps have another size than their pictures; they were scaled to {working} as these were."
        )
    if turned:
        key, (picture, drawn) = turned[0]
        notes.append(
            f"{len(turned)} maps have other proportions than their pictures and were {how_fitted(modality)} to {working} on "
            f"their own, so that what they show may lie elsewhere in the picture; the first is that of {_short(key)}: "
            f"{drawn[1]} x {drawn[0]} beside {picture[1]} x {picture[0]}. Give maps of the proportions of their pictures."
        )
    return notes


def sound(records: list[Record], kind: Any, on_bad: str) -> list[tuple[Record, dict[str, Any]]]:
    """The records that can be used, each with what its header says; the others are said aloud. Raises BadInput."""
    bad = _unlabelled(records)
    pairs = []
    for row, look in enumerate(_in_parallel(_look_chunk, records, kind, processes=False)):
        if isinstance(look, str):
            bad[row] = look
        elif row not in bad:
            pairs.append((records[row], look))
    _stop_if_bad(records, bad, on_bad)
    for row in sorted(bad)[:20]:
        log.warning("  left out %s: %s", _short(records[row].key), bad[row])
    if len(bad) > 20:
        log.warning("  left out %d more", len(bad) - 20)
    return pairs


def decode(
    records: list[Record],
    folder: Path,
    modality_name: str,
    size: int | None,
    like: Dataset | None,
    on_bad: str,
    condition: Condition,
    maps: Sequence[str] = (),
) -> Dataset:
    """Decode into `folder`/raw.npy; the Dataset has no split yet. Raises BadInput, ResourceError.

    condition  what y is, not fitted yet unless it is that of `like`
    maps       the columns of y that are pictures
    """
    kind = lookup(MODALITIES, "sibling.modalities", modality_name)
    are_files = isinstance(next((r.source for r in records if r.source is not None), None), Path)
    processes = len(records) > _MANY_FILES and are_files
    bad = _unlabelled(records)
    seen: dict[Any, dict[str, Any]] = {}  # a million headers are some dozens of different ones
    looks: list[dict[str, Any]] = []
    for row, look in enumerate(_in_parallel(_look_chunk, records, kind, processes=processes)):
        if isinstance(look, str):
            bad[row] = look
        elif row not in bad:
            looks.append(seen.setdefault(tuple(look.items()), look))
    _stop_if_bad(records, bad, on_bad)
    if like is None:
        modality, choices = kind.choose(looks, size=size, most=MOST_EDGE)
    else:
        modality, choices = like.modality, []
    path = folder / "raw.npy"
    files.new_array(path, (len(records), *modality.shape), modality.dtype)
    table: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    rows: list[int] = []
    digests, hashes, constant = [], [], 0
    other: list[tuple[str, _Other]] = []
    jobs = [(row, record) for row, record in enumerate(records) if row not in bad]
    for row, sha256, digest, y, hashed, flat, sizes, fault in _in_parallel(
        _decode_chunk,
        jobs,
        modality,
        path,
        maps,
        processes=processes,
        chunk=min(_CHUNK, rows_at_a_time(modality.shape)),
    ):
        if fault is not None:
            bad[row] = fault
            continue
        rows.append(row)
        digests.append(digest)
        hashes.append(hashed)
        constant += flat
        other += [(records[row].key, pair) for pair in sizes]
        _append(table, records[row], sha256, y)
    _stop_if_bad(records, bad, on_bad)
    found: dict[str, Any] = {"choices": choices, "notes": [], **_seen(records, bad, looks)}
    if constant:
        flat = getattr(modality, "flat", "of one colour")
        found["notes"].append(f"{constant} samples are {flat} throughout.")
    found["notes"] += _map_notes(other, modality)
    modality = _compact(path, np.array(rows), modality, like, choices)
    raw = np.load(path, mmap_mode="r", allow_pickle=False)
    _group(raw, table, digests, hashes, found, getattr(modality, "alike", None))
    condition = condition if like is not None else condition.fit(table["y"])
    return Dataset(raw, table, modality, condition, found=found)


def _unlabelled(records: list[Record]) -> dict[int, str]:
    """Samples without y are bad where others have one: "no label" is no class of its own."""
    if all(record.y is None for record in records if record.source is not None):
        return {}
    return {
        row: record.info.get("bad", "has no label, while others have one")
        for row, record in enumerate(records)
        if record.y is None
    }


def _group(
    raw: np.ndarray,
    table: dict[str, list[Any]],
    digests: list[str],
    hashes: list[int],
    found: dict[str, Any],
    alike: Any,
) -> None:
    """Group the real samples; synthetic ones are in no group (-1), as they are never split."""
    real = np.array([row for row, origin in enumerate(table["origin"]) if origin == "real"], np.int64)
    table["group"] = [-1] * len(raw)
    numbers, exact, near = group(raw, real, [digests[i] for i in real], [hashes[i] for i in real], alike)
    for row, number in zip(real, numbers, strict=True):
        table["group"][row] = number
    found.update(exact_duplicates=exact, near_duplicates=near)


def _append(table: dict[str, list[Any]], record: Record, sha256: str, y: Any) -> None:
    source = str(record.source.resolve()) if isinstance(record.source, Path) else None
    values = (record.key, y, record.origin, record.split, sha256, source, record.info)
    for name, value in zip(("key", "y", "origin", "split", "sha256", "source", "info"), values, strict=True):
        table[name].append(value)


def _stop_if_bad(records: list[Record], bad: dict[int, str], on_bad: str) -> None:
    """Stop when too much is broken, with the first reasons. Raises BadInput."""
    if len(bad) == len(records):
        first = min(bad)
        raise BadInput(
            f"None of the {len(records)} samples can be used: the first, {_short(records[first].key)}, "
            f"{bad[first]}. Mend or replace the files."
        )
    if not bad or on_bad == "skip":
        return
    label_file = [i for i in sorted(bad) if records[i].info.get("label_file")]
    listed = label_file or sorted(bad)
    shown = "; ".join(f"{_short(records[i].key)}: {bad[i]}" for i in listed[:5])
    more = f"; and {len(listed) - 5} more" if len(listed) > 5 else ""
    if label_file:
        raise BadInput(
            f"The label file and the folder disagree about {len(label_file)} files: {shown}{more}. "
            "Mend the label file, or leave these files out with --on-bad skip (on_bad='skip')."
        )
    if on_bad == "stop" or len(bad) > MOST_BAD * len(records):
        raise BadInput(
            f"{len(bad)} of {len(records)} samples cannot be used: {shown}{more}. "
            "Mend or remove them, or go on without them with --on-bad skip (on_bad='skip')."
        )


def _short(key: str) -> str:
    return key if len(key) <= 120 else f"{key[:80]}...{key[-30:]}"


def _seen(records: list[Record], bad: dict[int, str], looks: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = Counter("x".join(map(str, reversed(look["size"]))) for look in looks)
    return {
        "bad_count": len(bad),
        "bad": [{"key": records[i].key, "reason": bad[i]} for i in sorted(bad)[:1000]],
        "sizes": sizes.most_common(20),
        "modes": Counter(look["mode"] for look in looks).most_common(20),
    }


def _compact(path: Path, rows: np.ndarray, modality: Any, like: Dataset | None, choices: list[Any]) -> Any:
    """Drop the rows of bad samples and the channels that say nothing; returns the final modality."""
    raw = files.open_array(path)
    final = modality
    if like is None:
        final, more = modality.refine(raw, rows)
        choices.extend(more)
    shape = " x ".join(map(str, final.shape))
    axes = getattr(final, "axes", "height x width" if len(final.shape) == 3 else "")
    choices.append(
        {"name": "shape", "value": shape, "why": f"channels x {axes}" if axes else "channels first"}
    )
    if final.shape == modality.shape and final.dtype == modality.dtype and len(rows) == len(raw):
        return final
    target = path.with_name("compact.npy")
    new = files.new_array(target, (len(rows), *final.shape), final.dtype)
    step = rows_at_a_time(modality.shape)
    for start in range(0, len(rows), step):
        new[start : start + step] = modality.convert(np.asarray(raw[rows[start : start + step]]), final)
    target.replace(path)
    return final
