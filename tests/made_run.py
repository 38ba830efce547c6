"""A small made-up run whose every name is hostile, for the tests of pages: reads nothing, makes artefacts and a notebook."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.findings import Finding, findings_table
from icplab.core.store import Store

# Each would do harm in one place: element, attribute, Markdown, formula, terminal, reading direction, template, XML.
HOSTILE = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(2))",
    "$x$ and $A^{$",
    '"><img src=x onerror=alert(3)>',
    "\x1b[31mred\x1b[0m \x1b]8;;https://example.org\x07link\x1b]8;;\x07",
    "abc\u202egnp.exe",
    "{{ 7*7 }}{% raw %}",
    "<svg/onload=alert(4)>",
    "' onmouseover='alert(5)",
    "]]><!-- \x00\x08",
    "<https://example.org/track.png>",
    "日本 🎉 Ω",
)
PAGES = [
    ("10_align", "Align"),
    ("20_performance", "Analyze"),
    ("30_segments", "Segment"),
    ("40_traits", "Define ICP"),
    ("50_tiers", "Prioritize"),
    ("60_activation", "Activate"),
    ("70_governance", "Govern"),
]
CONTEXT = {
    "workspace": HOSTILE[0],
    "period": "2026Q2",
    "as_of": "2026-06-30",
    "pages": PAGES,
    "currency": "EUR",
    "inputs": {
        "as_of": "2026-06-30",
        "files": [{"file": HOSTILE[3] + ".csv", "sha256": "ab" * 32, "records": 12}],
    },
}
TIERS = ("tier_1", "tier_2", "tier_3", "not_icp", "insufficient")


def estimates() -> pd.DataFrame:
    """An estimate table with one hostile level per row; the last has too little data."""
    n = len(HOSTILE)
    value = np.linspace(0.35, 0.05, n)
    table = pd.DataFrame({"level": HOSTILE, "n": np.arange(n, 0, -1) * 40.0, "value": value})
    table = table.assign(low=value * 0.8, high=value * 1.25, unit="fraction", status="ok")
    table.loc[n - 1, ["value", "low", "high"]] = np.nan
    table.loc[n - 1, "status"] = "insufficient"
    return table


def findings() -> list[Finding]:
    """One finding of each severity per hostile text, from several steps."""
    steps = [name for name, _ in PAGES]
    codes = {"act": "retire-segment", "watch": "small-group", "info": "compared-with-earlier"}
    return [
        Finding(
            code,
            steps[i % len(steps)],
            severity,
            text,
            f"{severity} {i}: {text} won 12 % of 40.",
            action=f"Look at {text}.",
        )
        for i, text in enumerate(HOSTILE)
        for severity, code in codes.items()
    ]


def kpis() -> pd.DataFrame:
    """Company-wide key figures (one not measured), one cut, and attainment against plan in two quarters."""
    rows = [
        ("all", "all", "all", "win_rate", "closed", 0.312, 0.27, 0.35, 480, "fraction", "ok", ""),
        ("all", "all", "all", "win_rate", "within_365d", 0.228, 0.20, 0.26, 900, "fraction", "ok", ""),
        ("all", "all", "all", "acv", "median", 12400.0, 11000.0, 13900.0, 150, "money", "ok", ""),
        ("all", "all", "all", "cycle_days", "won_median", 57.0, 52.0, 61.0, 150, "days", "ok", ""),
        ("all", "all", "all", "nrr", "12m", np.nan, np.nan, np.nan, 9, "fraction", "insufficient", HOSTILE[0]),
        ("all", "all", "all", "cac", "won", np.nan, np.nan, np.nan, np.nan, "money", "not_measured", "no spend"),
        ("all", "all", "2026Q1", "attainment", "won", 0.7, 0.6, 0.8, 40, "ratio", "ok", ""),
        ("all", "all", "2026Q2", "attainment", "won", 0.92, 0.81, 1.04, 40, "ratio", "ok", ""),
        ("segment", HOSTILE[3], "2026Q2", "attainment", "won", 0.6, 0.5, 0.71, 40, "ratio", "ok", ""),
        ("segment", HOSTILE[0], "all", "win_rate", "closed", np.nan, np.nan, np.nan, 8, "fraction", "insufficient", ""),
    ]
    columns = ["cut", "level", "period", "kpi", "basis", "value", "low", "high", "n", "unit", "status", "note"]
    return pd.DataFrame(rows, columns=columns)


def scores(accounts: int = 240) -> pd.DataFrame:
    """Accounts over three segments, one of them unassigned, and all tiers."""
    i = np.arange(accounts)
    tier = np.array(TIERS)[np.minimum(i % 10 // 2, 4)]
    segment = np.array(["S1", "S2", "unassigned"])[i % 3]
    return pd.DataFrame(
        {
            "account_id": [f"A{k:04d}" for k in i],
            "segment_id": segment,
            "icp": np.where(i % 4 == 0, "yes", "no"),
            "motion": np.where(i % 5 == 0, "expansion", "new"),
            "fit_score": (i % 100).astype(float),
            "intent_score": (i * 7 % 100).astype(float),
            "win_probability": 0.05 + (i % 30) / 100,
            "expected_value": np.where(tier == "insufficient", np.nan, 1000.0 * (1 + i % 17)),
            "value_basis": "margin_36m",
            "tier": tier,
            "tier_confidence": 0.4 + (i % 5) / 10,
            "flags": np.where(i % 50 == 0, "unknown_fit", ""),
            "reasons": "[]",
        }
    )


def write_artefacts(folder: Path) -> None:
    """All artefacts that the council pack reads, through their declarations."""
    store = Store(folder)
    store.write("20_performance", "kpis", kpis())
    store.write("20_performance", "findings", findings_table(findings()))
    segments = pd.DataFrame({"segment_id": ["S1", "S2"], "segment": [HOSTILE[0], HOSTILE[1]]})
    store.write("30_segments", "segments", segments.assign(accounts=[80.0, 80.0], share=0.5))
    store.write_json("30_segments", "segmentation", {"verdict": "natural", "k": 2})
    traits = pd.DataFrame({"trait": [HOSTILE[4], "tool"], "level": [HOSTILE[7], "yes"]}).assign(
        scope="all",
        outcome="win",
        family="firmographic",
        adjusted=[1.9, 1.4],
        verdict="supported",
        direction="+",
    )
    store.write("40_traits", "traits", traits)
    store.write("50_tiers", "scores", scores())
    tiers = pd.DataFrame({"tier": TIERS[:3], "period": "now", "accounts": 48.0, "capacity": [40.0, 60.0, np.nan]})
    store.write("50_tiers", "tiers", tiers)


def hostile_notebook(path: Path, cells: list | None = None) -> Path:
    """An executed notebook in which every way of showing something shows something hostile."""
    import nbformat  # slow to load, and the tests of charts do not need it

    from icplab.core.charts import interval_chart
    from icplab.report.show import findings_html
    from icplab.report.tables import table_html

    code, out = nbformat.v4.new_code_cell, nbformat.v4.new_output
    data, about = interval_chart(estimates(), title=HOSTILE[3], unit="fraction", note=HOSTILE[0])._repr_mimebundle_()
    table = table_html(estimates(), HOSTILE[0], {"value": "percent"}, note=HOSTILE[3])
    raw = "".join(f"<b>{text}</b>" for text in HOSTILE)
    markdown = nbformat.v4.new_markdown_cell
    cells = cells or [
        markdown(f"# Which {HOSTILE[0]} holds?\n\nAsked by nobody."),
        code('workspace: str = ""', metadata={"tags": ["parameters"]}),
        code("import this"),
        code("show()", outputs=[out("display_data", {"text/html": findings_html(findings_table(findings()))})]),
        *[markdown(f"## Section {i}: {text}\n\n{text}") for i, text in enumerate(HOSTILE)],
        code("chart", outputs=[out("execute_result", data, metadata=about)]),
        code("again", outputs=[out("execute_result", data, metadata=about)]),
        code("show_table()", outputs=[out("display_data", {"text/html": table, "text/plain": "table"})]),
        code("HTML(raw)", outputs=[out("display_data", {"text/html": raw})]),
        code("Markdown(raw)", outputs=[out("display_data", {"text/markdown": " ".join(HOSTILE)})]),
        code("print(raw)", outputs=[out("stream", name="stdout", text="\n".join(HOSTILE))]),
        code("js", outputs=[out("display_data", {"application/javascript": "alert(6)"})]),
        code("frame", outputs=[out("display_data", {"text/html": estimates().to_html(escape=False)})]),
        code(f"# {HOSTILE[0]}{' long' * 60}\nx = {json.dumps(HOSTILE[3])}"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"title": HOSTILE[3]})
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"c{number:02d}"
    nbformat.write(notebook, path)
    return path
