"""Around every call: counting, timing, logging, errors to statuses. The one interceptor; it decides nothing."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from trimtab.errors import TABLE, InternalError, InvalidArgumentError, TrimtabError, to_status
from trimtab_server.metrics import Metrics

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_cancelled, _expired = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED
_OURS = "/trimtab.v1."  # health and reflection are counted by nobody: probes would drown the callers

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each unary call of the placement service."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """The handler, wrapped where it is ours."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith(_OURS):
            return handler
        service, method = details.method[1:].split("/", 1)
        return grpc.unary_unary_rpc_method_handler(self._wrapped(handler, service, method))

    def _count(self, service: str, method: str, code: str, seconds: float) -> None:
        self._metrics.handled.labels(service, method, code).inc()
        self._metrics.handling.labels(service, method).observe(seconds)
        log.info("call", code=code, seconds=round(seconds, 6))

    def _wrapped(self, handler: Any, service: str, method: str) -> Handler:
        started = self._metrics.started.labels(service, method)

        async def call(raw: bytes, context: Context) -> bytes | None:
            begin = time.perf_counter()
            started.inc()
            request_id = _request_id(context)
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=request_id, method=method)
            code = grpc.StatusCode.OK.name
            try:
                return handler.response_serializer(await handler.unary_unary(_parse(handler, raw), context))  # type: ignore[no-any-return]
            except asyncio.CancelledError:
                code = (_expired if _is_past(context) else _cancelled).name
                raise
            except Exception as caught:  # noqa: BLE001  # nothing of the inside may reach a caller
                error = _domain_error(caught, request_id)
                code = TABLE[type(error)].name
                if isinstance(error, InvalidArgumentError):
                    self._metrics.rejected(error.reason)
                await context.abort_with_status(to_status(error))
                return None
            finally:
                seconds = time.perf_counter() - begin
                # once the answer is on its way: the caller need not wait for our books
                asyncio.get_running_loop().call_soon(self._count, service, method, code, seconds)

        return call


def _is_past(context: Context) -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def _parse(handler: Any, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        raise InvalidArgumentError.of("request", f"{len(raw)} bytes are not a message of this method") from None


def _request_id(context: Context) -> str:
    given = dict(context.invocation_metadata() or ()).get("x-request-id")
    return given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]


def _domain_error(caught: Exception, request_id: str) -> TrimtabError:
    if isinstance(caught, TrimtabError):
        return caught
    log.error("call failed", error_type=type(caught).__name__, exc_info=caught)
    return InternalError(f"unexpected error; the server's log has it under request id {request_id}")
