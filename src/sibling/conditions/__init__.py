"""What y is. One file a condition; one line here for each.

A condition keeps the Protocol `sibling.types.Condition`: values in, a Cond out, and never an x.
"""

from __future__ import annotations

__all__ = ["CONDITIONS"]

CONDITIONS = {
    "label": "sibling.conditions.label:Label",
    "labels": "sibling.conditions.labels:Labels",
    "value": "sibling.conditions.value:Value",
    "map": "sibling.conditions.map:Map",
    "joint": "sibling.conditions.joint:Joint",
    "none": "sibling.conditions.none:Unconditional",
}
