"""Names in a bundle, which somebody else may have written: they become files, headings and keys."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.fused_model import FusedModel
from pipeline.names import mistake_in_file_name, mistake_in_text


def mistake_in_names(model: FusedModel) -> str | None:
    """Say which name in a model is none, by the rules for those of a corpus.

    What only training asks of a name is not asked here: earlier versions did not ask it.

    Returns:
        What is wrong, such as "its target '../x' has a '/', ..."; None where nothing is.
    """
    files: list[tuple[str, Iterable[str]]] = [
        ("target", model.targets),
        ("feature set", model.columns),
    ]
    for kind, names in files:
        for name in names:
            if mistake := _mistake(name, mistake_in_file_name(name)):
                return f"its {kind} {mistake}"

    for kind, names in _shown(model):
        for name in names:
            if mistake := _mistake(name, mistake_in_text(name)):
                return f"its {kind} {mistake}"
    return None


def _shown(model: FusedModel) -> Iterable[tuple[str, Iterable[str]]]:
    """Yield names that become no files, with what they name."""
    yield "encoder", model.auto_encoders
    for columns in (*model.columns.values(), *model.set_aside.values()):
        yield "column", columns
    if model.label_floors is not None:
        yield "label floor", model.label_floors.by_time
        for target, stimulus in model.label_floors.by_stimulus:
            yield "stimulus", (target, stimulus)
    for predictions in model.out_of_fold.values():
        yield "prediction", predictions


def _mistake(name: object, mistake: str | None) -> str | None:
    return None if mistake is None else f"{name!a} {mistake}"
