"""Reads what was written, makes findings: files, text made harmless, cells without a play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from icplab.activation.plays import list_of
from icplab.core.findings import Finding

if TYPE_CHECKING:
    from icplab.activation import Activation

STEP = "60_activation"


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
    if not list_of(playbook, "plays"):
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
