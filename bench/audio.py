"""Spoken letters and syllables by language: train a model for some minutes, then a recogniser on its samples alone.

    scripts/bench audio                                 # VAE, five languages, 4 minutes, 3 seeds
    scripts/bench audio --model gan --minutes 10
    scripts/bench audio --updates 2000 --threads 1      # a number of updates, where other work shares the machine

Data: the Debian package klettres-data (GPL-2+), Ogg Vorbis of 44.1 kHz; label = language, which is also one speaker
and one way to record: easier than languages as such. Claim: synthetic-only accuracy on real test clips at least
3 times chance and at least 0.6 of what real clips reach. A seed that is finished is not trained again. Spectrograms
and a few sounds go to bench/out, to be looked at and listened to.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common import OUT, interval, looks, options, real_only, show, synthetic_only

import sibling
from sibling.dataset import Dataset
from sibling.preview import grid
from sibling.sample import draw

KLETTRES = Path("/usr/share/klettres")
HEARD = 3  # clips of each language that are written as sounds


def klettres(languages: list[str]) -> Dataset:
    """Clips of these languages, a class folder each, decoded once."""
    name = "klettres-" + "-".join(languages)
    place, store = OUT / name, OUT / f"{name}-store"
    if not store.exists():
        shutil.rmtree(place, ignore_errors=True)
        for language in languages:
            (place / language).mkdir(parents=True)
            for clip in sorted((KLETTRES / language).glob("*/*.ogg")):
                shutil.copy(clip, place / language / f"{clip.parent.name}-{clip.name}")
        sibling.read(place, out=store)
    return sibling.read(store)


def show_samples(snapshot: Any, name: str, seed: int) -> None:
    """Real and made spectrograms, a row a language, and some made sounds, in bench/out."""
    data, modality = snapshot.data, snapshot.modality
    names = list(data.condition.classes)
    made = draw(snapshot, {language: range(8) for language in names}, seed)
    (OUT / f"{name}.png").write_bytes(grid(modality.preview(made.raw), columns=8, edge=128))
    rows = data.rows("train", "real")
    groups = data.classes(rows)
    real = [row for language in names for row in rows[[group == language for group in groups]][:8]]
    (OUT / f"{name}-real.png").write_bytes(grid(modality.preview(data.raw[real]), columns=8, edge=128))
    for i, language in enumerate(names):
        for number in range(HEARD):
            sound = OUT / f"{name}-{language}-{number}{modality.suffix}"
            sound.write_bytes(modality.encode(made.raw[8 * i + number]))


if __name__ == "__main__":
    given = options(
        languages="es,it,ru,uk,lt", model="vae", minutes=4.0, updates=0, seeds=3, first=0, threads=0,
        per_class=300, steps=400,
    )  # fmt: skip
    languages = given.languages.split(",")
    data = klettres(languages)
    scores: dict[str, list[float]] = {}
    for seed in range(given.first, given.first + given.seeds):
        name = f"audio-{len(languages)}-{given.model}-{seed}"
        budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
        snapshot = sibling.fit(
            data, out=OUT / name, model=given.model, seed=seed, tensorboard=False,
            threads=given.threads or None, resume=True, **budget,
        )  # fmt: skip
        facts = snapshot.run
        print(facts["steps"], "steps", facts["seen_samples"], "samples", f"{facts['minutes']:.2f} minutes")
        show_samples(snapshot, name, seed)
        results = {
            "synthetic": synthetic_only(snapshot, per_class=given.per_class, steps=given.steps, seed=seed),
            "real": real_only(data, steps=given.steps, seed=seed),
        }
        results["synthetic over real"] = results["synthetic"] / results["real"]
        results["synthetic over chance"] = results["synthetic"] * len(languages)
        results |= looks(snapshot, per_class=50, seed=seed)
        for key, value in results.items():
            scores.setdefault(key, []).append(value)
        print({key: f"{value:.4f}" for key, value in results.items()}, flush=True)
    test = len(data.rows("test", "real"))
    table = [("trained on, or looked at", f"accuracy on {test:,} real test clips, or value")]
    table += [(key, interval(values)) for key, values in scores.items()]
    show(f"klettres {len(languages)} languages {given.model}", table)
