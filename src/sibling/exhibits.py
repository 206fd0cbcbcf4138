"""What a report shows of the samples themselves: sheets, players, pairs that are alike, the last preview."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .drawings import visible
from .embedded import fitting, moving_sheet, png, sheet, shrunk, uri, wav_uri
from .game import finite
from .views import View

__all__ = ["copies_view", "grids_view", "preview_view"]

COLUMNS, ROWS = 8, 2  # of a sheet of pictures
PAIRS = 12  # copy-like fakes
TINY = 48  # pictures up to this many pixels are enlarged without smoothing
CLASSES = 24  # shown with pictures
# Bytes before base64, which adds a third: together with tables and curves below 5 MB.
SHEET_BYTES, PAIR_BYTES, PREVIEW_BYTES, SOUND_BYTES = 2_200_000, 450_000, 450_000, 1_200_000


def grids_view(pictures: View, kept: View) -> View:
    """Real beside synthetic for the first classes: taken in order, none chosen for its looks. Clips move.

    kept  what pictures.json says: the classes, the rate of sounds, the frame rate of clips; for each class what the
          samples say, {"real", "fake"}, where they are texts
    """
    classes: list[str] = kept.get("classes") or []
    texts = kept.get("texts")
    if "problem" in pictures:
        return pictures
    most = COLUMNS * ROWS
    rows: list[View] = []
    arrays: list[np.ndarray] = []
    said = texts if isinstance(texts, list) else []
    for i, name in enumerate(classes or ["all"]):
        pair = {kind: pictures.get(f"{kind}_{i}", np.empty(0))[:most] for kind in ("real", "fake")}
        if not any(len(stack) for stack in pair.values()):
            continue
        edges = (pair["real"] if pair["real"].size else pair["fake"]).shape[-3:-1]
        rows.append({"number": i, "name": name, "tiny": max(edges) <= TINY})
        for kind in pair if i < len(said) else ():
            rows[-1][f"{kind}_texts"] = [visible(str(text)) for text in said[i][kind][:most]]
        for kind, stack in pair.items():
            rows[-1][kind] = {"n": len(stack), "at": len(arrays) if len(stack) else None}
            arrays += [stack] if len(stack) else []
        if len(rows) == CLASSES:
            break
    frames = kept.get("frame_rate")
    rate = min(50.0, max(1.0, float(frames))) if finite(frames) else 8.0

    def drawn(stack: np.ndarray, edge: int) -> bytes:
        return moving_sheet(stack, COLUMNS, edge, rate) if stack.ndim == 5 else sheet(stack, COLUMNS, edge)

    uris = fitting(lambda edge: (drawn(stack, edge) for stack in arrays), SHEET_BYTES)
    heard = _sounds(pictures, [row["number"] for row in rows], kept.get("rate"))
    return {"rows": rows, "uris": uris, "classes": len(classes), "named": bool(classes), "sounds": heard}


def _sounds(pictures: View, numbers: list[int], rate: Any) -> View:
    """ "real_0" -> players of the clips of class 0, within a budget: as many clips of each class as fit."""
    if not finite(rate) or not 1_000 <= rate <= 96_000:
        return {}
    names = [f"{kind}_{i}" for i in numbers for kind in ("real", "fake")]
    stacks = {name: pictures.get(name.replace("_", "_sound_"), np.empty((0, 0), np.int16)) for name in names}
    stacks = {name: stack for name, stack in stacks.items() if stack.ndim == 2 and stack.size}
    if any(stack.dtype != np.int16 for stack in stacks.values()):
        raise ValueError("the sounds are no 16-bit numbers")
    each = max((len(stack) for stack in stacks.values()), default=0)
    while each and sum(stack[:each].nbytes for stack in stacks.values()) > SOUND_BYTES:
        each -= 1
    return {name: [wav_uri(clip, int(rate)) for clip in stack[:each]] for name, stack in stacks.items()}


def copies_view(pictures: View, rows: list[View]) -> View:
    """The most copy-like fakes, each beside its nearest real training sample, as one picture a pair."""
    fakes, reals = (pictures.get(f"copies_{kind}", np.empty(0)) for kind in ("fake", "real"))
    pairs = [np.stack(pair) for pair in zip(fakes, reals, strict=False)]
    order = sorted(range(min(len(pairs), len(rows))), key=lambda i: _sortable(rows[i].get("ratio")))[:PAIRS]
    uris = fitting(lambda edge: (sheet(pairs[i], 2, edge) for i in order), PAIR_BYTES)
    return {
        "pairs": [{**_shown(rows[i]), "uri": uri} for i, uri in zip(order, uris, strict=True)],
        "total": len(rows),
        "tiny": bool(pairs) and max(pairs[0].shape[1:3]) <= TINY,
    }


def _shown(pair: View) -> View:
    """A pair whose texts, where it has any, can be shown."""
    return {key: visible(str(value)) if key.endswith("_text") else value for key, value in pair.items()}


def _sortable(value: Any) -> float:
    return float(value) if finite(value) else math.inf


def preview_view(run: Path) -> View:
    """The last preview, decoded and encoded anew: no bytes of the folder reach the page as they are."""
    paths = sorted((run / "previews").glob("step-*.png"))
    if not paths:
        return {}
    picture = shrunk(paths[-1], PREVIEW_BYTES)
    return {"uri": uri(png(picture)), "name": paths[-1].stem, "tiny": max(picture.size) <= 400}
