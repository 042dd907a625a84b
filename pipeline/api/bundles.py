"""Bundles for Python programs and for the command line: where one may be written, and its card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.api.python_errors import in_python
from pipeline.api.scoring import Scores
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.model_card import floor_warnings, model_card
from pipeline.model.bundle import bundle_files
from pipeline.model.fused_model import FusedModel
from pipeline.storage.result_folder import what_is_in_the_way, write_result


@in_python
def save(model: FusedModel, out: Path | str, *, scores: Scores | None = None) -> None:
    """Write a model as a bundle: a folder that `load`, the command line and the endpoint take.

    Args:
        model: what is written.
        out: the folder; a bundle that is there is replaced, anything else is refused.
        scores: of the model, for its model card; default: the bundle has no card.

    Raises:
        InputError: there is something else in the folder.
        AffectuneError: it cannot be written.

    Example:
        >>> scores = affectune.evaluate(model, corpus)  # doctest: +SKIP
        >>> affectune.save(model, "model", scores=scores)  # doctest: +SKIP
    """
    bundle = Path(out).resolve()
    raise_if_not_replaceable(bundle)
    write_model(model, bundle, scores.evaluation if scores is not None else None)


def raise_if_not_replaceable(out: Path, store: str = "") -> None:
    """Refuse to replace what is not a bundle, or cannot be written, before anything is trained.

    Args:
        out: the folder of the bundle.
        store: where trained stages are to be kept; "" where none are.

    Raises:
        InputError: there is such a thing, or the store would be replaced.
    """
    if cause := what_is_in_the_way(out, _any_bundle):
        raise InputError(
            f"--out '{out}' would be replaced, but it {cause}. Choose another folder, or move it "
            "away."
        )

    if store and "://" not in store and Path(store).absolute().is_relative_to(out):
        raise InputError(
            f"--store '{store}' lies in --out '{out}', which is replaced. Choose another --store."
        )

    parent = next(folder for folder in out.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(
            f"--out '{out}' cannot be written: '{parent}' takes no folder. Choose another one."
        )


def write_model(
    model: FusedModel,
    out: Path,
    evaluation: Evaluation | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle; its model card tells of an evaluation on devel, if there is one.

    Raises:
        AffectuneError: it cannot be written.
    """
    card = ""
    if evaluation is not None:
        card = model_card(model, evaluation, floor_warnings(evaluation))
    write_result(out, bundle_files(model, card) | dict(extra_files or {}), _any_bundle)


def _any_bundle(files: Mapping[str, bytes]) -> bool:
    """Return True: a new model replaces any other."""
    return True
