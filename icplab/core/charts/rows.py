"""Reads estimate tables with one row per label, makes interval charts and bar charts: label, mark and number on a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import style
from icplab.core.charts.chart import Chart, describe
from icplab.core.errors import ContractBroken, nearest

MOST_ROWS = 40  # lines of one chart; the note says how many were left out
ROW, GROUP_ROW, GAP = 26.0, 19.0, 12.0  # px per line, per line of a group, between groups
TOP, BOTTOM = 8.0, 28.0
KEY, REFERENCE = 26.0, 18.0  # px above the drawing for the names of groups, for the name of the reference line
LABEL_PAD, NUMBER_PAD = 16.0, 14.0
MARKERS = ("o", "D", "s", "^", "v", "P")  # groups differ in shape too, not in colour alone
FARTHEST = 2.5  # bounds are drawn to at most so many spans of the estimates beyond them; an arrow says "farther"


@dataclass(frozen=True)
class _Line:
    """One printed line of a chart."""

    label: str
    group: str
    value: float
    low: float
    high: float
    n: float
    unit: str
    usable: bool


def interval_chart(
    table: pd.DataFrame,
    label: str = "level",
    value: str = "value",
    low: str = "low",
    high: str = "high",
    title: str = "",
    unit: str = "",
    reference: float | None = None,
    group: str | None = None,
    *,
    note: str = "",
    reference_label: str = "",
    currency: str = "",
    log: bool = False,
    n: str = "n",
) -> Chart:
    """Estimates as points with their intervals, one line per row, the numbers printed beside them.

    Parameters
    ----------
    table
        Estimate table, drawn in its own order. A column named by `n` is printed as sample size; rows whose
        column `status` is not `ok`, or whose value is missing, say that there is not enough data.
    label, value, low, high, group
        Columns: name of the line, estimate, bounds of its interval, series within a label.
    title
        The finding, a sentence.
    unit
        `fraction`, `money`, `days`, `months`, `ratio`, `count` or nothing (a plain number).
    reference, reference_label
        Value of a dashed line (the base rate, an odds ratio of 1), and what to call it.
    log
        Logarithmic scale, for ratios.

    Returns
    -------
    Chart
        With `alt` reading out every line (the first `ALT_ITEMS`).

    Raises
    ------
    ContractBroken
        A column named here is not in the table.
    """
    lines, left_out = _lines(table, label, value, low, high, group, n, unit)
    reference = None if reference is None or math.isnan(reference) else float(reference)
    log = log and all(x > 0 for line in lines if line.usable for x in (line.value, line.low) if not math.isnan(x))
    with style.house_style():
        named = reference_words(reference, reference_label, unit, currency)
        figure, axes, places, groups = _frame(lines, currency, named)
        lowest, highest = _range(lines, reference, log)
        _scale(axes, lowest, highest, unit, currency, log)
        if reference is not None:
            _reference(axes, reference, named)
        for line, y in zip(lines, places, strict=True):
            _interval(axes, line, y, groups, lowest, highest)
    extra = f"{_called(reference_label)} {fmt.quantity(reference, unit, currency)}." if reference is not None else ""
    return _chart(figure, lines, title, "Interval chart", note, left_out, extra, currency)


def bar_chart(
    table: pd.DataFrame,
    label: str = "level",
    value: str = "value",
    title: str = "",
    unit: str = "",
    group: str | None = None,
    *,
    low: str | None = None,
    high: str | None = None,
    note: str = "",
    currency: str = "",
    n: str = "n",
) -> Chart:
    """Amounts or counts as bars from zero, one line per row, the number printed at its right.

    Parameters are those of `interval_chart`; with `low` and `high` a hairline shows the interval on each bar.
    Rates and ratios are better shown by `interval_chart`: a bar says "from zero".
    """
    lines, left_out = _lines(table, label, value, low, high, group, n, unit)
    with style.house_style():
        figure, axes, places, groups = _frame(lines, currency)
        lowest, highest = _range(lines, 0.0, False)
        _scale(axes, lowest, highest, unit, currency, False)
        axes.axvline(0, color=style.colour("rule"), lw=1, zorder=3)
        for line, y in zip(lines, places, strict=True):
            _bar(axes, line, y, groups, lowest, highest)
    return _chart(figure, lines, title, "Bar chart", note, left_out, "", currency)


def require(table: pd.DataFrame, names: Sequence[str | None]) -> None:
    """Raise for columns that a chart was told to read and the table lacks."""
    missing = [name for name in names if name and name not in table]
    if missing:
        hints = "".join(f'"{m}"{nearest(m, map(str, table.columns))}; ' for m in missing)
        raise ContractBroken(f"chart: the table has no column {hints}it has {list(map(str, table.columns))}")


def words_of(column: str) -> Callable[[object], str]:
    """How the values of a column are printed: words of the tool as people write them, data as it is."""
    return fmt.name if column in fmt.OWN_WORDS else fmt.text


def draw_key(axes: Any, names: Sequence[str], tokens: Sequence[str], markers: Sequence[str], y: float) -> None:
    """Names of the groups in a row above the drawing, each behind its mark; `y` in px above the axes."""
    from matplotlib.transforms import IdentityTransform

    figure = axes.figure
    box = axes.get_position()
    x, top = box.x0 * style.WIDTH, box.y1 * figure.get_size_inches()[1] * 72 + y
    for name, token, marker in zip(names, tokens, markers, strict=True):
        shown = style.fit(name, 180)
        axes.plot(
            [x + 4],
            [top + 4],
            marker,
            color=style.colour(token),
            ms=7,
            mew=0,
            clip_on=False,
            transform=IdentityTransform(),
        )
        axes.text(x + 13, top, shown, transform=IdentityTransform(), ha="left", va="baseline")
        x += style.text_width(shown) + 34


def _lines(
    table: pd.DataFrame, label: str, value: str, low: str | None, high: str | None, group: str | None, n: str, unit: str
) -> tuple[list[_Line], int]:
    """Rows as printed lines, groups together, and how many were left out."""
    require(table, [label, value, low, high, group])
    rows = pd.DataFrame(
        {
            "label": table[label].map(words_of(label)),
            "group": table[group].map(words_of(group)) if group else "",
            **{
                name: pd.to_numeric(table[column], errors="coerce").astype("float64") if column in table else np.nan
                for name, column in {"value": value, "low": low or "", "high": high or "", "n": n}.items()
            },
            "unit": unit,
        }
    )
    usable = np.isfinite(rows["value"])
    rows["usable"] = usable & (table["status"].eq("ok") if "status" in table else True)
    if group:
        rows = rows.iloc[np.argsort(pd.factorize(rows["label"])[0], kind="stable")]
    lines = [_Line(*r) for r in rows.head(MOST_ROWS).itertuples(index=False, name=None)]
    return lines, max(0, len(rows) - MOST_ROWS)


def _frame(lines: list[_Line], currency: str, above: str = "") -> tuple[Any, Any, list[float], list[str]]:
    """Canvas with labels at the left and numbers at the right; returns the height of each line from the top."""
    groups = list(dict.fromkeys(line.group for line in lines))
    grouped = groups not in ([], [""])
    numbers = [_number(line, currency) for line in lines]
    sizes = [f"n{fmt.THIN}{fmt.integer(line.n)}" if not math.isnan(line.n) else "" for line in lines]
    left = min(style.LONGEST_LABEL, max([style.text_width(line.label) for line in lines], default=0)) + LABEL_PAD
    number_room = max([style.text_width(t) for t in numbers], default=0)
    size_room = max([style.text_width(t, style.SMALL) for t in sizes], default=0)
    right = number_room + NUMBER_PAD + (size_room + NUMBER_PAD if size_room else 0)
    places, height = _places(lines, grouped)
    top = TOP + (KEY if grouped else 0) + (REFERENCE if above else 0)
    figure, axes = style.canvas(height + top + BOTTOM, left, right, top, BOTTOM)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    _print_lines(axes, lines, places, numbers, sizes, (left, right), grouped)
    if grouped:
        tokens = [style.SERIES[i % len(style.SERIES)] for i in range(len(groups))]
        marks = [MARKERS[i % len(MARKERS)] for i in range(len(groups))]
        draw_key(axes, groups, tokens, marks, 12 + (REFERENCE if above else 0))
    return figure, axes, places, groups


def _print_lines(
    axes: Any,
    lines: list[_Line],
    places: list[float],
    numbers: list[str],
    sizes: list[str],
    margins: tuple[float, float],
    grouped: bool,
) -> None:
    """Label, number and sample size of every line; a group's label stands once, in the middle of its lines."""
    left, right = margins
    px = 1 / (style.WIDTH - left - right)
    blend = axes.get_yaxis_transform()
    members = pd.Series([line.label for line in lines], dtype="str").value_counts()
    last = None
    for line, y, printed, size in zip(lines, places, numbers, sizes, strict=True):
        if line.label != last or not grouped:
            middle = (int(members[line.label]) - 1) / 2 * GROUP_ROW if grouped else 0
            axes.text(-left * px, y + middle, style.fit(line.label, left - LABEL_PAD), transform=blend, va="center")
        ink = style.colour("ink" if line.usable else "muted")
        axes.text(1 + NUMBER_PAD * px, y, printed, transform=blend, va="center", color=ink)
        small = {"size": style.SMALL, "color": style.colour("muted")}
        axes.text(1 + right * px, y, size, transform=blend, ha="right", va="center", **small)
        last = line.label


