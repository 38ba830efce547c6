"""Reads estimate tables, makes funnel plots (rates against n with control limits) and waterfalls (from one sum to another)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import style
from icplab.core.charts.chart import Chart, describe
from icplab.core.charts.rows import ROW, require, tick_label, ticks, words_of

FUNNEL_HEIGHT = 360.0
MOST_NAMES = 10  # points of a funnel plot that are named: those outside the limits, farthest first
LIMIT_NAMES = {"near": "95 % limits", "far": "99.8 % limits"}
NUMBER_ROOM, LABEL_PAD = 96.0, 16.0


def funnel_chart(
    table: pd.DataFrame,
    limits: pd.DataFrame,
    label: str = "level",
    value: str = "value",
    n: str = "n",
    title: str = "",
    unit: str = "fraction",
    *,
    reference: float,
    reference_label: str = "all",
    outside: str = "outside",
    note: str = "",
) -> Chart:
    """Rates against the number behind them, with the limits inside which luck alone keeps them.

    Parameters
    ----------
    table
        One row per point, any order: `label`, `value`, `n`, and `outside` (whether it lies outside the wide limits).
        Points outside are marked in a shape of their own and named, the farthest `MOST_NAMES` of them.
    limits
        Rows in the order of `n` with `near_low, near_high` (95 %) and `far_low, far_high` (99.8 %).
    reference
        The rate of everything, a dashed line.

    Returns
    -------
    Chart
        Its `alt` names the points outside the limits and counts the others.

    Notes
    -----
    Spiegelhalter 2005, Statistics in Medicine 24, 1185-1202.
    """
    require(table, [label, value, n, outside])
    require(limits, ["n", "near_low", "near_high", "far_low", "far_high"])
    points = pd.DataFrame(
        {
            "label": table[label].map(words_of(label)),
            "value": pd.to_numeric(table[value], errors="coerce").astype("float64"),
            "n": pd.to_numeric(table[n], errors="coerce").astype("float64"),
            "outside": table[outside].astype(bool),
        }
    )
    points = points[np.isfinite(points["value"]) & (points["n"] > 0)].sort_values(["n", "value", "label"])
    with style.house_style():
        figure = _funnel(points, limits, unit, reference, f"{reference_label} {fmt.quantity(reference, unit)}".strip())
    beyond = points[points["outside"]]
    said = [
        f"{row['label']} {fmt.quantity(row['value'], unit)} of {fmt.integer(row['n'])}, outside the limits"
        for row in beyond.to_dict("records")
    ]
    said.append(f"{len(points) - len(beyond)} points inside the limits around {fmt.quantity(reference, unit)}")
    kind = f"Funnel plot of {len(points)} points"
    return Chart(fmt.plain(title, 400), describe(title, kind, said), figure, fmt.plain(note, 400))


def waterfall_chart(
    table: pd.DataFrame,
    label: str = "step",
    value: str = "value",
    title: str = "",
    unit: str = "money",
    *,
    total: str = "total",
    note: str = "",
    currency: str = "",
) -> Chart:
    """How one sum becomes another: totals as bars from zero, each change as a bar from where the last one ended.

    Parameters
    ----------
    table
        One row per bar in order. `total` marks sums (drawn from zero); the others are signed changes.

    Raises
    ------
    ContractBroken
        A column is missing.
    """
    require(table, [label, value, total])
    steps = pd.DataFrame(
        {
            "label": table[label].map(words_of(label)),
            "value": pd.to_numeric(table[value], errors="coerce").fillna(0.0).astype("float64"),
            "total": table[total].astype(bool),
        }
    ).reset_index(drop=True)
    # A total starts the count anew, so that what precedes it need not be complete.
    block = steps["total"].cumsum()
    after = steps.groupby(block)["value"].cumsum()
    steps["end"] = after
    steps["start"] = np.where(steps["total"], 0.0, after - steps["value"])
    with style.house_style():
        figure = _waterfall(steps, unit, currency)
    said = [f"{row['label']} {_signed(row, unit, currency)}" for row in steps.to_dict("records")]
    kind = f"Waterfall of {len(steps)} steps"
    return Chart(fmt.plain(title, 400), describe(title, kind, said), figure, fmt.plain(note, 400))


def _funnel(points: pd.DataFrame, limits: pd.DataFrame, unit: str, reference: float, words: str) -> Any:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    figure, axes = style.canvas(FUNNEL_HEIGHT, 52, 112, 22, 48)
    at = limits["n"].to_numpy(dtype=float)
    for name, alpha in (("far", 0.10), ("near", 0.16)):
        ends = (limits[f"{name}_low"].to_numpy(dtype=float), limits[f"{name}_high"].to_numpy(dtype=float))
        axes.fill_between(at, *ends, color=style.colour("s5"), alpha=alpha, lw=0, zorder=1)
    axes.axhline(reference, color=style.colour("muted"), lw=1, ls=(0, (4, 3)), zorder=2)
    for outside, token, marker, size in ((False, "s1", "o", 5.5), (True, "s2", "D", 6.5)):
        part = points[points["outside"] == outside]
        axes.plot(part["n"], part["value"], marker, color=style.colour(token), ms=size, alpha=0.85, mew=0, zorder=3)
    axes.set_xscale("log")
    low, high = (float(at.min()), float(at.max())) if len(at) else (1.0, 10.0)
    axes.set_xlim(low, high if high > low else low * 2)
    axes.xaxis.set_major_locator(_places(low, high))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.integer(v)))
    bottom, top = _rate_ends(points, limits, reference)
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(ticks(unit))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, unit)))
    axes.grid(axis="y", color=style.colour("grid"), lw=1)
    axes.set_axisbelow(True)
    small = {"size": style.SMALL, "color": style.colour("muted")}
    axes.set_xlabel("opportunities behind the rate (logarithmic)", labelpad=6, **small)
    _name_limits(axes, limits, reference, words, small)
    _name_points(axes, points)
    return figure


def _places(low: float, high: float) -> Any:
    from matplotlib.ticker import FixedLocator

    rounds = [k * 10.0**p for p in range(7) for k in (1, 2, 5)]
    inside = [r for r in rounds if low <= r <= high]
    return FixedLocator(inside or [low, high])


def _rate_ends(points: pd.DataFrame, limits: pd.DataFrame, reference: float) -> tuple[float, float]:
    values = [*points["value"], *limits["near_low"], *limits["near_high"], reference]
    low, high = min(values), max(values)
    pad = 0.06 * ((high - low) or 1.0)
    return max(low - pad, -0.02), high + pad


def _name_limits(axes: Any, limits: pd.DataFrame, reference: float, words: str, small: dict) -> None:
    """Names of the overall rate and of the limits at their right ends, kept apart."""
    if limits.empty:
        return
    last = limits.iloc[-1]
    height = axes.get_position().height * FUNNEL_HEIGHT
    bottom, top = axes.get_ylim()
    named = [(reference, words), (last["near_high"], "95 % limits"), (last["far_high"], "99.8 % limits")]
    places = [(v - bottom) / (top - bottom) * height for v, _ in named]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 15)
    for (_, said), place in zip(named, places, strict=True):
        axes.annotate(
            style.fit(said, 104, style.SMALL), (1, place / height), xycoords="axes fraction", xytext=(7, 0),
            textcoords="offset points", va="center", annotation_clip=False, **small,
        )  # fmt: skip


def _name_points(axes: Any, points: pd.DataFrame) -> None:
    """Names of the points outside the limits: above those that are high, below those that are low, none over another."""
    beyond = points[points["outside"]]
    middle = points["value"].median() if len(points) else 0.0
    farthest = beyond.loc[(beyond["value"] - middle).abs().sort_values(ascending=False, kind="stable").index]
    taken: list[tuple[float, float, float]] = []
    for row in farthest.head(MOST_NAMES).to_dict("records"):
        name = style.fit(row["label"], 240, style.SMALL)
        width = style.text_width(name, style.SMALL)
        x, y = axes.transData.transform((row["n"], row["value"]))
        up = 9.0 if row["value"] >= middle else -17.0
        left = width > 0 and x + 6 + width > axes.get_window_extent().x1
        start = x - 6 - width if left else x + 6
        if any(start < b and a < start + width and abs(y + up - h) < 12 for a, b, h in taken):
            continue
        taken.append((start, start + width, y + up))
        axes.annotate(
            name, (row["n"], row["value"]), xytext=(start - x, up), textcoords="offset points", size=style.SMALL,
            annotation_clip=False,
        )  # fmt: skip


def _waterfall(steps: pd.DataFrame, unit: str, currency: str) -> Any:
    from matplotlib.ticker import FuncFormatter

    left = min(style.LONGEST_LABEL, max((style.text_width(t) for t in steps["label"]), default=0)) + LABEL_PAD
    printed = [_signed(row, unit, currency) for row in steps.to_dict("records")]
    right = max([style.text_width(t) for t in printed], default=NUMBER_ROOM) + 14
    height = max(len(steps), 1) * (ROW + 4)
    figure, axes = style.canvas(height + 36, left, right, 8, 28)
    ends = np.append(steps[["start", "end"]].to_numpy(dtype=float).ravel(), 0.0)
    low, high = float(ends.min()), float(ends.max())
    high = high if high > low else low + 1.0
    axes.set_xlim(low - 0.02 * (high - low) * (low < 0), high + 0.02 * (high - low))
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(ticks(unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, unit, currency)))
    axes.grid(axis="x", color=style.colour("grid"), lw=1)
    axes.set_axisbelow(True)
    px = 1 / (style.WIDTH - left - right)
    blend = axes.get_yaxis_transform()
    for i, row in enumerate(steps.to_dict("records")):
        y = i * (ROW + 4) + (ROW + 4) / 2
        token = "s1" if row["total"] else "s3" if row["value"] >= 0 else "s2"
        axes.barh(y, row["end"] - row["start"], left=row["start"], height=ROW * 0.62, color=style.colour(token), lw=0, zorder=2)  # fmt: skip
        if i + 1 < len(steps):
            axes.plot([row["end"]] * 2, [y, y + ROW + 4], color=style.colour("rule"), lw=1, zorder=1)
        axes.text(-left * px, y, style.fit(row["label"], left - LABEL_PAD), transform=blend, va="center")
        axes.text(1 + 10 * px, y, printed[i], transform=blend, va="center")
    axes.axvline(0, color=style.colour("rule"), lw=1, zorder=3)
    return figure


def _signed(row: dict, unit: str, currency: str) -> str:
    """A total as it is, a change with its sign."""
    value = row["value"]
    if row["total"] or math.isnan(value):
        return fmt.quantity(value, unit, currency)
    sign = "+" if value >= 0 else fmt.MINUS
    return f"{sign}{fmt.quantity(abs(value), unit, currency)}"
