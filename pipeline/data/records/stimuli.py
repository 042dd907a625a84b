"""The stimulus of every session, where a corpus names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.corpus import Partition
from pipeline.data.input_errors import raise_if_any, shortened
from pipeline.data.records.matching import SessionTable, chosen_column, values_by_session


def read_stimuli(
    tables: Sequence[SessionTable], partitions: Mapping[str, Partition]
) -> dict[str, str]:
    """Return session -> stimulus from the first table that has a column of them; {} if none has.

    Raises:
        InputError: a session has two, or some sessions of train and devel have one and others none.
    """
    for table, sessions in tables:
        if table.columns("stimulus"):
            column = chosen_column(table, "stimulus")
            stimuli = values_by_session(table, sessions, column, "stimulus")
            _raise_if_incomplete(stimuli, column.name, table.where, partitions)
            return stimuli

    return {}


def _raise_if_incomplete(
    stimuli: Mapping[str, str], column: str, where: str, partitions: Mapping[str, Partition]
) -> None:
    """Raise where some sessions of train and devel have a stimulus, and others none."""
    judged = [session for session, partition in partitions.items() if partition != "test"]
    unknown = [session for session in judged if session not in stimuli]

    if stimuli and len(unknown) < len(judged):
        raise_if_any(
            [f"{where} names no stimulus of session {shortened(name)!r}" for name in unknown],
            f"Complete the column {column!r}, or remove it.",
        )