def _places(lines: list[_Line], grouped: bool) -> tuple[list[float], float]:
    """Distance of each line from the top, and the height of all."""
    places, y, last = [], 0.0, None
    for line in lines:
        if grouped:
            y += GAP if line.label != last and last is not None else 0
            places.append(y + GROUP_ROW / 2)
            y += GROUP_ROW
        else:
            places.append(y + ROW / 2)
            y += ROW
        last = line.label
    return places, max(y, ROW)


def _range(lines: list[_Line], reference: float | None, log: bool) -> tuple[float, float]:
    """Ends of the scale: every estimate and the reference, and bounds as far as they do not squeeze them."""
    usable = [line for line in lines if line.usable]
    inner = [line.value for line in usable] + ([reference] if reference is not None else [])
    if not inner:
        return 0.0, 1.0
    bounds = np.array([b for line in usable for b in (line.low, line.high) if math.isfinite(b)] + inner)
    to, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    low, high, bounds = float(to(min(inner))), float(to(max(inner))), to(bounds)
    span = max(high - low, float(np.median(np.abs(bounds - np.mean([low, high])))), 1e-9)
    low_end, high_end = max(bounds.min(), low - FARTHEST * span), min(bounds.max(), high + FARTHEST * span)
    if high_end <= low_end:  # one value only
        high_end = low_end + (abs(low_end) or 1.0)
    pad = 0.03 * (high_end - low_end)
    floor = low_end - (pad if low_end != 0 else 0)
    return float(back(floor)), float(back(high_end + (pad if high_end != 0 else 0)))


