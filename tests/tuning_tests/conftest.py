"""Studies that several tests damage copies of, made once."""

from __future__ import annotations

import pytest

from tests.tuning_tests.damages.recovery import Studies
from tests.tuning_tests.in_process import InProcess


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """Return a finished study, and one that was killed half-way."""
    with pytest.MonkeyPatch.context() as patch:
        return Studies.make(tmp_path_factory.mktemp("studies"), InProcess(patch))
