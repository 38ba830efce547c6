"""Reads the playbook's draft segmentation and the accounts, makes the draft judged by the same gates as the segments found.

A team seldom starts from nothing: it has a column of segments in the CRM, or rules in its head. Such a draft is a candidate like
any other. It is stated in `playbook.toml`, either

    [draft]
    column = "customer_segment"

or as rules, of which the first that holds counts:

    [[draft.segments]]
    name = "Mid-size retail"
    where = [{ trait = "employees", from = 50, below = 500 }, { trait = "industry", one_of = ["retail"] }]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import draft_column, read_blocks
from icplab.segments.continuity import rand_index
from icplab.segments.dimensions import measure_differences
from icplab.segments.existence import ALPHA, MIN_RATIO
from icplab.segments.fit import MIN_SEGMENT_SHARE, Segmentation
from icplab.segments.found import (
    MIN_WINS,
    SAME_AS_INDUSTRY,
    SAME_AS_SOURCE,
    STEP,
    industry_share,
    measure_source_dependence,
)
from icplab.segments.gain import gain_of_labels
from icplab.segments.rules import DESCRIBABLE, describe_segments, rule_holds

MAX_DRAFT = 50  # distinct values of a column above which it is no segmentation
MIN_COVERED = 0.8  # share of accounts that a draft must place somewhere
BEST_SHARE = 0.2  # best customers: the fifth that bought most
OUTSIDE = "outside the draft"
_OPERATORS = {"from": "from", "below": "below", "one_of": "is one of", "is": "is", "contains": "contains"}

_FAILED = {  # what it means that a draft does not pass a gate
    "number": "it has too few or too many segments",
    "covered": "too many accounts have no segment",
    "smallest": "a segment is too small",
    "wins": "a segment has too few wins",
    "exists": "its groups are no more alike inside than a cut through a market without groups",
    "describable": "a segment has no filter of four conditions",
    "value": "its segments do not differ in winning or deal size",
    "decisions": "its segments differ in nothing that a decision rests on",
    "not industry": "it repeats the industry",
    "not source": "it follows how records were made",
}


@dataclass(frozen=True)
class Draft:
    """The team's segmentation in the shape of a found one, or why it could not be read."""

    segmentation: Segmentation | None
    source: str = ""
    problems: tuple[str, ...] = ()


def read_draft(found: Segmentation, accounts: pd.DataFrame, *, settings: Settings) -> Draft:
    """The segmentation that the team has, from the column or the rules in `[draft]` of the playbook.

    Parameters
    ----------
    found : result of `fit_segments`; its recipe says how traits are read
    accounts : account table; reads account_id, the column or the traits of the rules
    settings : reads playbook [draft]

    Returns
    -------
    Draft; `segmentation` is None where the playbook states none, or none that can be read: then `problems` says why.
    """
    given = settings.playbook.get("draft")
    if not isinstance(given, Mapping):
        return Draft(None)
    frame = accounts.sort_values("account_id", ignore_index=True)
    column, rules = draft_column(settings), given.get("segments")
    if column:
        label, problems = _from_column(frame, column)
        source = f"column {column}"
    elif isinstance(rules, list):
        label, problems = _from_rules(frame, rules)
        source = "rules of the playbook"
    else:
        return Draft(None, "", ("[draft] of playbook.toml names neither a column nor segments",))
    if label is None or label.nunique() < 2:
        return Draft(None, source, (*problems, "the draft does not tell accounts apart: fewer than two segments"))
    return Draft(_as_segmentation(found, frame["account_id"], label), source, tuple(problems))


def judge_draft(
    draft: Draft,
    found: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    catalogue: pd.DataFrame,
    settings: Settings,
    stability: pd.DataFrame,
) -> pd.DataFrame:
    """Draft and found segmentation beside each other, gate by gate.

    Returns
    -------
    One row per gate: gate, needed, draft and found (the measured value, null where it does not apply), draft_passes and
    found_passes (null where not measured), says (what the gate asks).
    """
    columns = ["gate", "needed", "draft", "found", "draft_passes", "found_passes", "says"]
    if draft.segmentation is None:
        return pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
    given = (accounts, opportunities, catalogue, settings, found)
    theirs = _gates(draft.segmentation, None, *given)
    ours = _gates(found, stability, *given)
    table = theirs.rename(columns={"value": "draft", "passes": "draft_passes"})
    table["found"], table["found_passes"] = ours["value"], ours["passes"]
    return table[columns]


