"""What the last minutes were like: the server's own metrics, read every few seconds, as a small Prometheus would."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.metrics import MetricWrapperBase

from trimtab_server.metrics import Metrics

INTERVAL_SECONDS = 5.0
KEPT_SECONDS = 600.0
MINUTE = 60.0


@dataclass(frozen=True)
class Buckets:
    """What a histogram has counted; as its metric, or between two readings of it."""

    bounds: tuple[float, ...] = ()
    """Upper ones, the last infinite; none as long as nothing was ever counted."""
    counts: tuple[float, ...] = ()
    """How many were at most as large as each bound."""
    total: float = 0.0

    @property
    def count(self) -> float:
        """How many there are."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """None where there is none."""
        return self.total / self.count if self.count else None

    @property
    def most(self) -> float:
        """The lowest bound that none was above; 0 where there is none."""
        return next(bound for bound, count in zip(self.bounds, self.counts, strict=True) if count == self.count)

    def since(self, earlier: Buckets) -> Buckets:
        """What was counted after an earlier reading."""
        before = earlier.counts or (0.0,) * len(self.counts)
        counts = tuple(now - then for now, then in zip(self.counts, before, strict=True))
        return Buckets(self.bounds, counts, self.total - earlier.total)

    def quantile(self, part: float) -> float | None:
        """By straight lines within buckets, as PromQL's histogram_quantile.

        None unless at least one lies beyond it: a 95th percentile of fewer than twenty would be a guess. Where it is
        above the last bound, that bound.
        """
        if self.count * (1 - part) < 1 - 1e-9:
            return None
        rank, low, below = part * self.count, 0.0, 0.0
        for bound, count in zip(self.bounds[:-1], self.counts, strict=False):
            if count >= rank:
                return low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return low


@dataclass(frozen=True)
class Reading:
    """The metrics at a moment; all but the fullness only ever grow."""

    at: float
    calls: dict[str, float]
    """Ended, by status."""
    handling: Buckets
    """Seconds, of calls that solve."""
    queue_wait: Buckets
    batch_requests: Buckets
    batch_rows: Buckets
    busy_seconds: float
    fullness: float
    """How full the queue is, 1: full."""


Figure = Callable[[Reading, Reading], "float | None"]
"""A number about the time between two readings, None where there is none to give."""
Series = list[tuple[float, "float | None"]]
"""Moments, and a figure at each."""


class History:
    """Readings of the last minutes, taken on a thread of its own: it asks nothing of the event loop."""

    def __init__(self, metrics: Metrics, fullness: Callable[[], float], now: Callable[[], float]) -> None:
        """Nothing is read until `start`; `now` is a clock that never goes back."""
        self._metrics = metrics
        self._fullness = fullness
        self.now = now
        self.started = now()
        self._readings: deque[Reading] = deque(maxlen=round(KEPT_SECONDS / INTERVAL_SECONDS) + 1)
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """Read now, and every few seconds from now on."""
        self.keep()
        threading.Thread(target=self._keep_on, name="history", daemon=True).start()

    def close(self) -> None:
        """Read no more."""
        self._closed.set()

    def _keep_on(self) -> None:
        while not self._closed.wait(INTERVAL_SECONDS):
            self.keep()

    def keep(self) -> None:
        """Take a reading and keep it, for as long as the history goes back."""
        reading = self.read()
        with self._lock:
            self._readings.append(reading)

    def read(self) -> Reading:
        """The metrics as they are now."""
        metrics = self._metrics
        return Reading(
            self.now(),
            _by_code(metrics.handled),
            _buckets(metrics.handling),
            _buckets(metrics.queue_wait),
            _buckets(metrics.batch_requests),
            _buckets(metrics.batch_rows),
            sum(sample.value for family in metrics.device_busy.collect() for sample in family.samples),
            self._fullness(),
        )

    @property
    def readings(self) -> list[Reading]:
        """Those that are kept, oldest first."""
        with self._lock:
            return list(self._readings)


def _by_code(metric: MetricWrapperBase) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in metric.collect():
        for sample in family.samples:
            code = sample.labels["grpc_code"]
            found[code] = found.get(code, 0.0) + sample.value
    return found


def _buckets(metric: MetricWrapperBase) -> Buckets:
    """A histogram, summed over its labels."""
    counts: dict[float, float] = {}
    total = 0.0
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
            elif sample.name.endswith("_sum"):
                total += sample.value
    return Buckets(tuple(counts), tuple(counts.values()), total)


def last_minute(readings: Sequence[Reading], end: int | None = None) -> tuple[Reading, Reading]:
    """Of the readings up to an end: the last, and the one a minute before it, or the oldest there is."""
    stop = len(readings) if end is None else end
    last = readings[stop - 1]
    begin = last.at - MINUTE - INTERVAL_SECONDS / 2  # threads wake a little late
    return readings[bisect_left(readings, begin, hi=stop - 1, key=lambda reading: reading.at)], last


def each_interval(readings: Sequence[Reading], figure: Figure) -> Series:
    """A figure of every interval, at its end."""
    return [(later.at, figure(earlier, later)) for earlier, later in pairwise(readings)]


def each_minute(readings: Sequence[Reading], figure: Figure) -> Series:
    """A figure of the minute before every reading."""
    pairs = [last_minute(readings, end) for end in range(2, len(readings) + 1)]
    return [(later.at, figure(earlier, later)) for earlier, later in pairs]


def busy(readings: Sequence[Reading]) -> Series:
    """The part of every interval in which the device thread worked.

    Work is counted when it ends: what is more than fits into an interval was done in those before.
    """
    found: Series = []
    rest = 0.0
    for later, earlier in pairwise(reversed(readings)):
        elapsed = later.at - earlier.at
        rest += later.busy_seconds - earlier.busy_seconds
        done = min(rest, elapsed)
        rest -= done
        found.append((later.at, done / elapsed if elapsed > 0 else None))
    return found[::-1]


def rate(count: Callable[[Reading], float]) -> Figure:
    """So many a second."""

    def figure(earlier: Reading, later: Reading) -> float | None:
        elapsed = later.at - earlier.at
        return (count(later) - count(earlier)) / elapsed if elapsed > 0 else None

    return figure
