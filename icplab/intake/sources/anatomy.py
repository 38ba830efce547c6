"""Reads the parts of an Excel workbook, makes a list of what its values alone do not tell; refuses what must not be trusted."""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass, field
from xml.etree import ElementTree

from icplab.core.errors import BadInput, Problem
from icplab.intake.sources.packed import check_archive, open_archive, read_entry

WIDEST = 16_384  # columns of a sheet
OLE = b"\xd0\xcf\x11\xe0"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
# Tags may carry a namespace prefix, attributes either kind of quote; "<" in text is always escaped in XML.
_TAG = rb"<(?:\w+:)?"
_ROW = re.compile(_TAG + rb"row\b[^>]*>")
_COLUMN = re.compile(_TAG + rb"col\b[^>]*>")
_HIDDEN = re.compile(rb"\bhidden=[\"'](?:1|true)[\"']")
_ATTRIBUTE = rb"\b%s=[\"']([^\"']*)[\"']"
_ERROR = re.compile(_TAG + rb"c\b([^>]*\bt=[\"']e[\"'][^>]*)>(.*?)</(?:\w+:)?c>", re.DOTALL)
_VALUE = re.compile(_TAG + rb"v\b[^>]*>([^<]*)<")
_ANY_FORMULA = re.compile(_TAG + rb"f[\s/>]")
_FORMULA = re.compile(
    _TAG + rb"c\b([^>]*)>\s*" + _TAG + rb"f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)(.{0,40})", re.DOTALL
)
_PLACE = re.compile(r"([A-Z]{1,3})(\d+)")


@dataclass
class Anatomy:
    """What the XML of a sheet says beside its values; rows and columns count from 0."""

    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: list[int] = field(default_factory=list)
    uncomputed: list[tuple[int, int]] = field(default_factory=list)
    overlay: dict[tuple[int, int], str] = field(default_factory=dict)
    """Text of cells that show something else than their value: errors, and numbers padded with zeros."""


def open_workbook(data: bytes, name: str) -> zipfile.ZipFile:
    """The parts of a workbook.

    Raises
    ------
    BadInput
        ICP-E013 a trap, E014 damaged or not an Excel workbook of today, E015 password, macros or links to other files.
    """
    if data.startswith(OLE):
        if _ENCRYPTED in data:
            raise _stop("ICP-E015", "is protected by a password", "open it in Excel and save it without one", name)
        raise _stop("ICP-E014", "is an old Excel file (.xls)", "open it in Excel and save it as .xlsx", name)
    if not data.startswith(b"PK"):
        fix = "save it as an Excel workbook, or give it the ending it deserves (.csv)"
        raise _stop("ICP-E014", "is not an Excel workbook, whatever its name says", fix, name)
    try:
        archive = open_archive(data, name)
    except BadInput as error:
        raise _damaged(name) from error
    check_archive(archive, len(data), name)
    parts = archive.namelist()
    if "xl/workbook.xml" not in parts:
        fix = "open it in Excel and save it as .xlsx"
        raise _stop("ICP-E014", "is not an Excel workbook (.xlsx), whatever its name says", fix, name)
    types = _part(archive, "[Content_Types].xml", name)
    if b"macroEnabled" in types or any(p.lower().endswith("vbaproject.bin") for p in parts):
        raise _stop("ICP-E015", "holds macros", "save it as an Excel workbook without macros (.xlsx)", name)
    links = sorted(p for p in parts if re.fullmatch(r"xl/externalLinks/[^/]+\.xml", p))
    if links:
        where = _link_target(archive, links[0], name)
        message = f"takes values from another file ({where}), which may have changed since"
        fix = "in Excel: Data, Edit Links, Break Link; then save it"
        raise BadInput(Problem("ICP-E015", message, fix, name, count=len(links)))
    return archive


def dissect(archive: zipfile.ZipFile, sheet: str, name: str) -> Anatomy:
    """Hidden rows and columns, formulas never computed, errors and padded numbers of one sheet."""
    xml = _part(archive, _sheet_part(archive, sheet, name), name)
    if "xl/sharedStrings.xml" in archive.namelist():
        _part(archive, "xl/sharedStrings.xml", name)  # read to its end here, where its size is watched
    found = Anatomy()
    if b"hidden=" in xml:
        rows = [t for t in _ROW.findall(xml) if _HIDDEN.search(t)]
        found.hidden_rows = [int(r) - 1 for t in rows for r in _attributes(t, b"r")]
        found.hidden_columns = [c for t in _COLUMN.findall(xml) if _HIDDEN.search(t) for c in _span(t)]
    if b't="e"' in xml or b"t='e'" in xml:
        found.overlay = dict(filter(None, (_shown_error(a, content) for a, content in _ERROR.findall(xml))))
    if _ANY_FORMULA.search(xml):
        found.uncomputed = [p for a, rest in _FORMULA.findall(xml) if _is_uncomputed(a, rest) and (p := _place(a))]
    found.overlay |= _padded(archive, xml, name)
    return found


