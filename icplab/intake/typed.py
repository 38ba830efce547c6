"""Reads the text of a table, makes its declared types; every cell that does not fit is named, none is guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from functools import partial

import numpy as np
import pandas as pd

from icplab.core.config import Settings, Source
from icplab.core.schema import DTYPES, Column, Table
from icplab.intake.batch import Batch, listed, shown_text, toml_text
from icplab.intake.coded import EVENTS, Packed, Words, from_codes, in_one, is_coded, recoded
from icplab.intake.dates import type_dates
from icplab.intake.memory import give_back
from icplab.intake.plain import PIECE, found_in, plain_numbers, plain_text

_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_MANGLED_ID = r"\d\.\d+E\+\d+"
_SIGN = "[$€£¥₹]"
_SYMBOLS = rf"{_SIGN}|^[A-Z]{{3}}(?=[\s\d-])|(?<=[\s\d])[A-Z]{{3}}$"
# Letters of one word from the Latin and from the Greek or Cyrillic alphabet.
_MIXED_SCRIPT = re.compile("[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]")
LONGEST_LIST = 500  # characters; longer cells with semicolons are prose
MOST_VALUES = 12  # unmapped values listed with a line to copy for each
_RANGE = r"\d+\s?[-–]\s?\d+"
_WORDS_OF_NO_NUMBER = ("inf", "infinity", "nan", "+inf", "-inf", "+infinity", "-infinity")
_SIGN_OFF = "currency sign taken off"
TRUE = frozenset({"true", "yes", "1", "y", "t"})
FALSE = frozenset({"false", "no", "0", "n", "f"})


LARGEST = 1e15  # from here on a number of 64 bits does not tell cents apart, and no business has such a figure
# What a spreadsheet shows in place of a value that it could not work out; never a level of a trait.
SHEET_ERRORS = ("#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!")


def type_batch(batch: Batch, settings: Settings) -> None:
    """Replace the text of every declared column by its declared type; further columns stay text, trimmed.

    Cells that are listed as missing become null. Problems go to the batch; their cells become null and their rows stop.
    """
    source, index = settings.source(batch.table.name), batch.frame.index
    makes: dict[str, Callable[[Batch], pd.Series]] = {
        c.name: partial(_type_column, column=c, source=source, settings=settings) for c in batch.table.columns
    }
    for name in batch.frame.columns.difference(list(makes), sort=True):
        makes[str(name)] = partial(_clean_text, name=str(name), source=source)
    typed = {}
    for name, make in makes.items():
        if name not in batch.frame:
            typed[name] = _absent(batch.table, name, index)
            continue
        given = batch.frame[name]
        made = _by_word(batch, name, make)
        batch.frame = batch.frame.drop(columns=name)  # its text is let go before the next column is typed
        if len(given) > PIECE and given.dtype == "str":
            typed[name], batch.text[name] = in_one(made), Packed(given)
            del given, made
            give_back()
        else:
            typed[name] = made
            del given, made
    batch.frame = pd.DataFrame(typed, index=index, copy=False)
    if len(index) > PIECE:
        give_back()
    for name, factor in source.multiply.items():
        if name in batch.frame and batch.frame[name].dtype == "float64":
            batch.frame[name] = batch.frame[name] * factor
        else:
            message = "is not a column of numbers to multiply"
            batch.say("ICP-E100", message, fix=f"correct [sources.{batch.table.name}] multiply", column=name)


def _absent(table: Table, name: str, index: pd.Index) -> pd.Series:
    """A column that the export does not have: null in all records; of large tables with little memory for each of them."""
    dtype = DTYPES[table.by_name[name].kind]
    if len(index) <= PIECE or table.name not in EVENTS or dtype not in ("str", "float64") or name in table.key:
        return pd.Series(index=index, dtype=dtype)
    if dtype == "str":
        return from_codes(np.full(len(index), -1, dtype=np.int8), []).set_axis(index)
    return pd.Series(np.broadcast_to(np.float64("nan"), len(index)), index=index, copy=False)


def _by_word(batch: Batch, name: str, make: Callable[[Batch], pd.Series]) -> pd.Series:
    """A column typed by `make`; of a coded column each distinct word once."""
    if not is_coded(batch.frame[name]):
        return make(batch)
    return recoded(batch.frame[name], make(Words(batch, name)))


def _type_column(batch: Batch, column: Column, source: Source, settings: Settings) -> pd.Series:
    if column.kind == "date":
        return type_dates(batch, column, _trimmed(batch, column.name, source), source, settings.calendar)
    if column.kind == "flag":
        return _flags(batch, column, _trimmed(batch, column.name, source))
    if DTYPES[column.kind] == "float64":
        return _numbers(batch, column, _trimmed(batch, column.name, source), source)
    if column.allowed:
        return _allowed(batch, column, batch.frame[column.name], source)
    text = _clean_text(batch, column.name, source)
    return _ids(batch, column, text) if column.kind == "id" else text


def _trimmed(batch: Batch, name: str, source: Source) -> pd.Series:
    """Text without outer white space, missing words as null."""
    plain = plain_text(batch.frame[name], source.missing)
    if plain is not None:
        return plain
    return _without_missing(batch, name, _visible(batch, name, batch.frame[name].str.strip()), source.missing)


def _visible(batch: Batch, name: str, text: pd.Series) -> pd.Series:
    """Text without invisible characters, which no date, number or yes/no is written with."""
    unseen = [u for u in text[~text.str.isascii()].unique() if _INVISIBLE.search(u)]
    if not unseen:
        return text
    changed = text.isin(unseen)
    message = "outer white space or invisible characters removed"
    batch.note(changed, "ICP-R081", message, column=name, only_live=True)
    cleaned = {u: _INVISIBLE.sub("", u).strip() for u in unseen}
    return text.map(cleaned).where(changed, text).astype("str")


def _without_missing(batch: Batch, name: str, text: pd.Series, missing: Collection[str]) -> pd.Series:
    """Text with words that stand for nothing as null; words other than a blank are counted in a note."""
    blank = text == ""
    words = text.isin(missing) & ~blank
    message = "stands for a missing value; taken as empty"
    batch.note(words, "ICP-R075", message, column=name, only_live=True)
    return text.mask(words | blank)


def _clean_text(batch: Batch, name: str, source: Source) -> pd.Series:
    """Trimmed text in one Unicode form without invisible characters; changed cells are counted."""
    given, missing = batch.frame[name], (*source.missing, *SHEET_ERRORS)
    plain = plain_text(given, missing, lists=name not in batch.table.by_name)
    if plain is not None:
        return plain
    text = given.str.strip()
    changed = {u: _one_form(u) for u in text[~text.str.isascii()].unique()}
    changed = {u: c for u, c in changed.items() if u != c}
    if changed:
        text = text.map(changed).where(text.isin(list(changed)), text).astype("str")
    message = "outer white space or invisible characters removed"
    batch.note(text != given, "ICP-R081", message, column=name, only_live=True)
    _note_lookalikes(batch, name, text)
    if name not in batch.table.by_name:
        text = _without_doubles(batch, name, text)
    return _without_missing(batch, name, text, missing)


def _note_lookalikes(batch: Batch, name: str, text: pd.Series) -> None:
    """Words of Latin letters with Greek or Cyrillic ones among them look like another word and are not."""
    mixed = [u for u in text[~text.str.isascii()].unique() if _MIXED_SCRIPT.search(u)]
    if mixed:
        message = "mixes letters of two alphabets that look alike; kept as it is"
        fix = "type the word again in the CRM"
        batch.note(text.isin(mixed), "ICP-W081", message, fix=fix, column=name, only_live=True)


def _without_doubles(batch: Batch, name: str, text: pd.Series) -> pd.Series:
    """Lists (a;b) with every member once, and without blank ones; the order of members stays."""
    lists = [u for u in text[text.str.contains(";", regex=False)].unique() if len(u) <= LONGEST_LIST]
    changed = {u: c for u in lists if (c := _members_once(u)) != u}
    if not changed:
        return text
    doubled = text.isin(list(changed))
    message = "members that stand twice in a list, or are blank, taken once"
    batch.note(doubled, "ICP-R078", message, column=name, only_live=True)
    return text.map(changed).where(doubled, text).astype("str")


def _members_once(text: str) -> str:
    """The list as it is when its members are distinct and filled, else its distinct members."""
    members = [m.strip() for m in text.split(";")]
    once = list(dict.fromkeys(m for m in members if m))
    return text if len(once) == len(members) else ";".join(once)


def _one_form(text: str) -> str:
    """Composed Unicode, no-break spaces as spaces, no invisible or direction-changing characters."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFC", text).replace("\u00a0", " ")).strip()


