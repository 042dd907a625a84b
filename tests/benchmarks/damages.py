"""Hundreds of damages of a study: whether each ends in a sentence, and in the same winner."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from itertools import count, islice
from pathlib import Path

import pytest

from tests.benchmarks.rows import Row
from tests.tuning_tests.damages.recovery import Studies, every_case, get_over
from tests.tuning_tests.in_process import InProcess

NUM_DAMAGES = 300


def damages_rows() -> list[Row]:
    """Damage studies, each damage with other seeds in turn; print what does not get over it."""
    logging.disable(logging.CRITICAL)  # each damage is said there, and in the refusals
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder, process = Path(name), InProcess(patch)
        studies = Studies.make(folder, process)
        cases = ((case, seed) for seed in count() for case in every_case())

        for case, seed in islice(cases, NUM_DAMAGES):
            try:
                outcome = get_over(studies, case, folder / "copy", process, seed)
                ends["explained" if outcome.refusals else "got over by itself"] += 1
            except Exception:
                ends["not got over"] += 1
                print(f"{case}, seed {seed}:", traceback.format_exc(limit=-4), file=sys.stderr)
            finally:
                shutil.rmtree(folder / "copy", ignore_errors=True)
    logging.disable(logging.NOTSET)

    total = ends.total()
    return [
        Row(f"damages: {end}", ends[end], total, "of all", ends[end] / total)
        for end in ("got over by itself", "explained", "not got over")
    ]
