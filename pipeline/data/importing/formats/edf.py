"""Reads EDF, EDF+, BDF and BDF+ files: one track for all signals of the same rate."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.importing.formats.recording import Clock, ReadOptions, Recording, Track
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.time_column import find_zone
from pipeline.errors import InputError

if TYPE_CHECKING:
    from edfio import Bdf, Edf

EDF_MAGIC = b"0       "
BDF_MAGIC = b"\xffBIOSEMI"
DISCONTINUOUS = ("EDF+D", "BDF+D")


def is_edf(file: SourceFile) -> bool:
    """Return whether a file begins as EDF or BDF files do."""
    return file.head.startswith((EDF_MAGIC, BDF_MAGIC)) and len(file.head) >= 256


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read all signals; annotations are set aside, and counted.

    Raises:
        InputError: edfio is not installed, or the file is damaged or has gaps.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            recording = _to_recording(_load(file), file, options)
        except InputError:
            raise
        except Exception as error:  # edfio raises whatever its parsing meets, also later on
            raise InputError(
                f"{file.where} is a damaged EDF or BDF file ({str(error)[:120]}). Export it again."
            ) from None

    complaints = dict.fromkeys(f"edfio: {warning.message}" for warning in caught)
    return replace(recording, notes=(*complaints, *recording.notes))


def _load(file: SourceFile) -> Edf | Bdf:
    try:
        import edfio
    except ImportError:
        raise InputError(
            f"{file.where} is EDF or BDF, which needs edfio: pip install 'affectune[edf]'."
        ) from None

    if not file.head.startswith(BDF_MAGIC):
        return edfio.read_edf(file.path)
    read_bdf = getattr(edfio, "read_bdf", None)
    if read_bdf is None:
        raise InputError(
            f"{file.where} is BDF, which this version of edfio does not read: "
            "pip install -U 'affectune[edf]'."
        )
    bdf: Bdf = read_bdf(file.path)
    return bdf


def _to_recording(edf: Edf | Bdf, file: SourceFile, options: ReadOptions) -> Recording:
    if edf.reserved.startswith(DISCONTINUOUS) and not edf.is_continuous:
        raise InputError(
            f"{file.where} has gaps ({edf.reserved[:5]}), so that the times of its samples cannot "
            "be counted. Export each part as a continuous file (EDFbrowser: EDF+D to EDF+C)."
        )

    start_s, clock, start = _read_start(edf, options)
    rates_hz = sorted({float(signal.sampling_frequency) for signal in edf.signals}, reverse=True)
    kind = "bdf" if file.head.startswith(BDF_MAGIC) else "edf"
    tracks = []
    for rate_hz in rates_hz:
        name = kind if len(rates_hz) == 1 else f"{kind}_{rate_hz:g}hz"
        tracks.append(_to_track(edf, name, rate_hz, start_s, clock, start, file.where))
    if not tracks:
        raise InputError(f"{file.where} holds no signal, only annotations. Leave it out.")

    num_annotations = len(edf.annotations)
    if not num_annotations:
        return Recording(tuple(tracks))
    note = f"{num_annotations} annotations are set aside: they are not labels over time."
    return Recording(tuple(tracks), (note,))


def _read_start(edf: Edf | Bdf, options: ReadOptions) -> tuple[float, Clock, str]:
    from edfio import AnonymizedDateError

    try:
        start = edf.startdatetime
    except AnonymizedDateError:
        return 0.0, "session", "start unknown (anonymised)"

    if options.timezone:
        return (
            start.replace(tzinfo=find_zone(options.timezone)).timestamp(),
            "unix",
            f"start {start}",
        )
    return start.replace(tzinfo=UTC).timestamp(), "local", f"start {start}"


def _to_track(
    edf: Edf | Bdf, name: str, rate_hz: float, start_s: float, clock: Clock, start: str, where: str
) -> Track:
    signals = [signal for signal in edf.signals if float(signal.sampling_frequency) == rate_hz]
    labels = [signal.label.strip() for signal in signals]
    doubled = next((label for label in labels if labels.count(label) > 1), None)
    if doubled is not None:
        raise InputError(f"{where} has several signals {doubled!r} of {rate_hz:g} Hz. Rename them.")

    values = np.stack([np.asarray(signal.data, np.float64) for signal in signals], axis=1)
    units = {signal.label.strip(): signal.physical_dimension.strip() for signal in signals}
    return Track(
        session="",
        name=name,
        columns=tuple(labels),
        times_s=start_s + np.arange(len(values)) / rate_hz,
        values=values,
        clock=clock,
        units={label: unit for label, unit in units.items() if unit},
        time_note=f"{rate_hz:g} Hz by the header, {start}",
    )


EDF = Format("edf", "EDF or BDF", is_edf, read)
