"""Opens DuckDB in this process, or Spark: a connection that fetches nothing, and one set of queries that runs on both."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyarrow as pa

from icplab.core.errors import BadInput, Problem

if TYPE_CHECKING:
    import duckdb

ENGINE_VARIABLE = "ICPLAB_ENGINE"  # how a run tells its kernels which engine to use
DUCKDB, SPARK = "duckdb", "spark"
THREADS = 1  # sums in floating point depend on the number of threads; one keeps artefacts byte-identical
MEMORY_LIMIT = "1GB"
# Grouping by a whole number below 2^22 uses an array instead of a hash table: a third of the time at 20 million rows.
ARRAY_GROUPS_BITS = 22


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
                "perfect_ht_threshold": ARRAY_GROUPS_BITS,
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


class Session(Protocol):
    """An engine with named tables. Queries are written in DuckDB's SQL and translated where the engine is another."""

    def give(self, name: str, source: pd.DataFrame | pa.Table | Path) -> None:
        """Make a frame, or a Parquet file that is read only as far as a query needs, known under a name."""

    def view(self, name: str, query: str) -> None:
        """Name a query without running it."""

    def keep(self, name: str, query: str) -> None:
        """Run a query and keep its rows under a name for as long as the session lasts."""

    def fetch(self, query: str) -> pd.DataFrame:
        """Rows of a query as a frame."""


@contextmanager
def open_session(engine: str = "", *, folders: Sequence[Path | str] = ()) -> Iterator[Session]:
    """Open an engine for the length of a `with` block.

    Parameters
    ----------
    engine
        ``"duckdb"``; ``"spark"`` for Spark on all cores of this machine; or a master, such as ``"local[2]"`` or
        ``"spark://host:7077"``. Empty takes the environment variable ICPLAB_ENGINE, else DuckDB.
    folders
        Folders whose files queries may read (DuckDB refuses all others).

    Raises
    ------
    BadInput
        The engine has another name, or is not installed.
    """
    engine = engine or os.environ.get(ENGINE_VARIABLE, "") or DUCKDB
    check_engine(engine)
    if engine == DUCKDB:
        with open_engine(folders=folders) as connection:
            yield DuckDBSession(connection)
    else:
        session = SparkSession(_spark("local[*]" if engine == SPARK else engine))
        try:
            yield session
        finally:
            session.forget()


def check_engine(engine: str) -> None:
    """Refuse an engine that does not exist or is not installed, before anything is written."""
    import shutil
    from importlib.util import find_spec

    if engine == DUCKDB:
        return
    if not re.fullmatch(r"spark|spark://[\w.,:-]+|local(\[(\*|\d+)\])?|yarn|k8s://\S+", engine):
        fix = "write duckdb, spark, or the address of a Spark master such as spark://host:7077 or local[2]"
        raise BadInput(Problem("ICP-E100", "is not an engine", fix, file="--engine", value=engine))
    lacking = [name for name in ("pyspark", "sqlglot") if find_spec(name) is None]
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        lacking.append("Java 17")
    if lacking:
        message = f"needs {', '.join(lacking)}"
        fix = "install the extra of that name: pip install 'icplab[spark]', and Java 17 from your system"
        raise BadInput(Problem("ICP-E100", message, fix, file="--engine", value=engine))


class DuckDBSession:
    """A `Session` on DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def give(self, name: str, source: pd.DataFrame | pa.Table | Path) -> None:
        if isinstance(source, Path):
            path = _quoted(str(source.resolve()))
            self.connection.execute(f"create temp view {name} as select * from read_parquet({path})")
        else:
            self.connection.register(name, _arrow(source))

    def give_rows(self, name: str, path: Path, first: int, last: int | None = None) -> None:
        """Rows of a Parquet file from place `first` up to, not with, `last`; other row groups are not read."""
        place = f"file_row_number >= {int(first)}" + ("" if last is None else f" and file_row_number < {int(last)}")
        rows = f"read_parquet({_quoted(str(path.resolve()))}, file_row_number = true)"
        self.connection.execute(f"create temp view {name} as select * from {rows} where {place}")

    def view(self, name: str, query: str) -> None:
        self.connection.execute(f"create temp view {name} as {query}")

    def keep(self, name: str, query: str) -> None:
        self.connection.execute(f"create temp table {name} as {query}")

    def fetch(self, query: str) -> pd.DataFrame:
        return _frame(self.connection.sql(query).to_arrow_table())


class SparkSession:
    """A `Session` on Spark; the names are temporary views of the one Spark session of this process."""

    def __init__(self, spark: Any) -> None:
        self.spark = spark
        self.kept: list[Any] = []

    def give(self, name: str, source: pd.DataFrame | pa.Table | Path) -> None:
        if isinstance(source, Path):
            rows = self.spark.read.parquet(source.resolve().as_uri())
        else:
            rows = self.spark.createDataFrame(_arrow(source))
        rows.createOrReplaceTempView(name)

    def view(self, name: str, query: str) -> None:
        self.spark.sql(to_spark(query)).createOrReplaceTempView(name)

    def keep(self, name: str, query: str) -> None:
        rows = self.spark.sql(to_spark(query)).cache()
        self.kept.append(rows)
        rows.createOrReplaceTempView(name)

    def fetch(self, query: str) -> pd.DataFrame:
        return _frame(self.spark.sql(to_spark(query)).toArrow())

    def forget(self) -> None:
        """Let go of what was kept: the next session may read other files under the same names."""
        for rows in self.kept:
            rows.unpersist()


def to_spark(query: str) -> str:
    """DuckDB's SQL as Spark's."""
    import sqlglot

    return sqlglot.transpile(query, read="duckdb", write="spark")[0]


def _spark(master: str) -> Any:
    """The Spark session of this process; it answers on the loopback address only while the master is this machine."""
    from pyspark.sql import SparkSession as Builder

    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
    }
    if master.startswith("local"):
        settings["spark.sql.shuffle.partitions"] = "4"  # a cluster's own settings say how many it wants
    builder = Builder.builder.master(master).appName("icplab")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _arrow(source: pd.DataFrame | pa.Table) -> pa.Table:
    """A frame as Arrow, its text in the type that both engines take."""
    table = source if isinstance(source, pa.Table) else pa.Table.from_pandas(source, preserve_index=False)
    plain = [f.with_type(pa.string()) if pa.types.is_large_string(f.type) else f for f in table.schema]
    return table.cast(pa.schema(plain)).replace_schema_metadata(None)


def _frame(table: pa.Table) -> pd.DataFrame:
    """Rows of a query: text as str, flags with a missing state, dates in microseconds."""
    return table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get, split_blocks=True, self_destruct=True)


def _quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
