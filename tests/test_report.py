"""Pages: nothing hostile is live on any of them, they hold together, and the same notebook gives the same bytes."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest

from icplab.core import formats as fmt
from icplab.core.errors import ContractBroken
from icplab.core.findings import findings_table
from icplab.report import render_failure, render_index, render_page, render_runs
from icplab.report.clean import clean_html, clean_markdown, number_headings
from icplab.report.show import findings_html, header_html
from icplab.report.tables import FIRST_ROWS, LAST_ROW, table_html
from tests.made_run import CONTEXT, HOSTILE, PAGES, estimates, findings, hostile_notebook, write_artefacts

DEAD = {
    "script",
    "iframe",
    "object",
    "embed",
    "base",
    "form",
    "input",
    "button",
    "link",
    "svg",
    "math",
    "video",
    "audio",
    "source",
}
VOID = {"meta", "img", "br", "hr", "col"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Page(HTMLParser):
    """What a page is made of: elements with their attributes in order, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def live(html: str) -> list[str]:
    """Everything on a page that could act, ask for something outside or hide itself."""
    page, wrong = Page(html), []
    for tag, attributes in page.elements:
        wrong += [tag] if tag in DEAD else []
        wrong += [f"{tag} {k}" for k in attributes if k.startswith("on") or k in ("style", "srcdoc", "formaction")]
        wrong += [
            attributes["href"]
            for _ in "x"
            if re.match(r"\s*(javascript|data|vbscript|file):|//", attributes.get("href", ""), re.I)
        ]
        source = attributes.get("src", "data:image/")
        wrong += [source] if not source.startswith("data:image/") else []
        wrong += [str(attributes)] if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh" else []
        wrong += _live_picture(source)
    wrong += [repr(c) for c in "\x00\x08\x1b\u202e\u2066" if c in html]
    assert page.open == []
    return wrong


