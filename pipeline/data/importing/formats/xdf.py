"""Reads XDF files, which the Lab Streaming Layer records: one track per stream of numbers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.importing.formats.recording import ReadOptions, Recording, Track
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.time_column import raise_unless_ascending
from pipeline.errors import InputError

MAGIC = b"XDF:"


def is_xdf(file: SourceFile) -> bool:
    """Return whether a file begins as XDF files do."""
    return file.head.startswith(MAGIC)


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read all streams of numbers, on one clock; markers and empty streams are set aside.

    Raises:
        InputError: pyxdf is not installed, the file is damaged, or no stream has numbers.
    """
    streams, complaints = _load(file)
    tracks, notes = [], list(complaints)
    for stream in streams:
        info = stream["info"]
        name = _text(info, "name") or f"stream{_text(info, 'stream_id')}"
        num_samples = len(stream["time_stamps"])
        if not num_samples:
            notes.append(f"Stream {name!r} has no samples: set aside.")
        elif _text(info, "channel_format") == "string":
            notes.append(f"Stream {name!r} has {num_samples} markers in text: set aside.")
        elif num_samples == 1:
            notes.append(f"Stream {name!r} has a single sample: set aside.")
        else:
            tracks.append(_to_track(stream, name, file.where))

    if not tracks:
        raise InputError(
            f"{file.where} is XDF, but no stream has numbers. {' '.join(notes)} Leave it out."
        )
    names = [track.name for track in tracks]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise InputError(
            f"{file.where} has several streams {doubled!r}. Export each to a file of its own."
        )
    return Recording(tuple(tracks), tuple(notes))


class _Collector(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(record)


def _load(file: SourceFile) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the streams, and what pyxdf warned of; what it calls an error is one."""
    try:
        import pyxdf
    except ImportError:
        raise InputError(
            f"{file.where} is XDF, which needs pyxdf: pip install 'affectune[xdf]'."
        ) from None

    records: list[logging.LogRecord] = []
    handler = _Collector(records)
    logger = logging.getLogger("pyxdf.pyxdf")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        streams, _ = pyxdf.load_xdf(str(file.path))
    except Exception as error:  # pyxdf raises whatever its parsing meets
        raise InputError(
            f"{file.where} is a damaged XDF file ({error}). Record it again."
        ) from None
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate

    damages = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    if damages:
        raise InputError(
            f"{file.where} is a damaged XDF file ({damages[0]}): what follows would be lost. "
            "Repair it, or leave it out."
        )
    return streams, [f"pyxdf: {record.getMessage()}." for record in records]


def _to_track(stream: Mapping[str, Any], name: str, where: str) -> Track:
    info = stream["info"]
    values = np.asarray(stream["time_series"], np.float64)
    times_s = np.asarray(stream["time_stamps"], np.float64)
    if not np.isfinite(times_s).all():
        raise InputError(f"{where}, stream {name!r}: some samples have no time. Record it again.")
    raise_unless_ascending(times_s, f"{where}, stream {name!r}")

    labels, units = _read_channels(info, values.shape[1])
    return Track(
        session="",
        name=re.sub(r"[^\w.-]+", "_", name).strip("_.") or "stream",
        columns=tuple(labels),
        times_s=times_s,
        values=np.where(np.isfinite(values), values, np.nan),
        clock="lsl",
        units=units,
        time_note=f"{_nominal_rate(info)} Hz nominal, the recorder's clock",
    )


def _read_channels(info: Mapping[str, Any], width: int) -> tuple[list[str], dict[str, str]]:
    """Return the names of the channels and their units; numbers where they are not unique."""
    labels, units = [], []
    try:
        for channel in info["desc"][0]["channels"][0]["channel"]:
            labels.append(_text(channel, "label"))
            units.append(_text(channel, "unit"))
    except (KeyError, IndexError, TypeError):
        labels = []

    if len(labels) != width or len(set(labels)) < width or "" in labels:
        return [f"channel_{number + 1}" for number in range(width)], {}
    return labels, {label: unit for label, unit in zip(labels, units, strict=True) if unit}


def _nominal_rate(info: Mapping[str, Any]) -> str:
    """Return the rate that a stream states, as short as can be; "no" where it states none."""
    text = _text(info, "nominal_srate")
    try:
        return f"{float(text):g}"
    except ValueError:
        return text or "no"


def _text(info: Mapping[str, Any], key: str) -> str:
    value = info.get(key) or [""]
    return str(value[0] if isinstance(value, list) else value or "").strip()


XDF = Format("xdf", "XDF (Lab Streaming Layer)", is_xdf, read)
