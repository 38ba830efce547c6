"""Reads estimates with their draws, makes rows of `kpis`: value, interval, n, status and note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from icplab.core.stats.intervals import clustered_proportion, effective_trials, percentile, widened, wilson
from icplab.core.stats.resample import ratio
from icplab.performance.facts import Slice

Row = dict[str, Any]
Array = npt.NDArray[np.float64]
ALL = "all"


def row(
    piece: Slice, kpi: str, basis: str, value: float, *, unit: str, n: float, period: str = ALL, **more: Any
) -> Row:
    """One row; `low, high, status, note` and the private columns of pooling may be given in `more`."""
    return {
        "cut": piece.cut,
        "level": piece.level,
        "period": period,
        "kpi": kpi,
        "basis": basis,
        "value": value,
        "low": np.nan,
        "high": np.nan,
        "n": float(n),
        "unit": unit,
        "status": "ok",
        "note": "",
        "_scale": "",
        "_spread": np.nan,
        "_units": np.nan,
        **more,
    }


def not_measured(piece: Slice, kpi: str, basis: str, unit: str, reason: str, n: float = 0) -> Row:
    """A figure that these data cannot give, with the reason."""
    return row(piece, kpi, basis, np.nan, unit=unit, n=n, status="not_measured", note=reason)


def count(piece: Slice, kpi: str, basis: str, value: float, period: str = ALL, note: str = "") -> Row:
    """A count: a fact, so without interval."""
    return row(piece, kpi, basis, value, unit="count", n=value, period=period, note=note)


def proportion(
    piece: Slice, kpi: str, basis: str, successes: Array, trials: Array, *, note: str = "", nothing: str
) -> Row:
    """A rate from successes and trials per unit; interval over resampled families, plain Wilson where each has one trial."""
    both = np.column_stack([successes, trials])
    drawn = (piece.weights @ both.astype(np.float32)).astype(float) if (trials > 1).any() else np.ones((1, 2))
    sums = drawn[:, :1], drawn[:, 1:]
    return proportions(piece, kpi, [basis], both[:, :1], both[:, 1:], sums, note=note, nothing=nothing)[0]


def proportions(
    piece: Slice,
    kpi: str,
    bases: Sequence[str],
    successes: Array,
    trials: Array,
    drawn: tuple[Array, Array],
    *,
    periods: Sequence[str] = (),
    note: str = "",
    nothing: str,
) -> list[Row]:
    """As `proportion`, for several rates of one level at once.

    `successes` and `trials` have one row per unit and one column per rate; `drawn` are their resampled sums, one row per
    replicate.
    """
    n, units, least = trials.sum(axis=0), (trials > 0).sum(axis=0), piece.facts.settings.plan.minimum_n
    with np.errstate(divide="ignore", invalid="ignore"):
        value = successes.sum(axis=0) / n
        draws = drawn[0] / drawn[1]
    single = units == n  # each family has one trial
    variance = np.where(single, value * (1 - value) / n, _variances(draws, units))
    used = np.where(single, n, effective_trials(value, variance, n, units))
    low, high = wilson(value * used, used)
    found = []
    for i, basis in enumerate(bases):
        period = periods[i] if periods else ALL
        if not n[i]:
            found.append({**not_measured(piece, kpi, basis, "fraction", nothing), "period": period})
            continue
        enough = n[i] >= least
        more = {"low": float(low[i]), "high": float(high[i]), "status": "ok" if enough else "insufficient"}
        more |= {"_scale": "rate", "_spread": float(np.sqrt(variance[i])), "_units": float(units[i])}
        more |= {"period": period, "note": join(note, "" if enough else f"n below {least}")}
        found.append({**row(piece, kpi, basis, float(value[i]), unit="fraction", n=n[i]), **more})
    return found


def incidence(piece: Slice, kpi: str, basis: str, value: float, draws: Array, n: float, units: int, **more: Any) -> Row:
    """A probability from a curve: Wilson interval on the trials that would give the resampled variance."""
    variance = _variance(draws, units)
    low, high = clustered_proportion(value, variance, n, units)
    given = {"_scale": "rate", "_spread": float(np.sqrt(variance)), "_units": float(units), **more}
    return row(piece, kpi, basis, value, unit="fraction", n=n, low=float(low), high=float(high), **given)


def mean_ratio(
    piece: Slice, kpi: str, basis: str, above: Array, below: Array, *, unit: str, scale: str, n: float, note: str = ""
) -> Row:
    """A ratio of sums over units (a mean, a value rate, retention) with a studentised interval."""
    value, low, high, draws = ratio(above, below, piece.weights, scale=scale)
    minimum = piece.facts.settings.plan.minimum_n_money
    if scale == "logit" and not np.isfinite(low) and np.isfinite(value):
        families = float((below > 0).sum())
        low, high = (float(e) for e in wilson(value * families, families))
    known = np.isfinite(low) and np.isfinite(high)
    spread = np.log(draws[draws > 0]) if scale == "log" else draws[np.isfinite(draws)]
    return row(
        piece,
        kpi,
        basis,
        value,
        unit=unit,
        n=n,
        low=low,
        high=high,
        status="ok" if n >= minimum and known else "insufficient",
        note=join(note, "" if n >= minimum else f"n below {minimum}"),
        _scale="log" if scale == "log" else "linear",
        _spread=float(np.std(spread)) if len(spread) > 1 and known else np.nan,
    )


def resampled(
    piece: Slice,
    kpi: str,
    basis: str,
    value: float,
    draws: Array,
    *,
    unit: str,
    n: float,
    minimum: int,
    units: float = 0,
    note: str = "",
) -> Row:
    """Any statistic with the percentile interval of its draws, widened for few families (`units`, by default `n`)."""
    low, high = (float(e) for e in percentile(draws, widened(units or n)))
    known = np.isfinite(value) and np.isfinite(low)
    positive = draws[np.isfinite(draws) & (draws > 0)]
    return row(
        piece,
        kpi,
        basis,
        value,
        unit=unit,
        n=n,
        low=low,
        high=high,
        status="ok" if n >= minimum and known else "insufficient",
        note=join(note, "" if n >= minimum else f"n below {minimum}"),
        _scale="log",
        _spread=float(np.std(np.log(positive))) if known and len(positive) > 1 else np.nan,
    )


def join(*notes: str) -> str:
    """Notes in one line."""
    return "; ".join(n for n in notes if n)


def _variance(draws: Array, units: int) -> float:
    """Variance over resamples, corrected for the number of units."""
    return float(_variances(draws[:, None], np.array([units]))[0])


def _variances(draws: Array, units: npt.NDArray) -> Array:
    """Variance over resamples of each column, undefined ones left out, corrected for the number of units."""
    known = np.isfinite(draws)
    count = np.maximum(known.sum(axis=0), 1)
    safe = np.where(known, draws, 0.0)
    centre = safe.sum(axis=0) / count
    spread = (np.where(known, safe - centre, 0.0) ** 2).sum(axis=0) / count
    return spread * units / np.maximum(units - 1, 1)
