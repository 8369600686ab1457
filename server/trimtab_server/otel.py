"""Traces for an OpenTelemetry collector (extra `otel`), with the context that callers send (W3C Trace Context).

A call is a span of its own with four inside: admit, queue, solve and encode. A batch is a trace of its own, linked to
the calls in it, as their solve spans are to it. All of them are made when the answer is on its way, from moments noted
until then: a live span costs ten times as much, and the caller would wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from trimtab.version import __version__
from trimtab_server.jobs import Job
from trimtab_server.observer import Observer
from trimtab_server.tracing import CallTrace

_CARRIED = frozenset({"traceparent", "tracestate"})
_MOST_CARRIED = 512
"""Characters of a header, as the standard has it; the library writes a line to the log for each that has more."""
_OURS_TO_MEND = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_CLOSE_SECONDS = 2.0
_NS = 1_000_000_000


class Allowance:
    """So many a second, the first second's worth at once (a token bucket)."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate, self._now = rate, now
        self._left, self._seen = max(rate, 1.0), now()

    def take(self) -> bool:
        """One more, where that is within the rate."""
        now = self._now()
        self._left = min(self._left + (now - self._seen) * self._rate, max(self._rate, 1.0))
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class OtelTracer(Observer):
    """Sends traces to a collector, on a thread of its own; what that can't take in time is lost, and no call waits."""

    def __init__(
        self, exporter: SpanExporter, ratio: float, rate: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Trace by an exporter.

        Args:
            exporter: where spans go.
            ratio: the part of calls that are recorded, of those whose callers have not decided.
            rate: calls a second that are recorded at most, whatever callers have decided.
            now: the time, in seconds.
        """
        self._allowance = Allowance(rate, now)
        self.observer = self
        self._processor = BatchSpanProcessor(exporter)
        self._sampler = ParentBased(TraceIdRatioBased(ratio))
        self._ids = RandomIdGenerator()
        self._propagator = TraceContextTextMapPropagator()
        self._resource = Resource.create({"service.name": "trimtab", "service.version": __version__})
        self._scope = InstrumentationScope("trimtab", __version__)

    def begin(self, metadata: Any) -> CallTrace:
        """A call begins."""
        carried = {key: str(value) for key, value in metadata if key in _CARRIED and len(value) <= _MOST_CARRIED}
        above = self._propagator.extract(carried, Context()) if carried else None
        parent = get_current_span(above).get_span_context() if above else None
        if parent is not None and not parent.is_valid:
            above = parent = None
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        decision = self._sampler.should_sample(above, trace_id, "call").decision
        is_recorded = decision is Decision.RECORD_AND_SAMPLE and self._allowance.take()
        context = self._context(trace_id, parent) if is_recorded else None
        return CallTrace(f"{trace_id:032x}", is_recorded, time.monotonic_ns(), parent, context)

    def _context(self, trace_id: int, parent: SpanContext | None = None) -> SpanContext:
        flags, state = TraceFlags(TraceFlags.SAMPLED), parent.trace_state if parent else None
        return SpanContext(
            trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=state
        )

    def end(self, trace: CallTrace, path: str, code: str, *, caller: str, seconds: float) -> None:
        """A recorded call has ended: make its spans."""
        ended = trace.begun + int(seconds * _NS)
        what = {
            "rpc.system.name": "grpc",
            "rpc.method": path,
            "rpc.response.status_code": code,
            **({"trimtab.caller": caller} if caller else {}),
        }
        status = Status(StatusCode.ERROR) if code in _OURS_TO_MEND else Status()
        if status.status_code is StatusCode.ERROR:
            what["error.type"] = code
        moments = (trace.begun, ended)
        self._send(path, trace.context, trace.parent, moments, what, kind=SpanKind.SERVER, status=status)
        for name, begin, end in _stages(trace, ended):
            links = [Link(trace.batch)] if name == "solve" and trace.batch else []
            self._send(name, self._context(trace.context.trace_id), trace.context, (begin, end), {}, links=links)

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:
        """A batch was solved: make its span, where a call in it is recorded."""
        traces = [job.trace for job in jobs if job.trace is not None]
        if not traces:
            return
        batch = self._context(self._ids.generate_trace_id())
        for trace in traces:
            trace.batch = batch
        what = {
            "trimtab.operation": jobs[0].problem.operation,
            "trimtab.solver": answers[0].solver,
            "trimtab.batch.requests": len(jobs),
            "trimtab.batch.rows": sum(job.num_rows for job in jobs),
        }
        moments = (int(started * _NS), int((started + seconds) * _NS))
        self._send("batch", batch, None, moments, what, links=[Link(trace.context) for trace in traces])

    def waited(self, job: Job[Any, Any], seconds: float) -> None:  # noqa: ARG002
        """Its solve begins."""
        if job.trace is not None:
            job.trace.taken = time.monotonic_ns()

    def _send(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        moments: tuple[int, int],
        attributes: Mapping[str, str | int],
        **more: Any,
    ) -> None:
        to_date = time.time_ns() - time.monotonic_ns()  # each time: the date may be set while we run
        begin, end = (moment + to_date for moment in moments)
        made_of: dict[str, Any] = {"resource": self._resource, "instrumentation_scope": self._scope, **more}
        span = ReadableSpan(name, context, parent, attributes=attributes, start_time=begin, end_time=end, **made_of)
        self._processor.on_end(span)

    async def close(self) -> None:
        """Send what is left, for two seconds at most: a collector that is away must not hold up the end."""
        thread = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _CLOSE_SECONDS)


def _stages(trace: CallTrace, ended: int) -> Iterator[tuple[str, int, int]]:
    """What happened within a call, one after the other."""
    if trace.admitted is None:
        return
    yield "admit", trace.begun, trace.admitted
    if trace.taken is None:
        yield "queue", trace.admitted, ended
        return
    if trace.solved is None:  # ended while it was being solved
        yield "queue", trace.admitted, trace.taken
        yield "solve", trace.taken, ended
        return
    began = int(trace.solved.started * _NS)
    done = began + int(trace.solved.solve_seconds * _NS)
    yield "queue", trace.admitted, began
    yield "solve", began, done
    yield "encode", done, ended


def collector_tracer(endpoint: str, ratio: float, rate: float) -> OtelTracer:
    """Traces to a collector that takes OTLP over gRPC at `http://HOST:PORT`, or `https://` with TLS."""
    return OtelTracer(OTLPSpanExporter(endpoint), ratio, rate)
