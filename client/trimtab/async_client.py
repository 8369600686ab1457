"""`AsyncClient` awaits: the same methods, options and errors as `Client`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11 on

from trimtab import channel
from trimtab.answers import Description, Packing, Placement, read_description, read_packing, read_placement
from trimtab.client import Caller, Request, local_stub
from trimtab.errors import from_rpc_error
from trimtab.requests import HierarchyName, PriorityName, pack_request, rebalance_request
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub


class AsyncClient(Caller):
    """A client that awaits; make it and use it inside one event loop."""

    def __init__(self, target: str = channel.DEFAULT_TARGET, **settings: Any) -> None:
        super().__init__(target, **settings)
        self._channel: grpc.aio.Channel | None = None
        if target == channel.LOCAL:
            self._stub = local_stub()
        else:
            secure = self._credentials.channel_credentials
            self._channel = (
                grpc.aio.secure_channel(target, secure, self._options)
                if secure
                else grpc.aio.insecure_channel(target, self._options)
            )
            self._stub = PlacementServiceStub(self._channel)

    __init__.__doc__ = Caller.__init__.__doc__

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
        priority: PriorityName = "normal",
        timeout: float | None = None,
    ) -> Packing:
        """As `Client.pack`."""
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
        return read_packing(await self._call(self._stub.Pack, request, timeout))

    async def rebalance(
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
        """As `Client.rebalance`."""
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
        return read_placement(await self._call(self._stub.Rebalance, request, timeout), request.load.shape[-1])

    async def describe(self, *, timeout: float | None = None) -> Description:
        """As `Client.describe`."""
        return read_description(await self._call(self._stub.Describe, pb.DescribeRequest(), timeout))

    async def _call(self, method: Any, request: Request, timeout: float | None) -> Any:
        arguments = self.call_arguments(request, timeout)
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
