"""Reads markets of known truth, makes figures C1 to C6 and E2: the card, a naive analyst and the Bayes oracle, by one judge.

`python -m benchmarks.tiers_recovery` prints them. The markets of this file have a generator of their own (written without looking
at `icplab.simulate`): overlapping types seen only through noisy traits, effects on numbers that bend, correlated idle traits, sources
that mislead. `--simulated` adds markets of `icplab.simulate`, whole method included. Seeds from 10,000 on are for reporting.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from benchmarks.judge import calibration_slope, expected_auc, wilson_share  # noqa: E402
from icplab.core.config import Economics, Settings, Workspace  # noqa: E402
from icplab.core.model import add_segments  # noqa: E402
from icplab.core.stats.intervals import wilson  # noqa: E402

AS_OF = pd.Timestamp("2026-03-31").as_unit("us")
SETTINGS = Settings(workspace=Workspace(currency="EUR"), economics=Economics(cost_to_serve=200.0))
SIZES = {800: 2200, 300: 800, 70: 190}  # wins, about, and the accounts that bring them
IDLE = 40
TARGETS = {
    "C1": "≥ .95, ≥ .85, ≥ .60 or abstain",
    "C2 slope": ".9 to 1.1",
    "C2 in the large": "± 1 point",
    "C3": "≤ .010",
    "C4": "≥ .95",
    "C5 order": "≥ .95",
    "C5 band": ".87 to .93",
    "usable": "",
}


@dataclass(frozen=True)
class Market:
    """A market with its truth: p and value of each account under truth and for the oracle, who sees traits only."""

    accounts: pd.DataFrame
    opportunities: pd.DataFrame
    catalogue: pd.DataFrame
    segments: pd.DataFrame
    p: pd.Series
    oracle: pd.Series
    worth: pd.Series
    seed: int


def draw_market(accounts: int, seed: int) -> Market:
    """One market. What cannot be seen of an account (its luck with us) is integrated out in truth and oracle alike."""
    rng = np.random.default_rng([seed, accounts])
    n = accounts
    size = rng.normal(0, 1, n)
    cloud = rng.random(n) < 1 / (1 + np.exp(-0.8 * size))
    trade = rng.choice(list("ABCDEF"), n, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    flags = rng.random((6, n)) < rng.uniform(0.1, 0.5, 6)[:, None]
    idle = (rng.normal(0, 1, (IDLE, n)) + 0.6 * rng.normal(0, 1, (1, n)) + 0.4 * size) > rng.normal(0.6, 0.5, (IDLE, 1))
    effect = rng.choice([-1, 1], 6) * rng.uniform(0.35, 0.8, 6)
    of_trade = dict(zip("ABCDEF", rng.normal(0, 0.5, 6), strict=True))
    bend = rng.uniform(0.1, 0.3)
    referred = rng.random(n) < 1 / (1 + np.exp(-(idle[0] * 1.2 - 1.0)))
    score = 0.4 * size - bend * (size**2 - 1) + 0.5 * cloud + pd.Series(trade).map(of_trade).to_numpy() + effect @ flags
    score = score - np.average(score)
    luck = rng.normal(0, 0.3, n)
    level = -1.45
    ids = np.array([f"a{k:05d}" for k in range(n)], dtype=object)
    who = rng.integers(0, n, int(1.7 * n))
    created = AS_OF - pd.to_timedelta(rng.integers(1, 900, len(who)), unit="D")
    chance = 1 / (1 + np.exp(-(level + score + luck + 0.9 * referred - 0.3)[who]))
    won = rng.random(len(who)) < chance
    cycle = np.round(rng.lognormal(np.log(np.where(won, 60, 80)), 0.5))
    closed = created + pd.to_timedelta(cycle, unit="D")
    known = closed <= AS_OF
    money = np.exp(9.5 + 0.5 * size + 0.3 * cloud)
    blank = rng.random(n) < 0.06
    columns = {f"x{k:02d}": pd.array(column, dtype="boolean") for k, column in enumerate([*flags, cloud, *idle])}
    frame = pd.DataFrame(
        {"account_id": ids, "family_id": ids, "account_type": "prospect", "n_opportunities": 1.0, **columns}
    )
    frame["size"] = np.where(blank, np.nan, np.exp(4.5 + size).round(1))
    frame["trade"] = pd.Series(trade, dtype="str")
    names = rng.permutation([*columns])
    frame = frame.rename(columns=dict(zip(columns, names, strict=True)))
    deals = pd.DataFrame(
        {
            "opportunity_id": [f"o{k:06d}" for k in range(len(who))],
            "account_id": ids[who],
            "family_id": ids[who],
            "created_at": created.as_unit("us"),
            "closed_at": pd.Series(closed.as_unit("us")).where(pd.Series(known)),
            "status": np.where(known, np.where(won, "won", "lost"), "open"),
            "motion": "new",
            "source": np.where(referred, "referral", "web")[who],
            "owner": rng.choice(["kim", "lee", "sam"], len(who)),
            "acv": np.round(money[who] * rng.lognormal(-0.18, 0.6, len(who)), 2),
            "margin_rate": 0.7,
        }
    )
    texts = ["account_id", "family_id", "account_type"]
    frame = frame.astype(dict.fromkeys(texts, "str"))
    deals = deals.astype(
        dict.fromkeys(("opportunity_id", "account_id", "family_id", "status", "source", "owner"), "str")
    )
    frame["is_customer"] = pd.array(np.zeros(n, bool), dtype="boolean")
    kinds = {**dict.fromkeys(names, "flag"), "size": "number", "trade": "category"}
    catalogue = pd.DataFrame([{"trait": t, "table": "accounts", "kind": k} for t, k in sorted(kinds.items())])
    catalogue = pd.concat(
        [catalogue, pd.DataFrame([{"trait": "source", "table": "opportunities", "kind": "category"}])]
    )
    catalogue = catalogue.assign(role="", excluded=False).reset_index(drop=True)
    segments = pd.DataFrame({"account_id": ids, "segment_id": "S0", "segment": "whole market", "membership": 1.0})
    share = float(referred.mean())
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)

    def average(center: np.ndarray, spread: float) -> np.ndarray:
        """Over the mix of sources and what is not seen."""
        at = center[:, None] + spread * nodes
        sides = [(share, 0.9), (1 - share, 0.0)]
        return sum(s * (1 / (1 + np.exp(-(at + b - 0.3)))) @ weights / weights.sum() for s, b in sides)

    seen = np.where(blank, score - (0.4 * size - bend * (size**2 - 1)), score)
    truth, oracle = average(level + score + luck, 0.0), average(level + seen, 0.3)
    index = pd.Index(ids)
    worth = pd.Series(money * 0.7 * 2.5 - 200 * 2.5, index)
    return Market(
        frame,
        deals,
        catalogue,
        segments.astype("str").assign(membership=1.0),
        *(pd.Series(v, index) for v in (truth, oracle)),
        worth,
        seed,
    )


def answer(market: Market) -> dict:
    """The card's answer, with the tier of each account and the promise of each tier."""
    from icplab import scores, tiers

    given = (market.accounts, market.opportunities, market.catalogue, market.segments, SETTINGS, AS_OF)
    training = scores.build_training(*given)
    check = scores.check_forward(training, SETTINGS, market.seed)
    nobody = pd.DataFrame({"account_id": [], "started_at": [], "ended_at": []})
    quiet = pd.DataFrame({"account_id": [], "occurred_at": [], "weight": []})
    model = scores.fit_model(training, check, SETTINGS, nobody)
    scored = scores.score_accounts(model, market.accounts, market.segments, quiet, AS_OF)
    table = add_segments(market.accounts, market.segments)
    model, scored = tiers.set_tiers(model, table, scored, SETTINGS)
    promise = tiers.measure_tiers(model, table, scored, market.opportunities, SETTINGS)
    points = check.measures.set_index("measure")["value"] if len(check.measures) else None
    loss = float(points["auc_unrounded"] - points["auc"]) if points is not None else np.nan
    return {"scored": scored.set_index("account_id"), "usable": model.usable, "promise": promise, "rounding": loss}