def _scale(axes: Any, low: float, high: float, unit: str, currency: str, log: bool) -> None:
    """The horizontal scale: few ticks, in the unit, with faint lines to read by."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_log_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(ticks(unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick_label(x, unit, currency)))
    axes.set_xlim(low, high)
    axes.grid(axis="x", color=style.colour("grid"), lw=1, zorder=0)
    axes.set_axisbelow(True)


def ticks(unit: str, most: int = 5) -> Any:
    """Where to put at most `most` + 1 ticks on round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10], integer=unit in ("count", "integer"))


def tick_label(x: float, unit: str, currency: str = "") -> str:
    """A tick's number, shorter than the number of an estimate."""
    kind = fmt.UNIT_FORMATS.get(unit, "number")
    x = 0.0 if abs(x) < 1e-12 else x
    if kind == "percent":
        return f"{x * 100:.6g}{fmt.THIN}%".replace("-", fmt.MINUS)
    if kind == "money":
        return fmt.money_short(x) if abs(x) < 1e3 else _trimmed(fmt.money_short(x))
    return f"{x:,.6g}".replace("-", fmt.MINUS)


def _trimmed(printed: str) -> str:
    """`2.00 M` as `2 M`."""
    number, _, word = printed.partition(fmt.THIN)
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number}{fmt.THIN}{word}"


