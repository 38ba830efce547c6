"""Times scoring: a large Parquet file against a bare scan and pandas map, 200 calibration bands against refitting.

`python -m benchmarks.speed_scoring --rows 1000000` writes the file, scores it and prints seconds, ratios and peak memory. Every
contender is a process of its own and runs beside the others, because the machine may be shared: only ratios mean anything.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

TRAITS, LEVELS = 20, 6
CONTENDERS = ("scan", "icplab", "pandas")


def write_accounts(path: Path, rows: int, seed: int = 1) -> None:
    """Accounts with ten categories, five numbers and five flags, in blocks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(seed), None
    for start in range(0, rows, 500_000):
        n = min(500_000, rows - start)
        columns = {"account_id": pa.array([f"A{i:09d}" for i in range(start, start + n)])}
        for k in range(10):
            names = pa.array([f"level {k} {j}" for j in range(LEVELS)])
            columns[f"c{k}"] = pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, LEVELS, n), pa.int32()), names
            ).cast(pa.string())
        columns |= {f"n{k}": pa.array(rng.lognormal(4, 1, n)) for k in range(5)}
        columns |= {f"f{k}": pa.array(rng.random(n) < 0.3) for k in range(5)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    if writer:
        writer.close()


def model():  # type: ignore[no-untyped-def]
    """A card of all twenty traits."""
    from icplab.core.model import Input, Model, Value

    rng = np.random.default_rng(2)

    def draw(n: int) -> tuple[float, ...]:
        return tuple(float(p) for p in rng.integers(-8, 9, n))

    inputs = [
        Input(f"c{k}", "accounts", "category", tuple(f"level {k} {j}" for j in range(LEVELS)), draw(LEVELS))
        for k in range(10)
    ]
    inputs += [
        Input(f"n{k}", "accounts", "number", tuple("abcdef"), draw(6), 0.0, (20.0, 40.0, 60.0, 100.0, 200.0))
        for k in range(5)
    ]
    inputs += [Input(f"f{k}", "accounts", "flag", ("no", "yes"), draw(2)) for k in range(5)]
    segments = {
        "kind": "whole",
        "ids": ["S0"],
        "names": ["all"],
        "recipe": {"numbers": [], "discrete": [], "left_out": []},
    }
    cuts = {"tier_1": 400.0, "tier_2": 200.0, "tier_3": 10.0}
    return Model(
        *("2026-06-30", "bench", "", 365, "EUR", "usable", 0.2, 80, tuple(inputs), (-3.0, 0.03)),
        value=Value("amount", 7.0), cuts=cuts, segments=segments,
    )  # fmt: skip


def scan(path: Path, out: Path) -> None:
    """Every column read, nothing written."""
    from icplab.core.engine import open_engine

    with open_engine(threads=2, folders=[path.parent]) as connection:
        names = [d[0] for d in connection.execute(f"select * from read_parquet('{path}') limit 0").description]
        sums = ", ".join(f"count({n}), max({n})" for n in names)
        connection.execute(f"select {sums} from read_parquet('{path}')").fetchall()


def icplab(path: Path, out: Path) -> None:
    from icplab.run.score import input_kinds
    from icplab.run.score_large import score_parquet

    card = model()
    score_parquet(path, card, input_kinds(card), out)


def pandas(path: Path, out: Path) -> None:
    """The idiomatic twin: map per category and flag, cut per number, the sum, probability, value and tier."""
    frame, card = pd.read_parquet(path), model()
    points = np.full(len(frame), float(card.base_points))
    for item in card.inputs:
        column = frame[item.trait]
        if item.kind == "category":
            points += column.map(dict(zip(item.levels, item.points, strict=True))).fillna(item.missing).to_numpy()
        elif item.kind == "number":
            bins = [-np.inf, *item.edges, np.inf]
            points += pd.cut(column, bins, right=False, labels=False).map(dict(enumerate(item.points))).to_numpy()
        else:
            points += column.map({False: item.points[0], True: item.points[1]}).to_numpy()
    chance = 1 / (1 + np.exp(-(card.calibration[0] + card.calibration[1] * points)))
    expected = chance * np.exp(card.value.intercept)
    cuts = [-np.inf, *sorted(card.cuts.values()), np.inf]
    tier = pd.cut(expected, cuts, right=False, labels=["not_icp", "tier_3", "tier_2", "tier_1"])
    scored = {"account_id": frame["account_id"], "points": points, "win_probability": chance}
    pd.DataFrame({**scored, "expected_value": expected, "tier": tier}).to_parquet(out)


def calibration_bands(rows: int = 100_000, bands: int = 200, refits: int = 4) -> dict[str, float]:
    """Seconds for consistency bands by groups of equal scores, and for refitting an isotonic regression per resample."""
    from sklearn.isotonic import IsotonicRegression

    from icplab.scores.reliability import reliability_curve

    rng = np.random.default_rng(3)
    p = 1 / (1 + np.exp(-(-1.5 + 0.1 * np.rint(rng.normal(0, 8, rows)))))
    y = (rng.random(rows) < p).astype(float)
    start = time.perf_counter()
    reliability_curve(p, y, np.ones(rows), 1, bands)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(refits):
        drawn = (rng.random(rows) < p).astype(float)
        IsotonicRegression().fit(p, drawn).predict(p)
    theirs = (time.perf_counter() - start) / refits * bands
    return {"ours_s": ours, "refitting_s_extrapolated": theirs, "ratio": theirs / ours}


def measure(name: str, path: Path) -> dict[str, float]:
    """One contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed_scoring", "--contend", name, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contend", choices=CONTENDERS)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.contend:
        import pyarrow.parquet  # noqa: F401  (imports are not what is compared)

        out = given.file.with_name(f"{given.contend}.parquet")
        out.unlink(missing_ok=True)
        at = resource.getrusage(resource.RUSAGE_SELF)
        before, start = at.ru_utime + at.ru_stime, time.perf_counter()
        {"scan": scan, "icplab": icplab, "pandas": pandas}[given.contend](given.file, out)
        seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        work = used.ru_utime + used.ru_stime - before
        print(json.dumps({"seconds": seconds, "cpu": work, "peak_mb": used.ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "accounts.parquet")
        write_accounts(path, given.rows)
        rounds = [{name: measure(name, path) for name in CONTENDERS} for _ in range(given.repeats)]
    best = {n: min(r[n]["seconds"] for r in rounds) for n in CONTENDERS}
    work = {n: min(r[n]["cpu"] for r in rounds) for n in CONTENDERS}
    peak = {n: max(r[n]["peak_mb"] for r in rounds) for n in CONTENDERS}
    print(f"{given.rows:,} accounts × {TRAITS} traits, best of {given.repeats}")
    for name in CONTENDERS:
        print(f"  {name:8} {best[name]:8.2f} s {best[name] / best['scan']:6.2f} × scan {peak[name]:8.0f} MB"
              f"   processor {work[name]:8.2f} s {work[name] / work['scan']:6.2f} × scan")  # fmt: skip
    print(f"  pandas / icplab: {best['pandas'] / best['icplab']:.1f} (processor {work['pandas'] / work['icplab']:.1f})")
    print("calibration bands:", {k: round(v, 3) for k, v in calibration_bands().items()})


if __name__ == "__main__":
    main()
