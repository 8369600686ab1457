"""`trimtab rebalance`: what it prints, what it writes, what it asks for, how it fails."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import NOBODY, failed, ok, run
from trimtab import Client, InvalidArgumentError
from trimtab.cli.rebalance import RebalanceReport
from trimtab.cli.server_process import ServerProcess
from trimtab.formats import read_loads, read_placement, write_loads, write_placement
from trimtab.synthetic import generate_loads
from trimtab.v1 import placement_pb2 as pb
from trimtab.version import __version__

LAYERS, EXPERTS, GPUS, SLOTS = 6, 32, 4, 40
LIVE = [0, 1, 3, 4, 5]
CLUSTER = ("--gpus", GPUS, "--replicas", SLOTS)
LOCAL = (*CLUSTER, "--target", "local")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Loads of an old window and of two new ones, the third layer without any, and a placement made for the old."""
    load = generate_loads(LAYERS, EXPERTS, num_windows=3, drift=0.2, seed=4)
    load[:, 2] = 0
    write_loads(tmp_path / "old.npz", load[0])
    write_loads(tmp_path / "new.npz", load[1:])
    write_loads(tmp_path / "newer.npz", load[2])
    with Client("local") as client:
        old = client.rebalance(load[0], num_gpus=GPUS, num_replicas=SLOTS)
    write_placement(tmp_path / "old.json", old.physical_to_logical)
    return tmp_path


def rebalance_json(*arguments: Any) -> dict[str, Any]:
    """The object that `trimtab rebalance --json` prints."""
    found: dict[str, Any] = json.loads(ok("rebalance", *arguments, "--json"))
    return found


