"""Which modality the samples at a place are: told by our own manifest, else by the endings of the files, else by
what the arrays look like."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadSample
from .formats.labels import METADATA, manifest_of
from .modalities import MODALITIES
from .registry import lookup, names
from .types import Record

__all__ = ["array_modality", "place_modality"]

_GROUP = "sibling.modalities"
_MOST_FILES = 200_000  # looked at; the commonest ending is known long before
_MOST_ARRAYS = 20
_MOST_LOOKED = 20  # files that are opened to tell two modalities apart


def place_modality(place: Path) -> tuple[str, str]:
    """(the name of the modality, the reason); ("", "") where no file tells: the arrays then do.

    The commonest ending decides; one that several modalities know belongs to the first in the table, unless
    most of the first such files are claimed by a later one (`claims_file`), as a .gif that moves is by video.
    """
    known = names(MODALITIES, _GROUP)
    if place.is_file():
        return "", ""
    told = manifest_of(place).get("modality")
    if told in known:
        return str(told), "the manifest of the data set says so"
    owner: dict[str, str] = {}
    paths = _files(place)
    for name in known:
        kind = lookup(MODALITIES, _GROUP, name)
        for suffix in kind.suffixes:
            if suffix not in owner or _claimed(kind, [path for path in paths if _suffix(path) == suffix]):
                owner[suffix] = name
    counts = Counter(owner[suffix] for suffix in map(_suffix, paths) if suffix in owner)
    if not counts:
        return "", ""
    # Of equally many the first in the table: a picture may have a text beside it, a text has no picture.
    (name, count), *others = sorted(counts.items(), key=lambda item: (-item[1], known.index(item[0])))
    rest = f"; {', '.join(f'{n:,} like {other}' for other, n in others)}" if others else ""
    return name, f"{count:,} files end like that{rest}"


def _files(place: Path) -> list[str]:
    found: list[str] = []
    for root, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(root, name) for name in sorted(files) if name not in METADATA and name[0] != "."
        ]
        if len(found) > _MOST_FILES:
            break
    return found


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _claimed(kind: Any, paths: list[str]) -> bool:
    """Whether most of some of these files, from all over, are what the modality alone would call its own."""
    some = paths[:: max(1, len(paths) // _MOST_LOOKED)][:_MOST_LOOKED]
    claims = getattr(kind, "claims_file", None)
    return claims is not None and bool(some) and 2 * sum(map(claims, map(Path, some))) > len(some)


def array_modality(records: Sequence[Record]) -> tuple[str, str]:
    """(the first modality of the table that can decode the first arrays, the reason); "image" where none can."""
    arrays = [record.source for record in records[:_MOST_ARRAYS] if isinstance(record.source, np.ndarray)]
    for name in names(MODALITIES, _GROUP):
        if arrays and _takes(lookup(MODALITIES, _GROUP, name)(), arrays):
            return name, f"arrays {' x '.join(map(str, arrays[0].shape))} of {arrays[0].dtype}"
    return "image", "nothing says otherwise"


def _takes(modality: Any, arrays: Sequence[np.ndarray]) -> bool:
    claims = getattr(modality, "claims", None)
    if claims is not None and not all(map(claims, arrays)):
        return False
    try:
        for array in arrays:
            modality.look(array)
    except BadSample:
        return False
    return True
