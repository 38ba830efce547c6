"""Reads key figures by segment and tier with the market map, makes the macro landscape and the dashboard of levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.schema import ALL

YEAR = 365
# What a director compares levels by: column, key figure, beginning of its basis.
FIGURES = (
    ("win_rate", "win_rate", "closed"),
    ("acv", "acv", "mean"),
    ("cycle", "cycle_days", "won_median"),
    ("cac", "cac", "new_logo"),
    ("payback", "payback_months", "simple"),
    ("ltv", "ltv", "discounted"),
    ("ltv_cac", "ltv_cac", "discounted"),
    ("grr", "grr", "12m"),
    ("nrr", "nrr", "12m"),
)
# The two halves of the comparison of levels, narrow enough for a page.
WON_BY = ("win_rate", "acv", "cycle", "cac")
WORTH = ("payback", "ltv", "ltv_cac", "grr", "nrr")
BEHAVES = ("win_rate", "acv", "cycle", "grr", "ltv")
# How the figures are printed.
AS_PRINTED = {
    **{c: ("percent", f"{c}_low", f"{c}_high") for c in ("win_rate", "grr", "nrr", "growth")},
    **{c: ("money_short", f"{c}_low", f"{c}_high") for c in ("acv", "cac", "ltv")},
    "cycle": ("integer", "cycle_low", "cycle_high"),
    **{c: ("number", f"{c}_low", f"{c}_high") for c in ("payback", "ltv_cac")},
    "market_accounts": ("integer", "market_accounts_low", "market_accounts_high"),
    "penetration": "percent",
    "whitespace_accounts": "integer",
    "whitespace_value": "money_short",
    **dict.fromkeys(("n", "opened"), "integer"),
}
HEADINGS = {
    "n": "closed opportunities",
    "win_rate": "won of closed",
    "acv": "mean deal",
    "cycle": "days to win",
    "cac": "cost of a customer",
    "payback": "payback, months",
    "ltv": "lifetime value",
    "ltv_cac": "LTV:CAC",
    "grr": "revenue kept (GRR)",
    "nrr": "revenue kept and grown (NRR)",
    "opened": "opened in 12 months",
    "growth": "against the 12 before",
}


def compare_levels(
    kpis: pd.DataFrame, cuts: Iterable[str], names: Mapping[str, str], figures: Iterable[str] = ()
) -> pd.DataFrame:
    """Segments and tiers side by side: win rate, deal, cycle, CAC, payback, LTV, LTV:CAC and retention, with intervals.

    Parameters
    ----------
    kpis : DataFrame
        Rows of the artefact.
    cuts : iterable of str
        Cuts to show, such as `segment, tier`; all accounts come first.
    names : mapping
        What levels are called (segment names).
    figures : iterable of str
        Columns wanted; default: all of FIGURES.

    Returns
    -------
    DataFrame
        One row per level: `cut, level, n` (closed opportunities), and per figure `x, x_low, x_high`, blank where the figure is not
        measured or rests on too little.
    """
    wanted = [f for f in FIGURES if not tuple(figures) or f[0] in tuple(figures)]
    rows = kpis[(kpis["period"] == ALL) & kpis["cut"].isin([ALL, *cuts])]
    ok = rows[rows["status"] == "ok"].drop_duplicates(["cut", "level", "kpi", "basis"])
    closed = rows[(rows["kpi"] == "win_rate") & (rows["basis"] == "closed")].drop_duplicates(["cut", "level"])
    order = {cut: i for i, cut in enumerate([ALL, *cuts])}
    table = closed[["cut", "level", "n"]].assign(place=closed["cut"].map(order)).sort_values(["place", "level"])
    table = table.drop(columns="place").reset_index(drop=True)
    for column, kpi, basis in wanted:
        part = ok[(ok["kpi"] == kpi) & (ok["basis"] == basis)].set_index(["cut", "level"])[["value", "low", "high"]]
        part.columns = [column, f"{column}_low", f"{column}_high"]
        table = table.join(part, on=["cut", "level"])
    named = table["level"].map(names).astype("str").fillna(table["level"])
    return table.assign(level=named.where(table["cut"] != "tier", table["level"].map(formats.name)))


def compare_landscape(
    kpis: pd.DataFrame,
    market: pd.DataFrame,
    opportunities: pd.DataFrame,
    level: pd.Series,
    names: Mapping[str, str],
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    """The macro landscape: per segment where there is room, how demand moves, and how its customers behave.

    Parameters
    ----------
    kpis : DataFrame
        Rows with the cut `segment`.
    market : DataFrame
        Artefact `market_map`; empty without a market file.
    opportunities : DataFrame
        One row per opportunity.
    level : Series
        Segment id of each account (index account_id).
    names : mapping
        Segment id to name.

    Returns
    -------
    DataFrame
        `segment, market_accounts` (with interval), `penetration, whitespace_accounts, whitespace_value, opened` (opportunities in the
        last twelve months), `growth` (against the twelve before, with interval), `mostly_from` (channel), and `win_rate,
        acv, cycle, grr, ltv` with intervals, blank where they rest on too little. Most valuable whitespace first.

    Notes
    -----
    Growth is a ratio of two counts; its interval treats them as Poisson, with the clustering of opportunities in
    families (log scale). Behaviour is of accounts that were worked: whitespace may differ.
    """
    behaves = compare_levels(kpis, ["segment"], {}, BEHAVES)
    behaves = behaves[behaves["cut"] == "segment"].set_index("level").drop(columns=["cut"])
    demand = _demand(opportunities, level, as_of)
    room = ["market_accounts", "low", "high", "penetration", "whitespace_accounts", "whitespace_value"]
    known = market[~market["segment_id"].isin([ALL])].set_index("segment_id")[room]
    known = known.rename(columns={"low": "market_accounts_low", "high": "market_accounts_high"})
    table = behaves.join(demand, how="outer").join(known, how="left")
    table = table[table.index.isin(set(names))]
    table = table.assign(segment=[names[i] for i in table.index])
    order = table.assign(worth=-table["whitespace_value"].fillna(-1.0), name=table.index).sort_values(["worth", "name"])
    first = ["segment", *known.columns, *demand.columns]
    return table.loc[order.index, [*first, *(c for c in behaves.columns if c != "n")]].reset_index(drop=True)


def print_levels(table: pd.DataFrame) -> dict[str, dict]:
    """Formats and headings for `show_table` of the columns that a table of this module has."""
    return {
        "formats": {c: f for c, f in AS_PRINTED.items() if c in table},
        "labels": {c: h for c, h in HEADINGS.items() if c in table},
    }


def _demand(opportunities: pd.DataFrame, level: pd.Series, as_of: pd.Timestamp) -> pd.DataFrame:
    """Opportunities of the last year by segment, against the year before, and the channel that brought most."""
    rows = opportunities.assign(level=opportunities["account_id"].map(level).astype("str"))
    age = (as_of - rows["created_at"]).dt.days
    rows = rows.assign(now=(age < YEAR).astype(float), before=((age >= YEAR) & (age < 2 * YEAR)).astype(float))
    rows = rows[rows["level"].notna() & (rows["now"] + rows["before"] > 0)]
    sums = rows.groupby("level")[["now", "before"]].sum()
    per_family = rows.groupby(["level", "family_id"])[["now", "before"]].sum()
    ratio = sums["now"] / sums["before"].where(sums["before"] > 0)
    gap = per_family["now"] / sums["now"].reindex(per_family.index, level="level") - per_family["before"] / sums[
        "before"
    ].reindex(per_family.index, level="level")
    error = np.sqrt((gap**2).groupby("level").sum())
    if not len(opportunities) or (as_of - opportunities["created_at"].min()).days < 2 * YEAR:
        ratio = ratio * np.nan  # a first year that is not all there is no year to compare with
    recent = rows[rows["now"] > 0]
    counts = recent.groupby(["level", "source"]).size().rename("n").reset_index()
    counts = counts.sort_values(["level", "n", "source"], ascending=[True, False, True]).drop_duplicates("level")
    return pd.DataFrame(
        {
            "opened": sums["now"],
            "growth": ratio - 1,
            "growth_low": ratio * np.exp(-1.96 * error) - 1,
            "growth_high": ratio * np.exp(1.96 * error) - 1,
            "mostly_from": counts.set_index("level")["source"].reindex(sums.index).astype("str"),
        }
    )
