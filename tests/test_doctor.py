"""`trimtab doctor`: each thing that can keep a call from its answer is found, and said with what to do about it."""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.command import NOBODY, failed, ok, run
from tests.secure import OTHER_TOKEN, TOKEN, Certificates, digest
from trimtab import channel, wire
from trimtab.cli import doctor_client, doctor_service, doctor_target
from trimtab.cli.doctor_client import check_client, check_proxy, fits, requirements
from trimtab.cli.doctor_credentials import check_credentials
from trimtab.cli.doctor_findings import Finding
from trimtab.cli.doctor_target import Address, Target, check_port, read_target, resolve
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import (
    PlacementServiceServicer,
    PlacementServiceStub,
    add_PlacementServiceServicer_to_server,
)
from trimtab.version import __version__

Found = dict[str, dict[str, Any]]
NOTHING: dict[str, Any] = {"tls": False, "ca": None, "cert": None, "key": None, "server_name": None, "token": None}
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
POLL_SECONDS = 0.01
NOW = datetime.now(timezone.utc)


def doctor(target: str, *options: Any) -> tuple[int, Found]:
    """The exit code, and the findings by check; one that is told twice is a bug."""
    result = run("doctor", "--target", target, "--timeout", 10, "--json", *options)
    assert result.stderr == ""
    told = json.loads(result.stdout)
    found = {finding["check"]: finding for finding in told["findings"]}
    assert len(found) == len(told["findings"]) == sum(told["counts"].values())
    assert told["well"] is (result.exit_code == 0) is (told["counts"]["wrong"] == 0)
    assert all(finding["advice"] for finding in told["findings"] if finding["state"] == "warning")
    return result.exit_code, found


def not_ok(found: Found) -> dict[str, str]:
    """The checks that are not, and how; the clock is looked at where there is an HTTP port."""
    return {name: each["state"] for name, each in found.items() if each["state"] != "ok" and name != "clock"}


def words(finding: dict[str, Any] | Finding) -> str:
    """What was found, and what to do."""
    told = finding if isinstance(finding, dict) else finding.__dict__
    return f"{told['found']}; {told['advice']}"


class Stand(PlacementServiceServicer):
    """Answers as a server would; a test changes what it says."""

    def __init__(self) -> None:
        self.description = pb.DescribeResponse(
            server_version=__version__,
            algorithm="packer/1",
            rebalance_algorithm="search/1",
            solvers=[pb.Solver(name="cpu", device="cpu")],
            limits=pb.Limits(max_rows=1024, max_items=4096, max_item_steps=1 << 30, max_message_bytes=1 << 26),
        )
        self.execution = pb.Execution(solver="cpu", device="cpu", solve_seconds=0.001)
        self.first_solve_seconds = 0.001
        self.denies = False
        """Describe to everyone."""
        self.pack_index = np.tile(np.arange(64) % 8, (8, 1)).astype(np.int16)

    def Describe(self, _request: Any, context: Any) -> pb.DescribeResponse:  # noqa: N802  # the contract's name
        if self.denies:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "packer may not call Describe")
        return self.description

    def Pack(self, _request: Any, _context: Any) -> pb.PackResponse:  # noqa: N802
        index = wire.encode(self.pack_index)
        answer = pb.PackResponse(packing=pb.Packing(pack_index=index, rank_in_pack=index), execution=self.execution)
        answer.execution.solve_seconds, self.first_solve_seconds = (
            self.first_solve_seconds,
            self.execution.solve_seconds,
        )
        return answer


