"""The account table equals its pandas twin, whatever the data; nothing later than the date and no order of rows changes it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from benchmarks import pandas_twin as twin
from icplab import features
from icplab.core.errors import BadInput
from icplab.core.schema import CANONICAL
from icplab.features import measure
from icplab.intake.batch import Batch
from icplab.intake.written import event_keys, write_table
from tests.odd_tables import AS_OF, SETTINGS, odd_tables

DATES = st.integers(0, 599).map(lambda n: (pd.Timestamp("2025-01-01") + pd.Timedelta(days=n)).as_unit("us"))
few = hypothesis_settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def batch_of(name, frame):
    """A typed table as the intake holds it."""
    rows = np.arange(len(frame))
    return Batch(CANONICAL[name], frame, (f"{name}.csv",), np.zeros(len(frame), dtype=int), rows + 1, rows + 2)


def written(tables, folder):
    """The tables as the intake leaves them on disk."""
    batches = {name: batch_of(name, frame.reset_index(drop=True)) for name, frame in tables.items()}
    keys = event_keys(batches)
    for name, batch in batches.items():
        write_table(batch, folder / f"{name}.parquet", keys.get(name))
    return {name: folder / f"{name}.parquet" for name in tables}


@given(seed=st.integers(0, 10_000), date=DATES)
@few
def test_the_account_table_equals_its_pandas_twin(seed, date):
    tables = odd_tables(seed)
    ours, oracle = (m.build_accounts(tables, SETTINGS, date) for m in (features, twin))
    assert set(ours) == set(oracle)
    assert_frame_equal(ours, oracle[ours.columns], rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 10_000), date=DATES)
@few
def test_opportunities_equal_their_pandas_twin(seed, date):
    tables = odd_tables(seed)
    ours, oracle = (m.build_opportunities(tables, SETTINGS, date) for m in (features, twin))
    assert_frame_equal(ours, oracle, rtol=1e-9, atol=1e-9)


def test_files_give_exactly_what_frames_give(tmp_path):
    tables = odd_tables(3)
    files = written(tables, tmp_path)
    assert_frame_equal(
        features.build_accounts(files, SETTINGS, AS_OF),
        features.build_accounts(tables, SETTINGS, AS_OF),
        check_exact=True,
    )
    assert measure.has_keys(files["activities"], tables["accounts"]["account_id"])


def test_keys_of_another_list_of_accounts_are_not_believed(tmp_path):
    tables = odd_tables(4)
    files = written(tables, tmp_path)
    fewer = tables["accounts"].iloc[7:].reset_index(drop=True)
    assert not measure.has_keys(files["activities"], fewer["account_id"])
    assert_frame_equal(
        features.build_accounts({**files, "accounts": fewer}, SETTINGS, AS_OF),
        features.build_accounts({**tables, "accounts": fewer}, SETTINGS, AS_OF),
        check_exact=True,
    )


@given(seed=st.integers(0, 10_000), date=DATES, shift=st.integers(1, 400))
@few
def test_nothing_dated_after_the_date_changes_a_feature(seed, date, shift):
    """Rows born later, dates that had not come, and values changed since: all tables, every column, exactly."""
    tables = odd_tables(seed)
    later = dict(tables)
    rng = np.random.default_rng(seed)
    for name, born in features.BORN.items():
        frame = tables[name]
        # A change noted later says what a value was before: its own test is below.
        if frame.empty or name == "field_history":
            continue
        extra = frame.sample(n=min(9, len(frame)), random_state=seed).copy()
        extra[born] = date + pd.Timedelta(days=shift)
        for key in CANONICAL[name].key:
            if frame[key].dtype == "str" and name in ("accounts", "opportunities", "subscriptions"):
                extra[key] += "-later"
        later[name] = pd.concat([frame, extra], ignore_index=True)
    for name, columns in features.LATER.items():
        for column in columns:
            unknown = later[name][column].isna() | (later[name][column] > date)
            moved = date + pd.to_timedelta(rng.integers(1, 300, len(later[name])), unit="D")
            later[name] = later[name].assign(**{column: later[name][column].mask(unknown, moved)})
    closed = later["opportunities"]
    undecided = closed["closed_at"] > date
    closed["status"] = closed["status"].mask(undecided, "lost")
    closed["loss_reason"] = closed["loss_reason"].mask(undecided, "known only later")
    # Deals that were already decided stay as they are; those still open must be open in both.
    tables["opportunities"] = tables["opportunities"].assign(
        closed_at=lambda f: f["closed_at"].where(f["closed_at"] <= date),
        status=lambda f: f["status"].where(f["closed_at"].notna(), "open"),
        loss_reason=lambda f: f["loss_reason"].where(f["closed_at"].notna()),
    )
    assert_frame_equal(
        features.build_accounts(later, SETTINGS, date),
        features.build_accounts(tables, SETTINGS, date),
        check_exact=True,
    )


def test_values_changed_after_the_date_are_taken_back():
    tables = odd_tables(5)
    before = features.build_accounts(tables, SETTINGS, AS_OF)
    ids = tables["accounts"]["account_id"]
    change = {
        "object": "accounts",
        "record_id": ids,
        "field": "industry",
        "changed_at": AS_OF + pd.Timedelta(days=1),
        "old_value": twin.view_on(tables, AS_OF)["accounts"]["industry"].reindex(ids.index),
        "new_value": "rewritten",
    }
    known = features.view_on(tables, AS_OF)["accounts"].set_index("account_id")["industry"]
    history = pd.DataFrame(change).assign(old_value=ids.map(known))[lambda f: f["record_id"].isin(known.index)]
    tables["accounts"]["industry"] = "rewritten"
    tables["field_history"] = pd.concat(
        [tables["field_history"][lambda f: f["field"] != "industry"], history], ignore_index=True
    )
    after = features.build_accounts(tables, SETTINGS, AS_OF)
    assert_frame_equal(after.drop(columns="industry"), before.drop(columns="industry"), check_exact=True)
    assert after["industry"].fillna("").tolist() == before["industry"].fillna("").tolist()


@given(seed=st.integers(0, 10_000), date=DATES)
@few
def test_no_order_of_rows_changes_a_feature(seed, date):
    tables = odd_tables(seed)
    shuffled = {n: t.sample(frac=1, random_state=seed).reset_index(drop=True) for n, t in tables.items()}
    assert_frame_equal(
        features.build_accounts(shuffled, SETTINGS, date),
        features.build_accounts(tables, SETTINGS, date),
        check_exact=True,
    )


def test_a_table_that_was_not_delivered_leaves_nothing_known():
    tables = odd_tables(6)
    for name in ("activities", "contacts", "opportunity_contacts", "subscriptions", "usage"):
        tables[name] = CANONICAL[name].empty()
    frame = features.build_accounts(tables, SETTINGS, AS_OF)
    unknown = [
        "n_activities",
        "activities_90d",
        "contacts_90d",
        "n_contacts",
        "n_roles",
        "n_subscriptions",
        "intent_30d",
    ]
    assert frame[unknown].isna().all(axis=None)
    assert frame["n_opportunities"].notna().all()


def test_of_equally_many_products_the_first_by_name_is_on_top():
    tables = {name: table.empty() for name, table in CANONICAL.items()}
    tables["accounts"] = odd_tables(0)["accounts"].head(1)
    deals = (
        odd_tables(0)["opportunities"]
        .head(5)
        .assign(
            account_id="a000",
            status="won",
            created_at=pd.Timestamp("2025-01-01"),
            closed_at=pd.Timestamp("2025-02-01"),
            currency="EUR",
        )
    )
    tables["opportunities"] = deals.assign(product=["suite", "core", "suite", "core", None])
    tables["accounts"]["created_at"] = pd.NaT
    frame = features.build_accounts(tables, SETTINGS, AS_OF)
    assert frame.loc[0, ["top_product", "n_products", "n_won"]].tolist() == ["core", 2, 5]


def test_spellings_of_one_type_share_their_columns_and_rare_types_are_other():
    tables = odd_tables(7)
    frame = features.build_accounts(tables, SETTINGS, AS_OF)
    by_type = [c for c in frame if c.startswith("activities_90d_")]
    assert {"activities_90d_e_mail", "activities_90d_call"} <= set(by_type)
    assert "activities_90d_other" in by_type, "more than twelve names occur"
    assert np.allclose(frame[by_type].sum(axis=1), frame["activities_90d"])


@pytest.mark.parametrize("engine", ["sparkle", "spark://", "http://host", "local[x]"])
def test_an_unknown_engine_is_refused_by_name(engine):
    with pytest.raises(BadInput, match=r"ICP-E100.*is not an engine.*duckdb, spark"):
        features.build_accounts(odd_tables(0), SETTINGS, AS_OF, engine=engine)
