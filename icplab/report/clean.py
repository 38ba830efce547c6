"""Reads HTML, Markdown and terminal text that may hold anything, makes HTML in which nothing is live.

Names, notes and levels come from exports that outsiders can write into (a web form is enough). Whatever a notebook
shows passes through here: an allowlist of elements and attributes, no addresses but data images, tables to save and plain links.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

import nh3
from markupsafe import Markup, escape

from icplab.core import formats as fmt

ELEMENTS = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "blockquote",
        "br",
        "caption",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "section",
        "small",
        "span",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "time",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
ATTRIBUTES: dict[str, set[str]] = {
    "*": {"class", "title", "lang", "dir"},
    "a": {"href", "download"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "col": {"span"},
    "div": {"role", "aria-label", "tabindex"},
    "span": {"aria-hidden"},
    "details": {"open"},
    "ol": {"start"},
}
IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*\Z")
TABLE = re.compile(r"data:text/csv;base64,[A-Za-z0-9+/=]*\Z")
FILE_NAME = re.compile(r"[a-z0-9-]{1,64}\.csv\Z")
LINK = re.compile(r"(https?://|mailto:|#)|(?![a-z][a-z0-9+.-]*:|[/\\]{2})", re.IGNORECASE)
ALLOWED_ROLES = {"group"}
_HEADING = re.compile(r"<h([1-6])([^>]*)>(.*?)</h\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def clean_html(html: object) -> Markup:
    """HTML reduced to harmless elements; scripts, styles, handlers, frames and remote images are gone."""
    return Markup(_tidy(_cleaner().clean(_without_hidden(str(html)))))


def clean_markdown(text: object) -> Markup:
    """Markdown as HTML; raw HTML inside it is shown as text, so data cannot become markup."""
    together = re.sub(r"(?<=\d) %", f"{fmt.THIN}%", _without_hidden(str(text)))
    return clean_html(_markdown()(together))


def plain_block(text: object) -> Markup:
    """Terminal text for a `<pre>`: escapes and overrides dropped, lines kept."""
    lines = fmt.ANSI.sub("", str(text)).replace("\r\n", "\n").split("\n")
    return escape("\n".join(_without_hidden(line) for line in lines))


def number_headings(html: str, taken: dict[str, int]) -> tuple[Markup, list[dict[str, Any]]]:
    """Give every heading an id of its own; returns the HTML and the headings (level, id, text).

    `taken` counts the ids used so far on the page and is updated.
    """
    found: list[dict[str, Any]] = []

    def numbered(match: re.Match[str]) -> str:
        words = fmt.plain(_unescape(_TAG.sub("", match[3])), 160)
        slug = _slug(words)
        taken[slug] = taken.get(slug, 0) + 1
        anchor = slug if taken[slug] == 1 else f"{slug}-{taken[slug]}"
        found.append({"level": int(match[1]), "id": anchor, "text": words})
        return f'<h{match[1]} id="{anchor}">{match[3]}</h{match[1]}>'

    return Markup(_HEADING.sub(numbered, html)), found


def _slug(words: str) -> str:
    """An id made of letters and digits only; never one that the page itself uses."""
    letters = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    return "s-" + (re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:60] or "section")


def _unescape(text: str) -> str:
    import html

    return html.unescape(text)


@cache
def _cleaner() -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=set(ELEMENTS),
        attributes={k: set(v) for k, v in ATTRIBUTES.items()},
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer",
        clean_content_tags={"script", "style", "title", "iframe", "object", "template", "noscript", "svg", "math"},
    )


def _attribute(element: str, name: str, value: str) -> str | None:
    """Keep an attribute, or drop it (None)."""
    if name == "src":
        return value if IMAGE.match(value) else None
    if name == "href":
        if TABLE.match(value):
            return value
        seen = re.sub(r"[\x00-\x20]+", "", value)  # as a browser reads it
        return value if LINK.match(seen) and value != "#harmful-link" else None
    if name == "download":
        return value if FILE_NAME.match(value) else None
    if name == "role":
        return value if value in ALLOWED_ROLES else None
    if name == "tabindex":
        return value if value == "0" else None
    return value


def _tidy(html: str) -> str:
    """Heading cells without text and pictures without an address are none; bare tables scroll in their own region."""
    html = re.sub(r"<th( [^>]*)?>\s*</th>", "<td></td>", html)
    html = re.sub(r"<img(?![^>]* src=)[^>]*>", "", html)
    if "icp-scroll" in html:
        return html
    region = '<div class="icp-scroll" role="group" aria-label="Table" tabindex="0"><table'
    return html.replace("<table", region).replace("</table>", "</table></div>")


@cache
def _markdown() -> Any:
    import mistune

    return mistune.create_markdown(escape=True, plugins=["table", "strikethrough", "def_list"])


def _without_hidden(text: str) -> str:
    """Text without control characters (but tab and newline) and without bidirectional overrides."""
    text = fmt.ANSI.sub("", text)
    return "".join(
        c for c in text if c in "\t\n" or c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")
    )
