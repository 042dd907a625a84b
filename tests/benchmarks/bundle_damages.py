"""Broken bundles: each is refused in a sentence or changes nothing; and what loading costs."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files, load_model
from pipeline.model.fused_model import FusedModel
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.benchmarks.rows import Row, duration_ms, less_is_better, more_is_better
from tests.pipeline_tests.corpora import band_calibration, tiny_corpus, tiny_spec
from tests.pipeline_tests.model.bundle_damages import damages, try_damages

COUNT, SEED = 300, 2
BAR_MS = 200.0
"""Of loading a bundle, where importing torch takes two seconds."""


def bundle_damage_rows() -> list[Row]:
    """Try damages of a small bundle, and time loading it.

    Raises:
        AssertionError: one ended in a traceback, or changed a prediction unnoticed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = _small_model(folder / "store")
        files = {**bundle_files(model, "# card"), "summary.json": b"{}"}
        features = tiny_corpus().partition("devel")[0].features

        started = time.perf_counter()
        expected = model.predict(features)
        outcomes, faults = try_damages(damages(files, SEED, COUNT), folder, features, expected)
        mean_ms = 1000 * (time.perf_counter() - started) / COUNT
        assert not faults, "\n".join(faults)

        write_folder(folder / "whole", files)
        load_ms = min(duration_ms(lambda: load_model(folder / "whole")) for _ in range(20))

    told = [f"{count} {name}" for name, count in sorted(outcomes.items())]
    return [
        more_is_better(f"damages without a fault ({', '.join(told)})", COUNT, COUNT, "bundles"),
        less_is_better("mean time of a damaged bundle", mean_ms, BAR_MS, "ms"),
        less_is_better("loading a whole bundle", load_ms, BAR_MS, "ms"),
    ]


def _small_model(store: Path) -> FusedModel:
    corpus = tiny_corpus(train_subjects=4)
    model = train(corpus, tiny_spec(folds=2), WorkerPool(corpus, StageStore(store)))
    return replace(model, bands={"arousal": band_calibration()})
