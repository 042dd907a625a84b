"""Settings are written as a person writes them."""

from __future__ import annotations

import pytest

from tuning.report.formats import value_text
from tuning.spec.space import Value


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (0.25, "0.25"), ("voice,face", "voice + face"), ("2,5,15", "2 + 5 + 15")],
)
def test_a_value_of_each_kind(value: Value, text: str) -> None:
    assert value_text(value) == text


def test_an_empty_list_is_none() -> None:
    assert value_text("") == "none"
