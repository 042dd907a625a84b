"""Predict emotions over time from several modalities, and say how difficult each frame is.

A corpus is a folder in a MuSe layout: feature sets and labels of sessions, one CSV file each. A
model is trained on it in three stages: auto-encoders, whose error is the difficulty of a frame; a
regressor per modality and target; a fusion of them. Here with a synthetic corpus:

    import affectune

    affectune.synthesize_corpus("corpus")
    model = affectune.train("corpus", spec="small", out="model")

    scores = affectune.evaluate(model, "corpus")        # on devel, with intervals and floors
    print(scores["arousal"].fusion)
    scores.plot("traces").savefig("traces.png")

    predictions = affectune.predict(model, "corpus")    # of the test partition
    predictions.to_frame().to_csv("predictions.csv")

    model = affectune.load("model")                     # or "models:/affectune@champion"
    prediction = model.predict({"voice": voice, "face": face, ...})

`run_study` searches for the best settings, and registers the winner in MLflow. Every function does
what the command of its name does, with the same defaults, and is silent: `on_progress` tells how
far it is. Mistakes and failures are an `AffectuneError`, unusable input is an `InputError`.

Importing this module imports no library: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pipeline.api.bundles import save
    from pipeline.api.predicting import Predictions, predict
    from pipeline.api.progress import Progress
    from pipeline.api.reading import read_corpus, synthesize_corpus
    from pipeline.api.scoring import Scores, evaluate
    from pipeline.api.training import train
    from pipeline.command_line import Command
    from pipeline.corpus import Corpus, Session
    from pipeline.errors import AffectuneError, InputError
    from pipeline.model.fused_model import FusedModel, Prediction
    from pipeline.spec import Spec
    from serving.loading import load
    from tuning.api.run_study import run_study
    from tuning.api.study_result import StudyResult, load_study

    __version__: str

__all__ = [
    "AffectuneError",
    "Corpus",
    "FusedModel",
    "InputError",
    "Prediction",
    "Predictions",
    "Progress",
    "Scores",
    "Session",
    "Spec",
    "StudyResult",
    "evaluate",
    "load",
    "load_study",
    "predict",
    "read_corpus",
    "run_study",
    "save",
    "synthesize_corpus",
    "train",
]

_MODULES = {
    "pipeline.api.bundles": ("save",),
    "pipeline.api.predicting": ("Predictions", "predict"),
    "pipeline.api.progress": ("Progress",),
    "pipeline.api.reading": ("read_corpus", "synthesize_corpus"),
    "pipeline.api.scoring": ("Scores", "evaluate"),
    "pipeline.api.training": ("train",),
    "pipeline.corpus": ("Corpus", "Session"),
    "pipeline.errors": ("AffectuneError", "InputError"),
    "pipeline.model.fused_model": ("FusedModel", "Prediction"),
    "pipeline.spec": ("Spec",),
    "serving.loading": ("load",),
    "tuning.api.run_study": ("run_study",),
    "tuning.api.study_result": ("StudyResult", "load_study"),
}
"""Where each public name is; it is imported when it is first asked for."""

NAME = "affectune"
ORDER = ("corpus", "train", "evaluate", "predict", "study", "store", "registry", "serve", "doctor")
"""The commands in the order of first use."""
FIRST_STEPS = """\
Affectune predicts emotions over time from several modalities, and says how hard each frame is.

The first three steps, with a synthetic corpus:
  affectune corpus synthesize demo/corpus
  affectune study run demo --corpus demo/corpus --out demo/study --promote-first
  affectune serve
The second takes some minutes. After the third, the page is at http://127.0.0.1:8000/

With recordings of your own:  affectune corpus check PATH
All commands:                 affectune --help
"""
HELP = {"-h", "--help"}
INTERRUPTED = 130
"""Exit status by which the command line lets go of a KeyboardInterrupt, without a word."""
RESUME = "--resume"
LONG_COMMANDS = {
    ("study", "run"): f"To go on: {{command}} {RESUME}",
    ("study", "audit"): "What is trained is kept. To go on: {command}",
    ("train",): "What is trained is kept. To go on: {command}",
    ("serve",): "To serve again: {command}",
}
"""The commands that run supervised, with the way to go on after a stop."""


def __getattr__(name: str) -> object:
    """Import a public name, and keep it."""
    if name == "__version__":
        from pipeline.command_line import version

        return version(NAME)
    for module, names in _MODULES.items():
        if name in names:
            value: object = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion and `help`."""
    return sorted({*globals(), *__all__, "__version__"})


