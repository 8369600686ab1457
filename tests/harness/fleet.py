"""Three real servers on ports of their own, each of which can be killed, stopped, frozen and started again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.identity import Identity
from tests.system.tools import free_port
from trimtab.cli.server_process import ServerProcess, start_server


class Member:
    """One server, through all its lives."""

    def __init__(self, port: int, flags: Sequence[str]) -> None:
        self.port = port
        self.flags = list(flags)
        self.server: ServerProcess | None = None
        self.starts: list[float] = []
        """Seconds that each start took."""

    @property
    def pid(self) -> int:
        """Of its process, which runs."""
        assert self.server is not None  # it was started
        return self.server.process.pid

    async def start(self) -> None:
        """Start, and wait until it serves."""
        begin = time.monotonic()
        self.server = start_server(f"--listen=127.0.0.1:{self.port}", *self.flags)
        self.server.serving = await asyncio.to_thread(self.server.wait_for, event="serving")
        self.starts.append(time.monotonic() - begin)

    async def kill(self) -> None:
        """End it without a word, by SIGKILL."""
        assert self.server is not None  # as above
        self.server.process.kill()
        await asyncio.to_thread(self.server.process.wait)

    async def stop(self) -> int:
        """Ask it to end, by SIGTERM; its exit code."""
        assert self.server is not None  # as above
        return await asyncio.to_thread(self.server.stop)

    async def freeze(self, seconds: float) -> None:
        """Let it stand still, by SIGSTOP."""
        assert self.server is not None  # as above
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.server.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Fleet:
    """Servers that one client knows."""

    members: list[Member]
    identity: Identity

    @property
    def ports(self) -> list[int]:
        """Of all of them."""
        return [member.port for member in self.members]

    @property
    def target(self) -> str:
        """What a client calls to reach all of them."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)


@asynccontextmanager
async def running_fleet(size: int, folder: Path, *flags: str) -> AsyncIterator[Fleet]:
    """So many servers, all of them serving, their certificate in a folder; those that run at the end are ended."""
    identity = Identity(folder)
    members = [Member(free_port(), [*flags, *identity.flags]) for _ in range(size)]
    try:
        await asyncio.gather(*(member.start() for member in members))
        yield Fleet(members, identity)
    finally:
        await asyncio.gather(*(member.stop() for member in members if member.server is not None))
