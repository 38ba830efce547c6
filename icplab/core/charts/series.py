"""Reads estimate tables over time, makes line charts and step charts, each line named at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import style
from icplab.core.charts.chart import Chart, describe
from icplab.core.charts.rows import MARKERS, reference_words, require, tick_label, ticks, words_of

HEIGHT = 300.0  # px of the drawing
LABEL_GAP = 15.0  # px between the names at the ends of lines
MOST_LINES = len(style.SERIES)
LINE_STYLES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1)), (0, (10, 3)))


def line_chart(
    table: pd.DataFrame,
    x: str,
    y: str = "value",
    title: str = "",
    unit: str = "",
    group: str | None = None,
    low: str | None = None,
    high: str | None = None,
    *,
    note: str = "",
    currency: str = "",
    from_zero: bool | None = None,
    reference: float | None = None,
    reference_label: str = "",
    x_label: str = "",
) -> Chart:
    """Estimates over periods, days or a number, with their band; each line is named where it ends.

    Parameters
    ----------
    table
        Estimate table, any row order. Dates and numbers are ordered by value, other periods as they sort
        (`2026Q3` sorts in time).
    x, y, low, high, group
        Columns: position, estimate, bounds of its band, series. At most `MOST_LINES` series are drawn; the rest
        are left out and counted in the note.
    from_zero
        Whether the scale starts at zero; default yes for counts and money, no else.
    reference, reference_label
        A level line, such as the plan.

    Returns
    -------
    Chart
        Its `alt` names first and last value of every line, and the extremes.
    """
    start = (fmt.UNIT_FORMATS.get(unit) in ("money", "integer")) if from_zero is None else from_zero
    return _series_chart(
        table, x, y, title, unit, group, low, high, note, currency, start, reference, reference_label, x_label, False
    )


def step_chart(
    table: pd.DataFrame,
    x: str = "days",
    y: str = "value",
    title: str = "",
    unit: str = "fraction",
    group: str | None = None,
    low: str | None = None,
    high: str | None = None,
    *,
    note: str = "",
    currency: str = "",
    reference: float | None = None,
    reference_label: str = "",
    x_label: str = "",
) -> Chart:
    """Cumulative incidence or survival: a value that holds until the next event, with its band.

    Parameters are those of `line_chart`; `x` is a number (days since the start) and the scale starts at zero.
    """
    return _series_chart(
        table, x, y, title, unit, group, low, high, note, currency, True, reference, reference_label, x_label, True
    )


def _series_chart(
    table: pd.DataFrame, x: str, y: str, title: str, unit: str, group: str | None, low: str | None, high: str | None,
    note: str, currency: str, from_zero: bool, reference: float | None, reference_label: str, x_label: str, step: bool,
) -> Chart:  # fmt: skip
    require(table, [x, y, low, high, group])
    rows, names = _rows(table, x, y, group, low, high)
    lines = {name: rows[rows["group"] == name] for name in names[:MOST_LINES]}
    ends = [_end_label(name, part, unit, currency) for name, part in lines.items()]
    with style.house_style():
        right = max([style.text_width(e) for e in ends], default=0) + 18
        left = 12 + max(
            (style.text_width(t, style.SMALL) for t in _tick_words(rows, unit, currency, from_zero)), default=20
        )
        figure, axes = style.canvas(HEIGHT + 44, left, min(right, 240), 14, 30 + (16 if x_label else 0))
        _axes(axes, rows, table[x], unit, currency, from_zero, reference)
        if reference is not None and np.isfinite(reference):
            _level(axes, reference, reference_words(reference, reference_label, unit, currency))
        for index, part in enumerate(lines.values()):
            _line(axes, part, index, step, len(lines) > 1)
        _name_ends(axes, list(lines.values()), ends)
        if x_label:
            axes.set_xlabel(fmt.plain(x_label, 80), size=style.SMALL, color=style.colour("muted"), labelpad=6)
    if len(names) > len(lines):
        note = f"{note} {len(names) - len(lines)} further lines are left out.".strip()
    kind = f"{'Step' if step else 'Line'} chart of {len(lines)} line{'s' if len(lines) != 1 else ''}"
    words = [_told(name, part, unit, currency) for name, part in lines.items()]
    level = (
        f"{fmt.plain(reference_label, 60) or 'Reference'}: {fmt.quantity(reference, unit, currency)}."
        if reference is not None
        else ""
    )
    return Chart(fmt.plain(title, 400), describe(title, kind, words, level), figure, fmt.plain(note, 400))


def _rows(
    table: pd.DataFrame, x: str, y: str, group: str | None, low: str | None, high: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Positions as numbers in order, values as floats, groups as text in the order of the table."""
    where = table[x]
    rows = pd.DataFrame(
        {"group": table[group].map(words_of(group)) if group else "", "shown": where.map(_position_words(where))}
    )
    if pd.api.types.is_datetime64_any_dtype(where):
        rows["x"] = (where - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    elif pd.api.types.is_numeric_dtype(where):
        rows["x"] = where.astype("float64")
    else:
        levels = sorted(where.dropna().astype("str").unique())
        rows["x"] = where.astype("str").map({level: i for i, level in enumerate(levels)}).astype("float64")
    for name, column in {"y": y, "low": low, "high": high}.items():
        rows[name] = pd.to_numeric(table[column], errors="coerce").astype("float64") if column else np.nan
    rows = rows[np.isfinite(rows["x"]) & np.isfinite(rows["y"])]
    return rows.sort_values("x", kind="stable"), list(dict.fromkeys(rows["group"]))


def _position_words(where: pd.Series) -> Any:
    if pd.api.types.is_datetime64_any_dtype(where):
        return fmt.date
    return fmt.number if pd.api.types.is_numeric_dtype(where) else fmt.text


def _axes(
    axes: Any, rows: pd.DataFrame, where: pd.Series, unit: str, currency: str, from_zero: bool, reference: float | None
) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

    axes.set_ylim(*_limits(rows, from_zero, reference))
    axes.yaxis.set_major_locator(ticks(unit))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, unit, currency)))
    axes.grid(axis="y", color=style.colour("grid"), lw=1)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(True)
    if rows.empty:
        axes.set_xticks([])
        return
    first, last = rows["x"].min(), rows["x"].max()
    axes.set_xlim(first - (last == first) * 0.5, last + (last == first) * 0.5)
    if pd.api.types.is_numeric_dtype(where) and not pd.api.types.is_bool_dtype(where):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 3, 5, 6, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, "number")))
        return
    places = rows.drop_duplicates("x")
    room = (axes.get_position().width * style.WIDTH) / max(1, len(places))
    every = max(1, int(np.ceil((max(style.text_width(t, style.SMALL) for t in places["shown"]) + 14) / max(room, 1))))
    kept = places.iloc[(len(places) - 1) % every :: every]
    axes.xaxis.set_major_locator(FixedLocator(kept["x"].tolist()))
    axes.xaxis.set_major_formatter(FixedFormatter([style.fit(t, 110, style.SMALL) for t in kept["shown"]]))