def judge_market(accounts: int, seed: int) -> dict[str, object]:
    """Figures of one market: icplab beside a naive analyst (every trait, no shrinkage, closed opportunities as they are)."""
    market = draw_market(accounts, seed)
    got, wins = answer(market), int((market.opportunities["status"] == "won").sum())
    best = expected_auc(market.oracle, market.p)
    row: dict[str, object] = {"wins": wins, "usable": float(got["usable"])}
    row |= {f"naive {k}": v for k, v in _figures(naive(market), market, best).items()}
    if not got["usable"]:
        return row
    scored = got["scored"].loc[market.p.index]
    row |= _figures(scored["win_probability"], market, best) | {"C3": got["rounding"]}
    value, size = scored["expected_value"], round(0.2 * len(scored))
    picked = value.sort_values(ascending=False, kind="stable").index[:size]
    row["C4"] = _captured(picked, market)
    rate = market.p.groupby(scored["tier"]).mean()
    order = [t for t in ("tier_1", "tier_2", "tier_3") if t in rate]
    row["C5 order"] = float(rate[order].is_monotonic_decreasing)
    row["C5 band"] = _next_quarter(got["promise"], scored["tier"], market)
    return row


def naive(market: Market) -> pd.Series:
    """Logistic regression on every trait, missing as zero, fitted to what is closed."""
    from sklearn.linear_model import LogisticRegression

    numbers = market.accounts.drop(
        columns=["account_id", "family_id", "account_type", "is_customer", "n_opportunities"]
    )
    wide = (
        pd.get_dummies(numbers, columns=["trade"]).astype("float64").fillna(0.0).set_axis(market.accounts["account_id"])
    )
    closed = market.opportunities[market.opportunities["status"] != "open"]
    wide["size"] = np.log1p(wide["size"])
    fit = LogisticRegression(C=1e4, max_iter=3000).fit(wide.loc[closed["account_id"]], closed["status"] == "won")
    return pd.Series(fit.predict_proba(wide)[:, 1], wide.index)


