"""Reads the trait catalogue, makes the cuts of the key figures: which columns, and which level each account has."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.errors import BadInput, Problem, nearest

MAX_CUTS = 8  # more cuts than a page can show, and more chances to be fooled
MIN_FILL = 0.6  # below it a level stands for who filled the field, not for the market
LEVELS = (2, 12)
BANDS = 4  # numbers are cut at their quartiles
MOST_LEVELS = 24  # of a cut that every business asks for
COHORT, CROSS = "cohort", " x "
OF_OPPORTUNITIES = ("owner", "source", "product")
# What businesses cut by first; further columns follow by fill rate and name.
FIRST = ("region", "industry", "employees", "country", "source", "product", "annual_revenue")


def choose_cuts(
    catalogue: pd.DataFrame, settings: Settings, most: int = MAX_CUTS, most_levels: int = LEVELS[1]
) -> pd.DataFrame:
    """Trait columns to cut key figures by.

    Parameters
    ----------
    catalogue : DataFrame
        One row per candidate trait: `trait, table, kind, role, fill_rate, levels, excluded`.
    settings : Settings
        `[plan] cuts` names the columns; when it is empty they are chosen: not excluded, not multi-valued, filled in at
        least 60 % of rows, 2 to 12 levels (numbers are cut into quarters), the usual ones first.
    most : int
        Columns chosen at most, when the plan names none; a page shows eight.
    most_levels : int
        Levels that a chosen column has at most; what is searched by machine may have more than what is shown.

    Returns
    -------
    DataFrame
        `cut, table, kind, fill_rate, levels`, in the order in which they are shown.

    Raises
    ------
    BadInput
        `[plan] cuts` names a column that is not in the catalogue or is multi-valued.
    """
    known = catalogue.set_index("trait")
    if settings.plan.cuts:
        _check_named(known, settings.plan.cuts)
        chosen = known.loc[list(dict.fromkeys(settings.plan.cuts))]
    else:
        usable = ~known["excluded"].astype(bool) & (known["kind"] != "multi") & (known["fill_rate"] >= MIN_FILL)
        few = known["levels"].between(LEVELS[0], most_levels) | (
            (known["kind"] == "number") & (known["levels"] > BANDS)
        )
        chosen = known[usable & few & (known["role"] != "forbidden")]
        place = chosen.index.map({name: i for i, name in enumerate(FIRST)}).fillna(len(FIRST))
        rank = pd.DataFrame({"place": place, "fill": -chosen["fill_rate"].round(2).to_numpy(), "name": chosen.index})
        order = rank.sort_values(["place", "fill", "name"]).index[:most]
        chosen = chosen.iloc[order]
    columns = ["table", "kind", "fill_rate", "levels"]
    return chosen[columns].rename_axis("cut").reset_index()


def build_levels(frame: pd.DataFrame, column: str, key: str = "account_id") -> pd.Series:
    """Level of each row of `frame` for one column, indexed by `key`; null where it is not known.

    Numbers become bands `[low, high)` at the quartiles of the known values, the last one open above; yes/no columns
    become `yes` and `no`; text stays as written.
    """
    values = pd.Series(frame[column].array, index=pd.Index(frame[key], name=key), name=column)
    if isinstance(values.dtype, pd.BooleanDtype) or values.dtype == "bool":
        return values.map({True: "yes", False: "no"}).astype("str")
    if pd.api.types.is_numeric_dtype(values):
        return _bands(values.astype("float64"))
    return values.astype("str")


def usual_cuts(opportunities: pd.DataFrame, cuts: Sequence[str] = ()) -> list[str]:
    """Cuts that every business asks for, beside the chosen ones: who sold, through which channel, what, and created when.

    `cohort` is the quarter of creation. Left out where there are fewer than two levels or too many to read.
    """
    found = []
    for cut in (*OF_OPPORTUNITIES, COHORT):
        values = opportunities["created_at"].dt.to_period("Q") if cut == COHORT else opportunities[cut]
        if cut not in cuts and 2 <= values.nunique() <= MOST_LEVELS:
            found.append(cut)
    return found


def find_levels(
    cut: str, accounts: pd.DataFrame, opportunities: pd.DataFrame, settings: Settings | None = None
) -> pd.Series:
    """Levels of a cut: of a column of accounts, else of opportunities, of the quarter of creation, or of a cube.

    Owner, source and product are those of the opportunity. `region x employees` is the cube of both columns. Owners are
    numbered instead of named unless `[privacy] show_owners` says otherwise.
    """
    if cut == COHORT and cut not in accounts:
        start = settings.calendar.fiscal_year_start if settings else 1
        return quarter_of(opportunities.set_index("opportunity_id")["created_at"], start)
    if CROSS in cut and cut not in accounts:
        return build_cube(accounts, cut.split(CROSS))
    if cut in OF_OPPORTUNITIES and cut in opportunities:
        levels = build_levels(opportunities, cut, "opportunity_id")
        return mask_owners(levels, opportunities, settings) if cut == "owner" else levels
    if cut in accounts:
        return build_levels(accounts, cut)
    if cut in opportunities:
        return build_levels(opportunities, cut, "opportunity_id")
    known = sorted({*accounts.columns, *opportunities.columns})
    raise BadInput(
        Problem(
            "ICP-E100",
            f"is no column of accounts or opportunities{nearest(cut, known)}",
            fix="name a column, or give the levels",
            column="cut",
            value=cut,
        )
    )


def key_of(levels: pd.Series) -> str:
    """What the levels of a cut are given for, by the name of their index: `opportunity_id`, otherwise `account_id`.

    Never by comparing the ids: in many exports both tables are simply numbered.
    """
    return "opportunity_id" if levels.index.name == "opportunity_id" else "account_id"


def build_cube(accounts: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Cell of each account in a cube of several columns, such as `west x 2: [50, 400) x cloud`; null where one is missing."""
    parts = [build_levels(accounts, column) for column in columns]
    cell = parts[0]
    for part in parts[1:]:
        cell = cell + CROSS + part
    return cell


