"""What a page shows that is not text: sheets of pictures as PNG, charts as inline SVG.

Knows no run folder and no page. A chart's colours are CSS variables of the page around it, so that
one drawing is legible on a light and on a dark ground.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["arms_chart", "curve_chart", "fitting", "png", "sheet", "shrunk", "uri", "visible"]

EDGES = (128, 96, 64, 48, 32, 24, 16)  # the longest side of one picture in pixels, tried in turn
POINTS = 300  # of a curve
# Colours that occur nowhere else, to be found again in the finished SVG.
INK, FAINT, LINE, REAL, FAKE, GOOD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_VARIABLES = {INK: "ink", FAINT: "faint", LINE: "line", REAL: "real", FAKE: "fake", GOOD: "good"}
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(text: str, limit: int = 400) -> str:
    """Text as one can show it: control, direction and undecodable characters become escapes; clipped."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return _UNSEEN.sub(lambda hit: hit.group().encode("unicode_escape").decode("ascii"), text)


# ---------------------------------------------------------------- pictures


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def uri(data: bytes) -> str:
    """The bytes of a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def sheet(pictures: np.ndarray, columns: int, edge: int) -> bytes:
    """uint8 (n, H, W, 3) -> one PNG with the pictures in rows, none longer than `edge` pixels."""
    _, height, width, _ = pictures.shape
    scale = min(1.0, edge / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gap = 1 if max(size) < 24 else 2
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGBA", (columns * (size[0] + gap) - gap, rows * (size[1] + gap) - gap))
    for i, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        if scale < 1:
            picture = picture.resize(size, Image.Resampling.BOX)
        row, column = divmod(i, columns)
        whole.paste(picture, (column * (size[0] + gap), row * (size[1] + gap)))
    return png(whole)


def fitting(make: Callable[[int], Iterable[bytes]], budget: int) -> list[str]:
    """Sheets as data URIs, at the largest picture size whose bytes stay within a budget.

    make    (longest side of one picture) -> the PNG sheets, one by one
    budget  bytes before base64, which adds a third; the smallest size is taken whatever it needs
    """
    for edge in EDGES:
        sheets: list[bytes] = []
        used = 0
        for one in make(edge):
            sheets.append(one)
            used += len(one)
            if used > budget and edge != EDGES[-1]:
                break
        else:
            break
    return [uri(one) for one in sheets]


def shrunk(path: Path, budget: int) -> Image.Image:
    """A PNG file, decoded, at a size whose PNG stays within a budget of bytes. Raises ValueError, OSError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=["PNG"]) as file:
                picture = file.convert("RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError("the picture is too large to be shown") from error
    picture.thumbnail((1200, 1200))
    while len(png(picture)) > budget:
        picture.thumbnail((max(1, picture.width // 2), max(1, picture.height // 2)))
    return picture


# ---------------------------------------------------------------- charts


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
    arms: Sequence[dict[str, Any]], lift: tuple[float, float, float, float | None] | None
) -> Markup:
    """Accuracy of each arm, a dot a seed and a stroke at the mean; below it the lift with its interval.

    arms  {"name", "mean", "runs", "fake"} with accuracies in [0, 1]; `fake` colours the arm
    lift  (value, low, high, power or None) in points; None leaves the lower part out
    """
    tall = 34.0 * len(arms) + 42

    def draw(figure: Figure) -> None:
        parts = 2 if lift else 1
        grid = figure.add_gridspec(parts, 1, height_ratios=[tall, 72][:parts])
        _draw_arms(figure.add_subplot(grid[0]), arms)
        if lift:
            _draw_lift(figure.add_subplot(grid[1]), *lift)

    return _svg(draw, "arms", 460, tall + (100 if lift else 0))


def _bare(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _draw_arms(axes: Axes, arms: Sequence[dict[str, Any]]) -> None:
    for i, arm in enumerate(arms):
        colour = FAKE if arm["fake"] else REAL
        runs = [100 * value for value in arm["runs"]]
        axes.axhline(-i, color=LINE, linewidth=0.8, zorder=0)
        axes.scatter(runs, [-i] * len(runs), s=34, color=colour, alpha=0.55, linewidth=0, zorder=2)
        axes.plot([100 * arm["mean"]] * 2, [-i - 0.24, -i + 0.2], color=colour, linewidth=2.6, zorder=3)
        axes.annotate(
            visible(arm["name"], 60),
            (0, -i + 0.28),
            xycoords=("axes fraction", "data"),
            va="bottom",
        )
    axes.set_ylim(-len(arms) + 0.55, 0.85)
    axes.margins(x=0.06)
    axes.set_xlabel("accuracy on the real test part, %: dots are seeds, strokes are means")
    _bare(axes)


def _draw_lift(axes: Axes, value: float, low: float, high: float, power: float | None) -> None:
    if power is not None:
        axes.axvspan(-power, power, color=LINE, alpha=0.45, linewidth=0)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.plot([low, high], [0, 0], color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.scatter([value], [0], s=52, color=INK, zorder=3)
    far = 1.15 * max(abs(low), abs(high), power or 0, 1.0)
    axes.set_xlim(-far, far)
    axes.set_ylim(-0.8, 1.15)
    axes.set_xlabel("lift in points with its 95 % interval; right of 0: synthetic helps")
    _bare(axes)


def curve_chart(
    name: str, steps: Sequence[float], values: Sequence[float], best: float | None = None
) -> Markup:
    """One curve over the steps; a logarithmic axis where the values span more than a factor of 20.

    best  the step to mark, or None
    """
    stride = -(-len(steps) // POINTS)
    x, y = np.asarray(steps, float)[::stride], np.asarray(values, float)[::stride]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        width = len(y) // 20
        if width >= 2:
            smooth = np.convolve(y, np.ones(width) / width, "valid")
            offset = (width - 1) // 2
            axes.plot(x, y, color=REAL, alpha=0.3, linewidth=0.9)
            axes.plot(x[offset : offset + len(smooth)], smooth, color=REAL, linewidth=1.7)
        else:
            axes.plot(x, y, color=REAL, linewidth=1.7, marker="o" if len(y) < 40 else "", markersize=3.2)
        if y.min() > 0 and y.max() > 20 * y.min():
            axes.set_yscale("log", subs=(2, 5))
            for axis_part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                axis_part("{x:g}")  # the usual one writes powers of ten in TeX
        if best is not None:
            axes.axvline(best, color=GOOD, linewidth=1.4, linestyle=(0, (4, 3)))
            late = best > (x[0] + x[-1]) / 2
            axes.annotate(
                f"best, step {best:,.0f}",
                (best, 0.98),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if late else 4, 0),
                textcoords="offset points",
                ha="right" if late else "left",
                va="top",
                color=GOOD,
            )
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=5)

    return _svg(draw, name, 260, 155)
