"""Tables and queries of databases: read in one read-only look, refused by name, and no password is ever repeated."""

from __future__ import annotations

import datetime as dt
import sqlite3
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from icplab.cli import main
from icplab.core.config import Database, Settings, Source, read_settings
from icplab.core.errors import BadInput
from icplab.intake import check_workspace, take_in
from icplab.intake.sources import rows
from icplab.intake.sources.rows import Connections, quoted_name, read_rows, selection_of, source_name
from tests.made_sources import ACCOUNTS, DATES, NUMBERS, OPPORTUNITIES, found, tables_of, typed_rows, write
from tests.postgres_server import IN_URL, PASSWORD, programs, server

needs_postgres = pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (apt install postgresql)")
CRM = '[databases.crm]\nurl_env = "CRM_URL"\n'


def settings_for(query="", table="", more=""):
    """Settings whose opportunities come from the database `crm`."""
    what = f"query = '''{query}'''" if query else f"table = '{table}'"
    return f'{CRM}{more}[sources.opportunities]\ndatabase = "crm"\n{what}\n'


@pytest.fixture
def crm(monkeypatch):
    """A PostgreSQL database with the opportunities in the table `deals`."""
    names, cells = typed_rows(OPPORTUNITIES)
    kinds = ["numeric(12,2)" if n in NUMBERS else "date" if n in DATES else "text" for n in names]
    server().fill("deals", names, kinds, cells)
    monkeypatch.setenv("CRM_URL", server().url())
    return server()


def stops(tmp_path, settings):
    """The one problem that stops."""
    (problem,) = check_workspace(write(tmp_path / "w", settings, accounts__csv=ACCOUNTS)).stops
    assert problem.fix
    return problem


def asked(query="", table="", url=None, timeout=300):
    """Rows of a query as text, without the record of names."""
    settings = Settings(databases={"crm": Database("CRM_URL", timeout)})
    source = Source(database="crm", query=query, table=table)
    with Connections(settings) as connections:
        records, _, _ = read_rows(connections.driver("crm"), selection_of(source, source_name(source)))
    return records.cells.to_numpy().tolist()[1:]


# PostgreSQL