def _ids(batch: Batch, column: Column, text: pd.Series) -> pd.Series:
    """Identifiers exactly as written; `123.0` of a numeric export becomes `123`, spreadsheet damage stops."""
    if not found_in(text, [b"."]):
        return text
    fix = "export again without opening the file in a spreadsheet"
    batch.note(
        _matches(text, _MANGLED_ID),
        "ICP-E040",
        "is an identifier damaged by a spreadsheet",
        fix=fix,
        column=column.name,
    )
    decimal = _matches(text, r"\d+\.0")
    if decimal.any() and _matches(text, r"\d+(\.0)?")[text.notna()].all():
        batch.note(decimal, "ICP-R041", "identifier written as a decimal number; .0 removed", column=column.name)
        return text.str.replace(r"\.0$", "", regex=True)
    return text


def _allowed(batch: Batch, column: Column, given: pd.Series, source: Source) -> pd.Series:
    """Values of a closed list, exactly as declared; others stop until they are mapped."""
    words = {*given.unique()}
    if words <= {*column.allowed, ""} and words.isdisjoint(w for w in source.missing if w):
        return given.mask(given == "") if "" in words else given
    blank = given.str.strip().isin(source.missing) | (given.str.strip() == "")
    text = given.mask(blank)
    unknown = text.notna() & ~text.isin(column.allowed)
    if unknown.any():
        note_unmapped(batch, column.name, unknown, column.allowed)
    return text.mask(unknown)


