"""What settings reached, side by side: the tables of Hamieh et al. 2021 for the corpus at hand.

Early stopping ends bad trials first, so the mean of those trained to the end flatters what was stopped often. Every
cell therefore also has the mean at the first rung, which all its trials have reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from tuning.report.search_trials import Entry, Searches
from tuning.spec.space import MODALITIES, Stage, Value
from tuning.spec.tasks import Task

CELLS: dict[tuple[Value, ...], str] = {
    ("lstm", False): "LSTM",
    ("lstm", True): "BiLSTM",
    ("gru", False): "GRU",
    ("gru", True): "BiGRU",
}
LOSSES = {"mse": "MSE", "l1": "L1", "ccc": "CCC"}
DIFFICULTY = {False: "without RE", True: "with RE"}


@dataclass(frozen=True)
class Mean:
    """A mean with its spread; the spread is None for a single value."""

    value: float
    spread: float | None
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean | None:
        """None of nothing."""
        return (
            cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))
            if values
            else None
        )

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")


@dataclass(frozen=True)
class Cell:
    """What the trials with one setting reached.

    Attributes:
        best: of those trained to the end.
        trained: mean of those trained to the end.
        stopped: how many were not.
        early: mean of all of them at the first rung.
    """

    best: float | None
    trained: Mean | None
    stopped: int
    early: Mean | None

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Cell:
        complete = [entry.score for entry in entries if entry.complete]
        return cls(
            best=max(complete, default=None),
            trained=Mean.of(complete),
            stopped=len(entries) - len(complete),
            early=Mean.of([entry.early for entry in entries if entry.early is not None]),
        )


@dataclass(frozen=True)
class Row:
    """`paired`: the mean difference of pairs of trials that differ in nothing else; None where there is no pair."""

    name: str
    cells: tuple[Cell, ...]
    paired: Mean | None = None


@dataclass(frozen=True)
class Comparison:
    """One table.

    Attributes:
        title: what is compared.
        paper: which tables of the paper it stands for.
        note: what a reader must know; where nothing was varied, that.
        columns: what each cell of a row stands for.
        groups: (heading, rows), such as a target and its modalities.
        rung: the epoch at which all trials are compared.
    """

    title: str
    paper: str
    note: str
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    rung: int

    @property
    def has_pairs(self) -> bool:
        return any(row.paired for _, rows in self.groups for row in rows)


def comparisons(searches: Searches) -> list[Comparison]:
    """The counterparts of Tables 1 to 8; Table 9 is about finalists."""
    return [
        _unimodal(
            searches,
            "Recurrent cells",
            "Tables 1 and 2",
            ("network.cell", "network.bidirectional"),
            CELLS,
        ),
        _unimodal(
            searches,
            "Losses",
            "Tables 3 and 4",
            ("fit.loss",),
            {(key,): text for key, text in LOSSES.items()},
        ),
        _unimodal(
            searches,
            "Features with and without their reconstruction error (RE)",
            "Tables 5 and 6",
            ("difficulty",),
            {(key,): text for key, text in DIFFICULTY.items()},
        ),
        _combinations(searches),
        _fusion_difficulty(searches),
    ]


def _unimodal(
    searches: Searches,
    title: str,
    paper: str,
    paths: tuple[str, ...],
    names: Mapping[tuple[Value, ...], str],
) -> Comparison:
    """Settings of the regressors against modalities, for each target."""
    levels = _levels(searches, "unimodal", paths, names)
    groups = tuple(
        (
            target,
            tuple(
                _row(modality, searches.of(Task("unimodal", modality, target)), paths, levels)
                for modality in searches.modalities
            ),
        )
        for target in searches.targets
    )
    return _comparison(
        searches, "unimodal", title, paper, paths, [names[level] for level in levels], groups
    )


def _combinations(searches: Searches) -> Comparison:
    """Subsets of modalities against targets and difficulty."""
    found = {t: searches.of(Task("fusion", "", t)) for t in searches.targets}
    subsets = sorted(
        {str(entry.settings[MODALITIES]) for entries in found.values() for entry in entries},
        key=lambda subset: (subset.count(","), subset),
    )
    levels = _levels(
        searches, "fusion", ("difficulty",), {(key,): text for key, text in DIFFICULTY.items()}
    )
    rows = {
        target: tuple(
            _row(
                subset.replace(",", " + "),
                [entry for entry in entries if entry.settings[MODALITIES] == subset],
                ("difficulty",),
                levels,
            )
            for subset in subsets
            if any(entry.settings[MODALITIES] == subset for entry in entries)
        )
        for target, entries in found.items()
    }
    return _comparison(
        searches,
        "fusion",
        "Fusion of several modalities",
        "Table 7",
        (MODALITIES, "difficulty"),
        [DIFFICULTY[bool(level[0])] for level in levels],
        tuple(rows.items()),
    )


def _fusion_difficulty(searches: Searches) -> Comparison:
    """Fusion with and without RE, whatever the modalities."""
    names: dict[tuple[Value, ...], str] = {(key,): text for key, text in DIFFICULTY.items()}
    levels = _levels(searches, "fusion", ("difficulty",), names)
    rows = tuple(
        _row(target, searches.of(Task("fusion", "", target)), ("difficulty",), levels)
        for target in searches.targets
    )
    return _comparison(
        searches,
        "fusion",
        "Fusion with and without reconstruction errors",
        "Table 8",
        ("difficulty",),
        [names[level] for level in levels],
        (("", rows),),
    )


def _levels(
    searches: Searches, stage: Stage, paths: tuple[str, ...], names: Mapping[tuple[Value, ...], str]
) -> list[tuple[Value, ...]]:
    """The settings that trials had, in the order of the paper."""
    had = {
        tuple(entry.settings[path] for path in paths)
        for task in searches.tasks
        if task.stage == stage
        for entry in searches.of(task)
    }
    return [level for level in names if level in had]


def _row(
    name: str, entries: Sequence[Entry], paths: tuple[str, ...], levels: Sequence[tuple[Value, ...]]
) -> Row:
    cells = tuple(
        Cell.of(
            [entry for entry in entries if tuple(entry.settings[path] for path in paths) == level]
        )
        for level in levels
    )
    return Row(name, cells, _paired(entries, paths[0]) if paths == ("difficulty",) else None)


def _paired(entries: Iterable[Entry], path: str) -> Mean | None:
    """With minus without, of trials that were trained to the end and are alike in all else."""
    # Which auto-encoder is read is no further difference: without difficulty there is none.
    ignored = {path, "auto_encoder"}
    alike: dict[str, dict[bool, list[float]]] = {}
    for entry in entries:
        if entry.complete:
            rest = str(
                sorted((key, value) for key, value in entry.settings.items() if key not in ignored)
            )
            alike.setdefault(rest, {}).setdefault(bool(entry.settings[path]), []).append(
                entry.score
            )
    return Mean.of(
        [fmean(both[True]) - fmean(both[False]) for both in alike.values() if len(both) == 2]
    )


def _comparison(
    searches: Searches,
    stage: Stage,
    title: str,
    paper: str,
    paths: tuple[str, ...],
    columns: Sequence[str],
    groups: tuple[tuple[str, tuple[Row, ...]], ...],
) -> Comparison:
    note = ""
    if not columns:
        note = "No trial of this stage has ended yet."
    elif not searches.varied(stage, *paths):
        note = f"Not varied in this study: {_all_had(searches, stage, paths)}."
        columns, groups = (), ()  # one column would repeat what other tables say
    return Comparison(
        title, paper, note, tuple(columns), groups if columns else (), searches.rung(stage)
    )


def _all_had(searches: Searches, stage: Stage, paths: tuple[str, ...]) -> str:
    settings = [f"{path} = {searches.setting(stage, path, {})}" for path in paths]
    return f"every trial had {', '.join(settings)}"
