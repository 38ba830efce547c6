"""Reads scores, accounts and the playbook, makes files that a CRM, an ads platform and the teams take in as they are.

Every row carries its as-of date and model version, every file its row count and hash in `files.json`. Text that a spreadsheet
or a CRM could take for a formula is made harmless and counted; identifiers are never changed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.model import RANKED, Model, points_table
from icplab.core.store import sha256_of

STEP = "60_activation"
TARGETS = ("tier_1", "tier_2")  # what sales and ads aim at
HOLD_OUT = 10  # one in so many target accounts stays in business as usual, so that later lift can be measured
INTENT_HIGH = 50.0  # intent score from which an account counts as in the market now
MAX_ROWS = 1_000_000  # rows per file; HubSpot takes 1,048,576 with the header
REASONS_SHOWN = 3
MAX_REASON = 255  # characters of a Salesforce text field
LINKEDIN_MINIMUM = 300  # rows of a company list that LinkedIn accepts
# Leading characters that spreadsheets and imports read as the start of a formula (OWASP CSV injection), full-width ones too.
DANGEROUS = "=+-@\t\r\n＝＋－＠"
CONTROL = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\r\\n\\t]+"


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

    Returns
    -------
    Activation

    Notes
    -----
    `hs_is_target_account` is true for tiers 1 and 2, false below, and blank (which is not false) where nothing is known.
    One in HOLD_OUT target accounts is held out by a hash of its id, the same one every quarter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, unsafe, refused = _prepare(scores, accounts, account_segments, model)
    cells = plan_cells(rows, settings.playbook)
    if not model.usable or not rows["tier"].isin(RANKED).any():
        files = _no_files()
        _write_index(files, model, folder, usable=False)
        return Activation(files, cells, unsafe, refused, False)
    tables = {
        "hubspot_companies.csv": ("HubSpot company import", _hubspot(rows)),
        "salesforce_accounts.csv": ("Salesforce Account update", _salesforce(rows)),
        "linkedin_companies.csv": ("LinkedIn company audience: tiers 1 and 2 without the hold-out", _audience(rows)),
        "territories.csv": ("accounts by seller and tier, against capacity", territories(rows, owners)),
        "account_plays.csv": ("play per account", _account_plays(rows, cells)),
        "plays.csv": (
            "what each segment, tier and intent gets",
            _with_version(_with_messages(cells, settings.playbook), rows),
        ),
        "lists.csv": (
            "list definitions: filters, so that lists fill themselves",
            _with_version(list_definitions(rows), rows),
        ),
        "points.csv": ("the scorecard, to apply by hand or by formula", _with_version(_safe(card(model)), rows)),
    }
    if settings.privacy.contacts and contacts is not None and len(contacts):
        tables["contact_audience.csv"] = ("hashed addresses of people in tiers 1 and 2", _people(rows, contacts))
    files = pd.DataFrame([f for name, (what, t) in tables.items() for f in _write(t, name, what, folder)])
    files = files.sort_values("file", ignore_index=True)
    _write_index(files, model, folder, usable=True)
    return Activation(files, cells, unsafe, refused, True)


def plan_cells(rows: pd.DataFrame, playbook: Mapping) -> pd.DataFrame:
    """One row per segment × tier × intent that holds accounts, with the most specific play of the playbook.

    A play covers a cell when its tier, segment (id or name), intent and motion are the cell's or `any`; the one naming most
    of them wins, the earlier one among equals.
    """
    keys = ["segment_id", "segment", "tier", "intent", "motion"]
    ranked = rows[rows["tier"].isin(RANKED)]
    cells = ranked.groupby(keys, observed=True).size().rename("accounts").reset_index()
    plays = [p for p in _list_of(playbook, "plays") if p.get("play")]
    chosen = [_best_play(cell, plays) for cell in cells.to_dict("records")]
    for column in ("play", "owner", "steps", "sla_days"):
        cells[column] = pd.Series([_text(p.get(column)) for p in chosen], index=cells.index, dtype="str")
    return cells.sort_values(keys, ignore_index=True)


def territories(rows: pd.DataFrame, owners: pd.DataFrame | None) -> pd.DataFrame:
    """One row per seller: accounts by tier, expected value, capacity and whether it is exceeded by tiers 1 and 2."""
    by_owner = rows.assign(owner=rows["owner"].fillna("(nobody)"))
    counts = pd.crosstab(by_owner["owner"], by_owner["tier"]).reindex(columns=list(RANKED), fill_value=0)
    table = counts.rename_axis("owner", axis=0).rename_axis(None, axis=1).reset_index()
    worth = by_owner[by_owner["tier"].isin(TARGETS)].groupby("owner")["expected_value"].sum().round(2)
    table["expected_value"] = table["owner"].map(worth).fillna(0.0)
    capacity = (
        owners.set_index("owner")["capacity"] if owners is not None and len(owners) else pd.Series(dtype="float64")
    )
    table["capacity"] = table["owner"].map(capacity)
    load = table["tier_1"] + table["tier_2"]
    table["over_capacity"] = np.where(table["capacity"].isna(), "", np.where(load > table["capacity"], "yes", "no"))
    return _with_version(table, rows)


def list_definitions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per list: its name, the filter as HubSpot and Salesforce would hold it, and how many accounts it holds now."""
    found = []
    for tier in RANKED:
        inside = rows[rows["tier"] == tier]
        found.append((tier, f'hs_ideal_customer_profile is any of "{tier}"', f"ICP_Tier__c = '{tier}'", len(inside)))
        for segment, part in inside.groupby("segment_id"):
            hubspot = f'hs_ideal_customer_profile is any of "{tier}" AND icp_segment is "{segment}"'
            salesforce = f"ICP_Tier__c = '{tier}' AND ICP_Segment__c = '{segment}'"
            found.append((f"{tier} in {segment}", hubspot, salesforce, len(part)))
    now = rows[rows["tier"].isin(TARGETS) & (rows["intent_score"] >= INTENT_HIGH)]
    hubspot = f'hs_ideal_customer_profile is any of "tier_1", "tier_2" AND icp_intent_score >= {INTENT_HIGH:g}'
    salesforce = f"ICP_Tier__c IN ('tier_1', 'tier_2') AND ICP_Intent_Score__c >= {INTENT_HIGH:g}"
    found.append(("right now", hubspot, salesforce, len(now)))
    return pd.DataFrame(found, columns=["list", "hubspot_filter", "salesforce_filter", "accounts"])


