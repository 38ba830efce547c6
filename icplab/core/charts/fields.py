"""Reads estimate tables over two dimensions, makes matrices (segment x tier) and scatter charts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import style
from icplab.core.charts.chart import Chart, describe
from icplab.core.charts.rows import KEY, MARKERS, draw_key, require, tick_label, ticks, words_of
from icplab.core.errors import ContractBroken

CELL_HEIGHT, CELL_HEIGHT_TWO_LINES = 34.0, 46.0
SCATTER_HEIGHT = 380.0
MOST_LABELS = 12  # points of a scatter chart that are named


def matrix_chart(
    table: pd.DataFrame,
    rows: str,
    columns: str,
    value: str = "value",
    title: str = "",
    unit: str = "",
    *,
    under: str | None = None,
    under_unit: str = "count",
    under_label: str = "",
    note: str = "",
    currency: str = "",
) -> Chart:
    """A field of numbers, darker where they are larger; every cell prints its number.

    Parameters
    ----------
    table
        One row per cell; rows and columns appear in the order in which the table first names them. A pair that the
        table names twice is a mistake and refused; one it lacks is left blank.
    rows, columns, value
        Columns of the table: which line, which column, what is printed and shaded.
    under, under_unit, under_label
        A second number printed small beneath the first (its n), its unit and name.

    Raises
    ------
    ContractBroken
        A column is missing, or a pair is named twice.
    """
    require(table, [rows, columns, value, under])
    named = table.assign(_row=table[rows].map(words_of(rows)), _column=table[columns].map(words_of(columns)))
    if named.duplicated(["_row", "_column"]).any():
        raise ContractBroken(f"matrix chart: {rows} and {columns} name the same cell twice")
    lines, heads = named["_row"].unique().tolist(), named["_column"].unique().tolist()
    values = (
        named.pivot(index="_row", columns="_column", values=value).reindex(index=lines, columns=heads).astype("float64")
    )
    second = (
        named.pivot(index="_row", columns="_column", values=under).reindex(index=lines, columns=heads)
        if under
        else None
    )
    with style.house_style():
        figure = _matrix(values, second, unit, under_unit, under_label, currency)
    cells = _cell_words(values, second, unit, under_unit, under_label, currency)
    kind = f"Matrix of {len(values)} rows and {len(values.columns)} columns"
    return Chart(fmt.plain(title, 400), describe(title, kind, cells), figure, fmt.plain(note, 400))


def scatter_chart(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str = "",
    x_unit: str = "",
    y_unit: str = "",
    group: str | None = None,
    *,
    label: str | None = None,
    x_label: str = "",
    y_label: str = "",
    note: str = "",
    currency: str = "",
) -> Chart:
    """Two measurements of many things; above `DENSE` marks they are drawn as pixels, so that pages stay light.

    Parameters
    ----------
    table
        One row per mark, any order (drawn in the order of x, y, group, so that equal data gives equal bytes).
    label
        Column with names to print beside marks; blank or missing names are not printed, at most `MOST_LABELS` are.
    """
    require(table, [x, y, group, label])
    marks = pd.DataFrame(
        {
            "x": pd.to_numeric(table[x], errors="coerce").astype("float64"),
            "y": pd.to_numeric(table[y], errors="coerce").astype("float64"),
            "group": table[group].map(words_of(group)) if group else "",
            "label": table[label].fillna("").map(lambda v: fmt.plain(v, 60)) if label else "",
        }
    )
    marks = marks[np.isfinite(marks["x"]) & np.isfinite(marks["y"])].sort_values(["x", "y", "group", "label"])
    with style.house_style():
        figure = _scatter(marks, x_label or x, y_label or y, x_unit, y_unit, currency)
    return Chart(
        fmt.plain(title, 400),
        _scatter_words(marks, title, x_label or x, y_label or y, x_unit, y_unit, currency),
        figure,
        fmt.plain(note, 400),
    )


def _cell_words(
    values: pd.DataFrame, second: pd.DataFrame | None, unit: str, under_unit: str, under_label: str, currency: str
) -> list[str]:
    words = []
    for i, j in zip(*np.nonzero(np.isfinite(values.to_numpy())), strict=True):
        said = f"{values.index[i]}, {values.columns[j]} {_said(values, i, j, unit, currency)}"
        below = "" if second is None else f" ({under_label} {_said(second, i, j, under_unit, currency)})"
        words.append(said + below)
    return words


def _said(values: pd.DataFrame, i: int, j: int, unit: str, currency: str) -> str:
    return fmt.quantity(float(values.to_numpy()[i, j]), unit, currency)


def _matrix(
    values: pd.DataFrame, second: pd.DataFrame | None, unit: str, under_unit: str, under_label: str, currency: str
) -> Any:
    import seaborn as sns
    from matplotlib.colors import BoundaryNorm, ListedColormap

    left = min(style.LONGEST_LABEL, max((style.text_width(r) for r in values.index), default=0)) + 14
    cell = CELL_HEIGHT if second is None else CELL_HEIGHT_TWO_LINES
    figure, axes = style.canvas(max(1, len(values)) * cell + 36, left, 2, 30, 6)
    if values.empty:
        axes.set(xticks=[], yticks=[])
        return figure
    steps = shade(values.to_numpy())
    colours = ListedColormap([style.colour(t) for t in style.STEPS])
    sns.heatmap(
        np.ma.masked_less(steps, 0), ax=axes, cmap=colours, norm=BoundaryNorm(np.arange(-0.5, len(style.STEPS)), colours.N),
        cbar=False, linewidths=2, linecolor=style.colour("paper"), xticklabels=False, yticklabels=False,
    )  # fmt: skip
    room = (style.WIDTH - left - 2) / values.shape[1]
    for j, name in enumerate(values.columns):
        axes.text(j + 0.5, -0.28 * 34 / cell, style.fit(name, room - 6, style.SMALL, True), ha="center", va="center",
                  size=style.SMALL, weight="bold", color=style.colour("muted"))  # fmt: skip
    for i, name in enumerate(values.index):
        axes.text(-left / room, i + 0.5, style.fit(name, left - 14), va="center")
    printed = values.map(lambda v: fmt.quantity(v, unit, currency))
    for (i, j), step in np.ndenumerate(steps):
        ink = style.colour("muted" if step < 0 else "onlight" if step < 5 else "ondark")
        shift = 0.0 if second is None or step < 0 else 0.15
        axes.text(j + 0.5, i + 0.5 - shift, style.fit(printed.iat[i, j], room - 4), ha="center", va="center", color=ink)
        if second is not None and step >= 0:
            words = f"{under_label} {_said(second, i, j, under_unit, currency)}".strip()
            axes.text(
                j + 0.5, i + 0.74, style.fit(words, room - 4, 10.5), ha="center", va="center", size=10.5, color=ink
            )
    axes.set(xlabel="", ylabel="")
    return figure


def shade(values: np.ndarray) -> np.ndarray:
    """Step of the ramp per cell, 0 to 6 over equal parts of the range from zero (or the least) to the largest; -1 if missing."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(values.shape, -1)
    low, high = min(0.0, float(finite.min())), float(finite.max())
    part = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    return np.where(np.isfinite(values), np.minimum(len(style.STEPS) - 1, (part * len(style.STEPS)).astype(int)), -1)


