"""Is it good? One file a family; one line here for each metric.

A metric is a class without arguments that keeps the Protocol `sibling.types.Metric`:
features (N, F) in, one number out, `real=` and `fake=` by keyword only.
"""

from __future__ import annotations

__all__ = ["METRICS"]

METRICS = {
    "kernel_distance": "sibling.metrics.distance:KernelDistance",
    "frechet_distance": "sibling.metrics.distance:FrechetDistance",
    "precision": "sibling.metrics.coverage:Precision",
    "recall": "sibling.metrics.coverage:Recall",
    "density": "sibling.metrics.coverage:Density",
    "coverage": "sibling.metrics.coverage:Coverage",
    "diversity": "sibling.metrics.diversity:Diversity",
}
