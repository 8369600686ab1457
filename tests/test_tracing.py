"""Traces, as a collector receives them from a real server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import trimtab
from tests.collector import Collector, collecting
from tests.fakes import FakeClock
from tests.gated_server import bare_stub, request, running_and_waiting, serving, settled
from tests.http_port import ask
from tests.secure import TOKEN, bearer, digest
from tests.system.tools import free_port
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.otel import OtelTracer
from trimtab_server.server import Server

PACK, REBALANCE, DESCRIBE = (f"trimtab.v1.PlacementService/{method}" for method in ("Pack", "Rebalance", "Describe"))
STAGES = ["admit", "queue", "solve", "encode"]
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01", f"00-{TRACE_ID}-{SPAN_ID}-00"
WEIGHT = np.random.default_rng(0).lognormal(size=(3, 8))


def pack(server: ServerProcess, *metadata: tuple[str, str], num_packs: int = 2) -> None:
    """One call, with this metadata."""
    with grpc.insecure_channel(server.listen) as channel:
        PlacementServiceStub(channel).Pack(request(WEIGHT, num_packs), metadata=metadata, timeout=30)


def described(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def children(collector: Collector, span: Any) -> list[Any]:
    """The spans right below one, in order of time."""
    below = [each for each in collector.spans if each.parent_span_id == span.span_id]
    return sorted(below, key=lambda each: (each.start_time_unix_nano, each.end_time_unix_nano))


def test_a_call_is_a_span_with_its_stages_inside() -> None:
    """One after the other without a gap, in the caller's trace; the batch is a trace of its own, linked both ways."""
    with collecting() as collector:
        with running_server(f"--otlp-endpoint={collector.address}") as server:
            begun = time.time_ns()
            pack(server, ("traceparent", SAMPLED), ("tracestate", "vendor=1"), ("x-trimtab-caller", "ops"))
            ended = time.time_ns()
            line = server.wait_for(event="call", method="Pack")
        call, batch = collector.one(PACK), collector.one("batch")
    assert (call.trace_id.hex(), call.parent_span_id.hex(), call.trace_state) == (TRACE_ID, SPAN_ID, "vendor=1")
    assert line["trace_id"] == TRACE_ID
    assert described(call) == {
        "rpc.system.name": "grpc",
        "rpc.method": PACK,
        "rpc.response.status_code": "OK",
        "trimtab.caller": "ops",
    }
    stages = children(collector, call)
    assert [stage.name for stage in stages] == STAGES
    assert {stage.trace_id.hex() for stage in stages} == {TRACE_ID}
    moments = [call.start_time_unix_nano, *(stage.end_time_unix_nano for stage in stages)]
    assert moments == sorted(moments)
    assert begun <= moments[0]
    assert moments[-1] <= ended + 1_000_000_000  # the date of a trace is read a moment after the call
    for stage, start in zip(stages, moments, strict=False):
        assert abs(stage.start_time_unix_nano - start) < 1_000_000
    (link,) = batch.links
    assert (link.trace_id, link.span_id) == (call.trace_id, call.span_id)
    (back,) = next(stage for stage in stages if stage.name == "solve").links
    assert (back.trace_id, back.span_id) == (batch.trace_id, batch.span_id)
    assert batch.trace_id != call.trace_id
    assert described(batch) == {
        "trimtab.operation": "pack",
        "trimtab.solver": "cpu",
        "trimtab.batch.requests": 1,
        "trimtab.batch.rows": len(WEIGHT),
    }
    resource = {each.key: each.value.string_value for each in collector.resources[0].attributes}
    assert (resource["service.name"], resource["service.version"]) == ("trimtab", trimtab.__version__)


async def test_calls_of_one_batch_share_its_span() -> None:
    """A batch of two is linked to two calls, and both of their solve spans to it."""
    with collecting() as collector:
        async with serving(otlp_endpoint=collector.address) as (server, packer):
            channel, stub = bare_stub(server)
            first, second = await running_and_waiting(server, packer, stub)
            third = asyncio.ensure_future(stub.Pack(request()))
            await settled(lambda: server.registry.get_sample_value("trimtab_queue_rows") == 2 * 5)
            packer.gate.set()
            await asyncio.gather(first, second, third)
            await channel.close()
    batches = {len(batch.links): batch for batch in collector.named("batch")}
    assert sorted(batches) == [1, 2]
    assert sum(solve.links[0].span_id == batches[2].span_id for solve in collector.named("solve")) == 2


