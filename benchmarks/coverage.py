"""Reads nothing, makes a table of how often the 95 % intervals of key figures hold the truth, by figure and number of deals.

`python -m benchmarks.coverage [--markets N] [--first SEED] [--generators ...]` draws markets whose truth is known, measures
each through `icplab.performance` and counts. Generators differ from the simulator's default market: other correlation of
the opportunities of one account, heavier tails, a business that is closed fast. Nothing was tuned on the seeds it starts at.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.config import Economics, Plan, Settings
from icplab.core.schema import CANONICAL
from icplab.performance.facts import build_facts, set_levels, slice_level
from icplab.performance.kpis import TABLES
from icplab.performance.money import measure_money
from icplab.performance.velocity import measure_velocity
from icplab.performance.winning import measure_winning

RESULTS = Path(__file__).parent / "results" / "coverage.json"
AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
DEALS = (40, 100, 300)
REPLICATES = 400
HORIZON = 365
MARGIN, SPEND_PER_DEAL = 0.7, 2000.0
LOWEST, HIGHEST = 0.92, 0.98
AVERAGE = (0.94, 0.96)
JUDGED = 200  # intervals of a type and number of deals from which its coverage is judged
TYPES = {
    "rates": (
        "win_rate closed",
        "win_rate closed_broad",
        "win_rate cohort",
        "win_rate within_365d",
        "win_rate value",
        "grr 12m",
    ),
    "days": ("cycle_days won_median", "cycle_days won_p75", "cycle_days any_close_median"),
    "money": ("acv mean", "acv median", "acv trimmed", "cac new_logo", "ltv discounted"),
    "ratios": ("nrr 12m", "expansion 12m", "payback_months simple", "ltv_cac discounted", "sales_velocity flow"),
}


@dataclass(frozen=True)
class Generator:
    """A kind of market: how alike the deals of an account are, how uneven amounts are, how long deals take."""

    rate: float = 0.25
    icc: float = 0.10
    """Correlation of outcomes within an account: Beta rates."""
    sigma: float = 0.8
    """Of log amounts; half their variance is common to an account."""
    days: float = 70.0
    per_account: float = 1.6
    """Deals an account has beyond its first, on average."""


GENERATORS = {
    "usual": Generator(),
    "alike": Generator(rate=0.30, icc=0.30, per_account=2.5),
    "heavy": Generator(rate=0.35, sigma=1.2, icc=0.05),
    "rare": Generator(rate=0.10, days=30.0, per_account=0.5),
}


def draw_deals(kind: Generator, deals: int, rng: np.random.Generator) -> pd.DataFrame:
    """Opportunities of one market: exactly so many, of as many accounts as they need."""
    sizes = 1 + rng.poisson(kind.per_account, deals)
    account = np.repeat(np.arange(deals), sizes)[:deals]
    common = 1 / kind.icc - 1
    chance = rng.beta(kind.rate * common, (1 - kind.rate) * common, deals)[account]
    own, shared = (rng.normal(0, kind.sigma / np.sqrt(2), deals) for _ in range(2))
    won = rng.random(deals) < chance
    age = rng.integers(1, 1096, deals)
    took = np.maximum(1, np.rint(rng.lognormal(np.log(kind.days), 0.6, deals) * np.where(won, 1.0, 0.8)))
    return pd.DataFrame(
        {"account": account, "won": won, "age": age, "took": took, "amount": 10_000 * np.exp(own + shared[account])}
    )


def draw_customers(kind: Generator, customers: int, rng: np.random.Generator) -> pd.DataFrame:
    """Customers of one market with months lived, whether they left, and revenue a year ago and now."""
    start = rng.integers(13, 40, customers)  # months ago
    monthly = rng.beta(1.5, 48.5, customers)
    life = np.minimum(rng.geometric(monthly), 400)
    then = 500 * np.exp(rng.normal(0, kind.sigma, customers))
    grown = np.where(rng.random(customers) < 0.35, np.exp(np.abs(rng.normal(0, 0.3, customers))), 1.0)
    return pd.DataFrame({"start": start, "life": life, "then": then, "grown": grown})


def find_truth(kind: Generator, seed: int = 1) -> dict[str, float]:
    """True values: of a market so large that chance plays no part (and, where it can be, by formula)."""
    rng = np.random.default_rng(seed)
    deals = draw_deals(kind, 1_500_000, rng)
    closed, won = deals["took"] <= deals["age"], deals["won"]
    amount, done = deals["amount"], deals["won"] & (deals["took"] <= deals["age"])
    customers = draw_customers(kind, 1_500_000, rng)
    there = customers["life"] > customers["start"] - 12
    now = np.where(customers["life"] > customers["start"], customers["then"] * customers["grown"], 0.0)
    then = customers["then"].where(there, 0.0)
    now = np.where(there, now, 0.0)
    mature = deals["age"] >= HORIZON
    month = np.arange(1, 61)
    kept = np.cumprod(1 - 1.5 / (50 + month - 1))
    running = customers["life"] > customers["start"]
    mrr = float((customers["then"] * customers["grown"])[running].mean())
    ltv = mrr * MARGIN * float((kept * 1.1 ** (-month / 12)).sum())
    within = float((won & (deals["took"] <= HORIZON)).mean())
    median = float(np.median(deals["took"][done]))
    acv = float(amount[done].mean())
    trimmed = np.sort(amount[done].to_numpy())
    cut = int(0.1 * len(trimmed))
    rate = float(done.sum() / closed.sum())
    return {
        "win_rate closed": rate,
        "win_rate closed_broad": rate,
        "win_rate cohort": float((done & mature).sum() / mature.sum()),
        "win_rate within_365d": within,
        "win_rate value": float(amount[done].sum() / amount[closed].sum()),
        "cycle_days won_median": median,
        "cycle_days won_p75": float(np.quantile(deals["took"][done], 0.75)),
        "cycle_days any_close_median": float(np.median(deals["took"])),
        "acv mean": acv,
        "acv median": float(np.median(amount[done])),
        "acv trimmed": float(trimmed[cut : len(trimmed) - cut].mean()),
        "grr 12m": float(np.minimum(now, then).sum() / then.sum()),
        "nrr 12m": float(now.sum() / then.sum()),
        "expansion 12m": float(np.maximum(now - then, 0).sum() / then.sum()),
        "ltv discounted": ltv,
        # Opportunities a quarter are known only when all markets are drawn: see `covered`.
        "velocity a deal": within * acv / median,
    }


def covered(name: str, deals: int, markets: int, seed: int, truth: dict[str, float]) -> pd.DataFrame:
    """One row per market and figure: whether the interval holds the truth, its status and n."""
    kind, rng = GENERATORS[name], np.random.default_rng([seed, deals, sum(map(ord, name))])
    drawn = [draw_deals(kind, deals, rng).assign(market=m) for m in range(markets)]
    people = [draw_customers(kind, deals, rng).assign(market=m, account=np.arange(deals)) for m in range(markets)]
    opportunities, accounts, subscriptions = _tables(pd.concat(drawn), pd.concat(people))
    settings = Settings(plan=Plan(window_days=0, horizon_days=HORIZON), economics=Economics(gross_margin=MARGIN))
    spend = _spend(deals * markets)
    tables = {**dict.fromkeys(TABLES), "opportunities": opportunities, "subscriptions": subscriptions, "spend": spend}
    facts = build_facts(tables, accounts, settings=settings, as_of=AS_OF, seed=seed, replicates=REPLICATES)
    facts = set_levels(facts, accounts.set_index("account_id")["market"])
    facts.common["velocity"] = {}
    quarter = deals * 365.25 / 4 / 1096
    known = {**truth, "sales_velocity flow": truth["velocity a deal"] * quarter}
    rows = []
    for level in range(markets):
        piece = slice_level(facts, "segment", level)
        found = [*measure_winning(piece), *measure_money(piece), _velocity(piece)]
        for row in found:
            figure = f"{row['kpi']} {row['basis']}"
            if row["period"] == "all" and figure in known and row["status"] != "not_measured":
                holds = row["low"] <= known[figure] <= row["high"]
                rows.append({"figure": figure, "status": row["status"], "n": row["n"], "holds": bool(holds)})
    return pd.DataFrame(rows).assign(generator=name, deals=deals)


def defined_truth(name: str, seed: int = 2) -> dict[str, float]:
    """What the figures with a lag converge to, measured on one market of 60,000 deals: their definition is the estimator."""
    kind, rng, deals = GENERATORS[name], np.random.default_rng(seed), 60_000
    people = draw_customers(kind, deals, rng).assign(market=0, account=np.arange(deals))
    opportunities, accounts, subscriptions = _tables(draw_deals(kind, deals, rng).assign(market=0), people)
    settings = Settings(plan=Plan(window_days=0, horizon_days=HORIZON), economics=Economics(gross_margin=MARGIN))
    tables = {"opportunities": opportunities, "subscriptions": subscriptions, "spend": _spend(deals)}
    facts = build_facts(
        {**dict.fromkeys(TABLES), **tables}, accounts, settings=settings, as_of=AS_OF, seed=seed, replicates=2
    )
    found = {f"{r['kpi']} {r['basis']}": float(r["value"]) for r in measure_money(slice_level(facts, "all", None))}
    return {f: found[f] for f in ("cac new_logo", "payback_months simple", "ltv_cac discounted")}


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the intervals with status ok per figure and number of deals, generators together."""
    ok = results[results["status"] == "ok"]
    table = ok.pivot_table(index="figure", columns="deals", values="holds", aggfunc="mean")
    counts = ok.groupby("figure").size().rename("intervals")
    share = (results["status"] == "ok").groupby(results["figure"]).mean().rename("ok")
    return table.join(ok.groupby("figure")["holds"].mean().rename("all")).join(counts).join(share)


