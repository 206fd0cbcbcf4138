"""What the report and the command line say of an evaluation: words and rows from its numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_run import regression, undecided, verdict

from sibling.drawings import arms_chart
from sibling.metrics import MEMORISATION, METRICS
from sibling.views import (
    arms_view,
    count,
    lift_text,
    metric_text,
    number,
    score_parts,
    verdict_view,
    worth_text,
    written_text,
)

NAMES = ["cat", "dog"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.05, "0.05"), (0.0600, "0.06"), (-1.234, "\u22121.23"), (12345.6, "12,346"), (1e9, "1.00e+09"),
     (None, "\u2013"), (math.nan, "\u2013"), (math.inf, "\u2013"), (True, "\u2013"), ("3", "\u2013")],
)  # fmt: skip
def test_numbers(value: Any, text: str) -> None:
    assert number(value) == text


def test_a_lift_is_in_points_or_in_a_unit() -> None:
    assert lift_text(2.14, {"unit": "points"}) == "+2.1"
    assert lift_text(-0.04, {}) == "\u22120.0"
    assert lift_text(0.0021, {"unit": "of severity"}) == "+0.00210"
    assert lift_text(-0.5, {"unit": "of severity"}) == "\u22120.500"
    assert lift_text(None, {"unit": "of severity"}) == "\u2013"
    assert metric_text(0.905, {"unit": "points"}) == "90.5 %"
    assert metric_text(0.06, {"unit": "of severity"}) == "0.0600"
    assert count(1234.0) == "1,234"


@pytest.mark.parametrize(
    ("worth", "text"),
    [
        (
            {"real_samples": 120.0, "low": 40.0, "high": 260.0},
            "worth about 120 more real samples (40 to 260)",
        ),
        (
            {"real_samples": 120.0, "low": 40.0, "high": None},
            "worth about 120 more real samples (at least 40)",
        ),
        ({"real_samples": 9.0, "low": -30.0, "high": 80.0}, "worth about 9 more real samples (0 to 80)"),
        ({"real_samples": None, "low": 400.0, "high": None}, "worth at least 400 more real samples"),
        ({"real_samples": None, "low": None, "high": None}, ""),
        ({}, ""),
    ],
)
def test_what_a_lift_is_worth(worth: dict[str, Any], text: str) -> None:
    assert worth_text(worth) == text


def test_what_is_written() -> None:
    some, have = {"cat": 100, "dog": 50}, {"cat": 200, "dog": 300}
    advice = {"write": "some", "amount": some, "of": have, "augmentation": {"strength": 0.5}}
    assert written_text(advice) == "150 of 500 synthetic samples, the part that was tested"
    assert written_text(advice | {"write": "all"}) == "all 500 synthetic samples"
    nothing = "no synthetic sample, because the verdict does not support it"
    assert (
        written_text(advice | {"write": "nothing"})
        == f"the tuned classic augmentation (augmentation.json), and {nothing}"
    )
    plain = advice | {"write": "nothing", "augmentation": {"strength": None}}
    best = "the recipe that was best, without augmentation (augmentation.json)"
    assert written_text(plain) == f"{best}, and {nothing}"
    assert written_text({}) == nothing
    assert (
        written_text(advice, anyway=True) == "all 500 synthetic samples, against the verdict (--write-anyway)"
    )
    assert (
        written_text(advice | {"write": "all"}, anyway=True) == "all 500 synthetic samples"
    )  # not against it


def test_the_verdict_in_words() -> None:
    view = verdict_view(verdict(["a", "b", "c", "d"]))
    assert (view["answer"], view["interval"], view["tested"]) == ("helps", "+0.3 to +3.9", 200)
    assert view["why_written"] == "Tested, and so supported, was this part of the synthetic samples."
    assert [row["name"] for row in view["classes"]] == ["d", "c", "b", "a"]
    assert [row["tone"] for row in view["classes"]] == ["", "", "", "better"]
    assert (view["better"], view["worse"]) == (1, 0)
    assert "train samples" in view["protocol"]
    assert verdict_view(undecided())["answer"] == "cannot tell"
    assert verdict_view(undecided() | {"decided": True})["answer"] == "no evidence"
    assert verdict_view(regression())["interval"] == "\u22120.00340 to +0.00760"
    assert verdict_view(regression())["unseen_text"] == "0.0055 of severity"  # as its sentence says
    assert verdict_view(undecided())["unseen_text"] == verdict_view(undecided())["interval"] == ""


def test_the_arms_as_rows() -> None:
    view = arms_view(verdict(NAMES))
    arms = {arm["name"]: arm for arm in view["arms"]}
    assert {name: arm["mark"] for name, arm in arms.items() if arm["mark"]} == {
        "real + classic": "the bar to pass", "real + synthetic": "candidate",
        "shuffled labels": "control: must lose", "synthetic only": "only for reference",
    }  # fmt: skip
    assert [name for name, arm in arms.items() if arm["stopped"]] == ["real"]
    assert [name for name, arm in arms.items() if arm["over"]] == [
        "real + classic", "real + classic + mix", "real + duplicates",
    ]  # fmt: skip
    assert arms["real + classic"]["over_interval"] == "+0.3 to +3.9"
    assert arms["real"]["spread"] == ""  # one run has no spread
    assert [column["head"] for column in view["columns"]] == ["Worst class", "Macro-F1", "Calibration error"]
    assert [column["least"] for column in view["columns"]] == [False, False, True]


def test_a_column_that_repeats_the_mean_is_left_out() -> None:
    assert arms_view(regression())["columns"] == []
    labels = verdict(NAMES) | {"metric": "macro-F1"}
    assert [column["head"] for column in arms_view(labels)["columns"]][:2] == [
        "Worst label",
        "Calibration error",
    ]
    assert arms_view(undecided()) == {"arms": [], "columns": []}


def test_each_score_finds_its_part() -> None:
    names = [
        *METRICS,
        *MEMORISATION,
        "copy_share",
        "label_agreement",
        "label_error",
        "a_new_one",
        "membership_new",
    ]
    parts = score_parts([{"name": name, "space": "s"} for name in names])
    shown = {
        part: {score["name"] for score in parts[part]["s"]["scores"]}
        for part in ("fidelity", "copies", "labels")
    }
    assert shown["labels"] == {"label_agreement", "label_error"}
    assert shown["copies"] == {*MEMORISATION, "copy_share", "membership_new"}
    assert shown["fidelity"] == {*METRICS, "a_new_one"}
    assert len(names) == sum(map(len, shown.values()))  # nothing is lost, nothing is shown twice


def test_many_copies_stand_beside_the_count_of_good_scores() -> None:
    def copied(*ends: tuple[float, float, float | None]) -> Any:
        rows = [
            {"name": "copy_share", "space": str(i), "value": value, "low": low, "floor": floor}
            for i, (value, low, floor) in enumerate(ends)
        ]
        return score_parts(rows)["copied"]

    assert copied((0.9, 0.8, 0.02), (1.0, 0.9, None)) == 1.0
    assert copied((0.08, 0.05, 0.02)) is None  # within what held-out real samples show
    assert copied((math.nan, math.nan, 0.0)) is None
    assert copied() is None


def test_a_score_is_read_against_its_floor() -> None:
    def reading(**score: Any) -> str:
        return str(score_parts([score])["fidelity"]["no feature space"]["scores"][0]["reading"])

    good = "As good as real against real"
    assert reading(value=3.0, low=2.0, high=4.0, floor=1.0, goal="min").startswith("3 times")
    assert reading(value=3.0, low=0.9, high=4.0, floor=1.0, goal="min").startswith(good)
    assert reading(value=0.4, low=0.3, high=0.5, floor=0.8, goal="max").startswith("50 %")
    assert reading(value=0.4, low=0.3, high=0.9, floor=0.8, goal="max").startswith(good)
    assert reading(value=0.4, floor=None, goal="max").startswith("No floor")
    assert reading(value=None, goal="max").startswith("Could not be computed")


def test_what_a_score_has_besides_is_kept() -> None:
    row = score_parts([{"name": "x", "value": 1.0, "ceiling": 9.5, "remark": "a word", "low": 0.5}])
    assert (row["good"]["fidelity"], row["known"]["fidelity"]) == (0, 0)  # it has no floor
    assert row["fidelity"]["no feature space"]["scores"][0]["more"] == {"ceiling": 9.5}


def test_the_classes_of_a_space_stand_in_one_table() -> None:
    counts = {"real": 1200, "held": 30, "fake": 40}
    scores = [
        {"name": "far", "goal": "min", "per_class": {"a": 1.0, "b": 3.0, "c": None}, "counts": counts},
        {"name": "recall", "goal": "max", "per_class": {"b": 0.5, "a": 0.2}, "counts": counts},
        {"name": "whole", "goal": "max", "per_class": {}, "counts": counts},
    ]
    table = score_parts(scores)["fidelity"]["no feature space"]
    assert table["heads"] == ["far", "recall"]
    assert [row["name"] for row in table["classes"]] == ["a", "b", "c"]
    assert [[cell["text"] for cell in row["cells"]] for row in table["classes"]] == [
        ["1", "0.2"], ["3", "0.5"], ["\u2013", "\u2013"],
    ]  # fmt: skip
    assert [[cell["worst"] for cell in row["cells"]] for row in table["classes"]] == [
        [False, True], [True, False], [False, False],
    ]  # fmt: skip
    assert table["counted"] == "1,200 real, 30 held out, 40 synthetic"
    other = score_parts([*scores, {"name": "few", "counts": {"real": 5}}])["fidelity"]["no feature space"]
    assert other["counted"] == ""
    assert other["scores"][-1]["counted"] == "5 real"


def test_the_chart_says_who_is_who() -> None:
    def arm(
        name: str, word: str, colour: str, lift: tuple[float, float, float, str] | None
    ) -> dict[str, Any]:
        return {"name": name, "word": word, "colour": colour, "mean": 90.0, "runs": [89.0, 91.0], "stopped": False,
                "lift": lift}  # fmt: skip

    arms = [arm("plain", "rival", "real", (2.0, -1.0, 5.0, "+2.0")), arm("both", "candidate", "fake", None)]
    chart = arms_chart(arms, (2.0, -1.0, 5.0, 1.6), axis="accuracy, %", lift_axis="the lift")
    for words in ("plain", "both", "rival", "candidate", "+2.0", "accuracy, %", "lift over it", "the lift"):
        assert f">{words}<" in chart, words
    bare = arms_chart([arms[1] | {"stopped": True}], None, axis="accuracy, %", lift_axis="the lift")
    assert ">candidate, stopped<" in bare
    for words in ("lift over it", "the lift", "with synthetic is better"):
        assert words not in bare
