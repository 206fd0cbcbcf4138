"""Can one believe the verdict? Synthetic sets whose worth is known, judged again and again.

    scripts/bench verdict                                # Fashion-MNIST, 20 a class, 40 quick runs of each case
    scripts/bench verdict --data digits --repeats 100    # the 8 x 8 digits of scikit-learn
    scripts/bench verdict --cases null --repeats 40 --first 20

Cases: "null" repeats training images (drawn anew each time: carries nothing new), "copier" the same with a
little noise, "new" is truly new real images, "wrong" the same with shuffled labels, "half" has a quarter of
wrong labels. Claims: null and copier are called "helps" in at most 5 % of at least 40 runs; new in most of
them; wrong never. Every repeat has its own split, its own samples and its own seeds, and is kept in
bench/results/verdict-*.jsonl: the bench goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import OUT, RESULTS, code_of_the_verdict, fashion, options, show

from sibling import read
from sibling.dataset import Dataset, synthetic
from sibling.lift.compare import compare
from sibling.lift.effort import EFFORTS
from sibling.metrics.intervals import share_of

CASES = ("null", "copier", "new", "wrong", "half")


def digits() -> Dataset:
    """The 8 x 8 digits of scikit-learn, all in train: each repeat takes what it needs."""
    from sklearn.datasets import load_digits

    place = OUT / "digits-8x8.npz"
    if not place.exists():
        OUT.mkdir(exist_ok=True)
        found = load_digits()
        np.savez(place, x=(found.images * 15.9).astype(np.uint8), y=found.target)
    return read(place, val=0.0, test=0.0)


def drawn(
    full: Dataset, rng: np.random.Generator, per_class: int, extra: int, n_test: int
) -> tuple[Dataset, Any]:
    """A data set with `per_class` training samples, and the rows of `extra` other samples of each class."""
    rows = full.rows(origin="real")
    names = np.array(full.classes(rows))
    chosen: dict[str, list[int]] = {"train": [], "val": [], "test": [], "extra": []}
    for name in np.unique(names):
        own = rng.permutation(rows[names == name])
        cuts = np.cumsum([per_class, max(5, per_class // 2), n_test // len(np.unique(names))])
        for part, some in zip(("train", "val", "test", "extra"), np.split(own, cuts), strict=True):
            chosen[part] += some[: extra if part == "extra" else None].tolist()
    kept = [row for part in ("train", "val", "test") for row in chosen[part]]
    data = full.subset(kept)
    data.table["split"] = [part for part in ("train", "val", "test") for _ in chosen[part]]
    data.table["group"] = list(range(len(kept)))
    return data, np.array(chosen["extra"])


def fakes(case: str, full: Dataset, data: Dataset, extra: np.ndarray, rng: np.random.Generator) -> Dataset:
    """The synthetic set of a case."""
    if case in ("null", "copier"):
        rows = rng.choice(data.rows("train"), len(extra))
        raw, y = np.asarray(data.raw[rows]), data.y(rows)
        if case == "copier":
            noisy = raw + rng.normal(0, 8, raw.shape)
            raw = noisy.clip(0, 255).round().astype(raw.dtype)
    else:
        raw, y = np.asarray(full.raw[extra]), full.y(extra)
        wrong = {"wrong": 1.0, "half": 0.25}.get(case, 0.0)
        moved = rng.permutation(np.flatnonzero(rng.random(len(y)) < wrong))
        shuffled = dict(zip(np.sort(moved), moved, strict=True))
        y = [y[shuffled.get(i, i)] for i in range(len(y))]
    keys, info = [f"{i}" for i in range(len(y))], [{} for _ in y]
    return synthetic(raw, list(y), keys, info, data)


def one(case: str, full: Dataset, number: int, given: Any) -> dict[str, Any]:
    """One repeat: everything in it depends on its number alone."""
    rng = np.random.default_rng([number, CASES.index(case)])
    data, extra = drawn(full, rng, given.per_class, given.extra // 10, given.test)
    made = fakes(case, full, data, extra, rng)
    start = time.perf_counter()
    found = compare(iter([(data, made)]), data, splits=1, effort=EFFORTS[given.effort], seed=number)
    return {
        "case": case, "number": number, "answer": found.answer, "lift": found.lift, "low": found.low, "high": found.high,
        "control": found.arms["shuffled labels"]["mean"] - found.arms["real + synthetic"]["mean"],
        "arms": {name: arm["mean"] for name, arm in found.arms.items()}, "rival": found.rival,
        "seconds": time.perf_counter() - start, "tuning": found.protocol.get("tuning"),
        "code": code_of_the_verdict(),
    }  # fmt: skip


def kept(path: Path) -> list[dict[str, Any]]:
    """What earlier runs of the bench found."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    given = options(
        data="fashion",
        cases=",".join(CASES),
        repeats=40,
        first=0,
        per_class=20,
        extra=200,
        test=2_000,
        effort="quick",
    )
    full = fashion() if given.data == "fashion" else digits()
    if given.data == "digits":
        given.test = min(given.test, 700)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"verdict-{given.data}-{given.per_class}-{given.extra}-{given.test}-{given.effort}.jsonl"
    for case in given.cases.split(","):
        for number in range(given.first, given.first + given.repeats):
            if any((row["case"], row["number"]) == (case, number) for row in kept(path)):
                continue
            row = one(case, full, number, given)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                case,
                number,
                row["answer"],
                f"{row['lift']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
                flush=True,
            )
    rows = [
        (
            "case",
            "runs",
            "helps",
            "harms",
            "mean lift",
            "mean interval",
            "control lost",
            "minutes a run",
            "versions of the code",
        )
    ]
    for case in CASES:
        own = [row for row in kept(path) if row["case"] == case]
        if own:
            helps = share_of(sum(row["answer"] == "helps" for row in own), len(own))
            lift, low, high = (np.mean([row[key] for row in own]) for key in ("lift", "low", "high"))
            rows.append(
                (
                    case, len(own), f"{helps.value:.1%} ({helps.low:.1%} to {helps.high:.1%})",
                    f"{np.mean([row['answer'] == 'harms' for row in own]):.1%}", f"{lift:+.2f}",
                    f"{low:+.2f} to {high:+.2f}", f"{np.mean([row['control'] < 0 for row in own]):.0%}",
                    f"{np.mean([row['seconds'] for row in own]) / 60:.2f}", len({row.get("code") for row in own}),
                )
            )  # fmt: skip
    show(f"verdicts, {given.data}, {given.per_class} a class, {given.extra} synthetic, {given.effort}", rows)
