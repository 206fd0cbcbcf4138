"""What a person sees while the work goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

__all__ = ["Display", "printable"]

log = logging.getLogger("sibling")
_EVERY_SECONDS = 15.0


def printable(text: str) -> str:
    """File and class names may hold terminal escapes: they are shown, not obeyed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Display:
    """`with Display("fit", total=1000) as display: display.update(step, "loss 0.3")`

    what   the name of the work
    total  how many steps it has
    """

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = total
        self._bar: object | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Display:
        if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._bar = self._progress.add_task(self.what, total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._progress.stop()

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` of `total` steps are done."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=done, note=note)  # type: ignore[arg-type]
        elif time.monotonic() - self._last > _EVERY_SECONDS:
            self._last = time.monotonic()
            log.info(
                "  %-12s %s of %s%s", self.what, f"{done:,}", f"{self.total:,}", f"  {note}" if note else ""
            )