def compare_draft(draft: Draft, found: Segmentation) -> pd.DataFrame:
    """Where the accounts of each draft segment are in the found one.

    Returns
    -------
    One row per pair with accounts: draft, segment_id, segment, accounts, share_of_draft, share_of_segment; largest first
    within a draft segment.
    """
    columns = ["draft", "segment_id", "segment", "accounts", "share_of_draft", "share_of_segment"]
    if draft.segmentation is None:
        return pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
    mine = draft.segmentation.assignments[["account_id", "segment_id", "segment"]]
    mine = mine.assign(draft=mine["segment"].where(mine["segment_id"] != UNASSIGNED, OUTSIDE))
    both = mine[["account_id", "draft"]].merge(found.assignments, on="account_id")
    table = both.groupby(["draft", "segment_id", "segment"], as_index=False).size().rename(columns={"size": "accounts"})
    for share, by in (("share_of_draft", "draft"), ("share_of_segment", "segment_id")):
        table[share] = (table["accounts"] / table.groupby(by)["accounts"].transform("sum")).round(4)
    order = ["draft", "accounts", "segment_id"]
    return table.sort_values(order, ascending=[True, False, True], ignore_index=True)[columns]


def locate_best_customers(
    segmentation: Segmentation, accounts: pd.DataFrame, opportunities: pd.DataFrame
) -> pd.DataFrame:
    """Where the customers sit that bought most: the fifth with the largest sum of won ACV.

    Returns
    -------
    One row per segment: segment_id, segment, accounts, customers, best, share_of_best, index (share of the best customers
    over share of the accounts; 1 is the market).
    """
    won = opportunities[opportunities["status"] == "won"]
    bought = won.groupby("account_id")["acv"].sum()
    best = bought[bought >= bought.quantile(1 - BEST_SHARE)].index if len(bought) else bought.index
    placed = segmentation.assignments[segmentation.assignments["segment_id"] != UNASSIGNED]
    of = placed.set_index("account_id")["segment_id"]
    ids = pd.Index(segmentation.segment_ids)
    count = lambda keys: of.reindex(keys).value_counts().reindex(ids, fill_value=0).to_numpy()  # noqa: E731
    size, top = count(of.index), count(best)
    share = top / max(top.sum(), 1)
    names = dict(zip(ids, segmentation.assigner["names"], strict=True))
    return pd.DataFrame(
        {
            "segment_id": pd.Series(ids, dtype="str"),
            "segment": pd.Series([names[i] for i in ids], dtype="str"),
            "accounts": size,
            "customers": count(bought.index),
            "best": top,
            "share_of_best": share.round(4),
            "index": np.round(share / np.maximum(size / max(size.sum(), 1), 1e-9), 2),
        }
    )


def _from_column(frame: pd.DataFrame, column: str) -> tuple[pd.Series | None, list[str]]:
    if column not in frame:
        return None, [f"no column {column} in the accounts"]
    label = frame[column].astype("str").where(frame[column].notna())
    if label.nunique() > MAX_DRAFT:
        return None, [f"column {column} has {label.nunique():,} values; a segmentation has at most {MAX_DRAFT}"]
    return label, []


def _from_rules(frame: pd.DataFrame, rules: list) -> tuple[pd.Series, list[str]]:
    """Label of each account by the first rule that holds; rules that cannot be read are told and left out."""
    label = pd.Series(None, index=frame.index, dtype="object")
    problems = []
    for place, rule in enumerate(rules, 1):
        name = str(rule.get("name", f"segment {place}")) if isinstance(rule, Mapping) else f"segment {place}"
        conditions, problem = _conditions(rule, frame)
        if problem:
            problems.append(f"draft segment “{name}”: {problem}")
            continue
        needed = rule.get("at_least", len(rule["where"]))
        needed = needed if isinstance(needed, int) and 1 <= needed <= len(rule["where"]) else len(rule["where"])
        met = sum(rule_holds(part, len(part), frame).astype(int) for part in conditions)
        label = label.mask(label.isna() & (met >= needed), name)
    return label, problems


