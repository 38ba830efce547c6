"""Reads a large Parquet file of accounts and a frozen model, makes scores as Parquet without holding the file in memory.

Texts are read as the dictionary codes that Parquet holds, and row groups are scored side by side (`core.model.score_block`), with
memberships of segments where those come from a mixture (`segments.ColumnAssigner`).
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
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from icplab.core.engine import open_engine
from icplab.core.errors import BadInput, Problem
from icplab.core.model import Block, Columns, Model, Tally, score_block
from icplab.core.model.sql import literal
from icplab.features import type_values
from icplab.segments import ColumnAssigner

LARGE = 1_000_000  # accounts from which only the columns below are written
BLOCK = 131_072  # accounts per block
ROWS_WRITTEN = 1_048_576  # accounts per row group at most
MEMORY, THREADS = "1GB", 2
# Arrow types a trait of each kind may have to be read as it stands.
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
    out : file to write, with the columns of `score_block`; reasons and tier confidence are left out at this size

    Raises
    ------
    BadInput
        An account_id is blank or there twice, or is missing altogether.
    """
    with pq.ParquetFile(path) as file:
        groups, schema = file.num_row_groups, file.schema_arrow
    if "account_id" not in schema.names:
        raise BadInput(Problem("ICP-E027", "required column account_id is missing", "rename the column", path.name))
    beside = out.with_suffix(".part")
    scorer = Scorer(path, model, kinds, schema)
    try:
        tally, rising = _write(scorer, groups, beside)
        if not rising:
            with open_engine(threads=THREADS, memory_limit=MEMORY, folders=[path.parent]) as connection:
                _check_ids(connection, path)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)
    return Counted(
        dict(sorted(tally.tiers.items())),
        sorted(set(kinds) - set(schema.names)),
        {t: tally.blank[t] for t in kinds if tally.blank[t]},
        dict(tally.unseen),
    )


def _write(scorer: Scorer, groups: int, out: Path) -> tuple[Tally, bool]:
    """Row groups scored side by side, written in their order; whether ids rise, so that none can be there twice."""
    tally, rising, last, writer = Tally(), True, None, None
    try:
        for batches, counted, order in in_order(scorer.score_group, groups, THREADS):
            for batch in batches:
                writer = writer or _open_writer(out, batch.schema, scorer.assigner.shared)
                writer.write_batch(batch, row_group_size=ROWS_WRITTEN)
            tally.add(counted)
            first, end, sorted_ = order
            rising = rising and sorted_ and (last is None or first is None or last < first)
            last = end if end is not None else last
        writer = writer or _open_writer(out, scorer.score_nothing(), scorer.assigner.shared)
    finally:
        if writer is not None:
            writer.close()
    return tally, rising


def in_order(work: Callable[[int], Any], count: int, workers: int) -> Iterator[Any]:
    """Results of `work(0)`, `work(1)`, … in that order, `workers` of them at a time and no more held than that."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, k) for k in range(min(workers, count)))
        for k in range(count):
            result = waiting.popleft().result()
            if k + workers < count:
                waiting.append(pool.submit(work, k + workers))
            yield result


class Scorer:
    """A file and the model that it is scored with."""

    def __init__(self, path: Path, model: Model, kinds: dict[str, str], schema: pa.Schema) -> None:
        self.path, self.model = path, model
        self.assigner = ColumnAssigner(model.segments)
        self.read = [n for n in schema.names if n in {"account_id", "account_type", *kinds}]
        self.kinds = {n: kinds[n] for n in self.read if n in kinds}
        self.schema = pa.schema([schema.field(n) for n in self.read])
        # Lists are mostly all different: as dictionaries they would be looked up in vain.
        texts = {n for n in self.read if n == "account_type" or self.kinds.get(n) == "category"}
        self.texts = [n for n in self.read if n in texts and _fits(self.schema.field(n).type, "category")]
        self.typed = [n for n, kind in self.kinds.items() if not _fits(self.schema.field(n).type, kind)]

    def score_group(self, group: int) -> tuple[list[pa.RecordBatch], Tally, tuple[Any, Any, bool]]:
        """One row group scored; with its first and last id, and whether its ids rise."""
        tally, scored, rising, first, last = Tally(), [], True, None, None
        with pq.ParquetFile(self.path, read_dictionary=self.texts) as file:
            for batch in file.iter_batches(BLOCK, row_groups=[group], columns=self.read, use_threads=False):
                table = self.score_batch(batch, tally)
                scored.append(table)
                ids = table["account_id"]
                if ids.null_count:
                    name = self.path.name
                    raise BadInput(
                        Problem("ICP-E043", "is blank", file=name, column="account_id", count=ids.null_count)
                    )
                start, end = ids[0].as_py(), ids[-1].as_py()
                inside = bool(pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1)), min_count=0).as_py())
                rising = rising and inside and (last is None or last < start)
                first, last = start if first is None else first, end
        return scored, tally, (first, last, rising)

    def score_batch(self, batch: pa.RecordBatch, tally: Tally) -> pa.RecordBatch:
        """One batch scored; tiers, blanks and unseen levels are counted into `tally`."""
        for name in self.typed:
            place, values = batch.schema.get_field_index(name), batch[name].to_pandas().astype("str")
            typed = pa.array(type_values(values, self.kinds[name]), from_pandas=True)
            batch = batch.set_column(place, name, typed)
        columns = Columns(batch)
        table, counted = score_block(self.model, Block(columns, self.assigner.ids, self.assigner.memberships(columns)))
        for trait in self.kinds:
            floats = pa.types.is_floating(batch[trait].type)
            counted.blank[trait] += int(np.isnan(columns.number(trait)).sum()) if floats else batch[trait].null_count
        tally.add(counted)
        return table

    def score_nothing(self) -> pa.Schema:
        """Schema of what is written, from no account at all."""
        return self.score_batch(pa.RecordBatch.from_pylist([], schema=self.schema), Tally()).schema


def _fits(kind: pa.DataType, read_as: str) -> bool:
    """Whether an Arrow type can be read as a kind of trait as it stands."""
    return any(fits(kind) for fits in NATURAL[read_as])


def _open_writer(out: Path, schema: pa.Schema, shared: bool) -> pq.ParquetWriter:
    """Parquet with plain texts in it: dictionaries are how they are stored, not what they are.

    Where accounts are shared between segments hardly two have the same expected value: a dictionary of them would be in vain.
    """
    names = [n for n in schema.names if n != "account_id" and not (shared and n == "expected_value")]
    return pq.ParquetWriter(
        out, schema, compression="zstd", compression_level=1, use_dictionary=names, store_schema=False
    )


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
