"""Cases 1 to 37 of the bad-input catalogue: files that cannot be opened, bytes that are no text, records that do not fit."""

from __future__ import annotations

import os
from pathlib import Path

from tests.catalogue.case import (
    ACCS,
    OPPS,
    Case,
    Said,
    all_of,
    cells,
    put,
    raw,
    settings,
    table,
    text,
    undone,
)

FILE = "opportunities.csv"
CP1252 = '[sources.opportunities]\nencoding = "cp1252"'
FOOTER = '\n\n"Grand Totals (120 records)"\nReport of deals\n"Confidential Information - Do Not Distribute"\n'
MISSPELT = "contact_id,account_id,titel\nC1,A01,Head\nC2,A02,Lead"
CONTACTS = "contact_id,account_id,title,shoe_size\nC1,A01,Head,42\nC2,A02,Lead,43"


def _moved_out(folder: Path) -> None:
    """The file replaced by a link to one outside."""
    outside = folder.parent / f"{folder.name}-outside.csv"
    os.replace(folder / FILE, outside)
    (folder / FILE).symlink_to(outside)


def _fifo(folder: Path) -> None:
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)


def _is_readable(path: object, mode: int) -> bool:
    return not str(path).endswith(FILE)


def _never_the_same(status: os.stat_result) -> object:
    """What tells two states of a file apart, as if another program wrote into the large one all the time."""
    return object() if status.st_size > 4000 else status.st_size


def _columns(change) -> object:
    """Every record as a list of cells, changed; for texts without quotes."""
    return text(lambda t: "\n".join(",".join(change(i, r.split(","))) for i, r in enumerate(t.splitlines())) + "\n")


def _record(key: str, change) -> object:
    """One line changed."""
    return text(lambda t: "\n".join(change(r) if r.startswith(f"{key},") else r for r in t.splitlines()) + "\n")


def _labels(text_: str) -> str:
    head, rest = text_.split(",team_size\n", 1)
    return head.replace("_", " ").title().replace("Created At", "  CREATED\u00a0at ") + ",team_size\n" + rest


