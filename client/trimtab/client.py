"""The clients: `Client` blocks, `AsyncClient` awaits; the same methods, options and errors."""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import TYPE_CHECKING, Any, Literal, Protocol

import grpc
import grpc.aio

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11 on

from trimtab import channel, wire
from trimtab.answers import Description, Packing, read_description, read_packing
from trimtab.errors import InvalidArgumentError, TrimtabError, from_rpc_error
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub

Priority = Literal["normal", "low"]
LOCAL = "local"
_CALLER = re.compile(r"[ -~]{1,128}")
_MAX_TIMEOUT_SECONDS = 86_400
_PRIORITIES = {"normal": pb.PRIORITY_UNSPECIFIED, "low": pb.PRIORITY_LOW}


class _Request(Protocol):
    def ByteSize(self) -> int: ...  # noqa: N802  # protobuf's name


def _pack_request(weight: Any, num_packs: int, priority: Priority, **options: Any) -> pb.PackRequest:
    if priority not in _PRIORITIES:
        raise InvalidArgumentError.of("priority", f"must be one of {', '.join(_PRIORITIES)}, got {priority!r}")
    request = pb.PackRequest(weight=wire.encode(wire.to_array(weight, "weight")), priority=_PRIORITIES[priority])
    _set(request, "num_packs", num_packs)
    for name, value in options.items():
        if value is not None:
            _set(request.options, name, value)
    return request


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError) as error:  # a number that the field cannot hold, in protobuf's words
        raise InvalidArgumentError.of(name, f"{value!r} does not fit: {error}") from None