def note_unmapped(batch: Batch, name: str, unknown: pd.Series, allowed: tuple[str, ...]) -> None:
    """Stop on values outside a closed list: all of them with counts, and a block for `icplab.toml` to start from."""
    counts = batch.count_values(name, unknown).sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    said = listed((f'"{shown_text(v)}" ({n:,}×)' for v, n in counts.items()), MOST_VALUES)
    guesses = [f'{toml_text(v)} = "{_guess(str(v), allowed)}"' for v in counts.index[:MOST_VALUES]]
    message = f"is not one of {', '.join(allowed)}. Unmapped values: {said}."
    fix = f"say what they mean in icplab.toml:\n  [values.{batch.table.name}.{name}]\n  " + "\n  ".join(guesses)
    batch.note(unknown, "ICP-E076", message, fix=fix, column=name, shown=batch.frame[name])


def _guess(value: str, allowed: tuple[str, ...]) -> str:
    """The allowed word that a value says itself, else a blank to fill in."""
    said = [a for a in allowed if re.search(rf"\b{a}\b", value.lower())]
    return said[0] if len(said) == 1 else "…"


def _flags(batch: Batch, column: Column, text: pd.Series) -> pd.Series:
    lower = text.str.lower()
    flag = pd.Series(pd.NA, index=text.index, dtype="boolean")
    flag[lower.isin(TRUE)] = True
    flag[lower.isin(FALSE)] = False
    fix = f"write yes or no, or map it in [values.{batch.table.name}.{column.name}]"
    batch.note(text.notna() & flag.isna(), "ICP-E076", "is neither yes nor no", fix=fix, column=column.name)
    return flag


