"""What is seen of a server from outside: its memory over time, and its own metrics beside the client's books."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.ledger import Ledger, Outcome
from trimtab.cli.server_process import ServerProcess

_OURS = "trimtab.v1.PlacementService"
_CODES = {
    Outcome.ANSWERED: "OK",
    Outcome.REFUSED: "RESOURCE_EXHAUSTED",
    Outcome.INVALID: "INVALID_ARGUMENT",
    Outcome.UNAVAILABLE: "UNAVAILABLE",
}


class Memory:
    """The resident megabytes of a process, as sampled."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._begin = time.perf_counter()
        self.samples: list[tuple[float, float]] = []

    def sample(self) -> float:
        """Now."""
        megabytes = float(self._process.memory_info().rss / 1e6)
        self.samples.append((time.perf_counter() - self._begin, megabytes))
        return megabytes

    def at(self, seconds: float) -> float:
        """The first sample from then on, or the last there is."""
        return next((mb for when, mb in self.samples if when >= seconds), self.samples[-1][1])

    def growth(self, since: float) -> float:
        """The share by which the last sample is above that of then."""
        return self.samples[-1][1] / self.at(since) - 1

    @contextmanager
    def watched(self, every: float = 0.5) -> Iterator[None]:
        """Sampled for as long as this lasts."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(every):
                self.sample()

        self.sample()
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.sample()


@contextmanager
def busy_of(pid: int) -> Iterator[list[float]]:
    """Afterwards holds how many processors a process kept busy meanwhile."""
    process, busy = psutil.Process(pid), [0.0]
    begin, before = time.perf_counter(), process.cpu_times()
    yield busy
    after = process.cpu_times()
    busy[0] = (after.user + after.system - before.user - before.system) / (time.perf_counter() - begin)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: ServerProcess) -> Samples:
    """Every sample of its /metrics page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.scrape())
        for sample in family.samples
    }


def by_label(samples: Samples, name: str, label: str, **where: str) -> Counter[str]:
    """A metric summed by one of its labels, of the samples with those others."""
    found: Counter[str] = Counter()
    for (sample, labels), value in samples.items():
        if sample == name and set(where.items()) <= labels:
            found[dict(labels).get(label, "")] += round(value)
    return found


def settled_samples(server: ServerProcess, seconds: float = 5.0) -> Samples:
    """Its metrics once no call is open, or after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        samples = scrape(server)
        if open_calls(samples) == 0 or time.monotonic() > end:
            return samples
        time.sleep(0.05)


def open_calls(samples: Samples) -> int:
    """Calls begun and not ended, in the server's eyes."""
    begun = by_label(samples, "grpc_server_started_total", "grpc_service", grpc_service=_OURS)
    ended = by_label(samples, "grpc_server_handled_total", "grpc_service", grpc_service=_OURS)
    return begun.total() - ended.total()


def reconciled(ledger: Ledger, samples: Samples) -> list[tuple[str, str, str, str]]:
    """Rows of a table: each status in the server's books and in ours, and whether they agree.

    The server may have ended a call in any way that its caller had given up on, or that ran out of time on its way
    back: so many may be the difference.
    """
    server = by_label(samples, "grpc_server_handled_total", "grpc_code", grpc_service=_OURS)
    given_up = ledger.count(Outcome.CANCELLED, Outcome.EXPIRED, Outcome.LOST)
    rows = []
    for outcome, code in _CODES.items():
        ours, theirs = ledger.count(outcome), server[code]
        rows.append((code, str(ours), str(theirs), "yes" if 0 <= theirs - ours <= given_up else "NO"))
    ended = ledger.sent - server.total()  # what was given up before it left need not have arrived
    rows.append(("all", str(ledger.sent), str(server.total()), "yes" if 0 <= ended <= given_up else "NO"))
    left = open_calls(samples)
    rows.append(("still open", "0", str(left), "yes" if left == 0 else "NO"))
    return rows
