"""Times scoring: a large Parquet file against a bare scan and pandas map, 200 calibration bands against refitting.

`python -m benchmarks.speed_scoring --rows 1000000` writes the file, scores it and prints seconds, ratios and peak memory. Every
contender is a process of its own and runs beside the others, because the machine may be shared: only ratios mean anything.
`--segments` says what the model knows of segments: the whole market as one, a mixture over all twenty traits, or such a mixture
with a column of tools, nearly every account with a list of its own.
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

TRAITS, LEVELS, TOOLS = 20, 6, 40
SEGMENTS = ("whole", "mixture", "tools")


def write_accounts(path: Path, rows: int, segments: str = "whole", seed: int = 1) -> None:
    """Accounts with ten categories (the last a list of tools, where asked for), five numbers and five flags, in blocks."""
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
        if segments == "tools":
            row, tool = np.nonzero(rng.random((n, TOOLS)) < 0.1)
            ends = np.searchsorted(row, np.arange(n + 1)).astype("int32")
            held = pa.array([f"tool {k}" for k in range(TOOLS)]).take(pa.array(tool))
            columns["c9"] = pa.compute.binary_join(pa.ListArray.from_arrays(pa.array(ends), held), ";")
        columns |= {f"n{k}": pa.array(rng.lognormal(4, 1, n)) for k in range(5)}
        columns |= {f"f{k}": pa.array(rng.random(n) < 0.3) for k in range(5)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    if writer:
        writer.close()


def model(segments: str = "whole"):  # type: ignore[no-untyped-def]
    """A card of all twenty traits; with a mixture also of its four segments, which stand for two of the categories."""
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
    value, ids = Value("amount", 7.0), ("S1", "S2", "S3", "S4")
    if segments != "whole":
        inputs = [Input("segment", "accounts", "posterior", ids, draw(4)), *inputs[:8], *inputs[10:]]
        value = Value("amount", 7.0, (Input("segment", "accounts", "posterior", ids, (0.0, 0.2, 0.4, 0.6)),))
    cuts = {"tier_1": 400.0, "tier_2": 200.0, "tier_3": 10.0}
    return Model(
        *("2026-06-30", "bench", "", 365, "EUR", "usable", 0.2, 80, tuple(inputs), (-3.0, 0.03)),
        value=value, cuts=cuts, segments=assigner(segments),
    )  # fmt: skip


def assigner(segments: str) -> dict:
    """Segments as a frozen model holds them: one for all, or four of a mixture over all twenty traits."""
    recipe: dict[str, list] = {"numbers": [], "discrete": [], "left_out": []}
    if segments == "whole":
        return {"kind": "whole", "ids": ["S0"], "names": ["all"], "recipe": recipe}
    rng = np.random.default_rng(3)
    scores = np.linspace(-2.5, 2.5, 51)
    recipe["numbers"] = [{"kind": "number", "trait": f"n{k}", "values": np.exp(4 + scores).tolist(), "scores": scores.tolist()} for k in range(5)]  # fmt: skip
    for k in range(9 if segments == "tools" else 10):
        recipe["discrete"].append(
            {"kind": "category", "trait": f"c{k}", "levels": [f"level {k} {j}" for j in range(LEVELS)]}
        )
    two = ["no", "yes"]
    recipe["discrete"] += [{"kind": "flag", "trait": f"f{k}", "levels": two} for k in range(5)]
    if segments == "tools":
        recipe["discrete"] += [
            {"kind": "tool", "trait": "c9", "tool": f"tool {k}", "levels": two} for k in range(TOOLS)
        ]
    rate = np.vstack([rng.dirichlet(np.full(len(e["levels"]), 8.0), 4).T for e in recipe["discrete"]])
    return {
        "kind": "mixture",
        "ids": ["S1", "S2", "S3", "S4"],
        "names": ["one", "two", "three", "four"],
        "recipe": recipe,
        "weight": [0.4, 0.3, 0.2, 0.1],
        "mean": rng.normal(0, 0.7, (4, 5)).tolist(),
        "covariance": (np.eye(5) * 0.6 + 0.2).tolist(),
        "rate": rate.tolist(),
        "own": np.ones((len(recipe["discrete"]), 4), dtype=bool).tolist(),
        "min_known_share": 0.2,
    }


def scan(path: Path, out: Path, segments: str) -> None:
    """Every column read, nothing written."""
    from icplab.core.engine import open_engine

    with open_engine(threads=2, folders=[path.parent]) as connection:
        names = [d[0] for d in connection.execute(f"select * from read_parquet('{path}') limit 0").description]
        sums = ", ".join(f"count({n}), max({n})" for n in names)
        connection.execute(f"select {sums} from read_parquet('{path}')").fetchall()


def icplab(path: Path, out: Path, segments: str) -> None:
    from icplab.run.score import input_kinds
    from icplab.run.score_large import score_parquet

    card = model(segments)
    score_parquet(path, card, input_kinds(card), out)


def pandas(path: Path, out: Path, segments: str) -> dict[str, float]:
    """The idiomatic twin without segments: read, `map_frame`, write."""
    frame, card = pd.read_parquet(path), model()
    at = clock()
    scored = map_frame(frame, card)
    inner = since(at)
    scored.to_parquet(out)
    return {f"inner_{name}": value for name, value in inner.items()}


def map_frame(frame: pd.DataFrame, card) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    """Map per category and flag, cut per number, the sum, probability, value and tier."""
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
    return pd.DataFrame({**scored, "expected_value": expected, "tier": tier})


def in_memory(path: Path, out: Path, segments: str) -> dict[str, float]:
    """icplab on blocks that are in memory as Arrow reads them, one thread; no file is written."""
    import pyarrow.parquet as pq

    from icplab.run.score import input_kinds
    from icplab.run.score_large import BLOCK, Scorer, Tally

    card = model(segments)
    with pq.ParquetFile(path) as file:
        scorer = Scorer(path, card, input_kinds(card), file.schema_arrow)
    with pq.ParquetFile(path, read_dictionary=scorer.texts) as file:
        blocks = list(file.iter_batches(BLOCK, columns=scorer.read))
    at, tally = clock(), Tally()
    for block in blocks:
        scorer.score_batch(block, tally)
    return {f"inner_{name}": value for name, value in since(at).items()}


def clock() -> tuple[float, float]:
    """Wall and processor seconds so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def since(at: tuple[float, float]) -> dict[str, float]:
    now = clock()
    return {"seconds": now[0] - at[0], "cpu": now[1] - at[1]}


