"""Run folders: parts join, what is missing names the notebook, bytes depend on content alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.errors import BadInput, ContractBroken
from icplab.core.findings import Finding, findings_table
from icplab.core.store import Store, read_parquet, write_parquet


def segments(*ids: str) -> pd.DataFrame:
    return pd.DataFrame({"account_id": list(ids), "segment_id": "S1", "segment": "Mid-size", "membership": 0.9})


def finding(step: str, subject: str) -> Finding:
    return Finding("files-written", step, "info", subject, f"{subject} was written.", {"rows": np.int64(3)})


def test_parts_of_several_steps_are_joined_in_key_order(tmp_path):
    store = Store(tmp_path)
    store.write("60_activation", "findings", findings_table([finding("60_activation", "b")]))
    store.write("10_align", "findings", findings_table([]))
    store.write("20_performance", "findings", findings_table([finding("20_performance", "a")]))
    assert store.read("findings")["subject"].tolist() == ["a", "b"]


def test_assembled_artefacts_read_like_parts(tmp_path):
    store = Store(tmp_path)
    store.write("30_segments", "account_segments", segments("b", "a"))
    store.write("30_segments", "findings", findings_table([finding("60_activation", "x")]))
    store.write_json("50_tiers", "model", {"version": 1})
    before = store.read("account_segments")
    names = {p.relative_to(tmp_path).as_posix() for p in store.assemble()}
    assert names == {
        *("artifacts/account_segments.parquet", "artifacts/findings.parquet", "artifacts/findings.json", "model.json")
    }
    for path in tmp_path.glob("steps/*/*"):
        path.unlink()
    pd.testing.assert_frame_equal(store.read("account_segments"), before)
    assert before["account_id"].tolist() == ["a", "b"]


def test_what_is_missing_names_the_notebook_to_run(tmp_path):
    with pytest.raises(BadInput, match=r"run notebook 30_segments\.ipynb first"):
        Store(tmp_path).read("account_segments")


def test_row_order_does_not_reach_the_bytes(tmp_path):
    one, other = Store(tmp_path / "1"), Store(tmp_path / "2")
    paths = [
        s.write("30_segments", "account_segments", f)
        for s, f in ((one, segments("a", "b")), (other, segments("b", "a")))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_undeclared_artefact_is_refused(tmp_path):
    with pytest.raises(ContractBroken, match="no artefact is named"):
        Store(tmp_path).write("30_segments", "clusters", segments("a"))


def test_a_table_survives_being_written_and_read(tmp_path):
    frame = pd.DataFrame(
        {
            "id": pd.Series(["NA", None, "00123"], dtype="str"),
            "on": pd.to_datetime(["2026-01-01", None, "2025-12-31"]).as_unit("us"),
            "flag": pd.Series([True, None, False], dtype="boolean"),
            "x": [0.1, np.nan, -0.0],
        }
    )
    write_parquet(frame, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), frame)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ContractBroken, match=r"t\.parquet is damaged"):
        read_parquet(tmp_path / "t.parquet")


def test_a_number_that_json_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        Store(tmp_path).write_json("30_segments", "segmentation", {"p": float("nan")})
