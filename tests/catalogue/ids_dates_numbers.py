"""Cases 38 to 74 of the bad-input catalogue: identifiers, dates and numbers that cannot be, or cannot be told."""

from __future__ import annotations

import datetime as dt

from tests.catalogue.case import (
    ACCS,
    OPPS,
    Case,
    Said,
    again,
    all_of,
    cells,
    column,
    dropped,
    further,
    other,
    put,
    settings,
    table,
)
from tests.catalogue.workspace import Workspace

TOLERANT = settings("[tolerance]\nquarantine = 0.1")
GERMAN_DATES = '[sources.opportunities]\ndate_format = "%d.%m.%Y"'
PRODUCTS = "product,name,gross_margin\np,Plus,{}\nq,Quick,{}"
RATES = "currency,valid_from,rate\nUSD,2024-01-01,0.9"
DAYS = "opportunity_id,stage,entered_at\n"
EXCEL, EXCEL1904 = dt.date(1899, 12, 30), dt.date(1904, 1, 1)


def _day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def _formatted(form: str) -> object:
    return lambda text: f"{_day(text):{form}}"


def _dates(change) -> object:
    return all_of(column(OPPS, "created_at", change), column(OPPS, "closed_at", change))


def _bulk(workspace) -> None:
    for row in workspace.tables[OPPS][:60]:
        if row["status"] != "open":
            row["closed_at"] = "2024-12-31"


def _early(workspace) -> None:
    """Days of the month up to the twelfth only, so that nothing tells day from month."""
    for row in workspace.tables[OPPS]:
        for name in ("created_at", "closed_at"):
            if row[name]:
                row[name] = row[name][:8] + f"{int(row[name][8:]) % 12 + 1:02d}"
        if row["closed_at"] and row["closed_at"] < row["created_at"]:
            row["closed_at"] = row["created_at"]


