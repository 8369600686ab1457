"""A GPU's packer with the CPU's behind it: whatever the device does, every request is answered, with the same bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gated_server import settled
from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server import devices
from trimtab_server.server import SERVICE, Server
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.fallback import DEVICE_ERROR, OUT_OF_MEMORY, FallbackPacker
from trimtab_server.solvers.numbers import noise_table, quantize
from trimtab_server.solvers.problem import PackResult, PackTask

CPU = CpuPacker(threads=1)
LARGE = 12345.0  # what a row's first item is to the rest of it, where the row is to make trouble
ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered")
Failure = Callable[[PackTask], None]


def task(num_rows: int = 8, large: int | None = None) -> PackTask:
    """Rows that all differ, on two noise tables in turn; one of them is large, where asked for."""
    weight = np.random.default_rng(num_rows).lognormal(0, 1, (num_rows, 24))
    if large is not None:
        weight[large] = [23 * LARGE, *[1] * 23]
    tables = np.stack([noise_table(24, 3, 0.01, 0.15, seed) for seed in range(2)])
    return PackTask(quantize(weight)[0], 4, tables, np.arange(num_rows) % 2, np.zeros(num_rows), refine=True)


def has_large_row(given: PackTask) -> bool:
    return bool((given.whole[:, 0] == given.whole[:, 1:].sum(axis=1) * LARGE).any())


class Device:
    """The CPU's packer as a device of its own; `fails` raises where it is to fail, and sees the tiny tasks too."""

    name, device = "cuda", "cuda:0"

    def __init__(self, fails: Failure = lambda _task: None) -> None:
        self.fails = fails
        self.rows: list[int] = []  # of each task that it got
        self.gate = threading.Event()
        self.gate.set()

    def memory_bytes(self) -> int:
        return 1000

    def pack(self, given: PackTask) -> PackResult:
        self.rows.append(len(given.whole))
        assert self.gate.wait(60)
        self.fails(given)
        return CPU.pack(given)._replace(solver=self.name, device=self.device)


class GuiltyCpu(CpuPacker):
    """The CPU's packer, which a large row breaks."""

    def pack(self, given: PackTask) -> PackResult:
        if has_large_row(given):
            raise ValueError("guilty")
        return super().pack(given)


def always(error: Exception) -> Failure:
    def fails(_task: PackTask) -> None:
        raise error

    return fails


def out_of_memory(unless: Callable[[PackTask], bool]) -> Failure:
    def fails(given: PackTask) -> None:
        if given.whole.shape[1] > 1 and not unless(given):
            raise torch.OutOfMemoryError("CUDA out of memory")

    return fails


def on_large_rows(given: PackTask) -> None:
    if has_large_row(given):
        raise ILLEGAL


class Watched(FallbackPacker):
    """The packer under test, with what it tells."""

    def __init__(self, first: Device, second: CpuPacker = CPU) -> None:
        self.reasons: list[str] = []
        self.losses = 0
        super().__init__(first, second, self.reasons.append, self._count_loss)

    def _count_loss(self) -> None:
        self.losses += 1


def expect(result: PackResult, given: PackTask, solved_by: tuple[str, str]) -> None:
    """The CPU's own bytes, and who gave them."""
    for array, expected in zip(result[:3], CPU.pack(given)[:3], strict=True):
        assert array.tobytes() == expected.tobytes()
        assert array.dtype == expected.dtype
    assert (result.solver, result.device) == solved_by


ON_DEVICE, ON_CPU = ("cuda", "cuda:0"), ("cpu", "cpu")


def test_a_device_that_works_answers_alone() -> None:
    """As itself, with nothing counted."""
    packer = Watched(Device())
    expect(packer.pack(task()), task(), ON_DEVICE)
    assert (packer.name, packer.device, packer.memory_bytes()) == ("cuda", "cuda:0", 1000)
    assert (packer.reasons, packer.losses) == ([], 0)


