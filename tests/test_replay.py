"""`trimtab replay`: what it shows, what it draws, what it asks for, how it fails."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import NOBODY, failed, ok, run
from trimtab import Client
from trimtab.cli.server_process import ServerProcess
from trimtab.formats import write_loads
from trimtab.synthetic import generate_loads

GPUS, SLOTS = 4, 40
SMALL = ("--gpus", GPUS, "--replicas", SLOTS, "--target", "local")


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """Ten windows that drift, the third layer without load."""
    load = generate_loads(6, 32, num_windows=10, drift=0.1, seed=4)
    load[:, 2] = 0
    write_loads(tmp_path / "week.npz", load)
    return tmp_path / "week.npz"


def replay_json(*arguments: Any) -> dict[str, Any]:
    """The object that `trimtab replay --json` prints."""
    found: dict[str, Any] = json.loads(ok("replay", *arguments, "--json"))
    return found


def test_the_command_shows_all_policies(week: Path, server: ServerProcess) -> None:
    """What was replayed and how, three tables by policy, the model with its constants, and the words at the end."""
    text = ok("replay", week, "--gpus", GPUS, "--replicas", SLOTS, "--target", server.listen, "--max-moves", 24)
    assert text.startswith(f"{week}: 10 windows of 6 layers, 32 experts in 40 slots, 4 GPUs of 10\n")
    assert "placed anew every window on the window before, judged on what came next: 9 windows" in text
    for policy in ("none", "fresh", "budgeted"):
        assert re.search(rf"^{policy} +0\.\d{{4}} +0\.\d{{4}} +0\.\d{{4}}$", text, re.MULTILINE)
        assert re.search(rf"^{policy} +\d+ +[\d,]+ +[\d,]+$", text, re.MULTILINE)
        assert re.search(rf"^{policy} +\d+\.\d +\d+\.\d +\d+\.\d +\d+\.\d%$", text, re.MULTILINE)
    assert "Moves; budgeted: at most 24 a rebalance" in text
    assert "Seconds lost of 540 served" in text
    assert "x (1 - balancedness), summed over windows; here 60 s and 0.4" in text
    assert "GPUs receive in parallel, serving waits; here 42 MiB and 400 Gbit/s" in text
    assert text.splitlines()[-1].startswith("Rebalanced by trimtab within 24 moves a rebalance, serving loses ")


def test_the_figures_are_those_of_the_series(week: Path) -> None:
    """Means, worst, moves and seconds follow from the series; budgets are kept; all start from one placement."""
    found = replay_json(week, *SMALL, "--max-moves", 24, "--interval", 2, "--history", 2, "--window-seconds", 30)
    assert (found["num_windows"], found["num_windows_judged"], found["seconds_served"]) == (10, 8, 240)
    policies = found["policies"]
    assert list(policies) == ["none", "fresh", "budgeted"]
    for policy in policies.values():
        series = policy["series"]
        assert series["window"] == list(range(2, 10))
        assert policy["balancedness"]["mean"] == pytest.approx(np.mean(series["balancedness"]))
        assert policy["balancedness"]["worst"] == min(series["balancedness"])
        assert policy["worst_layer"]["worst"] == min(series["worst_layer"])
        assert policy["moves"] == sum(series["moves"])
        assert policy["rebalances"] == sum(series["rebalanced"])
        assert policy["moves_per_rebalance"] == pytest.approx(policy["moves"] / max(policy["rebalances"], 1))
        imbalance = sum(30 * 0.4 * (1 - value) for value in series["balancedness"])
        moves = sum(series["most_received_by_a_gpu"]) * 42 * 2**20 * 8 / 400e9
        expected = {"imbalance": imbalance, "moves": moves, "total": imbalance + moves}
        assert policy["seconds_lost"] == pytest.approx(expected)
        assert series["balancedness"][:2] == policies["none"]["series"]["balancedness"][:2]
    assert policies["none"]["series"]["moves"] == [0] * 8
    budgeted = policies["budgeted"]["series"]
    assert budgeted["rebalanced"] == [False, False, True, False, True, False, True, False]
    assert 0 < max(budgeted["moves"]) <= 24
    assert policies["fresh"]["moves"] > policies["budgeted"]["moves"]
    assert policies["budgeted"]["balancedness"]["mean"] > policies["none"]["balancedness"]["mean"]
    assert found["summary"].startswith("Rebalanced by trimtab within 24 moves a rebalance")
    assert (
        replay_json(week, *SMALL, "--max-moves", 24, "--interval", 2, "--history", 2, "--window-seconds", 30) == found
    )


def test_the_first_placement_is_judged_as_its_solver_would(week: Path) -> None:
    """A placement judged here on a window is as balanced there as the service itself says."""
    load = np.load(week)["logical_count"]
    found = replay_json(week, *SMALL, "--policy", "none")
    with Client("local") as client:
        first = client.rebalance(load[0], num_gpus=GPUS, num_replicas=SLOTS)
        judged = client.rebalance(load[5], num_gpus=GPUS, num_replicas=SLOTS, previous=first.physical_to_logical,
                                  max_moves=0)  # fmt: skip
    series = found["policies"]["none"]["series"]
    assert series["balancedness"][4] == pytest.approx(np.nanmean(judged.balancedness_before), abs=1e-6)
    assert series["worst_layer"][4] == pytest.approx(np.nanmin(judged.balancedness_before), abs=1e-6)


def test_policies_can_be_picked(week: Path) -> None:
    """Several, in one order whatever the order given, each once."""
    picked = replay_json(week, *SMALL, "--policy", "budgeted", "--policy", "none", "--policy", "budgeted")
    assert list(picked["policies"]) == ["none", "budgeted"]
    assert picked["max_moves"] == 24  # a tenth of 6 x 40 slots
    assert list(replay_json(week, *SMALL, "--policy", "fresh", "--policy", "all")["policies"]) == [
        "none",
        "fresh",
        "budgeted",
    ]


def test_several_files_are_one_sequence(week: Path) -> None:
    """As if their windows stood in one file."""
    load = np.load(week)["logical_count"]
    write_loads(week.with_name("a.npz"), load[:4])
    write_loads(week.with_name("b.npy"), load[4:])
    found = replay_json(week.with_name("a.npz"), week.with_name("b.npy"), *SMALL)
    assert found["policies"] == replay_json(week, *SMALL)["policies"]


def test_without_files_loads_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the windows, drift and seed asked for, of DeepSeek-V3's size."""
    asked: list[Any] = []

    def place_in_order(_: Client, load: Any, **options: Any) -> Any:
        asked.append((load, options))
        slots = np.tile(np.arange(288) % 256, (58, 1))
        return type("Placed", (), {"physical_to_logical": slots, "execution": Any, "algorithm": "", "hierarchy": ""})

    monkeypatch.setattr(Client, "rebalance", place_in_order)
    cluster = ("--gpus", 32, "--replicas", 288, "--nodes", 4, "--groups", 8, "--target", "local", "--timeout", 7)
    text = ok("replay", *cluster, "--windows", 4, "--drift", 0.3, "--seed", 5, "--min-gain", 0.1)
    assert text.startswith("generated loads, drift 0.3, seed 5: 4 windows of 58 layers, 256 experts in 288 slots")
    loads = generate_loads(58, 256, 4, 0.3, 5)
    shared = {"num_gpus": 32, "num_replicas": 288, "num_nodes": 4, "num_groups": 8, "hierarchy": "automatic"}
    for load, options in asked:
        assert shared.items() <= options.items()
        assert options["timeout"] == 7
        assert load.shape == (1, 58, 256)
    assert [int(np.flatnonzero((loads == load).all(axis=(1, 2)))[0]) for load, _ in asked] == [0, 1, 2, 1, 2]
    limits = [(options.get("max_moves"), options.get("min_gain")) for _, options in asked]
    assert limits == [(None, None)] * 3 + [(1670, 0.1)] * 2


