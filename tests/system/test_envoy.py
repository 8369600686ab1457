"""Envoy before real servers, as `deploy/envoy` has it: who is let in, under which name, and with how much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.secure import Certificates, bearer, digest, refusal
from tests.system.envoy import (
    LARGE,
    PACK,
    behind_envoy,
    channel_to,
    configured,
    eventually,
    handled,
    more,
    pack,
    running_envoy,
    servers,
    shown,
    under_load,
)
from tests.system.tools import run, said


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What Envoy shows, and whom it trusts, in the folder that its files are in."""
    return shown(Certificates(tmp_path))


def test_the_configuration_is_valid(certificates: Certificates) -> None:
    """Envoy takes the files, and finds nothing in them that it will drop in a later version."""
    configured(certificates.folder, ["127.0.0.1:1"])
    checked = run("envoy", "--mode", "validate", "-c", certificates.folder / "envoy.yaml")
    assert checked.returncode == 0, said(checked)
    assert "Deprecated" not in checked.stderr


async def test_calls_are_answered_by_all_servers(certificates: Certificates) -> None:
    """Four servers share the calls of eight callers, and each answer is that of a server alone."""
    with behind_envoy(certificates.folder, 4) as (envoy, running):
        async with channel_to(envoy.h2c) as channel, channel_to(running[0].listen) as direct:
            alone = await pack(direct)
            answers = await asyncio.gather(*(pack(channel) for _ in range(8)))
            assert set(answers) == {alone}
            assert await pack(channel, LARGE) == await pack(direct, LARGE)
        before = [handled(server) for server in running]
        async with under_load(envoy.h2c, *[PACK] * 8) as ends:
            await more(ends, 200)
        shares = [handled(server) - count for server, count in zip(running, before, strict=True)]
        assert ends.keys() == {"answered"}
        assert min(shares) > sum(shares) / 8, shares


@pytest.mark.parametrize(
    ("certified", "name"),
    [("controller", "controller"), ("san:controller.example.org", "controller.example.org")],
)
async def test_the_caller_is_the_name_of_its_certificate(certificates: Certificates, certified: str, name: str) -> None:
    """Through Envoy and without it a server knows a client by the same name, whatever the client says of itself."""
    claim = (("x-trimtab-caller", "somebody-else"), ("x-forwarded-client-cert", "Subject=somebody-else"))
    pems = certificates.for_client(certified)
    credentials = grpc.ssl_channel_credentials(certificates.trusted, pems["key"], pems["cert"])
    mutual = [*certificates.flags, f"--tls-client-ca={certificates.folder / 'ca.crt'}"]
    with behind_envoy(certificates.folder, 1) as (envoy, (behind,)), servers(1, *mutual) as (direct,):
        for server, target in ((behind, envoy.mtls), (direct, direct.listen)):
            async with channel_to(target, credentials) as channel:
                assert await pack(channel, metadata=claim)
            assert (await asyncio.to_thread(server.wait_for, event="call"))["caller"] == name


async def test_an_unproved_name_goes_no_further(certificates: Certificates) -> None:
    """Where no certificate is shown, a caller is its address."""
    with behind_envoy(certificates.folder, 1) as (envoy, (server,)):
        async with channel_to(envoy.h2c) as channel:
            await pack(channel, metadata=(("x-trimtab-caller", "controller"), ("x-request-id", "id-77")))
        call = await asyncio.to_thread(server.wait_for, event="call")
        assert (call["caller"], call["request_id"]) == ("127.0.0.1", "id-77")
        await eventually(lambda: bool(envoy.access_log))
        (line,) = envoy.access_log
        assert (line["caller"], line["request_id"], line["code"]) == ("127.0.0.1", "id-77", "OK")
        assert line["server"] == server.listen


async def test_strangers_are_not_let_in(certificates: Certificates, tmp_path_factory: Any) -> None:
    """Without a certificate, or with that of another authority, no call reaches a server."""
    others = Certificates(tmp_path_factory.mktemp("others")).for_client("controller")
    with behind_envoy(certificates.folder, 1) as (envoy, (server,)):
        for pems in ((), (others["key"], others["cert"])):
            credentials = grpc.ssl_channel_credentials(certificates.trusted, *pems)
            async with channel_to(envoy.mtls, credentials) as channel:
                assert (await refusal(pack(channel)))[0] == "UNAVAILABLE"
        assert not [line for line in server.log if line["event"] == "call"]


