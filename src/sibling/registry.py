"""Look a name up in a table of plug-ins: strings in, the named object out, with "did you mean".

A table is a literal dict in a folder's `__init__.py`, for example
`MODELS = {"vae": "sibling.models.vae:VAE"}`. Values are strings so that an optional dependency is
asked for only when its plug-in is named. Third parties add to a table through an entry point group
of the same name (`sibling.models`, `sibling.formats`, ...).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import UsageError

__all__ = ["lookup", "names", "suggest"]


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
