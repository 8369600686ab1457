"""Servers go, drain, come back and are full behind Envoy, as `deploy/envoy` has it; no call is lost by that."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from tests.gated_server import request
from tests.harness.simulated import simulated_server
from tests.secure import Certificates, refusal
from tests.system.envoy import (
    LARGE,
    PACK,
    SMALL_SECONDS,
    behind_envoy,
    channel_to,
    eventually,
    handled,
    more,
    pack,
    running_envoy,
    servers,
    shown,
    under_load,
)
from tests.system.tools import free_port

LONG = request(np.ones((330, 6)), 3).SerializeToString()  # 17 s, where a row takes 50 ms


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What Envoy shows, and whom it trusts, in the folder that its files are in."""
    return shown(Certificates(tmp_path))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_server_that_goes_loses_no_call(certificates: Certificates, how: signal.Signals) -> None:
    """Killed or frozen in the middle of its calls, one of two servers is put out, and the other answers them."""
    with behind_envoy(certificates.folder, 2) as (envoy, (gone, left)):
        async with under_load(envoy.h2c, *[PACK] * 16, LARGE) as ends:
            gone.process.send_signal(how)
            await eventually(lambda: bool(envoy.servers[gone.listen]))
            before = handled(left)
            await eventually(lambda: handled(left) > before + 100)
        gone.process.kill()
        assert ends.keys() == {"answered"}
        assert envoy.counted("upstream_rq_retry_success") > 0
        assert envoy.servers[left.listen] == set()


async def test_a_server_that_drains_loses_no_call(certificates: Certificates) -> None:
    """SIGTERM puts one of two servers out by its readiness, while it still answers; it ends with status 0."""
    with behind_envoy(certificates.folder, 2, "--drain-pause=5") as (envoy, (gone, _)):
        async with under_load(envoy.h2c, *[PACK] * 16, LARGE) as ends:
            gone.process.terminate()
            await eventually(lambda: "failed_active_health_check" in envoy.servers[gone.listen])
            assert gone.process.poll() is None
            assert await asyncio.to_thread(gone.process.wait, 60) == 0
            await more(ends, 100)
        assert ends.keys() == {"answered"}
        assert envoy.counted("upstream_rq_retry") == 0


async def test_a_server_that_comes_back_is_used_again(certificates: Certificates) -> None:
    """On the same address, once its readiness says so."""
    listen = f"127.0.0.1:{free_port()}"
    with servers(1) as (steady,), simulated_server(SMALL_SECONDS, f"--listen={listen}") as first:
        with running_envoy(certificates.folder, [steady.listen, listen]) as envoy:
            first.process.kill()
            await eventually(lambda: bool(envoy.servers[listen]))
            with simulated_server(SMALL_SECONDS, f"--listen={listen}") as second:
                async with under_load(envoy.h2c, *[PACK] * 4):
                    await eventually(lambda: handled(second) > 10)
                assert envoy.servers[listen] == set()


async def test_connections_that_age_lose_no_call(certificates: Certificates) -> None:
    """Servers that ask for new connections every second are given them, and answer every call."""
    with behind_envoy(certificates.folder, 2, "--max-connection-age=1") as (envoy, _):
        async with under_load(envoy.h2c, *[PACK] * 16, LARGE) as ends:
            await eventually(lambda: envoy.counted("upstream_cx_close_notify") >= 6)
        assert ends.keys() == {"answered"}


async def test_no_server_at_all_is_told_at_once(certificates: Certificates) -> None:
    """When all servers are dead, calls are UNAVAILABLE for the client to try again, and go nowhere."""
    with behind_envoy(certificates.folder, 2) as (envoy, running):
        for server in running:
            server.process.kill()
        await eventually(lambda: all("failed_active_health_check" in why for why in envoy.servers.values()))
        async with channel_to(envoy.h2c) as channel:
            code, words = await refusal(pack(channel))
        assert (code, words) == ("UNAVAILABLE", "no healthy upstream")


async def test_a_full_queue_goes_back_to_the_caller(certificates: Certificates) -> None:
    """It is asked once, and the caller gets the time to come back."""
    with behind_envoy(certificates.folder, 2, "--max-rows=2", "--max-queue-rows=2") as (envoy, running):
        async with channel_to(envoy.h2c) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.gather(*(pack(channel) for _ in range(30)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-retry-pushback-ms" in dict(caught.value.trailing_metadata() or ())
        assert envoy.counted("upstream_rq_retry") == 0
        assert sum(handled(server, "RESOURCE_EXHAUSTED") for server in running) > 0


async def test_deadlines_are_the_callers_own(certificates: Certificates) -> None:
    """A call is given up at its deadline and not before, and such calls put no server out."""
    with behind_envoy(certificates.folder, 2, seconds_per_row=0.05) as (envoy, _):
        async with channel_to(envoy.h2c) as channel:
            longer_than_envoys_default = asyncio.ensure_future(pack(channel, LONG))
            for _ in range(20):
                assert (await refusal(pack(channel, timeout=0.05)))[0] == "DEADLINE_EXCEEDED"
            assert await longer_than_envoys_default
        assert envoy.counted("outlier_detection.ejections_enforced_total") == 0
