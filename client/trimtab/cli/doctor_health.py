"""grpc.health.v1, which probes and balancers ask: whether the server is alive, and whether it is ready."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from trimtab import channel
from trimtab.cli.doctor_findings import Finding, ok, plain, warning, wrong
from trimtab.credentials import Credentials

_METHOD = "/grpc.health.v1.Health/Check"
_SERVICE = "trimtab.v1.PlacementService"
_SERVING = 1
_STATES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CLOSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def check_health(target: str, secure: dict[str, Any], timeout: float) -> Finding:
    """What the server says of itself as a whole, and of the service; `secure` as `Client` takes it.

    The messages of that contract are a string and a number, field 1 each: those of protobuf's own wrappers.
    """
    credentials = Credentials(target, **secure)
    options = [*channel.channel_options(channel.MAX_MESSAGE_BYTES), *credentials.channel_options]
    encrypted = credentials.channel_credentials
    connection = (
        grpc.secure_channel(target, encrypted, options) if encrypted else grpc.insecure_channel(target, options)
    )
    with connection:
        ask = connection.unary_unary(_METHOD, StringValue.SerializeToString, Int32Value.FromString)
        try:
            alive, ready = (
                ask(StringValue(value=name), timeout=timeout, metadata=credentials.metadata()).value
                for name in ("", _SERVICE)
            )
        except grpc.RpcError as error:
            return _refused(error)
    if alive != _SERVING:
        return wrong("health", f"as a whole it says {_state(alive)}: its solver is stuck", "have it started again")
    if ready != _SERVING:
        advice = "it warms up, drains or has lost its GPU: its log and the page of its HTTP port tell which"
        return wrong("health", f"alive, but not ready: {_SERVICE} is {_state(ready)}", advice)
    return ok("health", "alive and ready")


def _state(number: int) -> str:
    return _STATES[number] if 0 <= number < len(_STATES) else str(number)


def _refused(error: Any) -> Finding:
    code = error.code()
    if code in _CLOSED:
        advice = "probes by gRPC need a token or certificate too: --no-open-health is set, or a proxy asks for one"
        return warning("health", f"closed to you ({code.name})", advice)
    advice = "probes by gRPC will fail: is the server behind a proxy that passes on one service alone?"
    return warning("health", f"no answer ({code.name}: {plain(error.details() or '')})", advice)
