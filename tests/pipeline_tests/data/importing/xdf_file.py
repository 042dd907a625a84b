"""Writes an XDF file as its specification says, chunk by chunk: the independent side of a reader.

The specification: https://github.com/sccn/xdf/wiki/Specifications
"""

from __future__ import annotations

import struct
from pathlib import Path


def write_xdf(path: Path) -> Path:
    """Write a stream of numbers (3 samples, 2 Hz), one of markers (2), and an empty one."""
    chunks = [
        _chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>"),
        _chunk(2, _header(1, "My EDA", 2, "2", "float32", _CHANNELS)),
        _chunk(2, _header(2, "Marks", 1, "0", "string", "")),
        _chunk(2, _header(3, "Empty", 1, "2", "float32", "")),
        _chunk(3, _numbers(1, [(5.0, (1, 2)), (5.5, (3, 4)), (6.0, (5, 6))])),
        _chunk(3, _markers(2, [(5.1, "begin"), (5.9, "end")])),
        _chunk(6, struct.pack("<I", 1) + b"<?xml version='1.0'?><info><sample_count>3"
               b"</sample_count></info>"),
    ]  # fmt: skip
    path.write_bytes(b"XDF:" + b"".join(chunks))
    return path


_CHANNELS = (
    "<channels><channel><label>eda</label><unit>uS</unit></channel>"
    "<channel><label>temp</label><unit>C</unit></channel></channels>"
)


def _chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def _header(stream: int, name: str, width: int, rate: str, kind: str, channels: str) -> bytes:
    xml = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>x</type>"
        f"<channel_count>{width}</channel_count><nominal_srate>{rate}</nominal_srate>"
        f"<channel_format>{kind}</channel_format><created_at>1</created_at>"
        f"<desc>{channels}</desc></info>"
    )
    return struct.pack("<I", stream) + xml.encode()


def _numbers(stream: int, samples: list[tuple[float, tuple[int, ...]]]) -> bytes:
    body = b"".join(
        b"\x08" + struct.pack("<d", time) + struct.pack(f"<{len(values)}f", *values)
        for time, values in samples
    )
    return struct.pack("<I", stream) + b"\x04" + struct.pack("<I", len(samples)) + body


def _markers(stream: int, samples: list[tuple[float, str]]) -> bytes:
    body = b"".join(
        b"\x08" + struct.pack("<d", time) + b"\x01" + bytes([len(text)]) + text.encode()
        for time, text in samples
    )
    return struct.pack("<I", stream) + b"\x04" + struct.pack("<I", len(samples)) + body
