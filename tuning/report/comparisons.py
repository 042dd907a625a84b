"""Tables of what settings reached: those of Hamieh et al. (2021), for the corpus at hand.

Every number is a devel CCC of trials of the search. Early stopping ends bad trials first, so the
mean of those trained to the end flatters what was stopped often. Every cell therefore also has the
mean at the first rung, which all its trials have reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.spec import StageName
from pipeline.stages.fusion import FusionTask
from pipeline.stages.unimodal import UnimodalTask
from tuning.report.formats import Mean, value_text
from tuning.report.search_trials import Searches, SearchTrial
from tuning.spec.space import MODALITIES, Value

Level = tuple[Value, ...]


@dataclass(frozen=True)
class Factor:
    """What the columns of a table compare.

    Attributes:
        paths: of the settings that differ between columns.
        headings: their values -> heading of the column, in the order of the paper; other values
            have their own name, and come last.
    """

    paths: tuple[str, ...]
    headings: Mapping[Level, str]

    def level(self, trial: SearchTrial) -> Level:
        """Return a trial's values at the paths."""
        return tuple(trial.settings[path] for path in self.paths)

    def heading(self, level: Level) -> str:
        """Return the heading of a level's column."""
        return self.headings.get(level) or ", ".join(str(value) for value in level)

    def ordered(self, levels: Iterable[Level]) -> list[Level]:
        """Return levels in the order of their columns."""
        unique = set(levels)
        known = [level for level in self.headings if level in unique]
        return known + sorted(unique - set(known), key=self.heading)


CELL = Factor(
    paths=("network.cell", "network.bidirectional"),
    headings={
        ("lstm", False): "LSTM",
        ("lstm", True): "BiLSTM",
        ("gru", False): "GRU",
        ("gru", True): "BiGRU",
        ("tcn", False): "TCN",
        ("tcn", True): "centred TCN",
    },
)
LOSS = Factor(("fit.loss",), {("mse",): "MSE", ("l1",): "L1", ("ccc",): "CCC"})
DIFFICULTY = Factor(("difficulty",), {(False,): "without RE", (True,): "with RE"})


@dataclass(frozen=True)
class Topic:
    """What a table is about.

    Attributes:
        title: what is compared.
        paper: which tables of the paper it stands for.
        stage: whose trials.
        factor: what the columns compare.
        varied_paths: settings of which the search has to vary one, or there is nothing to compare.
    """

    title: str
    paper: str
    stage: StageName
    factor: Factor
    varied_paths: tuple[str, ...]


CELLS = Topic("Recurrent cells", "Tables 1 and 2", "unimodal", CELL, CELL.paths)
LOSSES = Topic("Losses", "Tables 3 and 4", "unimodal", LOSS, LOSS.paths)
FEATURES = Topic(
    title="Features with and without their reconstruction error (RE)",
    paper="Tables 5 and 6",
    stage="unimodal",
    factor=DIFFICULTY,
    varied_paths=DIFFICULTY.paths,
)
SUBSETS = Topic(
    title="Fusion of several modalities",
    paper="Table 7",
    stage="fusion",
    factor=DIFFICULTY,
    varied_paths=(MODALITIES, *DIFFICULTY.paths),
)
FUSIONS = Topic(
    title="Fusion with and without reconstruction errors",
    paper="Table 8",
    stage="fusion",
    factor=DIFFICULTY,
    varied_paths=DIFFICULTY.paths,
)


