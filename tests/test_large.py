"""Large files: read in blocks they give the same tables, notes and rejects, byte for byte, as read with care."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.exports import write_workspace
from icplab.core.errors import BadInput
from icplab.core.schema import CANONICAL
from icplab.core.store import read_parquet
from icplab.intake import batch, check_workspace, coded, large, plain, take_in, typed
from icplab.intake.batch import Batch
from icplab.intake.matching import Matching
from icplab.intake.written import write_table

SETTINGS = """
[workspace]
currency = "EUR"
[tolerance]
quarantine = {tolerance}
orphans = 0.5
[sources.opportunities]
thousands = ","
[values.opportunities.status]
"Closed Won" = "won"
"Closed Lost" = "lost"
"""
NAMES = "opportunity_id,account_id,created_at,closed_at,status,amount,product,source,next_step,region"
CELLS = {
    "opportunity_id": ("O{n}", "O{n}", "O{n}", "00{n}", "O1", "", " O{n}", "{n}.0", "1.2E+12"),
    "account_id": ("A1", "A2", "A1", "A3", "A9", "", "N/A"),
    "created_at": ("2024-01-05", "2024-02-29", "2024-01-05", "2024-02-30", "", "1900-01-01", "2024-01-05T10:30:00Z", "05/06/2024"),
    "closed_at": ("2024-06-30", "2024-07-01", "", "2023-01-01", "N/A", "2024-06-30 12:00"),
    "status": ("won", "lost", "open", "Closed Won", "Closed Lost", "maybe", ""),
    "amount": ("100", "$1,200.50", '"1,200"', "(300)", "0", "", "NULL", "12k", "-5", "€ 40", "1e400", "EUR 7", "7-"),
    "product": ("Basic", "basic", "Plus", "", "N/A", "Plus\u200b", " Plus "),
    "source": ("Web", "Event", "=1+1", "Wéb", "we´b", ""),
    "next_step": ('"call, then\nwrite"', "", '"say ""hi"""', "mail a@b.example", "x", "\u00a0", "opportunity_id"),
    "region": ("North", "South", "", "a;b", "b"),
}  # fmt: skip
LINES = ("", "   ", ",,,,,,,,,", NAMES, "too,few", "x" + ",y" * 12, 'a "quote inside,1', "opportunity_id,1", '"open')
TAILS = ("", "\n\nGrand Total,,\n", "\nTotal 3\n", '\n\n"Opportunities"\n"Copyright (c) 2026"\n')


def make_export(draw: random.Random, dirt: float) -> str:
    """A file of opportunities in which cells, records and ends are odd as often as `dirt` says."""
    rows = [NAMES]
    for n in range(draw.randrange(4, 60)):
        row = [draw.choice(v) if draw.random() < dirt else v[n % 2] for v in CELLS.values()]
        rows.append(",".join(row).replace("{n}", str(n)))
        if draw.random() < dirt / 4:
            rows.append(draw.choice(LINES[: 6 if draw.random() < 0.8 else None]))
    if draw.random() < dirt:
        rows.insert(0, draw.choice(("Report of today", "", "\ufeff", "sep=,")))
    end = draw.choice(("\n", "\n", "\r\n"))
    text = end.join(rows) + (end if draw.random() < 0.8 else "")
    return text + (draw.choice(TAILS) if draw.random() < dirt else "")


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def outcome(workspace: Path, run: Path) -> object:
    """All bytes that a workspace gives, or all problems that stop it."""
    try:
        take_in(workspace, run)
    except BadInput as error:
        return [str(p) for p in error.problems]
    return tree_of(run)


@pytest.fixture(autouse=True)
def read_small_files_in_blocks() -> None:
    """Both readers are asked here, whatever the other tests do."""


