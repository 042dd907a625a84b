"""The cache of one machine: whoever needs a version first fetches it, and all others wait."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from serving.models.bundle_cache import DOWNLOAD, MAX_VERSIONS, BundleCache


def test_replicas_that_start_at_once_fetch_a_version_once(bundle: Path, tmp_path: Path) -> None:
    fetched: list[Path] = []
    lock = Lock()

    def fetch(folder: Path) -> Path:
        with lock:
            fetched.append(folder)
        shutil.copytree(bundle, folder / "model")
        return folder / "model"

    # Each has its own file with the lock, as in a process of its own.
    caches = [BundleCache(tmp_path / "kept", "m") for _ in range(6)]
    with ThreadPoolExecutor(6) as replicas:
        bundles = list(replicas.map(lambda cache: cache.get("1", 5, fetch), caches))

    assert len(fetched) == 1
    assert {each.folder for each in bundles} == {tmp_path / "kept" / "1-5"}


def test_what_killed_processes_left_behind_takes_no_disk(bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for number in range(3):
        (kept / f"{DOWNLOAD}{number}" / "model").mkdir(parents=True)

    cache = BundleCache(kept, "m")
    for version in range(1, 6):
        cache.get(str(version), version, lambda folder: bundle)

    assert not list(kept.glob(f"{DOWNLOAD}*"))
    assert len(list(kept.glob("*-*"))) == MAX_VERSIONS