async def test_a_new_certificate_is_shown_without_a_restart(certificates: Certificates) -> None:
    """When the files of another authority replace those that are there, its clients are let in and others are not."""
    with behind_envoy(certificates.folder, 1) as (envoy, _):

        async def is_let_in(trusted: bytes, pems: dict[str, bytes]) -> bool:
            credentials = grpc.ssl_channel_credentials(trusted, pems["key"], pems["cert"])
            async with channel_to(envoy.mtls, credentials) as channel:
                try:
                    return bool(await pack(channel))
                except grpc.aio.AioRpcError:
                    return False

        old = (certificates.trusted, certificates.for_client("controller"))
        assert await is_let_in(*old)
        certificates.replace_authority()
        shown(certificates)
        new = (certificates.trusted, certificates.for_client("controller"))
        for _ in range(300):
            if await is_let_in(*new):
                break
            await asyncio.sleep(0.1)
        assert await is_let_in(*new)
        assert not await is_let_in(*old)


async def test_tokens_pass_to_servers_under_tls(certificates: Certificates) -> None:
    """Servers under mutual TLS are shown Envoy's certificate, and know callers by their tokens alone."""
    folder = certificates.folder
    issued = certificates.ca.issue_cert("trimtab", "localhost", "127.0.0.1")
    (folder / "server.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "server.key").write_bytes(issued.private_key_pem.bytes())
    (folder / "callers").write_text(f"controller {digest('secret-token')} *\n")
    asking = (f"--callers-file={folder / 'callers'}", f"--tls-client-ca={folder / 'ca.crt'}")
    with servers(1, *certificates.flags, *asking) as (server,):
        with running_envoy(folder, [server.listen], tls=True) as envoy:
            async with channel_to(envoy.h2c) as channel:
                assert await pack(channel, metadata=bearer("secret-token"))
                assert (await refusal(pack(channel, metadata=bearer("another"))))[0] == "UNAUTHENTICATED"
                assert (await refusal(pack(channel)))[0] == "UNAUTHENTICATED"
    assert {line.get("caller") for line in server.log if line["event"] == "call" and line["code"] == "OK"} == {
        "controller"
    }


async def test_servers_have_to_prove_who_they_are(certificates: Certificates) -> None:
    """Under TLS no server is called whose certificate is for another name."""
    with servers(1, *certificates.flags) as (server,):
        with pytest.raises(AssertionError, match="does not find its servers well"):
            with running_envoy(certificates.folder, [server.listen], tls=True, seconds=5):
                raise NotImplementedError


@pytest.mark.parametrize(
    "headers",
    [[("x-some", "v" * 20_000)], [(f"x-{i}", "v") for i in range(80)]],
    ids=["a long one", "many short ones"],
)
async def test_headers_have_a_limit(certificates: Certificates, headers: Sequence[tuple[str, str]]) -> None:
    """Of their bytes and of their number; no server sees what is beyond, and other calls of the connection go on."""
    with behind_envoy(certificates.folder, 1) as (envoy, (server,)):
        async with channel_to(envoy.h2c) as channel:
            assert await pack(channel, metadata=tuple((name, value[:8_000]) for name, value in headers[:40]))
            assert (await refusal(pack(channel, metadata=tuple(headers))))[0] != "OK"
            assert await pack(channel)
        await eventually(lambda: handled(server) >= 2)  # calls are counted when their answers are on their way
        assert (handled(server), envoy.counted("upstream_rq_total")) == (2, 2)


async def test_callers_do_not_steer_envoy(certificates: Certificates) -> None:
    """Headers by which a stranger would set timeouts and retries count for nothing."""
    steering = (("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-retry-grpc-on", "invalid-argument"))
    with behind_envoy(certificates.folder, 1) as (envoy, (server,)):
        async with channel_to(envoy.h2c) as channel:
            assert await pack(channel, metadata=steering)
            assert (await refusal(pack(channel, b"", metadata=steering)))[0] == "INVALID_ARGUMENT"
        await eventually(lambda: handled(server, "INVALID_ARGUMENT") >= 1)
        assert handled(server, "INVALID_ARGUMENT") == 1
