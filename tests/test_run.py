"""The quarterly run on dummy notebooks: what is refused, what is published, what a failure leaves, what is the same twice."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from icplab.core.errors import BadInput, Locked, StageFailed
from icplab.core.store import sha256_of
from icplab.run import gather, kernels, notebooks, pipeline
from icplab.run.lock import hold_lock
from icplab.run.notebooks import check_overrides, convert, find_notebooks, read_parameters, select_notebooks
from icplab.run.order import read_needs, with_needs
from icplab.run.pipeline import run_quarter
from icplab.run.plan import RunOptions, period_of
from icplab.run.publish import verify_run
from tests.dummy_notebooks import PARAMETERS, write_notebook, write_step, write_workspace

CHOICE = (
    PARAMETERS + '\nk: int = 3  # segments\nname: str = "x"\nshare: float = 0.5\ndeep: bool = False\nlevels: list = []'
)
REPEATABLE_EXCEPT = {"run.log", "timing.json"}


@pytest.fixture(scope="module")
def zygote():
    """One warm process for the whole module: starting one is most of what a run of dummies takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "LIBRARIES", ())
        with kernels.Zygote() as warm:
            yield warm


@pytest.fixture
def project(tmp_path, monkeypatch, zygote):
    """A folder with a workspace and three notebooks, entered."""
    monkeypatch.setattr(pipeline, "Zygote", lambda log: nullcontext(zygote))
    # Somebody may be editing icplab while its tests run; that would rightly make kept results stale.
    for module in (pipeline, gather):
        monkeypatch.setattr(module, "code_hash", lambda: "fixed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICPLAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    write_workspace(tmp_path / "ws")
    write_step(tmp_path / "notebooks", "10_align", "print(as_of, seed)", title="First")
    write_step(tmp_path / "notebooks", "30_segments", "print(k)", parameters=CHOICE)
    earlier = "from pathlib import Path; print('earlier' if Path('previous').exists() else 'none')"
    write_step(tmp_path / "notebooks", "70_governance", earlier)
    return tmp_path


def run(**options) -> Path:
    """A quiet run of the workspace; returns its index.html."""
    return run_quarter(RunOptions(workspace=Path("ws"), quiet=True, **options))


def executed(project: Path) -> Path:
    """Where an unfinished run keeps its executed notebooks."""
    return project.joinpath("reports", ".staging", "work", "notebooks")


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file of a folder."""
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def no_kernel(*_):
    raise AssertionError("a kernel was started")


def test_a_run_publishes_pages_notebooks_and_manifest_under_its_quarter(project):
    index = run()
    folder = project / "reports" / "2026Q1"  # the last date in the workspace is 2026-03-31
    assert index == folder / "index.html"
    names = set(tree(folder))
    assert {
        "index.html",
        "10_align.html",
        "70_governance.html",
        "manifest.json",
        "notebooks/30_segments.ipynb",
    } <= names
    assert not any(
        n.startswith(("tables/", "steps/", "state/", "previous/")) or n.endswith("settings.json") for n in names
    )
    manifest = verify_run(folder)
    assert manifest["as_of"] == "2026-03-31"
    assert manifest["parameters"]["30_segments"]["seed"] == 1
    assert {f["file"] for f in manifest["inputs"]["files"]} == {"accounts.csv", "opportunities.csv"}
    assert (project / "reports" / "index.html").is_file()
    assert json.loads((project / "reports" / "latest.json").read_text())["run"] == "2026Q1"
    assert not list((project / "reports" / ".staging").rglob("*.parquet")), "raw tables outlived the run"


def test_two_runs_on_the_same_input_give_the_same_bytes_wherever_they_are_made(project, tmp_path_factory, monkeypatch):
    first = tree(run().parent)
    elsewhere = tmp_path_factory.mktemp("another place")
    write_workspace(elsewhere / "ws")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.setattr(kernels, "LIBRARIES", ())
    monkeypatch.setattr(pipeline, "Zygote", kernels.Zygote)  # another one, started in that environment
    second = tree(run().parent)
    assert {k for k in first | second if first.get(k) != second.get(k)} <= REPEATABLE_EXCEPT


def test_neither_paths_nor_users_of_this_machine_are_published(project):
    folder = run().parent
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in REPEATABLE_EXCEPT:
            assert str(project).encode() not in path.read_bytes(), path.name


def test_parameters_reach_their_notebook_only(project):
    folder = run(overrides=("30_segments.k=5",)).parent
    assert '"5\\n"' in (folder / "notebooks" / "30_segments.ipynb").read_text()
    assert verify_run(folder)["parameters"]["30_segments"]["k"] == 5
    assert "k" not in verify_run(folder)["parameters"]["10_align"]


def test_a_rerun_moves_the_older_run_aside_and_an_earlier_quarter_is_compared_with(project):
    first = run(as_of="2026-02-28").parent
    assert first.name == "2026Q1"
    second = run(out=Path("reports/later")).parent
    assert verify_run(second)["parent"] == verify_run(first)["run_id"]
    assert "earlier" in (second / "notebooks" / "70_governance.ipynb").read_text()
    run(as_of="2026-02-28")
    verify_run(project / "reports" / ".superseded" / "2026Q1" / "1")


def test_a_previous_run_can_be_named_and_must_verify(project):
    first = run(as_of="2026-02-28", out=Path("elsewhere/a")).parent
    with pytest.raises(BadInput, match="--previous"):
        run(previous=Path("ws"))
    assert verify_run(run(previous=first).parent)["parent"] == verify_run(first)["run_id"]


def test_a_failed_notebook_leaves_the_published_run_alone_and_its_page_is_named(project):
    folder = run().parent
    before = tree(project / "reports")
    write_notebook(project / "notebooks", "30_segments", "raise ValueError('no <b>luck</b>')")
    with pytest.raises(StageFailed, match=r"30_segments failed in cell \[3\]: ValueError: no <b>luck</b>") as caught:
        run()
    page = project / "reports" / ".failed" / "2026Q1" / "30_segments.html"
    assert "Its page: reports/.failed/2026Q1/30_segments.html" in str(caught.value)
    assert "no &lt;b&gt;luck" in page.read_text()
    after = tree(project / "reports")
    assert {k: v for k, v in after.items() if not k.startswith((".failed", ".staging"))} == {
        k: v for k, v in before.items() if not k.startswith((".failed", ".staging"))
    }
    verify_run(folder)


def test_a_killed_kernel_fails_the_run(project):
    write_step(project / "notebooks", "30_segments", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailed, match=r"30_segments failed in cell .* SIGKILL"):
        run()
    assert not (project / "reports" / "2026Q1").exists()
    assert "SIGKILL" in (project / "reports" / ".failed" / "2026Q1" / "30_segments.html").read_text()


def test_a_notebook_that_does_not_close_its_step_fails_the_run(project):
    write_notebook(project / "notebooks", "30_segments", "1")
    with pytest.raises(StageFailed, match="did not close its step"):
        run()


def test_resume_goes_on_from_the_failed_step_and_gives_the_bytes_of_an_uninterrupted_run(project, capsys):
    good = (project / "notebooks" / "30_segments.ipynb").read_bytes()
    whole = tree(run(out=Path("whole/2026Q1")).parent)
    write_notebook(project / "notebooks", "30_segments", "raise ValueError", parameters=CHOICE)
    with pytest.raises(StageFailed, match="--resume"):
        run()
    (project / "notebooks" / "30_segments.ipynb").write_bytes(good)
    kept = (executed(project) / "10_align.ipynb").stat().st_mtime_ns
    resumed = run(resume=True).parent
    assert (executed(project) / "10_align.ipynb").stat().st_mtime_ns == kept
    differing = {k for k in tree(resumed) | whole if tree(resumed).get(k) != whole.get(k)}
    assert differing <= REPEATABLE_EXCEPT


@pytest.mark.parametrize("change", ["data", "parameter", "damage", "notebook"])
def test_resume_runs_again_what_is_no_longer_from_this_input(project, change):
    run()
    work = executed(project)
    before = {p.stem: p.stat().st_mtime_ns for p in work.glob("*")}
    overrides = ()
    if change == "data":
        with (project / "ws/accounts.csv").open("a") as file:
            file.write("A3,Three\n")
    elif change == "parameter":
        overrides = ("30_segments.k=4",)
    elif change == "damage":
        (project / "reports/.staging/work/steps/30_segments/done.json").write_text("{}")
    else:
        write_step(project / "notebooks", "30_segments", "print(k, k)", parameters=CHOICE)
    run(resume=True, overrides=overrides)
    again = {p.stem for p in work.glob("*") if p.stat().st_mtime_ns != before[p.stem]}
    expected = {
        "data": {"10_align", "30_segments", "70_governance"},
        "parameter": {"30_segments", "70_governance"},  # stale: made from the step before
        "damage": {"30_segments"},  # its input is the same, so what follows still holds
        "notebook": {"30_segments", "70_governance"},
    }
    assert again == expected[change]


def test_a_partial_run_does_not_take_the_place_of_a_whole_one(project):
    whole = run().parent
    before = tree(whole)
    partial = run(only=("align",)).parent
    assert partial.name == "2026Q1-partial"
    assert tree(whole) == before
    assert json.loads((project / "reports/latest.json").read_text())["run"] == "2026Q1"
    assert verify_run(partial)["complete"] is False


def test_from_keeps_what_is_before_and_runs_the_rest_again(project):
    run()
    work = executed(project)
    before = {p.stem: p.stat().st_mtime_ns for p in work.glob("*")}
    run(start="30_segments")
    again = {p.stem for p in work.glob("*") if p.stat().st_mtime_ns != before[p.stem]}
    assert again == {"30_segments", "70_governance"}


def test_bad_input_leaves_nothing_behind(project):
    (project / "ws" / "opportunities.csv").unlink()
    with pytest.raises(BadInput, match="opportunities"):
        run()
    assert not [p for p in (project / "reports").rglob("*") if p.is_file() and p.name != ".lock"]


def test_an_export_that_changes_during_the_run_stops_it(project):
    write_step(
        project / "notebooks", "30_segments", f"open({str(project / 'ws/accounts.csv')!r}, 'a').write('A9,Nine\\n')"
    )
    with pytest.raises(BadInput, match=r"accounts\.csv.*changed while the run"):
        run()
    assert not (project / "reports" / "2026Q1").exists()


def test_a_second_run_on_the_same_reports_is_refused(project):
    (project / "reports").mkdir()
    with hold_lock(project / "reports"), pytest.raises(Locked, match="another run"):
        run()


def test_a_folder_that_is_not_a_run_is_never_moved_aside(project):
    (project / "mine").mkdir()
    (project / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="holds something that is not a run"):
        run(out=Path("mine"))
    assert (project / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": ("30_segments.kk=3",)}, '"kk" is not a parameter of 30_segments, did you mean "k"'),
        ({"overrides": ("30_segmets.k=3",)}, '"30_segmets" is not a notebook, did you mean "30_segments"'),
        ({"overrides": ("30_segments.x=1;print('in')#=1",)}, "is not a parameter of 30_segments"),
        ({"overrides": ("30_segments.k=three",)}, '"three" is not a whole number'),
        ({"overrides": ("30_segments.share=nan",)}, '"nan" is not a number'),
        ({"overrides": ("30_segments.deep=maybe",)}, '"maybe" is not true or false'),
        ({"overrides": ("30_segments.levels=__import__('os')",)}, "is not a list"),
        ({"overrides": ("k=3",)}, "is not of the form notebook.parameter=value"),
        (
            {"overrides": ("30_segments.as_of=2020-01-01",)},
            "set by the command for all notebooks. Fix: use --as-of|--as-of",
        ),
        ({"only": ("traits",)}, '"traits" is not a notebook'),
        ({"start": "30_segment"}, 'did you mean "30_segments"'),
        ({"as_of": "30/06/2026"}, "is not a date"),
        ({"as_of": (dt.date.today() + dt.timedelta(days=2)).isoformat()}, "is after today"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_kernel_starts(project, monkeypatch, options, message):
    monkeypatch.setattr(kernels.Zygote, "__init__", no_kernel)
    with pytest.raises(BadInput, match=message.replace("(", r"\(").replace(")", r"\)")):
        run(**options)
    assert not list((project / "reports").rglob("*.html")) if (project / "reports").exists() else True


def test_every_wrong_option_is_named_at_once(project):
    with pytest.raises(BadInput) as caught:
        run(overrides=("30_segments.kk=3", "10_align.x=1"), as_of="soon", only=("nothing",))
    assert len(caught.value.problems) == 4


def test_values_are_injected_as_values_never_as_code(project):
    write_step(project / "notebooks", "30_segments", "print(repr(name))", parameters=CHOICE)
    text = '\'); import os; os._exit(1) #\n""" {x}'
    folder = run(overrides=(f"30_segments.name={text}",)).parent
    book = json.loads((folder / "notebooks" / "30_segments.ipynb").read_text())
    assert "".join(book["cells"][2]["outputs"][0]["text"]) == repr(text) + "\n"


def test_parameters_are_read_with_type_default_and_help(tmp_path):
    path = write_notebook(
        tmp_path, "30_segments", parameters=CHOICE + "\nplain = 2.5  # no annotation\ncomputed = 1 + k"
    )
    found = read_parameters(path)
    assert (found["k"].kind, found["k"].default, found["k"].help) == ("int", 3, "segments")
    assert (found["plain"].kind, found["seed"].default) == ("float", -1)
    assert "computed" not in found


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", "int", 3),
        ("-1", "int", -1),
        ("1e-3", "float", 0.001),
        ("YES", "bool", True),
        ("0", "bool", False),
        ("a=b", "str", "a=b"),
        ("['x', 2]", "list", ["x", 2]),
    ],
)
def test_text_becomes_a_value_of_the_declared_type(text, kind, value):
    assert convert(text, kind) == value


