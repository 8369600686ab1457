"""Bad requests to rebalance: a named error each, from the door itself; `test_rebalance_odd_input` goes by the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trimtab import InvalidArgumentError, wire
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.checks import RequestLimits
from trimtab_server.rebalance_contract import read_rebalance

LIMITS = RequestLimits(max_rows=16, max_items=64, max_restarts=8, max_item_steps=4096, max_message_bytes=7000)
NAN, INF = float("nan"), float("inf")
GLOBAL, HIERARCHICAL = pb.HIERARCHY_GLOBAL, pb.HIERARCHY_HIERARCHICAL


def tensor(array: Any) -> pb.Tensor:
    return array if isinstance(array, pb.Tensor) else wire.encode(np.asarray(array))


def request(load: Any = None, *, previous: Any = None, **fields: Any) -> pb.RebalanceRequest:
    """Two layers of four experts, on two GPUs of three slots where nothing else is said."""
    fields = {"num_gpus": 2, "num_replicas": 6, **fields}
    made = pb.RebalanceRequest(load=tensor(np.ones((2, 4)) if load is None else load), **fields)
    if previous is not None:
        made.previous.CopyFrom(tensor(previous))
    return made


def previous_with(value: int, layer: int = 1, slot: int = 4) -> Any:
    """A valid previous placement of the default request, but for one slot."""
    slots = np.array([[0, 1, 2, 3, 0, 1]] * 2)
    slots[layer, slot] = value
    return slots


def loads(value: float, *at: int) -> Any:
    """Ones, but for one place."""
    load = np.ones((2, 4) if len(at) == 2 else (3, 2, 4))
    load[at] = value
    return load


KEPT = previous_with(0)
ON_FOUR = {"num_gpus": 4, "num_replicas": 8, "num_nodes": 2, "num_groups": 2}
ON_NODES = {**ON_FOUR, "hierarchy": HIERARCHICAL}
NO_LOAD = request()
NO_LOAD.ClearField("load")
NO_TYPE = request(pb.Tensor(shape=[2, 4]))
SPREAD = np.array([[0, 1, 2, 3, 0, 1, 2, 3]] * 2)
APART = np.array([[0, 1, 0, 1, 2, 3, 2, 3]] * 2)

LOADS: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    ("missing", NO_LOAD, "load", "is required"),
    ("no type", NO_TYPE, "load.data_type", "must be one of INT32, INT64, FLOAT32, FLOAT64, got UNSPECIFIED"),
    ("answer's type", request(np.ones((2, 4), np.int16)), "load.data_type", "got INT16"),
    ("rank 1", request(np.ones(4)), "load.shape", "must have rank 2 or 3, got rank 1"),
    ("rank 4", request(np.ones((1, 1, 2, 4))), "load.shape", "must have rank 2 or 3, got rank 4"),
    ("no windows", request(pb.Tensor(data_type=4, shape=[0, 2, 4])), "load.shape", "at least 1, got [0, 2, 4]"),  # type: ignore[arg-type]
    ("nan", request(loads(NAN, 1, 2)), "load", "every load must be finite and at least 0, got nan at [1, 2]"),
    ("nan in a window", request(loads(NAN, 2, 0, 3)), "load", "finite and at least 0, got nan at [2, 0, 3]"),
    ("infinity", request(loads(INF, 0, 1)), "load", "finite and at least 0, got inf at [0, 1]"),
    ("negative", request(loads(-0.5, 1, 3)), "load", "finite and at least 0, got -0.5 at [1, 3]"),
    ("negative integer", request(np.array([[1, 1, -7, 1]])), "load", "got -7 at [0, 2]"),
    ("sum", request(loads(4e38, 1, 0)), "load", "must fit a float32, at most 3.403e+38, got 4e+38 in layer 1"),
    ("sum of a window", request(loads(4e38, 2, 1, 0)), "load", "got 4e+38 in layer 1 of window 2"),
    ("sum beyond all", request(np.full((1, 4), 1e308)), "load", "got inf in layer 0"),
]

TOO_FEW = "must be at least num_experts = 4 and a multiple of num_gpus = 2, got "
SMALLEST = "; the smallest from there on is "
REPLICAS_OF_SIX = (
    "at least num_experts = 4 and a multiple of num_gpus = 3, got 7; the smallest from there on is 9, with 5"
)
NUMBERS: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    ("no GPUs", request(num_gpus=0), "num_gpus", "must be at least 1, got 0"),
    ("negative GPUs", request(num_gpus=-2), "num_gpus", "must be at least 1, got -2"),
    ("no replicas", request(num_replicas=0), "num_replicas", f"{TOO_FEW}0{SMALLEST}4, with 0 redundant replicas"),
    ("negative replicas", request(num_replicas=-6), "num_replicas", f"{TOO_FEW}-6{SMALLEST}4, with 0 redundant"),
    ("fewer than experts", request(num_replicas=2), "num_replicas", f"{TOO_FEW}2{SMALLEST}4, with 0 redundant"),
    ("not a multiple", request(num_replicas=5), "num_replicas", f"{TOO_FEW}5{SMALLEST}6, with 2 redundant replicas"),
    ("not of three", request(num_gpus=3, num_replicas=7), "num_replicas", REPLICAS_OF_SIX),
    ("nodes", request(num_nodes=3), "num_nodes", "must divide num_gpus = 2 (0 is 1), got 3"),
    ("negative nodes", request(num_nodes=-1), "num_nodes", "must divide num_gpus = 2 (0 is 1), got -1"),
    ("more nodes than GPUs", request(num_nodes=4), "num_nodes", "must divide num_gpus = 2 (0 is 1), got 4"),
    ("groups", request(num_groups=3), "num_groups", "must divide num_experts = 4 (0 is 1), got 3"),
    ("negative groups", request(num_groups=-2), "num_groups", "must divide num_experts = 4 (0 is 1), got -2"),
    ("more groups than experts", request(num_groups=8), "num_groups", "num_experts = 4 (0 is 1), got 8"),
    (
        "an expert twice on a GPU",
        request(num_replicas=10),
        "num_replicas",
        ("5 slots a GPU are more than num_experts = 4, so a GPU would hold an expert twice; allow_duplicates lets it"),
    ),
    ("no restarts", request(options=pb.PackOptions(num_restarts=0)), "options.num_restarts", "at least 1, got 0"),
    ("crossed noise", request(options=pb.PackOptions(noise_min=0.5)), "options.noise_max", "0.5 to 1, got 0.15"),
    ("gap", request(options=pb.PackOptions(target_gap=-1)), "options.target_gap", "at least 0, got -1.0"),
    ("priority", request(priority=7), "priority", "must be PRIORITY_UNSPECIFIED or PRIORITY_LOW, got 7"),
    ("hierarchy", request(hierarchy=9), "hierarchy", "or HIERARCHY_HIERARCHICAL, got 9"),
]

SIZES: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    ("layers", request(np.ones((17, 4))), "load.shape", "num_layers = 17 is above this server's max_rows = 16"),
    ("layers of windows", request(np.ones((2, 17, 4))), "load.shape", "num_layers = 17 is above"),
    ("experts", request(np.ones((1, 65))), "load.shape", "num_experts = 65 is above this server's max_items = 64"),
    ("replicas", request(num_replicas=66), "num_replicas", "66 is above this server's max_items = 64"),
    ("GPUs", request(num_gpus=65), "num_gpus", "65 is above this server's max_items = 64"),
    (
        "restarts",
        request(options=pb.PackOptions(num_restarts=9)),
        "options.num_restarts",
        "9 is above this server's max_restarts = 8",
    ),
    (
        "steps of windows",
        request(np.ones((5, 16, 64)), num_replicas=64, num_gpus=32, previous=np.arange(64)[None].repeat(16, 0)),
        "load.shape",
        "5 windows x 16 layers x 64 replicas x 8 (a quarter of the GPUs) = 40960 is above this server's max_item_steps",
    ),
    (
        "steps of slots",
        request(np.ones((2, 16, 64)), num_replicas=64, num_gpus=8, previous=np.arange(64)[None].repeat(16, 0)),
        "load.shape",
        "2 windows x 16 layers x 64 replicas x 8 slots a GPU = 16384 is above this server's max_item_steps = 4096",
    ),
    ("windows", request(np.ones((1025, 1, 4))), "load.shape", "num_windows must be at most 1024, got 1025"),
    (
        "steps of restarts",
        request(np.ones((16, 64)), num_replicas=64, num_gpus=16),
        "load.shape",
        "16 layers x 64 replicas x 8 restarts = 8192 is above this server's max_item_steps = 4096",
    ),
    (
        "answer",
        request(np.ones((16, 64)), num_replicas=64, num_gpus=16, options=pb.PackOptions(num_restarts=1)),
        "load.shape",
        "the answer's size of 7072 bytes is above this server's max_message_bytes = 7000",
    ),
]

HIERARCHIES: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    (
        "groups that do not divide",
        request(**{**ON_NODES, "num_groups": 1}),
        "hierarchy",
        "can't be HIERARCHICAL: num_groups = 1 does not divide by num_nodes = 2; GLOBAL can",
    ),
    (
        "a dead node",
        request(num_replicas=16, inactive_gpus=[0, 1], **{k: v for k, v in ON_NODES.items() if k != "num_replicas"}),
        "hierarchy",
        "node 0 has 0 live slots for the 2 experts of its groups",
    ),
    (
        "half a node dead",
        request(np.ones((2, 6)), inactive_gpus=[3], **ON_NODES),
        "hierarchy",
        "node 1 has 2 live slots for the 3 experts of its groups",
    ),
    (
        "a group on two nodes",
        request(previous=np.vstack([APART[0], SPREAD[0]]), **ON_NODES),
        "hierarchy",
        "previous has group 0 of layer 1 on the nodes 0 and 1",
    ),
    (
        "more slots than experts of the node",
        request(**{**ON_NODES, "num_replicas": 12}),
        "hierarchy",
        "a GPU's 3 slots on node 0 are more than the 2 experts of its groups",
    ),
]

PREVIOUS: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    ("rank", request(previous=KEPT[0]), "previous.shape", "must have rank 2, got rank 1"),
    ("layers", request(previous=KEPT[:1]), "previous.shape", "[num_layers, num_replicas] = [2, 6], got [1, 6]"),
    ("slots", request(previous=KEPT[:, :5]), "previous.shape", "[num_layers, num_replicas] = [2, 6], got [2, 5]"),
    ("floats", request(previous=KEPT.astype(np.float64)), "previous.data_type", "one of INT32, INT64, got FLOAT64"),
    (
        "unknown expert",
        request(previous=previous_with(4)),
        "previous",
        "from 0 to 3, or -1 where a slot is empty, got 4",
    ),
    ("its place", request(previous=previous_with(4)), "previous", "got 4 at [1, 4]"),
    ("beyond an int32", request(previous=previous_with(2**32)), "previous", f"got {2**32} at [1, 4]"),
    ("below -1", request(previous=previous_with(-2, 0, 5)), "previous", "got -2 at [0, 5]"),
    (
        "missing experts",
        request(previous=[[0, 1, 2, 3, 0, 1], [0, 1, -1, 1, 0, 1]]),
        "previous",
        "must hold every expert, layer 1 lacks 2, the first is 2",
    ),
    ("negative moves", request(previous=KEPT, max_moves=-1), "max_moves", "must be at least 0, got -1"),
    ("moves of nothing", request(max_moves=5), "max_moves", "needs previous"),
    ("gain over nothing", request(min_gain=0.0), "min_gain", "needs previous"),
    ("negative gain", request(previous=KEPT, min_gain=-0.1), "min_gain", "must be from 0 to 1, got -0.1"),
    ("gain above 1", request(previous=KEPT, min_gain=1.5), "min_gain", "must be from 0 to 1, got 1.5"),
    ("gain nan", request(previous=KEPT, min_gain=NAN), "min_gain", "must be from 0 to 1, got nan"),
    (
        "too few moves to revive",
        request(previous=[[0, 1, 2, 3, 0, 1, 2, 0]] * 2, max_moves=1, **{**ON_FOUR, "inactive_gpus": [1]}),
        "max_moves",
        "must be at least 2, to revive the experts that only inactive GPUs hold, got 1",
    ),
]

GPUS: list[tuple[str, pb.RebalanceRequest, str, str]] = [
    ("no such GPU", request(inactive_gpus=[2]), "inactive_gpus", "must be from 0 to num_gpus - 1 = 1, got 2"),
    ("negative GPU", request(inactive_gpus=[-1]), "inactive_gpus", "must be from 0 to num_gpus - 1 = 1, got -1"),
    ("twice", request(inactive_gpus=[1, 1]), "inactive_gpus", "must name each GPU once, names 1 more than once"),
    (
        "too many",
        request(inactive_gpus=[1]),
        "inactive_gpus",
        "must leave a slot for each of 4 experts, leave 1 GPUs x 3 slots = 3",
    ),
    ("all", request(inactive_gpus=[0, 1]), "inactive_gpus", "of 4 experts, leave 0 GPUs x 3 slots = 0"),
    ("too few speeds", request(gpu_speed=[1]), "gpu_speed", "must have one value for each of num_gpus = 2, has 1"),
    ("too many speeds", request(gpu_speed=[1, 1, 1]), "gpu_speed", "for each of num_gpus = 2, has 3"),
    ("speed zero", request(gpu_speed=[1, 0]), "gpu_speed", "must be finite and above 0, got 0.0 for GPU 1"),
    ("speed negative", request(gpu_speed=[-1, 1]), "gpu_speed", "must be finite and above 0, got -1.0 for GPU 0"),
    ("speed nan", request(gpu_speed=[1, NAN]), "gpu_speed", "must be finite and above 0, got nan for GPU 1"),
    ("speed infinite", request(gpu_speed=[INF, 1]), "gpu_speed", "must be finite and above 0, got inf for GPU 0"),
    (
        "speeds far apart",
        request(gpu_speed=[1, 2e6]),
        "gpu_speed",
        "the fastest may be at most 1e+06 times the slowest, got 2000000.0 and 1.0",
    ),
]

CASES = [*LOADS, *NUMBERS, *SIZES, *HIERARCHIES, *PREVIOUS, *GPUS]


@pytest.mark.parametrize(("bad", "field", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_request_is_named(bad: pb.RebalanceRequest, field: str, words: str) -> None:
    """The field, the rule, the numbers."""
    with pytest.raises(InvalidArgumentError) as caught:
        read_rebalance(bad, LIMITS)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert words in violation.description
