"""The engine computes, spills nowhere it was not told to, and fetches nothing."""

import duckdb
import pandas as pd
import pytest

from icplab.core.engine import open_engine


def test_it_runs_with_one_thread_and_loads_no_extension_on_its_own():
    with open_engine() as connection:
        settings = {
            name: connection.execute(f"select current_setting('{name}')").fetchone()[0]
            for name in ("threads", "autoinstall_known_extensions", "autoload_known_extensions")
        }
    assert settings == {"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}


def test_registered_frames_and_parquet_in_allowed_folders_are_read(tmp_path):
    pd.DataFrame({"amount": [1.5, 2.5]}).to_parquet(tmp_path / "deals.parquet")
    with open_engine(folders=[tmp_path]) as connection:
        connection.register("owners", pd.DataFrame({"owner": ["u1", "u2"]}))
        assert connection.execute("select count(*) from owners").fetchone() == (2,)
        total = connection.execute(f"select sum(amount) from read_parquet('{tmp_path}/deals.parquet')").fetchone()
    assert total == (4.0,)


def test_files_outside_the_allowed_folders_cannot_be_read(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "open").mkdir()
    with (
        open_engine(folders=[tmp_path / "open"]) as connection,
        pytest.raises(duckdb.PermissionException, match=r"secret\.csv"),
    ):
        connection.sql(f"select * from read_csv('{tmp_path}/secret.csv')").fetchall()


def test_a_query_cannot_unlock_the_settings():
    with open_engine() as connection, pytest.raises(duckdb.Error, match="lock"):
        connection.execute("set enable_external_access = true")


def test_the_engine_is_closed_when_the_block_ends():
    with open_engine() as connection:
        pass
    with pytest.raises(duckdb.ConnectionException):
        connection.sql("select 1")