@contextmanager
def standing(
    stand: Stand | None, credentials: grpc.ServerCredentials | None = None, ready: int | None = None, alive: int = 1
) -> Iterator[str]:
    """The address of a gRPC server in this process; without a stand it has another service, without ready no health."""
    server = grpc.server(ThreadPoolExecutor(2))
    if stand is not None:
        add_PlacementServiceServicer_to_server(stand, server)
    if ready is not None:
        servicer = health.HealthServicer()
        servicer.set("", alive)
        servicer.set("trimtab.v1.PlacementService", ready)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    add = server.add_insecure_port if credentials is None else lambda at: server.add_secure_port(at, credentials)
    port = add("127.0.0.1:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None)


@contextmanager
def answering_http(status: int, body: str, ahead: float | None) -> Iterator[str]:
    """The URL of an HTTP server that always says so, its clock so many seconds ahead of ours; None: it has none."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base's name
            self.send_response_only(status)
            if ahead is not None:
                self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
            self.end_headers()
            self.wfile.write(body.encode())

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of tests are slow at times, which is not what is looked for; calls that fail are not tried again."""
    monkeypatch.setattr(channel, "SERVICE_CONFIG", "{}")
    monkeypatch.setattr(doctor_target, "CONNECT_SECONDS", 20.0)
    for name in ("_FAR_SECONDS", "_WAIT_SECONDS", "_COMPILED_SECONDS"):
        monkeypatch.setattr(doctor_service, name, 60.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates, tokens and the callers file lie."""
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    """An authority, with files for who trusts it and for its clients."""
    certificates, strange = Certificates(folder), trustme.CA()
    (folder / "ca.pem").write_bytes(certificates.trusted)
    (folder / "strange.pem").write_bytes(strange.cert_pem.bytes())
    old = certificates.ca.issue_cert("old@example.org", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=9))
    for name, leaf in (
        ("mine", certificates.ca.issue_cert("else@example.org", common_name="controller")),
        ("old", old),
        ("other", strange.issue_cert("else@example.org")),
    ):
        (folder / f"{name}.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
        (folder / f"{name}.key").write_bytes(leaf.private_key_pem.bytes())
        (folder / f"{name}.key").chmod(0o600)
    (folder / "callers").write_text(f"ops {digest(TOKEN)} *\nviewer {digest(OTHER_TOKEN)} Describe\n")
    for name, content in (("token", TOKEN), ("viewer", OTHER_TOKEN), ("unknown", "unknown"), ("words", "two words")):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    return certificates


@pytest.fixture(scope="module")
def secure(folder: Path, certificates: Certificates) -> Iterator[str]:
    """The address of a server with TLS and a callers file, also for health."""
    with running_server(*certificates.flags, f"--callers-file={folder / 'callers'}", "--no-open-health") as process:
        yield process.listen.replace("127.0.0.1", "localhost")


def test_all_is_well(server: ServerProcess) -> None:
    """A line a check, each with what was found, and a closing line."""
    text = ok("doctor", "--target", server.listen, "--http", f"http://{server.metrics}")
    *lines, empty, closing = text.splitlines()
    assert (empty, closing) == ("", f"{server.listen}: all is well")
    for line, pattern in zip(
        lines,
        (
            rf"trimtab +{re.escape(__version__)} on Python 3\.\d+\.\d+",
            r"libraries +.*grpcio \d.*numpy \d.*protobuf \d.*",
            r"extras +whole: cli, server.*",
            r"proxy +none in the environment .*",
            rf"port +{server.listen} is open, connected in [\d.]+ ms",
            r"tls +none on either side",
            rf"describe +trimtab {re.escape(__version__)}, solver cpu on cpu",
            r"version +the server's is .*",
            r"algorithms +restart-packer/\d+ to pack, placement-search/\d+ to rebalance",
            r"limits +large enough for 61 layers, .*",
            r"health +alive and ready",
            r"latency +\d+ calls took [\d.]+ ms in the middle, [\d.]+ ms at worst",
            r"solver +cpu on cpu packed 8 layers of 64 items in [\d.]+ ms",
            r"queue +a call waited [\d.]+ ms for the solver",
            rf"ready +http://{server.metrics}/readyz says ready",
            r"clock +the server's and ours agree to \d+ s",
        ),
        strict=True,
    ):
        assert re.fullmatch(f"ok       {pattern}", line), line


def test_all_is_well_over_tls(secure: str, folder: Path) -> None:
    """With an authority's file and a token; figures are there for scripts."""
    code, found = doctor(secure, "--ca", folder / "ca.pem", "--token-file", folder / "token")
    assert (code, not_ok(found)) == (0, {})
    assert found["server name"]["found"] == "the certificate is for localhost"
    assert found["authority"]["found"] == f"{folder / 'ca.pem'} vouches for it"
    assert "for localhost, 127.0.0.1, issued by trustme" in found["certificate"]["found"]
    assert found["certificate"]["days_left"] > 300_000
    assert 0 < found["latency"]["median_seconds"] <= found["latency"]["worst_seconds"]


def test_the_solver_of_this_process_is_well() -> None:
    """No server, and nothing of networks."""
    code, found = doctor("local")
    assert (code, not_ok(found)) == (0, {})
    assert list(found) == ["trimtab", "libraries", "extras", "describe", "version", "algorithms", "limits", "solver"]


def test_the_server_s_parts_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "trimtab_server.local", None)
    code, found = doctor("local")
    assert (code, not_ok(found)) == (4, {"options": "wrong"})
    assert "pip install 'trimtab[server]'" in words(found["options"])


def test_nobody_is_there() -> None:
    """What can be said without a server is said all the same; people are told in lines."""
    result = run("doctor", "--target", NOBODY)
    assert result.exit_code == 4
    port, service, clock, _, closing = result.stdout.splitlines()[-5:]
    advice = "nothing listens there: start it with 'trimtab-server', or check the port"
    assert port == f"wrong    port         {NOBODY}: refused; {advice}"
    assert service == "skipped  service      no way leads there, as told above"
    assert clock.startswith("skipped  clock        gRPC tells no time; --http http://HOST:9095 compares")
    assert closing == f"{NOBODY}: 1 wrong, 0 warnings"


def test_tls_is_asked_of_a_server_without(server: ServerProcess, folder: Path) -> None:
    """Nothing is called then."""
    code, found = doctor(server.listen, "--ca", folder / "ca.pem")
    assert (code, not_ok(found)) == (4, {"tls": "wrong", "service": "skipped"})
    assert "does not speak TLS, and you ask for it; leave out --tls, --ca" in words(found["tls"])


@pytest.mark.parametrize(
    ("options", "states", "said"),  # said of the first
    [
        ((), {"tls": "wrong", "service": "skipped"}, "speaks TLS, and you do not; add --ca FILE"),
        (
            ("--tls",),
            {"authority": "wrong", "describe": "wrong"},
            "gRPC's list of public authorities does not vouch for it (unable to get local issuer certificate); name a",
        ),
        (("--ca", "strange.pem"), {"authority": "wrong", "describe": "wrong"}, "strange.pem does not vou"),
        (("--ca", "absent"), {"authority": "wrong", "options": "wrong"}, "can't be read: No such file"),
        (("--ca", "token"), {"authority": "wrong", "options": "wrong"}, "it holds no certificates"),
        (
            ("--ca", "ca.pem", "--server-name", "=else"),
            {"server name": "wrong", "describe": "wrong"},
            "the certificate is not for else, but for localhost, 127.0.0.1; call it by one of those, or",
        ),
        (
            ("--ca", "ca.pem"),
            {"describe": "wrong", "health": "warning"},
            "does not know you (who calls? Send metadata 'authorization: Bearer TOKEN' or a client certificate); give",
        ),
        (("--ca", "ca.pem"), {"health": "warning", "describe": "wrong"}, "closed to you (UNAUTHENTICATED)"),
        (
            ("--ca", "ca.pem", "--token-file", "unknown"),
            {"describe": "wrong", "health": "warning"},
            "the token is not one of those",
        ),
        (
            ("--ca", "ca.pem", "--token-file", "viewer"),
            {"solver": "warning"},
            "viewer may not call Pack: the server's callers file says what it may); ask those who run it",
        ),
        (("--ca", "ca.pem", "--token-file", "words"), {"token": "wrong", "describe": "wrong"}, "printable"),
    ],
)
def test_what_is_wrong_with_a_secure_call_is_found(
    secure: str, folder: Path, options: tuple[str, ...], states: dict[str, str], said: str
) -> None:
    """And nothing else; exit code 4 where it is not a warning."""
    given = [each.removeprefix("=") if each[0] in "-=" else folder / each for each in options]
    code, found = doctor(secure, *given)
    assert not_ok(found) == states
    assert code == (4 if "wrong" in states.values() else 0)
    assert said in words(found[next(iter(states))])
    assert TOKEN not in json.dumps(found)


def test_a_call_that_fails_points_to_the_reason(secure: str, folder: Path) -> None:
    """GRPC's own words for it would lead elsewhere."""
    result = run("doctor", "--target", secure, "--ca", folder / "strange.pem")
    assert re.search(r"^wrong    describe .*; the reason should stand above$", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("2 wrong, 0 warnings: begin with authority, which may be the cause of the rest\n")


@pytest.mark.parametrize(
    ("begin", "end", "state", "said"),
    [
        (LONG_AGO, LONG_AGO + timedelta(days=30), "wrong", "was valid until 2020-01-31 00:00 UTC: expired; renew it"),
        (NOW + timedelta(days=9), NOW + timedelta(days=99), "wrong", "is not valid before"),
        (LONG_AGO, NOW + timedelta(days=5.5), "warning", ": 5.5 days are left; renew it"),
        (LONG_AGO, NOW + timedelta(days=14.1), "ok", "valid until"),
    ],
)
def test_certificates_have_their_time(
    certificates: Certificates, begin: datetime, end: datetime, state: str, said: str
) -> None:
    """What gRPC says of them agrees; a wrong clock is thought of."""
    leaf = certificates.ca.issue_cert("localhost", not_before=begin, not_after=end)
    shown = grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())])
    with standing(Stand(), shown, ready=1) as target:
        _, found = doctor(target, "--ca", certificates.folder / "ca.pem")
    expected = {"ok": {}, "warning": {"certificate": "warning"}}
    assert not_ok(found) == expected.get(state, {"certificate": "wrong", "describe": "wrong"})
    assert said in words(found["certificate"])
    assert ("clock" in words(found["certificate"])) is (state == "wrong")