def test_a_rebalance_is_traced_and_a_describe_has_no_stages() -> None:
    """What solves nothing waits for nothing."""
    with collecting() as collector:
        with running_server(f"--otlp-endpoint={collector.address}") as server, trimtab.Client(server.listen) as client:
            client.rebalance(np.ones((2, 4)), num_gpus=2, num_replicas=4)
            client.describe()
        assert [stage.name for stage in children(collector, collector.one(REBALANCE))] == STAGES
        assert described(collector.one("batch"))["trimtab.operation"] == "rebalance"
        assert children(collector, collector.one(DESCRIBE)) == []


def test_what_is_wrong_with_a_request_is_no_error_of_the_server() -> None:
    """A refused request has no stages, its status tells, and the span is no error."""
    with collecting() as collector:
        with running_server(f"--otlp-endpoint={collector.address}") as server:
            with pytest.raises(grpc.RpcError):
                pack(server, num_packs=3)
        call = collector.one(PACK)
        assert described(call)["rpc.response.status_code"] == "INVALID_ARGUMENT"
        assert call.status.code == call.status.STATUS_CODE_UNSET
        assert children(collector, call) == []


async def test_what_ends_while_it_waits_is_an_error_after_a_queue() -> None:
    """Drained away: one in the queue, the other while it was being solved."""
    with collecting() as collector:
        async with serving(otlp_endpoint=collector.address, drain_grace=0.05) as (server, packer):
            channel, stub = bare_stub(server)
            calls = await running_and_waiting(server, packer, stub)
            await server.stop()
            await asyncio.gather(*calls, return_exceptions=True)
            await channel.close()
        ended = collector.named(PACK)
        assert len(ended) == 2
        for call in ended:
            assert described(call)["error.type"] == described(call)["rpc.response.status_code"] == "UNAVAILABLE"
            assert call.status.code == call.status.STATUS_CODE_ERROR
        stages = sorted([stage.name for stage in children(collector, call)] for call in ended)
        assert stages == [["admit", "queue"], ["admit", "queue", "solve"]]


@pytest.mark.parametrize(
    ("ratio", "traceparent", "recorded", "kept"),
    [
        (1, None, True, False),
        (0, None, False, False),
        (0, SAMPLED, True, True),
        (1, NOT_SAMPLED, False, True),
        (1, f"00-{'0' * 32}-{SPAN_ID}-01", True, False),
        (1, "garbage", True, False),
        (0, "garbage", False, False),
        (1, f"{SAMPLED}-and-more", True, False),
    ],
)
def test_the_caller_decides_else_the_ratio(ratio: int, traceparent: str | None, recorded: bool, kept: bool) -> None:
    """And what is no context is none; there is a trace id for the log in any case."""
    tracer = OtelTracer(InMemorySpanExporter(), ratio=ratio, rate=10)
    trace = tracer.begin((("traceparent", traceparent),) if traceparent else ())
    assert trace.is_recorded is recorded
    assert (trace.trace_id == TRACE_ID) is kept
    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)


def test_traced_calls_are_bounded_a_second() -> None:
    """A second's worth at once, then as they come back; not even callers that ask for a trace get more."""
    clock = FakeClock()
    tracer = OtelTracer(InMemorySpanExporter(), ratio=1, rate=3, now=clock.now)

    def recorded(calls: int) -> int:
        return sum(tracer.begin((("traceparent", SAMPLED),)).is_recorded for _ in range(calls))

    assert recorded(10) == 3
    clock.advance(0.7)
    assert recorded(10) == 2
    clock.advance(60)
    assert recorded(10) == 3
    assert tracer.begin((("traceparent", SAMPLED),)).trace_id == TRACE_ID


def open_metrics(server: ServerProcess) -> Sequence[str]:
    """The lines of its metrics, in the form that has exemplars."""
    return ask(server.metrics, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1].splitlines()


