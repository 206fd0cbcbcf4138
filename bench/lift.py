"""Where does the larger set help? Scarce and imbalanced Fashion-MNIST, VAE and GAN, judged on the real test part.

    scripts/bench lift                                    # everything: hours; stop it and start it again as you like
    scripts/bench lift --cells 20,100 --models vae --splits 1
    scripts/bench lift --table                            # only the table of what is there

Cells: 10, 20, 50, 100 images a class, and "50:1": 500 of five classes, 10 of the other five. Each cell has its own
training samples a split; val has half as many, the test part is 5,000 of the 10,000 test images. Synthetic samples:
five for each real one, or as many as balance the classes. Every finished cell is a line in bench/results/lift.jsonl
with the whole verdict; sample grids lie beside it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from typing import Any

import numpy as np
from common import OUT, RESULTS, code_of_the_verdict, fashion, options, show

import sibling
from sibling.dataset import Dataset
from sibling.evaluate import verdict_json
from sibling.preview import grid
from sibling.sample import draw

CELLS = ("10", "20", "50", "100", "50:1")
RARE, COMMON = 10, 500
TEST = 5_000
KEPT = RESULTS / "lift.jsonl"


def cell(full: Dataset, name: str, split: int) -> Dataset:
    """The data set of a cell: its training samples, and val samples, depend on the split."""
    rng = np.random.default_rng([split, CELLS.index(name)])
    train, test = full.rows("train", "real"), full.rows("test", "real")
    groups = np.array(full.classes(train))
    rows, parts = [], []
    for number, group in enumerate(np.unique(groups)):
        n = int(name) if ":" not in name else (COMMON if number % 2 == 0 else RARE)
        own = rng.permutation(train[groups == group])
        rows += own[: n + max(5, n // 2)].tolist()
        parts += ["train"] * n + ["val"] * max(5, n // 2)
    chosen = rng.permutation(test)[:TEST]
    data = full.subset([*rows, *chosen.tolist()])
    data.table["split"] = parts + ["test"] * len(chosen)
    data.table["group"] = list(range(len(data)))
    return data


def wanted(data: Dataset) -> dict[str, int]:
    """class -> synthetic samples: as many as balance the train part, or five for each of its samples."""
    counts = Counter(data.classes(data.rows("train", "real")))
    most = max(counts.values())
    if len(set(counts.values())) == 1:
        return {name: 5 * n for name, n in counts.items()}
    return {name: most - n for name, n in counts.items() if n < most}


def one(full: Dataset, name: str, model: str, split: int, given: Any) -> dict[str, Any]:
    """Fit, sample, curate and judge one cell."""
    start = time.perf_counter()
    data = cell(full, name, split)
    run = OUT / f"lift-{name.replace(':', 'to')}-{model}-{split}"
    budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
    snapshot = sibling.fit(
        data,
        out=run,
        model=model,
        seed=split,
        tensorboard=False,
        threads=given.threads or None,
        resume=True,
        **budget,
    )
    shown = draw(snapshot, {group: range(8) for group in data.condition.classes}, 0)
    order = [column * 8 + row for row in range(8) for column in range(10)]
    run.with_suffix(".png").write_bytes(grid(data.modality.preview(shown.raw[order]), columns=10))
    made = sibling.sample(snapshot, want=wanted(data), seed=split)
    kept = sibling.curate(made, against=snapshot, seed=split)
    judged = sibling.evaluate(
        kept, against=snapshot, quick=given.effort == "quick", thorough=given.effort == "thorough", seed=split
    )
    rare = [group for number, group in enumerate(sorted(data.condition.classes)) if number % 2]
    tail = {
        arm: float(np.mean([facts["per_class"][group] for group in rare]))
        for arm, facts in judged.verdict.arms.items()
    }
    facts = {
        "cell": name, "model": model, "split": split, "effort": given.effort, "minutes": (time.perf_counter() - start) / 60,
        "steps": snapshot.run["steps"], "made": len(made), "kept": len(kept), "tail_recall": tail if ":" in name else {},
        "code": code_of_the_verdict(), "scores": {f"{score.name}, {score.space}": score.value for score in judged.scores},
        **verdict_json(judged.verdict),
    }  # fmt: skip
    shutil.rmtree(run / "data", ignore_errors=True)  # 5,000 test images a cell
    return facts


def finished() -> list[dict[str, Any]]:
    """What earlier runs of the bench found."""
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


def table(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A row a cell and model: each split's verdict, and the mean lift."""
    out: list[tuple[Any, ...]] = [
        ("a class", "model", "splits", "real + classic", "best rival", "real + synthetic", "synthetic only",
         "lift by split [interval]", "mean lift", "verdicts")
    ]  # fmt: skip
    for name in CELLS:
        for model in sorted({row["model"] for row in rows}):
            own = [row for row in rows if (row["cell"], row["model"]) == (name, model)]
            if not own:
                continue
            arms = [{arm["name"]: 100 * arm["mean"] for arm in row["arms"]} for row in own]
            means = [
                f"{np.mean([each[arm] for each in arms]):.1f}"
                for arm in ("real + classic", "real + synthetic", "synthetic only")
            ]
            rival = np.mean([each[row["rival"]] for each, row in zip(arms, own, strict=True)])
            lifts = "; ".join(f"{row['lift']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]" for row in own)
            said = [row["verdict"] for row in own]
            out.append(
                (name, model, len(own), means[0], f"{rival:.1f}", means[1], means[2], lifts,
                 f"{np.mean([row['lift'] for row in own]):+.2f}", ", ".join(f"{said.count(v)} {v}" for v in sorted(set(said))))
            )  # fmt: skip
    return out


def tails(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A row an imbalanced cell: recall of the rare classes in each arm."""
    out: list[tuple[Any, ...]] = []
    for row in rows:
        if row["tail_recall"]:
            found = {arm: f"{100 * value:.1f}" for arm, value in row["tail_recall"].items()}
            out = out or [("a class", "model", "split", *found)]
            out.append((row["cell"], row["model"], row["split"], *(found.get(arm, "") for arm in out[0][3:])))
    return out


def markdown(rows: list[tuple[Any, ...]]) -> str:
    """The same for docs/."""
    lines = [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(["---"] * len(rows[0])), *lines[1:]])


if __name__ == "__main__":
    given = options(
        cells=",".join(CELLS), models="vae,gan", splits=3, first=0, minutes=2.5, updates=0, threads=0, effort="default",
        table=0,
    )  # fmt: skip
    if not given.table:
        full = fashion()
        for split in range(given.first, given.first + given.splits):
            for name in given.cells.split(","):
                for model in given.models.split(","):
                    if any((r["cell"], r["model"], r["split"]) == (name, model, split) for r in finished()):
                        continue
                    row = one(full, name, model, split, given)
                    RESULTS.mkdir(exist_ok=True)
                    with KEPT.open("a") as file:
                        file.write(json.dumps(row, default=str) + "\n")
                    print(name, model, split, row["sentence"], f"{row['minutes']:.1f} minutes", flush=True)
    show("lift on Fashion-MNIST", table(finished()))
    if given.table:
        print(markdown(table(finished())))
        if tails(finished()):
            print(markdown(tails(finished())))
