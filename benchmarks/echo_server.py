"""An echo: parses a PackRequest and sends a prepared answer of the right size. What gRPC alone costs.

Run by benchmarks.service, in a process of its own as the real server is. With a pause in seconds as its argument it
first hands the call to a thread that sleeps: what is over the pause then is what a machine takes to wake up again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import numpy as np

from benchmarks.workload import NUM_LAYERS, NUM_REPLICAS
from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceServicer, add_PlacementServiceServicer_to_server
from trimtab_server.connections import grpc_options
from trimtab_server.settings import Settings


class Echo(PlacementServiceServicer):
    """Answers every Pack with the same bytes."""

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self._thread = ThreadPoolExecutor(1)
        ids = wire.encode(np.zeros((NUM_LAYERS, NUM_REPLICAS), np.int16))
        figures = [1.0] * NUM_LAYERS
        packing = pb.Packing(
            pack_index=ids,
            rank_in_pack=ids,
            max_load=figures,
            mean_load=figures,
            lower_bound=figures,
            winning_restart=[1] * NUM_LAYERS,
        )
        self._answer = pb.PackResponse(packing=packing)

    async def Pack(self, request: pb.PackRequest, context: Any) -> pb.PackResponse:  # noqa: ARG002, N802
        """The prepared answer, after the pause."""
        if self._pause:
            await asyncio.get_running_loop().run_in_executor(self._thread, time.sleep, self._pause)
        return self._answer


async def main(pause: float) -> None:
    """Serve on a free port, say which, until the pipe on standard input closes."""
    server = grpc.aio.server(options=grpc_options(Settings()))
    add_PlacementServiceServicer_to_server(Echo(pause), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
