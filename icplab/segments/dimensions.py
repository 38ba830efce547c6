"""Reads a segmentation with accounts and opportunities, makes the artefact `segments` and what differs between segments.

The segments were found without any outcome, so a difference in an outcome is a claim like any other, not a consequence of the
way they were found. A difference in a trait that entered the clustering is a description and carries no p-value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import UNASSIGNED, check_artefact
from icplab.segments.areas import AREAS, with_human_scores
from icplab.segments.counts import count_pairs
from icplab.segments.fit import Segmentation

DIMENSIONS = ("fit", "pain", "urgency", "buying_process", "feasibility")  # 0-100
MIN_BEHIND = 10  # accounts or opportunities of a segment below which a score is not measured
DIFFERS_P = 0.05
DIFFERS_V = 0.10  # Cramér's V below which a difference of traits changes nothing (Cohen 1988: small)
FEEDBACK = {"good": 1.0, "acceptable": 0.5, "poor": 0.0}
DECISIONS = {
    "fit": "targeting and lead scoring",
    "pain": "message and content",
    "urgency": "priority and routing",
    "buying_process": "nurture and sales enablement",
    "feasibility": "channel mix and budget",
    "value": "offer and effort per account",
}


def measure_segments(
    segmentation: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    catalogue: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    rules: pd.DataFrame,
    stability: pd.DataFrame,
    settings: Settings,
) -> pd.DataFrame:
    """The artefact `segments`: size, stability, filter, five dimensions and five score areas of each segment.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    accounts : account table; reads n_won, n_lost, intent_30d, n_contacts, domain and the traits with role need
    opportunities : opportunity table; reads account_id, status, source, acv, cycle_days
    catalogue : reads trait, table, role
    tables : canonical tables; reads feedback (fit), leads (accepted_at, disqualified_at), contacts (whether there are any)
    rules : result of `describe_segments`
    stability : result of `measure_stability`
    settings : reads playbook [segments.<id or name>] scores = {area = 1 to 5}, which take precedence over what is derived

    Returns
    -------
    One row per segment in the order of their ids. Each score is null where fewer than MIN_BEHIND accounts or opportunities
    are behind it. Dimensions run from 0 to 100; except for pain, 50 is the whole market:

    ============== ===================================================================================================
    fit            50 × win rate on the closed basis, partially pooled over segments ÷ that of the market, at most 100
    pain           share of accounts with a known need that have the segment's leading need
    urgency        mean percentile of recent intent among the market's accounts
    buying_process share of the market's closed opportunities that took longer than the segment's (mean; ties half)
    feasibility    share of accounts that can be reached: with a contact, or a domain where no contacts were delivered
    ============== ===================================================================================================

    Areas are 1 + 4 × (0 … 100) / 100: strategic_fit from fit, problem_intensity from pain, path_clarity from the share of
    opportunities with a known source, revenue_potential from the mean percentile of won ACV, sales_feedback from judgements
    (good 1, acceptable ½, poor 0), else from accepted ÷ (accepted + disqualified) leads. `<area>_derived` keeps the derived
    value beside a human one, and `scored_by` names the areas that people scored.
    """
    facts = _facts(segmentation, accounts, opportunities, catalogue, tables)
    segments = pd.Index(segmentation.segment_ids, name="segment_id")
    table = _sizes(segmentation, accounts, segments)
    table = table.merge(stability[["segment_id", "jaccard", "membership"]], on="segment_id", how="left")
    described = rules[["segment_id", "rule", "f1", "precision", "recall", "needed", "conditions"]]
    described = described.rename(columns={"f1": "rule_f1", "precision": "rule_precision", "recall": "rule_recall"})
    described = described.rename(columns={"needed": "rule_needed", "conditions": "rule_conditions"})
    table = table.merge(described, on="segment_id", how="left").set_index("segment_id")
    for name in DIMENSIONS:
        table[name] = facts[name].reindex(segments).round(1)
    for name in AREAS:
        table[f"{name}_derived"] = (1 + 4 * facts[name].reindex(segments) / 100).round(1)
        table[name] = table[f"{name}_derived"]
    return check_artefact("segments", with_human_scores(table, settings).reset_index())


def measure_differences(
    segmentation: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    catalogue: pd.DataFrame,
) -> pd.DataFrame:
    """Whether the segments differ in what a decision depends on, one row per dimension that can be measured.

    Returns
    -------
    dimension, decision (what it changes), measured, n, effect, effect_is (Cramér's V or epsilon squared), p_value (null for
    traits that entered the clustering: they differ by construction), entered (bool), differs (bool).

    Notes
    -----
    Tests are on one value per account, so that several opportunities of an account do not count as independent: chi-square for
    categories, Kruskal-Wallis for numbers, with Holm's correction over the tests. A trait that entered differs when V ≥ 0.10.
    """
    if len(segmentation.segment_ids) < 2:
        return _no_differences()
    frame = _per_account(segmentation, accounts, opportunities)
    entered = {e["trait"] for e in segmentation.assigner["recipe"]["discrete"]}
    measures: list[tuple[str, str, pd.Series, bool]] = [
        ("fit", "accounts that won, of those with a closed opportunity", frame["ever_won"], False),
        *[("pain", need, frame[need], need in entered) for need in _needs(catalogue, frame)],
        ("urgency", "recent intent", frame["intent_30d"], False),
        ("buying_process", "days from created to closed", frame["cycle_days"], False),
        ("buying_process", "roles on opportunities", frame["n_roles"], False),
        ("feasibility", "source of the first opportunity", frame["source"], False),
        ("value", "ACV of won opportunities", frame["acv"], False),
    ]
    rows = [_difference(frame["segment_id"], *m) for m in measures]
    table = pd.DataFrame([r for r in rows if r])
    if table.empty:
        return _no_differences()
    return _judged(table)


def _facts(
    segmentation: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    catalogue: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
) -> dict[str, pd.Series]:
    """Each score on 0–100 by segment_id."""
    of_account = _segment_of(segmentation)
    frame = accounts.assign(segment_id=accounts["account_id"].map(of_account))
    deals = opportunities.assign(segment_id=opportunities["account_id"].map(of_account))
    closed = deals[deals["status"].isin(["won", "lost"])]
    won = deals[deals["status"] == "won"]
    fit, pain = _fit_index(frame), _leading_need(frame, catalogue)
    has_contacts = len(tables.get("contacts", ())) > 0
    reachable = frame["n_contacts"] > 0 if has_contacts else frame["domain"].notna()
    return {
        "fit": fit,
        "pain": pain,
        "urgency": _mean_percentile(frame["intent_30d"], frame["segment_id"]),
        "buying_process": _mean_percentile(-closed["cycle_days"], closed["segment_id"]),
        "feasibility": _mean_share(reachable, frame["segment_id"]),
        "strategic_fit": fit,
        "problem_intensity": pain,
        "path_clarity": _mean_share(deals["source"].notna(), deals["segment_id"]),
        "revenue_potential": _mean_percentile(won["acv"], won["segment_id"]),
        "sales_feedback": _feedback(of_account, opportunities, tables),
    }


def _segment_of(segmentation: Segmentation) -> pd.Series:
    table = segmentation.assignments
    return table[table["segment_id"] != UNASSIGNED].set_index("account_id")["segment_id"]


def _fit_index(frame: pd.DataFrame) -> pd.Series:
    from icplab.core.stats.pooling import pool_rates

    counts = frame.groupby("segment_id")[["n_won", "n_lost"]].sum()
    closed = counts.sum(axis=1)
    market = counts["n_won"].sum() / max(closed.sum(), 1)
    if not market:
        return pd.Series(np.nan, index=counts.index)
    pooled = pool_rates(counts["n_won"], closed)["pooled"].to_numpy() if len(counts) > 1 else np.full(1, market)
    index = pd.Series(np.minimum(50 * pooled / market, 100), index=counts.index)
    return index.where(closed >= MIN_BEHIND)


def _needs(catalogue: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    kept = catalogue[(catalogue["role"] == "need") & (catalogue["table"] == "accounts") & ~catalogue["excluded"]]
    return [t for t in kept["trait"] if t in frame and str(frame[t].dtype) == "str"]


def _leading_need(frame: pd.DataFrame, catalogue: pd.DataFrame) -> pd.Series:
    """Share of known needs that are the segment's leading need, in per cent; the first need column that is there."""
    needs = _needs(catalogue, frame)
    if not needs:
        return pd.Series(dtype="float64")
    parts = frame.assign(need=frame[needs[0]].str.split(";")).dropna(subset=["need"])
    known = parts.groupby("segment_id")["account_id"].nunique()
    parts = parts.explode("need")
    most = parts.groupby(["segment_id", "need"])["account_id"].nunique().groupby("segment_id").max()
    return (100 * most / known).where(known >= MIN_BEHIND)


