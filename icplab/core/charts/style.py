"""Makes the look of every chart: palette with a light and a dark value per colour, type, canvas, text measures.

A chart is drawn once, in the light values; `themed` then turns each of them into a CSS variable, so that the same
SVG is dark on a dark page. Text stays text, set in the reader's own fonts; it is laid out in DejaVu Sans, which
ships with matplotlib and is wider than any of them, so that nothing depends on the machine and nothing overflows.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from icplab.core import formats as fmt

WIDTH = 680  # px of a chart; one unit of the drawing is one CSS pixel
TEXT, SMALL, TITLE = 12.5, 11.0, 16.0  # px
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Liberation Sans',Arial,'DejaVu Sans',sans-serif"
DENSE = 1000  # marks above which they are drawn as pixels (performance: a 10,000-point SVG weighs 1 MB, pixels 0.14)
RASTER_DPI = 144  # twice the drawing's own resolution
LONGEST_LABEL = 230  # px given to row labels at most

# token: (light, dark). Series colours also set names at line ends, so they keep 4.5:1 against their paper (WCAG 2.2,
# 1.4.3), and stay apart under protanopia, deuteranopia and tritanopia; tests/test_charts.py measures both.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#fffffe", "#14171b"),
    "ink": ("#1a1d21", "#e9ebee"),
    "muted": ("#5a6169", "#a4adb7"),
    "rule": ("#c9ced4", "#3d444d"),
    "grid": ("#e7eaed", "#262b31"),
    "s1": ("#1d6fd1", "#58a6fb"),
    "s2": ("#ad4208", "#fe8a3c"),
    "s3": ("#086045", "#35dba4"),
    "s4": ("#a8258c", "#e08cc0"),
    "s5": ("#6d757d", "#f3e08a"),
    "s6": ("#14213d", "#f2f4f7"),
    "q0": ("#f2f5f8", "#1b2026"),
    "q1": ("#d9e6f2", "#1d3145"),
    "q2": ("#b9d3ea", "#1f4362"),
    "q3": ("#8fb9dd", "#275b88"),
    "q4": ("#5d97c8", "#31699b"),
    "q5": ("#2d70ab", "#6aa6db"),
    "q6": ("#10497e", "#a8d0f3"),
    "onlight": ("#1a1d20", "#e9ebed"),  # text on q0 to q4
    "ondark": ("#fffffd", "#0d1115"),  # text on q5 and q6
}
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")
STEPS = ("q0", "q1", "q2", "q3", "q4", "q5", "q6")
PIXEL_COLOURS = ("#3f8fd2", "#d9712e", "#1a9a75", "#c45aa8")  # for marks drawn as pixels: seen on both papers
_LIGHT_TOKEN = {light: token for token, (light, _) in COLOURS.items()}
_THEME = ".icp{{{light}}}@media (prefers-color-scheme:dark){{.icp{{{dark}}}}}.icp text{{font-family:{font}!important}}"
STYLE = _THEME.format(
    light=";".join(f"--{t}:{light}" for t, (light, _) in COLOURS.items()),
    dark=";".join(f"--{t}:{dark}" for t, (_, dark) in COLOURS.items()),
    font=FONT,
)


def colour(token: str) -> str:
    """Light value of a colour: what is drawn, and what `themed` finds again."""
    return COLOURS[token][0]


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib set up so that a chart's bytes depend on nothing but its numbers."""
    import matplotlib as mpl
    import seaborn as sns

    rc: Any = {
        **sns.axes_style("white"),
        "font.family": "DejaVu Sans",
        "font.size": TEXT,
        "text.color": colour("ink"),
        "axes.edgecolor": colour("rule"),
        "axes.linewidth": 1.0,
        "xtick.color": colour("muted"),
        "ytick.color": colour("muted"),
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "savefig.dpi": RASTER_DPI,
        "figure.dpi": 72,
        "text.parse_math": False,  # an account called "$x$" is not a formula
        "axes.unicode_minus": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "icplab",
        "axes.formatter.use_mathtext": False,
        "path.simplify": False,
    }
    with mpl.rc_context(rc), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's fonts have it
        yield


def canvas(height: float, left: float, right: float, top: float, bottom: float) -> tuple[Any, Any]:
    """A figure of the house width and one bare axes inside the given margins, all in px."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72))
    box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, pad=6)
    return figure, axes


@cache
def text_width(text: str, size: float = TEXT, bold: bool = False) -> float:
    """Width in px at most taken by a text; characters the measuring font lacks count one em."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    wide = sum(unicodedata.east_asian_width(c) in "WF" or ord(c) > 0xFFFF for c in text)
    known = "".join(c for c in text if not (unicodedata.east_asian_width(c) in "WF" or ord(c) > 0xFFFF))
    prop = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        width = text_to_path.get_text_width_height_descent(known, prop, ismath=False)[0] if known.strip() else 0
    return float(width) + wide * size


def fit(text: object, width: float, size: float = TEXT, bold: bool = False) -> str:
    """Text from the data, made harmless and cut to a width with an ellipsis."""
    line = fmt.text(text)
    if text_width(line, size, bold) <= width:
        return line
    while line and text_width(line + "…", size, bold) > width:
        line = line[:-1]
    return line.rstrip() + "…"


def wrap(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """A sentence broken into lines of at most `width` px; an endless word is cut."""
    lines = [""]
    for word in fmt.plain(text, 400).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or text_width(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fit(line, width, size, bold) for line in lines]


def themed(svg: str) -> str:
    """Turn every palette colour in a style attribute into its CSS variable, with the light value as fallback."""

    def variable(match: re.Match[str]) -> str:
        token = _LIGHT_TOKEN.get(match[0])
        return f"var(--{token},{match[0]})" if token else match[0]

    return re.sub(r'style="[^"]*"', lambda m: re.sub(r"#[0-9a-f]{6}\b", variable, m[0]), svg)
