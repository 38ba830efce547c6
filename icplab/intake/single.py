"""Reads one file of accounts in any layout that a run reads, makes its records under canonical names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from icplab.core.config import Settings, Source
from icplab.core.errors import BadInput, Problem
from icplab.core.schema import CANONICAL
from icplab.intake.checks import check_rows
from icplab.intake.files import InputFile, refusal_of
from icplab.intake.identity import settle_identity
from icplab.intake.layouts import Native, header_of, recognise
from icplab.intake.layouts.recognise import is_canonical
from icplab.intake.mapping import build_batch, expected_names
from icplab.intake.outline import outline
from icplab.intake.sources import Connections, read_content
from icplab.intake.typed import type_batch

ACCOUNTS = "accounts"
_TABLE = CANONICAL[ACCOUNTS]
# Nothing but its id is asked of an account that is only scored.
TABLE = replace(_TABLE, columns=tuple(replace(c, required=c.name == "account_id") for c in _TABLE.columns))


def read_accounts(path: Path, settings: Settings | None = None) -> tuple[pd.DataFrame, list[Problem]]:
    """Accounts of a file outside a workspace: a CSV of any delimiter and encoding, a workbook, a Salesforce or HubSpot export.

    Parameters
    ----------
    path : the file
    settings : of a workspace, whose mapping of the accounts table is used; without them columns are found by their names

    Returns
    -------
    Records that can be used, canonical columns typed and further ones as text, and what was noted about the others.

    Raises
    ------
    BadInput
        The file cannot be opened or read, or holds no column of account ids.
    """
    settings = settings or Settings()
    if problem := refusal_of(path.parent, path):
        raise BadInput(problem)
    file = InputFile(ACCOUNTS, path, path.name, settings.source(ACCOUNTS) or Source(), _native(path))
    problems: list[Problem] = []
    expected = expected_names(ACCOUNTS, settings, file.native)
    with Connections(settings) as connections:
        content = read_content(path, file.name, ACCOUNTS, file.source, expected, connections, problems)
    sheet = outline(content.records, file.name, expected, problems)
    content.check(sheet, file.name, problems)
    batch = build_batch(TABLE, [(file.name, sheet)], settings, problems, [file.native])
    if batch is None:
        raise BadInput([p for p in problems if p.outcome == "E"] or problems)
    batch.iso_dates = bool(sheet.iso_dates)
    settle_identity(batch, {}, [file.native])
    type_batch(batch, settings)
    check_rows(batch, settings)
    problems += batch.problems
    if stops := [p for p in problems if p.outcome == "E"]:
        raise BadInput(stops)
    there = [c for c in batch.frame if c in batch.text]  # typing adds those that the file lacks
    return batch.frame.loc[batch.live, there].reset_index(drop=True), problems


def _native(path: Path) -> Native | None:
    """The CRM's layout of accounts, where the header says so."""
    header = header_of(path)
    if not header or is_canonical(header, ACCOUNTS):
        return None
    seen = recognise(header, path.name)
    kinds = (seen.found,) if seen.found else seen.rivals
    fits = [Native(kind, feed) for kind in kinds for feed in kind.feeds if feed.table == ACCOUNTS]
    return fits[0] if fits else None
