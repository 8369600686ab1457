"""An address that is asked for loads again and again; a body that is new holds new windows."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult

from trimtab.formats import FileError
from trimtab.version import __version__
from trimtab.watch.sources import Read, Received, Taken, told_reason

_BLOCK = 1 << 16
_ASK_AGAIN = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
"""What an answer says of itself, and how the next question repeats it."""
_MOST_VALUE = 1024
"""Characters of such a header that are worth remembering."""
SCHEMES = ("http", "https")


class _BadAnswerError(Exception):
    """The endpoint answered, but not with loads; the message follows its name."""


class Endpoint:
    """One address, asked by GET; redirects are told, not followed."""

    def __init__(self, url: SplitResult, read: Read, *, timeout: float, most_bytes: int) -> None:
        """Ask nothing yet.

        Args:
            url: of one of SCHEMES.
            read: what reads a body.
            timeout: seconds for the whole of an answer.
            most_bytes: of a body; larger ones are not read to their end.
        """
        self.name = f"{url.scheme}://{url.netloc}{url.path}"  # what follows may be a secret
        self.is_waiting = False
        self._path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        self._host, self._port = url.hostname or "", url.port
        self._trust = ssl.create_default_context() if url.scheme == "https" else None
        self._read = read
        self._timeout = timeout
        self._most_bytes = most_bytes

    def poll(self, position: Mapping[str, Any]) -> Iterator[Taken]:
        """The windows of a body that is not the one before; the position has what tells that."""
        try:
            answer = self._ask({_ASK_AGAIN[key]: value for key, value in position.items() if key in _ASK_AGAIN})
        except _BadAnswerError as error:
            yield Taken(self.name, failure=("source", str(error)))
            return
        if answer is None:
            return
        body, said = answer
        digest = sha256(body).hexdigest()
        if digest == position.get("digest"):
            return
        reached = {**dict.fromkeys(_ASK_AGAIN), **said, "digest": digest}
        try:
            yield Taken(self.name, reached, self._read([Received(self.name, body)]))
        except FileError as error:
            yield Taken(self.name, reached, failure=("unreadable", told_reason(error)))

    def _ask(self, conditions: dict[str, str]) -> tuple[bytes, dict[str, str]] | None:
        """A body and what its answer says of it; None where it is the one before.

        Raises:
            _BadAnswerError: nobody answers in time, or the answer is another one.
        """
        connection = self._connection()
        is_late = threading.Event()
        try:
            connection.connect()
            connected = connection.sock
            timer = threading.Timer(self._timeout, _end, (connected, is_late))
            timer.start()
            try:
                found = self._answer(connection, conditions)
            finally:
                timer.cancel()
            if not is_late.is_set():
                return found
            raise TimeoutError  # a body without a length ends where the connection does
        except (OSError, http.client.HTTPException) as error:
            if is_late.is_set() or isinstance(error, TimeoutError):
                raise _BadAnswerError(f"has not answered in full within {self._timeout:g} s") from error
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise _BadAnswerError(f"can't be asked ({reason or type(error).__name__})") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._trust is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._trust)

    def _answer(
        self, connection: http.client.HTTPConnection, conditions: dict[str, str]
    ) -> tuple[bytes, dict[str, str]] | None:
        headers = {"User-Agent": f"trimtab/{__version__}", "Accept-Encoding": "identity", **conditions}
        connection.request("GET", self._path, headers=headers)
        answer = connection.getresponse()
        if answer.status == http.client.NOT_MODIFIED:
            return None
        if answer.status != http.client.OK:
            moved = f" and names {answer.headers['Location']}" if answer.headers["Location"] else ""
            raise _BadAnswerError(f"answers {answer.status} {answer.reason}{moved}")
        encoding = answer.headers["Content-Encoding"] or "identity"
        if encoding != "identity":
            raise _BadAnswerError(f"answers with content encoding {encoding}, which was not asked for")
        said = {key: answer.headers[key.replace("_", "-")] for key in _ASK_AGAIN}
        return self._body(answer), {key: value for key, value in said.items() if value and len(value) <= _MOST_VALUE}

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while block := answer.read1(_BLOCK):
            body += block
            if len(body) > self._most_bytes:
                raise _BadAnswerError(f"answers with more than {self._most_bytes:,} bytes, which are not read")
        if answer.length:  # what is still to come
            raise http.client.IncompleteRead(b"", answer.length)
        return bytes(body)


def _end(connected: socket.socket, is_late: threading.Event) -> None:
    """Whatever is waited for there ends with an error."""
    is_late.set()
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
