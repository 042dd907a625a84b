"""One result of a benchmark, and the comparison of two functions that gives one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

WARM_UP_CALLS = 2
"""The first calls compile and reserve memory: they are not counted."""


@dataclass(frozen=True)
class Row:
    """A figure of ours beside what it is compared to.

    Attributes:
        name: names the measurement in `bench.json`.
        ours: our figure.
        other: the other's, or a bar that was set.
        unit: of both figures.
        ratio: how much better ours is; above 1 where it is.
    """

    name: str
    ours: float
    other: float
    unit: str
    ratio: float

    def to_json(self) -> dict[str, str | float]:
        """Return the row with its figures rounded to four digits."""
        return {
            name: value if isinstance(value, str) else float(f"{value:.4g}")
            for name, value in asdict(self).items()
        }


def less_is_better(name: str, ours: float, other: float, unit: str) -> Row:
    """Return a row of two costs, such as times."""
    return Row(name, ours, other, unit, ratio=other / ours)


def more_is_better(name: str, ours: float, other: float, unit: str) -> Row:
    """Return a row of two yields, such as scores."""
    return Row(name, ours, other, unit, ratio=ours / other)


def compare_times(
    name: str, ours: Callable[[], object], other: Callable[[], object], num_pairs: int
) -> Row:
    """Time two functions in turn, so that whatever else the machine does slows down both.

    Args:
        name: of the row.
        ours: called without arguments.
        other: likewise.
        num_pairs: how often each is timed.

    Returns:
        Both medians in milliseconds; its ratio is the median of the pairs' ratios.
    """
    for _ in range(WARM_UP_CALLS):
        ours()
        other()

    pairs = [(duration_ms(ours), duration_ms(other)) for _ in range(num_pairs)]
    return Row(
        name,
        ours=median(our_ms for our_ms, _ in pairs),
        other=median(other_ms for _, other_ms in pairs),
        unit="ms",
        ratio=median(other_ms / our_ms for our_ms, other_ms in pairs),
    )


def duration_ms(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begin = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begin)
