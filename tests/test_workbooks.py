"""Excel sheets: what a person sees is what is read, and what they cannot see is said or refused."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile

import pytest

from icplab.core.config import Source
from icplab.intake import check_workspace
from icplab.intake.sources.anatomy import cell_name, column_letters
from icplab.intake.sources.workbook import read_workbook
from tests.made_sources import (
    ACCOUNTS,
    OPPORTUNITIES,
    codes,
    found,
    frame_of,
    sheet_of,
    tables_of,
    workbook,
    write,
    zipped,
)

SHEET = sheet_of(OPPORTUNITIES)
SMALL = {"ICP-W089"}  # six opportunities are few, which every check of this workspace says


def book(tmp_path, data, settings=""):
    """A workspace whose opportunities are a workbook."""
    return write(tmp_path / "w", settings, accounts__csv=ACCOUNTS, opportunities__xlsx=data)


def changed(change, rows=SHEET):
    """A workbook of one sheet after a change to that sheet."""
    return workbook(("Deals", rows), change=lambda b: change(b["Deals"]))


def rewritten(data, part, old, new):
    """A workbook in which the bytes of one part are replaced, and those that match are there."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == part:
                assert re.search(old, content)
                content = re.sub(old, new, content)
            target.writestr(entry.filename, content)
    return stream.getvalue()


def texts(rows, change=lambda sheet: None):
    """The cells of a sheet as read."""
    data = workbook(("S", rows), change=lambda b: change(b["S"]))
    return read_workbook(data, "s.xlsx", "accounts", Source(), (), [])[0].cells.to_numpy().tolist()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tables_of(
        write(tmp_path_factory.mktemp("plain") / "w", accounts__csv=ACCOUNTS, opportunities__csv=OPPORTUNITIES)
    )


# What a person sees


def test_cells_are_read_as_they_are_seen():
    def formats(sheet):
        sheet["F1"].number_format = "00000"
        sheet["G1"].number_format = "0%"

    moment = dt.datetime(2024, 3, 1, 9, 30)
    row = [" x ", 7, 2.50, True, dt.date(2024, 3, 1), 123, 0.12, moment, "001", "1.0", 0.1 + 0.2, -3, "a\r\nb", None, 1]
    (seen,) = texts([row], formats)
    assert seen == [" x ", "7", "2.5", "true", "2024-03-01", "00123", "0.12", "2024-03-01 09:30:00", "001", "1.0", "0.3", "-3", "a\nb", "", "1"]  # fmt: skip


def test_errors_of_formulas_are_read_as_they_are_seen_and_stop_where_a_number_is_wanted(tmp_path):
    def spoil(sheet):
        sheet["F2"] = "#DIV/0!"
        sheet["F2"].data_type = "e"

    (problem,) = check_workspace(book(tmp_path, changed(spoil))).stops
    assert (problem.line, problem.column, problem.value) == (2, "amount", "#DIV/0!")


def test_real_dates_are_read_whatever_notation_is_declared_for_text(tmp_path, plain):
    rows = [list(r) for r in SHEET]
    rows[1][2] = "10/01/2024"
    folder = book(tmp_path, workbook(("Deals", rows)), '[calendar]\ndate_format = "%d/%m/%Y"\n')
    assert tables_of(folder) == plain
    rows[1][2] = "2024/01/10"
    assert found(book(tmp_path, workbook(("Deals", rows)), '[calendar]\ndate_format = "%d/%m/%Y"\n'), "ICP-E051")


def test_the_line_of_a_message_is_the_row_that_excel_shows(tmp_path):
    rows = [["Deals of the year"], [], *[list(r) for r in SHEET]]
    rows[4][3] = "2024-02-31"
    problem = found(book(tmp_path, workbook(("Deals", rows))), "ICP-E049")[0]
    assert (problem.file, problem.record, problem.line) == ("opportunities.xlsx", 2, 5)


def test_title_blank_rows_repeated_header_and_footer_are_accounted_for(tmp_path, plain):
    rows = [
        ["Deals of the year"],
        [],
        *SHEET[:3],
        SHEET[0],
        [],
        *SHEET[3:],
        [],
        ["Deals"],
        ["Copyright © salesforce.com"],
    ]
    folder = book(tmp_path, workbook(("Deals", rows)))
    assert tables_of(folder) == plain
    ledger = check_workspace(folder).ledger.query("table == 'opportunities'").set_index("outcome")["records"].to_dict()
    assert ledger == {"used": 6, "header": 1, "blank": 3, "preamble": 1, "footer": 2, "repeated_header": 1}
    assert sum(ledger.values()) == len(rows)


def test_an_unknown_line_below_the_records_stops(tmp_path):
    folder = book(tmp_path, workbook(("Deals", [*SHEET, [], ["checked by finance"]])))
    assert found(folder, "ICP-E022")[0].value == "checked by finance"


