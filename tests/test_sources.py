"""Sources: the same content gives the same tables from every kind, and what cannot be trusted is refused by name."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import struct
import zipfile
from contextlib import contextmanager

import duckdb
import pandas as pd
import pytest

from icplab.core.errors import BadInput
from icplab.intake import take_in
from icplab.intake.sources import held, packed
from icplab.intake.sources.texts import value_text
from tests.made_sources import (
    ACCOUNTS,
    DATES,
    NUMBERS,
    OPPORTUNITIES,
    codes,
    fill_sqlite,
    found,
    frame_of,
    sheet_of,
    tables_of,
    typed_rows,
    workbook,
    write,
    zipped,
)
from tests.postgres_server import programs, server

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


needs_postgres = pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (apt install postgresql)")
FROM_CRM = """[databases.crm]
url_env = "ICPLAB_TEST_CRM"
[sources.accounts]
database = "crm"
table = "companies"
[sources.opportunities]
database = "crm"
query = "select * from deals where status <> 'none' order by amount; -- all of them"
"""


def as_postgres(folder):
    for table, text in (("companies", ACCOUNTS), ("deals", OPPORTUNITIES)):
        names, rows = typed_rows(text)
        kinds = ["double precision" if n in NUMBERS else "date" if n in DATES else "text" for n in names]
        server().fill(table, names, kinds, rows[::-1])
    os.environ["ICPLAB_TEST_CRM"] = server().url()
    return write(folder, FROM_CRM)


def as_sqlite_behind_a_url(folder):
    write(folder, FROM_CRM)
    fill_sqlite(folder.parent / "elsewhere.db")
    os.environ["ICPLAB_TEST_CRM"] = f"sqlite://{folder.parent}/elsewhere.db"
    return folder


@pytest.fixture(autouse=True)
def no_database_from_the_test_before(monkeypatch):
    monkeypatch.setenv("ICPLAB_TEST_CRM", "")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The canonical tables of the content as CSV."""
    return tables_of(as_csv(tmp_path_factory.mktemp("plain") / "w"))


KINDS = [
    as_csv,
    as_tsv,
    as_utf16,
    as_gzip,
    as_zip,
    as_xlsx,
    as_one_workbook,
    as_zipped_xlsx,
    as_parquet,
    as_duckdb,
    as_sqlite,
    as_sqlite_behind_a_url,
    pytest.param(as_postgres, marks=needs_postgres),
]


@pytest.mark.parametrize("make", KINDS)
def test_the_same_content_gives_the_same_bytes_from_every_kind(tmp_path, plain, make):
    folder = make(tmp_path / "w")
    assert tables_of(folder) == plain
    run = tmp_path / "w_run"
    inputs = json.loads((run / "inputs.json").read_text())
    assert [f["records"] for f in inputs["files"]] == [5, 7]
    assert sum(row["records"] for row in inputs["ledger"]) == 12
    before = (run / "inputs.json").stat().st_mtime_ns
    take_in(folder, run)  # the second look finds nothing new and writes nothing
    assert (run / "inputs.json").stat().st_mtime_ns == before


# Bytes of a file


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match=r"ICP-E018 a\.csv: changed while it was read"), held.unchanged(path, "a.csv"):
        path.write_bytes(b"x" * 101)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_bytes(b"x" * 100)
    other.write_bytes(b"y" * 100)
    with pytest.raises(BadInput, match="ICP-E018"), held.unchanged(path, "a.csv"):
        os.replace(other, path)
    with pytest.raises(BadInput, match="ICP-E018"), held.unchanged(path, "a.csv"):
        path.unlink()


def test_a_file_written_during_the_check_is_never_read_in_halves(tmp_path, monkeypatch):
    folder, guard = as_csv(tmp_path / "w"), held.unchanged

    @contextmanager
    def while_another_program_writes(path, name):
        with guard(path, name) as descriptor:
            if name == "opportunities.csv":
                path.write_bytes(path.read_bytes() + b"O7,A1,2024-04-01,,open,,web\n")
            yield descriptor

    monkeypatch.setattr(held, "unchanged", while_another_program_writes)
    assert found(folder, "ICP-E018")[0].file == "opportunities.csv"


def test_a_fifo_put_in_place_of_a_file_does_not_make_it_wait(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(BadInput, match="ICP-E004"):
        held.read_bytes(tmp_path / "a.csv", "a.csv")
    with pytest.raises(BadInput, match="ICP-E004"):
        held.read_bytes(tmp_path, "a.csv")
    with pytest.raises(BadInput, match="ICP-E005"):
        held.read_bytes(tmp_path / "gone.csv", "gone.csv")


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "LARGEST_FILE", 10)
    (tmp_path / "a.csv").write_bytes(b"x" * 11)
    with pytest.raises(BadInput, match="ICP-E006"):
        held.read_bytes(tmp_path / "a.csv", "a.csv")


# gzip and zip


def deals(tmp_path, name, data):
    """A workspace whose opportunities come from one file."""
    write(tmp_path / "w", f'[sources.opportunities]\nfile = "{name}"\n', accounts__csv=ACCOUNTS)
    (tmp_path / "w" / name).write_bytes(data)
    return tmp_path / "w"


GZIP, ZIP = gzip.compress(OPPORTUNITIES.encode(), mtime=0), zipped(deals__csv=OPPORTUNITIES)


def encrypted():
    """A zip file that says its entry is encrypted."""
    data = bytearray(ZIP)
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def lying():
    """A zip file whose directory declares less than the entry unpacks to."""
    data = bytearray(ZIP)
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 20)
    return bytes(data)


