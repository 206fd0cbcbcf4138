"""The command line: one sub-command a verb, options taken from the signatures, no logic."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import cyclopts

from . import __version__
from .errors import SiblingError
from .progress import printable

__all__ = ["app", "main"]

_HELP = """Turn a small labelled data set into a larger, realistic one, and prove whether that helps.

    sibling enlarge photos/ photos-larger/
"""

# Verb -> (where its command lies, its help). Strings, so that --help imports nothing that is slow.
_VERBS = {
    "enlarge": "The whole way: read, fit, sample, curate, evaluate, write.",
    "read": "Look at a data set: what is there, what is broken, how it is split.",
    "fit": "Train a model on a data set.",
    "sample": "Generate labelled samples from a run.",
    "curate": "Drop copies, doubles, mislabelled and unreal samples.",
    "evaluate": "Scores with floors, and the verdict.",
    "write": "Write real and synthetic samples as one data set.",
    "convert": "Write a data set in another format, pixel for pixel.",
    "verify": "Re-hash and re-decode a folder that Sibling made.",
    "report": "Make the HTML report of a run.",
    "latent": "Pictures of what the codes of a model do.",
    "models": "List the models.",
    "example": "Write a small folder of real pictures to try things with.",
}

# The looks of `sibling latent`.
_LATENT = {
    "truncate": "The same samples at several psi.",
    "reject": "The samples that the discriminator scores highest.",
    "interpolate": "The way from one sample, or real picture, to another.",
    "vary": "The same codes under many y.",
    "project": "The codes of real pictures, and what the model makes of them.",
}

app = cyclopts.App(
    name="sibling", help=_HELP, version=__version__, help_format="plaintext", result_action="return_value"
)
_latent = cyclopts.App(name="latent", help=_VERBS["latent"])
for _name, _help in _LATENT.items():
    _latent.command(f"sibling.commands:{_name}", name=_name, help=_help)
for _name, _help in _VERBS.items():
    if _name == "latent":
        app.command(_latent)
    else:
        app.command(f"sibling.commands:{_name}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code of `errors.py`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if arguments is None:
        signal.signal(signal.SIGTERM, _terminate)
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sibling").setLevel(logging.INFO)
    code = _guarded(lambda: app(given, exit_on_error=False, print_error=False), debug)
    if arguments is None:
        sys.exit(code)
    return code


class _Printable(logging.Formatter):
    """Log lines hold names of files and classes too."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


class _Terminated(KeyboardInterrupt):
    """SIGTERM, wherever the work stood; `fit` handles it by itself while it trains."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _guarded(work: Callable[[], Any], debug: bool) -> int:
    """Turn every expected failure into one line and an exit code."""
    try:
        result = work()
        sys.stdout.flush()  # here, where a closed pipe can still be caught
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        _complain("stopped.")
        return 143 if isinstance(error, _Terminated) else 130
    except (SiblingError, cyclopts.CycloptsError, OSError, MemoryError, RuntimeError) as error:
        if debug:
            raise
        line, code = _line(error)
        if code is None:
            raise
        _complain(line)
        return code


def _line(error: BaseException) -> tuple[str, int | None]:
    """What an error says on one line, and its exit code; no code for what is a fault of ours."""
    if isinstance(error, SiblingError):
        return str(error), error.exit_code
    if isinstance(error, cyclopts.CycloptsError):
        return f"{' '.join(str(error).split())} (sibling --help, sibling COMMAND --help)", 2
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "Memory ran out. Use a smaller --size or --batch.", 4
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {error.strerror or error}.", 4
    return str(error), None


def _complain(line: str) -> None:
    print(f"sibling: {printable(line.replace(chr(10), ' '))}", file=sys.stderr)


if __name__ == "__main__":
    main()
