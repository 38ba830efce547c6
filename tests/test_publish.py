"""Publishing: whole or not at all, never changed afterwards, and every change noticed."""

from __future__ import annotations

import json
import os

import pytest

from icplab.core.errors import BadInput, DoesNotVerify, Locked
from icplab.run.lock import hold_lock
from icplab.run.publish import (
    INTENT,
    find_runs,
    heal_reports,
    publish_run,
    read_manifest,
    verify_run,
    write_manifest,
)


def stage(reports, text="first", as_of="2026-06-30", complete=True):
    """A run folder, complete, waiting to be published."""
    folder = reports / ".staging" / "work" / "publish"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "index.html").write_text(f"<p>{text}</p>", encoding="utf-8")
    (folder / "artifacts" / "kpis.parquet").write_bytes(text.encode())
    (folder / "timing.json").write_text("{}", encoding="utf-8")
    write_manifest(folder, {"as_of": as_of, "complete": complete})
    return folder


@pytest.fixture
def published(tmp_path):
    """reports/2026Q2, published."""
    publish_run(stage(tmp_path), tmp_path / "2026Q2")
    return tmp_path / "2026Q2"


def test_a_published_run_verifies_and_its_files_cannot_be_written(published):
    assert verify_run(published)["as_of"] == "2026-06-30"
    files = [p for p in published.rglob("*") if p.is_file()]
    assert {oct(p.stat().st_mode & 0o777) for p in files} == {"0o444"}
    assert json.loads((published.parent / "latest.json").read_text())["run"] == "2026Q2"
    assert not (published.parent / INTENT).exists()


@pytest.mark.parametrize("name", ["index.html", "artifacts/kpis.parquet"])
def test_one_flipped_bit_is_noticed_and_the_file_named(published, name):
    path = published / name
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(DoesNotVerify, match=f"{name}: changed"):
        verify_run(published)


def test_a_deleted_file_is_noticed(published):
    (published / "index.html").unlink()
    with pytest.raises(DoesNotVerify, match=r"index\.html: missing"):
        verify_run(published)


def test_an_extra_file_is_noticed_also_when_it_is_a_link(published):
    (published / "artifacts" / "extra.csv").write_text("x")
    (published / "link").symlink_to("/etc/hostname")
    with pytest.raises(DoesNotVerify, match=r"extra\.csv: not part of the run[\s\S]*link: not part of the run"):
        verify_run(published)


def test_every_difference_is_named_not_only_the_first(published):
    (published / "index.html").unlink()
    (published / "extra").write_text("x")
    with pytest.raises(DoesNotVerify, match=r"index\.html[\s\S]*extra"):
        verify_run(published)


def test_an_edited_manifest_is_noticed(published):
    path = published / "manifest.json"
    manifest = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps({**manifest, "as_of": "2026-03-31"}))
    with pytest.raises(DoesNotVerify, match=r"manifest\.json: edited"):
        verify_run(published)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": "x", "files": {}}', '{"format": 1, "files": []}']
)
def test_a_damaged_manifest_is_a_message_not_a_crash(published, text):
    (published / "manifest.json").chmod(0o644)
    (published / "manifest.json").write_text(text)
    with pytest.raises(DoesNotVerify, match="damaged"):
        verify_run(published)


def test_a_manifest_of_a_later_version_is_refused(published):
    (published / "manifest.json").chmod(0o644)
    (published / "manifest.json").write_text('{"format": 2, "files": {}}')
    with pytest.raises(BadInput, match="later icplab"):
        read_manifest(published)


def test_a_lost_manifest_is_a_damaged_run_but_any_other_folder_is_no_run(published, tmp_path):
    (published / "manifest.json").unlink()
    with pytest.raises(DoesNotVerify, match=r"manifest\.json: missing"):
        verify_run(published)
    (tmp_path / "holiday").mkdir()
    with pytest.raises(BadInput, match="is not a published run"):
        verify_run(tmp_path / "holiday")


def test_the_same_content_gives_the_same_manifest(tmp_path):
    for reports in (tmp_path / "a", tmp_path / "b"):
        publish_run(stage(reports), reports / "2026Q2")
    assert (tmp_path / "a/2026Q2/manifest.json").read_bytes() == (tmp_path / "b/2026Q2/manifest.json").read_bytes()


def test_timing_may_differ(published):
    (published / "timing.json").chmod(0o644)
    (published / "timing.json").write_text('{"10_align": 3}')
    verify_run(published)


def test_a_rerun_keeps_every_older_run_of_the_period(published):
    reports = published.parent
    for number, text in enumerate(("second", "third"), start=1):
        publish_run(stage(reports, text), published)
        verify_run(reports / ".superseded" / "2026Q2" / str(number))
        verify_run(published)
    kept = [(reports / f".superseded/2026Q2/{n}/index.html").read_text() for n in (1, 2)]
    assert kept == ["<p>first</p>", "<p>second</p>"]
    assert (published / "index.html").read_text() == "<p>third</p>"


def test_the_latest_run_is_the_one_with_the_latest_as_of_date_not_the_last_made(published):
    reports = published.parent
    publish_run(stage(reports, as_of="2026-03-31"), reports / "2026Q1")
    assert json.loads((reports / "latest.json").read_text())["run"] == "2026Q2"
    publish_run(stage(reports, as_of="2026-09-30", complete=False), reports / "2026Q3-partial")
    assert json.loads((reports / "latest.json").read_text())["run"] == "2026Q2"
    assert [f.name for f, _ in find_runs(reports)] == ["2026Q1", "2026Q2", "2026Q3-partial"]


def test_one_damaged_run_does_not_hide_the_others(published):
    (published.parent / "broken").mkdir()
    (published.parent / "broken" / "manifest.json").write_text("{")
    assert [f.name for f, _ in find_runs(published.parent)] == ["2026Q2"]


def test_a_second_run_is_refused_and_told_who_holds_the_lock(tmp_path):
    with (
        hold_lock(tmp_path),
        pytest.raises(Locked, match=rf"another run \(process {os.getpid()}\)"),
        hold_lock(tmp_path),
    ):
        pass
    with hold_lock(tmp_path):
        pass


def test_other_reports_folders_are_not_locked(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with hold_lock(tmp_path / "a"), hold_lock(tmp_path / "b"):
        pass


def test_healing_has_nothing_to_do_after_a_complete_publication(published):
    assert heal_reports(published.parent) == ""
    verify_run(published)


def test_a_damaged_note_of_an_interrupted_publication_is_dropped(published):
    (published.parent / INTENT).write_text("{")
    assert heal_reports(published.parent) == ""
    assert not (published.parent / INTENT).exists()
