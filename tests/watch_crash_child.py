"""A watcher that kills itself at a chosen step, in a process of its own each time; driven by `test_watch_crash`.

Run with a server's address, it reads a line `FOLDER STEP` for each run, forks a watcher for it and prints how that
ended. Step 0 never comes. A watcher prints the steps that it went through before it ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from tests.watch_parts import drop, read
from trimtab.cli.cost_model import CostModel
from trimtab.cli.files import Reading
from trimtab.synthetic import generate_loads
from trimtab.watch.controller import Controller, Timing
from trimtab.watch.decision import Worth
from trimtab.watch.events import Events
from trimtab.watch.folder import DumpFolder
from trimtab.watch.history import History
from trimtab.watch.journal import Journal
from trimtab.watch.keeper import Keeper
from trimtab.watch.metrics import Metrics
from trimtab.watch.output import Output
from trimtab.watch.service import Service
from trimtab.watch.state import State

DUMPS, HISTORY, GPUS, SLOTS = 3, 2, 4, 12
LEAST_BYTES = 2500
"""So that the journal is compacted on the way."""
_REPLACE = Path.replace


class Steps:
    """Counts the steps that files go through, and ends the process before one of them."""

    def __init__(self, last: int) -> None:
        self.names: list[str] = []
        self._last = last

    def is_next_the_last(self) -> bool:
        return len(self.names) + 1 == self._last

    def take(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(self, path: Path, target: Path) -> Path:
        """As `Path.replace`, the step in which a file comes under its name."""
        self.take(f"before {target.name} is there")
        found = _REPLACE(path, target)
        self.take(f"after {target.name} is there")
        return found


class DyingJournal(Journal):
    """A journal that may end before a record, in it, or after it."""

    steps: Steps

    def append(self, event: str, **fields: Any) -> None:
        self.steps.take(f"before {event}")
        if self.steps.is_next_the_last():
            line = json.dumps({"at": 0, "event": event, **fields}).encode()
            os.write(self._file.fileno(), line[: len(line) // 2])
        self.steps.take(f"in {event}")
        super().append(event, **fields)
        self.steps.take(f"after {event}")


def watch(target: str, folder: Path, steps: Steps) -> None:
    """See a dump after the other, each in rounds of its own, and go on where an earlier watcher ended."""
    dumps = folder / "dumps"
    dumps.mkdir(exist_ok=True)
    DyingJournal.steps = steps
    journal = DyingJournal(folder / "journal", State(History(HISTORY)), lambda: 0.0, least_bytes=LEAST_BYTES)
    events = Events(lambda _line: None, lambda: 0.0)
    metrics = Metrics(time.monotonic)
    options = {"num_gpus": GPUS, "num_replicas": SLOTS, "max_moves": 6, "timeout": 30.0}
    controller = Controller(
        source=DumpFolder(dumps, read, most=HISTORY),
        service=Service(target, {}, Reading(), **options),  # type: ignore[arg-type]  # of several types
        worth=Worth(CostModel(), 600.0),
        keeper=Keeper(Output(folder / "placement.json", None), journal, events, metrics),
        records=journal,
        events=events,
        metrics=metrics,
        timing=Timing(time.monotonic, 0.0, 0.0),
    )

    def replace(path: Path, to: Path) -> Path:
        return steps.replace(path, to) if to.parent == folder else _REPLACE(path, to)

    mock.patch.object(Path, "replace", replace).start()
    controller.start(0.0, None)
    for number, load in enumerate(generate_loads(3, 8, num_windows=DUMPS, drift=0.3, seed=1)):
        if not (dumps / f"{number}.json").exists():
            drop(dumps, f"{number}.json", load, at=number + 1)
        controller.step()
        controller.step()
    journal.close()


def main() -> None:
    """Watch as often as asked to."""
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]  # the system outlives the process
    for line in sys.stdin:
        folder, last = line.split()
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            steps = Steps(int(last))
            try:
                watch(sys.argv[1], Path(folder), steps)
                os.write(write_end, json.dumps(steps.names).encode())
            except BaseException as error:  # noqa: BLE001  # told, since a fork must not go on as its parent
                os.write(write_end, json.dumps(repr(error)).encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as told:
            said = told.read()
        status = os.waitpid(child, 0)[1]
        print(json.dumps([os.waitstatus_to_exitcode(status), json.loads(said or "null")]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
