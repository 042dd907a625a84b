"""Training for Python programs and the command line: a corpus in, a model and its bundle out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.api.bundles import raise_if_not_replaceable, write_model
from pipeline.api.clock import Clock
from pipeline.api.device import find_device
from pipeline.api.progress import FitCounter, OnProgress
from pipeline.api.python_errors import in_python
from pipeline.api.reading import read_corpus
from pipeline.api.threads import one_thread
from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.fitting import worker_pool
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.shipped import SPECS
from pipeline.spec import Inference, Protocol, Spec, Split, override, read_spec, validation_message
from pipeline.stages.requirements import raise_if_untrainable
from pipeline.storage.stage_store import StageStore, raise_if_not_writable
from pipeline.train import num_fits
from pipeline.train import train as train_stages

SUMMARY = "summary.json"
DEFAULT_STORE = ".affectune/store"


@dataclass(frozen=True)
class Training:
    """A model that was trained just now, and what that took.

    Attributes:
        model: the model.
        fits: fits that it consists of.
        store_hits: those that the store had already.
        epochs_trained: of the others.
        worker_cpu_s: processor seconds of other processes than this one.
        clock: since it began.
    """

    model: FusedModel
    fits: int
    store_hits: int
    epochs_trained: int
    worker_cpu_s: float
    clock: Clock = field(repr=False)

    def summary(self, evaluation: Evaluation, out: Path) -> dict[str, Any]:
        """Return summary.json: the evaluation on devel, and what the training took."""
        return evaluation.to_json(str(out)) | {
            "trials": self.fits,
            "epochs_trained": self.epochs_trained,
            "wall_s": round(self.clock.wall_s(), 3),
            "cpu_s": round(self.clock.cpu_s() + self.worker_cpu_s, 3),
            "store_hits": self.store_hits,
            "out_of_fold": self.model.out_of_fold,
            "inference": self.model.composition,
            "distillation": self.model.distillation,
        }


@in_python
def train(
    corpus: Corpus | Path | str,
    *,
    out: Path | str | None = None,
    spec: Spec | Mapping[str, Any] | Path | str | None = None,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    protocol: Protocol | None = None,
    folds: int | None = None,
    split: Split | None = None,
    inference: Inference | None = None,
    seed: int | None = None,
    workers: int = 1,
    store: Path | str = DEFAULT_STORE,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_progress: OnProgress | None = None,
) -> FusedModel:
    """Train all three stages, and return the fused model. It is silent; see `on_progress`.

    What is trained is kept in the store: interrupted, the same call goes on. The same call gives
    the same model as `affectune train`, to the last bit on the same machine.

    Args:
        corpus: its folder; or the corpus, as `read_corpus(path)` returns it.
        out: folder for the bundle, with its model card and summary.json; default: none is written,
            see `save`.
        spec: settings: the name of a shipped spec ("small"), a TOML file, a table such as
            `{"unimodal": {"fit": {"max_epochs": 20}}}`, or a `Spec`; default: the built-in ones.
        modalities: feature sets to read, where `corpus` is a folder; default: all.
        targets: labels to read, likewise.
        protocol: "cross_fit" or "in_sample" (the paper's); default, here and below: the spec's.
        folds: number of folds; with split "both", of groups of people.
        split: what folds hold out: "subject", "stimulus" or "both".
        inference: "fold_mean", "refit" or "distilled".
        seed: the same seed gives the same model on a CPU.
        workers: fits at a time, one thread each. With more than one, processes are started; a
            script needs no `if __name__ == "__main__"` for them.
        store: trained stages: a folder or an object-store URI.
        device: "auto" (a GPU for 256 hidden units and more), "cpu" or "cuda".
        on_progress: called with a `Progress` for every epoch and every fit, one at a time, perhaps
            from another thread. `on_progress=print` prints them.

    Returns:
        The model; see `FusedModel.predict`.

    Raises:
        InputError: the corpus cannot be trained on, a setting is out of range, or `out` holds
            something else.
        AffectuneError: a fit failed; what was trained until then is in the store.

    Example:
        >>> model = affectune.train("data/c3_muse_stress", out="model", workers=4)  # doctest: +SKIP
        >>> affectune.evaluate(model, "data/c3_muse_stress")  # doctest: +SKIP
    """
    clock, uri = Clock(), str(store)
    settings = override(
        find_spec(spec),
        protocol=protocol,
        folds=folds,
        split=split,
        inference=inference,
        seed=seed,
    )
    torch_device = find_device(device, settings)
    if not 1 <= workers <= 256:
        raise InputError(f"workers is {workers!r}; it must be from 1 to 256.")
    bundle = None if out is None else Path(out).resolve()
    if bundle is not None:
        raise_if_not_replaceable(bundle, uri)
    raise_if_not_writable(uri)

    if not isinstance(corpus, Corpus):
        corpus = read_corpus(corpus, modalities=modalities, targets=targets)
    elif modalities is not None or targets is not None:
        raise InputError(
            "The corpus is read already: give modalities and targets to read_corpus, or give its "
            "folder here."
        )
    raise_if_untrainable(corpus, settings)
    StageStore(uri).raise_if_unusable()

    counter = FitCounter(num_fits(corpus, settings), on_progress) if on_progress else None
    with one_thread():
        training = run_training(
            corpus,
            settings,
            store=uri,
            workers=workers,
            device=torch_device,
            clock=clock,
            on_progress=counter,
        )
        if bundle is not None:
            evaluation = evaluate(training.model, corpus, "devel", device=torch_device)
            write_training(training, evaluation, bundle)
    return training.model


def run_training(
    corpus: Corpus,
    spec: Spec,
    *,
    store: str,
    workers: int,
    device: str,
    clock: Clock,
    on_progress: worker_pool.OnProgress | None,
) -> Training:
    """Train a model on a corpus that can be trained on.

    Raises:
        AffectuneError: a fit failed.
    """
    with WorkerPool(
        corpus, StageStore(store), workers=workers, device=device, on_progress=on_progress
    ) as pool:
        model = train_stages(corpus, spec, pool)
    # Fits in this process are in its own time already.
    worker_cpu_s = sum(stage.cpu_s for stage in pool.trained) if workers > 1 else 0.0
    return Training(
        model=model,
        fits=len(pool.trained) + pool.store_hits,
        store_hits=pool.store_hits,
        epochs_trained=sum(len(stage.history) for stage in pool.trained),
        worker_cpu_s=worker_cpu_s,
        clock=clock,
    )


def write_training(training: Training, evaluation: Evaluation, out: Path) -> dict[str, Any]:
    """Write the bundle with its card and summary.json; return what is in the last.

    Raises:
        AffectuneError: it cannot be written.
    """
    summary = training.summary(evaluation, out)
    files = {SUMMARY: json.dumps(summary, indent=1).encode()}
    write_model(training.model, out, evaluation, files)
    return summary


def find_spec(spec: Spec | Mapping[str, Any] | Path | str | None) -> Spec:
    """Return the settings that a person means.

    Args:
        spec: a shipped spec's name, a TOML file, a table of settings; None: the built-in ones.

    Raises:
        InputError: there is no such spec, or a setting is unknown or out of range.
    """
    if spec is None:
        return Spec()
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, Mapping):
        try:
            return Spec.model_validate(dict(spec))
        except ValidationError as error:
            raise InputError(f"The spec does not fit. {validation_message(error)}") from error
    return read_spec(SPECS.find(str(spec)))
