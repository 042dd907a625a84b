"""Training on a GPU against training on all processors of its machine.

Regressors of a growing size are fitted: first one alone, then one per processor at once, which
share the GPU as the trials of a study may. A fit on a processor has one thread.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from tests.benchmarks.rows import Row, less_is_better
from tests.benchmarks.timed_study import prepare_process, synthetic_corpus

NUM_EPOCHS = {32: 20, 128: 6, 256: 2, 512: 2}
"""Hidden size -> epochs of each fit."""
NUM_SUBJECTS, MINUTES, NUM_LAYERS = 24, 5.0, 2
WARM_UP_SEED = 1_000
Problems = list[SupervisedProblem]


def gpu_rows() -> list[Row]:
    """Return the seconds of equal fits on the GPU beside those on the processors."""
    if not torch.cuda.is_available():
        print("NOT MEASURED: gpu needs a CUDA device, and torch finds none.", flush=True)
        return []

    prepare_process()
    workers = len(os.sched_getaffinity(0))
    print(f"{torch.cuda.get_device_name()} against {workers} processors", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = synthetic_corpus(
            folder / "corpus", subjects=NUM_SUBJECTS, minutes=MINUTES, modalities=("voice",)
        )
        for size, epochs in NUM_EPOCHS.items():
            for fits in (1, workers):
                seconds = {
                    device: _seconds(corpus, folder / f"{size}-{fits}-{device}", size, fits, device)
                    for device in ("cuda", "cpu")
                }
                name = f"gpu_{size}_units_{fits}_fits"
                rows.append(less_is_better(name, seconds["cuda"], seconds["cpu"], "s"))
                print(f"{name}, {epochs} epochs: {seconds}", flush=True)
    return rows


def _seconds(corpus: Corpus, store: Path, size: int, fits: int, device: str) -> float:
    """Return how long so many fits take at once, each in a process that has begun before."""
    with WorkerPool(corpus, StageStore(store), workers=max(fits, 2), device=device) as pool:
        pool.fit(_problems(corpus, size, 1, max(fits, 2), WARM_UP_SEED, device))
        problems = _problems(corpus, size, NUM_EPOCHS[size], fits, 0, device)
        begin = time.perf_counter()
        pool.fit(problems)
        return time.perf_counter() - begin


def _problems(
    corpus: Corpus, size: int, epochs: int, fits: int, first_seed: int, device: str
) -> Problems:
    problems = []
    for seed in range(first_seed, first_seed + fits):
        spec = Spec.model_validate(
            {
                "seed": seed,
                "unimodal": {
                    "network": {"num_layers": NUM_LAYERS, "hidden_size": size, "dropout": 0.0},
                    "fit": {"max_epochs": epochs, "patience": epochs},
                    "difficulty": False,
                },
            }
        )
        task = UnimodalTask("voice", "arousal")
        fold = CrossFitPlan.from_spec(corpus, spec).folds[0]
        key = task.key(corpus, spec, fold, device=device)
        problems.append(task.problem(corpus, spec, fold, key))
    return problems
