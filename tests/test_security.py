"""Who gets in, who reads what, and what a server tells: real servers over real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import psutil
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

import trimtab
from tests.gated_server import settled
from tests.secure import (
    OTHER_TOKEN,
    TOKEN,
    WEIGHT,
    Certificates,
    JumpingClock,
    bearer,
    channel_to,
    digest,
    refusal,
    replace,
    request,
    sample,
    serving,
)
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub
from trimtab_server.exit_codes import ExitCode
from trimtab_server.server import SERVICE, Server
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.problem import PackResult, PackTask
from trimtab_server.watched import BrokenFileError

PACK = f"/{SERVICE}/Pack"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority and the server's certificate."""
    return Certificates(tmp_path)


@pytest.fixture
def callers(tmp_path: Path) -> Path:
    """A callers file: ops may do everything, viewer may describe."""
    path = tmp_path / "callers"
    path.write_text(f"ops {digest(TOKEN)} *\nviewer {digest(OTHER_TOKEN)} Describe\n")
    return path


async def describe(server: Server, ca: bytes | None = None, **pems: bytes) -> pb.DescribeResponse:
    """Over a connection of its own."""
    async with channel_to(server, ca, **pems) as channel:
        answer: pb.DescribeResponse = await PlacementServiceStub(channel).Describe(pb.DescribeRequest())
        return answer


async def shown_serial(server: Server) -> int:
    """The number of the certificate that a new connection is shown."""

    def shake() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True) or b""

    return x509.load_der_x509_certificate(await asyncio.to_thread(shake)).serial_number


def serial(certificates: Certificates) -> int:
    return x509.load_pem_x509_certificate(certificates.settings["tls_cert"].read_bytes()).serial_number


async def test_tls_is_for_those_who_trust_the_authority(certificates: Certificates) -> None:
    """Both clients, by path and by bytes; neither without TLS, nor with another authority."""
    path = certificates.mutual["tls_client_ca"]
    async with serving(**certificates.settings) as server:
        async with trimtab.AsyncClient(server.address, ca=certificates.trusted) as client:
            assert (await client.pack(WEIGHT, 4)).pack_index.shape == WEIGHT.shape

        def call(**security: Any) -> trimtab.Packing:
            with trimtab.Client(server.address, timeout=5, **security) as blocking:
                return blocking.pack(WEIGHT, 4)

        assert (await asyncio.to_thread(call, ca=path)).pack_index.shape == WEIGHT.shape
        for security, words in ({}, ""), ({"tls": True}, "CERTIFICATE_VERIFY_FAILED"):
            with pytest.raises(trimtab.UnavailableError) as caught:
                await asyncio.to_thread(call, **security)
            assert words in str(caught.value)


@pytest.mark.parametrize("name", ["controller", "san:controller"])
async def test_a_client_s_certificate_is_its_name(certificates: Certificates, name: str) -> None:
    """Mutual TLS: the common name, else the first other name; whatever the metadata says."""
    async with serving(**certificates.mutual, metric_callers=("controller", "impostor")) as server:
        pems = certificates.for_client(name)
        async with trimtab.AsyncClient(server.address, ca=certificates.trusted, caller="impostor", **pems) as client:
            await client.describe()
        await settled(lambda: sample(server, "trimtab_caller_calls_total", caller="controller", code="OK") == 1)
        assert sample(server, "trimtab_caller_calls_total", caller="impostor", code="OK") == 0


async def test_mutual_tls_keeps_all_others_out(certificates: Certificates, tmp_path: Path) -> None:
    """Those without a certificate, and those with one of another authority."""
    async with serving(**certificates.mutual) as server:
        assert (await refusal(describe(server, certificates.trusted)))[0] == "UNAVAILABLE"
        (tmp_path / "other").mkdir()
        foreign = Certificates(tmp_path / "other").for_client("controller")
        assert (await refusal(describe(server, certificates.trusted, **foreign)))[0] == "UNAVAILABLE"


