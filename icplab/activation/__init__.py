"""Reads scores, accounts and the playbook, makes files that a CRM, an ads platform and the teams take in as they are.

Every row carries its as-of date and model version, every file its row count and hash in `files.json`. Text that a spreadsheet
or a CRM could take for a formula is made harmless and counted; identifiers are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from icplab.activation.crm import company_audience, hubspot_companies, people_audience, salesforce_accounts
from icplab.activation.files import no_files, write_index, write_table, write_text
from icplab.activation.found import findings
from icplab.activation.plays import (
    account_plays,
    list_definitions,
    plan_cells,
    territories,
    with_messages,
    with_version,
)
from icplab.activation.routing import routing_rules, write_routing
from icplab.activation.rows import DANGEROUS, make_safe, neutralise, prepare_rows
from icplab.activation.scorecard import card, chance_by_points, write_scorecard
from icplab.core.config import Settings
from icplab.core.model import RANKED, Model

__all__ = [
    "DANGEROUS",
    "Activation",
    "card",
    "findings",
    "hubspot_companies",
    "list_definitions",
    "neutralise",
    "plan_cells",
    "prepare_rows",
    "routing_rules",
    "salesforce_accounts",
    "territories",
    "write_files",
]


@dataclass(frozen=True)
class Activation:
    """What was written.

    Attributes
    ----------
    files : one row per file: file, what, rows, sha256, note
    cells : one row per segment × tier × intent in use: accounts, play, steps, owner, sla_days (empty: nothing planned)
    unsafe : text values made harmless, by column
    refused : accounts left out because their identifier itself looks like a formula
    usable : False when there are no tiers, and therefore no files
    """

    files: pd.DataFrame
    cells: pd.DataFrame
    unsafe: dict[str, int]
    refused: int
    usable: bool


def write_files(
    scores: pd.DataFrame,
    accounts: pd.DataFrame,
    account_segments: pd.DataFrame,
    model: Model,
    settings: Settings,
    folder: Path,
    *,
    owners: pd.DataFrame | None = None,
    contacts: pd.DataFrame | None = None,
    extra: Mapping[str, tuple[str, pd.DataFrame | str]] | None = None,
) -> Activation:
    """Write the activation files of a run.

    Parameters
    ----------
    scores, account_segments : artefacts
    accounts : account table; reads account_id, name, domain, linkedin_url, owner, is_customer
    model : the frozen model; without a usable ranking only `files.json` is written, and says so
    settings : reads the playbook and [privacy] contacts
    folder : made when it is not there; files of the same name are replaced
    owners : canonical table; reads owner and capacity
    contacts : canonical table; read only when [privacy] contacts is true, and then written as hashes of addresses
    extra : further files of other steps, such as the assigner of segments: name to what it is and its table or text. They are
        written without a usable ranking too

    Returns
    -------
    Activation

    Notes
    -----
    `hs_is_target_account` is true for tiers 1 and 2, false below, and blank (which is not false) where nothing is known.
    One in HOLD_OUT target accounts is held out by a hash of its id, the same one every quarter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, unsafe, refused = prepare_rows(scores, accounts, account_segments, model)
    cells = plan_cells(rows, settings.playbook)
    more = [f for name, (what, content) in (extra or {}).items() for f in _write_extra(name, what, content, folder)]
    if not model.usable or not rows["tier"].isin(RANKED).any():
        files = pd.DataFrame(more).sort_values("file", ignore_index=True) if more else no_files()
        write_index(files, model, folder, usable=False)
        return Activation(files, cells, unsafe, refused, False)
    tables = {
        "hubspot_companies.csv": ("HubSpot company import", hubspot_companies(rows)),
        "salesforce_accounts.csv": ("Salesforce Account update", salesforce_accounts(rows)),
        "linkedin_companies.csv": (
            "LinkedIn company audience: tiers 1 and 2 without the hold-out",
            company_audience(rows),
        ),
        "territories.csv": ("accounts by seller and tier, against capacity", territories(rows, owners)),
        "account_plays.csv": ("play per account", account_plays(rows, cells)),
        "plays.csv": (
            "what each segment, tier and intent gets",
            with_version(with_messages(cells, settings.playbook), rows),
        ),
        "lists.csv": (
            "list definitions: filters, so that lists fill themselves",
            with_version(list_definitions(rows), rows),
        ),
        "probability_by_points.csv": (
            "win probability of every total of points",
            with_version(chance_by_points(model), rows),
        ),
        "points.csv": ("the scorecard, to apply by hand or by formula", with_version(make_safe(card(model)), rows)),
    }
    if settings.privacy.contacts and contacts is not None and len(contacts):
        tables["contact_audience.csv"] = (
            "hashed addresses of people in tiers 1 and 2",
            people_audience(rows, contacts),
        )
    written = [f for name, (what, t) in tables.items() for f in write_table(t, name, what, folder)]
    written += [*write_scorecard(model, folder), write_routing(routing_rules(cells), model, folder)]
    files = pd.DataFrame([*written, *more])
    files = files.sort_values("file", ignore_index=True)
    write_index(files, model, folder, usable=True)
    return Activation(files, cells, unsafe, refused, True)


def _write_extra(name: str, what: str, content: pd.DataFrame | str, folder: Path) -> list[dict]:
    if isinstance(content, str):
        return [write_text(content, name, what, "", folder)]
    return write_table(make_safe(content), name, what, folder)
