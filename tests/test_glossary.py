"""Terms are linked where they first occur, and names from the data stay what they are."""

from __future__ import annotations

import re

import pytest

from icplab.report.glossary import PLACE, read_glossary, with_glossary
from tests.made_run import HOSTILE


def linked(html: str) -> list[str]:
    return re.findall(r'<a class="icp-term" href="#([a-z-]+)">([^<]*)</a>', html)


def test_a_term_is_linked_once_where_it_first_occurs_in_prose():
    html = with_glossary(f"<h2>Win rate</h2><p>The win rate is pooled.</p><p>A win rate again.</p>{PLACE}")
    assert linked(html) == [("g-win-rate", "win rate"), ("g-pooled", "pooled")]
    assert html.startswith("<h2>Win rate</h2>")


def test_the_glossary_holds_map_and_bullseye_on_every_page_and_else_what_occurs():
    html = with_glossary(f"<p>Nothing.</p>{PLACE}")
    assert re.findall(r'<dt id="([a-z-]+)">', html) == ["g-segmentation", "g-icp"]
    assert "The map:" in html
    assert "The bullseye:" in html
    assert 'id="g-whitespace"' in with_glossary(f"<p>Whitespace is left.</p>{PLACE}")


@pytest.mark.parametrize(
    "kept",
    [
        '<p><a href="x">win rate</a></p>',
        "<p><code>win_rate tier</code></p>",
        "<table><tr><td>tier</td></tr></table>",
        '<div aria-label="tier > win rate">x</div>',
        '<p title="a > tier">x</p>',
        "<p>frontier tiered sub-tier &tier;</p>",
        "<pre>tier</pre>",
    ],
)
def test_addresses_code_tables_and_attributes_stay_as_they_are(kept):
    assert with_glossary(kept + PLACE).startswith(kept)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_an_attribute_or_in_prose_gets_no_markup_of_its_own(name):
    from html import escape

    page = f'<div title="{escape(name)} tier">x</div><p>{escape(name)} tier</p>{PLACE}'
    html = with_glossary(page)
    plain = re.sub(r'<a class="icp-term" href="#[a-z-]+">([^<]*)</a>', r"\1", html)
    assert plain.startswith(page.removesuffix(PLACE))


def test_every_entry_says_what_it_does_not_show_and_no_spelling_has_two_meanings():
    entries = read_glossary()
    words = [w.lower() for e in entries for w in e.words]
    assert len(words) == len(set(words))
    assert all(e.means.endswith(".") and e.not_shown for e in entries)
