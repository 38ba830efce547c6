"""Reads the frozen model, makes its scorecard as SQL for each database, transpiled from the one query and parsed back."""

from __future__ import annotations

from icplab.core.model import Model, card_query

DIALECTS = {
    "duckdb": "DuckDB",
    "postgres": "PostgreSQL",
    "snowflake": "Snowflake",
    "bigquery": "BigQuery",
    "spark": "Spark",
}
PROVED = ("duckdb", "postgres", "spark")  # run in the tests, equal to the last point
HEADER = """-- Scorecard of model {version}, as of {as_of}, for {name}: {proof}.
-- Reads a table "accounts" with one row per account: account_id, account_type, segment_id, motion (new or expansion), a column per
-- trait of the card (numbers as double precision, yes/no as boolean, everything else as text; unknown is null) and, where the
-- card holds the segment, posterior_<segment> (probability, six digits). Adjust the name of the table; change nothing else.
"""


def card_in(dialect: str, model: Model) -> str:
    """The scorecard as a query in one dialect, with a header that says how far it was checked.

    Raises
    ------
    ValueError
        The text does not come back unchanged when it is parsed: it is not handed out then.
    """
    from sqlglot import parse_one

    text = parse_one(card_query(model), read="duckdb").sql(dialect, pretty=True)
    if parse_one(text, read=dialect).sql(dialect, pretty=True) != text:
        raise ValueError(f"the scorecard does not read back as {DIALECTS[dialect]}")
    proof = "run and equal to the last point" if dialect in PROVED else "transpiled and parsed back, not run"
    header = HEADER.format(version=model.version, as_of=model.as_of, name=DIALECTS[dialect], proof=proof)
    return f"{header}{text};\n"
