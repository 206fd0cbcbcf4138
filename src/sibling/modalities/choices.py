"""The working shape of pictures, chosen by looking at all headers; each choice with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from .pixels import LEAST_EDGE

__all__ = ["Choice", "array_range", "choice", "depth", "resize_policy", "working_size"]

Choice = dict[str, str]


def choice(name: str, value: str, why: str) -> Choice:
    """One choice as it is printed and recorded."""
    return {"name": name, "value": value, "why": why}


def working_size(
    looks: Sequence[dict[str, Any]], size: int | None, most: int, choices: list[Choice]
) -> tuple[int, int]:
    """(height, width): the size that most pictures have, else the median edge and aspect."""
    sizes = Counter(look["size"] for look in looks)
    (common, count) = sizes.most_common(1)[0]
    if count >= 0.8 * len(looks):
        height, width = common
        why = f"{count} of {len(looks)} pictures have {common[1]} x {common[0]} pixels"
    else:
        ratio = math.exp(median(math.log(w / h) for h, w in (look["size"] for look in looks)))
        ratio = 1.0 if 0.87 < ratio < 1.15 else ratio
        longer = median(max(look["size"]) for look in looks)
        shorter = longer / max(ratio, 1 / ratio)
        height, width = map(round, (shorter, longer) if ratio > 1 else (longer, shorter))
        why = f"{len(sizes)} sizes, the median longer edge is {longer:.0f}, the median aspect {ratio:.2f}"
    longer_edge = max(height, width)
    wanted = size if size is not None else min(longer_edge, most)
    if size is not None and size > longer_edge:
        why += f"; asked for {size}, which enlarges most of them"
    elif size is not None:
        why += f"; asked for a longer edge of {size}"
    elif longer_edge > most:
        why += f"; at most {most} without --size, because training time grows with the area"
    if wanted != longer_edge:
        scale = wanted / longer_edge
        height, width = (max(LEAST_EDGE, round(edge * scale / 4) * 4) for edge in (height, width))
        if max(height, width) != wanted:
            why += "; edges are rounded to multiples of 4"
    height, width = max(LEAST_EDGE, height), max(LEAST_EDGE, width)
    choices.append(choice("working size", f"{width} x {height}", why))
    return height, width


def resize_policy(looks: Sequence[dict[str, Any]], target: tuple[int, int], choices: list[Choice]) -> str:
    """How another size becomes the working size: "stretch", "crop" or "pad"."""
    aspect = target[1] / target[0]
    spread = sorted(abs(math.log((w / h) / aspect)) for h, w in (look["size"] for look in looks))
    if spread[-1] < 0.03:
        return "stretch"
    share = sum(s < 0.3 for s in spread) / len(spread)
    policy = "crop" if share >= 0.9 else "pad"
    why = f"{share:.0%} of the pictures have about the working aspect"
    value = {"crop": "cropped to the centre", "pad": "padded with their border colour"}[policy]
    choices.append(choice("other aspects", value, why))
    return policy


def depth(looks: Sequence[dict[str, Any]], choices: list[Choice]) -> int:
    """Bits a channel: 16 where some samples need them. Says so, and names files that Pillow narrows."""
    files = sum(bool(look.get("wide")) for look in looks)
    arrays = sum(look.get("top", 0) > 255 and _is_integer(look) for look in looks)
    narrowed = sum(bool(look.get("narrowed")) for look in looks)
    if files:
        why = f"{files} files hold more than 8 bits; 8-bit ones are scaled up, nothing is clipped"
        choices.append(choice("bits", "16", why))
    elif arrays:
        choices.append(choice("bits", "16", "the arrays hold integers above 255"))
    if narrowed:
        why = f"{narrowed} files hold 16 bits a colour, of which Pillow reads the upper 8; an .npz keeps more"
        choices.append(choice("colour bits", "8", why))
    return 16 if files or arrays else 8


def array_range(looks: Sequence[dict[str, Any]], choices: list[Choice]) -> float:
    """The array value that becomes the full range; 0 = values stay as they are."""
    tops = [look["top"] for look in looks if "top" in look]
    if not tops:
        return 0.0
    top = max(tops)
    integer = all(_is_integer(look) for look in looks)
    if (integer and 255 < top <= 65535) or 128 <= top <= 255:
        return 0.0
    if top <= 1 and not integer:
        choices.append(choice("range", "0 to 1", "the arrays hold floats up to 1, which becomes white"))
        return 1.0
    why = f"the largest value of all arrays is {top:g}, which becomes white"
    choices.append(choice("range", f"0 to {top:g}", why))
    return float(max(top, 1e-12))


def _is_integer(look: dict[str, Any]) -> bool:
    return "float" not in look["mode"]
