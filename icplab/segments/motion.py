"""Reads segments, accounts, opportunities and feedback, makes whether a segment can carry a motion and deserves more focus."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import UNASSIGNED
from icplab.core.stats.intervals import wilson
from icplab.segments.fit import MIN_SEGMENT_SHARE, Segmentation

MIN_WINS = 15  # method.md §3: with fewer a segment's figures are evidence-poor
MIN_DEALS_A_YEAR = 12  # one opportunity a month: fewer cannot be practised
MAX_SHARE = 0.6  # a segment with more of the accounts sets no priority
MIN_JUDGED = 10
SIGNALS = ("conversion", "acceptance", "feedback")


def measure_motion(
    segmentation: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    settings: Settings,
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    """Specific enough to set a priority, large enough for a motion that repeats?

    Returns
    -------
    One row per segment: segment_id, segment, accounts, share, wins, deals_a_year (opportunities created in the 365 days up to
    as_of), sellers (owners of those), pipeline_per_seller (open ACV), specific, repeatable (both bool), verdict: `own motion`,
    `too broad`, `too small`.
    """
    of = _segment_of(segmentation)
    ids = pd.Index(segmentation.segment_ids)
    deals = opportunities.assign(segment_id=opportunities["account_id"].map(of))
    recent = deals[(deals["created_at"] > as_of - pd.Timedelta(days=365)) & (deals["created_at"] <= as_of)]
    size = of.value_counts().reindex(ids, fill_value=0)
    count = recent.groupby("segment_id").size().reindex(ids, fill_value=0)
    owner = recent["owner"] if "owner" in recent else pd.Series(index=recent.index, dtype="object")
    sellers = owner.groupby(recent["segment_id"]).nunique().reindex(ids, fill_value=0)
    pipeline = deals[deals["status"] == "open"].groupby("segment_id")["acv"].sum().reindex(ids, fill_value=0.0)
    wins = deals[deals["status"] == "won"].groupby("segment_id").size().reindex(ids, fill_value=0)
    share = size / max(size.sum(), 1)
    least = max(settings.plan.min_segment_accounts, int(np.ceil(MIN_SEGMENT_SHARE * size.sum())))
    repeatable = (size >= least) & (count >= MIN_DEALS_A_YEAR) & (wins >= MIN_WINS)
    specific = (share <= MAX_SHARE) | (len(ids) == 1)
    return pd.DataFrame(
        {
            "segment_id": pd.Series(ids, dtype="str"),
            "segment": pd.Series(segmentation.assigner["names"], dtype="str"),
            "accounts": size.to_numpy(),
            "share": share.round(4).to_numpy(),
            "wins": wins.to_numpy(),
            "deals_a_year": count.to_numpy(),
            "sellers": sellers.to_numpy(),
            "pipeline_per_seller": (pipeline / sellers.where(sellers > 0)).round(2).to_numpy(),
            "specific": specific.to_numpy(),
            "repeatable": repeatable.to_numpy(),
            "verdict": np.select([~repeatable, ~specific], ["too small", "too broad"], "own motion"),
        }
    )


def judge_focus(
    segmentation: Segmentation, opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Does the segment deserve more focus: yes, no, or not yet known?

    Three signals, each against all other segments: accounts that won of those with a closed opportunity; leads that sales
    accepted of those decided; judgements of good fit of all judgements.

    Returns
    -------
    One row per segment: segment_id, segment, conversion, acceptance, feedback (`better`, `worse`, `alike`, `not measured`),
    disqualified_for (most frequent reason), focus: `yes` when a signal is better and none worse, `no` when one is worse and
    none better, else `not yet known`.

    Notes
    -----
    A difference counts when its 95 % interval (Newcombe 1998, method 10), widened for the number of segments (Bonferroni),
    excludes zero and both sides hold at least MIN_JUDGED.
    """
    of = _segment_of(segmentation)
    ids, names = segmentation.segment_ids, segmentation.assigner["names"]
    yes_no = _signals(of, opportunities, tables)
    level = 1 - 0.05 / max(len(ids), 1)
    reasons = _reasons(of, tables)
    rows = []
    for segment_id, name in zip(ids, names, strict=True):
        said = [_against_rest(yes_no[s], segment_id, level) for s in SIGNALS]
        focus = "yes" if "better" in said and "worse" not in said else "not yet known"
        focus = "no" if "worse" in said and "better" not in said else focus
        rows.append((segment_id, name, *said, reasons.get(segment_id), focus))
    columns = ["segment_id", "segment", *SIGNALS, "disqualified_for", "focus"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "str"))


