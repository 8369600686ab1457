"""`trimtab watch`, killed by force at every step that its files go through, and started again.

Wherever that was, the end is that of a watcher which nobody disturbed, and engines never met half a placement.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kept_venv import ROOT
from tests.watch_crash_child import DUMPS, HISTORY
from trimtab.cli.server_process import ServerProcess
from trimtab.formats import read_placement
from trimtab.watch.history import History
from trimtab.watch.journal import Journal
from trimtab.watch.state import State


class Watchers:
    """Processes that watch, forked from one that has everything loaded."""

    def __init__(self, target: str) -> None:
        command = [sys.executable, "-m", "tests.watch_crash_child", target]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, folder: Path, last: int = 0) -> tuple[int, Any]:
        """Exit code of a watcher, and the steps that it went through, if it came to its end."""
        folder.mkdir(exist_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder} {last}\n")
        self._process.stdin.flush()
        code, steps = json.loads(self._process.stdout.readline())
        return code, steps

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def watchers(server: ServerProcess) -> Iterator[Watchers]:
    watchers = Watchers(server.listen)
    yield watchers
    watchers.close()


def end_of(folder: Path) -> tuple[bytes, dict[str, Any], list[str]]:
    """The output, all that the journal comes to, and the names of all files."""
    journal = Journal(folder / "journal", State(History(HISTORY)), lambda: 0.0)
    journal.close()
    record = json.loads(json.dumps(journal.state.record()))
    assert record.pop("source") == f"folder {folder / 'dumps'}"
    assert journal.state.known is not None
    assert journal.state.intended is None
    files = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    return (folder / "placement.json").read_bytes(), record, files


def reads_in(folder: Path) -> list[str]:
    """Files that the journal says were read, in its order; before it was compacted they stand in its state."""
    records = [json.loads(line) for line in (folder / "journal").read_text().splitlines()]
    before = [name for record in records if record["event"] == "state" for name in record["position"]]
    return before + [name for record in records if record["event"] == "read" for name in record["position"]]


def test_a_watcher_that_is_killed_at_any_step_is_made_up_for_by_the_next(watchers: Watchers, tmp_path: Path) -> None:
    """Before, in and after each record, around each rename, and when the next one is killed too."""
    code, steps = watchers.run(tmp_path / "whole")
    assert code == 0, steps
    assert isinstance(steps, list), steps
    assert {"in read", "in intended", "in written", "before journal is there"} <= set(steps)
    assert steps.count("after placement.json is there") == DUMPS
    expected = end_of(tmp_path / "whole")
    placements = set()
    for last in range(1, len(steps) + 1):
        folder = tmp_path / str(last)
        name = steps[last - 1]
        assert watchers.run(folder, last) == (-signal.SIGKILL, None), name
        output = folder / "placement.json"
        if output.exists():
            placements.add(read_placement(output).physical_to_logical.tobytes())
        if last % 3 == 0:
            watchers.run(folder, 1 + last % 7)
        assert watchers.run(folder)[0] == 0, name
        assert end_of(folder) == expected, f"killed {name} (step {last})"
        assert sorted(set(reads_in(folder))) == sorted(reads_in(folder)), name
    assert len(placements) == DUMPS
