"""Reads short declarations of native exports, makes objects and feeds: which export column fills which canonical column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from icplab.intake.records import plain_name

_CUSTOM = re.compile(r"__p?c$", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """Fill `column` where it is blank: look `part` up in `match` (table.column) and take `take` of the same record."""

    column: str
    part: str
    match: str
    take: str


@dataclass(frozen=True)
class Feed:
    """How one native object fills one canonical table.

    `columns` maps a canonical column, or a part (`~name`, used on the way in and then dropped), to export names, best first;
    `merged` names the columns that take the first filled cell of all their export names. `needs` are columns without which
    the feed does not apply. `reshape` names a step of `shape` that turns records into the rows of this table.
    """

    table: str
    columns: Mapping[str, tuple[str, ...]]
    merged: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    reshape: str = ""
    keep: tuple[str, tuple[str, ...]] = ("", ())
    """Only records whose column holds one of these words belong to this table."""


@dataclass(frozen=True)
class Object:
    """One kind of export of one CRM: how it is recognised and which tables it feeds.

    `signs` are sets of column names (plain); a header that holds all of one set is this object, unless it holds one of
    `without`. `aside` matches plain names of columns that are never traits.
    """

    system: str
    name: str
    files: tuple[str, ...]
    signs: tuple[frozenset[str], ...]
    without: frozenset[str]
    feeds: tuple[Feed, ...]
    aside: re.Pattern
    known: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {plain(n) for feed in self.feeds for many in feed.columns.values() for n in many}
        object.__setattr__(self, "known", frozenset(names | {n for s in self.signs for n in s}))

    @property
    def title(self) -> str:
        return f"{self.system} {self.name}"


def plain(name: str) -> str:
    """The plain form of a column name, without the ending that marks custom fields of Salesforce."""
    return plain_name(_CUSTOM.sub("", name.strip()))


def is_custom(name: str) -> bool:
    """Whether a column is a custom field of Salesforce by its API name."""
    return bool(_CUSTOM.search(name.strip()))


def trait_name(name: str) -> str:
    """The name a further column goes by: API names of custom fields without their ending."""
    return _CUSTOM.sub("", name)


def feed(table: str, block: str, **rest: object) -> Feed:
    """A feed from lines `column : Export Name | other name`; `&` instead of `|` takes the first filled cell of all."""
    columns, merged = {}, set()
    for line in filter(None, (raw.strip() for raw in block.splitlines())):
        name, names = (part.strip() for part in line.split(" : ", 1))
        if " & " in names:
            merged.add(name)
        columns[name] = tuple(n.strip() for n in re.split(r" [|&] ", names))
    return Feed(table, columns, frozenset(merged), **rest)  # type: ignore[arg-type]


def native_object(
    system: str, name: str, feeds: Iterable[Feed], *, files: str, signs: Iterable[str], aside: str, without: str = ""
) -> Object:
    """An object from its signs (`Id + StageName`) and a pattern of the plain names that are never traits."""
    sets = tuple(frozenset(plain(n) for n in sign.split("+")) for sign in signs)
    never = frozenset(plain(n) for n in without.split("|") if n.strip())
    return Object(system, name, tuple(files.split()), sets, never, tuple(feeds), re.compile(aside, re.VERBOSE))


def words(block: str) -> dict[str, str]:
    """Values from lines `canonical : exported, exported`, keyed by the plain form of the exported word."""
    found: dict[str, str] = {}
    for line in filter(None, (raw.strip() for raw in block.splitlines())):
        canonical, exported = line.split(" :", 1)
        found |= {plain_name(word): canonical.strip().strip('"') for word in exported.split(",")}
    return found
