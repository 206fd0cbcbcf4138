"""A data set in memory or memory-mapped: decoded once, epochs cost no decoding.

On disk a data set is a *store*: `raw.npy` (N, C, *S) as the modality keeps it, `table.parquet` with a
row a sample, `store.json` with modality, condition and what `read` found, and the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .conditions import CONDITIONS
from .errors import BadInput, UsageError
from .formats.labels import KINDS
from .modalities import MODALITIES
from .registry import lookup
from .types import Cond, Condition, Modality, Record

if TYPE_CHECKING:
    import torch

__all__ = [
    "Dataset",
    "Stacked",
    "condition_of",
    "is_store",
    "joined",
    "kinds_of",
    "make_condition",
    "make_modality",
    "open_store",
    "refuse_inside",
    "save_store",
    "synthetic",
]

COLUMNS = ("key", "y", "origin", "split", "group", "sha256", "source", "info")


class Dataset:
    """Samples with their conditions, origin and split. Synthetic data is a Dataset too.

    raw        (N, C, *S) unsigned integers, often memory-mapped
    table      column name -> list of N values: key, y, origin, split, group, sha256, source, info
    modality   knows what raw means
    condition  knows what y means
    found      what `read` saw and chose, as JSON values
    folder     the store that it lies in; None in memory
    """

    def __init__(
        self,
        raw: np.ndarray,
        table: dict[str, list[Any]],
        modality: Modality,
        condition: Condition,
        *,
        found: dict[str, Any] | None = None,
        folder: Path | None = None,
        keep: Any = None,
    ) -> None:
        self.raw = raw
        self.table = table
        self.modality = modality
        self.condition = condition
        self.found = found or {}
        self.folder = folder
        self._keep = keep  # a temporary folder lives as long as the data set that lies in it

    def __len__(self) -> int:
        return len(self.table["key"])

    def __repr__(self) -> str:
        counts = Counter(self.table["origin"])
        made = ", ".join(f"{n:,} {origin}" for origin, n in counts.items()) or "empty"
        return f"<Dataset: {made}; {' x '.join(map(str, self.shape))}; {self.condition.name}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return tuple(self.raw.shape[1:])

    def rows(self, split: str | None = None, origin: str | None = None) -> np.ndarray:
        """Row numbers of a split and an origin; None = any."""
        chosen = [
            i
            for i, (s, o) in enumerate(zip(self.table["split"], self.table["origin"], strict=True))
            if (split is None or s == split) and (origin is None or o == origin)
        ]
        return np.asarray(chosen, np.int64)

    def x(self, rows: Any) -> torch.Tensor:
        """float32 (N, C, *S) in [-1, 1]."""
        return self.modality.to_x(np.asarray(self.raw[rows]))

    def y(self, rows: Any) -> list[Any]:
        """The conditions of these rows."""
        column = self.table["y"]
        return [column[i] for i in rows]

    def cond(self, rows: Any) -> Cond:
        """The encoded conditions of these rows."""
        return self.condition.encode(self.y(rows), self.shape[1:])

    def classes(self, rows: Any) -> list[str]:
        """The class of each of these rows, as the condition groups them."""
        return self.condition.groups(self.y(rows))

    def duplicates(self, rows: Any) -> np.ndarray:
        """(n,) the group of duplicates of each of these rows; a sample of no group (-1) is a group of its own."""
        found = np.array([self.table["group"][i] for i in rows], np.int64)
        return np.where(found < 0, found.max(initial=-1) + 1 + np.arange(len(found)), found)

    def records(self) -> Iterator[Record]:
        """One Record a row; the source is the original file where there is one, else raw."""
        for i in range(len(self)):
            row = {name: self.table[name][i] for name in COLUMNS}
            source = Path(row["source"]) if row["source"] else self.raw[i]
            yield Record(row["key"], source, row["y"], row["origin"], row["split"], dict(row["info"]))

    def subset(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The same data set with these rows only, in this order."""
        rows = np.asarray(rows, np.int64)
        table = {name: [column[i] for i in rows] for name, column in self.table.items()}
        return Dataset(self.raw[rows], table, self.modality, self.condition, found=self.found)

    def counts(self) -> dict[str, dict[str, int]]:
        """split -> class -> number of real samples."""
        real = self.rows(origin="real")
        pairs = Counter(zip((self.table["split"][i] for i in real), self.classes(real), strict=True))
        order = list(self.condition.classes)
        return {
            split: {name: pairs[split, name] for name in order if pairs[split, name]}
            for split in ("train", "val", "test")
        }

    def fingerprint(self) -> str:
        """sha256 over key, content, y and split of every real sample: changes when any of them does."""
        digest = hashlib.sha256()
        for i in self.rows(origin="real"):
            row = [self.table[name][i] for name in ("key", "sha256", "y", "split")]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def draws(self) -> str:
        """sha256 over the seeds of all synthetic samples, in any order: the same for the same draws of a model."""
        seeds = sorted(str(self.table["info"][i].get("seed")) for i in self.rows(origin="synthetic"))
        return files.hash_bytes("\n".join(seeds).encode())


def synthetic(
    raw: np.ndarray, y: list[Any], keys: list[str], info: list[dict[str, Any]], like: Dataset
) -> Dataset:
    """A Dataset of generated samples with the modality and the condition of `like`."""
    n = len(keys)
    table = {
        "key": keys, "y": y, "origin": ["synthetic"] * n, "split": ["train"] * n, "group": [-1] * n,
        "sha256": [files.hash_bytes(np.ascontiguousarray(sample).tobytes()) for sample in raw],
        "source": [None] * n, "info": info,
    }  # fmt: skip
    return Dataset(raw, table, like.modality, like.condition)