def mask_owners(names: pd.Series, opportunities: pd.DataFrame, settings: Settings | None) -> pd.Series:
    """Numbers for names of sellers, in the order of their names, unless they may be shown."""
    if settings is not None and settings.privacy.show_owners:
        return names
    known = sorted(opportunities["owner"].dropna().unique())
    return names.map({name: f"owner {i:02d}" for i, name in enumerate(known, start=1)}).astype("str")


def quarter_of(dates: pd.Series, fiscal_year_start: int = 1) -> pd.Series:
    """Quarter of each date, such as `2026Q3`; the fiscal year is named after the calendar year in which it ends."""
    end = calendar.month_abbr[(fiscal_year_start - 2) % 12 + 1].upper()
    return dates.dt.to_period(f"Q-{end}").astype("str").where(dates.notna())


def quarter_end(quarter: str, fiscal_year_start: int = 1) -> pd.Timestamp:
    """Last day of a quarter such as `2026Q3`, or of a year such as `2026`."""
    end = calendar.month_abbr[(fiscal_year_start - 2) % 12 + 1].upper()
    frequency = f"Q-{end}" if "Q" in quarter else f"Y-{end}"
    return pd.Period(quarter, freq=frequency).end_time.normalize().as_unit("us")


def _check_named(known: pd.DataFrame, cuts: tuple[str, ...]) -> None:
    problems = [
        Problem(
            "ICP-E100",
            f"is not a candidate trait{nearest(c, known.index)}"
            if c not in known.index
            else "has several values per account and cannot be a cut",
            fix="name columns of accounts or opportunities in [plan] cuts",
            file="icplab.toml",
            column="plan.cuts",
            value=c,
        )
        for c in cuts
        if c not in known.index or (known["kind"] == "multi").get(c, False)
    ]
    if problems:
        raise BadInput(problems)


def _bands(values: pd.Series) -> pd.Series:
    """Quartile bands named by their ends, so that they sort and read alike in every run."""
    quartiles = values.dropna().quantile(np.linspace(0, 1, BANDS + 1)[1:-1]).to_numpy()
    edges = np.unique([float(f"{q:.4g}") for q in quartiles if np.isfinite(q)])
    years = len(edges) > 0 and edges[0] >= 1800 and edges[-1] <= 2100
    ends = [f"{e:.0f}" if years else _end(e) for e in edges]
    names = np.array(
        [f"{i + 1}: " + n for i, n in enumerate(_band_names(ends))] if len(edges) else ["1: every value"], dtype=object
    )
    place = np.searchsorted(edges, values.fillna(0).to_numpy(), side="right")
    return pd.Series(names[place], index=values.index, dtype="str").where(values.notna())


def _end(edge: float) -> str:
    """An edge as people write it; what nobody would write out, in powers of ten."""
    whole = 100 <= abs(edge) < 1e15 or (edge == round(edge) and abs(edge) < 1e15)
    return f"{edge:,.0f}" if whole else f"{edge:g}"


def _band_names(ends: list[str]) -> list[str]:
    inner = [f"[{a}, {b})" for a, b in pairwise(ends)]
    return [f"below {ends[0]}", *inner, f"{ends[-1]} and more"]
