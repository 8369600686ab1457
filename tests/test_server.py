"""A real server over a real socket: batching, health, overload, failure, draining."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

import trimtab
from tests.gated_server import WEIGHT, GatedPacker, bare_stub, request, running_and_waiting, serving, settled
from trimtab import wire
from trimtab.channel import channel_options
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.server import SERVICE


async def test_what_waits_together_is_solved_together_and_cannot_tell() -> None:
    """Requests with seeds of their own share a batch; each gets the bytes that it gets alone."""
    async with serving() as (server, packer):
        channel, stub = bare_stub(server)
        alone = [(await stub.Pack(request(seed=seed))).packing for seed in range(9)]
        packer.hold()
        first = asyncio.ensure_future(stub.Pack(request()))
        await packer.wait_begun()
        rest = [asyncio.ensure_future(stub.Pack(request(seed=seed))) for seed in range(9)]
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 45)
        packer.gate.set()
        together = await asyncio.gather(*rest)
        assert (await first).execution.batch_requests == 1
        assert [response.execution.batch_requests for response in together] == [9] * 9
        assert [response.execution.batch_rows for response in together] == [45] * 9
        for response, expected in zip(together, alone, strict=True):
            assert response.packing.SerializeToString(deterministic=True) == expected.SerializeToString(
                deterministic=True
            )
        await channel.close()


async def test_rebalances_that_wait_together_are_solved_together_and_cannot_tell() -> None:
    """Budgets, speeds and dead GPUs of their own: one batch, and each gets the bytes that it gets alone."""
    async with serving() as (server, packer):
        channel, stub = bare_stub(server)
        asked = []
        for budget in range(6):
            part = pb.RebalanceRequest(load=wire.encode(WEIGHT * (budget + 1)), num_gpus=4, num_replicas=32)
            part.previous.CopyFrom(wire.encode(np.tile(np.arange(32) % 24, (5, 1))))
            part.max_moves = 20 * budget
            part.gpu_speed.extend([1, 1, 1, 1 + budget / 4])
            part.inactive_gpus.extend([3] if budget == 5 else [])
            asked.append(part)
        alone = [(await stub.Rebalance(part)).placement for part in asked]
        assert len({placement.SerializeToString(deterministic=True) for placement in alone}) == len(asked)
        packer.hold()
        first = asyncio.ensure_future(stub.Pack(request()))
        await packer.wait_begun()
        rest = [asyncio.ensure_future(stub.Rebalance(part)) for part in asked]
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 30)
        packer.gate.set()
        together = await asyncio.gather(*rest)
        await first
        assert [response.execution.batch_requests for response in together] == [6] * 6
        assert [response.execution.batch_rows for response in together] == [30] * 6
        for budget, (response, expected) in enumerate(zip(together, alone, strict=True)):
            assert sum(response.placement.moves) <= 20 * budget
            assert response.placement.SerializeToString(deterministic=True) == expected.SerializeToString(
                deterministic=True
            )
        await channel.close()


async def test_a_guilty_request_fails_alone_and_tells_nothing_of_the_inside() -> None:
    """Its batch mates are answered; it gets INTERNAL with the id that it sent."""
    async with serving() as (server, packer):
        channel, stub = bare_stub(server)
        guilty = np.ones((1, 24), np.float64)
        guilty[0, 0] = 23 * GatedPacker.GUILTY
        packer.hold()
        first = asyncio.ensure_future(stub.Pack(request()))
        await packer.wait_begun()
        calls = [
            asyncio.ensure_future(stub.Pack(request(weight), metadata=(("x-request-id", "id-77"),)))
            for weight in (WEIGHT, guilty, WEIGHT)
        ]
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 11)
        packer.gate.set()
        results: list[Any] = list(await asyncio.gather(*calls, return_exceptions=True))
        before, error, after = results
        assert before.packing == after.packing == (await first).packing
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "id-77" in (error.details() or "")
        assert "secret" not in str(error)
        assert server.registry.get_sample_value("trimtab_rejected_total", {"reason": "internal"}) == 1
        await channel.close()


async def test_a_full_queue_says_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, and the pushback that gRPC's own retries honour."""
    async with serving(max_queue_rows=8, max_rows=8) as (server, packer):
        channel, stub = bare_stub(server)
        running, waiting = await running_and_waiting(server, packer, stub)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Pack(request())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "5 layers wait, 5 more would pass max_queue_rows = 8" in (caught.value.details() or "")
        info = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        assert status is not None
        assert status.details[0].Unpack(info)
        pushback = dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]
        assert int(pushback) == info.retry_delay.ToMilliseconds() > 0
        packer.gate.set()
        assert (await running).packing == (await waiting).packing
        await channel.close()