def card(model: Model) -> pd.DataFrame:
    """The scorecard of accounts, how points become a probability, and the tier cut points: to apply by hand or by formula."""
    points = points_table(model)
    intercept, slope = model.calibration
    rest = [("probability: 1 / (1 + exp(-(a + b x points)))", "a", intercept), ("", "b", slope)]
    rest += [(f"{tier} from expected value", "", cut) for tier, cut in model.cuts.items()]
    return pd.concat([points, pd.DataFrame(rest, columns=["input", "level", "points"])], ignore_index=True)


def neutralise(values: pd.Series) -> tuple[pd.Series, int]:
    """Text without leading characters that start a formula and without control characters; and how many values had any.

    A quote mark in front, as spreadsheets use it, would become part of the name in a CRM; the characters are taken away.
    """
    clean = values.str.replace(CONTROL, " ", regex=True).str.lstrip(DANGEROUS + " ").str.rstrip()
    dangerous = values.notna() & (values.str.lstrip(" ").str[:1].isin(list(DANGEROUS)))
    return clean.where(values.notna()), int(dangerous.sum())


def findings(result: Activation, playbook: Mapping) -> list[Finding]:
    """What was written, what was made harmless, and which cells have no play."""
    if not result.usable:
        return [
            Finding(
                "files-written",
                STEP,
                "info",
                "files",
                "No file was written: there are no tiers to act on.",
                {"files": 0},
                action="See the tiers step for what is missing.",
            )
        ]
    rows = int(result.files["rows"].sum())
    found = [
        Finding(
            "files-written",
            STEP,
            "info",
            "files",
            f"{len(result.files)} files with {rows:,} rows were written; files.json holds their row counts and hashes.",
            {"files": len(result.files), "rows": rows},
            action="Import them, then mark the import date in the CRM.",
        )
    ]
    found += _unsafe_findings(result)
    return [*found, *_coverage_findings(result.cells, playbook)]


