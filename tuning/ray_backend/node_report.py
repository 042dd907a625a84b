"""What a node of a cluster says of itself: its versions, its room, its store. Runs on the node."""

from __future__ import annotations

import hashlib
import platform
import shutil
import socket
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.credentials.outlets import mask_outlets
from pipeline.storage.store_address import adopt_variables, folder_of
from tuning.ray_backend.store_marker import StoreMarker

LIBRARIES = ("affectune", "ray", "torch", "numpy")
PACKAGES = ("pipeline", "tuning")
"""Whose code runs on the nodes."""
ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")


class Room(BaseModel):
    """How much room is in a folder."""

    model_config = ConfigDict(frozen=True)

    folder: str
    free: int
    total: int


class NodeReport(BaseModel):
    """What a node says of itself.

    Attributes:
        host: its name.
        python: its version.
        versions: library -> version; those that are not installed are left out.
        code: hash of Affectune's code.
        shm: of the memory that processes share; None where there is none.
        disks: of Ray's folder and of the store.
        store_fault: what is wrong with its store; None where it is the driver's, or none was
            marked.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    python: str
    versions: dict[str, str]
    code: str
    shm: Room | None
    disks: list[Room]
    store_fault: str | None = None


def node_report(
    marker: StoreMarker | None, variables: Mapping[str, str], ray_folder: Path | None
) -> NodeReport:
    """Look at this node.

    Args:
        marker: in the driver's store; None where no store is used.
        variables: with which a store is reached.
        ray_folder: of Ray's sockets and objects on this node.
    """
    adopt_variables(variables)
    mask_outlets()
    folders = [] if ray_folder is None else [ray_folder]
    if marker is not None and (folder := folder_of(marker.uri)) is not None:
        folders.append(folder)
    return NodeReport(
        host=socket.gethostname(),
        python=platform.python_version(),
        versions={name: version for name in LIBRARIES if (version := _version(name))},
        code=code_digest(),
        shm=_room(SHM),
        disks=[room for folder in folders if (room := _room(folder)) is not None],
        store_fault=None if marker is None else marker.find_fault(),
    )


def code_digest(root: Path = ROOT) -> str:
    """Return the hash of the code that workers run, wherever it is installed."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _room(folder: Path) -> Room | None:
    """Return the room in a folder, or in the nearest one above it; None where it cannot be told."""
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
    if folder == SHM and there != SHM:
        return None
    try:
        disk = shutil.disk_usage(there)
    except OSError:
        return None
    return Room(folder=str(folder), free=disk.free, total=disk.total)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
