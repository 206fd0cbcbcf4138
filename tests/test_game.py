"""The state of the game: each state from a made-up log, each with a log beside it that must not have it."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import dump_lines

import sibling.game
from sibling.errors import BadInput
from sibling.game import (
    COLLAPSED,
    EQUILIBRIUM,
    FOOLED,
    LEAST,
    OVERFIT,
    STRONG,
    THIN,
    finite,
    game_view,
    has_game,
    log_rows,
    state_of_game,
)

DONE = {"steps": 4000, "step": 4000, "best_step": 3800}
ROWS = 160  # a row every 25 steps
Value = float | Callable[[float], float]


def play(seed: int = 0, noise: float = 0.03, every: int = 8, **given: Value) -> list[dict[str, Any]]:
    """A log. Each value is a number or a function of the time in [0, 1]; `_` stands for `/` in a key.

    Unless given otherwise the game is balanced, the samples vary, and val/loss levels off early.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, Value] = {
        "game_d_real": lambda t: 0.62 + 0.2 * math.exp(-8 * t),
        "game_d_fake": lambda t: 0.39 - 0.2 * math.exp(-8 * t),
        "game_strength": lambda t: 0.3 * t,
        "gradient_d": 0.8,
        "gradient_g": 1.4,
    }
    checks: dict[str, Value] = {
        "val_loss": lambda t: 0.02 + 0.1 * math.exp(-12 * t),
        "game_diversity": 0.93,
        "game_spread": 0.9,
        "game_spread_worst": 0.8,
        "game_gauge": 0.3,
    }
    for name, value in given.items():
        (checks if name in checks else values)[name] = value
    rows = []
    for i in range(1, ROWS + 1):
        due = values | (checks if i % every == 0 else {})
        row: dict[str, Any] = {"step": 25 * i}
        for name, value in due.items():
            level = value(i / ROWS) if callable(value) else value
            scale = 0.03 * abs(level) if name == "val_loss" else noise
            row[name.replace("_", "/", 1)] = level + scale * float(rng.standard_normal())
        row["game/value"] = math.log(max(1e-3, row["game/d_real"])) + math.log(
            1 - min(0.999, row["game/d_fake"])
        )
        rows.append(row)
    return rows


def _state(**given: Any) -> str:
    return state_of_game(play(**given), DONE).state


# ---------------------------------------------------------------- the states


