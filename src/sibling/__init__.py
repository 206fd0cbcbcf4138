"""Sibling turns a small labelled data set into a larger, realistic one, and proves whether that helps.

    import sibling
    sibling.enlarge("photos/", "photos-larger/", minutes=5)

or stage by stage: read -> fit -> sample -> curate -> evaluate -> write. Importing this package
imports neither torch nor anything else that is slow; a name is loaded when it is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .convert import convert
    from .curate import curate
    from .dataset import Dataset
    from .enlarge import enlarge
    from .errors import SiblingError
    from .evaluate import evaluate
    from .example import example
    from .fit import fit
    from .latent import interpolate, truncate, vary
    from .project import project
    from .read import read
    from .reject import reject
    from .report import report
    from .sample import sample
    from .sheet import Sheet
    from .snapshot import Snapshot
    from .types import Evaluation, Record, Score, Verdict
    from .verify import verify
    from .write import write

__version__ = "0.1.0"

_PLACES = {
    "Dataset": "dataset",
    "Evaluation": "types",
    "Record": "types",
    "Score": "types",
    "Sheet": "sheet",
    "SiblingError": "errors",
    "Snapshot": "snapshot",
    "Verdict": "types",
    "convert": "convert",
    "curate": "curate",
    "enlarge": "enlarge",
    "evaluate": "evaluate",
    "example": "example",
    "fit": "fit",
    "interpolate": "latent",
    "project": "project",
    "read": "read",
    "reject": "reject",
    "report": "report",
    "sample": "sample",
    "truncate": "latent",
    "vary": "latent",
    "verify": "verify",
    "write": "write",
}

__all__ = [
    "Dataset",
    "Evaluation",
    "Record",
    "Score",
    "Sheet",
    "SiblingError",
    "Snapshot",
    "Verdict",
    "convert",
    "curate",
    "enlarge",
    "evaluate",
    "example",
    "fit",
    "interpolate",
    "project",
    "read",
    "reject",
    "report",
    "sample",
    "truncate",
    "vary",
    "verify",
    "write",
]


class _Package(ModuleType):
    """A verb and its file share a name; `sibling.read` is always the verb, whatever was imported before."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'sibling' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
