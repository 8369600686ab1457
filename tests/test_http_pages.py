"""The HTTP port: probes that tell the truth, a log level that changes at run time, nothing else for strangers."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import trimtab
from tests.gated_server import FREE, GatedPacker, bare_stub, request, serving, settled, until
from tests.http_port import ask
from tests.secure import Certificates
from trimtab.cli.server_process import running_server
from trimtab_server.http_endpoint import HttpEndpoint
from trimtab_server.http_pages import Answer, Pages
from trimtab_server.logs import LEVEL
from trimtab_server.probe import probe
from trimtab_server.server import Server
from trimtab_server.settings import Settings


def broken() -> Answer:
    raise RuntimeError("of the inside")


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Pages of a server that is alive and not ready; its address."""
    pages = Pages(CollectorRegistry(), lambda: True, lambda: False, {"/broken": broken})
    endpoint = HttpEndpoint("127.0.0.1:0", pages)
    yield endpoint.address
    endpoint.close()


@pytest.fixture
def level() -> Iterator[None]:
    """The level of the log is as before afterwards."""
    before = LEVEL.name
    yield
    LEVEL.set(before)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/livez", 200, "alive"),
        ("GET", "/readyz", 503, "not ready"),
        ("HEAD", "/readyz", 503, ""),
        ("GET", "/log-level", 200, "info"),
        ("GET", "/metrics", 200, "# EOF"),
        ("GET", "/else", 404, "nothing is here; there are /metrics /livez /readyz /log-level /broken"),
        ("POST", "/livez", 405, "/livez takes GET, not POST"),
        ("PUT", "/readyz", 405, "/readyz takes GET, not PUT"),
        ("GET", "/broken", 500, "this page failed; the log tells"),
    ],
)
def test_every_path_answers_in_words(endpoint: str, method: str, path: str, status: int, text: str) -> None:
    """What is there, what is not, and what breaks; of the inside nothing is told."""
    assert ask(endpoint, path, method, Accept="application/openmetrics-text") == (status, text)


@pytest.mark.usefixtures("level")
def test_the_level_of_the_log_is_set_at_run_time(endpoint: str) -> None:
    """From this machine, to a level that there is, under a name of this machine."""
    assert ask(endpoint, "/log-level", "PUT", "debug\n") == (200, "debug")
    assert ask(endpoint, "/log-level") == (200, "debug")
    assert ask(endpoint, "/log-level", "PUT", "error", Host="localhost:1") == (200, "error")
    status, text = ask(endpoint, "/log-level", "PUT", "loud")
    assert (status, text) == (400, "the body must be one of debug, info, warning, error, got 'loud'")
    assert ask(endpoint, "/log-level", "PUT", "d" * 10_000)[0] == 400
    assert ask(endpoint, "/log-level", "PUT", "info", Host="rebound.example")[0] == 403
    assert ask(endpoint, "/log-level", "PUT", "info", Origin="http://localhost")[0] == 403
    assert ask(endpoint, "/log-level", "PUT", "info", **{"Content-Length": "9" * 5000})[0] == 400
    assert LEVEL.name == "error"


def test_a_level_lets_through_what_it_says() -> None:
    """Lines of calls vanish at warning and come back at info, in a server that runs on."""
    with running_server() as server:
        assert ask(server.metrics, "/log-level", "PUT", "warning")[0] == 200
        _describe(server.listen)
        until(
            lambda: (
                'grpc_code="OK",grpc_method="Describe",grpc_service="trimtab.v1.PlacementService"} 1' in server.scrape()
            )
        )
        assert ask(server.metrics, "/log-level", "PUT", "info")[0] == 200
        _describe(server.listen)
        server.wait_for(event="call", method="Describe")
        assert [line["event"] for line in server.log[2:]] == ["log level set", "log level set", "call"]


def test_debug_tells_of_batches_and_of_what_is_not_solved() -> None:
    """A line a batch, which at the usual level is not there."""
    with running_server("--log-level=debug") as server, trimtab.Client(server.listen) as client:
        client.pack([[2.0, 1.0]] * 3, 2)
        batch = server.wait_for(event="batch")
        assert ask(server.metrics, "/log-level", "PUT", "info")[0] == 200
        client.pack([[2.0, 1.0]] * 3, 2)
        until(lambda: len([line for line in server.log if line["event"] == "call"]) == 2)
        assert [line["event"] for line in server.log].count("batch") == 1
    told = {name: batch[name] for name in ("level", "operation", "solver", "requests", "rows", "callers")}
    assert told == {
        "level": "debug",
        "operation": "pack",
        "solver": "cpu",
        "requests": 1,
        "rows": 3,
        "callers": 1,
    }


