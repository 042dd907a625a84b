"""Affectune: the command line, and the public Python API. Mounts the packages; nothing else."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.model.fused_model import FusedModel

__all__ = ["load", "main"]


def load(folder: Path | str) -> FusedModel:
    """Load a trained model from its bundle; every file's hash is checked.

    Args:
        folder: what `affectune train --out` wrote.

    Raises:
        pipeline.errors.InputError: not a bundle, or a file was changed.

    Example:
        >>> prediction = affectune.load("model").predict({"head": head, "gaze": gaze})  # doctest: +SKIP
        >>> prediction.values["arousal"]  # doctest: +SKIP
    """
    from pipeline.model.fused_model import FusedModel

    return FusedModel.load(folder)


def main() -> None:
    """The command `affectune`: exit status 0, 1 (it failed) or 2 (usage or bad input)."""
    # Before numpy and torch are imported: two fits with two threads each on two cores are many times slower.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Workers inherit it: else glibc gives their heap back after every training step, a quarter of the time.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(name, "1000000000")
    import typer
    from rich.console import Console
    from rich.markup import escape

    from pipeline.cli import add_commands
    from pipeline.data.cli import corpus_app
    from pipeline.errors import AffectuneError, InputError
    from serving.cli import add_commands as add_serving_commands
    from tuning.cli.registry import registry_app
    from tuning.cli.study import study_app

    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # unwinds, so that temporary files are removed

    app = typer.Typer(
        help="Train, search and serve multimodal, time-continuous prediction.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.add_typer(corpus_app, name="corpus")
    app.add_typer(study_app, name="study")
    app.add_typer(registry_app, name="registry")
    add_commands(app)
    add_serving_commands(app)
    try:
        app(obj=_find_bundle)
    except AffectuneError as error:
        Console(stderr=True).print(
            f"[red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False
        )
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:
        Console(stderr=True).print(
            f"[red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False
        )
        sys.exit(1)


def _find_bundle(model: str) -> Path:
    """The folder of a model: its own, or, of one in the registry, a verified local copy."""
    if not model.startswith("models:"):
        return Path(model)
    from serving.model_source import find_source
    from serving.settings import Settings

    source = find_source(Settings(model=model))
    return source.fetch(source.newest()).folder


if __name__ == "__main__":
    main()
