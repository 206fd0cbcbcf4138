"""Tar shards as WebDataset keeps them: the files of one sample stand together and share their name up to the dot.

Source of the layout: https://github.com/webdataset/webdataset ("The WebDataset Format"). Pickles (.pyd, .pkl,
.pth, ...) are never opened.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ..errors import BadInput
from ..files import move, new_tar, to_line
from ..png import from_text
from ..types import Record
from .archive import MOST_BYTES, members
from .cells import is_map_name
from .columns import LABEL_COLUMNS, MOST_NAMES, Asked, Column, cell_of, cells_of, class_names, find, y_of
from .labels import split_of, told_columns
from .naming import INTERNAL, ending
from .shards import REST, WRITTEN, part_of, shards_of

__all__ = ["WebDataset"]

_ENDINGS = (".tar", ".tar.gz", ".tgz")
_ENDING = re.compile(r"\.(tar(\.gz)?|tgz)$", re.IGNORECASE)
_SHARD_BYTES = 256 * 10**6
_SHARD_SAMPLES = 10_000
_MOST_LABEL = 2**20  # bytes of a .cls, .txt or .json
_SYSTEM = re.compile(r"(^|/)(\.|__MACOSX(/|$)|PaxHeader)")


@dataclass
class _Sample:
    """The members of one key that are of use.

    key    within its shard
    files  ending ("jpg", "seg.png") -> content of what can be the sample or a map
    row    what .json, .cls and .txt say
    """

    shard: str
    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it lies, for what is said."""
        return f"{self.shard}, {self.key[:100]}"


