"""Files as numpy, torch and the engines write them, good and bad."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import torch
from hypothesis import strategies as st

from trimtab.errors import TrimtabError
from trimtab.formats import FileError, StoredPlacement

Array = npt.NDArray[Any]
Make = Callable[[Path], Any]
"""Writes a file there."""


def raw(content: bytes | str) -> Make:
    """A file of these bytes."""
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def json_of(**values: Any) -> Make:
    """A JSON object; what is text already stays as it is."""
    members = (f'"{key}": {value if isinstance(value, str) else json.dumps(value)}' for key, value in values.items())
    return raw(f"{{{', '.join(members)}}}")


def npy(array: Any) -> Make:
    """What numpy.save writes, whatever the file is called."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return write


def npz(**arrays: Any) -> Make:
    """What numpy.savez writes, whatever the file is called."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)

    return write


def pt(value: Any) -> Make:
    """What torch.save writes."""
    return lambda path: torch.save(value, path)


def cut(make: Make, size: int) -> Make:
    """The first bytes of a good file."""

    def write(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[:size])

    return write


def claiming(shape: str) -> bytes:
    """An .npy file with a header for much, and eight bytes after it."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


def zipped(name: str, content: bytes) -> Make:
    """An archive with one member."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


def recorded(rank: int, counts: dict[int, Array], last_map: Array) -> dict[str, Any]:
    """What SGLang's recorder dumps on a rank in the mode `per_pass`: tokens of slots, by forward pass."""
    records = [
        {
            "forward_pass_id": number,
            "rank": rank,
            "gatherer_key": "primary",
            "global_physical_count": torch.tensor(count, dtype=torch.int32),
        }
        for number, count in counts.items()
    ]
    return {"records": records, "last_physical_to_logical_map": torch.tensor(last_map.copy())}


def vllm_line(load: Any, p2l_map: Any, /, **others: Any) -> str:
    """A line of vLLM's load statistics; `others` change it, or with None leave things out."""
    known = {"record_type": "eplb_load_stats", "version": 1, "step": 7, "num_ranks": 2}
    arrays = {"expert_load": np.asarray(load).tolist(), "p2l_map": np.asarray(p2l_map).tolist()}
    record = {key: value for key, value in (known | arrays | others).items() if value is not None}
    return json.dumps(record) + "\n"


def write_statistics(
    folder: Path, load: Array, layers: Sequence[int], iterations: Sequence[int] | None = None, **about: Any
) -> None:
    """What TensorRT-LLM dumps.

    Args:
        folder: where to.
        load: [num_ranks, num_iterations, num_layers, num_experts].
        layers: the model's numbers.
        iterations: their numbers, by default from 50.
        about: more of meta_info.json.
    """
    folder.mkdir(exist_ok=True)
    known = {"num_experts": load.shape[-1], "num_experts_per_token": 2}
    (folder / "meta_info.json").write_text(json.dumps(known | about))
    iterations = range(50, 50 + load.shape[1]) if iterations is None else iterations
    for rank, own in enumerate(load):
        tensors = {
            f"{iteration}_{layer}": own[at, row].astype(np.int64)
            for at, iteration in enumerate(iterations)
            for row, layer in enumerate(layers)
        }
        safetensors.numpy.save_file(tensors, folder / f"rank{rank}.safetensors")


def expert_map(slots: Any, num_gpus: int) -> dict[str, Any]:
    """What vllm-ascend records, and what its example script saves."""
    layers = np.asarray(slots).reshape(len(slots), num_gpus, -1).tolist()
    layer_list = [
        {
            "layer_id": number,
            "device_count": num_gpus,
            "device_list": [{"device_id": at, "device_expert": experts} for at, experts in enumerate(layer)],
        }
        for number, layer in enumerate(layers)
    ]
    return {"moe_layer_count": len(layers), "layer_list": layer_list}


def told(read: Callable[[Path], Any], path: Path, name: str | None = None) -> str:
    """What is said of a bad file: an error of our own, one line that begins with the file's name."""
    with pytest.raises(FileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path if name is None else name}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert "allow_pickle=`" not in message  # numpy's advice to load a stranger's pickle
    assert isinstance(caught.value, TrimtabError)
    return message


@st.composite
def placements(draw: st.DrawFn, *, filled: bool = True) -> StoredPlacement:
    """Placements of a few layers, each expert somewhere and none twice on a GPU."""
    num_gpus, per_gpu = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    num_slots = num_gpus * per_gpu
    num_experts = draw(st.integers(per_gpu, num_slots))
    layers = sorted(draw(st.sets(st.integers(0, 70), min_size=1, max_size=5)))
    shift = np.array(draw(st.lists(st.integers(0, 99), min_size=len(layers), max_size=len(layers))))
    slots = (np.arange(num_slots) + shift[:, None]) % num_experts
    if not filled and num_slots > num_experts:
        slots[draw(st.integers(0, len(layers) - 1)), num_experts] = -1
    return StoredPlacement(slots, np.array(layers, np.int64), num_gpus)


def same(placement: StoredPlacement, other: StoredPlacement) -> bool:
    """Slots and layers; the number of GPUs is not in every format."""
    return np.array_equal(placement.physical_to_logical, other.physical_to_logical) and np.array_equal(
        placement.layers, other.layers
    )
