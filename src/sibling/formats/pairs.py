"""Pairs in two folders with equal names, as the tools for translation lay them out: A/7.png belongs to B/7.png.

- trainA, trainB, testA, testB, each beside the other (pix2pix, CycleGAN), or A and B alone, in the folder or in each of
  train, val and test;
- what lies in A is told to the model, what lies in B is what it makes.

Two folders A and B, wherever they lie, may also be two classes, so these are pairs only where a map was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .labels import SPLITS

__all__ = ["MAP_COLUMN", "Pairs", "could_be_pairs", "pairs_of"]

MAP_COLUMN = "conditioning_image"
_SIDE = re.compile(r"(?P<part>[a-z]*?)[_-]?(?P<side>[ab])", re.IGNORECASE)


@dataclass
class Pairs:
    """What was found.

    rows    of a label file: `file_name` in B, `conditioning_image` in A, and `split` where the folders say it
    alone   files of B without a partner in A
    unused  how many files of A have none in B
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    unused: int = 0


def pairs_of(names: Iterable[str], *, asked: bool) -> Pairs | None:
    """The pairs among files, or None where the folders are not those of pairs.

    names  relative to the data folder, posix style
    asked  a map was asked for: A and B are then no classes
    Endings need not be the same: A/7.png belongs to B/7.jpg.
    """
    sides: dict[tuple[str | None, str], dict[str, str]] = {}
    plain = False
    for name in names:
        placed = _placed(PurePosixPath(name).parts)
        if placed is None:
            return None
        part, side, rest = placed
        plain = plain or PurePosixPath(name).parts[0].lower() in ("a", "b", *SPLITS)
        sides.setdefault((part, side), {})[str(PurePosixPath(*rest).with_suffix(""))] = name
    if plain and not asked:
        return None
    parts = list(dict.fromkeys(part for part, _ in sides))
    if not parts or any((part, side) not in sides for part in parts for side in "ab"):
        return None
    found = Pairs()
    for part in parts:
        told, made = sides[part, "a"], sides[part, "b"]
        for stem, name in made.items():
            if stem not in told:
                found.alone.append(name)
                continue
            row = {"file_name": name, MAP_COLUMN: told[stem]}
            found.rows.append(row if part is None else {**row, "split": SPLITS[part]})
        found.unused += sum(stem not in made for stem in told)
    return found


def could_be_pairs(names: Iterable[str]) -> bool:
    """Whether two class folders A and B hold files of the same names: then it has to be said which they are."""
    return (found := pairs_of(names, asked=True)) is not None and not found.alone and not found.unused


def _placed(parts: Sequence[str]) -> tuple[str | None, str, Sequence[str]] | None:
    """(part or None, "a" or "b", the path within that side); None for a file that lies elsewhere."""
    if len(parts) > 2 and parts[0].lower() in SPLITS and parts[1].lower() in ("a", "b"):
        return parts[0].lower(), parts[1].lower(), parts[2:]
    match = _SIDE.fullmatch(parts[0]) if len(parts) > 1 else None
    if match is None:
        return None
    part = match["part"].lower()
    if part and part not in SPLITS:
        return None
    return part or None, match["side"].lower(), parts[1:]
