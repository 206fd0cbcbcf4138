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


def place_modality(place: Path) -> tuple[str, str]:
    """(the name of the modality, the reason); ("", "") where no file tells: the arrays then do.

    The commonest ending decides; one that several modalities know belongs to the first in the table.
    """
    known = names(MODALITIES, _GROUP)
    if place.is_file():
        return "", ""
    told = manifest_of(place).get("modality")
    if told in known:
        return str(told), "the manifest of the data set says so"
    owner: dict[str, str] = {}
    for name in known:
        for suffix in lookup(MODALITIES, _GROUP, name).suffixes:
            owner.setdefault(suffix, name)
    counts = Counter(owner[suffix] for suffix in _suffixes(place) if suffix in owner)
    if not counts:
        return "", ""
    (name, count), *others = counts.most_common()
    rest = f"; {', '.join(f'{n:,} like {other}' for other, n in others)}" if others else ""
    return name, f"{count:,} files end like that{rest}"


def _suffixes(place: Path) -> list[str]:
    found: list[str] = []
    for _, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.splitext(name)[1].lower() for name in files if name not in METADATA and name[0] != "."
        ]
        if len(found) > _MOST_FILES:
            break
    return found


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