class Stacked:
    """Several arrays as one along their first axis, without a copy: each may be memory-mapped.

    parts  arrays (n, C, *S) of one shape and type
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.dtype = parts[0].dtype
        self.shape = (len(self), *parts[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One sample (C, *S), or those of a slice, a list or an array of row numbers (n, C, *S)."""
        at = np.atleast_1d(np.arange(len(self))[rows])
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            inside = (at >= start) & (at < stop)
            out[inside] = part[at[inside] - start]
        single: np.ndarray = out[0] if np.ndim(np.arange(len(self))[rows]) == 0 else out
        return single


def joined(data: Dataset, more: Dataset) -> Dataset:
    """A data set with further samples behind its own: what a generator has learned from.

    more  pseudo-labelled samples; their groups are made different from those of `data`, and so are their keys
    """
    first = max([-1, *data.table["group"]]) + 1
    table = {name: [*column, *more.table[name]] for name, column in data.table.items()}
    table["group"][len(data) :] = [first + number for number in more.table["group"]]
    table["key"][len(data) :] = [f"unlabelled/{key}" for key in more.table["key"]]
    raw: Any = Stacked([data.raw, more.raw])
    found = {**data.found, **{name: more.found[name] for name in ("unlabelled",) if name in more.found}}
    return Dataset(raw, table, data.modality, data.condition, found=found)


def refuse_inside(out: Path, data: Dataset) -> None:
    """Refuse an output in the folder that a data set was read from, wherever its store lies. Raises UsageError."""
    pairs = zip(data.table["source"], data.table["key"], strict=True)
    for root in {_root(Path(source), key) for source, key in pairs if source}:
        if out.resolve().is_relative_to(root):
            raise UsageError(
                f"The output {out} lies in {root}, where samples of the input lie: synthetic samples would "
                "become real ones in the next run. Choose an output beside the input."
            )


def _root(source: Path, key: str) -> Path:
    """The folder that was read: the file's place without its key, which is relative to it."""
    depth = len(PurePosixPath(key).parts)
    return source.parents[depth - 1] if source.as_posix().endswith(f"/{key}") else source.parent


def make_modality(saved: dict[str, Any]) -> Modality:
    """A modality from what `to_json` gave."""
    arguments = {key: value for key, value in saved.items() if key != "name"}
    modality: Modality = lookup(MODALITIES, "sibling.modalities", saved["name"])(**arguments)
    return modality


def make_condition(saved: dict[str, Any]) -> Condition:
    """A condition from what `to_json` gave."""
    arguments = {key: value for key, value in saved.items() if key != "name"}
    condition: Condition = lookup(CONDITIONS, "sibling.conditions", saved["name"])(**arguments)
    return condition


def kinds_of(condition: Condition) -> dict[str, str]:
    """column -> "label", "labels", "value" or "map", as formats keep the parts of y; empty for no y."""
    if condition.name == "joint":
        parts: Sequence[Condition] = condition.parts  # type: ignore[attr-defined]
        return {column: kind for part in parts for column, kind in kinds_of(part).items()}
    kind = condition.name if condition.name in KINDS else "label"  # a third party's is one text a sample
    return dict.fromkeys(condition.columns, kind)


def condition_of(kinds: dict[str, str]) -> Condition:
    """The condition, not fitted yet, whose y has these columns: column -> kind."""
    parts: list[dict[str, Any]] = []
    numbers = [column for column, kind in kinds.items() if kind == "value"]
    for column, kind in kinds.items():
        if kind != "value":
            parts.append({"name": kind, "column": column})
        elif column == numbers[0]:
            parts.append({"name": "value", "names": numbers})
    if not parts:
        return make_condition({"name": "none"})
    return make_condition(parts[0] if len(parts) == 1 else {"name": "joint", "parts": parts})


def is_store(path: Path) -> bool:
    """Whether a store lies at this path."""
    return (path / "store.json").is_file() and (path / "raw.npy").is_file()


def save_store(folder: Path, data: Dataset) -> None:
    """Write `table.parquet` and `store.json` beside a `raw.npy` that is already in `folder`."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns = {**data.table, "y": [json.dumps(y) for y in data.table["y"]]}
    columns["info"] = [json.dumps(info) for info in data.table["info"]]
    columns["source"] = [source and os.fsencode(source) for source in data.table["source"]]  # may be no UTF-8
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table(columns), sink)
    files.write_bytes(folder / "table.parquet", sink.getvalue().to_pybytes())
    files.write_json(
        folder / "store.json",
        {
            "format": 1,
            "modality": data.modality.to_json(),
            "condition": data.condition.to_json(),
            "fingerprint": data.fingerprint(),
            "found": data.found,
        },
    )


def open_store(folder: Path) -> Dataset:
    """The data set in a store, memory-mapped. Raises BadInput when it is unfinished or was changed."""
    import pyarrow.parquet as parquet

    _, wrong = files.check_manifest(folder, hashes=False)
    if wrong:
        raise BadInput(f"The store {folder} is damaged: {wrong[0]}. Make it again with sibling read.")
    saved = files.read_json(folder / "store.json")
    try:
        columns = parquet.read_table(folder / "table.parquet").to_pydict()
        raw = np.load(folder / "raw.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"The store {folder} is damaged: {error}. Make it again with sibling read.") from error
    columns["y"] = [json.loads(y) for y in columns["y"]]
    columns["info"] = [json.loads(info) for info in columns["info"]]
    columns["source"] = [source and os.fsdecode(source) for source in columns["source"]]
    modality, condition = make_modality(saved["modality"]), make_condition(saved["condition"])
    data = Dataset(raw, columns, modality, condition, found=saved["found"], folder=folder)
    if data.fingerprint() != saved["fingerprint"]:
        raise BadInput(
            f"The table of the store {folder} was changed after it was made. Make it again with sibling read."
        )
    return data
