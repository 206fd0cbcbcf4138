"""Stop when asked to, at a place where nothing is lost."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stopping"]

log = logging.getLogger("sibling")


@contextmanager
def stopping(when: str) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM: the first asks for a stop, the second stops at once.

    when  what the first is answered with, for example "after this step"
    Yields a list that holds the number of the signal once there was one; look at it between steps. Outside
    the main thread no signal arrives, and the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        log.warning("Stopping %s; once more to stop at once.", when)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
