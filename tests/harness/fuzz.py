"""A million requests gone wrong: each has to be answered, or refused by name, at once.

Run: python -m tests.harness.fuzz [--count N] [--seed N] [--skip N] [--channels N] [--in-flight N]

Repeat a failure with its seed: the nth request of a seed is always the same. The bytes that failed are saved.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import uvloop
from benchmarks.measuring import machine, print_table, verdict

from tests.harness.asking import SERVICE, Oracle, valid_asks
from tests.harness.judging import wrong_with
from tests.harness.ledger import percentile
from tests.harness.mutations import TINY, Mutator
from tests.harness.watching import Memory
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab_server.engine import Engine
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher

SECONDS = 2.0
"""In which every answer has to come."""
ALLOWED = ("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
_JUDGED = 17
"""One in so many of the answers is looked into."""
_MOST_SAVED = 50


@dataclass(frozen=True)
class Options:
    """How much, and where from."""

    count: int = 1_000_000
    seed: int = 1
    skip: int = 0
    """Requests of the seed that are made and not sent: to come quickly to where something happened."""
    channels: int = 2
    in_flight: int = 192
    structured: float = 0.15
    save: Path = Path(".cache/fuzz")
    seconds: float = 1800.0
    """After which it ends, whatever the count."""


@dataclass
class Fuzzed:
    """What was seen."""

    codes: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    """Seconds of a sample of the calls."""
    sent: int = 0
    judged: int = 0
    seconds: float = 0.0
    alive: bool = True
    memory: Memory | None = None
    """Of the server; sampled from the first tenth on."""


class Fuzzer:
    """Sends what a mutator makes, many at a time, and looks at each answer."""

    def __init__(self, options: Options, mutator: Mutator, memory: Memory) -> None:
        self._options = options
        self._mutator = mutator
        self.seen = Fuzzed(memory=memory)
        self._end = time.perf_counter() + options.seconds

    async def run(self, target: str) -> None:
        """All of it."""
        for _ in range(self._options.skip):
            self._mutator.next()
        begin = time.perf_counter()
        settings = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        channels = [grpc.aio.insecure_channel(target, settings) for _ in range(self._options.channels)]
        workers = [self._work(channels[i % len(channels)]) for i in range(self._options.in_flight)]
        watching = asyncio.create_task(self._watch())
        await asyncio.gather(*workers)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.gather(*(channel.close() for channel in channels))
        self.seen.seconds = time.perf_counter() - begin

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.seen.sent > self._options.count / 10 and self.seen.memory is not None:
                with suppress(psutil.NoSuchProcess):  # it is told at the end that it has died
                    self.seen.memory.sample()
            if int(time.perf_counter()) % 10 == 0:
                print(f"{self.seen.sent:,} of {self._options.count:,}: {dict(self.seen.codes)}", file=sys.stderr)

    async def _work(self, channel: grpc.aio.Channel) -> None:
        calls: dict[str, Any] = {
            method: channel.unary_unary(SERVICE + method) for method in ("Pack", "Rebalance", "Describe")
        }
        seen = self.seen
        while seen.sent < self._options.count and time.perf_counter() < self._end:
            number = seen.sent
            seen.sent += 1
            method, raw = self._mutator.next()
            begin = time.perf_counter()
            try:
                answer = await calls[method](raw, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                code, said, answer = error.code().name, error.details() or "", None
            else:
                code, said = "OK", ""
            seen.codes[code] += 1
            if number % 10 == 0:
                seen.slow.append(time.perf_counter() - begin)
            if code not in ALLOWED:
                self._fail(number, method, raw, f"{code}: {said}")
            elif answer is not None and number % _JUDGED == 0:
                seen.judged += 1
                self._look_into(number, method, raw, answer)

    def _look_into(self, number: int, method: str, raw: bytes, answer: Any) -> None:
        wrong = wrong_with(method, raw, answer)
        if wrong:
            self._fail(number, method, raw, wrong)

    def _fail(self, number: int, method: str, raw: bytes, why: str) -> None:
        self.seen.failed.append(f"{number}: {method}: {why[:200]}")
        if len(self.seen.failed) <= _MOST_SAVED:
            self._options.save.mkdir(parents=True, exist_ok=True)
            (self._options.save / f"{self._options.seed}-{number}-{method}.bin").write_bytes(raw)


def fuzz(options: Options, server: ServerProcess) -> Fuzzed:
    """Send the requests to a running server."""
    corpus = valid_asks(TINY, Oracle(Engine(CpuPacker(1), CpuSearcher(1))))
    fuzzer = Fuzzer(options, Mutator(corpus, options.seed, options.structured), Memory(server.process.pid))
    uvloop.run(fuzzer.run(server.listen))
    fuzzer.seen.alive = server.process.poll() is None
    if fuzzer.seen.alive and fuzzer.seen.memory is not None:
        fuzzer.seen.memory.sample()
    return fuzzer.seen


def report(seen: Fuzzed, options: Options) -> bool:
    """Print what was seen; whether all is well."""
    rate = seen.sent / seen.seconds
    title = f"{seen.sent:,} requests of seed {options.seed} in {seen.seconds:.0f} s"
    print_table(title, ("status", "calls"), [(code, f"{n:,}") for code, n in seen.codes.most_common()])
    assert seen.memory is not None  # made with the fuzzer
    rows = [
        verdict("other statuses and wrong answers", len(seen.failed), 0, at_most=True),
        verdict("answers that were looked into", seen.judged, 1, at_most=False),
        verdict("p99, ms", percentile(seen.slow, 99) * 1e3, SECONDS * 1e3, at_most=True),
        verdict("server is alive", seen.alive, 1, at_most=False),
        verdict("memory growth after the first tenth, %", seen.memory.growth(0) * 100, 2, at_most=True),
    ]
    print_table("Fuzz", ("what", "measured", "wanted", "met"), rows)
    print(f"\n{rate:,.0f} requests/s; resident {seen.memory.at(0):.1f} to {seen.memory.samples[-1][1]:.1f} MB")
    for line in seen.failed[:20]:
        print(line)
    if seen.failed:
        print(f"saved in {options.save}: the first {min(len(seen.failed), _MOST_SAVED)} of {len(seen.failed)}")
    return all(row[-1] == "yes" for row in rows)


def main() -> None:
    """Send, print, and fail where an answer was not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("--count", type=int, default=default.count, help="requests (default: 1000000)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the mutations (default: 1)")
    parser.add_argument("--skip", type=int, default=default.skip, help="requests of the seed to leave out at first")
    parser.add_argument("--channels", type=int, default=default.channels, help="connections (default: 2)")
    parser.add_argument("--in-flight", type=int, default=default.in_flight, help="at a time (default: 192)")
    parser.add_argument("--structured", type=float, default=default.structured, help="share of wild values")
    parser.add_argument("--save", type=Path, default=default.save, help="folder for bytes that failed")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="most that it takes (default: 1800)")
    options = Options(**vars(parser.parse_args()))
    print(machine(), flush=True)
    with running_server("--solver-threads=1", "--max-queue-rows=65536") as server:
        seen = fuzz(options, server)
        good = report(seen, options)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
