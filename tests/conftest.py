"""What every test has: one thread, and no write outside its own folder."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# By default Ray's workers give way to everything else, also to the other half of the tests.
os.environ.setdefault("RAY_worker_niceness", "0")

import torch  # noqa: E402 - after the number of threads is set

torch.set_num_threads(1)
