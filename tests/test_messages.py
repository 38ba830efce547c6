"""Messages: every code raised is declared and tested, and the page about them is what the declarations say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from icplab.core.messages import PAGE, message_of, messages, page
from tests.catalogue import files_and_structure, ids_dates_numbers, sources_and_identity, words_and_meaning

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"ICP-[EQRW]\d{3}")
RAISED = {
    code: path.name
    for path in sorted((ROOT / "icplab").rglob("*.py"))
    if path.name != "messages.py"
    for code in CODE.findall(path.read_text(encoding="utf-8"))
}
# Written with their outcome left open in the code: the setting decides.
RAISED |= dict.fromkeys(("ICP-Q057", "ICP-W057", "ICP-Q060", "ICP-W060"), "meaning.py")
CASES = (*files_and_structure.CASES, *ids_dates_numbers.CASES, *words_and_meaning.CASES, *sources_and_identity.CASES)
IN_CATALOGUE = {said.code for case in CASES for said in case.said}
# Raised where a workspace of two small tables does not get: these test modules do.
ELSEWHERE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").glob("test_*.py"))
    if path.name != "test_messages.py"
)
# Tested by what they say, not by their code.
BY_TEXT = {"ICP-E042": "test_score.py", "ICP-E043": "test_score.py", "ICP-E082": "test_score.py"}


@pytest.mark.parametrize("code", sorted(RAISED))
def test_every_code_that_is_raised_is_declared(code):
    assert message_of(code), f"{code} ({RAISED[code]}) is not declared in icplab/core/messages.toml"


@pytest.mark.parametrize("code", sorted(messages()))
def test_every_declared_code_is_raised_and_tested(code):
    assert code in RAISED, f"{code} is declared and nowhere raised"
    tested = IN_CATALOGUE | set(CODE.findall(ELSEWHERE)) | set(BY_TEXT)
    assert code in tested, f"{code} is in no test"


def test_every_code_of_the_catalogue_is_declared():
    assert all(message_of(code) for code in IN_CATALOGUE)


def test_every_declaration_says_what_it_means_and_what_to_do():
    for message in messages().values():
        assert message.title
        assert message.means.endswith(".")
        assert message.do.endswith(".")
        assert not message.example or message.example.startswith(message.code)
        assert message.tolerate in ("", "quarantine", "orphans")
        assert not message.tolerate or message.code[4] == "E"


def test_a_tolerated_stop_is_explained_by_the_stop():
    assert message_of("ICP-Q049") is messages()["ICP-E049"]
    assert message_of("ICP-Q012") is None  # a file that cannot be split cannot be set aside
    assert message_of("ICP-E999") is None


def test_the_page_is_what_the_declarations_say():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page() + "\n", "run make docs"
