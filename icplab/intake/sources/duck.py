"""Reads a DuckDB file, makes rows of text; the file is opened for reading, and no query can touch another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from icplab.core.engine import open_engine
from icplab.core.errors import BadInput, Problem, nearest
from icplab.intake.sources.rows import ROWS_AT_ONCE, Selection, quoted_name
from icplab.intake.sources.texts import text_table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def open_duckdb(path: Path, name: str) -> DuckDriver:
    """Open a DuckDB file. ICP-E005 another program holds it, E014 it is damaged or of a version that cannot be read."""
    import duckdb

    stack = ExitStack()
    try:
        return DuckDriver(stack.enter_context(open_engine(database=path)), stack)
    except duckdb.Error as error:
        if "set lock on file" in str(error):
            message, fix = "is open in another program", "close that program, or make a copy with it"
            raise BadInput(Problem("ICP-E005", message, fix, name)) from error
        message, fix = "cannot be opened by this version of DuckDB", "export the table as Parquet"
        raise BadInput(Problem("ICP-E014", message, fix, name)) from error


class DuckDriver:
    """One DuckDB file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stack: ExitStack) -> None:
        self._connection, self._stack = connection, stack
        self._relation: duckdb.DuckDBPyRelation | None = None

    def columns(self, selection: Selection) -> list[str]:
        """Names of the columns. ICP-E001 no such table, E100 the query is wrong or more than one SELECT."""
        import duckdb

        try:
            query = selection.query or f"select * from {quoted_name(selection.table)}"
            statements = self._connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise selection.stop("ICP-E100", "is more than one SELECT", "write a query that only reads")
            self._relation = self._connection.sql(query)
        except duckdb.Error as error:
            raise self._explained(error, selection) from error
        return list(self._relation.columns)

    def batches(self, selection: Selection) -> Iterator[pa.Table]:
        """Rows as text; the statement was prepared by `columns`."""
        import duckdb
        import pyarrow as pa

        assert self._relation is not None
        try:
            for batch in self._relation.to_arrow_reader(ROWS_AT_ONCE):
                yield text_table(pa.Table.from_batches([batch]), selection.name)
        except (duckdb.Error, pa.ArrowException) as error:
            raise self._explained(error, selection) from error

    def close(self) -> None:
        self._relation = None
        self._stack.close()

    def _explained(self, error: Exception, selection: Selection) -> BadInput:
        """An error of DuckDB in the words of the intake."""
        import duckdb

        said = str(error).split("\n")[0]
        if isinstance(error, duckdb.CatalogException) and selection.table:
            rows = self._connection.execute("select table_name from information_schema.tables order by 1").fetchall()
            tables = [t for (t,) in rows]
            message = f"has no such table{nearest(selection.table, tables)}; it has {', '.join(tables[:10]) or 'none'}"
            return selection.stop("ICP-E001", message, "correct table in [sources]", value=selection.table)
        if isinstance(error, duckdb.PermissionException):
            return selection.stop("ICP-E004", "asks for something outside its own file", "take it out of the query")
        return selection.stop("ICP-E100", f"cannot be asked this: {said}", "correct the query in [sources]")