async def test_a_certificate_gives_what_its_line_allows(certificates: Certificates, callers: Path) -> None:
    """Beside tokens, in one file; a token that is there speaks first."""
    replace(callers, f"viewer {digest(OTHER_TOKEN)} Describe\ncontroller certificate Pack\n")
    async with serving(**certificates.mutual, callers_file=callers) as server:
        pems = certificates.for_client("controller")
        async with channel_to(server, certificates.trusted, **pems) as channel:
            stub = PlacementServiceStub(channel)
            assert (await stub.Pack(request())).packing.algorithm
            code, words = await refusal(stub.Describe(pb.DescribeRequest()))
            assert (code, "controller may not call Describe" in words) == ("PERMISSION_DENIED", True)
            assert (await stub.Describe(pb.DescribeRequest(), metadata=bearer(OTHER_TOKEN))).server_version
            assert (await refusal(stub.Pack(request(), metadata=bearer("no"))))[0] == "UNAUTHENTICATED"
        unlisted = certificates.for_client("stranger")
        code, words = await refusal(describe(server, certificates.trusted, **unlisted))
        assert (code, "stranger" in words) == ("UNAUTHENTICATED", True)


async def test_a_new_certificate_is_served_without_a_restart(certificates: Certificates) -> None:
    """New connections see it; one that is there goes on, though its client would not trust the new one."""
    clock = JumpingClock()
    async with serving(clock, **certificates.settings) as server:
        before, trusted = serial(certificates), certificates.trusted
        async with channel_to(server, trusted) as kept:
            stub = PlacementServiceStub(kept)
            await stub.Describe(pb.DescribeRequest())
            running = asyncio.ensure_future(_keep_calling(stub))
            assert await shown_serial(server) == before
            certificates.replace_authority()
            clock.jump()
            assert await shown_serial(server) == serial(certificates) != before
            assert (await describe(server, certificates.trusted)).server_version
            assert (await refusal(describe(server, trusted)))[0] == "UNAVAILABLE"
            await stub.Describe(pb.DescribeRequest())
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running


async def _keep_calling(stub: PlacementServiceStub) -> None:
    while True:
        await stub.Pack(request())


async def test_a_broken_certificate_is_not_taken(certificates: Certificates) -> None:
    """The old one stays, the failure is counted once a change, and the next good one is taken."""
    clock = JumpingClock()
    async with serving(clock, **certificates.settings) as server:
        before = serial(certificates)
        key = certificates.settings["tls_key"]
        replace(key, "-----BEGIN PRIVATE KEY-----\nbroken\n-----END PRIVATE KEY-----\n")
        for _ in range(2):
            clock.jump()
            assert await shown_serial(server) == before
        assert sample(server, "trimtab_reload_failures_total", what="tls") == 1
        assert sample(server, "trimtab_reload_failures_total", what="callers") == 0
        certificates.renew()
        clock.jump()
        assert await shown_serial(server) == serial(certificates) != before
        assert sample(server, "trimtab_reload_failures_total", what="tls") == 1


async def test_the_expiry_of_the_certificate_is_a_metric(certificates: Certificates) -> None:
    """Of what is served now, looked at when it is scraped."""
    clock = JumpingClock()
    async with serving(clock, **certificates.settings) as server:
        leaf = x509.load_pem_x509_certificate(certificates.settings["tls_cert"].read_bytes())
        name = "trimtab_certificate_expiry_timestamp_seconds"
        assert sample(server, name) == leaf.not_valid_after_utc.timestamp()
        replace(certificates.settings["tls_cert"], "")
        clock.jump()
        assert sample(server, name) == leaf.not_valid_after_utc.timestamp()
        assert sample(server, "trimtab_reload_failures_total", what="tls") == 1


async def test_tokens_are_replaced_without_a_restart(callers: Path) -> None:
    """Both count while both are listed; then the old one is nobody's, on the connection that it came in by."""
    clock = JumpingClock()
    async with serving(clock, callers_file=callers) as server, channel_to(server) as channel:
        stub = PlacementServiceStub(channel)

        async def codes() -> list[str]:
            return [await _code(stub.Pack(request(), metadata=bearer(token))) for token in (TOKEN, "fresh")]

        assert await codes() == ["OK", "UNAUTHENTICATED"]
        replace(callers, f"ops {digest(TOKEN)} *\nops {digest('fresh')} *\n")
        clock.jump()
        assert await codes() == ["OK", "OK"]
        replace(callers, f"ops {digest('fresh')} *\n")
        clock.jump()
        assert await codes() == ["UNAUTHENTICATED", "OK"]
        replace(callers, f"ops {TOKEN} *\n")
        clock.jump()
        assert await codes() == ["UNAUTHENTICATED", "OK"]
        assert sample(server, "trimtab_reload_failures_total", what="callers") == 1


