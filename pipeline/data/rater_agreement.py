"""How the raters behind the labels of a corpus agree, as `corpus import` wrote it.

metadata/raters.csv has a line for each target, session and rater.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.tables.csv_columns import decode, read_content
from pipeline.errors import InputError

RATERS_FILE = "metadata/raters.csv"
RATERS_HEADER = (
    "target", "session", "rater", "fusion", "weight", "lag_ms", "ccc_with_others",
    "mean_pairwise_ccc",
)  # fmt: skip


@dataclass(frozen=True)
class RaterAgreement:
    """One rater of a target over all sessions; numbers are means over the sessions.

    Attributes:
        target: the target.
        rater: the rater.
        fusion: "mean" or "ewe".
        sessions: how many the rater rated.
        weight: the share in the fused label.
        lag_ms: by how much the rater was moved.
        ccc_with_others: the CCC with the mean of the others; None where undefined.
        mean_pairwise_ccc: the mean CCC over the pairs of raters of these sessions; likewise.
    """

    target: str
    rater: str
    fusion: str
    sessions: int
    weight: float
    lag_ms: float
    ccc_with_others: float | None
    mean_pairwise_ccc: float | None


def read_agreement(root: Path, targets: Sequence[str]) -> tuple[RaterAgreement, ...]:
    """Read how the raters of some targets agree; () where the corpus does not say.

    Raises:
        InputError: the file was changed to something else.
    """
    path = root / RATERS_FILE
    if not path.is_file():
        return ()

    content = decode(read_content(path, RATERS_FILE), RATERS_FILE)
    rows = [row for row in csv.reader(io.StringIO(content, newline="")) if row]
    if not rows or tuple(rows[0]) != RATERS_HEADER:
        raise InputError(
            f"{RATERS_FILE}: its header is not {','.join(RATERS_HEADER)}. Import the labels again, "
            "or delete the file."
        )
    groups: dict[tuple[str, str, str], list[list[float]]] = {}
    for line, row in enumerate(rows[1:], start=2):
        try:
            target, _, rater, fusion, *numbers = row
            parsed = [float(number) if number else math.nan for number in numbers]
            weight, lag_ms, with_others, pairwise = parsed
        except ValueError:
            raise InputError(
                f"{RATERS_FILE}, line {line}: {','.join(row)!r} is no rater. Import the labels "
                "again, or delete the file."
            ) from None
        if target in targets:
            groups.setdefault((target, rater, fusion), []).append(
                [weight, lag_ms, with_others, pairwise]
            )

    return tuple(
        RaterAgreement(
            target=target,
            rater=rater,
            fusion=fusion,
            sessions=len(numbers),
            weight=_mean(numbers, 0) or 0.0,
            lag_ms=_mean(numbers, 1) or 0.0,
            ccc_with_others=_mean(numbers, 2),
            mean_pairwise_ccc=_mean(numbers, 3),
        )
        for (target, rater, fusion), numbers in groups.items()
    )


def _mean(rows: Sequence[Sequence[float]], column: int) -> float | None:
    known = [row[column] for row in rows if math.isfinite(row[column])]
    return sum(known) / len(known) if known else None
