"""A client of several servers by one name: calls go round, and follow what the name stands for.

The name is looked up at a real DNS server, in this loop; all of 127.0.0.0/8 is this machine, so that every server has
an address of its own and the port of all, as those of a headless service have.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest

import trimtab
from tests.secure import sample, serving
from trimtab_server.server import SERVICE, Server

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="ONLY ON LINUX are 127.0.0.2 and 127.0.0.3 this machine without further ado"
)
FIRST, SECOND, THIRD = HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
WEIGHT = np.arange(1, 13.0).reshape(2, 6)
_ADDRESS, _INTERNET, _ANSWERED = 1, 1, 0x8580


class Names(asyncio.DatagramProtocol):
    """Answers whoever asks for any name with the same addresses, not to be kept."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = hosts
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """One question: a header of 12 bytes, labels up to an empty one, the kind and the class."""
        end = data.index(b"\0", 12) + 5
        (kind,) = struct.unpack("!H", data[end - 4 : end - 2])
        hosts = self.hosts if kind == _ADDRESS else ()
        self.asked += kind == _ADDRESS
        header = struct.pack("!2s5H", data[:2], _ANSWERED, 1, len(hosts), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", _ADDRESS, _INTERNET, 0, 4)  # the name: as it stands in the question
        answers = b"".join(record + IPv4Address(host).packed for host in hosts)
        self._transport.sendto(header + data[12:end] + answers, addr)


@asynccontextmanager
async def names(*hosts: str) -> AsyncIterator[tuple[Names, str]]:
    """A DNS server, and how a client's target says to ask it."""
    loop = asyncio.get_running_loop()
    transport, answering = await loop.create_datagram_endpoint(lambda: Names(hosts), local_addr=(FIRST, 0))
    try:
        yield answering, f"dns://{FIRST}:{transport.get_extra_info('sockname')[1]}/placement.test"
    finally:
        transport.close()


@asynccontextmanager
async def servers(*settings: dict[str, Any]) -> AsyncIterator[list[Server]]:
    """One server for each of these settings, on one address after the other, all on the port that the first one got."""
    async with AsyncExitStack() as stack:
        port, running = "0", []
        for host, given in zip(HOSTS, settings, strict=False):
            running.append(await stack.enter_async_context(serving(listen=f"{host}:{port}", **given)))
            port = running[0].address.rpartition(":")[2]
        yield running


def client_of(target: str, server: Server, **settings: Any) -> trimtab.AsyncClient:
    """A client of all servers of a name, on the port that all of them have."""
    return trimtab.AsyncClient(f"{target}:{server.address.rpartition(':')[2]}", timeout=20, **settings)


async def calls(client: trimtab.AsyncClient, running: Sequence[Server], count: int = 30) -> list[int]:
    """How many of so many calls, one after the other, each server has answered."""

    def answered() -> list[int]:
        labels = {"grpc_service": SERVICE, "grpc_method": "Pack", "grpc_code": "OK"}
        return [int(sample(server, "grpc_server_handled_total", **labels)) for server in running]

    before = answered()
    for _ in range(count):
        await client.pack(WEIGHT, 3)
    return [after - earlier for after, earlier in zip(answered(), before, strict=True)]


async def shared_as(client: trimtab.AsyncClient, running: Sequence[Server], *expected: int) -> None:
    """Call until calls are shared so between servers; bounded."""
    shares: list[list[int]] = []
    while len(shares) < 500:
        shares.append(await calls(client, running, sum(expected)))
        if shares[-1] == list(expected):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never shared as {expected}; the last were {shares[-5:]}")


async def test_calls_go_round_the_servers_of_a_name() -> None:
    """Three servers answer ten of thirty calls each, once the client is connected to all."""
    async with servers({}, {}, {}) as running, names(*HOSTS) as (_, target):
        async with client_of(target, running[0]) as client:
            await shared_as(client, running, 1, 1, 1)
            assert await calls(client, running) == [10, 10, 10]


async def test_a_server_that_joins_a_name_is_used() -> None:
    """The name is looked up again when a server asks for a new connection, as each does by and by."""
    async with servers({"max_connection_age": 1.0}, {}, {}) as running, names(FIRST, SECOND) as (answering, target):
        async with client_of(target, running[0]) as client:
            await shared_as(client, running, 15, 15, 0)
            answering.hosts = HOSTS
            await shared_as(client, running, 10, 10, 10)


async def test_a_server_that_leaves_a_name_is_not_used() -> None:
    """Nor is its connection, though the server is there and would answer."""
    async with servers({"max_connection_age": 1.0}, {}, {}) as running, names(*HOSTS) as (answering, target):
        async with client_of(target, running[0]) as client:
            await shared_as(client, running, 10, 10, 10)
            answering.hosts = (FIRST, SECOND)
            await shared_as(client, running, 15, 15, 0)


async def test_a_server_that_is_replaced_elsewhere_is_found() -> None:
    """When the only server of a name goes, the name is looked up again within the timeout of a call that waits."""
    async with servers({}, {}) as running, names(FIRST) as (answering, target):
        async with client_of(target, running[0], wait_for_ready=True) as client:
            assert await calls(client, running, 3) == [3, 0]
            answering.hosts = (SECOND,)
            await running[0].stop()
            assert await calls(client, running[1:], 3) == [3]


async def test_a_server_that_is_gone_loses_no_call() -> None:
    """Two others answer all calls while the name goes on to list it."""
    async with servers({}, {}, {}) as running, names(*HOSTS) as (_, target):
        async with client_of(target, running[0]) as client:
            await shared_as(client, running, 10, 10, 10)
            await running[0].stop()
            assert sum(await calls(client, running[1:], 60)) == 60
            await shared_as(client, running[1:], 15, 15)
