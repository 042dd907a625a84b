"""The corpus in Ray's object store: one copy per node, which trials can read and not write."""

from __future__ import annotations

import ctypes
import mmap
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus

ALIGNMENT = 64
_PROTECTED: list[NDArray[Any]] = []
"""Never given back in the life of the process: whoever got their pages next could not write to them."""


def pack(corpus: Corpus) -> tuple[bytes, NDArray[np.uint8]]:
    """A corpus as a small head and one large array, with a page of nothing at both ends."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(corpus, protocol=5, buffer_callback=buffers.append)
    places, end = [], mmap.PAGESIZE
    for buffer in buffers:
        size = buffer.raw().nbytes
        places.append((end, size))
        end += -(-size // ALIGNMENT) * ALIGNMENT
    packed = np.zeros(end + mmap.PAGESIZE, dtype=np.uint8)
    for buffer, (start, size) in zip(buffers, places, strict=True):
        packed[start : start + size] = np.frombuffer(buffer.raw(), dtype=np.uint8)
    return pickle.dumps((head, places)), packed


def unpack(head: bytes, packed: NDArray[np.uint8]) -> Corpus:
    """The inverse of `pack`; the arrays are views, and whoever writes to one is stopped by the operating system.

    numpy refuses to write to them, but torch.from_numpy(array).add_(1) would spoil the data of every trial on the node.
    """
    _forbid_writing(packed)
    inner, places = pickle.loads(head)
    view = packed.data
    corpus: Corpus = pickle.loads(
        inner, buffers=[view[start : start + size] for start, size in places]
    )
    return corpus


def _forbid_writing(array: NDArray[Any]) -> None:
    """Make the whole pages that an array covers read-only for this process."""
    first = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if last > first and libc.mprotect(
        ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.PROT_READ
    ):
        raise OSError(ctypes.get_errno(), "The shared corpus cannot be protected against writing")
    _PROTECTED.append(array)
