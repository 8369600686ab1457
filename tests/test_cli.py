"""The command `trimtab`: what it prints, what it writes, how it fails."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.command import NOBODY, failed, ok, run
from trimtab import Client
from trimtab.cli.server_process import ServerProcess
from trimtab.errors import (
    InternalError,
    OverloadedError,
    PermissionDeniedError,
    TrimtabError,
    UnauthenticatedError,
    UnexpectedStatusError,
)
from trimtab.formats import read_loads, write_loads
from trimtab.replication import replicate_experts, slot_weight
from trimtab.synthetic import generate_loads
from trimtab.version import __version__

LAYERS, EXPERTS = 6, 32


@pytest.fixture
def loads(tmp_path: Path) -> Path:
    """A file of loads, the third layer without any."""
    load = generate_loads(LAYERS, EXPERTS, seed=4)
    load[2] = 0
    write_loads(tmp_path / "loads.npz", load)
    return tmp_path / "loads.npz"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that listens and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def pack_json(*arguments: Any) -> dict[str, Any]:
    """The object that `trimtab pack --json` prints."""
    found: dict[str, Any] = json.loads(ok("pack", *arguments, "--json"))
    return found


def test_pack_shows_what_a_user_asks_first(loads: Path, server: ServerProcess) -> None:
    """Sizes, layers without load, balancedness before and after, gap, worst layers, times, and who solved."""
    text = ok("pack", loads, "--packs", 4, "--target", server.listen)
    assert f"{loads}: 6 layers (1 with no load), 32 experts, 4 packs of 8" in text
    for label in ("before: items in the order given", "after", "gap to the lower bound"):
        assert re.search(rf"^{label} +\d\S* +\d\S*$", text, re.MULTILINE), label
    worst = text.partition("Worst layers")[2].partition("Time")[0]
    assert sorted(re.findall(r"^(\d+) ", worst, re.MULTILINE)) == ["0", "1", "3", "4", "5"]
    for part in ("queue", "solve", "wire and encode", "total"):
        assert re.search(rf"^{part} +\d+\.\d$", text, re.MULTILINE), part
    assert f"solver cpu on cpu, restart-packer/2, server {__version__}, 1 in the batch" in text


@pytest.mark.parametrize("columns", [20, 40, 60, 200])
def test_no_figure_is_cut_on_a_narrow_terminal(loads: Path, columns: int) -> None:
    """Tables fit 60 columns, and in less they stay as they are, for the terminal to wrap."""
    text = ok("pack", loads, "--packs", 4, "--target", "local", columns=columns)
    tables = text[text.index("Balancedness") : text.index("Time")]
    wide = ok("pack", loads, "--packs", 4, "--target", "local", columns=60)
    assert tables == wide[wide.index("Balancedness") : wide.index("Time")]
    assert max(map(len, tables.splitlines())) <= 60


def test_the_figures_are_those_of_the_answer(loads: Path) -> None:
    """Recomputed here, from the file and the written answer, by the plainest means."""
    output = loads.with_name("out.npz")
    found = pack_json(loads, "--packs", 4, "--replicas", 40, "--target", "local", "-o", output)
    with np.load(output) as answer:
        weight, packs = answer["weight"], answer["pack_index"]
    live = [0, 1, 3, 4, 5]
    sums = np.array([[weight[i][packs[i] == p].sum() for p in range(4)] for i in range(LAYERS)])
    first = np.array([[weight[i][10 * p : 10 * p + 10].sum() for p in range(4)] for i in range(LAYERS)])
    for name, expected in (("balancedness_after", sums[live]), ("balancedness_before", first[live])):
        balancedness = expected.mean(axis=1) / expected.max(axis=1)
        assert found[name] == pytest.approx({"mean": balancedness.mean(), "worst": balancedness.min()})
        assert [x for x in found["per_layer"][name] if x is not None] == pytest.approx(list(balancedness))
        assert found["per_layer"][name][2] is None
    after = found["per_layer"]["balancedness_after"]
    assert found["worst_layers"] == sorted(live, key=lambda layer: after[layer])
    assert 0 <= found["gap"]["mean"] <= found["gap"]["worst"] < 0.2
    assert (found["num_layers"], found["num_layers_without_load"], found["num_items"]) == (6, 1, 40)
    seconds = found["seconds"]
    assert seconds["total"] == pytest.approx(seconds["queue"] + seconds["solve"] + seconds["wire_and_encode"])


def test_the_written_answer_is_whole_and_that_of_the_client(loads: Path, server: ServerProcess) -> None:
    """The arrays in the file are what the client gets for the slots' shares, and ranks fill every pack."""
    output = loads.with_name("out.npz")
    text = ok("pack", loads, "--packs", 4, "--replicas", 40, "--seed", 9, "--restarts", 3, "--target", server.listen,
              "-o", output)  # fmt: skip
    assert "32 experts in 40 slots, 4 packs of 10" in text
    assert text.endswith(f"written to {output}\n")
    load = read_loads(loads).load[0]
    physical_to_logical, logical_count = replicate_experts(load, 40)
    weight = slot_weight(load, physical_to_logical, logical_count)
    with Client("local") as client:
        packing = client.pack(weight, 4, num_restarts=3, seed=9)
    with np.load(output) as answer:
        assert sorted(answer) == ["pack_index", "physical_to_logical", "rank_in_pack", "weight"]
        np.testing.assert_array_equal(answer["pack_index"], packing.pack_index)
        np.testing.assert_array_equal(answer["rank_in_pack"], packing.rank_in_pack)
        np.testing.assert_array_equal(answer["physical_to_logical"], physical_to_logical)
        np.testing.assert_array_equal(answer["weight"], weight)
    for layer in range(LAYERS):
        cells = set(zip(packing.pack_index[layer].tolist(), packing.rank_in_pack[layer].tolist(), strict=True))
        assert cells == {(pack, rank) for pack in range(4) for rank in range(10)}


