"""Reads planted markets, makes the figures of the segment step: recovery, number, existence, filters, ids, scenarios, speed.

`python -m benchmarks.segments` prints every part; `--parts recovery existence` some of them. Markets come from two generators:
the simulator, and `segment_markets`, which shares nothing with it; `--parts hostile` takes shapes that neither expects. Seeds below
1,000 are for tuning; figures are reported on 10,000 and above. Beside the tool stand the Bayes oracle and a naive analyst (one-hot k-means, k by silhouette).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "segments.json"
NULLS = int(os.environ.get("BENCH_NULLS", "99"))  # twin markets per existence test
SIZES = (1000, 1500, 3000)
SCENARIOS = ("vendor-artefact", "stack-300", "mnar", "duplicates")
RECIPES = {"simulator": {}, "stack-300": {"tools": 300}}  # of the clean market; other names are scenarios


def _market(source: str, n: int, seed: int):
    """(accounts, catalogue, planted label or None, oracle's label) by either generator; labels by sorted account_id."""
    from benchmarks import segment_hostile, segment_markets
    from icplab import features
    from icplab.core.config import Settings
    from icplab.simulate import simulate_market
    from icplab.simulate.recipe import Recipe

    if source in segment_hostile.WITHOUT or source in segment_hostile.PLANTED:
        made = segment_hostile.make_hostile(source, n, seed)
        return made.accounts, made.catalogue, made.label, made.oracle
    if source == "other":
        made = segment_markets.make_planted(n, seed)
        return made.accounts, made.catalogue, made.label, made.oracle
    if source in segment_markets.CONTINUA:
        made = segment_markets.make_continuum(n, seed, source)
        return made.accounts, made.catalogue, None, None
    scenario = "clean" if source in RECIPES else source
    market = simulate_market(n, seed=seed, scenario=scenario, recipe=Recipe(**RECIPES.get(source, {})))
    accounts = features.build_accounts(market.tables, Settings(), pd.Timestamp("2026-06-30").as_unit("us"))
    catalogue = features.build_catalogue(market.tables, Settings())
    if "segment" not in market.truth.accounts:
        return accounts, catalogue, None, None
    truth = market.truth.accounts.set_index("account_id").reindex(sorted(accounts["account_id"]))
    posterior = truth.filter(regex="^oracle_segment_")
    if truth["segment"].isna().all() or posterior.empty:
        return accounts, catalogue, None, None
    return accounts, catalogue, truth["segment"].to_numpy(), posterior.to_numpy().argmax(axis=1)


def _fit(accounts: pd.DataFrame, catalogue: pd.DataFrame, seed: int):
    from icplab import segments
    from icplab.core.config import Settings

    return segments.fit_segments(accounts, catalogue, settings=Settings(), seed=seed, nulls=NULLS)


def judge_recovery(source: str, n: int, seed: int) -> dict:
    """One planted market: what was found against the oracle and the naive analyst, and the filters."""
    from sklearn.metrics import adjusted_rand_score
    from sklearn.metrics import f1_score as f1

    from benchmarks.segment_methods import kmeans_by_silhouette, wide
    from icplab import segments
    from icplab.segments.blocks import read_blocks

    accounts, catalogue, label, oracle = _market(source, n, seed)
    start = time.process_time()
    found = _fit(accounts, catalogue, seed)
    seconds = time.process_time() - start
    mine = found.assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)
    best = adjusted_rand_score(label, oracle)
    blocks = read_blocks(found.assigner["recipe"], accounts)
    naive = kmeans_by_silhouette(wide(blocks), seed)
    rules = segments.describe_segments(accounts, found.assignments, found.assigner)
    k = len(found.segment_ids) if found.verdict != "none" else 1
    out = {
        "source": source, "n": n, "seed": seed, "oracle": best, "verdict": found.verdict, "k": k,
        "true_k": len(set(label)), "share": adjusted_rand_score(label, mine) / best,
        "naive": adjusted_rand_score(label, naive) / best, "naive_k": len(set(naive)), "seconds": seconds,
        "ratio": found.evidence.get("gain_ratio"), "p": found.evidence.get("p_value"),
    }  # fmt: skip
    if k > 1:
        tree = _tree(blocks, mine)
        out |= {"rule_f1": float(rules["f1"].mean()), "tree_f1": float(f1(mine, tree, average="macro"))}
    return out


def _tree(blocks, label: np.ndarray) -> np.ndarray:
    """The best tree of depth 4 on the same blocks: what rules of at most four conditions could be."""
    from sklearn.tree import DecisionTreeClassifier

    from benchmarks.segment_methods import wide

    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=20, class_weight="balanced", random_state=0)
    return tree.fit(wide(blocks), label).predict(wide(blocks))


