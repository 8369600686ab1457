"""What a client can't have more of: headers, calls and connections, and what becomes of those who try."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import grpc.aio
import pytest

from tests.gated_server import GatedPacker, settled
from tests.secure import channel_to, refusal, request, sample, serving
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.connections import grpc_options
from trimtab_server.server import SERVICE
from trimtab_server.settings import Settings

STARTED = {"grpc_service": SERVICE, "grpc_method": "Pack"}


async def describe(channel: grpc.aio.Channel, **call: Any) -> pb.DescribeResponse:
    answer: pb.DescribeResponse = await PlacementServiceStub(channel).Describe(pb.DescribeRequest(), **call)
    return answer


@pytest.mark.parametrize("size", [1024, 16384, 40000])
async def test_headers_have_a_limit(size: int) -> None:
    """The setting's, and nothing below it is refused at random."""
    async with serving(max_header_bytes=size) as server, channel_to(server) as channel:
        for _ in range(20):
            assert (await describe(channel, metadata=(("x-some", "v" * (size - 700)),))).server_version
        code, words = await refusal(describe(channel, metadata=(("x-some", "v" * size),)))
        assert (code, "metadata size exceeds" in words, "vvv" in words) == ("RESOURCE_EXHAUSTED", True, False)
        assert (await describe(channel)).server_version


async def test_calls_of_a_connection_have_a_limit_and_wait_beyond_it() -> None:
    """Four at a time reach the server, and of forty each is answered."""
    packer = GatedPacker()
    async with serving(packer=packer, max_concurrent_streams=4) as server, channel_to(server) as channel:
        await packer.wait_begun()  # the warm-up
        packer.hold()
        calls = [asyncio.ensure_future(PlacementServiceStub(channel).Pack(request())) for _ in range(40)]
        await settled(lambda: sample(server, "grpc_server_started_total", **STARTED) == 4)
        async with channel_to(server) as other:  # which is served meanwhile
            assert (await describe(other)).server_version
        assert sample(server, "grpc_server_started_total", **STARTED) == 4
        packer.gate.set()
        assert Counter([bool(answer.packing.algorithm) for answer in await asyncio.gather(*calls)]) == {True: 40}


async def test_many_calls_at_once_are_taken_or_refused_by_name() -> None:
    """Three thousand over twelve connections: the queue answers, and not gRPC, which would cancel those above 1,000."""
    packer = GatedPacker()
    async with serving(packer=packer, max_concurrent_streams=250) as server:
        await packer.wait_begun()
        packer.hold()
        channels = [channel_to(server) for _ in range(12)]
        calls = [
            asyncio.ensure_future(PlacementServiceStub(channel).Pack(request()))
            for channel in channels
            for _ in range(250)
        ]
        await settled(lambda: sample(server, "grpc_server_started_total", **STARTED) == 3000)
        packer.gate.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        codes = Counter(end.code().name if isinstance(end, grpc.aio.AioRpcError) else "OK" for end in ends)
        assert codes.keys() <= {"OK", "RESOURCE_EXHAUSTED"}
        assert codes["OK"] > 100
        for channel in channels:
            await channel.close()


async def test_connections_have_a_limit() -> None:
    """Others are closed at once, and there is room again when one has gone."""
    async with serving(max_connections=2) as server:
        first, second, third = (channel_to(server) for _ in range(3))
        for channel in (first, second):
            assert (await describe(channel)).server_version
        assert (await refusal(describe(third)))[0] == "UNAVAILABLE"
        for channel in (first, third):
            await channel.close()
        async with channel_to(server) as fourth:
            assert (await describe(fourth, wait_for_ready=True)).server_version
            assert (await describe(second)).server_version
        await second.close()


async def test_a_connection_s_age_ends_it_and_loses_no_call() -> None:
    """Calls go on over a new one; what runs on the old one gets its grace."""
    packer = GatedPacker()
    async with (
        serving(packer=packer, max_connection_age=0.3, max_connection_age_grace=60) as server,
        channel_to(server) as channel,
    ):
        await packer.wait_begun()
        packer.hold()
        running = asyncio.ensure_future(PlacementServiceStub(channel).Pack(request()))
        await settled(lambda: channel.get_state() is grpc.ChannelConnectivity.IDLE)  # the server said goodbye
        assert (await describe(channel)).server_version
        packer.gate.set()
        assert (await running).packing.algorithm


async def test_an_idle_connection_is_closed() -> None:
    """And made again by the next call."""
    async with serving(max_connection_idle=0.2) as server, channel_to(server) as channel:
        assert (await describe(channel)).server_version
        await settled(lambda: channel.get_state() is grpc.ChannelConnectivity.IDLE)
        assert (await describe(channel)).server_version


async def test_what_is_no_client_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, after the time for a handshake."""
    monkeypatch.setattr("trimtab_server.connections._HANDSHAKE_MS", 200)
    async with serving() as server:
        host, _, port = server.address.rpartition(":")

        def listen() -> bytes:
            with socket.create_connection((host, int(port)), timeout=30) as silent:
                heard = b""
                while more := silent.recv(4096):
                    heard += more
                return heard

        assert b"handshake timeout" in await asyncio.to_thread(listen)
        async with channel_to(server) as channel:
            assert (await describe(channel)).server_version


async def test_pings_have_a_limit() -> None:
    """The server says goodbye to who sends them too often; the client's own are fewer (`test_server`)."""
    packer = GatedPacker()
    async with serving(packer=packer) as server:
        await packer.wait_begun()
        packer.hold()
        often = [("grpc.keepalive_time_ms", 50), ("grpc.http2.max_pings_without_data", 0)]
        async with grpc.aio.insecure_channel(server.address, [*often, ("grpc.enable_retries", 0)]) as channel:
            code, words = await refusal(PlacementServiceStub(channel).Pack(request()))
            assert (code, words) == ("UNAVAILABLE", "Too many pings")


def test_ages_of_0_are_never() -> None:
    """An option that is left out; a grace of 0 is none, and gRPC's own would be without end."""
    options = dict(grpc_options(Settings(max_connection_age=0, max_connection_idle=0, max_connection_age_grace=0)))
    assert not {"grpc.max_connection_age_ms", "grpc.max_connection_idle_ms"} & options.keys()
    assert options["grpc.max_connection_age_grace_ms"] == 0


async def test_limits_beyond_grpc_s_own_are_as_large_as_can_be() -> None:
    """It takes 32 bits."""
    huge = 10**12
    ages: dict[str, Any] = {"max_connection_age": huge, "max_connection_age_grace": huge, "max_connection_idle": huge}
    async with serving(max_connections=huge, max_concurrent_streams=huge, **ages) as server:
        async with channel_to(server) as channel:
            assert (await describe(channel)).server_version
