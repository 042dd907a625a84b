"""An audit as the command line runs it: audit.json, the table, and an interruption."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.trainer import Trainer
from pipeline.stages.trained_stage import Epoch
from tuning.audit.audit import Audit
from tuning.audit.cli_output import AUDIT, audit_folder, print_audit


def run_audit(folder: Path, corpus_folder: Path | None = None) -> Audit:
    """Audit four trials of the study in a folder, in this process and without output."""
    return audit_folder(
        folder,
        corpus_folder or folder,
        str(folder / "store"),
        sample=4,
        workers=1,
        seed=0,
        console=Console(quiet=True),
    )


@pytest.fixture
def _corpus_in_every_folder(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every folder hold the study's corpus."""
    monkeypatch.setattr("tuning.audit.cli_output.read_corpus", lambda *_, **__: corpus)


@pytest.mark.usefixtures("_corpus_in_every_folder")
def test_the_result_is_written_to_audit_json(folder: Path) -> None:
    result = run_audit(folder)
    written = json.loads((folder / AUDIT).read_text())
    assert written == json.loads(json.dumps(result.to_json()))
    assert list(folder.glob(".*.tmp")) == []


@pytest.mark.parametrize("content", ["my notes", "[]", '{"tasks": 1}'])
def test_a_file_of_somebody_else_is_no_audit_and_stays(folder: Path, content: str) -> None:
    (folder / AUDIT).write_text(content)
    with pytest.raises(InputError, match="no audit of a study"):
        run_audit(folder)
    assert (folder / AUDIT).read_text() == content


@pytest.mark.usefixtures("_corpus_in_every_folder")
def test_the_table_has_every_task_and_every_note(folder: Path) -> None:
    console = Console(record=True, width=200, file=StringIO())
    result = run_audit(folder)
    print_audit(result, console)
    output = console.export_text()

    assert result.tasks
    assert all(name in output for name in result.tasks)
    assert all(note in output for note in result.notes)


@pytest.mark.usefixtures("_corpus_in_every_folder")
def test_an_interrupted_audit_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch, num_trained = Trainer.train_epoch, 0

    def interrupt(trainer: Trainer) -> Epoch:
        nonlocal num_trained
        num_trained += 1
        # Each fit has four epochs, so this is in the third one.
        if num_trained == 10:
            raise KeyboardInterrupt
        return train_epoch(trainer)

    monkeypatch.setattr(Trainer, "train_epoch", interrupt)
    with pytest.raises(AffectuneError, match="goes on"):
        run_audit(folder)
    assert not (folder / AUDIT).exists()

    assert run_audit(folder).num_fits == 2


def test_a_corpus_that_is_not_there_is_an_input_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--corpus"):
        run_audit(folder, tmp_path / "gone")