def test_without_replicas_the_answer_has_no_map(loads: Path) -> None:
    """Items are the experts themselves then, with the weights of the file."""
    output = loads.with_name("out.npz")
    ok("pack", loads, "--packs", 4, "--target", "local", "-o", output)
    with np.load(output) as answer:
        assert sorted(answer) == ["pack_index", "rank_in_pack", "weight"]
        np.testing.assert_array_equal(answer["weight"], read_loads(loads).load[0])


def test_seed_and_restarts_reach_the_solver(loads: Path) -> None:
    """One restart is the exact ordering alone; more of them win somewhere."""
    assert set(
        pack_json(loads, "--packs", 4, "--restarts", 1, "--target", "local")["per_layer"]["winning_restart"]
    ) == {0}
    winners = [
        pack_json(loads, "--packs", 4, "--restarts", 16, "--seed", seed, "--target", "local")["per_layer"]
        for seed in (0, 2**64 - 1)
    ]
    assert winners[0] != winners[1]


def test_windows_are_summed_and_it_says_so(tmp_path: Path) -> None:
    """[windows, layers, experts] packs as its sum does."""
    windows = generate_loads(3, 16, num_windows=4, drift=0.5)
    write_loads(tmp_path / "windows.npy", windows)
    write_loads(tmp_path / "sum.npy", windows.sum(axis=0))
    assert "; the sum of 4 windows" in ok("pack", tmp_path / "windows.npy", "--packs", 4, "--target", "local")
    found, expected = (
        pack_json(tmp_path / f"{name}.npy", "--packs", 4, "--target", "local") for name in ("windows", "sum")
    )
    assert found["per_layer"] == expected["per_layer"]
    assert (found["num_windows_summed"], expected["num_windows_summed"]) == (4, 1)


def test_a_file_without_any_load_is_answered(tmp_path: Path) -> None:
    """Nothing to balance is not an error, nor nan: it says no load, or null."""
    write_loads(tmp_path / "zero.json", np.zeros((2, 4), np.int64))
    text = ok("pack", tmp_path / "zero.json", "--packs", 2, "--target", "local")
    assert "2 layers (2 with no load)" in text
    assert len(re.findall(r"no load +no load", text)) == 3
    assert "Worst" not in text
    found = pack_json(tmp_path / "zero.json", "--packs", 2, "--replicas", 6, "--target", "local")
    assert found["balancedness_after"] is found["balancedness_before"] is found["gap"] is None


@pytest.mark.parametrize("number", range(7))
def test_real_loads_pack(traces: list[Path], number: int, server: ServerProcess) -> None:
    """Every published profile, as DeepSeek-V3 is served: 288 slots on 32 GPUs."""
    found = pack_json(traces[number], "--packs", 32, "--replicas", 288, "--target", server.listen)
    assert found["num_layers_without_load"] == 3
    assert found["balancedness_after"]["mean"] > 0.99
    assert found["balancedness_before"]["mean"] < 0.75


def test_names_with_brackets_are_shown_as_they_are(loads: Path) -> None:
    """A file name is no markup."""
    odd = loads.with_name("[red]x[bold].npz")
    loads.rename(odd)
    assert f"{odd}: 6 layers" in ok("pack", odd, "--packs", 4, "--target", "local")


