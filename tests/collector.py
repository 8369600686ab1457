"""An OpenTelemetry collector in memory: takes traces over OTLP, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


class Collector(TraceServiceServicer):
    """What it was sent; `address` is where."""

    def __init__(self) -> None:
        self.address = ""
        self.resources: list[Any] = []
        self._spans: list[Any] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  # the protocol's name
        """Keep what comes."""
        with self._lock:
            for each in request.resource_spans:
                self.resources.append(each.resource)
                self._spans += [span for scope in each.scope_spans for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Any]:
        """All spans so far."""
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Any]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Any:
        """The only span of this name."""
        (span,) = self.named(name)
        return span


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(collector, server)
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