def measure_context(
    segmentation: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    catalogue: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """What a plan needs to know of each segment: needs, channels, buying committee and reasons for disqualification.

    Returns
    -------
    One row per segment × aspect × level: segment_id, segment, aspect (need, channel, committee, disqualified), level, share
    (inside), share_outside, n; most frequent first within an aspect. Committee is the number of roles on opportunities.
    """
    of = _segment_of(segmentation)
    needs = catalogue[(catalogue["role"] == "need") & (catalogue["table"] == "accounts") & ~catalogue["excluded"]][
        "trait"
    ]
    parts = [_pairs(of, accounts["account_id"], accounts[t].str.split(";"), "need") for t in needs if t in accounts]
    parts.append(_pairs(of, opportunities["account_id"], opportunities["source"], "channel"))
    if "n_roles" in accounts:
        roles = pd.cut(accounts["n_roles"], [0, 1, 3, np.inf], labels=["1 role", "2 or 3 roles", "4 or more roles"])
        parts.append(_pairs(of, accounts["account_id"], roles.astype("object"), "committee"))
    leads = tables.get("leads", pd.DataFrame())
    if len(leads):
        parts.append(_pairs(of, leads["account_id"], leads["disqualification_reason"], "disqualified"))
    return _shares(pd.concat(parts, ignore_index=True), segmentation)


def _segment_of(segmentation: Segmentation) -> pd.Series:
    table = segmentation.assignments
    return table[table["segment_id"] != UNASSIGNED].set_index("account_id")["segment_id"]


def _signals(of: pd.Series, opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Per signal 1 or 0, indexed by segment."""
    closed = opportunities[opportunities["status"].isin(["won", "lost"])]
    won = (closed["status"] == "won").groupby(closed["account_id"]).any()
    out = {"conversion": _by_segment(won.astype(float), won.index.to_series().map(of))}
    leads = tables.get("leads", pd.DataFrame())
    none = pd.Series(dtype="float64")
    out["acceptance"] = out["feedback"] = none
    if len(leads):
        decided = leads[leads["accepted_at"].notna() | leads["disqualified_at"].notna()]
        out["acceptance"] = _by_segment(decided["accepted_at"].notna().astype(float), decided["account_id"].map(of))
    said = tables.get("feedback", pd.DataFrame())
    if len(said):
        by_deal = said["opportunity_id"].map(opportunities.set_index("opportunity_id")["account_id"])
        account = said["account_id"].fillna(by_deal)
        out["feedback"] = _by_segment((said["fit"] == "good").astype(float), account.map(of))
    return out


def _by_segment(values: pd.Series, segment: pd.Series) -> pd.Series:
    kept = segment.notna().to_numpy()
    return pd.Series(values.to_numpy()[kept], index=segment.to_numpy()[kept])


def _against_rest(values: pd.Series, segment_id: str, level: float) -> str:
    inside = values[values.index == segment_id]
    rest = values[values.index != segment_id]
    if min(len(inside), len(rest)) < MIN_JUDGED:
        return "not measured"
    p, q = inside.mean(), rest.mean()
    low_p, high_p = (float(x) for x in wilson(inside.sum(), len(inside), level))
    low_q, high_q = (float(x) for x in wilson(rest.sum(), len(rest), level))
    low = p - q - np.hypot(p - low_p, high_q - q)
    high = p - q + np.hypot(high_p - p, q - low_q)
    return "better" if low > 0 else "worse" if high < 0 else "alike"


def _reasons(of: pd.Series, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Most frequent reason for disqualification per segment; ties by name."""
    leads = tables.get("leads", pd.DataFrame())
    if not len(leads) or leads["disqualification_reason"].isna().all():
        return {}
    known = leads.assign(segment_id=leads["account_id"].map(of)).dropna(
        subset=["segment_id", "disqualification_reason"]
    )
    counts = known.groupby(["segment_id", "disqualification_reason"], as_index=False).size()
    counts = counts.sort_values(["size", "disqualification_reason"], ascending=[False, True])
    return dict(counts.drop_duplicates("segment_id")[["segment_id", "disqualification_reason"]].to_numpy())


def _pairs(of: pd.Series, account: pd.Series, levels: pd.Series, aspect: str) -> pd.DataFrame:
    frame = pd.DataFrame({"segment_id": account.map(of).to_numpy(), "level": levels.to_numpy(dtype=object)})
    return frame.explode("level").dropna().assign(aspect=aspect)


def _shares(pairs: pd.DataFrame, segmentation: Segmentation) -> pd.DataFrame:
    """Share of each level inside and outside of each segment."""
    columns = ["segment_id", "segment", "aspect", "level", "share", "share_outside", "n"]
    if pairs.empty:
        return pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
    counts = pd.crosstab([pairs["aspect"], pairs["level"]], pairs["segment_id"])
    inside = counts / counts.groupby(level="aspect").transform("sum").clip(lower=1)
    other = -counts.sub(counts.sum(axis=1), axis=0)
    outside = other / other.groupby(level="aspect").transform("sum").clip(lower=1)
    table = pd.DataFrame(
        {"n": counts.stack(), "share": inside.stack().round(4), "share_outside": outside.stack().round(4)}
    )
    table = table.reset_index().query("n > 0")
    names = dict(zip(segmentation.assigner["ids"], segmentation.assigner["names"], strict=True))
    place = {s: i for i, s in enumerate(segmentation.segment_ids)}
    table = table.assign(segment=table["segment_id"].map(names), place=table["segment_id"].map(place))
    table = table.sort_values(["place", "aspect", "n", "level"], ascending=[True, True, False, True], ignore_index=True)
    return table[columns]
