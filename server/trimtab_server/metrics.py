"""Every metric, in one object on an injected registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from trimtab_server.jobs import Job
from trimtab_server.observer import Observer
from trimtab_server.solvers.fallback import REASONS
from trimtab_server.solvers.placement import PlacementAnswer
from trimtab_server.solvers.problem import PackAnswer
from trimtab_server.waiting_room import WaitingRoom

# All buckets are few: a server is to have fewer than 200 series.
#
# From a compiled solve of one layer to the default client timeout; finest where a call of DeepSeek-V3's size lies.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_SOLVE_SECONDS = (0.001, 0.005, 0.025, 0.05, 0.1, 0.25, 1, 5)
# One layer to several full-sized requests: DeepSeek-V3 has 58 layers.
_ROWS = (1, 64, 256, 1024, 4096)
# Powers of four up to the default cap of a batch.
_REQUESTS = (1, 4, 16, 64)
# From a few swaps to every slot of DeepSeek-V3 (16,704).
_MOVES = (0, 30, 300, 1000, 3000, 10_000)
_LAYERS = (0, 1, 4, 16, 64)
# Balancedness is mostly above 0.9 once packed, and what matters there is the distance to 1, the most there is.
_BALANCEDNESS = (0.6, 0.8, 0.9, 0.95, 0.99, 0.999)
_OTHER = "other"
_SOLVING = frozenset({"Pack", "Rebalance"})
# A rate misses what made a series begin: those that alerts go by exist from the start, at 0
_CODES = ("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL")
_REASONS = (
    *("invalid", "unauthenticated", "denied", "not_received"),
    *("overloaded", "hopeless", "expired", "cancelled", "unavailable", "internal"),
)
WATCHED = ("tls", "callers")
"""What is made of files that are read again when they change."""


class Metrics:
    """The metrics of one server. Its labels come from the code and the settings, never from a client."""

    def __init__(self, registry: CollectorRegistry, callers: Collection[str] = ()) -> None:
        """Register everything on `registry`, the process's own figures included; `callers` may be told apart."""
        disable_created_metrics()
        self._registry = registry
        ProcessCollector(registry=registry)
        rpc = ("grpc_service", "grpc_method")
        self.started = Counter("grpc_server_started_total", "RPCs begun.", rpc, registry=registry)
        self.handled = Counter(
            "grpc_server_handled_total", "RPCs ended, by status.", (*rpc, "grpc_code"), registry=registry
        )
        self.handling = Histogram(
            "grpc_server_handling_seconds",
            "Time from request to answer, of calls that solve.",
            rpc,
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "trimtab_queue_wait_seconds", "Time from admission to a batch.", buckets=_SECONDS, registry=registry
        )
        self.ready = Gauge("trimtab_ready", "Whether it says SERVING.", registry=registry)
        self.batch_rows = Histogram("trimtab_batch_rows", "Layers per batch.", buckets=_ROWS, registry=registry)
        self.batch_requests = Histogram(
            "trimtab_batch_requests", "Requests per batch.", buckets=_REQUESTS, registry=registry
        )
        self.solve = Histogram(
            "trimtab_solve_seconds",
            "Time of a batch on the device thread.",
            ("operation", "solver"),
            buckets=_SOLVE_SECONDS,
            registry=registry,
        )
        self.device_busy = Counter(
            "trimtab_device_busy_seconds_total", "Time that the device thread has worked.", registry=registry
        )
        self.rejections = Counter(
            "trimtab_rejected_total",
            "Requests that were not solved, by reason; calls that end while they are solved are among those handled.",
            ("reason",),
            registry=registry,
        )
        self.balancedness = Histogram(
            "trimtab_balancedness",
            "Mean load over max load, mean over the layers of a request; before: pack: as the request lists its items; "
            "rebalance: the previous placement, and only where there is one.",
            ("operation", "stage"),
            buckets=_BALANCEDNESS,
            registry=registry,
        )
        self.moves = Histogram(
            "trimtab_moves",
            "Copies that a rebalance from a previous placement moves.",
            buckets=_MOVES,
            registry=registry,
        )
        self.layers_changed = Histogram(
            "trimtab_layers_changed",
            "Layers that a rebalance from a previous placement changes.",
            buckets=_LAYERS,
            registry=registry,
        )
        self.winning_restart = Counter(
            "trimtab_winning_restart_total",
            "Layers won by the exact ordering, or a noisy one.",
            ("kind",),
            registry=registry,
        )
        self.fallbacks = Counter(
            "trimtab_fallback_total",
            "Times that the CPU had to answer for the device.",
            ("reason",),
            registry=registry,
        )
        for reason in REASONS:
            self.fallbacks.labels(reason)
        self.log_lines_lost = Counter(
            "trimtab_log_lines_lost_total", "Log lines that could not be written.", registry=registry
        )
        self._callers = frozenset(callers)
        self.caller_calls = Counter(
            "trimtab_caller_calls_total",
            "RPCs ended, by status and by caller, where the settings name it; other: all the rest.",
            ("caller", "code"),
            registry=registry,
        )
        for caller in (*callers, _OTHER):
            self.caller_calls.labels(caller, "OK")
        self.reload_failures = Counter(
            "trimtab_reload_failures_total",
            "Changes of files that left them unusable; what was read before stays in force.",
            ("what",),
            registry=registry,
        )
        for what in WATCHED:
            self.reload_failures.labels(what)
        self.device_memory = Gauge(
            "trimtab_device_memory_bytes", "Memory held on the solver's device.", ("device",), registry=registry
        )
        self.build_info = Gauge(
            "trimtab_build_info",
            "Always 1; the labels tell.",
            ("version", "algorithm", "solver", "device"),
            registry=registry,
        )

    def expect_calls(self, service: str, methods: Iterable[str]) -> None:
        """Let the usual outcomes of these RPCs exist, at 0, before they first happen."""
        for method in methods:
            self.started.labels(service, method)
            for code in _CODES if method in _SOLVING else _CODES[:1]:
                self.handled.labels(service, method, code)
        for reason in _REASONS:
            self.rejections.labels(reason)

    def describe_build(
        self, version: str, algorithm: str, solver: str, device: str, memory_bytes: Callable[[], int]
    ) -> None:
        """Say what runs here, and where to read the device's memory at each scrape."""
        self.build_info.labels(version, algorithm, solver, device).set(1)
        self.device_memory.labels(device).set_function(memory_bytes)

    def expect_queue(self, room: WaitingRoom[Any]) -> None:
        """Say where to read, at each scrape, what waits."""
        for name, text, read in (
            ("trimtab_queue_rows", "Layers that wait.", lambda: room.rows),
            ("trimtab_queue_bytes", "Bytes of loads that wait.", lambda: room.bytes),
            ("trimtab_queue_seconds", "Seconds of work that wait, as forecast.", lambda: room.seconds),
            ("trimtab_queue_fullness_ratio", "How full the queue is; at 1 it refuses.", lambda: room.fullness),
        ):
            Gauge(name, text, registry=self._registry).set_function(read)

    def expect_expiry(self, expires: Callable[[], float]) -> None:
        """Say where to read, at each scrape, when the certificate expires."""
        Gauge(
            "trimtab_certificate_expiry_timestamp_seconds",
            "When the certificate served with, or one of its chain, expires, in seconds since 1970.",
            registry=self._registry,
        ).set_function(expires)

    def answered(self, answer: PackAnswer | PlacementAnswer) -> None:
        """The quality of an answer; where there was a placement before, also what it takes to get from there."""
        operation = "pack" if isinstance(answer, PackAnswer) else "rebalance"
        if isinstance(answer, PackAnswer) or answer.has_previous:  # means of both stages have to be of the same calls
            for stage, value in (("before", answer.balancedness_before), ("after", answer.balancedness)):
                if not math.isnan(value):
                    self.balancedness.labels(operation, stage).observe(value)
        if isinstance(answer, PackAnswer):
            first = int((answer.winning_restart == 0).sum())
            self.winning_restart.labels("first").inc(first)
            self.winning_restart.labels("noisy").inc(answer.winning_restart.size - first)
        elif answer.has_previous:
            self.moves.observe(int(answer.moves.sum()))
            self.layers_changed.observe(int((answer.moves > 0).sum()))

    def called(
        self, service: str, method: str, caller: str, code: str, *, seconds: float, trace_id: str | None = None
    ) -> None:
        """A call of this caller ended; a trace id becomes an exemplar of its latency."""
        self.handled.labels(service, method, code).inc()
        if method in _SOLVING:
            exemplar = {"trace_id": trace_id} if trace_id else None
            self.handling.labels(service, method).observe(seconds, exemplar)
        self.caller_calls.labels(caller if caller in self._callers else _OTHER, code).inc()

    def rejected(self, reason: str) -> None:
        """A request ended without an answer."""
        self.rejections.labels(reason).inc()


class BatchMetrics(Observer):
    """What the batcher tells, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def rejected(self, reason: str) -> None:
        """A job ended without being solved, or broke the solver."""
        self._metrics.rejected(reason)

    def waited(self, job: Job[Any, Any], seconds: float) -> None:  # noqa: ARG002
        """A job went from the queue into a batch."""
        self._metrics.queue_wait.observe(seconds)

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:  # noqa: ARG002
        """A batch was solved."""
        self._metrics.batch_requests.observe(len(jobs))
        self._metrics.batch_rows.observe(sum(job.num_rows for job in jobs))
        self._metrics.solve.labels(jobs[0].problem.operation, answers[0].solver).observe(seconds)
