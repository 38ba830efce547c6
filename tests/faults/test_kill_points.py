"""Killed at any point of publishing, the reports folder holds the old run or the new one, whole, and the next command heals it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from icplab.core.errors import DoesNotVerify
from icplab.run import publish
from icplab.run.publish import find_runs, heal_reports, publish_run, verify_run
from tests.test_publish import stage

# Everything in publishing that changes what is on the disk; each call is one point at which the process may die.
CHANGES = ("rename", "replace", "fsync", "fchmod")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and nothing after it runs."""


@pytest.fixture
def killed_at(monkeypatch) -> Callable[[int], None]:
    """Let the n-th change from now on be the last thing that does not happen."""

    def at(point: int) -> None:
        count = 0

        def guarded(real):
            def call(*arguments, **named):
                nonlocal count
                count += 1
                if count >= point:
                    raise Killed
                return real(*arguments, **named)

            return call

        for name in CHANGES:
            monkeypatch.setattr(publish.os, name, guarded(getattr(os, name)))

    return at


def states(reports) -> list[str]:
    """Content of the run of the period, if it is there and whole."""
    folder = reports / "2026Q2"
    if not folder.exists():
        return []
    verify_run(folder)
    return [(folder / "index.html").read_text()]


def points() -> range:
    """More than publishing has changes; those beyond its end do nothing."""
    return range(1, 23)


@pytest.mark.parametrize("point", points())
def test_after_a_kill_and_the_next_command_the_old_or_the_new_run_is_there_and_whole(
    tmp_path, killed_at, monkeypatch, point
):
    publish_run(stage(tmp_path, "old"), tmp_path / "2026Q2")
    staged = stage(tmp_path, "new")
    with monkeypatch.context():
        killed_at(point)
        try:
            publish_run(staged, tmp_path / "2026Q2")
        except Killed:
            pass
        finally:
            monkeypatch.undo()
    before = states(tmp_path)  # what a reader sees before anybody heals: old, new, or nothing; never a part
    assert before in ([], ["<p>old</p>"], ["<p>new</p>"])
    heal_reports(tmp_path)
    assert states(tmp_path) in (["<p>old</p>"], ["<p>new</p>"])
    assert [f.name for f, _ in find_runs(tmp_path)] == ["2026Q2"]
    publish_run(stage_again(tmp_path), tmp_path / "2026Q2")
    assert states(tmp_path) == ["<p>again</p>"]


@pytest.mark.parametrize("point", points())
def test_a_kill_during_healing_is_healed_too(tmp_path, killed_at, monkeypatch, point):
    publish_run(stage(tmp_path, "old"), tmp_path / "2026Q2")
    interrupted(tmp_path)
    killed_at(point)
    try:
        heal_reports(tmp_path)
    except Killed:
        pass
    finally:
        monkeypatch.undo()
    heal_reports(tmp_path)
    assert states(tmp_path) == ["<p>new</p>"]


def test_a_half_written_replacement_never_takes_the_place_of_a_good_run(tmp_path):
    publish_run(stage(tmp_path, "old"), tmp_path / "2026Q2")
    staged = interrupted(tmp_path)
    (staged / "index.html").chmod(0o644)
    (staged / "index.html").write_text("<p>ne")
    with pytest.raises(DoesNotVerify):
        verify_run(staged)
    assert "put 2026Q2 back" in heal_reports(tmp_path)
    assert states(tmp_path) == ["<p>old</p>"]


def interrupted(reports):
    """As after a kill between the two renames: the old run is aside, the new one not yet in place."""
    staged = stage(reports, "new")
    older = reports / ".superseded" / "2026Q2" / "1"
    note = f'{{"staging": "{staged.relative_to(reports).as_posix()}", "target": "2026Q2", "older": ".superseded/2026Q2/1"}}'
    (reports / publish.INTENT).write_text(note)
    older.parent.mkdir(parents=True)
    os.rename(reports / "2026Q2", older)
    return staged


def stage_again(reports):
    """A third run, after whatever the kill left in the staging folder was cleared as a run does."""
    publish.remove_folder(reports / ".staging" / "work")
    return stage(reports, "again")


def test_the_points_cover_all_of_publishing(tmp_path, killed_at, monkeypatch):
    publish_run(stage(tmp_path, "old"), tmp_path / "2026Q2")
    staged = stage(tmp_path, "new")
    killed_at(max(points()))
    publish_run(staged, tmp_path / "2026Q2")  # not reached: nothing is left to be killed at
    monkeypatch.undo()
    assert states(tmp_path) == ["<p>new</p>"]
