"""Reads a corpus in the layout of MuSe 2021, 2022 or 2023 into arrays on common frames.

The module `layout` knows where the files are, `tables` what is in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.corpus import Corpus, Finding, Resampling, Session, Times, TimeUnit
from pipeline.data.checks.column_findings import column_findings, columns_set_aside
from pipeline.data.checks.findings import (
    corpus_finding,
    corpus_findings,
    limit_findings,
    stuck_findings,
)
from pipeline.data.checks.leaks import raise_if_leaked
from pipeline.data.checks.sentinel_findings import (
    feature_sentinel_findings,
    label_sentinel_findings,
    without_explained,
)
from pipeline.data.corpus_files import (
    Features,
    Labels,
    in_units,
    raise_if_too_many_imputed,
    read_feature_files,
    read_label_files,
    tables_of,
)
from pipeline.data.digest import corpus_digest, unusual_timing
from pipeline.data.input_errors import raise_if_any
from pipeline.data.layout import Layout, find_layout
from pipeline.data.metadata import PARTITION_FILE
from pipeline.data.tables.arrange import ArrangedFile, arrange
from pipeline.data.tables.cache import default_folder
from pipeline.data.timeline.build_session import BuiltSession, build_session
from pipeline.data.timeline.frames import Frames, Timing, find_timing, make_frames, median_step_ms
from pipeline.data.timeline.resampling import (
    choose_resampling,
    name_resampled_columns,
    resampling_findings,
)
from pipeline.data.timeline.time_units import recognise_units
from pipeline.errors import InputError
from pipeline.preprocessing.stuck import learn_limits, mark_stuck


def read_corpus(
    path: Path,
    *,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    tolerance_ms: float | None = None,
    max_imputed_share: float = 0.2,
    mark_stuck_rows: bool = True,
    model_columns: Mapping[str, Sequence[str]] | None = None,
    model_set_aside: Mapping[str, Sequence[str]] | None = None,
    cache_folder: Path | None = None,
    resampling: Resampling | Mapping[str, Resampling] | None = None,
    time_unit: TimeUnit | None = None,
    frame_period_ms: float | None = None,
) -> Corpus:
    """Read a corpus: one frame per label row, with the nearest row of each set or their mean.

    Targets that were annotated at other times share frames (see `timeline.frames`). A session
    without labels has frames where its feature sets have rows, about one label period apart.

    Args:
        path: the corpus, or a folder that holds exactly one.
        modalities: the feature sets to read, in this order; None for all, sorted.
        targets: the targets to read, likewise; an empty list where nothing is learned.
        tolerance_ms: the farthest that a feature row may be from its frame; None for half the
            median distance of two label rows, so that neighbouring frames do not compete for a row.
        max_imputed_share: the largest share of NaN or infinite cells in the present rows of a
            session's feature set, 0 to 1.
        mark_stuck_rows: whether rows of stuck sensors become missing, by what is usual in this
            corpus (see `preprocessing.stuck`). False where a model reads the sessions: it marks
            them by what was usual in its training.
        model_columns: feature set -> the columns that a model reads, in its order, where one reads
            the sessions: the files must have them. None for those that most files have.
        model_set_aside: feature set -> further columns, which were no features in the training of
            that model.
        cache_folder: where parsed files are kept; None for `$AFFECTUNE_CACHE`, else
            `$XDG_CACHE_HOME/affectune`, else `~/.cache/affectune`. Never in the corpus.
        resampling: what a frame is of the rows of a feature set, for all or by name; None for the
            mean where most rows would be dropped otherwise.
        time_unit: the unit of all timestamps; None to recognise it (see `timeline.time_units`).
        frame_period_ms: the distance of a model's frames, where one is to read the corpus: sessions
            without labels are put on it.

    Returns:
        The corpus, with read-only arrays and the findings about what was dropped, imputed or odd.

    Raises:
        InputError: the corpus cannot be used. The message tells where, why, and how to mend it.
    """
    if tolerance_ms is not None and not 0 <= tolerance_ms < float("inf"):
        raise InputError(f"The tolerance is {tolerance_ms:g} ms. It must be 0 or more.")

    layout = find_layout(Path(path), modalities, targets)
    expected, known = model_columns or {}, model_set_aside or {}
    features_read = read_feature_files(layout, cache_folder or default_folder(), expected, known)
    labels = read_label_files(layout)
    raise_if_too_many_imputed(features_read, max_imputed_share)

    units = recognise_units(tables_of(features_read), tables_of(labels), time_unit)
    features_read, labels = in_units(features_read, labels, units)
    timing = find_timing(
        _timelines_ms(features_read), _timelines_ms(labels), tolerance_ms, frame_period_ms
    )
    if model_columns is None:
        # Before columns are compared: it is the better reason why a file has one more.
        raise_if_leaked(features_read, labels, timing.tolerance_ms)
    features = _arrange(layout, features_read, expected)
    frames = _make_frames(layout, features, labels, timing)

    columns_in_files = {
        name: next(iter(files.values())).table.columns for name, files in features.items()
    }
    resampled, rates = _choose_resampling(features, frames, timing, resampling)
    columns = name_resampled_columns(columns_in_files, resampled)
    built = _build_sessions(layout, features, frames, columns, resampled, timing)
    as_read = [result.session for result in built]
    corpus_period_ms = median_step_ms([session.timestamps_ms for session in as_read])

    max_held_frames: dict[str, int] = {}
    if mark_stuck_rows:
        # A corpus that nothing can be learned from is checked by what is usual in all of it.
        usual = [session for session in as_read if session.partition == "train"] or as_read
        max_held_frames = learn_limits(usual, corpus_period_ms)
    sessions = tuple(mark_stuck(session, max_held_frames) for session in as_read)

    findings = [*layout.findings, *units.findings]
    for feature_set, files in features.items():
        findings += column_findings(feature_set, files)
    findings += _moved_row_findings(layout, frames)
    findings += resampling_findings(resampled, rates)
    findings += _sentinel_findings(layout, features, labels, columns_in_files)
    findings += corpus_findings(sessions, columns, timing.period_ms)
    if mark_stuck_rows:
        findings += limit_findings(columns, max_held_frames, corpus_period_ms)
    for result, session in zip(built, sessions, strict=True):
        findings += result.findings
        findings += stuck_findings(result.session, session, max_held_frames, corpus_period_ms)

    ways = unusual_timing(units, resampled, frames, timing)
    return Corpus(
        name=layout.root.resolve().name,
        columns=columns,
        targets=tuple(layout.labels),
        sessions=sessions,
        frame_period_ms=corpus_period_ms,
        digest=corpus_digest(layout, features, labels, timing, mark_stuck_rows, ways),
        findings=tuple(without_explained(findings)),
        max_held_frames=max_held_frames,
        set_aside={
            feature_set: tuple(set_aside)
            for feature_set, files in features.items()
            if (set_aside := columns_set_aside(files))
        },
        resampling={name: kind for name, kind in resampled.items() if kind != "nearest"},
    )


def _arrange(
    layout: Layout, features: Features, expected: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, ArrangedFile]]:
    arranged = {}
    for feature_set, files in features.items():
        paths = layout.features[feature_set]
        names = {session: layout.name(paths[session]) for session in files}
        arranged[feature_set] = arrange(files, names, expected.get(feature_set, ()))
    return arranged


def _timelines_ms(files: Features | Labels) -> dict[str, list[Times]]:
    """Return feature set or target -> timestamps of its files."""
    return {
        name: [file.table.timestamps_ms for file in by_session.values()]
        for name, by_session in files.items()
    }


def _make_frames(
    layout: Layout, features: Features, labels: Labels, timing: Timing
) -> dict[str, Frames]:
    """Return session -> its frames."""
    frames = {}
    for entry in layout.metadata.entries:
        session = entry.session_id
        frames[session] = make_frames(
            [files[session].table for files in features.values() if session in files],
            {t: files[session].table for t, files in labels.items() if session in files},
            timing,
        )
    return frames


def _moved_row_findings(layout: Layout, frames: Mapping[str, Frames]) -> list[Finding]:
    """Say which targets were labelled at other times than the frames."""
    message = (
        "It was labelled at other times than the frames: each of its rows is read at the nearest "
        "frame, and gets its own prediction."
    )
    findings = []
    for target in layout.labels:
        num_moved = sum(each.num_moved_rows.get(target, 0) for each in frames.values())
        rows = [each.label_rows[target] for each in frames.values() if target in each.label_rows]
        if num_moved:
            total = sum(len(each.frames) for each in rows)
            findings.append(corpus_finding("note", "rows moved", target, num_moved, total, message))
    return findings


def _choose_resampling(
    features: Features,
    frames: Mapping[str, Frames],
    timing: Timing,
    given: Resampling | Mapping[str, Resampling] | None,
) -> tuple[dict[str, Resampling], dict[str, float]]:
    timelines_ms = {
        name: [
            (frames[session].timestamps_ms, file.table.timestamps_ms)
            for session, file in files.items()
        ]
        for name, files in features.items()
    }
    return choose_resampling(timelines_ms, timing.tolerance_ms, given)


def _sentinel_findings(
    layout: Layout, features: Features, labels: Labels, columns: Mapping[str, Sequence[str]]
) -> list[Finding]:
    findings = []
    for feature_set, files in features.items():
        names = {session: layout.name(layout.features[feature_set][session]) for session in files}
        tables = {session: file.table for session, file in files.items()}
        findings += feature_sentinel_findings(feature_set, tables, names, columns[feature_set])

    for target, label_files in labels.items():
        names = {session: layout.name(layout.labels[target][session]) for session in label_files}
        label_tables = {session: file.table for session, file in label_files.items()}
        findings += label_sentinel_findings(target, label_tables, names)
    return findings


def _build_sessions(
    layout: Layout,
    features: Features,
    frames: Mapping[str, Frames],
    columns: Mapping[str, Sequence[str]],
    resampling: Mapping[str, Resampling],
    timing: Timing,
) -> list[BuiltSession]:
    built = []
    for entry in layout.metadata.entries:
        feature_tables = {
            feature_set: files[entry.session_id].table if entry.session_id in files else None
            for feature_set, files in features.items()
        }
        built.append(
            build_session(
                entry,
                frames[entry.session_id],
                feature_tables,
                list(layout.labels),
                columns,
                resampling,
                timing,
            )
        )

    raise_if_any(
        [mistake for result in built for mistake in result.mistakes],
        "Write both in ms from the same start, or allow more with --tolerance-ms.",
    )
    _check_lengths([result.session for result in built])
    return built


def _check_lengths(sessions: Sequence[Session]) -> None:
    raise_if_any(
        [
            f"session {session.session_id!r} has a single frame"
            for session in sessions
            if session.num_frames < 2
        ],
        f"A sequence needs two or more: remove the session from {PARTITION_FILE}.",
    )
