"""The account table is the same on Spark as on DuckDB: columns, types, counts and dates equal, floats to 1e-9."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from icplab import features
from icplab.core.errors import BadInput
from tests.odd_tables import AS_OF, SETTINGS, odd_tables
from tests.test_account_table import written

MASTER = os.environ.get("ICPLAB_SPARK_MASTER", "local[2]")
LACKING = [name for name in ("pyspark", "sqlglot") if find_spec(name) is None]
if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    LACKING.append("Java 17")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f"Spark is left out: {', '.join(LACKING)} not installed"),
    pytest.mark.filterwarnings("default"),  # Spark's own: it does not yet claim to support this pandas
]


@pytest.fixture(scope="module", autouse=True)
def stopped():
    yield
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()


def test_files_on_spark_give_what_they_give_on_duckdb(tmp_path):
    files = written(odd_tables(11), tmp_path)
    ours, spark = (features.build_accounts(files, SETTINGS, AS_OF, engine=e) for e in ("duckdb", MASTER))
    assert_frame_equal(spark, ours, rtol=1e-9, atol=1e-9)
    exact = ours.select_dtypes(exclude="float64").columns.append(
        ours.filter(regex="^(n_|activities_|contacts_)").columns
    )
    assert_frame_equal(spark[exact], ours[exact], check_exact=True)


def test_frames_on_spark_on_an_earlier_date_give_what_they_give_on_duckdb():
    tables, date = odd_tables(12), pd.Timestamp("2025-09-15").as_unit("us")
    ours, spark = (features.build_accounts(tables, SETTINGS, date, engine=e) for e in ("duckdb", MASTER))
    assert_frame_equal(spark, ours, rtol=1e-9, atol=1e-9)


def test_spark_refuses_a_currency_without_rate_as_duckdb_does():
    tables = odd_tables(13)
    tables["rates"] = tables["rates"].iloc[:0]
    for engine in ("duckdb", MASTER):
        with pytest.raises(BadInput, match=r"ICP-E065.*has no exchange rate to EUR"):
            features.build_accounts(tables, SETTINGS, AS_OF, engine=engine)