def _conditions(rule: object, frame: pd.DataFrame) -> tuple[list[list[dict]], str]:
    """Per entry of `where` the conditions that it states, as `rule_holds` reads them."""
    entries = rule.get("where") if isinstance(rule, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return [], "it has no list of conditions (where = [{ trait = …, from = … }])"
    stated = []
    for entry in entries:
        trait = entry.get("trait") if isinstance(entry, Mapping) else None
        if trait not in frame:
            return [], f"no trait {trait} in the accounts"
        words = [w for w in _OPERATORS if w in entry]
        if not words or set(entry) - {"trait", *words}:
            return [], f"a condition on {trait} needs one of {', '.join(_OPERATORS)}"
        part = [_condition(str(trait), w, entry[w]) for w in words]
        number = pd.api.types.is_numeric_dtype(frame[trait]) and not pd.api.types.is_bool_dtype(frame[trait])
        if any((c["operator"] in ("from", "below")) != number for c in part):
            return (
                [],
                f"{trait} is {'a number: use from and below' if number else 'not a number: use one_of, is or contains'}",
            )
        if number and not all(isinstance(entry[w], int | float) for w in words):
            return [], f"the border of {trait} is not a number"
        stated.append(part)
    return stated, ""


def _condition(trait: str, word: str, value: object) -> dict:
    if word == "is":
        value = "yes" if value in (True, "yes") else "no"
    values = [str(v) for v in value] if isinstance(value, list) else [value]
    return {"trait": trait, "operator": _OPERATORS[word], "values": values}


def _as_segmentation(found: Segmentation, account_id: pd.Series, label: pd.Series) -> Segmentation:
    """Draft segments as D1, D2, … from the largest; accounts outside are unassigned."""
    sizes = label.dropna().astype(str).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = list(sizes.index)
    ids = [f"D{i + 1}" for i in range(len(names))]
    of = dict(zip(names, ids, strict=True))
    segment_id = label.map(of).fillna(UNASSIGNED)
    table = pd.DataFrame(
        {
            "account_id": account_id,
            "segment_id": segment_id.astype("str"),
            "segment": label.fillna(UNASSIGNED).astype("str"),
            "membership": np.where(label.notna(), 1.0, np.nan),
        }
    )
    assigner = {"kind": "draft", "recipe": found.assigner["recipe"], "ids": ids, "names": names}
    return Segmentation(table, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), "draft", {}, assigner)


def _gates(
    each: Segmentation,
    stability: pd.DataFrame | None,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    found: Segmentation,
) -> pd.DataFrame:
    """gate, needed, value, passes, says for one segmentation."""
    segment = each.assignments.set_index("account_id")["segment_id"]
    placed = segment[segment != UNASSIGNED]
    size = placed.value_counts().reindex(each.segment_ids, fill_value=0)
    wins = accounts.set_index("account_id")["n_won"].groupby(placed).sum().reindex(each.segment_ids, fill_value=0)
    k, most = len(size), settings.plan.max_segments
    least = max(settings.plan.min_segment_accounts, int(np.ceil(MIN_SEGMENT_SHARE * len(placed))))
    rows: list[tuple[str, float, float, bool | None, str]] = [
        ("number", most, k, 2 <= k <= most, "at least two, at most as many segments as the plan allows"),
        ("covered", MIN_COVERED, len(placed) / max(len(segment), 1), None, "share of accounts that have a segment"),
        ("smallest", least, float(size.min()), bool(size.min() >= least), "accounts in the smallest segment"),
        ("wins", MIN_WINS, float(wins.min()), bool(wins.min() >= MIN_WINS), "wins in the segment with the fewest"),
    ]
    rows[1] = (*rows[1][:3], rows[1][2] >= MIN_COVERED, rows[1][4])
    rows.append(_existence(each, accounts, found))
    jaccard = float(stability["jaccard"].min()) if stability is not None else np.nan
    rows.append(("stable", np.nan, jaccard, None, "lowest Jaccard similarity under resampling; a draft is given"))
    rules = describe_segments(accounts, each.assignments, each.assigner)
    f1 = float(rules["f1"].min())
    rows.append(("describable", DESCRIBABLE, f1, f1 >= DESCRIBABLE, "F1 of the worst filter of four conditions"))
    differences = measure_differences(each, accounts, opportunities, catalogue=catalogue)
    outcome = differences[differences["dimension"].isin(["fit", "value"])]
    for gate, part, says in (
        ("value", outcome, "winning and deal size: measures in which the segments differ"),
        ("decisions", differences, "message, timing, channel, effort: decisions that a difference bears on"),
    ):
        n = part.loc[part["differs"].astype(bool), "decision"].nunique() if len(part) else 0
        rows.append((gate, 1, n, n >= 1, says))
    share = industry_share(each, accounts)
    rows.append(
        ("not industry", SAME_AS_INDUSTRY, share, share < SAME_AS_INDUSTRY, "share explained by industry alone")
    )
    source = measure_source_dependence(each, accounts)
    v = float(source["cramers_v"].max()) if len(source) else 0.0
    rows.append(("not source", SAME_AS_SOURCE, v, v < SAME_AS_SOURCE, "Cramér's V with how records were made"))
    table = pd.DataFrame(rows, columns=["gate", "needed", "value", "passes", "says"])
    return table.round({"value": 4, "needed": 4})


