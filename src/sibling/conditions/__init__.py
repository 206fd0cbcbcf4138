"""What y is. One file a condition; one line here for each.

A condition keeps the Protocol `sibling.types.Condition`: values in, a Cond out, and never an x.
"""

from __future__ import annotations

__all__ = ["CONDITIONS"]

CONDITIONS = {
    "label": "sibling.conditions.label:Label",
    "none": "sibling.conditions.none:Unconditional",
}