def test_what_does_not_fit_is_halved_until_it_does() -> None:
    """The device answers all of it, in parts of at most the rows that fit; nothing is counted."""
    first = Device(out_of_memory(unless=lambda given: len(given.whole) <= 5))
    packer = Watched(first)
    expect(packer.pack(task(17)), task(17), ON_DEVICE)
    assert first.rows == [17, 9, 5, 5, 5, 2]
    assert (packer.reasons, packer.losses) == ([], 0)


@pytest.mark.parametrize("large", [0, 3, 7])
def test_one_row_that_does_not_fit_goes_to_the_cpu(large: int) -> None:
    """It and what comes after it; the answer as a whole then says cpu, and the device is used on."""
    first = Device(out_of_memory(unless=lambda given: not has_large_row(given)))
    packer = Watched(first)
    expect(packer.pack(task(8, large)), task(8, large), ON_CPU)
    assert packer.reasons == [OUT_OF_MEMORY]
    expect(packer.pack(task()), task(), ON_DEVICE)
    assert (packer.reasons, packer.losses) == ([OUT_OF_MEMORY], 0)


def test_where_not_even_a_row_fits_the_cpu_packs_the_rest() -> None:
    """At once, and counted once: what does not fit now will not fit the next row; memory never loses a device."""
    packer = Watched(Device(out_of_memory(unless=lambda _given: False)))
    expect(packer.pack(task(3)), task(3), ON_CPU)
    assert (packer.reasons, packer.losses) == ([OUT_OF_MEMORY], 0)


@pytest.mark.parametrize("error", [ILLEGAL, ValueError("a bug"), MemoryError(), AssertionError()], ids=repr)
def test_a_device_that_fails_and_comes_back_is_used_on(error: Exception) -> None:
    """The CPU answers that task, a tiny one shows that the device works, and the next goes there."""
    first = Device(lambda given: always(error)(given) if has_large_row(given) else None)
    packer = Watched(first)
    expect(packer.pack(task(8, 2)), task(8, 2), ON_CPU)
    assert (packer.reasons, packer.losses, first.rows) == ([DEVICE_ERROR], 0, [8, 1])
    expect(packer.pack(task()), task(), ON_DEVICE)
    assert (packer.reasons, packer.losses, first.rows) == ([DEVICE_ERROR], 0, [8, 1, 8])


def test_a_device_that_does_not_come_back_is_lost_once() -> None:
    """It is told once, is never touched again, and holds no memory; the CPU answers, and each time is counted."""
    first = Device(always(ILLEGAL))
    packer = Watched(first)
    for _ in range(3):
        expect(packer.pack(task()), task(), ON_CPU)
    assert first.rows == [8, 1]
    assert (packer.reasons, packer.losses, packer.memory_bytes()) == ([DEVICE_ERROR] * 3, 1, 0)


def test_a_device_lost_between_two_halves_costs_nothing_of_either() -> None:
    """What the device did stands, the CPU does the rest, and says so."""
    first = Device()

    def fails(given: PackTask) -> None:
        if len(given.whole) == 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if len(first.rows) > 2:  # the first half was answered
            raise ILLEGAL

    first.fails = fails
    packer = Watched(first)
    expect(packer.pack(task(8)), task(8), ON_CPU)
    assert (first.rows, packer.reasons, packer.losses) == ([8, 4, 4, 1], [DEVICE_ERROR], 1)


def test_a_task_that_breaks_both_packers_fails_alone() -> None:
    """Its error is the CPU's; the device is not lost by it, and the next task is answered there."""
    packer = Watched(Device(on_large_rows), GuiltyCpu(threads=1))
    with pytest.raises(ValueError, match="guilty"):
        packer.pack(task(8, 1))
    expect(packer.pack(task()), task(), ON_DEVICE)
    assert packer.losses == 0