def cell_name(row: int, column: int) -> str:
    """B3 for row 2 and column 1."""
    return f"{column_letters(column)}{row + 1}"


def column_letters(column: int) -> str:
    """A for 0, Z for 25, AA for 26."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _span(tag: bytes) -> range:
    """The columns that a column tag speaks of."""
    first, last = (int(_attributes(tag, name)[0]) for name in (b"min", b"max"))
    return range(first - 1, min(last, WIDEST))


def _shown_error(attributes: bytes, content: bytes) -> tuple[tuple[int, int], str] | None:
    """Place and text of a cell that shows an error, such as #REF!; calamine gives such cells as empty."""
    shown, place = _VALUE.search(content), _place(attributes)
    return (place, shown.group(1).decode() if shown else "#VALUE!") if place else None


def _is_uncomputed(attributes: bytes, rest: bytes) -> bool:
    """Whether no value stands after a formula; an empty text that was computed is marked as text."""
    value = re.match(rb"\s*" + _TAG + rb"v\b[^>/]*>([^<]+)<", rest)
    return not value and not re.search(rb"\bt=[\"']str[\"']", attributes)


def _padded(archive: zipfile.ZipFile, xml: bytes, name: str) -> dict[tuple[int, int], str]:
    """Numbers that a format like 00000 shows with leading zeros, as they are shown: postcodes and customer numbers."""
    if "xl/styles.xml" not in archive.namelist():
        return {}
    styles = _tree(archive, "xl/styles.xml", name)
    widths = {
        e.get("numFmtId"): len(e.get("formatCode", ""))
        for e in styles.iter()
        if _local(e) == "numFmt" and re.fullmatch("0{2,}", e.get("formatCode", ""))
    }
    formats = [e for block in styles if _local(block) == "cellXfs" for e in block]
    padded = {str(i): widths[e.get("numFmtId")] for i, e in enumerate(formats) if e.get("numFmtId") in widths}
    if not padded:
        return {}
    chosen = "|".join(padded).encode()
    cells = re.compile(_TAG + rb"c\b([^>]*\bs=[\"'](" + chosen + rb")[\"'][^>]*)>\s*" + _TAG + rb"v>(\d+)<")
    found = [(_place(a), number.decode().zfill(padded[s.decode()])) for a, s, number in cells.findall(xml)]
    return {place: text for place, text in found if place}


def _sheet_part(archive: zipfile.ZipFile, sheet: str, name: str) -> str:
    """The part that holds a sheet."""
    book = _tree(archive, "xl/workbook.xml", name)
    key = next(
        (
            v
            for e in book.iter()
            if _local(e) == "sheet" and e.get("name") == sheet
            for k, v in e.items()
            if k.endswith("}id")
        ),
        "",
    )
    links = _tree(archive, "xl/_rels/workbook.xml.rels", name)
    target = next((e.get("Target", "") for e in links if e.get("Id") == key), "")
    return posixpath.normpath(posixpath.join("/xl", target)).lstrip("/")


def _link_target(archive: zipfile.ZipFile, part: str, name: str) -> str:
    """The file that an external link leads to, without its folder."""
    path = part.replace("externalLinks/", "externalLinks/_rels/") + ".rels"
    if path not in archive.namelist():
        return "its name is not given"
    targets = [e.get("Target", "") for e in _tree(archive, path, name)]
    text = re.split(r"[/\\]", targets[0])[-1] if targets else ""
    return "".join(c for c in text if c.isprintable())[:80] or "its name is not given"


def _part(archive: zipfile.ZipFile, part: str, name: str) -> bytes:
    """The bytes of a part; ICP-E014 when it is missing."""
    try:
        entry = archive.getinfo(part)
    except KeyError as error:
        raise _damaged(name) from error
    return read_entry(archive, entry, name)


def _tree(archive: zipfile.ZipFile, part: str, name: str) -> ElementTree.Element:
    """A small part as a tree. Document type definitions, which can define entities without end, are refused."""
    xml = _part(archive, part, name)
    try:
        if b"<!DOCTYPE" in xml:
            raise ElementTree.ParseError
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise _damaged(name) from error


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _attributes(tag: bytes, attribute: bytes) -> list[bytes]:
    return re.findall(_ATTRIBUTE % attribute, tag)[:1]


def _place(attributes: bytes) -> tuple[int, int] | None:
    """Row and column of a cell by its reference."""
    found = _attributes(attributes, b"r")
    match = _PLACE.fullmatch(found[0].decode("ascii", "replace")) if found else None
    if not match:
        return None
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(match[2]) - 1, column - 1


def _damaged(name: str) -> BadInput:
    return _stop(
        "ICP-E014", "is not a readable Excel workbook", "save it in Excel again, or save the sheet as CSV UTF-8", name
    )


def _stop(code: str, message: str, fix: str, name: str) -> BadInput:
    return BadInput(Problem(code, message, fix, name))
