"""One row per account and per opportunity: counted by hand, and blind to what comes after the as-of date."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from icplab import features
from icplab.core.config import Economics, Settings, Source, Trait, Value, Workspace
from icplab.core.errors import BadInput
from tests.conftest import AS_OF, hand_tables, typed


def test_opportunities_are_counted_by_status(tables, settings, as_of):
    frame = features.build_opportunities(tables, settings, as_of)
    assert frame["status"].value_counts().to_dict() == {"won": 5, "lost": 4, "open": 3}
    assert frame["opportunity_id"].tolist() == [f"o{i:02d}" for i in range(1, 13)]


def test_annual_value_divides_a_term_and_cycles_are_days(tables, settings, as_of):
    frame = features.build_opportunities(tables, settings, as_of).set_index("opportunity_id")
    assert frame.at["o03", "amount"] == 24000
    assert frame.at["o03", "acv"] == 12000
    assert frame.at["o03", "tcv"] == 24000
    assert frame.loc[frame["status"] == "won", "cycle_days"].tolist() == [60, 100, 30, 60, 120]
    assert frame["age_days"].dropna().to_dict() == {"o06": 386, "o09": 242, "o12": 85}
    assert (frame["margin_rate"] == 0.8).all()


def test_a_monthly_amount_becomes_annual(tables, as_of):
    frame = features.build_opportunities(tables, Settings(value=Value("monthly")), as_of).set_index("opportunity_id")
    assert frame.at["o01", "acv"] == 144000
    assert frame.at["o03", "acv"] == 12000, "a term of 24 months says what the amount covers"


def test_margin_comes_from_the_row_then_the_product_then_the_setting(tables, as_of):
    tables["opportunities"].loc[0, "gross_margin"] = 0.5
    tables["products"] = typed("products", pd.DataFrame({"product": ["suite"], "gross_margin": ["0.7"]}))
    frame = features.build_opportunities(tables, Settings(economics=Economics(gross_margin=0.6)), as_of)
    assert frame.set_index("opportunity_id")["margin_rate"][["o01", "o02", "o05"]].tolist() == [0.5, 0.7, 0.6]
    without = features.build_opportunities(tables, Settings(), as_of).set_index("opportunity_id")["margin_rate"]
    assert pd.isna(without["o05"])


def test_on_an_earlier_date_later_rows_are_gone_and_later_closes_are_open(tables, settings):
    frame = features.build_opportunities(tables, settings, pd.Timestamp("2025-06-30")).set_index("opportunity_id")
    assert frame["status"].to_dict() == {
        "o01": "won",
        "o02": "lost",
        "o03": "won",
        "o04": "lost",
        "o05": "won",
        "o06": "open",
        "o07": "open",
    }
    assert pd.isna(frame.at["o07", "closed_at"])
    assert pd.isna(frame.at["o07", "cycle_days"])


def test_accounts_carry_what_was_measured_until_the_date(tables, settings, as_of):
    frame = features.build_accounts(tables, settings, as_of).set_index("account_id")
    assert frame.loc["a1", ["n_opportunities", "n_won", "n_lost", "n_open", "won_acv"]].tolist() == [2, 2, 0, 0, 16000]
    assert frame["is_customer"].sum() == 4
    assert frame.loc["a1", ["n_contacts", "n_roles", "n_decision_makers"]].tolist() == [2, 2, 1]
    assert frame.loc["a7", ["activities_30d", "activities_90d", "activities_365d"]].tolist() == [1, 1, 1]
    assert frame.loc["a7", "intent_30d"] == 3, "today's demo has its full weight"
    assert frame.loc["a1", "intent_30d"] == pytest.approx(2 ** (-30 / 30) + 2 ** (-289 / 30), abs=1e-8)
    assert frame["arr"].dropna().to_dict() == {"a1": 1333 * 12, "a8": 19200}
    assert frame.loc["a4", "n_contacts"] == 0, "contacts were delivered, this account has none"
    assert frame["usage_90d"].isna().all(), "no usage was delivered, so nothing is known"


def test_children_belong_to_the_family_of_their_root(tables, settings, as_of):
    frame = features.build_accounts(tables, settings, as_of).set_index("account_id")
    assert frame["family_id"].to_dict() == {a: ("a1" if a == "a2" else a) for a in frame.index}


def test_a_loop_of_parents_ends(tables, settings):
    tables["accounts"].loc[tables["accounts"]["account_id"] == "a1", "parent_account_id"] = "a2"
    assert set(features.build_families(tables, settings)) <= set(tables["accounts"]["account_id"])


def test_identical_records_without_identifiers_share_a_family():
    frame = pd.DataFrame({"account_id": ["r1", "r2", "r3"], "name": ["r1", "r2", "r3"], "need": ["x", "x", "y"]})
    deals = pd.DataFrame({"opportunity_id": ["r1", "r2", "r3"], "account_id": ["r1", "r2", "r3"], "status": "won"})
    tables = {**hand_tables(), "accounts": typed("accounts", frame), "opportunities": typed("opportunities", deals)}
    settings = Settings(sources={"accounts": Source(row_id="account_id"), "opportunities": Source(dated=False)})
    assert features.build_families(tables, settings).tolist() == ["r1", "r1", "r3"]


def test_how_an_opportunity_ended_does_not_decide_the_family():
    ids = ["r1", "r2", "r3"]
    frame = pd.DataFrame({"account_id": ids, "name": ids, "need": ["x", "x", "x"]})
    deals = {
        "opportunity_id": ids,
        "account_id": ids,
        "status": ["won", "lost", "won"],
        "source": ["web", "web", "fair"],
    }
    tables = {"accounts": typed("accounts", frame), "opportunities": typed("opportunities", pd.DataFrame(deals))}
    settings = Settings(sources={"accounts": Source(row_id="account_id"), "opportunities": Source(dated=False)})
    assert features.build_families({**hand_tables(), **tables}, settings).tolist() == ["r1", "r1", "r3"]


def test_columns_are_typed_by_what_stands_in_them(tables, settings):
    kinds = features.build_catalogue(tables, settings).set_index("trait")["kind"]
    assert kinds[["cloud", "tools", "industry", "employees", "source"]].tolist() == [
        *("flag", "multi", "category", "number", "category")
    ]


def test_a_country_called_na_is_a_country(tables, settings, as_of):
    assert features.build_accounts(tables, settings, as_of).set_index("account_id").at["a7", "country"] == "NA"


def test_multi_values_are_tidied(tables, settings, as_of):
    tools = features.build_accounts(tables, settings, as_of).set_index("account_id")["tools"]
    assert tools["a5"] == "chat;ledger"
    assert pd.isna(tools["a4"])


def test_settings_override_what_inspection_says(tables):
    settings = Settings(traits={"cloud": Trait(kind="category", family="technographic", role="deployment")})
    row = features.build_catalogue(tables, settings).set_index("trait").loc["cloud"]
    assert row[["kind", "family", "role"]].tolist() == ["category", "technographic", "deployment"]
    forbidden = Settings(traits={"country": Trait(role="forbidden")})
    assert features.build_catalogue(tables, forbidden).set_index("trait").at["country", "excluded"]


def test_foreign_amounts_are_converted_at_the_rate_of_their_date(tables, as_of):
    tables["opportunities"]["currency"] = "USD"
    tables["opportunities"].loc[0, "currency"] = "EUR"
    rates = {"currency": ["USD", "USD"], "valid_from": ["2025-01-01", "2025-06-01"], "rate": ["0.5", "0.25"]}
    tables["rates"] = typed("rates", pd.DataFrame(rates))
    settings = Settings(workspace=Workspace(currency="EUR"))
    acv = features.build_opportunities(tables, settings, as_of).set_index("opportunity_id")["acv"]
    assert acv[["o01", "o02", "o07"]].tolist() == [12000, 4000, 1000]


def test_a_currency_without_rate_is_refused(tables, as_of):
    tables["opportunities"]["currency"] = "USD"
    with pytest.raises(BadInput, match=r"ICP-E065.*USD.*no exchange rate to EUR"):
        features.build_opportunities(tables, Settings(workspace=Workspace(currency="EUR")), as_of)


def test_field_history_takes_account_values_back(tables, settings):
    change = {
        "object": ["accounts"] * 2,
        "record_id": ["a1", "a1"],
        "field": ["industry", "employees"],
        "changed_at": ["2025-12-01", "2025-12-01"],
        "old_value": ["services", "80"],
        "new_value": ["software", "120"],
    }
    tables["field_history"] = typed("field_history", pd.DataFrame(change))
    before = features.build_accounts(tables, settings, pd.Timestamp("2025-11-30")).set_index("account_id")
    after = features.build_accounts(tables, settings, pd.Timestamp("2025-12-01")).set_index("account_id")
    assert before.loc["a1", ["industry", "employees"]].tolist() == ["services", 80]
    assert after.loc["a1", ["industry", "employees"]].tolist() == ["software", 120]


@given(day=st.dates(pd.Timestamp("2024-12-31").date(), AS_OF.date()), data=st.data())
@hypothesis_settings(max_examples=8, deadline=None)
def test_rows_dated_after_the_date_never_change_a_feature(day, data):
    date = pd.Timestamp(day).as_unit("us")
    tables, settings = hand_tables(), Settings()
    later = dict(tables)
    for name, column in features.BORN.items():
        frame = tables[name]
        if frame.empty:
            continue
        extra = frame.sample(n=min(3, len(frame)), random_state=data.draw(st.integers(0, 99))).copy()
        extra[column] = date + pd.Timedelta(days=data.draw(st.integers(1, 400)))
        key = frame.columns[0]
        if name not in ("spend",):
            extra[key] = extra[key] + "x" if name in ("accounts", "opportunities", "subscriptions") else extra[key]
        later[name] = pd.concat([frame, extra], ignore_index=True)
    assert_frame_equal(features.build_accounts(tables, settings, date), features.build_accounts(later, settings, date))
    assert_frame_equal(
        features.build_opportunities(tables, settings, date), features.build_opportunities(later, settings, date)
    )


def test_row_order_changes_nothing(tables, settings, as_of):
    shuffled = {n: t.sample(frac=1, random_state=3).reset_index(drop=True) for n, t in tables.items()}
    assert_frame_equal(
        features.build_accounts(tables, settings, as_of), features.build_accounts(shuffled, settings, as_of)
    )
