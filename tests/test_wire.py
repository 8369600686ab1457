"""Arrays to tensors and back, and every way in which bytes and shape can disagree."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb

EVERY_TYPE = tuple(wire.DTYPES)
BIG = 1 << 60


def raw(data_type: int, shape: Sequence[int] = (), data: bytes = b"") -> pb.Tensor:
    """A tensor whose parts need not agree."""
    return pb.Tensor(data_type=data_type, shape=shape, data=data)  # type: ignore[arg-type]  # also types of the future


def decode(tensor: pb.Tensor) -> wire.Array:
    return wire.decode(tensor, "weight", ndim=(2,), data_types=wire.REQUEST_TYPES)


@given(
    hnp.arrays(
        st.sampled_from([dtype.newbyteorder(order) for dtype in wire.DTYPES.values() for order in ("<", ">")]),
        hnp.array_shapes(min_dims=1, max_dims=3),
    )
)
def test_arrays_come_back_as_they_went(array: wire.Array) -> None:
    """Every dtype of the wire, either byte order, any layout, returns with the same values."""
    tensor = pb.Tensor.FromString(wire.encode(array.T).SerializeToString())
    back = wire.decode(tensor, "x", ndim=(1, 2, 3), data_types=EVERY_TYPE)
    np.testing.assert_array_equal(back, array.T)
    assert back.dtype == array.dtype.newbyteorder("<")


def test_the_bytes_are_raw_little_endian_and_row_major() -> None:
    """What the contract says of the bytes, spelled out."""
    tensor = wire.encode(np.asfortranarray(np.array([[1, 2], [3, 4]], ">i4")))
    assert tensor.data == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    assert (tensor.data_type, list(tensor.shape)) == (pb.DATA_TYPE_INT32, [2, 2])


def test_decoding_neither_copies_nor_writes() -> None:
    """A decoded array is a read-only view."""
    array = decode(wire.encode(np.ones((2, 3), np.float32)))
    assert not array.flags.writeable
    assert not array.flags.owndata


@pytest.mark.parametrize(
    ("tensor", "field", "words"),
    [
        (pb.Tensor(), "weight.data_type", "must be one of INT32, INT64, FLOAT32, FLOAT64, got UNSPECIFIED"),
        (raw(1, shape=[1, 1], data=b"ab"), "weight.data_type", "got INT16"),
        (raw(77, shape=[1, 1], data=b"abcd"), "weight.data_type", "got 77"),
        (raw(4, data=b"abcd"), "weight.shape", "must have rank 2, got rank 0"),
        (raw(4, shape=[1], data=b"abcd"), "weight.shape", "got rank 1"),
        (raw(4, shape=[1, 1, 1], data=b"abcd"), "weight.shape", "got rank 3"),
        (raw(4, shape=[0, 1]), "weight.shape", "at least 1, got [0, 1]"),
        (raw(4, shape=[-1, -1], data=b"abcd"), "weight.shape", "at least 1, got [-1, -1]"),
        (raw(4, shape=[BIG, 1], data=b"abcd"), "weight.data", f"needs {BIG * 4} bytes, got 4"),
        (raw(4, shape=[BIG, BIG], data=b"abcd"), "weight.data", f"needs {BIG * BIG * 4} bytes, got 4"),
        (raw(4, shape=[1, 2], data=b"abcd"), "weight.data", "[1, 2] of FLOAT32 needs 8 bytes, got 4"),
        (raw(5, shape=[1, 1], data=b"123456789"), "weight.data", "needs 8 bytes, got 9"),
    ],
)
def test_what_does_not_agree_is_named(tensor: pb.Tensor, field: str, words: str) -> None:
    """Each error names the field, the rule and both numbers."""
    with pytest.raises(InvalidArgumentError) as caught:
        decode(tensor)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert words in violation.description


@pytest.mark.parametrize(
    ("given_dtype", "sent"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("bool", "int32"),
        ("int8", "int32"),
        ("uint8", "int32"),
        ("int16", "int32"),
        ("uint16", "int32"),
        ("int32", "int32"),
        ("uint32", "int64"),
        ("int64", "int64"),
        ("uint64", "int64"),
    ],
)
def test_small_types_are_upcast_without_loss(given_dtype: str, sent: str) -> None:
    """What the wire does not carry travels as the next type that holds it."""
    array = wire.to_array(np.array([[0, 1]]).astype(given_dtype), "weight")
    assert array.dtype == sent
    np.testing.assert_array_equal(array, [[0, 1]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32, torch.int64])
def test_torch_tensors_are_taken(dtype: torch.dtype) -> None:
    """Also those that numpy has no type for, and those that carry gradients."""
    tensor = torch.tensor([[1, 2]]).to(dtype)
    if dtype.is_floating_point:
        tensor.requires_grad_()
    np.testing.assert_array_equal(wire.to_array(tensor, "weight"), [[1, 2]])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1, 2], [3]], "not a rectangular array"),
        ([["a"]], "dtype <U1"),
        ([[1j]], "dtype complex128"),
        ([[None]], "dtype object"),
        (np.array([[2**63]], np.uint64), f"must fit an int64, got {2**63}"),
    ],
)
def test_what_is_not_numbers_is_refused_before_it_is_sent(values: object, words: str) -> None:
    """The client says what it got."""
    with pytest.raises(InvalidArgumentError, match="weight") as caught:
        wire.to_array(values, "weight")
    assert words in str(caught.value)


def test_the_largest_unsigned_number_that_fits_is_sent() -> None:
    """One more is refused, above."""
    largest = 2**63 - 1
    assert wire.to_array(np.array([[largest]], np.uint64), "weight").tolist() == [[largest]]


@pytest.mark.parametrize(
    ("dimensions", "dtype"),
    [((5,), np.int16), ((288, 58), np.int16), ((32767, 5), np.int16), ((5, 32768), np.int32)],
)
def test_dimensions_decide_the_type_of_ids(dimensions: tuple[int, ...], dtype: type) -> None:
    """INT16 while every dimension fits."""
    assert wire.answer_dtype(*dimensions) == dtype