@pytest.mark.parametrize(
    ("cert", "key", "states", "said"),
    [
        ("mine", "mine", {}, "controller for else@example.org, issued by trustme"),
        (None, None, {"tls": "wrong", "service": "skipped"}, ""),
        ("other", "other", {"tls": "wrong", "service": "skipped"}, "issued by trustme"),
        ("old", "old", {"your cert": "wrong", "tls": "wrong", "service": "skipped"}, "expired; write a new one to"),
        ("mine", None, {"your cert": "wrong", "tls": "wrong", "service": "skipped"}, "give both"),
        ("mine", "other", {"your cert": "wrong", "tls": "wrong", "service": "skipped"}, "is not the key of the cert"),
        ("mine", "absent", {"your cert": "wrong", "tls": "wrong", "service": "skipped"}, "can't be read: No such file"),
    ],
)
def test_mutual_tls_wants_a_certificate_of_ours(
    certificates: Certificates, cert: str | None, key: str | None, states: dict[str, str], said: str
) -> None:
    """One that the server's authority signed, within its time, with its key."""
    folder = certificates.folder
    chain = (folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes()
    wanting = grpc.ssl_server_credentials([chain], certificates.trusted, require_client_auth=True)
    own = [*(["--cert", folder / f"{cert}.pem"] if cert else []), *(["--key", folder / f"{key}.key"] if key else [])]
    with standing(Stand(), wanting, ready=1) as target:
        _, found = doctor(target, "--ca", folder / "ca.pem", *own)
    assert not_ok(found) == states
    assert said in words(found["your cert"]) if cert else "your cert" not in found
    shown = cert is not None and (cert == key)
    assert not states or ("does not take your certificate" in words(found["tls"])) is shown


def test_files_of_our_own_are_looked_at(folder: Path, certificates: Certificates, tmp_path: Path) -> None:
    """What others can read, what an encrypted key needs, what certifies servers alone."""
    encrypted, text, server_pem, server_key = (tmp_path / name for name in ("a.key", "text", "b.pem", "b.key"))
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415  # for this alone

    key = form.load_pem_private_key((folder / "mine.key").read_bytes(), None)
    encryption = form.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption))
    text.write_text("no certificate")
    for cert, own_key, said in (
        (folder / "mine.pem", encrypted, "is encrypted, which gRPC can't read; openssl pkey -in"),
        (text, folder / "mine.key", "both must be in PEM form"),
    ):
        finding, *_ = check_credentials("h:1", {**NOTHING, "cert": cert, "key": own_key}, None)
        assert finding.state == "wrong"
        assert said in words(finding)
    leaf = certificates.ca.issue_cert("else@example.org")
    server_pem.write_bytes(leaf.cert_chain_pems[0].bytes())
    server_key.write_bytes(leaf.private_key_pem.bytes())
    server_key.chmod(0o640)
    finding, opened = check_credentials("h:1", {**NOTHING, "cert": server_pem, "key": server_key}, None)
    assert (finding.state, opened.state) == ("ok", "warning")
    assert words(opened) == f"{server_key} can be read by others than its owner (mode 0640); chmod 600 {server_key}"