def _numbers(batch: Batch, column: Column, text: pd.Series, source: Source) -> pd.Series:
    """Numbers in the declared notation; symbols and brackets are taken off with a note."""
    read = plain_numbers(text, source.decimal, source.thousands)
    if read is not None and not (read[0].abs() >= LARGEST).any():
        number, signed = read
        batch.note(signed, "ICP-R065", _SIGN_OFF, column=column.name)
        return _checked_people(batch, column, _as_rate(batch, column, number, text))
    if source.thousands in _SPACES:
        text = text.str.replace(_ANY_SPACE, source.thousands, regex=True)
    odd = text.notna() & ~_matches(text, _notation(source))
    fits = text.notna() & ~odd
    if odd.any():
        text = text.where(~odd, _repaired(batch, column, text.where(odd), source))
        fits |= odd & _matches(text, _notation(source))
    plain = text.where(fits)
    if source.thousands:
        plain = plain.str.replace(source.thousands, "", regex=False)
    if source.decimal != ".":
        plain = plain.str.replace(source.decimal, ".", regex=False)
    number = _parsed(plain)
    _note_odd(batch, column, text, text.notna() & ~fits, source)
    endless = (number.abs() >= LARGEST).to_numpy()
    batch.note(endless, "ICP-E069", "is larger than any figure can be", fix="correct the cell", column=column.name)
    return _checked_people(batch, column, _as_rate(batch, column, number.mask(endless), text))


