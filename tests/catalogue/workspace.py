"""Reads nothing, makes a small clean workspace that the cases of the catalogue break, mend and shuffle."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl

Row = dict[str, str]
FIRST_DAY = dt.date(2022, 1, 3)
INDUSTRIES = ("Retail", "Software", "Logistics", "Energy")
NAMES = (
    *("Altavia", "Brunnstein", "Cordoma", "Dunkelwald", "Eskimar", "Fjordlight", "Gabriana", "Hexelon"),
    *("Ivoryta", "Jubilant", "Kestrelia", "Lumpazi", "Mangrova", "Nebukad", "Opaline", "Quincunx"),
    *("Rhubarba", "Sturmhaube", "Tektonia", "Umbrella", "Vexillum", "Wolkenbau", "Xylophan", "Yggdrasil"),
)
KINDS = ("Foods", "Systems", "Freight", "Power", "Press")
COUNTRIES = ("Germany", "NA", "France", "Spain", "Zürich")


def _accounts() -> list[Row]:
    return [
        {
            "account_id": f"A{i:02d}",
            "name": f"{NAMES[i - 1]} {KINDS[i % 5]}",
            "domain": f"{NAMES[i - 1].lower()}.de",
            "industry": INDUSTRIES[i % 4],
            "employees": str(20 + 13 * i),
            "annual_revenue": str(100000 * i),
            "country": COUNTRIES[i % 5],
            "parent_account_id": "A01" if i == 5 else "",
            "created_at": f"2021-{i % 12 + 1:02d}-{i:02d}",
            "stack": ("erp;crm", "crm", "erp;mail", "")[i % 4],
        }
        for i in range(1, 25)
    ]


def _opportunities() -> list[Row]:
    rows = []
    for i in range(1, 121):
        created = FIRST_DAY + dt.timedelta(days=9 * i)
        status = "open" if i % 10 == 0 else ("lost", "won")[i % 2]
        closed = created + dt.timedelta(days=20 + i * 13 % 90)
        rows.append(
            {
                "opportunity_id": f"O{i:03d}",
                "account_id": f"A{i % 24 + 1:02d}",
                "created_at": created.isoformat(),
                "closed_at": "" if status == "open" else closed.isoformat(),
                "status": status,
                "amount": str(4000 + 75 * (i * 37 % 61)),
                "source": ("web", "event", "partner")[i % 3],
                "team_size": ("small", "large")[i % 7 > 3],
            }
        )
    return rows


@dataclass
class Workspace:
    """Tables as rows of text, settings, and what is done to the bytes of a file or to the folder afterwards."""

    tables: dict[str, list[Row]] = field(
        default_factory=lambda: {"accounts": _accounts(), "opportunities": _opportunities()}
    )
    settings: str = ""
    others: dict[str, bytes] = field(default_factory=dict)
    edits: list[tuple[str, Callable[[bytes], bytes]]] = field(default_factory=list)
    after: list[Callable[[Path], object]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # file name of a table, where it is not the canonical one

    def shuffle(self, seed: int) -> None:
        """Another order of the records of every table."""
        for rows in self.tables.values():
            random.Random(seed).shuffle(rows)

    def row(self, table: str, key: str) -> Row:
        """The first record whose first column holds `key`."""
        return next(r for r in self.tables[table] if next(iter(r.values())) == key)

    def position(self, table: str, key: str) -> int:
        """Record number (from 1) of the first record with this key."""
        return next(i for i, r in enumerate(self.tables[table], 1) if next(iter(r.values())) == key)

    def drop(self, table: str, *keys: str) -> None:
        self.tables[table] = [r for r in self.tables[table] if next(iter(r.values())) not in keys]

    def bytes_of(self, table: str) -> bytes:
        """The file of a table as it is written, edits applied."""
        name = self.file(table)
        data = as_csv(self.tables[table]).encode()
        for file, edit in self.edits:
            data = edit(data) if file == name else data
        return data

    def file(self, table: str) -> str:
        return self.names.get(table, f"{table}.csv")

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for table in self.tables:
            (folder / self.file(table)).write_bytes(self.bytes_of(table))
        for name, data in self.others.items():
            (folder / name).write_bytes(data)
        if self.settings:
            (folder / "icplab.toml").write_text(self.settings, encoding="utf-8")
        for act in self.after:
            act(folder)
        return folder


def as_csv(rows: list[Row]) -> str:
    """Records as RFC 4180 text with line feeds; columns are those of the first record."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def physical_records(data: bytes) -> int:
    """Records of a delimited file: line ends outside quotes, counted without any reader of the project."""
    if data[:2] == b"PK":
        return max(s.max_row for s in openpyxl.load_workbook(io.BytesIO(data)))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16")
    elif data[1:2] == b"\0" or data[:1] == b"\0":
        text = data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    else:
        text = data.decode("utf-8", errors="replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    inside, records, before = False, 1, "\n"
    for letter in text:
        if letter == '"':
            inside = not inside and before in '",;\t|\n'  # elsewhere in a cell a quote is a letter
        records += letter == "\n" and not inside
        before = letter
    return records