def test_a_token_is_looked_at(tmp_path: Path) -> None:
    """Who can read it, and whether others could on its way."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o604)
    secure = {**NOTHING, "token": lambda: TOKEN}
    (opened,) = check_credentials("localhost:1", secure, file)
    assert (opened.state, opened.advice) == ("warning", f"chmod 600 {file}")
    (clear,) = check_credentials("placement:1", secure, file)
    assert clear.state == "wrong"
    assert "over TLS or to this machine alone" in clear.found
    file.chmod(0o400)
    (kept,) = check_credentials("placement:1", {**secure, "tls": True}, file)
    assert kept.state == "ok"


def test_another_service_is_told_apart() -> None:
    """A gRPC server, but not ours; nothing more is asked of it."""
    with standing(None) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (4, {"describe": "wrong"})
    assert "answers, but not as a placement server (UNIMPLEMENTED" in words(found["describe"])
    assert "health" not in found


@pytest.mark.parametrize(
    ("change", "check", "state", "said"),
    [
        (
            {"server_version": "0.0.9"},
            "version",
            "warning",
            "the server ignores options that it does not know yet",
        ),
        ({"server_version": "0.99.1"}, "version", "ok", "what is new there, this client can't ask for"),
        ({"server_version": "7.0.0"}, "version", "wrong", "install those of one version"),
        ({"server_version": "\x1b[31mnew"}, "version", "warning", "?[31mnew, the client's"),
        (
            {"rebalance_algorithm": ""},
            "algorithms",
            "warning",
            "packer/1 to pack, none to rebalance; this server can't",
        ),
        (
            {"limits": pb.Limits(max_message_bytes=2_000_000, max_rows=60, max_items=288, max_item_steps=2_529_791)},
            "limits",
            "warning",
            (
                "would have to be 2,389,248, max_rows is 60 and would have to be 61, max_item_steps is 2,529,791"
                " and would have to be 2,529,792; where you need that, start the server with --max-message-bytes,"
                " --max-rows, --max-item-steps as large"
            ),
        ),
    ],
)
def test_servers_that_are_not_like_this_client(change: dict[str, Any], check: str, state: str, said: str) -> None:
    """Older, newer, and those that take less; what they say of themselves can't harm a terminal."""
    stand = Stand()
    for field, value in change.items():
        stand.description.ClearField(field)
        stand.description.MergeFrom(pb.DescribeResponse(**{field: value}))
    with standing(stand, ready=1) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (4 if state == "wrong" else 0, {} if state == "ok" else {check: state})
    assert said in words(found[check])


