"""The lift: the same recogniser trained with and without synthetic samples, on real test samples.

tasks       what is read off a sample: a class, several labels, numbers
brought     a recogniser of the user's own, looked at before the work
recipe      how a recogniser is trained, and how that is tuned on the val part
arms        what it is trained on: each arm of the comparison
trial       all arms, a few seeds, one split
statistics  from predictions to a lift with its interval
answer      from that to a verdict, and to what should be written
folds       cross-validation, where one test part is too small
"""

from __future__ import annotations

__all__: list[str] = []