def test_real_loads_are_replayed(traces: list[Path]) -> None:
    """The published profiles as a sequence: rebalancing beats leaving alone, for a fraction of the moves."""
    cluster = ("--gpus", 32, "--replicas", 288, "--target", "local")
    policies = replay_json(*traces, *cluster, "--history", 2)["policies"]
    assert policies["budgeted"]["balancedness"]["mean"] > policies["none"]["balancedness"]["mean"]
    assert policies["budgeted"]["moves"] < policies["fresh"]["moves"] / 5


@pytest.mark.parametrize("empty", [3, None], ids=["one window", "all windows"])
def test_windows_without_load_are_no_figures(week: Path, empty: int | None) -> None:
    """They are null in the series; where there is no load at all it says so."""
    load = np.load(week)["logical_count"]
    load[empty if empty is not None else slice(None)] = 0
    write_loads(week, load)
    found = replay_json(week, *SMALL, "--policy", "none")
    series = found["policies"]["none"]["series"]
    assert [index for index, value in enumerate(series["balancedness"]) if value is None] == (
        [2] if empty is not None else list(range(9))
    )
    assert ("no load" in ok("replay", week, *SMALL)) == (empty is None)


def test_it_draws_what_it_found(week: Path) -> None:
    """A PNG, of another content for other policies; nothing of it without being asked."""
    one, all_of_them = week.with_name("one.png"), week.with_name("all.png")
    assert ok("replay", week, *SMALL, "--plot", all_of_them).endswith(f"drawn to {all_of_them}\n")
    json.loads(ok("replay", week, *SMALL, "--policy", "none", "--plot", one, "--json"))
    for path in (one, all_of_them):
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert one.stat().st_size < all_of_them.stat().st_size


