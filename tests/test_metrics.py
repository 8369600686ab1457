"""The metrics: names and labels as documented, moved by what happens, never grown by a caller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import trimtab
from tests.gated_server import until
from tests.secure import Certificates
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab_server.metrics import Metrics

PACK = {"grpc_service": "trimtab.v1.PlacementService", "grpc_method": "Pack"}
DOCUMENTED = {
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "trimtab_queue_wait_seconds",
    "trimtab_queue_rows",
    "trimtab_batch_rows",
    "trimtab_batch_requests",
    "trimtab_solve_seconds",
    "trimtab_rejected_total",
    "trimtab_balancedness",
    "trimtab_moves",
    "trimtab_layers_changed",
    "trimtab_winning_restart_total",
    "trimtab_device_memory_bytes",
    "trimtab_build_info",
}


def samples(server: ServerProcess) -> dict[str, float]:
    """Every sample, by name and sorted labels, once all calls are counted: answers are on their way before that."""
    found: dict[str, float] = {}

    def all_counted() -> bool:
        found.clear()
        for family in text_string_to_metric_families(server.scrape()):
            found.update({key(sample.name, **sample.labels): sample.value for sample in family.samples})
        return total(found, "grpc_server_started_total") == total(found, "grpc_server_handled_total")

    until(all_counted)
    return found


def total(found: dict[str, float], name: str) -> float:
    return sum(value for key, value in found.items() if key.startswith(name))


def key(name: str, **labels: str) -> str:
    return f"{name}{sorted(labels.items())}"


def test_every_documented_metric_is_there(server: ServerProcess) -> None:
    """By name, once the server has been called."""
    with trimtab.Client(server.listen) as client:
        client.pack(np.ones((1, 4)), 2)
    with pytest.raises(trimtab.InvalidArgumentError), trimtab.Client(server.listen) as client:
        client.pack(np.ones((1, 4)), 3)
    names = {name.partition("[")[0] for name in samples(server)}
    assert {name.removesuffix("_count") for name in names} >= DOCUMENTED


def test_a_call_moves_what_it_should() -> None:
    """Counts, sizes, quality and winners after three calls, one of them wrong."""
    weight = np.array([[3.0, 3, 1, 1], [0, 0, 0, 0]])
    with running_server() as server, trimtab.Client(server.listen) as client:
        client.pack(weight, 2)
        client.pack(weight, 2)
        with pytest.raises(trimtab.InvalidArgumentError):
            client.pack(-weight, 2)
        got = samples(server)
    expected = {
        key("grpc_server_started_total", **PACK): 3,
        key("grpc_server_handled_total", **PACK, grpc_code="OK"): 2,
        key("grpc_server_handled_total", **PACK, grpc_code="INVALID_ARGUMENT"): 1,
        key("grpc_server_handling_seconds_count", **PACK): 3,
        key("trimtab_queue_wait_seconds_count"): 2,
        key("trimtab_queue_rows"): 0,
        key("trimtab_batch_rows_sum"): 4,
        key("trimtab_batch_requests_count"): 2,
        key("trimtab_solve_seconds_count", operation="pack", solver="cpu"): 2,
        key("trimtab_rejected_total", reason="invalid"): 1,
        key("trimtab_balancedness_sum", operation="pack", stage="after"): 2.0,
        key("trimtab_balancedness_sum", operation="pack", stage="before"): pytest.approx(2 * 4 / 6),
        key("trimtab_winning_restart_total", kind="first"): 4,
        key("trimtab_winning_restart_total", kind="noisy"): 0,
    }
    assert {name: got.get(name) for name in expected} == expected


def test_a_rebalance_tells_its_moves_and_its_gain() -> None:
    """Moves and layers changed where there was a placement before, balancedness of both; the idle layer left out."""
    load = np.array([[9.0, 9, 1, 1], [4, 6, 4, 6], [0, 0, 0, 0]])
    with running_server() as server, trimtab.Client(server.listen) as client:
        client.rebalance(load, num_gpus=2, num_replicas=4)
        got = samples(server)
        assert got[key("trimtab_moves_count")] == 0
        assert key("trimtab_balancedness_count", operation="rebalance", stage="after") not in got
        assert key("trimtab_balancedness_count", operation="rebalance", stage="before") not in got
        for budget in (None, 0):
            client.rebalance(load, num_gpus=2, num_replicas=4, previous=[[0, 1, 2, 3]] * 3, max_moves=budget)
        got = samples(server)
    mean_before = (1 + 10 / 18) / 2
    expected = {
        key("grpc_server_handled_total", **{**PACK, "grpc_method": "Rebalance"}, grpc_code="OK"): 3,
        key("trimtab_batch_rows_sum"): 9,
        key("trimtab_moves_count"): 2,
        key("trimtab_moves_sum"): 2,
        key("trimtab_layers_changed_count"): 2,
        key("trimtab_layers_changed_sum"): 1,
        key("trimtab_solve_seconds_count", operation="rebalance", solver="cpu"): 3,
        key("trimtab_balancedness_sum", operation="rebalance", stage="before"): pytest.approx(2 * mean_before),
        key("trimtab_balancedness_sum", operation="rebalance", stage="after"): pytest.approx(1 + mean_before),
    }
    assert {name: got.get(name) for name in expected} == expected


def test_callers_cannot_grow_the_metrics(server: ServerProcess) -> None:
    """Callers' names, request ids, shapes and unknown methods leave the series as they are."""
    with trimtab.Client(server.listen) as client:
        client.pack(np.ones((1, 4)), 2)
        client.rebalance(np.ones((1, 4)), num_gpus=2, num_replicas=4, previous=[[0, 1, 2, 3]])
    before = set(samples(server))
    for i in range(5):
        with trimtab.Client(server.listen, caller=f"caller-{i}") as client:
            client.pack(np.ones((i + 1, 4 * (i + 1))), 2, num_restarts=i + 1)
            client.rebalance(np.ones((i + 1, 4)), num_gpus=i + 2, num_replicas=2 * (i + 2))
    assert set(samples(server)) == before
    assert len(before) < 300


def test_a_metrics_object_stands_alone() -> None:
    """Two servers in one process do not share a registry."""
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.rejected("expired")
    assert one.rejections.labels("expired")._value.get() == 1
    assert other.rejections.labels("expired")._value.get() == 0


def test_a_server_has_fewer_than_200_series(tmp_path: Path) -> None:
    """With TLS and a named caller, after answers and errors of every call."""
    certificates = Certificates(tmp_path)
    with running_server(*certificates.flags, "--metric-callers=ops") as server:
        with trimtab.Client(server.listen.replace("127.0.0.1", "localhost"), ca=certificates.trusted) as client:
            old = client.rebalance(np.ones((2, 4)), num_gpus=2, num_replicas=4).physical_to_logical
            client.rebalance(np.arange(8.0).reshape(2, 4), num_gpus=2, num_replicas=4, previous=old)
            client.pack(np.ones((1, 4)), 2)
            client.describe()
            with pytest.raises(trimtab.InvalidArgumentError):
                client.pack(np.ones((1, 4)), 3)
            with pytest.raises(trimtab.InvalidArgumentError):
                client.rebalance(np.ones((1, 4)), num_gpus=3, num_replicas=4)
        count = len(samples(server))
    assert 150 < count < 200
