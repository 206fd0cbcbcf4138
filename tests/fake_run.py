"""A run folder as the stages write it, without running them: for the tests of its readers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

__all__ = ["dump", "dump_lines", "write_run"]


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def dump_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _digits(names: list[str], n: int = 16) -> dict[str, np.ndarray]:
    """Real digits and slightly blurred ones as fakes, (n, 8, 8, 3) for each class."""
    x, y = load_digits(return_X_y=True)
    pictures = {}
    for i in range(len(names)):
        gray = (x[y == i % 10].reshape(-1, 8, 8) * 15.9).astype(np.uint8)
        real = np.repeat(gray[:n, :, :, None], 3, axis=-1)
        source = np.repeat(gray[n : 2 * n, :, :, None], 3, axis=-1)
        fake = [np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(0.6))) for p in source]
        pictures |= {f"real_{i}": real, f"fake_{i}": np.stack(fake)}
    pictures["copies_real"] = pictures["real_0"][:14]
    pictures["copies_fake"] = np.clip(pictures["real_0"][:14] * 0.9 + 12, 0, 255).astype(np.uint8)
    return pictures


def _run_json(names: list[str]) -> dict[str, Any]:
    parts = {"train": 70, "val": 10, "test": 20}
    return {
        "format": 1,
        "sibling": "0.1.0",
        "model": "vae",
        "arguments": {"latent": 16, "width": 32, "beta": 1.0},
        "shape": [1, 8, 8],
        "modality": {"name": "image", "shape": [1, 8, 8]},
        "condition": {"name": "label", "classes": names},
        "data": {
            "fingerprint": "9f2c" * 16,
            "source": "digits",
            "counts": {part: {name: n - i for i, name in enumerate(names)} for part, n in parts.items()}
            if len(names) <= 10
            else {part: dict.fromkeys(names, n) for part, n in parts.items()},
        },
        "seed": 0,
        "steps": 4000,
        "step": 4000,
        "best_step": 3100,
        "seen_samples": 512000,
        "minutes": 5.12,
        "stopped": "the planned steps are done",
        "derived": [
            {"name": "batch", "value": "128", "why": "n/4 rounded to 8, at most 128"},
            {"name": "steps", "value": "4000", "why": "5 minutes at the measured 78 ms a step"},
            {"name": "latent", "value": "16", "why": "fewer than 500 samples a class"},
        ],
        "notes": ["The val part has 100 pictures: the choice of the step is rough."],
        "environment": {
            "python": "3.12.3",
            "torch": "2.9.0",
            "threads": 2,
            "bf16": True,
            "platform": "Linux",
        },
    }


def _stats() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for step in range(50, 4001, 50):
        fall = math.exp(-step / 700)
        row: dict[str, Any] = {"step": step, "seen_samples": step * 128, "minutes": step / 780}
        row["loss/reconstruction"] = 0.9 + 30 * fall + 0.1 * float(rng.random())
        row["loss/kl"] = 8 * (1 - fall) + 0.3 * float(rng.random())
        row["loss/total"] = row["loss/reconstruction"] + row["loss/kl"]
        if step % 250 == 0:
            row["val/loss"] = 9 + 25 * fall + 1.2 * (max(0, step - 3100) / 900) ** 2
        rows.append(row)
    return rows


def _found(names: list[str]) -> dict[str, Any]:
    return {
        "format": "folder",
        "source": "digits",
        "counts": dict.fromkeys(names, 100),
        "total": 100 * len(names),
        "origin": {"real": 100 * len(names)},
        "bad": [
            {"key": f"{names[0]}/broken.png", "reason": "the file ends in the middle of the picture"},
            {"key": "notes.png", "reason": "not an image: it begins with HTML"},
        ],
        "bad_count": 2,
        "sizes": [["8x8", 990], ["16x16", 10]],
        "modes": [["L", 995], ["RGB", 5]],
        "exact_duplicates": 4,
        "near_duplicates": 7,
        "contradictions": [[f"{names[0]}/1.png", f"{names[-1]}/2.png"]],
        "split": {"train": 70 * len(names), "val": 10 * len(names), "test": 20 * len(names)},
        "split_hash": "ab12" * 16,
        "choices": [
            {"name": "shape", "value": "1 x 8 x 8", "why": "99 % of the pictures have this size"},
            {"name": "channels", "value": "1", "why": "99 % are gray, and the rest has equal channels"},
        ],
    }


def _scores(names: list[str]) -> list[dict[str, Any]]:
    counts = {"real": 200, "fake": 1000}
    per_class = {name: 0.5 + 0.4 * math.sin(i) for i, name in enumerate(names)}

    def score(
        name: str, value: float | None, low: float | None, high: float | None, **more: Any
    ) -> dict[str, Any]:
        row = {"name": name, "value": value, "low": low, "high": high, "goal": "max", "floor": None}
        return row | {"space": "recogniser 3f2a", "counts": counts, "per_class": {}, "meaning": ""} | more

    return [
        score("kernel_distance", 0.012, 0.009, 0.016, goal="min", floor=0.001, per_class=per_class,
              meaning="How far the synthetic pictures as a whole lie from the real ones."),
        score("precision", 0.91, 0.88, 0.94, floor=0.93, meaning="Share of the fakes that look real."),
        score("recall", 0.52, 0.47, 0.58, floor=0.92, per_class=per_class,
              meaning="Share of the real variety that the synthetic pictures reach."),
        score("copy_share", 0.011, 0.004, 0.021, goal="min", floor=0.0,
              meaning="Share of the synthetic pictures that nearly repeat one training picture."),
        score("label_agreement", 0.97, 0.95, 0.98, floor=0.985, space="classifier 77c1",
              meaning="Share of the synthetic pictures that a recogniser puts in their own class."),
        score("log_likelihood", None, None, None, space="pixels", meaning="How well it explains real ones."),
    ]  # fmt: skip


def _evaluation(names: list[str]) -> dict[str, Any]:
    def arm(runs: list[float], worst: float, meaning: str) -> dict[str, Any]:
        return {"mean": sum(runs) / len(runs), "runs": runs, "worst_class": worst, "meaning": meaning}

    return {
        "scores": _scores(names),
        "verdict": {
            "answer": "helps",
            "lift": 2.1,
            "low": 0.3,
            "high": 3.9,
            "arms": {
                "real": arm([0.871, 0.880, 0.874], 0.70, "the real train part alone"),
                "real + classic": arm([0.905, 0.899, 0.911], 0.75, "with tuned classic augmentation"),
                "real + duplicates": arm([0.902, 0.897, 0.906], 0.74, "real ones repeated: the placebo"),
                "real + synthetic": arm([0.925, 0.922, 0.931], 0.82, "classic augmentation and synthetic"),
                "real + shuffled synthetic": arm([0.86, 0.855, 0.871], 0.61, "wrong classes: must lose"),
                "synthetic only": arm([0.842, 0.851, 0.848], 0.58, "no real picture at all"),
            },
            "seeds": 3,
            "power": 1.6,
            "steps": 600,
            "sentence": "With the synthetic pictures the recogniser gets 2.1 points more of the 200 real "
            "test pictures right (95 % interval 0.3 to 3.9) than with the best that real ones alone can do.",
        },
        "notes": ["The log-likelihood needs a model with a density; this one has none."],
        "pictures": {
            "classes": names,
            "copies": [
                {"fake": f"{names[0]}/synthetic-{i:06d}", "real": f"{names[0]}/{i}.png", "y": names[0],
                 "ratio": 0.31 + 0.03 * i} for i in range(14)
            ],
        },
    }  # fmt: skip


def write_run(
    run: Path, names: list[str] | None = None, pictures: dict[str, np.ndarray] | None = None
) -> Path:
    """A finished run folder with everything in it."""
    names = names or [f"digit {i}" for i in range(10)]
    pictures = pictures or _digits(names)
    dump(run / "run.json", _run_json(names))
    dump(run / "data" / "store.json", {"found": _found(names)})
    dump_lines(run / "stats.jsonl", _stats())
    dropped = {"copy": 11, "double": 2, "mislabelled": 7, "unreal": 0}
    rules = [
        "copy: a ratio below 0.5, the usual threshold.",
        "mislabelled: the share of its class is below 0.2.",
    ]
    dump(
        run / "curation.json", {"asked": 5000, "kept": 4980, "rounds": 2, "dropped": dropped, "rules": rules}
    )
    row = {"y": names[0], "reason": "copy", "detail": "ratio 0.31 < 0.5", "nearest_real": f"{names[0]}/1.png"}
    dump_lines(run / "curation.jsonl", [{"key": f"{names[0]}/{i}", "ratio": 0.31, **row} for i in range(20)])
    dump(run / "evaluation" / "evaluation.json", _evaluation(names))
    np.savez(run / "evaluation" / "pictures.npz", **pictures)  # type: ignore[arg-type]
    (run / "previews").mkdir()
    stacks = np.concatenate([pictures[f"fake_{i}"][:8] for i in range(min(4, len(names)))])
    tile = np.concatenate(
        [np.concatenate(list(stacks[i * 8 : i * 8 + 8]), 1) for i in range(len(stacks) // 8)]
    )
    for step in (500, 4000):
        Image.fromarray(tile).save(run / "previews" / f"step-{step:06d}.png")
    files = {"model.safetensors": {"bytes": 1, "sha256": "cd34" * 16}}
    dump(run / "MANIFEST.json", {"kind": "run", "files": files})
    return run