@pytest.mark.parametrize(
    ("change", "check", "state", "said"),
    [
        ({"solver": "torch"}, "solver", "warning", "torch on cpu, the reference, packed 8 layers"),
        ({"queue_seconds": 61.5}, "queue", "warning", "a call waited 61500.0 ms for the solver; work piles up"),
    ],
)
def test_solvers_that_could_do_better(change: dict[str, Any], check: str, state: str, said: str) -> None:
    """By what their answers tell."""
    stand = Stand()
    stand.execution.MergeFrom(pb.Execution(**change))
    with standing(stand, ready=1) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (0, {check: state})
    assert said in words(found[check])


def test_a_first_call_that_compiles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slow once; and a server that is far away always."""
    monkeypatch.setattr(doctor_service, "_FAR_SECONDS", 0.0)
    stand = Stand()
    stand.first_solve_seconds = 61.5
    with standing(stand, ready=1) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (0, {"solver": "warning", "latency": "warning"})
    assert "but took 61.5 s the first time, as it compiled; it will be kept" in words(found["solver"])
    assert (found["solver"]["first_solve_seconds"], found["solver"]["solve_seconds"]) == (61.5, 0.001)
    assert "every call takes that much" in words(found["latency"])


def test_a_caller_that_may_only_pack_is_told_so() -> None:
    """What it may do is looked at all the same."""
    stand = Stand()
    stand.denies = True
    with standing(stand, ready=1) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (4, {"describe": "wrong"})
    assert {"health", "solver", "queue"} <= set(found)


def test_an_uneven_packing_is_noticed() -> None:
    """A solver that answers may still be broken."""
    stand = Stand()
    stand.pack_index[3, 0] += 1
    with standing(stand, ready=1) as target:
        code, found = doctor(target)
    assert (code, not_ok(found)) == (4, {"solver": "wrong"})
    assert "uneven packs; take this server out" in words(found["solver"])


@pytest.mark.parametrize(
    ("ready", "alive", "state", "said"),
    [
        (NOT_SERVING, 1, "wrong", "trimtab.v1.PlacementService is NOT_SERVING; it warms up"),
        (NOT_SERVING, NOT_SERVING, "wrong", "as a whole it says NOT_SERVING: its solver is stuck; have it started"),
        (None, 1, "warning", "no answer (UNIMPLEMENTED: "),
    ],
)
def test_a_server_that_is_not_ready_is_told(ready: int | None, alive: int, state: str, said: str) -> None:
    """By the contract that probes use; some servers have none."""
    with standing(Stand(), ready=ready, alive=alive) as target:
        _, found = doctor(target)
    assert not_ok(found) == {"health": state}
    assert said in words(found["health"])


def test_a_silent_place_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing: it may be plaintext, and whether it is ours, a call tells."""
    monkeypatch.setattr(doctor_target, "CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        code, found = doctor(target, "--timeout", 0.3)
        assert (code, not_ok(found)) == (4, {"tls": "skipped", "describe": "wrong"})
        assert "give it more with --timeout" in words(found["describe"])
        code, found = doctor(target, "--tls")
        assert (code, not_ok(found)) == (4, {"tls": "wrong", "service": "skipped"})
        assert "does not finish a handshake (no answer)" in words(found["tls"])


@pytest.mark.parametrize(
    ("status", "body", "seconds", "states", "said"),
    [
        (200, "ready", 0, {}, "agree to"),
        (200, "ready", 3600, {"clock": "warning"}, "s ahead of ours; set both by NTP"),
        (200, "ready", -3600, {"clock": "warning"}, "s behind ours; set both by NTP"),
        (200, "ready", None, {"clock": "skipped"}, "the answer has no date"),
        (503, "not ready", 0, {"ready": "wrong"}, "agree to"),
        (404, "who?", 0, {"ready": "wrong"}, "agree to"),
    ],
)
def test_the_clock_of_the_http_port_is_compared(
    status: int, body: str, seconds: int | None, states: dict[str, str], said: str
) -> None:
    """It is the one thing that tells the server's time; and there is what probes get."""
    with answering_http(status, body, seconds) as url:
        _, found = doctor(NOBODY, "--http", url)
    assert {name: found[name]["state"] for name in ("ready", "clock")} == {"ready": "ok", "clock": "ok", **states}
    assert said in words(found["clock"])
    if seconds:
        assert abs(found["clock"]["seconds_apart"] - 3600) < 60


def test_an_http_port_that_is_none_is_told(server: ServerProcess) -> None:
    """One that speaks something else, and one that is not there."""
    for address, said in ((server.listen, "it does not speak HTTP"), (NOBODY, "Connection refused")):
        _, found = doctor(NOBODY, "--http", f"http://{address}/")
        assert f"no answer from http://{address}/readyz (" in words(found["ready"])
        assert said in words(found["ready"])


@pytest.mark.parametrize("value", ["HOST:9095", "https://h:1", "http://h", "http://h:x", "http://h:1/readyz"])
def test_an_address_that_is_no_http_port_is_refused(value: str) -> None:
    """As wrong usage, before anything is looked at."""
    assert "must be http://HOST:PORT, as http://HOST:9095, got" in failed(run("doctor", "--http", value), 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:1", Target("h:1", (("h", "1"),))),
        ("[::1]:2", Target("[::1]:2", (("::1", "2"),))),
        ("dns:///h:1", Target("dns:///h:1", (("h", "1"),))),
        ("dns:///h", Target("dns:///h", (("h", "443"),))),
        ("ipv4:1.2.3.4:5,6.7.8.9:10", Target("ipv4:1.2.3.4:5,6.7.8.9:10", (("1.2.3.4", "5"), ("6.7.8.9", "10")))),
        ("ipv6:[::1]:5", Target("ipv6:[::1]:5", (("::1", "5"),))),
        ("unix:/run/t", Target("unix:/run/t", (), "/run/t")),
        ("unix:///run/t", Target("unix:///run/t", (), "/run/t")),
        ("unix-abstract:t", Target("unix-abstract:t", (), "\0t")),
        ("dns://1.1.1.1/h:1", Target("dns://1.1.1.1/h:1", ())),
        ("xds:///h:1", Target("xds:///h:1", ())),
    ],
)
def test_targets_are_read_as_grpc_reads_them(text: str, expected: Target) -> None:
    """What it alone can look up is left to it."""
    assert read_target(text) == expected
    assert (expected.name is None) is (len(expected.places) != 1 and expected.path is None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "not known"), "h: not known; check how it is spelled"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "the name server does not answer"),
        (socket.gaierror(socket.EAI_SERVICE, "no port"), "the port must be a number"),
        (UnicodeError("label too long"), "h can't be the name of a machine"),
    ],
)
def test_names_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    """By why they are not found."""

    def look_up(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    code, found = doctor("h:1")
    assert (code, not_ok(found)) == (4, {"name": "wrong", "service": "skipped"})
    assert said in words(found["name"])


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> None:
    """One that does not answer is told, and the others are used."""
    host, port = server.listen.split(":")
    there, gone = Address(socket.AF_INET, (host, int(port))), Address(socket.AF_INET, ("10.9.8.7", 1))
    connect = Address.connect

    def connect_here(address: Address) -> socket.socket:
        if address == gone:
            raise OSError(errno.EHOSTUNREACH, "No route")
        return connect(address)

    monkeypatch.setattr(Address, "connect", connect_here)
    finding, answered = check_port([gone, there])
    assert (finding.state, answered) == ("warning", [there])
    assert re.fullmatch(rf"{server.listen} is open, connected in [\d.]+ ms; 10\.9\.8\.7:1: no way", finding.found)
    entries = [(address.family, socket.SOCK_STREAM, 6, "", address.where) for address in (gone, there)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries * 2)
    (named,) = doctor_target.check_name(read_target("placement:1"), _addresses("placement:1"))
    assert named.found == (
        f"placement has 2 addresses: 10.9.8.7:1, {server.listen}; calls are spread over those that answer"
    )


def _addresses(text: str) -> list[Address]:
    found = resolve(read_target(text))
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "no answer; a firewall"),
        (OSError(errno.ECONNREFUSED, "x"), "refused; nothing listens there: start the server, check the port, and see"),
        (OSError(errno.ENETUNREACH, "x"), "no way; there is no route"),
        (OSError(errno.EPERM, "x"), "not allowed; this user"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; check --target"),
    ],
)
def test_why_nothing_answers_is_told(monkeypatch: pytest.MonkeyPatch, error: OSError, said: str) -> None:
    """With what to do about each."""

    def connect(_: Address) -> socket.socket:
        raise error

    monkeypatch.setattr(Address, "connect", connect)
    finding, answered = check_port([Address(socket.AF_INET, ("10.9.8.7", 1))])
    assert answered == []
    assert words(finding).startswith(f"10.9.8.7:1: {said}")


