"""Samples that the discriminator takes for real: several times as many are drawn, the best stay."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import torch

from .codes import Space
from .dataset import Dataset
from .errors import UsageError
from .sample import draw, resolve_want
from .sheet import Sheet, listed, opened, write_picture
from .snapshot import Snapshot
from .write import write

__all__ = ["reject"]

log = logging.getLogger("sibling")


def reject(
    snapshot: str | Path | Snapshot,
    *,
    want: str | int | dict[str, int] | None = 8,
    keep: float = 0.5,
    seed: int = 0,
    out: str | Path | None = None,
    seconds: float = 0.8,
    overwrite: bool = False,
) -> Dataset:
    """Samples that the discriminator scores highest: 1/keep times as many are drawn, the best of each group stay.

    Args:
        snapshot: a run folder whose model kept its discriminator: a GAN.
        want: how many to keep, as in `sample`.
        keep: the share that is kept, above 0 to 1. The smaller, the more typical and the less varied.
        seed: another seed gives other samples.
        out: a data set folder to write the kept samples to; or a .png or .gif that shows, for each group, a
            row of the best above a row of the worst; None = in memory only.
        seconds: that a frame of the .gif stays.
        overwrite: replace what is at `out`.

    The score stands with each sample as "discriminator". Logits mean something within one y only, so groups
    are never compared; where y holds a map, D also chooses between maps. Raises UsageError, BadInput.
    Source: Azadi et al. 2019, "Discriminator rejection sampling", in its simplest form: ranks instead of
    probabilities.
    """
    picture = out is not None and Path(out).suffix.lower() in (".png", ".gif")
    space = opened(snapshot, out if picture else None, seconds, overwrite)
    if not 0 < keep <= 1:
        raise UsageError(f"keep is {keep}; it is the share of the samples that stays, above 0 to 1.")
    wanted = resolve_want(want, space.snapshot)
    _ = space.critic  # raises before anything is drawn
    if space.snapshot.condition.channels:
        log.warning(
            "Each sample has a map of its own here: D then also chooses between maps, not samples alone."
        )
    made = draw(space.snapshot, {g: range(math.ceil(n / keep - 1e-9)) for g, n in wanted.items()}, seed)
    rows = np.arange(len(made))
    scores = space.scores(made.x(rows), made.cond(rows)).numpy()
    for info, score in zip(made.table["info"], scores.tolist(), strict=True):
        info.setdefault("scores", {})["discriminator"] = round(score, 4)
    groups = np.asarray(made.classes(rows))
    ranks = _ranks(scores, _peers(made, rows))
    ranked = {g: own[np.argsort(ranks[own], kind="stable")] for g in wanted if len(own := rows[groups == g])}
    kept = np.sort(np.concatenate([order[: wanted[g]] for g, order in ranked.items()] or [rows]))
    if picture:
        _show_rejected(space, made, ranked, wanted, out, seconds)
    elif out is not None:
        write(fake=made.subset(kept), out=out, overwrite=overwrite, against=space.snapshot)
    log.info(
        "Kept %d of %d samples, those of each group that D scores highest, seed %d.",
        len(kept),
        len(made),
        seed,
    )
    return made.subset(kept)


def _peers(made: Dataset, rows: np.ndarray) -> np.ndarray:
    """Whom each sample is compared with (N,): those of its group and, where y holds numbers too, of its range."""
    names = made.classes(rows)
    for part in getattr(made.condition, "parts", ()):
        if part.name == "value":
            numbers = [{column: y[column] for column in part.columns} for y in made.y(rows)]
            names = [f"{a}, {b}" for a, b in zip(names, part.groups(numbers), strict=True)]
    return np.asarray(names)


def _ranks(scores: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """The share of its peers that score higher, (N,): 0 for the best."""
    ranks = np.empty(len(scores))
    for name in np.unique(peers):
        own = np.flatnonzero(peers == name)
        order = np.argsort(-scores[own], kind="stable")
        ranks[own[order]] = (np.arange(len(own)) + 0.5) / len(own)
    return ranks


def _show_rejected(
    space: Space,
    made: Dataset,
    ranked: dict[str, np.ndarray],
    wanted: dict[str, int],
    out: str | Path | None,
    seconds: float,
) -> None:
    most = 12
    across = min([most, *(wanted[g] for g in ranked)])
    left = min([across, *(len(order) - wanted[g] for g, order in ranked.items())])
    if not across:
        raise UsageError("want asks for no sample of some group, so there is nothing to show. Ask for more.")
    rows = np.concatenate(
        [part for order in ranked.values() for part in ([order[:across], order[-across:]] if left == across
         else [order[:across]])]
    )  # fmt: skip
    below = ", and below them its lowest" if left == across else ""
    meaning = (
        f"Rows: for each of {listed(list(ranked))} the samples that D scores highest{below}, best first."
    )
    sheet = Sheet(
        made.raw[rows], across, made.y(rows), torch.zeros(len(rows), 0), made.modality, meaning, "rows"
    )
    log.info("%s", meaning)
    write_picture(out, sheet, seconds=seconds)