BAD_PACKS: list[tuple[list[str], str]] = [
    ([], "Missing option '--packs'. ('trimtab pack --help' tells what it takes)"),
    (["--packs", "5"], "--packs: must divide num_items = 32, got 5; the nearest that do are 4 and 8"),
    (["--packs", "0"], "--packs: must be from 1 to num_items = 32, got 0"),
    (["--packs", "64"], "--packs: must be from 1 to num_items = 32, got 64"),
    (["--packs", "99999999999"], "--packs: 99999999999 does not fit"),
    (["--packs", "x"], "'x' is not a valid integer"),
    (["--packs", "4", "--replicas", "20"], "--replicas: must be at least num_experts = 32, so that every"),
    (["--packs", "4", "--replicas", "1000000000000"], "is not in the range 1<=x<=65536"),
    (["--packs", "4", "--restarts", "0"], "--restarts: must be at least 1, got 0"),
    (["--packs", "4", "--restarts", "65"], "--restarts: 65 is above this server's max_restarts = 64"),
    (["--packs", "4", "--seed", "-1"], "Invalid value for '--seed'"),
    (["--packs", "4", "--timeout", "0"], "must be above 0 and at most 86400, got 0"),
    (["--packs", "4", "--timeout", "nan"], "must be above 0 and at most 86400, got nan"),
    (["--packs", "4", "--target", "placement"], "must be HOST:PORT, as 127.0.0.1:50051, or local, got 'placement'"),
    (["--packs", "4", "-o", "a.txt"], "-o a.txt: must end in .npz"),
    (["--packs", "4", "-o", "no/a.npz"], "-o no/a.npz: there is no folder no"),
    (["--packs", "4", "-o", "folder.npz"], "-o folder.npz: is a folder"),
    (["--packs", "4", "-o", "loads.npz"], "-o loads.npz: is a file with loads; name another"),
]


@pytest.mark.parametrize(
    ("options", "message"), BAD_PACKS, ids=[" ".join(options) or "none" for options, _ in BAD_PACKS]
)
def test_wrong_options_are_told_in_one_line(
    loads: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """Exit code 2, nothing on standard output, and the option that the user typed."""
    monkeypatch.chdir(loads.parent)
    Path("folder.npz").mkdir()
    assert message in failed(run("pack", "loads.npz", "--target", "local", *options), 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.json", None, "no.json: there is no such file; check the path"),
        ("empty.npz", b"", "empty.npz: is empty"),
        ("loads.csv", b"1,2", 'loads.csv: is of no known format, it begins with "1,2"; known are plain, sglang,'),
        ("bad.json", b"{", "bad.json: is not JSON"),
        ("bad.npy", b"x", 'bad.npy: is of no known format, it begins with "x"'),
        ("bad.npz", b"x", "bad.npz: is of no known format"),
        ("bad.pt", b"\x80x", "bad.pt: is not a whole .pt file"),
        ("keys.json", b'{"a": 1}', 'keys.json: is of no known format, it begins with "{'),
        ("ragged.json", b'{"logical_count": [[1], [1, 2]]}', "ragged.json: the rows of logical_count must be of one"),
        (
            "nan.json",
            b'{"logical_count": [[NaN]]}',
            "nan.json: every load must be finite and at least 0, got nan at [0, 0, 0]",
        ),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """Exit code 2, before anybody is asked: the server named here does not exist."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in failed(run("pack", tmp_path / name, "--packs", 1, "--target", NOBODY), 2)


@pytest.mark.parametrize("command", ["pack", "describe"])
def test_no_server_there(loads: Path, command: str) -> None:
    """Exit code 3, and the ways out."""
    arguments = (loads, "--packs", 4) if command == "pack" else ()
    line = failed(run(command, *arguments, "--target", NOBODY), 3)
    assert line.startswith(f"trimtab: no server answers at {NOBODY} (")
    assert "Connection refused" in line
    assert "start one with 'trimtab-server', name another with --target, or solve here with --target local" in line


def test_a_server_that_never_answers(silent: str) -> None:
    """Exit code 3 when the time that the user gave is over."""
    line = failed(run("describe", "--target", silent, "--timeout", "0.3"), 3)
    assert line.startswith(f"trimtab: no answer from {silent} in time (")
    assert "give it more with --timeout" in line


def test_a_request_that_the_server_refuses(loads: Path, server: ServerProcess) -> None:
    """What a real server says of bad input is exit code 2, as in this process."""
    line = failed(run("pack", loads, "--packs", 5, "--target", server.listen), 2)
    assert line == "trimtab: --packs: must divide num_items = 32, got 5; the nearest that do are 4 and 8"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OverloadedError("queue full", 1.5), "the server at x:1 has too much to do (queue full); try again in 1.5 s"),
        (OverloadedError("queue full"), "the server at x:1 has too much to do (queue full); try again later"),
        (UnauthenticatedError("who?"), "x:1 does not know you (who?); give your token with --token-file, or your cert"),
        (PermissionDeniedError("not Pack"), "x:1 does not let you (not Pack); ask those who run it"),
        (InternalError("id 5"), "id 5"),
        (
            UnexpectedStatusError("UNIMPLEMENTED: no", grpc.StatusCode.UNIMPLEMENTED),
            "x:1 answers, but not as a placement server (UNIMPLEMENTED: no)",
        ),
    ],
)
def test_other_ends_of_a_call(monkeypatch: pytest.MonkeyPatch, error: TrimtabError, line: str) -> None:
    """Each error of a call has its line, and exit code 3."""

    def describe(_: Client, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Client, "describe", describe)
    assert failed(run("describe", "--target", "x:1"), 3).startswith(f"trimtab: {line}")


def test_local_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch, loads: Path) -> None:
    """With --target local the server's variables count here, and so do mistakes in them."""
    monkeypatch.setenv("TRIMTAB_DEVICE", "cuda:99")
    line = failed(run("pack", loads, "--packs", 4, "--target", "local"), 3)
    assert line.startswith("trimtab: ")
    assert "cuda:99" in line


def test_generate_writes_what_the_generator_makes(tmp_path: Path) -> None:
    """All options reach it; the file reads back."""
    path = tmp_path / "g.json"
    text = ok("generate", "-o", path, "--layers", 3, "--experts", 8, "--windows", 2, "--drift", 0.3, "--seed", 5)
    assert text == f"{path}: 2 x 3 x 8 loads, seed 5\n"
    np.testing.assert_array_equal(read_loads(path).load, generate_loads(3, 8, 2, 0.3, 5))
    ok("generate", "-o", tmp_path / "g.npz")
    np.testing.assert_array_equal(read_loads(tmp_path / "g.npz").load[0], generate_loads())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "a.csv"], "a.csv: its ending '.csv' is none of those that can be written: .json, .pt, .npy, .npz"),
        (["-o", "no/a.npz"], "no/a.npz: can't be written (No such file or directory)"),
        (["-o", "a.npz", "--layers", "0"], "--layers: must be at least 1, got 0"),
        (["-o", "a.npz", "--experts", "0"], "--experts: must be at least 1, got 0"),
        (["-o", "a.npz", "--windows", "0"], "--windows: must be at least 1, got 0"),
        (["-o", "a.npz", "--drift", "2"], "--drift: must be from 0 to 1, got 2.0"),
        (["-o", "a.npz", "--seed", "-1"], "--seed: must be at least 0, got -1"),
        (["-o", "a.npz", "--layers", "9999999", "--experts", "9999999"], "loads are too many; make at most 134217728"),
        ([], "Missing option '-o' / '--output'. ('trimtab generate --help' tells what it takes)"),
    ],
)
def test_wrong_loads_are_not_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """Exit code 2, and no file."""
    monkeypatch.chdir(tmp_path)
    assert message in failed(run("generate", *options), 2)
    assert not list(tmp_path.iterdir())


