"""Reads opportunities and their stage history, makes findings about data that mislead: bulk days, moved stages, mix, tails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.resample import draw_weights
from icplab.performance.prepare import no_decision

STEP = "20_performance"
FALSE_ALARM = 0.05  # over all tests of one kind in a run
TOP_SHARE = 0.20  # one deal above this share of the value carries the mean
OPEN_SHARE = 0.20  # from this share of open opportunities on, won over created misleads
UNDERSTATED = 0.20  # and by at least this much of the true rate
BULK_DAY = (20, 10.0, 0.05)  # closed on one day: at least, times an average day, share of all that closed so
MOVED = 0.15  # change of the share that passes a stage from which on its definition is in doubt
SETTLE_DAYS = 90  # an opportunity passes a stage when it enters it within so many days
SIDE_MONTHS = 3  # months that must lie on either side of a change
ABRUPT = 0.75  # share of the whole change that must happen between the neighbouring quarters of a year
MIX = 0.015  # change of the win rate through the mix alone that is worth a warning
MIX_REPLICATES = 400
BANDS = 12  # levels of a cut in the mix; smaller ones are taken together

Array = npt.NDArray[np.float64]


def find_censoring(
    row: pd.Series | None, opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp
) -> Iterator[Finding]:
    """The headline rate `row` (win_rate within the horizon, all), and whether counting open deals as lost would mislead."""
    if row is None:
        return
    horizon, window = settings.plan.horizon_days, settings.plan.window_days
    created = opportunities["created_at"]
    cohort = opportunities[created.notna() & ((created > as_of - pd.Timedelta(days=window)) if window else True)]
    still_open, naive = float((cohort["status"] == "open").mean()), float((cohort["status"] == "won").mean())
    misleading = still_open >= OPEN_SHARE and naive < (1 - UNDERSTATED) * row["value"]
    sentence = (
        f"An opportunity is won within {horizon} days with probability "
        f"{formats.estimate(row['value'], row['low'], row['high'], 'fraction')}, n = {row['n']:,.0f}; "
        f"{formats.percent(still_open)} are still open, so won over created reads only {formats.percent(naive)}."
    )
    numbers = {"value": row["value"], "low": row["low"], "high": row["high"], "n": row["n"]}
    yield Finding(
        "censoring",
        STEP,
        "watch" if misleading else "info",
        f"win_rate within_{horizon}d",
        sentence,
        {**numbers, "open_share": still_open, "won_over_created": naive},
        action="Compare groups on the horizon basis, never on won over created." if misleading else "",
    )


def find_heavy_tail(
    opportunities: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    levels: Mapping[str, pd.Series] | None = None,
) -> Iterator[Finding]:
    """One deal that carries the mean of everything, and the level that it would make look best.

    `levels` holds the level of each opportunity (index opportunity_id) per cut; the level with the deal is named where
    it leads by the mean and does not by the median.
    """
    won = opportunities[(opportunities["status"] == "won") & (opportunities["acv"] > 0)]
    if settings.dated and settings.plan.window_days:
        won = won[won["closed_at"] > as_of - pd.Timedelta(days=settings.plan.window_days)]
    if len(won) < settings.plan.minimum_n or won["acv"].max() / won["acv"].sum() <= TOP_SHARE:
        return
    top, total, median = won["acv"].max(), won["acv"].sum(), won["acv"].median()
    mean, without = won["acv"].mean(), (total - top) / (len(won) - 1)
    currency = settings.workspace.currency
    crowned = _crowned(won, levels or {})
    yield Finding(
        "heavy-tail",
        STEP,
        "watch",
        "acv",
        f"One of {len(won):,} won deals holds {formats.percent(top / total)} of the value: the mean ACV is "
        f"{formats.money(mean, currency)} with it and {formats.money(without, currency)} without, the median "
        f"{formats.money(median, currency)}.{crowned}",
        {"top_share": top / total, "mean": mean, "mean_without": without, "median": median, "n": len(won)},
        action="Plan with the median and the trimmed mean; treat the one deal on its own.",
    )


def find_bulk_days(opportunities: pd.DataFrame) -> Iterator[Finding]:
    """Days on which far more opportunities were closed than on any normal day: a clean-up or an import, not a market.

    Notes
    -----
    Lost and won are looked at apart. A day counts with at least 20 closings, ten times what the outcome has on an
    average day without it, and 5 % of all of them.
    """
    least, times, share = BULK_DAY
    for status, reading in (("lost", "a clean-up"), ("won", "an import or a late booking")):
        closed = opportunities[(opportunities["status"] == status) & opportunities["closed_at"].notna()]
        if not len(closed):
            continue
        per_day = closed["closed_at"].dt.normalize().value_counts().sort_index()
        span = max((per_day.index[-1] - per_day.index[0]).days + 1, 1)
        usual = (len(closed) - per_day) / span
        bulk = per_day[(per_day >= least) & (per_day >= times * usual) & (per_day >= share * len(closed))]
        for day, n in bulk.items():
            yield _bulk_day(opportunities, closed, status, reading, pd.Timestamp(day), int(n), float(usual[day]))


def find_definition_changes(
    opportunities: pd.DataFrame,
    stage_history: pd.DataFrame | None,
    events: pd.DataFrame | None,
    settings: Settings,
    as_of: pd.Timestamp,
) -> Iterator[Finding]:
    """Changes of definition inside the window: those declared as events, and stages that moved without a word.

    Parameters
    ----------
    opportunities : DataFrame
        `opportunity_id, created_at, status`.
    stage_history : DataFrame, optional
        Canonical table: `opportunity_id, stage, entered_at`. Without it only declared changes are found.
    events : DataFrame, optional
        Canonical table: `happened_at, kind, description`; kinds that contain "definition" count.
    """
    declared = list(_declared(events, settings, as_of))
    yield from declared
    table = measure_stages(opportunities, stage_history, as_of)
    known = [pd.Timestamp(str(f.numbers["happened_at"])) for f in declared]
    for row in table[table["moved"]].to_dict("records"):
        if all(abs(row["since"] - day) > pd.Timedelta(days=62) for day in known):
            yield _moved_stage(row)


def measure_stages(
    opportunities: pd.DataFrame, stage_history: pd.DataFrame | None, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Per stage: where the share of opportunities that pass it changes most between two runs of months.

    Returns
    -------
    DataFrame
        One row per stage: `stage, since` (first month after the change), `before, after` (share of the opportunities
        created in a month that enter the stage within 90 days), `n`, `p_value`, `moved`.

    Notes
    -----
    Likelihood-ratio statistic of a change in a binomial rate, largest over all months with three months on either side;
    its p-value is that of the largest of so many, over all stages (Bonferroni). A market drifts, a definition jumps: most
    of the change must lie between the half-years next to it. Stages that (nearly) all or none pass carry no information.
    """
    columns = {"stage": "str", "since": "datetime64[us]", "before": "float64", "after": "float64", "n": "float64"}
    nothing = pd.DataFrame({c: pd.Series([], dtype=t) for c, t in columns.items()})
    nothing = nothing.assign(p_value=pd.Series([], dtype="float64"), moved=pd.Series([], dtype="bool"))
    if stage_history is None or not len(stage_history):
        return nothing
    passed, month = _stages_passed(opportunities, stage_history, as_of)
    months = int(month.max()) + 1 if len(month) else 0
    if months < 2 * SIDE_MONTHS or not passed.shape[1]:
        return nothing
    first = opportunities["created_at"].min().to_period("M")
    n = np.bincount(month, weights=np.ones(len(month)), minlength=months).astype(np.float64)
    rows = []
    for stage in passed:
        x = np.bincount(month, weights=passed[stage].to_numpy(dtype=float), minlength=months).astype(np.float64)
        rows.append({"stage": stage, "n": n.sum(), **_change(x, n, first)})
    table = pd.DataFrame(rows)
    tests = len(table) * (months - 2 * SIDE_MONTHS + 1)
    table["p_value"] = np.minimum(table["p_value"] * tests, 1.0)
    jump = (table["after"] - table["before"]).abs() >= MOVED
    table["moved"] = (table["p_value"] <= FALSE_ALARM) & jump & (table["abrupt"] >= ABRUPT)
    return table.drop(columns="abrupt").sort_values(["p_value", "stage"], ignore_index=True).astype(columns)


