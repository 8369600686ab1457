"""The real Envoy before real servers, as `deploy/envoy` has it: only addresses, folders and use of TLS are set anew.

Calls are made by a client without retries of its own, so that what is not lost is Envoy's doing.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import yaml

from tests.gated_server import request, until
from tests.harness.asking import SERVICE, promise_of
from tests.harness.simulated import simulated_server
from tests.http_port import total
from tests.kept_venv import ROOT
from tests.secure import Certificates, replace
from tests.system.tools import free_port, tool
from trimtab.cli.server_process import ServerProcess, end

CONFIGURATION = ROOT / "deploy" / "envoy"
START_SECONDS = 60.0
PACK = request(np.arange(1, 13.0).reshape(2, 6), 3).SerializeToString()
LARGE = request(np.ones((64, 8192)), 64, num_restarts=1).SerializeToString()  # 4 MiB
SMALL_SECONDS = 0.01
"""Of a solve of PACK."""
_INSTALLED = "/etc/envoy"


@dataclass(frozen=True)
class Envoy:
    """An Envoy that runs."""

    process: subprocess.Popen[bytes]
    h2c: str
    mtls: str
    admin: str
    log: Path

    @property
    def servers(self) -> dict[str, set[str]]:
        """What keeps calls from each of its servers: nothing, where it is well."""
        listed = json.loads(self._ask("/clusters?format=json"))["cluster_statuses"][0]
        return {
            f"{at['address']}:{at['port_value']}": {
                name for name, value in host["health_status"].items() if value is True
            }
            for host in listed.get("host_statuses", ())
            for at in [host["address"]["socket_address"]]
        }

    def counted(self, name: str) -> int:
        """A counter of the servers' cluster."""
        name = f"cluster.trimtab.{name}"
        return int(self._ask(f"/stats?filter=^{name.replace('.', '[.]')}$").decode().rpartition(" ")[2])

    @property
    def access_log(self) -> list[dict[str, Any]]:
        """What it said of each call."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self) -> str:
        """All of it, for the message of a failed assertion."""
        return self.log.read_text()

    def _ask(self, path: str) -> bytes:
        host, _, port = self.admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


def shown(certificates: Certificates) -> Certificates:
    """Certificates, under the names of a Kubernetes secret too, in the folder that Envoy's files are to be in."""
    for name, content in (
        ("tls.key", (certificates.folder / "server.key").read_text()),
        ("tls.crt", (certificates.folder / "server.pem").read_text()),
        ("ca.crt", certificates.trusted.decode()),
    ):
        replace(certificates.folder / name, content)
    return certificates


def configured(folder: Path, servers: Sequence[str], *, tls: bool = False) -> dict[str, str]:
    """Write its files for these servers into a folder, which holds the certificates too; where it listens."""
    for path in CONFIGURATION.glob("*.yaml"):
        (folder / path.name).write_text(path.read_text().replace(f"{_INSTALLED}/tls", str(folder)))
    path = folder / "envoy.yaml"
    settings: Any = yaml.safe_load(path.read_text().replace(_INSTALLED, str(folder)))
    listeners = settings["static_resources"]["listeners"]
    named = {"admin": settings["admin"], **{listener["name"]: listener for listener in listeners}}
    for at in named.values():
        at["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": free_port()}
    (cluster,) = settings["static_resources"]["clusters"]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [_server(cluster, each, tls=tls) for each in servers]
    path.write_text(json.dumps(settings))  # JSON is YAML
    return {name: f"127.0.0.1:{at['address']['socket_address']['port_value']}" for name, at in named.items()}


def _server(cluster: Any, address: str, *, tls: bool) -> Any:
    (one,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][:1]
    copy = json.loads(json.dumps(one))
    host, _, port = address.rpartition(":")
    copy["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": int(port)}
    copy["metadata"]["filter_metadata"]["envoy.transport_socket_match"]["tls"] = tls
    return copy


@contextmanager
def running_envoy(
    folder: Path, servers: Sequence[str], *, tls: bool = False, seconds: float = START_SECONDS
) -> Iterator[Envoy]:
    """An Envoy before these servers, each of which it has found well within these seconds; ended on the way out."""
    at = configured(folder, servers, tls=tls)
    # one thread of work: the machine's cores are the servers' and the callers' too
    flags = ("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning")
    log = folder / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("envoy"), "-c", str(folder / "envoy.yaml"), *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        envoy = Envoy(process, at["h2c"], at["mtls"], at["admin"], log)
        _wait(envoy, len(servers), seconds)
        yield envoy
    finally:
        end(process)


def _wait(envoy: Envoy, servers: int, seconds: float) -> None:
    latest = time.monotonic() + seconds
    while time.monotonic() < latest and envoy.process.poll() is None:
        with suppress(OSError):  # it does not listen yet
            if list(envoy.servers.values()) == [set()] * servers:
                return
        time.sleep(0.1)
    raise AssertionError(f"Envoy does not find its servers well; it said:\n{envoy.said()}")


@contextmanager
def servers(count: int, *flags: str, seconds_per_row: float = SMALL_SECONDS / 2) -> Iterator[list[ServerProcess]]:
    """So many servers, each with a device that takes its time and nothing of the processor."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(count) as pool:  # they start at the same time
            starting = [
                pool.submit(stack.enter_context, simulated_server(seconds_per_row, *flags)) for _ in range(count)
            ]
        yield [server.result() for server in starting]


@contextmanager
def behind_envoy(folder: Path, count: int, *flags: str, **settings: Any) -> Iterator[tuple[Envoy, list[ServerProcess]]]:
    """The same, with an Envoy before them."""
    with servers(count, *flags, **settings) as running:
        with running_envoy(folder, [server.listen for server in running]) as envoy:
            yield envoy, running


def handled(server: ServerProcess, code: str = "OK") -> int:
    """Calls that a server has ended in this way."""
    return int(total(server.scrape(), "grpc_server_handled_total", grpc_code=code, grpc_method="Pack"))


def channel_to(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A connection of its own, that tries nothing twice and sends headers and messages of any size."""
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, [*options, ("grpc.ssl_target_name_override", "localhost")])


async def pack(channel: grpc.aio.Channel, raw: bytes = PACK, **call: Any) -> bytes:
    """The answer's packing, as bytes."""
    method: Any = channel.unary_unary(SERVICE + "Pack")
    return promise_of("Pack", await method(raw, **{"timeout": 60, **call}))


@asynccontextmanager
async def under_load(target: str, *callers: bytes) -> AsyncIterator[Counter[str]]:
    """Callers that ask one call after the other until the block ends: how their calls ended, so far."""
    ends: Counter[str] = Counter()
    done = asyncio.Event()

    async def ask(channel: grpc.aio.Channel, raw: bytes, expected: bytes) -> str:
        try:
            return "answered" if await pack(channel, raw) == expected else "another answer"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"

    async def keep_asking(channel: grpc.aio.Channel, raw: bytes) -> None:
        expected = await pack(channel, raw)
        while not done.is_set():
            ends[await ask(channel, raw, expected)] += 1

    async with channel_to(target) as channel:
        asking = asyncio.gather(*(keep_asking(channel, raw) for raw in callers))
        try:
            await more(ends, len(callers))
            yield ends
        finally:
            done.set()
            await asking


async def more(ends: Counter[str], calls: int) -> None:
    """Until so many more calls have ended."""
    before = ends.total()
    await eventually(lambda: ends.total() >= before + calls)


async def eventually(condition: Callable[[], bool]) -> None:
    """Until something outside of this process is so; bounded."""
    await asyncio.to_thread(until, condition)
