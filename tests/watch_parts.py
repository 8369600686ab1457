"""What the tests of `trimtab watch` share: dumps, scripted answers, and a controller whose time the test moves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.answers import Execution, Placement
from trimtab.cli.cost_model import CostModel
from trimtab.formats import LoadWindows, Source, StoredPlacement, read_loads
from trimtab.formats.stored import all_layers
from trimtab.watch.controller import Controller, Timing
from trimtab.watch.decision import Worth
from trimtab.watch.events import Events
from trimtab.watch.history import History
from trimtab.watch.journal import Journal
from trimtab.watch.keeper import Keeper
from trimtab.watch.metrics import Metrics
from trimtab.watch.output import Output
from trimtab.watch.service import Answer
from trimtab.watch.sources import Taken
from trimtab.watch.state import State

LAYERS, EXPERTS, GPUS, SLOTS = 2, 6, 2, 8
Array = npt.NDArray[Any]


def read(sources: Sequence[Source]) -> LoadWindows:
    """As the command reads by default: what is read together is one window."""
    return read_loads(sources, at_most=1)


def load_of(number: int) -> Array:
    """[num_layers, num_experts]: loads that tell which dump they are of."""
    return np.arange(LAYERS * EXPERTS).reshape(LAYERS, EXPERTS) + 100 * number


def windows_of(*numbers: int) -> LoadWindows:
    load = np.stack([load_of(number) for number in numbers])
    return LoadWindows(load, all_layers(load), len(load))


def line_of(number: int, **more: Any) -> str:
    """A line of vLLM's load statistics whose experts have the loads of that number."""
    record = {
        "record_type": "eplb_load_stats",
        "version": 1,
        "step": number,
        "num_ranks": GPUS,
        "expert_load": load_of(number).tolist(),
        "p2l_map": [list(range(EXPERTS))] * LAYERS,
        **more,
    }
    return json.dumps({key: value for key, value in record.items() if value is not None}) + "\n"


def drop(folder: Path, name: str, load: Array, *, at: int) -> Path:
    """A dump that comes into a folder whole, last changed at this second."""
    hidden = folder / f".{name}"
    hidden.write_text(json.dumps({"logical_count": load.tolist()}))
    os.utime(hidden, (at, at))
    return hidden.replace(folder / name)


def placement_of(shift: int) -> StoredPlacement:
    """A placement that tells which one it is."""
    row = (np.arange(SLOTS) + shift) % EXPERTS
    slots = np.stack([row] * LAYERS)
    return StoredPlacement(slots, all_layers(slots), GPUS)


def answer_of(
    placement: StoredPlacement, previous: StoredPlacement | None, before: float, after: float, moves: int = 3
) -> Answer:
    """An answer of the service, as far as the controller looks at it."""
    figures = {
        name: np.full(LAYERS, value if value is not None else np.nan)
        for name, value in (
            ("balancedness_before", None if previous is None else before),
            ("balancedness_after", after),
            ("bound", 1.0),
            ("latest_balancedness_before", before),
            ("latest_balancedness_after", after),
            ("latest_bound", 1.0),
        )
    }
    found = Placement(
        placement.physical_to_logical,
        EXPERTS,
        **figures,
        moves=np.array([moves, 0]),
        layer_order=np.arange(LAYERS),
        curve=np.array([(0.0, before), (float(moves), after)]),
        hierarchy="global",
        algorithm="test/1",
        execution=Execution("cpu", "cpu", "0", 0.0, 0.0, 1, LAYERS),
    )
    return Answer(found, None if previous is None else previous.physical_to_logical, placement, GPUS)


class ListSource:
    """A source that has what the test puts in; the position is how much of it was taken."""

    name = "a list"

    def __init__(self) -> None:
        self.is_waiting = False
        self.put: list[Taken] = []

    def add(self, number: int, windows: LoadWindows | None = None) -> None:
        """One more dump."""
        position = {"taken": len(self.put) + 1}
        self.put.append(Taken(f"dump {number}", position, windows or windows_of(number)))

    def poll(self, position: Mapping[str, Any]) -> Iterator[Taken]:
        yield from self.put[position.get("taken", 0) :]


class ScriptedService:
    """Answers with the placements in `script`, one after the other, or raises what stands there."""

    def __init__(self) -> None:
        self.script: list[tuple[StoredPlacement, float, float] | Exception] = []
        self.asked: list[tuple[LoadWindows, StoredPlacement | None]] = []

    def ask(self, loads: LoadWindows, in_force: StoredPlacement | None) -> Answer:
        self.asked.append((loads, in_force))
        told = self.script.pop(0)
        if isinstance(told, Exception):
            raise told
        placement, before, after = told
        return answer_of(placement, in_force, before, after)


class Bench:
    """A controller on a folder of the test's own, whose time passes when the test says so."""

    def __init__(self, folder: Path, source: Any = None, **changed: Any) -> None:
        self.folder = folder
        self.time = 1000.0
        self.lines: list[dict[str, Any]] = []
        self.source: Any = source or ListSource()
        self.service = ScriptedService()
        self.make_output: Callable[[Path, str | None], Output] = changed.pop("make_output", Output)
        self.history = changed.pop("history", 2)
        self.timing = Timing(lambda: self.time, interval=10.0, cooldown=changed.pop("cooldown", 0.0))
        self.worth = Worth(CostModel(), payback_seconds=changed.pop("payback", 600.0))
        assert not changed
        self.output = folder / "placement.json"
        self.start()

    def start(self, previous: StoredPlacement | None = None) -> None:
        """As the command starts, the journal of before included."""
        self.journal = Journal(self.folder / "journal", State(History(self.history)), lambda: self.time)
        self.metrics = Metrics(lambda: self.time)
        events = Events(lambda line: self.lines.append(json.loads(line)), lambda: self.time, as_json=True)
        self.controller = Controller(
            source=self.source,
            service=self.service,  # type: ignore[arg-type]  # it has the one method
            worth=self.worth,
            keeper=Keeper(self.make_output(self.output, None), self.journal, events, self.metrics),
            records=self.journal,
            events=events,
            metrics=self.metrics,
            timing=self.timing,
        )
        self.controller.start(self.time, previous)

    def restart(self, previous: StoredPlacement | None = None) -> None:
        """As after a crash: nothing is kept but the files."""
        self.journal.close()
        self.start(previous)

    def step(self, seconds: float = 10.0) -> list[str]:
        """Go round once, after so many seconds; what was told, as the event or the reason of it."""
        self.time += seconds
        told = len(self.lines)
        self.controller.step()
        return [line.get("reason") or line["event"] for line in self.lines[told:]]

    @property
    def state(self) -> State:
        return self.journal.state
