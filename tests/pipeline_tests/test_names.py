"""Which names are taken, and that keys give them back."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.names import (
    RESERVED,
    escape_key,
    mistake_in_file_name,
    mistake_in_label,
    mistake_in_text,
    normal,
    twins,
    unescape_key,
)
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import LABEL_FLOORS

KEY = re.compile(r"[\w.\- :]*")
"""What MLflow takes as a key, but for "/"."""
TAKEN = (
    "late-fusion-egemaps+vggface",
    "50% speed",
    "#1",
    "a&b?c=d",
    "a:b",
    "[bold]x[red]",
    "(a) {b} <c>",
    "\"quoted\" 'twice'",
    "back\\slash",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f600 face",
    "-leading",
    "trailing.",
    "con",
    "~",
    "$HOME `id` ;|*",
    "声",
    "_x2B_",
)


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_folder_may_be_called_is_taken(name: str) -> None:
    assert mistake_in_label(name) is None


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("", "is empty"),
        (".", "hidden"),
        ("..", "hidden"),
        (".git", "hidden"),
        ("__MACOSX", "hidden"),
        ("../x", "path"),
        ("a/b", "path"),
        (" voice", "space"),
        ("voice\u00a0", "space"),
        ("a\nb", "U+000A"),
        ("a\x00b", "U+0000"),
        ("a\x1b[2J", "U+001B"),
        ("a\x85b", "U+0085"),
        ("a\u2028b", "U+2028"),
        ("a\u202eb", "U+202E"),
        ("a\udcffb", "U+DCFF"),
        ("x" * 252, "252 bytes"),
        ("\U0001f600" * 63, "252 bytes"),
    ],
)
def test_what_names_no_file_is_refused(name: str, cause: str) -> None:
    assert cause in (mistake_in_file_name(name) or "")


@pytest.mark.parametrize(
    ("name", "cause"), [("a,b", "comma"), ("x" * 116, "116 characters"), ("+" * 26, "130")]
)
def test_what_is_no_label_may_name_a_session(name: str, cause: str) -> None:
    assert cause in (mistake_in_label(name) or "")
    assert mistake_in_file_name(name) is None


def test_a_participant_may_have_any_name_that_can_be_printed() -> None:
    assert mistake_in_text("../a, b") is None
    assert "U+0007" in (mistake_in_text("a\x07") or "")


def test_the_names_of_results_are_reserved() -> None:
    results = {FUSION, WITHOUT_DIFFICULTY, *FLOORS.values(), *LABEL_FLOORS.values()}
    assert results <= set(RESERVED)
    for name in RESERVED:
        assert "results" in (mistake_in_label(name) or "")


def test_twins_differ_in_case_or_in_how_an_accent_is_written() -> None:
    assert twins(["AU", "Caf\u00e9", "au", "cafe\u0301", "eda"]) == [
        ("AU", "au"),
        ("Caf\u00e9", "cafe\u0301"),
    ]
    assert normal("cafe\u0301") == "caf\u00e9"


@given(st.text())
@example("_x2B_")
@example("_x2B+")
@example("__x5F_x2B_x")
@example("_+x41_")
def test_a_key_gives_the_name_back(name: str) -> None:
    for also in ("", ".", ".:"):
        key = escape_key(name, also=also)
        assert unescape_key(key) == name
        assert KEY.fullmatch(key)
        assert not set(also) & set(key)


@given(st.from_regex(re.compile(r"[A-Za-z0-9.\- :]+|[a-z]+_[a-wyz0-9]+"), fullmatch=True))
def test_an_ordinary_name_is_its_own_key(name: str) -> None:
    assert escape_key(name) == name
