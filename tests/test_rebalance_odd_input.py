"""Odd requests to rebalance, over a socket and byte by byte: an answer or a named error, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

import trimtab
from tests.http_port import total
from tests.test_rebalance_bad_input import KEPT, LIMITS, ON_NODES, SPREAD, loads, request
from trimtab import InvalidArgumentError
from trimtab.cli.server_process import ServerProcess
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.engine import Engine
from trimtab_server.rebalance_contract import read_rebalance
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher

ENGINE = Engine(CpuPacker(threads=1), CpuSearcher(threads=1))
LOAD = np.array([[5.0, 3, 2, 1], [1, 1, 1, 9]])


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[trimtab.Client]:
    """A client of the shared server."""
    with trimtab.Client(server.listen, timeout=30) as made:
        yield made


def refused(client: trimtab.Client, load: Any = LOAD, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(InvalidArgumentError) as caught:
        client.rebalance(load, **{"num_gpus": 2, "num_replicas": 6, **arguments})
    (violation,) = caught.value.violations
    return violation.field, violation.description


OVER_THE_WIRE: list[tuple[str, dict[str, Any], str, str]] = [
    ("rank", {"load": [1.0, 2.0]}, "load.shape", "must have rank 2 or 3, got rank 1"),
    ("nan", {"load": loads(float("nan"), 2, 1, 3)}, "load", "must be finite and at least 0, got nan at [2, 1, 3]"),
    ("replicas", {"num_replicas": 5}, "num_replicas", "the smallest from there on is 6, with 2 redundant replicas"),
    ("nodes", {"num_nodes": 3}, "num_nodes", "must divide num_gpus = 2 (0 is 1), got 3"),
    ("previous", {"previous": KEPT.astype(float)}, "previous.data_type", "one of INT32, INT64, got FLOAT64"),
    ("inactive", {"inactive_gpus": [1]}, "inactive_gpus", "leave 1 GPUs x 3 slots = 3"),
    ("speed", {"gpu_speed": [1, 0]}, "gpu_speed", "must be finite and above 0, got 0.0 for GPU 1"),
    ("moves", {"max_moves": 3}, "max_moves", "needs previous"),
    ("restarts", {"num_restarts": 0}, "options.num_restarts", "must be at least 1, got 0"),
    ("too many items", {"num_replicas": 10_000}, "num_replicas", "10000 is above this server's max_items = 8192"),
    (
        "hierarchy",
        {"num_gpus": 4, "num_replicas": 8, "num_nodes": 2, "num_groups": 2, "hierarchy": "hierarchical"}
        | {"previous": SPREAD},
        "hierarchy",
        "previous has group 0 of layer 0 on the nodes 0 and 1",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "field", "words"), [case[1:] for case in OVER_THE_WIRE], ids=[case[0] for case in OVER_THE_WIRE]
)
def test_a_bad_request_is_named_over_the_wire(
    client: trimtab.Client, arguments: dict[str, Any], field: str, words: str
) -> None:
    """The same violations as at the door, out of the client's own error."""
    got_field, description = refused(client, **arguments)
    assert got_field == field
    assert words in description


NOT_SENT: list[tuple[dict[str, Any], str, str]] = [
    ({"hierarchy": "nodes"}, "hierarchy", "must be one of automatic, global, hierarchical, got 'nodes'"),
    ({"priority": "urgent"}, "priority", "must be one of normal, low, got 'urgent'"),
    ({"num_gpus": 2**31}, "num_gpus", "2147483648 does not fit"),
    ({"num_gpus": "two"}, "num_gpus", "'two' does not fit"),
    ({"num_replicas": 6.5}, "num_replicas", "6.5 does not fit"),
    ({"num_nodes": -(2**31) - 1}, "num_nodes", "-2147483649 does not fit"),
    ({"max_moves": 2**63}, "max_moves", "9223372036854775808 does not fit"),
    ({"max_moves": "few"}, "max_moves", "'few' does not fit"),
    ({"min_gain": "small"}, "min_gain", "'small' does not fit"),
    ({"inactive_gpus": ["one"]}, "inactive_gpus", "['one'] does not fit"),
    ({"inactive_gpus": [0.5]}, "inactive_gpus", "[0.5] does not fit"),
    ({"inactive_gpus": 1}, "inactive_gpus", "1 does not fit"),
    ({"inactive_gpus": [2**40]}, "inactive_gpus", "[1099511627776] does not fit"),
    ({"gpu_speed": ["fast", "slow"]}, "gpu_speed", "['fast', 'slow'] does not fit"),
    ({"allow_duplicates": "yes"}, "allow_duplicates", "'yes' does not fit"),
    ({"seed": -1}, "seed", "-1 does not fit"),
    ({"load": [["a"]]}, "load", "must hold integers or floats"),
    ({"previous": [[0, 1], [2]]}, "previous", "is not a rectangular array of numbers"),
]


