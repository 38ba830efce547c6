"""Reads PostgreSQL through psycopg, makes rows of text: one read-only snapshot, a cursor on the server, names quoted.

The server writes every value as text itself, which loses nothing. Errors are told by their SQLSTATE, because the words of
a server are in its own language; the connection string is never repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from icplab.core.errors import BadInput, Problem, nearest
from icplab.intake.sources.rows import ROWS_AT_ONCE, Selection, quoted_name
from icplab.intake.sources.texts import not_plain

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa
    from psycopg.pq.abc import PGresult

CONNECT_SECONDS = 10
_BOOL, _TIMESTAMP, _CHAR = 16, 1114, 1042  # oids that PostgreSQL has always had
_CURSOR = "icplab_rows"
_SETTINGS = ("timezone = 'UTC'", "datestyle = 'ISO'", "intervalstyle = 'iso_8601'", "extra_float_digits = 1")
_TABLES = """
select case when table_schema = any (current_schemas(false)) then table_name else table_schema || '.' || table_name end
from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 1"""
# How the first words of what the client library says tell why it did not connect, where there is no SQLSTATE.
_REFUSALS = (
    ("password", "refuses this user or password", "correct them in the environment variable"),
    ("role", "does not know this user", "correct the user in the environment variable"),
    ("database", "has no such database", "correct its name in the environment variable"),
    ("pg_hba", "lets nobody in from this machine in this way", "ask its administrator, or add ?sslmode=require"),
    ("ssl", "cannot be reached with this encryption", "correct sslmode in the environment variable"),
    ("refused", "refuses connections: nothing listens there", "start it, or correct host and port"),
    ("timeout", "does not answer", "check host, port and network"),
    ("timed out", "does not answer", "check host, port and network"),
    ("resolve host", "has a host name that is not known", "correct the host in the environment variable"),
    ("host name", "has a host name that is not known", "correct the host in the environment variable"),
)


def open_postgres(url: str, name: str, timeout_seconds: int) -> PostgresDriver:
    """Connect to PostgreSQL; ICP-E005 with what is wrong, and never with the connection string."""
    import psycopg

    try:
        connection = psycopg.connect(url, connect_timeout=CONNECT_SECONDS, client_encoding="UTF8")
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for setting in (*_SETTINGS, f"statement_timeout = {int(timeout_seconds) * 1000}"):
            connection.execute(f"set local {setting}")
    except (psycopg.Error, UnicodeError) as error:
        raise _not_connected(str(error), url, name) from None  # what it says may hold the connection string
    return PostgresDriver(connection)


class PostgresDriver:
    """One connection, in one transaction that only reads and sees one version of all tables."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._result: PGresult | None = None

    def columns(self, selection: Selection) -> list[str]:
        """Open a cursor on the server and name its columns.

        Raises
        ------
        BadInput
            ICP-E001 no such table, E005 no permission, E006 took too long, E014 a column that is no plain value,
            E027 no such column, E100 not one SELECT.
        """
        query = selection.query or f"select * from {quoted_name(selection.table)}"
        self._connection.execute("savepoint before_rows")
        self._ask(f"declare {_CURSOR} no scroll cursor for {query}", selection)
        self._result = self._ask(f"fetch forward {ROWS_AT_ONCE} from {_CURSOR}", selection)
        self._refuse_compound(selection)
        return self._names()

    def batches(self, selection: Selection) -> Iterator[pa.Table]:
        """Rows as the server writes them."""
        assert self._result is not None
        while self._result.ntuples:
            yield self._text()
            self._result = self._ask(f"fetch forward {ROWS_AT_ONCE} from {_CURSOR}", selection)
        self._connection.execute(f"close {_CURSOR}")

    def close(self) -> None:
        self._connection.close()

    def _names(self) -> list[str]:
        assert self._result is not None
        return [(self._result.fname(i) or b"").decode() for i in range(self._result.nfields)]

    def _ask(self, statement: str, selection: Selection) -> PGresult:
        """Run one statement; the protocol used refuses a second one in the same text."""
        from psycopg import pq

        result = self._connection.pgconn.exec_params(statement.encode(), None)
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return result
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        raise self._explained(state, said, selection)

    def _refuse_compound(self, selection: Selection) -> None:
        """Lists, rows and bytes are no values of a cell."""
        assert self._result is not None
        kinds = [self._result.ftype(i) for i in range(self._result.nfields)]
        odd = self._connection.execute(
            "select oid, typname from pg_type where oid = any(%s) and (typcategory in ('A', 'C', 'P') or typname = 'bytea')",
            [kinds],
        ).fetchall()
        for oid, kind in odd:
            raise not_plain(kind, self._names()[kinds.index(oid)], selection.name)

    def _text(self) -> pa.Table:
        """The rows fetched last, column by column."""
        import pyarrow as pa

        result = self._result
        assert result is not None
        columns = []
        for i in range(result.nfields):
            values = [result.get_value(row, i) or b"" for row in range(result.ntuples)]
            text = pa.array(values, pa.large_binary()).cast(pa.large_string())
            columns.append(_plain(text, result.ftype(i)))
        return pa.table(columns, names=self._names())

    def _explained(self, state: str, said: str, selection: Selection) -> BadInput:
        """An error of the server in the words of the intake; the snapshot stays open for other tables."""
        import psycopg

        try:
            self._connection.execute("rollback to savepoint before_rows")
            tables = [t for (t,) in self._connection.execute(_TABLES).fetchall()]
        except psycopg.Error:
            return selection.stop("ICP-E005", "broke off the connection while rows were read", "start again")
        if state == "42P01" and selection.table:
            message = f"has no such table{nearest(selection.table, tables)}; it has {', '.join(tables[:10]) or 'none'}"
            return selection.stop("ICP-E001", message, "correct table in [sources]", value=selection.table)
        code, message, fix = _BY_STATE.get(
            state, ("ICP-E100", "cannot be asked this", "correct the query in [sources]")
        )
        return selection.stop(code, f"{message}: {said}", fix)


