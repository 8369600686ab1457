"""The clients: what they take, how they fail, how they come back; each test on a real socket."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
import torch

import trimtab
from trimtab.cli.server_process import ServerProcess, running_server

WEIGHT = np.random.default_rng(0).lognormal(0, 1, (3, 12)).astype(np.float32)


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def same(one: trimtab.Packing, other: trimtab.Packing) -> None:
    for name in ("pack_index", "rank_in_pack", "max_load", "mean_load", "lower_bound", "winning_restart"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert one.algorithm == other.algorithm


@pytest.mark.parametrize(
    "weight",
    [WEIGHT, WEIGHT.astype(np.float64), torch.from_numpy(WEIGHT), WEIGHT.tolist()],
    ids=lambda w: type(w).__name__,
)
def test_numpy_torch_and_lists_get_the_same_answer(server: ServerProcess, weight: Any) -> None:
    """In whatever form the loads come."""
    with trimtab.Client(server.listen) as client:
        same(client.pack(weight, 4), client.pack(WEIGHT, num_packs=4))


def same_placement(one: trimtab.Placement, other: trimtab.Placement) -> None:
    for field in fields(trimtab.Placement):
        if field.name != "execution":
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


async def test_both_clients_and_the_local_one_agree(server: ServerProcess) -> None:
    """The same methods, options and bytes, over the wire and in process."""
    options = {"num_restarts": 3, "noise_min": 0.1, "noise_max": 0.2, "seed": 9, "priority": "low", "timeout": 20}
    with trimtab.Client(server.listen, caller="test") as client, trimtab.Client("local") as local:
        expected = client.pack(WEIGHT, 4, **options)  # type: ignore[arg-type]
        same(local.pack(WEIGHT, 4, **options), expected)  # type: ignore[arg-type]
        described = client.describe()
        assert local.describe() == described
    for target in (server.listen, "local"):
        async with trimtab.AsyncClient(target) as client_:
            same(await client_.pack(WEIGHT, 4, **options), expected)  # type: ignore[arg-type]
            assert await client_.describe() == described


async def test_both_clients_and_the_local_one_rebalance_alike(server: ServerProcess) -> None:
    """From nothing and from there on, with every option that a request has."""
    load = np.stack([WEIGHT, WEIGHT[::-1]])
    cluster: dict[str, Any] = {"num_gpus": 4, "num_replicas": 20, "num_nodes": 2, "num_groups": 4, "timeout": 20}
    packing: dict[str, Any] = {
        "num_restarts": 3,
        "noise_min": 0.1,
        "noise_max": 0.2,
        "seed": 9,
        "refine": False,
        "target_gap": 0.01,
    }
    budget = {"max_moves": 9, "min_gain": 0.001, "inactive_gpus": [2], "gpu_speed": [1, 2, 2, 1], "priority": "low"}
    moving: dict[str, Any] = {**cluster, **budget, "hierarchy": "global", "allow_duplicates": True}
    with trimtab.Client(server.listen) as client, trimtab.Client("local") as local:
        fresh = client.rebalance(load, **cluster, **packing)
        moved = client.rebalance(load, previous=fresh.physical_to_logical, **moving)
        assert (fresh.hierarchy, moved.hierarchy) == ("hierarchical", "global")
        assert 0 < moved.moves.sum() <= 9
        same_placement(local.rebalance(load, **cluster, **packing), fresh)
        same_placement(local.rebalance(load, previous=fresh.physical_to_logical, **moving), moved)
    for target in (server.listen, "local"):
        async with trimtab.AsyncClient(target) as client_:
            same_placement(await client_.rebalance(load, **cluster, **packing), fresh)
            previous = torch.from_numpy(fresh.physical_to_logical)
            same_placement(await client_.rebalance(load.tolist(), previous=previous, **moving), moved)


def test_the_clients_have_the_same_methods() -> None:
    """Same names, same parameters."""
    for name in ("pack", "rebalance", "describe", "close", "__init__"):
        sync, async_ = getattr(trimtab.Client, name), getattr(trimtab.AsyncClient, name)
        assert inspect.signature(sync).parameters == inspect.signature(async_).parameters


def test_an_answer_is_whole_and_frozen(server: ServerProcess) -> None:
    """Arrays of the documented shapes, figures that fit together, execution beside."""
    with trimtab.Client(server.listen) as client:
        packing = client.pack(np.vstack([WEIGHT, np.zeros((1, 12))]), 4)
    assert packing.pack_index.shape == packing.rank_in_pack.shape == (4, 12)
    assert packing.pack_index.dtype == np.int64
    loads = np.array([np.bincount(p, w, 4) for p, w in zip(packing.pack_index, WEIGHT, strict=False)])
    np.testing.assert_allclose(packing.max_load[:3], loads.max(1), rtol=1e-9)
    np.testing.assert_allclose(packing.balancedness[:3], loads.mean(1) / loads.max(1), rtol=1e-9)
    assert (packing.gap[:3] >= 0).all()
    assert np.isnan([packing.balancedness[3], packing.gap[3]]).all()
    execution = packing.execution
    assert (execution.solver, execution.device, execution.batch_requests, execution.batch_rows) == (
        "cpu",
        "cpu",
        1,
        4,
    )
    assert execution.server_version == trimtab.__version__
    assert 0 < execution.solve_seconds < 60
    with pytest.raises(FrozenInstanceError):
        packing.algorithm = "mine"  # type: ignore[misc]


def test_a_placement_is_whole_and_frozen(server: ServerProcess) -> None:
    """Arrays of the documented shapes; both other maps follow from the one that travels."""
    load = np.vstack([WEIGHT, np.zeros((1, 12))])
    with trimtab.Client(server.listen) as client:
        fresh = client.rebalance(load, num_gpus=5, num_replicas=20, inactive_gpus=[1])
        placed = client.rebalance(load[::-1], num_gpus=5, num_replicas=20, previous=fresh.physical_to_logical)
    assert placed.physical_to_logical.dtype == placed.moves.dtype == placed.layer_order.dtype == np.int64
    for placement in (fresh, placed):
        assert placement.physical_to_logical.shape == (4, 20)
        assert placement.logical_count.shape == (4, 12)
        assert placement.logical_to_physical.shape == (4, 12, placement.logical_count.max())
        for layer, slots in enumerate(placement.physical_to_logical.tolist()):
            for expert in range(12):
                held = [slot for slot, there in enumerate(slots) if there == expert]
                assert placement.logical_count[layer, expert] == len(held) > 0
                padded = held + [-1] * (placement.logical_to_physical.shape[2] - len(held))
                assert placement.logical_to_physical[layer, expert].tolist() == padded
    idle = np.isnan(placed.balancedness_after)
    assert idle.tolist() == [True, False, False, False]
    assert (placed.balancedness_before <= placed.balancedness_after)[~idle].all()
    assert (placed.balancedness_after <= placed.bound + 1e-9)[~idle].all()
    assert placed.curve[0, 0] == 0
    assert placed.curve[-1, 1] == pytest.approx(np.nanmean(placed.balancedness_after))
    assert (fresh.execution.batch_rows, placed.execution.solver) == (4, "cpu")
    assert fresh.algorithm == placed.algorithm
    with pytest.raises(FrozenInstanceError):
        placed.moves = fresh.moves  # type: ignore[misc]


def test_describe_tells_limits_and_solvers(server: ServerProcess) -> None:
    """What a caller needs in order to ask well."""
    with trimtab.Client(server.listen) as client:
        description = client.describe()
    assert description.solvers == (("cpu", "cpu"),)
    assert description.limits["max_items"] == 8192
    assert description.algorithm.startswith("restart-packer/")
    assert description.rebalance_algorithm.startswith("placement-search/")


def test_no_server_is_unavailable_after_the_retries(nowhere: str) -> None:
    """A named error, well before the timeout."""
    with trimtab.Client(nowhere, timeout=60) as client, pytest.raises(trimtab.UnavailableError):
        client.pack(WEIGHT, 4)


def test_waiting_for_a_server_ends_with_the_deadline(nowhere: str) -> None:
    """With wait_for_ready an absent server is a deadline."""
    with trimtab.Client(nowhere, timeout=0.3, wait_for_ready=True) as client:
        with pytest.raises(trimtab.DeadlineExceededError):
            client.pack(WEIGHT, 4)


@pytest.mark.parametrize("timeout", [0, -1, 1e-9])
def test_a_deadline_already_past_is_told_as_one(server: ServerProcess, timeout: float) -> None:
    """Without an answer, without waiting."""
    with trimtab.Client(server.listen) as client, pytest.raises(trimtab.DeadlineExceededError):
        client.pack(WEIGHT, 4, timeout=timeout)


def test_a_message_over_the_limit_is_refused_before_it_is_sent(nowhere: str) -> None:
    """By the client itself, with both numbers: nobody needs to be there."""
    with trimtab.Client(nowhere, max_message_bytes=1000) as client:
        with pytest.raises(trimtab.InvalidArgumentError, match=r"max_message_bytes = 1000 bytes, is 2\d{4}"):
            client.pack(np.ones((10, 288)), 32)


def test_a_message_over_the_servers_limit_is_refused_by_it() -> None:
    """GRPC's own refusal arrives as a named error."""
    with running_server("--max-message-bytes=4096") as process, trimtab.Client(process.listen) as client:
        with pytest.raises(trimtab.InvalidArgumentError, match="larger than max"):
            client.pack(np.ones((10, 288)), 32)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"num_packs": 2**40}, "num_packs"),
        ({"num_packs": "four"}, "num_packs"),
        ({"num_packs": 4, "seed": -1}, "seed"),
        ({"num_packs": 4, "num_restarts": 2**31}, "num_restarts"),
        ({"num_packs": 4, "target_gap": "small"}, "target_gap"),
        ({"num_packs": 4, "priority": "urgent"}, "priority"),
    ],
)
def test_numbers_that_no_field_holds_are_refused(nowhere: str, arguments: dict[str, Any], field: str) -> None:
    """In this domain's words, not protobuf's exceptions."""
    with trimtab.Client(nowhere) as client, pytest.raises(trimtab.InvalidArgumentError) as caught:
        client.pack(WEIGHT, **arguments)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize("rows", [20, 400], ids=["60 kB", "1 MB"])
