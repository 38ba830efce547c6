"""Sources: the same content gives the same tables from every kind, and what cannot be trusted is refused by name."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import sqlite3
import zipfile

import duckdb
import openpyxl
import pandas as pd
import pytest

from icplab.intake import check_workspace, take_in

ACCOUNTS = """account_id,name,industry,employees,country,founded_year,stack,score
A1,"Acme, Inc.",Retail,120,NA,1999,red,7
A2,Beta,Software,3000,Germany,2001,blue,2.5
A3,"Gamma
Works",Software,45,France,2010,red,-3
00012,Délta,Retail,9,Spain,2015,,0.1
"""
OPPORTUNITIES = """opportunity_id,account_id,created_at,closed_at,status,amount,source
O1,A1,2024-01-10,2024-03-01,won,1000.5,web
O2,A1,2024-02-01,2024-04-15,lost,500,web
O3,A2,2024-02-20,2024-05-05,won,700,event
O4,A3,2024-03-03,,open,,event
O5,A3,2024-03-09,2024-06-30,lost,250,web
O6,00012,2024-04-01,2024-07-07,won,90,event
"""
NUMBERS = ("employees", "founded_year", "score", "amount")
DATES = ("created_at", "closed_at")


def write(folder, settings="", **files):
    """A workspace of files; the second underscore of a keyword stands for a point: `accounts__csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if settings:
        (folder / "icplab.toml").write_text(settings)
    return folder


def tables_of(folder):
    """The bytes of the canonical tables."""
    run = folder.parent / f"{folder.name}_run"
    take_in(folder, run)
    return {p.stem: p.read_bytes() for p in sorted((run / "tables").glob("*.parquet"))}


def frame_of(text):
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def typed_rows(text):
    """Header and rows with numbers, dates and nulls as a database or a spreadsheet holds them."""
    frame = frame_of(text)
    rows = [[_typed(name, value) for name, value in zip(frame, row, strict=True)] for row in frame.to_numpy()]
    return list(frame), rows


def _typed(name, value):
    if value == "":
        return None
    if name in NUMBERS:
        return float(value)
    return dt.date.fromisoformat(value) if name in DATES else value


def workbook(*sheets, change=None):
    """A workbook as bytes; a sheet is a name and its rows. `change` gets the open workbook."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    if change:
        change(book)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def sheet_of(text):
    names, rows = typed_rows(text)
    return [names, *rows]


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


def found(folder, code):
    """Problems of a code; there must be one, and every message says what to do."""
    report = check_workspace(folder)
    problems = [p for p in report.problems if p.code == code]
    assert problems, f"{code} is not in:\n{report.as_text()}"
    assert all(p.fix for p in problems if p.outcome == "E")
    return problems


def codes(folder):
    return {p.code for p in check_workspace(folder).problems}


# The same content from every kind of source


def as_csv(folder):
    return write(folder, accounts__csv=ACCOUNTS, opportunities__csv=OPPORTUNITIES)


def as_tsv(folder):
    texts = [frame_of(t).to_csv(sep="\t", index=False) for t in (ACCOUNTS, OPPORTUNITIES)]
    return write(folder, accounts__tsv=texts[0], opportunities__tsv=texts[1])


def as_utf16(folder):
    return write(folder, accounts__csv=ACCOUNTS.encode("utf-16"), opportunities__csv=OPPORTUNITIES.encode("utf-16"))


def as_gzip(folder):
    packed = [gzip.compress(t.encode(), mtime=0) for t in (ACCOUNTS, OPPORTUNITIES)]
    return write(folder, accounts__csv__gz=packed[0], opportunities__csv__gz=packed[1])


def as_zip(folder):
    write(folder, accounts__zip=zipped(**{"export/accounts 2024.csv": ACCOUNTS, "__MACOSX/._a.csv": "x"}))
    return write(folder, opportunities__zip=zipped(deals__csv=OPPORTUNITIES))


def as_xlsx(folder):
    books = [workbook(("Export", sheet_of(t))) for t in (ACCOUNTS, OPPORTUNITIES)]
    return write(folder, accounts__xlsx=books[0], opportunities__xlsx=books[1])


def as_one_workbook(folder):
    sheets = [("Companies", sheet_of(ACCOUNTS)), ("Deals", sheet_of(OPPORTUNITIES)), ("Notes", [["made by finance"]])]
    settings = "".join(
        f'[sources.{table}]\nfile = "crm.xlsx"\nsheet = "{sheet}"\n'
        for table, sheet in (("accounts", "Companies"), ("opportunities", "Deals"))
    )
    return write(folder, settings, crm__xlsx=workbook(*sheets))


def as_zipped_xlsx(folder):
    books = [workbook(("Export", sheet_of(t))) for t in (ACCOUNTS, OPPORTUNITIES)]
    return write(folder, accounts__zip=zipped(a__xlsx=books[0]), opportunities__zip=zipped(o__xlsx=books[1]))


def as_parquet(folder):
    folder.mkdir()
    for table, text in (("accounts", ACCOUNTS), ("opportunities", OPPORTUNITIES)):
        names, rows = typed_rows(text)
        pd.DataFrame(rows, columns=names).to_parquet(folder / f"{table}.parquet", index=False)
    return folder


IN_FILE = """[sources.accounts]
file = "crm.{kind}"
table = "companies"
[sources.opportunities]
file = "crm.{kind}"
query = "select * from deals where status <> 'none' -- all; of them"
"""


def as_duckdb(folder):
    write(folder, IN_FILE.format(kind="duckdb"))
    with duckdb.connect(str(folder / "crm.duckdb")) as connection:
        for table, text in (("companies", ACCOUNTS), ("deals", OPPORTUNITIES)):
            names, rows = typed_rows(text)
            frame = pd.DataFrame(rows, columns=names).sample(frac=1, random_state=3)
            connection.register("source", frame)
            connection.execute(f"create table {table} as select * from source")
    return folder


def as_sqlite(folder):
    write(folder, IN_FILE.format(kind="sqlite"))
    fill_sqlite(folder / "crm.sqlite")
    return folder


def fill_sqlite(path):
    with sqlite3.connect(path) as connection:
        for table, text in (("companies", ACCOUNTS), ("deals", OPPORTUNITIES)):
            names, rows = typed_rows(text)
            kinds = ", ".join(f"{n} {'real' if n in NUMBERS else 'text'}" for n in names)
            connection.execute(f"create table {table} ({kinds})")
            rows = [[v.isoformat() if isinstance(v, dt.date) else v for v in row] for row in rows]
            connection.executemany(f"insert into {table} values ({', '.join('?' * len(names))})", rows)
    connection.close()


KINDS = [
    as_tsv, as_utf16, as_gzip, as_zip, as_xlsx, as_one_workbook, as_zipped_xlsx, as_parquet, as_duckdb, as_sqlite
]  # fmt: skip


@pytest.mark.parametrize("make", KINDS)
def test_the_same_content_gives_the_same_bytes_from_every_kind(tmp_path, make):
    assert tables_of(make(tmp_path / "other")) == tables_of(as_csv(tmp_path / "plain"))


@pytest.mark.parametrize("make", [as_csv, *KINDS])
def test_the_ledger_adds_up_and_a_second_look_reads_nothing_again(tmp_path, make):
    folder = make(tmp_path / "w")
    tables_of(folder)
    run = tmp_path / "w_run"
    inputs = json.loads((run / "inputs.json").read_text())
    assert [f["records"] for f in inputs["files"]] == [5, 7]
    assert sum(row["records"] for row in inputs["ledger"]) == 12
    before = (run / "inputs.json").stat().st_mtime_ns
    take_in(folder, run)
    assert (run / "inputs.json").stat().st_mtime_ns == before
