"""What stands beside the verdict: copies and wrong labels, and nothing where the scores say nothing clear."""

from __future__ import annotations

import math

import pytest

from sibling.alarm import alarms
from sibling.types import Score


def copied(value: float, low: float, high: float, floor: float = 0.0) -> Score:
    """Some share of copies."""
    return Score("copy_share", value, low, high, "min", floor, "pixels, aligned", {})


def agreed(value: float, low: float, high: float, floor: float = 0.7) -> Score:
    """Some label agreement."""
    return Score("label_agreement", value, low, high, "max", floor, "recogniser 1", {})


def test_copies_and_wrong_labels_are_said_in_a_sentence_each() -> None:
    said = alarms([copied(0.61, 0.55, 0.66), copied(0.09, 0.06, 0.12, 0.02), agreed(0.56, 0.51, 0.61)])
    assert len(said) == 2
    assert said[0].startswith("61 % of the synthetic samples are copies of a training sample")
    assert "(95 % interval 55 to 66 %)" in said[0]
    assert "in 56 % of the synthetic samples (95 % interval 51 to 61 %)" in said[1]
    assert "in 70 %" in said[1]


@pytest.mark.parametrize(
    "score",
    [
        copied(0.0025, 0.0004, 0.014),  # truly new samples: one in 400 lies near a real one
        copied(0.08, 0.04, 0.13),  # not clear
        copied(0.2, 0.15, 0.26, 0.15),  # as many as among real samples
        copied(math.nan, math.nan, math.nan),
        agreed(0.71, 0.66, 0.75),
        agreed(0.6, 0.54, 0.66),  # not clear
        agreed(0.1, 0.05, 0.2, math.nan),
        agreed(math.nan, math.nan, math.nan),
        Score("precision", 0.0, 0.0, 0.1, "max", 1.0, "random", {}),
    ],
)
def test_what_is_not_clear_gives_no_alarm(score: Score) -> None:
    assert alarms([score]) == []


def test_copies_without_a_floor_are_copies() -> None:
    assert len(alarms([copied(1.0, 0.9, 1.0, math.nan)])) == 1