def test_describe_tells_what_the_server_is(server: ServerProcess) -> None:
    """Version, algorithm, solver and limits, as a table and as JSON."""
    text = ok("describe", "--target", server.listen)
    assert f"{server.listen}: trimtab {__version__}, restart-packer/2" in text
    assert "solver cpu on cpu" in text
    assert re.search(r"^max_rows +4,096$", text, re.MULTILINE)
    found = json.loads(ok("describe", "--target", server.listen, "--json"))
    assert found["limits"]["max_rows"] == 4096
    assert found["solvers"] == [["cpu", "cpu"]]


@pytest.mark.parametrize(
    "command", [[], ["pack"], ["rebalance"], ["replay"], ["generate"], ["describe"], ["demo"]], ids=str
)
def test_help_has_examples_and_exit_codes(command: list[str]) -> None:
    """Each command shows how it is typed, and what its exit codes mean."""
    text = " ".join(ok(*command, "--help").split())
    assert "Exit codes: 0 done; 2 wrong usage or bad input; 3 the server is not there, or it refused." in text
    for name in command:
        assert f"Examples: trimtab {name}" in text
        assert text.count(f"trimtab {name}") >= 3


def test_alone_it_helps_and_tells_its_version() -> None:
    """`trimtab` is `trimtab --help`; a command that there is not is told in one line."""
    assert ok() == ok("--help")
    assert ok("--version") == f"trimtab {__version__}\n"
    assert failed(run("foo"), 2) == "trimtab: No such command 'foo'. ('trimtab --help' tells what it takes)"


def test_nothing_heavy_is_imported() -> None:
    """`import trimtab` needs no part of the command; the command starts without torch and without the server."""
    code = "import sys; {}; print([name for name in {} if name in sys.modules])"
    for statement, names in (
        ("import trimtab, trimtab.formats, trimtab.synthetic, trimtab.replication", ["click", "rich", "torch"]),
        ("import trimtab.cli.commands", ["torch", "trimtab_server", "matplotlib"]),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code.format(statement, names)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ran.stdout == "[]\n"
