"""Reads a large Parquet file of accounts and a frozen model, makes scores as Parquet without holding the file in memory.

The scorecard runs as one query (`core.model.card_query`). Segments that come from a mixture are not a query: those accounts are
read in blocks, and the same query runs on each block with their memberships.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from icplab.core.engine import open_engine
from icplab.core.errors import BadInput, Problem
from icplab.core.model import OTHER, Model, add_segments, card_query, with_posteriors
from icplab.core.model.sql import literal, quoted
from icplab.features import type_values
from icplab.segments import assign_segments, posteriors_of

LARGE = 1_000_000  # accounts from which only the columns below are written
BLOCK = 131_072  # accounts per block where segments are a mixture
MEMORY, THREADS = "1GB", 2
COLUMNS = ("account_id", "segment_id", "motion", "points", "win_probability", "expected_value", "tier")
# Arrow types a trait of each kind may have to be read by the query as it stands.
NATURAL = {
    "number": (pa.types.is_integer, pa.types.is_floating),
    "flag": (pa.types.is_boolean,),
    "category": (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary),
    "multi": (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary),
}


@dataclass(frozen=True)
class Counted:
    """What a large scoring came to: accounts by tier, inputs that were missing, blanks and unseen levels per input."""

    tiers: dict[str, int]
    missing: list[str]
    unknown: dict[str, int]
    unseen: dict[str, int]


def is_large(path: Path) -> bool:
    """Whether a file is scored in the short form: Parquet of at least LARGE accounts."""
    return path.suffix == ".parquet" and path.is_file() and pq.ParquetFile(path).metadata.num_rows >= LARGE


def score_parquet(path: Path, model: Model, kinds: dict[str, str], out: Path) -> Counted:
    """Score a Parquet file into another one, in the order of its rows.

    Parameters
    ----------
    path : Parquet with account_id, once per account, and the model's inputs under the names it knows them by
    model : from `read_model`; usable
    kinds : traits that the model reads, and how (`icplab.run.score.input_kinds`)
    out : file to write, with the columns COLUMNS; reasons and tier confidence are left out at this size

    Raises
    ------
    BadInput
        An account_id is blank or there twice, or is missing altogether.
    """
    schema = pq.ParquetFile(path).schema_arrow
    if "account_id" not in schema.names:
        raise BadInput(Problem("ICP-E027", "required column account_id is missing", "rename the column", path.name))
    present = {t: k for t, k in kinds.items() if t in schema.names}
    whole = model.segments.get("kind", "whole") == "whole"
    natural = all(any(fits(schema.field(t).type) for fits in NATURAL[k]) for t, k in present.items())
    with open_engine(threads=THREADS, memory_limit=MEMORY, folders=[path.parent, out.parent]) as connection:
        _check_ids(connection, path)
        if whole and natural:
            source = (
                f"select {', '.join(_read(model, schema, kinds))} from read_parquet({literal(str(path.resolve()))})"
            )
            connection.execute(f"create temp view accounts as {source}")
            target = literal(str(out.resolve()))
            connection.execute(
                f"copy ({_written(model)}) to {target} (format parquet, compression zstd, compression_level 1)"
            )
        else:
            _by_blocks(connection, path, model, kinds, out)
        written = f"read_parquet({literal(str(out.resolve()))})"
        tiers = dict(connection.execute(f"select tier, count(*) from {written} group by tier order by tier").fetchall())
        unknown, unseen = _counts(connection, path, model, present)
    return Counted(tiers, sorted(set(kinds) - set(present)), unknown, unseen)


def _read(model: Model, schema: pa.Schema, kinds: dict[str, str]) -> list[str]:
    """Columns of the query's table `accounts`, absent ones unknown."""
    types = {"number": "double", "flag": "boolean", "category": "varchar", "multi": "varchar"}
    text = ("account_type",)
    columns = ["account_id"]
    columns += [quoted(c) if c in schema.names else f"cast(null as varchar) as {quoted(c)}" for c in text]
    kind = "account_type" if "account_type" in schema.names else "''"
    columns += [f"case when {kind} = 'customer' then 'expansion' else 'new' end as motion"]
    columns += [f"{literal(model.segments.get('ids', ['S0'])[0])} as segment_id"]
    for trait, as_kind in kinds.items():
        if trait not in schema.names:
            columns.append(f"cast(null as {types[as_kind]}) as {quoted(trait)}")
        elif pa.types.is_floating(schema.field(trait).type):
            columns.append(f"case when isnan({quoted(trait)}) then null else {quoted(trait)} end as {quoted(trait)}")
        else:
            columns.append(quoted(trait))
    return columns