class WebDataset:
    """A tar file, or a folder of them: `000.jpg` beside `000.cls`, `000.json` or `000.txt`.

    label_column, condition, known  as for `Folder`
    columns  column -> kind, as it was found; to be set before `write` where y is more than a label
    classes  column -> class names; to be set before `write`, else all records are looked at first
    """

    chooses = as_files = True

    def __init__(
        self,
        label_column: str | Sequence[str] | None = None,
        condition: str | None = None,
        known: dict[str, str] | None = None,
    ) -> None:
        self.asked = Asked(condition, label_column, known)
        self.columns: dict[str, str] = {}
        self.classes: dict[str, list[str]] | None = None
        self.found_in = ""
        self.notes: list[str] = []

    def matches(self, path: Path) -> bool:
        """A file *.tar, *.tar.gz or *.tgz, or a folder with such files and nothing but text beside them."""
        if path.is_file():
            return path.name.lower().endswith(_ENDINGS)
        return path.is_dir() and bool(shards_of(path, _ENDINGS))

    # ---- reading ------------------------------------------------------------------------------

    def read(self, path: Path, suffixes: Sequence[str]) -> Iterator[Record]:
        """Yield one record a key. Raises BadInput, UnsafeFile."""
        root, names = (path.parent, [path.name]) if path.is_file() else (path, shards_of(path, _ENDINGS))
        told = told_columns(root) if path.is_dir() else None
        others: Counter[str] = Counter()
        samples = [sample for name in names for sample in _samples(root, name, suffixes, others)]
        if others:
            shown = ", ".join(f"{count} .{kind}" for kind, count in others.most_common(5))
            self.notes.append(f"Members that are no samples and no labels were not opened: {shown}.")
        if not samples:
            return
        if (held := sum(len(data) for sample in samples for data in sample.files.values())) > MOST_BYTES:
            raise BadInput(f"{path.name} holds {held:,} bytes; at most {MOST_BYTES:,} are read.")
        rows = self._rows(samples, suffixes)
        asked = Asked(known=told) if self.asked == Asked() and told is not None else self.asked
        columns = find(rows, names[0], asked, suffixes, self.notes)
        self.columns = {column.name: column.kind for column in columns}
        self.found_in = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        ours = told is not None
        for sample, row in zip(samples, rows, strict=True):
            yield self._record(sample, row, columns, suffixes, ours)

    def _rows(self, samples: list[_Sample], suffixes: Sequence[str]) -> list[dict[str, Any]]:
        """What is said about each sample, as the rows of a label file."""
        rows = []
        wanted = self.asked.columns or ()
        texts = [sample.row["txt"] for sample in samples if "txt" in sample.row]
        are_names = 2 <= len(set(texts)) <= min(MOST_NAMES, len(texts) / 2)
        for sample in samples:
            row = {"file_name": "", **sample.row}
            if not are_names and "txt" not in wanted and "txt" not in (self.asked.known or ()):
                row.pop("txt", None)  # captions
            for kind in sample.files:
                header = kind.rpartition(".")[0]
                if header and header not in row and (is_map_name(header) or header in wanted):
                    row[header] = kind
            rows.append(row)
        return rows

    def _record(
        self,
        sample: _Sample,
        row: dict[str, Any],
        columns: list[Column],
        suffixes: Sequence[str],
        ours: bool,
    ) -> Record:
        place = sample.place
        cells = {
            c.name: _map(sample, row.get(c.header)) if c.kind == "map" else cell_of(row.get(c.header), c.kind, place)
            for c in columns
        }  # fmt: skip
        missing = [name for name, cell in cells.items() if cell is None]
        able = [kind for kind in sample.files if f".{kind}" in suffixes]
        problem = f"has no {', '.join(missing)}" if missing else None
        if len(able) != 1:
            problem = f"has {len(able)} samples" if able else "has no sample"
            problem += f" ({', '.join(able or sample.files) or 'labels alone'}); one is known"
        own = {"file_name", "split", "origin", *(column.header for column in columns)}
        info = {name: value for name, value in {**sample.row, **row}.items() if name not in own}
        key = str(info.pop("key", "")) if ours else ""
        if problem:
            info["bad"] = f"{problem} ({place})"
        return Record(
            key or f"{_ENDING.sub('', sample.shard)}/{sample.key}",
            None if problem else sample.files[able[0]],
            None if missing else y_of(cells, self.columns),
            "synthetic" if row.get("origin") == "synthetic" else "real",
            split_of(row["split"], place) if "split" in row else part_of(sample.shard),
            {name: value for name, value in info.items() if value is not None},
        )

    # ---- writing ------------------------------------------------------------------------------

    def write(self, folder: Path, records: Iterable[Record], suffix: str) -> list[dict[str, Any]]:
        """Write train-000000.tar, validation-..., test-...: for each sample its file, a .json with all that is
        known, a .cls with the number of its class, and a .png for each map.
        """
        kinds = self.columns or {"label": "label"}
        if self.classes is None:
            records = list(records)
            self.classes = class_names((record.y for record in records), kinds)
        label = next((column for column, kind in kinds.items() if kind == "label"), None)
        numbers = {name: number for number, name in enumerate(self.classes.get(label or "", ()))}
        maps = [column for column, kind in kinds.items() if kind == "map"]
        rows = []
        with ExitStack() as stack:
            shards: dict[str, _Shards] = {}
            for number, record in enumerate(records):
                part = record.split or REST
                if part not in shards:
                    shards[part] = stack.enter_context(_Shards(folder, WRITTEN.get(part, part)))
                cells = cells_of(record.y, kinds)
                files = {ending(record, suffix).lstrip("."): _content(record)}
                row: dict[str, Any] = {}
                for at, column in enumerate(maps):
                    if column in cells:
                        row[f"{column}_file_name"] = kind = f"map{at}.png"
                        files[kind] = from_text(cells.pop(column))
                if label is not None and cells.get(label) is not None:
                    files["cls"] = str(numbers[str(cells[label])]).encode()
                row |= cells
                row |= {"origin": record.origin, "split": record.split, "key": record.key}
                row |= {k: v for k, v in record.info.items() if k not in INTERNAL and k not in row}
                line = to_line({k: v for k, v in row.items() if v is not None})
                files["json"] = line.encode("utf-8", "backslashreplace")
                shards[part].add(f"{number:06d}", files)
                rows.append(row)
        if [*shards] == [REST]:
            shards[REST].rename("train")
        return rows


