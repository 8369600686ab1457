"""What the harness asks for: requests as bytes, each with the answer that it has to get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trimtab import wire
from trimtab.requests import pack_request, rebalance_request
from trimtab.synthetic import generate_loads
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.contract import read_pack, write_pack
from trimtab_server.engine import Engine
from trimtab_server.jobs import Solved
from trimtab_server.rebalance_contract import read_rebalance, write_rebalance
from trimtab_server.settings import Settings

SERVICE = "/trimtab.v1.PlacementService/"
ANSWERS: dict[str, Any] = {
    "Pack": pb.PackResponse,
    "Rebalance": pb.RebalanceResponse,
    "Describe": pb.DescribeResponse,
}
_UNREFINED = {"num_restarts": None, "noise_min": None, "noise_max": None, "seed": 0, "refine": None, "target_gap": None}
_PLAIN = {"hierarchy": "automatic", "inactive_gpus": (), "gpu_speed": None, "priority": "normal", **_UNREFINED}


class Cost(NamedTuple):
    """How large the requests of a mix are."""

    layers: tuple[int, ...]
    experts: int
    gpus: int
    windows: int
    target_gap: float | None


SMALL = Cost(layers=(4, 8, 12, 16), experts=24, gpus=4, windows=1, target_gap=None)
"""Some hundred bytes to 3 kB: for a device that sleeps a fixed time a row."""
HEAVY = Cost(layers=(58,), experts=256, gpus=32, windows=4, target_gap=0.0)
"""60 to 300 kB, tens of milliseconds each: few enough a second that the sender's cores can offer ten times as many."""


@dataclass(frozen=True)
class Ask:
    """A request as bytes."""

    kind: str
    method: str
    raw: bytes
    rows: int
    """Layers to solve; 0 for what must be refused, or needs no solve."""
    expected: bytes | None
    """What the answer promises, see `promise_of`; None where it is any."""
    valid: bool = True


def promise_of(method: str, answer: bytes) -> bytes:
    """Of an answer, the part that is the same bytes each time: the packing or the placement."""
    message = ANSWERS[method].FromString(answer)
    if method == "Describe":
        message.ClearField("limits")
        part = message
    else:
        part = message.packing if method == "Pack" else message.placement
    return bytes(part.SerializeToString(deterministic=True))


def solve_seconds_of(method: str, answer: bytes) -> float:
    """How long the solve took that an answer came from."""
    return 0.0 if method == "Describe" else float(ANSWERS[method].FromString(answer).execution.solve_seconds)


class Oracle:
    """Solves requests in this process, as the server has to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limits = Settings().request_limits

    def answer(self, method: str, request: Any) -> bytes:
        """What the server's answer promises."""
        read: Any = read_pack if method == "Pack" else read_rebalance
        write: Any = write_pack if method == "Pack" else write_rebalance
        problem, _ = read(request, self._limits)
        (answer,) = self._engine.solve([problem])
        solved: Solved[Any] = Solved(answer, 0.0, 0.0, 0.0, 1, problem.num_rows)
        return promise_of(method, write(solved).SerializeToString())


def _pack(cost: Cost, layers: int, seed: int, *, low: bool) -> Any:
    slots = cost.experts + cost.gpus
    load = generate_loads(layers, slots, seed=seed).astype(np.float32 if seed % 2 else np.int64)
    options = {**_UNREFINED, "seed": seed, "target_gap": cost.target_gap}
    return pack_request(load, cost.gpus, "low" if low else "normal", **options)


def _rebalance(cost: Cost, layers: int, seed: int, *, low: bool, moving: bool) -> Any:
    slots = cost.experts + cost.gpus
    load = np.stack([generate_loads(layers, cost.experts, seed=seed + i) for i in range(cost.windows)])
    previous = np.tile(np.arange(slots) % cost.experts, (layers, 1)).astype(np.int32) if moving else None
    given: Any = {**_PLAIN, "priority": "low" if low else "normal", "target_gap": cost.target_gap}
    return rebalance_request(
        load, previous=previous, num_gpus=cost.gpus, num_replicas=slots, max_moves=layers if moving else None, **given
    )


def valid_asks(cost: Cost, oracle: Oracle, *, low: bool = False) -> list[Ask]:
    """Requests of several shapes and both kinds, with their answers."""
    asks = []
    for seed, layers in enumerate(cost.layers * 2):
        requests = [
            ("pack", "Pack", _pack(cost, layers, seed, low=low)),
            ("rebalance", "Rebalance", _rebalance(cost, layers, seed, low=low, moving=bool(seed % 2))),
        ]
        asks += [
            Ask(kind, method, request.SerializeToString(), layers, oracle.answer(method, request))
            for kind, method, request in requests
        ]
    return asks


def describe_ask() -> Ask:
    """A request that needs no solve."""
    return Ask("describe", "Describe", b"", 0, None)


def bad_asks() -> list[Ask]:
    """Requests that must be refused as invalid, each for a reason of its own."""
    nan = np.full((3, 8), np.nan)
    three = np.ones((2, 6))
    short = pb.Tensor(data_type=pb.DATA_TYPE_FLOAT64, shape=[4, 4], data=b"short")
    messages: Sequence[tuple[str, bytes]] = [
        ("Pack", b"\xff\xff\xff"),
        ("Pack", b""),
        ("Pack", pb.PackRequest(weight=wire.encode(nan), num_packs=2).SerializeToString()),
        ("Pack", pb.PackRequest(weight=wire.encode(three), num_packs=4).SerializeToString()),
        ("Pack", pb.PackRequest(weight=short, num_packs=2).SerializeToString()),
        ("Rebalance", pb.RebalanceRequest(load=wire.encode(three), num_gpus=4).SerializeToString()),
        ("Rebalance", b"\x0a\x03abc"),
    ]
    return [Ask("bad", method, raw, 0, None, valid=False) for method, raw in messages]
