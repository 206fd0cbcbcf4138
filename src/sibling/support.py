"""What a verdict supports: which synthetic samples are written, and the recipe that needs none of them."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .dataset import Dataset
from .types import Evaluation

__all__ = ["advice_of", "recipe_json", "sentence_of", "supported"]

log = logging.getLogger("sibling")


def advice_of(verdict: str | Path | Evaluation | None) -> dict[str, Any]:
    """The advice of a verdict, from memory or from the folder that `evaluate` wrote; {} where there is none.

    Raises BadInput for a folder without verdict.json.
    """
    if verdict is None:
        return {}
    if isinstance(verdict, Evaluation):
        return verdict.verdict.advice or _none(verdict.verdict.sentence)
    saved = _saved(verdict)
    return dict(saved.get("advice") or _none(str(saved.get("sentence", ""))))


def sentence_of(verdict: str | Path | Evaluation | None) -> str | None:
    """The answer of a verdict in plain words; None where there is none. Raises BadInput."""
    if verdict is None:
        return None
    if isinstance(verdict, Evaluation):
        return verdict.verdict.sentence
    return str(_saved(verdict).get("sentence", "")) or None


def _saved(place: str | Path) -> dict[str, Any]:
    folder = Path(place)
    folder = folder / "evaluation" if (folder / "evaluation").is_dir() else folder
    return dict(files.read_json(folder / "verdict.json"))


def _none(reason: str) -> dict[str, Any]:
    return {"write": "nothing", "amount": {}, "reason": reason, "augmentation": {}}


def supported(fake: Dataset, advice: dict[str, Any]) -> Dataset:
    """The synthetic samples that the advice allows: the first of each class, as they were tested."""
    if advice["write"] == "all":
        return fake
    amount = {str(name): int(n) for name, n in advice["amount"].items()}
    classes = fake.classes(np.arange(len(fake)))
    if set(amount) == {"all"} and "all" not in fake.condition.classes:
        classes = ["all"] * len(fake)
    seen: Counter[str] = Counter()
    rows = []
    for i, name in enumerate(classes):
        if seen[name] < amount.get(name, 0):
            rows.append(i)
        seen[name] += 1
    if advice["write"] == "nothing":
        log.warning(
            "No synthetic sample is written, because the verdict does not support it: %s What helps as far as is known is "
            "in augmentation.json. To write them anyway: --write-anyway (write_anyway=True).",
            advice["reason"],
        )
    else:
        log.info("  supported    %s of %s synthetic samples", f"{len(rows):,}", f"{len(fake):,}")
    return fake.subset(rows)


def recipe_json(advice: dict[str, Any], *, write_anyway: bool, modality: Any = None) -> dict[str, Any]:
    """What augmentation.json holds: the tuned recipe of the real samples, what was written, and why.

    modality  of the samples, which says what its augmentation does; None = it is not said
    """
    return {
        "format": 1,
        "written": "all" if write_anyway else advice["write"],
        "against_the_verdict": bool(write_anyway and advice["write"] != "all"),
        "reason": advice["reason"],
        "augmentation": {
            "strength": advice["augmentation"].get("strength"),
            "meaning": f"sibling's modality.augment(x, strength, rng){_meaning(modality)}; null: no augmentation was best",
            **{name: value for name, value in advice["augmentation"].items() if name != "strength"},
        },
    }


def _meaning(modality: Any) -> str:
    """What augmentation at a strength does to samples of this kind."""
    if modality is None:
        return ""
    told = (inspect.getdoc(type(modality).augment) or "").partition("\n\n")[0]
    return f": {' '.join(told.split()).rstrip('.')}" if told else ""