def _check_timeout(timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or not timeout <= _MAX_TIMEOUT_SECONDS:  # false for nan too
        raise InvalidArgumentError.of("timeout", f"must be seconds, at most {_MAX_TIMEOUT_SECONDS}, got {timeout!r}")
    return timeout


class _Caller:
    """What both clients share: the settings of every call, and the checks before it."""

    def __init__(
        self,
        target: str = channel.DEFAULT_TARGET,
        *,
        timeout: float = channel.DEFAULT_TIMEOUT_SECONDS,
        caller: str | None = None,
        wait_for_ready: bool = False,
        max_message_bytes: int = channel.MAX_MESSAGE_BYTES,
    ) -> None:
        """Reach a server; the connection is made by the first call.

        Args:
            target: `host:port`, a gRPC name such as `dns:///placement:50051`, or `local` to solve in this process.
            timeout: seconds that a call may take, retries included, where the call itself says nothing.
            caller: the name to be known by; servers share their time fairly between callers.
            wait_for_ready: wait for a server until the timeout, rather than fail after the retries.
            max_message_bytes: the largest request sent and answer taken.
        """
        if not isinstance(target, str) or not target:
            raise InvalidArgumentError.of("target", f"must be HOST:PORT, a gRPC name or {LOCAL!r}, got {target!r}")
        if caller is not None and not _CALLER.fullmatch(caller):
            raise InvalidArgumentError.of("caller", f"must be 1 to 128 printable ASCII characters, got {caller!r}")
        _check_timeout(timeout)
        self._target = target
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready
        self._max_message_bytes = max_message_bytes
        self._metadata = (("x-trimtab-caller", caller),) if caller else ()
        self._options = channel.channel_options(max_message_bytes)

    def _call_arguments(self, request: _Request, timeout: float | None) -> dict[str, Any]:
        size = request.ByteSize()
        if size > self._max_message_bytes:
            rule = f"must be at most max_message_bytes = {self._max_message_bytes} bytes, is {size}"
            raise InvalidArgumentError.of("request", f"{rule}; send the layers in several requests")
        timeout = self._timeout if timeout is None else _check_timeout(timeout)
        return {"timeout": timeout, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}


def _local_stub() -> Any:
    try:
        return importlib.import_module("trimtab_server.local").LocalStub()
    except ImportError as error:
        raise TrimtabError(
            f"target 'local' needs the server's parts in this process ({error}): pip install 'trimtab[server]'"
        ) from error


class Client(_Caller):
    """A client that blocks; safe to share between threads. Use it as a context manager, or call `close`."""

    def __init__(self, target: str = channel.DEFAULT_TARGET, **settings: Any) -> None:
        super().__init__(target, **settings)
        self._channel: grpc.Channel | None = None
        if target == LOCAL:
            self._stub = _local_stub()
        else:
            self._channel = grpc.insecure_channel(target, self._options)
            self._stub = PlacementServiceStub(self._channel)

    __init__.__doc__ = _Caller.__init__.__doc__

    def pack(
        self,
        weight: Any,
        num_packs: int,
        *,
        num_restarts: int | None = None,
        noise_min: float | None = None,
        noise_max: float | None = None,
        seed: int = 0,
        refine: bool | None = None,
        target_gap: float | None = None,
        priority: Priority = "normal",
        timeout: float | None = None,
    ) -> Packing:
        """Put the items of every layer into packs of equal item count, the heaviest as light as can be.

        Args:
            weight: [num_layers, num_items], numpy, torch or nested lists, finite and at least 0, in any unit.
            num_packs: packs per layer; divides num_items.
            num_restarts: orderings tried per layer; the server's default is 8.
            noise_min: noise of the second ordering, 0.01 by default.
            noise_max: noise of the last ordering, 0.15 by default.
            seed: chooses the noise; the same seed gives the same answer.
            refine: whether every restart is refined by swaps; true by default.
            target_gap: a gap to the lower bound that is good enough, where the search ends; 1e-4 by default.
            priority: `low` yields to normal requests.
            timeout: seconds; the client's own where not given.

        Raises:
            InvalidArgumentError: the request breaks a rule; names the field.
            OverloadedError: the server's queue stayed full through all retries.
            DeadlineExceededError: no answer within the timeout.
            UnavailableError: no server there.
        """
        request = _pack_request(
            weight,
            num_packs,
            priority,
            num_restarts=num_restarts,
            noise_min=noise_min,
            noise_max=noise_max,
            seed=seed,
            refine=refine,
            target_gap=target_gap,
        )
        return read_packing(self._call(self._stub.Pack, request, timeout))

    def describe(self, *, timeout: float | None = None) -> Description:
        """What the server is: version, algorithm, solvers and limits."""
        return read_description(self._call(self._stub.Describe, pb.DescribeRequest(), timeout))

    def _call(self, method: Any, request: _Request, timeout: float | None) -> Any:
        try:
            return method(request, **self._call_arguments(request, timeout))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Caller):
    """A client that awaits; make it and use it inside one event loop."""

    def __init__(self, target: str = channel.DEFAULT_TARGET, **settings: Any) -> None:
        super().__init__(target, **settings)
        self._channel: grpc.aio.Channel | None = None
        if target == LOCAL:
            self._stub = _local_stub()
        else:
            self._channel = grpc.aio.insecure_channel(target, self._options)
            self._stub = PlacementServiceStub(self._channel)

    __init__.__doc__ = _Caller.__init__.__doc__

    async def pack(
        self,
        weight: Any,
        num_packs: int,
        *,
        num_restarts: int | None = None,
        noise_min: float | None = None,
        noise_max: float | None = None,
        seed: int = 0,
        refine: bool | None = None,
        target_gap: float | None = None,
        priority: Priority = "normal",
        timeout: float | None = None,
    ) -> Packing:
        """As `Client.pack`."""
        request = _pack_request(
            weight,
            num_packs,
            priority,
            num_restarts=num_restarts,
            noise_min=noise_min,
            noise_max=noise_max,
            seed=seed,
            refine=refine,
            target_gap=target_gap,
        )
        return read_packing(await self._call(self._stub.Pack, request, timeout))

    async def describe(self, *, timeout: float | None = None) -> Description:
        """As `Client.describe`."""
        return read_description(await self._call(self._stub.Describe, pb.DescribeRequest(), timeout))

    async def _call(self, method: Any, request: _Request, timeout: float | None) -> Any:
        arguments = self._call_arguments(request, timeout)
        if self._channel is None:
            return await asyncio.to_thread(method, request, **arguments)
        try:
            return await method(request, **arguments)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    async def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
