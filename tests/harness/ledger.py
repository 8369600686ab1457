"""The client's books: every call that was sent ends in exactly one outcome, and nothing ends in none."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np


class Outcome(enum.Enum):
    """How a call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """RESOURCE_EXHAUSTED: the server said no at once, and when to come back."""
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """By us."""
    LOST = "lost"
    """No answer, though its deadline is long past."""
    WRONG = "wrong"
    """An answer that is not right, or a status that nothing of ours explains."""


_OF_CODE = {
    grpc.StatusCode.OK: Outcome.ANSWERED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Outcome.REFUSED,
    grpc.StatusCode.UNAVAILABLE: Outcome.UNAVAILABLE,
    grpc.StatusCode.INVALID_ARGUMENT: Outcome.INVALID,
    grpc.StatusCode.DEADLINE_EXCEEDED: Outcome.EXPIRED,
}
BROKEN = (Outcome.LOST, Outcome.WRONG)
PATIENCE = 2.0
"""Seconds after its deadline in which a call must have ended."""


def outcome_of(code: grpc.StatusCode, *, cancelled: bool = False) -> Outcome:
    """What a status comes to; `cancelled`: whether we asked for the call to end."""
    if code is grpc.StatusCode.CANCELLED:
        return Outcome.CANCELLED if cancelled else Outcome.WRONG
    return _OF_CODE.get(code, Outcome.WRONG)


@dataclass(frozen=True)
class Entry:
    """A call in the books."""

    caller: str
    kind: str
    outcome: Outcome
    seconds: float
    rows: int
    """Layers that it asked for."""
    ended: float
    """Seconds since the books were opened."""


class BooksError(Exception):
    """The books do not balance: the harness itself is at fault."""


@dataclass
class Ledger:
    """The books of a run, or of several after `add`."""

    entries: list[Entry] = field(default_factory=list)
    sent: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    """Of what was lost or wrong."""
    refusals: Counter[str] = field(default_factory=Counter)
    """What refusals said, without their numbers."""
    lag: float = 0.0
    """The most seconds by which a call was sent later than it was due."""
    longest_solve: float = 0.0
    """Seconds of the longest batch that an answer came from."""

    def send(self) -> None:
        """A call is about to leave."""
        self.sent += 1

    def settle(self, entry: Entry, cause: str = "") -> None:
        """The call has ended; `cause` says more where it went wrong."""
        self.entries.append(entry)
        if entry.outcome in BROKEN:
            self.causes[f"{entry.kind}: {cause}"] += 1

    def add(self, other: Ledger) -> None:
        """The books of another process, opened at the same time."""
        self.entries += other.entries
        self.sent += other.sent
        self.causes += other.causes
        self.refusals += other.refusals
        self.lag = max(self.lag, other.lag)
        self.longest_solve = max(self.longest_solve, other.longest_solve)

    def balance(self) -> None:
        """Hold that every call sent was settled once.

        Raises:
            BooksError: it was not so.
        """
        if self.sent != len(self.entries):
            raise BooksError(f"{self.sent} calls were sent, {len(self.entries)} have ended")

    def count(self, *outcomes: Outcome) -> int:
        """Calls that ended so."""
        return sum(entry.outcome in outcomes for entry in self.entries)

    def of(self, caller: str) -> Ledger:
        """The books of one caller."""
        entries = [entry for entry in self.entries if entry.caller == caller]
        return Ledger(entries, len(entries))

    def seconds(self, outcome: Outcome) -> list[float]:
        """How long each such call took."""
        return [entry.seconds for entry in self.entries if entry.outcome is outcome]

    @property
    def callers(self) -> list[str]:
        """Who called."""
        return sorted({entry.caller for entry in self.entries})

    @property
    def broken(self) -> int:
        """Calls that were lost, or ended wrongly."""
        return self.count(*BROKEN)

    def rows_per_second(self, begin: float, end: float) -> float:
        """Goodput: layers answered in a span of time."""
        rows = sum(e.rows for e in self.entries if e.outcome is Outcome.ANSWERED and begin <= e.ended < end)
        return rows / (end - begin)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Of the samples; nan where there are none."""
    return float(np.percentile(samples, percent)) if samples else float("nan")


def outcome_rows(ledger: Ledger) -> Iterable[tuple[str, ...]]:
    """Of a table: every outcome, how often, and how long it took."""
    for outcome in Outcome:
        taken = ledger.seconds(outcome)
        figures = (f"{percentile(taken, p) * 1e3:.1f}" if taken else "-" for p in (50, 99, 100))
        yield (outcome.value, str(len(taken)), f"{len(taken) / max(ledger.sent, 1):.2%}", *figures)


OUTCOME_HEADER = ("outcome", "calls", "share", "p50, ms", "p99, ms", "most, ms")
