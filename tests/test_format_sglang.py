"""What SGLang's recorders dump, read: every mode, several ranks, rings; and what is wrong with a dump, told plainly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_packages import why_not_here
from tests.format_files import Array, Make, json_of, pt, raw, recorded, told
from tests.kept_venv import ROOT
from trimtab.formats import StoredPlacement, read_loads, read_placement, write_placement
from trimtab.formats.stored import LogicalCount
from trimtab.synthetic import generate_loads

WINDOWS = generate_loads(3, 6, num_windows=4)
MAP = np.array([[0, 1, 2, 0], [2, 0, 1, 1]])


def stat(steps: Array) -> Make:
    """What rank 0 dumps in the modes stat and stat_approx."""
    counts = torch.tensor(steps, dtype=torch.int32)
    return pt({"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None})


@pytest.mark.parametrize("make", [stat(WINDOWS), json_of(logical_count=WINDOWS.tolist())])
def test_steps_are_windows(tmp_path: Path, make: Make) -> None:
    """All of them, in order."""
    make(tmp_path / "expert_distribution_recorder_1.pt")
    read = read_loads(tmp_path / "expert_distribution_recorder_1.pt")
    np.testing.assert_array_equal(read.load, WINDOWS)
    assert read.num_read == 4


@pytest.mark.parametrize(
    ("buffer", "expected"),
    [
        ([1, 2, 0, 0], [1, 2]),
        ([0, 0, 1, 2, 3, 0], [1, 2, 3]),
        ([0, 0, 1, 2], [1, 2]),
        ([3, 4, 0, 0, 1, 2], [1, 2, 3, 4]),
        ([1, 2, 3], [1, 2, 3]),
        ([0, 1, 0, 2, 0], [1, 2]),
        ([1, 0, 2, 0, 3], [1, 2, 3]),
        ([0, 0], [0, 0]),
    ],
    ids=str,
)
def test_a_ring_comes_out_in_time(tmp_path: Path, buffer: list[int], expected: list[int]) -> None:
    """Steps that were never seen are left out; a dump that goes on over the ring's end begins after the gap."""
    stat(np.array(buffer)[:, None, None] * WINDOWS[0])(tmp_path / "a.pt")
    read = read_loads(tmp_path / "a.pt")
    np.testing.assert_array_equal(read.load, np.array(expected)[:, None, None] * WINDOWS[0])
    assert read.num_read == len(expected)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(2, 7), first=st.integers(1, 6), second=st.integers(1, 7))
def test_a_second_recording_into_the_same_ring(
    tmp_path_factory: pytest.TempPathFactory, size: int, first: int, second: int
) -> None:
    """A ring as the recorder fills and empties it, without going back to its begin: its steps come in time."""
    ring, at = np.zeros((size, 1, 2), int), first % size
    second = min(second, size - 1)  # a full one does not tell where it begins
    for step in range(second):
        ring[(at + step) % size] = step + 1
    stat(ring)(tmp_path_factory.getbasetemp() / "ring.pt")
    read = read_loads(tmp_path_factory.getbasetemp() / "ring.pt").load
    assert read[:, 0, 0].tolist() == list(range(1, second + 1))


def dump(folder: Path, counts: dict[int, dict[int, Array]], last_map: Array = MAP, time: float = 1.5) -> list[Path]:
    """Files of ranks, by rank and forward pass."""
    paths = [folder / f"expert_distribution_recorder_{time}_{rank}.pt" for rank in counts]
    for (rank, passes), path in zip(counts.items(), paths, strict=True):
        torch.save(recorded(rank, passes, last_map), path)
    return paths


ONES = np.ones((2, 4), int)


def test_passes_are_summed_over_ranks_and_replicas(tmp_path: Path) -> None:
    """Slots become experts by the dump's map; a pass that a rank lacks is summed over those that have it."""
    dump(tmp_path, {0: {7: ONES, 9: 2 * ONES}, 1: {9: np.arange(8).reshape(2, 4)}})
    read = read_loads(tmp_path)
    assert read.load.tolist() == [[[2, 1, 1], [1, 2, 1]], [[7, 3, 4], [7, 17, 6]]]
    assert read.placement is not None
    np.testing.assert_array_equal(read.placement.physical_to_logical, MAP)
    placement = read_placement(next(tmp_path.iterdir()))
    np.testing.assert_array_equal(placement.physical_to_logical, MAP)


