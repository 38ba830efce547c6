"""Reads two published runs, makes what differs between them: key figures, tiers, verdicts, as tables and as text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from icplab.core.store import Store
from icplab.run.publish import verify_run


def compare_kpis(before: Path, after: Path) -> pd.DataFrame:
    """Key figures of the whole market in two runs.

    Returns
    -------
    DataFrame
        One row per kpi and basis that both measured: kpi, basis, unit, before, after, change (after − before), apart
        (yes when the two intervals do not overlap; a cautious reading, as overlapping ones may still differ).
    """
    frames = [_market_kpis(Store(folder)) for folder in (before, after)]
    both = frames[0].merge(frames[1], on=["kpi", "basis"], suffixes=("_before", "_after"), validate="1:1")
    apart = (both["low_after"] > both["high_before"]) | (both["high_after"] < both["low_before"])
    return pd.DataFrame(
        {
            "kpi": both["kpi"],
            "basis": both["basis"],
            "unit": both["unit_after"],
            "before": both["value_before"],
            "after": both["value_after"],
            "change": both["value_after"] - both["value_before"],
            "apart": apart.map({True: "yes", False: "no"}),
        }
    )


def compare_tiers(before: Path, after: Path) -> pd.DataFrame:
    """Accounts by tier in two runs.

    Returns
    -------
    DataFrame
        Rows: tier in the first run (`absent` for accounts it did not have), columns: tier in the second, values: accounts.
    """
    scores = [Store(folder).read("scores")[["account_id", "tier"]] for folder in (before, after)]
    both = scores[0].merge(scores[1], on="account_id", how="outer", suffixes=("_before", "_after"))
    both = both.astype(object).where(both.notna(), "absent")
    return pd.crosstab(both["tier_before"], both["tier_after"], rownames=["before"], colnames=["after"])


def describe_comparison(before: Path | str, after: Path | str) -> str:
    """Two runs side by side as text; both are verified first.

    Raises
    ------
    BadInput
        One of the folders is no published run.
    DoesNotVerify
        One of them was changed after it was published.
    """
    before, after = Path(before), Path(after)
    first, second = verify_run(before), verify_run(after)
    lines = [f"{before.name} (as of {first['as_of']})  →  {after.name} (as of {second['as_of']})"]
    if first["run_id"] == second["run_id"]:
        return f"{lines[0]}\nThe two runs are identical."
    lines += ["", "Made from", *_differing_facts(first, second)]
    if _both_have("kpis", before, after):
        lines += ["", "Key figures of the whole market", _text(compare_kpis(before, after))]
    if _both_have("scores", before, after):
        lines += ["", "Accounts by tier (rows: before, columns: after)", compare_tiers(before, after).to_string()]
    return "\n".join(lines)


def _market_kpis(store: Store) -> pd.DataFrame:
    kpis = store.read("kpis")
    whole = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & kpis["value"].notna()]
    return whole[["kpi", "basis", "unit", "value", "low", "high"]].drop_duplicates(["kpi", "basis"])


def _both_have(name: str, *folders: Path) -> bool:
    return all(Store(f).has(name) for f in folders)


def _differing_facts(first: dict, second: dict) -> list[str]:
    """Which of the things a run is made from differ."""
    named = {
        "plan_hash": "plan",
        "settings": "settings",
        "inputs": "exports",
        "parameters": "parameters",
        "seed": "seed",
        "code": "version of icplab",
        "packages": "versions of libraries",
    }
    differing = [word for key, word in named.items() if first.get(key) != second.get(key)]
    same = [word for key, word in named.items() if first.get(key) == second.get(key)]
    verdicts = [m.get("verdicts", {}).get("segmentation") for m in (first, second)]
    lines = [f"  other: {', '.join(differing) or 'nothing'}; the same: {', '.join(same) or 'nothing'}"]
    return [*lines, f"  segmentation: {verdicts[0]} → {verdicts[1]}"] if any(verdicts) else lines


def _text(kpis: pd.DataFrame) -> str:
    return kpis.to_string(index=False, float_format=lambda x: f"{x:,.4g}", na_rep="")