def test_balanced_with_its_numbers() -> None:
    rows = play()
    game = state_of_game(rows, DONE)
    assert game.state == "balanced"
    assert (game.first, game.last) == (129 * 25, 4000)
    judged = [row["game/d_real"] for row in rows[128:]]
    assert game.means["game/d_real"] == pytest.approx(np.mean(judged))
    assert f"D(x) is {np.mean(judged):.2f}" in game.sentence
    assert "steps 3,225 to 4,000" in game.sentence
    assert "V is \u22121.39" in game.sentence
    assert (game.overfits, game.falling, game.rollbacks) == (False, False, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_equilibrium_itself_is_balanced(seed: int) -> None:
    """The control for "G ahead": noise around 1/2 must not tip it."""
    assert _state(seed=seed, noise=0.08, game_d_real=0.5, game_d_fake=0.5) == "balanced"


@pytest.mark.parametrize(
    ("real", "fake", "state"),
    [
        (0.97, 0.03, "D too strong"),
        (0.5 + STRONG / 2 + 0.02, 0.5 - STRONG / 2 - 0.02, "D too strong"),
        (0.5 + STRONG / 2 - 0.02, 0.5 - STRONG / 2 + 0.02, "balanced"),
        (0.97, 0.6, "balanced"),  # sure of the real ones alone: that is no telling apart
        (0.42, 0.58, "G ahead"),
        (0.5 + FOOLED, 0.5, "balanced"),
        (0.1, 0.9, "G ahead"),
    ],
)
def test_who_wins(real: float, fake: float, state: str) -> None:
    assert _state(noise=0.0, game_d_real=real, game_d_fake=fake) == state


def test_only_the_end_is_judged() -> None:
    """A D that was too strong and a collapse that is over do not count; those at the end do."""
    early = state_of_game(
        play(
            game_d_real=lambda t: 0.98 if t < 0.7 else 0.6,
            game_d_fake=lambda t: 0.02 if t < 0.7 else 0.4,
            game_spread=lambda t: 0.2 if t < 0.7 else 0.9,
        ),
        DONE,
    )
    assert early.state == "balanced"
    late = play(
        game_d_real=lambda t: 0.6 if t < 0.7 else 0.98, game_d_fake=lambda t: 0.4 if t < 0.7 else 0.02
    )
    assert state_of_game(late, DONE).state == "D too strong"


@pytest.mark.parametrize("key", ["game_spread", "game_diversity"])
def test_collapsed(key: str) -> None:
    game = state_of_game(play(**{key: lambda t: 0.9 if t < 0.5 else 0.3}), DONE)
    assert game.state == "collapsed"
    assert re.search(
        r"is 0\.(28|29|30|31|32) of that between real ones (overall|within groups) \(0\.9", game.sentence
    )
    assert "weights in use" not in game.sentence
    assert _state(noise=0.0, **{key: COLLAPSED + 0.01}) == "balanced"
    assert _state(noise=0.0, **{key: COLLAPSED - 0.01}) == "collapsed"


def test_collapse_comes_before_who_wins_and_names_older_weights() -> None:
    game = state_of_game(
        play(game_spread=0.2, game_d_real=0.99, game_d_fake=0.01), DONE | {"best_step": 1200}
    )
    assert game.state == "collapsed"
    assert "weights in use are from before that, of step 1,200" in game.sentence


def test_one_group_collapsed_and_little_variety_are_remarks() -> None:
    worst = state_of_game(play(game_spread_worst=0.2, noise=0.0), DONE)
    assert worst.state == "balanced"
    assert "One group at least has collapsed, with a spread of 0.20" in worst.sentence
    thin = state_of_game(play(game_spread=THIN - 0.02, noise=0.0), DONE)
    assert "vary little, 0.68 times as much as real ones within groups." in thin.sentence
    assert "vary little" not in state_of_game(play(game_spread=THIN + 0.02, noise=0.0), DONE).sentence


def test_not_finished_where_val_still_falls() -> None:
    falling = play(val_loss=lambda t: 0.12 - 0.1 * t)
    game = state_of_game(falling, DONE)
    assert game.state == "not finished"
    assert game.falling
    assert "over the last 6 validations" in game.sentence
    strong = state_of_game(play(val_loss=lambda t: 0.12 - 0.1 * t, game_d_real=0.97, game_d_fake=0.03), DONE)
    assert strong.state == "D too strong"
    assert strong.sentence.endswith(" Val/loss still fell at the end.")


def test_a_level_val_is_rarely_called_falling() -> None:
    """The control: noise alone, at two sizes of log, seldom makes a trend."""
    for every in (8, 2):
        calls = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            rows = play(every=every)
            for row in rows:
                if "val/loss" in row:
                    row["val/loss"] = 0.02 * (1 + 0.2 * float(rng.standard_normal()))
            calls += state_of_game(rows, DONE).falling
        assert calls <= 3
    assert not state_of_game(play(val_loss=lambda t: 0.02 - 0.0005 * t, noise=0), DONE).falling  # too little
    assert not state_of_game(play(val_loss=lambda t: 0.02 + 0.1 * t), DONE).falling


def test_not_finished_where_it_was_stopped() -> None:
    rows = play(val_loss=lambda t: 0.02 - 1e-4 * t, noise=0.0)
    for i, row in enumerate(row for row in rows if "val/loss" in row):
        row["val/loss"] = 0.02 - 1e-5 * i
    game = state_of_game(rows, {"steps": 9000, "step": 4000})
    assert game.state == "not finished"
    assert "ended at step 4,000 of 9,000" in game.sentence
    # The controls: the planned end, and an end because val/loss had not been better for some time.
    assert state_of_game(rows, {"steps": 4000, "step": 4000}).state == "balanced"
    for i, row in enumerate(row for row in rows if "val/loss" in row):
        row["val/loss"] = 0.02 + 1e-5 * abs(i - 12)
    assert state_of_game(rows, {"steps": 9000, "step": 4000}).state == "balanced"


# ---------------------------------------------------------------- remarks


def test_overfitting_of_d() -> None:
    game = state_of_game(play(game_gauge=0.9, noise=0.0), DONE)
    assert game.overfits
    assert "D overfits: on held-out samples its gauge is 0.90" in game.sentence
    assert not state_of_game(play(game_gauge=OVERFIT - 0.02, noise=0.0), DONE).overfits
    rows = play(game_gauge=0.3, noise=0.0)
    rows[-1]["game/gauge"] = 500.0  # a ratio with a denominator near 0
    assert not state_of_game(rows, DONE).overfits


def test_rollbacks() -> None:
    rows = play()
    rows[40]["game/rollback"] = 0.0
    assert state_of_game(rows, DONE).rollbacks == 0
    rows[60]["game/rollback"] = 1.0
    game = state_of_game(rows, DONE)
    assert game.rollbacks == 1
    assert game.sentence.endswith("The training was rolled back once at step 1,525.")
    rows[80]["game/rollback"] = 1.0
    game = state_of_game(rows, DONE)
    assert "rolled back twice, the last time at step 2,025" in game.sentence


def test_never_more_than_two_sentences() -> None:
    rows = play(game_gauge=0.95, game_spread_worst=0.1, val_loss=lambda t: 0.12 - 0.1 * t)
    rows[9]["game/rollback"] = 1.0
    for given in ({}, {"game/spread": 0.1}, {"game/d_real": 0.99, "game/d_fake": 0.01}, {"game/d_real": 0.1}):
        sentence = state_of_game([row | given for row in rows], DONE).sentence
        assert len(re.findall(r"\.(?: [A-Z]|$)", sentence)) == 2, sentence


# ---------------------------------------------------------------- odd logs


def test_too_short_or_empty() -> None:
    short = state_of_game(play()[: LEAST - 1], DONE)
    assert short.state == "unknown"
    assert "too short to tell: 4 of" in short.sentence
    assert state_of_game(play()[:LEAST], {}).state != "unknown"
    empty = state_of_game([], {})
    assert (empty.state, empty.first, empty.means) == ("unknown", None, {})
    assert state_of_game([{"step": 1, "loss/total": 1.0}], {}).state == "unknown"


def test_nulls_and_strangers_are_left_out() -> None:
    rows = play()
    for row in rows[::3]:
        row |= {"game/d_real": None, "game/value": "x", "game/gauge": True, "val/loss": math.nan}
    game = state_of_game(rows, {"steps": None, "step": "4", "best_step": None})
    assert game.state == "balanced"
    assert all(math.isfinite(value) for value in game.means.values())
    assert state_of_game([row | {"game/d_real": None} for row in rows], DONE).state == "unknown"


def test_a_value_from_before_is_used_where_the_end_has_none() -> None:
    rows = play(noise=0.0)
    for row in rows:
        row.pop("game/spread", None)
    rows[50]["game/spread"] = 0.2
    assert state_of_game(rows, DONE).state == "collapsed"


def test_log_rows(tmp_path: Path) -> None:
    assert log_rows(tmp_path) == []
    dump_lines(tmp_path / "stats.jsonl", [{"step": 2}, {"step": None}, {"step": 1}, {"no": 1}, [3]])  # type: ignore[list-item]
    assert [row["step"] for row in log_rows(tmp_path)] == [1, 2]
    (tmp_path / "stats.jsonl").write_text("{\n{}\n{}\n")
    with pytest.raises(BadInput, match="line 1"):
        log_rows(tmp_path)


def test_has_game() -> None:
    assert has_game(play())
    assert not has_game([{"step": 1, "loss/total": 1.0, "gradient/d": 1.0}])
    assert not has_game([])


def test_finite() -> None:
    assert finite(0)
    assert finite(-1.5)
    assert not any(map(finite, (None, True, "1", math.inf, math.nan, [1])))


def test_the_view(tmp_path: Path) -> None:
    assert game_view(tmp_path, {}) == {}
    dump_lines(tmp_path / "stats.jsonl", play())
    view = game_view(tmp_path, DONE)
    assert view == game_view(tmp_path, DONE)
    assert len(view["charts"]) == 5
    text = "".join(chart["chart"] for chart in view["charts"])
    for words in ("1/2", "\u2212log 4", ">0.7<", ">0.8<", "best, step 3,800"):
        assert words in text, words
    assert "#0101" not in text  # every colour is one of the page
    assert len(text) < 200_000
    dump_lines(tmp_path / "stats.jsonl", [{"step": 1, "game/d_real": 0.5}])
    assert len(game_view(tmp_path, {})["charts"]) == 1


def test_a_long_log_stays_small(tmp_path: Path) -> None:
    rows = [row | {"step": row["step"] + 4000 * turn} for turn in range(100) for row in play(seed=turn)]
    for row in rows[::5]:
        row["game/rollback"] = 1.0
    dump_lines(tmp_path / "stats.jsonl", rows)
    assert sum(len(chart["chart"]) for chart in game_view(tmp_path, DONE)["charts"]) < 250_000


def test_equilibrium_is_the_value_at_one_half() -> None:
    assert pytest.approx(math.log(0.5) + math.log(1 - 0.5)) == EQUILIBRIUM


def test_imports_no_torch_and_no_stage() -> None:
    tree = ast.parse(Path(sibling.game.__file__).read_text("utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert names <= {"__future__", "math", "collections.abc", "dataclasses", "pathlib", "typing", "numpy",
                     "drawings", "files"}  # fmt: skip
