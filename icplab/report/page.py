"""Reads an executed notebook, makes its page: one self-contained HTML file without scripts, conclusions first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from markupsafe import Markup

from icplab.core.charts import without_title
from icplab.core.imports import without_uri_grammar
from icplab.report.clean import clean_html, clean_markdown, number_headings, plain_block
from icplab.report.download import place_tables
from icplab.report.glossary import with_glossary
from icplab.report.provenance import navigation, provenance

TEMPLATES = Path(__file__).parent / "templates"
# Cells that never reach the page: parameters stand in the footer.
LEFT_OUT = {"parameters", "injected-parameters", "papermill-error-cell-tag", "remove", "hide"}
_RENDERING = Lock()  # jinja resources of the one exporter are not shared between threads


def render_page(
    notebook: Path | str,
    page: Path | str,
    context: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    nav: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the page of an executed notebook.

    Parameters
    ----------
    notebook
        Executed `.ipynb`. Cells tagged `parameters` are left out; a cell that failed turns the page into one that
        says what went wrong and what to do.
    page
        Where the HTML goes. Its stem is the page that the navigation marks as the current one.
    context
        About the run, every key optional: `workspace`, `period`, `as_of`, `title`, `pages` (pairs of step and
        title, for the navigation), `inputs` (as in `inputs.json`), `parameters`, `seed`. What is not given is read
        from `inputs.json` and `settings.json` beside the page, where they are.
    title
        Title of the page; default: the notebook's first heading, then its metadata.
    nav
        Same as `context["pages"]`.

    Returns
    -------
    Path
        `page`. The same notebook and context give the same bytes.
    """
    notebook, page = Path(notebook), Path(page)
    cells = _read(notebook)
    about = dict(context or {})
    about["pages"] = navigation(about.get("pages") or nav)
    about["step"] = page.stem
    failure = _failure(cells) or _told(about.get("failure"))
    sections = _sections(cells, stopped=bool(failure))
    about["title"] = title or _first_heading(cells) or about.get("title") or cells.metadata.get("title") or page.stem
    facts = provenance(page.parent, about, notebook)
    # A failed run has the pages that were finished so far, and no council pack.
    never = {name for name, _ in about["pages"] if failure and not (page.parent / f"{name}.html").is_file()}
    view = {"about": about, "facts": facts, "toc": _contents(sections, failure), "failure": failure, "never": never}
    html = _render(sections, view)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(place_tables(with_glossary(html), page), encoding="utf-8")
    return page


def render_failure(
    notebook: Path | str, page: Path | str, context: Mapping[str, Any] | None = None, *, message: str = ""
) -> Path:
    """Write the page of a failed step: what failed, where, what to do, and what was computed before it.

    Parameters are those of `render_page`; `message` is what the runner knows where the notebook itself holds no
    error (a killed kernel, a time limit).
    """
    return render_page(notebook, page, {**(context or {}), "failure": message})


def environment() -> Any:
    """The template environment of all pages: everything is escaped unless it was cleaned."""
    return _exporter().environment


@cache
def page_style() -> Markup:
    """The one style sheet, put into every page."""
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return Markup(re.sub(r"\s*\n\s*", "\n", css).strip())


@cache
def _exporter() -> Any:
    """The exporter, made once per process: that, not the template, is what nbconvert spends its time on."""
    with without_uri_grammar():
        from nbconvert import HTMLExporter
        from nbconvert.exporters.templateexporter import TemplateExporter
        from nbconvert.filters import Highlight2HTML

    class PageExporter(HTMLExporter):
        """`HTMLExporter` with autoescape, without parsing the finished page a second time."""

        def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> Any:
            return TemplateExporter.from_notebook_node(self, nb, resources, **kw)

    exporter = PageExporter(template_name="icplab", extra_template_basedirs=[str(TEMPLATES)])
    highlight = Highlight2HTML(pygments_lexer="ipython3")
    exporter.register_filter("highlighted", lambda source: Markup(highlight(source)))
    exporter.register_filter("cleaned", clean_html)
    exporter.register_filter("markdowned", clean_markdown)
    exporter.register_filter("plain_block", plain_block)
    exporter.register_filter("picture", _picture)
    exporter.register_filter("filter_data_type", _best_type)
    exporter.environment.autoescape = True
    exporter.environment.globals["page_style"] = page_style
    return exporter


def _read(notebook: Path) -> Any:
    with without_uri_grammar():
        import nbformat

    return nbformat.read(notebook, as_version=4)


def _render(sections: list[dict[str, Any]], view: Mapping[str, Any]) -> str:
    from nbformat import NotebookNode

    node = NotebookNode(
        cells=[NotebookNode(id=f"c{i}", **s) for i, s in enumerate(sections)], metadata={}, nbformat=4, nbformat_minor=5
    )
    with _RENDERING:
        body, _ = _exporter().from_notebook_node(node, resources=dict(view))
    return body


