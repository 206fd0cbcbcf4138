"""4 · Dataset -> Dataset + reasons: what a filter finds goes (copies, wrong labels, ...), others are drawn."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .dataset import Dataset, kinds_of, synthetic
from .filters import Finding, builders_of, filters_of
from .filters.basis import Real, Seen
from .filters.effect import Effect
from .formats.columns import cells_of
from .given import MAP
from .judge import synthetic_of
from .read import read
from .sample import draw, draw_given
from .snapshot import Snapshot
from .write import write

__all__ = ["curate"]

log = logging.getLogger("sibling")

MOST_ROUNDS = 3


def curate(
    fake: str | Path | Dataset,
    *,
    against: str | Path | Snapshot,
    refill: bool = True,
    rounds: int = MOST_ROUNDS,
    filters: str | Sequence[str] | None = None,
    effects: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Drop synthetic samples that are copies, doubles, mislabelled, unreal or off-manifold; each with its reason.

    Args:
        fake: synthetic samples: a Dataset, or a folder that `sample` wrote.
        against: the run folder that they come from; its held-out real samples set the limits, where there
            are enough of them.
        refill: draw new samples in place of the dropped ones.
        rounds: at most so many times; the count may stay below what was asked for, which is said.
        filters: which of copy, unreal, mislabelled, off-manifold, discriminator (only where the run keeps one)
            and double to use, "copy,double"; None = all of them.
        effects: measure what each filter does to diversity and utility (a short training a filter).
        seed: of the recognisers; samples are drawn anew with their own seed, at later indices.
        out: a folder to write the kept ones to; None = for a folder its name with "-curated", for a
            Dataset nothing.
        overwrite: replace a finished folder at `out`.

    The reasons go to curation.json and curation.jsonl in the run folder. Raises BadInput, UsageError.
    """
    builders = builders_of(filters)  # raises before anything is read
    snapshot = against if isinstance(against, Snapshot) else Snapshot(against)
    if not isinstance(fake, Dataset):
        place = Path(fake)
        out = place.with_name(place.name + "-curated") if out is None else out
        files.refuse_overlap(Path(out), place)
        files.refuse_used(Path(out), overwrite=overwrite)
        fake = read(place, like=snapshot.data)
    fake = synthetic_of(fake, snapshot) if len(fake) else fake
    judge = _Judge(snapshot, seed, builders, effects)
    wanted = Counter(_wishes(fake))
    kept, dropped, round_number = fake.subset([]), [], 0
    candidates = fake
    next_index = _next_indices(fake)
    while len(candidates):
        round_number += 1
        keep, reasons = judge.look(candidates, kept)
        dropped += reasons
        kept = _joined(kept, candidates.subset(keep), snapshot.data)
        missing = wanted - Counter(_wishes(kept))
        if not refill or not missing or round_number > rounds:
            break
        draws = {wish: range(next_index[wish], next_index[wish] + n) for wish, n in missing.items()}
        next_index.update({wish: indices.stop for wish, indices in draws.items()})
        candidates = _drawn(snapshot, draws, fake)
    _record(snapshot, wanted, kept, dropped, round_number, judge)
    if out is not None:
        write(fake=kept, out=out, against=snapshot, overwrite=overwrite)
    return kept


