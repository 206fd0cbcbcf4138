"""Every error that Sibling raises on purpose, with the exit code of the command line.

    SiblingError                  1
     ├─ UsageError                2   an argument is wrong
     ├─ BadInput                  3   the data cannot be used as they are
     │   └─ BadSample             3   one sample cannot be decoded (read lists it and goes on)
     ├─ ResourceError             4   disk, memory or permission
     ├─ NumericalError            5   a loss, a weight or a sample is not finite
     ├─ UnsafeFile                6   a file was refused without being opened
     └─ Stopped             130/143   stopped by a signal, after saving

A message says what is wrong, the value that came, what is known, and what to do.
"""

from __future__ import annotations

__all__ = [
    "BadInput",
    "BadSample",
    "NumericalError",
    "ResourceError",
    "SiblingError",
    "Stopped",
    "UnsafeFile",
    "UsageError",
]


class SiblingError(Exception):
    """The root of the tree: catch this to catch everything that Sibling raises on purpose."""

    exit_code = 1


class UsageError(SiblingError):
    """An argument has a value that cannot work."""

    exit_code = 2


class BadInput(SiblingError):
    """The data, a run folder or a label file cannot be used as they are."""

    exit_code = 3


class BadSample(BadInput):
    """One sample cannot be decoded; `read` lists it with this reason and goes on."""


class ResourceError(SiblingError):
    """The disk is full, a place cannot be written, or memory ran out."""

    exit_code = 4


class NumericalError(SiblingError):
    """A loss, a gradient, a weight or a generated sample is not finite."""

    exit_code = 5


class UnsafeFile(SiblingError):
    """A file was refused before it was opened: it leaves its folder, or it could run code."""

    exit_code = 6


class Stopped(SiblingError):
    """The work was stopped by a signal and has saved what it had."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # 130 for SIGINT, 143 for SIGTERM