@pytest.fixture(autouse=True)
def match_no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts are plain text to both readers; matching them comes after, and has tests of its own."""
    monkeypatch.setattr("icplab.intake.take.match_accounts", lambda *_: Matching())


def both_ways(workspace: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> tuple[object, object, int]:
    """The outcome of the careful reader and of reading in blocks, and how many files the latter took."""
    taken = []
    real = large.read_large

    def counted(*given: object) -> object:
        taken.append(real(*given))
        return taken[-1]

    careful = outcome(workspace, workspace.parent / "careful")
    with monkeypatch.context() as patch:
        patch.setattr(large, "LEAST_BYTES", 0)
        patch.setattr(large, "BLOCK", block)
        patch.setattr(large, "CODED_SHARE", 0.6)
        patch.setattr(large, "IRREGULAR_SHARE", 1.0)
        patch.setattr("icplab.intake.take.read_large", counted)
        for module in (batch, coded, plain, typed):
            patch.setattr(module, "PIECE", 5)
        blocks = outcome(workspace, workspace.parent / "blocks")
    return careful, blocks, sum(t is not None for t in taken)


@pytest.mark.parametrize("seed", range(30))
def test_reading_in_blocks_gives_the_same_bytes_and_problems(tmp_path, monkeypatch, seed):
    draw = random.Random(seed)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "accounts.csv").write_text("account_id,name,region\nA1,Abc,N\nA2,Bcd,S\nA3,Cde,N\n", encoding="utf-8")
    text = make_export(draw, draw.choice((0.0, 0.02, 0.1)))
    (workspace / "opportunities.csv").write_text(text, encoding="utf-8", newline="")
    (workspace / "icplab.toml").write_text(SETTINGS.format(tolerance=draw.choice((0.0, 0.9))), encoding="utf-8")
    careful, blocks, _ = both_ways(workspace, monkeypatch, draw.choice((64, 500, 1 << 20)))
    assert blocks == careful


@pytest.mark.parametrize("untidy", [False, True])
def test_an_export_of_thousands_is_read_in_blocks_with_the_same_result(tmp_path, monkeypatch, untidy):
    write_workspace(tmp_path / "workspace", 3000, untidy=untidy)
    careful, blocks, taken = both_ways(tmp_path / "workspace", monkeypatch, 50_000)
    assert taken == 2
    assert blocks == careful


def test_a_damaged_record_of_another_width_is_told_without_a_word_from_the_parser(tmp_path, monkeypatch, capfd):
    write_workspace(tmp_path / "workspace", 300, untidy=True)
    with (tmp_path / "workspace" / "opportunities.csv").open("ab") as file:
        file.write(b"OPP-9,\xcb\xff\n")
    careful, blocks, _ = both_ways(tmp_path / "workspace", monkeypatch, 5_000)
    assert blocks == careful
    assert "ICP-E009" in str(blocks)
    assert capfd.readouterr().err == ""


def test_most_untidy_files_are_read_in_blocks_too(tmp_path, monkeypatch):
    taken = 0
    for seed in range(100, 106):
        workspace = tmp_path / str(seed) / "workspace"
        workspace.mkdir(parents=True)
        (workspace / "accounts.csv").write_text("account_id,name\nA1,Abc\nA2,Bcd\nA3,Cde\n", encoding="utf-8")
        (workspace / "opportunities.csv").write_text(
            make_export(random.Random(seed), 0.02), encoding="utf-8", newline=""
        )
        taken += both_ways(workspace, monkeypatch, 300)[2]
    assert taken >= 9  # of 12 files


def test_rows_in_another_order_give_the_same_tables(tmp_path):
    write_workspace(tmp_path / "workspace", 40_000, untidy=False)
    path = tmp_path / "workspace" / "opportunities.csv"
    assert path.stat().st_size > large.LEAST_BYTES
    take_in(tmp_path / "workspace", tmp_path / "one")
    shutil.copytree(tmp_path / "workspace", tmp_path / "turned")
    header, *rows = path.read_text(encoding="utf-8").replace("\nthen", "\0then").splitlines()
    turned = "\n".join([header, *rows[::-1]]).replace("\0then", "\nthen") + "\n"
    (tmp_path / "turned" / "opportunities.csv").write_text(turned, encoding="utf-8")
    take_in(tmp_path / "turned", tmp_path / "two")
    table = Path("tables") / "opportunities.parquet"
    assert (tmp_path / "one" / table).read_bytes() == (tmp_path / "two" / table).read_bytes()
    amount = pq.read_table(tmp_path / "one" / table, columns=["amount"])["amount"]
    assert amount.null_count > 0  # an empty cell is null in the file, not a number that is none
    assert pc.sum(pc.is_nan(amount)).as_py() == 0


def test_text_set_aside_gives_back_every_cell():
    cells = ["", "a", "Wéb\n", "=1", "", "0" * 400] * 3
    packed = coded.Packed(pd.Series(cells, dtype="str"))
    assert packed.iloc[2] == "Wéb\n"
    assert list(packed.iloc[np.array([17, 0, 3])]) == ["0" * 400, "", "=1"]


@pytest.mark.parametrize("rows", [[0], [5], [1, 2, 4], [0, 1, 2, 3, 4, 5]])
def test_blanked_cells_are_the_same_in_plain_and_coded_text(rows):
    words = pd.Series(["x", "y", "x", "z", "", "y"], dtype="str")
    mask = np.isin(np.arange(6), rows)
    expected = words.mask(pd.Series(mask), "")
    assert coded.blanked(words, mask).tolist() == expected.tolist()
    codes, distinct = pd.factorize(words)
    blank = coded.blanked(coded.from_codes(codes, distinct), mask)
    assert coded.decoded(blank).tolist() == expected.tolist()
    assert coded.words_of(blank).tolist() == list(dict.fromkeys(expected))  # in the order of their first appearance


def test_a_key_rises_only_when_every_value_does(monkeypatch):
    monkeypatch.setattr(batch, "PIECE", 2)
    every = np.ones(5, dtype=bool)
    assert batch.rises(pd.Series(list("abcde"), dtype="str"), every)
    assert not batch.rises(pd.Series(list("abbcd"), dtype="str"), every)
    assert not batch.rises(pd.Series(["a", "c", "b", "d", "e"], dtype="str"), every)
    assert not batch.rises(pd.Series(["a", "b", None, "d", "e"], dtype="str"), every)
    assert batch.rises(pd.Series(["a", "z", "b", "c", "d"], dtype="str"), np.array([1, 0, 1, 1, 1], dtype=bool))


def test_the_opportunity_that_decides_the_total_is_named_whatever_amounts_are_missing(tmp_path):
    rows = [
        f"O{n:02},A{n % 3 + 1},2024-01-05,2024-02-05,won,{'' if n == 7 else 90_000 if n == 3 else 10}"
        for n in range(30)
    ]
    (tmp_path / "accounts.csv").write_text("account_id,name\nA1,Abc\nA2,Bcd\nA3,Cde\n", encoding="utf-8")
    head = "opportunity_id,account_id,created_at,closed_at,status,amount\n"
    (tmp_path / "opportunities.csv").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    said = [p.message for p in check_workspace(tmp_path).problems if p.code == "ICP-W074"]
    assert said == ["one opportunity (O03) is 100% of all won amount"]


def test_a_table_without_a_key_keeps_its_only_row(tmp_path):
    frame = CANONICAL["events"].empty()
    frame.loc[0] = [pd.Timestamp("2026-01-01"), "price", "list prices raised"]
    events = Batch(CANONICAL["events"], frame, ("events.csv",), *(np.zeros(1, dtype=int) for _ in range(3)))
    write_table(events, tmp_path / "events.parquet")
    assert read_parquet(tmp_path / "events.parquet")["kind"].tolist() == ["price"]