def _parsed(text: pd.Series) -> pd.Series:
    """Numbers in Python's notation; what is beyond all numbers becomes infinite."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        number = pc.cast(pa.array(text, type=pa.large_string()), pa.float64())
    except pa.ArrowInvalid:  # a sign before the number, or more than a number can be
        return pd.to_numeric(text, errors="coerce").astype("float64")
    return pd.Series(number.to_numpy(zero_copy_only=False), index=text.index)


# A thousands sign that is a space may be exported as any of these.
_SPACES = frozenset("  \u202f\u2009")
_ANY_SPACE = "[\u00a0\u202f\u2009 ]"


def _notation(source: Source) -> str:
    """Regular expression of a number as declared."""
    point = re.escape(source.decimal)
    whole = r"\d+"
    if source.thousands:
        whole = rf"(\d{{1,3}}({re.escape(source.thousands)}\d{{3}})+|\d+)"
    return rf"[+-]?({whole}({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"


def _repaired(batch: Batch, column: Column, text: pd.Series, source: Source) -> pd.Series:
    """Text of odd cells after what can be taken off without doubt; each kind of repair is noted."""
    name = column.name
    signed = _matches(text, rf"{_SIGN}({_notation(source)})")  # the usual case, told without a slow expression
    rest = text[text.notna() & ~signed]
    symbol = signed | rest.str.contains(_SYMBOLS, regex=True).astype(bool).reindex(text.index, fill_value=False)
    bare = rest.str.replace(_SYMBOLS, "", regex=True).str.strip()
    bracket = _matches(bare, r"\(.*\)") | _matches(bare, r"[^-]*-")
    bare = bare.mask(bracket, "-" + bare.str.strip("()-").str.strip())
    percent = _matches(bare, r".*%") & (column.kind == "rate")
    bare = bare.mask(percent, bare.str.rstrip("%").str.strip())
    good = signed | _matches(bare, _notation(source)).reindex(text.index, fill_value=False)
    bare = text.str.slice(1).where(signed, bare.reindex(text.index))
    bracket = bracket.reindex(text.index, fill_value=False)
    good &= ~_several_currencies(batch, column, text, symbol & good)
    batch.note(symbol & good, "ICP-R065", _SIGN_OFF, column=name)
    batch.note(bracket & good, "ICP-R066", "brackets or a trailing minus read as negative", column=name)
    bands = _matches(text, _RANGE) if name == "employees" else pd.Series(False, index=text.index)
    if bands.any():
        ends = text.where(bands).str.extract(r"(\d+)\s?[-–]\s?(\d+)").astype("float64")
        middle = (ends[0].clip(lower=1) * ends[1]).pow(0.5).round()
        bare = bare.mask(bands, middle.map("{:.0f}".format))
        batch.note(bands, "ICP-R071", "a range of employees taken as its geometric middle", column=name)
        good |= bands
    return bare.where(good, text)


def _several_currencies(batch: Batch, column: Column, text: pd.Series, signed: pd.Series) -> pd.Series:
    """Cells of a column in which signs of several currencies stand, and no column says which (ICP-E065)."""
    none = pd.Series(False, index=text.index)
    if not signed.any() or "currency" in batch.text:
        return none
    signs = text[signed].str.slice(0, 1).unique()
    if len(signs) > 1 or not re.fullmatch(_SIGN, signs[0]):
        signs = text[signed].str.extract(f"({_SYMBOLS})", expand=False).unique()
    if len(signs) < 2:
        return none
    message = (
        f"amounts carry several currency signs ({', '.join(sorted(map(str, signs)))}) and no column names the currency"
    )
    fix = f"export the currency too, as column currency of {batch.table.name}"
    batch.note(signed, "ICP-E065", message, fix=fix, column=column.name)
    return signed


def _note_odd(batch: Batch, column: Column, text: pd.Series, odd: pd.Series, source: Source) -> None:
    """Name cells that are no numbers, by what they look like."""
    if not odd.any():
        return
    name, where = column.name, f"[sources.{batch.table.name}]"
    endless = odd & text.str.lower().isin(_WORDS_OF_NO_NUMBER)
    batch.note(endless, "ICP-E069", "is not a finite number", fix="leave the cell empty", column=name)
    suffixed = odd & _matches(text, r"[^\d]*[\d.,]+\s?[kKmMbB][nN]?")
    batch.note(suffixed, "ICP-E068", "is abbreviated", fix="export the full number", column=name)
    percent = odd & _matches(text, r".*%")
    batch.note(
        percent, "ICP-E067", "is a percentage where a plain number belongs", fix="export the number", column=name
    )
    other = odd & ~(endless | suffixed | percent | pd.Series(batch.stopped, index=text.index))
    fix = f'declare the notation in {where}: decimal = "{source.decimal}", thousands = "…"; or correct the cell'
    if _matches(text, r"\D*\d{1,3}(,\d{3})+(\.\d+)?\D*")[other].any():
        fix = f'if "," separates thousands, declare thousands = "," in {where}'
    elif _matches(text, r"\D*[\d.]*,\d+\D*")[other].any():
        fix = f'if "," is the decimal sign, declare decimal = "," (and thousands = ".") in {where}'
    message = "is not a number in the declared notation"
    batch.note(other, "ICP-E064", message, fix=fix, column=name, only_live=True)


def _as_rate(batch: Batch, column: Column, number: pd.Series, text: pd.Series) -> pd.Series:
    """Fractions; a column written in per cent throughout is divided by 100, a mixture stops."""
    if column.kind != "rate":
        return number
    given = batch.frame[column.name].str.strip()
    percent = number.notna() & _matches(given, r".*%")
    if percent.any() and not percent[number.notna()].all():
        message = "percentages and fractions are mixed in this column"
        batch.note(percent, "ICP-E067", message, fix="export one kind", column=column.name)
        return number
    batch.note(percent, "ICP-R067", "percentage read as a fraction", column=column.name)
    rate = number / 100 if percent.any() else number
    outside = (rate > 1) | (rate < 0)
    batch.note(
        outside, "ICP-E073", "is not between 0 and 1", fix="give a fraction such as 0.72, or 72%", column=column.name
    )
    return rate.mask(outside)


def _checked_people(batch: Batch, column: Column, number: pd.Series) -> pd.Series:
    """Numbers of employees below one are unknown, not small."""
    if column.name != "employees":
        return number
    none = number < 1
    batch.note(none, "ICP-R071", "employees below 1 taken as unknown", column=column.name)
    return number.mask(none)


def _matches(text: pd.Series, pattern: str) -> pd.Series:
    """Whether each cell matches entirely; null does not."""
    return text.str.fullmatch(pattern).fillna(False).astype(bool)
