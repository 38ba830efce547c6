"""Reads the artefacts of a run, makes `index.html`: the council pack, one page a director reads in three minutes.

Every part works from artefacts alone and stands alone: what an artefact cannot tell is said in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from icplab.core import formats as fmt
from icplab.core.errors import BadInput, ContractBroken
from icplab.core.findings import CODE_ORDER
from icplab.core.schema import ALL, UNASSIGNED
from icplab.core.store import Store
from icplab.report.decide import decisions
from icplab.report.download import place_tables
from icplab.report.glossary import with_glossary
from icplab.report.market import map_view, reader_views
from icplab.report.page import environment
from icplab.report.provenance import PAGES, navigation, provenance, read_json, read_settings
from icplab.report.show import findings_html
from icplab.report.tables import table_html

# Key figures on the first page, in this order: KPI, beginning of its basis, what it is called.
HEADLINES = (
    ("win_rate", "closed", "Win rate of closed opportunities"),
    ("win_rate", "within", "Won within the horizon"),
    ("acv", "median", "ACV of won opportunities, median"),
    ("cycle_days", "won_median", "Cycle of won opportunities, median"),
    ("grr", "", "Gross revenue retention"),
    ("nrr", "", "Net revenue retention"),
    ("ltv_cac", "", "LTV to CAC"),
    ("payback_months", "", "CAC payback"),
)
# Findings of these codes say what changed; of the second set, what the data cannot tell.
CHANGED = {
    "compared-with-earlier", "no-earlier-run", "backtest-hit", "backtest-miss", "drift", "retire-segment",
    "redefine-trait", "new-use-case", "price-or-product-change", "definition-change", "mix-shift",
}  # fmt: skip
UNKNOWN = {
    "not-measured", "insufficient-evidence", "low-coverage", "small-group", "censoring", "no-usable-ranking",
    "defaults-taken", "evidence-poor", "segments-none", "segments-constructive", "tiers-merged", "bulk-close",
    "cut-export", "heavy-tail", "unknown-level", "not-describable",
}  # fmt: skip
SHOWN_FINDINGS = 6  # of each severity; the others open on demand
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Pack:
    """What the council pack is made from; None where the run does not hold it."""

    folder: Path
    about: dict[str, Any]
    kpis: pd.DataFrame | None
    findings: pd.DataFrame | None
    scores: pd.DataFrame | None
    segments: pd.DataFrame | None
    tiers: pd.DataFrame | None
    traits: pd.DataFrame | None
    market_map: pd.DataFrame | None
    segmentation: dict[str, Any] | None

    @property
    def currency(self) -> str:
        return str(self.about.get("currency") or "")


def render_index(run_folder: Path | str, context: Mapping[str, Any] | None = None) -> Path:
    """Write `index.html` of a run from its artefacts.

    Parameters
    ----------
    run_folder
        Folder of the run, in the making or published; artefacts that are missing are said to be missing.
    context
        As in `render_page`; further `currency` and `inputs`. What is not given is read from `settings.json`,
        `inputs.json` or `manifest.json` in the folder, where they are.

    Returns
    -------
    Path
        `run_folder/index.html`. The same artefacts give the same bytes.
    """
    folder = Path(run_folder)
    about = _about(folder, dict(context or {}))
    facts = provenance(folder, about)
    pack = _read(folder, about)
    view = {
        "about": about,
        "facts": facts,
        "headline": _headline(pack),
        "lede": _lede(pack),
        "figures": _figures(pack),
        **_finding_sections(pack),
        "map": map_view(pack.scores, pack.segments, pack.tiers, pack.currency),
        "readers": reader_views(
            pack.scores, pack.segments, pack.tiers, pack.traits, pack.currency, market=pack.market_map
        ),
        "compared": (folder / "compare.html").is_file(),
        "plan": _plan(pack),
        "unknown": _unknown(pack),
        "pages": _pages(pack),
    }
    path = folder / "index.html"
    path.write_text(
        place_tables(with_glossary(environment().get_template("pack.html.j2").render(view)), path), encoding="utf-8"
    )
    return path


def _about(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The context, completed from what lies in the folder."""
    manifest = read_json(folder / "manifest.json")
    settings = read_settings(folder)
    for key in ("period", "as_of", "inputs", "seed"):
        if not about.get(key) and manifest.get(key):
            about[key] = manifest[key]
    if settings and not about.get("currency"):
        about["currency"] = settings.workspace.currency
    about.setdefault("period", folder.name)
    there = [p.stem for p in sorted(folder.glob("[0-9]*.html"))]
    given = dict(about.get("pages") or ())
    about["pages"] = navigation((name, given.get(name, name)) for name in there)
    about["step"] = "index"
    return about