def by_type(results: pd.DataFrame) -> pd.DataFrame:
    """Coverage per type of figure and number of deals, and over everything."""
    ok = results[results["status"] == "ok"].assign(kind=lambda r: r["figure"].map(_kind_of()))
    table = ok.pivot_table(index="kind", columns="deals", values="holds", aggfunc="mean")
    return table.join(ok.groupby("kind")["holds"].mean().rename("all")).join(
        ok.groupby("kind").size().rename("intervals")
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit 0 when every type covers what it promises."""
    from threadpoolctl import threadpool_limits

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--markets", type=int, default=200, help="markets per generator and number of deals")
    parser.add_argument("--first", type=int, default=50_000, help="seed")
    parser.add_argument("--generators", nargs="+", default=list(GENERATORS), choices=list(GENERATORS))
    given = parser.parse_args(arguments)
    parts = []
    with threadpool_limits(1):
        for name in given.generators:
            truth = {**find_truth(GENERATORS[name]), **defined_truth(name)}
            for deals in DEALS:
                parts.append(covered(name, deals, given.markets, given.first, truth))
                print(f"\r{name}, {deals} deals", end="", file=sys.stderr, flush=True)
    results = pd.concat(parts, ignore_index=True)
    style = {"float_format": lambda x: f"{x:.3f}", "na_rep": "–"}
    print(f"\nShare of 95 % intervals with status ok that hold the truth; {given.markets} markets a cell\n")
    print(summarise(results).to_string(**style))
    kinds = by_type(results)
    print("\n" + kinds.to_string(**style))
    print(
        "\nby generator\n"
        + results[results["status"] == "ok"]
        .groupby(["generator", "deals"])["holds"]
        .mean()
        .unstack()
        .to_string(**style)
    )
    average = float(results.loc[results["status"] == "ok", "holds"].mean())
    print(f"\nall intervals: {average:.4f}   target {AVERAGE[0]}–{AVERAGE[1]}, each type {LOWEST}–{HIGHEST}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(json.loads(summarise(results).to_json(orient="index")), indent=1) + "\n", encoding="utf-8"
    )
    ok = results[results["status"] == "ok"].assign(kind=lambda r: r["figure"].map(_kind_of()))
    judged = ok.groupby(["kind", "deals"])["holds"].agg(["mean", "size"])
    cells = judged.loc[judged["size"] >= JUDGED, "mean"]  # fewer intervals say nothing about a point of coverage
    return int(not (cells.between(LOWEST, HIGHEST).all() and AVERAGE[0] <= average <= AVERAGE[1]))


def _kind_of() -> dict[str, str]:
    return {figure: kind for kind, figures in TYPES.items() for figure in figures}


def _velocity(piece: object) -> dict:
    """The row of sales velocity alone: its factors compare with a whole that these markets do not have."""
    return next(r for r in measure_velocity(piece) if r["kpi"] == "sales_velocity")  # type: ignore[arg-type]


def _tables(deals: pd.DataFrame, people: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables as the account and opportunity features give them."""
    deals, people = deals.reset_index(drop=True), people.reset_index(drop=True)
    ids = pd.Series(
        [f"m{m:04d}a{a:04d}" for m, a in zip(people["market"], people["account"], strict=True)], dtype="str"
    )
    accounts = pd.DataFrame({"account_id": ids, "family_id": ids, "market": [f"m{m:04d}" for m in people["market"]]})
    owner = pd.Series(
        [f"m{m:04d}a{a:04d}" for m, a in zip(deals["market"], deals["account"], strict=True)], dtype="str"
    )
    created = (AS_OF - pd.to_timedelta(deals["age"], unit="D")).astype("datetime64[us]")
    closed = created + pd.to_timedelta(deals["took"], unit="D")
    over = deals["took"] <= deals["age"]
    frame = CANONICAL["opportunities"].empty().reindex(range(len(deals)))
    frame = frame.assign(
        opportunity_id=pd.Series([f"o{i:07d}" for i in range(len(deals))], dtype="str"),
        account_id=owner,
        family_id=owner,
        created_at=created,
        closed_at=closed.where(over).astype("datetime64[us]"),
        status=pd.Series(np.select([over & deals["won"], over], ["won", "lost"], "open"), dtype="str"),
        type=pd.Series(["new"] * len(deals), dtype="str"),
        acv=deals["amount"],
        margin_rate=MARGIN,
    )
    started = (AS_OF - pd.to_timedelta(people["start"] * 30.4375 + 1, unit="D")).dt.floor("D").astype("datetime64[us]")
    ended = (
        (started + pd.to_timedelta((people["life"] - 0.5) * 30.4375, unit="D")).dt.floor("D").astype("datetime64[us]")
    )
    grown = (AS_OF - pd.Timedelta(days=180)).to_datetime64()
    subscriptions = CANONICAL["subscriptions"].empty().reindex(range(2 * len(people)))
    first = {
        "account_id": ids,
        "started_at": started,
        "ended_at": ended.where(ended <= grown, grown),
        "mrr": people["then"],
    }
    still = ended > grown
    second = {"account_id": ids, "started_at": grown, "ended_at": ended.where(ended <= AS_OF.to_datetime64())}
    both = pd.concat([pd.DataFrame(first), pd.DataFrame({**second, "mrr": people["then"] * people["grown"]})[still]])
    both = both.astype({"started_at": "datetime64[us]", "ended_at": "datetime64[us]"}).reset_index(drop=True)
    subscriptions = subscriptions.iloc[: len(both)].assign(**both)
    subscriptions["subscription_id"] = pd.Series([f"s{i:07d}" for i in range(len(both))], dtype="str")
    return frame, accounts, subscriptions


def _spend(deals: int) -> pd.DataFrame:
    """The same cost every month, so that each opportunity created costs what it costs."""
    months = pd.date_range("2023-07-01", "2026-06-01", freq="MS").astype("datetime64[us]")
    frame = CANONICAL["spend"].empty().reindex(range(len(months)))
    return frame.assign(
        month=months, channel=pd.Series(["all"] * len(months), dtype="str"), amount=deals * SPEND_PER_DEAL / 36
    )


if __name__ == "__main__":
    sys.exit(main())
