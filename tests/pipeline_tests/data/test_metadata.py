"""Who is in which session is read by the names of columns, or refused: never guessed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from pipeline.corpus import Finding
from pipeline.data.checks.summary import summarise
from pipeline.data.cli import print_corpus_warnings
from pipeline.data.metadata import Metadata, read_metadata
from pipeline.data.muse import read_corpus
from pipeline.data.records.matching import nearest
from pipeline.data.records.persons import PERSONS_UNKNOWN, sessions_alike
from pipeline.errors import InputError
from pipeline.terminal import Console
from tests.pipeline_tests.data.muse_files import write_corpus, write_participants, write_text

PARTITIONS = {"S01": "train", "S02": "train", "S03": "devel", "S04": "test"}
PEOPLE = {"S01": "Ann", "S02": "Ann", "S03": "Bob", "S04": "Cy"}
BYTE_ORDER_MARK = "\ufeff"


def write_partitions(root: Path, partitions: dict[str, str] | None = None) -> Path:
    """Write a partition file in the documented form."""
    lines = [f"{session},{name}" for session, name in (partitions or PARTITIONS).items()]
    write_text(root / "metadata/partition.csv", "Id,Proposal", *lines)
    return root


def write_people(root: Path, text: str, name: str = "participants.csv") -> Path:
    """Write the partition file, and a file of participants with just this text."""
    write_partitions(root)
    (root / "metadata" / name).write_bytes(text.encode())
    return root


def table(header: list[str], delimiter: str = ",", end: str = "\n") -> str:
    """Return a table of the people above with columns of these names, and others."""
    kinds = {"session": list(PEOPLE), "participant": list(PEOPLE.values())}
    lines = [delimiter.join(header)]
    for row in range(len(PEOPLE)):
        cells = []
        for name in header:
            key = name.strip().strip('"').lower()
            if key in ("session", "session_id", "session id", "recording", "file", "id"):
                cells.append(kinds["session"][row])
            elif key in ("participant", "participant_id", "subject", "subject_id", "speaker"):
                cells.append(kinds["participant"][row])
            else:
                cells.append(str(row) if key in ("", "unnamed: 0") else f"2021-01-0{row + 1}")
        lines.append(delimiter.join(cells))
    return end.join(lines) + end


def subjects(metadata: Metadata) -> dict[str, str]:
    """Return session -> subject."""
    return {entry.session_id: entry.subject for entry in metadata.entries}


def kinds(metadata: Metadata) -> set[str]:
    """Return the kinds of all findings."""
    return {finding.kind for finding in metadata.findings}


def message_of(root: Path) -> str:
    """Read metadata that has a mistake, and return the error's message."""
    with pytest.raises(InputError) as caught:
        read_metadata(root)
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 1000
    return message


@pytest.mark.parametrize(
    "session", ["session", "SESSION_ID", "Session ID", "recording", "file", "Id"]
)
@pytest.mark.parametrize(
    "participant", ["participant", "Participant_ID", "subject", "subject_id", "Speaker"]
)
def test_columns_are_found_by_their_names(tmp_path: Path, session: str, participant: str) -> None:
    """In any order, beside other columns, with any capitals."""
    for header in ([session, "date", participant], [participant, "age", session, "group"]):
        metadata = read_metadata(write_people(tmp_path, table(header)))
        assert subjects(metadata) == PEOPLE
        assert not metadata.findings


@pytest.mark.parametrize(
    "text",
    [
        table(["session", "participant"], ";"),
        table(["participant", "session", "date"], "\t"),
        table(["date", "session", "participant"], "|"),
        table(["", "session", "participant"]),
        table(["Unnamed: 0", "participant", "session"], ";"),
        table(["session", "participant"], end="\r\n"),
        table(["session", "participant"], end="\r"),
        BYTE_ORDER_MARK + table(["session", "participant"]),
        BYTE_ORDER_MARK + table(['"session"', '"participant"'], ";", "\r\n"),
        "sep=;\r\n" + table(["session", "participant"], ";", "\r\n"),
        table(["session", "participant"]).replace(",", " , ").replace("\n", "  \n\n"),
        table(["session", "participant"]).replace("\n", ",,\n"),
        table(["session", "participant"]) + "S01,Ann\nS03,Bob\n",
        table(["session", "participant"]).partition("\n")[2],
        table(["session", "participant"], ";").partition("\n")[2],
        'session,participant,note\nS01,Ann,"a; b"\nS02,Ann,"two\nlines"\nS03,Bob,\nS04,Cy,x\n',
    ],
)
def test_tables_as_programs_write_them_say_the_same(tmp_path: Path, text: str) -> None:
    assert subjects(read_metadata(write_people(tmp_path, text))) == PEOPLE