def _read(folder: Path, about: dict[str, Any]) -> Pack:
    store = Store(folder)
    names = ("kpis", "findings", "scores", "segments", "tiers", "traits", "market_map")
    tables = {name: _maybe(store.read, name) for name in names}
    return Pack(folder, about, segmentation=_maybe(store.read_json, "segmentation"), **tables)


def _maybe(read: Callable[[str], Any], name: str) -> Any:
    """An artefact, or None where it is missing or broken."""
    try:
        return read(name)
    except (BadInput, ContractBroken, OSError, ValueError):
        return None


def _headline(pack: Pack) -> str:
    """What the ranking is worth, in one line; without one, that there is none."""
    if pack.findings is None:
        return "This run wrote no findings"
    if pack.scores is None or pack.scores.empty:
        return _to_do(pack)
    first = pack.scores[pack.scores["tier"] == "tier_1"]
    values = pack.scores["expected_value"].clip(lower=0)
    if first.empty:
        return "The data support no ranking of accounts"
    if not values.sum() > 0:
        return f"{len(first):,} of {len(pack.scores):,} accounts come first"
    share = first["expected_value"].clip(lower=0).sum() / values.sum()
    return f"{len(first):,} of {len(pack.scores):,} accounts hold {fmt.percent(share)} of the expected value"


def _to_do(pack: Pack) -> str:
    """How much asks for a decision, and how much to keep an eye on."""
    severity = [] if pack.findings is None else pack.findings["severity"].tolist()
    act, watch = len(_decisions(pack)), severity.count("watch")
    decide = f"{_word(act).capitalize()} thing{'s' if act != 1 else ''} to decide" if act else "Nothing to decide"
    return f"{decide}, {_word(watch) if watch else 'nothing'} to watch"


def _word(count: int) -> str:
    return NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else f"{count:,}"


def _lede(pack: Pack) -> str:
    """The map and what it asks for, in two sentences."""
    said = []
    if pack.segments is not None and len(pack.segments):
        verdict = {
            "natural": "natural segments",
            "reproducible": "reproducible segments",
            "constructive": "segments drawn for use, not found in nature",
            "none": "whole market without segments",
        }.get(str((pack.segmentation or {}).get("verdict")), "segments")
        count = int((pack.segments["segment_id"] != UNASSIGNED).sum())
        said.append(
            f"The map has {_word(count)} {verdict}."
            if verdict != "whole market without segments"
            else "The data shows no segments: the map is the whole market."
        )
    if pack.findings is not None:
        said.append(f"{_to_do(pack)}.")
    return " ".join(said)


def _figures(pack: Pack) -> list[dict[str, str]]:
    """Headline KPIs of the whole business, each with interval, basis and n."""
    if pack.kpis is None:
        return []
    whole = pack.kpis[(pack.kpis["cut"] == ALL) & (pack.kpis["period"] == ALL)]
    tiles = []
    for kpi, basis, label in HEADLINES:
        rows = whole[(whole["kpi"] == kpi) & whole["basis"].fillna("").str.startswith(basis)]
        if len(rows):
            tiles.append(_tile(rows.iloc[0].to_dict(), label, pack.currency))
    return tiles


def _tile(row: Mapping[Any, Any], label: str, currency: str) -> dict[str, str]:
    basis = str(row["basis"] or "")
    label = f"Won within {basis[7:-1]} days" if basis.startswith("within_") and basis.endswith("d") else label
    if row["status"] != "ok" or pd.isna(row["value"]):
        state = "not enough data" if row["status"] == "insufficient" else "not measured"
        return {"label": label, "none": state, "note": fmt.text(row["note"]) if row["note"] else ""}
    unit = str(row["unit"] or "")
    bounds = "" if pd.isna(row["low"]) else f"95 % interval {fmt.interval(row['low'], row['high'], unit, row['value'])}"
    size = "" if pd.isna(row["n"]) else f"n {fmt.integer(row['n'])}"
    return {"label": label, "value": fmt.quantity(row["value"], unit, currency), "bounds": bounds, "n": size}


def _finding_sections(pack: Pack) -> dict[str, Any]:
    """Findings to decide and to watch, and those that say what changed, as lists of HTML."""
    if pack.findings is None:
        return {"decide": None, "watch": None, "changed": None}
    found = pack.findings
    urgent = found["severity"] != "info"
    return {
        "decide": _list(pack, _decisions(pack), ordered=True),
        "watch": _list(pack, found[found["severity"] == "watch"]),
        "changed": _list(pack, found[found["code"].isin(CHANGED) & ~urgent]),
    }


