"""TensorRT-LLM's statistics of experts, summed over ranks; and what is wrong with a folder of them, told plainly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_files import Make, told, write_statistics
from trimtab.formats import FileError, Source, read_loads, what_is_in

LAYERS = [3, 4, 5]
LOADS = np.random.default_rng(0).integers(0, 99, (2, 4, 3, 6))
"""[num_ranks, num_iterations, num_layers, num_experts]"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Statistics of two ranks, and what else may lie beside them."""
    write_statistics(tmp_path / "expert_statistic", LOADS, LAYERS)
    tokens = {"50_3": np.zeros((9, 2), np.int32)}
    safetensors.numpy.save_file(tokens, tmp_path / "expert_statistic" / "rank0_raw.safetensors")
    (tmp_path / "expert_statistic" / "rank0_numtokens.json").write_text("{}")
    return tmp_path / "expert_statistic"


def test_iterations_are_windows(folder: Path) -> None:
    """Summed over ranks, by the model's own layers, whether the folder is named or the file that tells about it."""
    for path in (folder, folder / "meta_info.json"):
        read = read_loads(path)
        np.testing.assert_array_equal(read.load, LOADS.sum(axis=0))
        assert (read.num_read, read.layers.tolist(), read.placement) == (4, LAYERS, None)
        assert what_is_in(Source(path), None) == {"loads"}
    summed = read_loads(folder, at_most=2)
    np.testing.assert_array_equal(summed.load, LOADS.sum(axis=0).reshape(2, 2, 3, 6).sum(axis=1))


def test_iterations_and_layers_go_by_number(tmp_path: Path) -> None:
    """And not by their names, as they lie in the file: 9 is before 10, and 100 after both."""
    write_statistics(tmp_path / "a", LOADS, [9, 10, 100], [9, 10, 100, 1000])
    read = read_loads(tmp_path / "a")
    np.testing.assert_array_equal(read.load, LOADS.sum(axis=0))
    assert read.layers.tolist() == [9, 10, 100]


def test_several_folders(tmp_path: Path) -> None:
    """One recording after the other, of the same layers."""
    write_statistics(tmp_path / "a", LOADS, LAYERS)
    write_statistics(tmp_path / "b", LOADS[:1], LAYERS)
    read = read_loads([tmp_path / "b", tmp_path / "a"])
    np.testing.assert_array_equal(read.load, [*LOADS[0], *LOADS.sum(axis=0)])
    write_statistics(tmp_path / "b", LOADS, [3, 4, 6])
    message = told(lambda _: read_loads([tmp_path / "a", tmp_path / "b"]), tmp_path / "b")
    assert "has other layers than the folder before" in message


def test_tensors_in_any_place(tmp_path: Path) -> None:
    """Layers of an iteration far apart, in a file that another library wrote; there may be words about it, too."""
    load = np.arange(12).reshape(1, 2, 3, 2)
    write_statistics(tmp_path, load, LAYERS)
    rows = [("51_3", 1, 0), ("50_5", 0, 2), ("50_3", 0, 0), ("51_5", 1, 2), ("50_4", 0, 1), ("51_4", 1, 1)]
    places = {
        name: {"data_offsets": [16 * at, 16 * at + 16], "shape": [2], "dtype": "I64"}
        for at, (name, _, _) in enumerate(rows)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **dict(sorted(places.items()))}, indent=1).encode()
    data = b"".join(load[0, iteration, row].tobytes() for _, iteration, row in rows)
    (tmp_path / "rank0.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    np.testing.assert_array_equal(read_loads(tmp_path).load, load[0])


def keep(folder: Path, rank: int, wanted: Any) -> None:
    """Leave the other tensors of a rank out."""
    path = folder / f"rank{rank}.safetensors"
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: tensors[name] for name in tensors if wanted(*map(int, name.split("_")))}, path)