def _prepare(
    scores: pd.DataFrame, accounts: pd.DataFrame, account_segments: pd.DataFrame, model: Model
) -> tuple[pd.DataFrame, dict[str, int], int]:
    """Scores with what the files need to know about each account, text made harmless."""
    about = accounts[["account_id", "name", "domain", "linkedin_url", "owner", "is_customer"]]
    rows = scores.merge(about, on="account_id").merge(
        account_segments[["account_id", "segment"]], on="account_id", how="left"
    )
    rows = rows.sort_values("account_id", ignore_index=True)
    dangerous_id = rows["account_id"].str[:1].isin(list(DANGEROUS))
    rows = rows[~dangerous_id].reset_index(drop=True)
    unsafe: dict[str, int] = {}
    for column in ("name", "domain", "linkedin_url", "owner", "segment"):
        rows[column], count = neutralise(rows[column].astype("str"))
        unsafe |= {column: count} if count else {}
    held = pd.util.hash_array(rows["account_id"].to_numpy(dtype=object)) % HOLD_OUT == 0
    rows["hold_out"] = pd.Series(np.where(rows["tier"].isin(TARGETS), np.where(held, "yes", "no"), ""), dtype="str")
    rows["intent"] = _intent_level(rows["intent_score"])
    rows["why"] = _why(rows["reasons"])
    rows["as_of"] = model.as_of
    rows["model_version"] = model.version
    return rows, unsafe, int(dangerous_id.sum())


def _intent_level(score: pd.Series) -> pd.Series:
    level = np.where(score.isna(), "unknown", np.where(score >= INTENT_HIGH, "high", "low"))
    return pd.Series(level, index=score.index, dtype="str")


def _why(reasons: pd.Series) -> pd.Series:
    """The strongest reasons in words, each distinct list rendered once."""
    rendered = {text: _sentence(json.loads(text)) for text in reasons.dropna().unique()}
    words, _ = neutralise(reasons.map(rendered).astype("str"))
    return words


def _sentence(reasons: list[dict]) -> str:
    lines = [r for r in reasons if r["trait"] != "base" and r["points"]]
    lines = sorted(lines, key=lambda r: (-abs(r["points"]), r["trait"]))[:REASONS_SHOWN]
    return "; ".join(f"{r['trait']} {r['level']} ({r['points']:+d})" for r in lines)[:MAX_REASON]


def _hubspot(rows: pd.DataFrame) -> pd.DataFrame:
    ranked, known = rows["tier"].isin(RANKED), rows["tier"] != "insufficient"
    target = np.where(~known, "", np.where(rows["tier"].isin(TARGETS), "true", "false"))
    return pd.DataFrame(
        {
            "Record ID": rows["account_id"],
            "name": rows["name"],
            "domain": rows["domain"],
            "hs_ideal_customer_profile": rows["tier"].where(ranked, ""),
            "hs_is_target_account": target,
            "icp_segment": rows["segment_id"],
            "icp_segment_name": rows["segment"],
            "icp_fit_score": rows["fit_score"],
            "icp_intent_score": rows["intent_score"],
            "icp_win_probability": rows["win_probability"],
            "icp_expected_value": rows["expected_value"],
            "icp_reasons": rows["why"],
            "icp_hold_out": rows["hold_out"],
            "icp_as_of": rows["as_of"],
            "icp_model_version": rows["model_version"],
        }
    )


