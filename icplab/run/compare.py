"""Reads two published runs, makes what differs between them: key figures, tiers, traits, verdicts, as tables, text and page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from icplab.core.store import Store
from icplab.run.publish import verify_run

_BOUNDS = (("value", ""), ("low", "_low"), ("high", "_high"))


def compare_kpis(before: Path, after: Path) -> pd.DataFrame:
    """Key figures of the whole market in two runs.

    Returns
    -------
    DataFrame
        One row per kpi and basis that both measured: kpi, basis, unit, before, before_low, before_high, after, after_low,
        after_high, change (after − before), apart (yes when the two intervals do not overlap; a cautious reading, as
        overlapping ones may still differ).
    """
    frames = [_market_kpis(Store(folder)) for folder in (before, after)]
    both = frames[0].merge(frames[1], on=["kpi", "basis"], suffixes=("_before", "_after"), validate="1:1")
    apart = (both["low_after"] > both["high_before"]) | (both["high_after"] < both["low_before"])
    shown = {f"{when}{end}": both[f"{of}_{when}"] for when in ("before", "after") for of, end in _BOUNDS}
    about = {"kpi": both["kpi"], "basis": both["basis"], "unit": both["unit_after"]}
    return pd.DataFrame(
        {
            **about,
            **shown,
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


def compare_traits(before: Path, after: Path) -> pd.DataFrame:
    """Traits of the whole market that are supported in one of two runs only.

    Returns
    -------
    DataFrame
        One row per outcome, trait and level: outcome, trait, level, before, after (verdict in each run, `absent` where the
        run did not look at it), adjusted, low, high (the effect in the later run, else in the earlier).
    """
    key = ["outcome", "trait", "level"]
    frames = [Store(folder).read("traits") for folder in (before, after)]
    first, second = (f[f["scope"] == "all"].set_index(key).sort_index() for f in frames)
    verdicts = pd.DataFrame({"before": first["verdict"].astype("str"), "after": second["verdict"].astype("str")})
    verdicts = verdicts.astype(object).where(verdicts.notna(), "absent")
    changed = verdicts[(verdicts["before"] == "supported") != (verdicts["after"] == "supported")]
    effect = second.combine_first(first)[["adjusted", "adjusted_low", "adjusted_high"]].reindex(changed.index)
    return changed.join(effect).rename(columns={"adjusted_low": "low", "adjusted_high": "high"}).reset_index()


def write_comparison(before: Path | str, after: Path | str, page: Path | str) -> Path:
    """Two published runs side by side as a page; both are verified first (errors as in `describe_comparison`)."""
    from icplab.report import render_comparison

    before, after = Path(before), Path(after)
    manifests = verify_run(before), verify_run(after)
    return render_comparison(comparison_of((before, manifests[0]), (after, manifests[1])), page)


def comparison_of(before: tuple[Path, dict], after: tuple[Path, dict]) -> dict[str, Any]:
    """All that a page of two runs tells; a part that one of the runs lacks is None.

    `before` and `after` are a run's folder and the facts of its manifest.
    """
    folders = before[0], after[0]
    differing, same = _facts(before[1], after[1])
    parts = {"kpis": compare_kpis, "scores": compare_tiers, "traits": compare_traits}
    tables = {name: compare(*folders) if _both_have(name, *folders) else None for name, compare in parts.items()}
    verdicts = [m.get("verdicts", {}).get("segmentation") or "" for m in (before[1], after[1])]
    names = [str(m.get("period") or f.name) for f, m in (before, after)]
    dates = [m["as_of"] for m in (before[1], after[1])]
    about = {"names": names, "dates": dates, "differing": differing, "same": same, "verdicts": verdicts}
    return about | tables | {"currency": after[1].get("currency", "")}


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
    if _both_have("traits", before, after):
        lines += ["", "Traits supported in one of the two only", compare_traits(before, after).to_string(index=False)]
    if _both_have("scores", before, after):
        lines += ["", "Accounts by tier (rows: before, columns: after)", compare_tiers(before, after).to_string()]
    return "\n".join(lines)


def _market_kpis(store: Store) -> pd.DataFrame:
    kpis = store.read("kpis")
    whole = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & kpis["value"].notna()]
    return whole[["kpi", "basis", "unit", "value", "low", "high"]].drop_duplicates(["kpi", "basis"])


def _both_have(name: str, *folders: Path) -> bool:
    return all(Store(f).has(name) for f in folders)


def _facts(first: dict, second: dict) -> tuple[list[str], list[str]]:
    """Which of the things a run is made from differ, and which are the same."""
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
    return differing, [word for word in named.values() if word not in differing]


def _differing_facts(first: dict, second: dict) -> list[str]:
    """The same as lines of text."""
    differing, same = _facts(first, second)
    verdicts = [m.get("verdicts", {}).get("segmentation") for m in (first, second)]
    lines = [f"  other: {', '.join(differing) or 'nothing'}; the same: {', '.join(same) or 'nothing'}"]
    return [*lines, f"  segmentation: {verdicts[0]} → {verdicts[1]}"] if any(verdicts) else lines


def _text(kpis: pd.DataFrame) -> str:
    shown = kpis[["kpi", "basis", "unit", "before", "after", "change", "apart"]]
    return shown.to_string(index=False, float_format=lambda x: f"{x:,.4g}", na_rep="")
