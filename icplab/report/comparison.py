"""Reads what differs between two runs, makes the page that shows them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from icplab.core import formats as fmt
from icplab.report.download import place_tables
from icplab.report.glossary import with_glossary
from icplab.report.page import environment
from icplab.report.tables import table_html

TIERS = ("tier_1", "tier_2", "tier_3", "not_icp", "insufficient", "absent")
UP = {tier: rank for rank, tier in enumerate(TIERS[:4])}  # a smaller rank is a better tier


def render_comparison(comparison: Mapping[str, Any], page: Path | str, *, inside: bool = False) -> Path:
    """Write the page of two runs side by side.

    Parameters
    ----------
    comparison
        names, dates, verdicts (before, after), differing and same (what the runs were made from), currency, and the tables
        kpis, scores (accounts by tier before and after), traits; a table that one run lacks is None.
    page
        Where the page is written. The same comparison gives the same bytes.
    inside
        Whether the page lies in the folder of the later run, and so can lead back to its council pack.
    """
    page = Path(page)
    view = {
        "names": comparison["names"],
        "dates": [fmt.date(day) for day in comparison["dates"]],
        "headline": _headline(comparison),
        "facts": _facts(comparison),
        "kpis": _kpis(comparison),
        "tiers": _tiers(comparison),
        "traits": _traits(comparison),
        "inside": inside,
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        place_tables(with_glossary(environment().get_template("compare.html.j2").render(view)), page), encoding="utf-8"
    )
    return page


def _headline(comparison: Mapping[str, Any]) -> str:
    """How many accounts changed tier, and how many key figures moved beyond their intervals."""
    said = []
    flow = comparison["scores"]
    if flow is not None:
        kept = sum(int(flow.loc[t, t]) for t in flow.index.intersection(flow.columns))
        both = int(flow.drop(index="absent", errors="ignore").drop(columns="absent", errors="ignore").to_numpy().sum())
        said.append(f"{both - kept:,} of {both:,} accounts changed tier")
    kpis = comparison["kpis"]
    if kpis is not None:
        moved = int(kpis["apart"].eq("yes").sum())
        said.append(f"{moved or 'no'} key figure{'' if moved == 1 else 's'} moved beyond doubt")
    words = ", ".join(said) or "These two runs have nothing in common to compare"
    return words[0].upper() + words[1:]


def _facts(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    verdicts = [fmt.plain(v) or "no segmentation" for v in comparison["verdicts"]]
    segmentation = verdicts[0] if verdicts[0] == verdicts[1] else f"{verdicts[0]}, then {verdicts[1]}"
    facts = [("Other", comparison["differing"]), ("The same", comparison["same"])]
    return [*((label, ", ".join(words)) for label, words in facts if words), ("Segments", segmentation)]


def _kpis(comparison: Mapping[str, Any]) -> Markup | None:
    """Key figures before and after; those that moved first."""
    kpis = comparison["kpis"]
    if kpis is None or kpis.empty:
        return None
    rows = kpis.assign(
        kpi=kpis["kpi"].map(fmt.name),
        basis=kpis["basis"].map(lambda b: fmt.name(str(b or ""))),
        order=kpis["apart"].ne("yes"),
        verdict=kpis["apart"].map({"yes": "moved", "no": "within doubt"}),
    ).sort_values(["order", "kpi", "basis"], kind="stable")
    bounds = ["before", "before_low", "before_high", "after", "after_low", "after_high"]
    table = rows[["kpi", "basis", "unit", *bounds, "verdict"]]
    formats = {when: ("unit", f"{when}_low", f"{when}_high") for when in ("before", "after")}
    labels = dict(zip(("before", "after"), comparison["names"], strict=True)) | {"kpi": "Key figure"}
    note = (
        "Moved: the two 95 % intervals do not overlap. Figures within doubt may still differ; these data do not tell."
    )
    caption = "Key figures of the whole business, with 95 % intervals"
    return Markup(table_html(table, caption, formats, note, labels=labels, currency=comparison["currency"]))


def _tiers(comparison: Mapping[str, Any]) -> Markup | None:
    """Accounts by tier before (rows) and after (columns)."""
    flow = comparison["scores"]
    if flow is None:
        return None
    before = [t for t in TIERS if t in flow.index]
    after = [t for t in TIERS if t in flow.columns]
    table = flow.reindex(index=before, columns=after, fill_value=0).rename(index=fmt.name, columns=fmt.name)
    first = comparison["names"][0]
    rose = sum(int(flow.loc[a, b]) for a in before for b in after if UP.get(a, -1) > UP.get(b, 9))
    fell = sum(int(flow.loc[a, b]) for a in before for b in after if UP.get(a, 9) < UP.get(b, -1))
    note = f"{rose:,} accounts rose, {fell:,} fell. Absent: not in that run."
    table = table.rename_axis(None, axis=1).rename_axis(f"In {first}").reset_index()
    return Markup(
        table_html(table, f"Accounts by tier, {first} (rows) and {comparison['names'][1]} (columns)", note=note)
    )


def _traits(comparison: Mapping[str, Any]) -> Markup | None:
    """Traits supported in one of the runs only."""
    traits = comparison["traits"]
    if traits is None or traits.empty:
        return None
    named = traits.assign(**{c: traits[c].map(lambda v: fmt.name(str(v))) for c in ("outcome", "before", "after")})
    labels = dict(zip(("before", "after"), comparison["names"], strict=True)) | {"adjusted": "Adjusted ratio"}
    formats = {"adjusted": ("ratio", "low", "high")}
    caption = "Traits that are supported in one of the two runs only"
    note = "A verdict that changes between two quarters is first of all a reason to doubt it, then a reason to act."
    return Markup(table_html(named, caption, formats, note, labels=labels))