_BY_STATE = {
    "42P01": ("ICP-E001", "asks for a table that is not there", "correct the query in [sources]"),
    "42703": ("ICP-E027", "asks for a column that is not there", "correct the query in [sources]"),
    "42501": ("ICP-E005", "may not be read by this user", "grant SELECT on it, or use another user"),
    "57014": ("ICP-E006", "took longer than timeout_seconds allows", "ask for less, or raise it"),
    "25006": ("ICP-E100", "wants to write", "write a query that only reads"),
    "0A000": ("ICP-E100", "is not a SELECT that only reads", "write a query that only reads"),
    "42601": ("ICP-E100", "is not one SELECT", "write a single SELECT"),
}


def _plain(text: pa.LargeStringArray, kind: int) -> pa.LargeStringArray:
    """What PostgreSQL writes in its own way, as other sources write it."""
    import pyarrow.compute as pc

    if kind == _BOOL:
        text = pc.replace_substring_regex(pc.replace_substring_regex(text, "^t$", "true"), "^f$", "false")
    if kind == _TIMESTAMP:
        text = pc.replace_substring_regex(text, " 00:00:00$", "")
    return pc.ascii_rtrim(text, " ") if kind == _CHAR else text


def _not_connected(said: str, url: str, name: str) -> BadInput:
    """Why there is no connection. Only host, port and database are named."""
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname or 'this machine'}:{parts.port or 5432}, database {unquote(parts.path[1:]) or '?'}"
    except ValueError:
        message, fix = "does not hold a connection string that is understood", "write postgresql://user@host/database"
        return BadInput(Problem("ICP-E100", message, fix, "icplab.toml", column=f"databases.{name}"))
    said = said.lower()
    message, fix = next(
        ((m, f) for word, m, f in _REFUSALS if word in said), ("cannot be connected to", "check the connection string")
    )
    return BadInput(Problem("ICP-E005", f"({where}) {message}", fix, name))