def test_a_restarted_server_costs_no_call(rows: int) -> None:
    """Calls made while the server restarts on its address are retried, also those too large for gRPC's usual buffer."""
    weight = np.random.default_rng(0).random((rows, 320), np.float64)
    with running_server() as process:
        address = process.listen
        with trimtab.Client(address, wait_for_ready=True) as client, ThreadPoolExecutor(1) as pool:
            expected = client.pack(weight, 32, num_restarts=1)
            process.stop()
            call = pool.submit(client.pack, weight, 32, num_restarts=1, timeout=60)
            with running_server(f"--listen={address}"):
                same(call.result(90), expected)


def test_a_dead_server_is_noticed_by_keepalive() -> None:
    """A server that answers no pings is UNAVAILABLE long before the call's deadline, which is another error."""
    with running_server() as process, trimtab.Client(process.listen, timeout=40) as client:
        expected = client.pack(WEIGHT, 4)
        os.kill(process.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(trimtab.UnavailableError):
                client.pack(WEIGHT, 4)
        finally:
            os.kill(process.process.pid, signal.SIGCONT)
        same(client.pack(WEIGHT, 4), expected)


def test_the_import_is_quiet_and_light() -> None:
    """`import trimtab` prints nothing and pulls in no part of the server or the command."""
    code = (
        "import sys, trimtab; print(sorted({'torch', 'click', 'rich', 'numba', 'trimtab_server'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (result.stdout, result.stderr) == ("[]\n", "")
