"""Whether the search pays: nested over people, on every corpus that is named.

Per corpus: the winner of a study against the untuned default and the floors; the study against the
same one with random search and as many fits; and with and without each of `ABLATIONS`. Every CCC is
of people whom no part of the search saw, and every difference is paired over people.

    AFFECTUNE_CORPORA=data/ceap360vr=pupil+gaze+head,data/bidmc make bench BENCH=search
    python -m tests.benchmarks.search data/ceap360vr data/bidmc --out docs/results/nested.md

A corpus is a folder, with the names of its feature sets after "=" where not all are wanted. What is
done is kept in --work: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.errors import AffectuneError
from pipeline.evaluation.paired_scores import PairedScores, mean_paired_scores, paired_scores
from pipeline.storage.atomic_file import write_atomically
from tests.benchmarks.rows import Row, more_is_better
from tests.benchmarks.timed_study import NUM_WORKERS, prepare_process, study_of
from tuning.ray_backend.cluster import cluster
from tuning.report.formats import difference_text, score_text
from tuning.report.nested_scores import BEST_MODALITY, DEFAULT, MEAN_OVER_TARGETS, WINNER
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.study.nested import NestedRun, run_nested
from tuning.study.study import StudyOptions

CORPORA = "AFFECTUNE_CORPORA"
RESULTS = Path("docs/results/nested.md")
WORK = Path(".affectune/bench-search")
NUM_FOLDS = 5
SYNTHETIC_FOLDS = 2

STUDY = """
name = "search benchmark"
folds = 3
[auto_encoder]
network = { num_layers = 1, hidden_size = 32 }
fit = { max_epochs = 40, patience = 8, hop_frames = 150 }
[unimodal]
network = { num_layers = 1, hidden_size = 32 }
fit = { max_epochs = 40, patience = 10, hop_frames = 150 }
[fusion]
fit = { max_epochs = 40, patience = 10, hop_frames = 150 }
[search.unimodal]
trials = 10
sampler = "tpe"
grace_epochs = 6
finalists = 2
seeds = 1
race_folds = 2
[search.unimodal.space]
"network.cell" = { choice = ["gru", "tcn"] }
"network.num_layers" = { int = [1, 2] }
"network.input_dropout" = { uniform = [0.0, 0.5] }
"fit.learning_rate" = { loguniform = [0.0005, 0.01] }
"normalisation" = { choice = ["session", "both"] }
[search.fusion]
trials = 4
sampler = "random"
grace_epochs = 6
finalists = 2
seeds = 1
[search.fusion.space]
"network.kind" = { choice = ["gate", "gated_recurrent"] }
"corruption.share" = { choice = [0.5, 0.7, 0.9] }
"fit.learning_rate" = { loguniform = [0.001, 0.01] }
"""
"""Two or three minutes on two cores for fifteen people, three modalities and two targets. TPE draws
its first 8 trials at random: with fewer it would be random search."""


def random_search(study: StudySpec) -> StudySpec:
    """Draw as many configurations at random."""
    for stage in STAGES:
        if getattr(study.search, stage) is not None:
            study = with_setting(study, f"search.{stage}.sampler", "random")
    return study


def no_difficulty(study: StudySpec) -> StudySpec:
    """Let no stage read a difficulty, and search none."""
    for stage in ("unimodal", "fusion"):
        study = with_setting(study, f"{stage}.difficulty", False)
    return without_dimension(study, "unimodal", "auto_encoder")


def no_corruption(study: StudySpec) -> StudySpec:
    """Let no fusion learn from corrupted copies."""
    return with_setting(study, "fusion.corruption.share", 0.0)


def one_configuration(study: StudySpec) -> StudySpec:
    """Judge by one fold, and take the best configuration in place of an ensemble."""
    for stage in ("unimodal", "fusion"):
        study = with_setting(study, f"search.{stage}.ensemble", 1)
        study = with_setting(study, f"search.{stage}.race_folds", 1)
    return study


def one_cell(study: StudySpec) -> StudySpec:
    """Search no temporal convolution, and one layer only."""
    return without_dimension(
        without_dimension(study, "unimodal", "network.cell"), "unimodal", "network.num_layers"
    )


ABLATIONS: Mapping[str, Callable[[StudySpec], StudySpec]] = {
    "corrupted copies": no_corruption,
    "races and ensembles": one_configuration,
    "temporal convolutions": one_cell,
    "difficulty": no_difficulty,
    "a sampler that learns": random_search,
}
"""Name -> what takes something from a study: a line in the table, the study as it is minus the
study without it. Most are one `with_setting`."""


def with_setting(study: StudySpec, path: str, value: bool | float | str) -> StudySpec:
    """Return a study with another value of one setting, which is then no longer searched.

    Args:
        study: for a corpus.
        path: such as "fusion.network.cell", "inference" or "search.fusion.sampler".
        value: of the setting.
    """
    settings = study.model_dump()
    *tables, name = path.split(".")
    table = settings
    for key in tables:
        table = table[key]
    table[name] = value

    changed = StudySpec.model_validate(settings)
    stage, _, dimension = path.partition(".")
    return without_dimension(changed, stage, dimension) if stage in STAGES else changed


def without_dimension(study: StudySpec, stage: str, path: str) -> StudySpec:
    """Return a study that does not search one dimension of a stage, if it did.

    A stage with nothing left to search is trained as the study's settings say.
    """
    settings = study.model_dump()
    table = settings["search"][stage]
    if table is None or path not in table["space"]:
        return study

    del table["space"][path]
    if not table["space"]:
        settings["search"][stage] = None
    return StudySpec.model_validate(settings)


@dataclass(frozen=True)
class Comparison:
    """Two predictions of the same people.

    Attributes:
        first: what is compared.
        second: what it is compared to.
        scores: target, and last their mean -> both scores and their difference, under these names.
    """

    first: str
    second: str
    scores: Mapping[str, PairedScores]

    @property
    def summary(self) -> PairedScores:
        """Return the scores that sum the targets up."""
        return list(self.scores.values())[-1]


@dataclass(frozen=True)
class CorpusResult:
    """All comparisons on one corpus.

    Attributes:
        corpus: its name.
        modalities: that the study had.
        run: the study as it is.
        fits: ablation -> how many fits its studies asked for in all outer folds.
        comparisons: in the order of the table.
    """

    corpus: str
    modalities: tuple[str, ...]
    run: NestedRun
    fits: Mapping[str, int]
    comparisons: tuple[Comparison, ...]


def search_rows() -> list[Row]:
    """Run on the corpora that the environment names; write the table to docs/results/nested.md.

    Without any, on a synthetic one, and the table is only printed.
    """
    named = [text for text in os.environ.get(CORPORA, "").split(",") if text]
    return _rows(named, out=RESULTS if named else None, work=WORK, num_folds=NUM_FOLDS)


def main(arguments: Sequence[str]) -> None:
    """Run on the corpora that are named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("corpora", nargs="*", metavar="FOLDER[=SET+SET]")
    parser.add_argument("--out", type=Path, help="the table, such as docs/results/nested.md")
    parser.add_argument("--work", type=Path, default=WORK, help="what is done is kept here")
    parser.add_argument("--folds", type=int, default=NUM_FOLDS, help="outer folds of people")
    options = parser.parse_args(arguments)

    _rows(options.corpora, out=options.out, work=options.work, num_folds=options.folds)


