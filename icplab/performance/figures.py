"""Reads statistics with their draws, makes figures that others are made of, and rows of `kpis` from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from icplab.performance import rows
from icplab.performance.facts import Slice
from icplab.performance.rows import Row

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A statistic, its draws, its n and a note; `reason` says why there is none.

    `units` is how many units of equal weight would know as much of the spread as these do; 0 takes `n`.
    """

    value: float = np.nan
    draws: Array | None = None
    n: float = 0
    note: str = ""
    reason: str = ""
    units: float = 0


def as_row(piece: Slice, kpi: str, basis: str, figure: Figure, unit: str, minimum: int = 0) -> Row:
    """A row with the percentile interval of the draws; without a value the reason stands in the note."""
    if figure.reason or figure.draws is None:
        return rows.not_measured(piece, kpi, basis, unit, figure.reason, n=figure.n)
    least = minimum or piece.facts.settings.plan.minimum_n_money
    n, units = figure.n, figure.units
    return rows.resampled(
        piece, kpi, basis, figure.value, figure.draws, unit=unit, n=n, minimum=least, units=units, note=figure.note
    )


def over(above: Figure, below: Figure) -> Figure:
    """Ratio of two figures from the same resamples."""
    if above.draws is None or below.draws is None:
        return Figure(reason=above.reason or below.reason, n=min(above.n, below.n))
    if not below.value > 0:
        return Figure(reason="the denominator is not positive", n=min(above.n, below.n))
    with np.errstate(divide="ignore", invalid="ignore"):
        n, units = min(above.n, below.n), min(f.units or f.n for f in (above, below))
        return Figure(above.value / below.value, above.draws / below.draws, n, units=units)