def test_latencies_name_a_trace_as_their_example() -> None:
    """Of recorded calls alone: an exemplar has to lead somewhere."""
    with collecting() as collector:
        with running_server(f"--otlp-endpoint={collector.address}", "--trace-ratio=0") as server:
            pack(server)
            server.wait_for(event="call", method="Pack")
            assert not [line for line in open_metrics(server) if " # {" in line]
            pack(server, ("traceparent", SAMPLED))
            server.wait_for(event="call", trace_id=TRACE_ID)
            (line,) = [line for line in open_metrics(server) if " # {" in line]
    assert line.startswith("grpc_server_handling_seconds_bucket{")
    assert f'# {{trace_id="{TRACE_ID}"}} ' in line


def test_without_a_collector_nothing_of_traces_is_loaded_or_said() -> None:
    """The extra is for those who ask for it."""
    with running_server() as server:
        pack(server, ("traceparent", SAMPLED))
        assert "trace_id" not in server.wait_for(event="call", method="Pack")
    code = "import sys, trimtab_server.server; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_collector_that_is_away_holds_up_nothing() -> None:
    """Calls are answered, and the end comes as soon as ever."""
    with running_server(f"--otlp-endpoint=http://127.0.0.1:{free_port()}") as server:
        for _ in range(20):
            pack(server)
        assert server.stop() == 0


def test_a_server_that_lacks_the_extra_says_what_to_install() -> None:
    """And not by a traceback."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv[1:] = ['--otlp-endpoint=http://127.0.0.1:4317'];"
        "from trimtab_server.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "trimtab-server: --otlp-endpoint needs what the extra otel brings: pip install 'trimtab[otel]'\n"
    )


def test_a_stranger_s_call_leaves_no_trace(tmp_path: Path) -> None:
    """Nor a line of a library in the log, whatever context it sends; whoever is known is traced."""
    callers = tmp_path / "callers"
    callers.write_text(f"ops {digest(TOKEN)} Describe\n")
    with collecting() as collector:
        with running_server(f"--otlp-endpoint={collector.address}", f"--callers-file={callers}") as server:
            for traceparent in (SAMPLED, "a" * 600):
                with pytest.raises(grpc.RpcError):
                    pack(server, ("x-trimtab-caller", "ops"), ("traceparent", traceparent))
            with pytest.raises(grpc.RpcError):
                pack(server, *bearer(TOKEN), ("traceparent", SAMPLED))
            refused = server.wait_for(event="call", code="UNAUTHENTICATED")
            server.wait_for(event="call", code="PERMISSION_DENIED")
            assert {line["event"] for line in server.log} <= {"warming up", "serving", "call"}
            assert len(server.lines) == len(server.log)
        assert "trace_id" not in refused
        assert described(collector.one(PACK))["rpc.response.status_code"] == "PERMISSION_DENIED"
        assert described(collector.one(PACK))["trimtab.caller"] == "ops"


async def test_a_call_that_ends_while_it_is_solved_has_a_solve_and_not_a_long_queue() -> None:
    """The span that took the time is the one that says so."""
    with collecting() as collector:
        async with serving(otlp_endpoint=collector.address) as (server, packer):
            packer.hold()
            channel, stub = bare_stub(server)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Pack(request(), timeout=0.5)
            await settled(lambda: handled(server, "DEADLINE_EXCEEDED") == 1)
            packer.gate.set()
            await channel.close()
        call = collector.one(PACK)
        stages = children(collector, call)
        assert [stage.name for stage in stages] == ["admit", "queue", "solve"]
        assert took(stages[2]) > took(stages[1])
        assert took(stages[2]) > took(call) / 2


def handled(server: Server, code: str) -> float | None:
    labels = {"grpc_service": "trimtab.v1.PlacementService", "grpc_method": "Pack", "grpc_code": code}
    return server.registry.get_sample_value("grpc_server_handled_total", labels)


def took(span: Any) -> int:
    return int(span.end_time_unix_nano - span.start_time_unix_nano)


async def test_the_end_waits_for_no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not come back is left alone after a while."""
    monkeypatch.setattr("trimtab_server.otel._CLOSE_SECONDS", 0.1)
    stuck = threading.Event()
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(exporter, "shutdown", lambda: stuck.wait(60))
    closing = asyncio.ensure_future(OtelTracer(exporter, ratio=1, rate=1).close())
    await asyncio.wait_for(closing, 30)
    assert not stuck.is_set()
    stuck.set()
