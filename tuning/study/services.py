"""What a study needs from outside, asked for an answer before anything is read, made or written."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError, naming_doctor
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.stage_store import raise_if_not_writable
from pipeline.storage.surroundings import mend_of
from tuning.mlflow_backend.tracking.study_runs import raise_if_unknown


@naming_doctor()
def raise_if_unusable(study: str, folder: Path, store: str, tracking_uri: str | None) -> None:
    """Ask the store and the tracking server, each for seconds at most.

    Args:
        study: its name, which is that of its experiment.
        folder: of the study; it need not be there.
        store: a folder or a URI.
        tracking_uri: of the tracking server; None: nothing is tracked.

    Raises:
        InputError: one of them gives no answer, or another one than it should; or the folder
            cannot be written.
    """
    try:
        prove_writable(folder)
    except OSError as error:
        raise InputError(
            f"--out '{folder}' cannot be written: '{error.filename}': {error.strerror}. "
            f"{mend_of(error) or 'Correct it'}, or choose another folder."
        ) from error
    raise_if_not_writable(store)
    if tracking_uri is not None:
        raise_if_unknown(tracking_uri, study)
