"""Reads nothing, makes opportunity exports of any size as a CRM writes them: one clean in ISO notation, one untidy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 100_000  # opportunities drawn and written at a time, so that memory does not grow with the file
MOST_ACCOUNTS = 2000  # what is measured is the reading of opportunities, not the matching of accounts
BROKEN = 20  # records with a field too many in the untidy export
NAMES = (
    *("Opportunity ID", "Account ID", "Opportunity Name", "Stage", "Amount", "Currency", "Probability"),
    *("Created Date", "Close Date", "Type", "Lead Source", "Owner", "Loss Reason", "Product", "Region"),
    *("Competitor", "Next Step", "Last Modified"),
)
STAGES = ("Prospecting", "Qualification", "Proposal", "Negotiation", "Closed Won", "Closed Lost")
_SETTINGS = """
[workspace]
name = "Export of {rows} opportunities"
currency = "USD"
[tolerance]
quarantine = 0.01
[sources.opportunities]
ignore = ["Probability"]
{notation}
[columns.opportunities]
opportunity_id = "Opportunity ID"
account_id = "Account ID"
stage = "Stage"
status = "Stage"
amount = "Amount"
created_at = "Created Date"
closed_at = "Close Date"
source = "Lead Source"
[values.opportunities.status]
"Prospecting" = "open"
"Qualification" = "open"
"Proposal" = "open"
"Negotiation" = "open"
"Closed Won" = "won"
"Closed Lost" = "lost"
[values.opportunities.type]
"New Business" = "new"
"Expansion" = "expansion"
"Renewal" = "renewal"
"""


def write_workspace(folder: Path, rows: int, *, untidy: bool, seed: int = 7) -> None:
    """A folder with `opportunities.csv` (18 columns, about 235 bytes a record), `accounts.csv` and `icplab.toml`.

    The untidy export has amounts such as ``"$1,234.50"``, rates as ``35%``, ``N/A`` for nothing, days as mm/dd/yyyy, line
    breaks inside quoted cells and 20 records with a field too many; the clean one has plain numbers and ISO dates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accounts = min(max(rows // 4, 1), MOST_ACCOUNTS)
    ids = _joined("ACC-", _digits(np.arange(accounts), 10))
    with (folder / "accounts.csv").open("wb") as file:
        file.write(b"account_id,name,region\n")
        _write(file, [ids, _joined("Company ", _digits(np.arange(accounts), 7)), _pick(_draw(seed), REGIONS, accounts)])
    draw = _draw(seed + 1)
    with (folder / "opportunities.csv").open("wb") as file:
        file.write((",".join(NAMES) + "\n").encode())
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            _write(file, _columns(draw, start, count, accounts, untidy))
            if untidy and start == 0:
                file.write(b"".join(b"x%d" % i + b",y" * len(NAMES) + b"\n" for i in range(BROKEN)))
    notation = 'thousands = ","\ndate_format = "%m/%d/%Y"' if untidy else ""
    (folder / "icplab.toml").write_text(_SETTINGS.format(rows=rows, notation=notation), encoding="utf-8")


REGIONS = ("North", "South", "East", "West", "Centre")


def _draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _columns(draw: np.random.Generator, start: int, count: int, accounts: int, untidy: bool) -> list[pa.Array]:
    """The 18 columns of one block, as text."""
    stage = draw.choice(len(STAGES), count, p=[0.06, 0.06, 0.05, 0.04, 0.24, 0.55])
    created = draw.integers(0, 1460, count)
    closed = created + draw.integers(1, 250, count)
    number = _digits(np.arange(start, start + count), 9)
    account = _joined("ACC-", _digits(draw.integers(0, accounts, count), 10))
    name = _joined('"Company ', _digits(draw.integers(0, accounts, count), 7), ", ", _pick(draw, PRODUCTS, count), '"')
    step = _joined('"Call back in calendar week ', _text(draw.integers(1, 53, count)), '\nthen send the paper, signed"')
    step = _blanked(draw, step, 0.35, untidy)
    return [
        _joined("OPP-", number),
        account,
        name,
        _taken(STAGES, stage),
        _blanked(draw, _amounts(draw, count, untidy), 0.08, untidy),
        _pick(draw, ("USD",), count),
        _joined(_text(draw.integers(0, 101, count)), "%"),
        _days(created, untidy),
        _days(closed, untidy),
        _pick(draw, ("New Business", "Expansion", "Renewal"), count),
        _pick(draw, ("Web", "Partner", "Outbound", "Event", "Referral"), count),
        _joined("Seller ", _digits(draw.integers(0, 120, count), 3)),
        _blanked(draw, _pick(draw, ("Price", "No decision", "Competitor", "Timing"), count), 0.5, untidy),
        _pick(draw, PRODUCTS, count),
        _pick(draw, REGIONS, count),
        _blanked(draw, _pick(draw, ("Alpha Corp", "Beta AG", "Gamma Ltd"), count), 0.4, untidy),
        step,
        _days(closed + 1, untidy),
    ]


PRODUCTS = ("Basic plan", "Plus plan", "Complete plan", "Add-on pack")


def _amounts(draw: np.random.Generator, count: int, untidy: bool) -> pa.Array:
    cents = np.round(draw.lognormal(9.5, 1.1, count) * 100).astype(np.int64)
    rest = _joined(".", _digits(cents % 100, 2))
    if not untidy:
        return _joined(_text(cents // 100), rest)
    whole = pc.replace_substring_regex(_text(cents // 100), r"(\d)(\d{3})$", r"\1,\2")
    whole = pc.replace_substring_regex(whole, r"(\d)(\d{3}),", r"\1,\2,")
    return _joined('"$', whole, rest, '"')


def _days(days: np.ndarray, untidy: bool) -> pa.Array:
    dates = pa.array(np.datetime64("2021-01-01") + days.astype("timedelta64[D]"))
    return pc.strftime(pc.cast(dates, pa.timestamp("s")), "%m/%d/%Y" if untidy else "%Y-%m-%d")


def _blanked(draw: np.random.Generator, text: pa.Array, share: float, untidy: bool) -> pa.Array:
    """Text with a share of cells empty; in the untidy export half of those say N/A."""
    luck = draw.random(len(text))
    text = pc.if_else(pa.array(luck < share), "", text)
    return pc.if_else(pa.array(luck < share / 2), "N/A", text) if untidy else text


def _pick(draw: np.random.Generator, words: tuple[str, ...], count: int) -> pa.Array:
    return _taken(words, draw.integers(0, len(words), count))


def _taken(words: tuple[str, ...], places: np.ndarray) -> pa.Array:
    return pa.array(words).take(pa.array(places))


def _text(numbers: np.ndarray) -> pa.Array:
    return pc.cast(pa.array(numbers), pa.string())


def _digits(numbers: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(_text(numbers), width=width, padding="0")


def _joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _write(file: object, columns: list[pa.Array]) -> None:
    """Lines of a block; the joined text is one buffer."""
    lines = pc.binary_join_element_wise(*columns, ",")
    lines = pc.binary_join_element_wise(lines, "", "\n")
    data = lines.buffers()[2]
    file.write(memoryview(data)[: _end(lines)])  # type: ignore[attr-defined]


def _end(lines: pa.Array) -> int:
    """Bytes of text in an array that starts at offset 0."""
    return int(np.frombuffer(lines.buffers()[1], dtype=np.int32)[len(lines)])