def _written(model: Model) -> str:
    """The card's query with the columns that are written, rounded as scores are."""
    card = card_query(model, reasons=False, keep=("segment_id", "motion"))
    return (
        f"select account_id, segment_id, motion, points, round(win_probability, 6) as win_probability, "
        f"round(expected_value, 2) as expected_value, tier from ({card})"
    )


def _by_blocks(connection: Any, path: Path, model: Model, kinds: dict[str, str], out: Path) -> None:
    """Score block by block; every block is a table `accounts` with memberships."""
    writer = None
    query = _written(model)
    try:
        for market in _blocks(path, model, kinds):
            connection.register("accounts", pa.Table.from_pandas(market, preserve_index=False))
            table = connection.sql(query).to_arrow_table()
            connection.unregister("accounts")
            writer = writer or pq.ParquetWriter(out, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _blocks(path: Path, model: Model, kinds: dict[str, str]) -> Iterator[pd.DataFrame]:
    """Accounts with typed traits, motion, segment and memberships."""
    file = pq.ParquetFile(path)
    names = [n for n in file.schema_arrow.names if n in {"account_id", "account_type", *kinds}]
    for batch in file.iter_batches(BLOCK, columns=names):
        frame = batch.to_pandas().astype("str")
        frame = frame.assign(**{t: type_values(frame[t], k) for t, k in kinds.items() if t in frame})
        if "account_type" not in frame:
            frame["account_type"] = pd.Series(index=frame.index, dtype="str")
        frame["is_customer"] = (frame["account_type"] == "customer").astype("boolean")
        for trait in set(kinds) - set(frame):
            frame[trait] = pd.Series(index=frame.index, dtype=_EMPTY[kinds[trait]])
        members = with_posteriors(assign_segments(model.segments, frame), posteriors_of(model.segments, frame))
        yield add_segments(frame, members)


_EMPTY = {"number": "float64", "flag": "boolean", "category": "str", "multi": "str"}


def _check_ids(connection: Any, path: Path) -> None:
    """Every account once: blank or repeated ids would be scored twice or lost in a join."""
    rows, known, distinct = connection.execute(
        "select count(*), count(account_id), count(distinct hash(account_id)) filter (account_id is not null) "
        f"from read_parquet({literal(str(path.resolve()))})"
    ).fetchall()[0]
    if known < rows:
        raise BadInput(Problem("ICP-E043", "is blank", file=path.name, column="account_id", count=rows - known))
    if distinct < rows:
        raise BadInput(
            Problem("ICP-E042", "is there twice", file=path.name, column="account_id", count=rows - distinct)
        )


def _counts(
    connection: Any, path: Path, model: Model, present: dict[str, str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Blank values per trait, and levels the model never saw per category."""
    closed = [i for i in model.inputs if i.kind == "category" and i.trait in present and OTHER not in i.levels]
    parts = [f"count(*) - count({quoted(t)})" for t in present]
    parts += [f"count(*) filter ({quoted(i.trait)} not in ({', '.join(map(literal, i.levels))}))" for i in closed]
    if not parts:
        return {}, {}
    counts = connection.execute(
        f"select {', '.join(parts)} from read_parquet({literal(str(path.resolve()))})"
    ).fetchall()[0]
    unknown = {t: n for t, n in zip(present, counts, strict=False) if n}
    return unknown, {i.name: n for i, n in zip(closed, counts[len(present) :], strict=True) if n}
