"""A real server in its own process, for tests: on free ports, with its log at hand, ended by its own pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ServerProcess:
    """A `trimtab-server` child that is serving; make it with `running_server`."""

    listen: str
    """Its gRPC address, HOST:PORT."""
    metrics: str
    """Its metrics address, HOST:PORT."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        assert process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """Everything on its standard error so far."""
        with self._changed:
            return list(self._lines)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines among `lines`."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def wait_for(self, event: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The first log line of an event, waited for.

        Raises:
            AssertionError: it did not come in time, or the process ended; with everything it said.
        """

        def first() -> dict[str, Any] | None:
            return next((line for line in self.log if line.get("event") == event), None)

        with self._changed:
            self._changed.wait_for(lambda: first() is not None or self._ended, seconds)
        found = first()
        if found is None:
            why = "it ended" if self._ended else f"not within {seconds:g} s"
            said = "\n".join(self.lines)
            raise AssertionError(f"no {event!r} line from the server, {why}; it said:\n{said}")
        return found

    def scrape(self) -> str:
        """Its /metrics page."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as response:
            text: str = response.read().decode()
        return text

    def stop(self) -> int:
        """Ask it to end, with SIGTERM, and wait; by force when that takes too long. Returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(STOP_SECONDS)


@contextmanager
def running_server(*flags: str, environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """A server that says SERVING, ended on the way out.

    Args:
        flags: more flags of `trimtab-server`, as `--max-batch-rows=1`; those of the addresses stand before them.
        environment: variables besides those of this process.
    """
    command = [sys.executable, "-m", "trimtab_server", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--log-format=json", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    server = ServerProcess(process)
    try:
        serving = server.wait_for("serving")
        server.listen, server.metrics = serving["listen"], serving["metrics"]
        yield server
    finally:
        server.stop()
