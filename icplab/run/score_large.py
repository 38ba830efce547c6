"""Reads a large Parquet file of accounts and a frozen model, makes scores as Parquet without holding the file in memory.

Texts are read as the dictionary codes that Parquet holds, and row groups are scored side by side (`core.model.score_block`). Where
segments come from a mixture, or a trait has to be typed first, accounts are read in smaller blocks, and the scorecard runs as a
query (`core.model.card_query`) on each block with its memberships.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from icplab.core.engine import open_engine
from icplab.core.errors import BadInput, Problem
from icplab.core.model import OTHER, Block, Model, Tally, add_segments, card_query, score_block, with_posteriors
from icplab.core.model.sql import literal, quoted
from icplab.features import type_values
from icplab.segments import assign_segments, posteriors_of

LARGE = 1_000_000  # accounts from which only the columns below are written
BLOCK = 131_072  # accounts per block
ROWS_WRITTEN = 1_048_576  # accounts per row group at most
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
    beside = out.with_suffix(".part")
    try:
        scored = _by_columns if whole and natural else _by_blocks
        counted = scored(path, model, kinds, beside)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)
    return counted


def _by_columns(path: Path, model: Model, kinds: dict[str, str], out: Path) -> Counted:
    """Row groups side by side, written in their order; ids in rising order need no search for doubles."""
    with pq.ParquetFile(path) as file:
        groups, names = file.num_row_groups, file.schema_arrow.names
    read = [n for n in names if n in {"account_id", "account_type", *kinds}]
    tally, rising, last = Tally(), True, None
    writer = None
    try:
        for batches, counted, order in in_order(lambda g: _score_group(path, g, read, model, kinds), groups, THREADS):
            for batch in batches:
                writer = writer or _open_writer(out, batch.schema)
                writer.write_batch(batch, row_group_size=ROWS_WRITTEN)
            tally.add(counted)
            first, end, sorted_ = order
            rising = rising and sorted_ and (last is None or first is None or last < first)
            last = end if end is not None else last
        if writer is None:
            writer = _open_writer(out, score_block(model, Block(_nothing(path, read), _segment(model)))[0].schema)
    finally:
        if writer is not None:
            writer.close()
    if not rising:
        with open_engine(threads=THREADS, memory_limit=MEMORY, folders=[path.parent]) as connection:
            _check_ids(connection, path)
    present = {t for t in kinds if t in names}
    return Counted(
        dict(sorted(tally.tiers.items())),
        sorted(set(kinds) - present),
        {t: tally.blank[t] for t in kinds if tally.blank[t]},
        dict(tally.unseen),
    )


def in_order(work: Callable[[int], Any], count: int, workers: int) -> Iterator[Any]:
    """Results of `work(0)`, `work(1)`, … in that order, `workers` of them at a time and no more held than that."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, k) for k in range(min(workers, count)))
        for k in range(count):
            result = waiting.popleft().result()
            if k + workers < count:
                waiting.append(pool.submit(work, k + workers))
            yield result


def _score_group(
    path: Path, group: int, read: list[str], model: Model, kinds: dict[str, str]
) -> tuple[list[pa.RecordBatch], Tally, tuple[Any, Any, bool]]:
    """One row group scored; with its first and last id, and whether its ids rise."""
    texts = [n for n in read if n == "account_type" or kinds.get(n) in ("category", "multi")]
    tally, scored, rising, first, last = Tally(), [], True, None, None
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(BLOCK, row_groups=[group], columns=read, use_threads=False):
            block = Block(batch, _segment(model))
            table, counted = score_block(model, block)
            for trait in (t for t in kinds if t in read):
                column = batch[trait]
                floats = pa.types.is_floating(column.type)
                counted.blank[trait] += int(np.isnan(block.number(trait)).sum()) if floats else column.null_count
            tally.add(counted)
            scored.append(table)
            ids = table["account_id"]
            if ids.null_count:
                raise BadInput(
                    Problem("ICP-E043", "is blank", file=path.name, column="account_id", count=ids.null_count)
                )
            start, end = ids[0].as_py(), ids[-1].as_py()
            inside = bool(pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1)), min_count=0).as_py())
            rising = rising and inside and (last is None or last < start)
            first, last = start if first is None else first, end
    return scored, tally, (first, last, rising)


def _segment(model: Model) -> str:
    return str(model.segments.get("ids", ["S0"])[0])


def _nothing(path: Path, read: list[str]) -> pa.RecordBatch:
    """No account, with the columns of the file."""
    schema = pq.ParquetFile(path).schema_arrow
    return pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(n) for n in read]))


def _open_writer(out: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Parquet with plain texts in it: dictionaries are how they are stored, not what they are."""
    names = [n for n in schema.names if n != "account_id"]
    return pq.ParquetWriter(
        out, schema, compression="zstd", compression_level=1, use_dictionary=names, store_schema=False
    )


def _written(model: Model) -> str:
    """The card's query with the columns that are written, rounded as scores are."""
    card = card_query(model, reasons=False, keep=("segment_id", "motion"))
    return (
        f"select account_id, segment_id, motion, points, round(win_probability, 6) as win_probability, "
        f"round(expected_value, 2) as expected_value, tier from ({card})"
    )


def _by_blocks(path: Path, model: Model, kinds: dict[str, str], out: Path) -> Counted:
    """Score block by block; every block is a table `accounts` with memberships."""
    names = pq.ParquetFile(path).schema_arrow.names
    present = {t: k for t, k in kinds.items() if t in names}
    writer, query = None, _written(model)
    with open_engine(threads=THREADS, memory_limit=MEMORY, folders=[path.parent, out.parent]) as connection:
        _check_ids(connection, path)
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
        written = f"read_parquet({literal(str(out.resolve()))})"
        tiers = dict(connection.execute(f"select tier, count(*) from {written} group by tier order by tier").fetchall())
        unknown, unseen = _counts(connection, path, model, present)
    return Counted(tiers, sorted(set(kinds) - set(present)), unknown, unseen)


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
