"""Kaomoji of 8 categories: a recogniser trained on synthetic strings alone, tested on real ones; 100 strings to be read.

    scripts/bench text                         # VAE, 2 minutes of one thread
    scripts/bench text --model gan
    scripts/bench text --prior adversarial
    scripts/bench text --updates 2000          # a number of updates, where other work shares the machine

Needs the PyPI package kaomoji-dataset (CC BY 4.0, not bundled; version 1.0.6 was measured). 800 strings a category
that occur once, in one category, of at most 20 characters. Claims: synthetic-only accuracy at least 0.7 of the real
one, at least 95 % of the strings novel, and after the filter of copies none among 100 drawn at random.
A run that was stopped goes on.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from common import OUT, accuracy_on_test, options, real_only, show

import sibling
from sibling.dataset import Dataset
from sibling.judge import NearestReal, Numbers, fetcher
from sibling.metrics.features import RandomFeatures
from sibling.metrics.memorisation import copies, threshold
from sibling.metrics.recogniser import Pool
from sibling.metrics.wording import wording_scores
from sibling.sample import draw

CATEGORIES = ("happy", "sad", "angry", "surprised", "sleepy", "shy", "fight", "animals")
MOST, LENGTH = 800, 20  # strings a category, characters
PER_CLASS = 400
STEPS = 600  # of each recogniser


def kaomoji() -> Dataset:
    """6,400 strings: 4,480 train, 640 val, 1,280 test."""
    table, store = OUT / "kaomoji.jsonl", OUT / "kaomoji-store"
    if not store.exists():
        found = find_spec("kaomoji_dataset")
        if found is None or found.origin is None:
            raise SystemExit("Install kaomoji-dataset==1.0.6 first: pip install kaomoji-dataset==1.0.6")
        with gzip.open(
            Path(found.origin).parent / "data" / "kaomoji.jsonl.gz", "rt", encoding="utf-8"
        ) as file:
            rows = [json.loads(line) for line in file]
        categories = defaultdict(list)
        for row in rows:
            categories[row["text"]].append(row["category"])
        rng, chosen = np.random.default_rng(0), []
        for name in CATEGORIES:
            own = [t for t, held in categories.items() if held == [name] and len(t) <= LENGTH]
            chosen += [{"text": own[i], "label": name} for i in sorted(rng.permutation(len(own))[:MOST])]
        OUT.mkdir(exist_ok=True)
        table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen), "utf-8")
        sibling.read(table, out=store)
    return sibling.read(store)


def measured(snapshot: Any, seed: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows of the table, and 100 strings with their category."""
    data = snapshot.data
    numbers, modality = Numbers.of(data), data.modality
    drawn = draw(snapshot, {name: range(PER_CLASS) for name in numbers.names}, seed)
    made = sibling.curate(drawn, against=snapshot, filters="copy", effects=False)
    every = np.arange(len(made))
    train, test = data.rows("train", "real"), data.rows("test", "real")
    own = accuracy_on_test(data, Pool([(fetcher(made, every), numbers(made, every))]), steps=STEPS, seed=seed)
    real = real_only(data, steps=STEPS, seed=seed)
    texts = {"train": train, "test": test}
    said: dict[str, Any] = {name: modality.texts(data.raw[rows]) for name, rows in texts.items()}
    classes: dict[str, Any] = {f"{name}_y": data.classes(rows) for name, rows in texts.items()}
    scores = wording_scores(
        **said,
        **classes,
        fake=modality.texts(made.raw),
        fake_y=made.classes(every),
        rng=np.random.default_rng(seed),
    )
    known = set(said["train"])
    nearest = NearestReal(data, RandomFeatures(data.shape))
    limit = threshold(nearest.held_out("val").ratio)
    read = np.sort(np.random.default_rng(seed).permutation(len(made))[:100])
    near = nearest(made, read)
    found = int(copies(near.ratio, limit).sum())
    exact = sum(modality.texts(made.raw[i : i + 1])[0] in known for i in read)
    fresh = nearest.held_out("test").ratio
    rows = [
        ("measured", "value", "real"),
        ("accuracy, trained on these alone", f"{own:.3f} ({own / real:.2f} of the real one)", f"{real:.3f}"),
        *((one.name, f"{one.value:.3f}", f"{one.floor:.3f}") for one in scores),
        (
            "novelty before the filter of copies",
            f"{np.mean([t not in known for t in modality.texts(drawn.raw)]):.3f}",
            "",
        ),
        ("exact copies in 100", str(exact), "0"),
        (
            f"copies in 100 (ratio below {limit:.2f})",
            str(found),
            f"{100 * float((fresh < limit).float().mean()):.1f}",
        ),
    ]
    shown = [
        f"{name:<10} {text}"
        for name, text in zip(made.classes(read), modality.texts(made.raw[read]), strict=True)
    ]
    return rows, shown


if __name__ == "__main__":
    given = options(model="vae", prior="", minutes=2.0, updates=0, seed=0, threads=1)
    data = kaomoji()
    budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
    snapshot = sibling.fit(
        data, out=OUT / f"kaomoji-{given.model}{given.prior}-{given.updates or given.minutes}-{given.seed}",
        model=given.model, arguments={"prior": given.prior} if given.prior else None, seed=given.seed,
        tensorboard=False, threads=given.threads, resume=True, **budget,
    )  # fmt: skip
    facts = snapshot.run
    print(facts["steps"], "steps,", f"{facts['minutes']:.2f} minutes")
    rows, shown = measured(snapshot, given.seed)
    print("\n".join(shown))
    show(f"kaomoji, {given.model}", rows, steps=facts["steps"], strings=shown)
