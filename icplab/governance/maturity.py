"""Reads what a run holds, makes how far each capability of the maturity matrix is operated rather than improvised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from icplab.core.config import Settings

# Capability, what shows that it is operated rather than improvised, owner (maturity matrix, R46-R64).
CAPABILITIES = (
    ("Market segmentation", "Product Marketing / Strategy"),
    ("ICP definition", "Revenue Leadership / Product Marketing"),
    ("Scoring and tiering", "RevOps"),
    ("GTM activation", "Sales / Marketing / CS"),
    ("Measurement and feedback", "Analytics / Finance"),
    ("Governance", "Revenue Leadership"),
)


def list_present(
    settings: Settings,
    tables: Mapping[str, pd.DataFrame],
    catalogue: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    segmentation: Mapping,
    icps: Mapping,
    scores: pd.DataFrame,
    kpis: pd.DataFrame,
    earlier: bool,
    decisions: Sequence[Mapping],
) -> dict[str, bool]:
    """What of the maturity matrix a run holds: the answers that `assess_maturity` takes.

    Parameters
    ----------
    settings, tables, catalogue, opportunities : as the step has them
    segmentation, icps, scores, kpis : artefacts of the run
    earlier : whether there is a run to compare with
    decisions : the council's register
    """
    measured = kpis[kpis["status"] == "ok"]["kpi"]
    return {
        "segments": segmentation["verdict"] != "none",
        "needs_or_buying": bool(catalogue["role"].eq("need").any()) or len(tables["opportunity_contacts"]) > 0,
        "icps_per_segment": len(icps) > 1,
        "margins": bool(opportunities["margin_rate"].notna().any()),
        "usable_tiers": bool(scores["tier"].eq("tier_1").any()),
        "intent": bool(scores["intent_score"].notna().any()),
        "playbook": bool(settings.playbook),
        "tagged_spend": bool(tables["spend"][["campaign_id", "segment"]].notna().any(axis=None)),
        "retention": bool(measured.eq("grr").any()),
        "cac": bool(measured.eq("cac").any()),
        "earlier_run": earlier,
        "decisions": any(entry.get("review") for entry in decisions),
    }


def assess_maturity(present: Mapping[str, bool]) -> pd.DataFrame:
    """How far each capability is operated rather than improvised, from what the run holds.

    Parameters
    ----------
    present : answers, by name: segments, needs_or_buying, icps_per_segment, margins, usable_tiers, intent, playbook, tagged_spend,
        retention, cac, earlier_run, decisions

    Returns
    -------
    DataFrame, one row per capability of the maturity matrix: capability, level (0 ad hoc, 1 partly, 2 operated), evidence,
    next_step, owner.
    """
    asked = (
        (
            ("segments", "segments found or declared"),
            ("needs_or_buying", "needs or buying behaviour recorded on accounts"),
        ),
        (("icps_per_segment", "an ICP per segment"), ("margins", "margins, so that profit is known")),
        (("usable_tiers", "tiers that passed the forward check"), ("intent", "activities, so that intent is scored")),
        (("playbook", "plays and messages in playbook.toml"), ("tagged_spend", "spend by segment or campaign")),
        (("retention", "subscriptions, so that retention is measured"), ("cac", "spend, so that CAC is measured")),
        (("earlier_run", "an earlier run to compare with"), ("decisions", "decisions with a review date")),
    )
    rows = []
    for (capability, owner), checks in zip(CAPABILITIES, asked, strict=True):
        have = [text for name, text in checks if present.get(name)]
        lack = [text for name, text in checks if not present.get(name)]
        rows.append(
            {
                "capability": capability,
                "level": len(have),
                "evidence": "; ".join(have) or "none yet",
                "next_step": f"provide {lack[0]}" if lack else "keep it going",
                "owner": owner,
            }
        )
    return pd.DataFrame(rows)
