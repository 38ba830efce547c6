"""Reads scores, capacity and the forward check, makes tiers: who is in which, what each promises, what it delivered."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.model import (
    OUT_OF_MARKET,
    RANKED,
    Model,
    expected_value_draws,
    place_accounts,
    probability_draws,
    value_of,
    with_cuts,
)
from icplab.core.schema import TIERS, UNASSIGNED

STEP = "50_tiers"
SHARES = {"tier_1": 0.20, "tier_2": 0.30}  # of scored accounts, where icplab.toml names no capacity (contract)
TOLD_APART = 0.90  # probability that the better tier is better, below which two tiers are one
BAND = 1.6448536  # standard normal quantile of a 90 % band
PERIOD_SD = 0.10  # log odds by which a whole period may be better or worse for everybody
ALARM = 0.002  # p-value over all tiers together below which the promise counts as broken; three tiers a quarter
QUARTER_DAYS = 91
INTENT_HIGH = 50.0  # intent score from which an account counts as in the market now: as busy as the busiest tenth


def set_tiers(
    model: Model, market: pd.DataFrame, scored: pd.DataFrame, settings: Settings
) -> tuple[Model, pd.DataFrame]:
    """Cut points by capacity, and the scores with the tiers they give.

    Parameters
    ----------
    model : as fitted, without cut points
    market : account table with segments (`core.model.add_segments`), rows as in `scored`
    scored : from `scores.score_accounts`; columns that the model does not make (intent_score) are kept
    settings : reads [capacity] and [economics] cost_of_touch

    Returns
    -------
    model : with its cut points, in expected value, and those of every draw of its uncertainty
    scored : the artefact `scores`

    Notes
    -----
    Accounts are ordered by expected value. tier_1 takes the best up to its capacity (without one: 20 % of the scored
    accounts), tier_2 the next (30 %), tier_3 the rest whose expected value covers the cost of a touch; below it an account is
    `not_icp`, like partners and competitors. Accounts without a segment have too little data and are `insufficient`.
    Two neighbouring tiers whose mean expected value cannot be told apart (probability below TOLD_APART over the draws) are
    merged into the lower one: the better name would promise something.
    """
    if not model.usable:
        return model, scored
    rows = np.flatnonzero(_ranked_rows(scored, market))
    values = scored["expected_value"].to_numpy("float64")[rows]
    if len(rows) == 0:
        return model, scored
    in_money = np.isfinite(values).all()
    if not in_money:  # no amounts at all: order by likelihood alone, and no break-even
        values = scored["win_probability"].to_numpy("float64")[rows]
    draws = expected_value_draws(model, market.iloc[rows])
    floor = settings.economics.cost_of_touch if in_money else 0.0
    tiers, merged = _merge(draws, values, _sizes(values, _wanted_shares(len(values), settings)))
    cuts = _cuts(values, tiers, floor)
    of_draws = _draw_cuts(draws, tiers, floor)
    model = with_cuts(model, cuts, {"cuts": np.round(of_draws, 6).tolist(), "merged": merged})
    return model, place_accounts(model, market, scored)


def measure_tiers(
    model: Model, market: pd.DataFrame, scored: pd.DataFrame, opportunities: pd.DataFrame, settings: Settings
) -> pd.DataFrame:
    """What each tier promises for the next quarter: the artefact `tiers`, period `now`.

    Parameters
    ----------
    model, market, scored : from `set_tiers`, rows of `market` as in `scored`
    opportunities : reads account_id and created_at, for how many to expect
    settings : reads [capacity]

    Returns
    -------
    DataFrame, one row per tier in use. `predicted` is the mean win probability of its accounts. `low` and `high` bound the
    observed rate among the next quarter's `n` opportunities with 90 % probability: uncertain effects and level, a better or
    worse period, and the luck of n. `n` is what the last year brought per quarter from accounts that are in the tier now.
    `captured_value_share` is the share of the expected value of all accounts.
    """
    expected = scored["expected_value"].fillna(0.0).clip(lower=0.0)
    total = float(expected.sum())
    recent = _per_quarter(scored, opportunities, pd.Timestamp(model.as_of))
    rows = []
    for tier in [t for t in TIERS if (scored["tier"] == t).any()]:
        inside = (scored["tier"] == tier).to_numpy()
        p = float(scored.loc[inside, "win_probability"].mean())
        row = {
            "tier": tier,
            "period": "now",
            "accounts": float(inside.sum()),
            "predicted": p,
            "capacity": _capacity(tier, settings),
        }
        if tier in RANKED:
            n = max(float(recent.get(tier, 0.0)), 1.0)
            sd = np.hypot(_promise_error(model, market[inside], p), np.sqrt(p * (1 - p) / n))
            row |= {"low": max(p - BAND * sd, 0.0), "high": min(p + BAND * sd, 1.0), "n": round(n, 1)}
        if total:
            row["captured_value_share"] = float(expected[inside].sum()) / total
        rows.append(row)
    return _table(rows)


def check_tiers(predictions: pd.DataFrame, model: Model, market: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """What tiers of the past promised and delivered: the artefact `tiers`, one row per tier over the tested period.

    Parameters
    ----------
    predictions : of the forward check: account_id, family_id, motion, fold, period, account_probability, outcome, weight
    model : its frozen tiers say which are in use; its value model says what a win was worth
    market : account table with segments
    settings : reads [capacity]

    Returns
    -------
    DataFrame. `predicted` and `observed` are rates of the tested opportunities (outcomes not known yet by weight), `low` and
    `high` the 90 % band of the observed rate given the prediction, `accounts` the accounts tested. Empty without a check.

    Notes
    -----
    Probabilities are those of the past. A win is valued as an opportunity of its own kind: an account that won in the tested
    period is a customer today, and today's value would tell the outcome.
    """
    if predictions.empty or not model.usable:
        return _table([])
    tested = predictions.assign(worth=_worth_then(predictions, model, market))
    tested["tier"] = _tiers_then(tested, market, settings)
    tested = tested.replace({"tier": _renamed(model)})
    tested = tested[tested["weight"] > 0].assign(earned=lambda t: t["weight"] * t["outcome"] * t["worth"])
    won = float(tested["earned"].sum())
    first, last = (tested["period"].str.split("/").str[k] for k in (0, -1))
    period = f"{first.min()}/{last.max()}" if (first != last).all() else first.min()
    rows = [
        {
            "tier": tier,
            "period": period,
            "accounts": float(part["account_id"].nunique()),
            **_delivered(part),
            "capacity": _capacity(tier, settings),
            "captured_value_share": float(part["earned"].sum()) / won if won else np.nan,
        }
        for tier, part in ((t, tested[tested["tier"] == t]) for t in RANKED)
        if len(part)
    ]
    return _table(rows)


def join_tiers(promise: pd.DataFrame, delivered: pd.DataFrame) -> pd.DataFrame:
    """The artefact `tiers`: promises of now and what was tested, one below the other."""
    parts = [part for part in (promise, delivered) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else promise


def compare_promise(table: pd.DataFrame) -> pd.DataFrame:
    """Promised and observed rate of each tested tier as chart rows: tier, what, value, low, high (band of the promise), n."""
    tested = table[(table["period"] != "now") & table["observed"].notna()]
    promised = tested.assign(what="promised, 90 % band", value=tested["predicted"])
    observed = tested.assign(what="observed", value=tested["observed"], low=np.nan, high=np.nan)
    rows = pd.concat([promised, observed], ignore_index=True).sort_values(["tier", "what"], kind="stable")
    return rows[["tier", "what", "value", "low", "high", "n"]].reset_index(drop=True)


def cross_with_intent(scored: pd.DataFrame) -> pd.DataFrame:
    """Accounts by tier and intent (high from INTENT_HIGH on; unknown without activities): tier, intent, accounts."""
    score = scored["intent_score"]
    intent = np.where(score.isna(), "unknown", np.where(score >= INTENT_HIGH, "high", "low"))
    counts = scored.assign(intent=intent).groupby(["tier", "intent"]).size().rename("accounts").reset_index()
    return counts.assign(_order=counts["tier"].map({t: k for k, t in enumerate(TIERS)})).sort_values(
        ["_order", "intent"], ignore_index=True
    )[["tier", "intent", "accounts"]]


def list_now(scored: pd.DataFrame, accounts: pd.DataFrame) -> pd.DataFrame:
    """Accounts to call first: tiers 1 and 2 with high intent, best tier first, then by intent."""
    inside = scored[scored["tier"].isin(RANKED[:2]) & (scored["intent_score"] >= INTENT_HIGH)]
    named = inside.merge(accounts[["account_id", "name"]], on="account_id")
    named = named.sort_values(["tier", "intent_score", "account_id"], ascending=[True, False, True], ignore_index=True)
    return named[
        ["account_id", "name", "segment_id", "tier", "fit_score", "intent_score", "win_probability", "expected_value"]
    ]


def findings(
    model: Model, scored: pd.DataFrame, table: pd.DataFrame, settings: Settings, owners: pd.DataFrame
) -> list[Finding]:
    """What the tiers hold and promise, whether they kept it before, and where capacity does not fit."""
    if not model.usable:
        return []
    now = table[table["period"] == "now"]
    past = table[(table["period"] != "now") & table["observed"].notna()]
    found = [_promise(now)]
    if len(past):
        found.append(_kept(past))
    found += [_merged(name) for name in model.draws.get("merged", [])]
    found += _capacity_conflicts(now, settings, owners)
    flagged = scored["flags"].str.contains("unknown_fit").sum()
    if flagged:
        found.append(_unknown(int(flagged), len(scored)))
    return found


def _ranked_rows(scored: pd.DataFrame, market: pd.DataFrame) -> np.ndarray:
    """Accounts that can have a place: in the market and with a segment."""
    return (~market["account_type"].isin(OUT_OF_MARKET) & (scored["segment_id"] != UNASSIGNED)).to_numpy()


def _wanted_shares(count: int, settings: Settings) -> dict[str, float]:
    """Share of `count` ranked accounts that each tier but the last should hold: capacity, else the default."""
    given = {t: _capacity(t, settings) for t in SHARES}
    return {
        t: share if given[t] is None else min(float(given[t] or 0.0) / max(count, 1), 1.0)
        for t, share in SHARES.items()
    }


def _sizes(values: np.ndarray, shares: dict[str, float]) -> dict[str, int]:
    """Accounts per tier; the last takes the rest.

    Accounts of the same value stay together: a tier ends before them where it would grow beyond its size, unless that left
    it less than half full.
    """
    falling = np.sort(values)[::-1]
    sizes, taken, wanted = {}, 0, 0
    for tier, share in shares.items():
        wanted = min(max(wanted, taken) + round(share * len(values)), len(values))
        end = _end_between_values(falling, taken, wanted)
        sizes[tier], taken = end - taken, end
    return {**sizes, "tier_3": len(values) - taken}


def _end_between_values(falling: np.ndarray, start: int, wanted: int) -> int:
    """Last place up to `wanted` at which the value changes."""
    if wanted in (start, len(falling)) or falling[wanted - 1] != falling[wanted]:
        return wanted
    before = int(np.searchsorted(-falling, -falling[wanted], side="left"))
    after = int(np.searchsorted(-falling, -falling[wanted], side="right"))
    return before if before - start >= (wanted - start) / 2 else after


def _merge(draws: np.ndarray, values: np.ndarray, sizes: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Cumulated sizes of the tiers that can be told apart, and the names that were merged away."""
    order = np.argsort(-values, kind="stable")
    names = [t for t, n in sizes.items() if n > 0]
    ends = np.cumsum([sizes[t] for t in names]).tolist()
    means = [draws[order[a:b]].mean(axis=0) for a, b in itertools.pairwise([0, *ends])]
    gone = [
        better
        for (better, above), (_, below) in itertools.pairwise(zip(names, means, strict=True))
        if (above > below).mean() < TOLD_APART
    ]
    return {t: n for t, n in zip(names, ends, strict=True) if t not in gone}, gone


