"""Whether a store can be used as a study uses it, and how fast it answers."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.credentials.masking import masked_uri
from pipeline.doctor.finding import Finding, finding_of
from pipeline.errors import AffectuneError
from pipeline.storage.stage_store import FORMAT_ENTRY, StageStore, raise_if_not_writable
from pipeline.storage.store_address import folder_of

CHECK = "store"
SLOW_S = 1.0
"""A fit of some seconds reads and writes some entries: they would take as long as it does."""
NEARER = "Use a store that is nearer, or a faster disk"
CONDITIONS = (
    "Name a store that has them, such as a current S3 service or a file system with locks; or run "
    "one study at a time on this one"
)


def check_store(uri: str) -> Iterator[Finding]:
    """Write an entry to a store, read it, remove it, and try whether two writers are kept apart.

    Args:
        uri: a folder, which is not made where it is not there, or a URI.
    """
    shown = masked_uri(uri)
    try:
        raise_if_not_writable(uri)
        folder = folder_of(uri)
        if folder is not None and not folder.is_dir():
            yield Finding(CHECK, "ok", f"'{shown}' is not there yet, and can be made")
            return
        is_empty = folder is not None and not any(folder.iterdir())
        store = StageStore(uri)
        try:
            probe = store.probe()
        finally:
            if is_empty:  # the folder itself stays: it may be where another machine mounts its own
                store.remove(FORMAT_ENTRY)
    except AffectuneError as error:
        yield finding_of(CHECK, error)
        return

    times = f"{probe.write_s * 1000:.0f} ms to write, {probe.read_s * 1000:.0f} ms to read"
    if probe.latency_s > SLOW_S:
        yield Finding(CHECK, "warning", f"'{shown}' is slow: {times}", NEARER)
    else:
        yield Finding(CHECK, "ok", f"'{shown}' can be written and read: {times}")
    if not probe.has_conditional_writes:
        said = f"'{shown}' has no conditional writes or locks: two studies may train the same fit"
        yield Finding(CHECK, "warning", said, CONDITIONS)