def test_ranks_of_a_pipeline_have_their_own_layers(folder: Path) -> None:
    """What a rank does not have counts as nothing, as in TensorRT-LLM's own scripts."""
    keep(folder, 0, lambda _, layer: layer == 3)
    keep(folder, 1, lambda iteration, layer: layer > 3 or iteration == 51)
    expected = np.concatenate([LOADS[0, :, :1], LOADS[1, :, 1:]], axis=1)
    expected[1, 0] += LOADS[1, 1, 0]
    np.testing.assert_array_equal(read_loads(folder).load, expected)


def test_a_last_iteration_that_is_not_whole(folder: Path) -> None:
    """It is left out: the server was ended in it; any other is an error, which those scripts would make of both."""
    for rank in (0, 1):
        keep(folder, rank, lambda iteration, layer: (iteration, layer) != (53, 4))
    np.testing.assert_array_equal(read_loads(folder).load, LOADS.sum(axis=0)[:3])
    for rank in (0, 1):
        keep(folder, rank, lambda iteration, layer: (iteration, layer) != (51, 5))
    assert "iteration 51 lacks layer 5, which others have; record again, or gather" in told(read_loads, folder)


def test_a_rank_is_missing(folder: Path) -> None:
    """Told by the numbers of those that are there, or by what rank 0 wrote about all."""
    shutil.copy(folder / "rank1.safetensors", folder / "rank3.safetensors")
    assert "lacks rank2.safetensors; gather the files of all ranks in it, also from other nodes" in told(
        read_loads, folder
    )
    (folder / "rank3.safetensors").unlink()
    write_statistics(folder, LOADS, LAYERS, ep_size=8)
    assert "lacks rank2.safetensors; gather" in told(read_loads, folder)
    (folder / "rank0.safetensors").unlink()
    assert "lacks rank0.safetensors; gather" in told(read_loads, folder)
    (folder / "meta_info.json").unlink()
    assert "lacks meta_info.json, which rank 0 writes; gather" in told(read_loads, folder)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_statistics(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever ranks, iterations and layers: what numpy sums."""
    folder = tmp_path_factory.mktemp("statistics")
    num_ranks, num_experts = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    layers = sorted(data.draw(st.sets(st.integers(0, 4095), min_size=1, max_size=4)))
    iterations = sorted(data.draw(st.sets(st.integers(0, 10**15 - 1), min_size=1, max_size=4)))
    most = data.draw(st.sampled_from([9, 2**31 - 1, 2**62 // num_ranks]))
    shape = num_ranks, len(iterations), len(layers), num_experts
    load = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, most, shape)
    write_statistics(folder, load, layers, iterations)
    read = read_loads(folder)
    np.testing.assert_array_equal(read.load, load.sum(axis=0))
    assert read.layers.tolist() == layers


def tensors(**values: Any) -> Make:
    """A rank's file with these; names begin with a letter."""
    named = {name[1:]: np.asarray(value) for name, value in values.items()}
    return lambda folder: safetensors.numpy.save_file(named, folder / "rank1.safetensors")


def header(text: str | bytes, data: bytes = b"", length: int | None = None) -> Make:
    """A rank's file that begins so."""
    text = text if isinstance(text, bytes) else text.encode()
    content = (len(text) if length is None else length).to_bytes(8, "little") + text + data
    return lambda folder: (folder / "rank1.safetensors").write_bytes(content)


def about(content: str) -> Make:
    """Another meta_info.json."""
    return lambda folder: (folder / "meta_info.json").write_text(content)


COUNTS = np.arange(6)
ONE = '{"50_3":{"dtype":"I64","shape":[6],"data_offsets":[%s]}}'
BAD: list[tuple[Make, str]] = [
    (about("{"), "meta_info.json: is not JSON ("),
    (about("[]"), "must hold an object with num_experts, holds []"),
    (about("{}"), "meta_info.json: has null as num_experts, the files beside it count 6 experts"),
    (about('{"num_experts": 7}'), "has 7 as num_experts, the files beside it count 6 experts"),
    (about('{"num_experts": 6, "ep_size": 1000000000000}'), "lacks rank2.safetensors; gather"),
    (tensors(_50_3=COUNTS[:5]), "has 6 as num_experts, the files beside it count 5 experts"),
    (
        tensors(_50_3=COUNTS, _50_4=COUNTS[:5]),
        "its tensors must be of one type and length, are [\"('I64', 5)\", \"('I64', 6)",
    ),
    (tensors(_50_3=COUNTS * 1.0), "its tensors must be lists of type I32 or I64, have type and shape ('F64', 6)"),
    (tensors(_50_3=COUNTS[None]), "its tensors must be lists of type I32 or I64, have type and shape ('I64', 1, 6)"),
    (tensors(_50_3=COUNTS[:0]), "its tensors must be lists of type I32 or I64, have type and shape ('I64', 0)"),
    (tensors(_experts=COUNTS), 'the file of rank 1 has a tensor "experts", which is no iteration_layer'),
    (tensors(_050_3=COUNTS), 'has a tensor "050_3", which is no iteration_layer'),
    (tensors(_50_4096=COUNTS), "the numbers of its layers go from 3 to 4096; they must be from 0 to 4095"),
    (tensors(_50_3=-COUNTS), "every load must be finite and at least 0, got -"),
    (header("", length=0), "is no whole .safetensors file: its header claims 0 bytes, the file has 8; was it cut off?"),
    (header("{}", length=2**60), "its header claims 1152921504606846976 bytes, the file has 10"),
    (header("{}", length=99), "its header claims 99 bytes, the file has 10"),
    (header("{}"), "is no whole .safetensors file: its header holds {}"),
    (header("[1, 2]"), "its header holds [1, 2]"),
    (header('{"50_3":{"dtype":"I64"}}'), 'its header holds {"50_3": {"dtype": "I64"}}'),
    (header("{" * 9), "its header is not as the format has it (Expecting property name"),
    (header(b"\xff\xfe{}"), "its header is not as the format has it ("),
    (header("[" * 100_000), "its header is not as the format has it ("),
    (header(ONE.replace("[6]", "6") % "0,48", bytes(48)), "its header is not as the format has it ("),
    (header(ONE.replace("[6]", "[[6]]") % "0,48", bytes(48)), "its header is not as the format has it (unhashable"),
    (header(ONE.replace("[6]", "[true]") % "0,8", bytes(8)), "has 6 as num_experts, the files beside it count True"),
    (header(ONE % "", bytes(48)), "its header is not as the format has it (list index out of range)"),
    (header(ONE % '"a"', bytes(48)), 'its header holds {"50_3": "a"}'),
    (header(ONE % "-48,0", bytes(48)), "its data have 48 bytes, not those that its header tells of"),
    (header(ONE % "8,56", bytes(48)), "its data have 48 bytes, not those that its header tells of"),
    (header(ONE % "0,48", bytes(47)), "its data have 47 bytes, not those that its header tells of"),
    (header(ONE % f"{10**30},1", bytes(48)), "its data have 48 bytes, not those that its header tells of"),
    (
        header(ONE.replace("[6]", f"[{10**30}]") % "0,1", bytes(48)),
        "its header tells of tensors of length 1000000000000000",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_statistics_are_told_apart(folder: Path, make: Make, message: str) -> None:
    """Each ends in one line that names the folder or the file in it."""
    make(folder)
    with pytest.raises(FileError) as caught:
        read_loads(folder)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))


def test_a_part_of_a_recording(folder: Path) -> None:
    """One rank's file, or another that looks like the one about all, is not all of it."""
    assert "is not all of a recording; name its folder, or the meta_info.json in it" in told(
        read_loads, folder / "rank0.safetensors"
    )
    shutil.copy(folder / "meta_info.json", folder / "other.json")
    assert "is not all of a recording; name its folder" in told(read_loads, folder / "other.json")