def test_files_may_be_separated_by_tabs_as_those_of_bids(tmp_path: Path) -> None:
    text = table(["participant_id", "session_id", "age"], "\t")
    root = write_people(tmp_path, text, "participants.tsv")
    assert subjects(read_metadata(root)) == PEOPLE

    write_people(root, table(["session", "participant"]))
    assert "has metadata/participants.csv and metadata/participants.tsv" in message_of(root)


@pytest.mark.parametrize(
    "text",
    [
        "name,who\nS01,Ann\nS02,Ann\nS03,Bob\nS04,Cy\n",
        "session,who\nS01,Ann\nS02,Ann\nS03,Bob\nS04,Cy\n",
        "participant_id,age\nAnn,21\nBob,22\nCy,23\n",
        "Ann,S01\nAnn,S02\nBob,S03\nCy,S04\n",
        ",participant\nS01,Ann\nS02,Ann\nS03,Bob\nS04,Cy\n",
    ],
)
def test_columns_that_have_no_known_name_are_an_error_that_tells_them(
    tmp_path: Path, text: str
) -> None:
    message = message_of(write_people(tmp_path, text))

    assert message.startswith("metadata/participants.csv: the first line ")
    assert "session_id" in message or "subject_id" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S01,Ann,21\nS02,Ann,21\n", "has no header, and 3 columns"),
        ("session participant\nS01 Ann\n", "line 1: 'session participant' is a single cell"),
        ("", "lists no session"),
        ("session,participant\n", "lists no session"),
        ("session,participant\nS01,Smith, Ann\n", "line 2: 3 cells, but the header has 2"),
        ('session,participant\n"S01","Ann"\n"1","S02","Ann"\n', "line 3: 3 cells"),
        ("session,participant\nS01,Ann\nS02,Ann\nS03,\nS04,n/a\n", "line 4: the column"),
        (
            table(["session", "participant"]) + "S02,Bob\n",
            "lines 3 and 6: session 'S02' has two participants, 'Ann' and 'Bob'",
        ),
        (
            "session,subject,speaker\nS01,A,1\nS02,A,2\nS03,B,1\nS04,C,2\n",
            "the columns 'subject', 'speaker' differ",
        ),
    ],
)
def test_mistakes_of_a_table_are_errors_with_their_place(
    tmp_path: Path, text: str, expected: str
) -> None:
    message = message_of(write_people(tmp_path, text))

    assert message.startswith("metadata/participants.csv")
    assert expected in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("s02", "S02"),
        ("S2", "S02"),
        ("S02.csv", "S02"),
        ("S02.wav", "S02"),
        ("'S02'", "S02"),
        ("S-02", "S02"),
        ("SO2", "S02"),
    ],
)
def test_a_line_that_is_no_session_names_the_one_that_is_meant(
    tmp_path: Path, written: str, meant: str
) -> None:
    text = table(["session", "participant"]).replace("S02", written)
    message = message_of(write_people(tmp_path, text))

    assert "1 session ('S02') has no line" in message
    assert f"1 line ({written!r}) names no session" in message
    assert f"Line 3: {written!r} -> did you mean {meant!r}?" in message


def test_many_sessions_and_lines_that_do_not_match_are_shown_by_three_of_each(
    tmp_path: Path,
) -> None:
    write_partitions(tmp_path, {str(number): "train" for number in range(1, 10)})
    lines = [f"{number}.0,P{number}" for number in range(1, 10)]
    write_text(tmp_path / "metadata/participants.csv", "id,subject", *lines)
    message = message_of(tmp_path)

    assert "9 sessions ('1', '2', '3' and 6 more) have no line" in message
    assert "9 lines ('1.0', '2.0', '3.0' and 6 more) name no session" in message
    assert "Line 2: '1.0' -> did you mean '1'?" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "1 session ('S04') has no line"),
        ("S04,Cy\nS05,Di\n", "1 line ('S05') names no session"),
    ],
)
def test_sessions_and_lines_that_are_alone_are_errors(
    tmp_path: Path, line: str, expected: str
) -> None:
    text = table(["session", "participant"]).replace("S04,Cy\n", line)
    assert expected in message_of(write_people(tmp_path, text))


def test_of_several_columns_of_sessions_the_one_that_matches_counts(tmp_path: Path) -> None:
    lines = ["1,S01,Ann", "2,S02,Ann", "1,S03,Bob", "1,S04,Cy"]
    text = "\n".join(["session,recording,participant", *lines])
    assert subjects(read_metadata(write_people(tmp_path, text))) == PEOPLE

    text = text.replace("session,recording", "session,visit")
    assert "The column 'visit' has sessions" in message_of(write_people(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("training", "train"),
        ("dev", "devel"),
        ("Development", "devel"),
        ("validation", "devel"),
        ("val", "devel"),
        ("tset", "test"),
        ("testing", "test"),
    ],
)
def test_other_names_of_partitions_are_errors_that_name_the_nearest(
    tmp_path: Path, name: str, meant: str
) -> None:
    message = message_of(write_partitions(tmp_path, {**PARTITIONS, "S02": name}))
    expected = f"line 3, puts session 'S02' into {name!r} (did you mean {meant!r}?)"

    assert expected in message