def _figures(win: pd.Series, market: Market, best: float) -> dict[str, float]:
    win = win.reindex(market.p.index)
    return {
        "C1": (expected_auc(win, market.p) - 0.5) / (best - 0.5),
        "C2 slope": calibration_slope(win.clip(0.002, 0.998), market.p),
        "C2 in the large": float(win.mean() - market.p.mean()),
        "C4": _captured((win * market.worth).sort_values(ascending=False).index[: round(0.2 * len(win))], market),
    }


def _captured(picked: pd.Index, market: Market) -> float:
    true = market.p * market.worth
    ideal = (market.oracle * market.worth).sort_values(ascending=False, kind="stable").index[: len(picked)]
    return float(true[picked].sum() / true[ideal].sum())


def _next_quarter(promise: pd.DataFrame, tier: pd.Series, market: Market) -> list[float]:
    """Whether the rate of each tier in a quarter that follows lies in its 90 % band: n opportunities, a period effect for all."""
    rng = np.random.default_rng([market.seed, 99])
    period = rng.normal(0, 0.1)
    inside = []
    for row in promise.dropna(subset=["low"]).to_dict("records"):
        ids = tier.index[tier == row["tier"]]
        n = max(round(row["n"]), 1)
        p = market.p[rng.choice(ids.to_numpy(), n)].to_numpy()
        rate = (rng.random(n) < 1 / (1 + np.exp(-(np.log(p / (1 - p)) + period)))).mean()
        inside.append(float(row["low"] <= rate <= row["high"]))
    return inside