def _existence(each: Segmentation, accounts: pd.DataFrame, found: Segmentation) -> tuple:
    """Gain per account against the largest gains that twin markets without groups allow their best split."""
    says = f"gain per account over one group; twins without groups reach this in {ALPHA:.0%} of cases"
    blocks = read_blocks(found.assigner["recipe"], accounts)
    label = each.assignments.set_index("account_id")["segment_id"].reindex(blocks.account_id).to_numpy(dtype=object)
    gain = gain_of_labels(blocks, label, [*each.segment_ids])
    reach, mean = found.evidence.get("null_gain_95"), found.evidence.get("null_gain_mean")
    if reach is None or mean is None:
        return ("exists", np.nan, gain, None, says)
    needed = max(reach, MIN_RATIO * mean)
    if found.evidence.get("reason"):  # something else than groups explains the gain over twins
        return ("exists", needed, gain, False, found.evidence["reason"])
    return ("exists", needed, gain, bool(gain >= needed), says)


def draft_findings(draft: Draft, gates: pd.DataFrame, agreement: float | None) -> list[Finding]:
    """What the comparison of draft and found segmentation says, and what of the draft could not be read."""
    told = [
        Finding(
            "draft-unread",
            STEP,
            "watch",
            draft.source or "draft",
            f"A part of the draft segmentation was not used: {problem}.",
            {},
            action="Correct [draft] in playbook.toml.",
        )
        for problem in draft.problems
    ]
    if draft.segmentation is None or gates.empty:
        return told
    passes, of_found = (int(gates[f"{who}_passes"].eq(True).sum()) for who in ("draft", "found"))
    judged = gates["draft_passes"].notna() & gates["found_passes"].notna()
    failed = [_FAILED.get(g, g) for g in gates.loc[gates["draft_passes"].eq(False), "gate"]]
    numbers = {"draft": passes, "found": of_found, "gates": int(judged.sum()), "agreement": agreement}
    sentence = (
        f"The team's segmentation ({draft.source}, {len(draft.segmentation.segment_ids)} segments) passes {passes} of"
        f" {numbers['gates']} gates, the one found {of_found}. They agree by {round(agreement or 0.0, 2) + 0:.2f}, where 1 is the same"
        " and 0 is chance." + (f" Against the draft: {'; '.join(failed)}." if failed else "")
    )
    action = (
        "Keep the draft: it passes as many gates, and people know it."
        if passes >= of_found
        else "Decide in the council which segments of the draft are replaced; the table shows where their accounts went."
    )
    return [*told, Finding("draft-compared", STEP, "info", "draft", sentence, numbers, action=action)]


def agreement_of(draft: Draft, found: Segmentation) -> float | None:
    """Adjusted Rand index of draft and found segments on the accounts that both place; None without a draft."""
    if draft.segmentation is None:
        return None
    both = draft.segmentation.assignments.merge(found.assignments, on="account_id", suffixes=("_d", "_f"))
    both = both[(both["segment_id_d"] != UNASSIGNED) & (both["segment_id_f"] != UNASSIGNED)]
    return rand_index(pd.crosstab(both["segment_id_d"], both["segment_id_f"]).to_numpy(dtype=float))