def _scatter(marks: pd.DataFrame, x_label: str, y_label: str, x_unit: str, y_unit: str, currency: str) -> Any:
    import seaborn as sns

    groups = sorted(marks["group"].unique())
    key = KEY if groups not in ([], [""]) else 0
    dense = len(marks) > style.DENSE
    figure, axes = style.canvas(SCATTER_HEIGHT + key, 62, 20, 26 + key, 48)
    colours = style.PIXEL_COLOURS if dense else tuple(style.colour(t) for t in style.SERIES)
    look = {"s": 14, "alpha": 0.35} if dense else {"s": 34, "alpha": 0.75}
    for index, name in enumerate(groups):
        part, ink, shape = marks[marks["group"] == name], colours[index % len(colours)], MARKERS[index % len(MARKERS)]
        sns.scatterplot(
            data=part,
            x="x",
            y="y",
            ax=axes,
            color=ink,
            marker=shape,
            linewidth=0,
            legend=False,
            rasterized=dense,
            **look,
        )
    _scatter_scales(axes, x_unit, y_unit, currency)
    small = {"size": style.SMALL, "color": style.colour("muted")}
    points = {"textcoords": "offset points", "annotation_clip": False}
    axes.set_ylabel("")
    axes.set_xlabel(_axis_name(x_label), **small)
    axes.annotate(_axis_name(y_label), (0, 1), xycoords="axes fraction", xytext=(-56, 12 + key), **points, **small)
    if key:
        tokens = [style.SERIES[i % len(style.SERIES)] for i in range(len(groups))]
        draw_key(axes, groups, tokens, [MARKERS[i % len(MARKERS)] for i in range(len(groups))], 8)
    for row in marks[marks["label"] != ""].head(MOST_LABELS).to_dict("records"):
        name = style.fit(row["label"], 150, style.SMALL)
        axes.annotate(name, (row["x"], row["y"]), xytext=(6, 4), size=style.SMALL, **points)
    return figure


def _scatter_scales(axes: Any, x_unit: str, y_unit: str, currency: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_locator(ticks(x_unit))
    axes.yaxis.set_major_locator(ticks(y_unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, x_unit, currency)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_label(v, y_unit, currency)))
    axes.grid(color=style.colour("grid"), lw=1)
    axes.set_axisbelow(True)


def _axis_name(column: str) -> str:
    return fmt.plain(column.replace("_", " "), 80)


def _scatter_words(
    marks: pd.DataFrame, title: str, x_label: str, y_label: str, x_unit: str, y_unit: str, currency: str
) -> str:
    def spread_of(values: pd.Series, name: str, unit: str) -> str:
        low, middle, high = (fmt.quantity(float(q), unit, currency) for q in values.quantile([0.0, 0.5, 1.0]))
        return f"{name.replace('_', ' ')} from {low} to {high}, median {middle}"

    if marks.empty:
        return describe(title, "Scatter chart", ["no marks"])
    items = [spread_of(marks["x"], x_label, x_unit), spread_of(marks["y"], y_label, y_unit)]
    if len(marks) > 2 and marks["x"].nunique() > 1 and marks["y"].nunique() > 1:
        items.append(f"rank correlation {fmt.number(float(marks['x'].rank().corr(marks['y'].rank())))}")
    if marks["group"].ne("").any():
        items += [f"{name} {size:,} marks" for name, size in marks["group"].value_counts(sort=False).items()]
    return describe(title, f"Scatter chart of {len(marks):,} marks", items)
