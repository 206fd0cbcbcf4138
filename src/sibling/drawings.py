"""The charts of a page, as inline SVG.

Knows no run folder and no page. A chart's colours are CSS variables of the page around it, so that
one drawing is legible on a light and on a dark ground.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Line",
    "arms_chart",
    "curve_chart",
    "lines_chart",
    "visible",
]

POINTS = 300  # of a curve
WINDOW = 20  # a running mean is over this part of a curve: a twentieth
UPRIGHTS = 20  # the last ones, of those that one chart marks
# Colours that occur nowhere else, to be found again in the finished SVG.
INK, FAINT, LINE, REAL, FAKE, GOOD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_VARIABLES = {INK: "ink", FAINT: "faint", LINE: "line", REAL: "real", FAKE: "fake", GOOD: "good"}
_COLOURS = {variable: colour for colour, variable in _VARIABLES.items()}
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(text: str, limit: int = 400) -> str:
    """Text as one can show it: control, direction and undecodable characters become escapes; clipped."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return _UNSEEN.sub(lambda hit: hit.group().encode("unicode_escape").decode("ascii"), text)


def _svg(draw: Callable[[Figure], None], name: str, width: float, height: float) -> Markup:
    """Draw on a figure (width and height in points) and return its SVG, made fit for a page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {  # matplotlib types the names one by one
        "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
        "svg.hashsalt": name,  # ids that are the same each time and differ between charts
        "text.parse_math": False,  # a `$` in a name is a dollar sign
        "font.family": "DejaVu Sans",
        "font.size": 10.5,
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": FAINT,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": FAINT,
        "ytick.labelcolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    # Names may hold letters that matplotlib's font lacks; the browser has them.
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # Inside HTML a <style> would reach the whole page, ids would repeat, and namespaces go without saying.
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", text.split(">", 1)[0]) + (
        ' aria-hidden="true" focusable="false">' + text.split(">", 1)[1]
    )
    text = text.replace("'DejaVu Sans'", "var(--font)")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return Markup(text)


def arms_chart(
    arms: Sequence[dict[str, Any]],
    lift: tuple[float, float, float, float | None] | None,
    *,
    axis: str,
    lift_axis: str,
) -> Markup:
    """The arms: a dot a run, a stroke at the mean, and beside each rival the lift over it; below that the lift.

    arms       {"name", "word", "colour", "mean", "runs", "stopped", "lift"}; `lift` is (value, low, high, text) or None
    lift       (value, low, high, unseen or None) of the verdict, `unseen` what was too small to be seen; None = no such part
    axis       what the means are; lift_axis: what the lifts are
    """
    tall = 34.0 * len(arms) + 42
    forest = any(arm["lift"] for arm in arms)

    def draw(figure: Figure) -> None:
        rows, columns = (2 if lift else 1), (2 if forest else 1)
        grid = figure.add_gridspec(
            rows, columns, height_ratios=[tall, 76][:rows], width_ratios=[5, 3][:columns], wspace=0.08
        )
        _draw_arms(figure.add_subplot(grid[0, 0]), arms, axis)
        if forest:
            _draw_forest(figure.add_subplot(grid[0, 1]), arms)
        if lift:
            _draw_lift(figure.add_subplot(grid[1, :]), *lift, lift_axis)

    return _svg(draw, "arms", 560, tall + (108 if lift else 0))


def _bare(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _rows_of(axes: Axes, n: int) -> None:
    """One line an arm, from the top; the same in both panels, so that the eye finds the row."""
    for i in range(n):
        axes.axhline(-i, color=LINE, linewidth=0.8, zorder=0)
    axes.set_ylim(-n + 0.55, 0.85)
    axes.locator_params(axis="x", nbins=5)
    _bare(axes)


def _above(axes: Axes, row: int, text: str, place: float, side: str, colour: str) -> None:
    """Text over the line of an arm, at a share of the width."""
    axes.annotate(
        text, (place, -row + 0.28), xycoords=("axes fraction", "data"), ha=side, va="bottom", color=colour
    )


def _draw_arms(axes: Axes, arms: Sequence[dict[str, Any]], axis: str) -> None:
    for i, arm in enumerate(arms):
        colour = _COLOURS[arm["colour"]]
        face = "none" if arm["stopped"] else colour
        runs = arm["runs"]
        axes.scatter(
            runs, [-i] * len(runs), s=34, facecolor=face, edgecolor=colour, alpha=0.6, linewidth=0.9, zorder=2
        )
        axes.plot([arm["mean"]] * 2, [-i - 0.24, -i + 0.2], color=colour, linewidth=2.6, zorder=3)
        word = f"{arm['word']}, stopped" if arm["stopped"] else arm["word"]
        _above(axes, i, visible(arm["name"], 30), 0, "left", INK)
        _above(axes, i, word, 1, "right", colour)
    axes.margins(x=0.06)
    axes.set_xlabel(axis)
    _rows_of(axes, len(arms))


def _draw_forest(axes: Axes, arms: Sequence[dict[str, Any]]) -> None:
    ends = [0.0]
    for i, arm in enumerate(arms):
        if arm["lift"] is None:
            continue
        value, low, high, text = arm["lift"]
        axes.plot([low, high], [-i, -i], color=INK, linewidth=1.8, solid_capstyle="butt", zorder=2)
        axes.scatter([value], [-i], s=30, color=INK, zorder=3)
        # Away from the line at zero, which would cross the figures of a small lift.
        axes.annotate(text, (value, -i + 0.28), ha="right" if value < 0 else "left", va="bottom")
        ends += [low, high]
    axes.axvline(0, color=FAINT, linewidth=1, zorder=1)
    room = 0.12 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - room, max(ends) + room)
    axes.set_xlabel("lift over it")
    _rows_of(axes, len(arms))


def _draw_lift(axes: Axes, value: float, low: float, high: float, unseen: float | None, axis: str) -> None:
    if unseen is not None:
        axes.axvspan(-unseen, unseen, color=LINE, alpha=0.45, linewidth=0)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.plot([low, high], [0, 0], color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.scatter([value], [0], s=52, color=INK, zorder=3)
    far = 1.15 * max(abs(low), abs(high), unseen or 0) or 1.0
    axes.set_xlim(-far, far)
    axes.set_ylim(-0.8, 1.15)
    for text, side in (("without is better", "left"), ("with synthetic is better", "right")):
        axes.annotate(
            text, (0 if side == "left" else 1, 0.97), xycoords="axes fraction", ha=side, va="top", color=FAINT
        )
    axes.set_xlabel(axis)
    _bare(axes)


def curve_chart(
    name: str, steps: Sequence[float], values: Sequence[float], best: float | None = None
) -> Markup:
    """One curve over the steps; a logarithmic axis where the values span more than a factor of 20.

    best  the step to mark, or None
    """
    return lines_chart(name, [Line(name, name, steps, values, "real")], best=best)


class Line(NamedTuple):
    """One line of a chart: its key in the log, its name, its points, and the name of a CSS variable."""

    key: str
    name: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: str


def lines_chart(
    name: str,
    lines: Sequence[Line],
    marks: Sequence[tuple[float, str]] = (),
    *,
    limits: tuple[float, float] | None = None,
    uprights: Sequence[float] = (),
    best: float | None = None,
    size: tuple[float, float] = (260, 155),
) -> Markup:
    """Curves over the steps: each faint as it was measured, and strong as its running mean where it is long.

    lines     at least one, each with a point at least
    marks     (value, text) of level lines; the first is the stronger one
    limits    of the values; None = those of the running means and marks, less what single spikes need, on
              a logarithmic axis where there are no marks and the values span more than a factor of 20
    uprights  steps to mark with dotted lines
    best      the step to mark by name, or None
    size      width and height in points
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for level, (value, text) in enumerate(marks):
            axes.axhline(
                value, color=FAINT if level == 0 else LINE, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1
            )
            axes.annotate(
                text,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=FAINT,
            )
        for step in uprights[-UPRIGHTS:]:
            axes.axvline(step, color=FAINT, linewidth=1.1, linestyle=(0, (1, 2)), zorder=1)
        shown = [_draw_curve(axes, line) for line in lines]
        _scale(axes, np.concatenate(shown), [value for value, _ in marks], limits)
        if best is not None:
            _mark_best(axes, best, max(max(line.steps) for line in lines) / 2)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=5)

    return _svg(draw, name, *size)


