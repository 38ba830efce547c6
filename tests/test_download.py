"""Tables can be saved from a page: all rows and columns, full precision, harmless text, nothing live in the page."""

from __future__ import annotations

import base64
import io
import re

import pandas as pd
import pytest

from icplab.report.clean import clean_html
from icplab.report.download import MOST_BYTES, download_html, place_tables

FRAME = pd.DataFrame(
    {
        "segment": ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "Größe, mittel", None],
        "rate": [1 / 3, 0.25, float("nan"), -0.5],
        "n": [1, 2, 3, 4],
        "when": pd.to_datetime(["2026-06-30", None, "2026-01-01", "2026-02-01"]),
    }
)


def saved(page_folder):
    (path,) = (page_folder / "csv").glob("*.csv")
    return path


def placed(frame, folder, caption="Win rate: by segment"):
    html = str(clean_html(f"<div>{download_html(frame, caption)}</div>"))
    return place_tables(html, folder / "30_segments.html")


def test_a_saved_table_reads_back_with_every_row_column_and_digit(tmp_path):
    html = placed(FRAME, tmp_path)
    back = pd.read_csv(saved(tmp_path), keep_default_na=False)
    assert back["segment"].tolist() == ["'=cmd|' /C calc'!A0", "<script>alert(1)</script>", "Größe, mittel", ""]
    assert back["rate"].tolist()[:2] == ["0.333333333333", "0.25"]
    assert back["rate"].tolist()[2:] == ["", "-0.5"]
    assert back["when"].tolist() == ["2026-06-30", "", "2026-01-01", "2026-02-01"]
    assert re.search(r'href="(.*?)"', html)[1] == f"csv/{saved(tmp_path).name}"
    assert "CSV, 4 rows" in html


def test_a_page_holds_no_data_address_and_no_part_of_a_name(tmp_path):
    html = placed(FRAME, tmp_path, caption='"><img src=x onerror=alert(1)> ../../etc')
    assert "data:" not in html
    assert "<img" not in html
    assert saved(tmp_path).name == "30_segments-01-img-src-x-onerror-alert-1-etc.csv"


def test_a_long_table_is_cut_to_whole_rows_and_says_so():
    long = pd.DataFrame({"name": ["x" * 100] * 10_000, "n": range(10_000)})
    html = download_html(long, "Long")
    rows = int(re.search(r"CSV, ([\d,]+) rows of 10,000", html)[1].replace(",", ""))
    content = base64.b64decode(re.search(r"base64,([^\"]*)", html)[1])
    assert len(content) <= MOST_BYTES + 3
    assert pd.read_csv(io.BytesIO(content))["n"].tolist() == list(range(rows))


def test_rendering_a_page_again_leaves_no_table_of_the_last_time(tmp_path):
    placed(FRAME, tmp_path, caption="Old")
    placed(FRAME, tmp_path, caption="New")
    assert saved(tmp_path).name == "30_segments-01-new.csv"


@pytest.mark.parametrize("value", ["+1", "-x", "@SUM(A1)", "\t=1", "＝1+1", " =1"])
def test_text_that_starts_a_formula_is_made_harmless(value):
    content = base64.b64decode(re.search(r"base64,([^\"]*)", download_html(pd.DataFrame({"a": [value]}), "x"))[1])
    assert content.decode("utf-8-sig").splitlines()[1].lstrip('"').startswith("'")


def test_an_empty_table_has_nothing_to_save():
    assert download_html(FRAME.head(0), "Empty") == ""
