"""Samples laid out in rows and columns, and the picture of them: a PNG, or a GIF that moves."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch

from . import files
from .codes import Space
from .dataset import Dataset, refuse_inside
from .errors import UsageError
from .preview import grid
from .snapshot import Snapshot
from .types import Modality

__all__ = [
    "Sheet",
    "check_file",
    "check_picture",
    "finished",
    "listed",
    "opened",
    "whole",
    "write_picture",
]

log = logging.getLogger("sibling")

MOST = 1_000  # rows, columns, frames: what a person may still look at

_WIDEST = 12  # samples a row of a sheet that is one long row
_SUFFIXES = (".png", ".gif")


@dataclass(slots=True)
class Sheet:
    """Samples with their codes, row by row.

    raw       (N, C, *S) as the modality keeps it; N = rows x columns
    columns   samples a row
    y         (N,) what each was told
    codes     (N, Z)
    modality  knows what raw means
    meaning   what rows and columns are, in one sentence
    time      what a GIF goes through: "rows" or "columns"
    errors    root mean squared error of each reconstruction, in the units of x (from -1 to 1), where there is one
    keys      the names of real samples, where there are any
    """

    raw: np.ndarray
    columns: int
    y: list[Any]
    codes: torch.Tensor
    modality: Modality
    meaning: str
    time: Literal["rows", "columns"]
    errors: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.raw)

    def png(self) -> bytes:
        """All rows and columns as one PNG; one long row is broken into several."""
        columns = min(self.columns, _WIDEST) if len(self) == self.columns else self.columns
        return grid(self.modality.preview(self.raw), columns=columns)

    def gif(self, seconds: float) -> bytes:
        """One frame a row (or a column, see `time`), there and back again, without an end.

        seconds  how long a frame stays
        """
        shown = self.modality.preview(self.raw)
        table = shown.reshape(-1, self.columns, *shown.shape[1:])
        table = table if self.time == "rows" else table.swapaxes(0, 1)
        across = table.shape[1]
        frames = [PIL.Image.open(io.BytesIO(grid(part, columns=min(across, _WIDEST)))) for part in table]
        frames += frames[-2:0:-1]  # back, without showing either end twice
        buffer = io.BytesIO()
        frames[0].save(
            buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0
        )
        return buffer.getvalue()


def check_picture(out: str | Path | None, data: Dataset, *, overwrite: bool) -> None:
    """Find out before the work whether a picture can be written there. Raises UsageError, ResourceError."""
    if out is None:
        return
    out = Path(out)
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"out is {out}; the picture is a .png, or a .gif that moves. Give one of these suffixes."
        )
    check_file(out, data, overwrite=overwrite)


def check_file(out: Path, data: Dataset, *, overwrite: bool) -> None:
    """The same for a file of any suffix."""
    files.check_writable(out.absolute().parent)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; give the name of a file.")
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise UsageError(
            f"{out} already exists. Choose another name, or replace it with --overwrite (overwrite=True)."
        )
    refuse_inside(out, data)


def write_picture(out: str | Path | None, sheet: Sheet, *, seconds: float = 0.15) -> None:
    """Write a sheet as the suffix says; nothing for None."""
    if out is not None:
        out = Path(out)
        files.write_bytes(out, sheet.gif(seconds) if out.suffix.lower() == ".gif" else sheet.png())


# ---- what every look into a model does ------------------------------------------------------------


def opened(snapshot: str | Path | Snapshot, out: str | Path | None, seconds: float, overwrite: bool) -> Space:
    """The codes of a snapshot; finds out before the work whether the picture can be written."""
    snapshot = snapshot if isinstance(snapshot, Snapshot) else Snapshot(snapshot)
    if not 0.02 <= seconds <= 60:
        raise UsageError(f"seconds is {seconds}; a frame of a .gif stays 0.02 to 60 seconds.")
    check_picture(out, snapshot.data, overwrite=overwrite)
    return Space(snapshot)


def finished(sheet: Sheet, out: str | Path | None, seconds: float) -> Sheet:
    """Say what a sheet means, and write its picture."""
    log.info("%s", sheet.meaning)
    write_picture(out, sheet, seconds=seconds)
    return sheet


def whole(name: str, value: int, *, least: int = 1, most: int = MOST) -> int:
    """A whole number in a range. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{name} is {value!r}; give a whole number from {least} to {most:,}.")
    return value


def listed(names: Sequence[str], most: int = 12) -> str:
    """The first names in one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
