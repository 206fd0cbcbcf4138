"""The command line: one sub-command a verb, options taken from the signatures, no logic."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cyclopts

from . import __version__
from .errors import SiblingError

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
    "verify": "Re-hash and re-decode a folder that Sibling made.",
    "report": "Make the HTML report of a run.",
    "models": "List the models.",
    "example": "Write a small folder of real pictures to try things with.",
}

app = cyclopts.App(
    name="sibling", help=_HELP, version=__version__, help_format="plaintext", result_action="return_value"
)
for _name, _help in _VERBS.items():
    app.command(f"sibling.commands:{_name}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code of `errors.py`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("sibling").setLevel(logging.INFO)
    code = _guarded(lambda: app(given, exit_on_error=False, print_error=True), debug)
    if arguments is None:
        sys.exit(code)
    return code


def _guarded(work: Callable[[], Any], debug: bool) -> int:
    """Turn every expected failure into one line and an exit code."""
    try:
        result = work()
        return result if isinstance(result, int) else 0
    except SiblingError as error:
        if debug:
            raise
        print(f"sibling: {_printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except cyclopts.CycloptsError:
        return 2
    except KeyboardInterrupt:
        print("sibling: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError) as error:
        if debug or not (isinstance(error, MemoryError) or "can't allocate memory" in str(error)):
            raise
        print("sibling: Memory ran out. Use a smaller --size or --batch.", file=sys.stderr)
        return 4


def _printable(text: str) -> str:
    """File and class names may hold terminal escapes: they are shown, not obeyed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.replace("\n", " "))


if __name__ == "__main__":
    main()