CASES = (
    Case(
        40,
        "identifier in scientific notation",
        (Said("ICP-E040", column="opportunity_id", at="1.23E+17", fix="without opening the file in a spreadsheet"),),
        each=put(opportunity_id="1.23E+17"),
        ledger=(("quarantined", 1),),
        rows_change=False,  # several would share their identifier
    ),
    Case(
        41,
        "identifiers as decimal numbers",
        (
            Said("ICP-R041", column="account_id", at="O001", count=120),
            Said("ICP-R041", column="account_id", at="1.0", count=24, table=ACCS),
        ),
        before=all_of(
            column(ACCS, "account_id", lambda t: t[1:].lstrip("0")),
            column(ACCS, "parent_account_id", lambda t: t[1:].lstrip("0")),
            column(OPPS, "account_id", lambda t: t[1:].lstrip("0")),
        ),
        breaks=all_of(column(ACCS, "account_id", lambda t: t + ".0"), column(OPPS, "account_id", lambda t: t + ".0")),
        shuffles=False,
    ),
    Case(
        42,
        "identical record again",
        (Said("ICP-R042", at="*121"),),
        breaks=again(),
        ledger=(("duplicate", 1),),
        shuffles=False,
    ),
    Case(
        42,
        "identical records kept as separate facts",
        (
            Said("ICP-W042", at="*121", fix="keep_duplicates = false"),
            Said("ICP-Q042", column="opportunity_id", at="O007", fix="keep the right one", count=2),
        ),
        before=settings("[sources.opportunities]\nkeep_duplicates = true"),
        breaks=again(),
        twin=dropped("O007"),
        ledger=(("quarantined", 2),),
        shuffles=False,
    ),
    Case(
        42,
        "different records under one key",
        (Said("ICP-Q042", column="opportunity_id", at="O007", fix="keep the right one", count=2),),
        breaks=again(amount="1"),
        twin=dropped("O007"),
        ledger=(("quarantined", 2),),
    ),
    Case(
        43,
        "no identifier",
        (Said("ICP-Q043", column="opportunity_id", at="*7", fix="fill it in the CRM"),),
        each=put(opportunity_id=""),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        43,
        "closed opportunity without account",
        (Said("ICP-W043", column="account_id", at="O007", fix="fill it in the CRM"),),
        each=put(account_id=""),
    ),
    Case(
        43,
        "open opportunity without account",
        (Said("ICP-W043", column="account_id", at="O010", fix="fill it in the CRM"),),
        each=put(account_id=""),
        key="O010",
    ),
    Case(
        43,
        "open opportunity without creation date",
        (Said("ICP-W043", column="created_at", at="O010", fix="fill it in the CRM"),),
        each=put(created_at=""),
        key="O010",
    ),
    Case(
        43,
        "closed opportunity without creation date",
        (Said("ICP-Q043", column="created_at", at="O007", fix="fill it in the CRM"),),
        each=put(created_at=""),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        44,
        "account that is not there",
        (Said("ICP-Q044", column="account_id", at="O007", fix="add it to accounts"),),
        each=put(account_id="A99"),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
        injected="QE",
    ),
    Case(
        44,
        "many accounts that are not there",
        (Said("ICP-E044", column="account_id", at="O007", fix="[tolerance] orphans = 0.05", count=5),),
        breaks=dropped("A08", table=ACCS),
        mend=lambda w: w.tables[ACCS].append(dict(Workspace().row(ACCS, "A08"))),
        ledger=(("quarantined", 5),),
    ),
    Case(
        44,
        "many accounts that are not there, accepted",
        (Said("ICP-Q044", column="account_id", at="O007", fix="add it to accounts", count=5),),
        breaks=all_of(dropped("A08", table=ACCS), settings("[tolerance]\norphans = 0.05")),
        twin=all_of(dropped("A08", table=ACCS), dropped("O007", "O031", "O055", "O079", "O103")),
        ledger=(("quarantined", 5),),
    ),
    Case(
        44,
        "campaign that is not there",
        (Said("ICP-W044", column="campaign_id", at="O007", fix="campaigns"),),
        before=all_of(
            table("campaigns", "campaign_id,name\nC1,Spring"), further(OPPS, "campaign_id", lambda i, r: "C1")
        ),
        each=put(campaign_id="C9"),
    ),
    Case(
        47,
        "parents in a circle",
        (Said("ICP-E047", column="parent_account_id", at="A01", fix="break the cycle", table=ACCS, count=2),),
        breaks=cells(ACCS, "A01", parent_account_id="A05"),
        table=ACCS,
        mend=cells(ACCS, "A01", parent_account_id=""),
        ledger=(("quarantined", 2),),
    ),
    Case(
        47,
        "parent that is not there",
        (Said("ICP-W047", column="parent_account_id", at="A07", fix="export all", table=ACCS),),
        each=put(parent_account_id="A99"),
        table=ACCS,
        key="A07",
    ),
    Case(
        48,
        "test account",
        (Said("ICP-W048", column="name", at="A07", fix="leave it out", table=ACCS),),
        each=lambda row: row.update(name=f"Test account {row['account_id']}"),
        table=ACCS,
        key="A07",
    ),
    Case(
        48,
        "the business itself",
        (Said("ICP-W048", column="name", at="A07", fix="leave it out", table=ACCS),),
        breaks=all_of(settings('[workspace]\nname = "Our Firm, Inc."'), cells(ACCS, "A07", name="our firm inc")),
        table=ACCS,
    ),
    Case(
        49,
        "day that does not exist",
        (Said("ICP-E049", column="created_at", at="O007", fix="correct the cell"),),
        each=put(created_at="2023-02-31"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        49,
        "day that does not exist, tolerated",
        (Said("ICP-Q049", column="created_at", at="O007", fix="correct the cell"),),
        before=TOLERANT,
        each=put(created_at="2023-02-31"),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        49,
        "year out of range",
        (Said("ICP-E049", column="created_at", at="O007", fix="correct the cell"),),
        each=put(created_at="0022-03-07"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        50,
        "day first, proved by the column",
        (
            Said("ICP-R050", column="created_at", at="O001", count=120),
            Said("ICP-R050", column="closed_at", at="O001", count=108),
        ),
        breaks=_dates(_formatted("%d/%m/%Y")),
        shuffles=False,
    ),
    Case(
        50,
        "day or month first, and nothing decides",
        (
            Said("ICP-E050", column="created_at", at="O001", fix="declare date_format", count=120),
            Said("ICP-E050", column="closed_at", at="O001", fix="declare date_format", count=108),
        ),
        before=_early,
        breaks=_dates(_formatted("%d/%m/%Y")),
        mend=settings('[sources.opportunities]\ndate_format = "%d/%m/%Y"'),
        ledger=(("quarantined", 120),),
        shuffles=False,
    ),
    Case(
        51,
        "another format in one record",
        (Said("ICP-E051", column="created_at", at="O007", fix="date_format"),),
        each=lambda row: row.update(created_at=f"{_day(row['created_at']):%d %b %Y}"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        51,
        "declared format met by all but one",
        (Said("ICP-E051", column="created_at", at="O007", fix="date_format"),),
        before=all_of(_dates(_formatted("%d.%m.%Y")), settings(GERMAN_DATES)),
        breaks=cells(OPPS, "O007", created_at="March 7"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        52,
        "times with and without zone",
        (
            Said("ICP-E052", column="created_at", at="O001", fix="with an offset", count=119),
            Said("ICP-R052", column="created_at", at="O001", count=120),
        ),
        breaks=all_of(
            column(OPPS, "created_at", lambda t: t + "T10:00:00"),
            cells(OPPS, "O007", created_at="2022-03-07T10:00:00Z"),
        ),
        ledger=(("quarantined", 119),),
        shuffles=False,
    ),
    Case(
        52,
        "times in the night the clocks change",
        (Said("ICP-R052", column="created_at", at="O007"),),
        before=all_of(cells(OPPS, "O007", created_at="2022-03-27"), settings('[calendar]\ntimezone = "Europe/Berlin"')),
        breaks=cells(OPPS, "O007", created_at="2022-03-27T01:30:00Z"),
    ),
    Case(
        53,
        "day numbers of a spreadsheet",
        (Said("ICP-E053", column="created_at", at="O001", fix='date_format = "excel"', count=120),),
        breaks=column(OPPS, "created_at", lambda t: str((_day(t) - EXCEL).days)),
        ledger=(("quarantined", 120),),
        shuffles=False,
    ),
    Case(
        53,
        "day numbers of 1900, declared",
        (
            Said("ICP-R053", column="created_at", at="O001", count=120),
            Said("ICP-R053", column="closed_at", at="O001", count=108),
        ),
        breaks=all_of(
            _dates(lambda t: str((_day(t) - EXCEL).days)), settings('[sources.opportunities]\ndate_format = "excel"')
        ),
        shuffles=False,
    ),
    Case(
        53,
        "day numbers of 1904, declared",
        (
            Said("ICP-R053", column="created_at", at="O001", count=120),
            Said("ICP-R053", column="closed_at", at="O001", count=108),
        ),
        breaks=all_of(
            _dates(lambda t: str((_day(t) - EXCEL1904).days)),
            settings('[sources.opportunities]\ndate_format = "excel1904"'),
        ),
        shuffles=False,
    ),
    Case(
        54,
        "year of two digits",
        (Said("ICP-E054", column="created_at", at="O007", fix="four-digit years"),),
        each=lambda row: row.update(created_at=f"{_day(row['created_at']):%d/%m/%y}"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        55,
        "placeholder for no date",
        (Said("ICP-W055", column="created_at", at="A07", fix="leave the cell empty", table=ACCS),),
        each=put(created_at="1900-01-01"),
        table=ACCS,
        key="A07",
        twin=cells(ACCS, "A07", created_at=""),
    ),
    Case(
        56,
        "closed before it was created",
        (Said("ICP-Q056", column="closed_at", at="O007", fix="correct the dates"),),
        each=put(closed_at="2019-01-01"),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        57,
        "closed in the future",
        (Said("ICP-Q057", column="closed_at", at="O007", fix="exported_on"),),
        each=put(closed_at="2199-01-01"),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        57,
        "closed in the future, accepted",
        (Said("ICP-W057", column="closed_at", at="O007", fix="exported_on"),),
        before=settings("[tolerance]\nfuture_dates = true"),
        each=put(closed_at="2199-01-01"),
    ),
    Case(
        58,
        "won without a close date",
        (Said("ICP-Q058", column="closed_at", at="O007", fix="correct the dates"),),
        each=put(closed_at=""),
        twin=dropped("O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        58,
        "lost without a close date",
        (Said("ICP-W058", column="closed_at", at="O008", fix="correct the dates"),),
        each=put(closed_at=""),
        key="O008",
    ),
    Case(
        59,
        "open past its planned close date",
        (
            Said("ICP-W059", column="closed_at", at="O010", fix="close it"),
            Said("ICP-R059", column="closed_at", at="O010"),
        ),
        each=lambda row: row.update(closed_at=row["created_at"]),
        key="O010",
        twin=lambda w: None,
    ),
    Case(
        60,
        "created after the export",
        (Said("ICP-Q060", column="created_at", at="O010", fix="exported_on"),),
        each=put(created_at="2199-01-01"),
        key="O010",
        twin=dropped("O010"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        60,
        "created after the export, accepted",
        (Said("ICP-W060", column="created_at", at="O010", fix="exported_on"),),
        before=settings("[tolerance]\nfuture_dates = true"),
        each=put(created_at="2199-01-01"),
        key="O010",
    ),
    Case(
        60,
        "created after the day the export was made",
        (Said("ICP-Q060", column="created_at", at="O010", fix="exported_on"),),
        breaks=all_of(
            settings("[sources.opportunities]\nexported_on = 2025-06-30"), cells(OPPS, "O010", created_at="2025-07-01")
        ),
        twin=dropped("O010"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        60,
        "created after the time in the report's name",
        (Said("ICP-Q060", column="created_at", at="O010", fix="exported_on", file="report1751241600000.csv"),),
        before=lambda w: [
            settings('[sources.opportunities]\nfile = "report1751241600000.csv"')(w),
            w.names.update(opportunities="report1751241600000.csv"),
        ],
        breaks=cells(OPPS, "O010", created_at="2025-07-01"),
        twin=dropped("O010"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        61,
        "stage entered before the opportunity was created",
        (Said("ICP-W061", column="entered_at", at="O007", table="stage_history", fix="nothing"),),
        before=table("stage_history", DAYS + "O007,demo,2022-03-08\nO009,demo,2022-03-27"),
        each=put(entered_at="2022-01-08"),
        table="stage_history",
        rows_change=False,
    ),
    Case(
        61,
        "stages out of the playbook's order",
        (Said("ICP-W061", column="entered_at", at="O009", table="stage_history", fix="nothing"),),
        breaks=all_of(
            table(
                "stage_history",
                DAYS + "O007,demo,2022-03-08\nO007,offer,2022-03-09\nO009,demo,2022-03-28\nO009,offer,2022-03-27",
            ),
            other("playbook.toml", '[stages]\nevaluation = ["demo"]\npurchase = ["offer", "closed won"]\n'),
        ),
        table="stage_history",
    ),
    Case(
        61,
        "stage skipped",
        breaks=all_of(
            table("stage_history", DAYS + "O007,offer,2022-03-09"),
            other("playbook.toml", '[stages]\nevaluation = ["demo"]\npurchase = ["offer"]\n'),
        ),
        twin=table("stage_history", DAYS + "O007,offer,2022-03-09"),
    ),
    Case(
        62, "closed in bulk", (Said("ICP-W062", column="closed_at", count=54, fix="CRM"),), breaks=_bulk, shuffles=False
    ),
    Case(
        63,
        "fiscal year not declared",
        (Said("ICP-W063", column="period", table="targets", fix="fiscal_year_start"),),
        breaks=table("targets", "period,metric,target\n2024Q1,won,5"),
    ),
    Case(
        64,
        "thousands undeclared",
        (Said("ICP-E064", column="amount", at="O007", fix='thousands = ","'),),
        each=put(amount="5,125.00"),
        mend=all_of(cells(OPPS, "O007", amount="5,125.00"), settings('[sources.opportunities]\nthousands = ","')),
        ledger=(("quarantined", 1),),
    ),
    Case(
        64,
        "decimal comma undeclared",
        (Said("ICP-E064", column="amount", at="O007", fix='decimal = ","'),),
        each=put(amount="5125,00"),
        ledger=(("quarantined", 1),),
    ),
    *(
        Case(
            64,
            f"notation declared: {shown}",
            breaks=all_of(
                column(OPPS, "amount", lambda t, s=shown: s.format(t[0], t[1:])),
                settings(f"[sources.opportunities]\n{said}"),
            ),
        )
        for shown, said in (
            ("{},{}.00", 'thousands = ","'),
            ("{}.{},00", 'thousands = "."\ndecimal = ","'),
            ("{} {},0", 'thousands = " "\ndecimal = ","'),
            ("{}\u202f{}", 'thousands = " "'),
            ("{}'{}", 'thousands = "\'"'),
        )
    ),
    Case(
        65,
        "currency sign or code",
        (Said("ICP-R065", column="amount", at="O007"),),
        each=lambda row: row.update(amount=f"EUR {row['amount']}"),
    ),
    Case(
        65,
        "signs of several currencies",
        (Said("ICP-E065", column="amount", at="O001", fix="export the currency", count=120),),
        breaks=all_of(column(OPPS, "amount", lambda t: "$" + t), lambda w: w.row(OPPS, "O007").update(amount="€5125")),
        ledger=(("quarantined", 120),),
        shuffles=False,
    ),
    Case(
        65,
        "several currencies, and no reporting one",
        (Said("ICP-E065", column="currency", fix="[workspace] currency"),),
        before=further(OPPS, "currency", lambda i, r: "EUR"),
        breaks=cells(OPPS, "O007", currency="USD"),
    ),
    Case(
        65,
        "no rate on the date",
        (Said("ICP-E065", column="currency", at="O007", fix="add rates to EUR"),),
        before=all_of(
            further(OPPS, "currency", lambda i, r: "EUR"),
            table("rates", RATES),
            settings('[workspace]\ncurrency = "EUR"'),
        ),
        each=put(currency="USD"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        66,
        "brackets for a negative amount",
        (Said("ICP-R066", column="amount", at="O008"), Said("ICP-W070", column="amount", at="O008", fix="CRM")),
        each=put(amount="(500)"),
        key="O008",
        twin=cells(OPPS, "O008", amount="-500"),
    ),
    Case(
        66,
        "trailing minus",
        (Said("ICP-R066", column="amount", at="O008"), Said("ICP-W070", column="amount", at="O008", fix="CRM")),
        each=put(amount="500-"),
        key="O008",
        twin=cells(OPPS, "O008", amount="-500"),
    ),
    Case(
        67,
        "per cent throughout",
        (Said("ICP-R067", column="gross_margin", at="p", table="products", count=2),),
        breaks=table("products", PRODUCTS.format("72%", "65 %")),
        twin=table("products", PRODUCTS.format("0.72", "0.65")),
    ),
    Case(
        67,
        "per cent and fractions mixed",
        (Said("ICP-E067", column="gross_margin", at="p", table="products", fix="export one kind"),),
        breaks=table("products", PRODUCTS.format("72%", "0.65")),
        table="products",
        ledger=(("quarantined", 1),),
    ),
    Case(
        68,
        "abbreviated",
        (Said("ICP-E068", column="amount", at="O007", fix="export the full number"),),
        each=put(amount="45k"),
        ledger=(("quarantined", 1),),
    ),
    *(
        Case(
            69,
            f"no finite number: {given}",
            (Said("ICP-E069", column="amount", at="O007", fix="cell"),),
            each=put(amount=given),
            ledger=(("quarantined", 1),),
        )
        for given in ("inf", "1e400", "NaN")
    ),
    Case(
        69,
        "larger than any figure",
        (Said("ICP-E069", column="amount", at="O007", fix="cell"),),
        each=put(amount="6001.2E+17"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        69,
        "words for a number",
        (Said("ICP-E064", column="amount", at="O007", fix="correct the cell"),),
        each=put(amount="plenty"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        70,
        "negative amount",
        (Said("ICP-W070", column="amount", at="O008", fix="CRM"),),
        each=put(amount="-500"),
        key="O008",
    ),
    Case(70, "won with amount zero", (Said("ICP-W070", column="amount", at="O007", fix="CRM"),), each=put(amount="0")),
    Case(70, "won without an amount", (Said("ICP-W070", column="amount", at="O007", fix="CRM"),), each=put(amount="")),
    *(
        Case(
            71,
            f"employees {given}",
            (Said("ICP-R071", column="employees", at="A07", table=ACCS),),
            each=put(employees=given),
            table=ACCS,
            key="A07",
            twin=cells(ACCS, "A07", employees=read),
        )
        for given, read in (("0", ""), ("-1", ""), ("51-200", "101"))
    ),
    Case(
        72,
        "amounts in thousands among amounts",
        (Said("ICP-W072", column="amount", at="O007", fix="export one unit", count=4),),
        breaks=lambda w: [
            w.row(OPPS, k).update(amount=str(int(w.row(OPPS, k)["amount"]) / 1000))
            for k in ("O007", "O017", "O027", "O037")
        ],
        shuffles=False,
    ),
    Case(
        72,
        "monthly among annual amounts",
        (Said("ICP-W072", column="amount", at="O007", fix="export one unit", count=4),),
        before=lambda w: [r.update(amount=str(12000 + int(r["amount"]) // 10)) for r in w.tables[OPPS]],
        breaks=lambda w: [
            w.row(OPPS, k).update(amount=str(int(w.row(OPPS, k)["amount"]) / 12))
            for k in ("O007", "O017", "O027", "O037")
        ],
        shuffles=False,
    ),
    Case(
        73,
        "margin above one",
        (Said("ICP-E073", column="gross_margin", at="p", table="products", fix="72%", count=2),),
        breaks=table("products", PRODUCTS.format("72", "65")),
        table="products",
        ledger=(("quarantined", 2),),
    ),
    Case(
        74,
        "one opportunity is much of the total",
        (Said("ICP-W074", column="amount", fix="CRM"),),
        breaks=cells(OPPS, "O007", amount="150000"),
    ),
)
