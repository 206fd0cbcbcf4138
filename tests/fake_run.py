"""A run folder as the stages write it, without running them: for the tests of its readers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from sibling.files import write_manifest

__all__ = ["dump", "dump_lines", "regression", "undecided", "verdict", "write_evaluation", "write_run"]


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
        score("label_agreement", 0.97, 0.95, 0.98, floor=0.985, space="classifier 77c1", per_class=per_class,
              meaning="Share of the synthetic pictures that a recogniser puts in their own class."),
        score("membership_attack", 0.61, 0.55, 0.67, goal="min", floor=0.5, space="pixels",
              meaning="How often one can tell from the synthetic pictures whether a picture was trained on."),
        score("something_new", 3.25, 3.1, 3.4, goal="min", floor=3.0, space="spectrum", ceiling=9.5,
              meaning="A score that this version does not know."),
        score("log_likelihood", None, None, None, space="pixels", meaning="How well it explains real ones."),
    ]  # fmt: skip


def _arm(name: str, role: str, runs: list[float], meaning: str, **more: Any) -> dict[str, Any]:
    row = {"name": name, "mean": sum(runs) / len(runs), "runs": runs, "role": role, "meaning": meaning}
    return row | {"stopped": False} | more


def _over(lift: float, low: float, high: float) -> dict[str, Any]:
    return {"lift_over_it": {"lift": lift, "low": low, "high": high}}


def _measured(accuracy: float, worst: float, names: list[str]) -> dict[str, Any]:
    return {
        "accuracy": accuracy, "balanced_accuracy": accuracy - 0.004, "macro_f1": accuracy - 0.007, "worst_class": worst,
        "calibration_error": 0.15 - 0.12 * accuracy, "per_class": dict.fromkeys(names, accuracy),
    }  # fmt: skip


def _arms(names: list[str]) -> list[dict[str, Any]]:
    """All roles, and a rival that was stopped after one run."""
    table: list[tuple[str, str, list[float], float, str, dict[str, Any]]] = [
        ("real", "rival", [0.762], 0.55, "the real train part as it is", {"stopped": True}),
        ("real + classic", "rival", [0.905, 0.899, 0.911], 0.75, "classic augmentation of strength 0.5",
         _over(2.1, 0.3, 3.9)),
        ("real + classic + mix", "rival", [0.897, 0.889, 0.903], 0.73, "classic augmentation and cutmix",
         _over(3.0, 0.9, 5.0)),
        ("real + duplicates", "rival", [0.902, 0.897, 0.906], 0.74,
         "placebo: 1,000 repeated real samples in place of the synthetic ones", _over(2.4, 0.5, 4.2)),
        ("real + synthetic", "candidate", [0.925, 0.922, 0.931], 0.82,
         "classic augmentation and 1,000 synthetic samples", {}),
        ("shuffled labels", "control", [0.86, 0.855], 0.61,
         "must lose: the same synthetic samples with their labels shuffled", {}),
        ("synthetic only", "reference", [0.842, 0.851], 0.58,
         "no real sample at all, classic augmentation", {}),
    ]  # fmt: skip
    return [
        _arm(name, role, runs, meaning, **_measured(sum(runs) / len(runs), worst, names), **more)
        for name, role, runs, worst, meaning, more in table
    ]


def _protocol(**more: Any) -> dict[str, Any]:
    return {
        "effort": "default", "splits": 1, "cross_validation": False, "seeds": 3, "seed": 0, "train_samples": 700,
        "val_samples": 100, "test_samples": 200, "synthetic_samples": [1000], "steps": 600, "batch": 32,
        "learning_rate": 0.002, "weight_decay": 0.02, "strength": 0.5,
        "tuning": [
            "rate, weight decay and batch: rate 0.002, weight decay 0.02, batch 32, on the val part the best of "
            "rate 0.002, weight decay 0.02, batch 32 0.91, rate 0.002, weight decay 0.2, batch 32 0.89 (accuracy)",
            "mix: cutmix, on the val part the best of mixup 0.88, cutmix 0.9 (accuracy)",
        ],
        "stopped": ["real"], "trainings": 31, "classifier": "sibling.metrics.recogniser",
        "interval": "hierarchical bootstrap over seeds and groups of test samples, with Student's t for few repeats",
        "helps_if": "the lower end of the lift over every rival is above 0", "minutes": 2.31,
    } | more  # fmt: skip


def verdict(names: list[str]) -> dict[str, Any]:
    """verdict.json where synthetic samples help, a part of them was tested, and one arm was stopped."""
    sentence = (
        "The synthetic samples help: +2.1 points of accuracy over “real + classic” (95 % interval +0.3 to "
        "+3.9), on 200 real test samples."
    )
    return {
        "format": 1, "verdict": "helps", "lift": 2.1, "low": 0.3, "high": 3.9, "metric": "accuracy",
        "unit": "points", "goal": "max", "sentence": sentence, "arms": _arms(names), "protocol": _protocol(),
        "seeds": 3, "power": 1.6, "steps": 600, "rival": "real + classic",
        "per_class": {
            name: {"lift": 6.0 - 2 * i, "low": 1.0 - 2 * i, "high": 11.0 - 2 * i} for i, name in enumerate(names)
        },
        "advice": {
            "write": "some", "amount": dict.fromkeys(names, 100), "of": dict.fromkeys(names, 498),
            "reason": f"{sentence} Tested, and so supported, was this part of the synthetic samples.",
            "augmentation": {"strength": 0.5, "batch": 32, "learning_rate": 0.002, "best_arm": "real + classic"},
        },
        "decided": True, "worth": {"real_samples": 120.0, "low": 40.0, "high": 260.0},
    }  # fmt: skip


def regression() -> dict[str, Any]:
    """verdict.json of numbers: an error where less is better, cross-validated, no evidence; ends that are null."""

    def arm(name: str, role: str, runs: list[float], **more: Any) -> dict[str, Any]:
        mean = sum(runs) / len(runs)
        measures = {"mean_absolute_error": mean, "per_class": {"severity": mean}}
        return _arm(name, role, runs, "", **measures, **more)

    sentence = (
        "There is no evidence that the synthetic samples help: 0.0021 less mean absolute error (of severity) than "
        "“real + classic” (95 % interval of the lift -0.0034 to +0.0076), on 160 real test samples; a lift below about "
        "0.0055 of severity could not have been seen."
    )
    return verdict(["severity"]) | {
        "verdict": "no evidence", "lift": 0.0021, "low": -0.0034, "high": 0.0076, "metric": "mean absolute error",
        "unit": "of severity", "goal": "min", "sentence": sentence, "power": 0.0055, "per_class": {}, "worth": {},
        "arms": [
            arm("real", "rival", [0.0664, 0.0651, 0.0702], **_over(0.0093, 0.0031, 0.0155)),
            arm("real + classic", "rival", [0.0601, 0.0588, 0.0612], **_over(0.0021, -0.0034, 0.0076)),
            arm("real + duplicates", "rival", [0.0611, 0.0595, 0.0622], lift_over_it={
                "lift": 0.003, "low": None, "high": None}),
            arm("real + synthetic", "candidate", [0.0572, 0.0581, 0.0585]),
            arm("shuffled labels", "control", [0.0921, 0.0873]),
        ],
        "protocol": _protocol(splits=5, cross_validation=True, test_samples=160, synthetic_samples=[128] * 5),
        "advice": {"write": "nothing", "amount": {}, "of": {"all": 800}, "reason": sentence,
                   "augmentation": {"strength": 0.25, "best_arm": "real + classic"}},
    }  # fmt: skip


def undecided() -> dict[str, Any]:
    """verdict.json where nothing could be compared: no arms, every number null."""
    return verdict([]) | {
        "verdict": "no evidence", "lift": None, "low": None, "high": None, "arms": [], "protocol": {}, "seeds": 0,
        "power": None, "steps": 0, "rival": "", "per_class": {}, "advice": {}, "decided": False, "worth": {},
        "sentence": "Nobody can tell: 12 real test samples are too few; 20 are the least.",
    }  # fmt: skip


def write_evaluation(
    folder: Path,
    names: list[str],
    pictures: dict[str, np.ndarray] | None = None,
    answer: dict[str, Any] | None = None,
) -> Path:
    """What `evaluate` writes, with its manifest."""
    dump(folder / "scores.json", {
        "format": 1, "sibling": "0.1.0", "scores": _scores(names),
        "warnings": ["61 % of the synthetic samples are copies <of> a training sample."],
        "notes": ["The log-likelihood needs a model with a density; this one has none."],
    })  # fmt: skip
    dump(folder / "verdict.json", answer or verdict(names))
    copies = [
        {
            "fake": f"{names[0]}/synthetic-{i:06d}",
            "real": f"{names[0]}/{i}.png",
            "y": names[0],
            "ratio": 0.31 + 0.03 * i,
        }
        for i in range(14)
    ]
    dump(folder / "pictures.json", {"classes": names, "copies": copies})
    np.savez(folder / "pictures.npz", **(pictures or _digits(names)))  # type: ignore[arg-type]
    write_manifest(folder, kind="evaluation")
    return folder


def _filters() -> list[dict[str, Any]]:
    known = {
        "name": "copy ceiling", "dropped": 11, "of": 5000, "limit": 0.5, "calibrated_on": "210 held-out real pictures",
        "diversity_before": 0.91, "diversity_after": 0.908, "utility_before": 0.884, "utility_after": 0.886,
        "meaning": "Drops what lies far closer to one training picture than to the next.",
    }  # fmt: skip
    new = dict.fromkeys(known) | {"name": "something new", "dropped": 0}
    return [known, new]


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
        run / "curation.json",
        {"asked": 5000, "kept": 4980, "rounds": 2, "dropped": dropped, "rules": rules, "filters": _filters()},
    )
    row = {"y": names[0], "reason": "copy", "detail": "ratio 0.31 < 0.5", "nearest_real": f"{names[0]}/1.png"}
    dump_lines(run / "curation.jsonl", [{"key": f"{names[0]}/{i}", "ratio": 0.31, **row} for i in range(20)])
    write_evaluation(run / "evaluation", names, pictures)
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
