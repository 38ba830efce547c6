"""Reads rows with a yes or no, makes the rate of every group, and of all others, with intervals that know which rows belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.intervals import clustered_proportion, wilson

OK, THIN = "ok", "insufficient"
Array = npt.NDArray[np.float64]
_CONTRAST = {
    **dict.fromkeys(("n", "value", "low", "high", "rest_n", "rest", "rest_low", "rest_high"), "float64"),
    "status": "str",
    **dict.fromkeys(("p_above", "p_below"), "float64"),
}


def tally(
    frame: pd.DataFrame, by: Sequence[str], hit: npt.ArrayLike, minimum: int, *, family: str = "family_id"
) -> pd.DataFrame:
    """Share of rows that are a hit, in every group.

    Parameters
    ----------
    frame : DataFrame
        One row per trial, with the columns of `by` and the unit that shares its fate; rows without a unit are their own.
    by : sequence of str
        Columns that name a group; a row that lacks one of them is in no group.
    hit : array_like of bool
        Whether each row counts above the line.
    minimum : int
        Rows below which a group is `insufficient`.
    family : str
        Column of the unit.

    Returns
    -------
    DataFrame
        The columns of `by` (sorted), `n, hits, value` (a fraction), `low, high` (95 %), `status`.

    Notes
    -----
    Plain Wilson where no unit has two rows in a group, else Wilson on the trials that give the linearised variance of a
    ratio of sums over units (Korn and Graubard 1998).
    """
    keys = list(by)
    sums = _sums(frame, keys, hit, family)
    groups = sums.groupby(keys, sort=True, observed=True)
    table = groups.agg(n=("n", "sum"), hits=("hits", "sum"), units=("n", "size"))
    rate = groups["hits"].transform("sum") / groups["n"].transform("sum")
    spread = ((sums["hits"] - sums["n"] * rate) ** 2).groupby([sums[k] for k in keys], sort=True).sum()
    value, low, high = _rates(table, spread.reindex(table.index).to_numpy(dtype=float))
    table = table.drop(columns="units").assign(value=value, low=low, high=high)
    return table.assign(status=np.where(table["n"] >= minimum, OK, THIN)).reset_index()


def contrast(
    frame: pd.DataFrame, column: str, hit: npt.ArrayLike, minimum: int, *, family: str = "family_id"
) -> pd.DataFrame:
    """`tally` of every level of a column, beside the same for all other rows that have a level.

    Returns
    -------
    DataFrame
        Index: the level. `n, value, low, high`, the same as `rest_n, rest, rest_low, rest_high`, `status` (`ok` when both
        sides reach the minimum), `p_above, p_below`: one-sided p-values that the level is not truly above (below) the rest.
    """
    sums = _sums(frame, [column], hit, family)
    if not len(sums):
        return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in _CONTRAST.items()})
    whole = sums.groupby("unit")[["n", "hits"]].transform("sum")
    left = whole - sums[["n", "hits"]]  # what the family has elsewhere
    by = sums[column]
    table = sums.groupby(by, sort=True)[["n", "hits"]].sum().assign(units=sums.groupby(by, sort=True).size())
    families = sums.groupby("unit")[["n", "hits"]].sum()
    rest = families.sum() - table[["n", "hits"]]
    rest["units"] = len(families) - (left["n"] == 0).groupby(by).sum()
    own = _rates(table, _spread(sums, by, table))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (rest["hits"] / rest["n"]).to_numpy()
    total = _all_gaps(families, p)
    here = by.map(pd.Series(p, table.index)).to_numpy()
    moved = (left["hits"] - here * left["n"]) ** 2 - (whole["hits"] - here * whole["n"]) ** 2
    spread = np.maximum(total + moved.groupby(by, sort=True).sum().to_numpy(), 0.0)
    others = _rates(rest, spread)
    found = pd.DataFrame({"n": table["n"], **dict(zip(("value", "low", "high"), own, strict=True))}, table.index)
    found["rest_n"] = rest["n"]
    found[["rest", "rest_low", "rest_high"]] = np.column_stack(others)
    found["status"] = np.where((found["n"] >= minimum) & (found["rest_n"] >= minimum), OK, THIN)
    above = _p_above(found)
    return found.assign(p_above=above, p_below=1 - above)


def difference(one: pd.Series, other: pd.Series) -> tuple[float, float, float]:
    """Difference of two rates with Newcombe's interval from their own ends (Newcombe 1998, method 10)."""
    gap = one["value"] - other["value"]
    below = np.hypot(one["value"] - one["low"], other["high"] - other["value"])
    above = np.hypot(one["high"] - one["value"], other["value"] - other["low"])
    return float(gap), float(gap - below), float(gap + above)


def _sums(frame: pd.DataFrame, keys: list[str], hit: npt.ArrayLike, family: str) -> pd.DataFrame:
    """Rows and hits per group and unit."""
    unit = frame[family].astype("str")
    alone = "~" + pd.Series(np.arange(len(frame)), frame.index).astype("str")
    rows = frame[keys].assign(unit=unit.where(frame[family].notna(), alone), hits=np.asarray(hit, dtype=float), n=1.0)
    return (
        rows.dropna(subset=keys).groupby([*keys, "unit"], sort=True, observed=True)[["hits", "n"]].sum().reset_index()
    )


def _spread(sums: pd.DataFrame, by: pd.Series, table: pd.DataFrame) -> Array:
    """Squared gaps of units from the rate of their level, per level."""
    rate = by.map(table["hits"] / table["n"])
    return ((sums["hits"] - sums["n"] * rate) ** 2).groupby(by, sort=True).sum().to_numpy(dtype=float)


def _all_gaps(families: pd.DataFrame, p: Array) -> Array:
    """The same over all families for each of several rates, without a matrix of families x rates."""
    x, n = families["hits"].to_numpy(), families["n"].to_numpy()
    return (x * x).sum() - 2 * p * (x * n).sum() + p * p * (n * n).sum()


def _rates(table: pd.DataFrame, spread: Array) -> tuple[Array, Array, Array]:
    """Rate and interval of each group from its rows `n`, `hits`, `units` and squared gaps of units from the rate."""
    n, hits, units = (table[c].to_numpy(dtype=float) for c in ("n", "hits", "units"))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = hits / n
        variance = spread / n**2 * units / np.maximum(units - 1, 1)
        plain, clustered = wilson(hits, n), clustered_proportion(value, variance, n, units)
    low, high = (np.where(units == n, a, b) for a, b in zip(plain, clustered, strict=True))
    return value, low, high


def _p_above(table: pd.DataFrame) -> Array:
    """P-value of a score test on the trials that each side's interval is worth, so clustering is in them."""
    from scipy.special import ndtr

    x, y = table["value"].to_numpy(), table["rest"].to_numpy()
    a = _worth(x, table["n"].to_numpy(), (table["high"] - table["low"]).to_numpy())
    b = _worth(y, table["rest_n"].to_numpy(), (table["rest_high"] - table["rest_low"]).to_numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (a * x + b * y) / (a + b)
        z = (x - y) / np.sqrt(pooled * (1 - pooled) * (1 / a + 1 / b))
    return np.where(np.isfinite(z), ndtr(-z), 0.5)


def _worth(rate: Array, n: Array, width: Array) -> Array:
    """Independent trials whose Wilson interval is as wide."""
    low, high = np.ones(len(rate)), np.maximum(n, 1.0)
    for _ in range(40):
        middle = np.sqrt(low * high)
        ends = wilson(rate * middle, middle)
        wide = ends[1] - ends[0] > width
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return high