def _salesforce(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Id": rows["account_id"],
            "ICP_Tier__c": rows["tier"],
            "ICP_Segment__c": rows["segment_id"],
            "ICP_Fit_Score__c": rows["fit_score"],
            "ICP_Intent_Score__c": rows["intent_score"],
            "ICP_Win_Probability__c": rows["win_probability"],
            "ICP_Expected_Value__c": rows["expected_value"],
            "ICP_Reasons__c": rows["why"],
            "ICP_Hold_Out__c": rows["hold_out"],
            "ICP_As_Of__c": rows["as_of"],
            "ICP_Model_Version__c": rows["model_version"],
        }
    )


def _audience(rows: pd.DataFrame) -> pd.DataFrame:
    """Company list: headers as in LinkedIn's template. Customers belong to success, not to ads."""
    aimed = rows["tier"].isin(TARGETS) & (rows["hold_out"] != "yes") & ~rows["is_customer"].fillna(False).astype("bool")
    part = rows[aimed & (rows["name"].notna() | rows["domain"].notna())]
    return pd.DataFrame(
        {
            "companyname": part["name"],
            "companywebsite": part["domain"],
            "companypageurl": part["linkedin_url"],
        }
    )


def _people(rows: pd.DataFrame, contacts: pd.DataFrame) -> pd.DataFrame:
    """SHA-256 of lower-cased, trimmed addresses; who opted out is left out."""
    aimed = rows[rows["tier"].isin(TARGETS) & (rows["hold_out"] != "yes")]
    part = contacts[
        contacts["account_id"].isin(aimed["account_id"]) & ~contacts["opted_out"].fillna(False).astype("bool")
    ]
    address = part["email"].dropna().str.strip().str.lower()
    return pd.DataFrame({"email": sorted({hashlib.sha256(a.encode()).hexdigest() for a in address if a})})


