"""A look into a trained model: what its codes z do, alone and together with y.

truncate     the same samples nearer to the centre of the prior: more typical, less varied
interpolate  the way from one sample, or real picture, to another
vary         one code under many y

`reject.py` (the discriminator's choice) and `project.py` (the code of a real picture) belong to them. Each
is a function of (snapshot, arguments, seed), gives the samples and, with `out`, writes a picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from .codes import Space, between
from .conditions.columns import resolve, to_number
from .dataset import kinds_of
from .device import numpy_generator, seed_of
from .errors import UsageError
from .given import MAP, as_mapping, completed
from .project import codes_of, reals
from .registry import meant, suggest
from .sample import known_group
from .sheet import Sheet, finished, listed, opened, whole
from .snapshot import Snapshot
from .types import Cond, Condition

__all__ = ["interpolate", "truncate", "vary"]

Given: TypeAlias = str | Mapping[str, Any]

_COLUMNS = 8  # where nothing says how many


@dataclass(frozen=True, slots=True)
class _One:
    """One sample of `sibling.sample`: its y, the group of its code, its seed, and how a person calls it."""

    y: Any
    group: str
    seed: int
    name: str


# ---- psi ------------------------------------------------------------------------------------------


def truncate(
    snapshot: str | Path | Snapshot,
    *,
    psi: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0),
    columns: int | None = None,
    group: str | None = None,
    given: str | Mapping[str, Any] | None = None,
    allow_outside: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    seconds: float = 0.4,
    overwrite: bool = False,
) -> Sheet:
    """The same samples at several psi: how far their codes lie from the centre of the prior.

    Args:
        snapshot: a run folder that `fit` made.
        psi: one row each. 1 gives the samples as `sample` does, 0 the centre: N(0, I) has one, the mixture of
            a VAE one a component.
        columns: how many samples; None = 8, or one of each group where there are more (at most 16).
        group: of these samples; None = all groups in turn.
        given: what y is instead, as in `sample`: "kind=leaf,severity=0.7".
        allow_outside: take numbers outside of the range that was seen.
        seed: another seed gives other samples.
        out: a .png, or a .gif that goes through the rows; None = no picture.
        seconds: that a frame of the .gif stays.
        overwrite: replace a picture at `out`.

    Raises UsageError, BadInput. Source: Brock et al. 2019 and Karras et al. 2019, "truncation trick"; here the
    code is scaled, not drawn again.
    """
    space = opened(snapshot, out, seconds, overwrite)
    if not psi or not all(math.isfinite(value) and value >= 0 for value in psi):
        raise UsageError(f"psi is {psi}; give numbers from 0 up, for example --psi 0 --psi 0.5 --psi 1.")
    names = [group] if group is not None else list(space.snapshot.condition.classes)
    n = min(16, max(_COLUMNS, len(names))) if columns is None else whole("columns", columns)
    if given is None:
        ones = [_one(space, names[i % len(names)], None, i // len(names), seed, False) for i in range(n)]
    else:
        ones = [_one(space, group, given, i, seed, allow_outside) for i in range(n)]
    groups, seeds = [one.group for one in ones], [one.seed for one in ones]
    z = torch.cat([space.codes(groups, seeds, value) for value in psi])
    white = space.white(seeds)
    y = [one.y for one in ones] * len(psi)
    x = space.x(z, space.cond(y), None if white is None else white.repeat(len(psi), *[1] * (white.ndim - 1)))
    meaning = (
        f"Rows: psi {', '.join(f'{value:g}' for value in psi)}, 1 being the samples as drawn. "
        f"Columns: {listed([one.name for one in ones])}, seed {seed}."
    )
    return _shown(space, x, n, y, z, meaning, "rows", out, seconds)


# ---- from one to another --------------------------------------------------------------------------


def interpolate(
    snapshot: str | Path | Snapshot,
    *,
    group: str | None = None,
    to_group: str | None = None,
    given: str | Mapping[str, Any] | None = None,
    to_given: str | Mapping[str, Any] | None = None,
    index: int = 0,
    to_index: int = 1,
    images: str | Path | Sequence[str | Path] | None = None,
    frames: int = 9,
    allow_outside: bool = False,
    seed: int = 0,
    to_seed: int | None = None,
    out: str | Path | None = None,
    seconds: float = 0.15,
    overwrite: bool = False,
) -> Sheet:
    """The way from one sample to another: code by code, and y by y where the two differ in it.

    Args:
        snapshot: a run folder that `fit` made.
        group: of the first sample; None = the first group.
        to_group: of the last sample; None = as the first.
        given: what y is of the first sample instead, as in `sample`: "severity=0.1".
        to_given: the same of the last sample: "severity=0.9"; None = as the first.
        index: the number of the first sample, as `sample` counts them.
        to_index: the number of the last sample.
        images: two real pictures instead: keys of the run's data set, or files; their y is that of the data
            set, or `given` and `to_given`. The real ones stand at both ends, around their reconstructions.
        frames: how many samples, both ends included.
        allow_outside: take numbers outside of the range that was seen.
        seed: of the first sample.
        to_seed: of the last sample; None = the same.
        out: a .png, or a .gif that goes there and back; None = no picture.
        seconds: that a frame of the .gif stays.
        overwrite: replace a picture at `out`.

    Codes from N(0, I) are walked between on their shell, those of a VAE's mixture on a straight line. Numbers
    in y go from one to the other and are then encoded. Labels and maps are mixed in their encoded form: the
    networks see y through linear layers, so half of "cat" and half of "dog" is the middle of their
    embeddings, while a switch at the half would be a jump that says nothing about the model.
    Raises UsageError, BadInput.
    """
    space = opened(snapshot, out, seconds, overwrite)
    count = whole("frames", frames, least=2)
    if to_given is None and to_group is None:
        to_group, to_given = group, given
    if images is None:
        first = _one(space, group, given, index, seed, allow_outside)
        last = _one(space, to_group, to_given, to_index, seed if to_seed is None else to_seed, allow_outside)
        names, real, told, seeds = [first.name, last.name], None, [first.y, last.y], [first.seed, last.seed]
        z, white = space.codes([first.group, last.group], seeds), space.white(seeds)
    else:
        if group is not None or to_group is not None:
            raise UsageError(
                "images and group both say where to start. Give one; y of a file comes from given."
            )
        names, real, told = reals(space, images, (given, to_given), seed, allow_outside)
        if len(names) != 2:
            raise UsageError(f"images are {len(names)}; a way has two ends. Give two.")
        z, white = codes_of(space, space.snapshot.modality.to_x(real), told, None, seed), None
    shares = [i / (count - 1) for i in range(count)]
    codes = between(z[0], z[1], shares, straight=space.straight)
    y, cond = _told_between(space, told[0], told[1], shares)
    # The fine grain is N(0, 1) in every pixel, also half way.
    grain = None if white is None else between(white[0], white[1], shares, straight=False)
    x = space.x(codes, cond, grain)
    meaning = f"From {names[0]} to {names[1]} in {count} samples"
    if real is None:
        return _shown(space, x, count, y, codes, f"{meaning}.", "columns", out, seconds)
    raw = np.concatenate([real[:1], space.snapshot.modality.to_raw(x), real[1:]])
    y, codes, meaning = (
        [y[0], *y, y[-1]],
        codes[[0, *range(count), -1]],
        f"{meaning}, the real ones at both ends.",
    )
    sheet = Sheet(raw, count + 2, y, codes, space.snapshot.modality, meaning, "columns", keys=names)
    return finished(sheet, out, seconds)


def _told_between(space: Space, a: Any, b: Any, shares: Sequence[float]) -> tuple[list[Any], Cond]:
    """y and its encoded form on the way from a to b: numbers as numbers, the rest mixed as encoded."""
    near, far = [], []
    for share in shares:
        numbers = {}
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            numbers = {k: b[k] if share == 1 else a[k] + share * (b[k] - a[k]) for k in a if _is_number(a[k])}
        near.append({**a, **numbers} if numbers else a)
        far.append({**b, **numbers} if numbers else b)
    start, end = space.cond(near), space.cond(far)
    vec = [torch.lerp(start.vec[i], end.vec[i], share) for i, share in enumerate(shares)]
    maps = [torch.lerp(start.map[i], end.map[i], share) for i, share in enumerate(shares)]
    y = [near[i] if share < 0.5 else far[i] for i, share in enumerate(shares)]
    return y, Cond(torch.stack(vec), torch.stack(maps))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- one code, many y -----------------------------------------------------------------------------


def vary(
    snapshot: str | Path | Snapshot,
    *,
    over: str | Mapping[str, Sequence[Any]] | None = None,
    given: str | Mapping[str, Any] | None = None,
    rows: int = 4,
    allow_outside: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    seconds: float = 0.3,
    overwrite: bool = False,
) -> Sheet:
    """The same codes under many y: each row one code, each column one y.

    Args:
        snapshot: a run folder that `fit` made.
        over: the column of y that varies: "severity=0:1:9" from 0 to 1 in 9 steps, "kind=leaf,stem" these,
            "kind" all of it, or {"severity": [0, 0.5, 1]}; None = all groups, or 8 y where there is one group.
        given: the rest of y, as in `sample`: "kind=leaf". What is not given is the same in all columns.
        rows: how many codes.
        allow_outside: take numbers outside of the range that was seen.
        seed: another seed gives other codes.
        out: a .png, or a .gif that goes through the columns; None = no picture.
        seconds: that a frame of the .gif stays.
        overwrite: replace a picture at `out`.

    For a GAN row i is `sample(..., shared_style=True)` number i of each group. The mixture of a VAE has other
    codes for each group; there the code of a row comes from one of the shown groups, in turn.
    Raises UsageError, BadInput.
    """
    space = opened(snapshot, out, seconds, overwrite)
    n = whole("rows", rows)
    condition = space.snapshot.condition
    if over is None:
        if given is not None:
            raise UsageError(
                "given fixes y; say what varies beside it with --over (over=), like 'severity=0:1:9' or a column "
                f"alone. Known: {', '.join(condition.columns) or 'none'}."
            )
        groups, each = list(condition.classes), 1
        if len(groups) == 1 and condition.columns:
            each = _COLUMNS  # maps have one group and many y
        told = [condition.within(g, numpy_generator(seed, "y", g, i)) for g in groups for i in range(each)]
        told = _same_but_labels(condition, told)
        names = [g if each == 1 else f"y of {g} #{i}" for g in groups for i in range(each)]
    else:
        names, told = _values_over(space, over, given, seed, allow_outside)
    groups = [known_group(condition, g, seed, g, 0) for g in condition.groups(told)]
    sources = [groups[row * len(groups) // n if n <= len(groups) else row % len(groups)] for row in range(n)]
    seeds = [seed_of(seed, "style", row) for row in range(n)]
    z, white = space.codes(sources, seeds), space.white(seeds)
    which = [row for row in range(n) for _ in told]
    y = told * n
    x = space.x(z[which], space.cond(y), None if white is None else white[which])
    own = f", drawn for {listed(list(dict.fromkeys(sources)))}" if space.straight else ""
    meaning = f"Rows: one code each{own}, seed {seed}. Columns: {listed(names)}.{_held(told, condition)}"
    return _shown(space, x, len(told), y, z[which], meaning, "columns", out, seconds)


def _same_but_labels(condition: Any, told: list[Any]) -> list[Any]:
    """Where a group is one of labels, the rest of y is that of the first: a column shows what the label does."""
    parts = [part for part in getattr(condition, "parts", ()) if getattr(part, "bare", False)]
    labels = [column for part in parts for column in part.columns]
    return [{**told[0], **{column: y[column] for column in labels}} for y in told] if labels else told


def _values_over(
    space: Space, over: str | Mapping[str, Sequence[Any]], given: Given | None, seed: int, outside: bool
) -> tuple[list[str], list[Any]]:
    """What the columns of `vary` are called, and their y: all alike but for the column that varies."""
    condition, modality = space.snapshot.condition, space.snapshot.modality
    if isinstance(over, str) and not {"=", "{"} & {*over} and over.strip() not in condition.columns:
        raise UsageError(f"There is no column {over!r} in y.{suggest(over, list(condition.columns))}")
    if isinstance(over, str) and over.strip() in condition.columns:
        wished = {over.strip(): _all_of(over.strip(), condition)}
    else:
        wished = _parsed_over(over) if isinstance(over, str) else _one_column(over, dict(over))
    ((column, values),) = resolve(wished, condition.columns, condition.name).items()
    whole("the number of values in over", len(values))
    fixed = {} if given is None else as_mapping(given)
    if fixed.keys() & ({column, condition.name} if len(condition.columns) == 1 else {column}):
        raise UsageError(
            f"{column} is both given and what varies. Leave it out of given, or let another vary."
        )
    told: list[Any] = []
    for value in values:
        wish = completed({**fixed, column: value}, condition, modality, allow_outside=outside)
        y = wish.draw(numpy_generator(seed, "y", "over", 0))
        told.append({**told[0], column: y[column]} if told and isinstance(y, Mapping) else y)
    return [f"{column} {_short(value)}" for value in values], told


def _short(value: Any) -> str:
    """A value of a column of y, for a person."""
    if isinstance(value, list):
        return "|".join(map(str, value))[:40] or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]


def _all_of(column: str, condition: Condition) -> list[Any]:
    """All classes or sets of labels of a column, or numbers through its seen range. Raises UsageError for a map."""
    part = next(part for part in getattr(condition, "parts", ()) or [condition] if column in part.columns)
    if part.channels:
        raise UsageError(f"{column} holds maps. Name the files that it varies over: {column}=FILE,FILE.")
    if hasattr(part, "ranges"):
        low, high = part.ranges[list(part.columns).index(column)]
        return [float(number) for number in np.linspace(low, high, _COLUMNS if high > low else 1)]
    return [part.within(name, np.random.default_rng(0)) for name in part.classes]


def _held(told: list[Any], condition: Condition) -> str:
    """What all columns of `vary` have in common, drawn or given: whoever looks must know what else is in y."""
    if len(told) < 2 or not isinstance(told[0], Mapping):
        return ""
    kinds = kinds_of(condition)
    held = [
        f"{column}={MAP if kinds.get(column) == 'map' else _short(value)}"
        for column, value in told[0].items()
        if all(y[column] == value for y in told)
    ]
    return f" In all: {', '.join(held)}." if held else ""


def _parsed_over(over: str) -> dict[str, list[Any]]:
    """ "severity=0:1:9", "kind=leaf,stem" or JSON -> {column: values}. Raises UsageError."""
    column, equals, text = (part.strip() for part in over.partition("="))
    if over.lstrip().startswith("{"):
        found = as_mapping(over)
    elif not equals or not column or not text:
        raise UsageError(
            f"over is {over!r}; write COLUMN=LOW:HIGH:COUNT, COLUMN=VALUE,VALUE or COLUMN alone."
        )
    elif re.fullmatch(r"\s*[-+.\de]+\s*:\s*[-+.\de]+\s*", text):
        raise UsageError(f"over is {over!r}; say in how many steps, too: {column}={text}:9.")
    elif len(parts := text.split(":")) == 3:
        low, high, count = (to_number(part, column) for part in parts)
        if count != int(count):
            raise UsageError(f"over is {over!r}; the count behind the second colon is a whole number.")
        found = {column: np.linspace(low, high, whole("the count in over", int(count))).tolist()}
    else:
        found = {column: [part.strip() for part in text.split(",")]}
    return _one_column(over, found)


def _one_column(over: Any, found: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The one column that varies, with its values. Raises UsageError."""
    lists = {
        column: list(values)
        for column, values in found.items()
        if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
    }
    if len(found) != 1 or not any(lists.values()):
        raise UsageError(
            f"over is {over!r}; one column varies, over a list of values, like {{'severity': [0, 0.5, 1]}}."
        )
    return lists


