"""Connections that are no clients: idle ones, half-open ones, garbage, and readers who never read."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_ACK, _END_HEADERS = 1, 4
_HEAD = 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it without any table; both shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


SETTINGS = frame(_SETTINGS, 0, 0)
_NO_WINDOW = frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
"""Initial window 0: the server may send no byte of any answer."""


def _headers(stream: int, method: str) -> bytes:
    """The start of a call."""
    return frame(
        _HEADERS,
        _END_HEADERS,
        stream,
        b"".join(
            _header(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", f"/trimtab.v1.PlacementService/{method}".encode()),
                (b":authority", b"localhost"),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
            )
        ),
    )


_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(32)) + b"\x00" * 40
HALF_OPEN: dict[str, bytes] = {
    "TCP only": b"",
    "preface only": PREFACE,
    "half a preface": PREFACE[:10],
    "half a frame": PREFACE + SETTINGS + _headers(1, "Pack")[:20],
    "half a message": PREFACE
    + SETTINGS
    + _headers(1, "Pack")
    + frame(_DATA, 0, 1, b"\x00" + struct.pack(">I", 1 << 20) + b"x" * 100),
    "garbage": bytes(range(256)) * 4,
    "HTTP/1.1": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS hello": _CLIENT_HELLO,
    "a frame of 16 MB": PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "never reads": PREFACE
    + _NO_WINDOW
    + b"".join(_headers(stream, "Describe") + frame(_DATA, 1, stream, b"\x00" * 5) for stream in range(1, 100, 2)),
}
"""What each sends, and nothing more."""


class Idle(asyncio.Protocol):
    """A connection that says what HTTP/2 wants said, and calls nothing."""

    def __init__(self, closed: Counter[str]) -> None:
        self._closed = closed
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(PREFACE + SETTINGS)

    def data_received(self, data: bytes) -> None:
        """Acknowledge settings and pings."""
        assert self._transport is not None
        self._buffer += data
        for kind, flags, payload in self._frames():
            if kind == _SETTINGS and not flags & _ACK:
                self._transport.write(frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                self._transport.write(frame(_PING, _ACK, 0, payload))
            elif kind == _GOAWAY:
                self._closed["asked to go"] += 1

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        while len(self._buffer) >= _HEAD:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < _HEAD + length:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            payload = self._buffer[_HEAD : _HEAD + length]
            self._buffer = self._buffer[_HEAD + length :]
            yield kind, flags, payload

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has had enough of it."""
        self._closed["idle"] += 1
        del exc


@dataclass
class Crowd:
    """Connections that are open."""

    idle: list[asyncio.Transport] = field(default_factory=list)
    half_open: dict[str, list[socket.socket]] = field(default_factory=dict)
    closed: Counter[str] = field(default_factory=Counter)
    """Idle ones that the server closed, or asked to go."""


async def open_idle(crowd: Crowd, address: tuple[str, int], count: int, at_once: int = 50) -> None:
    """So many idle connections, a few at a time, as a listener's backlog wants it."""
    loop = asyncio.get_running_loop()
    for start in range(0, count, at_once):
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Idle(crowd.closed), *address) for _ in range(min(at_once, count - start)))
        )
        crowd.idle += [transport for transport, _ in made]


def open_half(crowd: Crowd, address: tuple[str, int], count: int, kinds: Sequence[str] = tuple(HALF_OPEN)) -> None:
    """So many half-open ones, of all kinds alike."""
    for number in range(count):
        kind = kinds[number % len(kinds)]
        connection = socket.create_connection(address, timeout=10)
        connection.sendall(HALF_OPEN[kind])
        crowd.half_open.setdefault(kind, []).append(connection)


def still_open(crowd: Crowd) -> dict[str, int]:
    """How many of each kind the server has not closed."""
    left = {}
    for kind, connections in crowd.half_open.items():
        left[kind] = sum(_is_open(connection) for connection in connections)
    return left


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Connections, all closed on the way out."""
    opened = Crowd()
    try:
        yield opened
    finally:
        for transport in opened.idle:
            transport.abort()
        for connections in opened.half_open.values():
            for connection in connections:
                connection.close()