def judge_existence(source: str, n: int, seed: int) -> dict:
    """One market without segments: the verdict."""
    accounts, catalogue, _, _ = _market(source, n, seed)
    found = _fit(accounts, catalogue, seed)
    e = found.evidence
    return {
        "source": source,
        "n": n,
        "seed": seed,
        "verdict": found.verdict,
        "ratio": e.get("gain_ratio"),
        "p": e.get("p_value"),
    }


def judge_scenario(source: str, n: int, seed: int) -> dict:
    """One adversarial market with segments in it: whether the verdict is about the market or about the disturbance."""
    from sklearn.metrics import adjusted_rand_score

    accounts, catalogue, label, oracle = _market(source, n, seed)
    found = _fit(accounts, catalogue, seed)
    out = {"source": source, "n": n, "seed": seed, "verdict": found.verdict, "k": len(found.segment_ids)}
    if label is None:
        return out | {"right": found.verdict != "natural"}
    known = ~pd.isna(label)
    mine = found.assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)[known]
    best = adjusted_rand_score(label[known], oracle[known])
    share = adjusted_rand_score(label[known], mine) / best
    return out | {"oracle": best, "share": share, "right": bool(found.verdict == "natural" and share >= 0.85)}


def judge_ids(source: str, n: int, seed: int) -> dict:
    """A stationary quarter, a quarter in which a segment is cut in two, and one in which it is gone: which ids live on.

    Half of the accounts are known to both quarters; the others are new, drawn from the same market.
    """
    from icplab import segments
    from icplab.segments.continuity import continue_segments

    accounts, catalogue, label, _ = _market(source, 3 * n // 2, seed)
    accounts = accounts.sort_values("account_id", ignore_index=True)
    order = np.random.default_rng([seed, 9]).permutation(len(accounts))
    then, now = np.sort(order[:n]), np.sort(order[len(accounts) - n :])
    before = _fit(accounts.iloc[then], catalogue, seed)
    after, matches = continue_segments(
        _fit(accounts.iloc[now], catalogue, seed + 1), before.document(), accounts.iloc[now]
    )
    both = before.assignments.merge(after.assignments, on="account_id")
    kept = float((both["segment_id_x"] == both["segment_id_y"]).mean())
    changes = [] if matches is None else matches["change"].tolist()
    gone = now[label[now] != pd.Series(label[now]).value_counts().index[-1]]
    _, ended = continue_segments(_fit(accounts.iloc[gone], catalogue, seed + 2), before.document(), accounts.iloc[gone])
    pair = before.assignments.assign(segment_id=before.assignments["segment_id"].replace({"S2": "S1"}))
    split = segments.match_segments(pair, before.assignments)
    return {
        "source": source, "n": n, "seed": seed, "kept": kept, "changes": changes,
        "retired": bool(ended is not None and "ended" in set(ended["change"])), "split": "split" in set(split["change"]),
    }  # fmt: skip


def judge_real() -> dict:
    """The 85 accounts of a public CRM data set must not be called natural segments."""
    folder = Path(os.environ.get("ICPLAB_DATASETS", "datasets")) / "maven_crm"
    frame = pd.read_csv(next(folder.rglob("accounts.csv")))
    frame = frame.rename(columns={frame.columns[0]: "account_id"})
    kinds = {"employees": "number", "revenue": "number", "year_established": "number", "sector": "category"}
    kinds |= {"office_location": "category"}
    for trait, kind in kinds.items():
        frame[trait] = frame[trait].astype("float64" if kind == "number" else "str")
    catalogue = pd.DataFrame({"trait": list(kinds), "kind": list(kinds.values())}).astype("str")
    catalogue = catalogue.assign(table="accounts", role="", family="firmographic", excluded=False, fill_rate=1.0)
    found = _fit(frame[["account_id", *kinds]], catalogue, 1)
    return {"source": "maven_crm", "n": len(frame), "verdict": found.verdict, "reason": found.evidence.get("reason")}


def tasks(parts: list[str], seeds: int, first: int) -> Iterator[tuple[str, Callable, tuple]]:
    """Everything that is to be judged, one market each."""
    from benchmarks.segment_hostile import PLANTED, WITHOUT
    from benchmarks.segment_markets import CONTINUA

    for seed in range(first, first + seeds):
        if "recovery" in parts:
            for source in ("simulator", "other"):
                yield "recovery", judge_recovery, (source, SIZES[-1], seed)
        if "power" in parts:
            for n in SIZES[:2]:
                yield "power", judge_recovery, ("other", n, seed)
        if "existence" in parts:
            for source in ("continuum", "null", *CONTINUA):
                yield "existence", judge_existence, (source, 1500, seed)
        if "scenarios" in parts:
            for source in SCENARIOS:
                yield "scenarios", judge_scenario, (source, 1500, seed)
        if "hostile" in parts:
            for source in (*WITHOUT, *PLANTED):
                yield "hostile", judge_scenario, (source, 1500, seed)
        if "ids" in parts:
            yield "ids", judge_ids, ("simulator", 1500, seed)


def wilson(hits: int, n: int) -> str:
    """A share with its 95 % interval."""
    if not n:
        return "not measured"
    p, z = hits / n, 1.96
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return f"{hits}/{n} = {p:.1%} ({low:.1%} to {high:.1%})"


def show(results: dict[str, list[dict]]) -> None:
    """Every part as a short table of figures beside their targets."""
    for name, rows in results.items():
        frame = pd.DataFrame(rows)
        print(f"\n{name}: {len(frame)} markets")
        _SHOW[name](frame)


def _show_recovery(frame: pd.DataFrame) -> None:
    for source, part in frame.groupby("source"):
        for low, high, target in ((0.75, 1.01, 0.90), (0.5, 0.75, 0.85)):
            some = part[(part["oracle"] >= low) & (part["oracle"] < high)]
            if some.empty:
                continue
            near, exact = (some["k"] - some["true_k"]).abs() <= 1, some["k"] == some["true_k"]
            print(
                f"  {source}, oracle {low:.2f} to {min(high, 1):.2f}: {len(some)} markets of {some['n'].iloc[0]:,} accounts"
            )
            print(
                f"    S1 ARI / oracle  mean {some['share'].mean():.3f}, worst decile {some['share'].quantile(0.1):.3f} (≥ {target:.2f}); naive {some['naive'].mean():.3f}"
            )
            print(
                f"    S2 k within 1    {wilson(int(near.sum()), len(some))} (≥ 95 %); exact {wilson(int(exact.sum()), len(some))} (≥ 70 %)"
            )
            print(f"    natural          {wilson(int((some['verdict'] == 'natural').sum()), len(some))}")
            ratio = some["rule_f1"] / some["tree_f1"]
            print(
                f"    S4 filter F1     mean {some['rule_f1'].mean():.3f} (≥ 0.70); of a tree of depth 4 {ratio.mean():.2f} (≥ 0.95)"
            )


def _show_power(frame: pd.DataFrame) -> None:
    for n, least, target in ((1500, 0.75, "95"), (1000, 0.55, "80")):
        some = frame[(frame["n"] == n) & (frame["oracle"] >= least)]
        print(
            f"  power at n = {n:,}, oracle ≥ {least}: {wilson(int((some['verdict'] == 'natural').sum()), len(some))} (≥ {target} %)"
        )


def _show_existence(frame: pd.DataFrame) -> None:
    for source, part in frame.groupby("source"):
        print(
            f"  {source:16} natural {wilson(int((part['verdict'] == 'natural').sum()), len(part))}; largest ratio {part['ratio'].max():.2f}"
        )
    print(f"  {'all':16} natural {wilson(int((frame['verdict'] == 'natural').sum()), len(frame))} (≤ 5 %)")


def _show_scenarios(frame: pd.DataFrame) -> None:
    for source, part in frame.groupby("source"):
        share = f"; ARI / oracle {part['share'].mean():.3f}" if "share" in part and part["share"].notna().any() else ""
        print(f"  {source:16} right verdict {wilson(int(part['right'].sum()), len(part))} (≥ 95 %){share}")


def _show_ids(frame: pd.DataFrame) -> None:
    print(
        f"  S5 accounts that keep their id: mean {frame['kept'].mean():.1%}, worst {frame['kept'].min():.1%} (≥ 95 %)"
    )
    print(
        f"  planted retirement reported {wilson(int(frame['retired'].sum()), len(frame))}; planted split {wilson(int(frame['split'].sum()), len(frame))}"
    )


def _show_real(frame: pd.DataFrame) -> None:
    print(f"  {frame.to_string(index=False)}")


_SHOW = {
    "recovery": _show_recovery,
    "power": _show_power,
    "existence": _show_existence,
    "scenarios": _show_scenarios,
    "hostile": _show_scenarios,
    "ids": _show_ids,
    "real": _show_real,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(_SHOW), choices=list(_SHOW))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    todo = list(tasks(given.parts, given.seeds, given.first))
    results: dict[str, list[dict]] = {part: [] for part in given.parts}
    if "real" in given.parts:
        results["real"].append(judge_real())
    for done, (part, judge, arguments) in enumerate(todo, 1):
        results[part].append(judge(*arguments))
        print(f"\r{done} of {len(todo)} markets", end="", file=sys.stderr, flush=True)
        given.results.parent.mkdir(exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
