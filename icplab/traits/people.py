"""Reads people on opportunities, makes the committee that wins against the one that loses, and links personas to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.logistic import fit_candidates, ratio_table

COLUMNS = ["role", "n", "share_won", "share_lost", "odds_ratio", "low", "high", "q_value", "associated"]
COMMITTEE = "committee of three roles or more"
Tables = Mapping[str, pd.DataFrame]


def measure_roles(opportunities: pd.DataFrame, tables: Tables, minimum: int) -> pd.DataFrame:
    """How much more often a role took part in won than in lost opportunities.

    Only opportunities with at least one role count: where nobody was recorded, nobody can be missed. The row
    "committee of three roles or more" is about the number of different roles.

    Returns one row per role: `role, n, share_won, share_lost, odds_ratio, low, high, q_value, associated` (q at most .10),
    intervals clustered by account family; empty without roles on at least `minimum` closed opportunities. People are added
    while an opportunity goes well, so that a role may follow success as well as precede it.
    """
    closed = opportunities[opportunities["status"].isin(["won", "lost"])].sort_values("opportunity_id", kind="stable")
    people = _with_roles(tables, closed)
    closed = closed[closed["opportunity_id"].isin(people["opportunity_id"])].reset_index(drop=True)
    won = (closed["status"] == "won").to_numpy(dtype=float)
    if len(closed) < minimum or won.std() == 0:
        return pd.DataFrame(columns=COLUMNS)
    presence = pd.crosstab(people["opportunity_id"], people["role"]).reindex(closed["opportunity_id"]) > 0
    presence = presence.assign(**{COMMITTEE: presence.sum(axis=1) >= 3})
    presence = presence.loc[:, presence.sum() >= minimum // 2]
    x, families = presence.to_numpy(dtype=float), closed["family_id"].to_numpy()
    fits = fit_candidates(won, x, np.ones((len(won), 1)), clusters=families)
    return ratio_table(fits).assign(
        role=presence.columns.to_numpy(),
        n=x.sum(axis=0),
        share_won=x[won == 1].mean(axis=0),
        share_lost=x[won == 0].mean(axis=0),
    )[COLUMNS]


def link_personas(settings: Settings, roles: pd.DataFrame) -> list[dict]:
    """Personas of the playbook with what is measured about their roles: people are a different object from accounts.

    Returns one entry per `[[personas]]`: `persona`, `roles`, and `evidence` (role, share_won, share_lost, odds_ratio,
    associated) for the roles that were measured.
    """
    personas = settings.playbook.get("personas", [])
    by_role = {str(r["role"]).lower(): r for r in roles.to_dict("records")}
    linked = []
    for persona in personas if isinstance(personas, list) else []:
        names = [str(r) for r in persona.get("roles", [])]
        seen = [by_role[n.lower()] for n in names if n.lower() in by_role]
        evidence = [
            {
                "role": str(r["role"]),
                "share_won": round(float(r["share_won"]), 4),
                "share_lost": round(float(r["share_lost"]), 4),
                "odds_ratio": round(float(r["odds_ratio"]), 4),
                "associated": bool(r["associated"]),
            }
            for r in seen
        ]
        linked.append({"persona": str(persona.get("name", "")), "roles": names, "evidence": evidence})
    return linked


def _with_roles(tables: Tables, closed: pd.DataFrame) -> pd.DataFrame:
    """People with a role on these opportunities; the role on the opportunity counts, else that of the contact."""
    people, contacts = tables.get("opportunity_contacts"), tables.get("contacts")
    if people is None or people.empty:
        return pd.DataFrame({"opportunity_id": pd.Series(dtype="str"), "role": pd.Series(dtype="str")})
    if contacts is not None and len(contacts):
        by_contact = contacts.drop_duplicates("contact_id").set_index("contact_id")["role"]
        people = people.assign(role=people["role"].fillna(people["contact_id"].map(by_contact)))
    return people[people["role"].notna() & people["opportunity_id"].isin(closed["opportunity_id"])]