def _live_picture(source: str) -> list[str]:
    if not source.startswith("data:image/svg+xml;base64,"):
        return []
    root = ElementTree.fromstring(base64.b64decode(source.split(",", 1)[1]))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.rpartition("}")[2] == "href" and v[:1] != "#"]
    return sorted(tags & {"script", "foreignObject", "image"}) + links


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A published-looking run with hostile names everywhere: seven pages, council pack, list of runs."""
    folder = tmp_path_factory.mktemp("reports") / "2026Q2"
    folder.mkdir()
    write_artefacts(folder)
    notebook = hostile_notebook(folder / "notebook.ipynb")
    for name, _ in PAGES:
        render_page(notebook, folder / f"{name}.html", CONTEXT)
    render_index(folder, CONTEXT)
    verdicts = {"segmentation": HOSTILE[0], "findings": {"act/retire-segment": 3, "watch/small-group": 2, "info/x": 1}}
    manifest = {"as_of": "2026-06-30", "icplab": HOSTILE[0], "run_id": "abc", "period": "2026Q2", "verdicts": verdicts}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    failed = folder.parent / ".failed" / "2026Q3"
    failed.mkdir(parents=True)
    (failed / "10_align.html").write_text("")
    render_runs(folder.parent)
    return folder


@pytest.fixture(scope="module")
def pages(run_folder) -> dict[str, str]:
    found = {p.name: p.read_text(encoding="utf-8") for p in sorted(run_folder.glob("*.html"))}
    return {**found, "runs": (run_folder.parent / "index.html").read_text(encoding="utf-8")}


def error_notebook(path: Path, kind: str, message: str) -> Path:
    output = nbformat.v4.new_output(
        "error", ename=kind, evalue=message, traceback=["\x1b[31mTraceback\x1b[0m", "<b>File</b>"]
    )
    cells = [
        nbformat.v4.new_markdown_cell("# Which accounts?\n\n## The walk"),
        nbformat.v4.new_code_cell("stage(tables)", outputs=[output], execution_count=4),
        nbformat.v4.new_markdown_cell("## Never reached"),
    ]
    return hostile_notebook(path, cells)


def test_nothing_hostile_is_live_on_any_page(pages):
    assert len(pages) == 9
    for name, html in pages.items():
        assert live(html) == [], name


def test_hostile_names_can_still_be_read_where_they_belong(pages):
    text = Page(pages["30_segments.html"]).text
    for name in (HOSTILE[0], HOSTILE[2], HOSTILE[3], HOSTILE[6], HOSTILE[11]):
        assert name in text, name
    assert HOSTILE[0] in Page(pages["index.html"]).text


def test_every_page_forbids_everything_but_its_own_style_and_pictures(pages):
    for name, html in pages.items():
        policies = [m["content"] for m in Page(html).all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policies == [POLICY], name


def test_titles_stay_titles(pages):
    for name, html in pages.items():
        assert html.count("<title>") == 1
        assert html.count("</title>") == 1, name
        assert len(Page(html).all("h1")) == 1, name


def test_ids_are_unique_and_contents_lead_somewhere(pages):
    for name, html in pages.items():
        page = Page(html)
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids)), name
        targets = [a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")]
        assert set(targets) <= set(ids), name


def test_pages_of_a_run_lead_to_each_other(pages, run_folder):
    middle = [a.get("href") for a in Page(pages["30_segments.html"]).all("a")]
    assert {"index.html", "20_performance.html", "40_traits.html", "70_governance.html"} <= set(middle)
    assert "30_segments.html" not in middle
    front = [a.get("href") for a in Page(pages["index.html"]).all("a")]
    assert {f"{name}.html" for name, _ in PAGES} <= set(front)
    here = [a.get("href") for a in Page(pages["runs"]).all("a")]
    assert "2026Q2/index.html" in here
    assert ".failed/2026Q3/10_align.html" in here


def test_every_picture_says_what_it_shows(pages):
    pictures = Page(pages["30_segments.html"]).all("img")
    assert len(pictures) == 2
    assert all("Interval chart of 12 lines" in p["alt"] for p in pictures)


def test_the_title_of_a_chart_is_text_and_stands_once(pages):
    page = Page(pages["30_segments.html"])
    assert sum("say" in attributes.get("class", "").split() for attributes in page.all("p")) == 2
    picture = base64.b64decode(page.all("img")[0]["src"].split(",", 1)[1]).decode()
    height, head = (float(re.search(rf' {k}="([\d.]+)"', picture)[1]) for k in ("height", "data-head"))
    assert head == 0
    assert picture.split('viewBox="0 ')[1].split('"')[0].split()[2] == f"{height:g}"


def test_code_is_folded_and_parameters_are_not_shown(pages):
    page = Page(pages["30_segments.html"])
    assert "code" in [a.get("class") for a in page.all("details")]
    assert "open" not in [k for a in page.all("details") for k in a]
    assert "workspace: str" not in page.text


def test_code_stands_behind_what_it_shows(pages):
    html = pages["30_segments.html"]
    assert html.index("icp-findings") < html.index("import</span>")


def test_scripts_and_widgets_of_a_notebook_leave_no_trace(pages):
    assert "alert(6)" not in pages["30_segments.html"]


def test_pages_do_not_know_the_time_or_the_machine(pages, run_folder):
    for html in pages.values():
        assert str(run_folder.parent) not in html
        assert not re.search(r"\b\d\d:\d\d:\d\d\b", html)


def test_footer_names_data_hashes_and_versions(pages):
    footer = pages["30_segments.html"].split('<footer class="prov"')[1]
    assert "abababababab" in footer
    assert "pandas" in footer
    assert "30 Jun 2026" in footer


def test_pages_are_light(pages, run_folder):
    assert all(len(html.encode()) < 1_200_000 for html in pages.values())
    assert (run_folder / "index.html").stat().st_size < 500_000


def test_same_notebook_gives_the_same_bytes(run_folder, tmp_path):
    again = render_page(run_folder / "notebook.ipynb", tmp_path / "30_segments.html", CONTEXT)
    assert again.read_bytes() == (run_folder / "30_segments.html").read_bytes()
    before = (run_folder / "index.html").read_bytes()
    assert render_index(run_folder, CONTEXT).read_bytes() == before


def test_another_process_gives_the_same_bytes(run_folder, tmp_path):
    code = (
        "import sys; from icplab.report import render_page; from tests.made_run import CONTEXT;"
        f"render_page({str(run_folder / 'notebook.ipynb')!r}, {str(tmp_path / '30_segments.html')!r}, CONTEXT)"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={"PYTHONHASHSEED": "5"})
    assert (tmp_path / "30_segments.html").read_bytes() == (run_folder / "30_segments.html").read_bytes()


def test_a_failed_step_says_what_went_wrong_and_what_to_do(tmp_path):
    notebook = error_notebook(
        tmp_path / "n.ipynb", "BadInput", "ICP-E027 opportunities.csv: <b>column</b> missing Fix: map it"
    )
    html = render_page(notebook, tmp_path / "40_traits.html", CONTEXT).read_text()
    page = Page(html)
    assert live(html) == []
    assert "nothing was published" in page.text
    assert "<b>column</b> missing Fix: map it" in page.text
    assert "It stopped in “The walk”, in cell [4]" in page.text
    assert "--resume" in page.text
    assert "icplab.toml" in page.text
    assert "Never reached" not in page.text
    assert "index.html" not in [a.get("href") for a in page.all("a")]
    assert "50_tiers.html" not in [a.get("href") for a in page.all("a")]


def test_an_error_of_ours_is_not_blamed_on_the_reader(tmp_path):
    html = render_page(
        error_notebook(tmp_path / "n.ipynb", "KeyError", "'x'"), tmp_path / "40_traits.html", CONTEXT
    ).read_text()
    assert "error of icplab rather than of your data" in Page(html).text


def test_a_kernel_that_died_is_told_by_the_runner(tmp_path):
    notebook = hostile_notebook(tmp_path / "n.ipynb", [nbformat.v4.new_markdown_cell("# Q")])
    html = render_failure(notebook, tmp_path / "p.html", CONTEXT, message=f"killed {HOSTILE[0]}").read_text()
    assert f"killed {HOSTILE[0]}" in Page(html).text
    assert "ended from outside" in Page(html).text
    assert "traceback" not in Page(html).text
    assert live(html) == []


def test_the_council_pack_counts_what_is_to_be_decided(pages):
    page = Page(pages["index.html"])
    assert "Twelve things to decide, twelve to watch" in page.text
    assert "two natural segments" in page.text


def test_the_headline_says_what_the_ranking_is_worth(pages):
    headline = pages["index.html"].split("<h1")[1].split("</h1>")[0]
    assert re.search(r"\d+ of 240 accounts hold \d+.% of the expected value", headline)


def test_the_council_pack_prints_figures_with_interval_and_n(pages):
    text = Page(pages["index.html"]).text.replace(fmt.THIN, " ")
    assert "Win rate of closed opportunities 31 % 95 % interval 27–35, n 480" in text
    assert "Won within 365 days 23 %" in text
    assert "EUR 12.4 k" in text
    assert "Net revenue retention not enough data" in text


def test_the_map_adds_up(pages):
    table = pages["index.html"].split('class="map"')[1].split("</table>")[0]
    body = re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]
    counts = [[int(n.replace(",", "")) for n in re.findall(r"<small>([\d,]+) accounts?</small>", row)] for row in body]
    assert all(sum(row[:-1]) == row[-1] for row in counts)
    assert [sum(column) for column in zip(*counts[:-1], strict=True)] == counts[-1]
    assert counts[-1][-1] == 240


def test_the_plan_is_judged_by_its_interval(pages):
    text = Page(pages["index.html"]).text
    assert "Plan against actual, 2026Q2" in text
    assert "not decided by the data" in text
    assert "missed" in text


def test_what_is_not_known_is_said(pages):
    unknown = Page(pages["index.html"]).text.split("What we do not know")[1].split("The seven pages")[0]
    assert "Not measured, because the exports do not hold what it takes: CAC" in unknown
    assert "5 accounts are unlike any account that was ever worked" in unknown


def test_a_run_without_artefacts_still_has_a_council_pack(tmp_path):
    html = render_index(tmp_path).read_text()
    text = Page(html).text
    assert live(html) == []
    for said in ("wrote no findings", "no key figures", "no scores", "No plan could be compared", "No pages"):
        assert said in text, said


@pytest.mark.parametrize("kept", ["kpis", "findings", "scores", "segments", "tiers", "traits"])
def test_each_part_of_the_council_pack_stands_alone(tmp_path, kept):
    write_artefacts(tmp_path)
    for path in tmp_path.glob("steps/*/*"):
        if path.stem != kept:
            path.unlink()
    assert live(render_index(tmp_path, CONTEXT).read_text()) == []


def test_a_damaged_artefact_is_treated_as_missing(tmp_path):
    write_artefacts(tmp_path)
    (tmp_path / "steps" / "50_tiers" / "scores.parquet").write_bytes(b"not parquet")
    assert "no scores" in render_index(tmp_path, CONTEXT).read_text()


def test_an_empty_reports_folder_has_a_page(tmp_path):
    assert "No run has been published" in render_runs(tmp_path).read_text()


def test_header_says_what_the_page_rests_on():
    workspace = SimpleNamespace(name=HOSTILE[0], currency="EUR")
    inputs = {
        "files": [{"file": "a.csv"}, {"file": "b.csv"}],
        "ledger": [{"outcome": "used", "records": 1200}, {"outcome": "blank", "records": 5}],
    }
    tables = {"opportunities": pd.DataFrame({"created_at": pd.to_datetime(["2024-01-03", None])})}
    step = SimpleNamespace(
        name="30_segments", as_of=pd.Timestamp("2026-06-30"), settings=SimpleNamespace(workspace=workspace), inputs=inputs, tables=tables
    )  # fmt: skip
    html = header_html(step)
    assert live(html) == []
    text = Page(html).text
    for said in (HOSTILE[0], "30 Jun 2026", "2 files, 1,200 records used", "from 3 Jan 2024"):
        assert said in text


def test_findings_come_most_urgent_first_with_word_shape_owner_and_action():
    html = findings_html(findings_table(findings()))
    marks = re.findall(r'aria-hidden="true">(.)</span> (\w+)</span>', html)
    assert [m[1] for m in marks] == ["Act"] * 12 + ["Watch"] * 12 + ["Note"] * 12
    assert {m[0] for m in marks} == {"▲", "◆", "○"}
    text = Page(html).text
    assert "Owner Product Marketing / Strategy" in text
    assert f"Do Look at {HOSTILE[0]}." in text
    assert "No findings" in findings_html(findings_table([]))


def test_intervals_are_folded_into_their_estimate():
    text = Page(table_html(estimates(), "Win rate", {"value": "percent"})).text.replace(fmt.THIN, " ")
    assert "35 % (28–44)" in text
    assert "Low" not in text
    named = pd.DataFrame({"trait": ["t"], "odds": [1.62], "adjusted_low": [1.2], "adjusted_high": [2.2]})
    text = Page(table_html(named, "c", {"odds": ("ratio", "adjusted_low", "adjusted_high")})).text
    assert "1.62 (1.20–2.20)" in text


def test_bounds_behind_any_estimate_belong_to_it():
    frame = pd.DataFrame({"tier": ["t"], "predicted": [0.2], "observed": [0.25], "low": [0.2], "high": [0.31]})
    formats = dict.fromkeys(("predicted", "observed", "low", "high"), "percent")
    text = Page(table_html(frame, "c", formats)).text.replace(fmt.THIN, " ")
    assert "25 % (20–31)" in text
    assert "High" not in text


def test_each_row_can_have_its_own_unit():
    frame = pd.DataFrame(
        {"kpi": ["win_rate", "acv", "cycle"], "value": [0.312, 12000.0, 57.0], "unit": ["fraction", "money", "days"]}
    )
    text = Page(table_html(frame, "c", {"value": "unit"})).text.replace(fmt.THIN, " ")
    assert "31 %" in text
    assert "12,000" in text
    assert "57 days" in text
    assert "Unit" not in text


def test_missing_values_are_dashes_and_flags_are_words():
    frame = pd.DataFrame(
        {"a": ["x"], "b": [np.nan], "c": pd.array([None], dtype="boolean"), "d": [True], "e": [pd.NaT]}
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table_html(frame, "c"))
    assert cells == ["–", "–", "yes", "–"]


def test_a_table_has_caption_and_scopes():
    page = Page(table_html(estimates(), HOSTILE[0]))
    assert "caption" in [tag for tag, _ in page.elements]
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}
    assert HOSTILE[0] in page.text


def test_long_tables_are_folded_and_never_longer_than_a_page_can_bear():
    frame = pd.DataFrame({"account": [f"A{i}" for i in range(1000)]})
    html = table_html(frame, "Accounts")
    assert html.count("<tr>") == LAST_ROW + 2
    assert f"{LAST_ROW - FIRST_ROWS:,} more rows (of 1,000 in all" in html
    assert "<details>" not in table_html(frame.head(FIRST_ROWS + 2), "Accounts")


def test_a_heading_that_repeats_itself_stands_once():
    frame = pd.DataFrame({"segment": ["a", "a", "b"], "level": ["x", "y", "z"], "n": [1, 2, 3]})
    html = table_html(frame, "c")
    assert html.count('scope="rowgroup" rowspan="2"') == 1
    assert [len(re.findall("<t[dh]", row)) for row in re.findall("<tr>(.*?)</tr>", html)] == [3, 3, 2, 3]


def test_days_written_as_text_are_printed_as_days():
    frame = pd.DataFrame({"what": ["x", "y"], "review": ["2026-12-30", ""]}).replace("", None)
    assert "30 Dec 2026" in table_html(frame, "c")


def test_an_empty_table_says_so():
    assert "No rows." in table_html(estimates().head(0), "c")


def test_an_unknown_format_or_column_is_refused_with_the_nearest_name():
    with pytest.raises(ContractBroken, match='"precent" is not known, did you mean "percent"'):
        table_html(estimates(), "c", {"value": "precent"})
    with pytest.raises(ContractBroken, match='no column "valeu", did you mean "value"'):
        table_html(estimates(), "c", {"valeu": "percent"})


@pytest.mark.parametrize("hostile", HOSTILE)
def test_cleaning_leaves_nothing_live(hostile):
    for html in (
        clean_html(f"<p>{hostile}</p><td>{hostile}"),
        clean_markdown(f"# {hostile}\n\n- {hostile}\n\n| a |\n|---|\n| {hostile} |"),
    ):
        assert live(str(html)) == []


@pytest.mark.parametrize(
    "attack",
    [
        "<a href='java\nscript:alert(1)'>x</a>",
        "<a href='&#106;avascript:alert(1)'>x</a>",
        "<a href='data:text/html,x'>x</a>",
        "<img src='https://example.org/x.png'>",
        "<img src='data:text/html;base64,PHNjcmlwdD4='>",
        "<div style='background:url(//example.org)'>x</div>",
        "<math><mtext></table><mglyph><style><img src=x onerror=alert(1)>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<meta http-equiv=refresh content='0;url=//example.org'>",
        "<form action=//example.org><input name=q></form>",
        "<base href=//example.org>",
    ],
)
def test_known_ways_around_a_cleaner_are_closed(attack):
    assert live(str(clean_html(attack))) == []
    assert live(str(clean_markdown(attack))) == []


def test_tables_of_pandas_survive_cleaning():
    html = str(clean_html(pd.DataFrame({"a": [1]}).to_html()))
    assert "<td>1</td>" in html
    assert "<th></th>" not in html


def test_headings_with_the_same_words_get_ids_of_their_own():
    html, found = number_headings(clean_markdown("## Why?\n\n## Why?\n\n## 日本"), {})
    assert [h["id"] for h in found] == ["s-why", "s-why-2", "s-section"]
    assert str(html).count("<h2 id=") == 3


def test_importing_the_report_loads_no_converter():
    code = "import sys, icplab.report; print([m for m in ('nbconvert', 'matplotlib', 'IPython') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
