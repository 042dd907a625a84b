"""What this machine gives a study: cores and threads, memory, /dev/shm, files, processes."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.doctor.cgroup import limit_of_cores, limit_of_memory
from pipeline.doctor.finding import Finding
from pipeline.environment import ONE_THREAD

MB, GB = 2**20, 2**30
WORKER_BYTES = 400 * MB
"""What a worker takes with torch, Ray and a small corpus."""
SHM = Path("/dev/shm")
SMALL_SHM_BYTES = 256 * MB
"""Docker's default is 64 MB. What does not fit there Ray writes to a disk, which is slow."""
FEW_FILES, FEW_PROCESSES = 4096, 2048
"""Ray opens some dozens of files, and starts some dozens of threads, per worker."""


def check_threads(
    variables: Mapping[str, str] = os.environ, cores: int | None = None, limit: float | None = None
) -> Iterator[Finding]:
    """Compare threads per fit and fits at a time with the cores that there are.

    Args:
        variables: of the environment.
        cores: of the machine; None: those of this one.
        limit: cores' worth of time that this process may use; None: what its group says.
    """
    cores = cores or os.cpu_count() or 1
    usable = min(limit or limit_of_cores() or cores, _affinity(cores))
    said = f"{cores} cores"
    if usable < cores:
        fits = max(1, int(usable))
        said = f"{usable:g} of {cores} cores may be used, and a study starts a fit per core"
        yield Finding("cores", "warning", said, f"Pass --workers {fits} to `affectune study run`")
    else:
        yield Finding("cores", "ok", said)

    wrong = {name: variables[name] for name in ONE_THREAD if variables.get(name, "1") != "1"}
    for name, value in wrong.items():
        said = f"{name} is {value!r}: as many threads per fit, beside a fit per core"
        yield Finding("threads", "warning", said, f"Unset it, or `export {name}=1`")
    if not wrong:
        yield Finding("threads", "ok", "one thread per fit")


def _affinity(cores: int) -> float:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    # A machine that was described by a caller is not this one.
    return usable if cores == os.cpu_count() else cores


def check_memory(limit_bytes: int | None = None) -> Iterator[Finding]:
    """Compare the memory that is free with what a fit per core takes.

    Args:
        limit_bytes: what this process may use; None: what its group says.
    """
    free = _free_memory()
    limit = limit_bytes or limit_of_memory()
    usable = min(free, limit) if limit else free
    fits = min(os.cpu_count() or 1, int(limit_of_cores() or os.cpu_count() or 1))
    said = f"{_text(usable)} free" + (f", of at most {_text(limit)}" if limit else "")
    if usable >= fits * WORKER_BYTES:
        yield Finding("memory", "ok", said)
        return
    possible = int(usable // WORKER_BYTES)
    said += f"; {fits} fits at a time take {_text(fits * WORKER_BYTES)} or more"
    mend = f"Pass --workers {max(1, possible)} to `affectune study run`, or free memory"
    yield Finding("memory", "warning" if possible else "error", said, mend)


def check_shm(folder: Path = SHM) -> Iterator[Finding]:
    """Look whether Ray's object store has room in the memory that processes share."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError as error:
        said = f"'{folder}' is not there ({error.strerror}): Ray uses a disk in its place"
        yield Finding("shared memory", "warning", said, "Mount a tmpfs there")
        return
    said = f"'{folder}' has {_text(disk.free)} free of {_text(disk.total)}"
    if disk.free >= SMALL_SHM_BYTES:
        yield Finding("shared memory", "ok", said)
        return
    mend = "Give it more: --shm-size=1g for a container, else remount it; or end what fills it"
    yield Finding("shared memory", "warning", f"{said}: Ray uses a disk in its place", mend)


def check_limits() -> Iterator[Finding]:
    """Look how many files and processes this user may have."""
    for option, number, kind, few in (
        ("-n", resource.RLIMIT_NOFILE, "open files", FEW_FILES),
        ("-u", resource.RLIMIT_NPROC, "processes", FEW_PROCESSES),
    ):
        soft, hard = resource.getrlimit(number)
        yield limit_finding(option, kind, few, soft, hard)


def limit_finding(option: str, kind: str, few: int, soft: int, hard: int) -> Finding:
    """Return what a limit lets do.

    Args:
        option: of `ulimit`.
        kind: what is limited.
        few: so many are too few for a dozen of workers.
        soft, hard: the limit, and what it may be raised to; -1 for none.
    """
    infinite = resource.RLIM_INFINITY
    shown = "no limit" if soft == infinite else f"{soft:,}"
    if soft == infinite or soft >= few:
        return Finding("limits", "ok", f"{kind}: {shown}")
    wanted = few if hard == infinite else min(few, hard)
    mend = f"Before a study: `ulimit {option} {wanted}`"
    if wanted < few:
        mend = f"Have an administrator raise the limit (`ulimit {option}`, limits.conf) to {few}"
    return Finding("limits", "warning", f"{kind}: {shown}; a dozen of workers may need more", mend)


def _free_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(size_bytes: float) -> str:
    return f"{size_bytes / GB:.1f} GB" if size_bytes >= GB else f"{size_bytes / MB:.0f} MB"
