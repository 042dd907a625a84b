"""An error of a start names the command that looks for more, once, and others do not."""

from __future__ import annotations

import pytest

from pipeline.errors import LOOKS_FOR_MORE, AffectuneError, InputError, naming_doctor, said


def test_it_is_named_once_behind_the_message_which_stays_as_it_is() -> None:
    with pytest.raises(InputError) as raised, naming_doctor(), naming_doctor():
        raise InputError("No store. Name one.")
    assert str(raised.value) == "No store. Name one."
    assert said(raised.value) == f"No store. Name one. {LOOKS_FOR_MORE}"


def test_other_errors_are_left_alone() -> None:
    assert said(AffectuneError("It failed.")) == "It failed."
    with pytest.raises(ZeroDivisionError) as raised, naming_doctor():
        raise ZeroDivisionError
    assert not hasattr(raised.value, "__notes__")
