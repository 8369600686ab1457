"""The configuration of TensorRT-LLM's load balancer, in and out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_files import Array, Make, json_of, placements, raw, told
from trimtab.formats import StoredPlacement, read_placement, write_placement

SLOTS = np.array([[0, 1, 2, 0], [2, 0, 1, 1]])


def test_what_is_written_is_what_the_engine_takes(tmp_path: Path) -> None:
    """Its three keys and no other, lists in one line each, and the layers' own numbers; its parser reads the same."""
    path = tmp_path / "moe_load_balancer.yaml"
    write_placement(path, StoredPlacement(SLOTS, np.array([3, 17]), 2))
    assert path.read_text() == (
        "initial_global_assignments:\n  3: [0, 1, 2, 0]\n  17: [2, 0, 1, 1]\nlayer_updates_per_iter: 0\nnum_slots: 4\n"
    )
    assert yaml.safe_load(path.read_text()) == {
        "num_slots": 4,
        "initial_global_assignments": {3: [0, 1, 2, 0], 17: [2, 0, 1, 1]},
        "layer_updates_per_iter": 0,
    }


@settings(max_examples=20, deadline=None)
@given(placement=placements(), flow=st.sampled_from([None, True, False]))
def test_what_other_scripts_write(
    tmp_path_factory: pytest.TempPathFactory, placement: StoredPlacement, flow: bool | None
) -> None:
    """In any of YAML's styles, layers in any order, with the number of ranks as older scripts have it, or as JSON."""
    rows = dict(zip(placement.layers.tolist(), placement.physical_to_logical.tolist(), strict=True))
    num_slots = placement.physical_to_logical.shape[1]
    content = {"num_slots": num_slots, "ep_size": placement.num_gpus, "layer_updates_per_iter": 0}
    content["initial_global_assignments"] = dict(reversed(rows.items()))
    path = tmp_path_factory.getbasetemp() / "other.yaml"
    for text in (yaml.safe_dump(content, default_flow_style=flow, sort_keys=False), json.dumps(content)):
        path.write_text(text)
        back = read_placement(path)
        np.testing.assert_array_equal(back.physical_to_logical, placement.physical_to_logical)
        assert (back.layers.tolist(), back.num_gpus) == (placement.layers.tolist(), placement.num_gpus)


def yaml_of(rows: str, more: str = "") -> Make:
    """A configuration."""
    return raw(f"num_slots: 2\ninitial_global_assignments: {rows}\n{more}")


BAD_YAML: list[tuple[Make, str]] = [
    (yaml_of("[[0, 1]]"), "must hold initial_global_assignments: {layer: [...], ...}, holds {"),
    (raw("moe_config:\n  initial_global_assignments: {3: [0]}\n"), "must hold initial_global_assignments: {layer: ["),
    (yaml_of("{}"), "the numbers of its layers are missing; they must be from 0 to 4095"),
    (yaml_of("{a: [0, 1]}"), 'the layers of initial_global_assignments must be whole numbers, one is "a"'),
    (yaml_of("{true: [0, 1]}"), "must be whole numbers, one is true"),
    (yaml_of("{-1: [0, 1]}"), "the numbers of its layers go from -1 to -1"),
    (yaml_of("{9999999999999999999999: [0, 1]}"), "the numbers of its layers go from 9999999999999999999999"),
    (yaml_of("{3: [0, 1], '3': [0, 1]}"), "has layer 3 twice; give each layer once"),
    (
        yaml_of("{3: [0, 1], 4: [0]}"),
        "the rows of initial_global_assignments must be of one length, they have from 1 to 2",
    ),
    (yaml_of("{3: 5}"), "its placement has shape [1]; it must have shape [layers, slots]"),
    (yaml_of("{3: [0, a]}"), 'initial_global_assignments must hold numbers and nothing else, holds "a"'),
    (yaml_of("{3: [0, yes]}"), "initial_global_assignments must hold numbers and nothing else, holds true"),
    (yaml_of("{3: [0, 2020-01-01]}"), 'must hold numbers and nothing else, holds "2020-01-01"'),
    (yaml_of("{3: [0, 1.0]}"), "every slot must hold a whole number"),
    (yaml_of("{3: [0, 5]}"), "has 5 as the highest expert of layers with 2 slots"),
    (
        yaml_of("{3: [0, 1, 0]}"),
        "num_slots is 2, but the rows of initial_global_assignments have 3 slots; make them agree",
    ),
    (yaml_of("{3: [0, 1]}", "ep_size: x"), 'ep_size must be a whole number, is "x"'),
    (yaml_of("{3: [0, 1]}", "ep_size: 3"), "has 2 slots a layer on 3 GPUs"),
    (yaml_of("{3: [0, 1"), "is not YAML (while parsing a flow"),
    (
        yaml_of("{3: [0, 1]}", "a: !!python/object:os.system x"),
        "is not YAML (could not determine a constructor for the tag",
    ),
    (yaml_of("{3: [0, 1]}", "a: 2020-99-99"), "is not YAML (month must be in 1..12"),
    (yaml_of("[" * 100_000), "is not YAML (while increasing flow level exceeded maximum nesting depth"),
    (yaml_of("{3: &a [0, 1], 4: *a}"), "must not have anchors and aliases (& and *); write its lists out"),
    (yaml_of("{3: [0, 1]}", "a: \xff".encode("latin1").decode("latin1") + "\0"), "is not YAML ("),
    (json_of(initial_global_assignments={"3": [0, 1], "x": [0, 1]}), 'must be whole numbers, one is "x"'),
]


@pytest.mark.parametrize(("make", "message"), BAD_YAML, ids=[message[:60] for _, message in BAD_YAML])
def test_bad_configurations_are_told_apart(tmp_path: Path, make: Make, message: str) -> None:
    """Each ends in one line that names the file; what could run code or fill the memory is refused."""
    make(tmp_path / "a.yaml")
    assert message in told(read_placement, tmp_path / "a.yaml")


def test_a_bomb_of_aliases(tmp_path: Path) -> None:
    """Lines that stand for 10^9 slots are refused before they are looked at."""
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    raw("\n".join([*lines, "initial_global_assignments: {3: *a8}"]))(tmp_path / "a.yaml")
    assert "must not have anchors and aliases" in told(read_placement, tmp_path / "a.yaml")


def test_a_large_configuration(tmp_path: Path) -> None:
    """DeepSeek-V3's: written and read back whole, whichever of PyYAML's parsers is here."""
    slots: Array = np.tile(np.arange(288) % 256, (58, 1))
    write_placement(tmp_path / "a.yaml", StoredPlacement(slots, np.arange(3, 61)))
    back = read_placement(tmp_path / "a.yaml")
    np.testing.assert_array_equal(back.physical_to_logical, slots)
    assert back.layers.tolist() == list(range(3, 61))