@needs_postgres
def test_values_of_every_plain_type_keep_their_text(crm):
    crm.run(
        "drop table if exists kinds",
        "create table kinds (a int, b bigint, c numeric(10,2), d float8, e real, f bool, g date, h timestamp,"
        " i timestamptz, j char(5), k varchar(9), l uuid, m time, n jsonb, o interval)",
    )
    moment = dt.datetime(2024, 3, 1, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    values = [7, 9007199254740993, Decimal("1000.50"), 0.1, 2.0, True, dt.date(2024, 3, 1), dt.datetime(2024, 3, 1),
              moment, "ab", " é\n", "00000000-0000-0000-0000-00000000000a", dt.time(9, 30), '{"a": 1}',
              dt.timedelta(days=1)]  # fmt: skip
    import psycopg

    with psycopg.connect(crm.url()) as connection:
        connection.execute(f"insert into kinds values ({', '.join(['%s'] * 15)})", values)
        connection.execute("insert into kinds (h, f) values ('2024-03-01 09:30:00.25', false)")
    first, second = asked(table="kinds")[::-1]
    assert first == ["7", "9007199254740993", "1000.50", "0.1", "2", "true", "2024-03-01", "2024-03-01",
                     "2024-03-02 04:30:00+00", "ab", " é\n", "00000000-0000-0000-0000-00000000000a", "09:30:00",
                     '{"a": 1}', "P1D"]  # fmt: skip
    assert [c for c in second if c] == ["false", "2024-03-01 09:30:00.25"]


@needs_postgres
def test_a_time_with_zone_is_brought_to_the_calendar_of_the_workspace(tmp_path, crm):
    query = "select *, timestamptz '2024-01-09 23:30+00' as born from deals"
    more = '[calendar]\ntimezone = "Europe/Berlin"\n[columns.opportunities]\ncreated_at = "born"\n'
    settings = settings_for(
        query.replace("*", "opportunity_id, account_id, closed_at, status, amount, source"), "", more
    )
    folder = write(tmp_path / "w", settings, accounts__csv=ACCOUNTS)
    import pandas as pd

    tables_of(folder)
    table = pd.read_parquet(tmp_path / "w_run" / "tables" / "opportunities.parquet")
    assert set(table["created_at"]) == {pd.Timestamp("2024-01-10")}


@needs_postgres
@pytest.mark.parametrize("column", ["array[1, 2]", "'x'::bytea", "row(1, 2)"])
def test_columns_that_are_no_plain_values_are_refused(tmp_path, crm, column):
    problem = stops(tmp_path, settings_for(f"select 1 as a, {column} as b"))
    assert (problem.code, problem.column) == ("ICP-E014", "b")


@needs_postgres
@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (settings_for(table="deal"), "ICP-E001", 'did you mean "deals"?'),
        (settings_for(table="nowhere.deals"), "ICP-E001", "has no such table"),
        (settings_for(table='deals"; drop table deals; --'), "ICP-E001", "has no such table"),
        (settings_for("select * from deal"), "ICP-E001", "a table that is not there"),
        (settings_for("select amout from deals"), "ICP-E027", "amout"),
        (settings_for("select opportunity_id from deals"), "ICP-E027", "account_id"),
        (settings_for("select 1; drop table deals"), "ICP-E100", "not one SELECT"),
        (settings_for("select 1) as x; drop table deals; --"), "ICP-E100", "not one SELECT"),
        (settings_for("with gone as (delete from deals returning *) select * from gone"), "ICP-E100", "SELECT"),
        (settings_for("select * into other from deals"), "ICP-E100", "SELECT"),
        (settings_for("select setval('numbers', 9)"), "ICP-E100", "wants to write"),
        (settings_for("select 1 / 0 as a"), "ICP-E100", "division by zero"),
        (settings_for("drop table deals"), "ICP-E100", "is not a SELECT"),
        (settings_for("selec 1"), "ICP-E100", "is not a SELECT"),
        (settings_for("select * from deals where false"), "ICP-E003", "no records"),
    ],
)
def test_what_a_database_cannot_answer_is_named_and_changes_nothing(tmp_path, crm, settings, code, said):
    crm.run("create sequence if not exists numbers")
    problems = check_workspace(write(tmp_path / "w", settings, accounts__csv=ACCOUNTS)).stops
    assert {p.code for p in problems} == {code}
    assert any(said in f"{p.column} {p.message}" for p in problems), problems
    assert len(asked(table="deals")) == 6


@needs_postgres
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (lambda s: s.url(password="Geheim5x"), "refuses this user or password"),
        (lambda s: s.url(user="nobody_here"), "refuses this user or password"),
        (lambda s: s.url(database="nothing"), "has no such database"),
        (lambda s: s.url(port=1), "nothing listens there"),
        (lambda s: s.url() + "?sslmode=require", "encryption"),
        (lambda s: s.url() + "?nonsense=1", "cannot be connected to"),
        (lambda s: s.url().replace("127.0.0.1", "no-such-host.invalid"), "host name that is not known"),
        (lambda s: s.url().replace(str(s.port), "port"), "does not hold a connection string"),
        (lambda s: "host=127.0.0.1 password=" + IN_URL, "does not hold a connection string"),
        (lambda s: "mysql://u:" + IN_URL + "@h/d", "does not hold a connection string"),
        (lambda s: "", "is not set"),
    ],
)
def test_why_there_is_no_connection_is_said_without_the_password(tmp_path, crm, monkeypatch, capfd, url, said):
    monkeypatch.setenv("CRM_URL", url(crm))
    folder = write(tmp_path / "w", settings_for(table="deals"), accounts__csv=ACCOUNTS)
    assert main(["check", str(folder)]) == 2
    shown = "".join(capfd.readouterr())
    assert said in shown
    assert "Traceback" not in shown
    assert not [word for word in (PASSWORD, IN_URL, "Geheim") if word in shown]


