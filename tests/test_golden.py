"""Every edge case of the golden file equals the pencil to 1e-9, and the file holds at least sixty."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from icplab import features, performance
from icplab.core.config import Calendar, Economics, Plan, Settings, Workspace
from icplab.core.schema import CANONICAL
from tests.conftest import typed

GOLDEN = tomllib.loads((Path(__file__).parent / "golden" / "key_figures.toml").read_text(encoding="utf-8"))["market"]
AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
TABLES = ("subscriptions", "spend", "activities", "leads", "stage_history", "targets", "rates")
CASES = [(i, figure) for i, market in enumerate(GOLDEN) for figure in market["figures"]]


def rows_of(name: str, text: str) -> pd.DataFrame:
    """Rows written by blanks, `-` for nothing, as a typed canonical table."""
    header, *lines = (line.split() for line in text.strip().splitlines())
    assert all(len(line) == len(header) for line in lines), f"{name}: a row has more or fewer cells than the header"
    return typed(name, pd.DataFrame(lines, columns=header, dtype="str").replace("-", ""))


def cut_of(figure: dict[str, Any]) -> str:
    """Cut of a figure: of a level it is `region` unless written otherwise."""
    return figure.get("cut", "region" if "level" in figure else "all")


@cache
def measured(market: int) -> pd.DataFrame:
    """Key figures of one market: all accounts, by region and by source."""
    given: dict[str, Any] = GOLDEN[market]
    tables = {name: table.empty() for name, table in CANONICAL.items()}
    tables |= {name: rows_of(name, given[name]) for name in ("accounts", "opportunities", *TABLES) if name in given}
    if "accounts" not in given:
        ids = pd.concat([tables[n]["account_id"] for n in ("opportunities", "subscriptions", "activities", "leads")])
        tables["accounts"] = typed("accounts", pd.DataFrame({"account_id": sorted(ids.dropna().unique())}, dtype="str"))
    tables["accounts"]["name"] = tables["accounts"]["account_id"]
    settings = Settings(
        workspace=Workspace(currency=given.get("currency", "")),
        plan=Plan(window_days=0),
        economics=Economics(gross_margin=given.get("gross_margin")),
        calendar=Calendar(fiscal_year_start=given.get("fiscal_year_start", 1)),
    )
    own = {"accounts": features.build_accounts(tables, settings, AS_OF), "settings": settings, "as_of": AS_OF}
    opportunities = features.build_opportunities(tables, settings, AS_OF)
    seen = features.view_on(tables, AS_OF)
    cuts = sorted({cut_of(figure) for figure in given["figures"]} - {"all"})
    return performance.measure_cuts(opportunities, cuts, **own, seed=1, replicates=30, **{n: seen[n] for n in TABLES})


def test_there_are_sixty_cases_and_each_says_why():
    assert len(CASES) >= 60
    assert all(figure["because"] for _, figure in CASES)
    assert all(("value" in figure) != ("status" in figure) for _, figure in CASES)


@pytest.mark.parametrize(
    ("market", "figure"),
    CASES,
    ids=[f"{i}-{f['kpi']}-{f['basis']}-{f.get('level', 'all')}-{f.get('period', 'all')}" for i, f in CASES],
)
def test_the_figure_equals_the_pencil(market, figure):
    kpis = measured(market)
    key = {"cut": cut_of(figure), "level": figure.get("level", "all"), "period": figure.get("period", "all")}
    key |= {"kpi": figure["kpi"], "basis": figure["basis"]}
    found = kpis[(kpis[list(key)] == pd.Series(key)).all(axis=1)]
    assert len(found) == 1, f"{len(found)} rows for {key}"
    if "status" in figure:
        assert found["status"].iloc[0] == figure["status"], figure["because"]
        assert found["value"].isna().all()
        return
    assert found["value"].iloc[0] == pytest.approx(figure["value"], rel=1e-9, abs=1e-9), figure["because"]
