"""Names in a corpus are matched as people write them, or refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.layout import find_layout
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import write_corpus, write_participants, write_text

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a,b", "comma"),
        ("fusion", "what results call something else"),
        ("weighted mean", "what results call something else"),
        (" voice", "begins or ends with a space"),
        ("a\tb", r"U\+0009"),
        ("x" * 120, "120 characters"),
        ("\udcff", r"'\\udcff' has the character U\+DCFF"),
    ],
)
@pytest.mark.parametrize("kind", ["feature set", "target"])
def test_a_name_that_could_not_come_back_is_refused(
    tmp_path: Path, kind: str, name: str, message: str
) -> None:
    sets, targets = ({"voice": 2, name: 2}, ["arousal"])
    if kind == "target":
        sets, targets = {"voice": 2}, ["arousal", name]
    write_corpus(tmp_path, sets=sets, targets=targets)

    with pytest.raises(InputError, match=f"the {kind} .*{message}.*Rename the folder"):
        find_layout(tmp_path, None, None)
    assert find_layout(tmp_path, ["voice"], ["arousal"]).features.keys() == {"voice"}


@pytest.mark.parametrize("name", ["..", "../voice", ".git", "voice/../face", "/etc"])
def test_what_leads_out_of_the_folder_is_no_name(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path)
    (tmp_path / "feature_segments/.git").mkdir()
    for modalities, targets in (([name], None), (None, [name])):
        with pytest.raises(InputError, match=r"path into another folder|hidden files"):
            find_layout(tmp_path, modalities, targets)


@pytest.mark.parametrize("session", ["../1", "a/b", ".1", "__1", "a\x1bb", "x" * 252])
def test_a_session_that_is_no_file_name_is_refused(tmp_path: Path, session: str) -> None:
    write_corpus(tmp_path)
    rows = ("Id,Proposal", "1,train", "a-3,devel", f"{session},train")
    write_text(tmp_path / "metadata/partition.csv", *rows)
    with pytest.raises(InputError, match=r"the session .*rename them in metadata/partition.csv"):
        find_layout(tmp_path, None, None)


def test_a_participant_that_cannot_be_printed_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    rows = ("session,participant", "1,a\x07", "2,b", "a-3,c", "4,d/../e")
    write_text(tmp_path / "metadata/participants.csv", *rows)
    with pytest.raises(InputError, match=r"the participant 'a\\x07' has the character U\+0007"):
        find_layout(tmp_path, None, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [("Voice", "voice"), (COMPOSED, APART), ("Ж", "ж"), ("ß", "SS")],
)
def test_names_that_many_disks_take_for_one_are_refused_together(
    tmp_path: Path, first: str, second: str
) -> None:
    write_corpus(tmp_path, sets={first: 2, second: 2})
    with pytest.raises(InputError, match="differ only in case or accents"):
        find_layout(tmp_path, None, None)
    assert list(find_layout(tmp_path, [second], None).features) == [second]


def test_accents_match_however_a_disk_writes_them(tmp_path: Path) -> None:
    write_corpus(
        tmp_path,
        sets={APART: 2},
        targets=[COMPOSED],
        partitions={f"{APART} 1": "train", f"{COMPOSED} 2": "devel"},
    )
    rows = ("Id,Proposal", f"{COMPOSED} 1,train", f"{APART} 2,devel")
    write_text(tmp_path / "metadata/partition.csv", *rows)
    write_participants(tmp_path, [f"{COMPOSED} 1", f"{APART} 2"])

    layout = find_layout(tmp_path, [COMPOSED], [APART])
    assert list(layout.features) == [COMPOSED]
    assert set(layout.features[COMPOSED]) == {f"{COMPOSED} 1", f"{APART} 2"}
    assert set(layout.labels[APART]) == {f"{COMPOSED} 1", f"{APART} 2"}
    assert not layout.findings


def test_sessions_that_look_the_same_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, partitions={COMPOSED: "train", APART: "devel"})
    with pytest.raises(InputError, match=r"'cafe\\u0301' and 'caf\\xe9' look the same"):
        find_layout(tmp_path, None, None)


def test_no_link_is_followed_out_of_the_corpus(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    outside = (tmp_path / "corpus/feature_segments/face").rename(tmp_path / "elsewhere")
    (corpus / "feature_segments/face").symlink_to(outside)
    with pytest.raises(InputError, match=r"'feature_segments/face' is a link to .*elsewhere'"):
        find_layout(corpus, None, None)

    outside.rename(corpus / "raw")
    (corpus / "feature_segments/face").unlink()
    (corpus / "feature_segments/face").symlink_to("../raw")
    (tmp_path / "link").symlink_to(corpus)
    assert set(find_layout(tmp_path / "link", None, None).features) == {"voice", "face"}


@pytest.mark.parametrize(
    ("first", "second"), [("1.csv", "1.CSV"), (f"{APART}.csv", f"{COMPOSED}.csv")]
)
def test_two_files_of_one_session_are_refused(tmp_path: Path, first: str, second: str) -> None:
    write_corpus(tmp_path, partitions={Path(first).stem: "train"})
    folder = tmp_path / "feature_segments/face"
    (folder / second).write_bytes((folder / first).read_bytes())
    with pytest.raises(InputError, match=r"session .* has two files, .*Keep one"):
        find_layout(tmp_path, None, None)
