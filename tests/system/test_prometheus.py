"""Prometheus and its tools, against a real server that has worked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import trimtab
from tests.system.prometheus_server import running_prometheus
from tests.system.tools import run, said
from trimtab.cli.server_process import ServerProcess, running_server

PACKS, REFUSED, LAYERS = 5, 2, 3
PACK_CALLS = 'grpc_service="trimtab.v1.PlacementService", grpc_method="Pack"'


@pytest.fixture(scope="module")
def worked_server() -> Iterator[ServerProcess]:
    """A server that answered PACKS requests, refused REFUSED, rebalanced once with one swap, and described itself."""
    with running_server() as server, trimtab.Client(server.listen) as client:
        for _ in range(PACKS):
            client.pack([[4.0, 3.0, 2.0, 1.0]] * LAYERS, 2)
        for _ in range(REFUSED):
            with pytest.raises(trimtab.InvalidArgumentError):
                client.pack([[1.0, 2.0, 3.0]], 2)
        client.rebalance([[4.0, 1.0, 4.0, 1.0]], num_gpus=2, num_replicas=4, previous=[[0, 2, 1, 3]])
        client.describe()
        yield server


def test_promtool_finds_nothing_wrong_with_the_metrics(worked_server: ServerProcess) -> None:
    """Names, units, types and help texts are as Prometheus wants them."""
    checked = run("promtool", "check", "metrics", stdin=worked_server.scrape())
    assert checked.returncode == 0, said(checked)


def test_promtool_would_find_a_wrong_name() -> None:
    """What the test above relies on: promtool notices a counter without its ending."""
    page = "# HELP trimtab_calls Calls.\n# TYPE trimtab_calls counter\ntrimtab_calls 1\n"
    assert run("promtool", "check", "metrics", stdin=page).returncode != 0


def test_prometheus_scrapes_what_was_driven(worked_server: ServerProcess, tmp_path: Path) -> None:
    """A real Prometheus reads the endpoint, and its queries give the counts of the calls made."""
    rows = PACKS * LAYERS
    expected = {
        f"sum by (grpc_code) (grpc_server_handled_total{{{PACK_CALLS}}}) > 0": {
            "OK": PACKS,
            "INVALID_ARGUMENT": REFUSED,
        },
        f"sum(grpc_server_started_total{{{PACK_CALLS}}})": {"": PACKS + REFUSED},
        f"sum(grpc_server_handling_seconds_count{{{PACK_CALLS}}})": {"": PACKS + REFUSED},
        "sum by (grpc_method) (grpc_server_handled_total)": {"Pack": PACKS + REFUSED, "Describe": 1, "Rebalance": 1},
        "sum(trimtab_batch_requests_sum)": {"": PACKS + 1},
        "sum(trimtab_batch_rows_sum)": {"": rows + 1},
        "sum(trimtab_queue_wait_seconds_count)": {"": PACKS + 1},
        "sum(trimtab_queue_rows)": {"": 0},
        "sum by (operation) (trimtab_solve_seconds_count)": {"pack": PACKS, "rebalance": 1},
        "sum(trimtab_moves_sum)": {"": 2},
        "sum(trimtab_layers_changed_sum)": {"": 1},
        "sum(trimtab_rejected_total)": {"": REFUSED},
        "sum(trimtab_winning_restart_total)": {"": rows},
        'sum by (stage) (trimtab_balancedness_count{operation="pack"})': {"before": PACKS, "after": PACKS},
        "sum by (version) (trimtab_build_info)": {trimtab.__version__: 1},
        "histogram_quantile(0.99, sum by (le) (grpc_server_handling_seconds_bucket)) < bool 30": {"": 1},
    }
    with running_prometheus(tmp_path, worked_server.metrics) as prometheus:
        found = {expression: prometheus.values(expression) for expression in expected}
    assert found == expected
