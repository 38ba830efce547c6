"""Sets what a case sets for itself, such as a smaller limit of file size."""

import pytest


@pytest.fixture(autouse=True)
def _patched(request, monkeypatch):
    if "case" in request.fixturenames:
        for name, value in request.getfixturevalue("case").patch:
            monkeypatch.setattr(name, value)
