"""The commands of the shipped studies: what a person or a program gets from them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from tuning.api.studies import STUDIES
from tuning.cli.study import study_app


def run(*arguments: str) -> str:
    """Run a command of `affectune study`; its standard output."""
    result = CliRunner(env={"COLUMNS": "100"}).invoke(study_app, list(arguments))
    assert result.exit_code == 0
    return result.stdout


def test_the_list_has_a_line_on_each_and_how_many_fits_it_asks_for() -> None:
    records = json.loads(run("list", "--json"))["studies"]
    assert {record["name"] for record in records} == set(STUDIES.names())
    fits = {record["name"]: record["fits"] for record in records}
    assert fits["demo"] < fits["wide"]

    # The paper's grid: 72 auto-encoders of each of 3 sets, and 216 regressors of each set and each
    # of 2 targets, in one training each; fusions, finalists and comparisons beside these.
    assert fits["paper"] > 3 * 72 + 3 * 2 * 216

    table = run("list")
    assert all(record["name"] in table for record in records)
    assert "minutes on two cores" in " ".join(table.split())


def test_a_shown_study_is_the_file_itself(tmp_path: Path) -> None:
    for name in STUDIES.names():
        text = run("show", name)
        assert text == STUDIES.path(name).read_text(encoding="utf-8")
        assert tomllib.loads(text)["name"] == name
