"""Folders of a few large files: which they are, and which part of the data set each is."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..types import Split
from .labels import SPLITS

__all__ = ["REST", "WRITTEN", "part_of", "shards_of"]

_MOST_DEPTH = 3
_BESIDE = (".json", ".jsonl", ".txt", ".md", ".csv", ".yaml", ".yml")  # text that may lie beside them
_PART = re.compile(r"(?P<name>[A-Za-z]+)(?:[-_.]\d.*)?$")
WRITTEN = {"train": "train", "val": "validation", "test": "test"}  # how a part is called in a file's name
REST = "left_out"  # samples that are in no part while others are


def shards_of(root: Path, endings: Sequence[str], but: Sequence[str] = ()) -> list[str]:
    """The names of all such files below a folder, sorted; none where anything but text lies beside them.

    endings  of their names, for example (".tar", ".tar.gz")
    but      names that are something else
    """
    found: list[str] = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if len(Path(folder).relative_to(root).parts) > _MOST_DEPTH:
            return []
        for name in files:
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(endings)) and name not in but:
                found.append((Path(folder) / name).relative_to(root).as_posix())
            elif os.path.splitext(name)[1].lower() not in _BESIDE and name not in ("LICENSE", *but):
                return []
    return sorted(found)


def part_of(name: str) -> Split | None:
    """The part that a file's name or one of its folders says: data/train-00000-of-00001.parquet."""
    *folders, file = PurePosixPath(name).parts
    for told in (file.partition(".")[0], *reversed(folders)):
        part = _PART.match(told)
        if part and part["name"].lower() in SPLITS:
            return SPLITS[part["name"].lower()]
    return None