def _record(
    snapshot: Snapshot,
    wanted: Counter[_Wish],
    kept: Dataset,
    dropped: list[dict[str, Any]],
    rounds: int,
    judge: _Judge,
) -> None:
    """Write curation.json and curation.jsonl in the run folder, and say the outcome.

    "dropped" counts all rounds, a sample once, by its first reason; "filters" tells what each filter by itself
    finds among the samples that were there at first.
    """
    have = Counter(_wishes(kept))
    reasons = Counter(row["reason"] for row in dropped)
    short = [f"{wish.name} {have[wish]} of {n}" for wish, n in wanted.items() if have[wish] < n]
    summary = {
        "short": short,
        "asked": wanted.total(),
        "copies_at_first": judge.copies_at_first,
        "kept": len(kept),
        "kept_draws": kept.draws(),
        "rounds": rounds,
        "dropped": dict(reasons),
        "rules": judge.rules,
        "filters": judge.effects,
    }
    files.write_json(snapshot.folder / "curation.json", summary)
    lines = "".join(files.to_line(row) + "\n" for row in dropped)
    files.write_bytes(snapshot.folder / "curation.jsonl", lines.encode("utf-8", "surrogateescape"))
    counted = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items()) or "nothing"
    log.info("  kept %s of %s asked for; dropped: %s", f"{len(kept):,}", f"{wanted.total():,}", counted)
    if not kept:
        log.warning("All samples were dropped (%s): this model makes nothing that can be used.", counted)
    if short:
        log.warning(
            "Fewer than asked for after %d rounds: %s. Why each was dropped is in curation.jsonl in the run folder.",
            rounds,
            ", ".join(short),
        )


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a sample was asked to be: one of a class, or a y of which a part was given (as JSON)."""

    name: str
    given: bool = False
    outside: bool = False


def _wishes(fake: Dataset) -> list[_Wish]:
    wishes = []
    for group, y, info in zip(
        fake.classes(np.arange(len(fake))), fake.table["y"], fake.table["info"], strict=True
    ):
        given = info.get("given")
        if not isinstance(given, dict):
            wishes.append(_Wish(group))
            continue
        cells = cells_of(y, kinds_of(fake.condition))
        whole = {column: cells.get(column) if value == MAP else value for column, value in given.items()}
        wishes.append(_Wish(json.dumps(whole, sort_keys=True), True, bool(info.get("outside"))))
    return wishes


def _next_indices(fake: Dataset) -> dict[_Wish, int]:
    """The first index of each wish that was not drawn yet."""
    after: dict[_Wish, int] = {}
    for wish, info in zip(_wishes(fake), fake.table["info"], strict=True):
        after[wish] = max(after.get(wish, 0), int(info.get("index", -1)) + 1)
    return after


def _drawn(snapshot: Snapshot, draws: dict[_Wish, range], fake: Dataset) -> Dataset:
    """These indices of each wish, with the seed and the style of the samples that they replace."""
    first = fake.table["info"][0]
    seed, shared = int(first.get("seed", 0)), first.get("style") == "shared"
    plain = {wish.name: indices for wish, indices in draws.items() if not wish.given}
    made = draw(snapshot, plain, seed, shared_style=shared) if plain else fake.subset([])
    for outside in (False, True):
        rows = [
            (json.loads(w.name), indices) for w, indices in draws.items() if w.given and w.outside == outside
        ]
        if rows:
            more = draw_given(snapshot, rows, seed, allow_outside=outside, shared_style=shared)
            made = _joined(made, more, snapshot.data) if len(made) else more
    return made


def _joined(kept: Dataset, more: Dataset, like: Dataset) -> Dataset:
    info = kept.table["info"] + more.table["info"]
    keys, y = kept.table["key"] + more.table["key"], kept.table["y"] + more.table["y"]
    joined = synthetic(np.concatenate([kept.raw, more.raw]), y, keys, info, like)
    joined.table["source"] = kept.table["source"] + more.table["source"]
    return joined


class _Judge:
    """The filters, their limits set once by held-out real samples, and the look at a set of fakes."""

    def __init__(self, snapshot: Snapshot, seed: int, builders: Sequence[Any], effects: bool) -> None:
        self.real = Real(snapshot, seed)
        self.filters = filters_of(builders, self.real)
        self.rules = [f"{one.name}: {one.rule}" for one in self.filters]
        self.copies_at_first: dict[str, int] = {}
        self.effects: list[dict[str, Any]] = []
        self.measured = not effects

    def look(self, fakes: Dataset, kept: Dataset) -> tuple[list[int], list[dict[str, Any]]]:
        """(rows to keep, a row of reasons for each of the others). Scores are noted in each sample's info."""
        seen = Seen(fakes, kept, self.real)
        reasons: dict[int, tuple[str, str]] = {}
        found: list[Finding] = []
        for one in self.filters:
            found.append(one.look(seen))
            for i in np.flatnonzero(found[-1].wrong).tolist():
                reasons.setdefault(i, (one.name, found[-1].why.get(i, one.rule)))
            seen.staying &= ~found[-1].wrong
            if one.name == "copy" and not self.copies_at_first:
                self.copies_at_first = {"looked_at": len(fakes), "copies": int(found[-1].wrong.sum())}
        if not self.measured:
            self.measured = True
            effect = Effect(self.real, seen)
            self.effects = [effect(one, what.wrong) for one, what in zip(self.filters, found, strict=True)]
        for what in found:
            for name, numbers in what.scores.items():
                _note(fakes, name, numbers)
        return [i for i in seen.rows.tolist() if i not in reasons], self._told(seen, reasons)

    def _told(self, seen: Seen, reasons: dict[int, tuple[str, str]]) -> list[dict[str, Any]]:
        """A row for each sample that goes; the nearest training sample is noted with every one."""
        near, train, out = seen.near, self.real.nearest.train, []
        classes, keys = seen.fakes.classes(seen.rows), seen.fakes.table["key"]
        for i in seen.rows.tolist():
            nearest_key = self.real.nearest.data.table["key"][train[int(near.index[i])]]
            seen.fakes.table["info"][i]["nearest_real"] = nearest_key
            if i in reasons:
                reason, detail = reasons[i]
                row = {"key": keys[i], "y": classes[i], "reason": reason, "detail": detail}
                out.append({**row, "nearest_real": nearest_key, "ratio": float(near.ratio[i])})
        return out


def _note(fakes: Dataset, name: str, numbers: np.ndarray) -> None:
    """Note a score (N,) with the samples; nan and infinite ones are none."""
    for info, number in zip(fakes.table["info"], numbers.tolist(), strict=True):
        if math.isfinite(number):
            info.setdefault("scores", {})[name] = round(number, 4)
