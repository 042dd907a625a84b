"""The scores of nested cross-validation: nested.json, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from pipeline.evaluation.paired_scores import PairedScores
from pipeline.terminal import cells, title
from tuning.report.formats import difference_text, score_text

NESTED = "nested.json"
WINNER, DEFAULT, BEST_MODALITY = "winner", "default", "best modality"
"""The model that a study found, the study's own settings without any search, and the best of the
default's regressors."""
MEAN_OVER_TARGETS = "mean over targets"


@dataclass(frozen=True)
class OuterFoldRecord:
    """What happened in one outer fold.

    Attributes:
        name: such as "outer fold 2 of 5".
        subjects: partition -> who was in it; "test" are the people set apart.
        best_modality: target -> the modality that was best out of fold for the other people.
        trials: fits that the study asked for.
        search_s: seconds that the study ran.
        default_s: seconds that the untuned default took beyond the study; what both train is
            trained once.
        ccc: target -> "winner" and "default" -> CCC on the people set apart; None where undefined.
    """

    name: str
    subjects: Mapping[str, list[str]]
    best_modality: Mapping[str, str]
    trials: int
    search_s: float
    default_s: float
    ccc: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class NestedScores:
    """How good a whole search is, on people that no part of it saw.

    Attributes:
        study: its name.
        targets: target -> scores of all predictions, pooled over the outer folds, and winner and
            default minus each other prediction.
        mean: the same as a mean over targets; None where there is only one.
        folds: in order.
    """

    study: str
    targets: Mapping[str, PairedScores]
    mean: PairedScores | None
    folds: tuple[OuterFoldRecord, ...]

    @property
    def num_subjects(self) -> int:
        """Return how many people were predicted: each in one fold."""
        return sum(len(fold.subjects["test"]) for fold in self.folds)

    @property
    def named(self) -> dict[str, PairedScores]:
        """Return target -> its scores, and last the mean over targets, if there is one."""
        mean = {} if self.mean is None else {MEAN_OVER_TARGETS: self.mean}
        return {**self.targets, **mean}

    def to_json(self) -> dict[str, Any]:
        """Return nested.json."""
        return {
            "study": self.study,
            "outer_folds": len(self.folds),
            "subjects": self.num_subjects,
            "targets": {target: scores.to_json() for target, scores in self.targets.items()},
            "mean": None if self.mean is None else self.mean.to_json(),
            "folds": [asdict(fold) for fold in self.folds],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> NestedScores:
        """Return the scores that `to_json` wrote."""
        return cls(
            study=record["study"],
            targets={
                target: PairedScores.from_json(scores)
                for target, scores in record["targets"].items()
            },
            mean=None if record["mean"] is None else PairedScores.from_json(record["mean"]),
            folds=tuple(OuterFoldRecord(**fold) for fold in record["folds"]),
        )


def nested_tables(nested: NestedScores) -> list[Table]:
    """Return a table for each target, and one for their mean where there are several."""
    return [_table(nested, name, scores) for name, scores in nested.named.items()]


def _table(nested: NestedScores, name: str, scores: PairedScores) -> Table:
    table = Table(
        title=title(
            f"{name}: {nested.num_subjects} people, predicted by searches that never saw them"
        ),
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for heading in ("prediction", "nested CCC [95% interval]", "winner minus it"):
        table.add_column(heading, no_wrap=True)

    for prediction, score in scores.scores.items():
        difference = scores.differences[WINNER].get(prediction)
        table.add_row(*cells([prediction, score_text(score), difference_text(difference)]))
    return table
