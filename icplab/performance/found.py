"""Reads `kpis`, standardised comparisons and opportunities, makes the findings of the performance step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.pooling import pool_rates
from icplab.performance.facts import no_decision

STEP = "20_performance"
TOP_SHARE = 0.20  # one deal above this share of the value carries the mean
BEST = 0.90  # probability from which a level is called the best
FALSE_ALARM = 0.05  # over all tests of one kind in a run
OPEN_SHARE = 0.20  # from this share of open opportunities on, won over created misleads
UNDERSTATED = 0.20  # and by at least this much of the true rate
SHORTFALL = 0.10  # smaller gaps to plan are not worth a warning
BULK_DAY = (20, 10.0, 0.05)  # losses on one day: at least, times an average day, share of all losses
SHOWN = 5
NAMES = {
    "acv": "ACV",
    "cac": "CAC",
    "ltv": "LTV",
    "ltv_cac": "LTV:CAC",
    "grr": "GRR",
    "nrr": "NRR",
    "win_rate": "win rate",
    "cycle_days": "cycle days",
    "payback_months": "payback",
    "meeting_rate": "meeting rate",
    "sales_acceptance": "sales acceptance",
    "won_amount": "won amount",
}


def findings(
    kpis: pd.DataFrame,
    *,
    opportunities: pd.DataFrame,
    comparisons: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    settings: Settings,
    as_of: pd.Timestamp,
) -> list[Finding]:
    """Sentences that these key figures support.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis`, of all cuts together.
    opportunities : DataFrame
        One row per opportunity, for the size of single deals and days of bulk closing.
    comparisons : DataFrame, optional
        From `compare_cuts`; all rows are tested together, so that many cuts do not raise false alarms.
    events : DataFrame, optional
        Canonical table of dated changes.
    settings, as_of
        As in `measure_kpis`.

    Returns
    -------
    list of Finding
        Warnings (`watch`): censoring, heavy-tail, reversal, plan-gap, bulk-close, definition-change. For information:
        best-level, no-difference, small-group, not-measured.
    """
    return [
        *_censoring(kpis, opportunities, settings, as_of),
        *_heavy_tail(kpis, opportunities, settings, as_of),
        *_reversals(comparisons),
        *_levels(kpis, settings),
        *_small_groups(kpis, settings),
        *_plan_gaps(kpis, opportunities, settings),
        *_bulk_days(opportunities),
        *_definition_changes(events, settings, as_of),
        *_not_measured(kpis),
    ]


def _finding(code: str, severity: str, subject: str, sentence: str, numbers: dict, action: str = "") -> Finding:
    return Finding(code, STEP, severity, subject, sentence, numbers, action=action)


def _whole(kpis: pd.DataFrame, kpi: str, basis: str) -> pd.Series | None:
    """The row of all accounts over the window, where it has a value."""
    found = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & (kpis["kpi"] == kpi) & (kpis["basis"] == basis)]
    return found.iloc[0] if len(found) and pd.notna(found["value"].iloc[0]) else None


def _censoring(
    kpis: pd.DataFrame, opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp
) -> Iterator[Finding]:
    """The headline rate, and whether counting open deals as lost would mislead."""
    horizon = settings.plan.horizon_days
    row = _whole(kpis, "win_rate", f"within_{horizon}d")
    if row is None:
        return
    created = opportunities["created_at"]
    window = settings.plan.window_days
    cohort = opportunities[created.notna() & ((created > as_of - pd.Timedelta(days=window)) if window else True)]
    still_open, naive = float((cohort["status"] == "open").mean()), float((cohort["status"] == "won").mean())
    misleading = still_open >= OPEN_SHARE and naive < (1 - UNDERSTATED) * row["value"]
    sentence = (
        f"An opportunity is won within {horizon} days with probability "
        f"{formats.estimate(row['value'], row['low'], row['high'], 'fraction')}, n = {row['n']:,.0f}; "
        f"{formats.percent(still_open)} are still open, so won over created reads only {formats.percent(naive)}."
    )
    numbers = {"value": row["value"], "low": row["low"], "high": row["high"], "n": row["n"]}
    yield _finding(
        "censoring",
        "watch" if misleading else "info",
        f"win_rate within_{horizon}d",
        sentence,
        {**numbers, "open_share": still_open, "won_over_created": naive},
        "Compare groups on the horizon basis, never on won over created." if misleading else "",
    )


def _heavy_tail(
    kpis: pd.DataFrame, opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp
) -> Iterator[Finding]:
    won = opportunities[(opportunities["status"] == "won") & (opportunities["acv"] > 0)]
    if settings.dated and settings.plan.window_days:
        won = won[won["closed_at"] > as_of - pd.Timedelta(days=settings.plan.window_days)]
    if len(won) < settings.plan.minimum_n or won["acv"].max() / won["acv"].sum() <= TOP_SHARE:
        return
    top, total, median = won["acv"].max(), won["acv"].sum(), won["acv"].median()
    mean, without = won["acv"].mean(), (total - top) / (len(won) - 1)
    currency = settings.workspace.currency
    yield _finding(
        "heavy-tail",
        "watch",
        "acv",
        f"One of {len(won):,} won deals holds {formats.percent(top / total)} of the value: the mean ACV is "
        f"{formats.money(mean, currency)} with it and {formats.money(without, currency)} without, the median "
        f"{formats.money(median, currency)}.",
        {"top_share": top / total, "mean": mean, "mean_without": without, "median": median, "n": len(won)},
        "Plan with the median and the trimmed mean; treat the one deal on its own.",
    )


def _reversals(table: pd.DataFrame | None) -> Iterator[Finding]:
    """Crude and standardised differences of opposite sign, tested over all cuts together."""
    if table is None or not len(table):
        return
    worst = np.fmax(table["crude_p"], table["moved_p"])
    found = table[table["reversal"] & (worst <= FALSE_ALARM / len(table))]
    mirrored = (found["level"] == "no") & found.groupby("cut")["level"].transform("size").gt(1)
    for row in found[~mirrored].to_dict("records"):
        more, less = ("more", "less") if row["crude"] > 0 else ("less", "more")
        yield _finding(
            "reversal",
            "watch",
            f"{row['cut']} = {row['level']}",
            f"{row['cut']} = {formats.plain(row['level'])} wins {more} often than the rest, by "
            f"{100 * abs(row['crude']):.1f} points of win rate, but {less} often, by "
            f"{100 * abs(row['standardised']):.1f} points, once channel, size and half-year are held equal.",
            {k: row[k] for k in ("crude", "crude_low", "crude_high", "standardised", "moved_p", "n")},
            "Do not use the crude difference; compare inside channel and size.",
        )


def _levels(kpis: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Per cut: the level that is very probably best, or that no difference is shown."""
    from scipy.special import chdtrc

    rates = kpis[(kpis["cut"] != "all") & (kpis["period"] == "all") & (kpis["kpi"] == "win_rate")]
    rates = rates[rates["value"].notna() & rates["low"].notna()]
    horizon = f"within_{settings.plan.horizon_days}d"
    cuts = []
    for _, cut in rates.groupby("cut", sort=True):
        # The closed basis where the horizon basis is not usable for any level.
        usable = ((cut["basis"] == horizon) & (cut["status"] == "ok")).any()
        cuts.append(cut[cut["basis"] == (horizon if usable else "closed")])
    cuts = [group for group in cuts if len(group) > 1]
    for group in cuts:
        trials = trials_behind(group)
        pooled = float(np.average(group["value"], weights=trials))
        spread = ((group["value"] - pooled) ** 2 * trials).sum() / max(pooled * (1 - pooled), 1e-9)
        p = float(chdtrc(len(group) - 1, spread))
        yield _level_finding(group, trials, p, p <= FALSE_ALARM / len(cuts))


def _level_finding(group: pd.DataFrame, trials: np.ndarray, p: float, differs: bool) -> Finding:
    cut, basis = str(group["cut"].iloc[0]), str(group["basis"].iloc[0])
    ranks = pool_rates(group["value"].to_numpy() * trials, trials)
    enough = (group["status"] == "ok").to_numpy()
    best = int((ranks["p_best"].to_numpy() + (enough if enough.any() else 0)).argmax())
    row, chance, pooled = group.iloc[best], ranks["p_best"].iloc[best], ranks.iloc[best]
    shown = formats.estimate(pooled["pooled"], pooled["pooled_low"], pooled["pooled_high"], "fraction")
    numbers = {
        "p_difference": p,
        "p_best": chance,
        "pooled": pooled["pooled"],
        "pooled_low": pooled["pooled_low"],
        "pooled_high": pooled["pooled_high"],
        "n": row["n"],
        "levels": len(group),
    }
    level = f"“{formats.plain(row['level'])}”"
    if not differs:
        sentence = (
            f"The {len(group)} levels of {cut} show no difference in win rate ({basis}) beyond chance (p = {p:.2f}); "
            f"the pooled rate of the leader, {level}, is {shown}."
        )
        return _finding("no-difference", "info", cut, sentence, numbers)
    certain = chance >= BEST and row["status"] == "ok"
    sentence = (
        f"Win rate ({basis}) differs over {cut}: {level} "
        f"{'is the best' if certain else 'leads, but is not certainly the best'}, pooled {shown}, n = {row['n']:,.0f}, "
        f"the highest with probability {formats.percent(chance)}."
    )
    return _finding("best-level", "info", cut, sentence, numbers)


def trials_behind(rates: pd.DataFrame) -> np.ndarray:
    """Effective trials behind Wilson intervals, by solving the interval's width for n."""
    p, half = rates["value"].to_numpy(), ((rates["high"] - rates["low"]) / 2).to_numpy()
    a, b, c = half**2 - 0.25, 2 * half**2 - p * (1 - p), half**2
    k = (-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0))) / (2 * a)
    return 1.959964**2 / np.maximum(k, 1e-12)


def _small_groups(kpis: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Per cut: levels whose win rate rests on too few closed opportunities."""
    rates = kpis[(kpis["cut"] != "all") & (kpis["period"] == "all") & (kpis["kpi"] == "win_rate")]
    rates = rates[rates["basis"] == "closed"]
    for cut, group in rates.groupby("cut", sort=True):
        small = group[group["n"] < settings.plan.minimum_n].sort_values(["n", "level"])
        if not len(small):
            continue
        names = ", ".join(
            f"{formats.plain(name, 40)} ({n:,.0f})"
            for name, n in zip(small["level"][:SHOWN], small["n"][:SHOWN], strict=True)
        )
        yield _finding(
            "small-group",
            "info",
            str(cut),
            f"{len(small)} of {len(group)} levels of {cut} have fewer than {settings.plan.minimum_n} closed opportunities "
            f"and say little by themselves: {names}{' and more' if len(small) > SHOWN else ''}.",
            {"small": len(small), "levels": len(group), "minimum_n": settings.plan.minimum_n},
        )


def _plan_gaps(kpis: pd.DataFrame, opportunities: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Plans of the latest complete period that were missed by more than chance and by more than a tenth."""
    from scipy.special import ndtr

    plans = kpis[(kpis["kpi"] == "attainment") & (kpis["status"] == "ok") & kpis["value"].notna()]
    if not len(plans):
        return
    plans = plans[plans["period"].str.contains("Q")] if plans["period"].str.contains("Q").any() else plans
    plans = plans[plans["period"] == plans["period"].max()]
    won = opportunities.loc[(opportunities["status"] == "won") & (opportunities["acv"] > 0), "acv"]
    uneven = float(won.var() / won.mean() ** 2) if len(won) > 1 else 0.0
    for row in plans.to_dict("records"):
        # A count is about Poisson; a sum of amounts is noisier by how unequal the amounts are.
        noise = np.sqrt((1 + (uneven if "won" not in (row["basis"],) else 0.0)) / max(row["n"], 1))
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            noise = (row["high"] - row["low"]) / 3.92 / max(row["value"], 1e-9)
        p = float(ndtr(np.log(max(row["value"], 1e-9)) / noise)) if noise > 0 else 1.0
        missed = row["value"] < 1 - SHORTFALL and p <= FALSE_ALARM / len(plans)
        scope = "" if row["cut"] == "all" else f" of {row['cut']} {formats.plain(row['level'])}"
        yield _finding(
            "plan-gap",
            "watch" if missed else "info",
            f"{row['basis']} {row['period']}{scope}",
            f"{row['basis']}{scope} reached {formats.percent(row['value'])} of plan in {row['period']}"
            + (", less than chance explains." if missed else "."),
            {"attainment": row["value"], "n": row["n"], "p": p, "plans": len(plans)},
            "Find out whether volume, win rate or deal size fell short." if missed else "",
        )


def _bulk_days(opportunities: pd.DataFrame) -> Iterator[Finding]:
    """Days on which far more opportunities were closed as lost than on any normal day: a clean-up, not a market."""
    lost = opportunities[(opportunities["status"] == "lost") & opportunities["closed_at"].notna()]
    if not len(lost):
        return
    least, times, share = BULK_DAY
    per_day = lost["closed_at"].value_counts().sort_index()
    span = max((per_day.index[-1] - per_day.index[0]).days + 1, 1)
    usual = (len(lost) - per_day) / span
    bulk = per_day[(per_day >= least) & (per_day >= times * usual) & (per_day >= share * len(lost))]
    for day, n in bulk.items():
        yield _finding(
            "bulk-close",
            "watch",
            f"{day:%Y-%m-%d}",
            f"{n:,} opportunities were closed as lost on {formats.date(day)}, against {usual[day]:.1f} on a usual day: "
            "a clean-up, which shows in every win rate by close date.",
            {
                "lost": int(n),
                "usual": float(usual[day]),
                "share": n / len(lost),
                "no_decision": int(no_decision(lost).sum()),
            },
            "Date these losses when they really ended, or leave the day out.",
        )


def _definition_changes(events: pd.DataFrame | None, settings: Settings, as_of: pd.Timestamp) -> Iterator[Finding]:
    """Declared changes of definition inside the window: figures before and after do not compare."""
    if events is None or not len(events):
        return
    window = settings.plan.window_days
    inside = (events["happened_at"] > as_of - pd.Timedelta(days=window)) if window else events["happened_at"].notna()
    changed = events[inside & events["kind"].str.lower().str.contains("definition").fillna(False)]
    for row in changed.sort_values("happened_at").to_dict("records"):
        yield _finding(
            "definition-change",
            "watch",
            f"{row['happened_at']:%Y-%m-%d}",
            f"A definition changed on {formats.date(row['happened_at'])} "
            f"({formats.text(row['description'])}): figures before and after do not compare.",
            {"happened_at": f"{row['happened_at']:%Y-%m-%d}"},
            "Read the quarters before and after separately.",
        )


def _not_measured(kpis: pd.DataFrame) -> Iterator[Finding]:
    """What these data cannot give, grouped by reason."""
    missing = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & (kpis["status"] == "not_measured")]
    for reason, group in missing.groupby("note", sort=True):
        names = ", ".join(
            sorted(
                {
                    NAMES.get(k, k) + (f" ({b})" if k == "win_rate" else "")
                    for k, b in zip(group["kpi"], group["basis"], strict=True)
                }
            )
        )
        yield _finding(
            "not-measured",
            "info",
            names,
            f"Not measured: {names}, because {reason}.",
            {"figures": len(group)},
        )