def test_a_table_that_starts_elsewhere_is_read(tmp_path, plain):
    rows = [[], [], *[[None, *r] for r in SHEET]]
    assert tables_of(book(tmp_path, workbook(("Deals", rows)))) == plain


# Which sheet


def test_the_only_sheet_with_data_is_taken(tmp_path, plain):
    folder = book(tmp_path, workbook(("Empty", []), ("Deals", SHEET)))
    assert tables_of(folder) == plain
    assert not codes(folder) - SMALL


def test_several_sheets_with_data_stop_and_are_named(tmp_path, plain):
    sheets = workbook(("Deals 2024", SHEET), ("Deals 2022", SHEET[:3]))
    (problem,) = found(book(tmp_path, sheets), "ICP-E016")
    assert '"Deals 2024", "Deals 2022"' in problem.message
    assert problem.fix == 'name the sheet meant: [sources.opportunities] sheet = "Deals 2024"'
    settings = '[sources.opportunities]\nfile = "opportunities.xlsx"\nsheet = "deals 2024"\n'
    assert tables_of(book(tmp_path, sheets, settings)) == plain
    (problem,) = found(book(tmp_path, sheets, settings.replace("deals 2024", "Deals 2023")), "ICP-E001")
    assert 'did you mean "Deals 202' in problem.message


def test_a_sheet_called_like_the_table_is_taken(tmp_path, plain):
    sheets = workbook(("Opportunities", SHEET), ("Targets", [["a", "b"], [1, 2]]))
    assert tables_of(book(tmp_path, sheets)) == plain


def test_the_only_sheet_with_a_known_header_is_taken_and_the_others_are_said(tmp_path, plain):
    sheets = workbook(
        ("About", [["made by finance", "2024"]]), ("All deals", SHEET), ("Pivot", [["source", "n"], ["web", 2]])
    )
    folder = book(tmp_path, sheets)
    assert tables_of(folder) == plain
    assert found(folder, "ICP-W016")[0].message == 'sheets not read: "About", "Pivot"'


def hide(name):
    def change(b):
        b[name].sheet_state = "hidden"

    return change


def test_a_hidden_sheet_is_never_taken_unless_it_is_named(tmp_path, plain):
    sheets = workbook(("Deals", SHEET), ("Old", SHEET[:3]), change=hide("Old"))
    folder = book(tmp_path, sheets)
    assert tables_of(folder) == plain
    assert '"Old"' in found(folder, "ICP-W016")[0].message
    only = workbook(("Deals", SHEET), ("Empty", []), change=hide("Deals"))
    assert "hidden sheets only" in found(book(tmp_path, only), "ICP-E016")[0].message
    settings = '[sources.opportunities]\nfile = "opportunities.xlsx"\nsheet = "Deals"\n'
    assert tables_of(book(tmp_path, only, settings)) == plain
    assert found(book(tmp_path, only, settings), "ICP-W016")[0].file == "opportunities.xlsx [Deals]"


# What cannot be seen, or not be trusted


def test_hidden_rows_and_columns_are_read_and_said(tmp_path, plain):
    def hide_some(sheet):
        sheet.row_dimensions[3].hidden = sheet.row_dimensions[5].hidden = True
        sheet.row_dimensions[90].hidden = True
        sheet.column_dimensions["G"].hidden = True

    folder = book(tmp_path, changed(hide_some))
    assert tables_of(folder) == plain
    rows, columns = found(folder, "ICP-W016")
    assert (rows.line, rows.count) == (3, 2)
    assert "(G)" in columns.message


def test_merged_cells_among_records_stop_and_above_them_do_not(tmp_path, plain):
    def merge(sheet):
        sheet.merge_cells("B3:B4")

    (problem,) = found(book(tmp_path, changed(merge)), "ICP-E016")
    assert "B3:B4" in problem.message
    assert problem.line == 3
    title = [["Deals of the year"], *SHEET]
    folder = book(tmp_path, changed(lambda sheet: sheet.merge_cells("A1:G1"), title))
    assert tables_of(folder) == plain


def test_formulas_that_were_never_computed_stop(tmp_path, plain):
    def compute(sheet):
        sheet["F2"] = "=1000+0.5"
        sheet["G3"] = '=""&"web"'

    data = changed(compute)
    (problem,) = found(book(tmp_path, data), "ICP-E016")
    assert (problem.count, problem.line, problem.value) == (2, 2, "F2")
    part = "xl/worksheets/sheet1.xml"
    data = rewritten(data, part, rb"<f>1000\+0.5</f><v ?/>", rb"<f>1000+0.5</f><v>1000.5</v>")
    data = rewritten(data, part, rb'r="G3"><f>(.*?)</f><v ?/>', rb'r="G3" t="str"><f>\1</f><v>web</v>')
    assert tables_of(book(tmp_path, data)) == plain