def _limits(rows: pd.DataFrame, from_zero: bool, reference: float | None) -> tuple[float, float]:
    values = rows[["y", "low", "high"]].to_numpy().ravel()
    values = np.append(values[np.isfinite(values)], [reference] if reference is not None else [])
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    low = min(low, 0.0) if from_zero else low
    pad = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - (0 if from_zero and low == 0 else pad), high + pad


def _tick_words(rows: pd.DataFrame, unit: str, currency: str, from_zero: bool) -> list[str]:
    low, high = _limits(rows, from_zero, None)
    return [tick_label(v, unit, currency) for v in ticks(unit).tick_values(low, high)]


def _line(axes: Any, part: pd.DataFrame, index: int, step: bool, several: bool) -> None:
    import seaborn as sns

    ink = style.colour(style.SERIES[index])
    where = "steps-post" if step else "default"
    band = part[np.isfinite(part["low"]) & np.isfinite(part["high"])]
    if len(band):
        axes.fill_between(
            band["x"].to_numpy(),
            band["low"].to_numpy(),
            band["high"].to_numpy(),
            color=ink,
            alpha=0.14,
            lw=0,
            step="post" if step else None,
        )
    sns.lineplot(
        data=part,
        x="x",
        y="y",
        ax=axes,
        color=ink,
        lw=2.2,
        errorbar=None,
        estimator=None,
        sort=False,
        legend=False,
        drawstyle=where,
        linestyle=LINE_STYLES[index] if several else "-",
    )
    if not step and len(part) <= 24:
        shape = MARKERS[index % len(MARKERS)]
        axes.plot(part["x"], part["y"], shape, color=ink, ms=5.5, mec=style.colour("paper"), mew=0.8, clip_on=False)
    axes.set_xlabel("")
    axes.set_ylabel("")


def _level(axes: Any, at: float, words: str) -> None:
    axes.axhline(at, color=style.colour("muted"), lw=1, ls=(0, (4, 3)))
    axes.annotate(
        words,
        (0, at),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        size=style.SMALL,
        color=style.colour("muted"),
    )


def _name_ends(axes: Any, parts: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    """Names beside the last points, pushed apart so that none covers another."""
    height = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
    low, high = axes.get_ylim()
    wanted = [(float(p["y"].iloc[-1]) - low) / (high - low) * height for p in parts]
    for index, place in enumerate(spread(wanted, LABEL_GAP, height)):
        ink = style.colour(style.SERIES[index]) if len(parts) > 1 else style.colour("ink")
        axes.text(
            1 + 10 / (axes.get_position().width * style.WIDTH),
            place / height,
            style.fit(names[index], 226),
            transform=axes.transAxes,
            va="center",
            color=ink,
        )


def spread(wanted: Sequence[float], gap: float, top: float) -> list[float]:
    """Places as near as possible to those wanted, at least `gap` apart, below `top`; the order is kept."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed: dict[int, float] = {}
    floor = -np.inf
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + gap
    ceiling = top
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return [float(placed[i]) for i in range(len(wanted))]


def _end_label(name: str, part: pd.DataFrame, unit: str, currency: str) -> str:
    printed = fmt.quantity(float(part["y"].iloc[-1]), unit, currency)
    return f"{style.fit(name, 160)} {printed}".strip()


def _told(name: str, part: pd.DataFrame, unit: str, currency: str) -> str:
    first, last = part.iloc[0], part.iloc[-1]
    peak, trough = part.iloc[int(part["y"].to_numpy().argmax())], part.iloc[int(part["y"].to_numpy().argmin())]
    words = [f"{at['shown']} {fmt.estimate(at['y'], at['low'], at['high'], unit, currency)}" for at in (first, last)]
    extremes = f"highest {fmt.quantity(peak['y'], unit, currency)} at {peak['shown']}, lowest {fmt.quantity(trough['y'], unit, currency)} at {trough['shown']}"
    return f"{name + ': ' if name else ''}from {words[0]} to {words[1]}, {extremes}"
