"""Pairs: a recogniser's digits or clothes from a quarter of their resolution, or from their edges.

    scripts/bench translate                                  # Fashion-MNIST at 7 x 7 -> 28 x 28, 4,000 pairs, 3 seeds
    scripts/bench translate --task edges --updates 2000

Against a plain U-Net (the same network without a game, L1 alone), with equal updates. Told are, on 1,000 test pairs: the L1
of one sample, of the mean of eight, the kernel distance of samples to real pictures (random features), the share of samples
in which a recogniser of real pictures sees the class of the pair, and how far two samples for one map lie apart, relative
to what the mean of eight leaves over. Claim: kernel distance less than that of the plain U-Net, L1 of the mean of eight no
more than 5 % above its own.
Sample grids lie in bench/out: map, four samples, the real picture.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from common import OUT, fashion, interval, options, show
from PIL import Image, ImageFilter

import sibling
from sibling import png
from sibling.dataset import Dataset, make_condition
from sibling.judge import Numbers, fetcher, random_features
from sibling.metrics.distance import KernelDistance
from sibling.metrics.features import RandomFeatures
from sibling.metrics.recogniser import Pool, train_recogniser
from sibling.preview import grid

PER_CLASS, TEST, MEANS = 400, 1_000, 8
ARMS: dict[str, dict[str, Any]] = {
    "plain L1 U-Net": {"game": 0.0, "apart": 0.0},
    "translate": {},
    "closeness without a game": {"game": 0.0},
}


def map_of(raw: np.ndarray, task: str) -> str:
    """uint8 (1, H, W) -> the map as text: edges, or a quarter of the resolution."""
    picture = Image.fromarray(raw[0])
    if task == "edges":
        told = picture.filter(ImageFilter.FIND_EDGES).point(lambda v: 255 if v > 60 else 0)
    else:
        told = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.BOX)
        told = told.resize(picture.size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    told.save(file, "PNG")
    return png.to_text(file.getvalue())


def paired(full: Dataset, task: str, seed: int) -> tuple[Dataset, list[str]]:
    """Pairs with a split, and the class of each, which the model is not told."""
    rng = np.random.default_rng(seed)
    rows, parts = [], []
    for part, n in (("train", PER_CLASS), ("test", TEST // 10)):
        own = full.rows(part, "real")
        names = np.array(full.classes(own))
        for name in np.unique(names):
            chosen = rng.permutation(own[names == name])[: n + (n // 8 if part == "train" else 0)]
            rows += chosen.tolist()
            parts += ["train"] * n + ["val"] * (len(chosen) - n) if part == "train" else ["test"] * n
    data = full.subset(rows)
    classes = data.classes(range(len(data)))
    y = [{"conditioning_image": map_of(np.asarray(data.raw[i]), task)} for i in range(len(data))]
    condition = make_condition({"name": "map", "column": "conditioning_image"}).fit(y)
    table = {**data.table, "y": y, "split": parts, "group": list(range(len(data)))}
    return Dataset(data.raw, table, data.modality, condition), classes


def judge_of(full: Dataset) -> Any:
    """A recogniser of 12,000 other real pictures."""
    rows = np.random.default_rng(9).permutation(full.rows("train", "real"))[:12_000]
    numbers = Numbers.of(full)
    return train_recogniser(
        Pool([(fetcher(full, rows), numbers(full, rows))]), shape=full.shape, classes=10, steps=800, seed=9
    )


def measured(
    snapshot: Any, data: Dataset, classes: list[str], judge: Any, names: list[str], picture: str
) -> list[float]:
    """L1 of one sample, of the mean of eight; kernel distance; label agreement; distance of two samples."""
    rows = data.rows("test", "real")
    told, real = data.cond(rows), data.x(rows)
    made = torch.stack(
        [
            torch.cat([
                snapshot.model.sample(told[part], ["all"] * len(real[part]), [k * 100_000 + int(i) for i in rows[part]])
                for part in (slice(s, s + 250) for s in range(0, len(rows), 250))
            ])
            for k in range(MEANS)
        ]
    )  # fmt: skip
    network = RandomFeatures(data.shape)
    fake = network(made[0])
    distance = KernelDistance()(real=random_features(data, rows, network), fake=fake)
    said = judge.probabilities(lambda part: made[0][part], len(rows)).argmax(1).numpy()
    agreed = np.mean([names[n] == classes[i] for n, i in zip(said, rows, strict=True)])
    shown = torch.cat(
        [torch.stack([told.map[i], *made[:4, i], real[i]]) for i in range(0, len(rows), len(rows) // 12)]
    )
    (OUT / f"{picture}.png").write_bytes(grid(data.modality.preview(data.modality.to_raw(shown)), columns=6))
    apart = (made[0] - made[1]).abs().mean() / (real - made.mean(0)).abs().mean()
    return [
        float((real - made[0]).abs().mean()), float((real - made.mean(0)).abs().mean()), distance, float(agreed), float(apart),
    ]  # fmt: skip


if __name__ == "__main__":
    given = options(task="low", updates=2_000, seeds=3, first=0, threads=0)
    full = fashion()
    judge, names = judge_of(full), Numbers.of(full).names
    found: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for seed in range(given.first, given.first + given.seeds):
        data, classes = paired(full, given.task, seed)
        for arm, arguments in ARMS.items():
            name = f"translate-{given.task}-{arm.replace(' ', '-')}-{given.updates}-{seed}"
            snapshot = sibling.fit(
                data, out=OUT / name, model="translate", arguments=arguments, steps=given.updates, seed=seed,
                tensorboard=False, threads=given.threads or None, resume=True,
            )  # fmt: skip
            found[arm].append(measured(snapshot, data, classes, judge, names, name))
            print(arm, seed, [f"{value:.4f}" for value in found[arm][-1]], flush=True)
    rows: list[tuple[str, ...]] = [
        ("model", "L1", "L1 of the mean of 8", "kernel distance", "class agreement", "two samples apart")
    ]
    rows += [(arm, *(interval([one[i] for one in runs]) for i in range(5))) for arm, runs in found.items()]
    show(f"pairs, {given.task}", rows, updates=given.updates)
