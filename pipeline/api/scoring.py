"""Scores for Python programs: how good a model is on a partition, by target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.api.device import find_device
from pipeline.api.predicting import Predictions, check_partition, raise_if_not_loaded
from pipeline.api.python_errors import in_python
from pipeline.api.reading import corpus_to_evaluate
from pipeline.corpus import Corpus, Partition
from pipeline.display.picture import Picture
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.evaluation import evaluate as evaluations
from pipeline.evaluation.evaluate import Evaluation, TargetEvaluation
from pipeline.evaluation.plots import PLOT_KINDS, PlotKind, draw_plot
from pipeline.metrics.session_parts import SessionParts
from pipeline.model.fused_model import FusedModel
from pipeline.preprocessing.corruption import Corruption, parse_corruptions

SHOWN = ["ccc", "ccc_low", "ccc_high", "between_ccc", "within_ccc", "fusion_minus_it"]
"""Columns that a notebook shows."""


class Scores(Mapping[str, TargetEvaluation]):
    """How good a model predicts a partition: target -> its CCCs, with 95% intervals over subjects.

    Example:
        >>> scores = affectune.evaluate(model, corpus)  # doctest: +SKIP
        >>> scores["arousal"].fusion  # doctest: +SKIP
        Score(ccc=0.512, low=0.401, high=0.623)
        >>> scores["arousal"].floors["weighted mean"].ccc  # doctest: +SKIP
        >>> scores.to_frame()  # doctest: +SKIP
        >>> scores.plot("traces")  # doctest: +SKIP

    Attributes:
        partition: which one.
        evaluation: the same as the command line has it; its `to_json` gives what `affectune
            evaluate --json` prints.
        predictions: those that the scores were computed from.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.partition: Partition = evaluation.partition
        self.predictions = Predictions(evaluation.sessions, evaluation.predictions)

    def __getitem__(self, target: str) -> TargetEvaluation:
        """Return how good one target is predicted."""
        return self.evaluation.targets[target]

    def __iter__(self) -> Iterator[str]:
        """Yield the targets."""
        return iter(self.evaluation.targets)

    def __len__(self) -> int:
        """Return the number of targets."""
        return len(self.evaluation.targets)

    def __repr__(self) -> str:
        fusions = {target: str(scores.fusion) for target, scores in self.items()}
        return short_repr(self, data=self.evaluation.data, fusion=fusions)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the main columns of `to_frame`, rounded."""
        return str(self.to_frame()[SHOWN].to_html(float_format="{:.3f}".format, na_rep=""))

    def to_frame(self) -> pd.DataFrame:
        """Return the scores as a table with a row for each target and prediction.

        Returns:
            Its index has the levels "target" and "prediction": "fusion", "without difficulty", the
            floors, and each modality alone. Its columns are "ccc", "between_ccc" (of the sessions'
            means) and "within_ccc" (about them), and "fusion_minus_it"; each also with "_low" and
            "_high", the ends of its interval. NaN where undefined.
        """
        rows = {}
        for target, scores in self.items():
            for name, score in scores.scores.items():
                parts = SessionParts(score, scores.between[name], scores.within[name])
                row = parts.to_json()
                if name in scores.differences:
                    difference = scores.differences[name].to_json()
                    row |= {
                        key.replace("ccc", "fusion_minus_it"): value
                        for key, value in difference.items()
                    }
                rows[target, name] = row
        frame = pd.DataFrame.from_dict(rows, orient="index").astype(float)
        frame.index = pd.MultiIndex.from_tuples(rows, names=["target", "prediction"])
        return frame

    def plot(self, kind: PlotKind = "ccc") -> Picture:
        """Draw what `affectune evaluate --plots` does.

        Args:
            kind: "ccc" of every prediction with its interval, "traces" of three sessions with
                their difficulty, or mean error by "difficulty".

        Returns:
            A matplotlib figure. A notebook shows it; `savefig` writes it to a file.

        Raises:
            InputError: another kind.
        """
        if kind not in PLOT_KINDS:
            raise InputError(f"There is no plot {kind!r}: kind is one of {', '.join(PLOT_KINDS)}.")
        return draw_plot(self.evaluation, kind)


@in_python
def evaluate(
    model: FusedModel,
    corpus: Corpus | Path | str,
    partition: Partition = "devel",
    *,
    corrupt: str | Sequence[str] = (),
    device: str = "auto",
) -> Scores:
    """Compare a model's predictions with the labels of a partition.

    Args:
        model: from `train` or `load`.
        corpus: its folder; or the corpus that the model was trained on, or another one that was
            read with `read_corpus(path, model=model)`.
        partition: "train", "devel" or "test".
        corrupt: spoil modalities first, such as "voice=noise:1.0", "voice=drop", "voice=freeze" or
            "voice=shift:10"; or a list of them.
        device: "auto" (a GPU for 256 hidden units and more), "cpu" or "cuda".

    Raises:
        InputError: the corpus is not one that the model can read, the partition has no labels, or
            a corruption cannot be read.

    Example:
        >>> scores = affectune.evaluate(model, "data/c3_muse_stress")  # doctest: +SKIP
        >>> scores["arousal"].fusion.ccc, scores["arousal"].floors  # doctest: +SKIP
    """
    raise_if_not_loaded(model)
    part, torch_device = check_partition(partition), find_device(device, model.spec)
    texts = [corrupt] if isinstance(corrupt, str) else list(corrupt)
    corruption = find_corruption(model, texts)
    if not isinstance(corpus, Corpus):
        corpus = corpus_to_evaluate(model, Path(corpus))
    _raise_if_unlabelled(model, corpus)
    return Scores(
        evaluations.evaluate(model, corpus, part, corrupt=corruption, device=torch_device)
    )


def find_corruption(model: FusedModel, texts: Sequence[str]) -> Corruption | None:
    """Return what applies all corruptions to a session, one after the other; None without any.

    Raises:
        InputError: one cannot be read, or is of a modality that the model does not read.
    """
    normalisations = {
        modality: model.auto_encoders[modality][0].normalisation for modality in model.modalities
    }
    return parse_corruptions(texts, normalisations)


def _raise_if_unlabelled(model: FusedModel, corpus: Corpus) -> None:
    missing = [target for target in model.targets if target not in corpus.targets]
    if missing:
        raise InputError(
            f"The model predicts {missing[0]!r}, and corpus {corpus.name!r} was read without its "
            "labels. Read it with read_corpus(path, model=model); without labels there is predict."
        )