def _account_plays(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    keys = ["segment_id", "segment", "tier", "intent", "motion"]
    ranked = rows[rows["tier"].isin(RANKED)].drop(columns="owner", errors="ignore")
    table = ranked.merge(cells.drop(columns="accounts"), on=keys, how="left").sort_values("account_id")
    # The hold-out stays in business as usual: no play.
    held = table["hold_out"] == "yes"
    for column in ("play", "owner", "sla_days"):
        table[column] = table[column].mask(held, "business as usual" if column == "play" else "")
    first = ["account_id", "name", "segment_id", "tier", "intent", "motion"]
    return table[[*first, "play", "owner", "sla_days", "hold_out", "as_of", "model_version"]]


def _with_messages(cells: pd.DataFrame, playbook: Mapping) -> pd.DataFrame:
    """Cells with what the playbook says about their segment."""
    segments = playbook.get("segments", {})
    segments = segments if isinstance(segments, Mapping) else {}
    keys = sorted({k for entry in segments.values() if isinstance(entry, Mapping) for k in entry})
    said = {}
    for key in keys:
        by_id = {s: _text(e.get(key)) for s, e in segments.items() if isinstance(e, Mapping)}
        values = cells["segment_id"].map(by_id).fillna(cells["segment"].map(by_id)).astype("str")
        said[f"segment_{key}"], _ = neutralise(values)
    return cells.assign(**said)


def _safe(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns made harmless: levels come from the data."""
    text = [str(c) for c in table if table[c].dtype == "str" or table[c].dtype == object]
    return table.assign(**{c: neutralise(table[c].astype("str"))[0] for c in text})


def _with_version(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return table.assign(as_of=rows["as_of"].iloc[0], model_version=rows["model_version"].iloc[0])


def _best_play(cell: dict, plays: list[Mapping]) -> Mapping:
    """The most specific play that covers a cell; an empty one when none does."""
    best: Mapping = {}
    best_rank = -1
    for play in plays:
        rank = 0
        for key, own in (
            ("tier", {cell["tier"]}),
            ("segment", {cell["segment_id"], cell["segment"]}),
            ("intent", {cell["intent"]} | ({"low"} if cell["intent"] == "unknown" else set())),
            ("motion", {cell["motion"]}),
        ):
            asked = str(play.get(key, "any") or "any")
            if asked == "any":
                continue
            if asked not in own:
                break
            rank += 1
        else:
            if rank > best_rank:
                best, best_rank = play, rank
    return best


def _list_of(playbook: Mapping, key: str) -> list[Mapping]:
    found = playbook.get(key, [])
    return [p for p in found if isinstance(p, Mapping)] if isinstance(found, list) else []


def _text(value: object) -> str:
    """A playbook value in one cell; made harmless like any other text."""
    if value is None:
        return ""
    joined = " > ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    clean, _ = neutralise(pd.Series([joined], dtype="str"))
    return str(clean.iloc[0])


def _write(table: pd.DataFrame, name: str, what: str, folder: Path) -> list[dict]:
    """Write a table, split where it is longer than an import takes; every cell quoted, typed numbers as they are."""
    parts = range(max(-(-len(table) // MAX_ROWS), 1))
    written = []
    for part in parts:
        file = name if len(parts) == 1 else name.replace(".csv", f"_{part + 1}.csv")
        piece = table.iloc[part * MAX_ROWS : (part + 1) * MAX_ROWS]
        piece.to_csv(
            folder / file, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n", encoding="utf-8", na_rep=""
        )
        note = ""
        if name.startswith("linkedin") and len(table) < LINKEDIN_MINIMUM:
            note = f"fewer than the {LINKEDIN_MINIMUM} rows that LinkedIn accepts"
        written.append(
            {"file": file, "what": what, "rows": len(piece), "sha256": sha256_of(folder / file), "note": note}
        )
    return written


def _no_files() -> pd.DataFrame:
    return pd.DataFrame({"file": [], "what": [], "rows": [], "sha256": [], "note": []}).astype({"rows": "int64"})


def _write_index(files: pd.DataFrame, model: Model, folder: Path, *, usable: bool) -> None:
    content = {
        "as_of": model.as_of,
        "model_version": model.version,
        "verdict": model.verdict,
        "usable": usable,
        "files": files.to_dict("records"),
    }
    (folder / "files.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _unsafe_findings(result: Activation) -> list[Finding]:
    count = sum(result.unsafe.values())
    if not count and not result.refused:
        return []
    where = ", ".join(f"{n:,} in {c}" for c, n in sorted(result.unsafe.items()))
    sentence = f"{count:,} text values began like a formula and were made harmless{f' ({where})' if where else ''}"
    if result.refused:
        sentence += f"; {result.refused:,} accounts were left out because their identifier begins like one"
    return [
        Finding(
            "unsafe-value",
            STEP,
            "watch",
            "text in exports",
            sentence + ".",
            {"values": count, "accounts": result.refused, **result.unsafe},
            action="Correct these fields in the CRM: others export them too.",
        )
    ]


def _coverage_findings(cells: pd.DataFrame, playbook: Mapping) -> list[Finding]:
    """Cells without a play: information where there is no playbook at all."""
    empty = cells[cells["play"] == ""]
    if empty.empty:
        return []
    accounts = int(empty["accounts"].sum())
    numbers = {"cells": len(empty), "accounts": accounts, "of_cells": len(cells)}
    if not _list_of(playbook, "plays"):
        return [
            Finding(
                "uncovered-cell",
                STEP,
                "info",
                "playbook",
                f"There is no playbook: none of the {len(cells)} cells of segment, tier and intent has a play.",
                numbers,
                action="Write plays in playbook.toml; sequences then come with the files.",
            )
        ]
    first = empty.sort_values("accounts", ascending=False, kind="stable").iloc[0]
    name = f"{first['segment_id']}, {first['tier']}, intent {first['intent']}"
    return [
        Finding(
            "uncovered-cell",
            STEP,
            "watch",
            name,
            f"{len(empty)} of {len(cells)} cells have no play; the largest ({name}) holds {int(first['accounts']):,} accounts.",
            numbers,
            action="Add a play for it in playbook.toml, or cover it with segment or intent any.",
        )
    ]
