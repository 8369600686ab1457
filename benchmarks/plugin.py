"""What the plug-in of an engine adds to a call of the service: a policy's call on real ranks, minus the client's own.

Run: python -m benchmarks.plugin [--rounds N] [--ranks N...]

58 layers, 256 experts in 288 slots of 32 GPUs, from a placement in force, 1,800 moves at most. The ranks are processes
of this machine in one gloo group; the first asks, all end with the placement. They ask a real server, and one that
answers at once with what it was given, beside which a millisecond can be seen. More ranks than processors wait for each
other's turn on one, which those of a cluster do not.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import torch

from benchmarks.measuring import Spread, machine, print_table, verdict
from benchmarks.workload import NUM_EXPERTS, NUM_LAYERS, NUM_REPLICAS
from benchmarks.workload import NUM_PACKS as NUM_GPUS
from trimtab import Client
from trimtab.cli.server_process import running_server
from trimtab.engines.balancer import Balancer
from trimtab.engines.settings import Settings
from trimtab.engines.vllm import trimtab_policy
from trimtab.requests import rebalance_request
from trimtab.synthetic import generate_loads
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub

RANKS = (2,)
MAX_MOVES = 1800
LOAD = torch.from_numpy(np.rint(generate_loads(NUM_LAYERS, NUM_EXPERTS, seed=0)).astype(np.int32))
HELD = torch.arange(NUM_REPLICAS).remainder(NUM_EXPERTS).repeat(NUM_LAYERS, 1)
_WARM = 3


class _Own:
    """In the place of vLLM's own policy, which is not called here."""

    @classmethod
    def rebalance_experts(cls, *_: Any) -> Any:
        return torch.zeros(1, 1)


def call_in_turn(target: str, group: Any, rounds: int) -> list[tuple[float, float]]:
    """Seconds of the client's call and of the policy's, on the rank that asks; the others take part in the latter."""
    balancer = Balancer(Settings("vLLM", target, timeout=60.0, max_moves=MAX_MOVES), logging.getLogger("benchmark"))
    policy = trimtab_policy(_Own, balancer, lambda: group)
    samples = []
    with Client(target) as client:
        for _ in range(_WARM + rounds):
            begin = time.perf_counter()
            if group.rank_in_group == 0:
                client.rebalance(LOAD, num_gpus=NUM_GPUS, num_replicas=NUM_REPLICAS, previous=HELD, max_moves=MAX_MOVES)
            between = time.perf_counter()
            policy.rebalance_experts(LOAD, NUM_REPLICAS, 1, 1, NUM_GPUS, HELD)
            samples.append((between - begin, time.perf_counter() - between))
    return samples[_WARM:]


def be_rank(rank: int, size: int, port: int, connection: Connection) -> None:
    """Take part in what is asked for, until the process that asks has ended."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, timedelta(seconds=600), world_size=size, rank=rank)
    group = SimpleNamespace(rank_in_group=rank, world_size=size, cpu_group=torch.distributed.group.WORLD)
    while True:
        target, rounds = connection.recv()
        connection.send(call_in_turn(target, group, rounds))


class Ranks:
    """Processes in one group, forked before anything has been started that a fork must not inherit."""

    def __init__(self, size: int) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        context = multiprocessing.get_context("fork")
        pipes = [context.Pipe() for _ in range(size)]
        self._connections = [mine for mine, _ in pipes]
        for rank, (_, its) in enumerate(pipes):
            context.Process(target=be_rank, args=(rank, size, port, its), daemon=True).start()

    def measure(self, target: str, rounds: int) -> list[tuple[float, float]]:
        """Seconds of the client's call and of the policy's, on the rank that asks."""
        for connection in self._connections:
            connection.send((target, rounds))
        asking, *_ = [connection.recv() for connection in self._connections]
        return [(float(client), float(policy)) for client, policy in asking]


@contextmanager
def answering_at_once(target: str) -> Iterator[str]:
    """The address of a service that gives the answer of another one to everybody."""
    names = ("hierarchy", "inactive_gpus", "gpu_speed", "priority", "num_restarts", "noise_min", "noise_max")
    options: dict[str, Any] = dict.fromkeys((*names, "refine", "target_gap"))
    options.update(hierarchy="automatic", inactive_gpus=(), priority="normal", seed=0, previous=HELD)
    request = rebalance_request(LOAD, **options, num_gpus=NUM_GPUS, num_replicas=NUM_REPLICAS, max_moves=MAX_MOVES)
    with grpc.insecure_channel(target) as channel:
        answer = PlacementServiceStub(channel).Rebalance(request).SerializeToString()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda *_: answer)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("trimtab.v1.PlacementService", {"Rebalance": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="times that each is called (default: 100)")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS, help="processes of a group (default: 2)")
    arguments = parser.parse_args()
    groups = {size: Ranks(size) for size in arguments.ranks}
    print(machine(), flush=True)
    rows, added = [], {}
    with running_server() as server, answering_at_once(server.listen) as at_once:
        for size, ranks in groups.items():
            for service, target in {"a real server": server.listen, "one that answers at once": at_once}.items():
                client, policy = np.array(ranks.measure(target, arguments.rounds)).T * 1e3
                difference = Spread.of(policy - client)
                added[size] = difference.median
                spreads = (Spread.of(client), Spread.of(policy), difference)
                rows.append((f"{size} ranks, {service}", *(f"{spread:.2f}" for spread in spreads)))
    print_table("Milliseconds of a rebalance", ("what", "client's call", "policy's call", "added"), rows)
    print_table(
        "Figures",
        ("what", "measured", "wanted", "met"),
        [verdict(f"added, {size} ranks, ms", value, 1, at_most=True) for size, value in added.items()],
    )


if __name__ == "__main__":
    main()
