"""A real server in a process of its own: on free ports, with its log at hand, ended by its own pid.

For the demo, the tests and the benchmarks.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

START_SECONDS = 180.0
STOP_SECONDS = 30.0
_LAST_LINES = 8
_KEPT_LINES = 100_000
"""Of a log: a line a call would otherwise fill the memory of who drives millions of them."""
_COMMAND = ("-m", "trimtab_server")
_FLAGS = ("--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--log-format=json")


class ServerProcessError(Exception):
    """The server did not do what it should; with the last lines of its log."""


class ServerProcess:
    """A `trimtab-server` child; make it with `running_server`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.serving: dict[str, Any] = {}
        """What its log says when it begins to serve: listen, metrics, solver, device, version."""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._ended = False
        self._changed = threading.Condition()
        assert process.stderr is not None  # noqa: S101  # it was asked for as a pipe
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        """Read to the end: a pipe that nobody empties would stop the server at its next log line."""
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def listen(self) -> str:
        """Its gRPC address, HOST:PORT."""
        return str(self.serving["listen"])

    @property
    def metrics(self) -> str:
        """Its metrics address, HOST:PORT."""
        return str(self.serving["metrics"])

    @property
    def lines(self) -> list[str]:
        """Everything on its standard error so far."""
        with self._changed:
            return list(self._lines)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines among `lines`."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def wait_for(self, seconds: float = START_SECONDS, **fields: Any) -> dict[str, Any]:
        """The first log line that has these fields, waited for.

        Raises:
            ServerProcessError: it did not come in time, or the process ended.
        """

        def first() -> dict[str, Any] | None:
            return next((line for line in self.log if fields.items() <= line.items()), None)

        with self._changed:
            self._changed.wait_for(lambda: first() is not None or self._ended, seconds)
        found = first()
        if found is None:
            ended = f"ended with exit code {self.process.wait(STOP_SECONDS)}" if self._ended else ""
            last = "\n".join(f"  {line}" for line in self.lines[-_LAST_LINES:]) or "  nothing"
            raise ServerProcessError(f"{ended or f'is not ready after {seconds:g} s'}; the last it said:\n{last}")
        return found

    def scrape(self) -> str:
        """Its /metrics page.

        Raises:
            OSError: it can't be reached.
        """
        connection = http.client.HTTPConnection(self.metrics, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask it to drain and end, by force where it does not; its exit code."""
        try:
            return end(self.process)
        finally:
            self._reader.join(STOP_SECONDS)


def end(process: subprocess.Popen[Any]) -> int:
    """Ask a process to end, by force where it does not; its exit code."""
    process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def start_server(
    *flags: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = _COMMAND
) -> ServerProcess:
    """A server that begins to start; `wait_for` says when it serves.

    Args:
        flags: more flags of `trimtab-server`, as `--max-batch-rows=1`; those of the addresses stand before them.
        environment: all of its variables; by default those of this process.
        command: what Python runs in place of `trimtab-server`, with the same flags and log.
    """
    process = subprocess.Popen(  # noqa: S603  # our own module
        [sys.executable, *command, *_FLAGS, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    )
    return ServerProcess(process)


@contextmanager
def running_server(
    *flags: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = _COMMAND
) -> Iterator[ServerProcess]:
    """A server that says it is serving, ended on the way out; arguments as of `start_server`.

    Raises:
        ServerProcessError: it does not come up.
    """
    server = start_server(*flags, environment=environment, command=command)
    try:
        server.serving = server.wait_for(event="serving")
        yield server
    finally:
        server.stop()
