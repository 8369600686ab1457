"""`trimtab watch` as its users meet it: a process of its own, a real server, files that come, signals, scrapes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import NOBODY, failed, ok, run
from tests.http_port import ask, total
from tests.watch_parts import drop, line_of, load_of
from trimtab.cli.judging import count_received, layer_balancedness
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.formats import read_placement, write_loads, write_placement
from trimtab.synthetic import generate_loads
from trimtab.watch import controller

LAYERS, EXPERTS, GPUS, SLOTS = 3, 16, 4, 20
CLUSTER = ("--gpus", GPUS, "--replicas", SLOTS)
LOADS = generate_loads(LAYERS, EXPERTS, num_windows=8, drift=0.3, seed=2)
_SECONDS = 60.0


class Watching:
    """A watcher in a process of its own, and the events that it has told."""

    def __init__(self, *arguments: Any) -> None:
        code = "from trimtab.cli import main; main()"
        command = [sys.executable, "-c", code, "watch", *map(str, arguments), "--json", "--interval", "0.05"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()

    def events(self, event: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in told if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The event that is the `count`-th of its kind."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events(event)) >= count, _SECONDS), "".join(self.lines)
            return self.events(event)[count - 1]

    def end(self, number: signal.Signals) -> int:
        """Its exit code, after a signal."""
        self.process.send_signal(number)
        code = self.process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        return code


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    folder = tmp_path / "dumps"
    folder.mkdir()
    return folder


@pytest.fixture
def running() -> Iterator[list[Watching]]:
    """Watchers that are ended when the test is over, however that is."""
    watchers: list[Watching] = []
    yield watchers
    for watcher in watchers:
        watcher.end(signal.SIGKILL)


@pytest.fixture
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes the dumps of these tests while they are looked at."""
    monkeypatch.setattr(controller, "_SECOND_LOOK", 0.0)


def put(dumps: Path, number: int) -> None:
    drop(dumps, f"{number}.json", LOADS[number], at=number + 1)