def _log_ticks(low: float, high: float) -> list[float]:
    powers = [2.0**k for k in range(-10, 11) if low <= 2.0**k <= high]
    return powers[:: max(1, math.ceil(len(powers) / 7))] or [low, high]


def reference_words(at: float | None, name: str, unit: str, currency: str) -> str:
    """Name and value of a reference line; nothing without one."""
    return "" if at is None else f"{fmt.plain(name, 40)} {fmt.quantity(at, unit, currency)}".strip()


def _reference(axes: Any, at: float, words: str) -> None:
    """A dashed line over all rows, named above it."""
    axes.axvline(at, color=style.colour("muted"), lw=1, ls=(0, (4, 3)), zorder=1)
    place = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))[0]
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"
    axes.annotate(
        words,
        (at, 1),
        xycoords=("data", axes.transAxes),
        xytext=(0, 6),
        textcoords="offset points",
        ha=side,
        va="baseline",
        size=style.SMALL,
        color=style.colour("muted"),
        annotation_clip=False,
    )


def _interval(axes: Any, line: _Line, y: float, groups: list[str], lowest: float, highest: float) -> None:
    """A point with its interval; a bound beyond the scale ends in an arrow."""
    if not line.usable:
        return
    index = groups.index(line.group) if line.group else 0
    ink = style.colour(style.SERIES[index % len(style.SERIES)])
    if math.isfinite(line.low) and math.isfinite(line.high):
        low, high = max(line.low, lowest), min(line.high, highest)
        axes.plot([low, high], [y, y], color=ink, lw=2.4, alpha=0.55, solid_capstyle="butt", zorder=2)
        for end, beyond, shape in ((low, line.low < lowest, "<"), (high, line.high > highest, ">")):
            if beyond:
                axes.plot([end], [y], shape, color=ink, ms=6, mew=0, clip_on=False, zorder=3)
    shape = MARKERS[index % len(MARKERS)]
    axes.plot([line.value], [y], shape, color=ink, ms=8, mec=style.colour("paper"), mew=1.2, zorder=4, clip_on=False)


def _bar(axes: Any, line: _Line, y: float, groups: list[str], lowest: float, highest: float) -> None:
    if not line.usable:
        return
    index = groups.index(line.group) if line.group else 0
    thickness = (GROUP_ROW if line.group else ROW) * 0.66
    axes.barh(
        y, line.value, height=thickness, color=style.colour(style.SERIES[index % len(style.SERIES)]), lw=0, zorder=2
    )
    if math.isfinite(line.low) and math.isfinite(line.high):
        ends = [max(line.low, lowest), min(line.high, highest)]
        axes.plot(ends, [y, y], color=style.colour("ink"), lw=1.4, solid_capstyle="butt", zorder=4)


def _number(line: _Line, currency: str) -> str:
    if not line.usable:
        return "not enough data"
    return fmt.estimate(line.value, line.low, line.high, line.unit, currency)


def _called(name: str) -> str:
    return f"Reference, {fmt.plain(name, 60)}:" if name else "Reference line at"


def _chart(
    figure: Any, lines: list[_Line], title: str, kind: str, note: str, left_out: int, extra: str, currency: str
) -> Chart:
    items = [
        f"{line.label}{', ' + line.group if line.group else ''} {_number(line, currency)}"
        + (f", n {fmt.integer(line.n)}" if not math.isnan(line.n) else "")
        for line in lines
    ]
    if left_out:
        note = f"{note} First {MOST_ROWS} of {MOST_ROWS + left_out} lines.".strip()
    kind = f"{kind} of {len(lines)} line{'s' if len(lines) != 1 else ''}"
    return Chart(fmt.plain(title, 400), describe(title, kind, items, extra), figure, fmt.plain(note, 400))
