"""`trimtab convert`, and rebalancing with files of different engines: what is read from one is written for another."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.command import failed, ok, run
from trimtab import Client
from trimtab.cli.commands import trimtab
from trimtab.formats import StoredPlacement, read_loads, read_placement, write_loads, write_placement
from trimtab.synthetic import generate_loads

LAYERS, EXPERTS, GPUS, SLOTS = 5, 16, 4, 24
LOCAL = ("--gpus", GPUS, "--target", "local")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Loads of five layers, the first two dense, and a placement for them, as SGLang has them."""
    load = generate_loads(LAYERS, EXPERTS, num_windows=6, drift=0.2, seed=1)
    load[:, :2] = 0
    write_loads(tmp_path / "loads.npz", load)
    with Client("local") as client:
        placed = client.rebalance(load[0], num_gpus=GPUS, num_replicas=SLOTS)
    write_placement(tmp_path / "old.json", placed.physical_to_logical)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rebalanced(*arguments: Any) -> dict[str, Any]:
    """What `trimtab rebalance --json` says."""
    found: dict[str, Any] = json.loads(ok("rebalance", *arguments, *LOCAL, "--json"))
    return found


def test_a_placement_goes_from_engine_to_engine_and_back(folder: Path) -> None:
    """SGLang's with dense rows, TensorRT-LLM's by layer numbers, vllm-ascend's without them, SGLang's again."""
    old = read_placement("old.json").physical_to_logical
    assert ok("convert", "old.json", "lb.yaml", "--layers", "2-4") == (
        f"lb.yaml: a placement of 3 layers (2 to 4), {EXPERTS} experts in {SLOTS} slots\n"
    )
    ok("convert", "lb.yaml", "expert_map.json", "--gpus", GPUS)
    assert "device_list" in (folder / "expert_map.json").read_text()
    ok("convert", "expert_map.json", "back.json", "--first-layer", "2")
    back = read_placement("back.json").physical_to_logical
    assert back.shape == old.shape
    np.testing.assert_array_equal(back[2:], old[2:])
    np.testing.assert_array_equal(back[:2], np.tile(np.arange(SLOTS) % EXPERTS, (2, 1)))


@pytest.mark.usefixtures("folder")
def test_windows_are_summed_by_two_until_they_are_few() -> None:
    """Six become three, and it says so; their sum stays what it was."""
    found = json.loads(ok("convert", "loads.npz", "few.npy", "--max-windows", 4, "--json"))
    assert (found["holds"], found["num_windows_read"], found["num_windows"]) == ("loads", 6, 3)
    load = read_loads("loads.npz").load
    np.testing.assert_array_equal(read_loads("few.npy").load, load.reshape(3, 2, LAYERS, EXPERTS).sum(axis=1))
    said = ok("convert", "loads.npz", "few.json", "--max-windows", 4)
    assert said == "few.json: 3 windows of 5 layers (0 to 4), 16 experts; 6 windows were read, and summed\n"


def test_standard_input_and_output_are_files_too(folder: Path) -> None:
    """The bytes are those of a file, and what is told goes to standard error."""
    ok("convert", "old.json", "copy.json")
    result = run("convert", "old.json", "-")
    assert result.stdout_bytes == (folder / "copy.json").read_bytes()
    assert result.stderr.startswith("standard output: a placement of 5 layers")


def test_a_pipe_of_commands_makes_a_placement(folder: Path) -> None:
    """Loads on standard input, the placement on standard output, the report beside it."""
    arguments = ["rebalance", "-", "--replicas", str(SLOTS), *map(str, LOCAL), "-o", "-"]
    result = CliRunner().invoke(trimtab, arguments, input=(folder / "loads.npz").read_bytes())
    assert (result.exit_code, result.exception) == (0, None), result.output
    (folder / "piped.json").write_bytes(result.stdout_bytes)
    ok("rebalance", "loads.npz", "--replicas", SLOTS, *LOCAL, "-o", "direct.json")
    assert (folder / "piped.json").read_bytes() == (folder / "direct.json").read_bytes()
    assert result.stderr.startswith("standard input: 5 layers (2 with no load)")
    assert "written to" not in result.stderr


@pytest.mark.usefixtures("folder")
def test_slots_and_gpus_come_from_the_files() -> None:
    """--replicas is that of the placement in force, --gpus what an expert_map.json says."""
    ok("convert", "old.json", "expert_map.json", "--gpus", GPUS)
    found = json.loads(ok("rebalance", "loads.npz", "--previous", "expert_map.json", "--target", "local", "--json"))
    assert (found["num_gpus"], found["num_replicas"]) == (GPUS, SLOTS)
    assert found["balancedness_before"] is not None


