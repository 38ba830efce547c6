"""Cases of the bad-input catalogue that need another kind of file, a native export, or accounts that are one organisation."""

from __future__ import annotations

from tests.catalogue.case import ACCS, OPPS, Case, Said, again, all_of, cells, column, dropped, other, settings
from tests.catalogue.native import (
    LATER,
    account,
    archive,
    deal,
    kept_as,
    packed,
    salesforce,
    second_file,
    sheet,
    short_id,
    with_parts,
)
from tests.catalogue.workspace import Row, Workspace

NATIVE = ("ICP-R026", "ICP-R059")  # how columns were read; the planned close date of an open opportunity
GZ, ZIP, XLSX = "opportunities.csv.gz", "opportunities.zip", "opportunities.xlsx"
BOTH_FILES = '[sources.opportunities]\nfile = "opportunities*.csv"'
ANSWERS = "account_id_1,account_id_2,same\n{},{},{}\n"
LOADED = column(OPPS, "created_at", lambda _: "2024-06-01")
UNDATED = all_of(column(OPPS, "created_at", lambda _: ""), column(OPPS, "closed_at", lambda _: ""))
OLD, OLDER = account(91), account(92)  # accounts merged away
ENCRYPTED = b"\xd0\xcf\x11\xe0" + bytes(600) + "EncryptedPackage".encode("utf-16-le")
LINK = {
    "xl/externalLinks/externalLink1.xml": b"<a/>",
    "xl/externalLinks/_rels/externalLink1.xml.rels": b'<Relationships xmlns="r"><Relationship Id="r" Target="file:///C:/x/Plan.xlsx"/></Relationships>',
}


def _as_text(workspace: Workspace) -> None:
    """The file saved again as text, as the remedy asks."""
    workspace.names.clear()
    workspace.edits.clear()


def _repacked(name: str, make) -> object:
    """The file packed again, whole."""
    return all_of(lambda w: w.edits.clear(), kept_as(name, make))


def _in_sheet(change) -> object:
    return kept_as(XLSX, sheet(lambda book: change(book["Deals"])))


def _row_of(deals, key: str) -> int:
    """The row of a sheet that holds a record."""
    return next(c.row for c in deals["A"] if c.value == key)


def _hide(deals) -> None:
    deals.row_dimensions[_row_of(deals, "O007")].hidden = True


def _merge(deals) -> None:
    row = _row_of(deals, "O007")
    deals.merge_cells(f"B{row}:B{row + 1}")


def _formula(deals) -> None:
    deals[f"F{_row_of(deals, 'O007')}"] = "=1000+0.5"


def _only_hidden(book) -> None:
    book.create_sheet("Empty")
    book["Deals"].sheet_state = "hidden"


def _report(workspace: Workspace) -> None:
    """A report that shows names and leaves the ids out."""
    names = {r["Id"]: r["Name"] for r in workspace.tables[ACCS]}
    rows = workspace.tables[OPPS]
    workspace.tables[OPPS] = [
        {"Opportunity Name": r["Name"], "Account Name": names[r["AccountId"]]}
        | {k: v for k, v in r.items() if k not in ("Id", "Name", "AccountId")}
        for r in rows
    ]


def _ids_are_names(workspace: Workspace) -> None:
    for row in workspace.tables[OPPS]:
        row["Id"] = row["Name"]


def _merged_away(key: str, into: str, name: str) -> object:
    """A deleted account that says which one it was merged into."""
    return again(account(7), ACCS, Id=key, IsDeleted="1", MasterRecordId=into, Name=name)


def _twin_of(number: int, **changed: str) -> object:
    """An account again under another identifier."""

    def act(workspace: Workspace) -> None:
        row: Row = {**workspace.row(ACCS, f"A{number:02d}"), "account_id": "A91", "created_at": "2022-05-05", **changed}
        workspace.tables[ACCS].append(row)

    return act