async def _code(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def test_a_client_asks_for_its_token_at_each_call(callers: Path) -> None:
    """So it can renew it; both clients raise the classes of the errors."""
    tokens = iter([TOKEN, OTHER_TOKEN, "unknown"])
    async with serving(callers_file=callers) as server:
        async with trimtab.AsyncClient(server.address, token=lambda: next(tokens)) as client:
            await client.pack(WEIGHT, 4)
            with pytest.raises(trimtab.PermissionDeniedError, match="viewer may not call Pack"):
                await client.pack(WEIGHT, 4)
            with pytest.raises(trimtab.UnauthenticatedError, match="not one of those that this server takes"):
                await client.pack(WEIGHT, 4)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ((), "who calls?"),
        ((("x-trimtab-caller", "ops"),), "who calls?"),
        ((("authorization", f"Basic {TOKEN}"),), "must be one 'Bearer TOKEN'"),
        ((("authorization", TOKEN),), "must be one 'Bearer TOKEN'"),
        ((*bearer("no"), *bearer(TOKEN)), "must be one 'Bearer TOKEN'"),
        ((("authorization", "Bearer "),), "not one of those"),
        (bearer(TOKEN[:-1]), "not one of those"),
        (bearer(digest(TOKEN)), "not one of those"),
    ],
)
async def test_strangers_are_not_let_in(callers: Path, metadata: Any, words: str) -> None:
    """Every RPC: UNAUTHENTICATED, counted, and nothing of what they sent in the words."""
    async with serving(callers_file=callers) as server, channel_to(server) as channel:
        stub = PlacementServiceStub(channel)
        calls = (stub.Pack(request(), metadata=metadata), stub.Describe(pb.DescribeRequest(), metadata=metadata))
        for call in calls:
            code, said = await refusal(call)
            assert (code, words in said, TOKEN in said) == ("UNAUTHENTICATED", True, False)
        await settled(lambda: sample(server, "trimtab_caller_calls_total", caller="other", code="UNAUTHENTICATED") == 2)
        assert sample(server, "trimtab_rejected_total", reason="unauthenticated") == 2
        labels = {"grpc_service": SERVICE, "grpc_method": "Pack", "grpc_code": "UNAUTHENTICATED"}
        assert sample(server, "grpc_server_handled_total", **labels) == 1


async def test_a_caller_may_call_what_its_line_allows(callers: Path) -> None:
    """The error names caller and RPC; metrics tell, under the name of the token."""
    async with serving(callers_file=callers, metric_callers=("viewer", "ops")) as server:
        async with channel_to(server) as channel:
            stub = PlacementServiceStub(channel)
            mine = (*bearer(OTHER_TOKEN), ("x-trimtab-caller", "ops"))
            assert (await stub.Describe(pb.DescribeRequest(), metadata=mine)).server_version
            for call, rpc in (
                (stub.Pack(request(), metadata=mine), "Pack"),
                (stub.Rebalance(pb.RebalanceRequest(), metadata=mine), "Rebalance"),
            ):
                assert await refusal(call) == (
                    "PERMISSION_DENIED",
                    f"viewer may not call {rpc}: the server's callers file says what it may",
                )
        await settled(
            lambda: sample(server, "trimtab_caller_calls_total", caller="viewer", code="PERMISSION_DENIED") == 2
        )
        assert sample(server, "trimtab_caller_calls_total", caller="viewer", code="OK") == 1
        assert sample(server, "trimtab_caller_calls_total", caller="ops", code="OK") == 0
        assert sample(server, "trimtab_rejected_total", reason="denied") == 2


