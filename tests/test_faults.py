"""What is the matter with the surroundings is no matter of the service: its log and its metrics."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app

import trimtab
from tests.gated_server import WEIGHT, bare_stub, request, serving, until
from tests.http_port import ask
from tests.system.tools import free_port
from trimtab_server.http_endpoint import HttpEndpoint
from trimtab_server.logs import LogSink


def scrape(address: str) -> tuple[int, str]:
    return ask(address, "/metrics")


class BrokenCollector:
    """What a registry may hold."""

    def collect(self) -> Any:
        raise RuntimeError("a figure that can't be had")


async def test_calls_are_answered_while_metrics_are_broken() -> None:
    """A scrape fails with 500 and the next call is answered; when the figure is back, so is the scrape."""
    async with serving() as (server, _):
        channel, stub = bare_stub(server)
        broken: Any = BrokenCollector()
        server.registry.register(broken)
        status, _ = await asyncio.to_thread(scrape, server.metrics_address)
        assert status == 500
        assert (await stub.Pack(request())).packing.algorithm
        server.registry.unregister(broken)
        assert (await asyncio.to_thread(scrape, server.metrics_address))[0] == 200
        await channel.close()


def test_clients_that_say_nothing_do_not_keep_the_metrics_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is bounded, and so is the time they have."""
    registry = CollectorRegistry()
    Counter("some", "Some.", registry=registry)
    monkeypatch.setattr("trimtab_server.http_endpoint._Handler.timeout", 0.5)
    endpoint = HttpEndpoint("127.0.0.1:0", make_wsgi_app(registry))
    port = int(endpoint.address.rpartition(":")[2])
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        for connection in silent:
            connection.settimeout(20)
            assert connection.recv(1) == b""  # told that it's over: the first 32 in time, the others at once
        assert threading.active_count() <= before + 32
        assert scrape(endpoint.address)[0] == 200
    finally:
        for connection in silent:
            connection.close()
        endpoint.close()


def test_clients_that_dribble_do_not_keep_the_metrics_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy they look, the time of a scrape is bounded."""
    monkeypatch.setattr("trimtab_server.http_endpoint._SECONDS_A_REQUEST", 0.5)
    endpoint = HttpEndpoint("127.0.0.1:0", make_wsgi_app(CollectorRegistry()))
    try:
        with socket.create_connection(("127.0.0.1", int(endpoint.address.rpartition(":")[2]))) as dribbling:
            dribbling.settimeout(0.05)
            ended = False
            for _ in range(600):
                try:
                    dribbling.send(b"G")
                    ended = dribbling.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    ended = True
                if ended:
                    break
            assert ended
        assert scrape(endpoint.address)[0] == 200
    finally:
        endpoint.close()


def test_a_thread_that_can_not_be_had_costs_one_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more: as many may come afterwards as before."""
    endpoint = HttpEndpoint("127.0.0.1:0", make_wsgi_app(CollectorRegistry()))

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cannot)
            for _ in range(40):
                with pytest.raises((OSError, http.client.HTTPException)):
                    scrape(endpoint.address)
        assert scrape(endpoint.address)[0] == 200
    finally:
        endpoint.close()


def test_metrics_can_be_asked_over_ipv6() -> None:
    """An address in brackets."""
    endpoint = HttpEndpoint("[::1]:0", make_wsgi_app(CollectorRegistry()))
    try:
        assert endpoint.address.startswith("[::1]:")
        assert scrape(endpoint.address)[0] == 200
    finally:
        endpoint.close()


@contextmanager
def logging_to(stream: Any) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """A server process whose log goes to this stream, and its two addresses."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    flags = [f"--{name}={value}" for name, value in zip(("listen", "metrics-listen"), addresses, strict=True)]
    process = subprocess.Popen([sys.executable, "-m", "trimtab_server", *flags], stderr=stream)
    try:
        with trimtab.Client(addresses[0], timeout=120, wait_for_ready=True) as client:
            client.describe()
        yield process, addresses[0], addresses[1]
    finally:
        process.kill()
        process.wait()


def lines_lost(metrics: str) -> float:
    (line,) = [line for line in scrape(metrics)[1].splitlines() if line.startswith("trimtab_log_lines_lost_total")]
    return float(line.split()[1])


def assert_calls_are_answered_and_lines_counted(
    process: subprocess.Popen[bytes], address: str, metrics: str, at_least: int
) -> None:
    with trimtab.Client(address) as client:
        for _ in range(3):
            assert client.pack(WEIGHT, 4).pack_index.shape == WEIGHT.shape
    until(lambda: lines_lost(metrics) >= at_least)
    process.terminate()
    assert process.wait(30) == 0


def test_a_full_disk_under_the_log_fails_no_call() -> None:
    """Lines are lost and counted, calls are answered, and the server ends in order."""
    with Path("/dev/full").open("wb") as full, logging_to(full) as server:  # each write to it finds the disk full
        assert_calls_are_answered_and_lines_counted(*server, at_least=4)


def test_a_closed_log_pipe_fails_no_call() -> None:
    """Nobody reads the log any more; the same."""
    with logging_to(subprocess.PIPE) as server:
        assert server[0].stderr is not None
        server[0].stderr.close()
        assert_calls_are_answered_and_lines_counted(*server, at_least=2)


def test_a_log_reader_that_stopped_blocks_nobody() -> None:
    """A full pipe holds up the thread that writes, and nobody else; what does not fit is lost and counted."""
    read_end, write_end = os.pipe()
    lost = 0

    def count() -> None:
        nonlocal lost
        lost += 1

    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb") as reader:
        sink = LogSink(stream)
        sink.on_lost = count
        for number in range(30_000):
            sink.write(f"{number:99d}\n")  # 3 MB: far more than pipe and queue hold
        assert 10_000 < lost <= 20_000
        sink.drain()  # returns, though the reader still sleeps
        kept = 30_000 - lost
        lines = [reader.readline() for _ in range(kept)]
        assert int(lines[0]) == 0
        assert len(lines) == kept
        sink.drain()
