"""Reads the plays of every cell, makes routing rules that a CRM's assignment or workflow tool can hold: the first that fits counts."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from icplab.activation.rows import INTENT_HIGH
from icplab.core.model import RANKED, Model
from icplab.core.store import sha256_of

INTENT_WORDS = {
    "high": (f"icp_intent_score >= {INTENT_HIGH:g}", f"ICP_Intent_Score__c >= {INTENT_HIGH:g}"),
    "low": (f"icp_intent_score < {INTENT_HIGH:g}", f"ICP_Intent_Score__c < {INTENT_HIGH:g}"),
    "unknown": ("icp_intent_score is unknown", "ICP_Intent_Score__c = null"),
}


def routing_rules(cells: pd.DataFrame) -> list[dict]:
    """Ordered rules: best tier first, high intent first, then by segment; the last rule takes everything else.

    Parameters
    ----------
    cells : from `plan_cells`: segment_id, tier, intent, motion, play, owner, sla_days

    Returns
    -------
    One dict per rule: order, when (tier, intent, segment, motion), then (owner, play, within_days), hubspot, salesforce.
    Cells without a play are routed to "(nobody)": that is what the plan says, and the finding says it too.
    """
    rank = {"high": 0, "low": 1, "unknown": 2}
    ordered = cells.assign(_intent=cells["intent"].map(rank)).sort_values(
        ["tier", "_intent", "segment_id", "motion"], kind="stable"
    )
    rules = [_rule(k, row) for k, row in enumerate(ordered.to_dict("records"), start=1) if row["tier"] in RANKED]
    rest = {"order": len(rules) + 1, "when": {}, "then": {"owner": "", "play": "no outreach", "within_days": ""}}
    return [*rules, {**rest, "hubspot": "everything else", "salesforce": "everything else"}]


def write_routing(rules: list[dict], model: Model, folder: Path) -> dict:
    """Write `routing_rules.json`; a row for the index of files."""
    path = folder / "routing_rules.json"
    content = {
        "model_version": model.version,
        "as_of": model.as_of,
        "how": "the first rule that fits counts",
        "rules": rules,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    what = "who works which account, how and within how many days"
    return {"file": path.name, "what": what, "rows": len(rules), "sha256": sha256_of(path), "note": ""}


def _rule(order: int, cell: dict) -> dict:
    tier, segment, motion = cell["tier"], cell["segment_id"], cell["motion"]
    hubspot, salesforce = INTENT_WORDS[cell["intent"]]
    return {
        "order": order,
        "when": {"tier": tier, "intent": cell["intent"], "segment": segment, "motion": motion},
        "then": {
            "owner": cell["owner"] or "(nobody)",
            "play": cell["play"] or "(none planned)",
            "within_days": cell["sla_days"],
        },
        "hubspot": f'hs_ideal_customer_profile is any of "{tier}" AND icp_segment is "{segment}"'
        f' AND icp_motion is "{motion}" AND {hubspot}',
        "salesforce": f"ICP_Tier__c = '{tier}' AND ICP_Segment__c = '{segment}'"
        f" AND ICP_Motion__c = '{motion}' AND {salesforce}",
    }
