"""The answer of a study, target by target: what won, with what, and how much better than what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.bootstrap import Score
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY, FusionTask
from pipeline.stages.label_floors import LABEL_FLOORS
from pipeline.stages.unimodal import UnimodalTask
from tuning.journal.events import Candidate, CandidateKind, Finalist
from tuning.report.formats import listed, value_text
from tuning.report.results import WinnerScores
from tuning.report.search_trials import Searches
from tuning.spec.space import MODALITIES

RIVALS: Mapping[CandidateKind, str] = {
    "winner": "winner of the search",
    "default": "untuned default",
    "mean": "mean of modalities",
    "weighted_mean": "weighted mean",
}
WHAT: Mapping[CandidateKind, str] = {
    "winner": "The winner of the search",
    "single": "The leading single configuration of the search",
    "default": "The untuned default: the study's own settings, without any search",
    "modality": "One modality alone, without a fusion",
    "mean": "The mean of the modalities' predictions",
    "weighted_mean": "The weighted mean of the modalities' predictions",
}
ARTICLES: Mapping[str, str] = {
    **{name: f"the {name}" for name in RIVALS.values()},
    RIVALS["mean"]: "the mean of the modalities",
    RIVALS["weighted_mean"]: "their weighted mean",
}
"""Names of rivals as a sentence has them, where it has them otherwise."""
MARKS = {"better": "▲", "worse": "▼", "no clear difference": "≈", "no interval": "?"}


@dataclass(frozen=True)
class Rival:
    """Something that the registered model is compared with.

    Attributes:
        name: such as "untuned default".
        quantity: of which CCCs the difference is: "deciding" or "devel".
        difference: the registered model's CCC minus its, paired over people.
        scale: the largest number of those beside it; their drawing spans -scale to scale.
    """

    name: str
    quantity: str
    difference: Score
    scale: float

    @property
    def verdict(self) -> str:
        """Whether the registered model is better: one of `MARKS`."""
        if not self.difference.has_interval:
            return "no interval"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no clear difference"

    @property
    def mark(self) -> str:
        """A sign for the verdict."""
        return MARKS[self.verdict]

    def percent(self, value: float) -> float:
        """Return where a difference lies in the drawing, 0 to 100."""
        return round(50 + 50 * max(-1.0, min(1.0, value / self.scale)), 1)


@dataclass(frozen=True)
class Part:
    """A trained part of the registered model: its task's name, and the settings that were tried."""

    task: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answer:
    """What won for one target.

    Attributes:
        target: what is predicted.
        what: what is registered, in words.
        modalities: that it reads.
        settings: what the search chose, as (path, value); () where nothing was searched.
        parts: the regressors and auto-encoders that it reads.
        devel: its CCC on devel.
        out_of_fold: its CCC on training people; None where it is unknown.
        rivals: what it is compared with.
    """

    target: str
    what: str
    modalities: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]
    devel: Score
    out_of_fold: Score | None
    rivals: tuple[Rival, ...]

    @property
    def has_to_beat(self) -> tuple[Rival, ...]:
        """The rivals without the fusion that reads no difficulty: that is a part left out."""
        return tuple(rival for rival in self.rivals if rival.name != WITHOUT_DIFFICULTY)

    @property
    def is_doubtful(self) -> bool:
        """Whether it is not clearly better than everything that it has to beat."""
        return any(rival.verdict != "better" for rival in self.has_to_beat)

    @property
    def key(self) -> str:
        """What the marks of its rivals mean."""
        verdicts = {rival.verdict for rival in self.rivals}
        return ", ".join(
            f"{mark} {verdict}" for verdict, mark in MARKS.items() if verdict in verdicts
        )

    @property
    def sentence(self) -> str:
        """What it is better than, and than what it is not."""
        names: dict[str, list[str]] = {}
        for rival in self.has_to_beat:
            names.setdefault(rival.verdict, []).append(ARTICLES.get(rival.name, rival.name))
        clauses = [
            f"{words} {listed(names[verdict])}"
            for verdict, words in (
                ("better", "better than"),
                ("no clear difference", "not clearly different from"),
                ("worse", "worse than"),
                ("no interval", "without an interval, so not comparable with"),
            )
            if verdict in names
        ]
        text = "; ".join(clauses)
        return f"{text[0].upper()}{text[1:]}." if text else "There is nothing to compare it with."


def answers(searches: Searches, scores: Mapping[str, WinnerScores]) -> list[Answer]:
    """Return the answer for every target that has scores."""
    return [_answer(searches, target, each) for target, each in scores.items()]


def _answer(searches: Searches, target: str, scores: WinnerScores) -> Answer:
    judged = searches.history.judged
    judgement = judged.targets.get(target) if judged is not None else None
    chosen = judgement.chosen if judgement is not None else None
    kind: CandidateKind = chosen.kind if chosen is not None else "winner"
    finalist = _finalist(searches, target, kind, chosen)

    ranks: Mapping[str, int] = {}
    if kind == "modality" and chosen is not None:
        ranks = {chosen.modality: 1}
    elif finalist is not None:
        ranks = finalist.upstream_ranks or _unranked(searches, finalist)
    elif kind == "default":
        ranks = dict.fromkeys(searches.modalities, 0)
    is_searched = kind in ("winner", "single", "modality")

    return Answer(
        target=target,
        what=_what(kind, finalist),
        modalities=tuple(ranks),
        settings=_settings(finalist) if finalist is not None and is_searched else (),
        parts=() if kind == "default" else tuple(_parts(searches, target, ranks)),
        devel=scores.devel[FUSION],
        out_of_fold=scores.out_of_fold.get(FUSION),
        rivals=_rivals(judgement.candidates if judgement is not None else (), scores),
    )


