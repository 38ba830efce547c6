"""Reads `glossary.toml` and a finished page, makes the page's glossary and links each term where it first occurs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "glossary.toml"
PLACE = "<!--glossary-->"
# Tags with quoted attributes, which may hold any character but their quote.
_TAG = re.compile(r"""(<(?:[^<>"']|"[^"]*"|'[^']*')*>)""")
_NAME = re.compile(r"<(/?)([a-zA-Z0-9]+)")
PROSE = frozenset({"p", "li", "dd"})
# Text inside these stays as it is: addresses, code, headings, labels.
KEPT = frozenset("a code pre kbd h1 h2 h3 h4 h5 h6 summary th td caption style title script nav footer header".split())


@dataclass(frozen=True)
class Term:
    """An entry: how it is named, which spellings are linked, what it means and does not show."""

    id: str
    term: str
    words: tuple[str, ...]
    means: str
    not_shown: str
    always: bool


@cache
def read_glossary() -> tuple[Term, ...]:
    """All entries in order."""
    entries = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    return tuple(_term(name, entry) for name, entry in entries.items())


def _term(name: str, entry: dict[str, Any]) -> Term:
    return Term(
        id=f"g-{name.replace('_', '-')}",
        term=entry["term"],
        words=tuple(entry["words"]),
        means=entry["means"],
        not_shown=entry["not_shown"],
        always=entry.get("always", False),
    )


def with_glossary(html: str) -> str:
    """The page with a glossary where `PLACE` stands: terms of every page, and those that occur in its prose, each linked
    where it occurs first. Text of the data is only ever wrapped in a link, never read as markup."""
    if PLACE not in html:
        return html
    parts = _TAG.split(html)
    found: set[str] = set()
    inside: list[str] = []
    for i, part in enumerate(parts):
        if part.startswith("<"):
            _follow(part, inside)
        elif part.strip() and PROSE & set(inside) and not KEPT & set(inside):
            parts[i] = _linked(part, found)
    shown = [t for t in read_glossary() if t.always or t.id in found]
    return "".join(parts).replace(PLACE, _section(shown), 1)


def _follow(tag: str, inside: list[str]) -> None:
    """Keep the list of elements that are open; only those that matter, so that void elements never count."""
    match = _NAME.match(tag)
    if not match or match[2].lower() not in PROSE | KEPT or tag.endswith("/>"):
        return
    name = match[2].lower()
    if not match[1]:
        inside.append(name)
    elif name in inside:
        del inside[len(inside) - 1 - inside[::-1].index(name) :]


def _linked(text: str, found: set[str]) -> str:
    """The text with a link on the first mention of every term not linked yet."""

    def link(match: re.Match[str]) -> str:
        term = _by_word()[match[0].replace("\u202f", " ").lower()]
        if term.id in found:
            return match[0]
        found.add(term.id)
        return f'<a class="icp-term" href="#{term.id}">{match[0]}</a>'

    return _pattern().sub(link, text)


@cache
def _by_word() -> dict[str, Term]:
    return {word.lower(): term for term in read_glossary() for word in term.words}


@cache
def _pattern() -> re.Pattern[str]:
    words = sorted(_by_word(), key=lambda w: (-len(w), w))
    spelt = "|".join(re.escape(w).replace(r"\ ", "[ \u202f]") for w in words)
    return re.compile(rf"(?<![\w&;-])(?:{spelt})(?![\w;-])", re.IGNORECASE)


def _section(terms: list[Term]) -> str:
    rows = "".join(
        f'<dt id="{t.id}">{escape(t.term)}</dt><dd>{escape(t.means)} <span class="has">{escape(t.not_shown)}</span></dd>'
        for t in terms
    )
    return f'<section class="glossary" aria-labelledby="glossary"><h2 id="glossary">Words used here</h2><dl>{rows}</dl></section>'
