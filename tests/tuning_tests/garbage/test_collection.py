"""What nothing needs is shown and removed, and no study ends otherwise for that."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.errors import InputError
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from tests.tuning_tests.damages.recovery import Studies, winner_of
from tests.tuning_tests.in_process import InProcess
from tuning.cli.store import store_app
from tuning.garbage.collection import Collection, collect
from tuning.journal.history import read_history

LONG_AGO_S = 30 * 86_400
KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one entry that nothing needs, written long ago."""
    path = tmp_path / "store"
    StageStore(path).write(KEY, {"stage.json": b"{}"})
    _make_old(path)
    return path


def _make_old(*paths: Path) -> None:
    at = time.time() - LONG_AGO_S
    for path in paths:
        for each in [path, *path.rglob("*")]:
            os.utime(each, (at, at), follow_symlinks=False)


def _collect(store: Path, *, remove: bool = True, keep: tuple[Path, ...] = ()) -> Collection:
    return collect(str(store), keep=keep, older_than_s=86_400, remove=remove)


def _entries(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_study_goes_on_after_any_of_it_was_removed_as_if_nothing_were(
    studies: Studies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    process = InProcess(monkeypatch)
    half = studies.half.copy(tmp_path / "half")
    known = list(read_history(half.out).trials.values())
    [running] = [trial.proposed.key for trial in known if trial.ended is None]
    had_checkpoint = f"{running}-checkpoint" in _entries(half.store)
    # What the finished study trained beyond it is there, too, and needed by nothing.
    for entry in studies.finished.store.iterdir():
        if not (half.store / entry.name).exists() and not entry.name.startswith("study"):
            shutil.copytree(entry, half.store / entry.name)
    random = np.random.default_rng(seed)
    old = [each for each in sorted(half.store.iterdir()) if random.random() < (0.5, 1)[seed % 2]]
    _make_old(*old)
    found = _collect(half.store)
    assert not seed % 2 or found.total("unneeded").entries
    assert set(found.names) <= {path.name for path in old}
    assert not set(found.names) & _entries(half.store)
    assert had_checkpoint == (f"{running}-checkpoint" in _entries(half.store))

    summary = process.run(half.out, half.store)
    assert summary is not None
    assert winner_of(summary) == studies.winner
    # What was trained to its end before is not handed out again.
    assert not set(process.trained) & {trial.name for trial in known if trial.is_complete}


@pytest.mark.slow
def test_a_finished_study_keeps_its_winners_until_it_is_forgotten(
    studies: Studies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = InProcess(monkeypatch)
    place = studies.finished.copy(tmp_path / "finished")
    _make_old(place.store)
    _collect(place.store)
    shutil.rmtree(place.out / "model")
    summary = process.run(place.out, place.store)
    assert summary is not None
    assert winner_of(summary) == studies.winner
    assert process.trained == []

    _make_old(place.store)
    found = collect(str(place.store), forget=["small"], older_than_s=86_400, remove=True)
    assert len(found.forgotten) == 1
    assert found.total("needed").entries == 0
    assert not list(place.store.glob("studies/*/*"))
    assert _entries(place.store) <= {"format", "studies", ".claims"}

    # What --keep names needs as much as what is published.
    again = studies.finished.copy(tmp_path / "again")
    _make_old(again.store)
    kept = collect(
        str(again.store), keep=[again.out], forget=["small"], older_than_s=86_400, remove=True
    )
    assert kept.total("needed").entries > 0
    assert process.run(again.out, again.store) is not None
    assert process.trained == []


def test_it_shows_first_and_removes_when_it_is_told_to(store: Path) -> None:
    arguments = ["gc", str(store)] if len(store_app.registered_commands) > 1 else [str(store)]
    shown = CliRunner().invoke(store_app, arguments)
    assert shown.exception is None, shown.output
    assert "Nothing was removed. To remove 1 entries" in " ".join(shown.output.split())
    assert KEY in _entries(store)

    removed = CliRunner().invoke(store_app, [*arguments, "--remove", "--json"])
    told = json.loads(removed.stdout)
    assert told["unneeded"]["names"] == [KEY]
    assert KEY not in _entries(store)
    assert _collect(store).total("unneeded").entries == 0


def test_what_is_young_or_not_its_own_is_never_touched_and_no_link_is_followed(
    store: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    write_folder(outside, {"stage.json": b"{}"})
    young, mixed = "cd" * 32, "ef" * 32
    (store / ("12" * 32)).symlink_to(outside)
    (store / "notes").mkdir()
    (store / "notes" / "a.txt").write_text("mine")
    (store / f"{KEY}.txt").write_text("mine")
    (store / ("34" * 32)).write_text("a file")
    for name in (mixed, f"{mixed}-held-out", f"{mixed}-checkpoint"):
        write_folder(store / name, {"stage.json": b"{}"})
    (store / mixed / "notes.txt").write_text("mine")
    (store / f"{mixed}-held-out" / "stage.json").unlink()
    (store / f"{mixed}-held-out" / "stage.json").symlink_to(outside / "stage.json")
    (store / f"{mixed}-checkpoint" / "more").mkdir()
    (store / f".{KEY}.{'0' * 32}.tmp").mkdir()
    (store / f".{KEY}.{'0' * 32}.tmp" / "stage.json").write_bytes(b"half")
    (store / ".claims").mkdir(exist_ok=True)
    (store / ".claims" / KEY).touch()
    _make_old(store, outside)
    write_folder(store / young, {"stage.json": b"{}"})
    before = _entries(store)

    found = _collect(store)
    gone = {KEY, f".{KEY}.{'0' * 32}.tmp"}
    assert before - _entries(store) == gone
    assert set(found.names) == gone | {f".claims/{KEY}"}
    assert not list((store / ".claims").iterdir())
    assert found.total("young").entries == 1
    assert found.total("foreign").entries == 7
    assert (outside / "stage.json").read_bytes() == b"{}"


def test_what_is_claimed_stays(store: Path) -> None:
    with StageStore(store).claim(KEY, timeout_s=1.0):
        _make_old(store)
        _collect(store)
        assert (store / ".claims" / KEY).exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"stages": {"a": {}}}', b"\xff"])
def test_nothing_is_removed_where_what_a_model_needs_is_not_known(
    store: Path, tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "model.json").write_bytes(damage)
    with pytest.raises(InputError, match="Nothing is removed"):
        _collect(store, keep=(tmp_path,))
    published = store / "studies" / ("0" * 32)
    published.mkdir(parents=True)
    (published / "head.json").write_bytes(damage)
    with pytest.raises(InputError, match="--forget 000000000000"):
        _collect(store)
    assert KEY in _entries(store)


def test_a_place_that_is_no_store_and_a_folder_that_keeps_nothing_are_a_sentence(
    store: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        _collect(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no study and no model"):
        _collect(store, keep=(tmp_path / "nothing",))
    assert not (tmp_path / "nothing").exists()