def _rows(named: Sequence[str], *, out: Path | None, work: Path, num_folds: int) -> list[Row]:
    prepare_process()
    results = []
    try:
        with cluster(None, NUM_WORKERS):
            if not named:
                print(
                    f"No corpus is named, in {CORPORA} or as an argument: REAL CORPORA ARE "
                    "SKIPPED. A synthetic one says only that the benchmark runs.",
                    file=sys.stderr,
                )
                path = work / "corpus"
                if not path.exists():
                    synthesize(path, subjects=14, minutes=1)
                results.append(
                    _result(f"{path}=voice+face", work, SYNTHETIC_FOLDS, targets=["arousal"])
                )
            results += [_result(text, work, num_folds) for text in named]
    except AffectuneError as error:
        sys.exit(str(error))

    text = markdown(results)
    print(text)
    if out is not None:
        write_atomically(out, text)
    return [row for result in results for row in _bench_rows(result)]


def _result(
    text: str, work: Path, num_folds: int, *, targets: Sequence[str] | None = None
) -> CorpusResult:
    """Run all variants of the study on one corpus."""
    path, _, names = text.partition("=")
    corpus = read_corpus(
        Path(path), modalities=names.split("+") if names else None, targets=targets
    )
    study = study_of(STUDY, corpus)

    run = _nested(study, corpus, Path(path), work, num_folds)
    comparisons = [
        _comparison(run, WINNER, run, name, (WINNER, name))
        for name in (DEFAULT, f"{WINNER} mean", f"{WINNER} weighted mean", BEST_MODALITY)
    ]
    fits = {}
    for name, ablate in ABLATIONS.items():
        other_study = ablate(study)
        other = _nested(other_study, corpus, Path(path), work, num_folds)
        fits[name] = _num_fits(other)
        titles = (WINNER, f"{WINNER} without {name}")
        comparisons.append(_comparison(run, WINNER, other, WINNER, titles))
        if other_study.base != study.base:
            titles = (DEFAULT, f"{DEFAULT} without {name}")
            comparisons.append(_comparison(run, DEFAULT, other, DEFAULT, titles))
    return CorpusResult(corpus.name, corpus.modalities, run, fits, tuple(comparisons))


