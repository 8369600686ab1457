"""Requests gone wrong: bytes mutated from valid requests, and valid messages with wild values; from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.harness.asking import SMALL, Ask, Cost
from trimtab import wire
from trimtab.v1 import placement_pb2 as pb

TINY = Cost(layers=(1, 2, 3), experts=12, gpus=4, windows=1, target_gap=None)
"""Some hundred bytes: a request that is still valid after its mutation costs the server little."""
_METHODS = ("Pack", "Rebalance", "Describe")
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_WILD_INTEGERS = (0, 1, -1, 2, 3, 4, 7, 8, 12, 64, 4096, 8192, 8193, 65535, 2**31 - 1, -(2**31))
_WILD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 5e-324)
_WILD_LONGS = (0, 1, 2**32, 2**63 - 1, -(2**63), *_WILD_INTEGERS)


def flip_bits(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """One to eight bits, anywhere."""
    for _ in range(dice.randint(1, 8)):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)


def truncate(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """The rest is missing."""
    del raw[dice.randrange(len(raw)) :]


def cut(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """Some bytes from the middle are missing."""
    at = dice.randrange(len(raw))
    del raw[at : at + dice.randint(1, 16)]


def splice(raw: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    """Another request's bytes from somewhere on."""
    other = dice.choice(others)
    raw[dice.randrange(len(raw)) :] = other[dice.randrange(len(other)) :]


