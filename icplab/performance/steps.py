"""Reads when leads and opportunities reached each step, makes conversions by entering cohort and times to qualify."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from icplab.core.stats.resample import order_draws, quantiles_of
from icplab.performance import rows
from icplab.performance.columns import Columns
from icplab.performance.facts import Slice
from icplab.performance.prepare import CYCLE_DAYS
from icplab.performance.rows import Row

FUNNEL_DAYS = 90  # a lead that takes longer counts as not converted by then


def measure_steps(piece: Slice) -> Iterator[Row]:
    """Rows of conversion (leads), stage_conversion (opportunities) and time_to_qualify of one level."""
    facts = piece.facts
    deals = piece.tables["opportunities"]
    yield from _conversions(piece, "stage_conversion", deals, facts.stages, facts.settings.plan.horizon_days)
    if not facts.by_account or not len(facts.cycles):
        return
    cycles = piece.tables["cycles"]
    yield from _conversions(piece, "conversion", cycles, facts.funnel, FUNNEL_DAYS)
    yield from _time_to_qualify(piece, cycles)


def _conversions(piece: Slice, kpi: str, frame: Columns, names: tuple[str, ...], within: int) -> Iterator[Row]:
    """Of those who entered a step at least `within` days ago, the share that reached the next one in that time."""
    facts, n = piece.facts, len(names)
    if n < 2:
        return
    dates = np.column_stack([frame[f"step_{i}"] for i in range(n)]).astype("datetime64[D]")
    with np.errstate(invalid="ignore"):
        ripe = (dates <= (facts.as_of - pd.Timedelta(days=within)).to_datetime64()) & ~np.isnat(dates)
        if facts.start is not None:
            ripe &= dates > facts.start.to_datetime64()
        passed = ripe[:, :-1] & (np.diff(dates, axis=1) <= np.timedelta64(within, "D"))
    flags = np.hstack([passed, ripe[:, :-1]]).astype(float)
    totals = piece.totals(frame, flags)
    drawn = (piece.weights @ totals.astype(np.float32)).astype(float)
    k = n - 1
    yield from rows.proportions(
        piece,
        kpi,
        [f"{here} to {then}" for here, then in pairwise(names)],
        totals[:, :k],
        totals[:, k:],
        (drawn[:, :k], drawn[:, k:]),
        note=f"reached within {within} days, of those who entered in {facts.window} and at least {within} days ago",
        nothing=f"nobody entered this step {within} days or more before {facts.as_of:%Y-%m-%d}",
    )


def _time_to_qualify(piece: Slice, cycles: Columns) -> Iterator[Row]:
    """Median and upper quartile of days from first contact to qualified, among those qualified in the window."""
    named = ("time_to_qualify",)
    qualified = cycles[~np.isnan(cycles["qualified_days"]) & piece.facts.inside(cycles["step_1"])]
    if not len(qualified):
        for basis in ("median", "p75"):
            yield rows.not_measured(piece, *named, basis, "days", "no lead was qualified in the window")
        return
    days = qualified["qualified_days"]
    ordered = order_draws(days, piece.weights[:, qualified["unit"]])
    note = f"qualified in {piece.facts.window}; leads of one account within {CYCLE_DAYS} days are one cycle"
    minimum = piece.facts.settings.plan.minimum_n
    for basis, share in (("median", 0.5), ("p75", 0.75)):
        value, draws = float(np.quantile(days, share)), quantiles_of(ordered, share)
        yield rows.resampled(piece, *named, basis, value, draws, unit="days", n=len(days), minimum=minimum, note=note)