def plain_balancedness(load: Any, slots: Any) -> list[float]:
    """Of the layers with load, by the plainest means; load [layers, experts]."""
    found = []
    for layer in LIVE:
        on_gpu = [0.0] * GPUS
        for slot, expert in enumerate(slots[layer].tolist()):
            on_gpu[slot * GPUS // SLOTS] += load[layer, expert] / slots[layer].tolist().count(expert)
        found.append(sum(on_gpu) / GPUS / max(on_gpu))
    return found


def plain_moves(before: Any, after: Any) -> int:
    """Copies that a GPU holds after and not before, by the plainest means."""
    moves = 0
    size = SLOTS // GPUS
    for layer in range(LAYERS):
        for gpu in range(GPUS):
            held = before[layer, gpu * size : gpu * size + size].tolist()
            for expert in after[layer, gpu * size : gpu * size + size].tolist():
                if expert in held:
                    held.remove(expert)
                else:
                    moves += 1
    return moves


def test_it_shows_what_a_user_asks_first(folder: Path, server: ServerProcess) -> None:
    """Sizes, balancedness of all windows and of the latest, moves, worst layers, times, and who solved."""
    text = ok("rebalance", folder / "new.npz", *CLUSTER, "--previous", folder / "old.json", "--max-moves", 30,
              "--target", server.listen)  # fmt: skip
    what = f"{folder / 'new.npz'}: 6 layers (1 with no load), 32 experts in 40 slots, 4 GPUs of 10; 2 windows"
    assert text.startswith(f"{what}\n")
    latest = [f"latest window, {label}" for label in ("before", "after", "bound")]
    for label in ("before", "after", "bound: no placement is better", *latest):
        assert re.search(rf"^{label} +\d\.\d{{4}} +\d\.\d{{4}}$", text, re.MULTILINE), label
    moves = re.search(r"^(\d+) moves, (\d+\.\d)% of 240 slots$", text, re.MULTILINE)
    assert moves
    assert 0 < int(moves[1]) <= 30
    assert moves[2] == f"{int(moves[1]) / 2.4:.1f}"
    worst = text.partition("Worst layers")[2].partition("Time")[0]
    assert sorted(re.findall(r"^(\d+) ", worst, re.MULTILINE)) == ["0", "1", "3", "4", "5"]
    for part in ("queue", "solve", "wire and encode", "total"):
        assert re.search(rf"^{part} +\d+\.\d$", text, re.MULTILINE), part
    assert re.search(rf"^solver cpu on cpu, \S+/\d+, server {__version__}, 1 in the batch$", text, re.MULTILINE)


def test_the_curve_tells_what_other_budgets_would_buy(folder: Path) -> None:
    """A few lines from no move to as many as it takes, rising, with the one that was made among them."""
    text = ok("rebalance", folder / "new.npz", *LOCAL, "--previous", folder / "old.json", "--max-moves", 30)
    curve = text.partition("What moves buy")[2].partition("Worst layers")[0]
    lines = re.findall(r"^with ([\d,]+) moves(: this placement)? +(\d\.\d+)$", curve, re.MULTILINE)
    moves, bought = [int(m.replace(",", "")) for m, _, _ in lines], [float(b) for _, _, b in lines]
    assert 3 <= len(lines) <= 8
    assert moves[0] == 0
    assert moves[-1] > 30
    assert moves == sorted(set(moves))
    assert bought == sorted(bought)
    made = rebalance_json(folder / "new.npz", *LOCAL, "--previous", folder / "old.json", "--max-moves", 30)
    marked = [(int(m), float(b)) for m, mark, b in lines if mark]
    assert marked == [(made["moves"], round(made["balancedness_after"]["mean"], 4))]


def test_lines_of_the_curve_halve_the_moves(folder: Path) -> None:
    """Of a long curve none, all, and what is nearest below a half, a quarter and so on; of a short one each point."""
    with Client("local") as client:
        placement = client.rebalance(read_loads(folder / "old.npz").load, num_gpus=GPUS, num_replicas=SLOTS)
    for moves, shown in (([*range(0, 66, 3), 64], [0, 0, 3, 6, 15, 30, 64]), ([0, 7], [0, 7]), ([5], [5])):
        curve = np.array([(float(m), m / 64) for m in moves])
        report = RebalanceReport(np.ones((1, 1, 1)), np.zeros(1, int), GPUS, replace(placement, curve=curve), None, 1.0)
        assert report.curve_points.tolist() == [[m, m / 64] for m in dict.fromkeys(shown)]


def test_the_figures_are_those_of_the_answer(folder: Path) -> None:
    """Recomputed here, from the files and the written placement, by the plainest means."""
    found = rebalance_json(folder / "new.npz", *LOCAL, "--previous", folder / "old.json", "--max-moves", 30,
                           "-o", folder / "new.json")  # fmt: skip
    load = read_loads(folder / "new.npz").load.astype(float)
    before, after = (
        read_placement(folder / "old.json").physical_to_logical,
        read_placement(folder / "new.json").physical_to_logical,
    )
    for name, slots in (("balancedness_before", before), ("balancedness_after", after)):
        windows = np.array([plain_balancedness(window, slots) for window in load])
        mean, latest = windows.mean(axis=0), windows[-1]
        assert found[name] == pytest.approx({"mean": mean.mean(), "worst": mean.min()}, abs=1e-6)
        assert found[f"latest_{name}"] == pytest.approx({"mean": latest.mean(), "worst": latest.min()}, abs=1e-6)
        assert [x for x in found["per_layer"][name] if x is not None] == pytest.approx(mean.tolist(), abs=1e-6)
        assert found["per_layer"][name][2] is None
    assert found["moves"] == sum(found["per_layer"]["moves"]) == plain_moves(before, after)
    assert 0 < found["moves"] <= 30
    assert found["moved_share"] == pytest.approx(found["moves"] / 240)
    assert found["balancedness_after"]["mean"] > found["balancedness_before"]["mean"]
    assert found["balancedness_after"]["mean"] <= found["bound"]["mean"] <= 1
    figures = found["per_layer"]["balancedness_after"]
    assert found["worst_layers"] == sorted(LIVE, key=lambda layer: figures[layer])
    assert (found["num_layers"], found["num_layers_without_load"], found["num_windows"]) == (6, 1, 2)
    seconds = found["seconds"]
    assert seconds["total"] == pytest.approx(seconds["queue"] + seconds["solve"] + seconds["wire_and_encode"])


def test_the_written_placement_is_that_of_the_client(folder: Path) -> None:
    """In the form that SGLang takes, a row for every layer of the loads, those without load too."""
    text = ok("rebalance", folder / "new.npz", *LOCAL, "--previous", folder / "old.json", "-o", folder / "new.json")
    assert text.endswith(f"written to {folder / 'new.json'}\n")
    with Client("local") as client:
        placement = client.rebalance(read_loads(folder / "new.npz").load, num_gpus=GPUS, num_replicas=SLOTS,
                                     previous=read_placement(folder / "old.json").physical_to_logical)  # fmt: skip
    content = json.loads((folder / "new.json").read_text())
    assert content == {"physical_to_logical_map": placement.physical_to_logical.tolist()}
    assert [len(row) for row in content["physical_to_logical_map"]] == [SLOTS] * LAYERS


def test_the_placement_in_force_may_be_replaced(folder: Path) -> None:
    """-o may name the file of --previous; with the same loads there is then nothing left to move."""
    again = (folder / "newer.npz", *LOCAL, "--previous", folder / "old.json", "-o", folder / "old.json")
    first, second = rebalance_json(*again), rebalance_json(*again)
    assert first["moves"] > 0
    assert second["balancedness_before"] == pytest.approx(first["balancedness_after"])


def test_files_are_windows_in_the_order_given(folder: Path) -> None:
    """Each adds all of its windows, and the last of all is the latest."""
    files = [folder / "newer.npz", folder / "new.npz", folder / "old.npz"]
    load = np.concatenate([read_loads(file).load for file in files])
    write_loads(folder / "all.npy", load)
    found, expected = rebalance_json(*files, *LOCAL), rebalance_json(folder / "all.npy", *LOCAL)
    assert found["num_windows"] == 4
    assert found["files"] == [str(file) for file in files]
    for name in ("per_layer", "latest_balancedness_after", "balancedness_after"):
        assert found[name] == expected[name]
    assert f"{files[0]} and 2 more: 6 layers" in ok("rebalance", *files, *LOCAL)


def test_from_nothing_there_is_no_before_and_no_curve(folder: Path) -> None:
    """All copies count as moves then, and it says how to name what is in force."""
    text = ok("rebalance", folder / "old.npz", *LOCAL)
    assert "240 moves, 100.0% of 240 slots: placed from nothing; --previous names a placement in force" in text
    assert not re.search(r"^(latest window, )?before ", text, re.MULTILINE)
    assert "What moves buy" not in text
    assert "latest" not in text
    found = rebalance_json(folder / "old.npz", *LOCAL)
    assert (found["balancedness_before"], found["curve"]) == (None, [])


def test_no_moves_only_evaluate(folder: Path) -> None:
    """--max-moves 0 keeps the placement, and the curve says what moves would buy."""
    found = rebalance_json(folder / "new.npz", *LOCAL, "--previous", folder / "old.json", "--max-moves", 0,
                           "-o", folder / "new.json")  # fmt: skip
    assert found["moves"] == 0
    assert found["balancedness_after"] == found["balancedness_before"]
    np.testing.assert_array_equal(
        read_placement(folder / "new.json").physical_to_logical, read_placement(folder / "old.json").physical_to_logical
    )
    assert found["curve"][-1]["balancedness"] > found["balancedness_after"]["mean"]


def test_slots_of_inactive_gpus_are_empty_in_the_file(folder: Path) -> None:
    """-1 where nothing is, and it says so; shares are of the slots that are left."""
    text = ok("rebalance", folder / "new.npz", "--gpus", 8, "--replicas", 64, "--inactive-gpus", "3,7",
              "--target", "local", "-o", folder / "new.json")  # fmt: skip
    assert "288 moves, 100.0% of 288 slots" in text
    assert text.endswith(f"written to {folder / 'new.json'}; -1 stands for an empty slot\n")
    empty = read_placement(folder / "new.json").physical_to_logical.reshape(LAYERS, 8, 8) < 0
    assert empty[:, [3, 7]].all()
    assert not empty[:, [0, 1, 2, 4, 5, 6]].any()


def test_loads_without_any_load_are_answered(tmp_path: Path) -> None:
    """Nothing to balance is not an error, nor nan."""
    write_loads(tmp_path / "zero.json", np.zeros((2, 4), np.int64))
    arguments = (tmp_path / "zero.json", "--gpus", 2, "--replicas", 6, "--target", "local")
    ok("rebalance", *arguments, "-o", tmp_path / "placement.json")
    text = ok("rebalance", *arguments, "--previous", tmp_path / "placement.json")
    assert "2 layers (2 with no load)" in text
    assert len(re.findall(r"no load +no load", text)) == 3
    assert "Worst" not in text
    assert rebalance_json(*arguments)["balancedness_after"] is None


@pytest.mark.parametrize("columns", [20, 60, 200])
def test_no_figure_is_cut_on_a_narrow_terminal(folder: Path, columns: int) -> None:
    """Tables fit 60 columns, and in less they stay as they are."""
    text = ok("rebalance", folder / "new.npz", *LOCAL, "--previous", folder / "old.json", columns=columns)
    tables = text[text.index("Balancedness") : text.index("Time")].splitlines()
    assert max(len(line) for line in tables if "window" not in line) <= 60
    assert "…" not in text


def test_real_loads_are_rebalanced(traces: list[Path], tmp_path: Path) -> None:
    """From one published profile to the next, as DeepSeek-V3 is served: 288 slots on 32 GPUs, 32 moves a layer."""
    cluster = ("--gpus", 32, "--replicas", 288, "--target", "local", "-o", tmp_path / "placement.json")
    ok("rebalance", traces[0], *cluster)
    found = rebalance_json(traces[1], *cluster, "--previous", tmp_path / "placement.json", "--max-moves", 1842)
    assert found["num_layers_without_load"] == 3
    assert found["moves"] <= 1842
    assert found["balancedness_before"]["mean"] < 0.9
    assert found["balancedness_after"]["mean"] > 0.97


def test_every_option_reaches_the_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the names that the client has for them."""
    asked: dict[str, Any] = {}

    def rebalance(_: Client, load: Any, **options: Any) -> None:
        asked.update(load=load, **options)
        raise InvalidArgumentError.of("load", "enough")

    monkeypatch.setattr(Client, "rebalance", rebalance)
    options = (
        "--gpus 4 --replicas 40 --nodes 2 --groups 8 --hierarchy hierarchical --max-moves 7 --min-gain 0.01 "
        "--inactive-gpus 3,1 --gpu-speed 2=0.5,0=2 --allow-duplicates --restarts 3 --no-refine --target-gap 0.1 "
        "--seed 9 --timeout 5 --target local"
    )
    previous = ("--previous", folder / "old.json")
    assert failed(run("rebalance", folder / "new.npz", *options.split(), *previous), 2) == "trimtab: LOADS: enough"
    np.testing.assert_array_equal(asked.pop("load"), read_loads(folder / "new.npz").load)
    np.testing.assert_array_equal(asked.pop("previous"), read_placement(folder / "old.json").physical_to_logical)
    assert asked == {
        "num_gpus": 4, "num_replicas": 40, "num_nodes": 2, "num_groups": 8, "hierarchy": "hierarchical",
        "max_moves": 7, "min_gain": 0.01, "inactive_gpus": [3, 1], "gpu_speed": [2.0, 1.0, 0.5, 1.0],
        "allow_duplicates": True, "num_restarts": 3, "refine": False, "target_gap": 0.1, "seed": 9, "timeout": 5.0,
    }  # fmt: skip


NOT_TYPED = {"options", "priority"}  # a message of its own, and one that no option sets
FIELDS = [field.name for field in pb.RebalanceRequest.DESCRIPTOR.fields if field.name not in NOT_TYPED]


@pytest.mark.parametrize("field", FIELDS)
def test_refusals_name_what_the_user_typed(folder: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """Every field of the request that a user can get wrong has the name of an option of this command."""

    def rebalance(*_: Any, **__: Any) -> None:
        raise InvalidArgumentError.of(f"{field}.shape", "is wrong")

    monkeypatch.setattr(Client, "rebalance", rebalance)
    line = failed(run("rebalance", folder / "new.npz", *LOCAL), 2)
    typed = line.removeprefix("trimtab: ").removesuffix(": is wrong")
    assert typed in ok("rebalance", "--help").split()


WRONG: list[tuple[list[str], str]] = [
    ([], "--gpus: say how many there are, the files do not tell"),
    (["--gpus", "4"], "--replicas: say how many slots a layer has, or name a placement in force with --previous"),
    (["--gpus", "0", "--replicas", "40"], "Invalid value for '--gpus'"),
    (["--gpus", "3", "--replicas", "40"], "--replicas: "),
    (["--gpus", "4", "--replicas", "20"], "--replicas: "),
    ([*map(str, CLUSTER), "--max-moves", "5"], "--max-moves: "),
    ([*map(str, CLUSTER), "--max-moves", "99999999999999999999"], "--max-moves: 99999999999999999999 does not fit"),
    ([*map(str, CLUSTER), "--hierarchy", "flat"], "'flat' is not one of 'automatic', 'global', 'hierarchical'"),
    ([*map(str, CLUSTER), "--inactive-gpus", "3,x"], "must be GPUs by number, as 3,7, got '3,x'"),
    ([*map(str, CLUSTER), "--gpu-speed", "0.5"], "must be speeds by GPU, as 3=0.5,7=0.8, got '0.5'"),
    ([*map(str, CLUSTER), "--gpu-speed", "1=0.5,1=2"], "must name each GPU once, got '1=0.5,1=2'"),
    ([*map(str, CLUSTER), "--gpu-speed", "4=0.5"], "--gpu-speed: there is no GPU 4, they go from 0 to 3"),
    ([*map(str, CLUSTER), "--previous", "no.json"], "no.json: there is no such file; check the path"),
    ([*map(str, CLUSTER), "--previous", "new.npz"], "new.npz: holds no placement, it is a loads file of plain"),
    ([*map(str, CLUSTER), "-o", "a.txt"], "-o a.txt: its ending '.txt' is none of those that can be written: .json, "),
    ([*map(str, CLUSTER), "--previous", "old.json", "--from-nothing"], "--from-nothing: leave it out, or --previous"),
    ([*map(str, CLUSTER), "--layers", "4-2"], "must be the first and the last layer, as 3-60, got '4-2'"),
    ([*map(str, CLUSTER), "--layers", "3-9"], "--layers 3-9: the files have layers 0 to 5; choose among those, or say"),
    ([*map(str, CLUSTER), "--first-layer", "3", "--previous", "long.json"], "--previous has layers 0 to 6, the loads"),
    (
        [*map(str, CLUSTER), "-o", "a.json", "--output-format", "plain"],
        "-o a.json: its ending '.json' is none of those",
    ),
    ([*map(str, CLUSTER), "-o", "no/a.json"], "-o no/a.json: there is no folder no"),
    (
        [*map(str, CLUSTER), "other.json"],
        "other.json: has [6, 31] layers and experts, those before have [6, 32]; windows",
    ),
    ([*map(str, CLUSTER), "other.json", "-o", "other.json"], "-o other.json: is a file with loads; name another"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options[-2:]) or "none" for options, _ in WRONG])
def test_wrong_options_are_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """Exit code 2, nothing on standard output, and what the user typed."""
    monkeypatch.chdir(folder)
    write_loads("other.json", np.ones((6, 31), np.int64))
    write_placement("long.json", np.tile(np.arange(40) % 32, (7, 1)))
    assert message in failed(run("rebalance", "new.npz", "--target", "local", *options), 2)


def test_without_a_server_it_says_how_to_go_on(folder: Path) -> None:
    """Exit code 3, and no file."""
    line = failed(run("rebalance", folder / "new.npz", *CLUSTER, "--target", NOBODY, "-o", folder / "new.json"), 3)
    assert line.startswith(f"trimtab: no server answers at {NOBODY} (")
    assert not (folder / "new.json").exists()