async def test_health_is_open_unless_it_is_closed(callers: Path) -> None:
    """Probes have no tokens; whoever wants can ask for one. Any caller of the file may ask."""
    for is_open in (True, False):
        async with serving(callers_file=callers, open_health=is_open) as server, channel_to(server) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            asked = health_pb2.HealthCheckRequest(service=SERVICE)
            expected = "OK" if is_open else "UNAUTHENTICATED"
            assert await _code(health.Check(asked)) == expected
            watch = health.Watch(asked)
            assert await _code(watch.read()) == expected
            watch.cancel()
            assert await _code(health.Check(asked, metadata=bearer(OTHER_TOKEN))) == "OK"
            assert (await health.Watch(asked, metadata=bearer(OTHER_TOKEN)).read()).status == 1
            assert sample(server, "trimtab_rejected_total", reason="unauthenticated") == (0 if is_open else 2)


async def test_reflection_is_for_callers(callers: Path) -> None:
    """Where there is a callers file; any caller of it."""
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with serving(callers_file=callers) as server, channel_to(server) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # aio too
        assert (await refusal(reflection.ServerReflectionInfo(iter([asked])).read()))[0] == "UNAUTHENTICATED"
        answer = await reflection.ServerReflectionInfo(iter([asked]), metadata=bearer(OTHER_TOKEN)).read()
        assert SERVICE in [service.name for service in answer.list_services_response.service]


