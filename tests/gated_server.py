"""A real server in the test's own event loop, its solver in the test's hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np

from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.clock import Clock
from trimtab_server.server import Server
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.problem import Packer, PackResult, PackTask

FREE: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
WEIGHT = np.random.default_rng(0).lognormal(0, 1, (5, 24)).astype(np.float32)


class GatedPacker:
    """The CPU packer, held back until the test lets it go; breaks on rows that begin with the guilty weight."""

    GUILTY = 12345.0
    name = device = "cpu"

    def __init__(self) -> None:
        self._packer = CpuPacker(threads=1)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def memory_bytes(self) -> int:
        return 0

    def pack(self, task: PackTask) -> PackResult:
        self.begun.release()
        assert self.gate.wait(60)
        if (task.whole[:, 0] == task.whole[:, 1:].sum(axis=1) * self.GUILTY).any():
            raise RuntimeError("secret of the inside")
        return self._packer.pack(task)

    def hold(self) -> None:
        """Keep whatever comes from now on."""
        self.gate.clear()
        self.begun = threading.Semaphore(0)

    async def wait_begun(self) -> None:
        """Until a batch is in the packer's hands."""
        await asyncio.to_thread(self.begun.acquire)


@asynccontextmanager
async def started(packer: Packer, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Server]:
    """A server in this event loop, on free ports."""
    server = Server(Settings(**{**FREE, "drain_grace": 5.0, **settings}), packer=packer, clock=clock)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def serving(clock: Clock | None = None, **settings: Any) -> AsyncIterator[tuple[Server, GatedPacker]]:
    """The same, its solver in the test's hand."""
    packer = GatedPacker()
    async with started(packer, clock, **settings) as server:
        await packer.wait_begun()  # the warm-up
        try:
            yield server, packer
        finally:
            packer.gate.set()


def request(weight: Any = WEIGHT, num_packs: int = 4, **options: Any) -> pb.PackRequest:
    return pb.PackRequest(
        weight=wire.encode(np.asarray(weight)), num_packs=num_packs, options=pb.PackOptions(**options)
    )


def bare_stub(server: Server) -> tuple[grpc.aio.Channel, PlacementServiceStub]:
    """A stub without the client's retries."""
    channel = grpc.aio.insecure_channel(server.address)
    return channel, PlacementServiceStub(channel)


async def running_and_waiting(
    server: Server, packer: GatedPacker, stub: PlacementServiceStub
) -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
    """Two calls: the packer holds the first, and the other waits in the queue."""
    packer.hold()
    running = asyncio.ensure_future(stub.Pack(request()))
    await packer.wait_begun()
    waiting = asyncio.ensure_future(stub.Pack(request()))
    await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == len(WEIGHT))
    return running, waiting


async def settled(condition: Callable[[], bool]) -> None:
    """Until a condition of the server holds; bounded."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("did not come about in 10 s")


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does; bounded."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not come about in 30 s")
