"""Five batches on one account's limit, in virtual time: how much of it they use, and how evenly.

They know nothing of each other. Some runs of a quarter of an hour for each limit, of which the first 50 s
don't count; a limit by the minute has half an hour, of which the first five minutes don't count.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Final

from tests.shared_limits import (
    FixedWindow,
    InFlight,
    Limit,
    SlidingWindow,
    TokenBucket,
    always,
    exact,
    none,
    share,
)

RUNS: Final = int(os.environ.get("SHARED_LIMIT_RUNS", "3"))
WORKERS: Final = (0, 5, 10, 15, 20)
BY_THE_MINUTE: Final = {"seconds": 1800.0, "counted_from": 300.0}
LONG: Final = {"seconds": 3600.0, "counted_from": 300.0, "duration": (60.0, 180.0)}

LIMITS: Final[dict[str, tuple[Callable[[], Limit], dict[str, object]]]] = {
    "20 in each 10 s by the clock": (lambda: FixedWindow(20, 10), {}),
    "20 in any 10 s": (lambda: SlidingWindow(20, 10), {}),
    "2 a second, 20 at once": (lambda: TokenBucket(2, 20), {}),
    "10 a second, 10 at once": (lambda: TokenBucket(10, 10), {}),
    "40 a second, 40 at once": (lambda: TokenBucket(40, 40), {}),
    "40 a second, 5 at once": (lambda: TokenBucket(40, 5), {}),
    "60 in each minute by the clock": (lambda: FixedWindow(60, 60), BY_THE_MINUTE),
    "100 in any minute": (lambda: SlidingWindow(100, 60), BY_THE_MINUTE),
    "20 in flight, of 10 to 30 s": (lambda: InFlight(20, (10, 30)), {}),
    "100 in flight, of 10 to 30 s": (lambda: InFlight(100, (10, 30)), {}),
    "20 in flight, of 1 to 3 min": (lambda: InFlight(20, (60, 180)), LONG),
}
ANSWERS: Final = {"none": none, "as long as it takes": exact, "5 s always": always(5)}


def main() -> None:
    """Print the figures as Markdown tables."""
    print("### Five batches on one limit\n")
    _table(WORKERS)
    print("\n### One batch on it\n")
    _table(WORKERS[:1])


def _table(starts: tuple[float, ...]) -> None:
    print("| limit | Retry-After | used: mean, least | least share: mean, least | refused |")
    print("|---|---|--:|--:|--:|")
    for name, (limit, times) in LIMITS.items():
        for answer, retry_after in ANSWERS.items():
            runs = [
                share(limit(), retry_after, starts=starts, seed=seed, **times)  # type: ignore[arg-type]
                for seed in range(1, RUNS + 1)
            ]
            used, least = [run.use for run in runs], [run.least_share for run in runs]
            refused = statistics.fmean(run.refused for run in runs)
            print(
                f"| {name} | {answer} | {statistics.fmean(used):.1%}, {min(used):.1%} "
                f"| {statistics.fmean(least):.2f}, {min(least):.2f} | {refused:.0%} |"
            )


if __name__ == "__main__":
    main()