async def test_a_refused_caller_is_told_before_it_has_sent_anything(callers: Path) -> None:
    """The server asks who calls first: the request need not even be there."""
    never = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with serving(callers_file=callers, open_health=False) as server, channel_to(server) as channel:
        for path in (PACK, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
            ask: Any = channel.stream_stream(path)
            call = ask(nothing())
            assert (await refusal(call.read()))[0] == "UNAUTHENTICATED"
        pack: Any = channel.stream_unary(PACK)
        assert (await refusal(pack(nothing(), metadata=bearer(OTHER_TOKEN))))[0] == "PERMISSION_DENIED"


def test_a_stranger_s_requests_take_no_memory(callers: Path) -> None:
    """Ten of 60 MB, refused; the server's memory stays what it was."""
    # One arena, or what is seen is how glibc spreads over threads what each of them has given back
    one_arena = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with (
        running_server(f"--callers-file={callers}", environment=one_arena) as process,
        grpc.insecure_channel(process.listen) as channel,
    ):
        pack: Any = channel.unary_unary(PACK)
        body = bytes(60 << 20)
        memory = psutil.Process(process.process.pid).memory_info
        before = memory().rss
        most = before
        for _ in range(10):
            with pytest.raises(grpc.RpcError) as caught:
                pack(body)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            most = max(most, memory().rss)
        assert most - before < 30 << 20


async def test_a_request_that_never_comes_is_not_waited_for() -> None:
    """DEADLINE_EXCEEDED after receive_timeout, and counted; health is no way around it."""
    never = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with serving(receive_timeout=0.2) as server, channel_to(server) as channel:
        for path in (PACK, "/grpc.health.v1.Health/Check"):
            ask: Any = channel.stream_unary(path)
            assert await refusal(ask(nothing())) == (
                "DEADLINE_EXCEEDED",
                "the request did not arrive within this server's receive_timeout = 0.2 s",
            )
        assert sample(server, "trimtab_rejected_total", reason="not_received") == 2
        assert (await PlacementServiceStub(channel).Pack(request())).packing.algorithm


async def test_a_call_has_one_message() -> None:
    """None is an error of the caller's; of two, the first is answered; neither breaks anything."""

    async def several(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield request().SerializeToString()

    async with serving() as server, channel_to(server) as channel:
        pack: Any = channel.stream_unary(PACK)
        assert await refusal(pack(several(0))) == ("INVALID_ARGUMENT", "request: must be one message, none was sent")
        for count in (1, 2, 5):
            answer = pb.PackResponse.FromString(await pack(several(count)))
            assert answer.packing.algorithm
        assert (await PlacementServiceStub(channel).Pack(request())).packing.algorithm


async def test_callers_never_become_labels() -> None:
    """But those of the list: a client can say any name, and metrics must not grow with them."""
    async with serving(metric_callers=("ops",)) as server, channel_to(server) as channel:
        stub = PlacementServiceStub(channel)
        for name in ("ops", "other", *(f"caller-{i}" for i in range(40))):
            await stub.Describe(pb.DescribeRequest(), metadata=(("x-trimtab-caller", name),))
        await settled(lambda: sample(server, "trimtab_caller_calls_total", caller="other", code="OK") == 41)
        found = {
            point.labels["caller"]
            for family in server.registry.collect()
            for point in family.samples
            if "caller" in point.labels
        }
        assert found == {"ops", "other"}


class BreakingPacker(CpuPacker):
    """Packs, until the test lets it break with loads and a secret in the message."""

    is_broken = False

    def pack(self, task: PackTask) -> PackResult:
        if self.is_broken:
            raise RuntimeError(f"{task.whole[0]} and {TOKEN}")
        return super().pack(task)


async def test_an_unexpected_error_tells_where_and_not_what() -> None:
    """The log has the kind and the places, by the id that the caller gets; neither has the message."""
    packer = BreakingPacker(threads=1)
    async with serving(packer=packer) as server:
        packer.is_broken = True
        async with channel_to(server) as channel:
            with capture_logs() as logs:
                code, words = await refusal(
                    PlacementServiceStub(channel).Pack(request(), metadata=(("x-request-id", "id-77"),))
                )
        assert (code, words) == ("INTERNAL", "unexpected error; the server's log has it under request id id-77")
        (line,) = [line for line in logs if line["event"] == "call failed"]
        assert line["error_type"] == "RuntimeError"
        assert any(place.startswith("trimtab_server.batching:") for place in line["where"])
        assert TOKEN not in str(logs)
        assert "exc_info" not in line


@pytest.fixture
def secure_server(certificates: Certificates, callers: Path) -> Iterator[ServerProcess]:
    """A server process with TLS and a callers file, which logs everything."""
    flags = (*certificates.flags, f"--callers-file={callers}", "--log-level=debug")
    with running_server(*flags) as process:
        yield process


def test_logs_hold_no_secret_and_no_load(
    secure_server: ServerProcess, certificates: Certificates, callers: Path
) -> None:
    """The whole of what the server wrote, after calls that went well and calls that went wrong in every way."""
    marked = np.full((3, 32), 31415.9265)
    marked[1] = 0.0
    wrong = marked.copy()
    wrong[0, 7] = -27182.8182
    credentials = grpc.ssl_channel_credentials(certificates.trusted)
    codes: set[str] = set()
    with grpc.secure_channel(secure_server.listen, credentials) as channel:
        pack: Any = channel.unary_unary(PACK)
        for token in (TOKEN, OTHER_TOKEN, f"unknown-{TOKEN}"):
            for body in (
                request(marked, 8).SerializeToString(),
                request(wrong, 8).SerializeToString(),
                request(marked, 5).SerializeToString(),
                request(marked, 8).SerializeToString()[:-9] + b"31415.9265",
            ):
                codes.add(pack.future(body, metadata=bearer(token)).code().name)  # once it has ended
        replace(callers, f"ops {TOKEN} *\n")
        while not any(line["event"] == "reload failed" for line in secure_server.log):
            pack(request(marked, 8).SerializeToString(), metadata=bearer(TOKEN))
    assert codes == {"OK", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED"}
    secure_server.stop()
    written = "\n".join(secure_server.lines)
    assert '"caller": "ops"' in written
    key = certificates.settings["tls_key"].read_text().splitlines()[1]
    for secret in (TOKEN, OTHER_TOKEN, *(digest(t).partition(":")[2] for t in (TOKEN, OTHER_TOKEN)), key, "31415"):
        assert secret not in written
    assert "27182" not in written
    assert "Traceback" not in written


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("tls_cert", "--tls-cert {path}: must hold certificates in PEM form"),
        ("tls_key", "--tls-key {path}: must hold a private key in PEM form, not encrypted"),
        ("tls_client_ca", "--tls-client-ca {path}: must hold certificates in PEM form"),
        ("callers_file", "--callers-file {path}: line 1: must be NAME CREDENTIAL RPCS, has 1 words"),
    ],
)
async def test_a_server_does_not_start_on_files_that_are_of_no_use(
    certificates: Certificates, callers: Path, broken: str, message: str
) -> None:
    """It names the setting, the file and the rule; likewise where the file is not there."""
    named = {**certificates.mutual, "callers_file": callers}
    named[broken].write_text("broken")
    with pytest.raises(BrokenFileError) as caught:
        Server(Settings(**named), CpuPacker(threads=1))
    assert str(caught.value) == message.format(path=named[broken])
    named[broken].unlink()
    with pytest.raises(BrokenFileError, match="can't be read: No such file or directory"):
        Server(Settings(**named), CpuPacker(threads=1))


async def test_a_key_must_fit_its_certificate(certificates: Certificates, tmp_path: Path) -> None:
    """Or no client could ever connect."""
    (tmp_path / "other").mkdir()
    cert, key = certificates.settings["tls_cert"], Certificates(tmp_path / "other").settings["tls_key"]
    with pytest.raises(BrokenFileError) as caught:
        Server(Settings(tls_cert=cert, tls_key=key), CpuPacker(threads=1))
    assert str(caught.value) == f"--tls-key {key}: is not the key of the certificate in {cert}"


def start(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trimtab_server", "--metrics-listen=127.0.0.1:0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_broken_file_at_start_is_one_line(callers: Path) -> None:
    """And exit status 1."""
    callers.write_text(f"ops {TOKEN} *")
    result = start("--listen=127.0.0.1:0", f"--callers-file={callers}")
    assert result.returncode == ExitCode.FAILED
    expected = f"--callers-file {callers}: line 1: CREDENTIAL must be sha256: and 64 hexadecimal digits, or certificate"
    assert result.stderr == f"trimtab-server: {expected}\n"


def test_a_server_does_not_start_in_the_clear_for_others() -> None:
    """Other machines are reached with TLS, or by an operator who says that it is meant."""
    result = start("--listen=0.0.0.0:0")
    assert result.returncode == ExitCode.USAGE
    assert "give --tls-cert and --tls-key, or --allow-plaintext where the network is trusted" in result.stderr


def test_plaintext_for_others_is_warned_of() -> None:
    """In the log, at start."""
    with running_server("--listen=0.0.0.0:0", "--allow-plaintext") as process:
        line = process.wait_for(event="no TLS")
    assert (line["level"], line["listen"]) == ("warning", "0.0.0.0:0")


def test_a_token_can_be_made_by_the_server_s_command() -> None:
    """The token on the first line, its line of the callers file on the second, also where TLS is not set up."""
    result = start("--listen=0.0.0.0:50051", "--new-token=ops")
    assert result.returncode == 0
    token, line = result.stdout.splitlines()
    assert line == f"ops {digest(token)} *"
    assert re.fullmatch(r"[\w-]{43}", token)
    assert token not in result.stderr


async def test_a_file_that_breaks_is_told_of_without_a_call(callers: Path) -> None:
    """Whoever edits it and looks at the log sees it there."""
    async with serving(callers_file=callers) as server:
        replace(callers, "no line\n")
        await settled(lambda: sample(server, "trimtab_reload_failures_total", what="callers") == 1)


@pytest.mark.parametrize("method", ["/trimtab.v1.PlacementService/Pack", "/grpc.health.v1.Health/Check"])
async def test_compressed_requests_are_refused_unread(method: str) -> None:
    """A little gzip would become megabytes before anybody has asked who sent it."""
    async with serving() as server, channel_to(server) as channel:
        call: Any = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bytes(1 << 20), compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_grpc_has_to_say_is_not_in_the_log(callers: Path) -> None:
    """Neither its own lines, some of which hold what a stranger sent, nor a traceback of its health service."""
    certificates = Certificates(callers.parent)
    keys = f"--tls-cert={certificates.folder / 'server.pem'}", f"--tls-key={certificates.folder / 'server.key'}"
    with running_server(*keys) as process:
        host, _, port = process.listen.rpartition(":")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert plain.recv(100) is not None
        with (
            socket.create_connection((host, int(port))) as raw,
            context.wrap_socket(raw, server_hostname="forged.example") as shaken,
        ):
            assert shaken.version()
        credentials = grpc.ssl_channel_credentials(certificates.trusted)
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            list_all: Any = channel.unary_unary("/grpc.health.v1.Health/List")
            with pytest.raises(grpc.RpcError) as caught:
                list_all(b"", timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert process.stop() == 0
    assert [line for line in process.lines if not line.startswith("{")] == []
    assert "forged" not in "\n".join(process.lines)
