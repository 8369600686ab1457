"""Bad input, on the wire: a named error each, and the server goes on. And what looks odd but is valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http_port import total
from trimtab import InvalidArgumentError, wire
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.errors import from_rpc_error
from trimtab.v1 import placement_pb2 as pb

Call = Any  # bytes to PackResponse, as `raw_pack` makes it


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    """A server with limits that a test can pass."""
    limits = ("--max-rows=16", "--max-items=64", "--max-restarts=8", "--max-item-steps=4096")
    with running_server(*limits) as process:
        yield process


@pytest.fixture(scope="module")
def raw_pack(small_server: ServerProcess) -> Iterator[Call]:
    """Sends whatever bytes as a PackRequest."""
    with grpc.insecure_channel(small_server.listen) as channel:
        yield channel.unary_unary("/trimtab.v1.PlacementService/Pack", response_deserializer=pb.PackResponse.FromString)


def tensor(array: Any) -> pb.Tensor:
    return wire.encode(np.asarray(array))


def raw(data_type: int, shape: Sequence[int] = (), data: bytes = b"") -> pb.Tensor:
    return pb.Tensor(data_type=data_type, shape=shape, data=data)  # type: ignore[arg-type]  # also types of the future


def request(weight: Any = None, num_packs: int = 2, **options: Any) -> pb.PackRequest:
    weight = np.ones((2, 4), np.float32) if weight is None else weight
    return pb.PackRequest(
        weight=weight if isinstance(weight, pb.Tensor) else tensor(weight),
        num_packs=num_packs,
        options=pb.PackOptions(**options),
    )


def refused(raw_pack: Call, raw: bytes) -> InvalidArgumentError:
    with pytest.raises(grpc.RpcError) as caught:
        raw_pack(raw, timeout=20)
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError), error
    return error


NAN = np.ones((2, 4))
NAN[1, 2] = np.nan

CASES: list[tuple[str, pb.PackRequest, str, str]] = [
    ("missing tensor", pb.PackRequest(num_packs=2), "weight", "is required"),
    ("no data type", request(pb.Tensor(shape=[2, 4])), "weight.data_type", "got UNSPECIFIED"),
    ("answer's type", request(np.ones((2, 4), np.int16)), "weight.data_type", "got INT16"),
    ("unknown type", request(raw(99, shape=[2, 4])), "weight.data_type", "got 99"),
    ("short data", request(raw(4, shape=[2, 4], data=b"1234")), "weight.data", "needs 32 bytes, got 4"),
    ("zero size", request(raw(4, shape=[0, 4])), "weight.shape", "at least 1, got [0, 4]"),
    ("negative size", request(raw(4, shape=[-2, -4])), "weight.shape", "got [-2, -4]"),
    ("absurd size", request(raw(4, shape=[1, 1 << 60])), "weight.data", f"needs {4 << 60} bytes"),
    ("overflowing", request(raw(4, shape=[1 << 62, 1 << 62])), "weight.data", f"needs {4 << 124}"),
    ("rank 1", request(np.ones(4)), "weight.shape", "must have rank 2, got rank 1"),
    ("rank 3", request(np.ones((1, 2, 2))), "weight.shape", "must have rank 2, got rank 3"),
    ("nan", request(NAN), "weight", "finite and at least 0, got nan at [1, 2]"),
    ("infinity", request(np.where(np.isnan(NAN), np.inf, NAN)), "weight", "got inf at [1, 2]"),
    ("negative", request(np.where(np.isnan(NAN), -0.5, NAN)), "weight", "got -0.5 at [1, 2]"),
    ("negative integer", request(np.array([[1, -7]])), "weight", "got -7 at [0, 1]"),
    ("sum", request(np.full((2, 4), 3e38)), "weight", "must fit a float32, at most 3.403e+38, got 1.2e+39 in layer 0"),
    ("sum of doubles", request(np.full((1, 4), 1e308)), "weight", "got inf in layer 0"),
    ("no packs", request(num_packs=0), "num_packs", "must be from 1 to num_items = 4, got 0"),
    ("negative packs", request(num_packs=-2), "num_packs", "from 1 to num_items = 4, got -2"),
    ("more packs than items", request(num_packs=5), "num_packs", "from 1 to num_items = 4, got 5"),
    ("packs that do not divide", request(num_packs=3), "num_packs", "the nearest that do are 2 and 4"),
    (
        "too many rows",
        request(np.ones((17, 4))),
        "weight.shape",
        "num_layers = 17 is above this server's max_rows = 16",
    ),
    (
        "too many items",
        request(np.ones((1, 66))),
        "weight.shape",
        "num_items = 66 is above this server's max_items = 64",
    ),
    ("too many restarts", request(num_restarts=9), "options.num_restarts", "9 is above this server's max_restarts = 8"),
    (
        "too many steps",
        request(np.ones((16, 64))),
        "weight.shape",
        "16 layers x 64 items x 8 restarts = 8192 is above this server's max_item_steps = 4096",
    ),
    ("no restarts", request(num_restarts=0), "options.num_restarts", "at least 1, got 0"),
    ("negative restarts", request(num_restarts=-1), "options.num_restarts", "at least 1, got -1"),
    ("negative noise", request(noise_min=-0.1), "options.noise_min", "from 0 to 1, got -0.1"),
    ("noise nan", request(noise_min=float("nan")), "options.noise_min", "got nan"),
    ("noise crossed", request(noise_min=0.5, noise_max=0.2), "options.noise_max", "from noise_min = 0.5 to 1, got 0.2"),
    ("noise too large", request(noise_max=1.5), "options.noise_max", "to 1, got 1.5"),
    ("negative gap", request(target_gap=-0.1), "options.target_gap", "must be finite and at least 0, got -0.1"),
    ("gap nan", request(target_gap=float("nan")), "options.target_gap", "must be finite and at least 0, got nan"),
    ("gap infinite", request(target_gap=float("inf")), "options.target_gap", "must be finite and at least 0, got inf"),
]


@pytest.mark.parametrize(("bad", "field", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_request_is_named(raw_pack: Call, bad: pb.PackRequest, field: str, words: str) -> None:
    """INVALID_ARGUMENT with BadRequest: the field, the rule, the numbers."""
    (violation,) = refused(raw_pack, bad.SerializeToString()).violations
    assert violation.field == field
    assert words in violation.description


def test_an_unknown_priority_is_named(raw_pack: Call) -> None:
    """An enum value of the future."""
    bad = request()
    bad.priority = 7  # type: ignore[assignment]
    (violation,) = refused(raw_pack, bad.SerializeToString()).violations
    assert (violation.field, violation.description) == (
        "priority",
        "must be PRIORITY_UNSPECIFIED or PRIORITY_LOW, got 7",
    )


def test_bytes_that_are_no_message_are_named(raw_pack: Call) -> None:
    """Not INTERNAL: the caller is wrong, and is told so."""
    assert "3 bytes are not a message" in str(refused(raw_pack, b"\xff\xff\xff"))


def test_a_shape_of_a_million_sizes_is_refused(raw_pack: Call) -> None:
    """By its rank, without looking at the sizes."""
    bad = request(raw(pb.DATA_TYPE_FLOAT32, shape=[1] * 1_000_000))
    assert "got rank 1000000" in str(refused(raw_pack, bad.SerializeToString()))


VALID: dict[str, tuple[Any, int]] = {
    "no load": (np.zeros((3, 4)), 2),
    "one layer": (np.ones((1, 4)), 2),
    "one item a pack": (np.arange(4.0)[None], 4),
    "one pack": (np.arange(4.0)[None], 1),
    "one item": (np.ones((1, 1)), 1),
    "equal weights": (np.full((2, 6), 7, np.int32), 3),
    "huge range": (np.array([[1e-30, 1e30, 0.0, 1.0]], np.float64), 2),
    "subnormal": (np.full((1, 4), 5e-324), 2),
    "largest float32": (np.array([[3.4e38, 0]], np.float32), 2),
    "largest int64": (np.array([[2**63 - 1, 1]]), 2),
}


@pytest.mark.parametrize(("weight", "num_packs"), VALID.values(), ids=VALID.keys())
def test_the_odd_and_valid_is_answered(raw_pack: Call, weight: Any, num_packs: int) -> None:
    """With packs of equal counts and a sound bound."""
    packing = raw_pack(request(weight, num_packs).SerializeToString(), timeout=20).packing
    index = wire.decode(packing.pack_index, "pack_index", ndim=(2,), data_types=wire.ANSWER_TYPES)
    for row in index:
        assert np.bincount(row, minlength=num_packs).tolist() == [weight.shape[1] // num_packs] * num_packs
    assert (np.array(packing.lower_bound) <= np.array(packing.max_load)).all()


@settings(max_examples=200)
@given(st.data())
def test_any_bytes_get_an_answer_or_a_named_error(raw_pack: Call, data: st.DataObject) -> None:
    """Valid requests with bytes changed, cut or added: a packing or INVALID_ARGUMENT, nothing else."""
    raw = bytearray(request(np.arange(32.0).reshape(2, 16), 4).SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "add"]))
        if change == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif change == "cut" and len(raw) > 1:
            del raw[at]
        else:
            raw.insert(at, data.draw(st.integers(0, 255)))
    try:
        assert raw_pack(bytes(raw), timeout=20).packing.algorithm
    except grpc.RpcError as error:
        assert isinstance(from_rpc_error(error), InvalidArgumentError), error  # noqa: PT017  # either outcome is right


def test_the_server_went_on(small_server: ServerProcess, raw_pack: Call) -> None:
    """After all of that: it answers, nothing was unexpected, nothing of the inside was logged."""
    assert raw_pack(request().SerializeToString(), timeout=20).packing.algorithm
    assert total(small_server.scrape(), "grpc_server_handled_total", grpc_code="INTERNAL") == 0
    assert not [line for line in small_server.lines if "Traceback" in line]
