"""`Client` blocks; what it shares with `AsyncClient` stands here too."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import grpc

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11 on

from trimtab import channel
from trimtab.answers import Description, Packing, Placement, read_description, read_packing, read_placement
from trimtab.credentials import Credentials, Pem, Token
from trimtab.errors import InvalidArgumentError, TrimtabError, from_rpc_error
from trimtab.requests import HierarchyName, PriorityName, pack_request, rebalance_request
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub

_CALLER = re.compile(r"[ -~]{1,128}")
_MAX_TIMEOUT_SECONDS = 86_400


class Request(Protocol):
    """A message of the contract."""

    def ByteSize(self) -> int:  # noqa: N802  # protobuf's name
        """Its size on the wire."""
        ...


def _check_timeout(timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or not timeout <= _MAX_TIMEOUT_SECONDS:  # false for nan too
        raise InvalidArgumentError.of("timeout", f"must be seconds, at most {_MAX_TIMEOUT_SECONDS}, got {timeout!r}")
    return timeout


class Caller:
    """What both clients share: the settings of every call, and the checks before it."""

    def __init__(
        self,
        target: str = channel.DEFAULT_TARGET,
        *,
        tls: bool = False,
        ca: Pem | None = None,
        cert: Pem | None = None,
        key: Pem | None = None,
        server_name: str | None = None,
        token: Token | None = None,
        timeout: float = channel.DEFAULT_TIMEOUT_SECONDS,
        caller: str | None = None,
        wait_for_ready: bool = False,
        max_message_bytes: int = channel.MAX_MESSAGE_BYTES,
    ) -> None:
        """Reach a server; the connection is made by the first call.

        Args:
            target: `host:port`, a gRPC name such as `dns:///placement:50051`, or `local` to solve in this process.
            tls: encrypt, and trust servers whose certificate gRPC's own list of authorities can vouch for.
            ca: certificates (a path, or PEM bytes) to trust instead; means tls=True.
            cert, key: the client's own certificate and key (likewise), where the server asks for one; mean tls=True.
            server_name: what its certificate must say where the target does not, as with several addresses; likewise.
            token: proves who calls, where the server wants a token: the token, or what to call for it at each call.
            timeout: seconds that a call may take, retries included, where the call itself says nothing.
            caller: the name to be known by, where no token or certificate tells it; time is shared fairly by caller.
            wait_for_ready: wait for a server until the timeout, rather than fail after the retries.
            max_message_bytes: the largest request sent and answer taken.
        """
        if not isinstance(target, str) or not target:
            raise InvalidArgumentError.of(
                "target", f"must be HOST:PORT, a gRPC name or {channel.LOCAL!r}, got {target!r}"
            )
        if caller is not None and not _CALLER.fullmatch(caller):
            raise InvalidArgumentError.of("caller", f"must be 1 to 128 printable ASCII characters, got {caller!r}")
        _check_timeout(timeout)
        self._target = target
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready
        self._max_message_bytes = max_message_bytes
        self._metadata = (("x-trimtab-caller", caller),) if caller else ()
        self._credentials = Credentials(
            target, tls=tls, ca=ca, cert=cert, key=key, server_name=server_name, token=token
        )
        self._options = [*channel.channel_options(max_message_bytes), *self._credentials.channel_options]

    def call_arguments(self, request: Request, timeout: float | None) -> dict[str, Any]:
        """What a stub's method takes beside the request.

        Raises:
            InvalidArgumentError: the request is too large, the timeout no timeout, or the token no token.
        """
        size = request.ByteSize()
        if size > self._max_message_bytes:
            rule = f"must be at most max_message_bytes = {self._max_message_bytes} bytes, is {size}"
            raise InvalidArgumentError.of("request", f"{rule}; send the layers in several requests")
        timeout = self._timeout if timeout is None else _check_timeout(timeout)
        metadata = (*self._metadata, *self._credentials.metadata())
        return {"timeout": timeout, "metadata": metadata, "wait_for_ready": self._wait_for_ready}


def local_stub() -> Any:
    """What solves in this process.

    Raises:
        TrimtabError: the server's parts are not installed.
    """
    try:
        return importlib.import_module("trimtab_server.local").LocalStub()
    except ImportError as error:
        raise TrimtabError(
            f"target 'local' needs the server's parts in this process ({error}): pip install 'trimtab[server]'"
        ) from error


class Client(Caller):
    """A client that blocks; safe to share between threads. Use it as a context manager, or call `close`."""

    def __init__(self, target: str = channel.DEFAULT_TARGET, **settings: Any) -> None:
        super().__init__(target, **settings)
        self._channel: grpc.Channel | None = None
        if target == channel.LOCAL:
            self._stub = local_stub()
        else:
            secure = self._credentials.channel_credentials
            self._channel = (
                grpc.secure_channel(target, secure, self._options)
                if secure
                else grpc.insecure_channel(target, self._options)
            )
            self._stub = PlacementServiceStub(self._channel)

    __init__.__doc__ = Caller.__init__.__doc__

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
        priority: PriorityName = "normal",
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
        request = pack_request(
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

    def rebalance(
        self,
        load: Any,
        *,
        num_gpus: int,
        num_replicas: int,
        num_nodes: int = 1,
        num_groups: int = 1,
        hierarchy: HierarchyName = "automatic",
        previous: Any = None,
        max_moves: int | None = None,
        min_gain: float | None = None,
        inactive_gpus: Sequence[int] = (),
        gpu_speed: Sequence[float] | None = None,
        allow_duplicates: bool = False,
        num_restarts: int | None = None,
        noise_min: float | None = None,
        noise_max: float | None = None,
        seed: int = 0,
        refine: bool | None = None,
        target_gap: float | None = None,
        priority: PriorityName = "normal",
        timeout: float | None = None,
    ) -> Placement:
        """Place the experts of every layer on GPUs: from nothing, or from the placement in force with few moves.

        Args:
            load: [num_layers, num_experts], or [num_windows, num_layers, num_experts] with the latest window last;
                numpy, torch or nested lists, finite and at least 0, in any unit.
            num_gpus: GPUs of the cluster, inactive ones too.
            num_replicas: slots of a layer; a multiple of num_gpus, at least num_experts.
            num_nodes: nodes, of equally many consecutive GPUs.
            num_groups: groups, of equally many consecutive experts.
            hierarchy: whether groups stay together on a node: `global`, `hierarchical`, or `automatic`: where they can.
            previous: [num_layers, num_replicas], the expert of each slot now, -1 where it is empty.
            max_moves: most copies to move, over all layers; 0 only evaluates. By default as many as it takes.
            min_gain: a layer that would gain less balancedness keeps its placement.
            inactive_gpus: GPUs that are dead or leaving; their experts come back on the others.
            gpu_speed: [num_gpus], in any unit: one that is half as fast gets half the load.
            allow_duplicates: whether a GPU may hold an expert twice.
            num_restarts, noise_min, noise_max, seed, refine: how to pack what is placed from nothing, as in `pack`.
            target_gap: a gap to the bound that is good enough, where a search ends; 1e-4 by default.
            priority: `low` yields to normal requests.
            timeout: seconds; the client's own where not given.

        Raises:
            InvalidArgumentError: the request breaks a rule; names the field.
            OverloadedError: the server's queue stayed full through all retries.
            DeadlineExceededError: no answer within the timeout.
            UnavailableError: no server there.
        """
        request = rebalance_request(
            load,
            num_gpus=num_gpus,
            num_replicas=num_replicas,
            num_nodes=num_nodes,
            num_groups=num_groups,
            hierarchy=hierarchy,
            previous=previous,
            max_moves=max_moves,
            min_gain=min_gain,
            inactive_gpus=inactive_gpus,
            gpu_speed=gpu_speed,
            allow_duplicates=allow_duplicates,
            priority=priority,
            num_restarts=num_restarts,
            noise_min=noise_min,
            noise_max=noise_max,
            seed=seed,
            refine=refine,
            target_gap=target_gap,
        )
        return read_placement(self._call(self._stub.Rebalance, request, timeout), request.load.shape[-1])

    def describe(self, *, timeout: float | None = None) -> Description:
        """What the server is: version, algorithm, solvers and limits."""
        return read_description(self._call(self._stub.Describe, pb.DescribeRequest(), timeout))

    def _call(self, method: Any, request: Request, timeout: float | None) -> Any:
        try:
            return method(request, **self.call_arguments(request, timeout))
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
