"""The ranks of an engine: real processes on this machine, forked from one that has the engine's code loaded.

Loading an engine takes seconds, a fork none. The host loads it once, and starts nothing that a fork must not inherit.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.kept_venv import ROOT
from trimtab.cli.server_process import end

_SECONDS = 90  # for what takes fractions of one
_LISTENING = "listening"


class Ranks:
    """The ranks of one group; what is called runs in all of them at a time."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def call(self, function: str, *arguments: Any) -> list[Any]:
        """What a function of the host's module returns, rank by rank."""
        return self.each(function, [arguments] * len(self._connections))

    def each(self, function: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """The same with the arguments of each rank; a rank with None is not called."""
        called = [pair for pair in zip(self._connections, arguments, strict=True) if pair[1] is not None]
        for connection, each in called:
            connection.send((function, each))
        return [_answer(connection) for connection, _ in called]

    def close(self, *ranks: int) -> None:
        """Let these ranks end, by default all."""
        for rank in ranks or range(len(self._connections)):
            self._connections[rank].close()


def _answer(connection: Connection) -> Any:
    if not connection.poll(_SECONDS):
        raise AssertionError(f"a rank has not answered for {_SECONDS} s")
    value, failure = connection.recv()
    assert failure is None, failure
    return value


class Host:
    """The process that ranks are forked from."""

    def __init__(self, address: str) -> None:
        self._address = address

    @contextmanager
    def ranks(self, *environments: dict[str, str]) -> Iterator[Ranks]:
        """A rank for each environment, set up by the module's `set_up(rank, size, port, environment)`."""
        size, port = len(environments), free_port()
        ranks = Ranks([Client(self._address, "AF_UNIX") for _ in range(size)])
        try:
            ranks.each("set_up", [(rank, size, port, environment) for rank, environment in enumerate(environments)])
            yield ranks
        finally:
            ranks.close()


@contextmanager
def hosting(module: str) -> Iterator[Host]:
    """A host that has imported a module, and with it the engine."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "host")
        command = [sys.executable, "-m", "tests.engine_ranks", module, address]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline().strip()
                assert said == _LISTENING, f"the host of {module} says {said!r}"
                yield Host(address)
            finally:
                end(process)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _host(name: str, address: str) -> None:
    module = importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who has ended is gone
    with Listener(address, "AF_UNIX") as listener:
        print(_LISTENING, flush=True)  # noqa: T201  # to whom it is a child of
        while True:
            with listener.accept() as connection:
                if not os.fork():
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _rank(module, connection)


def _rank(module: ModuleType, connection: Connection) -> None:
    try:
        while True:
            function, arguments = connection.recv()
            try:
                connection.send((getattr(module, function)(*arguments), None))
            except Exception:  # noqa: BLE001  # told to the test, whatever it is
                connection.send((None, traceback.format_exc()))
    except (EOFError, OSError):
        os._exit(0)  # the test has what it wanted


if __name__ == "__main__":
    _host(*sys.argv[1:])
