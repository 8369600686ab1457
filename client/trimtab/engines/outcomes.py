"""What became of the rebalances of an engine: counted, and told in its log without flooding it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

QUIET_SECONDS = 600.0
"""How long a failure that repeats, and the summary, stay unsaid."""
PLACED = "placed"


class Outcomes:
    """Counts by outcome: `placed`, else why the placement in force was kept."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._logger = logger
        self._clock = clock
        self._summary_due = clock() + QUIET_SECONDS
        self._said: dict[str, float] = {}
        self._failed = 0

    def placed(self, detail: str) -> None:
        """The service's placement is taken."""
        self.counts[PLACED] += 1
        if self._failed:
            self._logger.info("trimtab answers again, after %d rebalances without it", self._failed)
        self._failed = 0
        self._said.clear()
        self._logger.info("trimtab: %s", detail)
        self._summarize()

    def kept(self, reason: str, detail: str, *, failure: bool = True) -> None:
        """The service's placement is not to be had; said once in a while for each reason."""
        self.counts[reason] += 1
        self._failed += failure
        now = self._clock()
        if reason not in self._said or now - self._said[reason] >= QUIET_SECONDS:
            self._said[reason] = now
            level = logging.WARNING if failure else logging.INFO
            often = f"{reason}, {self.counts[reason]} of {self.counts.total()} rebalances"
            self._logger.log(level, "trimtab: %s (%s; not said again for %.0f s)", detail, often, QUIET_SECONDS)
        self._summarize()

    def _summarize(self) -> None:
        now = self._clock()
        if now >= self._summary_due:
            self._summary_due = now + QUIET_SECONDS
            counts = ", ".join(f"{reason} {count}" for reason, count in self.counts.most_common())
            self._logger.info("trimtab: of %d rebalances: %s", self.counts.total(), counts)