def _unranked(searches: Searches, fusion: Finalist) -> dict[str, int]:
    """Return the modalities that a fusion reads, where it does not say which of their best."""
    names = fusion.configuration.get(MODALITIES)
    return dict.fromkeys(str(names).split(",") if names else searches.modalities, 0)


def _finalist(
    searches: Searches, target: str, kind: CandidateKind, chosen: Candidate | None
) -> Finalist | None:
    """Return the finalist whose settings, and whose upstream ranks, what was chosen has."""
    if kind == "default":
        return None
    if kind == "modality" and chosen is not None:
        finalists = searches.history.completed.get(UnimodalTask(chosen.modality, target), ())
        return finalists[0] if finalists else None
    finalists = searches.history.completed.get(FusionTask(target=target), ())
    if kind == "single":
        finalists = tuple(finalist for finalist in finalists if not finalist.members)
    return finalists[0] if finalists else None


def _what(kind: CandidateKind, finalist: Finalist | None) -> str:
    if kind in ("winner", "modality") and finalist is not None and finalist.members:
        return f"{WHAT[kind]}: an ensemble of {len(finalist.members)} configurations"
    return WHAT[kind]


def _settings(finalist: Finalist) -> tuple[tuple[str, str], ...]:
    """Return the settings of a finalist; of an ensemble, those of its members side by side."""
    configurations = [member.configuration for member in finalist.members]
    configurations = configurations or [finalist.configuration]
    paths = dict.fromkeys(path for each in configurations for path in each)
    return tuple(
        (
            path,
            " / ".join(
                dict.fromkeys(
                    value_text(each[path]) if path in each else "does not apply"
                    for each in configurations
                )
            ),
        )
        for path in paths
    )


def _parts(searches: Searches, target: str, ranks: Mapping[str, int]) -> Iterator[Part]:
    """Yield the regressor of each modality, and the auto-encoder that it reads, if any."""
    for modality, rank in ranks.items():
        regressors = searches.history.completed.get(UnimodalTask(modality, target), ())
        if not 0 < rank <= len(regressors):
            continue
        regressor = regressors[rank - 1]
        yield Part(f"unimodal/{modality}/{target}", _settings(regressor))
        encoders = searches.history.completed.get(AutoEncoderTask(modality), ())
        encoder_rank = regressor.upstream_ranks.get("auto_encoder", 0)
        if 0 < encoder_rank <= len(encoders):
            yield Part(f"auto_encoder/{modality}", _settings(encoders[encoder_rank - 1]))


def _rivals(candidates: Sequence[Candidate], scores: WinnerScores) -> tuple[Rival, ...]:
    """Return what is compared: by the judgement where there is one, else on devel alone."""
    deciding = {}
    for candidate in candidates:
        if candidate.chosen_minus_it is not None and candidate.kind != "single":
            name = RIVALS.get(candidate.kind) or _strongest(candidate.modality)
            deciding[name] = Score.from_json(candidate.chosen_minus_it.model_dump())

    names = {name: name for name in (*LABEL_FLOORS.values(), WITHOUT_DIFFICULTY)}
    if not candidates:
        means = {
            FLOORS["mean"]: RIVALS["mean"],
            FLOORS["weighted_mean"]: RIVALS["weighted_mean"],
        }
        names = {**means, **_strongest_modality(scores), **names}
    devel = {
        called: scores.differences[name]
        for name, called in names.items()
        if name in scores.differences
    }
    return (*_in_scale("deciding", deciding), *_in_scale("devel", devel))


def _in_scale(quantity: str, differences: Mapping[str, Score]) -> Iterator[Rival]:
    """Yield the rivals of one quantity, which are drawn side by side."""
    limits = [
        abs(value)
        for difference in differences.values()
        for value in (difference.ccc, difference.low, difference.high)
        if np.isfinite(value)
    ]
    scale = 1.05 * max(limits, default=0.0) or 1.0
    for name, difference in differences.items():
        yield Rival(name, quantity, difference, scale)


def _strongest_modality(scores: WinnerScores) -> dict[str, str]:
    """Return the modality with the highest devel CCC -> what it is called; {} for none."""
    named = {FUSION, WITHOUT_DIFFICULTY, *FLOORS.values(), *LABEL_FLOORS.values()}
    cccs = {
        name: score.ccc
        for name, score in scores.devel.items()
        if name not in named and np.isfinite(score.ccc)
    }
    if not cccs:
        return {}
    name = max(cccs, key=cccs.__getitem__)
    return {name: _strongest(name)}


def _strongest(modality: str) -> str:
    return f"{modality} alone (strongest)"
