"""What tests of access share: certificates, tokens, and a server in the test's own loop."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import trustme

from tests.gated_server import started
from trimtab import wire
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.clock import SystemClock
from trimtab_server.server import Server
from trimtab_server.solvers.cpu_packer import CpuPacker

TOKEN = "3dF7-token-of-ops_Zq"  # noqa: S105  # of a test
OTHER_TOKEN = "token-of-viewer"  # noqa: S105
WEIGHT = np.random.default_rng(0).lognormal(0, 1, (5, 24)).astype(np.float32)
_APART = ("grpc.use_local_subchannel_pool", 1)  # a connection of its own, where gRPC would share one


def digest(token: str) -> str:
    """A token as a callers file has it."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def replace(path: Path, text: str) -> None:
    """Another content, at once and whole, as good tools do it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


class Certificates:
    """An authority and what it signs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.renew()

    def renew(self) -> None:
        """Another certificate for the server."""
        self._write("server", self.ca.issue_cert("localhost", "127.0.0.1"))

    def replace_authority(self) -> None:
        """Another authority, and another certificate for the server."""
        self.ca = trustme.CA()
        self.renew()

    def for_client(self, name: str) -> dict[str, bytes]:
        """A client's certificate of this common name, as arguments of a client; `san:NAME` has no common name."""
        leaf = (
            self.ca.issue_cert(name.removeprefix("san:"))
            if name.startswith("san:")
            else self.ca.issue_cert("else@example.org", common_name=name)
        )
        return {"cert": _chain(leaf), "key": leaf.private_key_pem.bytes()}

    def _write(self, name: str, leaf: trustme.LeafCert) -> None:
        replace(self.folder / f"{name}.key", leaf.private_key_pem.bytes().decode())
        replace(self.folder / f"{name}.pem", _chain(leaf).decode())

    @property
    def trusted(self) -> bytes:
        """The authority's own certificate, for those who trust it."""
        return self.ca.cert_pem.bytes()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that serve with it."""
        return {"tls_cert": self.folder / "server.pem", "tls_key": self.folder / "server.key"}

    @property
    def mutual(self) -> dict[str, Any]:
        """Settings that also ask clients for theirs."""
        path = self.folder / "clients.pem"
        path.write_bytes(self.trusted)
        return {**self.settings, "tls_client_ca": path}

    @property
    def flags(self) -> list[str]:
        """`settings`, as flags."""
        return [f"--tls-cert={self.folder / 'server.pem'}", f"--tls-key={self.folder / 'server.key'}"]


def _chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)


class JumpingClock(SystemClock):
    """The machine's time, and what the test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def now(self) -> float:
        return super().now() + self.added

    def jump(self) -> None:
        """Let the time pass in which nobody looks at files."""
        self.added += 10


@asynccontextmanager
async def serving(clock: JumpingClock | None = None, packer: Any = None, **settings: Any) -> AsyncIterator[Server]:
    """A server in this event loop; its address has the host `localhost`, as its certificates do."""
    async with started(packer or CpuPacker(threads=1), clock, **settings) as server:
        yield server


def sample(server: Server, name: str, **labels: str) -> float:
    """A metric's value; one that is not there is 0."""
    return server.registry.get_sample_value(name, labels) or 0.0


def channel_to(server: Server, ca: bytes | None = None, **pems: bytes) -> grpc.aio.Channel:
    """A connection of its own, without the client's retries."""
    if ca is None:
        return grpc.aio.insecure_channel(server.address, [_APART])
    credentials = grpc.ssl_channel_credentials(ca, pems.get("key"), pems.get("cert"))
    return grpc.aio.secure_channel(server.address, credentials, [_APART])


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata with a token."""
    return (("authorization", f"Bearer {token}"),)


def request(weight: Any = WEIGHT, num_packs: int = 4) -> pb.PackRequest:
    """A request to pack."""
    return pb.PackRequest(weight=wire.encode(np.asarray(weight)), num_packs=num_packs)


async def refusal(call: Any) -> tuple[str, str]:
    """The code and the words that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    raise AssertionError("was answered")