@needs_postgres
def test_a_table_that_the_user_may_not_read_is_named(tmp_path, crm, monkeypatch):
    monkeypatch.setenv("CRM_URL", crm.url(user="reader"))
    problem = stops(tmp_path, settings_for(table="deals"))
    assert (problem.code, problem.file) == ("ICP-E005", "crm: deals")
    assert "grant SELECT" in problem.fix


@needs_postgres
def test_a_query_that_takes_too_long_is_given_up(tmp_path, crm, monkeypatch):
    settings = settings_for("select pg_sleep(30)").replace(CRM, CRM + "timeout_seconds = 1\n")
    assert stops(tmp_path, settings).code == "ICP-E006"


@needs_postgres
def test_a_failed_question_leaves_the_other_tables_readable(tmp_path, crm):
    settings = settings_for(table="deals") + '[sources.contacts]\ndatabase = "crm"\ntable = "people"\n'
    report = check_workspace(write(tmp_path / "w", settings, accounts__csv=ACCOUNTS))
    assert [(p.code, p.file) for p in report.stops] == [("ICP-E001", "crm: people")]
    assert report.ledger.query("file == 'crm: deals' and outcome == 'used'")["records"].sum() == 6


@needs_postgres
def test_odd_names_of_tables_and_columns_are_only_names(crm):
    crm.run('create schema if not exists "my schema"', 'drop table if exists "my schema"."a.b""c"')
    crm.run('create table "my schema"."a.b""c" ("x%s; drop" int)', 'insert into "my schema"."a.b""c" values (1)')
    assert asked(table='my schema."a.b""c"') == [["1"]]


@needs_postgres
def test_all_tables_are_read_as_they_were_at_one_moment(crm):
    source = Source(database="crm", table="deals")
    with Connections(Settings(databases={"crm": Database("CRM_URL")})) as connections:
        driver = connections.driver("crm")
        before = read_rows(driver, selection_of(source, "deals"))
        crm.run("delete from deals")
        after = read_rows(driver, selection_of(source, "deals"))
    assert before[2] == after[2]
    assert asked(table="deals") == []


@needs_postgres
def test_more_rows_than_are_fetched_at_once_arrive_in_one_order(crm, monkeypatch):
    monkeypatch.setattr("icplab.intake.sources.postgres.ROWS_AT_ONCE", 100)
    query = "select n::text as n, repeat('x', 50) as x from generate_series(1, 1050) as n order by {}"
    up, down = asked(query.format("n")), asked(query.format("n desc"))
    assert len(up) == 1050
    assert up == down == sorted(up)


@needs_postgres
def test_a_change_of_the_database_is_seen_and_an_unchanged_one_is_recognised(tmp_path, crm):
    folder, run = write(tmp_path / "w", settings_for(table="deals"), accounts__csv=ACCOUNTS), tmp_path / "run"
    take_in(folder, run)
    held = (run / "inputs.json").read_bytes(), (run / "inputs.json").stat().st_mtime_ns
    crm.run("create table moved as select * from deals order by amount desc", "drop table deals",
            "alter table moved rename to deals")  # fmt: skip
    take_in(folder, run)  # other order of rows, same content
    assert held == ((run / "inputs.json").read_bytes(), (run / "inputs.json").stat().st_mtime_ns)
    crm.run("update deals set amount = 701 where amount = 700")
    take_in(folder, run)
    assert held[0] != (run / "inputs.json").read_bytes()