CASES = (
    Case(
        13,
        "packed file cut off",
        (Said("ICP-E013", fix="copy or export it again"),),
        breaks=kept_as(GZ, lambda d: packed(d)[:-30]),
        mend=_repacked(GZ, packed),
    ),
    Case(
        13,
        "archive cut off",
        (Said("ICP-E013", fix="copy or export it again"),),
        breaks=kept_as(ZIP, lambda d: archive("deals.csv")(d)[:-30]),
        mend=_repacked(ZIP, archive("deals.csv")),
    ),
    Case(
        13,
        "archive of two files",
        (Said("ICP-E013", fix="pack each on its own"),),
        breaks=kept_as(ZIP, archive("deals.csv", "more.csv")),
        mend=_repacked(ZIP, archive("deals.csv")),
    ),
    Case(
        13,
        "archive that leads out of its folder",
        (Said("ICP-E013", fix="pack the file anew"),),
        breaks=kept_as(ZIP, archive("../deals.csv")),
        mend=_repacked(ZIP, archive("deals.csv")),
    ),
    Case(
        13,
        "archive that unpacks to far more than it should",
        (Said("ICP-E013", fix="unpack it by hand"),),
        breaks=kept_as(GZ, lambda d: packed(d + b"\n" * 1_000_000)),
        mend=_repacked(GZ, packed),
        patch=(("icplab.intake.sources.packed.SURELY_SMALL", 100_000),),
    ),
    Case(
        15,
        "workbook with a password",
        (Said("ICP-E015", fix="save it without one"),),
        breaks=kept_as(XLSX, lambda _: ENCRYPTED),
        mend=_repacked(XLSX, sheet()),
    ),
    Case(
        15,
        "workbook with macros",
        (Said("ICP-E015", fix="without macros"),),
        breaks=kept_as(XLSX, with_parts({"xl/vbaProject.bin": b"x"})),
        mend=_repacked(XLSX, sheet()),
    ),
    Case(
        15,
        "workbook that takes values from another",
        (Said("ICP-E015", fix="Break Link"),),
        breaks=kept_as(XLSX, with_parts(LINK)),
        mend=_repacked(XLSX, sheet()),
    ),
    Case(
        15,
        "workbook of the kind that holds macros",
        (Said("ICP-E015", fix="without macros"),),
        breaks=all_of(kept_as("deals.xlsm", sheet()), settings('[sources.opportunities]\nfile = "deals.xlsm"')),
        mend=all_of(_as_text, lambda w: setattr(w, "settings", "")),
    ),
    Case(
        16,
        "hidden row",
        (Said("ICP-W016", line=8, fix="show it"),),
        breaks=_in_sheet(_hide),
        twin=lambda w: None,
    ),
    Case(
        16,
        "hidden column",
        (Said("ICP-W016", fix="show it"),),
        breaks=_in_sheet(lambda deals: setattr(deals.column_dimensions["G"], "hidden", True)),
        twin=lambda w: None,
    ),
    Case(
        16,
        "table on a hidden sheet only",
        (Said("ICP-E016", fix="sheet ="),),
        breaks=kept_as(XLSX, sheet(_only_hidden)),
        mend=_repacked(XLSX, sheet()),
    ),
    Case(
        16,
        "several sheets with records",
        (Said("ICP-E016", fix='sheet = "Deals"'),),
        breaks=kept_as(XLSX, sheet(lambda book: None, "Old deals")),
        mend=settings('[sources.opportunities]\nfile = "opportunities.xlsx"\nsheet = "Deals"'),
    ),
    Case(
        16,
        "merged cells",
        (Said("ICP-E016", line=8, fix="unmerge"),),
        breaks=_in_sheet(_merge),
        mend=_repacked(XLSX, sheet()),
        shuffles=False,
    ),
    Case(
        16,
        "formula without its value",
        (Said("ICP-E016", line=8, fix="open it in Excel, save it"),),
        breaks=_in_sheet(_formula),
        mend=_repacked(XLSX, sheet()),
        shuffles=False,
    ),
    Case(
        28,
        "column of a native export that is no trait",
        (Said("ICP-R028", fix="map those wanted"),),
        before=salesforce,
        always=NATIVE,
        breaks=lambda w: [r.update(LastViewedDate="2025-07-03") for r in w.tables[OPPS]],
    ),
    Case(
        36,
        "two files by the name of one table",
        (Said("ICP-E036", fix="keep one", file="opportunities.csv, opportunities.tsv"),),
        breaks=second_file("opportunities.tsv", "O007"),
        mend=lambda w: w.others.clear(),
    ),
    Case(
        36,
        "two files that say different things of one record",
        (
            Said("ICP-Q036", column="opportunity_id", at="O007", fix="modified date"),
            Said("ICP-Q036", column="opportunity_id", at="*1", fix="modified date", file="opportunities_2.csv"),
        ),
        before=settings(BOTH_FILES),
        breaks=second_file("opportunities_2.csv", "O007", amount="1"),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        36,
        "newer version of a record in a second file",
        (Said("ICP-R036", column="opportunity_id", at=deal(7)),),
        before=salesforce,
        always=NATIVE,
        breaks=second_file("Opportunity_2.csv", deal(7), Amount="4321", LastModifiedDate=LATER),
        twin=cells(OPPS, deal(7), Amount="4321"),
        ledger=(("duplicate", 1),),
    ),
    Case(
        38,
        "ids of 15 characters among those of 18",
        (Said("ICP-R038", column="account_id", at=deal(7)),),
        before=salesforce,
        always=NATIVE,
        breaks=cells(OPPS, deal(7), AccountId=short_id("001", 8)),
    ),
    Case(
        39,
        "id whose letters were changed",
        (Said("ICP-E039", column="account_id", at=deal(7), fix="do not change their case"),),
        before=salesforce,
        always=NATIVE,
        breaks=cells(OPPS, deal(7), AccountId=account(8).upper()),
        mend=cells(OPPS, deal(7), AccountId=account(8)),
        ledger=(("quarantined", 1),),
    ),
    Case(
        44,
        "report without ids",
        (
            Said("ICP-R044", column="opportunity_id", at="*1", count=120),
            Said("ICP-R044", column="account_id", at="*1", count=120),
        ),
        before=salesforce,
        always=NATIVE,
        breaks=_report,
        twin=_ids_are_names,
    ),
    Case(
        45,
        "record merged into another",
        (
            Said("ICP-R045", table=ACCS, at=OLD),
            Said("ICP-R045", column="account_id", at=deal(7)),
        ),
        before=salesforce,
        always=NATIVE,
        breaks=all_of(_merged_away(OLD, account(8), "Old"), cells(OPPS, deal(7), AccountId=OLD)),
        table=ACCS,
        ledger=(("quarantined", 1),),
    ),
    Case(
        45,
        "mergers in a circle",
        (
            Said("ICP-E045", column="account_id", table=ACCS, at=OLD, fix="break the loop", count=2),
            Said("ICP-R045", table=ACCS, at=OLD, count=2),
        ),
        before=salesforce,
        always=NATIVE,
        breaks=all_of(_merged_away(OLD, OLDER, "Old"), _merged_away(OLDER, OLD, "Older")),
        mend=dropped(OLD, OLDER, table=ACCS),
        table=ACCS,
        ledger=(("quarantined", 2),),
    ),
    Case(
        46,
        "account twice, without a doubt",
        (Said("ICP-R046", column="name", table=ACCS, fix="write no in its row"),),
        breaks=all_of(_twin_of(7), cells(OPPS, "O006", account_id="A91")),
        table=ACCS,
        ledger=(("duplicate", 1),),
    ),
    Case(
        46,
        "account twice, perhaps",
        (Said("ICP-W046", column="name", table=ACCS, fix="answer yes, no or group"),),
        breaks=_twin_of(7, name="Gabriana Freight Spain", country="Spain"),
        table=ACCS,
    ),
    Case(
        46,
        "answer about an account that is not there",
        (Said("ICP-E046", file="duplicates.csv", column="account_id_2", at="*1", fix="correct it"),),
        breaks=other("duplicates.csv", ANSWERS.format("A07", "A99", "yes")),
        mend=lambda w: w.others.clear(),
    ),
    Case(
        46,
        "answer that is none",
        (Said("ICP-E046", file="duplicates.csv", column="same", at="*1", fix="yes, no or group"),),
        breaks=other("duplicates.csv", ANSWERS.format("A07", "A08", "maybe")),
        mend=other("duplicates.csv", ANSWERS.format("A07", "A08", "no")),
    ),
    Case(
        56,
        "day of the load instead of the day of creation",
        (Said("ICP-W056", column="created_at", fix="dated = false", count=82),),
        breaks=LOADED,
        twin=all_of(UNDATED, settings("[sources.opportunities]\ndated = false")),
    ),
)
