"""Reads generated opportunity exports, makes a table of seconds and memory of reading them, beside pandas and DuckDB.

`python -m benchmarks.ingest [--rows N] [--repeats N]` writes an untidy and a clean export of N opportunities (400,000 by
default, about 90 MB; 4,300,000 make 1 GB), lets every contender read each of them in a process of its own, in turns, and
writes `benchmarks/results/ingest.json`. Peers: pandas' C parser with every column cleaned and typed and Parquet written, and
DuckDB splitting the file into text and writing nothing. Ours does what `icplab run` does first: hash, structure, types, all
checks, ledger, sorted Parquet. There are few accounts, because the matching of accounts is not what is measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.exports import write_workspace
from benchmarks.speed import compile_everything

RESULTS = Path(__file__).parent / "results" / "ingest.json"
CONTENDERS = ("icplab", "pandas", "duckdb")
TARGETS = {"pandas": 5.0, "duckdb": 5.0}
"""At least so many times faster than pandas with types; at most so many times what DuckDB takes to split the file."""


def main() -> None:
    """Measure, print, write; or, as a contender, read one workspace and print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "WORKSPACE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(contend(options.contender[0], Path(options.contender[1]))))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compile_everything()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(Path(folder), kind, options.rows, options.repeats, options.only) for kind in ("untidy", "clean")
        ]
    print(as_table(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rows": rows, "load": os.getloadavg()}, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, kind: str, rows: int, repeats: int, contenders: list[str]) -> dict:
    """Medians of all contenders on one export."""
    workspace = folder / kind
    write_workspace(workspace, rows, untidy=kind == "untidy")
    size = (workspace / "opportunities.csv").stat().st_size
    found: dict[str, list[dict]] = {c: [] for c in contenders}
    for _ in range(repeats):
        for contender in contenders:
            command = [sys.executable, "-m", "benchmarks.ingest", "--contender", contender, str(workspace)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
            found[contender].append(json.loads(done.stdout))
    medians = {c: {k: statistics.median(f[k] for f in all_) for k in all_[0]} for c, all_ in found.items()}
    return {"export": kind, "records": rows, "megabytes": round(size / 1e6), "contenders": medians}


def contend(name: str, workspace: Path) -> dict[str, float]:
    """One contender's seconds (wall and processor, without imports) and peak memory in MB."""
    read = {"icplab": read_icplab, "pandas": read_pandas, "duckdb": read_duckdb}[name]
    with tempfile.TemporaryDirectory() as folder:
        work = read(workspace, Path(folder))
        began, used = time.perf_counter(), time.process_time()
        work()
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 3), "processor": round(processor, 3), "megabytes": round(peak)}


def read_icplab(workspace: Path, out: Path) -> object:
    """The intake as a run does it."""
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    import icplab.intake.take as take

    return lambda: take.take_in(workspace, out / "run")


def read_pandas(workspace: Path, out: Path) -> object:
    """pandas' C parser, then every column as the schema declares it, then Parquet; broken lines are skipped."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401

    path, pattern = workspace / "opportunities.csv", "%Y-%m-%d"
    if 'thousands = ","' in (workspace / "icplab.toml").read_text(encoding="utf-8"):
        pattern = "%m/%d/%Y"

    def work() -> None:
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, na_values=["", "N/A", "NULL", "#N/A"], on_bad_lines="skip"
        )
        for name in ("Created Date", "Close Date", "Last Modified"):
            frame[name] = pd.to_datetime(frame[name], format=pattern)
        frame["Amount"] = pd.to_numeric(frame["Amount"].str.replace("[$,]", "", regex=True))
        frame["Probability"] = pd.to_numeric(frame["Probability"].str.rstrip("%")) / 100
        frame.to_parquet(out / "table.parquet", compression="zstd")

    return work


def read_duckdb(workspace: Path, out: Path) -> object:
    """DuckDB's parser on all threads, every column as text, nothing typed and nothing written."""
    import duckdb

    path = workspace / "opportunities.csv"
    names = path.open(encoding="utf-8").readline().strip().split(",")
    options = "all_varchar=true, header=true, delim=',', quote='\"', escape='\"', auto_detect=false, store_rejects=true"
    columns = "{" + ", ".join(f"'{n}': 'VARCHAR'" for n in names) + "}"
    counts = ", ".join(f'count("{n}")' for n in names)
    query = f"select {counts} from read_csv(?, {options}, columns={columns})"
    return lambda: duckdb.connect().execute(query, [str(path)]).fetchall()


def as_table(rows: list[dict]) -> str:
    """The rows for people: seconds, processor seconds and memory, then the ratios with their targets."""
    lines = []
    for row in rows:
        lines.append(f"{row['export']} export, {row['records']:,} records, {row['megabytes']} MB")
        ours = row["contenders"].get("icplab")
        for name, found in row["contenders"].items():
            line = f"  {name:<8} {found['seconds']:>7.2f} s {found['processor']:>7.2f} s of processor {found['megabytes']:>6.0f} MB"
            if ours and name == "pandas":
                line += f"   {found['seconds'] / ours['seconds']:.1f} times ours, target ≥ {TARGETS[name]:g}"
            if ours and name == "duckdb":
                line += f"   ours is {ours['seconds'] / found['seconds']:.1f} times this, target ≤ {TARGETS[name]:g}"
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