def test_passes_of_dumps_before_and_after_a_rebalancing(tmp_path: Path) -> None:
    """Each is counted under its own map; they come by the number of the pass, and the latest map is told."""
    later = dump(tmp_path, {0: {12: ONES}, 1: {12: ONES}}, MAP[::-1], time=2.5)
    earlier = dump(tmp_path, {0: {3: ONES}, 1: {3: ONES}})
    read = read_loads([*later, *earlier])
    assert read.load.tolist() == [[[4, 2, 2], [2, 4, 2]], [[2, 4, 2], [4, 2, 2]]]
    assert read.placement is not None
    np.testing.assert_array_equal(read.placement.physical_to_logical, MAP[::-1])


def test_tokens_one_by_one(tmp_path: Path) -> None:
    """The mode per_token has the same counts among more."""
    content = recorded(0, {1: ONES}, MAP)
    content["records"][0] |= {
        "input_ids": [1, 2],
        "positions": [0, 1],
        "extend_seq_lens": None,
        "forward_mode": 2,
        "topk_ids_of_layer": torch.zeros((2, 2, 8), dtype=torch.int32),
        "misc_objects": [{"layer_id": 0, "num_tokens_per_rank": [2]}],
    }
    torch.save(content, tmp_path / "a.pt")
    assert read_loads(tmp_path / "a.pt").load.tolist() == [[[2, 1, 1], [1, 2, 1]]]


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_passes_against_plain_sums(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any ranks, passes and maps, in any order of files: the tokens of a pass and expert are all that were counted."""
    folder = tmp_path_factory.mktemp("passes")
    num_ranks, num_passes, num_slots = (data.draw(st.integers(1, most)) for most in (3, 3, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    num_experts = data.draw(st.integers(1, num_slots))
    last_map = np.append(rng.integers(-1, num_experts, (2, num_slots - 1)), [[num_experts - 1]] * 2, axis=1)
    counts = rng.integers(0, 9, (num_ranks, num_passes, 2, num_slots))
    paths = dump(folder, {rank: dict(enumerate(own)) for rank, own in enumerate(counts)}, last_map)
    read = read_loads(data.draw(st.permutations(paths)))
    expected = np.zeros((num_passes, 2, num_experts), int)
    for (_, number, layer, slot), count in np.ndenumerate(counts):
        if last_map[layer, slot] >= 0:
            expected[number, layer, last_map[layer, slot]] += count
    np.testing.assert_array_equal(read.load, expected)


def csv_of(folder: Path, rank: int, time: str, text: str) -> None:
    """What the oldest recorder wrote."""
    path = folder / f"expert_distribution_rank{rank}_timestamp{time}.csv"
    path.write_text(f"layer_id,expert_id,count\n{text}")


def test_the_oldest_recorder(tmp_path: Path) -> None:
    """Ranks' files of a dump are summed, those of the next are the next window; experts without load have no line."""
    csv_of(tmp_path, 0, "1.5", "3,1,10\n3,0,1\n")
    csv_of(tmp_path, 1, "1.4", "1,2,5\n")
    csv_of(tmp_path, 0, "7.5", "3,0,2\r\n3,0,3\r\n")
    csv_of(tmp_path, 1, "7.6", "\n3,0,1\n")
    read = read_loads(tmp_path)
    assert read.load.shape == (2, 4, 3)
    assert {where: int(count) for where, count in np.ndenumerate(read.load) if count} == {
        (0, 1, 2): 5,
        (0, 3, 0): 1,
        (0, 3, 1): 10,
        (1, 3, 0): 6,
    }
    raw("\ufefflayer_id,expert_id,count\n0,1,2\n")(tmp_path / "other")
    assert read_loads([tmp_path / "other", tmp_path / "other"]).load.tolist() == [[[0, 2]], [[0, 2]]]


def test_dense_layers_get_rows(tmp_path: Path) -> None:
    """A placement of layers 2 and 4 is written with all up to 4, in SGLang's first order where it has none."""
    placement = StoredPlacement(np.array([[3, 2, 1, 0, 2], [0, 1, 2, 3, 3]]), np.array([2, 4]))
    for ending in (".json", ".pt"):
        write_placement(tmp_path / f"a{ending}", placement)
        back = read_placement(tmp_path / f"a{ending}").physical_to_logical
        dense = [0, 1, 2, 3, 0]
        assert back.tolist() == [dense, dense, [3, 2, 1, 0, 2], dense, [0, 1, 2, 3, 3]]


def without(key: str) -> Any:
    """A dump whose record lacks something."""
    content = recorded(0, {1: ONES}, MAP)
    del content["records"][0][key]
    return pt(content)


def changed(key: str, value: Any) -> Make:
    """A dump with something else in its record."""
    content = recorded(0, {1: ONES}, MAP)
    content["records"][0][key] = value
    return pt(content)


CSV = "layer_id,expert_id,count\n"
BAD: list[tuple[Make, str]] = [
    (json_of(logical_count="null"), "logical_count must hold numbers and nothing else, holds null"),
    (json_of(logical_count=5), "its loads have shape []; they must have shape [layers, experts]"),
    (
        json_of(logical_count=[[1], [2, 3]]),
        "must be of one length, they have from 1 to 2 values; give each layer every exp",
    ),
    (pt({}), "is of no known format"),
    (pt({"rank": 0}), "is of no known format"),
    (pt(None), "must hold a tensor, or a dictionary with logical_count or records, holds nothing; save"),
    (pt({"logical_count": None}), "or a dictionary with logical_count or records, holds logical_count; save one"),
    (pt({"logical_count": [[1], [1, 2]]}), "does not hold numbers (is not a rectangular array"),
    (pt({"records": []}), "does not hold numbers ("),
    (pt(recorded(0, {}, MAP)), "has no forward passes; start the recorder, send requests, then dump"),
    (
        pt({"records": [1], "last_physical_to_logical_map": MAP.tolist()}),
        "a record lacks forward_pass_id, rank, global_phy",
    ),
    (without("rank"), "a record lacks rank; is it a recorder's dump?"),
    (changed("forward_pass_id", "a"), "can't be read as pt (invalid literal for int()"),
    (changed("rank", None), "can't be read as pt (int() argument must be"),
    (changed("global_physical_count", torch.ones(2, 3)), "counts [2, 3] layers and slots, its map has [2, 4]"),
    (changed("rank", 2), "the files beside it lack rank 0; gather the files of all ranks, also from other nodes"),
    (raw(CSV), "must have a line for each layer and expert, with numbers of at least 0"),
    (raw(CSV + "1,2,-3\n"), "must have a line for each layer and expert, with numbers of at least 0"),
    (raw(CSV + "1,2\n"), "every line must hold three whole numbers, layer_id, expert_id, count; was it cut off?"),
    (raw(CSV + "1,2,x\n"), "every line must hold three whole numbers"),
    (raw(CSV + f"1,2,1{'0' * 30}\n"), "every line must hold three whole numbers"),
    (raw(CSV + "0,9999999999,1\n"), "has layer 0 and expert 9999999999, which can't be meant"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_dumps_are_told_apart(tmp_path: Path, make: Make, message: str) -> None:
    """Each ends in one line that names the file and what to do."""
    make(tmp_path / "a")
    assert message in told(read_loads, tmp_path / "a")


def test_dumps_that_do_not_go_together(tmp_path: Path) -> None:
    """A file given twice, another placement in the same pass, and a rank whose file was left on its node."""
    paths = dump(tmp_path, {0: {1: ONES}, 2: {1: ONES}})
    assert "lack rank 1; gather" in told(lambda _: read_loads(paths), paths[1])
    assert "has forward pass 1 of rank 0 once more; give each file once" in told(
        lambda path: read_loads([path, path]), paths[0]
    )
    other = dump(tmp_path, {1: {1: ONES}}, MAP[::-1])
    assert "counts forward pass 1 under another placement than the files of other ranks" in told(
        lambda path: read_loads([paths[0], path]), other[0]
    )


@pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())
def test_what_sglang_itself_dumps_and_reads(tmp_path: Path) -> None:
    """Its recorder's dumps of several ranks are read as its simulator reads them, its ring's steps in their time."""
    rng = np.random.default_rng(0)
    last_map = np.array([[3, 0, 1, 2, 1, 3], [0, 1, 2, 3, 0, 0]])
    counts = rng.integers(1, 99, (3, 10, 2, 6)).astype(np.int32)
    np.savez(tmp_path / "passes.npz", counts=counts, map=last_map, num_experts=4, ring=7)
    command = [sys.executable, "-m", "tests.sglang_recorder", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL)

    read = read_loads(tmp_path / "per_pass")
    with np.load(tmp_path / "expected.npz") as expected:
        np.testing.assert_array_equal(read.load, expected["per_pass"])
    assert read.placement is not None
    np.testing.assert_array_equal(read.placement.physical_to_logical, last_map)

    own = LogicalCount(read.placement)
    for path, passes in zip(sorted((tmp_path / "stat").iterdir()), (counts[0, :5], counts[0, 5:]), strict=True):
        np.testing.assert_array_equal(read_loads(path).load, [own.of(count) for count in passes])
