"""Windows put together: all of them, or sums that stand for equally many each, against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_files import Array, npy
from trimtab.formats import FileError, Source, folding, read_loads
from trimtab.formats.folding import Folding

COUNTS = np.random.default_rng(0).integers(0, 1000, (300, 2, 3))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """What messages name."""
    path = tmp_path_factory.mktemp("folding") / "a"
    path.write_bytes(b"x")
    return Source(path)


def folded(source: Source, parts: list[Array], at_most: int | None) -> Array:
    """Parts one after the other."""
    fold = Folding(at_most)
    for part in parts:
        fold.add(source, part)
    assert fold.num_read == sum(len(part) if part.ndim == 3 else 1 for part in parts)
    return fold.windows()


def split(data: st.DataObject, windows: Array) -> list[Array]:
    """In parts of any sizes; single ones with or without their dimension."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(windows)), max_size=4)))
    parts = [part for part in np.split(windows, cuts) if len(part)]
    return [part[0] if len(part) == 1 and data.draw(st.booleans()) else part for part in parts]


def plain_sums(windows: Array, at_most: int) -> Array:
    """The rule in plain words: the smallest power of two that is enough, and a short rest goes to its neighbour."""
    each = 1
    while -(-len(windows) // each) > at_most:
        each *= 2
    sums = [windows[begin : begin + each].sum(axis=0) for begin in range(0, len(windows), each)]
    if len(windows) % each and 2 * (len(windows) % each) < each and len(sums) > 1:
        last = sums.pop()
        sums[-1] = sums[-1] + last
    return np.stack(sums)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), number=st.integers(1, 300), at_most=st.integers(1, 40))
def test_sums_against_numpy(source: Source, data: st.DataObject, number: int, at_most: int) -> None:
    """At most so many, exactly, whatever parts they came in."""
    windows = COUNTS[:number]
    sums = folded(source, split(data, windows), at_most)
    np.testing.assert_array_equal(sums, plain_sums(windows, at_most))
    assert sums.dtype == np.int64
    assert len(sums) <= at_most


@settings(max_examples=50, deadline=None)
@given(data=st.data(), number=st.integers(1, 300), block=st.integers(1, 4000))
def test_all_against_numpy(source: Source, data: st.DataObject, number: int, block: int) -> None:
    """Every window, in order, also where they fill many blocks and asked for twice."""
    before, folding._BLOCK_BYTES = folding._BLOCK_BYTES, block
    try:
        fold = Folding(None)
        for part in split(data, COUNTS[:number]):
            fold.add(source, part)
        for _ in range(2):
            np.testing.assert_array_equal(fold.windows(), COUNTS[:number])
    finally:
        folding._BLOCK_BYTES = before


def test_what_comes_alone_is_not_copied(source: Source) -> None:
    """An array of all windows can be half of memory."""
    windows = np.zeros((folding._BLOCK_BYTES // 4096, 32, 32), np.int32)
    assert np.shares_memory(folded(source, [windows], None), windows)


@pytest.mark.parametrize("at_most", [None, 2])
def test_types_that_are_mixed(source: Source, at_most: int | None) -> None:
    """Counts stay exact as long as they are all counts; a float makes the whole floats."""
    ints = folded(source, [COUNTS[:2].astype(np.int32), COUNTS[2:4]], at_most)
    assert ints.dtype == np.int64
    floats = folded(source, [COUNTS[:2], COUNTS[2:4] + 0.5], at_most)
    assert floats.dtype == np.float64
    assert floats.sum() == COUNTS[:4].sum() + 2 * 6 * 0.5


def test_sums_of_small_counts_do_not_wrap(source: Source) -> None:
    """Many int32 add up to more than one holds, int64 to more than that."""
    small = np.full((9, 1, 1), 2**31 - 1, np.int32)
    assert folded(source, [small], 1).tolist() == [[[9 * (2**31 - 1)]]]
    large = np.full((9, 1, 1), 2**62)
    assert folded(source, [large], 1).tolist() == [[[9.0 * 2**62]]]


def test_a_bad_load_is_named_by_its_window(source: Source, tmp_path: Path) -> None:
    """Of its file, wherever it is among the blocks that are looked at together."""
    for bad in (np.nan, np.inf, -np.inf, -1):
        windows = COUNTS.astype(float)
        windows[200, 1, 2] = bad
        for at_most in (None, 3):
            with pytest.raises(FileError, match=r"got -?(nan|inf|1.0) at \[200, 1, 2\]"):
                folded(source, [windows], at_most)
    npy(-np.ones((2, 2), int))(tmp_path / "a")
    npy(np.ones((2, 2), int))(tmp_path / "b")
    with pytest.raises(FileError, match=r"a: every load must be finite and at least 0, got -1 at \[0, 0, 0\]"):
        read_loads([tmp_path / "b", tmp_path / "a"])
