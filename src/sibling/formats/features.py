"""What Hugging Face `datasets` says about columns: the JSON under `huggingface` in the metadata of a schema.

Source of the layout: `datasets.Features.arrow_schema` (datasets 5.2), which `load_dataset` reads back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadInput

__all__ = ["KEY", "class_lists", "feature", "named", "sample_column", "to_metadata"]

KEY = b"huggingface"
_MOST_BYTES = 16 * 2**20  # of this JSON: a million class names
_SAMPLES = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".opus"),
    "video": (".mp4", ".webm", ".mkv", ".mov", ".avi"),
    "text": (".txt",),
}


def sample_column(suffix: str, taken: Sequence[str] = ()) -> tuple[str, str]:
    """(name, kind) of the column that holds files of this suffix; kind is "image", ..., or "sample" for others.

    taken  names of other columns
    """
    kind = next((kind for kind, suffixes in _SAMPLES.items() if suffix in suffixes), "sample")
    name = kind
    while name in taken:
        name = f"sample_{name}"
    return name, kind


def feature(kind: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """The feature of a column: "label", "labels", "value", "map", "image", "audio", "video", "sample" or "text".

    names  of the classes of a label or labels
    """
    text = {"dtype": "string", "_type": "Value"}
    if kind == "label":
        return {"names": list(names), "_type": "ClassLabel"}
    if kind == "labels":
        return {"feature": feature("label", names), "_type": "List"}
    if kind == "value":
        return {"dtype": "float64", "_type": "Value"}
    if kind == "sample":
        return {"bytes": {"dtype": "binary", "_type": "Value"}, "path": text}
    if kind == "text":
        return text
    return {"_type": "Image" if kind == "map" else kind.capitalize()}


def to_metadata(features: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The metadata of a schema: column -> feature."""
    return {KEY: json.dumps({"info": {"features": dict(features)}}).encode("utf-8", "backslashreplace")}


def class_lists(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column -> class names, for each ClassLabel or list of ClassLabel that a schema tells of.

    What is no such JSON says nothing: files of other tools have this key, too.
    """
    text = (metadata or {}).get(KEY, b"")
    try:
        told: Any = json.loads(text) if len(text) <= _MOST_BYTES else {}
        features = told["info"]["features"]
        items = list(features.items())
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for column, entry in items:
        if isinstance(entry, list) and len(entry) == 1:
            entry = {"feature": entry[0]}  # as datasets 2 wrote lists
        if isinstance(entry, dict) and isinstance(entry.get("feature"), dict):
            entry = entry["feature"]
        names = entry.get("names") if isinstance(entry, dict) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[column] = names
    return found


def named(value: Any, names: Sequence[str], place: str) -> Any:
    """The name of a class, or the names in a list, for its number; None for no class (null, -1).

    Raises BadInput for a number that there is no name for.
    """
    if isinstance(value, list):
        return [named(one, names, place) for one in value if one is not None]
    if value is None or value == -1 or isinstance(value, str):
        return None if value == -1 else value
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise BadInput(f"{place} is {str(value)[:40]}, but there are {len(names)} class names (from 0).")
    return names[value]