CASES = (
    Case(
        1,
        "required file missing",
        (Said("ICP-E001", fix="add opportunities.csv"),),
        breaks=lambda w: w.tables.pop(OPPS),
    ),
    Case(
        1,
        "named file missing",
        (
            Said("ICP-E001", file="oppotunities.csv", fix="correct [sources.opportunities.file]"),
            Said("ICP-W001", file="", fix="name them in [sources]"),
        ),
        breaks=settings('[sources.opportunities]\nfile = "oppotunities.csv"'),
    ),
    Case(2, "empty file", (Said("ICP-E002", fix="export it again"),), breaks=raw(lambda _: b"")),
    Case(2, "only blanks", (Said("ICP-E002", fix="export it again"),), breaks=raw(lambda _: b" \r\n\n")),
    Case(3, "header only", (Said("ICP-E003", fix="export it again"),), breaks=text(lambda t: t.split("\n")[0] + "\n")),
    Case(
        4,
        "link out of the workspace",
        (Said("ICP-E004", fix="copy the file into the workspace"),),
        breaks=lambda w: w.after.append(_moved_out),
    ),
    Case(4, "named pipe", (Said("ICP-E004", fix="name an exported file"),), breaks=lambda w: w.after.append(_fifo)),
    Case(
        4,
        "path out of the workspace",
        (
            Said("ICP-E004", file="icplab.toml", column="sources.opportunities.file", fix="copy the file into"),
            Said("ICP-W001", file="", fix="name them in [sources]"),
        ),
        breaks=settings('[sources.opportunities]\nfile = "../opportunities.csv"'),
    ),
    Case(
        4,
        "web address",
        (
            Said("ICP-E004", file="icplab.toml", column="sources.opportunities.file", fix="copy the file into"),
            Said("ICP-W001", file="", fix="name them in [sources]"),
        ),
        breaks=settings('[sources.opportunities]\nfile = "https://example.org/opportunities.csv"'),
    ),
    Case(
        5,
        "not readable",
        (Said("ICP-E005", fix="chmod u+r opportunities.csv"),),
        breaks=lambda w: None,
        patch=(("icplab.intake.files.os.access", _is_readable),),
    ),
    Case(
        6,
        "too large",
        (Said("ICP-E006", fix="Parquet"),),
        breaks=lambda w: None,
        patch=(("icplab.intake.files.LARGEST_FILE", 6000),),
    ),
    Case(7, "byte-order mark", (Said("ICP-R007"),), breaks=raw(lambda d: b"\xef\xbb\xbf" + d)),
    Case(
        8,
        "UTF-16 LE with mark",
        (Said("ICP-R008"),),
        breaks=raw(lambda d: b"\xff\xfe" + d.decode().encode("utf-16-le")),
    ),
    Case(
        8,
        "UTF-16 BE with mark",
        (Said("ICP-R008"),),
        breaks=raw(lambda d: b"\xfe\xff" + d.decode().encode("utf-16-be")),
    ),
    Case(8, "UTF-16 LE without mark", (Said("ICP-R008"),), breaks=raw(lambda d: d.decode().encode("utf-16-le"))),
    Case(
        8,
        "UTF-16 BE without mark, by tabs",
        (Said("ICP-R008"), Said("ICP-R019")),
        breaks=raw(lambda d: d.decode().replace(",", "\t").encode("utf-16-be")),
    ),
    Case(
        9,
        "cp1252 undeclared",
        (Said("ICP-E009", fix='declare encoding = "cp1252"', line=8),),
        before=cells(OPPS, "O007", source="Zürich"),
        breaks=raw(lambda d: d.decode().encode("cp1252")),
        mend=settings(CP1252),
        shuffles=False,  # the line named depends on it
    ),
    Case(
        9,
        "cp1252 declared",
        (Said("ICP-R009"),),
        before=cells(OPPS, "O007", source="Zürich"),
        breaks=all_of(raw(lambda d: d.decode().encode("cp1252")), settings(CP1252)),
    ),
    Case(
        9,
        "encoding unknown",
        (Said("ICP-E009", fix="correct it in icplab.toml"),),
        breaks=settings('[sources.opportunities]\nencoding = "klingon"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        10,
        "mojibake",
        (Said("ICP-W010", table=ACCS, fix="export again as UTF-8"),),
        each=put(name="SociÃ©tÃ© Ixra"),
        table=ACCS,
        key="A07",
        rows_change=False,
    ),
    Case(
        10,
        "replacement characters",
        (Said("ICP-W010", table=ACCS, fix="export again as UTF-8"),),
        each=put(name="Soci\ufffdte Ixra"),
        table=ACCS,
        key="A07",
        rows_change=False,
    ),
    Case(
        11,
        "NUL byte",
        (Said("ICP-E011", fix="export it again", line=8),),
        breaks=raw(lambda d: d.replace(b"O007,", b"O0\0007,")),
        shuffles=False,
    ),
    Case(
        12,
        "quote never closed",
        (Said("ICP-E012", at="O007", fix="close the quote"),),
        breaks=_record("O007", lambda r: r.replace("O007,", 'O007,"')),
        mend=undone,
    ),
    Case(
        12,
        "cut in the middle of a quoted cell",
        (Said("ICP-E012", at="O120", fix="close the quote"),),
        breaks=text(lambda t: t[: t.rindex("O120,")] + 'O120,"A0'),
        mend=undone,
        shuffles=False,
    ),
    Case(
        14,
        "Excel renamed .csv",
        (Said("ICP-E014", fix="save it as .xlsx"),),
        breaks=raw(lambda d: b"\xd0\xcf\x11\xe0" + d),
        mend=undone,
    ),
    Case(
        14,
        "web page saved as .csv",
        (Said("ICP-E014", fix="export as CSV"),),
        breaks=raw(lambda d: b"<html><table><tr><td>O1</td></tr></table></html>"),
        mend=undone,
    ),
    Case(17, "carriage returns alone", (Said("ICP-R017"),), breaks=text(lambda t: t.replace("\n", "\r"))),
    Case(17, "mixed line ends", (Said("ICP-R017"),), breaks=text(lambda t: t.replace("\n", "\r\n", 30))),
    Case(
        18,
        "changed while it is read",
        (Said("ICP-E018", fix="again"),),
        breaks=lambda w: None,
        patch=(("icplab.intake.sources.held._mark", _never_the_same),),
    ),
    Case(19, "semicolons", (Said("ICP-R019"),), breaks=text(lambda t: t.replace(",", ";"))),
    Case(19, "tabs", (Said("ICP-R019"),), breaks=text(lambda t: t.replace(",", "\t"))),
    Case(19, "pipes", (Said("ICP-R019"),), breaks=text(lambda t: t.replace(",", "|"))),
    Case(
        19,
        "declared delimiter impossible",
        (Said("ICP-E019", fix="use one character"),),
        breaks=settings('[sources.opportunities]\ndelimiter = "::"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        20,
        "first line sep=;",
        (Said("ICP-R020", line=1),),
        breaks=text(lambda t: "sep=;\n" + t.replace(",", ";")),
        ledger=(("preamble", 1),),
    ),
    Case(
        21,
        "title above the header",
        (Said("ICP-R021", line=1, count=2), Said("ICP-R034", line=3)),
        breaks=text(lambda t: "Report of deals\nAs of 2025-08-01\n\n" + t),
        ledger=(("preamble", 2), ("blank", 1)),
    ),
    Case(
        21,
        "title above a header that is not recognised",
        (Said("ICP-E021", line=1, fix="delete the lines above the header"),),
        breaks=text(lambda t: "Report of deals\n" + t.replace(t.split("\n")[0], "a,b,c,d,e,f,g,h")),
        mend=undone,
    ),
    Case(
        22,
        "report footer",
        (Said("ICP-R022", line=124, count=3), Said("ICP-R034", line=122, count=2)),
        breaks=text(lambda t: t + FOOTER),
        ledger=(("footer", 3), ("blank", 2)),
    ),
    Case(
        22,
        "unknown tail",
        (Said("ICP-E022", fix="delete the lines after the last record"),),
        breaks=text(lambda t: t + "\nseen by Anna\n"),
        mend=undone,
    ),
    Case(
        23,
        "header again in the middle",
        (Said("ICP-R023", line=50),),
        breaks=text(lambda t: "\n".join([*(r := t.splitlines())[:49], r[0], *r[49:]]) + "\n"),
        ledger=(("repeated_header", 1),),
    ),
    Case(24, "same column twice", (Said("ICP-R024", column="account_id"),), breaks=_columns(lambda i, r: [*r, r[1]])),
    Case(
        24,
        "two columns of one name that differ",
        (Said("ICP-E024", column="account_id", fix="rename or delete one"),),
        breaks=_columns(lambda i, r: [*r, r[1] if not i else r[0]]),
        mend=undone,
    ),
    Case(25, "empty column without a name", (Said("ICP-R025"),), breaks=_columns(lambda i, r: [*r, ""])),
    Case(
        25,
        "filled column without a name",
        (Said("ICP-E025", fix="name it, or delete it"),),
        breaks=_columns(lambda i, r: [*r, "" if not i else "x"]),
        mend=undone,
    ),
    Case(26, "labels, spaces and another case in the header", (Said("ICP-R026"),), breaks=text(_labels)),
    Case(
        27,
        "required column missing",
        (Said("ICP-E027", column="created_at", fix="[columns.opportunities] created_at ="),),
        breaks=text(lambda t: t.replace("created_at", "Opened", 1)),
        mend=settings('[columns.opportunities]\ncreated_at = "Opened"'),
    ),
    Case(
        27,
        "mapped column missing",
        (Said("ICP-E027", column="Opend", fix="correct [columns.opportunities] created_at"),),
        breaks=all_of(
            text(lambda t: t.replace("created_at", "Opened", 1)),
            settings('[columns.opportunities]\ncreated_at = "Opend"'),
        ),
        mend=lambda w: setattr(w, "settings", w.settings.replace("Opend", "Opened")),
    ),
    Case(
        27,
        "misspelt column of a closed table",
        (Said("ICP-W027", column="titel", table="contacts", fix='say [columns.contacts] title = "titel"'),),
        breaks=table("contacts", MISSPELT),
        twin=table("contacts", "\n".join(f"{r.split(',')[0]},{r.split(',')[1]}" for r in MISSPELT.splitlines())),
    ),
    Case(
        27,
        "misspelt optional column",
        (Said("ICP-W027", column="amout", fix='say [columns.opportunities] amount = "amout"'),),
        breaks=text(lambda t: t.replace(",amount,", ",amout,", 1)),
        mend=text(lambda t: t.replace(",amout,", ",amount,", 1)),
    ),
    Case(
        28,
        "further column of a closed table",
        (Said("ICP-W028", table="contacts", fix="map them in [columns.contacts]"),),
        breaks=table("contacts", CONTACTS),
        twin=table("contacts", "\n".join(r.rsplit(",", 1)[0] for r in CONTACTS.splitlines())),
    ),
    Case(
        29,
        "short record",
        (Said("ICP-E029", at="O007", fix="quote the cell"),),
        breaks=_record("O007", lambda r: r.rsplit(",", 1)[0]),
        mend=undone,
        ledger=(("quarantined", 1),),
    ),
    Case(
        29,
        "short record tolerated",
        (Said("ICP-Q029", at="O007", fix="quote the cell"),),
        breaks=all_of(_record("O007", lambda r: r.rsplit(",", 1)[0]), settings("[tolerance]\nquarantine = 0.05")),
        twin=lambda w: w.drop(OPPS, "O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        30,
        "long record",
        (Said("ICP-E030", at="O007", fix="quote the cell"),),
        breaks=_record("O007", lambda r: r.replace("O007,", "O007,A01,")),
        mend=undone,
        ledger=(("quarantined", 1),),
    ),
    Case(
        30,
        "long record tolerated",
        (Said("ICP-Q030", at="O007", fix="quote the cell"),),
        breaks=all_of(
            _record("O007", lambda r: r.replace("O007,", "O007,A01,")), settings("[tolerance]\nquarantine = 0.05")
        ),
        twin=lambda w: w.drop(OPPS, "O007"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        31,
        "delimiter at the end of every record",
        (Said("ICP-R031"),),
        breaks=_columns(lambda i, r: [*r, ""] if i else r),
    ),
    Case(
        32,
        "line break, quote and delimiter inside a quoted cell",
        each=put(name='Ixra, "the\nbest"'),
        table=ACCS,
        key="A07",
        twin=cells(ACCS, "A07", name='Ixra, "the\nbest"'),
    ),
    Case(
        33,
        "bare quote inside a cell",
        (Said("ICP-W033", fix="double"),),
        breaks=_record("O007", lambda r: r.replace(",event,", ',ju"nk,')),
        twin=lambda w: w.row(OPPS, "O007").update(source='ju"nk'),
    ),
    Case(
        34,
        "blank records",
        (Said("ICP-R034", line=8, count=3),),
        breaks=text(lambda t: "\n".join([*(r := t.splitlines())[:7], "", ",,,,,,,", " ", *r[7:]]) + "\n"),
        ledger=(("blank", 3),),
    ),
    Case(35, "columns in another order", breaks=_columns(lambda i, r: r[::-1])),
    Case(
        37,
        "as many records as an export limit",
        (Said("ICP-W037", fix="check the count in the CRM"),),
        breaks=lambda w: None,
        twin=lambda w: None,
        patch=(("icplab.intake.checks.ROW_LIMITS", frozenset({120})),),
    ),
)