def find_mix_shifts(
    opportunities: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> Iterator[Finding]:
    """Whether the win rate changed because other opportunities were worked, not because they were won more or less often."""
    table = measure_mix(opportunities, levels, settings, as_of, seed)
    found = table[(table["mix_p"] <= FALSE_ALARM / max(len(table), 1)) & (table["mix"].abs() >= MIX)]
    found = found[(found["mix"].abs() >= found["rate"].abs()) | (found["mix"] * found["rate"] < 0)]
    for row in found.sort_values(["mix_p", "cut"]).to_dict("records"):
        moved = abs(row["change"]) >= MIX and row["change_p"] <= FALSE_ALARM
        way = ("rose" if row["change"] > 0 else "fell") if moved else "went, within what chance allows,"
        yield Finding(
            "mix-shift",
            STEP,
            "watch" if moved else "info",  # a mix that shifts under a rate that holds asks for nothing yet
            row["cut"],
            f"The win rate {way} from {formats.percent(row['before'])} to {formats.percent(row['after'])} in the last "
            f"year; {100 * row['mix']:+.1f} points of it come from another mix of {formats.plain(row['cut'])} and "
            f"{100 * row['rate']:+.1f} from winning more or less often at the same mix.",
            {k: row[k] for k in ("before", "after", "change", "mix", "mix_low", "mix_high", "rate", "mix_p", "n")},
            action=f"Compare like with like: the same {formats.plain(row['cut'])} in both years.",
        )


def measure_mix(
    opportunities: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> pd.DataFrame:
    """Change of the closed win rate, last year against the year before, split into mix and rates.

    Parameters
    ----------
    levels : mapping
        Per cut the level of each opportunity (index opportunity_id).

    Returns
    -------
    DataFrame
        One row per cut: `cut, n, before, after, change, change_p, mix, mix_low, mix_high, rate, mix_p`; change = mix + rate
        exactly.

    Notes
    -----
    Kitagawa's decomposition (1955, Journal of the American Statistical Association 50): each level's change of share at
    its mean rate, and change of rate at its mean share. Interval and p-value from resampled families.
    """
    frame = opportunities[(opportunities["status"] != "open") & opportunities["closed_at"].notna()]
    frame = frame[~no_decision(frame)].sort_values("opportunity_id")
    year = (as_of - frame["closed_at"]).dt.days // 365
    frame, year = frame[year.isin([0, 1])], year[year.isin([0, 1])]
    columns = ["cut", "n", "before", "after", "change", "change_p", "mix", "mix_low", "mix_high", "rate", "mix_p"]
    if year.nunique() < 2 or year.value_counts().min() < settings.plan.minimum_n:
        return pd.DataFrame(columns=columns).astype(dict.fromkeys(columns[1:], "float64"))
    unit = pd.factorize(frame["family_id"].fillna("~" + frame["opportunity_id"]), sort=True)[0]
    n_units = int(unit.max()) + 1
    weights = np.vstack([np.ones((1, n_units), np.float32), draw_weights(n_units, MIX_REPLICATES, seed)])
    won = (frame["status"] == "won").to_numpy(dtype=float)
    rows = []
    for cut, level in levels.items():
        codes = _codes(frame["opportunity_id"].map(level))
        before, after, mix, rate = _kitagawa(weights, unit, codes * 2 + (year == 0).to_numpy(), won)
        spread, noise = float(np.std(mix[1:])), float(np.std((mix + rate)[1:]))
        rows.append(
            {
                "cut": cut,
                "n": float(len(frame)),
                "before": before[0],
                "after": after[0],
                "change": after[0] - before[0],
                "change_p": _two_sided(after[0] - before[0], noise),
                "mix": mix[0],
                "mix_low": mix[0] - 1.96 * spread,
                "mix_high": mix[0] + 1.96 * spread,
                "rate": rate[0],
                "mix_p": _two_sided(mix[0], spread),
            }
        )
    return pd.DataFrame(rows, columns=columns)


def _two_sided(value: float, spread: float) -> float:
    """Probability of a value at least so far from 0 by chance alone; 1 where nothing varies."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(value) / spread)) if spread > 0 else 1.0


def _crowned(won: pd.DataFrame, levels: Mapping[str, pd.Series]) -> str:
    """Levels that lead by mean ACV only because of the largest deal, in words."""
    won = won.reset_index(drop=True)
    largest = int(won["acv"].argmax())
    said = []
    for cut, level in levels.items():
        of = won["opportunity_id"].map(level)
        own = of.loc[largest]
        if pd.isna(own) or of.nunique() < 2:
            continue
        by = won.groupby(of)["acv"]
        if by.mean().idxmax() == own and by.median().idxmax() != own:
            said.append(f"{formats.plain(cut)} “{formats.plain(own, 60)}”")
    return f" It alone makes {', '.join(said[:3])} lead by the mean." if said else ""


def _bulk_day(
    every: pd.DataFrame, closed: pd.DataFrame, status: str, reading: str, day: pd.Timestamp, n: int, usual: float
) -> Finding:
    decided = every[every["status"] != "open"]
    on_day = (decided["status"] == status) & (decided["closed_at"].dt.normalize() == day)
    rate, without = ((d["status"] == "won").mean() for d in (decided, decided[~on_day]))
    sentence = (
        f"{n:,} opportunities were closed as {status} on {formats.date(day)}, against {usual:.1f} on a usual day: "
        f"{reading}, which shows in every win rate by close date. Counting every loss, the win rate is "
        f"{formats.percent(rate)} with that day and {formats.percent(without)} without."
    )
    numbers = {
        status: n,
        "usual": usual,
        "share": n / len(closed),
        "no_decision": int(no_decision(decided[on_day]).sum()),
        "win_rate": float(rate),
        "win_rate_without": float(without),
    }
    action = "Date these closings when they really happened, or leave the day out."
    return Finding("bulk-close", STEP, "watch", f"{day:%Y-%m-%d}", sentence, numbers, action=action)


def _declared(events: pd.DataFrame | None, settings: Settings, as_of: pd.Timestamp) -> Iterator[Finding]:
    if events is None or not len(events):
        return
    window = settings.plan.window_days
    inside = (events["happened_at"] > as_of - pd.Timedelta(days=window)) if window else events["happened_at"].notna()
    changed = events[inside & events["kind"].str.lower().str.contains("definition").fillna(False)]
    for row in changed.sort_values("happened_at").to_dict("records"):
        yield Finding(
            "definition-change",
            STEP,
            "watch",
            f"{row['happened_at']:%Y-%m-%d}",
            f"A definition changed on {formats.date(row['happened_at'])} "
            f"({formats.text(row['description'])}): figures before and after do not compare.",
            {"happened_at": f"{row['happened_at']:%Y-%m-%d}"},
            action="Read the quarters before and after separately.",
        )


def _moved_stage(row: Mapping) -> Finding:
    month = f"{row['since']:%Y-%m}"
    return Finding(
        "definition-change",
        STEP,
        "watch",
        f"stage {formats.plain(row['stage'])} since {month}",
        f"Stage “{formats.plain(row['stage'])}” was entered within {SETTLE_DAYS} days by {formats.percent(row['before'])} "
        f"of the opportunities created before {month} and by {formats.percent(row['after'])} of those since: the stage "
        "means something else now, and conversions before and after do not compare.",
        {k: row[k] for k in ("before", "after", "n", "p_value")} | {"happened_at": f"{row['since']:%Y-%m-%d}"},
        action="Say what changed in the events table, and split stage conversions at that month.",
    )


def _stages_passed(
    opportunities: pd.DataFrame, stage_history: pd.DataFrame, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Whether each mature opportunity entered each stage in time (one column a stage), and its month of creation."""
    created = opportunities["created_at"]
    mature = created.notna() & (created <= as_of - pd.Timedelta(days=SETTLE_DAYS))
    frame = opportunities.loc[mature, ["opportunity_id", "created_at"]].sort_values("opportunity_id", ignore_index=True)
    entered = stage_history.groupby(["opportunity_id", "stage"], sort=True)["entered_at"].min().unstack()
    entered = entered.reindex(frame["opportunity_id"]).set_index(frame.index)
    passed = entered.sub(frame["created_at"], axis=0) <= pd.Timedelta(days=SETTLE_DAYS)
    share = passed.mean()
    passed = passed[sorted(share.index[share.between(0.02, 0.98)])]
    month = (frame["created_at"].dt.year * 12 + frame["created_at"].dt.month).to_numpy()
    return passed, (month - month.min()) if len(month) else month


def _change(x: Array, n: Array, first: pd.Period) -> dict[str, object]:
    """The split of the months that the rates speak for most, with its p-value before correction."""
    from scipy.special import chdtrc, xlogy

    def fit(wins: Array, trials: Array) -> Array:
        rate = np.divide(wins, trials, out=np.zeros_like(trials), where=trials > 0)
        return xlogy(wins, rate) + xlogy(trials - wins, 1 - rate)

    at = np.arange(SIDE_MONTHS, len(n) - SIDE_MONTHS + 1)
    cx, cn = np.cumsum(x)[at - 1], np.cumsum(n)[at - 1]
    gain = 2 * (fit(cx, cn) + fit(x.sum() - cx, n.sum() - cn) - fit(x.sum(keepdims=True), n.sum(keepdims=True)))
    best = int(np.argmax(gain))
    k = int(at[best])
    before, after = _share(x[:k], n[:k]), _share(x[k:], n[k:])
    near = _share(x[k : k + 6], n[k : k + 6]) - _share(x[max(k - 6, 0) : k], n[max(k - 6, 0) : k])
    # Months differ by more than single opportunities do; a market's own ups and downs must not look like a jump.
    excess = _dispersion(x, n, k)
    return {
        "since": (first + k).to_timestamp().as_unit("us"),
        "before": before,
        "after": after,
        "p_value": float(chdtrc(1, gain[best] / excess)),
        "abrupt": near / (after - before) if after != before else 0.0,
    }


def _dispersion(x: Array, n: Array, k: int) -> float:
    """Variance of monthly rates around the two levels, against binomial; at least 1."""
    level = np.where(np.arange(len(n)) < k, _share(x[:k], n[:k]), _share(x[k:], n[k:]))
    usual = n * level * (1 - level)
    used = usual > 0
    return max(1.0, float((((x - n * level) ** 2)[used] / usual[used]).sum() / max(used.sum() - 2, 1)))


def _share(x: Array, n: Array) -> float:
    return float(x.sum() / n.sum()) if n.sum() else 0.0


def _codes(level: pd.Series) -> npt.NDArray[np.int64]:
    """Number of each row's level: the largest ones, the rest together, unknown for itself."""
    named = level.astype("str")
    kept = named.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:BANDS]
    named = named.where(named.isin(kept) | named.isna(), "other").fillna("unknown")
    return pd.factorize(named, sort=True)[0]


def _kitagawa(
    weights: npt.NDArray, unit: npt.NDArray, cell: npt.NDArray, won: Array
) -> tuple[Array, Array, Array, Array]:
    """Rates before and after, mix part and rate part, one value a resample (the first: the data). Cells: level x (before, after)."""
    width = int(cell.max()) // 2 * 2 + 2
    shape = (weights.shape[1], width)
    flat = unit * width + cell
    n = weights @ np.bincount(flat, minlength=shape[0] * width).reshape(shape).astype(np.float32)
    w = weights @ np.bincount(flat, weights=won, minlength=shape[0] * width).reshape(shape).astype(np.float32)
    n, w = (v.astype(float).reshape(len(weights), -1, 2) for v in (n, w))
    total = np.maximum(n.sum(axis=1), 1e-12)
    share = n / total[:, None, :]
    overall = w.sum(axis=1) / total
    # A level that one year lacks keeps the other year's rate there: its coming or going is a change of the mix.
    own = np.divide(w, n, out=np.full_like(w, np.nan), where=n > 0)
    own = np.where(np.isnan(own), own[:, :, ::-1], own)
    own = np.where(np.isnan(own), overall[:, None, :], own)
    mix = ((share[:, :, 1] - share[:, :, 0]) * own.mean(axis=2)).sum(axis=1)
    change = overall[:, 1] - overall[:, 0]
    return overall[:, 0], overall[:, 1], mix, change - mix