def _mean_percentile(values: pd.Series, segment: pd.Series) -> pd.Series:
    """Mean percentile rank within the market (50 = the market), in per cent."""
    usable = values.notna() & segment.notna()
    rank = (values[usable].rank() - 0.5) / max(int(usable.sum()), 1)
    by = (100 * rank).groupby(segment[usable])
    return by.mean().where(by.size() >= MIN_BEHIND)


def _mean_share(flag: pd.Series, segment: pd.Series) -> pd.Series:
    by = flag.astype("float64").groupby(segment)
    return (100 * by.mean()).where(by.size() >= MIN_BEHIND)


def _feedback(of_account: pd.Series, opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    said = tables.get("feedback", pd.DataFrame())
    if len(said):
        by_deal = said["opportunity_id"].map(opportunities.set_index("opportunity_id")["account_id"])
        account = said["account_id"].fillna(by_deal)
        score = 100 * said["fit"].map(FEEDBACK).astype("float64")
        by = score.groupby(account.map(of_account))
        return by.mean().where(by.count() >= MIN_BEHIND)
    leads = tables.get("leads", pd.DataFrame())
    if len(leads):
        decided = leads[leads["accepted_at"].notna() | leads["disqualified_at"].notna()]
        return _mean_share(decided["accepted_at"].notna(), decided["account_id"].map(of_account))
    return pd.Series(dtype="float64")


def _sizes(segmentation: Segmentation, accounts: pd.DataFrame, segments: pd.Index) -> pd.DataFrame:
    segment = accounts["account_id"].map(_segment_of(segmentation))
    size = segment.value_counts().reindex(segments, fill_value=0)
    names = dict(zip(segmentation.assigner["ids"], segmentation.assigner["names"], strict=True))
    return pd.DataFrame(
        {
            "segment_id": pd.Series(segments, dtype="str"),
            "segment": pd.Series([names[s] for s in segments], dtype="str"),
            "accounts": size.to_numpy(dtype=float),
            "share": (size / max(size.sum(), 1)).round(6).to_numpy(),
            "wins": accounts["n_won"].groupby(segment).sum().reindex(segments).to_numpy(dtype=float),
        }
    )


def _per_account(segmentation: Segmentation, accounts: pd.DataFrame, opportunities: pd.DataFrame) -> pd.DataFrame:
    """One value per account of everything that is compared."""
    frame = accounts.assign(segment_id=accounts["account_id"].map(_segment_of(segmentation)))
    frame = frame[frame["segment_id"].notna()].set_index("account_id")
    closed = opportunities[opportunities["status"].isin(["won", "lost"])]
    won = closed[closed["status"] == "won"]
    ordered = opportunities.sort_values(["created_at", "opportunity_id"])
    worked = closed.groupby("account_id").size().reindex(frame.index)
    return frame.assign(
        ever_won=frame["is_customer"].astype("boolean").where(worked.notna()).map({True: YES_WON, False: NOT_WON}),
        cycle_days=closed.groupby("account_id")["cycle_days"].mean().reindex(frame.index),
        source=ordered.groupby("account_id")["source"].first().reindex(frame.index),
        acv=won.groupby("account_id")["acv"].mean().reindex(frame.index),
    )


YES_WON, NOT_WON = "won", "not won"


def _difference(segment: pd.Series, dimension: str, measured: str, values: pd.Series, entered: bool) -> dict | None:
    usable = values.notna()
    kept, groups = values[usable], segment[usable]
    if len(kept) < MIN_BEHIND or groups.nunique() < 2 or kept.nunique() < 2:
        return None
    number = pd.api.types.is_numeric_dtype(kept)
    effect, p = _rank_test(kept, groups) if number else _table_test(kept, groups)
    return {
        "dimension": dimension,
        "decision": DECISIONS[dimension],
        "measured": measured,
        "n": len(kept),
        "effect": round(effect, 4),
        "effect_is": "epsilon squared" if number else "Cramér's V",
        "p_value": np.nan if entered else p,
        "entered": entered,
    }


def _rank_test(values: pd.Series, groups: pd.Series) -> tuple[float, float]:
    from scipy.stats import kruskal

    test = kruskal(*[part.to_numpy(dtype=float) for _, part in values.groupby(groups)])
    return float(test.statistic) / max(len(values) - 1, 1), float(test.pvalue)


def _table_test(values: pd.Series, groups: pd.Series) -> tuple[float, float]:
    from scipy.stats import chi2_contingency

    counts = count_pairs(values, groups)
    test = chi2_contingency(counts, correction=False)
    smaller = min(counts.shape) - 1
    return float(np.sqrt(test.statistic / (counts.sum() * smaller))), float(test.pvalue)


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    from icplab.core.stats.multiplicity import holm

    tested = table["p_value"].notna()
    table.loc[tested, "p_value"] = holm(table.loc[tested, "p_value"].to_numpy())
    table["p_value"] = table["p_value"].round(6)
    table["differs"] = np.where(tested, table["p_value"] <= DIFFERS_P, table["effect"] >= DIFFERS_V)
    return table


def _no_differences() -> pd.DataFrame:
    columns = ["dimension", "decision", "measured", "n", "effect", "effect_is", "p_value", "entered", "differs"]
    return pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