# ---- what all of them do --------------------------------------------------------------------------


def _one(space: Space, group: str | None, given: Given | None, index: int, seed: int, outside: bool) -> _One:
    """Sample `index` of a group or of a given y, the very one that `sample` makes. Raises UsageError."""
    condition = space.snapshot.condition
    if group is not None and given is not None:
        raise UsageError("group and given both say what y is. Give one of them.")
    if index < 0:
        raise UsageError(f"index is {index}; samples are counted from 0.")
    if given is not None:
        told = completed(as_mapping(given), condition, space.snapshot.modality, allow_outside=outside)
        y = told.draw(numpy_generator(seed, "y", told.name, index))
        shown = ", ".join(f"{column}={value}" for column, value in told.info()["given"].items())
        like = known_group(condition, condition.groups([y])[0], seed, told.name, index)
        return _One(y, like, seed_of(seed, told.name, index), f"{shown} #{index}")
    name = condition.classes[0] if group is None else meant(group, condition.classes) or group
    y = condition.within(name, numpy_generator(seed, "y", name, index))
    return _One(y, name, seed_of(seed, name, index), f"{name} #{index}")


def _shown(
    space: Space, x: torch.Tensor, columns: int, y: list[Any], z: torch.Tensor, meaning: str, time: Any,
    out: str | Path | None, seconds: float,
) -> Sheet:  # fmt: skip
    modality = space.snapshot.modality
    return finished(Sheet(modality.to_raw(x), columns, y, z, modality, meaning, time), out, seconds)