def _draw_curve(axes: Axes, line: Line) -> np.ndarray:
    """Draw one line; returns the values that should be in sight."""
    colour = _COLOURS[line.colour]
    x, y = np.asarray(line.steps, float), np.asarray(line.values, float)
    stride = -(-len(x) // POINTS)
    width = len(y) // WINDOW
    if width < 2:
        marker = "o" if len(y) < 40 else ""
        axes.plot(x, y, color=colour, linewidth=1.7, marker=marker, markersize=3.2, zorder=3)
        return y
    smooth = np.convolve(y, np.ones(width) / width, "valid")  # of all points, before any is left out
    offset = (width - 1) // 2
    axes.plot(x[::stride], y[::stride], color=colour, alpha=0.3, linewidth=0.9, zorder=2)
    axes.plot(
        x[offset : offset + len(smooth)][::stride], smooth[::stride], color=colour, linewidth=1.7, zorder=3
    )
    return np.concatenate([smooth, np.quantile(y, [0.01, 0.99])])


def _scale(
    axes: Axes, shown: np.ndarray, levels: Sequence[float], limits: tuple[float, float] | None
) -> None:
    """Set the axis of the values."""
    low, high = min([float(shown.min()), *levels]), max([float(shown.max()), *levels])
    if limits is not None:
        room = 0.05 * (limits[1] - limits[0])
        axes.set_ylim(limits[0] - room, limits[1] + room)
    elif low > 0 and high > 20 * low and not levels:
        axes.set_yscale("log", subs=(2, 5))
        for axis_part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis_part("{x:g}")  # the usual one writes powers of ten in TeX
    else:
        room = 0.07 * (high - low) or 0.05 * abs(high) or 0.05
        axes.set_ylim(low - room, high + room)


def _mark_best(axes: Axes, best: float, middle: float) -> None:
    axes.axvline(best, color=GOOD, linewidth=1.4, linestyle=(0, (4, 3)))
    late = best > middle
    axes.annotate(
        f"best, step {best:,.0f}",
        (best, 1),  # above the axes, where no curve is
        xycoords=("data", "axes fraction"),
        xytext=(4 if late else -4, 2),
        textcoords="offset points",
        ha="right" if late else "left",
        va="bottom",
        color=GOOD,
    )