@pytest.mark.parametrize(
    "lines",
    [
        ["Split;Recording", "TRAIN;S01", "Train;S02", "devel;S03", "Test;S04"],
        [",Id,Proposal", "0,S01,train", "1,S02,train", "2,S03,devel", "3,S04,test"],
        ["partition|date|session_id", "train|1|S01", "train|2|S02", "devel|3|S03", "test|4|S04"],
        ["S01\ttrain", "S02\ttrain", "S03\tdevel", "S04\ttest"],
        ["Id,Proposal", "S01,train", "S02,train", "S01,train", "S03,devel", "S04,test"],
    ],
)
def test_partitions_are_read_by_the_same_rules(tmp_path: Path, lines: list[str]) -> None:
    write_text(tmp_path / "metadata/partition.csv", *lines)

    entries = read_metadata(tmp_path).entries
    assert {entry.session_id: entry.partition for entry in entries} == PARTITIONS


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["name,Proposal", "S01,train"], "names no column of sessions"),
        (["session,set", "S01,train"], "names no column of partitions"),
        (["S01,Ann,train", "S02,Ann,train"], "has no header, and 3 columns"),
        (["Id,Proposal", ",train"], "line 2, names no session"),
        (["S01,training", "S02,train"], "line 1, puts session 'S01' into 'training' (did you mean"),
        (["Id,Proposal", "S01,"], "puts session 'S01' into ''"),
    ],
)
def test_partition_files_that_are_unclear_are_errors(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    write_text(tmp_path / "metadata/partition.csv", *lines)
    message = message_of(tmp_path)

    assert message.startswith("metadata/partition.csv")
    assert expected in message


def test_participants_may_stand_beside_the_partitions(tmp_path: Path) -> None:
    lines = ["S01,Ann,train", "S02,Ann,train", "S03,Bob,devel", "S04,Cy,test"]
    path = tmp_path / "metadata/partition.csv"
    write_text(path, "session,subject,partition", *lines)
    assert subjects(read_metadata(tmp_path)) == PEOPLE

    write_text(path, "session,subject,partition", *lines[:2], "S03,Ann,devel", lines[3])
    assert "subject 'Ann' is in devel and train" in message_of(tmp_path)


def test_without_a_header_columns_that_could_both_be_sessions_are_an_error(tmp_path: Path) -> None:
    """Where people are numbered as sessions are, and each has one."""
    write_partitions(tmp_path, {"1": "train", "2": "train", "3": "devel"})
    path = tmp_path / "metadata/participants.csv"
    write_text(path, "3,1", "1,2", "2,3")
    assert "has no header, and two columns that could be the sessions" in message_of(tmp_path)

    write_text(path, "session,participant", "3,1", "1,2", "2,3")
    assert subjects(read_metadata(tmp_path)) == {"1": "2", "2": "3", "3": "1"}
    write_text(path, "3,1", "1,2", "2,2")
    assert subjects(read_metadata(tmp_path)) == {"1": "2", "2": "2", "3": "1"}


def test_files_that_disagree_about_persons_are_an_error(tmp_path: Path) -> None:
    """What the people are called does not matter, only who is the same."""
    write_people(tmp_path, table(["session", "participant"]))
    lines = ["S01,1,train", "S02,1,train", "S03,2,devel"]
    path = tmp_path / "metadata/partition.csv"
    write_text(path, "session,subject,partition", *lines, "S04,3,test")
    assert subjects(read_metadata(tmp_path)) == PEOPLE

    for person in ("2", "1"):
        write_text(path, "session,subject,partition", *lines, f"S04,{person},test")
        assert "disagree about who is in which session" in message_of(tmp_path)


def test_two_files_of_a_session_are_an_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "feature_segments/face/1.CSV", "timestamp,segment_id,0,1", "0,1,1,1")
    with pytest.raises(InputError, match=r"session '1' has two files, 'face/1.CSV', 'face/1.csv'"):
        read_corpus(root)


def test_without_participants_every_session_counts_as_a_person_and_nothing_is_ready(
    tmp_path: Path,
) -> None:
    root = write_corpus(tmp_path)
    corpus = read_corpus(root)
    (finding,) = [each for each in corpus.findings if each.kind == PERSONS_UNKNOWN]
    assert (finding.level, finding.count) == ("warning", len(corpus.sessions))
    assert "every session counts as a person of its own" in finding.message
    assert summarise(corpus).verdict == "look"

    printed = StringIO()
    print_corpus_warnings(corpus, Console(file=printed))
    assert "every session counts as a person of its own" in printed.getvalue()

    write_participants(root)
    assert summarise(read_corpus(root)).verdict == "ready"


