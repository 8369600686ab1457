"""What the status page tells of the last minutes: each figure a number, a sentence and a chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from trimtab_server.history import (
    Buckets,
    Figure,
    Reading,
    Series,
    busy,
    each_interval,
    each_minute,
    last_minute,
    rate,
)
from trimtab_server.status_charts import ceiling, lines_chart

_FAILURES = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""Statuses that are the server's fault."""
_MIDDLE, _HIGH = 0.5, 0.95
NOTHING = "–"  # noqa: RUF001  # a dash is what stands for no figure


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  # three digits


def seconds(value: float) -> str:
    """In the unit that suits."""
    return f"{number(value)} s" if value >= 1 else f"{number(1000 * value)} ms"


def per_second(value: float) -> str:
    """A rate."""
    return f"{number(value)} /s"


def percent(value: float) -> str:
    """A part of 1."""
    return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.2g}%"  # noqa: PLR2004  # two digits


@dataclass(frozen=True)
class _Line:
    """One line of a chart, and what it is called where there are two."""

    series: Series
    name: str = ""


def _figure(
    title: str,
    value: str,
    note: str,
    lines: Sequence[_Line],
    write: Callable[[float], str],
    *,
    now: float,
    top: float = 0,
) -> str:
    """A figure; `top` is where its axis ends, 0: above the largest."""
    known = [figure for line in lines for _, figure in line.series if figure is not None]
    top = top or ceiling(max(known, default=0.0))
    told = (
        f"{title}, the last 10 minutes: {value} now, at most {write(max(known))}" if known else f"{title}: nothing yet"
    )
    keys = " ".join(f'<i class="key line{i}"></i>{line.name}' for i, line in enumerate(lines) if line.name)
    note = f"{keys} · {escape(note)}" if keys else escape(note)
    return (
        f"<figure><figcaption><h3>{title}</h3><b>{escape(value)}</b><span>{note}</span></figcaption>"
        f'<div class="plot">{lines_chart(told, [line.series for line in lines], top, now)}'
        f'<i class="top">{escape(write(top)) if known else ""}</i></div>'
        '<div class="axis"><span>10 min ago</span><span>now</span></div></figure>'
    )


def figures(readings: Sequence[Reading], current: Reading) -> str:
    """All of them, from what was kept and what is now."""
    told = _Told(readings, current)
    return "".join(
        (told.calls(), told.unanswered(), told.latency(), told.wait(), told.busy(), told.fullness(), *told.batches())
    )


class _Told:
    """The figures of one page."""

    def __init__(self, readings: Sequence[Reading], current: Reading) -> None:
        self._readings = readings
        self._now = current.at
        self._current = current
        self._minute = last_minute([*readings, current])
        self._all = (readings[0] if readings else current, current)

    def _of_minute(self, figure: Figure, write: Callable[[float], str]) -> str:
        value = figure(*self._minute)
        return NOTHING if value is None else write(value)

    def calls(self) -> str:
        """Traffic."""
        figure = rate(lambda reading: sum(reading.calls.values()))
        many = sum(self._all[1].calls.values()) - sum(self._all[0].calls.values())
        line = _Line(each_interval(self._readings, figure))
        note = f"{many:,.0f} in 10 minutes" if many else "none in 10 minutes"
        return _figure("Calls", self._of_minute(figure, per_second), note, [line], per_second, now=self._now)

    def unanswered(self) -> str:
        """What was refused, and what failed."""
        refused = rate(lambda reading: _sum(reading, lambda code: code != "OK" and code not in _FAILURES))
        failed = rate(lambda reading: _sum(reading, lambda code: code in _FAILURES))
        either = rate(lambda reading: _sum(reading, lambda code: code != "OK"))
        before, after = self._all
        codes = {code: count - before.calls.get(code, 0) for code, count in after.calls.items() if code != "OK"}
        note = ", ".join(f"{count:,.0f} {code}" for code, count in sorted(codes.items()) if count) or "none"
        lines = [
            _Line(each_interval(self._readings, refused), "refused"),
            _Line(each_interval(self._readings, failed), "failed"),
        ]
        return _figure("Refused or failed", self._of_minute(either, per_second), note, lines, per_second, now=self._now)

    def latency(self) -> str:
        """From request to answer."""
        return self._percentiles("Latency", "calls", lambda reading: reading.handling)

    def wait(self) -> str:
        """In the queue."""
        return self._percentiles("Queue wait", "requests", lambda reading: reading.queue_wait)

    def _percentiles(self, title: str, what: str, buckets_of: Callable[[Reading], Buckets]) -> str:
        def quantile(part: float) -> Figure:
            return lambda earlier, later: buckets_of(later).since(buckets_of(earlier)).quantile(part)

        earlier, later = self._minute
        counted = buckets_of(later).since(buckets_of(earlier))
        middle, high = counted.quantile(_MIDDLE), counted.quantile(_HIGH)
        lines = [
            _Line(each_minute(self._readings, quantile(_HIGH)), "p95"),
            _Line(
                each_minute(self._readings, quantile(_MIDDLE)), "p50" if middle is None else f"p50 {seconds(middle)}"
            ),
        ]
        value = NOTHING if high is None else seconds(high)
        note = f"{counted.count:,.0f} {what}" if counted.count else "none in the last minute"
        if counted.count and high is None and counted.most < math.inf:
            note += f", none over {seconds(counted.most)}"
        return _figure(title, value, note, lines, seconds, now=self._now)

    def busy(self) -> str:
        """Utilisation of the device thread."""
        series = busy([*self._readings, self._current])
        minute = busy(self._minute)
        value = NOTHING if not minute or minute[0][1] is None else percent(minute[0][1])
        note = "of the time, by solves that have ended"
        return _figure("Device thread busy", value, note, [_Line(series[:-1])], percent, now=self._now, top=1)

    def fullness(self) -> str:
        """Of the queue."""
        line = _Line([(reading.at, reading.fullness) for reading in self._readings])
        note = "of its nearest limit; at 100% it refuses"
        return _figure("Queue full", percent(self._current.fullness), note, [line], percent, now=self._now, top=1)

    def batches(self) -> tuple[str, str]:
        """Their sizes."""
        return (
            self._mean("Requests a batch", lambda reading: reading.batch_requests),
            self._mean("Layers a batch", lambda reading: reading.batch_rows),
        )

    def _mean(self, title: str, buckets_of: Callable[[Reading], Buckets]) -> str:
        def figure(earlier: Reading, later: Reading) -> float | None:
            return buckets_of(later).since(buckets_of(earlier)).mean

        line = _Line(each_interval(self._readings, figure))
        batches = buckets_of(self._all[1]).since(buckets_of(self._all[0])).count
        note = f"mean · {batches:,.0f} batches in 10 minutes" if batches else "none in 10 minutes"
        return _figure(title, self._of_minute(figure, number), note, [line], number, now=self._now)


def _sum(reading: Reading, is_meant: Callable[[str], bool]) -> float:
    return sum(count for code, count in reading.calls.items() if is_meant(code))