def test_a_socket_file_that_is_not_there(tmp_path: Path) -> None:
    """A path is a target too."""
    code, found = doctor(f"unix:{tmp_path / 'none'}")
    assert (code, not_ok(found)) == (4, {"port": "wrong", "service": "skipped"})
    assert "no such file; the server listens elsewhere" in words(found["port"])


DEAD = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("variables", "goes_by"),
    [
        ({}, ""),
        ({"http_proxy": DEAD}, "http_proxy"),
        ({"https_proxy": DEAD}, "https_proxy"),
        ({"grpc_proxy": DEAD, "http_proxy": "http://127.0.0.2:1"}, "grpc_proxy"),
        ({"grpc_proxy": "", "http_proxy": DEAD}, ""),
        ({"HTTP_PROXY": DEAD}, ""),
        ({"http_proxy": "https://127.0.0.1:1"}, ""),
        ({"all_proxy": DEAD}, ""),
        ({"http_proxy": DEAD, "no_proxy": "example.org, 127.0.0.1"}, ""),
        ({"http_proxy": DEAD, "no_proxy": "10.0.0.0/8,127.0.0.0/8"}, ""),
        ({"http_proxy": DEAD, "no_proxy": "*"}, "http_proxy"),
        ({"http_proxy": DEAD, "no_proxy": "127.0.0.1", "no_grpc_proxy": "else"}, "http_proxy"),
        ({"http_proxy": DEAD, "NO_PROXY": "127.0.0.1"}, "http_proxy"),
    ],
)
def test_proxies_are_read_as_grpc_reads_them(
    monkeypatch: pytest.MonkeyPatch, server: ServerProcess, variables: dict[str, str], goes_by: str
) -> None:
    """GRPC itself is asked: a call gets through where no proxy is said to be in its way."""
    for name in ("grpc", "https", "http", "all", "no", "no_grpc"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    finding = check_proxy(["127.0.0.1"], is_direct=False)
    with grpc.insecure_channel(server.listen) as channel:
        call = PlacementServiceStub(channel).Describe.with_call
        if not goes_by:
            call(pb.DescribeRequest(), timeout=10)
            assert finding.state == "ok"
            return
        with pytest.raises(grpc.RpcError) as caught:
            call(pb.DescribeRequest(), timeout=10)
    assert "127.0.0.1:1: " in str(caught.value)
    assert words(finding) == (
        f"calls to 127.0.0.1 go by the proxy 127.0.0.1:1 of {goes_by}, the checks of port and TLS do not; where that is"
        " not meant: export no_grpc_proxy=127.0.0.1"
    )
    assert check_proxy(["127.0.0.1"], is_direct=True).state == "ok"


def test_a_proxy_may_know_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where calls go by one, nothing is settled by a port that is closed to us."""
    monkeypatch.delenv("grpc_proxy", raising=False)
    monkeypatch.setenv("https_proxy", DEAD)
    monkeypatch.setenv("no_grpc_proxy", "")
    _, found = doctor(NOBODY)
    assert not_ok(found) == {"proxy": "warning", "port": "wrong", "describe": "wrong"}
    assert found["describe"]["advice"] == "the reason should stand above"


@pytest.mark.parametrize(
    ("version", "rules", "is_fit"),
    [
        ("1.62.0", ">=1.62,<2", True),
        ("1.61.9", ">=1.62,<2", False),
        ("2.0.0", "<2,>=1.62", False),
        ("2.13.0+cpu", ">=2.11,<3", True),
        ("10.0", ">=9", True),
        ("1", ">=1.0", True),
        ("3.0rc1", "<3", False),
        ("1.5", "!=1.5", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, rules: str, is_fit: bool) -> None:
    """As numbers and not as text."""
    assert fits(version, rules) is is_fit


def test_what_the_package_needs_is_understood() -> None:
    """Every rule in it, so that none is passed over; and all of them hold here."""
    needed = requirements()
    assert needed is not None
    assert {"numpy", "grpcio", "protobuf"} <= {each.name for each in needed if each.extra is None}
    assert {each.extra for each in needed} == {None, "cli", "server", "cuda", "otel"}
    for each in needed:
        assert all(doctor_client._RULE.fullmatch(rule) for rule in each.rules.split(",")), each
        assert each.fits or each.version is None, each


def test_what_is_not_installed_as_needed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries must fit; an extra that is not whole is for who needs it."""
    installed = {"protobuf": "3.20.1", "click": "7.0"}
    absent = {"torch", "triton"}
    version: Callable[[str], str] = metadata.version

    def pretend(name: str) -> str:
        if name in absent:
            raise metadata.PackageNotFoundError(name)
        return installed.get(name) or version(name)

    monkeypatch.setattr(metadata, "version", pretend)
    _, libraries, extras = check_client()
    assert (libraries.state, extras.state) == ("wrong", "warning")
    assert "protobuf 3.20.1; pip install 'protobuf<8,>=4.25'" in words(libraries)
    assert "server (--target local, .pt files and trimtab-server; torch missing)" in extras.found
    assert "cuda (packing on GPUs by Triton; triton missing)" in extras.found
    assert words(extras).endswith("of a version that is not meant: click 7.0; pip install 'click<9,>=8.1'")

    def not_installed(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    assert [finding.state for finding in check_client()] == ["ok", "skipped"]


def test_help_says_what_each_exit_code_means() -> None:
    """Scripts go by it."""
    text = " ".join(ok("doctor", "--help").split())
    assert "Exit codes: 0 nothing is wrong, though there may be warnings; 2 wrong usage; 4 something is wrong." in text


def test_a_list_of_addresses_goes_by_a_name_that_is_given(secure: str, folder: Path) -> None:
    """Else there is none that a certificate could have."""
    address = secure.replace("localhost", "127.0.0.1")
    options = ("--ca", folder / "ca.pem", "--token-file", folder / "token")
    _, found = doctor(f"ipv4:{address},{address}", *options)
    assert not_ok(found) == {"server name": "wrong", "describe": "wrong"}
    assert "say one of the certificate's by --server-name: localhost, 127.0.0.1" in words(found["server name"])
    assert doctor(f"ipv4:{address},{address}", *options, "--server-name", "localhost")[0] == 0


def test_a_client_that_trusts_public_authorities_is_told_when_that_is_enough(
    secure: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPC takes another list from the environment."""
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(folder / "ca.pem"))
    _, found = doctor(secure)
    assert found["tls"]["advice"] == "add --tls"


def test_a_server_of_tls_without_http2_is_told(folder: Path, certificates: Certificates) -> None:
    """GRPC would hang up on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.ca.issue_cert("localhost").configure_cert(context)

    class Greeting(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"hello")

    class Server(HTTPServer):
        def get_request(self) -> Any:
            connection, address = super().get_request()
            return context.wrap_socket(connection, server_side=True), address

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Greeting) as server:
        Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        _, found = doctor(f"localhost:{server.server_port}", "--ca", folder / "ca.pem")
        server.shutdown()
    assert not_ok(found) == {"tls": "wrong", "service": "skipped"}
    assert "does not offer HTTP/2 by ALPN" in words(found["tls"])