def test_a_placement_with_more_layers_keeps_them(folder: Path) -> None:
    """Loads of the MoE layers alone, numbered by the user, and SGLang's placement with its dense rows."""
    load = read_loads("loads.npz").load[:, 2:]
    write_loads("moe.npz", load)
    found = rebalanced("moe.npz", "--first-layer", 2, "--previous", "old.json", "--max-moves", 20, "-o", "next.json")
    whole = rebalanced("loads.npz", "--previous", "old.json", "--max-moves", 20, "-o", "whole.json")
    assert (folder / "next.json").read_bytes() == (folder / "whole.json").read_bytes()
    assert (found["layers"], found["num_layers_without_load"]) == ([0, 1, 2, 3, 4], 2)
    assert set(found["worst_layers"]) == {2, 3, 4}
    assert 0 < found["moves"] == whole["moves"] <= 20


@pytest.mark.usefixtures("folder")
def test_chosen_layers_leave_out_the_others() -> None:
    """--layers is for the loads and for the placement in force; tables tell the model's numbers."""
    found = rebalanced("loads.npz", "--layers", "2-4", "--previous", "old.json", "-o", "lb.yaml")
    assert (found["layers"], found["num_layers_without_load"]) == ([2, 3, 4], 0)
    assert sorted(found["layer_order"]) == [2, 3, 4]
    stored = read_placement("lb.yaml")
    assert stored.layers.tolist() == [2, 3, 4]
    text = ok("rebalance", "loads.npz", "--layers", "2-4", "--previous", "old.json", *LOCAL)
    worst = text.partition("Worst layers")[2].partition("Time")[0]
    assert sorted(re.findall(r"^(\d+) ", worst, re.MULTILINE)) == ["2", "3", "4"]


def test_a_placement_of_as_many_rows_is_of_the_same_layers(folder: Path) -> None:
    """An array of the MoE layers' rows alone goes with loads that number them."""
    np.save(folder / "rows.npy", read_placement("old.json").physical_to_logical[2:])
    by_rows = rebalanced("loads.npz", "--layers", "2-4", "--previous", "rows.npy")
    by_number = rebalanced("loads.npz", "--layers", "2-4", "--previous", "old.json")
    assert by_rows["per_layer"] == by_number["per_layer"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.json", "a.npz"], "no.json: there is no such file; check the path"),
        (["old.json", "a.txt"], "a.txt: its ending '.txt' is none of those that can be written: "),
        (["loads.npz", "a.yaml"], "a.yaml: its ending '.yaml' is none of those that can be written: .json, .pt, .npy"),
        (["loads.npz", "loads.npz"], "OUT loads.npz: is a file with loads; name another"),
        (["loads.npz", "no/a.npz"], "OUT no/a.npz: there is no folder no"),
        (["loads.npz", "a.npz", "--output-format", "plain"], "--output-format is for placements, IN has loads"),
        (["loads.npz", "a.json", "--placement"], "loads.npz: holds no placement, it is a loads file of plain"),
        (["loads.npz", "a.npz", "--layers", "3-9"], "--layers 3-9: the files have layers 0 to 4; choose among those"),
        (["old.json", "a.npz", "--gpus", "7"], "--gpus 7: must divide the 24 slots of the placement"),
        (["old.json", "expert_map.json"], "--gpus"),
        (["old.json", "a.npz", "--format", "foo"], "'foo' is not one of"),
    ],
)
def test_what_cannot_be_converted_is_told_in_one_line(folder: Path, arguments: list[str], message: str) -> None:
    """Exit code 2, what was typed or the file's name, and nothing is written."""
    before = sorted(folder.iterdir())
    assert message in failed(run("convert", *arguments), 2)
    assert sorted(folder.iterdir()) == before


def test_the_gpus_of_a_file_are_not_contradicted(folder: Path) -> None:
    """An expert_map.json knows how many there are."""
    stored = StoredPlacement(read_placement("old.json").physical_to_logical, np.arange(LAYERS), GPUS)
    write_placement(folder / "expert_map.json", stored)
    line = failed(run("convert", "expert_map.json", "a.json", "--gpus", 8), 2)
    assert "--gpus 8: the placement is on 4 GPUs, as its file says" in line
