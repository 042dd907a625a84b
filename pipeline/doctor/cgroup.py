"""How many cores and how much memory control groups leave to this process, as in a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT_BYTES = 2**60
"""Version 1 writes a number of this size where there is no limit."""


def limit_of_cores(groups: Path = GROUPS, own: Path = OWN) -> float | None:
    """Return how many cores' worth of time this process gets at most; None: no limit is set."""
    limits = []
    for folder in _folders(groups, own, "cpu"):
        quota, period = _words(folder / "cpu.max", 2) or (
            *(_words(folder / "cpu.cfs_quota_us", 1) or ("max",)),
            *(_words(folder / "cpu.cfs_period_us", 1) or ("100000",)),
        )
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def limit_of_memory(groups: Path = GROUPS, own: Path = OWN) -> int | None:
    """Return how many bytes this process and its siblings may use; None: no limit is set."""
    limits = []
    for folder in _folders(groups, own, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            [limit] = _words(folder / name, 1) or ("max",)
            if limit.isdigit() and int(limit) < NO_LIMIT_BYTES:
                limits.append(int(limit))
    return min(limits, default=None)


def _folders(groups: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it, in both versions."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names == "":
            root = groups
        elif controller in names.split(","):
            root = groups / controller
        else:
            continue
        folder = root / path.lstrip("/")
        # In a container the path may be one outside of it, where its own group is the root.
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))


def _words(path: Path, count: int) -> tuple[str, ...] | None:
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return None
    return tuple(words) if len(words) == count else None
