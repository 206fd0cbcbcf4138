"""Look a name up in a table of plug-ins: strings in, the named object out, with "did you mean".

A table is a literal dict in a folder's `__init__.py`, for example
`MODELS = {"vae": "sibling.models.vae:VAE"}`. Values are strings so that an optional dependency is
asked for only when its plug-in is named. Third parties add to a table through an entry point group
of the same name (`sibling.models`, `sibling.formats`, ...). What no table holds, a user's own function,
is named by its place: "module:function".
"""

from __future__ import annotations

import difflib
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import UsageError

__all__ = ["lookup", "meant", "names", "own", "suggest"]


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that a user means: the same, or the only one that looks the same.

    A keyboard gives "é" as one character, the file names of macOS as two: to the eye they are one name.
    """
    known = list(known)
    if name in known:
        return name
    same = [one for one in known if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", name)]
    return same[0] if len(same) == 1 else None


def suggest(name: str, known: list[str]) -> str:
    """A closing sentence for an error: the nearest known name, then all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"{hint} Known: {shown or 'none'}."


def _with_entry_points(table: Mapping[str, str], group: str) -> dict[str, str]:
    found = {point.name: point.value for point in entry_points(group=group)}
    return {**found, **table}  # our own names win: an installed package cannot replace "vae" unseen


def names(table: Mapping[str, str], group: str) -> list[str]:
    """All names of a table, those of installed third parties included, in the table's order."""
    return list(table) + [name for name in _with_entry_points(table, group) if name not in table]


def lookup(table: Mapping[str, str], group: str, name: str) -> Any:
    """The object that `name` stands for.

    table: name -> "module:attribute"
    group: the entry point group of third parties, for example "sibling.models"
    Raises UsageError for an unknown name and for a missing optional dependency.
    """
    everything = _with_entry_points(table, group)
    if name not in everything:
        kind = group.rpartition(".")[2].replace("ies", "y").removesuffix("s")
        raise UsageError(f"There is no {kind} {name!r}.{suggest(name, list(everything))}")
    module_name, _, attribute = everything[name].partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{group} {name!r} needs the package {error.name!r}: pip install {error.name}"
        ) from error


def own(spec: str, what: str) -> Callable[..., Any]:
    """The user's own function at "module:function". This runs the code of that module: call it only with a
    spec that the user gave, never with one that was read from a data set, a run folder or a page.

    spec  the module lies in the current working folder or among the installed packages
    what  what the function is for, to begin an error with, for example "The feature space"
    Raises UsageError for a spec of another form, a module that is missing, fails, or has the name of another
    one, and for a function that is missing or cannot be called.
    """
    module_name, colon, attribute = spec.partition(":")
    parts = [*module_name.split("."), attribute]
    if not colon or not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"{what} {spec!r} is not of the form module:function, for example mymodule:build for the function build "
            "in mymodule.py. A module is named without folders and without .py."
        )
    module = _imported(module_name, f"{what} {spec!r}")
    place = getattr(module, "__file__", None) or "no file"
    if not hasattr(module, attribute):
        known = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
        raise UsageError(f"{what} {spec!r}: {place} has no {attribute!r}.{suggest(attribute, known)}")
    found = getattr(module, attribute)
    if not callable(found):
        kind = type(found).__name__
        raise UsageError(f"{what} {spec!r}: {attribute!r} in {place} cannot be called, it is of type {kind}.")
    function: Callable[..., Any] = found
    return function


def _imported(name: str, begin: str) -> ModuleType:
    """The module of this name, with the current working folder importable meanwhile.

    begin  of an error
    Raises UsageError where it is missing or fails.
    """
    here = Path.cwd()
    try:
        with _importable(here):
            module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):  # itself or a package that it lies in
            known = sorted(path.stem for path in here.glob("*.py") if path.stem.isidentifier())
            raise UsageError(
                f"{begin}: there is no module {error.name!r}, neither in {here} nor among the installed packages."
                f"{suggest(error.name, known)}"
            ) from error
        raise UsageError(
            f"{begin}: the module {name!r} needs the package {error.name!r}: pip install {error.name}"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's file does when it is run
        raise UsageError(
            f"{begin}: importing the module {name!r} failed: {type(error).__name__}: {error}. "
            f'Try it alone: python -c "import {name}"'
        ) from error
    _refuse_hidden(name, here, begin)
    return module


def _refuse_hidden(name: str, here: Path, begin: str) -> None:
    """Raises UsageError where a file in the folder `here` has this name and another module was imported."""
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    for mine in (here / f"{top}.py", here / top / "__init__.py"):
        if mine.is_file() and not (file and Path(file).resolve() == mine.resolve()):
            raise UsageError(
                f"{begin}: {mine} is hidden by another module of the same name, {file or 'a part of Python'}. "
                "Give yours another name."
            )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Inside the block modules in this folder can be imported; the console script does not look there.

    The folder comes last: a file of it named ssl.py or torch.py shall not take the place of the real one.
    """
    entry = str(folder)
    invalidate_caches()  # the file may be younger than what the import system remembers of the folder
    added = entry not in sys.path
    if added:
        sys.path.append(entry)
    try:
        yield
    finally:
        if added and entry in sys.path:  # the module may have changed the list
            sys.path.remove(entry)
