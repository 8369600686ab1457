"""A script, not a test: calls a server through both clients and prints what came back, as JSON.

Run by `test_oldest_runtime` with one interpreter per set of versions; it needs the client's base packages only.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import metadata
from typing import Any

import numpy as np

import trimtab

CLUSTER: dict[str, Any] = {"num_gpus": 4, "num_replicas": 56, "num_nodes": 2, "num_groups": 4}
MOVING: dict[str, Any] = {**CLUSTER, "max_moves": 40, "inactive_gpus": [], "gpu_speed": [1, 1, 2, 1]}
WEIGHT = np.random.default_rng(7).lognormal(sigma=1.0, size=(5, 48)).astype(np.float32)


def _told(packing: trimtab.Packing) -> dict[str, Any]:
    arrays = ("pack_index", "rank_in_pack", "max_load", "mean_load", "lower_bound", "winning_restart")
    told: dict[str, Any] = {name: getattr(packing, name).tobytes().hex() for name in arrays}
    return {**told, "algorithm": packing.algorithm}


def _placed(placement: trimtab.Placement) -> dict[str, Any]:
    arrays = ("physical_to_logical", "logical_to_physical", "balancedness_after", "moves", "layer_order", "curve")
    told: dict[str, Any] = {name: getattr(placement, name).tobytes().hex() for name in arrays}
    return {**told, "algorithm": placement.algorithm, "hierarchy": placement.hierarchy}


def _refused(error: trimtab.InvalidArgumentError) -> list[list[str]]:
    return [[violation.field, violation.description] for violation in error.violations]


def call_blocking(target: str) -> dict[str, Any]:
    """All that `Client` does."""
    with trimtab.Client(target) as client:
        answers: dict[str, Any] = {"pack": _told(client.pack(WEIGHT, 8, seed=3))}
        try:
            client.pack(WEIGHT, 7)
        except trimtab.InvalidArgumentError as error:
            answers["refused"] = _refused(error)
        placed = client.rebalance(WEIGHT, **CLUSTER, seed=3)
        moved = client.rebalance(WEIGHT[::-1], previous=placed.physical_to_logical, **MOVING)
        answers["placed"], answers["moved"] = _placed(placed), _placed(moved)
        answers["described"] = client.describe().limits
    return answers


async def call_awaiting(target: str) -> dict[str, Any]:
    """All that `AsyncClient` does."""
    async with trimtab.AsyncClient(target) as client:
        answers: dict[str, Any] = {"pack": _told(await client.pack(WEIGHT, 8, seed=3))}
        try:
            await client.pack(WEIGHT, 7)
        except trimtab.InvalidArgumentError as error:
            answers["refused"] = _refused(error)
        placed = await client.rebalance(WEIGHT, **CLUSTER, seed=3)
        moved = await client.rebalance(WEIGHT[::-1], previous=placed.physical_to_logical, **MOVING)
        answers["placed"], answers["moved"] = _placed(placed), _placed(moved)
        answers["described"] = (await client.describe()).limits
    return answers


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("grpcio", "grpcio-status", "protobuf", "numpy")}
    blocking, awaiting = call_blocking(sys.argv[1]), asyncio.run(call_awaiting(sys.argv[1]))
    print(json.dumps({"versions": versions, "blocking": blocking, "awaiting": awaiting}))  # noqa: T201