@dataclass(frozen=True)
class Cell:
    """The devel CCCs of the trials with one setting.

    Attributes:
        highest: of those trained to the end; None where there is none.
        mean: of those trained to the end.
        mean_at_rung: of all of them at the first rung.
        num_stopped: how many were not trained to the end.
    """

    highest: float | None
    mean: Mean | None
    mean_at_rung: Mean | None
    num_stopped: int

    @classmethod
    def from_trials(cls, trials: Sequence[SearchTrial]) -> Cell:
        """Summarise some trials."""
        complete = [trial.devel for trial in trials if trial.is_complete]
        at_rung = [trial.devel_at_rung for trial in trials if trial.devel_at_rung is not None]

        return cls(
            highest=max(complete, default=None),
            mean=Mean.from_values(complete),
            mean_at_rung=Mean.from_values(at_rung),
            num_stopped=len(trials) - len(complete),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no trial had the setting."""
        return self.mean is None and self.mean_at_rung is None and not self.num_stopped


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: what all its cells have in common.
        cells: one per column.
        paired: mean difference of the devel CCCs of trials that differ in the column alone; None
            where there is no such pair.
    """

    name: str
    cells: tuple[Cell, ...]
    paired: Mean | None = None


@dataclass(frozen=True)
class RowGroup:
    """Rows under a heading, such as a target and its modalities; the heading may be empty."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """One table.

    Attributes:
        title: what is compared.
        paper: which tables of the paper it stands for.
        note: why there is no table; else empty.
        columns: what each cell of a row stands for.
        groups: the rows.
        rung: the epoch of the first rung.
    """

    title: str
    paper: str
    note: str
    columns: tuple[str, ...]
    groups: tuple[RowGroup, ...]
    rung: int

    @property
    def has_pairs(self) -> bool:
        """Whether some row has a paired difference."""
        return any(row.paired for group in self.groups for row in group.rows)


def comparisons(searches: Searches) -> list[Comparison]:
    """Return the counterparts of the paper's Tables 1 to 8."""
    return [
        _compare_unimodal(searches, CELLS),
        _compare_unimodal(searches, LOSSES),
        _compare_unimodal(searches, FEATURES),
        _compare_modality_subsets(searches),
        _compare_fusion_difficulty(searches),
    ]


def _compare_unimodal(searches: Searches, topic: Topic) -> Comparison:
    """Compare settings of the regressors: a group per target, a row per modality."""
    levels = _levels(searches, topic)
    groups = []
    for target in searches.targets:
        rows = []
        for modality in searches.modalities:
            trials = searches.trials(UnimodalTask(modality, target))
            rows.append(_row(modality, trials, topic.factor, levels))
        groups.append(RowGroup(target, tuple(rows)))

    return _comparison(searches, topic, levels, groups)


def _compare_modality_subsets(searches: Searches) -> Comparison:
    """Compare fusions with and without RE: a group per target, a row per subset of modalities."""
    levels = _levels(searches, SUBSETS)
    groups = []
    for target in searches.targets:
        by_subset: dict[str, list[SearchTrial]] = {}
        for trial in searches.trials(FusionTask(target=target)):
            by_subset.setdefault(str(trial.settings[MODALITIES]), []).append(trial)

        rows = []
        for subset in sorted(by_subset, key=lambda name: (name.count(","), name)):
            rows.append(_row(value_text(subset), by_subset[subset], SUBSETS.factor, levels))
        groups.append(RowGroup(target, tuple(rows)))

    return _comparison(searches, SUBSETS, levels, groups)


def _compare_fusion_difficulty(searches: Searches) -> Comparison:
    """Compare fusions with and without RE, whatever the modalities: a row per target."""
    levels = _levels(searches, FUSIONS)
    rows = []
    for target in searches.targets:
        trials = searches.trials(FusionTask(target=target))
        rows.append(_row(target, trials, FUSIONS.factor, levels))

    return _comparison(searches, FUSIONS, levels, [RowGroup("", tuple(rows))])


def _levels(searches: Searches, topic: Topic) -> list[Level]:
    """Return the levels that trials of the topic's stage had, in the order of the paper."""
    levels: set[Level] = set()
    for task in searches.tasks:
        if task.stage == topic.stage:
            levels |= {topic.factor.level(trial) for trial in searches.trials(task)}
    return topic.factor.ordered(levels)


def _row(name: str, trials: Sequence[SearchTrial], factor: Factor, levels: Sequence[Level]) -> Row:
    by_level: dict[Level, list[SearchTrial]] = {level: [] for level in levels}
    for trial in trials:
        by_level.setdefault(factor.level(trial), []).append(trial)

    cells = tuple(Cell.from_trials(by_level[level]) for level in levels)
    return Row(name, cells, _paired_difference(trials) if factor is DIFFICULTY else None)


def _paired_difference(trials: Iterable[SearchTrial]) -> Mean | None:
    """Return with minus without RE, of complete trials that are alike in all other settings."""
    pairs: dict[str, dict[bool, list[float]]] = {}
    for trial in trials:
        if trial.is_complete:
            has_difficulty = bool(trial.settings["difficulty"])
            scores = pairs.setdefault(_other_settings(trial), {})
            scores.setdefault(has_difficulty, []).append(trial.devel)

    differences = [
        fmean(scores[True]) - fmean(scores[False]) for scores in pairs.values() if len(scores) == 2
    ]
    return Mean.from_values(differences)


def _other_settings(trial: SearchTrial) -> str:
    """Return all settings but difficulty as a key."""
    # Which auto-encoder is read is no further difference: without difficulty there is none.
    ignored = ("difficulty", "auto_encoder")
    return str(sorted(item for item in trial.settings.items() if item[0] not in ignored))


def _comparison(
    searches: Searches, topic: Topic, levels: Sequence[Level], groups: Sequence[RowGroup]
) -> Comparison:
    note = _note(searches, topic, levels)
    # Where nothing varied, the one column would repeat what other tables show.
    columns = () if note else tuple(topic.factor.heading(level) for level in levels)

    return Comparison(
        title=topic.title,
        paper=topic.paper,
        note=note,
        columns=columns,
        groups=tuple(groups) if columns else (),
        rung=searches.first_rung(topic.stage),
    )


def _note(searches: Searches, topic: Topic, levels: Sequence[Level]) -> str:
    """Return why there is nothing to compare; an empty text where there is something."""
    if not levels:
        return "No trial of this stage has ended yet."
    if searches.is_varied(topic.stage, *topic.varied_paths):
        return ""

    settings = [f"{path} = {searches.setting(topic.stage, path)}" for path in topic.varied_paths]
    return f"Not varied in this study: every trial had {', '.join(settings)}."
