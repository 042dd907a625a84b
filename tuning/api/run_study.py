"""Running a study from a Python program: silent, its progress through a callback."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal

from pipeline.api.device import find_device
from pipeline.api.progress import OnProgress, Progress
from pipeline.api.python_errors import in_python
from pipeline.api.reading import check_names, check_resampling, check_time_unit
from pipeline.api.threads import one_thread
from pipeline.cluster_address import find_cluster
from pipeline.corpus import Corpus, Resampling, TimeUnit
from pipeline.data.muse import read_corpus
from pipeline.environment import kept_environment, resolve_tracking_uri, worker_defaults
from pipeline.errors import InputError
from pipeline.shell_command import shell_command
from pipeline.spec import Split
from pipeline.terminal import Console
from tuning.api.duration import parse_seconds
from tuning.api.studies import find_study
from tuning.api.study_result import StudyResult
from tuning.journal.events import Event, TrialEnded, TrialProgressed
from tuning.journal.history import History, read_history
from tuning.monitoring.status import StatusReader
from tuning.ray_backend.own_cluster import running_cluster
from tuning.spec.study_spec import StudySpec, for_corpus, override
from tuning.study.run import StudyInterrupted, run
from tuning.study.services import raise_if_unusable
from tuning.study.study import StudyOptions

DEFAULT_STORE = ".affectune/store"


@in_python
@kept_environment()
def run_study(
    study: StudySpec | Mapping[str, Any] | Path | str,
    corpus: Path | str | None = None,
    *,
    out: Path | str | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    resume: bool = False,
    promote_first: bool = False,
    time_budget: str | float | None = None,
    workers: int | None = None,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    split: Split | None = None,
    resample: Resampling | None = None,
    time_unit: TimeUnit | None = None,
    store: Path | str = DEFAULT_STORE,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_progress: OnProgress | None = None,
) -> StudyResult:
    """Search all three stages, write the winner and the report, and register the winner in MLflow.

    It does what `affectune study run` does, silently. It starts Ray in this process and ends it
    again, unless Ray runs already. A script needs no `if __name__ == "__main__"`, and a notebook
    nothing else. A finished study is only opened.

    Args:
        study: the name of a shipped study ("demo", "paper", "wide"), a TOML file, or what such a
            file holds as a table.
        corpus: folder in a MuSe layout; default: the study's.
        out: the study's folder; default: studies/<name>.
        address: a Ray cluster ("auto", "host:6379"); default: RAY_ADDRESS, else this machine.
        tracking_uri: MLflow; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
        resume: go on with a study that was stopped or killed.
        promote_first: make the winner the champion where there is none.
        time_budget: such as "90m" or "2h", or seconds; the plan shrinks to fit.
        workers: fits at a time on this machine; default: one per core.
        modalities: feature sets; default, here and below: the study's.
        targets: labels.
        split: what folds hold out: "subject", "stimulus" or "both".
        resample: what a frame is of a faster feature set: "nearest", "mean" or "mean+std".
        time_unit: of all timestamps: "s", "ms", "us" or "ns".
        store: trained stages: a folder or an object-store URI.
        device: "auto", "cpu" or "cuda"; trials have GPUs where the study gives them.
        on_progress: called with a `Progress` whenever a trial has come further.
            `on_progress=print` prints them.

    Returns:
        The study: its winner, its scores, its trials.

    Raises:
        InputError: before anything starts: what is asked for is not possible.
        AffectuneError: too many trials failed, or something was not to be had; it says how to go
            on.
        KeyboardInterrupt: it was interrupted. Running trials kept their state: the same call with
            resume=True goes on.

    Example:
        >>> result = affectune.run_study("demo", "demo/corpus", workers=2)  # doctest: +SKIP
        >>> result.scores, result.registered  # doctest: +SKIP
    """
    if isinstance(corpus, Corpus):
        raise InputError("A study reads its corpus by itself: give the folder of the corpus.")
    spec = override(
        find_study(study),
        modalities=check_names("modalities", modalities),
        targets=check_names("targets", targets),
        split=split,
        resample=check_resampling(resample),  # type: ignore[arg-type] # one for all
        time_unit=check_time_unit(time_unit),
    )
    path = Path(corpus or spec.corpus or "")
    if not (corpus or spec.corpus):
        raise InputError(f"The study '{spec.name}' names no corpus. Give its folder as corpus.")
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError(f"workers is {workers!r}; it must be from 1 to 1024.")

    place = str(store) if "://" in str(store) else str(Path(store).absolute())
    folder = Path(out or Path("studies") / spec.name).absolute()
    budget_s = parse_seconds("--time-budget", None if time_budget is None else str(time_budget))
    cluster = find_cluster(address, running_cluster)
    raise_if_unusable(spec.name, folder, place, resolve_tracking_uri(tracking_uri))
    sessions = read_corpus(
        path,
        modalities=spec.modalities,
        targets=spec.targets,
        resampling=spec.resample,
        time_unit=spec.time_unit,
    )
    options = StudyOptions(
        folder=folder,
        store=place,
        address=cluster,
        workers=workers,
        device=find_device(device, spec),
        trial_device="cpu" if device == "cpu" else "cuda",
        budget_s=inf if budget_s is None else budget_s,
        command=_command(study, path, folder, place),
    )
    spec = for_corpus(spec, sessions.modalities, sessions.targets)

    with one_thread(), worker_defaults():
        try:
            run(
                spec,
                sessions,
                path,
                options,
                _silent_console(),
                tracking_uri=tracking_uri,
                resume=resume,
                promote_first=promote_first,
                on_event=_follower(on_progress) if on_progress else None,
            )
        except StudyInterrupted as error:
            message = f"{error}".replace("--resume", "resume=True").replace("command", "call")
            raise KeyboardInterrupt(message) from None
    return StudyResult(folder, read_history(folder), sessions)


def _silent_console() -> Console:
    # No terminal: a live table would take over standard output.
    return Console(file=io.StringIO(), quiet=True, force_terminal=False)


def _follower(on_progress: OnProgress) -> Callable[[History, Event], None]:
    """Return what turns the events of a study to its progress."""
    output, total = sys.stdout, 0
    reader: StatusReader | None = None

    def tell(history: History, event: Event) -> None:
        nonlocal reader, total
        if not isinstance(event, TrialProgressed | TrialEnded):
            return
        if reader is None:
            assert history.opened is not None
            reader = StatusReader(history.opened)
        if not total or isinstance(event, TrialEnded):  # then what is still to come may change
            total = reader.read(history).total("planned")

        trial = history.trials[event.trial]
        epoch = None if isinstance(event, TrialEnded) or not trial.epochs else trial.epochs[-1]
        step = Progress(
            done=len(history.ended),
            total=total,
            fit=f"{trial.proposed.task}, trial {trial.name}",
            epoch=None if epoch is None else epoch.epoch,
            score=trial.best_devel if epoch is None else epoch.score,
        )
        # While Ray runs, what is printed goes to standard error.
        with contextlib.redirect_stdout(output):
            on_progress(step)

    return tell


def _command(
    study: StudySpec | Mapping[str, Any] | Path | str, corpus: Path, folder: Path, store: str
) -> str:
    """Return the command that goes on with a study after a stop; "" where it has no file."""
    if isinstance(study, StudySpec | Mapping):
        return ""
    options = ("--corpus", str(corpus), "--out", str(folder), "--store", store, "--resume")
    return shell_command("study", "run", str(study), *options)