@pytest.mark.parametrize(("arguments", "field", "words"), NOT_SENT)
def test_what_no_request_can_carry_is_not_sent(arguments: dict[str, Any], field: str, words: str) -> None:
    """Refused by the client in this domain's words; nobody listens where it would go."""
    with trimtab.Client("127.0.0.1:1") as nowhere:
        got_field, description = refused(nowhere, **arguments)
    assert got_field == field
    assert words in description


ODD_AND_VALID: dict[str, dict[str, Any]] = {
    "no load": {"load": np.zeros((3, 4))},
    "a window without load": {"load": np.stack([np.zeros((2, 4)), LOAD])},
    "one of everything": {"load": [[7]], "num_gpus": 1, "num_replicas": 1},
    "one GPU": {"num_gpus": 1, "num_replicas": 4},
    "every expert everywhere": {"num_gpus": 3, "num_replicas": 12},
    "a slot each": {"num_gpus": 4, "num_replicas": 4},
    "more slots than experts": {"num_replicas": 12, "allow_duplicates": True},
    "a huge range": {"load": np.array([[1e-300, 1e38, 0, 1]])},
    "the largest integer": {"load": np.array([[2**63 - 1, 1, 1, 1]])},
    "small integers": {"load": LOAD.astype(np.uint8)},
    "speeds as far apart as may be": {"gpu_speed": [1e-3, 1e3]},
    "huge speeds": {"gpu_speed": [1e308, 1e308]},
    "one GPU left": {"num_gpus": 3, "num_replicas": 12, "inactive_gpus": [0, 2]},
    "a dead node that nobody needs": {"num_gpus": 4, "num_replicas": 16, "num_nodes": 2, "inactive_gpus": [0, 1]},
    "no moves": {"previous": KEPT, "max_moves": 0},
    "all the moves there are": {"previous": KEPT, "max_moves": 2**63 - 1},
    "the most gain": {"previous": KEPT, "min_gain": 1.0},
    "arrays of numpy": {"inactive_gpus": np.array([1]), "gpu_speed": np.ones(3), "num_gpus": np.int64(3)},
}


@pytest.mark.parametrize("arguments", ODD_AND_VALID.values(), ids=ODD_AND_VALID.keys())
def test_the_odd_and_valid_is_answered(client: trimtab.Client, arguments: dict[str, Any]) -> None:
    """With every expert in a live slot, and nothing on an inactive GPU."""
    asked: dict[str, Any] = {"load": LOAD, "num_gpus": 2, "num_replicas": 6, **arguments}
    placed = client.rebalance(**asked)
    assert placed.logical_count.min() >= 1
    by_gpu = placed.physical_to_logical.reshape(len(placed.moves), asked["num_gpus"], -1)
    assert (by_gpu[:, list(asked.get("inactive_gpus", ()))] == -1).all()


@settings(max_examples=400)
@given(st.data())
def test_any_bytes_get_an_answer_or_a_named_error(data: st.DataObject) -> None:
    """Valid requests with bytes changed, cut or added: a placement or a named error, nothing else."""
    whole = [
        request(LOAD),
        request(np.stack([LOAD, LOAD[::-1]]), previous=KEPT, max_moves=9, min_gain=0.1, gpu_speed=[1, 2]),
        request(LOAD, inactive_gpus=[3], **{**ON_NODES, "num_replicas": 8}),
    ]
    raw = bytearray(data.draw(st.sampled_from(whole)).SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "add"]))
        if change == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del raw[at]
        else:
            raw.insert(at, data.draw(st.integers(0, 255)))
    try:
        problem, _ = read_rebalance(pb.RebalanceRequest.FromString(bytes(raw)), LIMITS)
    except (DecodeError, InvalidArgumentError):
        return
    (answer,) = ENGINE.solve([problem])
    assert answer.physical_to_logical.shape == (problem.num_rows, problem.num_replicas)


def test_the_server_went_on(server: ServerProcess, client: trimtab.Client) -> None:
    """After all of that: it answers, and nothing was unexpected."""
    assert client.rebalance(LOAD, num_gpus=2, num_replicas=6).algorithm
    assert total(server.scrape(), "grpc_server_handled_total", grpc_code="INTERNAL") == 0
    assert not [line for line in server.lines if "Traceback" in line]