@needs_postgres
def test_nothing_of_the_connection_string_stands_in_the_run_folder(tmp_path, crm):
    take_in(write(tmp_path / "w", settings_for(table="deals"), accounts__csv=ACCOUNTS), tmp_path / "run")
    for path in (p for p in (tmp_path / "run").rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert b"Geheim" not in content
        assert b"127.0.0.1" not in content


# SQLite and DuckDB files


def sqlite_file(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def duckdb_file(path, *statements):
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


MAKE = {"crm.sqlite": sqlite_file, "crm.duckdb": duckdb_file}
A_DEAL = "create table deals as select 'O1' as opportunity_id, 'A1' as account_id, '2024-01-10' as created_at, 'won' as status"


def from_file(tmp_path, file, what, *statements):
    """A workspace whose opportunities are asked of a database file."""
    folder = write(tmp_path / "w", f"[sources.opportunities]\nfile = '{file}'\n{what}\n", accounts__csv=ACCOUNTS)
    (folder / file).unlink(missing_ok=True)
    MAKE[file](folder / file, A_DEAL, *statements)
    return folder


@pytest.mark.parametrize("file", MAKE)
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("table = 'deal'", "ICP-E001", 'did you mean "deals"?'),
        ("table = 'deals; drop table deals'", "ICP-E001", "has no such table"),
        ("query = 'select 1; select 2'", "ICP-E100", "more than one SELECT"),
        ("query = 'select * from nothing'", "ICP-E100", "nothing"),
        ("query = 'select nothing from deals'", "ICP-E100", "nothing"),
        ("query = 'with a as (select 1) insert into deals select * from a'", "ICP-E100", ""),
        ("query = \"select *, cast('ab' as blob) as b from deals\"", "ICP-E014", "not a plain value"),
        ("query = 'select * from deals where 1 = 2'", "ICP-E003", "no records"),
        ("query = 'attach ''x'' as y'", "ICP-E100", "is not a SELECT"),
        ("table = 'a'\nquery = 'select 1'", "ICP-E100", "needs table"),
        ("", "ICP-E100", "needs table"),
    ],
)
def test_what_a_database_file_cannot_answer_is_named(tmp_path, file, what, code, said):
    folder = from_file(tmp_path, file, what.replace("''x''", '"x"'))
    before = (folder / file).read_bytes()
    (problem,) = check_workspace(folder).stops
    assert problem.code == code
    assert said in problem.message
    assert problem.fix
    assert (folder / file).read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == sorted(["accounts.csv", "icplab.toml", file])


@pytest.mark.parametrize(
    ("file", "query"),
    [
        ("crm.duckdb", "select * from read_csv(''/etc/passwd'')"),
        ("crm.duckdb", "select * from read_text(''icplab.toml'')"),
        ("crm.duckdb", "select * from glob(''*'')"),
        ("crm.duckdb", "select * from trap"),
        ("crm.sqlite", "select load_extension(''/tmp/x.so'')"),
        ("crm.sqlite", "select readfile(''/etc/passwd'')"),
    ],
)
def test_a_query_reaches_no_other_file(tmp_path, file, query):
    trap = ["create view trap as select * from glob('*')"] if file.endswith("duckdb") else []
    folder = from_file(tmp_path, file, f'query = """{query}"""'.replace("''", "'"), *trap)
    (problem,) = check_workspace(folder).stops
    assert problem.code in ("ICP-E004", "ICP-E100")


def test_the_settings_of_the_engine_cannot_be_changed_by_a_query(tmp_path):
    what = 'query = "select 1; set enable_external_access = true"'
    (problem,) = check_workspace(from_file(tmp_path, "crm.duckdb", what)).stops
    assert problem.code == "ICP-E100"


@pytest.mark.parametrize(
    ("file", "beside"), [("crm.sqlite", "-wal"), ("crm.sqlite", "-journal"), ("crm.duckdb", ".wal")]
)
def test_a_file_that_another_program_writes_is_refused(tmp_path, file, beside):
    folder = from_file(tmp_path, file, "table = 'deals'")
    (folder / f"{file}{beside}").write_bytes(b"x")
    assert found(folder, "ICP-E018")[0].file == f"{file} [deals]"