def main() -> None:
    """Run the command `affectune`, and exit with status 0, 1 (it failed) or 2 (usage or input)."""
    _mask_credentials()
    _set_environment()
    say_ended = _supervise(sys.argv[1:])
    try:
        _run()
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
        if status != INTERRUPTED:
            say_ended()
        _leave(status)
    except Exception:
        say_ended()  # its traceback does
        raise


def _leave(status: int) -> NoReturn:
    """Exit; soon, where this was told to end."""
    from pipeline.supervisor import leave_if_stopped

    leave_if_stopped(status)
    sys.exit(status)


def _supervise(arguments: Sequence[str]) -> Callable[[], None]:
    """Have a long command supervised, if it is one.

    Returns:
        What is called when it has said how it ended.
    """
    from pipeline.supervisor import can_supervise, supervise

    advice = _advice(arguments)
    if advice is not None and can_supervise():
        return supervise(advice, on_again=_resume)

    signal.signal(signal.SIGTERM, _exit_on_signal)
    return lambda: None


def _resume() -> None:
    """Go on, in this process, with what another one has begun."""
    if RESUME not in sys.argv:
        sys.argv.append(RESUME)


def _advice(arguments: Sequence[str]) -> str | None:
    """Return how to go on with a long command that was stopped; None for other commands."""
    for words, advice in LONG_COMMANDS.items():
        if tuple(arguments[: len(words)]) == words and not HELP & set(arguments):
            from pipeline.shell_command import same_command

            return advice.format(command=same_command(arguments))
    return None


def _run() -> NoReturn:
    """Run the command line and exit; a mistake or a failure is one line on standard error."""
    from pipeline.command_line import run
    from pipeline.errors import AffectuneError, InputError
    from pipeline.terminal import PrintableFormatter

    if logging.lastResort is not None:  # it prints what no other handler takes
        logging.lastResort.setFormatter(PrintableFormatter())
    command = command_line()
    try:
        status = run(command, NAME, _find_bundle)
    except InputError as error:
        _exit(error, status=2)
    except Exception as error:
        from pipeline.storage.surroundings import as_failure

        if (fault := as_failure(error)) is not None:
            advice, notes = _advice(sys.argv[1:]), getattr(error, "__notes__", ())
            _exit(AffectuneError(" ".join(filter(None, [str(fault), advice, *notes]))), status=1)
        if not isinstance(error, AffectuneError | OSError):
            raise
        _exit(error, status=1)
    sys.exit(status)


def _mask_credentials() -> None:
    """Let no credentials leave this process by its arguments, its logs or a traceback."""
    from pipeline.credentials.outlets import hide_arguments, mask_outlets

    hide_arguments()
    mask_outlets()


def _set_environment() -> None:
    """Set what numpy, torch and the workers read; it has no effect once numpy is imported."""
    from pipeline.environment import set_allocator_defaults, set_thread_defaults

    set_thread_defaults()
    set_allocator_defaults()


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Exit as after SIGTERM, but unwind first, so that temporary files are removed."""
    sys.exit(143)


def command_line() -> Command:
    """Return the command line, with the commands of every package."""
    import typer

    from pipeline.cli import add_commands
    from pipeline.command_line import finish
    from pipeline.data.cli import corpus_app
    from serving.cli import add_commands as add_serving_commands
    from tuning.cli.doctor import add_commands as add_doctor
    from tuning.cli.registry import registry_app
    from tuning.cli.store import store_app
    from tuning.cli.study import study_app

    app = typer.Typer(
        help="Train, search and serve multimodal, time-continuous prediction.",
        pretty_exceptions_enable=False,
    )
    app.add_typer(corpus_app, name="corpus")
    app.add_typer(study_app, name="study")
    app.add_typer(store_app, name="store")
    app.add_typer(registry_app, name="registry")
    add_commands(app)
    add_serving_commands(app)
    add_doctor(app)

    return finish(app, ORDER, FIRST_STEPS)


def _exit(error: Exception, *, status: int) -> NoReturn:
    from pipeline.errors import said
    from pipeline.terminal import print_error

    print_error(said(error))
    sys.exit(status)


def _find_bundle(model: str, tracking_uri: str | None = None) -> Path:
    """Return the folder of a model by its name; what that needs is imported now."""
    from serving.loading import find_bundle

    return find_bundle(model, tracking_uri)


if __name__ == "__main__":
    main()
