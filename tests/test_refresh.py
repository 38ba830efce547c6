"""A refresh that reads only new events gives what reading all of them gives; what arrives late is never missed."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from icplab import features
from icplab.features import Refresh
from icplab.features.state import MANIFEST, SUMS
from icplab.intake import written as intake_written
from tests.odd_tables import AS_OF, SETTINGS, odd_tables
from tests.test_account_table import written

EARLIER = pd.Timestamp("2025-12-31").as_unit("us")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes tables as the intake does, in row groups of 100 events, so that a small file has many."""
    monkeypatch.setattr(intake_written, "PART", 100)

    def write(tables, name="now"):
        folder = tmp_path / name
        folder.mkdir()
        return written(tables, folder)

    return write


def until(tables, date):
    """The tables as an export of that day holds them: later events are not there."""
    events = tables["activities"]
    return {**tables, "activities": events[events["occurred_at"] <= date].reset_index(drop=True)}


def built(files, date, **refresh):
    return features.build_accounts(files, SETTINGS, date, refresh=Refresh(**refresh))


def test_a_refresh_gives_what_reading_everything_gives(write, tmp_path):
    tables, state = odd_tables(21), tmp_path / "state"
    first = write(until(tables, EARLIER), "before")
    assert_frame_equal(built(first, EARLIER, leave=state), built(first, EARLIER), rtol=1e-9, atol=1e-9)
    covers = json.loads((state / MANIFEST).read_text())
    assert covers["rows"] >= 300, "the summary covers whole row groups"
    # New accounts shift the keys of all that follow them; the summary goes by ids.
    more = tables["accounts"].head(2).assign(account_id=["a000-new", "a001-new"])
    now = write({**tables, "accounts": pd.concat([tables["accounts"], more], ignore_index=True)})
    ours, whole = built(now, AS_OF, earlier=(state,), leave=tmp_path / "next"), built(now, AS_OF)
    assert_frame_equal(ours, whole, rtol=1e-9, atol=1e-9)
    exact = [c for c in whole if c.startswith(("n_", "activities_", "first_", "last_"))]
    assert_frame_equal(ours[exact], whole[exact], check_exact=True)
    assert json.loads((tmp_path / "next" / MANIFEST).read_text())["rows"] > covers["rows"]
    assert_frame_equal(built(now, AS_OF, earlier=(tmp_path / "next",)), whole, rtol=1e-9, atol=1e-9)


def test_what_is_covered_is_not_read_again(write, tmp_path):
    """Sums that are falsified, with a hash that vouches for them, show in the result: the old events were not read."""
    import hashlib

    tables, state = odd_tables(22), tmp_path / "state"
    built(write(until(tables, EARLIER), "before"), EARLIER, leave=state)
    sums = pq.read_table(state / SUMS).to_pandas()
    pq.write_table(pa.Table.from_pandas(sums.assign(n_activities=1000)), state / SUMS)
    covers = json.loads((state / MANIFEST).read_text())
    covers["sums"] = hashlib.sha256((state / SUMS).read_bytes()).hexdigest()
    (state / MANIFEST).write_text(json.dumps(covers))
    assert built(write(tables), AS_OF, earlier=(state,))["n_activities"].max() >= 1000


@pytest.mark.parametrize("change", ["an event arrives late", "a weight is corrected", "an event is withdrawn"])
def test_a_changed_past_is_read_anew(write, tmp_path, change):
    tables, state = odd_tables(23), tmp_path / "state"
    built(write(until(tables, EARLIER), "before"), EARLIER, leave=state)
    events = tables["activities"].sort_values("occurred_at", ignore_index=True)
    if change == "an event arrives late":
        events = pd.concat([events, events.head(1).assign(account_id="a003")], ignore_index=True)
    elif change == "a weight is corrected":
        events.loc[0, "weight"] = 77.0
    else:
        events = events.iloc[1:].reset_index(drop=True)
    now = write({**tables, "activities": events})
    assert_frame_equal(built(now, AS_OF, earlier=(state,)), built(now, AS_OF), check_exact=True)


@pytest.mark.parametrize("damage", ["cut", "lost", "not json", "later"])
def test_a_summary_that_cannot_be_believed_is_left_alone(write, tmp_path, damage):
    tables, state = odd_tables(24), tmp_path / "state"
    now = write(tables)
    built(now, AS_OF, leave=state)
    date = AS_OF
    if damage == "cut":
        (state / SUMS).write_bytes((state / SUMS).read_bytes()[:-9])
    elif damage == "lost":
        (state / SUMS).unlink()
    elif damage == "not json":
        (state / MANIFEST).write_text("{")
    else:
        date = EARLIER
    assert_frame_equal(built(now, date, earlier=(state,)), built(now, date), check_exact=True)