def test_a_formula_that_gives_an_empty_text_is_computed(tmp_path):
    def compute(sheet):
        sheet["G3"] = '=""'

    data = rewritten(changed(compute), "xl/worksheets/sheet1.xml", rb'r="G3"><f>', rb'r="G3" t="str"><f>')
    assert not codes(book(tmp_path, data)) - SMALL


def test_numbers_too_long_for_a_spreadsheet_stop(tmp_path):
    rows = [list(r) for r in SHEET]
    rows[1][0] = 123456789012345678
    (problem,) = found(book(tmp_path, workbook(("Deals", rows))), "ICP-E040")
    assert (problem.line, problem.value) == (2, "A2")


CLEAN = workbook(("Deals", SHEET))
LINK = b'<?xml version="1.0"?><Relationships xmlns="r"><Relationship Id="r" Target="file:///C:/x/Plan 2024.xlsx"/></Relationships>'


def with_parts(data, **parts):
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (with_parts(CLEAN, **{"xl/vbaProject.bin": b"x"}), "ICP-E015", "macros"),
        (
            with_parts(
                CLEAN,
                **{
                    "xl/externalLinks/externalLink1.xml": b"<a/>",
                    "xl/externalLinks/_rels/externalLink1.xml.rels": LINK,
                },
            ),
            "ICP-E015",
            "another file (Plan 2024.xlsx)",
        ),
        (b"\xd0\xcf\x11\xe0" + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "ICP-E015", "password"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "ICP-E014", "old Excel file"),
        (OPPORTUNITIES.encode(), "ICP-E014", "whatever its name says"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "ICP-E014", "whatever its name says"),
        (zipped(deals__csv=OPPORTUNITIES), "ICP-E014", "not an Excel workbook"),
        (CLEAN[:-200], "ICP-E014", "not a readable"),
        (CLEAN[: len(CLEAN) // 2] + bytes(50) + CLEAN[len(CLEAN) // 2 + 50 :], "ICP-E01", ""),
        (rewritten(CLEAN, "xl/workbook.xml", b"^", b'<!DOCTYPE a [<!ENTITY b "c">]>'), "ICP-E014", "not a readable"),
        (rewritten(CLEAN, "xl/worksheets/sheet1.xml", b"</sheetData>.*", b""), "ICP-E014", "not a readable"),
        (with_parts(CLEAN, **{"../evil.xml": b"x"}), "ICP-E013", "leads out"),
        (workbook(("Deals", [])), "ICP-E002", "empty"),
        (workbook(("Deals", SHEET[:1])), "ICP-E003", "no records"),
        (b"", "ICP-E0", ""),
    ],
)
def test_workbooks_that_cannot_be_trusted_are_refused(tmp_path, data, code, said):
    problems = [p for p in check_workspace(book(tmp_path, data)).problems if p.outcome == "E"]
    assert len(problems) == 1
    assert problems[0].code.startswith(code), problems
    assert said in problems[0].message
    assert problems[0].file == "opportunities.xlsx"
    assert problems[0].fix


@pytest.mark.parametrize("suffix", ["xls", "xlsb", "ods"])
def test_other_spreadsheets_are_refused_with_what_to_do(tmp_path, suffix):
    settings = f'[sources.opportunities]\nfile = "deals.{suffix}"\n'
    folder = write(tmp_path / "w", settings, accounts__csv=ACCOUNTS, **{f"deals__{suffix}": b"x"})
    assert "save it as an Excel workbook (.xlsx)" in found(folder, "ICP-E014")[0].fix


def test_a_workbook_that_may_hold_macros_is_refused_by_its_name(tmp_path):
    folder = write(tmp_path / "w", '[sources.opportunities]\nfile = "d.xlsm"\n', accounts__csv=ACCOUNTS, d__xlsm=CLEAN)
    assert found(folder, "ICP-E015")[0].file == "d.xlsm"


def test_a_csv_file_called_xlsx_and_a_workbook_called_csv_are_told(tmp_path):
    folder = write(tmp_path / "w", accounts__csv=ACCOUNTS, opportunities__csv=CLEAN)
    assert "ending .xlsx" in found(folder, "ICP-E014")[0].fix


def test_columns_are_named_as_excel_names_them():
    assert [column_letters(i) for i in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
    assert cell_name(2, 1) == "B3"


def test_rows_and_columns_in_another_order_change_no_byte(tmp_path, plain):
    frame = frame_of(OPPORTUNITIES).iloc[::-1, ::-1]
    assert tables_of(book(tmp_path, workbook(("Deals", sheet_of(frame.to_csv(index=False)))))) == plain