def _decisions(pack: Pack) -> pd.DataFrame:
    """What the council has to decide; empty without findings."""
    if pack.findings is None:
        return pd.DataFrame()
    as_of = pd.to_datetime(str(pack.about.get("as_of") or ""), errors="coerce")
    first_run = bool(pack.findings["code"].eq("no-earlier-run").any())
    return decisions(pack.findings, None if pd.isna(as_of) else as_of, first_run=first_run)


def _list(pack: Pack, rows: pd.DataFrame, *, ordered: bool = False) -> dict[str, Any]:
    links = {name: (f"{name}.html", label) for name, label in pack.about["pages"]}
    if not ordered:
        rows = rows.assign(_code=rows["code"].map(CODE_ORDER)).sort_values(
            ["step", "_code", "subject", "sentence"], kind="stable"
        )
    first, rest = rows.head(SHOWN_FINDINGS), rows.iloc[SHOWN_FINDINGS:]
    return {
        "count": len(rows),
        "first": Markup(findings_html(first, steps=links)) if len(first) else "",
        "rest": Markup(findings_html(rest, steps=links)) if len(rest) else "",
        "more": len(rest),
    }


def _plan(pack: Pack) -> Markup | None:
    """Attainment in the latest period with a plan, as a table; None without targets."""
    if pack.kpis is None:
        return None
    rows = pack.kpis[(pack.kpis["kpi"] == "attainment") & (pack.kpis["status"] == "ok") & pack.kpis["value"].notna()]
    dated = rows[rows["period"] != ALL]
    rows = dated[dated["period"] == dated["period"].max()] if len(dated) else rows
    if rows.empty:
        return None
    table = rows.assign(
        scope=rows["level"].where(rows["cut"] != ALL, "whole business"),
        basis=rows["basis"].map(fmt.name),
        verdict=_attained(rows),
    ).sort_values(["basis", "scope"])[["basis", "scope", "value", "low", "high", "verdict", "period"]]
    formats = {"value": ("percent", "low", "high")}
    labels = {"basis": "Planned figure", "scope": "For", "value": "Reached, share of plan", "verdict": "Verdict"}
    caption = f"Plan against actual, {rows['period'].iloc[0]}"
    html = table_html(table.drop(columns="period"), caption, formats, labels=labels)
    return Markup(html)


def _attained(rows: pd.DataFrame) -> pd.Series:
    """Met, missed or open: an interval that crosses the plan is neither."""
    low, high = rows["low"].fillna(rows["value"]), rows["high"].fillna(rows["value"])
    verdict = pd.Series("not decided by the data", index=rows.index)
    return verdict.mask(high < 1, "missed").mask(low >= 1, "met")


def _unknown(pack: Pack) -> list[str]:
    """What this run cannot tell, in sentences."""
    said: list[str] = []
    if pack.findings is not None:
        rows = pack.findings[pack.findings["code"].isin(UNKNOWN)]
        said += [fmt.plain(s, 600) for s in rows.sort_values(["step", "code", "subject"])["sentence"].drop_duplicates()]
    if pack.kpis is not None:
        whole = pack.kpis[(pack.kpis["cut"] == ALL) & (pack.kpis["period"] == ALL)]
        missing = whole[whole["status"] == "not_measured"]["kpi"].drop_duplicates().sort_values()
        if len(missing):
            said.append(
                f"Not measured, because the exports do not hold what it takes: {', '.join(map(fmt.name, missing))}."
            )
        groups = pack.kpis[(pack.kpis["cut"] != ALL) & (pack.kpis["period"] == ALL)]
        few = int((groups["status"] == "insufficient").sum())
        if few:
            said.append(
                f"{few:,} of {len(groups):,} figures of groups rest on too few observations and are not printed as figures."
            )
    if pack.scores is not None and len(pack.scores):
        outside = int(pack.scores["flags"].fillna("").str.contains("unknown_fit").sum())
        if outside:
            said.append(
                f"{outside:,} accounts are unlike any account that was ever worked; their scores are extrapolations."
            )
    return said


def _pages(pack: Pack) -> list[dict[str, str]]:
    """The seven pages with their question and what was found there."""
    questions = {name: question for name, _, question in PAGES}
    return [
        {"href": f"{name}.html", "title": title, "question": questions.get(name, ""), "has": _found_in(pack, name)}
        for name, title in pack.about["pages"]
    ]


def _found_in(pack: Pack, step: str) -> str:
    if pack.findings is None:
        return ""
    counts = pack.findings.loc[pack.findings["step"] == step, "severity"].value_counts()
    words: Sequence[tuple[str, str]] = (("act", "to decide"), ("watch", "to watch"), ("info", "noted"))
    return ", ".join(f"{int(counts[s])} {word}" for s, word in words if counts.get(s))