def repeat(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """A stretch twice, often a whole field."""
    at = dice.randrange(len(raw))
    part = raw[at : at + dice.randint(1, 40)]
    raw[at:at] = part


def twice(raw: bytearray, _dice: random.Random, others: Sequence[bytes]) -> None:
    """Two messages one after the other: protobuf merges them."""
    raw += others[len(raw) % len(others)]


def insert_varint(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """A varint of up to eleven bytes, one more than there may be."""
    length = dice.randint(1, 11)
    raw[(at := dice.randrange(len(raw))) : at] = b"\xff" * (length - 1) + bytes([dice.randrange(128)])


def edge_byte(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """A byte of the head, where tags and lengths are, at the edge of its range."""
    raw[dice.randrange(min(len(raw), 24))] = dice.choice(_EDGES)


def append_field(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """One more field of any number and wire type."""
    raw += bytes([dice.randrange(1, 256), dice.randrange(256), dice.randrange(256)])


def append_number(raw: bytearray, dice: random.Random, _others: Sequence[bytes]) -> None:
    """One of the first fields again, with another number: the last one counts."""
    raw += bytes([dice.randrange(1, 16) << 3, dice.choice(_EDGES[:3])])


Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]
MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    cut,
    splice,
    repeat,
    twice,
    insert_varint,
    edge_byte,
    append_field,
    append_number,
)


class Mutator:
    """Requests without end from a seed; the nth is always the same."""

    def __init__(self, asks: Sequence[Ask], seed: int, structured: float = 0.15) -> None:
        """Mutate some valid requests.

        Args:
            asks: the corpus. seed: repeats a run.
            structured: the share of valid messages with wild values.
        """
        self._corpus = [(ask.method, ask.raw) for ask in asks]
        self._raws = [raw for _, raw in self._corpus]
        self._dice = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._structured = structured

    def next(self) -> tuple[str, bytes]:
        """A method and what to send to it."""
        dice = self._dice
        if dice.random() < self._structured:
            return structured(dice)
        method, raw = dice.choice(self._corpus)
        mutated = bytearray(raw)
        for _ in range(1 if dice.random() < 0.7 else dice.randint(2, 5)):
            if not mutated:
                break
            dice.choice(MUTATIONS)(mutated, dice, self._raws)
        if dice.random() < 0.02:
            method = dice.choice(_METHODS)  # the message of another
        return method, bytes(mutated)


def wild_tensor(dice: random.Random, low: int = 0) -> pb.Tensor:
    """A small tensor of any type, shape and values; the bytes mostly fit the shape."""
    shape = [dice.choice((1, 1, 2, 3, 4, 8, 12)) for _ in range(dice.choice((1, 2, 2, 2, 2, 3, 3, 4)))]
    size = int(np.prod(shape))
    kind = dice.choice((pb.DATA_TYPE_INT32, pb.DATA_TYPE_INT64, pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64))
    dtype = wire.DTYPES[kind]
    values: Any = np.array([dice.randint(low, 12) for _ in range(size)], np.float64)
    if dice.random() < 0.3:
        wild: Sequence[float] = _WILD_FLOATS if dtype.kind == "f" else (-1, 0, 2**31 - 1, -(2**31))
        values[dice.randrange(size)] = dice.choice(wild)
    with np.errstate(all="ignore"):
        data = values.astype(dtype).tobytes()
    if dice.random() < 0.05:
        shape[dice.randrange(len(shape))] = dice.choice(_WILD_LONGS)
    if dice.random() < 0.05:
        data = data[: dice.randrange(len(data) + 1)]
    number = dice.randrange(-2, 9) if dice.random() < 0.05 else kind
    return pb.Tensor(data_type=number, shape=shape, data=data)  # type: ignore[arg-type]  # also types of the future


def _set_wild(message: Any, dice: random.Random, names: Sequence[str]) -> None:
    """Some of these fields, to anything that they can carry."""
    fields = message.DESCRIPTOR.fields_by_name
    for name in names:
        if dice.random() < 0.25:
            kind = fields[name].type
            if kind == fields[name].TYPE_BOOL:
                setattr(message, name, dice.random() < 0.5)
            elif kind == fields[name].TYPE_DOUBLE:
                setattr(message, name, dice.choice(_WILD_FLOATS))
            elif kind == fields[name].TYPE_FIXED64:
                setattr(message, name, dice.getrandbits(64))
            else:
                setattr(message, name, dice.choice(_WILD_INTEGERS))


def structured(dice: random.Random) -> tuple[str, bytes]:
    """A valid message with wild values."""
    options = pb.PackOptions()
    names = [field.name for field in options.DESCRIPTOR.fields]
    _set_wild(options, dice, names)
    if dice.random() < 0.5:
        pack = pb.PackRequest(weight=wild_tensor(dice), num_packs=dice.choice((1, 1, 2, 2, 3, 4)), options=options)
        _set_wild(pack, dice, ["priority"])
        return "Pack", pack.SerializeToString()
    gpus = dice.choice((1, 2, 3, 4))
    request = pb.RebalanceRequest(
        load=wild_tensor(dice), num_gpus=gpus, num_replicas=gpus * dice.choice((1, 2, 3, 4, 6, 12)), options=options
    )
    if dice.random() < 0.4:
        request.previous.CopyFrom(_previous(dice, request) if dice.random() < 0.7 else wild_tensor(dice, -1))
    singles = ("num_nodes", "num_groups", "hierarchy", "max_moves", "min_gain", "allow_duplicates", "priority")
    if dice.random() < 0.3:
        _set_wild(request, dice, singles)
    if dice.random() < 0.2:
        request.inactive_gpus.extend(dice.choice((0, 0, 1, -1, 7)) for _ in range(dice.randint(1, 3)))
    if dice.random() < 0.2:
        request.gpu_speed.extend(dice.choice((1.0, 1.0, 2.0, *_WILD_FLOATS)) for _ in range(gpus))
    return "Rebalance", request.SerializeToString()


def _previous(dice: random.Random, request: pb.RebalanceRequest) -> pb.Tensor:
    """One of the right shape, where the load has one."""
    layers = request.load.shape[-2] if len(request.load.shape) > 1 else 1
    experts = request.load.shape[-1] if request.load.shape else 1
    layers, experts = (min(max(number, 1), SMALL.experts) for number in (layers, experts))
    slots = np.resize(np.arange(experts), (layers, min(request.num_replicas, 64))).astype(np.int32)
    for _ in range(dice.choice((0, 0, 1, 3))):
        slots[dice.randrange(layers), dice.randrange(slots.shape[1])] = dice.choice((-1, 0, 5, 99))
    return wire.encode(slots)