def test_it_watches_through_deaths_of_its_own_and_of_the_server(
    dumps: Path, tmp_path: Path, running: list[Watching]
) -> None:
    """No server, a server, dumps, kill -9, a start, a server that dies and comes back, scrapes, and signals to end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = f"127.0.0.1:{free.getsockname()[1]}"
    output = tmp_path / "placement.json"
    command = (dumps, *CLUSTER, "-o", output, "--target", target, "--max-moves", 8, "--history", 2, "--cooldown", 0)

    running.append(first := Watching(*command))
    first.wait_for("begun")
    put(dumps, 0)
    assert first.wait_for("failed")["reason"] == "unavailable"
    assert not output.exists()
    with running_server(f"--listen={target}") as server:
        assert first.wait_for("written")["moves"] == LAYERS * SLOTS
        put(dumps, 1)
        assert first.wait_for("written", 2)["moves"] <= 8
        before = read_placement(output).physical_to_logical
        assert first.end(signal.SIGKILL) == -signal.SIGKILL

        put(dumps, 2)
        running.append(second := Watching(*command, "--metrics-listen", "127.0.0.1:0"))
        written = second.wait_for("written")
        assert [each["name"] for each in second.events("read")] == [str(dumps / "2.json")]
        after = read_placement(output).physical_to_logical
        assert 0 < written["moves"] == count_received(before, after, GPUS).sum() <= 8
        for name, slots in (("balancedness_before", before), ("balancedness_after", after)):
            windows = [layer_balancedness(load, slots, GPUS) for load in LOADS[1:3]]
            assert written[name] == pytest.approx(np.mean(windows), abs=1e-6)

        address = second.events("listening")[0]["address"]
        assert ask(address, "/healthz") == (200, "ok")
        assert ask(address, "/")[0] == 404
        page = ask(address, "/metrics")[1]
        for metric, value in {"windows": 1, "asked": 1, "rebalances": 1, "moves": written["moves"]}.items():
            assert total(page, f"trimtab_watch_{metric}_total") == value
        assert total(page, "trimtab_watch_balancedness", stage="after") == pytest.approx(written["balancedness_after"])
        server.process.kill()
        server.process.wait()

    put(dumps, 3)
    assert second.wait_for("failed")["reason"] == "unavailable"
    assert np.array_equal(read_placement(output).physical_to_logical, after)
    with running_server(f"--listen={target}"):
        second.wait_for("written", 2)
    assert second.end(signal.SIGTERM) == 0
    assert second.events("ended")
    assert "Traceback" not in "".join(second.lines)

    running.append(third := Watching(*command))
    third.wait_for("begun")
    assert third.end(signal.SIGINT) == 130
    assert third.lines[-1] == "trimtab: stopped\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dumps", "placement.json", "placement.json.journal"]


@pytest.mark.usefixtures("without_pause")
def test_once_looks_once_and_goes_on_from_there(dumps: Path, tmp_path: Path, server: ServerProcess) -> None:
    """Plain lines with the time; a second run has nothing to do, a third what came since."""
    output = tmp_path / "placement.json"
    command = ("watch", dumps, *CLUSTER, "-o", output, "--target", server.listen, "--cooldown", 0, "--once")
    put(dumps, 0)
    lines = ok(*command).splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        f"watches folder {dumps}; 0 of 4 windows in the history, no placement in force",
        f"{dumps}/0.json: 1 window of 3 layers (0 to 2) of 16 experts; 1 of 4 in the history",
        f"places 60 copies from nothing, balancedness {lines[-1].split()[7].rstrip(';')}; written to {output}",
    ]
    assert ok(*command).count("\n") == 1
    put(dumps, 1)
    assert " moves take balancedness from 0." in ok(*command)


@pytest.mark.usefixtures("without_pause")
def test_a_dry_run_writes_nothing(dumps: Path, tmp_path: Path, server: ServerProcess) -> None:
    """Neither the output nor the journal, also where they are there; every line says that it is dry."""
    output = tmp_path / "placement.json"
    command = ("watch", dumps, *CLUSTER, "-o", output, "--target", server.listen, "--cooldown", 0, "--once")
    put(dumps, 0)
    assert "places 60 copies from nothing" in ok(*command, "--dry-run")
    assert [file.name for file in tmp_path.iterdir()] == ["dumps"]
    ok(*command)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    put(dumps, 1)
    text = ok(*command, "--dry-run")
    assert " moves take balancedness from 0." in text
    assert all(" dry run: " in line for line in text.splitlines())
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_lines_of_vllm_tell_all_that_is_asked_for(tmp_path: Path, server: ServerProcess) -> None:
    """The GPUs, the slots, and the placement in force, within which it is rebalanced."""
    stats = tmp_path / "stats.jsonl"
    slots = [[0, 1, 2, 3, 4, 5, 0, 1]] * 2
    load = [[90, 80, 5, 4, 3, 2, 90, 80], [1, 2, 3, 4, 50, 60, 1, 2]]
    stats.write_text(line_of(0, expert_load=load, p2l_map=slots, num_ranks=2))
    output = tmp_path / "placement.npz"
    text = ok("watch", stats, "-o", output, "--target", server.listen, "--max-moves", 4, "--once", "--json")
    written = [json.loads(line) for line in text.splitlines()][-1]
    assert 0 < written["moves"] <= 4
    received = count_received(np.array(slots), read_placement(output).physical_to_logical, 2)
    assert written["moves"] == received.sum()


@pytest.mark.usefixtures("without_pause")
def test_once_ends_with_the_code_of_what_went_wrong(dumps: Path, tmp_path: Path) -> None:
    """3 where no server is, told as an event; 2 where a dump is bad; and the placement stays."""
    output = tmp_path / "placement.json"
    command = ("watch", dumps, *CLUSTER, "-o", output, "--once")
    (dumps / "bad.json").write_text("{")
    result = run(*command, "--target", NOBODY)
    assert (result.exit_code, result.stderr) == (2, "")
    assert f"{dumps}/bad.json is not JSON" in result.stdout
    put(dumps, 0)
    result = run(*command, "--target", NOBODY)
    assert (result.exit_code, result.stderr) == (3, "")
    assert f"no server answers at {NOBODY}" in result.stdout
    assert not output.exists()


def test_one_watcher_at_a_time(dumps: Path, tmp_path: Path, running: list[Watching]) -> None:
    """A second one on the same journal is refused."""
    command = (dumps, *CLUSTER, "-o", tmp_path / "placement.json", "--target", NOBODY)
    running.append(watching := Watching(*command))
    watching.wait_for("begun")
    assert "another watcher is at work on it; stop that one, or name" in failed(run("watch", *command), 2)


WRONG = [
    (["no"], "LOADS no: there is no such folder or file; check the path"),
    (["loads.npz"], "LOADS loads.npz: is no file of lines that can grow; watch the folder that it is in"),
    (["ftp://a/b"], "LOADS: must be http://HOST:PORT/PATH or https://, without a name or password in it"),
    (["http://me:secret@a/b"], "LOADS: must be http://HOST:PORT/PATH or https://, without"),
    (["http://a:port/b"], "LOADS: must be http://HOST:PORT/PATH or https://, without"),
    (["dumps", "-o", "-"], "-o and --journal: must be files, standard output has the events"),
    (["dumps", "-o", "a.txt"], "-o a.txt: its ending '.txt' is none of those that can be written"),
    (["dumps", "-o", "no/a.json"], "-o no/a.json: there is no folder no"),
    (["dumps", "--journal", "no/a"], "--journal no/a: there is no folder no"),
    (["dumps", "--journal", "placement.json"], "--journal placement.json: is the output; name another"),
    (["dumps", "--previous", "no.json"], "no.json: there is no such file; check the path"),
    (["dumps", "--interval", "0"], "must be above 0 and at most 86400, got 0"),
    (["dumps", "--cooldown", "-1"], "must be above 0 and at most 86400, got -1"),
    (["dumps", "--payback", "nan"], "must be above 0 and at most 86400, got nan"),
    (["dumps", "--metrics-listen", "9096"], "must be HOST:PORT, as 127.0.0.1:9096, got '9096'"),
    (["dumps", "--metrics-listen", "192.0.2.1:9096"], "--metrics-listen 192.0.2.1:9096: Cannot assign requested"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_wrong_options_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """Exit code 2, before anything is read or written."""
    monkeypatch.chdir(tmp_path)
    Path("dumps").mkdir()
    write_loads("loads.npz", LOADS)
    assert message in failed(run("watch", "-o", "placement.json", *options, "--target", NOBODY), 2)
    assert sorted(file.name for file in tmp_path.glob("placement*")) in ([], ["placement.json.journal"])


def test_without_a_word_on_the_cluster_it_ends(dumps: Path, tmp_path: Path, without_pause: None) -> None:  # noqa: ARG001
    """Nothing tells how many GPUs there are: that is a mistake, not a failure that passes."""
    drop(dumps, "a.json", load_of(1), at=1)
    result = run("watch", dumps, "-o", tmp_path / "placement.json", "--target", NOBODY, "--once")
    assert result.exit_code == 2
    assert result.stderr == "trimtab: --gpus: say how many there are, the files do not tell\n"


def test_a_placement_named_at_the_start_is_gone_on_from(
    dumps: Path,
    tmp_path: Path,
    server: ServerProcess,
    without_pause: None,  # noqa: ARG001
) -> None:
    """Whatever format it has; the output comes about with the first rebalance."""
    slots = np.arange(SLOTS)[None].repeat(LAYERS, 0) % EXPERTS
    write_placement(tmp_path / "old.npz", slots)
    put(dumps, 0)
    command = ("watch", dumps, "--gpus", GPUS, "-o", tmp_path / "placement.json", "--target", server.listen, "--once")
    text = ok(*command, "--previous", tmp_path / "old.npz", "--max-moves", 6)
    assert "a placement in force of 3 layers, 16 experts in 20 slots" in text
    after = read_placement(tmp_path / "placement.json").physical_to_logical
    assert 0 < count_received(slots, after, GPUS).sum() <= 6
