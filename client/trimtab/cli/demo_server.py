"""A real server in a process of its own, for the demo: started, watched, scraped, stopped."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from trimtab.cli.demo_metrics import Series, read_series
from trimtab.cli.failures import ServerFailure

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_LAST_LINES = 8
_COMMAND = (
    "-m",
    "trimtab_server",
    "--listen=127.0.0.1:0",
    "--metrics-listen=127.0.0.1:0",
    "--log-format=json",
    "--log-level=info",
)


class DemoServer:
    """A server that says it is serving; make it with `running_server`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.serving: dict[str, Any] = {}
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._told = threading.Event()
        assert process.stderr is not None  # noqa: S101  # it was asked for as a pipe
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        """Read to the end: a pipe that nobody empties would stop the server at its next log line."""
        with stream:
            for line in stream:
                self._lines.append(line.rstrip())
                if not self.serving and '"event": "serving"' in line:
                    self.serving = json.loads(line)
                    self._told.set()
        self._told.set()

    def wait_until_serving(self, seconds: float = START_SECONDS) -> None:
        """Wait for the server to say so.

        Raises:
            ServerFailure: it ended instead, or took too long; with the last lines of its log.
        """
        self._told.wait(seconds)
        if self.serving:
            return
        ended = self._told.is_set()
        why = (
            f"ended with exit code {self.process.wait(STOP_SECONDS)}" if ended else f"is not ready after {seconds:g} s"
        )
        lines = "\n".join(f"  {line}" for line in self._lines) or "  nothing"
        hint = "where a module is missing: pip install 'trimtab[server]'"
        raise ServerFailure(f"the demo's server {why} ({hint}); the last it said:\n{lines}")

    @property
    def listen(self) -> str:
        """Its gRPC address."""
        return str(self.serving["listen"])

    def scrape(self) -> Series:
        """Its metrics, now.

        Raises:
            ServerFailure: they can't be read.
        """
        connection = http.client.HTTPConnection(str(self.serving["metrics"]), timeout=10)
        try:
            connection.request("GET", "/metrics")
            return read_series(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailure(f"the demo server's metrics can't be read ({error})") from error
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask it to drain and end, by force where it does not; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._reader.join(STOP_SECONDS)


@contextmanager
def running_server() -> Iterator[DemoServer]:
    """A server on free ports of this machine, ended on the way out, also where that way is SIGTERM.

    Raises:
        ServerFailure: it does not come up.
    """
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    server = DemoServer(
        subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, *_COMMAND],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    )
    try:
        server.wait_until_serving()
        yield server
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, previous)