def test_without_matplotlib_it_says_what_to_install(week: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is solved: the server named here does not exist. Without --plot nobody misses it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    drawing = ("--gpus", GPUS, "--replicas", SLOTS, "--target", NOBODY, "--plot", week.with_name("a.png"))
    line = failed(run("replay", week, *drawing), 2)
    assert line.startswith("trimtab: --plot needs matplotlib (")
    assert line.endswith("): pip install 'trimtab[cli]'")
    ok("replay", week, *SMALL, "--policy", "none")


def test_progress_is_for_people_alone(week: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on standard error where that is a terminal, and neither through a pipe nor with --json."""
    assert run("replay", week, *SMALL).stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal then
    shown = run("replay", week, *SMALL)
    assert "replaying" in shown.stderr
    assert "replaying" not in shown.stdout
    assert run("replay", week, *SMALL, "--json").stderr == ""


WRONG: list[tuple[list[str], str]] = [
    (["--interval", "0"], "Invalid value for '--interval'"),
    (["--history", "x"], "'x' is not a valid integer"),
    (
        ["--history", "9"],
        "--history 9 and --interval 1 take 11 windows for one rebalance and a window to judge it on, there are",
    ),
    (["--interval", "9"], "--history 1 and --interval 9 take 11 windows"),
    (["--policy", "lazy"], "'lazy' is not one of 'none', 'fresh', 'budgeted', 'all'"),
    (["--windows", "5"], "--windows is for generated loads; leave it out, or the files"),
    (["--drift", "0.1"], "--drift is for generated loads"),
    (["--seed", "0"], "--seed is for generated loads"),
    (["--moe-share", "1.5"], "must be above 0 and at most 1, got 1.5"),
    (["--window-seconds", "nan"], "must be above 0 and at most 1e+06, got nan"),
    (["--expert-mib", "0"], "must be above 0"),
    (["--bandwidth-gbps", "inf"], "must be above 0"),
    (["--plot", "a.pdf"], "--plot a.pdf: must end in .png"),
    (["--plot", "no/a.png"], "--plot no/a.png: there is no folder no"),
    (["--min-gain", "2"], "--min-gain: "),
    (["no.npz"], "no.npz: there is no such file; check the path"),
    (
        ["other.npy"],
        "other.npy: has [6, 31] layers and experts, those before have [6, 32]; windows must be of one shape",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_wrong_options_are_told_in_one_line(
    week: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """Exit code 2, nothing on standard output, and what the user typed."""
    monkeypatch.chdir(week.parent)
    write_loads("other.npy", np.ones((6, 31), np.int64))
    assert message in failed(run("replay", "week.npz", *SMALL, *options), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drift", "2"], "--drift: must be from 0 to 1, got 2.0"),
        (["--windows", "0"], "--windows: must be at least 1, got 0"),
        (["--windows", "1"], "take 3 windows for one rebalance and a window to judge it on, there are 1; give more"),
        (["--windows", "99999999"], "loads are too many"),
        (["--seed", "-1"], "--seed: must be at least 0, got -1"),
    ],
)
def test_loads_that_cannot_be_generated(options: list[str], message: str) -> None:
    """The generator's own rules, told as those of other commands."""
    assert message in failed(run("replay", *SMALL, *options), 2)


def test_without_a_server_it_says_how_to_go_on(week: Path) -> None:
    """Exit code 3, and nothing drawn."""
    plot = week.with_name("a.png")
    line = failed(run("replay", week, "--gpus", GPUS, "--replicas", SLOTS, "--target", NOBODY, "--plot", plot), 3)
    assert line.startswith(f"trimtab: no server answers at {NOBODY} (")
    assert not plot.exists()
