"""One copy of a corpus for all processes of a machine, which they can read and not write."""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus

ALIGNMENT = 64
ARRAYS_FILE, HEAD_FILE = "corpus.arrays", "corpus.head"
_PROTECTED: list[NDArray[Any]] = []
"""Never given back in the life of the process: nobody could write to their pages afterwards."""

Bytes = NDArray[np.uint8]


def _zeros(size: int) -> Bytes:
    return np.zeros(size, dtype=np.uint8)


def pack(corpus: Corpus, allocate: Callable[[int], Bytes] = _zeros) -> tuple[bytes, Bytes]:
    """Pack a corpus into a small head and one large array, with an empty page at both ends.

    Args:
        corpus: what is shared.
        allocate: makes the array, of so many bytes.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(corpus, protocol=5, buffer_callback=buffers.append)

    places, end = [], mmap.PAGESIZE
    for buffer in buffers:
        size = buffer.raw().nbytes
        places.append((end, size))
        end += -(-size // ALIGNMENT) * ALIGNMENT

    packed = allocate(end + mmap.PAGESIZE)
    for buffer, (start, size) in zip(buffers, places, strict=True):
        packed[start : start + size] = np.frombuffer(buffer.raw(), dtype=np.uint8)
    return pickle.dumps((head, places)), packed


def unpack(head: bytes, packed: Bytes) -> Corpus:
    """Return the corpus that `pack` packed; its arrays are views of the large one.

    The operating system stops a process that writes to them. numpy refuses to do so, but
    torch.from_numpy(array).add_(1) would change the data of every fit on the machine.
    """
    _forbid_writing(packed)
    inner, places = pickle.loads(head)
    view = packed.data
    corpus: Corpus = pickle.loads(
        inner, buffers=[view[start : start + size] for start, size in places]
    )
    return corpus


def write_shared(corpus: Corpus, folder: Path) -> None:
    """Write a corpus so that processes can map its arrays instead of copying them.

    Raises:
        OSError: there is no room.
    """

    def allocate(size: int) -> Bytes:
        with open(folder / ARRAYS_FILE, "wb") as file:
            # Room is taken now: a process that writes to a page without room would be killed.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS
                file.truncate(size)
        return np.memmap(folder / ARRAYS_FILE, dtype=np.uint8, mode="r+")

    head, packed = pack(corpus, allocate)
    assert isinstance(packed, np.memmap)
    packed.flush()
    (folder / HEAD_FILE).write_bytes(head)


def map_shared(folder: Path) -> Corpus:
    """Return the corpus that `write_shared` wrote."""
    packed = np.memmap(folder / ARRAYS_FILE, dtype=np.uint8, mode="r")
    return unpack((folder / HEAD_FILE).read_bytes(), packed)


def _forbid_writing(array: NDArray[Any]) -> None:
    """Make the complete pages that an array covers read-only for this process."""
    first = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE

    if last > first:
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_size_t(last - first)
        if libc.mprotect(ctypes.c_void_p(first), size, mmap.PROT_READ):
            cause = "The shared corpus cannot be protected against writing"
            raise OSError(ctypes.get_errno(), cause)
    _PROTECTED.append(array)
