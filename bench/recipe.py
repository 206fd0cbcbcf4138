"""Ways to use synthetic samples, side by side: what makes a recogniser better, if anything does?

    scripts/bench recipe                                      # 20 a class and 50:1, VAE and GAN, split 0
    scripts/bench recipe --cells 20,100 --models vae --split 1
    scripts/bench recipe --table

Beside the rivals of the verdict stand: synthetic samples at two amounts, with their own labels, with the soft labels of
an ensemble of recognisers of the real samples, and (VAE) codes mixed between two real samples of one class in place of
codes from the prior. Soft labels have a placebo of their own: the repeated real samples, softly labelled by the same
ensemble. All arms have the recipe that was tuned on val for the real samples, equally many steps and seeds. Nothing here
is chosen on val, so this is no verdict: it says where to look. Every arm of a cell is a line in bench/results/recipe.jsonl.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from common import OUT, RESULTS, fashion, options, show
from lift import cell, wanted

import sibling
from sibling.codes import Space
from sibling.dataset import Dataset, synthetic
from sibling.device import numpy_generator, threads
from sibling.judge import batch_for, fetcher, folds_within, steps_for
from sibling.lift.arms import like, shuffled
from sibling.lift.recipe import Bench, Recipe, Source, choose, pool_of, train
from sibling.lift.tasks import task_of
from sibling.snapshot import Snapshot

KEPT = RESULTS / "recipe.jsonl"
STRENGTHS = (0.0, 0.25, 0.5, 0.75)


def mixed_codes(snapshot: Snapshot, data: Dataset, y: list[Any], seed: int) -> Dataset:
    """A sample for each y, decoded on the way between two training samples of that class."""
    space, rng = Space(snapshot), numpy_generator(seed, "latent mixing")
    rows, wanted = data.rows("train", "real"), np.asarray(data.condition.groups(y))
    own = np.asarray(data.classes(rows))
    codes = space.encode(data.x(rows), space.cond(data.y(rows)))
    pairs = np.array([rng.choice(np.flatnonzero(own == name), 2) for name in wanted])
    share = torch.from_numpy(rng.uniform(0.2, 0.8, (len(y), 1)).astype(np.float32))
    z = share * codes[pairs[:, 0]] + (1 - share) * codes[pairs[:, 1]]
    x = space.x(z, space.cond(y), space.white([int(n) for n in rng.integers(0, 2**31, len(y))]))
    raw = data.modality.to_raw(x)
    return synthetic(raw, y, [f"mixed-{i}" for i in range(len(y))], [{} for _ in y], data)


def source(samples: Dataset, rows: np.ndarray, y: np.ndarray) -> Source:
    """Decoded once for all trainings."""
    x = fetcher(samples, rows)(slice(None))
    return Source(lambda positions: x[positions], y)


def soft_labels(
    data: Dataset, bench: Bench, recipe: Recipe, real: Source, other: Source, seed: int
) -> np.ndarray:
    """(n, G) float32: what the members say of `other` on average."""
    few = Bench(bench.task, bench.shape, bench.augment, bench.val, other)
    said = []
    rows = data.rows("train", "real")
    for number, (seen, _) in enumerate(
        folds_within(data, rows, seed)
    ):  # every member leaves another fold out
        own = real.take(np.flatnonzero(np.isin(rows, seen)))
        said.append(probabilities(own, recipe, few, seed, number))
    return np.mean(said, 0).astype(np.float32)


def probabilities(real: Source, recipe: Recipe, bench: Bench, *path: int) -> np.ndarray:
    """(n, G) of the test source of `bench`, of one recogniser of `real`."""
    kept: dict[str, Any] = {}

    class Keeping:
        def __getattr__(self, name: str) -> Any:
            return getattr(bench.task, name)

        def answers(self, said: torch.Tensor) -> np.ndarray:
            kept["said"] = torch.softmax(said.float(), 1).numpy()
            return bench.task.answers(said)

    task: Any = Keeping()
    train(
        pool_of(real), recipe, Bench(task, bench.shape, bench.augment, bench.val, bench.test), *path, "member"
    )
    found: np.ndarray = kept["said"]
    return found


def arms(data: Dataset, snapshot: Snapshot, model: str, name: str, seed: int) -> dict[str, Any]:
    """All arms of a cell: name -> (pool, recipe); and the bench they are judged on."""
    task = task_of(data)
    train_rows, val, test = (data.rows(part, "real") for part in ("train", "val", "test"))
    real, held, judge = (source(data, rows, task.targets(data, rows)) for rows in (train_rows, val, test))  # type: ignore[union-attr]
    bench = Bench(task, data.shape, data.modality.augment, held, judge)  # type: ignore[arg-type]
    recipe = Recipe(steps=steps_for(len(real)), batch=batch_for(len(real)))
    runs = [train(pool_of(real), recipe.but(strength=s), bench, seed, str(s), test=False) for s in STRENGTHS]
    recipe = recipe.but(strength=STRENGTHS[choose([run.surprises for run in runs])])
    made = sibling.sample(snapshot, want=wanted(data), seed=seed)
    made = sibling.curate(made, against=snapshot, seed=seed)
    rows = np.arange(len(made))
    fakes = source(made, rows, task.targets(made, rows))  # type: ignore[union-attr]
    rng = numpy_generator(seed, "arms")
    placebo = real.take(like(fakes, real, rng))
    hot = np.eye(task.outputs, dtype=np.float32)  # type: ignore[union-attr]
    real_hot = Source(real.fetch, hot[real.y])

    def soft(other: Source) -> Source:
        return Source(other.fetch, soft_labels(data, bench, recipe, real, other, seed))

    soft_fakes = soft(fakes)
    mixed_up = rng.permutation(len(fakes))
    fifth, few = mixed_up[: max(1, len(fakes) // 5)], mixed_up[: max(20, len(fakes) // 50)]
    found = {
        "real + classic": (pool_of(real), recipe),
        "real + classic + mixup": (pool_of(real), recipe.but(mix="mixup")),
        "real + classic + cutmix": (pool_of(real), recipe.but(mix="cutmix")),
        "real + class weights": (pool_of(real), recipe.but(balance="weights")),
        "real + balanced sampling": (pool_of(real), recipe.but(balance="sampling")),
        "real + duplicates": (pool_of(real, placebo), recipe),
        "real + duplicates, soft": (pool_of(real_hot, soft(placebo)), recipe),
        "real + synthetic": (pool_of(real, fakes), recipe),
        "real + synthetic, a fifth": (pool_of(real, fakes.take(fifth)), recipe),
        "real + synthetic, origins": (pool_of(real, fakes), recipe.but(balance="origins")),
        "real + synthetic, a fifth, weights": (
            pool_of(real, fakes.take(fifth)),
            recipe.but(balance="weights"),
        ),
        "real + synthetic, a fifth, origins": (
            pool_of(real, fakes.take(fifth)),
            recipe.but(balance="origins"),
        ),
        "real + synthetic, 2 %, weights": (pool_of(real, fakes.take(few)), recipe.but(balance="weights")),
        "real + synthetic, 2 %, origins": (pool_of(real, fakes.take(few)), recipe.but(balance="origins")),
        "real + synthetic, origins, as it is": (
            pool_of(real, fakes),
            recipe.but(balance="origins", strength=None),
        ),
        "real + synthetic, origins, cutmix": (
            pool_of(real, fakes),
            recipe.but(balance="origins", mix="cutmix"),
        ),
        "real + synthetic, soft": (pool_of(real_hot, soft_fakes), recipe),
        "real + synthetic, soft + cutmix": (pool_of(real_hot, soft_fakes), recipe.but(mix="cutmix")),
        "real + shuffled labels": (
            pool_of(real, Source(fakes.fetch, shuffled(fakes.y, real.y, rng))),
            recipe,
        ),
        "synthetic only": (pool_of(fakes), recipe),
    }
    if model == "vae":
        mixed = mixed_codes(snapshot, data, list(made.y(rows)), seed)
        there = source(mixed, rows, fakes.y)
        found["real + mixed codes"] = (pool_of(real, there), recipe)
        found["real + mixed codes, soft"] = (pool_of(real_hot, soft(there)), recipe)
    return {"arms": found, "bench": bench, "task": task, "strength": recipe.strength, "kept": len(made)}


def finished() -> list[dict[str, Any]]:
    """What earlier runs of the bench found."""
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


if __name__ == "__main__":
    given = options(
        cells="20,50:1", models="vae,gan", split=0, minutes=2.5, updates=0, seeds=4, threads=0, table=0
    )  # fmt: skip
    full = fashion()
    for name in given.cells.split(","):
        for model in given.models.split(","):
            cell_rows = [
                r for r in finished() if (r["cell"], r["model"], r["split"]) == (name, model, given.split)
            ]
            if cell_rows or given.table:
                continue
            data = cell(full, name, given.split)
            budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
            snapshot = sibling.fit(
                data, out=OUT / f"recipe-{name.replace(':', 'to')}-{model}-{given.split}", model=model, seed=given.split,
                tensorboard=False, threads=given.threads or None, resume=True, **budget,
            )  # fmt: skip
            found = arms(data, snapshot, model, name, given.split)
            bench, task = found["bench"], found["task"]
            classes = np.unique(bench.test.y)
            rare = [c for c in classes if c % 2]
            with threads(1):
                for arm, (pool, recipe) in found["arms"].items():
                    runs = [
                        train(pool, recipe, bench, given.split, arm, seed).test["y"]
                        for seed in range(given.seeds)
                    ]
                    recalls = np.array(
                        [[(run[bench.test.y == c] == c).mean() for c in classes] for run in runs]
                    )
                    row = {
                        "cell": name, "model": model, "split": given.split, "arm": arm, "kept": found["kept"],
                        "strength": found["strength"], "accuracy": recalls.mean(1).tolist(),
                        "tail": recalls[:, rare].mean(1).tolist(),
                    }  # fmt: skip
                    RESULTS.mkdir(exist_ok=True)
                    with KEPT.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(
                        name,
                        model,
                        arm,
                        f"{recalls.mean():.4f} tail {recalls[:, rare].mean():.4f}",
                        flush=True,
                    )
    rows = [("cell", "model", "split", "arm", "balanced accuracy %", "standard error", "tail recall %")]
    for row in finished():
        own = 100 * np.array(row["accuracy"])
        rows.append(
            (row["cell"], row["model"], row["split"], row["arm"], f"{own.mean():.1f}",
             f"{own.std(ddof=1) / np.sqrt(len(own)):.2f}", f"{100 * np.mean(row['tail']):.1f}")
        )  # fmt: skip
    show("ways to use synthetic samples, Fashion-MNIST", rows)