class Serving:
    """A server in the test's event loop over a device in its hand."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self.server = server
        self._stub = PlacementServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def pack(self, given: PackTask) -> pb.PackResponse:
        request = pb.PackRequest(weight=wire.encode(given.whole), num_packs=given.num_packs)
        response: pb.PackResponse = await self._stub.Pack(request, timeout=60)
        return response

    async def health(self) -> dict[str, str]:
        """Liveness and readiness."""
        found = {}
        for key, name in (("live", ""), ("ready", SERVICE)):
            answer = await self._health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            found[key] = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        return self.server.registry.get_sample_value(name, labels)


@asynccontextmanager
async def serving(device: Device, **settings: Any) -> AsyncIterator[Serving]:
    """A server on free ports whose packer is `device`, with the fallback that every device gets."""
    given = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "drain_grace": 5.0, **settings}
    server = Server(Settings(**given), packer=device)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Serving(server, channel)
    finally:
        device.gate.set()
        await server.stop()


@pytest.mark.parametrize(("on_device_loss", "ready"), [("not-serving", "NOT_SERVING"), ("cpu", "SERVING")])
async def test_a_lost_device_is_told_by_health_and_calls_are_answered(on_device_loss: str, ready: str) -> None:
    """Readiness as the setting says, liveness SERVING; the CPU's answers, named and counted as such."""
    device = Device()
    async with serving(device, on_device_loss=on_device_loss) as running:
        expected = await running.pack(task())
        assert (expected.execution.solver, expected.execution.device) == ON_DEVICE
        assert await running.health() == {"live": "SERVING", "ready": "SERVING"}
        assert running.metric("trimtab_fallback_total", reason=DEVICE_ERROR) == 0
        assert running.metric("trimtab_device_memory_bytes", device="cuda:0") == 1000
        device.fails = always(ILLEGAL)
        for count in (1, 2):
            answer = await running.pack(task())
            assert answer.packing == expected.packing
            assert (answer.execution.solver, answer.execution.device) == ON_CPU
            assert await running.health() == {"live": "SERVING", "ready": ready}
            assert running.metric("trimtab_fallback_total", reason=DEVICE_ERROR) == count
            assert running.metric("trimtab_solve_seconds_count", operation="pack", solver="cpu") == count
        assert running.metric("trimtab_device_memory_bytes", device="cuda:0") == 0


async def test_a_device_without_memory_goes_on_serving() -> None:
    """The call is answered, and counted by its reason; readiness stays."""
    async with serving(Device(out_of_memory(unless=lambda given: not has_large_row(given)))) as running:
        answer = await running.pack(task(8, 5))
        assert answer.execution.solver == "cpu"
        assert running.metric("trimtab_fallback_total", reason=OUT_OF_MEMORY) == 1
        assert await running.health() == {"live": "SERVING", "ready": "SERVING"}


async def test_a_guilty_request_hurts_nobody_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that breaks device and CPU gets INTERNAL; those that wait with it are answered by the device."""
    monkeypatch.setattr(devices, "CpuPacker", GuiltyCpu)
    device = Device(on_large_rows)
    async with serving(device) as running:
        device.gate.clear()
        first = asyncio.ensure_future(running.pack(task()))
        await settled(lambda: device.rows[-1] == 8)  # it is at the device, the others wait
        calls = [asyncio.ensure_future(running.pack(given)) for given in (task(), task(8, 1), task())]
        await settled(lambda: running.metric("trimtab_queue_rows") == 24)
        device.gate.set()
        one, guilty, other = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(guilty, grpc.aio.AioRpcError)
        assert guilty.code() is grpc.StatusCode.INTERNAL
        for answer in (await first, one, other):
            assert isinstance(answer, pb.PackResponse)
            assert answer.execution.solver == "cuda"
        assert await running.health() == {"live": "SERVING", "ready": "SERVING"}


async def test_a_device_lost_in_the_warm_up_is_told_by_health() -> None:
    """The server starts, answers from the CPU, and is not ready."""
    async with serving(Device(always(ILLEGAL))) as running:
        assert (await running.pack(task())).execution.solver == "cpu"
        assert await running.health() == {"live": "SERVING", "ready": "NOT_SERVING"}