class _Shards:
    """The shards of one part, each of bounded size."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._files: list[Path] = []
        self._open = ExitStack()
        self._add: Callable[[str, bytes], None] | None = None
        self._bytes = self._samples = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, key: str, files: dict[str, bytes]) -> None:
        """The files of one sample, one after the other, in one shard."""
        size = sum(map(len, files.values()))
        full = self._bytes + size > _SHARD_BYTES or self._samples == _SHARD_SAMPLES
        if self._add is None or (full and self._samples):
            self._open.close()
            self._files.append(self._folder / f"{self._name}-{len(self._files):06d}.tar")
            self._add = self._open.enter_context(new_tar(self._files[-1]))
            self._bytes = self._samples = 0
        for kind, data in files.items():
            self._add(f"{key}.{kind}", data)
        self._bytes += size
        self._samples += 1

    def rename(self, name: str) -> None:
        """Call the part something else."""
        for number, file in enumerate(self._files):
            move(file, self._folder / f"{name}-{number:06d}.tar")


# ---- members ----------------------------------------------------------------------------------------


def _wanted(suffixes: Sequence[str]) -> Callable[[str], int]:
    def most(name: str) -> int:
        if _SYSTEM.search(name):
            return 0
        kind = _parts(name)[1]
        if kind in ("cls", "json", "txt") and f".{kind}" not in suffixes:
            return _MOST_LABEL
        return MOST_BYTES if f".{kind.rpartition('.')[2]}" in suffixes else 0

    return most


def _parts(name: str) -> tuple[str, str]:
    """(key, ending): a/b/000.seg.png is a/b/000 and seg.png."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}{slash}{stem}".removeprefix("./"), kind.lower()


def _samples(root: Path, shard: str, suffixes: Sequence[str], others: Counter[str]) -> Iterator[_Sample]:
    """The samples of one shard in order. Raises BadInput, UnsafeFile."""
    current: _Sample | None = None
    done: set[str] = set()
    seen: set[str] = set()
    for name, data in members(root / shard, _wanted(suffixes)):
        key, kind = _parts(name)
        if data is None:
            if not _SYSTEM.search(name):
                others[kind or "(no ending)"] += 1
            continue
        if current is None or key != current.key:
            if current is not None:
                done.add(current.key)
                yield current
            if key in done:
                raise BadInput(
                    f"{shard}: the files of {key[:100]!r} do not stand together, or two have this name."
                )
            current, seen = _Sample(shard, key), set()
        if kind in seen:
            raise BadInput(f"{shard}: there are two {key[:100]}.{kind}.")
        seen.add(kind)
        if kind in ("cls", "json", "txt") and f".{kind}" not in suffixes:
            _say(current, kind, data)
        else:
            current.files[kind] = data
    if current is not None:
        yield current


def _say(sample: _Sample, kind: str, data: bytes) -> None:
    """Put what a .cls, .json or .txt says into the row of its sample. Raises BadInput."""
    try:
        text = data.decode("utf-8-sig")
        told = json.loads(text) if kind == "json" else text.strip()
    except UnicodeDecodeError as error:
        raise BadInput(f"{sample.place}.{kind}: not UTF-8 ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{sample.place}.{kind}: not JSON ({error}).") from error
    if kind == "json":
        if not isinstance(told, dict):
            raise BadInput(f"{sample.place}.json: it is no object {{...}}, but {type(told).__name__}.")
        named = any(name in told for name in LABEL_COLUMNS)
        sample.row = {**({} if named else sample.row), **told} | {
            k: v for k, v in sample.row.items() if k == "txt"
        }
    elif kind == "txt":
        sample.row["txt"] = told
    elif not any(name in sample.row for name in LABEL_COLUMNS):  # a name in the JSON says more than a number
        sample.row["label"] = told


def _map(sample: _Sample, value: Any) -> bytes | None:
    """The content of the member that a cell names: by its ending, or by its whole name."""
    if not isinstance(value, str):
        return None
    whole = PurePosixPath(value).name.partition(".")[2].lower()
    return sample.files.get(value.lower()) or sample.files.get(whole)


def _content(record: Record) -> bytes:
    return record.source.read_bytes() if isinstance(record.source, Path) else cast(bytes, record.source)
