"""Reads the findings of a run, makes the list of what the council has to decide: question, evidence, owner, deadline.

Findings that ask for action come first. A run that went well asks for decisions too: whether to plan by its map, staff its
tiers, name the accounts that are missing. Nothing here is computed anew; each question stands on one finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

ACT_DAYS = 14  # after the as-of date, by which what asks for action is decided
REVIEW_DAYS = 91  # by which what is watched is looked at again: the next quarterly run


@dataclass(frozen=True)
class Question:
    """A decision that a finding of this code puts before the council, whatever its severity."""

    code: str
    asks: str
    owner: str
    days: int
    subject: str = ""  # of the finding; empty: the first one of the code


STANDING = (
    Question("tier-promise", "Staff tier 1 as listed this quarter?", "Revenue Leadership", 14, "next quarter"),
    Question("no-usable-ranking", "Keep today's order of work until the data can rank?", "Revenue Leadership", 14),
    Question(
        "segments-natural", "Plan territories and messages by these segments?", "Product Marketing / Strategy", 30
    ),
    Question("segments-constructive", "Use these drawn cuts, or none?", "Product Marketing / Strategy", 30),
    Question("segments-none", "Go to market as one, without segments?", "Product Marketing / Strategy", 30),
    Question(
        "single-icp", "One ideal customer profile for all segments?", "Revenue Leadership / Product Marketing", 30
    ),
    Question("whitespace", "Buy or research the accounts that are missing?", "Marketing", 30),
)
LASTING = frozenset({"segments-natural", "segments-constructive", "segments-none", "single-icp", "whitespace"})


def decisions(findings: pd.DataFrame, as_of: pd.Timestamp | None, *, first_run: bool) -> pd.DataFrame:
    """What asks for a decision, most urgent first.

    Parameters
    ----------
    findings : the artefact
    as_of : date the deadlines count from; None leaves them out
    first_run : whether no earlier run exists; questions of the map and the profile are asked once, not every quarter

    Returns
    -------
    DataFrame, the columns of `findings`, and question (empty for findings that ask for action themselves), by (a date or
    missing).
    """
    urgent = findings[findings["severity"] == "act"].assign(question="", days=ACT_DAYS)
    asked = [q for q in STANDING if first_run or q.code not in LASTING]
    rows = [row for q in asked if len(row := _standing(findings, q))]
    table = pd.concat([urgent, *rows], ignore_index=True)
    day = pd.NaT if as_of is None else as_of
    by = [day + pd.Timedelta(days=int(n)) for n in table["days"]]
    return table.assign(by=pd.Series(by, index=table.index, dtype="datetime64[us]")).drop(columns="days")


def _standing(findings: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The finding on which a question stands, as one that asks for action; none where it was not found."""
    rows = findings[(findings["code"] == question.code) & (findings["severity"] != "act")]
    rows = rows[rows["subject"] == question.subject] if question.subject else rows
    changed: dict[str, Any] = {
        "severity": "act",
        "question": question.asks,
        "owner": question.owner,
        "days": question.days,
        "action": "",
    }
    return rows.sort_values(["subject", "sentence"]).head(1).assign(**changed)
