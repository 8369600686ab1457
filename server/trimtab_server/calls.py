"""Around every call: who calls (`access` decides), counting, timing, logging, errors to statuses. The one interceptor.

The request of a call is received in here and not by gRPC, which would do it before anybody has asked who calls: of a
stranger's request nothing is read, and nobody can hold a call open by never sending one. On the wire a method that
takes a stream of one message is a method that takes one message.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health

from trimtab.errors import (
    TABLE,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    TrimtabError,
    UnauthenticatedError,
    to_status,
)
from trimtab_server.access import Access, Metadata, caller_name
from trimtab_server.logs import where
from trimtab_server.metrics import Metrics
from trimtab_server.tracing import Tracer, call_trace

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_cancelled, _expired = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED
_OURS = "/trimtab.v1."  # health and reflection are counted by nobody: probes would drown the callers
_COUNTED_HERE = (InvalidArgumentError, UnauthenticatedError, PermissionDeniedError)  # the batcher counts its own
_NOT_SERVED = {f"/{health.SERVICE_NAME}/List"}
"""Which the library for health declares and does not have."""

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each call of the placement service, and lets none but callers ask for health and reflection."""

    def __init__(self, metrics: Metrics, access: Access, tracer: Tracer, receive_timeout: float) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._access = access
        self._receive_timeout = receive_timeout
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """The handler, wrapped."""
        path = details.method
        if path not in self._wrapped:
            handler = await continuation(details)
            if handler is None or path in _NOT_SERVED:
                return None
            self._wrapped[path] = self._wrap(handler, *path[1:].split("/", 1))
        return self._wrapped[path]

    def _wrap(self, handler: Any, service: str, method: str) -> Any:
        if f"/{service}".startswith(_OURS):
            return grpc.stream_unary_rpc_method_handler(self._placing(handler, service, method))
        is_open = self._access.is_health_open if service == health.SERVICE_NAME else self._access.is_open
        return self._watching(handler, is_open=is_open)

    def _count(self, service: str, method: str, code: str, seconds: float, caller: str) -> None:
        trace = call_trace.get()
        trace_id = trace.trace_id if trace else None
        self._metrics.called(service, method, caller, code, seconds=seconds, trace_id=trace_id)
        log.info("call", code=code, seconds=round(seconds, 6))
        if trace is not None:
            self._tracer.end(trace, f"{service}/{method}", code, caller=caller, seconds=seconds)

    def _placing(self, handler: Any, service: str, method: str) -> Handler:
        """A method of the placement service."""
        started = self._metrics.started.labels(service, method)

        async def call(_: Any, context: Context) -> bytes | None:
            begin = time.perf_counter()
            started.inc()
            metadata: Any = context.invocation_metadata() or ()  # once: gRPC builds it anew each time
            request_id = _request_id(metadata)
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=request_id, method=method)
            code, name = grpc.StatusCode.OK.name, ""
            try:
                caller = self._access.identify(context, metadata)
                name = caller.name
                caller_name.set(name)
                self._begin_trace(metadata)  # not before: strangers leave no traces
                structlog.contextvars.bind_contextvars(caller=name)
                caller.check(method)
                answer = await handler.unary_unary(await self._receive(handler, context), context)
                return handler.response_serializer(answer)  # type: ignore[no-any-return]
            except asyncio.CancelledError:
                code = (_expired if _is_past(context) else _cancelled).name
                raise
            except Exception as caught:  # noqa: BLE001  # nothing of the inside may reach a caller
                error = _domain_error(caught, request_id)
                code = TABLE[type(error)].name
                if isinstance(error, _COUNTED_HERE):
                    self._metrics.rejected(error.reason)
                await context.abort_with_status(to_status(error))
                return None
            finally:
                seconds = time.perf_counter() - begin
                # once the answer is on its way: the caller need not wait for our books
                asyncio.get_running_loop().call_soon(self._count, service, method, code, seconds, name)

        return call

    def _begin_trace(self, metadata: Any) -> None:
        trace = self._tracer.begin(metadata)
        call_trace.set(trace if trace is not None and trace.is_recorded else None)
        if trace is not None:
            structlog.contextvars.bind_contextvars(trace_id=trace.trace_id)

    def _watching(self, handler: Any, *, is_open: bool) -> Any:
        """A method of health or reflection."""
        if handler.unary_unary:
            one = partial(self._one_answer, handler, is_open)
            return grpc.stream_unary_rpc_method_handler(one, None, handler.response_serializer)
        if handler.unary_stream:
            many = partial(self._many_answers, handler, is_open)
            return grpc.stream_stream_rpc_method_handler(many, None, handler.response_serializer)
        if is_open:
            return handler
        talk = partial(self._to_and_fro, handler)
        return grpc.stream_stream_rpc_method_handler(talk, handler.request_deserializer, handler.response_serializer)

    async def _one_answer(self, handler: Any, is_open: bool, _: Any, context: Context) -> Any:
        return await handler.unary_unary(await self._admitted(handler, is_open, context), context)

    async def _many_answers(self, handler: Any, is_open: bool, _: Any, context: Context) -> None:
        await handler.unary_stream(await self._admitted(handler, is_open, context), context)

    async def _to_and_fro(self, handler: Any, requests: Any, context: Context) -> None:
        await self._admit(context)
        async for answer in handler.stream_stream(requests, context):
            await context.write(answer)

    async def _admitted(self, handler: Any, is_open: bool, context: Context) -> Any:
        """The request of someone who may ask."""
        if not is_open:
            await self._admit(context)
        try:
            return await self._receive(handler, context)
        except TrimtabError as error:
            await context.abort_with_status(to_status(error))

    async def _admit(self, context: Context) -> None:
        try:
            metadata: Any = context.invocation_metadata() or ()
            self._access.identify(context, metadata)
        except UnauthenticatedError as error:
            self._metrics.rejected(error.reason)
            await context.abort_with_status(to_status(error))

    async def _read_in_time(self, context: Context) -> Any:
        """What `asyncio.wait_for` would return; it would make a task for it, a tenth of what a refused call costs."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs has one
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            task.cancel()

        timer = asyncio.get_running_loop().call_later(self._receive_timeout, give_up)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if not late:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            rule = f"the request did not arrive within this server's receive_timeout = {self._receive_timeout:g} s"
            error = DeadlineExceededError(rule, reason="not_received")
            self._metrics.rejected(error.reason)
            raise error from None
        finally:
            timer.cancel()

    async def _receive(self, handler: Any, context: Context) -> Any:
        """The one message of a call; whatever comes after it is not read.

        Raises:
            DeadlineExceededError: it did not come in time.
            InvalidArgumentError: none came, or not one of this method.
        """
        raw: Any = await self._read_in_time(context)
        if raw is grpc.aio.EOF:
            raise InvalidArgumentError.of("request", "must be one message, none was sent")
        try:
            return handler.request_deserializer(raw)
        except DecodeError:
            raise InvalidArgumentError.of("request", f"{len(raw)} bytes are not a message of this method") from None


def _is_past(context: Context) -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def _request_id(metadata: Metadata) -> str:
    given = next((value for key, value in metadata if key == "x-request-id"), None)
    return given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]


def _domain_error(caught: Exception, request_id: str) -> TrimtabError:
    if isinstance(caught, TrimtabError):
        return caught
    # Where, and not what: messages of libraries and lines of tracebacks can hold loads or secrets
    log.error("call failed", error_type=type(caught).__name__, where=where(caught))
    return InternalError(f"unexpected error; the server's log has it under request id {request_id}")
