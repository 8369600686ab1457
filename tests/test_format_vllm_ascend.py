"""vllm-ascend's expert maps, in and out, device by device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.format_files import expert_map, placements, raw, told
from trimtab.formats import Source, StoredPlacement, read_loads, read_placement, what_is_in, write_placement

SLOTS = np.array([[7, 2, 0, 3, 5, 6, 1, 4, 7, 2], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]])
"""The first layer is that of the engine's own example."""


def write(path: Path, content: Any) -> Path:
    """As the engine's recorder writes."""
    path.write_text(json.dumps(content, indent=4))
    return path


def test_a_recorded_map_is_read(tmp_path: Path) -> None:
    """Slots device by device; how many devices there are is known; layers are counted from 0, whatever it is called."""
    path = write(tmp_path / "eplb.json", expert_map(SLOTS, 2))
    placement = read_placement(path)
    np.testing.assert_array_equal(placement.physical_to_logical, SLOTS)
    assert (placement.layers.tolist(), placement.num_gpus, placement.num_experts) == ([0, 1], 2, 8)
    assert what_is_in(Source(path), None) == {"placement"}


@settings(max_examples=25, deadline=None)
@given(placement=placements())
def test_what_is_written_is_what_the_engine_reads(
    tmp_path_factory: pytest.TempPathFactory, placement: StoredPlacement
) -> None:
    """By its usual name: keys and numbers are those that the recorder writes, layers by position from 0."""
    path = tmp_path_factory.getbasetemp() / "expert_map.json"
    write_placement(path, placement)
    assert placement.num_gpus is not None
    assert json.loads(path.read_text()) == expert_map(placement.physical_to_logical, placement.num_gpus)


def test_each_expert_is_found_as_the_engine_finds_it(tmp_path: Path) -> None:
    """Its loader goes by positions: layer, then device, then the expert's place among the device's."""
    write_placement(tmp_path / "expert_map.json", StoredPlacement(SLOTS, np.array([3, 4]), 2))
    data = json.loads((tmp_path / "expert_map.json").read_text())
    assert data["moe_layer_count"] == 2
    first = [device["device_expert"] for device in data["layer_list"][0]["device_list"]]
    local = np.full((2, 8), -1)
    for device, experts in enumerate(first):
        local[device, experts] = np.arange(len(experts))
    assert local.tolist() == [[2, -1, 1, 3, -1, 4, -1, 0], [-1, 1, 4, -1, 2, -1, 0, 3]]


def changed(where: str, value: Any) -> dict[str, Any]:
    """A map with something else in it."""
    content = expert_map(SLOTS, 2)
    exec(f"content{where} = value", {"content": content, "value": value})  # noqa: S102  # as the table below names it
    return content


LAYER, DEVICE = "['layer_list'][1]", "['layer_list'][1]['device_list'][0]"
BAD: list[tuple[Any, str]] = [
    (
        changed("['moe_layer_count']", 3),
        "moe_layer_count is 3, but layer_list has 2 layers; was it put together by hand?",
    ),
    (changed("['moe_layer_count']", None), "moe_layer_count is null, but layer_list has 2 layers"),
    (changed("['layer_list']", {}), "it must have a list layer_list, is {"),
    (changed(LAYER, 5), "layer 1 must have a list device_list, is 5"),
    (changed(LAYER, {}), "layer 1 must have a list device_list, is {}"),
    (changed(DEVICE, None), "a device of layer 1 must have a list device_expert, is null"),
    (
        changed(DEVICE + "['device_expert']", "x"),
        'a device of layer 1 must have a list device_expert, is {"device_id": 0,',
    ),
    (
        changed(DEVICE + "['device_expert']", [0, 1, 2, 3]),
        "must be of one length, they have from 4 to 5 values; give each layer the same devices, and each",
    ),
    (
        changed(LAYER + "['device_list']", []),
        "the rows of device_list must be of one length, they have from 0 to 2 values",
    ),
    (
        changed(DEVICE + "['device_expert']", [0, 1, 2, 3, "a"]),
        'device_list must hold numbers and nothing else, holds "a"',
    ),
    (
        changed(DEVICE + "['device_expert']", [[0], [1], [2], [3], [4]]),
        "device_list must hold numbers and nothing else",
    ),
    (changed(DEVICE + "['device_expert']", [0, 1, 2, 3, 1.5]), "every slot must hold a whole number"),
    (changed(DEVICE + "['device_expert']", [0, 1, 2, 3, 10]), "has 10 as the highest expert of layers with 10 slots"),
    ({"moe_layer_count": 0, "layer_list": []}, "must have layers, devices and experts, has {"),
    (expert_map(np.zeros((2, 0), int), 2), "must have layers, devices and experts, has {"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_maps_are_told_apart(tmp_path: Path, content: Any, message: str) -> None:
    """Each ends in one line that names the file, and the layer where it is one."""
    assert message in told(read_placement, write(tmp_path / "a.json", content))


def test_it_has_no_loads(tmp_path: Path) -> None:
    """Said of a map, and of whatever is called its own; what is no map is told when one is asked for."""
    path = write(tmp_path / "a.json", expert_map(SLOTS, 2))
    assert "holds no loads, it is a placement file of vllm-ascend" in told(read_loads, path)
    assert "vllm-ascend writes no loads to files; give a recording of another engine, or arrays" in told(
        lambda path: read_loads(path, format_name="vllm-ascend"), path
    )
    raw("[[1]]")(path)
    assert "must hold an object with moe_layer_count and layer_list; is it an expert map?" in told(
        lambda path: read_placement(path, format_name="vllm-ascend"), path
    )
