"""Plain columns are read at once, and give what the careful rules give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icplab.core.config import Settings, Source
from icplab.core.schema import CANONICAL
from icplab.intake import dates, meaning, typed
from icplab.intake.batch import SECRET, SECRET_MARKS, Batch, contains
from icplab.intake.plain import found_in, not_blank, plain_days, plain_numbers, plain_text

WORDS = (
    "",
    " ",
    "a",
    "A b",
    "N/A",
    "NULL",
    "é",
    "x\u200b",
    "a;b",
    "a;a",
    "1.0",
    "12",
    "\x1c",
    "\u3000",
    "\x7f",
    "won",
    "Won ",
)
NUMBERS = (
    "",
    "0",
    "007",
    "12",
    "1.5",
    "1.",
    ".5",
    "1.2.3",
    "-3",
    "1,234",
    "1e5",
    "$5",
    "9" * 320,
    "5k",
    "٣",
    " 7",
    "12%",
)
DAYS = (
    "",
    "2024-02-29",
    "2023-02-29",
    "2024-13-01",
    "1900-01-01",
    "1899-12-31",
    "2201-01-01",
    "2024-2-3",
    "2024-01-01T10:00",
)
OTHER_DAYS = (
    "29/02/2024",
    "31/04/2024",
    "01/01/1900",
    "12/31/2024",
    "1/2/2024",
    "2024/01/31",
    "９9/01/2024",
    "0000-00-00",
)
GROUPED = (
    "1,234",
    "$1,234.50",
    "$1,234,567",
    "1234,567",
    "12,34",
    ",123",
    "1,234,",
    "1.234,5",
    "$$1",
    "1$",
    "1,2345",
    "€5",
)
SIGNED = ("$", "$1.5", "$.5", "$-1", "'1", "1'234", "1.234.567")
TABLE = CANONICAL["opportunities"]


def _typed(cells: dict[str, list[str]], source: Source) -> tuple[dict, list, np.ndarray]:
    size = len(next(iter(cells.values())))
    frame = pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in cells.items()})
    rows = np.arange(1, size + 1)
    batch = Batch(TABLE, frame, ("f.csv",), np.zeros(size, dtype=int), rows, rows + 1)
    batch.text = {c: frame[c] for c in map(str, frame)}
    typed.type_batch(batch, Settings(sources={"opportunities": source}))
    made = {c: (str(batch.frame[c].dtype), batch.frame[c].astype(object).fillna("null").tolist()) for c in batch.frame}
    return made, batch.problems, batch.stopped


def _column(choice: tuple[str, ...], most: int) -> st.SearchStrategy[list[str]]:
    """Columns of one size, many of them plain: most cells come from a few of the words."""
    few = st.lists(st.sampled_from(choice), min_size=1, max_size=3)
    return few.flatmap(lambda words: st.lists(st.sampled_from(words), min_size=most, max_size=most))


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "opportunity_id": _column(WORDS, 5),
            "created_at": _column(DAYS + OTHER_DAYS, 5),
            "status": _column(WORDS, 5),
            "amount": _column(NUMBERS + GROUPED + SIGNED, 5),
            "source": _column(WORDS, 5),
            "further": _column(WORDS, 5),
        }
    ),
    st.sampled_from(("", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d/%m/%y", "excel")),
    st.sampled_from(((".", ""), (".", ","), (",", "."), (",", ""), (".", "'"), (".", " "))),
)
def test_plain_columns_get_what_the_careful_rules_give(cells, date_format, notation):
    source = Source(date_format=date_format, decimal=notation[0], thousands=notation[1])
    quick = _typed(cells, source)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((typed, "plain_text"), (typed, "plain_numbers"), (dates, "plain_days")):
            patch.setattr(module, name, lambda *_, **__: None)
        careful = _typed(cells, source)
    assert quick[0] == careful[0]
    assert quick[1] == careful[1]
    assert (quick[2] == careful[2]).all()


def test_plain_columns_are_not_left_to_the_careful_rules():
    days = plain_days(pd.Series(["2024-02-29", None, "1999-12-31"], dtype="str"), "%Y-%m-%d")
    assert days.astype(object).tolist()[::2] == [pd.Timestamp("2024-02-29"), pd.Timestamp("1999-12-31")]
    number, signed = plain_numbers(pd.Series(["1.5", "", "$1,234,567.25"], dtype="str"), ".", ",")
    assert number.fillna(-1).tolist() == [1.5, -1.0, 1234567.25]
    assert signed.tolist() == [False, False, True]
    assert plain_text(pd.Series(["a", "", "b c"], dtype="str"), ("", "N/A")).fillna("null").tolist() == [
        "a",
        "null",
        "b c",
    ]
    assert plain_text(pd.Series(["a", "N/A"], dtype="str"), ("", "N/A")) is None


def test_blank_cells_are_those_of_white_space_alone():
    cells = pd.Series(["", " ", "\u00a0", "\u3000", "a", " a", "\x7f", "é", "\t\n"], dtype="str")
    assert not_blank(cells).tolist() == (cells.str.strip() != "").tolist()


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "A" * 16,
        *(f"gh{c}_" + "a" * 36 for c in "pousr"),
        "github_pat_" + "a" * 30,
        "glpat-" + "a" * 20,
        *(f"xox{c}-" + "a" * 12 for c in "abprs"),
        "sk_live_" + "a" * 20,
        "rk_live_" + "a" * 20,
        "sk-" + "a" * 24,
        "AIza" + "a" * 35,
        "pat-na1-" + "0" * 36,
        "00Dx00000000001!" + "A" * 44,
        "-----BEGIN RSA PRIVATE KEY",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.",
        "postgres://me:word@host",
    ],
)
def test_every_kind_of_secret_holds_one_of_the_marks(secret):
    text = pd.Series([f"see {secret} there"], dtype="str")
    assert contains(text, SECRET).all()
    assert found_in(text, SECRET_MARKS)


def test_medians_of_few_products_are_those_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few groups are looked at one by one, many are grouped: the medians are the same, blanks and empty groups among them."""
    rng = np.random.default_rng(5)
    values = np.where(rng.random(999) < 0.2, np.nan, rng.normal(size=999))
    groups = rng.choice([0, 1, 3, 4], 999).astype(np.int32)
    values[groups == 3] = np.nan
    one_by_one = meaning._medians(values, groups)
    monkeypatch.setattr(meaning, "FEW_GROUPS", 0)
    grouped = meaning._medians(values, groups)
    assert np.isnan(one_by_one).tolist() == [False, False, True, True, False]
    np.testing.assert_array_equal(one_by_one, grouped)
