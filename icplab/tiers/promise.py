"""Reads tiers and the forward check, makes the artefact `tiers`: what each promises, and what it delivered."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.model import OUT_OF_MARKET, RANKED, Model, probability_draws, value_of
from icplab.core.schema import TIERS, UNASSIGNED
from icplab.tiers.cuts import capacity_of, tier_sizes, wanted_shares

BAND = 1.6448536  # standard normal quantile of a 90 % band
PERIOD_SD = 0.10  # log odds by which a whole period may be better or worse for everybody
QUARTER_DAYS = 91


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
            "predicted": p if model.usable or tier not in RANKED else np.nan,  # judgement promises nothing
            "capacity": capacity_of(tier, settings),
        }
        if tier in RANKED and model.usable:
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
    tested = place_then(predictions, model, market, settings)
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
            "capacity": capacity_of(tier, settings),
            "captured_value_share": float(part["earned"].sum()) / won if won else np.nan,
        }
        for tier, part in ((t, tested[tested["tier"] == t]) for t in RANKED)
        if len(part)
    ]
    return _table(rows)


def place_then(predictions: pd.DataFrame, model: Model, market: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Tested opportunities with the tier they had by the model of their time, and the worth of a win."""
    tested = predictions.assign(worth=_worth_then(predictions, model, market))
    tested["tier"] = _tiers_then(tested, market, settings)
    return tested.replace({"tier": _renamed(model)})


def value_tested(predictions: pd.DataFrame, model: Model, market: pd.DataFrame) -> pd.DataFrame:
    """Tested opportunities with a known outcome, and `worth`, what a win of each was worth; empty without a check."""
    if predictions.empty or "account_id" not in predictions:
        return predictions
    return predictions.assign(worth=_worth_then(predictions, model, market))[predictions["weight"] > 0]


def mark_in_sample(kpis: pd.DataFrame) -> pd.DataFrame:
    """Key figures by tier with a note that the tiers were set with these outcomes in view."""
    note = "in sample: tiers were set with these outcomes. " + kpis["note"]
    return kpis.assign(note=kpis["note"].where(kpis["value"].isna(), note))


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


def _worth_then(predictions: pd.DataFrame, model: Model, market: pd.DataFrame) -> np.ndarray:
    """Value of a win per tested opportunity, 1 where nothing is measured."""
    accounts = market.set_index("account_id").loc[predictions["account_id"]].reset_index()
    worth = value_of(model.value, accounts.assign(motion=predictions["motion"].to_numpy()))
    return np.nan_to_num(worth, nan=1.0)


def _tiers_then(tested: pd.DataFrame, market: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Tier of each tested opportunity: its place by expected value within the fold, cut at the shares the tiers take now."""
    ranked = ~market["account_type"].isin(OUT_OF_MARKET) & (market["segment_id"] != UNASSIGNED)
    shares = wanted_shares(int(ranked.sum()), settings)
    expected = (tested["account_probability"] * tested["worth"]).round(9)
    tier = np.empty(len(tested), dtype=object)
    for fold in sorted(tested["fold"].unique()):
        rows = (tested["fold"] == fold).to_numpy()
        ends = np.cumsum(list(tier_sizes(expected[rows].to_numpy(), shares).values()))[:2]
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
