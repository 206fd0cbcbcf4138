"""Real pictures in a trained model: their codes, and what the model makes of these."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import files
from .codes import Space, search
from .device import numpy_generator
from .errors import BadInput, BadSample, UsageError
from .given import as_mapping, completed
from .sample import known_group
from .sheet import Sheet, check_file, finished, listed, opened, whole
from .snapshot import Snapshot

__all__ = ["codes_of", "project", "reals"]


def project(
    snapshot: str | Path | Snapshot,
    images: str | Path | Sequence[str | Path],
    *,
    given: str | Mapping[str, Any] | None = None,
    by: str | None = None,
    starts: int = 64,
    steps: int = 200,
    allow_outside: bool = False,
    seed: int = 0,
    codes: str | Path | None = None,
    out: str | Path | None = None,
    seconds: float = 0.8,
    overwrite: bool = False,
) -> Sheet:
    """The codes of real pictures, and what the model makes of these codes: each row the real one and that.

    Args:
        snapshot: a run folder that `fit` made.
        images: keys of the run's data set, or files.
        given: y of the pictures, as in `sample`; None = that of the data set. A file needs it where there is a y.
        by: "encoder", the mean of a VAE's posterior; "search", by descent from random codes; None = the
            encoder where there is one.
        starts: random codes that the search tries before it follows the best four.
        steps: of the search.
        allow_outside: take numbers outside of the range that was seen.
        seed: of the search.
        codes: an .npz file for z, rmse, key and y; None = none.
        out: a .png, or a .gif that goes from the real to the made one and back; None = no picture.
        seconds: that a frame of the .gif stays.
        overwrite: replace what is at `out` and `codes`.

    Returns a Sheet whose `codes`, `errors`, `keys` and `y` have one entry a picture.
    Raises UsageError, BadInput.
    """
    space = opened(snapshot, out, seconds, overwrite)
    if codes is not None:
        if Path(codes).suffix.lower() != ".npz":
            raise UsageError(f"codes is {codes}; codes are written as .npz. Give that suffix.")
        check_file(Path(codes), space.snapshot.data, overwrite=overwrite)
    names, real, y = reals(space, images, (given,), seed, allow_outside)
    x = space.snapshot.modality.to_x(real)
    z = codes_of(space, x, y, by, seed, starts=starts, steps=steps)
    made = space.x(z, space.cond(y))
    errors = (made - x).square().flatten(1).mean(1).sqrt().tolist()
    how = "searched for" if by == "search" or not space.can_encode else "encoded"
    meaning = f"Rows: {listed(names)}. Columns: the real one, and what the model makes of its code ({how})."
    raw = np.stack([real, space.snapshot.modality.to_raw(made)], 1).reshape(-1, *real.shape[1:])
    sheet = Sheet(raw, 2, y, z, space.snapshot.modality, meaning, "columns", errors, names)
    if codes is not None:
        buffer = io.BytesIO()
        np.savez(
            buffer, z=z.numpy(), rmse=np.asarray(errors, np.float32), key=np.asarray(names),
            y=np.asarray([json.dumps(value) for value in y]), snapshot=np.asarray(space.snapshot.name),
        )  # fmt: skip
        files.write_bytes(Path(codes), buffer.getvalue())
    return finished(sheet, out, seconds)


def codes_of(
    space: Space,
    x: torch.Tensor,
    y: list[Any],
    by: str | None,
    seed: int,
    *,
    starts: int = 64,
    steps: int = 200,
) -> torch.Tensor:
    """Codes (N, Z) of real samples x (N, C, *S). Raises UsageError."""
    by = by or ("encoder" if space.can_encode else "search")
    if by not in ("encoder", "search"):
        raise UsageError(f"by is {by!r}; known: encoder, search.")
    cond = space.cond(y)
    if by == "encoder":
        return space.encode(x, cond)
    whole("starts", starts, most=100_000)
    whole("steps", steps, most=100_000)
    condition = space.snapshot.condition
    groups = [known_group(condition, g, seed, g, 0) for g in condition.groups(y)]
    return search(space, x, cond, groups, starts=starts, steps=steps, seed=seed)


def reals(
    space: Space,
    images: str | Path | Sequence[str | Path],
    givens: Sequence[str | Mapping[str, Any] | None],
    seed: int,
    outside: bool,
) -> tuple[list[str], np.ndarray, list[Any]]:
    """(names, raw (N, C, *S), y) of real pictures; picture i has the i-th of what is given, or the last."""
    data, condition = space.snapshot.data, space.snapshot.condition
    chosen = [images] if isinstance(images, str | Path) else list(images)
    if not chosen:
        raise UsageError("images is empty; give keys of the run's data set, or files.")
    rows = {key: row for row, key in enumerate(data.table["key"])}
    raw, told = [], []
    for i, image in enumerate(map(str, chosen)):
        row = rows.get(image)
        if row is None and not Path(image).is_file():
            some = ", ".join(data.table["key"][:3])
            raise BadInput(f"{image} is neither a file nor a key of the run's data set, such as {some}.")
        own = None if row is None else data.table["y"][row]
        given = givens[min(i, len(givens) - 1)]
        if given is not None:
            wish = completed(as_mapping(given), condition, space.snapshot.modality, allow_outside=outside)
            y = wish.draw(numpy_generator(seed, "y", wish.name, 0))
            own = {**own, **wish.given} if isinstance(own, Mapping) else y
        elif row is None and condition.columns:
            key = next((key for key in rows if f"/{image}".endswith(f"/{key}")), None)
            same = f" Or name it as the run's data set does, where its y is known: {key}." if key else ""
            raise UsageError(
                f"{image} is a file, and nothing says what y it has. Give it with --given (given=), for example "
                f"{condition.columns[0]}=VALUE.{same}"
            )
        told.append(own)
        raw.append(_decoded(space, image) if row is None else np.asarray(data.raw[row]))
    return [str(image) for image in chosen], np.stack(raw), told


def _decoded(space: Space, image: str) -> np.ndarray:
    """The raw form of a file. Raises BadInput."""
    try:
        return space.snapshot.modality.decode(Path(image).read_bytes())
    except BadSample as error:
        raise BadInput(f"{image} {error}.") from error
    except OSError as error:
        raise BadInput(f"{image} cannot be read: {error.strerror or error}.") from error
