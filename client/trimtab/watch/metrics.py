"""All metrics of the controller, counted here and shown as Prometheus reads them.

They are few and plain, so the page is written here: the command then needs no package for it.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from trimtab.version import __version__
from trimtab.watch.decision import Decision, Skipped

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAILURES = ("source", "unreadable", "output", "unavailable", "overloaded", "expired", "invalid")
"""Those that alerts go by exist from the start, at 0: a rate misses what made a series begin."""


class Metrics:
    """Counts and gauges; read on another thread than they are written on."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin at 0.

        Args:
            now: seconds of a clock that never goes back.
        """
        self._now = now
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._skipped = Counter[str](dict.fromkeys(get_args(Skipped), 0))
        self._failed = Counter[str](dict.fromkeys(_FAILURES, 0))
        self._before = self._after = math.nan
        self._last_window = self._last_success = math.nan
        self._last_step = now()

    def stepped(self) -> None:
        """The controller went round once more."""
        self._last_step = self._now()

    @property
    def seconds_since_step(self) -> float:
        """How long the controller has not gone round."""
        return self._now() - self._last_step

    def read(self, num_windows: int) -> None:
        """Windows came into the history."""
        with self._lock:
            self._counts["windows"] += num_windows
            self._last_window = self._now()

    def asked(self) -> None:
        """The service is asked."""
        with self._lock:
            self._counts["asked"] += 1

    def decided(self, decision: Decision) -> None:
        """The service has answered, and the answer was judged."""
        with self._lock:
            self._last_success = self._now()
            self._before, self._after = (
                math.nan if value is None else value for value in (decision.before, decision.after)
            )

    def made(self, moves: int) -> None:
        """A placement was written."""
        with self._lock:
            self._counts["rebalances"] += 1
            self._counts["moves"] += moves

    def skipped(self, reason: Skipped) -> None:
        """The placement in force is kept."""
        with self._lock:
            self._skipped[reason] += 1

    def failed(self, reason: str) -> None:
        """Something could not be done; reasons are of the code, never of what was read."""
        with self._lock:
            self._failed[reason] += 1

    def page(self) -> str:
        """All of them, in Prometheus's text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _family("build_info", "gauge", "The version at work.", {f'version="{__version__}"': 1})
        counts = (
            ("windows", "Windows read, as they came into the history."),
            ("asked", "Rebalances that the service was asked for."),
            ("rebalances", "Placements written because they were worth it, or the first."),
            ("moves", "Copies that these placements moved."),
        )
        for name, text in counts:
            yield from _family(f"{name}_total", "counter", text, {"": self._counts[name]})
        for name, text, by_reason in (
            ("skipped", "Times that the placement in force was kept, by reason.", self._skipped),
            ("failures", "What could not be done, by reason.", self._failed),
        ):
            samples = {f'reason="{reason}"': count for reason, count in by_reason.items()}
            yield from _family(f"{name}_total", "counter", text, samples)
        stages = {'stage="before"': self._before, 'stage="after"': self._after}
        text = "Mean balancedness that the last answer predicts, of the placement in force and of its own."
        yield from _family("balancedness", "gauge", text, stages)
        for name, since in (("window", self._last_window), ("success", self._last_success)):
            text = {"window": "Seconds since windows were read.", "success": "Seconds since the service answered."}[
                name
            ]
            yield from _family(f"seconds_since_{name}", "gauge", text, {"": self._now() - since})


def _family(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Iterator[str]:
    name = f"trimtab_watch_{name}"
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples.items():
        shown = "NaN" if math.isnan(value) else repr(value)
        yield f"{name}{{{labels}}} {shown}" if labels else f"{name} {shown}"