def _cuts(values: np.ndarray, tiers: dict[str, int], floor: float) -> dict[str, float]:
    """Lowest expected value of each tier; the last ranked tier goes down to break-even."""
    falling = np.sort(values)[::-1]
    last = list(tiers)[-1]
    # Below break-even means below the cost of a touch, and never an expected loss.
    lowest = max(floor, 0.0)
    return {t: float(lowest if t == last else max(falling[n - 1], lowest)) for t, n in tiers.items()}


def _draw_cuts(draws: np.ndarray, tiers: dict[str, int], floor: float) -> np.ndarray:
    """Cut points of every draw (tiers × draws), found as those of the estimate are."""
    falling = -np.sort(-draws, axis=0)
    last = list(tiers)[-1]
    lowest = np.full(draws.shape[1], max(floor, 0.0))
    return np.array([lowest if t == last else np.maximum(falling[n - 1], lowest) for t, n in tiers.items()])


def _capacity(tier: str, settings: Settings) -> float | None:
    return getattr(settings.capacity, tier, None)


def _worth_then(predictions: pd.DataFrame, model: Model, market: pd.DataFrame) -> np.ndarray:
    """Value of a win per tested opportunity, 1 where nothing is measured."""
    accounts = market.set_index("account_id").loc[predictions["account_id"]].reset_index()
    worth = value_of(model.value, accounts.assign(motion=predictions["motion"].to_numpy()))
    return np.nan_to_num(worth, nan=1.0)


