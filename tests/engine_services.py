"""Placement services that behave as none should: too late, or wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np

from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceServicer, add_PlacementServiceServicer_to_server

Answer = Callable[[pb.RebalanceRequest], pb.RebalanceResponse]


@contextmanager
def answering(answer: Answer, address: str = "127.0.0.1:0") -> Iterator[str]:
    """The address of a service that answers every Rebalance so; one of its own where none is given."""

    class Service(PlacementServiceServicer):
        def Rebalance(self, request: pb.RebalanceRequest, context: grpc.ServicerContext) -> pb.RebalanceResponse:  # noqa: ARG002, N802  # gRPC's
            return answer(request)

    server = grpc.server(ThreadPoolExecutor(2))
    add_PlacementServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def answering_late() -> Iterator[str]:
    """The address of a service that answers when the test is over."""
    over = threading.Event()

    def wait(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
        over.wait()
        return placed(round_robin(request))

    with answering(wait) as address:
        try:
            yield address
        finally:
            over.set()


def placed(slots: np.ndarray) -> pb.RebalanceResponse:
    """The answer that places experts so."""
    return pb.RebalanceResponse(placement=pb.Placement(physical_to_logical=wire.encode(slots.astype(np.int32))))


def round_robin(request: pb.RebalanceRequest) -> np.ndarray:
    """A placement that could be taken."""
    num_layers, num_experts = request.load.shape
    return np.tile(np.arange(request.num_replicas) % num_experts, (num_layers, 1))


def _without_expert_0(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
    slots = round_robin(request)
    return placed(np.where(slots == 0, 1, slots))


def _beyond_experts(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
    return placed(round_robin(request) + 1)


def _empty_slot(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
    slots = round_robin(request)
    slots[0, -1] = -1
    return placed(slots)


def _layer_too_few(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
    return placed(round_robin(request)[1:])


def _bytes_too_few(request: pb.RebalanceRequest) -> pb.RebalanceResponse:
    response = placed(round_robin(request))
    response.placement.physical_to_logical.data = b"\0" * 3
    return response


GARBAGE: dict[str, Answer] = {
    "nothing": lambda _: pb.RebalanceResponse(),
    "an expert without a slot": _without_expert_0,
    "experts that there are not": _beyond_experts,
    "an empty slot": _empty_slot,
    "a layer too few": _layer_too_few,
    "bytes too few": _bytes_too_few,
}
