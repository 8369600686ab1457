"""Where the controller's metrics are read, and whether it still goes round."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
from typing import Any

from trimtab.watch.metrics import CONTENT_TYPE, Metrics

_PLAIN = "text/plain; charset=utf-8"
_SECONDS_OF_SILENCE = 5.0
_MOST_CONNECTIONS = 8


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request; a client that says nothing or reads nothing is left after a while."""

    timeout = _SECONDS_OF_SILENCE
    server_version, sys_version = "trimtab", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", _PLAIN
    server: MetricsEndpoint

    def do_GET(self) -> None:  # the base calls it so
        """Two pages."""
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE, self.server.metrics.page())
        elif self.path == "/healthz":
            seconds = self.server.metrics.seconds_since_step
            if seconds > self.server.most_seconds:
                self._answer(503, _PLAIN, f"has not gone round for {seconds:.0f} s\n")
            else:
                self._answer(200, _PLAIN, "ok\n")
        else:
            self._answer(404, _PLAIN, "there are /metrics and /healthz\n")

    def _answer(self, status: int, content_type: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Scrapes and probes are not worth a line."""


class MetricsEndpoint(http.server.ThreadingHTTPServer):
    """The endpoint, listening from its making to `close`; a thread a connection, and a bound on them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, metrics: Metrics, *, most_seconds: float) -> None:
        """Listen on HOST:PORT.

        Args:
            address: port 0 takes any that is free.
            metrics: what is shown.
            most_seconds: that a round may take before /healthz says so.

        Raises:
            OSError: can't listen there.
        """
        self.metrics = metrics
        self.most_seconds = most_seconds
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        host, _, port = address.rpartition(":")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host.strip("[]"), int(port)), _Handler)
        self.address = f"{host}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    def server_bind(self) -> None:
        """Bind, without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own, where one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base does, and give the thread back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: Any) -> None:
        """Nothing: the base would print a traceback, and the next scrape tells."""

    def close(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()
