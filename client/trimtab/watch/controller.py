"""The controller: goes round and round, reads what is new, decides, and writes; every step stands in the journal.

A step is done after the record that says so is on the disk, and a placement is written between two of them: whichever
moment the process ends in, the next one knows what was done, and does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from trimtab.cli.failures import EXIT_INPUT
from trimtab.formats import FormatError, StoredPlacement
from trimtab.watch.decision import Figures, Skipped, Worth
from trimtab.watch.events import Events
from trimtab.watch.history import told_shape
from trimtab.watch.journal import Records
from trimtab.watch.keeper import Keeper
from trimtab.watch.metrics import Metrics
from trimtab.watch.packed import pack_placement, pack_windows
from trimtab.watch.service import MisfitError, Service, ServiceError
from trimtab.watch.sources import LoadSource, Taken

_FIRST_PAUSE, _MOST_SECONDS = 1.0, 60.0
"""After a failure, doubled with each that follows."""
_MOST_FAILURES = 16
"""Counted; more of them double nothing."""
_MOST_ASKED_FOR = 300.0
"""A pause that the service asks for is kept up to this."""
_SECOND_LOOK = 1.0
"""Seconds after which a single round looks once more at what may not be whole."""


class Timing(NamedTuple):
    """How time passes, and when things are done; all in seconds."""

    monotonic: Callable[[], float]
    interval: float
    """From one look at the source to the next."""
    cooldown: float
    """From one rebalance to the next, at least."""


class Controller:
    """One source, one service, one output."""

    def __init__(
        self,
        *,
        source: LoadSource,
        service: Service,
        worth: Worth,
        keeper: Keeper,
        records: Records,
        events: Events,
        metrics: Metrics,
        timing: Timing,
    ) -> None:
        self._source, self._service, self._worth, self._keeper = source, service, worth, keeper
        self._records, self._state = records, records.state
        self._events, self._metrics, self._timing = events, metrics, timing
        self._failures = 0
        """Since the last success."""
        self._next_try = timing.monotonic()
        self._told: dict[str, str] = {}
        self._wrong: dict[str, str] = {}
        """What was wrong with sources and files at the last look, and is at this one, by name: it is told once."""
        self._is_cooldown_told = self._is_single = False
        self.exit_code = 0
        """Of the command, where it does a single round."""

    def start(self, now: float, previous: StoredPlacement | None) -> None:
        """Go on where the journal ends.

        Args:
            now: seconds since the epoch.
            previous: the placement in force, where the journal knows none.

        Raises:
            FormatError: the output has something else than a placement.
        """
        self._records.begin(self._source.name)
        if previous is not None and self._state.known is None:
            self._keeper.take(previous)
        self._keeper.settle()
        since = 0.0 if self._state.rebalanced_at is None else max(now - self._state.rebalanced_at, 0.0)
        self._rebalanced = self._timing.monotonic() - since
        history = self._state.history
        words = (
            f"watches {self._source.name}; {len(history)} of {history.most} windows in the history, {self._in_force}"
        )
        self._events.tell("begun", words, source=self._source.name, windows=len(history))

    @property
    def _in_force(self) -> str:
        in_force = self._state.in_force
        if in_force is None:
            return "no placement in force"
        num_layers, num_slots = in_force.physical_to_logical.shape
        return f"a placement in force of {num_layers} layers, {in_force.num_experts} experts in {num_slots} slots"

    def run(self, wait: Callable[[float], bool]) -> None:
        """Go round until `wait`, which is told for how many seconds, says that it is enough."""
        while True:
            self.step()
            pause = self._timing.interval
            if self._state.is_due and self._failures:
                pause = min(pause, max(self._next_try - self._timing.monotonic(), 0.0))
            if wait(pause):
                return

    def run_once(self, wait: Callable[[float], bool]) -> None:
        """One round; `exit_code` tells how it went."""
        self._is_single = True
        self.step()
        if self._source.is_waiting and not wait(_SECOND_LOOK):
            self.step()

    def step(self) -> None:
        """Read what is new, and decide where something was."""
        for taken in self._source.poll(dict(self._state.position)):
            self._take(taken)
        self._told, self._wrong = self._wrong, {}
        if self._state.is_due:
            self._decide()
        self._metrics.stepped()

    def _take(self, taken: Taken) -> None:
        name, windows = taken.name, taken.windows
        if taken.note:
            self._events.tell("note", f"{name} {taken.note}", name=name)
        if taken.failure:
            self._fail_once(taken.failure[0], name, taken.failure[1])
        if windows is not None:
            self._is_cooldown_told = False
            is_new = not self._state.history
            if not self._state.history.fits(windows):
                words = f"{name} has {told_shape(windows)}, the windows before have {self._state.history.shape}"
                self._events.tell("restarted", f"{words}: the history begins anew", name=name)
            windows = replace(windows, load=windows.load[-self._state.history.most :])
        if windows is None and not taken.position:
            return
        self._records.append(
            "read",
            name=name,
            position=taken.position,
            windows=windows and pack_windows(windows),
            told=windows and pack_placement(windows.placement),
            failure=taken.failure and taken.failure[1],
        )
        if windows is not None:
            num_windows, history = len(windows.load), self._state.history
            self._metrics.read(num_windows)
            shape = f" of {told_shape(windows)}" if is_new else ""
            words = f"{name}: {num_windows} window{'s' * (num_windows > 1)}{shape}"
            words += f"; {len(history)} of {history.most} in the history{self._keeper.told_other()}"
            self._events.tell("read", words, name=name, windows=num_windows, history=len(history))

    def _decide(self) -> None:
        """Whether the placement is to change, and see to it."""
        loads = self._state.history.windows
        if loads is None or self._timing.monotonic() < self._next_try:
            return
        try:
            if self._state.intended is None and self._is_too_soon():
                return
            if self._keeper.settle():
                self._succeed()
                return
            if not loads.load.any():
                self._skip("no_load", "no layer has load")
                return
            self._metrics.asked()
            answer = self._service.ask(loads, self._state.in_force)
            self._failures = 0
            decision = self._worth.decide(answer)
            self._metrics.decided(decision)
            if decision.is_kept:
                self._skip(decision.is_kept, decision.words, decision.figures)
            else:
                self._keeper.put(answer.stored, decision.words, decision.figures)
                self._succeed()
        except MisfitError as error:
            rule = "to serve another model, begin with another journal and output"
            self._skip("misfit", f"{error}; {rule}")
        except ServiceError as error:
            self.exit_code = error.exit_code
            self._fail(error.reason, str(error), error.retry_after_seconds, is_final=error.is_final)
        except FormatError as error:
            self.exit_code = EXIT_INPUT
            self._fail("output", str(error))

    def _is_too_soon(self) -> bool:
        """Whether the last rebalance was less than the cooldown ago; the windows then wait for its end."""
        if self._state.rebalanced_at is None:
            return False
        left = self._rebalanced + self._timing.cooldown - self._timing.monotonic()
        if left > 0 and not self._is_cooldown_told:
            self._is_cooldown_told = True
            self._skip("cooldown", f"{left:.0f} s of --cooldown are left since the last rebalance", wait=True)
        return left > 0

    def _skip(self, reason: Skipped, words: str, figures: Figures | None = None, *, wait: bool = False) -> None:
        self._records.append("decided", reason=reason, words=words, is_due=wait, figures=figures)
        self._metrics.skipped(reason)
        self._events.tell("skipped", f"keeps the placement: {words}", reason=reason, **(figures or {}))

    def _succeed(self) -> None:
        self._failures = 0
        self._rebalanced = self._timing.monotonic()

    def _fail_once(self, reason: str, name: str, words: str) -> None:
        """Count a failure of a source, and tell it unless it is the same as at the look before."""
        self._metrics.failed(reason)
        self.exit_code = self.exit_code or EXIT_INPUT
        self._wrong[name] = words
        if self._told.get(name) != words:
            self._events.tell("failed", f"{name} {words}", reason=reason, name=name)

    def _fail(self, reason: str, words: str, asked_for: float | None = None, *, is_final: bool = False) -> None:
        """Count and tell a failure of the service or the output; it is tried again, later and later."""
        self._metrics.failed(reason)
        if is_final:
            self._records.append("decided", reason=reason, words=words, is_due=False)
            self._events.tell("failed", f"{words}; the placement stays, until there is a next window", reason=reason)
            return
        pause = min(_FIRST_PAUSE * 2**self._failures, _MOST_SECONDS)
        pause = max(pause, min(asked_for or 0.0, _MOST_ASKED_FOR))
        self._failures = min(self._failures + 1, _MOST_FAILURES)
        self._next_try = self._timing.monotonic() + pause
        again = "the placement stays" + ("" if self._is_single else f", the next try is in {pause:.0f} s")
        self._events.tell("failed", f"{words}; {again}", reason=reason, seconds=pause)