def linked():
    """A zip file with a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zipfile.ZipInfo("deals.csv")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "code", "said"),
    [
        ("d.csv.gz", GZIP[:-30], "ICP-E013", "truncated"),
        ("d.csv.gz", GZIP[:-6] + b"\0\0" + GZIP[-4:], "ICP-E013", "damaged"),
        ("d.csv.gz", GZIP + b"more", "ICP-E013", "damaged"),
        ("d.csv.gz", OPPORTUNITIES.encode(), "ICP-E014", "not a gzip file"),
        ("d.csv.gz", gzip.compress(b"", mtime=0), "ICP-E002", "empty"),
        ("d.zip", ZIP[:-30], "ICP-E013", "truncated"),
        ("d.zip", ZIP[:40] + b"\0\0\0" + ZIP[43:], "ICP-E013", "damaged"),
        ("d.zip", OPPORTUNITIES.encode(), "ICP-E014", "not a zip file"),
        ("d.zip", zipped(a__csv=OPPORTUNITIES, b__csv=OPPORTUNITIES), "ICP-E013", "2 data files: a.csv, b.csv"),
        ("d.zip", zipped(a__txt=OPPORTUNITIES, b__xlsx="x"), "ICP-E013", "2 data files"),
        ("d.zip", zipped(a__pdf="x"), "ICP-E013", "holds no data file"),
        ("d.zip", zipped(), "ICP-E013", "but nothing"),
        ("d.zip", zipped(inner__zip=ZIP), "ICP-E013", "another archive, inner.zip"),
        ("d.zip", zipped(deals__csv__gz=GZIP), "ICP-E013", "another archive, deals.csv.gz"),
        ("d.zip", zipped(**{"../deals.csv": OPPORTUNITIES}), "ICP-E013", "leads out of the archive"),
        ("d.zip", zipped(**{"/deals.csv": OPPORTUNITIES}), "ICP-E013", "leads out of the archive"),
        ("d.zip", zipped(**{"a\\..\\deals.csv": OPPORTUNITIES}), "ICP-E013", "leads out of the archive"),
        ("d.zip", linked(), "ICP-E013", "leads out of the archive"),
        ("d.zip", encrypted(), "ICP-E013", "encrypted"),
        ("d.zip", lying(), "ICP-E013", "damaged"),
        ("d.zip", zipped(deals__parquet="x"), "ICP-E014", "not a readable Parquet"),
        ("d.csv.bz2", b"BZh", "ICP-E014", "not read"),
    ],
)  # fmt: skip
def test_packed_files_that_cannot_be_trusted_are_refused(tmp_path, name, data, code, said):
    folder = deals(tmp_path, name, data)
    (problem,) = found(folder, code)
    assert problem.file == name
    assert said in problem.message


@pytest.mark.parametrize("pack", [lambda t: gzip.compress(t, mtime=0), lambda t: zipped(d__csv=t)])
def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(tmp_path, monkeypatch, pack):
    bomb = pack(OPPORTUNITIES.encode() + b"\n" * 1_000_000)
    folder = deals(tmp_path, "d.csv.gz" if bomb[:2] == b"\x1f\x8b" else "d.zip", bomb)
    assert "ICP-E013" not in codes(folder)  # a million bytes are no danger
    monkeypatch.setattr(packed, "SURELY_SMALL", 100_000)
    assert "times its size" in found(folder, "ICP-E013")[0].message
    monkeypatch.setattr(held, "LARGEST_FILE", 1 << 19)
    assert "unpacks to more than" in found(folder, "ICP-E013")[0].message


def test_real_exports_shrink_far_less_than_the_limit(tmp_path):
    text = OPPORTUNITIES + "".join(f"X{i},A1,2024-01-10,2024-03-01,won,1000.5,web\n" for i in range(20_000))
    assert len(text) / len(gzip.compress(text.encode())) < packed.LARGEST_RATIO / 5


def test_lines_of_a_packed_file_are_those_of_the_file_in_it(tmp_path):
    bad = OPPORTUNITIES.replace("2024-05-05", "2024-02-31")
    problem = found(deals(tmp_path, "d.csv.gz", gzip.compress(bad.encode())), "ICP-E049")[0]
    assert (problem.file, problem.record, problem.line, problem.column) == ("d.csv.gz", 3, 4, "closed_at")


# Parquet and values


def test_parquet_columns_that_are_no_plain_values_are_refused(tmp_path):
    frame = pd.DataFrame({"opportunity_id": ["O1"], "tags": [["a", "b"]]})
    folder = write(tmp_path / "w", accounts__csv=ACCOUNTS)
    frame.to_parquet(folder / "opportunities.parquet")
    problem = found(folder, "ICP-E014")[0]
    assert (problem.column, "list" in problem.message) == ("tags", True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.0, "7"), (-0.5, "-0.5"), (0.1 + 0.2, "0.3"), (1 / 3, "0.333333333333333"), (2.0**53, "9007199254740992"),
        (1e20, "1e+20"), (1e-9, "1e-09"), (True, "true"), (False, "false"), (None, ""), (12, "12"),
        (dt.date(2024, 3, 1), "2024-03-01"), (dt.datetime(2024, 3, 1), "2024-03-01"),
        (dt.datetime(2024, 3, 1, 9, 30), "2024-03-01 09:30:00"),
        (dt.datetime(2024, 3, 1, 23, 59, 59, 999_600), "2024-03-02"), (dt.time(9, 30), "09:30:00"),
        (dt.datetime(2024, 3, 1, 9, 30, 0, 250_000), "2024-03-01 09:30:00.250"), (dt.timedelta(hours=30), "30:00:00"),
    ],
)  # fmt: skip
def test_values_become_the_text_a_person_would_write(value, text):
    assert value_text(value) == text
