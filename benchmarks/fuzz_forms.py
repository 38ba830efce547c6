"""Reads rows of cells, makes the files they may come as: CSV, packed CSV, a workbook, exports of Salesforce and HubSpot.

A form says which files a workspace has, how one of them is stored, and what of it can be held against the cells.
"""

from __future__ import annotations

import gzip
import io
import random
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Rows = list[list[str]]
_CLEAN_FLAG = {"1": True, "true": True, "0": False, "false": False, "": False}
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,8})(\.\d{1,4})?")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Form:
    """One way to deliver two tables.

    `files` are the clean rows by file, `tables` what each file is about, `stored` the name and bytes that text is stored as
    (None: as rows, in a workbook), `flags` the columns closed, won of a native layout, `derived` columns that are worked out.
    """

    name: str
    files: Mapping[str, Rows]
    tables: Mapping[str, str]
    pack: Callable[[random.Random, str, bytes], tuple[str, bytes]] | None = None
    sheet: bool = False
    flags: tuple[str, str] = ("", "")
    key: str = ""
    derived: frozenset[str] = field(default_factory=frozenset)


def canonical() -> dict[str, Rows]:
    """Two small tables as rows of cells, header first."""
    accounts = [["account_id", "name", "industry", "employees", "country", "stack"]]
    accounts += [
        [f"A{i}", f"{n} Ltd", "Retail", str(9 * i), "NA", "crm"] for i, n in enumerate(("Oak", "Fjord", "Lumen"), 1)
    ]
    deals = [["opportunity_id", "account_id", "created_at", "closed_at", "status", "amount", "source"]]
    for i in range(1, 9):
        status = ("won", "lost", "open")[i % 3]
        closed = "" if status == "open" else f"2024-0{i}-20"
        deals.append([f"O{i}", f"A{i % 3 + 1}", f"2024-0{i}-{i + 9}", closed, status, str(100 * i), "web"])
    return {"accounts.csv": accounts, "opportunities.csv": deals}


def salesforce() -> dict[str, Rows]:
    """The same as a Data Export has it: 15-character ids, flags, times of day."""
    tables = canonical()
    accounts = [["Id", "Name", "Industry", "NumberOfEmployees", "BillingCountry", "Stack__c", "IsDeleted"]]
    accounts += [[_salesforce_id("001", r[0]), *r[1:], "0"] for r in tables["accounts.csv"][1:]]
    header = ["Id", "AccountId", "CreatedDate", "CloseDate", "StageName", "Amount", "LeadSource", "IsClosed", "IsWon"]
    deals = [header]
    for key, account, created, closed, status, *rest in tables["opportunities.csv"][1:]:
        ids = [_salesforce_id("006", key), _salesforce_id("001", account)]
        stage = {"won": "Closed Won", "lost": "Closed Lost", "open": "Proposal"}[status]
        flags = {"won": ["1", "1"], "lost": ["1", "0"], "open": ["0", "0"]}[status]
        deals.append([*ids, f"{created}T00:00:00.000Z", closed or "2025-01-31", stage, *rest, *flags])
    return {"Account.csv": accounts, "Opportunity.csv": deals}


def hubspot() -> dict[str, Rows]:
    """The same under HubSpot's internal names."""
    tables = canonical()
    accounts = [["hs_object_id", "name", "industry", "numberofemployees", "country", "stack"]]
    accounts += [[f"9{r[0][1:]:0>5}", *r[1:]] for r in tables["accounts.csv"][1:]]
    header = ["hs_object_id", "hs_primary_associated_company", "createdate", "closedate", "dealstage", "amount"]
    deals = [[*header, "deal_source", "hs_is_closed", "hs_is_closed_won", "dealname"]]
    for key, account, created, closed, status, amount, source in tables["opportunities.csv"][1:]:
        stage = {"won": "closedwon", "lost": "closedlost", "open": "presentationscheduled"}[status]
        flags = {"won": ["true", "true"], "lost": ["true", "false"], "open": ["false", "false"]}[status]
        ids = [f"8{key[1:]:0>5}", f"9{account[1:]:0>5}"]
        deals.append([*ids, created, closed or "2025-01-31", stage, amount, source, *flags, f"deal {key}"])
    return {"companies.csv": accounts, "deals.csv": deals}