async def test_the_client_retries_an_overloaded_server_until_there_is_room() -> None:
    """The default retry policy turns a full queue into a wait; also above gRPC's usual retry buffer of 256 KiB."""
    weight = np.random.default_rng(1).random((8, 8192))  # 512 KiB
    async with serving(max_queue_rows=8, max_rows=8) as (server, packer):
        async with trimtab.AsyncClient(server.address) as client:
            packer.hold()
            running = asyncio.ensure_future(client.pack(WEIGHT, 4))
            await packer.wait_begun()
            waiting = asyncio.ensure_future(client.pack(weight, 8, num_restarts=1))
            await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 8)
            refused = asyncio.ensure_future(client.pack(weight, 8, num_restarts=1))
            await settled(
                lambda: bool(server.registry.get_sample_value("trimtab_rejected_total", {"reason": "overloaded"}))
            )
            packer.gate.set()
            np.testing.assert_array_equal((await refused).pack_index, (await waiting).pack_index)
            await running


async def test_a_call_that_gives_up_is_forgotten() -> None:
    """A cancelled call leaves the queue; one whose deadline passes is told so."""
    async with serving() as (server, packer):
        channel, stub = bare_stub(server)
        packer.hold()
        running = asyncio.ensure_future(stub.Pack(request()))
        await packer.wait_begun()
        cancelled = stub.Pack(request())
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 5)
        cancelled.cancel()
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Pack(request(), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 0)
        packer.gate.set()
        await running
        await channel.close()


async def test_the_client_s_pings_are_permitted() -> None:
    """A call outlasts four pings: a server that thought them too many would close the connection after three."""
    async with serving() as (server, packer):
        options = [option for option in channel_options(1 << 20) if option[0] != "grpc.enable_retries"]
        async with grpc.aio.insecure_channel(server.address, [*options, ("grpc.enable_retries", 0)]) as channel:
            packer.gate.clear()
            call = asyncio.ensure_future(PlacementServiceStub(channel).Pack(request()))
            await asyncio.wait({call}, timeout=22)
            assert not call.done()
            packer.gate.set()
            assert (await call).packing.algorithm


def test_health_and_reflection_answer(server: ServerProcess) -> None:
    """Liveness and readiness both SERVING; reflection lists the service."""
    with grpc.insecure_channel(server.listen) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            status = health.Check(health_pb2.HealthCheckRequest(service=name)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (answer,) = reflection.ServerReflectionInfo(asked)
        assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_reflection_can_be_turned_off() -> None:
    """By a setting."""
    with running_server("--no-reflection") as process, grpc.insecure_channel(process.listen) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_is_one_log_line(server: ServerProcess) -> None:
    """JSON, with request id, shape, queue, solve and code, and nothing of the loads."""
    with grpc.insecure_channel(server.listen) as channel:
        PlacementServiceStub(channel).Pack(request(), metadata=(("x-request-id", "find-me"),))
    line = server.wait_for(request_id="find-me")
    assert (line["event"], line["method"], line["code"], line["shape"]) == ("call", "Pack", "OK", [5, 24])
    assert {"queue_seconds", "solve_seconds", "seconds", "batch_requests", "timestamp"} <= line.keys()


def test_a_request_id_that_is_not_one_is_replaced(server: ServerProcess) -> None:
    """What a caller writes into the log is letters, digits and few signs."""
    with grpc.insecure_channel(server.listen) as channel:
        PlacementServiceStub(channel).Pack(request(), metadata=(("x-request-id", 'a" b'),))
        PlacementServiceStub(channel).Pack(request(), metadata=(("x-request-id", "after"),))
    server.wait_for(request_id="after")
    assert all('a" b' not in str(line.get("request_id")) for line in server.log)
