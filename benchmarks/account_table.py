"""Reads nothing but a size, makes canonical tables of that size and times the account table beside its peers, in one run.

Every contender runs in a process of its own: `wall` is what it took after its imports, `peak` the largest resident set it had.
The bare scan has DuckDB read every value of the columns that the account table needs, as canonical text and as the intake's keys.

    python -m benchmarks.account_table [--size S|M|L] [--folder DIR] [--repeat N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = {
    "S": (10_000, 40_000, 1_000_000),
    "M": (100_000, 400_000, 20_000_000),
    "L": (1_000_000, 4_000_000, 200_000_000),
}
AS_OF, STATE_DATE, FIRST_DAY, DAYS = "2026-03-31", "2025-12-31", "2023-04-01", 1095
ROW_GROUP = 1 << 20
TYPES = ("email", "call", "meeting", "demo", "web visit", "download", "event", "advert")
SHARES = (0.4, 0.15, 0.08, 0.02, 0.2, 0.08, 0.05, 0.02)
EVENTS = ("account_id", "occurred_at", "type", "contact_id", "weight")
KEYED = ("account_key", "occurred_at", "type", "contact_key", "weight")
OTHERS = {
    "opportunities": (
        *("opportunity_id", "account_id", "created_at", "closed_at", "status", "type", "product", "currency"),
        *("amount", "term_months", "loss_reason"),
    ),
    "contacts": ("contact_id", "account_id"),
    "subscriptions": ("account_id", "started_at", "ended_at", "mrr", "currency"),
}


def main() -> int:
    options = _options()
    if options.child:
        print(json.dumps(CHILDREN[options.child](Path(options.folder), options.size)))
        return 0
    folder = Path(options.folder or tempfile.mkdtemp(prefix="icplab-bench-"))
    try:
        if not (folder / "activities.parquet").exists():
            write_tables(folder, *SIZES[options.size])
        print(f"size {options.size}: accounts, opportunities, events = {SIZES[options.size]}")
        children = ["scan of keys", "scan of text", "account table", "pandas twin"]
        children += ["state of a quarter before", "whole, leaving a state", "refresh from a state"]
        results = {name: _run_child(name, folder, options) for name in children}
        _print(results)
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def write_tables(folder: Path, accounts: int, opportunities: int, events: int, seed: int = 1) -> None:
    """Canonical tables as the intake writes them: 18-character ids, events in the order of time in row groups of a million."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    first, day = np.datetime64(FIRST_DAY, "us"), np.timedelta64(86_400_000_000, "us")

    def dates(whole: np.ndarray, blank: np.ndarray | None = None) -> pa.Array:
        return pa.array(first + whole * day, mask=blank)

    def write(name: str, columns: dict) -> None:
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")

    ids = pa.array([f"001Kx{i:010d}AAA" for i in range(accounts)])
    people = pa.array([f"003Kx{i:010d}AAA" for i in range(accounts * 4)])
    write("accounts", _accounts(rng, ids, dates))
    n = opportunities
    owner, created = rng.integers(0, accounts, n), rng.integers(0, DAYS - 30, n)
    status = rng.choice(["won", "lost", "open"], n, p=[0.25, 0.5, 0.25])
    blank = status == "open"
    text = {
        c: rng.choice(v, n) for c, v in {"type": ["new", "expansion"], "product": ["suite", "core", "addon"]}.items()
    }
    write(
        "opportunities",
        _complete(
            "opportunities",
            {
                "opportunity_id": pa.array([f"006Kx{i:010d}AAA" for i in range(n)]),
                "account_id": ids.take(pa.array(owner)),
                "created_at": dates(created),
                "closed_at": dates(created + rng.integers(5, 200, n), blank),
                "status": pa.array(status),
                "amount": pa.array(np.round(np.exp(rng.normal(9, 1, n)), 2)),
                "term_months": pa.array(rng.choice([12.0, 24.0, 36.0], n), mask=rng.random(n) < 0.5),
                "currency": pa.array(["EUR"] * n),
                "loss_reason": pa.array(rng.choice(["price", "timing"], n), mask=status != "lost"),
                **{c: pa.array(v) for c, v in text.items()},
            },
            n,
        ),
    )
    m = accounts * 2
    write(
        "contacts",
        _complete("contacts", {"contact_id": people[:m], "account_id": ids.take(pa.array(np.arange(m) // 4))}, m),
    )
    s = accounts // 4
    started = rng.integers(0, DAYS - 60, s)
    subscriptions = {
        "subscription_id": pa.array([f"s{i}" for i in range(s)]),
        "account_id": ids.take(pa.array(rng.integers(0, accounts, s))),
        "started_at": dates(started),
        "ended_at": dates(started + rng.integers(30, 900, s), rng.random(s) < 0.6),
        "mrr": pa.array(np.round(np.exp(rng.normal(6, 1, s)), 2)),
        "currency": pa.array(["EUR"] * s),
    }
    write("subscriptions", _complete("subscriptions", subscriptions, s))
    _write_events(folder / "activities.parquet", rng, ids, people, events, dates)


def _write_events(path: Path, rng, ids, people, events: int, dates) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    types, writer = pa.array(TYPES), None
    for start in range(0, events, ROW_GROUP):
        n = min(ROW_GROUP, events - start)
        whole = (np.arange(start, start + n) * DAYS) // events
        account = (rng.random(n) ** 2 * len(ids)).astype(np.int64)
        account = account[np.lexsort((account, whole))]
        person = account * 4 + rng.integers(0, 4, n)
        nobody, plain = rng.random(n) < 0.3, rng.random(n) < 0.2
        table = pa.table(
            _complete(
                "activities",
                {
                    "account_id": ids.take(pa.array(account)),
                    "occurred_at": dates(whole),
                    "type": types.take(pa.array(rng.choice(len(TYPES), n, p=SHARES))),
                    "contact_id": people.take(pa.array(person, mask=nobody)),
                    "weight": pa.array(rng.integers(1, 6, n).astype(float), mask=plain),
                    "account_key": pa.array(account, pa.int32()),
                    "contact_key": pa.array(person, pa.int32(), mask=nobody),
                },
                n,
            )
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=ROW_GROUP)
    if writer:
        writer.close()


def _accounts(rng, ids, dates) -> dict:
    import pyarrow as pa

    n = len(ids)
    return _complete(
        "accounts",
        {
            "account_id": ids,
            "name": ids,
            "industry": pa.array(rng.choice(["software", "retail", "health", "public"], n)),
            "employees": pa.array(rng.integers(1, 9000, n).astype(float)),
            "country": pa.array(rng.choice(["DE", "FR", "US"], n)),
            "created_at": dates(rng.integers(0, 30, n)),
            "tools": pa.array(rng.choice(["chat;crm", "crm", "chat;mail;crm"], n), mask=rng.random(n) < 0.3),
        },
        n,
    )


def _complete(name: str, columns: dict, n: int) -> dict:
    """All declared columns, in their order; those not given are blank."""
    import pyarrow as pa

    from icplab.core.schema import CANONICAL

    kinds = {"date": pa.timestamp("us"), "flag": pa.bool_()}
    numbers = ("number", "money", "count", "rate")
    blank = {
        c.name: pa.nulls(n, pa.float64() if c.kind in numbers else kinds.get(c.kind, pa.string()))
        for c in CANONICAL[name].columns
    }
    return {**blank, **columns}


def _scan(events: tuple[str, ...]):
    def scan(folder: Path, size: str) -> dict:
        from icplab.core.engine import open_engine

        with open_engine(folders=[folder]) as connection:
            began = _begin()
            for name, columns in {"activities": events, **OTHERS}.items():
                counted = ", ".join(f"count({c})" for c in columns)
                connection.execute(f"select {counted} from read_parquet('{folder / name}.parquet')").fetchall()
            return _measured(began)

    return scan


def _tables(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.glob("*.parquet"))}


def _date(text: str):
    import pandas as pd

    return pd.Timestamp(text).as_unit("us")


def _account_table(folder: Path, size: str) -> dict:
    from icplab import features
    from icplab.core.config import Settings, Workspace

    began = _begin()
    table = features.build_accounts(_tables(folder), Settings(workspace=Workspace(currency="EUR")), _date(AS_OF))
    return _measured(began, table)


def _pandas(folder: Path, size: str) -> dict:
    """The twin, on the columns it needs. Beyond size M it is too large for most machines: a tenth of it is run, and said so."""
    import pyarrow.parquet as pq

    from benchmarks import pandas_twin as twin
    from icplab.core.config import Settings, Workspace
    from icplab.core.schema import CANONICAL
    from icplab.core.store import read_parquet

    began = _begin()
    part = 10 if size == "L" else 1
    tables = {name: table.empty() for name, table in CANONICAL.items()}
    for name, path in _tables(folder).items():
        columns = list(EVENTS) if name == "activities" else None
        if part > 1 and name in ("activities", "opportunities"):
            file = pq.ParquetFile(path)
            groups = range(0, file.num_row_groups, part)
            tables[name] = file.read_row_groups(list(groups), columns=columns).to_pandas()
        else:
            tables[name] = read_parquet(path, columns)
    table = twin.build_accounts(tables, Settings(workspace=Workspace(currency="EUR")), _date(AS_OF))
    return {**_measured(began, table), "part": part}


CPU_BEFORE = [0.0]


def _begin() -> float:
    """Start of the measured part: after the imports, in seconds of the clock; what the processor was used so far is set aside."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    CPU_BEFORE[0] = used.ru_utime + used.ru_stime
    return time.perf_counter()


def _refreshed(leave: str, earlier: str, date: str):
    """The account table with a summary of events left, or gone on from; the one of the quarter before is made on demand."""

    def build(folder: Path, size: str) -> dict:
        from icplab import features
        from icplab.core.config import Settings, Workspace

        settings = Settings(workspace=Workspace(currency="EUR"))
        refresh = features.Refresh((folder / earlier,) if earlier else (), folder / leave)
        began = _begin()
        table = features.build_accounts(_tables(folder), settings, _date(date), refresh=refresh)
        return _measured(began, table)

    return build


def _measured(began: float, table=None) -> dict:
    import resource

    wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss / 1024
    check = (
        {}
        if table is None
        else {c: float(table[c].sum()) for c in ("n_won", "activities_90d", "intent_30d", "won_acv")}
    )
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime - CPU_BEFORE[0], "peak": peak, "check": check}


CHILDREN = {
    "scan of keys": _scan(KEYED),
    "scan of text": _scan(EVENTS),
    "account table": _account_table,
    "pandas twin": _pandas,
    "state of a quarter before": _refreshed("state_before", "", STATE_DATE),
    "whole, leaving a state": _refreshed("state_whole", "", AS_OF),
    "refresh from a state": _refreshed("state_after", "state_before", AS_OF),
}


def _run_child(name: str, folder: Path, options: argparse.Namespace) -> dict:
    """The quickest of several runs of one contender, each in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.account_table", "--child", name, "--folder", str(folder)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = []
    for _ in range(1 if options.size == "L" else options.repeat):
        done = subprocess.run(
            [*command, "--size", options.size], capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode:
            print(f"{name}: failed\n{done.stderr[-2000:]}")
            return {}
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda r: r["wall"])


def _print(results: dict[str, dict]) -> None:
    """Times, peaks and the ratios that are promised; processor time too, since other work on the machine stretches the clock."""
    for name, r in results.items():
        if r:
            part = f"  (a tenth of opportunities and events: times {r['part']} at most)" if r.get("part", 1) > 1 else ""
            print(f"{name:26} {r['wall']:8.2f} s {r['cpu']:8.2f} s processor {r['peak']:8.0f} MB{part}")
    ours = results["account table"]
    peers = (
        ("pandas twin / account table", results["pandas twin"], ours),
        ("account table / scan of text", ours, results["scan of text"]),
        ("account table / scan of keys", ours, results["scan of keys"]),
        ("refresh / whole", results["refresh from a state"], results["whole, leaving a state"]),
    )
    for name, above, below in peers:
        if above and below:
            times = above.get("part", 1)
            clock, processor = (times * above[k] / below[k] for k in ("wall", "cpu"))
            print(f"{name:30} {clock:6.2f} by the clock, {processor:6.2f} by processor time")
    for name in ("pandas twin", "whole, leaving a state", "refresh from a state"):
        other = results[name]
        if other and other.get("part", 1) == 1:
            far = max(abs(other["check"][c] - v) / max(abs(v), 1) for c, v in ours["check"].items())
            print(f"{name}: sums differ from the account table's by {far:.1e}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="M")
    parser.add_argument(
        "--folder", default="", help="where the tables are, or go to and stay; default a temporary folder"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
