"""A study against a plain Ray Tune script.

Both have the same configurations, epochs and rule for the winner, and two workers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pipeline.stages.fusion import FusionTask
from tests.benchmarks.plain_tune import plain_search
from tests.benchmarks.rows import Row, less_is_better, more_is_better
from tests.benchmarks.timed_study import (
    prepare_process,
    started_ray,
    study_of,
    synthetic_corpus,
    timed_study,
)
from tuning.journal.events import Finalist

STUDY = """
name = "against plain Tune"
folds = 2
[auto_encoder]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[unimodal]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[fusion]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[search.auto_encoder]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = {{ choice = [2, 4, 8] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
[search.unimodal]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.unimodal.space]
"network.dropout" = {{ choice = [0.1, 0.2, 0.5] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
"fit.loss" = {{ choice = ["ccc", "mse", "l1"] }}
"auto_encoder" = {{ top = 2 }}
[search.fusion]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.fusion.space]
"network.dropout" = {{ choice = [0.1, 0.2, 0.5] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
"unimodal" = {{ top = 2 }}
"""


def study_rows(*, epochs: int = 30, trials: int = 8, layers: int = 4) -> list[Row]:
    """Return the wall time of both, with Ray running already, and the winners' CCC.

    Both have the same patience; only ours compares trials on the way. Ours also trains the winner
    without difficulty, assembles, evaluates and writes the model, and its wall time includes that;
    the plain script ends with the finalists of fusion. Neither is recorded in MLflow, and neither
    has Tune's own loggers.

    Args:
        epochs: at most, of every fit.
        trials: configurations per task.
        layers: of 64 units in both directions.
    """
    prepare_process()
    sizes = {"epochs": epochs, "grace": max(1, epochs // 6), "trials": trials, "layers": layers}

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = synthetic_corpus(
            folder / "corpus", subjects=10, minutes=5, modalities=("face", "voice")
        )
        study = study_of(STUDY.format(**sizes), corpus)

        with started_ray() as start_s:
            ours = timed_study(study, corpus, folder / "ours")
        _log(f"ours: {len(ours.ended)} fits, {ours.wall_s:.1f} s", start_s)

        with started_ray() as start_s:
            begin = time.perf_counter()
            plain_finalists = plain_search(study, corpus, folder / "plain")
            plain_s = time.perf_counter() - begin
        _log(f"plain: {plain_s:.1f} s", start_s)

    fusion = FusionTask(target="arousal")
    our_winner, plain_winner = ours.history.completed[fusion][0], plain_finalists[fusion][0]
    return [
        less_is_better("study_wall", ours.wall_s, plain_s, "s"),
        *_ccc_rows(our_winner, plain_winner),
    ]


def _log(message: str, start_s: float) -> None:
    print(f"{message}; Ray started in {start_s:.1f} s", file=sys.stderr)


def _ccc_rows(ours: Finalist, plain: Finalist) -> list[Row]:
    """Compare the winners' deciding CCC, and their CCC on devel alone."""
    return [
        more_is_better("study_winner_ccc", ours.mean_deciding, plain.mean_deciding, "CCC"),
        more_is_better("study_winner_devel_ccc", ours.devel[0], plain.devel[0], "CCC"),
    ]