def calibration_bands(rows: int = 100_000, bands: int = 200, refits: int = 4) -> dict[str, float]:
    """Seconds for consistency bands by groups of equal scores, and for refitting an isotonic regression per resample."""
    from sklearn.isotonic import IsotonicRegression

    from icplab.scores.reliability import reliability_curve

    rng = np.random.default_rng(3)
    p = 1 / (1 + np.exp(-(-1.5 + 0.1 * np.rint(rng.normal(0, 8, rows)))))
    y = (rng.random(rows) < p).astype(float)
    reliability_curve(p[:1000], y[:1000], np.ones(1000), 1, 2)  # what is imported on first use is not compared
    at = clock()
    reliability_curve(p, y, np.ones(rows), 1, bands)
    ours, at = since(at), clock()
    for _ in range(refits):
        drawn = (rng.random(rows) < p).astype(float)
        IsotonicRegression().fit(p, drawn).predict(p)
    theirs = {name: value / refits * bands for name, value in since(at).items()}
    ratio = theirs["cpu"] / ours["cpu"]
    return {"ours_s": ours["seconds"], "refitting_s_extrapolated": theirs["seconds"], "ratio_of_processor_time": ratio}


def measure(name: str, path: Path, segments: str) -> dict[str, float]:
    """One contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed_scoring", "--contend", name, "--file", str(path)]
    done = subprocess.run([*command, "--segments", segments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def contend(name: str, path: Path, segments: str) -> dict[str, float]:
    """Seconds and memory of one contender in this process; what each imports is imported before."""
    import duckdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from icplab.run import score, score_large  # noqa: F401

    out = path.with_name(f"{name}.parquet")
    out.unlink(missing_ok=True)
    at = clock()
    inner = CONTENDERS[name](path, out, segments) or {}
    return {**since(at), **inner, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def compare(rows: int, repeats: int, segments: str) -> None:
    """All contenders on one file, in turn; best of the repeats."""
    names = [n for n in CONTENDERS if segments == "whole" or n != "pandas"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "accounts.parquet")
        write_accounts(path, rows, segments)
        rounds = [{name: measure(name, path, segments) for name in names} for _ in range(repeats)]
    best = pd.DataFrame({n: pd.DataFrame([r[n] for r in rounds]).min() for n in names}).T
    best["peak_mb"] = [max(r[n]["peak_mb"] for r in rounds) for n in names]
    print(f"{rows:,} accounts × {TRAITS} traits, segments: {segments}, best of {repeats}")
    for name in names:
        row, scan_ = best.loc[name], best.loc["scan"]
        if name != "in_memory":
            print(f"  {name:8} {row['seconds']:8.2f} s {row['seconds'] / scan_['seconds']:6.2f} × scan {row['peak_mb']:8.0f} MB"
                  f"   processor {row['cpu']:8.2f} s {row['cpu'] / scan_['cpu']:6.2f} × scan")  # fmt: skip
    inner = best.loc["in_memory"]
    print(f"  in memory, one thread: {rows / inner['inner_cpu'] / 1e6:.1f} million accounts per processor second")
    if "pandas" in names:
        peer, own = best.loc["pandas"], best.loc["icplab"]
        print(f"  pandas map / icplab, Parquet to Parquet: {peer['seconds'] / own['seconds']:.1f} (processor"
              f" {peer['cpu'] / own['cpu']:.1f}); in memory: {peer['inner_seconds'] / inner['inner_seconds']:.1f} (processor"
              f" {peer['inner_cpu'] / inner['inner_cpu']:.1f})")  # fmt: skip


CONTENDERS = {"scan": scan, "icplab": icplab, "in_memory": in_memory, "pandas": pandas}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--segments", nargs="+", choices=SEGMENTS, default=list(SEGMENTS))
    parser.add_argument("--contend", choices=list(CONTENDERS))
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.contend:
        print(json.dumps(contend(given.contend, given.file, given.segments[0])))
        return
    for segments in given.segments:
        compare(given.rows, given.repeats, segments)
    print("calibration bands:", {k: round(v, 3) for k, v in calibration_bands().items()})


if __name__ == "__main__":
    main()