def summarise(rows: list[dict]) -> list[str]:
    """Lines of one size: mean, worst decile, naive."""
    frame = pd.DataFrame(rows)
    lines = [f"  share with a usable ranking {frame['usable'].mean():.2f}, wins {frame['wins'].mean():.0f}"]
    for name in ("C1", "C2 slope", "C2 in the large", "C3", "C4", "C5 order"):
        own = frame[name].dropna() if name in frame else pd.Series(dtype=float)
        other = frame.get(f"naive {name}", pd.Series(dtype=float)).mean()
        ends = own.quantile([0.1, 0.9]).tolist() if len(own) else [np.nan] * 2
        lines.append(
            f"  {name:16} {own.mean():8.3f}   10 to 90 %: {ends[0]:7.3f} {ends[1]:7.3f}   naive {other:7.3f}   {TARGETS[name]}"
        )
    inside = [v for row in rows for v in row.get("C5 band", [])]
    if inside:
        low, high = wilson(sum(inside), len(inside))
        lines.append(
            f"  C5 band          {np.mean(inside):8.3f}   ({float(low):.3f} to {float(high):.3f}, {len(inside)} tiers)   {TARGETS['C5 band']}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--sizes", nargs="*", type=int, default=[800, 300, 70], help="wins, about")
    parser.add_argument(
        "--simulated", type=int, default=0, help="markets of icplab.simulate per scenario, whole method"
    )
    parser.add_argument("--scenarios", nargs="+", default=["clean", "leak", "confounded", "drift"])
    parser.add_argument("--rows", type=Path, help="file of judged markets: those in it are not judged again")
    given = parser.parse_args()
    for name, accounts in ((f"≈ {wins} wins", SIZES[wins]) for wins in given.sizes):
        seeds = range(given.first, given.first + given.seeds)
        rows = [
            _kept(given.rows, f"{accounts} {seed}", lambda a=accounts, s=seed: judge_market(a, s)) for seed in seeds
        ]
        print(f"{name}: {given.seeds} markets of {accounts} accounts", *summarise(rows), sep="\n", flush=True)
    if given.simulated:
        whole_method(given.scenarios, range(given.first, given.first + given.simulated), given.rows)


def _kept(path: Path | None, key: str, judge: Callable[[], dict]) -> dict:
    """What `judge` finds, or found before: long benchmarks are run in parts and may be cut off."""
    if path is None:
        return judge()
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {line["key"]: line["row"] for line in map(json.loads, lines)}
    if key not in known:
        known[key] = judge()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": known[key]}, default=float) + "\n")
    return known[key]


def whole_method(scenarios: list[str], seeds: range, kept: Path | None = None) -> None:
    """E2 and C6 on simulated markets: tier-1 value over the oracle's, AUC beside the same market without leaks."""
    shares, aucs = {}, {}
    for scenario in scenarios:
        rows = [_kept(kept, f"{scenario} {seed}", lambda s=scenario, k=seed: _judge_simulated(s, k)) for seed in seeds]
        own, theirs = (pd.DataFrame([r[who] for r in rows]) for who in ("icplab", "naive"))
        aucs[scenario] = own["auc"].to_numpy()
        sold = own["usable"] > 0
        if sold.any():
            shares[scenario] = own.loc[sold, "captured"]
        print(f"{scenario:14} E2 {own.loc[sold, 'captured'].mean():.3f} (naive {theirs['captured'].mean():.3f})  AUC share"
              f" {own['auc_share'].mean():.3f} (naive {theirs['auc_share'].mean():.3f})  AUC {own['auc'].mean():.4f}"
              f" (naive {theirs['auc'].mean():.4f})  slope {own['slope'].mean():.2f}  in the large {own['in_the_large'].mean():+.3f}"
              f"  usable {wilson_share(own['usable'])[0]:.2f}", flush=True)  # fmt: skip
    every = pd.concat(list(shares.values())) if shares else pd.Series(dtype=float)
    print(f"E2 averaged over {len(shares)} scenarios: {np.mean([s.mean() for s in shares.values()]):.3f}"
          f" (worst decile of {len(every)} markets {every.quantile(0.1):.3f})   target ≥ .90")  # fmt: skip
    if {"clean", "leak"} <= set(aucs):
        gap = aucs["leak"] - aucs["clean"]
        inside = wilson_share(pd.Series((np.abs(gap) <= 0.02).astype(float)))
        print(f"C6 AUC with leaks less without, same markets: {gap.mean():+.4f} (worst {gap[np.abs(gap).argmax()]:+.4f}), within .02 in"
              f" {inside[0]:.2f} ({inside[1]:.2f} to {inside[2]:.2f}) of {len(gap)}   target within .02")  # fmt: skip


def _judge_simulated(scenario: str, seed: int) -> dict:
    """One simulated market; its leaks have random streams of their own, so a seed is the same market with and without."""
    from benchmarks.recovery import judge_market as judge

    row = judge(scenario, seed, 3000)
    print(f"  {scenario} {seed}: AUC {row['icplab']['auc']:.4f} of {row['icplab']['oracle_auc']:.4f}, captured"
          f" {row['icplab']['captured']:.3f}, usable {row['icplab']['usable']:.0f}", flush=True)  # fmt: skip
    return row


if __name__ == "__main__":
    main()
