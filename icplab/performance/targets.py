"""Reads targets and measured rows of one level, makes attainment: actual over plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from icplab.performance import rows
from icplab.performance.cuts import quarter_end
from icplab.performance.facts import Slice
from icplab.performance.rows import Row

# What plans call the figures that are planned; the key figure and basis that answer. A planned win rate counts every loss.
PLANNED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("won_amount", "revenue", "bookings", "won_acv"), ("won_amount", "closed")),
    **dict.fromkeys(("won", "wins", "deals_won"), ("won", "closed")),
    "lost": ("lost", "closed"),
    "win_rate": ("win_rate", "closed_broad"),
}
ADDED_UP = ("won_amount", "won", "lost")  # a year's figure is the sum of its quarters


def measure_attainment(piece: Slice, measured: Sequence[Row]) -> Iterator[Row]:
    """Actual over plan for every target of this level, from the rows already measured."""
    targets = targets_of(piece)
    if not len(targets):
        return
    actual = {(r["period"], r["kpi"], r["basis"]): r for r in measured if r["status"] != "not_measured"}
    # A plan for a period that has not begun is not missed yet.
    last = piece.facts.quarters[-1] if piece.facts.quarters else ""
    targets = targets[(targets["period"] <= last) | (targets["period"] == last[:4])]
    for period, metric, planned in zip(targets["period"], targets["metric"], targets["target"], strict=True):
        yield _attained(piece, period, metric, float(planned), actual)


def targets_of(piece: Slice) -> pd.DataFrame:
    """Targets for exactly this level: of the cut's own column, the other scopes blank."""
    targets = piece.facts.targets
    scopes = ("segment", "tier", "owner")
    wanted = {s: piece.level if s == piece.cut else None for s in scopes}
    if piece.cut not in ("all", *scopes):
        return targets.iloc[:0]
    match = np.ones(len(targets), dtype=bool)
    for scope, level in wanted.items():
        column = targets[scope]
        match &= (column.isna() if level is None else (column == level).fillna(False)).to_numpy(dtype=bool)
    return targets[match].drop_duplicates(["period", "metric"]).sort_values(["period", "metric"])


def _attained(piece: Slice, period: str, metric: str, target: float, actual: dict[tuple[str, str, str], Row]) -> Row:
    facts = piece.facts
    kpi, basis = PLANNED.get(metric.lower().strip(), ("", ""))
    blank = {**rows.not_measured(piece, "attainment", metric, "ratio", ""), "period": period}
    if not kpi or not facts.settings.dated:
        return {**blank, "note": "the plan names a metric that is not measured" if not kpi else "no dates"}
    if target == 0:
        return {**blank, "note": "the plan is 0"}
    try:
        end = quarter_end(period, facts.settings.calendar.fiscal_year_start)
    except ValueError:
        return {**blank, "note": "the period is neither a quarter such as 2026Q3 nor a year such as 2026"}
    found = _actual(period, kpi, basis, actual)
    if found is None:
        return {**blank, "note": f"{kpi} ({basis}) is not measured for {period}"}
    running = end > facts.as_of
    note = f"plan {target:g}, against {kpi} ({basis})" + (f"; the period runs to {end:%Y-%m-%d}" if running else "")
    value, low, high, n = (found[c] for c in ("value", "low", "high", "n"))
    return rows.row(
        piece,
        "attainment",
        metric,
        value / target,
        unit="ratio",
        n=n,
        period=period,
        low=low / target,
        high=high / target,
        status="insufficient" if running else "ok",
        note=note,
    )


def _actual(period: str, kpi: str, basis: str, actual: dict[tuple[str, str, str], Row]) -> Row | None:
    """The measured figure of a quarter, or of a year as the sum of its quarters."""
    if (period, kpi, basis) in actual:
        return actual[period, kpi, basis]
    quarters = [r for (p, k, b), r in actual.items() if (k, b) == (kpi, basis) and p.startswith(f"{period}Q")]
    if "Q" in period or kpi not in ADDED_UP or not quarters:
        return None
    return {
        "value": float(sum(r["value"] for r in quarters)),
        "n": float(sum(r["n"] for r in quarters)),
        "low": np.nan,
        "high": np.nan,
    }
