"""The command line: exit codes of the contract, one clear message with the nearest name, never a traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import icplab
from icplab import cli
from icplab.core.config import read_settings
from icplab.core.errors import BadInput, DoesNotVerify
from icplab.run.decisions import append_decision, parse_expectations, read_register
from icplab.run.export import compare_files, describe_export, export_files
from icplab.run.lab import lab_command, lab_environment
from icplab.run.publish import publish_run, write_manifest
from icplab.run.starter import settings_template
from tests.dummy_notebooks import light_environment, write_step, write_workspace

COMMANDS = ("run", "check", "init", "simulate", "export", "compare", "verify", "decide", "lab")


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command, run in this process."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


def make_run(folder: Path, rows: str = "hubspot_id,tier\n1,tier_1\n", as_of: str = "2026-06-30") -> Path:
    """A published run that holds one file for HubSpot."""
    staged = folder.parent / ".staging" / folder.name
    (staged / "activation").mkdir(parents=True)
    (staged / "artifacts").mkdir()
    (staged / "activation" / "hubspot_companies.csv").write_text(rows, encoding="utf-8")
    write_manifest(staged, {"as_of": as_of, "complete": True, "rows": rows})
    publish_run(staged, folder)
    return folder


def test_help_names_every_command_and_exits_with_0(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(f"\n    {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"icplab {command}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "ws"], '"rnu" is not a command, did you mean "run"?'),
        (["run", "ws", "--asof", "2026-06-30"], '"--asof" is not known here, did you mean "--as-of"?'),
        (["run", "ws", "--resum"], 'did you mean "--resume"?'),
        (["run"], "WORKSPACE"),
        (["run", "ws", "more"], '"more" is not known here'),
        (["run", "nowhere"], '"nowhere" is not a folder'),
        (["check", "nowhere"], "nowhere"),
        (["verify", "nowhere"], "is not a published run"),
        (["compare", "nowhere", "there"], "is not a published run"),
        (["export", "nowhere", "--to", "hubspot"], "is not a published run"),
        (["export", "nowhere", "--to", "hubspt"], "hubspt"),
        (["simulate", "x", "--scenario", "claen"], 'did you mean "clean"'),
        (["simulate", "x", "--accounts", "many"], "many"),
        (["lab", "nowhere"], "is not a folder"),
        (["decide", "nowhere", "--what", "a", "--why", "b", "--who", "c"], "is not a folder"),
        (["decide", ".", "--what", "a", "--why", "b", "--who", "c", "--review", "soon"], "soon"),
        (["decide", ".", "--what", "a", "--why", "b", "--who", "c", "--expect", "win_rate"], "kpi=number"),
    ],
)
def test_a_mistake_is_one_message_on_stderr_and_exit_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not out
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_a_reports_folder_that_cannot_be_made_is_a_message(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path / "ws")
    (tmp_path / "reports").write_text("a file where the folder would go")
    code, _, err = call(capsys, "run", "ws")
    assert code == 2
    assert "cannot be written to" in err


def test_verify_says_which_file_and_exits_with_4(capsys, tmp_path):
    run = make_run(tmp_path / "2026Q2")
    assert call(capsys, "verify", run)[0] == 0
    file = run / "activation" / "hubspot_companies.csv"
    file.chmod(0o644)
    file.write_text("hubspot_id,tier\n1,tier_2\n")
    code, _, err = call(capsys, "verify", run)
    assert code == 4
    assert "activation/hubspot_companies.csv: changed" in err


def test_a_locked_reports_folder_exits_with_75(capsys, tmp_path, monkeypatch):
    from icplab.run.lock import hold_lock

    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path / "ws")
    (tmp_path / "reports").mkdir()
    with hold_lock(tmp_path / "reports"):
        assert call(capsys, "run", "ws")[0] == 75


def test_check_prints_the_ledger_and_says_when_a_run_would_stop(capsys, tmp_path):
    workspace = write_workspace(tmp_path / "ws")
    code, out, _ = call(capsys, "check", workspace)
    assert code == 0
    assert "accounts.csv" in out
    (workspace / "opportunities.csv").unlink()
    code, _, err = call(capsys, "check", workspace)
    assert code == 2
    assert "opportunities" in err


def test_check_strict_exits_with_1_on_a_warning(capsys, tmp_path):
    workspace = write_workspace(tmp_path / "ws")
    (workspace / "notes.csv").write_text("something,else\n1,2\n")  # a file that no table reads
    assert call(capsys, "check", workspace)[0] == 0
    assert call(capsys, "check", workspace, "--strict")[0] == 1


def test_a_run_ends_with_the_path_of_its_index_and_failing_ones_with_3(tmp_path):
    write_workspace(tmp_path / "ws")
    write_step(tmp_path / "notebooks", "10_align", "1")
    done = in_shell(tmp_path, "run", "ws")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "reports/2026Q1/index.html"
    assert not done.stderr
    write_step(tmp_path / "notebooks", "10_align", "1 / 0")
    failed = in_shell(tmp_path, "run", "ws")
    assert failed.returncode == 3
    assert "ZeroDivisionError: division by zero" in failed.stderr
    assert "10_align.html" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_with_its_code_and_leaves_no_tables(tmp_path, number, code):
    write_workspace(tmp_path / "ws")
    started = tmp_path / "started"
    write_step(tmp_path / "notebooks", "10_align", f"open({str(started)!r}, 'w').close(); import time; time.sleep(60)")
    # What is started in the background ignores Ctrl-C, and hands that on; here it must not.
    hears = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL), "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("run", "ws"), **where(tmp_path), **hears) as process:
        until = time.monotonic() + 60
        while not started.exists() and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(number)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert "Traceback" not in err
    assert not list((tmp_path / "reports").rglob("*.parquet"))
    assert not (tmp_path / "reports" / "2026Q1").exists()


def test_help_starts_without_loading_a_library():
    script = "import sys, icplab, icplab.cli; icplab.cli.build_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "papermill", "json", "dataclasses"} & set(loaded)


def test_the_door_is_small_and_every_name_opens():
    assert len(icplab.__all__) <= 25
    assert all(getattr(icplab, name) is not None for name in icplab.__all__)
    assert icplab.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        icplab.nothing  # noqa: B018


def test_init_writes_settings_that_are_the_defaults_and_touches_nothing_that_is_there(capsys, tmp_path):
    folder = tmp_path / "mine"
    assert call(capsys, "init", folder)[0] == 0
    assert read_settings(folder) == read_settings(tmp_path)
    code, _, err = call(capsys, "init", folder)
    assert code == 2
    assert "already has icplab.toml" in err


def test_every_setting_of_the_template_is_one_that_can_be_used(tmp_path):
    text = "\n".join(line.removeprefix("# ") for line in settings_template().split("# An export")[0].splitlines()[2:])
    lines = [line for line in text.splitlines() if line.startswith("[") or (" = " in line and not line[0].isupper())]
    settings = [line for line in lines if line.startswith("[") or line.split(" = ")[0].isidentifier()]
    tomllib.loads("\n".join(settings))
    (tmp_path / "icplab.toml").write_text("\n".join(settings))
    read_settings(tmp_path)


def test_decisions_are_chained_and_a_changed_line_is_noticed(capsys, tmp_path):
    for what in ("first", "second"):
        options = ("--what", what, "--why", "because", "--who", "RevOps", "--expect", "win_rate=0.3")
        assert call(capsys, "decide", tmp_path, *options)[0] == 0
    path = tmp_path / "decisions.jsonl"
    entries = read_register(path)
    assert [e["what"] for e in entries] == ["first", "second"]
    assert entries[1]["prev"] == entries[0]["hash"]
    assert entries[0]["expect"] == {"win_rate": 0.3}
    path.write_text(path.read_text().replace("first", "other"))
    with pytest.raises(DoesNotVerify, match="line 1 was changed"):
        append_decision(tmp_path, what="third", why="x", who="y")
    assert len(path.read_text().splitlines()) == 2


def test_a_line_cut_off_in_writing_is_noticed(tmp_path):
    append_decision(tmp_path, what="a", why="b", who="c", at="2026-01-01")
    with (tmp_path / "decisions.jsonl").open("a") as file:
        file.write('{"at": "2026-02')
    with pytest.raises(DoesNotVerify, match="line 2 is cut off"):
        append_decision(tmp_path, what="a", why="b", who="c")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"what": " "}, "--what"),
        ({"at": "01/02/2026"}, "is not a date"),
        ({"at": "2026-06-30", "review": "2026-01-01"}, "before the decision"),
    ],
)
def test_a_decision_that_cannot_be_meant_is_refused(tmp_path, given, message):
    with pytest.raises(BadInput, match=message):
        append_decision(tmp_path, **{"what": "a", "why": "b", "who": "c", **given})
    assert not (tmp_path / "decisions.jsonl").exists()


def test_expectations_are_numbers_by_kpi():
    assert parse_expectations(["win_rate=0.4", "cac = 1200"]) == {"win_rate": 0.4, "cac": 1200.0}


def test_the_dry_run_says_what_comes_goes_and_changes_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = make_run(
        tmp_path / "2026Q1", "id,tier,as_of\n1,tier_1,2026-03-31\n2,tier_2,2026-03-31\n3,tier_3,2026-03-31\n"
    )
    after = make_run(
        tmp_path / "2026Q2", "id,tier,as_of\n1,tier_1,2026-06-30\n2,tier_1,2026-06-30\n4,tier_3,2026-06-30\n"
    )
    (change,) = compare_files(after, "hubspot", before)
    assert (change.added, change.gone, change.same) == (["4"], ["3"], 1)
    assert change.changed == {"2": ["tier 'tier_2' → 'tier_1'"]}
    code, out, _ = call(capsys, "export", after, "--to", "hubspot", "--dry-run", "--against", before)
    assert code == 0
    assert "1 new, 1 changed (tier 1), 1 no longer there, 1 the same" in out
    assert not (tmp_path / "hubspot-2026Q2").exists()
    assert "empty system" in describe_export(after, "hubspot")


def test_a_figure_that_moves_with_every_fit_is_no_change_of_an_account(tmp_path):
    header = "id,tier,icp_segment,icp_fit_score,icp_win_probability,name\n"
    before = make_run(
        tmp_path / "a",
        header
        + "1,tier_1,S1,50.0,0.3,A\n2,tier_1,S1,50.0,0.3,B\n3,tier_1,S1,50.0,0.3,C\n4,tier_1,S1,,0.3,D\n5,t,S,,,E\n",
    )
    after = make_run(
        tmp_path / "b",
        header
        + "1,tier_1,S1,51.0,0.4,A\n2,tier_2,S2,50.0,0.3,B\n3,tier_1,S1,51.1,0.3,C\n4,tier_1,S1,,0.3,X\n5,t,S,,,E\n",
    )
    (change,) = compare_files(after, "hubspot", before)
    assert change.kinds == {"tier": 1, "points": 1, "segment": 1, "other columns": 1}
    assert (list(change.changed), change.moved, change.same) == (["2", "3", "4"], 1, 1)
    assert "3 changed (tier 1, points 1, segment 1, other columns 1)" in describe_export(after, "hubspot", before)


def test_export_copies_the_files_as_they_are_and_never_over_others(tmp_path):
    run = make_run(tmp_path / "2026Q2")
    (path,) = export_files(run, "hubspot", tmp_path / "out")
    assert path.read_bytes() == (run / "activation" / path.name).read_bytes()
    with pytest.raises(BadInput, match="already holds hubspot_companies"):
        export_files(run, "hubspot", tmp_path / "out")
    with pytest.raises(BadInput, match="no import files for salesforce"):
        export_files(run, "salesforce", tmp_path / "out")


def test_the_lab_listens_on_this_machine_only_and_reads_the_workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_line = lab_command(8899, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command_line
    assert not any("token" in part or "password" in part for part in command_line)
    environment = lab_environment(write_workspace(tmp_path / "ws"))
    assert environment["ICPLAB_WORKSPACE"] == str(tmp_path / "ws")
    assert environment["ICPLAB_RUN"] == str(tmp_path / "reports" / "lab")


def test_simulate_writes_a_workspace_that_check_accepts(capsys, tmp_path):
    code, out, _ = call(capsys, "simulate", tmp_path / "market", "--accounts", "300", "--seed", "5")
    assert code == 0
    assert "truth" in out
    assert json.loads((tmp_path / "market" / "truth" / "recipe.json").read_text())
    assert call(capsys, "check", tmp_path / "market")[0] == 0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "icplab", *arguments]


def where(folder: Path) -> dict:
    """Run there, with that folder's notebooks."""
    return {"cwd": folder, "env": light_environment(folder)}


def in_shell(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), **where(folder), capture_output=True, text=True)
