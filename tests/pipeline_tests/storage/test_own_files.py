"""Files of a person's are never replaced, wherever results are written to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_folder import MODEL, read_folder, write_folder
from pipeline.storage.own_files import LIST, raise_if_others, write_own_files
from pipeline.storage.result_folder import what_is_in_the_way, write_result

NAMES = ("arousal/1.csv", "arousal/2.csv", "valence/1.csv", "ccc.png")
steps = st.lists(
    st.tuples(st.sampled_from(["ours", "theirs", "gone"]), st.sampled_from(NAMES), st.binary()),
    max_size=12,
)


@given(steps)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_what_others_wrote_is_never_replaced_and_what_was_written_here_always_is(
    tmp_path_factory: pytest.TempPathFactory, taken: list[tuple[str, str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("out")
    others: dict[str, bytes] = {}
    own: dict[str, bytes] = {}
    for who, name, content in taken:
        path = folder / name
        if who == "gone":
            path.unlink(missing_ok=True)
            others.pop(name, None)
        elif who == "theirs":
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            others[name] = content
        elif name in others and others[name] != own.get(name):
            with pytest.raises(InputError, match="not written here"):
                raise_if_others(folder, [name], "--out")
            with pytest.raises(AffectuneError):
                write_own_files(folder, {name: content})
        elif name not in others:
            raise_if_others(folder, [name], "--out")
            write_own_files(folder, {name: content})
            own[name] = content
        for other, expected in others.items():
            assert (folder / other).read_bytes() == expected


def test_a_command_that_was_killed_between_its_files_can_be_run_again(tmp_path: Path) -> None:
    write_own_files(tmp_path, {"a": "1", "b": "1"})
    listed = (tmp_path / LIST).read_bytes()
    write_own_files(tmp_path, {"a": "2", "b": "2"})
    (tmp_path / "b").write_text("1")  # as if the second command came no further
    raise_if_others(tmp_path, ["a", "b"], "--out")

    (tmp_path / LIST).write_bytes(listed)
    with pytest.raises(InputError):
        raise_if_others(tmp_path, ["a", "b"], "--out")


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 5}', "[" * 10_000])
def test_a_list_that_is_damaged_protects_all_files(tmp_path: Path, content: str) -> None:
    write_own_files(tmp_path, {"a": "1"})
    (tmp_path / LIST).write_text(content)
    with pytest.raises(InputError):
        raise_if_others(tmp_path, ["a"], "--out")


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "arousal").symlink_to(tmp_path / "other")
    (tmp_path / "out" / "x").symlink_to(tmp_path / "other" / "thesis")
    (tmp_path / "out" / "y").symlink_to(tmp_path / "nowhere")
    for name in ("arousal/1.csv", "x", "y"):
        with pytest.raises(InputError, match=name):
            raise_if_others(tmp_path / "out", [name], "--out")
        with pytest.raises(AffectuneError):
            write_own_files(tmp_path / "out", {name: "1"})
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis"]
    assert not (tmp_path / "nowhere").exists()


def _bundle(text: str) -> dict[str, bytes]:
    return {MODEL: text.encode()}


def _is_one(files: object) -> bool:
    return files == _bundle("1")


@pytest.mark.parametrize("kind", ["folder", "file", "link", "bundle and more", "other bundle"])
def test_a_result_is_written_beside_what_is_not_its_own(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "model"
    if kind == "folder":
        place.mkdir()
        (place / "thesis").touch()
    elif kind == "file":
        place.touch()
    elif kind == "link":
        (tmp_path / "other").mkdir()
        place.symlink_to(tmp_path / "other")
    else:
        write_folder(place, _bundle("1" if kind == "bundle and more" else "2"))
    if kind == "bundle and more":
        (place / "thesis").touch()
    before = sorted(place.iterdir()) if place.is_dir() else []

    assert what_is_in_the_way(place, _is_one)
    with pytest.raises(AffectuneError, match="kept as") as refused:
        write_result(place, _bundle("1"), _is_one)
    kept = Path(str(refused.value).split("kept as '")[1].split("'")[0])
    assert read_folder(kept) == _bundle("1")
    assert (sorted(place.iterdir()) if place.is_dir() else []) == before
    assert place.is_symlink() == (kind == "link")


def test_a_result_takes_an_empty_place_or_that_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    for _ in range(2):
        write_result(place, _bundle("1"), _is_one)
        assert read_folder(place) == _bundle("1")


def test_what_comes_into_its_place_in_the_last_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "model"

    def come_first(folder: Path, is_own: object) -> None:
        place.mkdir()
        (place / "thesis").write_text("mine")

    monkeypatch.setattr("pipeline.storage.result_folder.what_is_in_the_way", come_first)
    with pytest.raises(AffectuneError, match="kept as"):
        write_result(place, _bundle("1"), _is_one)
    assert (place / "thesis").read_text() == "mine"