def _tiers_then(tested: pd.DataFrame, market: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Tier of each tested opportunity: its place by expected value within the fold, cut at the shares the tiers take now."""
    ranked = ~market["account_type"].isin(OUT_OF_MARKET) & (market["segment_id"] != UNASSIGNED)
    shares = _wanted_shares(int(ranked.sum()), settings)
    expected = (tested["account_probability"] * tested["worth"]).round(9)
    tier = np.empty(len(tested), dtype=object)
    for fold in sorted(tested["fold"].unique()):
        rows = (tested["fold"] == fold).to_numpy()
        ends = np.cumsum(list(_sizes(expected[rows].to_numpy(), shares).values()))[:2]
        place = expected[rows].rank(ascending=False, method="min").to_numpy()
        tier[rows] = np.array(RANKED, dtype=object)[np.searchsorted(ends, place - 1, side="right")]
    return tier


def _renamed(model: Model) -> dict[str, str]:
    """Tier that a merged one became."""
    names = [t for t in RANKED if t in model.cuts]
    return {t: next(n for n in names if n > t) for t in RANKED if t not in names and names and t < names[-1]}


def _per_quarter(scored: pd.DataFrame, opportunities: pd.DataFrame, as_of: pd.Timestamp) -> pd.Series:
    """Opportunities a quarter by tier, from the last year; all of them by quarters of a year where there are no dates."""
    tier = opportunities["account_id"].map(scored.set_index("account_id")["tier"])
    age = (as_of - opportunities["created_at"]).dt.days
    counted = age.isna() | ((age >= 0) & (age < 365))
    return tier[counted].value_counts() * QUARTER_DAYS / 365


def _promise_error(model: Model, market: pd.DataFrame, p: float) -> float:
    """Standard error of a tier's mean win probability: effects, level, and a period better or worse for all."""
    effects = probability_draws(model, market).mean(axis=0).std()
    level = float(model.checks.get("level_se", 0.0))
    return float(np.sqrt(effects**2 + level**2 + (PERIOD_SD * p * (1 - p)) ** 2))


def _delivered(part: pd.DataFrame) -> dict[str, float]:
    """Predicted and observed rate of tested opportunities, and the band of the observed one."""
    w = part["weight"].to_numpy() / part["weight"].sum()
    p, y = part["account_probability"].to_numpy(), part["outcome"].to_numpy()
    predicted = float(w @ p)
    by_family = pd.Series(w * (y - p)).groupby(part["family_id"].to_numpy()).sum()
    luck = max(float((w**2 * p * (1 - p)).sum()), float((by_family**2).sum()))
    sd = float(np.sqrt(luck + (PERIOD_SD * predicted * (1 - predicted)) ** 2))
    return {
        "predicted": predicted,
        "observed": float(w @ y),
        "low": max(predicted - BAND * sd, 0.0),
        "high": min(predicted + BAND * sd, 1.0),
        "n": float(len(part)),
    }


def _table(rows: list[dict]) -> pd.DataFrame:
    columns = [
        "tier",
        "period",
        "accounts",
        "predicted",
        "observed",
        "low",
        "high",
        "capacity",
        "captured_value_share",
        "n",
    ]
    text = {"tier": "str", "period": "str"}
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({c: text.get(c, "float64") for c in columns}).round(6)


def _promise(now: pd.DataFrame) -> Finding:
    ranked = now[now["tier"].isin(RANKED)]
    best = ranked.iloc[0]
    known = pd.notna(best["captured_value_share"])
    share = f" with {best['captured_value_share']:.0%} of the expected value" if known else ""
    numbers = {
        r["tier"]: {
            "accounts": r["accounts"],
            "predicted": round(r["predicted"], 4),
            "share": round(r["captured_value_share"], 4) if known else None,
        }
        for r in ranked.to_dict("records")
    }
    sentence = (
        f"{best['tier']} holds {best['accounts']:,.0f} accounts{share}; "
        f"{best['predicted']:.0%} of their next opportunities should be won ({best['low']:.0%} to {best['high']:.0%} next quarter)."
    )
    return Finding(
        "tier-promise",
        STEP,
        "info",
        "next quarter",
        sentence,
        numbers,
        action="Staff the tiers to this promise and check it next quarter.",
    )


def _kept(past: pd.DataFrame) -> Finding:
    """Promise against delivery on the tested period; watch only when chance would hardly do it."""
    from scipy.special import chdtrc

    spread = ((past["high"] - past["low"]) / (2 * BAND)).clip(lower=1e-6)
    gaps = (past["observed"] - past["predicted"]) / spread
    p_value = float(chdtrc(len(past), (gaps**2).sum()))
    text = "; ".join(
        f"{r['tier']} {r['predicted']:.0%} promised, {r['observed']:.0%} won" for r in past.to_dict("records")
    )
    inside = int(((past["observed"] >= past["low"]) & (past["observed"] <= past["high"])).sum())
    numbers = {"tiers": len(past), "inside": inside, "p_value": round(p_value, 4)}
    numbers |= {
        r["tier"]: {"predicted": round(r["predicted"], 4), "observed": round(r["observed"], 4), "n": r["n"]}
        for r in past.to_dict("records")
    }
    sentence = f"Tiers set on earlier data and tested on what followed: {text}; {inside} of {len(past)} inside their 90 % band."
    if p_value >= ALARM:
        return Finding("tier-promise", STEP, "info", "tested period", sentence, numbers)
    return Finding(
        "calibration",
        STEP,
        "watch",
        "tiers",
        sentence,
        numbers,
        action="Find out what moved before promising rates by tier.",
    )


def _merged(name: str) -> Finding:
    below = RANKED[RANKED.index(name) + 1]
    return Finding(
        "tiers-merged",
        STEP,
        "watch",
        name,
        f"{name} and {below} cannot be told apart with {TOLD_APART:.0%} certainty, so they are one tier.",
        {"certainty": TOLD_APART},
        action="Work them alike; more closed opportunities or better-filled traits would separate them.",
    )


def _capacity_conflicts(now: pd.DataFrame, settings: Settings, owners: pd.DataFrame) -> list[Finding]:
    """Tiers larger than what the team can work."""
    size = now.set_index("tier")["accounts"]
    found = []
    for tier in ("tier_1", "tier_2"):
        capacity = _capacity(tier, settings)
        if capacity is not None and size.get(tier, 0) > capacity:  # accounts of the same value stay together
            found.append(_over(tier, float(size[tier]), float(capacity), "[capacity] of icplab.toml"))
    team = owners["capacity"].sum() if len(owners) and "capacity" in owners else 0.0
    if team and size.get("tier_1", 0) > team:
        found.append(_over("tier_1", float(size["tier_1"]), float(team), "the sellers together"))
    return found


def _over(tier: str, accounts: float, capacity: float, whose: str) -> Finding:
    sentence = f"{tier} holds {accounts:,.0f} accounts, {whose} can work {capacity:,.0f} in a quarter."
    numbers = {"accounts": accounts, "capacity": capacity}
    return Finding(
        "over-capacity", STEP, "watch", tier, sentence, numbers, action="Lower the capacity of the tier, or staff it."
    )


def _unknown(flagged: int, accounts: int) -> Finding:
    sentence = f"{flagged:,} of {accounts:,} accounts were never worked and lie outside everything that was: their fit is unknown."
    return Finding(
        "insufficient-evidence",
        STEP,
        "info",
        "unknown fit",
        sentence,
        {"flagged": flagged, "accounts": accounts},
        action="Work a small sample of them before believing their score.",
    )
