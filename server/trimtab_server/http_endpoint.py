"""An HTTP server on threads of its own: whatever happens there, calls are answered."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:  # it is there for type checkers alone
    from _typeshed.wsgi import WSGIApplication

_MOST_CONNECTIONS = 32
_SECONDS_OF_SILENCE = 10.0
_SECONDS_A_REQUEST = 30.0
_SECONDS_WITHOUT_FILES = 0.1
_SECONDS_TO_END = 0.5


class _Handler(WSGIRequestHandler):
    """One request; a client that says nothing or reads nothing is left after a while."""

    timeout = _SECONDS_OF_SILENCE
    server_version, sys_version = "trimtab", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain; charset=utf-8"

    def log_message(self, *_: Any) -> None:
        """Scrapes and probes are not worth a line."""

    def handle(self) -> None:
        """Answer; a client that breaks off is no error of ours."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True


class _Endpoint(ThreadingMixIn, WSGIServer):
    """A thread a connection, and a bound on both."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._ends: dict[Any, float] = {}
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server what this machine is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own; where none is free, in place of the oldest: silent ones must not keep out probes."""
        if not self._free.acquire(blocking=False):
            self._end(min(self._ends, key=self._ends.__getitem__, default=None))
            if not self._free.acquire(timeout=_SECONDS_TO_END):
                self.shutdown_request(request)
                return
        self._ends[request] = time.monotonic() + _SECONDS_A_REQUEST
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base does, and give the thread back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: Any) -> None:
        self._ends.pop(request, None)
        self._free.release()

    def get_request(self) -> Any:
        """The next connection; where there are no file descriptors left, after a while."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_SECONDS_WITHOUT_FILES)
            raise

    def service_actions(self) -> None:
        """Between connections: end those that took too long, however busy they look."""
        now = time.monotonic()
        for request in [request for request, end in list(self._ends.items()) if end < now]:
            self._end(request)

    def _end(self, request: Any) -> None:
        with suppress(OSError, AttributeError):  # it has ended by itself, or there is none
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Nothing: the base would print a traceback, and the next scrape tells."""


class HttpEndpoint:
    """The endpoint, listening from its making to `close`."""

    def __init__(self, address: str, application: WSGIApplication) -> None:
        """Listen on HOST:PORT.

        Raises:
            OSError: can't; the message names the setting.
        """
        host, _, port = address.rpartition(":")
        try:
            self._http = make_server(
                host.strip("[]"), int(port), application, server_class=_Endpoint, handler_class=_Handler
            )
        except OSError as error:
            raise OSError(f"--metrics-listen {address}: {error.strerror or error}") from error
        self.address = f"{host}:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()
