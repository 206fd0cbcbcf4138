"""Is it good? One file a family; one line here for each metric.

A metric is a class without arguments that keeps the Protocol `sibling.types.Metric`:
features (N, F) in, one number out, `real=` and `fake=` by keyword only. It may have besides:
only_space          the one feature space that it means something in, for example "spectrum"
draws               subsamples for its interval, where 100 take too long
part                the share of the samples in each of them, where halves behave otherwise
most                how many samples of each side it looks at, the same ones whenever it is asked (`points.shuffled`)
samples_a_feature   how many samples it wants for each feature; its values per class use fewer features then

Whether training samples are given away takes three sets: the train part, held-out real samples and the fakes. Such
metrics stand in MEMORISATION and keep the Protocol `sibling.metrics.nearness.Memorisation`.
"""

from __future__ import annotations

__all__ = ["MEMORISATION", "METRICS"]

METRICS = {
    "kernel_distance": "sibling.metrics.distance:KernelDistance",
    "frechet_distance": "sibling.metrics.distance:FrechetDistance",
    "frechet_infinity": "sibling.metrics.distance:FrechetInfinity",
    "precision": "sibling.metrics.coverage:Precision",
    "recall": "sibling.metrics.coverage:Recall",
    "density": "sibling.metrics.coverage:Density",
    "coverage": "sibling.metrics.coverage:Coverage",
    "diversity": "sibling.metrics.diversity:Diversity",
    "vendi": "sibling.metrics.vendi:Vendi",
    "spectrum_distance": "sibling.metrics.spectrum:SpectrumDistance",
}

MEMORISATION = {
    "nearest_ratio": "sibling.metrics.tails:NearestRatio",
    "below_held_out_5_percent": "sibling.metrics.tails:BelowFivePercent",
    "below_held_out_minimum": "sibling.metrics.tails:BelowMinimum",
    "membership_auc": "sibling.metrics.membership:MembershipAuc",
    "membership_tpr": "sibling.metrics.membership:MembershipTpr",
    "c_t": "sibling.metrics.copying:CopyingTest",
    "authenticity": "sibling.metrics.authenticity:Authenticity",
}