def _describe(target: str) -> None:
    with trimtab.Client(target) as client:
        client.describe()


async def _said(server: Server) -> tuple[tuple[int, str], tuple[int, str]]:
    """What it says to whoever asks whether it is alive, and ready."""
    live = await asyncio.to_thread(ask, server.metrics_address, "/livez")
    return live, await asyncio.to_thread(ask, server.metrics_address, "/readyz")


ALIVE, READY, NOT_READY = (200, "alive"), (200, "ready"), (503, "not ready")


async def test_a_server_that_warms_up_is_alive_and_not_yet_ready() -> None:
    """Ready when it has."""
    packer = GatedPacker()
    packer.hold()
    server = Server(Settings(**FREE), packer=packer)
    starting = asyncio.ensure_future(server.start())
    await packer.wait_begun()
    assert await _said(server) == (ALIVE, NOT_READY)
    packer.gate.set()
    await starting
    assert await _said(server) == (ALIVE, READY)
    assert server.registry.get_sample_value("trimtab_ready") == 1
    await server.stop()


async def test_a_server_that_drains_is_alive_and_no_longer_ready() -> None:
    """Until its last call is answered."""
    async with serving() as (server, packer):
        packer.hold()
        channel, stub = bare_stub(server)
        call = asyncio.ensure_future(stub.Pack(request()))
        await packer.wait_begun()
        stopping = asyncio.ensure_future(server.stop())
        await settled(lambda: server.registry.get_sample_value("trimtab_ready") == 0)
        assert await _said(server) == (ALIVE, NOT_READY)
        packer.gate.set()
        await call
        await stopping
        await channel.close()


async def test_a_server_whose_loop_hangs_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's own thread goes on, and says so."""
    monkeypatch.setattr("trimtab_server.server._ALIVE_SECONDS", 0.2)
    async with serving() as (server, _):
        with ThreadPoolExecutor(1) as elsewhere:
            live, ready = (elsewhere.submit(ask, server.metrics_address, path) for path in ("/livez", "/readyz"))
            assert live.result(30) == (503, "not alive")  # nothing else runs in this loop meanwhile
            assert ready.result(30) == (503, "not ready")
        assert await _said(server) == (ALIVE, READY)


async def test_a_server_with_a_stuck_solve_is_not_alive() -> None:
    """Whoever supervises it may start it again."""
    async with serving() as (server, _):
        server.stuck.set()
        assert (await _said(server))[0] == (503, "not alive")


@pytest.mark.parametrize("secured", ["plaintext", "tls", "mutual"])
def test_the_command_asks_whether_it_is_ready(secured: str, tmp_path: Path) -> None:
    """`--probe` with the server's own settings, however calls are secured."""
    certificates = Certificates(tmp_path)
    settings = {"plaintext": {}, "tls": certificates.settings, "mutual": certificates.mutual}[secured]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    with running_server(*flags) as server:
        assert _probed(f"--metrics-listen={server.metrics}", *flags) == (0, "ready")
    code, words = _probed(f"--metrics-listen={server.metrics}", *flags)
    assert code == 1
    assert words.startswith(f"no answer from http://{server.metrics}/readyz: ")


def _probed(*flags: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "trimtab_server", "--probe", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "[::]"])  # noqa: S104  # that is what is asked about
def test_a_probe_finds_a_server_that_listens_everywhere(everywhere: str) -> None:
    """On this machine."""
    endpoint = HttpEndpoint(f"{everywhere}:0", Pages(CollectorRegistry(), lambda: True, lambda: True))
    try:
        assert probe(endpoint.address) == (True, "ready")
        port = endpoint.address.rpartition(":")[2]
        assert ask(f"127.0.0.1:{port}", "/log-level", "PUT", LEVEL.name) == (200, LEVEL.name)
    finally:
        endpoint.close()


def test_a_probe_takes_no_other_server_for_this_one() -> None:
    """And shows nothing of what that one sends."""
    endpoint = HttpEndpoint("127.0.0.1:0", lambda _, start: (start("200 OK", []), [b"\x1b[2Jhello"])[1])
    try:
        is_ready, words = probe(endpoint.address)
    finally:
        endpoint.close()
    assert (is_ready, words) == (
        False,
        f"http://{endpoint.address}/readyz answers 200, and not as a trimtab-server does",
    )


def test_silent_clients_keep_no_probe_out(endpoint: str) -> None:
    """However many hold a connection open and say nothing: the oldest goes."""
    host, _, port = endpoint.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(60)]
    try:
        for _ in range(5):
            assert ask(endpoint, "/livez") == (200, "alive")
    finally:
        for each in silent:
            each.close()
