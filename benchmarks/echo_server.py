"""An echo: parses a PackRequest and sends a prepared answer of the right size. What gRPC alone costs.

Run by benchmarks.service, in a process of its own as the real server is.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
import numpy as np

from benchmarks.workload import NUM_LAYERS, NUM_REPLICAS
from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceServicer, add_PlacementServiceServicer_to_server
from trimtab_server.server import grpc_options


class Echo(PlacementServiceServicer):
    """Answers every Pack with the same bytes."""

    def __init__(self) -> None:
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
        """The prepared answer."""
        return self._answer


async def main() -> None:
    """Serve on a free port, say which, until the pipe on standard input closes."""
    server = grpc.aio.server(options=grpc_options(64 << 20))
    add_PlacementServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