@pytest.mark.parametrize(
    ("sessions", "alike"),
    [
        (["P01_V1", "P01_V2", "P02_V1"], {"P01": ["P01_V1", "P01_V2"]}),
        (["c-ann.1", "c-ann.2", "c-bob.1"], {"c-ann": ["c-ann.1", "c-ann.2"]}),
        (["01a", "01b", "02a"], {"01": ["01a", "01b"]}),
        (["bidmc_01", "bidmc_02", "bidmc_03"], {}),
        (["S01", "S02", "S03"], {}),
        (["1", "2", "13"], {}),
    ],
)
def test_ids_that_look_like_several_sessions_of_a_person_are_a_warning(
    tmp_path: Path, sessions: list[str], alike: dict[str, list[str]]
) -> None:
    assert sessions_alike(sessions) == alike

    metadata = read_metadata(write_partitions(tmp_path, dict.fromkeys(sessions, "train")))
    assert ("sessions of one person" in kinds(metadata)) == bool(alike)


@pytest.mark.parametrize("name", ["Participants.CSV", "participant.tsv", "participants.xlsx"])
@pytest.mark.parametrize("folder", ["metadata", "."])
def test_a_list_of_participants_under_another_name_is_not_passed_over(
    tmp_path: Path, folder: str, name: str
) -> None:
    write_partitions(tmp_path)
    write_text(tmp_path / folder / name, table(["session", "participant"]))

    assert "which is not read, and no metadata/participants.csv" in message_of(tmp_path)


def test_other_lists_of_people_are_a_warning_where_nothing_says_who_is_who(tmp_path: Path) -> None:
    write_partitions(tmp_path)
    write_text(tmp_path / "metadata/subjects.csv", "id,age", "1,30")
    findings: list[Finding] = list(read_metadata(tmp_path).findings)
    assert ("warning", "metadata/subjects.csv") in {(each.level, each.where) for each in findings}

    write_people(tmp_path, table(["session", "participant"]))
    assert not read_metadata(tmp_path).findings


def test_names_of_persons_that_differ_in_form_alone_are_a_warning(tmp_path: Path) -> None:
    text = table(["session", "participant"]).replace("Bob", "ann")
    (finding,) = read_metadata(write_people(tmp_path, text)).findings

    assert (finding.level, finding.kind) == ("warning", "similar persons")
    assert "'Ann', 'ann'" in finding.message


def test_a_file_of_sessions_without_known_columns_is_not_read_and_is_a_finding(
    tmp_path: Path,
) -> None:
    write_people(tmp_path, table(["session", "participant"]))
    write_text(tmp_path / "metadata/sessions.csv", "session,room", "S01,1")
    (finding,) = read_metadata(tmp_path).findings

    assert (finding.level, finding.kind, finding.where) == (
        "note",
        "file not read",
        "metadata/sessions.csv",
    )


def test_the_nearest_name_is_one_of_the_same_form_first() -> None:
    assert nearest("1", ["10", "01", "11"]) == "01"
    assert nearest("Sub-1_ses-2.csv", ["sub-01_ses-01", "sub-01_ses-02"]) == "sub-01_ses-02"
    assert nearest("sub-01", ["2", "1"]) == "1"
    assert nearest("Zoe\u0308", ["Zo\u00eb", "Zoe"]) == "Zo\u00eb"
    assert nearest("elephant", ["S01", "S02"]) is None


def test_the_digest_changes_only_where_the_files_are_read_in_another_way(tmp_path: Path) -> None:
    usual = write_corpus(tmp_path / "usual")
    write_participants(usual)
    assert read_metadata(usual).reading == {}

    for number, text in enumerate(
        ["1,1\n2,2\na-3,a-3\n4,4\n", "id,subject\n1,1\n2,2\na-3,a-3\n4,4"]
    ):
        root = write_corpus(tmp_path / str(number))
        (root / "metadata/participants.csv").write_text(text)
        assert set(read_metadata(root).reading) == {"participants"}


def test_a_session_without_a_file_names_the_files_that_are_near(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, partitions={"S01": "train", "S02": "devel", "S03": "test"})
    write_text(root / "metadata/partition.csv", "Id,Proposal", "S01,train", "S02,devel", "s03,test")
    with pytest.raises(InputError, match=r"'s03' -> did you mean 'S03'\?"):
        read_corpus(root)

    write_text(root / "metadata/partition.csv", "Id,Proposal", "1,train", "2,devel", "3,test")
    with pytest.raises(InputError, match=r"the files are of 'S01', 'S02', 'S03', the sessions '1'"):
        read_corpus(root)