def _num_fits(run: NestedRun) -> int:
    return sum(fold.trials for fold in run.scores.folds)


def _nested(study: StudySpec, corpus: Corpus, path: Path, work: Path, num_folds: int) -> NestedRun:
    """Score a search, or read what was scored: its folder is named by all that decides it."""
    decides = f"{study.model_dump_json()}{corpus.digest}{num_folds}"
    name = f"{corpus.name}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}"
    options = StudyOptions(
        (work / name).absolute(), str((work / "store").absolute()), workers=NUM_WORKERS
    )
    console = Console(stderr=True)
    return run_nested(study, corpus, path, options, console, num_folds=num_folds, resume=True)


def _comparison(
    run: NestedRun, first: str, other: NestedRun, second: str, titles: tuple[str, str]
) -> Comparison:
    """Compare a prediction of one run with one of another, which has the same outer folds."""
    pairs = {
        target: dict(zip(titles, (series[first], other.predictions[target][second]), strict=True))
        for target, series in run.predictions.items()
    }
    scores = {
        target: paired_scores(run.sessions, pair, target, titles[:1])
        for target, pair in pairs.items()
    }
    if len(pairs) > 1:
        scores[MEAN_OVER_TARGETS] = mean_paired_scores(run.sessions, pairs, titles[:1])
    return Comparison(*titles, scores)


def markdown(results: Sequence[CorpusResult]) -> str:
    """Return a section with a table for every corpus."""
    lines = [
        "# Does the search pay?",
        "",
        "Nested over people: each was predicted by a search that never saw them. CCCs are pooled",
        "over all of them, with 95% intervals from a bootstrap of people; differences are paired.",
        "An interval around 0 means that nothing was shown. Written by",
        "`python -m tests.benchmarks.search`.",
    ]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _section(result: CorpusResult) -> list[str]:
    scores = result.run.scores
    fits = "; ".join(f"{name} {number}" for name, number in result.fits.items())
    lines = [
        f"## {result.corpus}",
        "",
        f"{', '.join(result.modalities)}; {scores.num_subjects} people in {len(scores.folds)} "
        f"outer folds, {_num_fits(result.run)} fits in all of them ({fits}).",
        "",
        "| first | second | target | first CCC | second CCC | first minus second |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in result.comparisons:
        for target, pair in each.scores.items():
            cells = (
                each.first,
                each.second,
                target,
                score_text(pair.scores[each.first]),
                score_text(pair.scores[each.second]),
                difference_text(pair.differences[each.first][each.second]),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _bench_rows(result: CorpusResult) -> list[Row]:
    """Return a row per comparison: the mean over targets."""
    rows = []
    for each in result.comparisons:
        scores = each.summary.scores
        name = f"search {result.corpus}: {each.first}, {each.second}".replace(" ", "_")
        rows.append(more_is_better(name, scores[each.first].ccc, scores[each.second].ccc, "CCC"))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
