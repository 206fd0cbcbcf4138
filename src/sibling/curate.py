"""4 · Dataset -> Dataset + reasons: copies, doubles, mislabelled and unreal samples go, others are drawn."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import files
from .dataset import Dataset, kinds_of, synthetic
from .formats.columns import cells_of
from .given import MAP
from .judge import NearestReal, Numbers, fetcher, judged_rows, most_rows, recogniser_of, synthetic_of
from .metrics.agreement import calibrated_limit, mislabelled
from .metrics.features import RandomFeatures
from .metrics.memorisation import copies, doubles, threshold
from .metrics.recogniser import Recogniser
from .read import read
from .sample import draw, draw_given
from .snapshot import Snapshot
from .write import write

__all__ = ["curate"]

log = logging.getLogger("sibling")

MOST_ROUNDS = 3
UNREAL = 2.0  # times the largest distance of a held-out real sample to its nearest training sample


def curate(
    fake: str | Path | Dataset,
    *,
    against: str | Path | Snapshot,
    refill: bool = True,
    rounds: int = MOST_ROUNDS,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Drop synthetic samples that are copies, doubles, mislabelled or unreal; each with its reason.

    Args:
        fake: synthetic samples: a Dataset, or a folder that `sample` wrote.
        against: the run folder that they come from; its held-out real samples set the limits, where there
            are enough of them.
        refill: draw new samples in place of the dropped ones.
        rounds: at most so many times; the count may stay below what was asked for, which is said.
        seed: of the recogniser; samples are drawn anew with their own seed, at later indices.
        out: a folder to write the kept ones to; None = for a folder its name with "-curated", for a
            Dataset nothing.
        overwrite: replace a finished folder at `out`.

    The reasons go to curation.json and curation.jsonl in the run folder. Raises BadInput, UsageError.
    """
    snapshot = against if isinstance(against, Snapshot) else Snapshot(against)
    if not isinstance(fake, Dataset):
        place = Path(fake)
        out = place.with_name(place.name + "-curated") if out is None else out
        files.refuse_overlap(Path(out), place)
        files.refuse_used(Path(out), overwrite=overwrite)
        fake = read(place, like=snapshot.data)
    fake = synthetic_of(fake, snapshot) if len(fake) else fake
    judge = _Judge(snapshot, seed)
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
    """Write curation.json and curation.jsonl in the run folder, and say the outcome."""
    have = Counter(_wishes(kept))
    reasons = Counter(row["reason"] for row in dropped)
    short = [f"{wish.name} {have[wish]} of {n}" for wish, n in wanted.items() if have[wish] < n]
    summary = {
        "short": short,
        "asked": wanted.total(),
        "copies_at_first": judge.copies_at_first,
        "kept": len(kept),
        "rounds": rounds,
        "dropped": dict(reasons),
        "rules": judge.rules,
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
    """All limits, set once by what held-out real samples give, and the look at a set of fakes."""

    def __init__(self, snapshot: Snapshot, seed: int) -> None:
        self.data = snapshot.data
        self.numbers = Numbers.of(self.data)
        self.copies_at_first: dict[str, int] = {}
        self.rules: list[str] = []
        self.recogniser: Recogniser | None = None
        self.limit = 0.0
        train, val = self.data.rows("train", "real"), self.data.rows("val", "real")
        if len(self.numbers.names) > 1 and len(val) >= 10:
            self.recogniser = recogniser_of(self.data, train, seed, "curate")
            probabilities = self.recogniser.probabilities(fetcher(self.data, val), len(val))
            self.limit = calibrated_limit(probabilities, torch.from_numpy(self.numbers(self.data, val)))
            self.rules.append(
                f"mislabelled: a recogniser of the real train part gives the claimed class less than {self.limit:.3f} and "
                f"another class more; {len(val)} held-out real samples set the limit"
            )
        else:
            self.rules.append("mislabelled: not looked at (it needs two classes and ten held-out samples)")
        self.real = self.data.x(most_rows(train, 1_000, "curate", "doubles"))
        self.nearest = NearestReal(self.data, RandomFeatures(self.data.shape))
        held = self.nearest.held_out("val")
        self.copy_limit = threshold(held.ratio)
        self.far = UNREAL * float(held.distance.max()) if len(held.distance) >= 20 else float("inf")
        where = (
            f"from {len(val)} held-out real samples"
            if len(val) >= 50
            else "the default, for want of held-out samples"
        )
        self.rules += [
            "copy: one training sample explains it so much better than any other that the ratio of distances is below "
            f"{self.copy_limit:.2f} ({where}).{self.nearest.note}",
            f"unreal: further from every training sample than {UNREAL:g} times the furthest held-out real one"
            if self.far < float("inf")
            else "unreal: not looked at (it needs twenty held-out samples)",
            "double: nearly equal to an earlier synthetic sample that stays",
        ]

    def look(self, fakes: Dataset, kept: Dataset) -> tuple[list[int], list[dict[str, Any]]]:
        """(rows to keep, a row of reasons for each of the others). Scores are noted in each sample's info."""
        rows = np.arange(len(fakes))
        near, train, limit, far = self.nearest(fakes, rows), self.nearest.train, self.copy_limit, self.far
        reasons: dict[int, tuple[str, str]] = {}
        for i in torch.nonzero(copies(near.ratio, limit))[:, 0].tolist():
            reasons[i] = (
                "copy",
                f"{near.ratio[i]:.2f} times as near to one training sample as to the next (limit {limit:.2f})",
            )
        if not self.copies_at_first:
            self.copies_at_first = {"looked_at": len(rows), "copies": len(reasons)}
        for i in torch.nonzero(near.distance > far)[:, 0].tolist():
            reasons.setdefault(
                i,
                ("unreal", f"{near.distance[i]:.3f} away from the nearest training sample (limit {far:.3f})"),
            )
        self._labels(fakes, reasons)
        # Only against those that stay: a sample must not go because of one that goes itself.
        staying = np.array([i for i in rows.tolist() if i not in reasons], np.int64)
        if len(staying):
            x = fakes.x(staying)
            before = torch.cat([kept.x(np.arange(len(kept))), x]) if len(kept) else x
            for i in torch.nonzero(doubles(before, real=self.real))[:, 0].tolist():
                if i >= len(kept):
                    reasons[int(staying[i - len(kept)])] = (
                        "double",
                        "nearly equal to an earlier synthetic sample",
                    )
        out, classes = [], fakes.classes(rows)
        for i in rows.tolist():
            info = fakes.table["info"][i]
            nearest_key = self.data.table["key"][train[int(near.index[i])]]
            ratio = float(near.ratio[i])
            info["nearest_real"] = nearest_key
            info.setdefault("scores", {})["copy_ratio"] = round(ratio, 4)
            if i in reasons:
                reason, detail = reasons[i]
                out.append(
                    {
                        "key": fakes.table["key"][i],
                        "y": classes[i],
                        "reason": reason,
                        "detail": detail,
                        "nearest_real": nearest_key,
                        "ratio": ratio,
                    }
                )
        return [i for i in rows.tolist() if i not in reasons], out

    def _labels(self, fakes: Dataset, reasons: dict[int, tuple[str, str]]) -> None:
        rows = judged_rows(fakes)
        if self.recogniser is None or len(rows) == 0:
            return
        claimed = torch.from_numpy(self.numbers(fakes, rows))
        probabilities = self.recogniser.probabilities(fetcher(fakes, rows), len(rows))
        own = probabilities.gather(1, claimed[:, None])[:, 0]
        wrong = mislabelled(probabilities, claimed, self.limit)
        for at, i in enumerate(rows.tolist()):
            fakes.table["info"][i].setdefault("scores", {})["label_agreement"] = round(float(own[at]), 4)
            if wrong[at]:
                seen = self.numbers.names[int(probabilities[at].argmax())]
                reasons.setdefault(
                    i,
                    (
                        "mislabelled",
                        f"looks like {seen!r} (claimed class {float(own[at]):.3f}, limit {self.limit:.3f})",
                    ),
                )
