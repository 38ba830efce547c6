"""Small workspaces whose content comes from any kind of source."""

from __future__ import annotations

import datetime as dt
import io
import sqlite3
import zipfile

import openpyxl
import pandas as pd

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


def fill_sqlite(path):
    with sqlite3.connect(path) as connection:
        for table, text in (("companies", ACCOUNTS), ("deals", OPPORTUNITIES)):
            names, rows = typed_rows(text)
            kinds = ", ".join(f"{n} {'real' if n in NUMBERS else 'text'}" for n in names)
            connection.execute(f"create table {table} ({kinds})")
            rows = [[v.isoformat() if isinstance(v, dt.date) else v for v in row] for row in rows]
            connection.executemany(f"insert into {table} values ({', '.join('?' * len(names))})", rows)
    connection.close()
