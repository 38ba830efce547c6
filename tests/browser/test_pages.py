"""Pages in a real browser: no request leaves, nothing runs, axe-core finds nothing, nothing is cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from icplab.core.errors import BadInput
from icplab.report import render_comparison, render_index, render_page, render_runs
from icplab.run.compare import comparison_of
from icplab.run.pdf import find_browser, print_pack
from icplab.run.publish import write_manifest
from tests.browser.conftest import find_chromium
from tests.made_run import CONTEXT, HOSTILE, PAGES, hostile_notebook, write_artefacts

pytestmark = [pytest.mark.browser, pytest.mark.slow]
KINDS = ("index.html", "compare.html", "30_segments.html", "40_traits.html", "../index.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with hostile names: council pack, a page, the page of a failed step, the list of runs."""
    place = tmp_path_factory.mktemp("reports") / "2026Q2"
    place.mkdir()
    write_artefacts(place)
    notebook = hostile_notebook(place / "notebook.ipynb")
    for name, _ in PAGES:
        render_page(notebook, place / f"{name}.html", CONTEXT)
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="<b>x</b>", traceback=["<b>Traceback</b>"])
    cells = [nbformat.v4.new_markdown_cell("# Q\n\n## Walk"), nbformat.v4.new_code_cell("stage()", outputs=[error])]
    render_page(hostile_notebook(place / "failed.ipynb", cells), place / "40_traits.html", CONTEXT)
    facts = {"period": HOSTILE[0], "as_of": "2026-06-30", "verdicts": {}}
    render_comparison(comparison_of((place, facts), (place, facts)), place / "compare.html", inside=True)
    render_index(place, CONTEXT)
    (place / "manifest.json").write_text('{"as_of": "2026-06-30", "run_id": "abc"}')
    render_runs(place.parent)
    return place


class Visit:
    """One page opened, and everything that it tried to do."""

    def __init__(self, page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.complaints: list[str] = []
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.route("**/*", self._route)

    def _dialog(self, dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _route(self, route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@contextmanager
def visit(browser, path: Path, scheme: str = "light", width: int = 1280, media: str = "screen") -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = Visit(context.new_page())
    opened.page.emulate_media(media=media, color_scheme=scheme)
    opened.page.goto(path.resolve().as_uri())
    try:
        yield opened
    finally:
        context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_for_nothing_and_runs_nothing(browser, folder, kind):
    with visit(browser, folder / kind) as opened:
        for fold in opened.page.locator("details > summary").all():
            fold.click()
        opened.page.wait_for_timeout(200)
        assert opened.requests == []
        assert opened.dialogs == []
        assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(browser, axe, folder, kind, scheme):
    with visit(browser, folder / kind, scheme) as opened:
        opened.page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
        opened.page.evaluate(axe)
        found = opened.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found] == []


@pytest.mark.parametrize("width", [360, 640, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_never_scrolls_sideways(browser, folder, kind, width):
    with visit(browser, folder / kind, width=width) as opened:
        room = opened.page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert room[0] <= room[1], kind


def test_charts_are_drawn_and_dark_on_a_dark_page(browser, folder):
    brightness = """async () => {
        const image = document.querySelector('figure img');
        await image.decode();
        const canvas = Object.assign(document.createElement('canvas'), {width: 20, height: 20});
        const pen = canvas.getContext('2d');
        pen.drawImage(image, 0, 0, 20, 20);
        return [image.naturalWidth, pen.getImageData(1, 1, 1, 1).data[0]];
    }"""
    for scheme, expected in (("light", 255), ("dark", 0x14)):
        with visit(browser, folder / "30_segments.html", scheme) as opened:
            wide, red = opened.page.evaluate(brightness)
            assert wide > 300
            assert red == pytest.approx(expected, abs=2)


def test_contents_and_steps_can_be_reached_with_the_keyboard(browser, folder):
    with visit(browser, folder / "30_segments.html") as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("() => document.activeElement.className") == "skip"
        opened.page.keyboard.press("Enter")
        assert opened.page.url.endswith("#main")


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_prose_has_room(browser, folder, kind):
    with visit(browser, folder / kind) as opened:
        width = opened.page.evaluate("() => document.querySelector('main').getBoundingClientRect().width")
        assert width > 700


def test_print_leaves_out_what_paper_cannot_do(browser, folder):
    with visit(browser, folder / "30_segments.html", media="print") as opened:
        assert not opened.page.locator(".toc").is_visible()
        assert not opened.page.locator("details.code").first.is_visible()
        assert opened.page.locator("h1").is_visible()


def test_the_council_pack_prints_as_a_pdf_and_never_over_another(folder, tmp_path):
    if find_chromium() is None:
        pytest.skip("left out: no Chromium found (apt-get install chromium, or set ICPLAB_CHROMIUM)")
    run = tmp_path / "2026Q2"
    shutil.copytree(folder, run)
    (run / "manifest.json").unlink()
    write_manifest(run, {"period": "2026Q2", "as_of": "2026-06-30"})
    target = print_pack(run, tmp_path / "pack.pdf")
    assert target.read_bytes().startswith(b"%PDF-")
    assert target.stat().st_size > 20_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2026Q2", "pack.pdf"], "nothing is left beside it"
    with pytest.raises(BadInput, match="is there already"):
        print_pack(run, target)


def test_without_chromium_the_pdf_says_what_to_install(monkeypatch):
    monkeypatch.delenv("ICPLAB_CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BadInput, match="install Chromium"):
        find_browser()