@pytest.mark.parametrize("file", MAKE)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, file):
    folder = from_file(tmp_path, file, "table = 'deals'")
    data = (folder / file).read_bytes()
    for damaged in (data[: len(data) // 2], b"no database at all", b"", data[:100] + bytes(len(data) - 100)):
        (folder / file).write_bytes(damaged)
        assert {p.code for p in check_workspace(folder).stops} <= {"ICP-E014", "ICP-E001", "ICP-E100"}
        assert check_workspace(folder).stops


def test_a_query_without_end_is_given_up(tmp_path, monkeypatch):
    sqlite_file(tmp_path / "a.db", A_DEAL)
    monkeypatch.setenv("CRM_URL", f"sqlite://{tmp_path}/a.db")
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    with pytest.raises(BadInput, match="ICP-E006"):
        asked(endless, timeout=1)


@pytest.mark.parametrize(("path", "said"), [("/gone.db", "not there"), ("", "not there")])
def test_a_sqlite_file_that_is_not_there_is_named(tmp_path, monkeypatch, path, said):
    monkeypatch.setenv("CRM_URL", f"sqlite://{path}")
    assert said in stops(tmp_path, settings_for(table="deals")).message


def test_a_source_with_more_text_than_the_limit_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(rows.held, "LARGEST_FILE", 10)
    sqlite_file(tmp_path / "a.db", A_DEAL)
    monkeypatch.setenv("CRM_URL", f"sqlite://{tmp_path}/a.db")
    with pytest.raises(BadInput, match="ICP-E006"):
        asked(table="deals")


def test_names_of_tables_are_quoted_part_by_part():
    assert quoted_name("public.deals") == '"public"."deals"'
    assert quoted_name('crm."a.b""c"') == '"crm"."a.b""c"'
    assert quoted_name('x"; drop table y') == '"x""; drop table y"'


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        '[databases.crm]\nurl = "postgresql://u:Geheim@h/d"\n',
        '[databases.crm]\nurl_env = "postgresql://u:Geheim@h/d"\n',
        '[databases.crm]\nurl_env = "CRM"\npassword = "Geheim"\n',
        '[databases]\ncrm = "host=h password=Geheim"\n',
        '[sources.accounts]\nfile = "postgresql://u:Geheim@h/d"\n',
        '[sources.accounts]\ndatabase = "postgresql://u:Geheim@h/d"\n',
    ],
)
def test_a_password_in_the_settings_is_refused_and_not_repeated(tmp_path, settings):
    write(tmp_path, settings)
    with pytest.raises(BadInput) as caught:
        read_settings(tmp_path)
    assert {p.code for p in caught.value.problems} == {"ICP-E087"}
    assert "environment variable" in str(caught.value)
    assert "Geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (f'{CRM}[sources.accounts]\ndatabase = "crn"\ntable = "a"\n', 'did you mean "crm"?'),
        (f'{CRM}[sources.accounts]\ndatabase = "crm"\n', "needs table"),
        (f'{CRM}[sources.accounts]\ndatabase = "crm"\ntable = "a"\nquery = "select 1"\n', "needs table"),
        (f'{CRM}[sources.accounts]\ndatabase = "crm"\ntable = "a"\nfile = "a.csv"\n', "one of them must go"),
        ('[sources.accounts]\nfile = "a.csv"\ntable = "a"\n', "needs a database"),
        (f'{CRM}[sources.accounts]\ndatabase = "crm"\nquery = "update a set b = 1"\n', "is not a SELECT"),
        ("[databases.crm]\n", "names no environment variable"),
        (f"{CRM}timeout_seconds = 0\n", "at least 1"),
        (f"{CRM}timeout = 3\n", "is not a known setting"),
    ],
)
def test_sources_that_leave_open_what_to_read_are_refused(tmp_path, settings, said):
    write(tmp_path, settings)
    with pytest.raises(BadInput, match="ICP-E100") as caught:
        read_settings(tmp_path)
    assert said in str(caught.value)


def test_a_query_may_begin_with_a_comment_or_a_bracket(tmp_path):
    for query in ("-- won\nselect 1", "/* a */ (select 1)", "WITH a as (select 1) select * from a", "\nSelect 1"):
        write(tmp_path, f"{CRM}[sources.accounts]\ndatabase = 'crm'\nquery = '''{query}'''\n")
        assert read_settings(tmp_path).sources["accounts"].query == query.lstrip("\n")


def test_the_settings_that_the_documents_print_are_accepted(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "sources.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        write(tmp_path, block)
        read_settings(tmp_path)
