"""Bad input in other kinds of files, native exports and accounts that are one: exact message, whole ledger, same result as the clean twin, in any order of records."""

import pytest

from tests.catalogue import checks
from tests.catalogue.sources_and_identity import CASES

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)


@EVERY
def test_the_message_names_file_record_column_and_remedy(case, tmp_path):
    checks.check_messages(case, tmp_path)
    checks.check_ledger(case, tmp_path)


@EVERY
def test_what_comes_out_is_what_comes_out_of_the_clean_twin(case, tmp_path, tmp_path_factory):
    checks.check_twin(case, tmp_path, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("case", [c for c in CASES if c.shuffles], ids=lambda c: c.id)
def test_the_order_of_records_changes_nothing_but_places(case, tmp_path):
    checks.check_order(case, tmp_path)
