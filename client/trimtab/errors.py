"""The errors of this domain, and the one table between them and gRPC statuses; both sides use it.

The server raises a class of this module and `to_status` puts it on the wire; the client gets the RPC error and
`from_rpc_error` raises the same class again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message


@dataclass(frozen=True)
class Violation:
    """One broken rule: the field, as `weight.shape`, and the rule with the numbers that broke it."""

    field: str
    description: str


class TrimtabError(Exception):
    """Anything that a call can end with instead of an answer."""

    reason = "error"
    """What metrics count it as."""


class InvalidArgumentError(TrimtabError):
    """The request breaks a rule; sending it again cannot help. `violations` says which fields and why."""

    reason = "invalid"

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgumentError:
        """The error of one field."""
        return cls([Violation(field, description)])


class OverloadedError(TrimtabError):
    """The queue is full; `retry_after_seconds` is the server's measured guess of when there is room."""

    reason = "overloaded"

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class DeadlineExceededError(TrimtabError):
    """The deadline ran out before the answer was ready, or was found too short for a solve."""

    reason = "expired"

    def __init__(self, message: str, *, reason: str = "expired") -> None:
        self.reason = reason
        super().__init__(message)


class UnavailableError(TrimtabError):
    """The server is not there, or is draining; another one, or a later try, may answer."""

    reason = "unavailable"


class UnauthenticatedError(TrimtabError):
    """The server does not know who asks."""

    reason = "unauthenticated"


class PermissionDeniedError(TrimtabError):
    """The server knows who asks, and does not allow it."""

    reason = "denied"


class CancelledError(TrimtabError):
    """The call was cancelled, by its caller or by a closed channel."""

    reason = "cancelled"


class InternalError(TrimtabError):
    """Something unexpected; the id in the message finds the cause in the server's log."""

    reason = "internal"


class UnexpectedStatusError(TrimtabError):
    """A gRPC status that trimtab never sends (from a proxy, or another service); `code` is that status."""

    reason = "unexpected"

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        self.code = code
        super().__init__(message)


TABLE: dict[type[TrimtabError], grpc.StatusCode] = {
    InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    CancelledError: grpc.StatusCode.CANCELLED,
    InternalError: grpc.StatusCode.INTERNAL,
    UnexpectedStatusError: grpc.StatusCode.UNKNOWN,
}
_BY_CODE = {code: error for error, code in TABLE.items() if error is not UnexpectedStatusError}


def _detail(error: TrimtabError) -> Message | None:
    if isinstance(error, InvalidArgumentError):
        detail: Message = error_details_pb2.BadRequest(
            field_violations=[{"field": v.field, "description": v.description} for v in error.violations]
        )
        return detail
    if isinstance(error, OverloadedError) and error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        info: Message = error_details_pb2.RetryInfo(retry_delay=delay)
        return info
    return None


def to_status(error: TrimtabError) -> grpc.Status:
    """The gRPC status of an error, with BadRequest or RetryInfo where it has one.

    An overload also carries `grpc-retry-pushback-ms`, the form of RetryInfo that gRPC's own retries honour.
    """
    status = status_pb2.Status(code=code_pb2.Code.Value(TABLE[type(error)].name), message=str(error))
    detail = _detail(error)
    if detail is not None:
        status.details.add().Pack(detail)
    rich = rpc_status.to_status(status)
    if isinstance(error, OverloadedError) and error.retry_after_seconds is not None:
        pushback = ("grpc-retry-pushback-ms", str(round(error.retry_after_seconds * 1000)))
        return rich._replace(trailing_metadata=(*rich.trailing_metadata, pushback))  # type: ignore[attr-defined, no-any-return]  # a named tuple
    return rich


def _rich_status(call: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(call)  # type: ignore[arg-type]  # a failed call is both
    except (
        ValueError,
        TypeError,
        DecodeError,
    ):  # details that contradict the status, or that do not parse: the status stands
        return None


def _violations(status: status_pb2.Status | None) -> list[Violation]:
    found: list[Violation] = []
    for packed in status.details if status else ():
        detail = error_details_pb2.BadRequest()
        if packed.Unpack(detail):
            found += [Violation(v.field, v.description) for v in detail.field_violations]
    return found


def _retry_after(status: status_pb2.Status | None) -> float | None:
    for packed in status.details if status else ():
        info = error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None


def from_rpc_error(call: grpc.RpcError) -> TrimtabError:
    """The domain error of a failed RPC: the class that the server raised, with what it carried."""
    code, message = call.code(), call.details() or ""
    kind = _BY_CODE.get(code)
    if kind is None:
        return UnexpectedStatusError(f"{code.name}: {message}", code)
    if kind is InvalidArgumentError:
        return InvalidArgumentError(_violations(_rich_status(call)) or [Violation("request", message)])
    if kind is OverloadedError:
        if "larger than max" in message:  # gRPC's own word for a message over a limit; no retry can help
            return InvalidArgumentError.of("request", message)
        return OverloadedError(message, _retry_after(_rich_status(call)))
    return kind(message)