def test_notebooks_are_found_by_name_short_name_and_number(tmp_path):
    for name in ("10_align", "30_segments"):
        write_notebook(tmp_path, name, parameters=CHOICE)
    found = find_notebooks(tmp_path)
    assert [[n.name for n in select_notebooks(found, (given,))[0]] for given in ("30_segments", "segments", "30")] == [
        ["30_segments"]
    ] * 3
    overrides, problems = check_overrides(["segments.k=4", "30.name=a.b=c"], found)
    assert overrides == {"30_segments": {"k": 4, "name": "a.b=c"}}
    assert not problems


def artefacts(name: str, *cells: str) -> tuple[str, ...]:
    """Cells of a notebook that opens its step in the usual way."""
    return ("from icplab.step import open_step", f'step = open_step("{name}", run=run)', "show_header(step)", *cells)


def exchange(folder: Path, **books: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What each notebook needs."""
    for name, cells in books.items():
        write_notebook(folder, name.removeprefix("n"), *artefacts(name.removeprefix("n"), *cells))
    return read_needs(find_notebooks(folder))


def test_a_notebook_needs_those_that_write_what_it_reads(tmp_path):
    needs = exchange(
        tmp_path,
        n10_a=('step.write("kpis", x)', "step.finish(found)"),
        n20_b=('step.write_json("plan", step.accounts)', "step.finish(found)"),
        n30_c=('step.read("kpis").head(step.as_of)', 'step.write("traits", 1)'),
        n40_d=('f(step.read_json("plan") if step.has("traits") else 0)',),
        n50_e=('step.read("findings")',),
    )
    assert needs == {"10_a": (), "20_b": (), "30_c": ("10_a",), "40_d": ("20_b", "30_c"), "50_e": ("10_a", "20_b")}
    assert with_needs({"40_d"}, needs) == {"10_a", "20_b", "30_c", "40_d"}


@pytest.mark.parametrize(
    "cell",
    ["step.read(name)", "step.folder / 'x'", "f(step)", "step.store", "again = step", "step.read(*names)", "%magic"],
)
def test_a_notebook_whose_reading_cannot_be_told_needs_all_before_it(tmp_path, cell):
    assert exchange(tmp_path, n10_a=("1",), n20_b=("1",), n30_c=(cell,))["30_c"] == ("10_a", "20_b")


def test_a_writer_of_unknown_artefacts_is_needed_by_every_reader(tmp_path):
    needs = exchange(tmp_path, n10_a=("step.write(name, x)",), n20_b=('step.read("kpis")',), n30_c=("step.seed",))
    assert needs["20_b"] == ("10_a",)


def test_a_changed_step_leaves_those_alone_that_read_nothing_of_it(project):
    opened = 'from icplab.step import open_step; step = open_step("{0}", workspace="", run=run, as_of=as_of, seed=seed)'
    for name in ("10_align", "30_segments"):
        write_notebook(project / "notebooks", name, opened.format(name), "step.finish([])")
    run()
    work = executed(project)
    before = {p.stem: p.stat().st_mtime_ns for p in work.glob("*")}
    write_notebook(project / "notebooks", "10_align", opened.format("10_align"), "2", "step.finish([])")
    run(resume=True)
    again = {p.stem for p in work.glob("*") if p.stat().st_mtime_ns != before[p.stem]}
    assert again == {"10_align", "70_governance"}


def test_a_folder_without_notebooks_is_said_to_be_one(tmp_path):
    with pytest.raises(BadInput, match="no numbered notebooks"):
        find_notebooks(tmp_path)


def test_the_project_s_own_notebooks_are_found(monkeypatch):
    monkeypatch.delenv("ICPLAB_NOTEBOOKS", raising=False)
    for notebook in find_notebooks():
        assert set(notebooks.RESERVED) <= set(notebook.parameters), notebook.name


@pytest.mark.parametrize(
    ("date", "period"), [("2026-01-01", "2026Q1"), ("2026-06-30", "2026Q2"), ("2026-12-31", "2026Q4")]
)
def test_the_period_is_the_calendar_quarter_of_the_as_of_date(date, period):
    assert period_of(date) == period
