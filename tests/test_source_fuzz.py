"""Damaged files of every kind end in a named error or in records, never in a traceback."""

from __future__ import annotations

import gzip
import io
import os
import random
import zipfile

import duckdb
import pandas as pd
import pytest

from icplab.core.config import Settings, Source
from icplab.core.errors import BadInput
from icplab.intake.sources import Connections, read_content
from tests.made_sources import OPPORTUNITIES, fill_sqlite, sheet_of, typed_rows, workbook, zipped

FUZZED = int(os.environ.get("ICPLAB_FUZZ", "40"))  # damaged files per kind; more on request


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undamaged file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    names, rows = typed_rows(OPPORTUNITIES)
    frame = pd.DataFrame(rows, columns=names)
    frame.to_parquet(folder / "a.parquet")
    fill_sqlite(folder / "a.sqlite")
    with duckdb.connect(str(folder / "a.duckdb")) as connection:
        connection.register("frame", frame)
        connection.execute("create table deals as select * from frame")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files |= {"a.csv.gz": gzip.compress(OPPORTUNITIES.encode(), mtime=0), "a.zip": zipped(d__csv=OPPORTUNITIES)}
    return files | {"a.xlsx": workbook(("Deals", sheet_of(OPPORTUNITIES)))}


def damaged(data, rng):
    """A few bytes changed, lost, added or cut off."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        at, kind = rng.randrange(len(data)), rng.randrange(9)
        if kind < 4:
            data[at] = rng.randrange(256)
        elif kind < 6:
            del data[at : at + rng.randrange(1, 20)]
        elif kind < 8:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del data[at:]
        data = data or bytearray(b"x")
    return bytes(data)


def damaged_inside(data, rng):
    """A workbook some of whose parts are damaged, while the archive itself is whole."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, damaged(content, rng) if rng.random() < 0.35 else content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((n, damaged) for n in ("a.parquet", "a.sqlite", "a.duckdb", "a.csv.gz", "a.zip", "a.xlsx")),
        ("a.xlsx", damaged_inside),
    ],
)
def test_damaged_files_end_in_a_named_error_or_in_records(tmp_path, whole, name, damage):
    rng = random.Random(20260630)
    table = "deals" if name in ("a.sqlite", "a.duckdb") else ""
    problems = []
    for _ in range(FUZZED):
        (tmp_path / name).write_bytes(damage(whole[name], rng))
        try:
            with Connections(Settings()) as connections:
                source = Source(file=name, table=table)
                content = read_content(tmp_path / name, name, "opportunities", source, set(), connections, [])
            assert len(content.records.cells) == len(content.records.widths) == len(content.records.lines) > 0
        except BadInput as error:
            problems += error.problems
    assert all(p.code.startswith("ICP-E") and p.file == name and p.fix for p in problems)
    assert len(problems) > FUZZED // 5
