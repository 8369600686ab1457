"""How a server ends: drained in order, in a hurry, or because its device is stuck."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gated_server import FREE, GatedPacker, bare_stub, request, running_and_waiting, serving, settled, until
from trimtab.cli.server_process import running_server, start_server
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.clock import SystemClock
from trimtab_server.exit_codes import ExitCode
from trimtab_server.server import SERVICE, Server
from trimtab_server.settings import Settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

HANGING = """
import threading
from unittest import mock
from trimtab_server import __main__, server
from trimtab_server.solvers.cpu_packer import CpuPacker

class HangingPacker(CpuPacker):
    def pack(self, task):
        if task.num_packs == 3:  # by which the test asks for it
            threading.Event().wait()
        return super().pack(task)

packer = HangingPacker(1)
make = server.Server
with mock.patch.object(server, "Server", lambda settings: make(settings, packer=packer)):
    __main__.main()
"""
"""The command itself, with a solver that hangs when it is asked for three packs."""
HANG = request(num_packs=3)


class PausingClock(SystemClock):
    """Sleeps until the test says that it is enough."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.enough = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept = seconds
        await self.enough.wait()


async def test_in_the_pause_all_work_is_taken_and_health_says_not_serving() -> None:
    """Balancers see it and go; whoever has not seen it is answered. Liveness stays."""
    clock = PausingClock()
    async with serving(clock, drain_pause=7.0) as (server, _):
        channel, stub = bare_stub(server)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        stopping = asyncio.ensure_future(server.stop())
        assert (await watch.read()).status == NOT_SERVING
        assert (await stub.Pack(request())).packing.algorithm
        assert (await health.Check(health_pb2.HealthCheckRequest(service=""))).status == SERVING
        assert clock.slept == 7.0
        clock.enough.set()
        await stopping
        await channel.close()


async def test_draining_answers_what_was_taken_and_takes_nothing_new() -> None:
    """New calls get UNAVAILABLE, on old connections and on new ones; running and queued ones their answer."""
    async with serving() as (server, packer):
        channel, stub = bare_stub(server)
        running, queued = await running_and_waiting(server, packer, stub)
        stopping = asyncio.ensure_future(server.stop())
        await settled(lambda: stopping.done() or server._batcher._refusal is not None)
        another, another_stub = bare_stub(server)
        for late_stub in (stub, another_stub):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await late_stub.Pack(request())
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await another.close()
        packer.gate.set()
        assert (await running).packing == (await queued).packing
        await stopping
        await channel.close()


async def test_a_watch_of_health_does_not_hold_up_the_end() -> None:
    """Nothing is left to answer, so a drain with a long grace ends though somebody watches."""
    async with serving(drain_grace=600.0) as (server, _):
        channel, _stub = bare_stub(server)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        await asyncio.wait_for(server.stop(), 60)
        await channel.close()


async def test_a_drain_that_outlasts_its_grace_tells_those_who_wait() -> None:
    """They get UNAVAILABLE, not silence."""
    async with serving(drain_grace=0.05) as (server, packer):
        channel, stub = bare_stub(server)
        running, waiting = await running_and_waiting(server, packer, stub)
        await server.stop()
        results: list[Any] = list(await asyncio.gather(running, waiting, return_exceptions=True))
        assert [result.code() for result in results] == [grpc.StatusCode.UNAVAILABLE] * 2
        assert all("stopped before this request was answered" in result.details() for result in results)
        assert server.is_device_busy
        packer.gate.set()
        await channel.close()


def test_sigterm_ends_a_process_in_order() -> None:
    """Exit status 0, and the log tells the steps."""
    with running_server() as process:
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30) == ExitCode.DRAINED
        events = [line["event"] for line in process.log]
    assert events == ["warming up", "serving", "draining", "stopped"]


def test_a_second_sigterm_ends_at_once() -> None:
    """Whoever waits gets UNAVAILABLE; the exit code is its own, though a solve never comes back."""
    with running_server("--drain-grace=600", command=("-c", HANGING)) as process:
        with grpc.insecure_channel(process.listen) as channel:
            hanging = PlacementServiceStub(channel).Pack.future(HANG)
            until(lambda: "trimtab_queue_wait_seconds_count 1.0" in process.scrape())
            waiting = PlacementServiceStub(channel).Pack.future(request())
            until(lambda: "trimtab_queue_rows 5.0" in process.scrape())
            process.process.send_signal(signal.SIGTERM)
            process.wait_for(event="draining")
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(60) == ExitCode.HURRIED
            for call in (hanging, waiting):
                assert call.exception(60).code() is grpc.StatusCode.UNAVAILABLE
        events = [line["event"] for line in process.log if line["event"] != "call"]
    assert events == ["warming up", "serving", "draining", "ended at once"]


def test_a_stuck_solver_ends_the_process_for_its_supervisor() -> None:
    """Health turns NOT_SERVING, liveness too; who waits gets UNAVAILABLE; the exit code is its own."""
    with running_server("--solve-timeout=1", command=("-c", HANGING)) as process:
        with grpc.insecure_channel(process.listen) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", SERVICE)]
            assert [next(watch).status for watch in watches] == [SERVING, SERVING]
            stub = PlacementServiceStub(channel)
            assert stub.Pack(request()).packing.algorithm
            hanging = stub.Pack.future(HANG)
            until(lambda: "trimtab_queue_wait_seconds_count 2.0" in process.scrape())
            waiting = stub.Pack.future(request())
            assert [next(watch).status for watch in watches] == [NOT_SERVING, NOT_SERVING]
            for call in (hanging, waiting):
                error = call.exception(60)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "the solver does not come back" in error.details()
        assert process.process.wait(60) == ExitCode.STUCK
        (line,) = [line for line in process.log if line["event"] == "a solve is stuck"]
    assert (line["level"], line["exit_code"], line["solve_timeout"]) == ("error", 70, 1.0)


async def test_calls_that_come_during_the_warm_up_wait_for_it_and_are_answered() -> None:
    """And what the warm-up takes is thought of as nobody's solve: a short deadline is kept afterwards."""
    packer = GatedPacker()
    packer.hold()
    server = Server(Settings(**FREE, solve_timeout=0.05), packer=packer)
    starting = asyncio.ensure_future(server.start())
    await packer.wait_begun()
    channel, stub = bare_stub(server)
    early = asyncio.ensure_future(stub.Pack(request()))
    await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 5)
    await asyncio.sleep(0.2)  # longer than a solve may take
    packer.gate.set()
    await starting
    assert (await early).execution.solve_seconds < 0.2
    assert not server.stuck.is_set()
    await server.stop()
    await channel.close()


def test_a_warm_up_that_hangs_is_ended_by_a_signal() -> None:
    """Before it serves, nothing was promised to anybody."""
    code = HANGING.replace("task.num_packs == 3", "len(task.whole) == 58")  # as the warm-up has
    server = start_server(command=("-c", code))
    try:
        server.wait_for(event="warming up")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == ExitCode.DRAINED
    finally:
        server.stop()