def workbook(rng: random.Random, rows: Rows) -> tuple[bytes, str]:
    """Rows as a workbook, numbers as numbers now and then; and all that stands in it, as text."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.title = "Data"
    typed = rng.random() < 0.6
    shown = [[_NOT_IN_XML.sub("", cell) for cell in row] for row in rows]
    for row in shown:
        sheet.append([float(c) if typed and _NUMBER.fullmatch(c) else c or None for c in row])
    if rng.random() < 0.3:
        rng.choice(_OF_SHEET)(rng, book)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue(), "\n".join(",".join(row) for row in shown)


def expected_status(form: Form, rows: Rows) -> dict[str, str]:
    """Status by identifier, for the records of a native export that say it without contradiction."""
    header = rows[0] if rows else []
    names = (form.key, *form.flags)
    if not form.key or any(header.count(n) != 1 for n in names):
        return {}
    places = [header.index(n) for n in names]
    told = [[r[p] for p in places] for r in rows[1:] if len(r) == len(header)]
    ids = [key for key, _, _ in told]
    found = {}
    for key, closed, won in told:
        if ids.count(key) == 1 and closed in _CLEAN_FLAG and won in _CLEAN_FLAG:
            state = (_CLEAN_FLAG[closed], _CLEAN_FLAG[won])
            if state != (False, True):
                found[key] = {(True, True): "won", (True, False): "lost", (False, False): "open"}[state]
    return found


def _salesforce_id(prefix: str, key: str) -> str:
    return f"{prefix}Kx000001{key[1:]:0>4}"


def _gzipped(rng: random.Random, name: str, data: bytes) -> tuple[str, bytes]:
    return f"{name}.gz", gzip.compress(data, mtime=0)


def _zipped(rng: random.Random, name: str, data: bytes) -> tuple[str, bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
        if rng.random() < 0.2:
            inside = rng.choice(("__MACOSX/._x", ".DS_Store", "readme.txt", "other.csv", "../up.csv", name))
            archive.writestr(zipfile.ZipInfo(inside if inside != name else f"sub/{name}"), b"a,b\n1,2\n")
    return name.rsplit(".", 1)[0] + ".zip", stream.getvalue()


def _hide_row(rng: random.Random, book) -> None:
    sheet = book.worksheets[0]
    sheet.row_dimensions[rng.randint(1, max(sheet.max_row, 1))].hidden = True


def _hide_column(rng: random.Random, book) -> None:
    book.worksheets[0].column_dimensions[rng.choice("ABCDEFG")].hidden = True


def _merge(rng: random.Random, book) -> None:
    row = rng.randint(1, max(book.worksheets[0].max_row - 1, 1))
    book.worksheets[0].merge_cells(start_row=row, end_row=row + 1, start_column=2, end_column=2)


def _second_sheet(rng: random.Random, book) -> None:
    book.create_sheet(rng.choice(("Notes", "Pivot", "Data (2)")), rng.randint(0, 1)).append(["a", 1])


def _formula(rng: random.Random, book) -> None:
    sheet = book.worksheets[0]
    sheet.cell(rng.randint(2, max(sheet.max_row, 2)), rng.randint(1, 6)).value = "=SUM(1,2)"


def _error(rng: random.Random, book) -> None:
    sheet = book.worksheets[0]
    cell = sheet.cell(rng.randint(2, max(sheet.max_row, 2)), rng.randint(1, 6))
    cell.value, cell.data_type = "#REF!", "e"


_OF_SHEET = (_hide_row, _hide_column, _merge, _second_sheet, _formula, _error)
_CANONICAL = {"accounts.csv": "accounts", "opportunities.csv": "opportunities"}
_WORKED_OUT = frozenset(("status", "type", "account_type", "closed_at", "loss_reason"))
FORMS = (
    Form("csv", canonical(), _CANONICAL),
    Form("gz", canonical(), _CANONICAL, pack=_gzipped),
    Form("zip", canonical(), _CANONICAL, pack=_zipped),
    Form("xlsx", canonical(), _CANONICAL, sheet=True),
    Form(
        "salesforce",
        salesforce(),
        {"Account.csv": "accounts", "Opportunity.csv": "opportunities"},
        flags=("IsClosed", "IsWon"),
        key="Id",
        derived=_WORKED_OUT,
    ),
    Form(
        "hubspot",
        hubspot(),
        {"companies.csv": "accounts", "deals.csv": "opportunities"},
        flags=("hs_is_closed", "hs_is_closed_won"),
        key="hs_object_id",
        derived=_WORKED_OUT,
    ),
)
SHARES = (5, 1, 1, 1, 1, 1)  # of the workspaces, by form
