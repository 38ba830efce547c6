"""Opens an in-process DuckDB, makes a connection that fetches nothing and touches only the folders it was given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

THREADS = 1  # sums in floating point depend on the number of threads; one keeps artefacts byte-identical
MEMORY_LIMIT = "1GB"


@contextmanager
def open_engine(
    *,
    threads: int = THREADS,
    memory_limit: str = MEMORY_LIMIT,
    folders: Sequence[Path | str] = (),
    database: Path | str | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB for the length of a `with` block: in memory, or a file for reading only.

    Extensions are neither installed nor loaded on their own, nothing outside `folders` is read or written, and the
    settings are locked, so that text from data can never widen what a query may touch.

    Parameters
    ----------
    threads
        Threads of the engine; default 1, because results in floating point then never depend on the machine.
    memory_limit
        Memory the engine may use before it spills to a temporary folder of its own, such as ``"1GB"``.
    folders
        Folders whose files queries may read and write. Frames are given with ``connection.register(name, frame)``.

    database
        A DuckDB file, opened for reading only; queries may then read that file and no other.

    Yields
    ------
    duckdb.DuckDBPyConnection
        Closed, and its temporary folder removed, when the block ends.

    Examples
    --------
    >>> with open_engine() as connection:
    ...     connection.execute("select 6 * 7").fetchone()
    (42,)
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="icplab-engine-") as spill:
        connection = duckdb.connect(
            ":memory:" if database is None else str(database),
            read_only=database is not None,
            config={
                "threads": threads,
                "memory_limit": memory_limit,
                "temp_directory": spill,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            },
        )
        try:
            allowed = ", ".join(_quoted(str(Path(f).resolve())) for f in folders)
            connection.execute(f"set allowed_directories = [{allowed}]")
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            yield connection
        finally:
            connection.close()


def _quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
