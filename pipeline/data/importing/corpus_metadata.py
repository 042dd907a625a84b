"""The metadata of a corpus as an import adds to it: partitions, people, starts, raters."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.importing.corpus_folder import CorpusFolder, format_rows
from pipeline.data.importing.origins import ORIGINS_FILE, format_origins, parse_origins
from pipeline.data.importing.people import (
    assign_partitions,
    parse_partitions,
    parse_people,
    partitions_of,
    people_of,
    read_partition_file,
    read_people_file,
)
from pipeline.data.importing.report import RaterReport
from pipeline.data.input_errors import quoted_list
from pipeline.data.metadata import PARTICIPANTS_FILE, PARTITION_FILE
from pipeline.data.rater_agreement import RATERS_FILE, RATERS_HEADER
from pipeline.data.records.matching import chosen_column
from pipeline.data.records.record_table import Kind, RecordTable
from pipeline.errors import InputError


class MetadataUpdate:
    """What a corpus says about its sessions, and what an import adds.

    Args:
        folder: the corpus.
        partition_file: session,partition as a person gives it; or None.
        participants_file: session,participant likewise.

    Raises:
        InputError: a file is not understood.
    """

    def __init__(
        self, folder: CorpusFolder, partition_file: Path | None, participants_file: Path | None
    ) -> None:
        self._folder = folder
        self._given_partitions = read_partition_file(partition_file) if partition_file else {}
        self._given_people = read_people_file(participants_file) if participants_file else {}
        self._has_people = participants_file is not None
        partitions, people = self._read(PARTITION_FILE), self._read(PARTICIPANTS_FILE)
        self._partition_table = (
            None if partitions is None else parse_partitions(partitions, PARTITION_FILE)
        )
        self._people_table = None if people is None else parse_people(people, PARTICIPANTS_FILE)
        self._partitions = partitions_of(self._partition_table) if self._partition_table else {}
        self._people = people_of(self._people_table) if self._people_table else None
        origins = folder.read(ORIGINS_FILE)
        self.origins = {} if origins is None else parse_origins(origins, ORIGINS_FILE)
        self._had_origins = dict(self.origins)
        self.warnings: list[str] = []

    def stage(self, sessions: Sequence[str], raters: Sequence[RaterReport]) -> dict[str, str]:
        """Stage what changes when these sessions were imported.

        Returns:
            Session -> partition, of those that are new.

        Raises:
            InputError: a session has no participant or partition where others have one, or another
                than before.
        """
        people = self._update_people(sessions)
        new = [session for session in sessions if session not in self._partitions]
        partitions = self._update_partitions(sessions, new, people or {})

        if partitions != self._partitions:
            columns: tuple[Kind, Kind] = ("session", "partition")
            rows = _updated_rows(self._partition_table, ("Id", "Proposal"), columns, partitions)
            self._folder.stage_text(PARTITION_FILE, format_rows(rows))
        if people is not None and people != self._people:
            columns = ("session", "participant")
            rows = _updated_rows(self._people_table, columns, columns, people)
            self._folder.stage_text(PARTICIPANTS_FILE, format_rows(rows))
        if self.origins != self._had_origins:
            self._folder.stage_text(ORIGINS_FILE, format_origins(self.origins))
        if raters:
            self._folder.stage_text(RATERS_FILE, self._format_raters(raters))
        return {session: partitions[session] for session in sorted(new)}

    def _read(self, name: str) -> bytes | None:
        """Return the content of a file of the corpus; None where there is none.

        Raises:
            InputError: it has the ending .tsv, and would be beside the one that is written.
        """
        tab_separated = name.replace(".csv", ".tsv")
        if self._folder.has(tab_separated):
            raise InputError(
                f"The corpus has {tab_separated}, and imports write {name}. Save it under that "
                "name: tabs may stay between its cells."
            )
        return self._folder.read(name)

    def _update_people(self, sessions: Sequence[str]) -> dict[str, str] | None:
        """Return session -> person of all sessions; None where nobody says it."""
        all_sessions = sorted({*self._partitions, *sessions})
        if self._people is None and not self._has_people:
            if len(all_sessions) > len(self._partitions) and len(all_sessions) > 1:
                self.warnings.append(
                    "Each session counts as a person of its own. If a person has several, say so: "
                    "--participants FILE (session,participant); else people who are trained on "
                    "may also be judged on."
                )
            return None

        people = dict(self._people or {})
        for session in all_sessions:
            given = self._given_people.get(session)
            if given and people.get(session, given) != given and not self._folder.overwrite:
                raise InputError(
                    f"Session {session!r} is of {people[session]!r} by {PARTICIPANTS_FILE}, not of "
                    f"{given!r}. Pass --overwrite if the new file is right."
                )
            if given:
                people[session] = given

        unnamed = [session for session in all_sessions if session not in people]
        if unnamed:
            raise InputError(
                f"No participant is named for {len(unnamed)} sessions: {quoted_list(unnamed)}. "
                "Pass --participants FILE with a line session,participant for each."
            )
        return people

    def _update_partitions(
        self, sessions: Sequence[str], new: Sequence[str], people: dict[str, str]
    ) -> dict[str, str]:
        partitions = dict(self._partitions)
        for session in sorted({*partitions, *sessions}):
            given = self._given_partitions.get(session)
            if given and partitions.get(session, given) != given and not self._folder.overwrite:
                raise InputError(
                    f"Session {session!r} is in {partitions[session]!r} by {PARTITION_FILE}, not "
                    f"in {given!r}. Pass --overwrite if the new file is right."
                )
            if given:
                partitions[session] = given

        unassigned = [session for session in new if session not in partitions]
        if self._given_partitions and unassigned:
            raise InputError(
                f"The file of --partition lists no partition for {len(unassigned)} sessions: "
                f"{quoted_list(unassigned)}. Add a line session,partition for each."
            )
        partitions |= assign_partitions(unassigned, people, partitions)
        if unassigned:
            self.warnings.append(
                f"Nobody says which partition {quoted_list(unassigned)} should be in: people were "
                f"divided about 60/20/20 (see {PARTITION_FILE}). Say it by --partition FILE."
            )
        return partitions

    def _format_raters(self, raters: Sequence[RaterReport]) -> str:
        """Return the file of raters, with those of other targets and sessions as they were."""
        replaced = {(rater.target, rater.session) for rater in raters}
        content = (self._folder.read(RATERS_FILE) or b"").decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(content, newline="")))
        kept: list[tuple[object, ...]] = [
            tuple(row) for row in rows[1:] if row and (row[0], row[1]) not in replaced
        ]
        added: list[tuple[object, ...]] = [
            (
                rater.target,
                rater.session,
                rater.rater,
                rater.fusion,
                f"{rater.weight:.6g}",
                f"{rater.lag_ms:g}",
                _number(rater.ccc_with_others),
                _number(rater.mean_pairwise_ccc),
            )
            for rater in raters
        ]
        return format_rows([RATERS_HEADER, *kept, *added])


def _updated_rows(
    table: RecordTable | None,
    header: tuple[str, str],
    kinds: tuple[Kind, Kind],
    pairs: Mapping[str, str],
) -> list[Sequence[str]]:
    """Return the rows of a table that is there, with its other columns, and rows for new sessions.

    Args:
        table: the one that is there; None where there is none.
        header: the names of the columns of a new one.
        kinds: what the sessions and their values are, as columns.
        pairs: session -> value, of all sessions.
    """
    if table is None:
        return [header, *sorted(pairs.items())]

    session, value = (chosen_column(table, kind).position for kind in kinds)
    rows = [list(row) for row in table.rows]
    listed = {row[session] for row in rows}
    rows += [[""] * len(table.header) for _ in pairs.keys() - listed]
    for row, name in zip(rows[len(table.rows) :], sorted(pairs.keys() - listed), strict=True):
        row[session] = name
    for row in rows:
        row[value] = pairs[row[session]]
    return [table.header, *sorted(rows, key=lambda row: row[session])]


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
