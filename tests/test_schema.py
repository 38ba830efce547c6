"""Declarations are complete, and checks name every failure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from icplab.core import schema
from icplab.core.errors import ContractBroken
from icplab.core.findings import CODES, Finding, findings_table
from icplab.report.show import findings_html

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("table", [*schema.CANONICAL.values(), *schema.ARTEFACTS.values()], ids=lambda t: t.name)
def test_a_declaration_is_consistent(table):
    assert set(table.key) <= set(table.by_name)
    assert all(c.kind in schema.DTYPES and c.meaning for c in table.columns)
    for column in table.columns:
        if column.references:
            other, name = column.references.split(".")
            assert name in schema.CANONICAL[other].by_name


def test_all_tables_of_the_contract_are_declared():
    assert list(schema.CANONICAL) == [
        "accounts",
        "opportunities",
        "contacts",
        "opportunity_contacts",
        "stage_history",
        "leads",
        "activities",
        "usage",
        "campaigns",
        "spend",
        "products",
        "owners",
        "rates",
        "field_history",
        "traffic",
        "subscriptions",
        "market",
        "targets",
        "feedback",
        "content",
        "events",
    ]
    assert list(schema.ARTEFACTS) == [
        "ledger",
        "kpis",
        "account_segments",
        "segments",
        "market_map",
        "traits",
        "scores",
        "opportunity_scores",
        "tiers",
        "forecast",
        "account_snapshot",
        "opportunity_snapshot",
        "trait_history",
        "findings",
    ]


def test_the_data_dictionary_is_printed_from_the_declarations():
    written = (DOCS / "data-dictionary.md").read_text(encoding="utf-8")
    assert written == schema.data_dictionary() + "\n", "run make docs"


def test_a_broken_artefact_is_refused_with_every_failure():
    frame = pd.DataFrame({"account_id": ["a", "a", None], "segment_id": ["S1"] * 3, "segment": ["x"] * 3})
    with pytest.raises(ContractBroken, match=r"account_id is empty in 1 rows.*1 rows repeat the key"):
        schema.check_artefact("account_segments", frame)
    with pytest.raises(ContractBroken, match='did you mean "scores"'):
        schema.check_artefact("score", frame)
    tiers = pd.DataFrame({"tier": ["gold"], "period": ["now"], "accounts": [1]})
    with pytest.raises(ContractBroken, match="gold"):
        schema.check_artefact("tiers", tiers)


def test_an_artefact_gets_its_declared_columns_and_types():
    frame = schema.check_artefact(
        "tiers", pd.DataFrame({"extra": [1], "period": ["now"], "tier": ["tier_1"], "accounts": [3]})
    )
    assert frame.columns.tolist() == [*(c.name for c in schema.ARTEFACTS["tiers"].columns), "extra"]
    assert frame["accounts"].dtype == "float64"
    assert frame["predicted"].isna().all()


def test_findings_of_equal_urgency_begin_with_the_answer_to_the_step_s_question():
    codes = ["draft-compared", "whitespace", "segments-natural", "not-describable", "source-artefact"]
    severities = ["info", "info", "info", "watch", "watch"]
    made = [Finding(c, "30_segments", s, "x", f"It says {c}.") for c, s in zip(codes, severities, strict=True)]
    expected = ["source-artefact", "not-describable", "segments-natural", "draft-compared", "whitespace"]
    assert findings_table(made)["code"].tolist() == expected
    html = findings_html(findings_table(made[::-1]))
    places = [html.index(f"says {code}") for code in expected]
    assert places == sorted(places)


def test_findings_carry_a_declared_code_an_owner_and_their_numbers():
    table = findings_table(
        [
            Finding("files-written", "60_activation", "info", "files", "3 files.", {"files": 3}),
            Finding("leak", "40_traits", "act", "x", "x was filled in after closing.", {"share": 0.9}),
        ]
    )
    assert table["code"].tolist() == ["leak", "files-written"]
    assert table["owner"].notna().all()
    with pytest.raises(ContractBroken, match='did you mean "leak"'):
        Finding("leaks", "40_traits", "act", "x", "y")
    assert "no-usable-ranking" in CODES