def _sections(cells: Any, stopped: bool) -> list[dict[str, Any]]:
    """The cells a page shows, in order: Markdown already cleaned and its headings numbered, code behind its results.

    Of a notebook that stopped, everything from the first cell that did not run is left out.
    """
    taken: dict[str, int] = {}
    shown: list[dict[str, Any]] = []
    quiet: list[str] = []  # code that showed nothing yet: it goes with the next result
    for cell in cells.cells:
        if LEFT_OUT & set(cell.metadata.get("tags", [])) or not cell.source.strip():
            continue
        if cell.cell_type == "markdown":
            shown += _flush(quiet)
            html, headings = number_headings(clean_markdown(cell.source), taken)
            shown.append({"cell_type": "markdown", "source": html, "headings": headings, "metadata": {}})
        elif cell.cell_type == "code":
            if stopped and cell.get("execution_count") is None and not cell.outputs:
                break
            quiet.append(cell.source.strip())
            outputs = [o for o in cell.outputs if _is_shown(o)]
            if outputs:
                shown += [_code_section("", outputs), *_flush(quiet)]
            if any(o.output_type == "error" for o in cell.outputs):
                break
    return _walk_folded(_without_title(shown + _flush(quiet)))


def _walk_folded(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Conclusions first: what stands between the header and the first headed section, and shows nothing, is folded.

    That is the walk: the sentences and the code that compute everything the page is about to tell.
    """
    start = next((i for i, s in enumerate(shown) if s.get("headings")), 0)
    before = shown[:start]
    lead = before[:1] if before and before[0]["cell_type"] == "markdown" else []
    walk = [s for s in before[len(lead) :] if not s.get("outputs")]
    if not walk:
        return shown
    parts = [{"kind": s["cell_type"], "source": s["source"]} for s in walk]
    fold = {"cell_type": "raw", "source": "walk", "metadata": {"walk": parts}}
    return [*lead, *[s for s in before[len(lead) :] if s.get("outputs")], fold, *shown[start:]]


def _flush(quiet: list[str]) -> list[dict[str, Any]]:
    """The code collected so far as one section, which stands behind what it showed."""
    section = [_code_section("\n\n".join(quiet), [])] if quiet else []
    quiet.clear()
    return section


def _code_section(source: str, outputs: list[Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": outputs, "metadata": {}, "execution_count": None}


def _is_shown(output: Any) -> bool:
    """Progress bars, log lines and widget views belong to the lab."""
    if output.output_type == "stream":
        return output.name == "stdout" and bool(output.text.strip())
    return output.output_type == "error" or bool(_best_type(output.get("data", {})))


def _without_title(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first heading of the notebook is set by the page itself."""
    for section in shown:
        if section["cell_type"] == "markdown" and section["headings"]:
            first = section["headings"][0]
            if first["level"] == 1:
                pattern = re.compile(rf'<h1 id="{re.escape(first["id"])}">.*?</h1>\s*', re.DOTALL)
                section["source"] = Markup(pattern.sub("", section["source"], count=1))
                section["headings"] = section["headings"][1:]
            break
    return [s for s in shown if s["source"].strip() or s.get("outputs")]


def _first_heading(cells: Any) -> str:
    for cell in cells.cells:
        if cell.cell_type == "markdown":
            _, headings = number_headings(clean_markdown(cell.source), {})
            if headings:
                return str(headings[0]["text"]) if headings[0]["level"] == 1 else ""
    return ""


def _contents(sections: list[dict[str, Any]], failure: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found = [h for s in sections if s["cell_type"] == "markdown" for h in s["headings"] if h["level"] <= 3]
    return ([{"level": 2, "id": "failure", "text": "What went wrong"}] if failure else []) + found


def _failure(cells: Any) -> dict[str, Any] | None:
    """The error that ended a notebook: kind, message, cell, section it stood in, traceback."""
    section, number = "", 0
    for cell in cells.cells:
        if cell.cell_type == "markdown":
            _, headings = number_headings(clean_markdown(cell.source), {})
            below = [h["text"] for h in headings if h["level"] > 1]
            section = below[-1] if below else section
        elif cell.cell_type == "code":
            number += 1
            for output in cell.outputs:
                if output.output_type == "error":
                    return {
                        "kind": output.ename,
                        "message": output.evalue.replace(" Fix: ", "\nFix: "),
                        "section": section,
                        "cell": cell.get("execution_count") or number,
                        "yours": output.ename in ("BadInput", "Locked", "DoesNotVerify"),
                        "trace": "\n".join(output.get("traceback", [])),
                    }
    return None


def _told(message: object) -> dict[str, Any] | None:
    """A failure that only the runner knows of."""
    blank = {"kind": "", "section": "", "cell": "", "yours": False, "trace": ""}
    return {**blank, "message": str(message)} if message else None


def _best_type(data: Mapping[str, Any]) -> list[str]:
    """The one form of an output that a page shows: ours are HTML and SVG; scripts and widgets never."""
    order = ("image/svg+xml", "text/html", "image/png", "image/jpeg", "text/markdown", "text/plain")
    if any("widget-view" in kind for kind in data):
        return []
    return [kind for kind in order if kind in data][:1]


def _picture(output: Any, kind: str) -> dict[str, str]:
    """Address, alternative text, title and note of a figure output."""
    import base64

    about = output.get("metadata", {}).get(kind, {})
    about = about if isinstance(about, Mapping) else {}
    content = output["data"][kind]
    content = "".join(content) if isinstance(content, list) else str(content)
    if kind == "image/svg+xml":
        content = without_title(content) if about.get("title") else content
        content = base64.b64encode(content.encode("utf-8", "replace")).decode("ascii")
    else:
        content = re.sub(r"[^A-Za-z0-9+/=]", "", content)
    words = {key: str(about.get(key) or "") for key in ("alt", "title", "note")}
    return {"src": f"data:{kind};base64,{content}", **words, "alt": words["alt"] or "Chart without a description"}
