"""Reads the clean workspace of the catalogue, makes it what Salesforce exports, or a file of another kind."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Callable

import pandas as pd

from icplab.intake.identity import full_ids
from tests.catalogue.case import ACCS, OPPS, Change
from tests.catalogue.workspace import Row, Workspace
from tests.made_sources import sheet_of, workbook

ACCOUNT_FILE, OPPORTUNITY_FILE = "Account.csv", "Opportunity.csv"
STAGE_OF = {"won": "Closed Won", "lost": "Closed Lost", "open": "Prospecting"}
EARLIER, LATER = "2025-07-01T08:00:00.000+0000", "2025-07-02T08:00:00.000+0000"


def short_id(prefix: str, number: int) -> str:
    """A 15-character id; `aB` gives it letters in both cases."""
    return f"{prefix}C00000aB{number:04d}"


def long_id(prefix: str, number: int) -> str:
    """The 18-character form of `short_id`."""
    return str(full_ids(pd.Series([short_id(prefix, number)], dtype="str")).iloc[0])


def account(number: int) -> str:
    return long_id("001", number)


def deal(number: int) -> str:
    return long_id("006", number)


def _number(key: str) -> int:
    return int(key[1:])


def _account(row: Row) -> Row:
    parent = row["parent_account_id"]
    return {
        "Id": account(_number(row["account_id"])),
        "IsDeleted": "0",
        "MasterRecordId": "",
        "Name": row["name"],
        "Website": row["domain"],
        "Industry": row["industry"],
        "NumberOfEmployees": row["employees"],
        "ParentId": account(_number(parent)) if parent else "",
        "BillingCountry": row["country"],
        "CreatedDate": row["created_at"],
        "LastModifiedDate": EARLIER,
    }


def _opportunity(row: Row) -> Row:
    over = row["status"] != "open"
    return {
        "Id": deal(_number(row["opportunity_id"])),
        "IsDeleted": "0",
        "AccountId": account(_number(row["account_id"])),
        "Name": f"Deal {row['opportunity_id'][1:]}",
        "StageName": STAGE_OF[row["status"]],
        "IsClosed": str(int(over)),
        "IsWon": str(int(row["status"] == "won")),
        "Amount": row["amount"],
        "CloseDate": row["closed_at"] or "2025-12-31",
        "LeadSource": row["source"],
        "CreatedDate": row["created_at"],
        "LastModifiedDate": EARLIER,
    }


def salesforce(workspace: Workspace) -> None:
    """The same business as two objects of a Salesforce data export."""
    workspace.tables = {
        ACCS: [_account(r) for r in workspace.tables[ACCS]],
        OPPS: [_opportunity(r) for r in workspace.tables[OPPS]],
    }
    workspace.names = {ACCS: ACCOUNT_FILE, OPPS: OPPORTUNITY_FILE}


def second_file(name: str, key: str, **cells: str) -> Change:
    """A further file of opportunities: one record of the first again, with cells changed."""

    def act(workspace: Workspace) -> None:
        row = {**workspace.row(OPPS, key), **cells}
        out = io.StringIO()
        writer = csv.DictWriter(out, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
        workspace.others[name] = out.getvalue().encode()

    return act


def kept_as(name: str, make: Callable[[bytes], bytes]) -> Change:
    """The opportunities in a file of another kind, made from the text."""

    def act(workspace: Workspace) -> None:
        workspace.names[OPPS] = name
        workspace.edits.append((name, make))

    return act


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def archive(*names: str) -> Callable[[bytes], bytes]:
    """A zip file that holds the text under each of these names."""

    def make(data: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
            for name in names:
                target.writestr(name, data)
        return stream.getvalue()

    return make


def sheet(change: Callable[[object], object] = lambda book: None, *others: str) -> Callable[[bytes], bytes]:
    """A workbook that holds the text as a sheet called Deals, again under further names, changed before it is saved."""

    def make(data: bytes) -> bytes:
        rows = sheet_of(data.decode())
        return workbook(("Deals", rows), *((name, rows[:9]) for name in others), change=change)

    return make


def with_parts(parts: dict[str, bytes]) -> Callable[[bytes], bytes]:
    """A workbook with further parts, such as macros."""

    def make(data: bytes) -> bytes:
        stream = io.BytesIO(sheet()(data))
        with zipfile.ZipFile(stream, "a") as target:
            for name, content in parts.items():
                target.writestr(name, content)
        return stream.getvalue()

    return make
