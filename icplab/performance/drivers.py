"""Reads opportunities and sellers' work, makes what costs are shared by and what shares add up, for all levels at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.performance.columns import Columns
from icplab.performance.facts import Facts, Slice, total_columns
from icplab.performance.figures import Array


@dataclass(frozen=True)
class Period:
    """Months of spend, and the days on which the customers they won may have closed."""

    spend: float
    first: pd.Timestamp
    last: pd.Timestamp
    lag: int

    @property
    def spent_from(self) -> pd.Timestamp:
        return self.first - pd.Timedelta(days=self.lag)

    @property
    def spent_to(self) -> pd.Timestamp:
        return self.last - pd.Timedelta(days=self.lag)


class Sum(NamedTuple):
    """A sum, the same in each resample, and how many rows add to it."""

    value: float
    drawn: Array
    n: int


# Columns of the two matrices: of opportunities, and of months of sellers' work.
OF_DEALS = ("worked_new", "worked_all", "accounts_new", "opportunities", "pipeline", "won_value", "gross_profit")
OF_EFFORT = ("effort_spent", "rep_time")


def sums_of(piece: Slice, period: Period | None) -> dict[str, Sum]:
    """Every sum of one level, worked out once; NaN where an amount or a margin is not known."""
    if "sums" not in piece.memory:
        piece.memory["sums"] = _sums(piece.facts, piece.tables, piece.weights, period)
    return piece.memory["sums"]


def sums_of_all(facts: Facts, period: Period | None) -> dict[str, Sum]:
    """The same over all levels, rows without a level too."""
    if "sums" not in facts.common:
        tables = {name: facts.whole(name) for name in ("opportunities", "effort")}
        facts.common["sums"] = _sums(facts, tables, facts.weights, period)
    return facts.common["sums"]


def _sums(
    facts: Facts, tables: dict[str, Columns], weights: npt.NDArray[np.float32], period: Period | None
) -> dict[str, Sum]:
    if "drivers" not in facts.common:
        facts.common["drivers"] = {"opportunities": _of_deals(facts, period), "effort": _of_effort(facts, period)}
    units = weights.shape[1]
    parts, counts = [], []
    for name, matrix in facts.common["drivers"].items():
        rows = matrix[tables[name].rows]
        parts.append(total_columns(tables[name]["unit"], rows, units))
        counts.append((rows != 0).sum(axis=0))
    totals, n = np.hstack(parts), np.concatenate(counts)
    with np.errstate(invalid="ignore"):  # a margin that is not known stays so
        drawn = (weights @ totals.astype(np.float32)).astype(float)
    values = totals.sum(axis=0)
    return {c: Sum(float(values[i]), drawn[:, i], int(n[i])) for i, c in enumerate((*OF_DEALS, *OF_EFFORT))}


def _of_deals(facts: Facts, period: Period | None) -> Array:
    """What each opportunity adds to each sum; rows as in `facts.opportunities`."""
    deals = facts.opportunities
    spent = np.zeros(len(deals), dtype=bool)
    if period is not None:
        spent = deals["created_at"].between(period.spent_from, period.spent_to).to_numpy(dtype=bool)
    worked = pd.Series(spent & deals["new"].to_numpy(dtype=bool), index=deals.index)
    again = deals["account"].where(worked).duplicated() & worked & (deals["account"] >= 0)
    acv = deals["acv"].fillna(0.0).clip(lower=0.0).to_numpy(dtype=float)
    won = (deals["won"] & deals["closed_in"]).to_numpy(dtype=float)
    profit = np.where((won > 0) & (acv > 0), acv * deals["margin_rate"].to_numpy(dtype=float), 0.0)
    columns = {
        "worked_new": worked,
        "worked_all": spent,
        "accounts_new": worked & ~again,
        "opportunities": deals["created_in"],
        "pipeline": deals["open"].to_numpy(dtype=float) * acv,
        "won_value": won * acv,
        "gross_profit": profit,
    }
    return np.column_stack([np.asarray(columns[c], dtype=float) for c in OF_DEALS])


def _of_effort(facts: Facts, period: Period | None) -> Array:
    """What each month of work adds to each sum; rows as in `facts.effort`."""
    effort, size = facts.effort, facts.effort["effort"].to_numpy(dtype=float)
    spent = effort["month"].between(period.spent_from, period.spent_to).to_numpy(dtype=float) if period else 0.0
    return np.column_stack([size * spent, size * facts.inside(effort["month"])])
