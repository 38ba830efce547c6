"""Reads the text of a table on its way in, makes its identities sound: deleted and merged records, ids, links by name.

Source of the 18-character form of Salesforce ids: each block of five characters gives one letter of the suffix, whose bits
say which of the five are capitals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.schema import CANONICAL, Table
from icplab.intake.batch import Batch, is_among
from icplab.intake.coded import blanked, decoded, from_codes, is_coded
from icplab.intake.layouts.declare import Link
from icplab.intake.mapping import Native
from icplab.intake.typed import TRUE

_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"))
# First three characters of the ids of standard objects, by the canonical table whose key they are.
PREFIXES = {
    "accounts": "001",
    "opportunities": "006",
    "contacts": "003",
    "leads": "00Q",
    "campaigns": "701",
    "owners": "005",
}
HOLDS = 0.5  # share of ids in the Salesforce form from which a column is taken to hold Salesforce ids
CASED_LEAST = 10  # 15-character ids with letters from which a column without small letters has lost them
ALL_ROUND = 0.5  # share of ids beyond 15 digits that end in zeros from which they were rounded
LONGEST_CHAIN = 64  # mergers followed before a chain counts as a loop


def settle_identity(batch: Batch, earlier: dict[str, Batch], natives: list[Native | None]) -> None:
    """Set deleted records aside, bring ids to one form, follow mergers, and fill links that are only given by name.

    `earlier` are the tables read before this one; links point to them or to the table itself.
    """
    _set_deleted_aside(batch)
    _check_named_keys(batch)
    for name in _id_columns(batch.table):
        if name in batch.frame:
            _look_at_ids(batch, name)
    for name in ("~master", "~merged"):
        if name in batch.parts:
            _collect_mergers(batch, name)
    for number, native in enumerate(natives):
        for link in native.feed.links if native else ():
            _fill_link(batch, link, {**earlier, batch.table.name: batch}, batch.file == number)
    _follow_mergers(batch, earlier)
    _tell_choices(batch)


def full_ids(ids: pd.Series) -> pd.Series:
    """15-character Salesforce ids with the three letters that make them safe against a change of case."""
    text = ids.astype("str").str.slice(0, 15)
    letters = np.array(text.tolist(), dtype="U15").view("U1").reshape(len(text), 15)
    capital = (letters >= "A") & (letters <= "Z")
    blocks = capital.reshape(len(text), 3, 5) @ (1 << np.arange(5))
    suffix = pd.Series(["".join(s) for s in _LETTERS[blocks]], index=ids.index, dtype="str")
    return text + suffix


def _id_columns(table: Table) -> list[str]:
    """Columns that identify a record of this or another table."""
    return [c.name for c in table.columns if c.kind == "id" or c.references or c.name == "owner"]


def _set_deleted_aside(batch: Batch) -> None:
    """Records in the recycle bin, or merged into another: left out; only their key stays, so that links can be followed."""
    if "~deleted" not in batch.parts:
        return
    deleted = batch.parts["~deleted"].str.strip().str.lower().isin(TRUE).to_numpy()
    if deleted.any():
        batch.note(deleted, "ICP-R045", "deleted or merged in the CRM: left out")
        batch.set_aside(deleted, "ICP-R045", "deleted or merged in the CRM")
        for name in batch.frame.columns.difference(list(batch.table.key)):
            batch.frame[name] = blanked(batch.frame[name], deleted)


def _check_named_keys(batch: Batch) -> None:
    """A report without ids is keyed by name: said, and stopped where a name stands for several records (ICP-E042)."""
    if "~by_name" not in batch.parts:
        return
    key, table = batch.table.key[0], batch.table.name
    named = (batch.parts["~by_name"] == "yes").to_numpy() & ~batch.aside
    batch.note(named, "ICP-R044", f"the export has no id of its {table}: records are told apart by name", column=key)
    again = batch.frame[named].drop_duplicates()[key].str.strip().duplicated(keep=False)
    doubtful = named & batch.frame.index.isin(again.index[again])
    fix = f"add the id of the {_one(table)} to the export: names do not tell them apart"
    batch.note(doubtful, "ICP-E042", f"is the name of several {table}, and the export has no id", fix=fix, column=key)


def _look_at_ids(batch: Batch, name: str) -> None:
    """Check a column of ids for what its lengths and first characters allow: most columns need no closer look."""
    text = batch.frame[name]
    lengths = set(text.str.len().unique())
    if max(lengths, default=0) > 15 or (len(lengths - {0}) > 1 and text.str.startswith("0").any()):
        _note_spreadsheet(batch, name)
    if any(15 <= length <= 20 for length in lengths):  # with spaces around it
        batch.frame[name] = _salesforce_ids(batch, name)


def _note_spreadsheet(batch: Batch, name: str) -> None:
    """Ids of digits that a spreadsheet rounded to 15 places, or whose leading zeros it took off (ICP-E040)."""
    codes, values = pd.factorize(batch.frame[name])
    words = pd.Series(values, dtype="str").str.strip()
    digits = words.str.fullmatch(r"\d+")
    if not digits.any():
        return
    rounded = words.str.fullmatch(r"[1-9]\d{14}0+")
    long = words.str.fullmatch(r"[1-9]\d{15,}")
    fix = "export again without opening the file in a spreadsheet"
    if rounded.any() and rounded.sum() > ALL_ROUND * long.sum():  # of true ids one in ten ends in 0
        spread = np.append(rounded.to_numpy(), False)[codes]
        batch.note(spread, "ICP-E040", "ends in zeros after 15 digits: a spreadsheet rounded it", fix=fix, column=name)
    width = words[digits].str.len()
    usual = int(width.mode().iloc[0])
    padded = digits & words.str.startswith("0") & words.str.len().eq(usual)
    short = digits & words.str.len().lt(usual) & ~words.str.startswith("0")
    if padded.sum() > 1 and words[digits].str.len().le(usual).all():
        spread = np.append(short.to_numpy(), False)[codes]
        message = f"is shorter than the {usual} digits of the others, some of which begin with 0: it lost its zeros"
        batch.note(spread, "ICP-E040", message, fix=fix, column=name)


def _tell_choices(batch: Batch) -> None:
    """What a layout chose where the export says a thing twice."""
    live = ~batch.aside
    for part, code, message, column in (
        (
            "~is_converted",
            "ICP-R065",
            "the amount as the CRM converted it is used, not the one in its own currency",
            "amount",
        ),
        (
            "~several_account_id",
            "ICP-R044",
            "belongs to several companies: the first, which is the primary one",
            "account_id",
        ),
        ("~several_contact_id", "ICP-R044", "belongs to several people: the first", "contact_id"),
    ):
        if part in batch.parts:
            batch.note((batch.parts[part] == "yes").to_numpy() & live, code, message, column=column)


def _salesforce_ids(batch: Batch, name: str) -> pd.Series:
    """A column of ids in the 18-character form, when it holds Salesforce ids; damaged ones stop (ICP-E039)."""
    given = batch.frame[name]
    if not _any_long(given):
        return given
    codes, values = pd.factorize(given)
    words = pd.Series(values, dtype="str").str.strip()
    short, long = words.str.fullmatch("[A-Za-z0-9]{15}"), words.str.fullmatch("[A-Za-z0-9]{18}")
    sound = long.copy()
    if long.any():
        sound[long] = full_ids(words[long]).eq(words[long])
    target = next((c.references.split(".")[0] for c in batch.table.columns if c.name == name and c.references), "")
    target = target or ("owners" if name == "owner" else batch.table.name)
    prefixed = words.str.upper().str.startswith(PREFIXES.get(target, "0").upper())
    plausible, marked = short & prefixed, long & prefixed & words.str.fullmatch("(?i).{15}[A-Z0-5]{3}")
    filled = (words != "").sum()
    if not filled or (sound | plausible | marked).sum() < HOLDS * filled:
        return given
    _note_damaged(batch, name, codes, words, short, long & ~sound)
    new = words.copy()
    new[plausible] = full_ids(words[plausible])
    if plausible.any():
        mask = np.append(plausible.to_numpy(), False)[codes]
        batch.note(mask, "ICP-R038", "15-character id brought to the 18-character form", column=name)
    if is_coded(given):
        places, distinct = pd.factorize(new)  # two forms of an id are one word now
        return from_codes(places[codes], distinct).set_axis(given.index)
    return pd.Series(new.to_numpy()[codes], index=given.index, dtype="str")


def _any_long(ids: pd.Series) -> bool:
    """Whether any id is long enough to be a Salesforce id."""
    words = ids.cat.categories if isinstance(ids.dtype, pd.CategoricalDtype) else ids
    return bool((words.str.len() >= 15).any())


def _note_damaged(
    batch: Batch, name: str, codes: np.ndarray, words: pd.Series, short: pd.Series, wrong: pd.Series
) -> None:
    """Ids whose letters have lost their case, or whose last three characters do not belong to them."""
    fix = "export the ids again and do not change their case; take the 18-character id where there is one"
    spread = np.append(wrong.to_numpy(), False)[codes]
    message = "is a Salesforce id whose last three characters do not fit the others: its letters were changed"
    batch.note(spread, "ICP-E039", message, fix=fix, column=name)
    tail = words[short].str.slice(3)
    lettered = tail[tail.str.contains("[A-Za-z]")]
    if len(lettered) >= CASED_LEAST and (
        lettered.eq(lettered.str.upper()).all() or lettered.eq(lettered.str.lower()).all()
    ):
        spread = np.append(short.to_numpy(), False)[codes]
        message = "is a 15-character Salesforce id without a letter in the other case: all ids were changed to one case"
        batch.note(spread, "ICP-E039", message, fix=fix, column=name)


def _collect_mergers(batch: Batch, part: str) -> None:
    """Which keys were merged into which: said by the loser (Salesforce) or by the winner (HubSpot)."""
    key = batch.frame[batch.table.key[0]].str.strip()
    text = batch.parts[part].str.strip()
    told = text[text != ""]
    if part == "~master":
        pairs = pd.DataFrame({"old": key[told.index], "new": _like(told, key)})
    else:
        old = told.str.split(r"[;,]", regex=True).explode().str.strip()
        pairs = pd.DataFrame({"old": old, "new": key[old.index]})
    pairs = pairs.sort_values(["old", "new"])
    pairs = pairs[(pairs["old"] != "") & (pairs["old"] != pairs["new"])].drop_duplicates("old")
    batch.merged |= dict(zip(pairs["old"], pairs["new"], strict=True))
    _note_loops(batch, key)


def _like(ids: pd.Series, key: pd.Series) -> pd.Series:
    """Ids in the form that the key has: 18 characters where it has them."""
    short = ids.str.fullmatch("[A-Za-z0-9]{15}")
    if not short.any() or not key.str.len().eq(18).any():
        return ids
    return ids.mask(short, full_ids(ids.where(short, "0" * 15)))


def _note_loops(batch: Batch, key: pd.Series) -> None:
    """A chain of mergers that comes back to itself has no survivor (ICP-E045)."""
    walk = pd.Series(batch.merged, dtype="str")
    for _ in range(LONGEST_CHAIN):
        walk = walk.map(batch.merged).dropna()
        if walk.empty:
            return
    fix = "break the loop in the CRM, or delete the records merged away from the export"
    loop = key.isin(list(walk.index)).to_numpy()
    batch.aside[loop] = False
    batch.note(
        loop, "ICP-E045", "its mergers come back to itself: no record is left", fix=fix, column=batch.table.key[0]
    )
    for old in walk.index:
        batch.merged.pop(old, None)


def _follow_mergers(batch: Batch, earlier: dict[str, Batch]) -> None:
    """Every column that points to a merged record points to the one it was merged into."""
    for column in batch.table.columns:
        target = column.references.partition(".")[0]
        home = batch if target == batch.table.name else earlier.get(target)
        if home is None or not home.merged or column.name not in batch.frame:
            continue
        given = batch.frame[column.name]
        found = given.isin(list(home.merged))
        if not found.any():
            continue
        text = decoded(given)
        for _ in range(LONGEST_CHAIN):
            if not text.isin(list(home.merged)).any():
                break
            text = text.map(home.merged).where(text.isin(list(home.merged)), text)
        batch.frame[column.name] = text.astype("str")
        message = f"points to a record of {target} merged into another: follows it there"
        batch.note(found & ~batch.aside, "ICP-R045", message, column=column.name)


def _fill_link(batch: Batch, link: Link, tables: dict[str, Batch], mine: np.ndarray) -> None:
    """Fill blank links of one file from a record found by another id or by name; names must be unique (ICP-E044)."""
    part = batch.frame[link.part] if link.part in batch.frame else batch.parts.get(link.part)
    table, column = link.match.split(".")
    home = tables.get(table)
    if part is None or link.column not in batch.frame:
        return
    part = decoded(part).str.strip()
    blank = (batch.frame[link.column].str.strip() == "") & (part != "") & mine & ~batch.aside
    if not blank.any() or home is None:
        return
    batch.frame[link.column] = decoded(batch.frame[link.column])
    by_name = column in ("name", "~name")
    if not by_name:
        part = _like(part, home.frame[column].dropna().astype("str"))
    known = _lookup(home, column, link.take)
    if by_name:
        doubtful = blank & is_among(part, pd.Series(known.index[known.index.duplicated()].unique(), dtype="str"))
        fix = f"add the id of the {_one(table)} to the export: names do not tell them apart"
        message = f"is the name of several records of {table}, and the export has no id"
        batch.note(doubtful, "ICP-E044", message, fix=fix, column=link.column, shown=part)
    found = part.map(known[~known.index.duplicated()])
    hit = blank & found.notna()
    batch.frame[link.column] = batch.frame[link.column].mask(hit, found).astype("str")
    if by_name:
        batch.note(hit, "ICP-R044", f"linked to {table} by name, for want of an id", column=link.column, shown=part)
        missed = blank & ~hit & (link.column in CANONICAL[batch.table.name].required_columns)
        batch.frame[link.column] = batch.frame[link.column].mask(missed, part).astype("str")


def _lookup(home: Batch, column: str, take: str) -> pd.Series:
    """What a record is to be called, by what it is found by; records left out are not found."""
    by = home.parts[column] if column in home.parts else home.frame.get(column)
    if by is None or take not in home.frame:
        return pd.Series(dtype="str")
    frame = pd.DataFrame({"by": by.str.strip(), "take": home.frame[take]})[
        ~home.aside & ~home.stopped & ~home.duplicate
    ]
    frame = frame[frame["by"].notna() & (frame["by"] != "") & frame["take"].notna() & (frame["take"] != "")]
    return frame.drop_duplicates().set_index("by")["take"]


def _one(table: str) -> str:
    return {"opportunities": "opportunity"}.get(table, table.removesuffix("s"))
