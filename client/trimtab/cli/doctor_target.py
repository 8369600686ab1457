"""The target of `trimtab doctor`: what its name stands for, and whether anything listens there."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trimtab.cli.doctor_findings import Finding, joined, ok, warning, wrong
from trimtab.credentials import is_local

CONNECT_SECONDS = 2.0
"""What the client leaves gRPC for an attempt to connect."""
_GRPC_PORT = "443"
"""Where a gRPC name says no port."""
_AT_ONCE = 16
_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|xds|google-c2p):(?://([^/]*)/)?(.*)")
_ADVICE = {
    "refused": "nothing listens there: start the server, check the port, and see that its --listen is an address that "
    "others reach (by default it is its own machine's alone)",
    "no answer": "a firewall, a network policy or a security group may drop it, or the machine is off",
    "no way": "there is no route from here: is a VPN or a network interface down?",
    "no such file": "the server listens elsewhere or is not running, or its socket is on another file system",
    "not allowed": "this user may not write to the socket, or a local firewall forbids it",
}
_BY_ERROR = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "no answer",
    errno.EHOSTUNREACH: "no way",
    errno.ENETUNREACH: "no way",
    errno.ENOENT: "no such file",
    errno.EACCES: "not allowed",
    errno.EPERM: "not allowed",
}


@dataclass(frozen=True)
class Address:
    """One address to connect to."""

    family: socket.AddressFamily
    where: Any
    """As `socket.connect` takes it."""

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(self.where).replace("\0", "@")
        host, port = self.where[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"

    def connect(self) -> socket.socket:
        """A connection, each of its steps within the time of an attempt.

        Raises:
            OSError: none comes about.
        """
        connection = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(self.where)
        except OSError:
            connection.close()
            raise
        return connection


@dataclass(frozen=True)
class Target:
    """A target as gRPC reads it."""

    text: str
    places: tuple[tuple[str, str], ...]
    """Hosts and ports; none where it is a path, or where gRPC alone knows how to find it."""
    path: str | None = None

    @property
    def hosts(self) -> list[str]:
        """Each host once."""
        return list(dict.fromkeys(host for host, _ in self.places))

    @property
    def name(self) -> str | None:
        """What the server's certificate must say; None: a list of addresses is no name."""
        if self.path is not None:
            return "localhost"
        return self.places[0][0] if len(self.places) == 1 else None


def read_target(text: str) -> Target:
    """Take a target apart."""
    found = _SCHEME.fullmatch(text)
    scheme, authority, rest = found.groups() if found else ("dns", None, text)
    if scheme.startswith("unix"):
        return Target(text, (), ("\0" if scheme == "unix-abstract" else "/" if authority is not None else "") + rest)
    if scheme not in {"dns", "ipv4", "ipv6"} or authority:
        return Target(text, ())
    return Target(text, tuple(_place(part) for part in (rest.split(",") if scheme != "dns" else [rest])))


def _place(text: str) -> tuple[str, str]:
    if text.startswith("[") or text.count(":") <= 1:
        host, colon, port = text.rpartition(":")
        if colon and not port.endswith("]"):
            return host.strip("[]"), port
    return text.strip("[]"), _GRPC_PORT


def is_address(host: str) -> bool:
    """Whether it is one, and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def resolve(target: Target) -> list[Address] | Finding:
    """All addresses of a target, or what is wrong with it."""
    if target.path is not None:
        return [Address(socket.AF_UNIX, target.path)]
    found: dict[Address, None] = {}
    for host, port in target.places:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return wrong("name", f"{host}: {error.strerror}", _name_advice(error))
        except UnicodeError:
            return wrong("name", f"{host} can't be the name of a machine", "check --target")
        found |= dict.fromkeys(Address(family, where) for family, _, _, _, where in entries)
    return list(found)


def _name_advice(error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return "the name server does not answer, or does not know the name: is this machine's network up?"
    if error.errno == socket.EAI_SERVICE:
        return "the port must be a number: check --target"
    return "check how it is spelled; a name of a cluster, or of another network, is known there alone"


def check_name(target: Target, addresses: list[Address]) -> Iterator[Finding]:
    """What a name stands for; an address needs no line."""
    if any(not is_address(host) for host in target.hosts):
        several = "; calls are spread over those that answer" if len(addresses) > 1 else ""
        found = f"{', '.join(target.hosts)} has {len(addresses)} address{'es' if len(addresses) > 1 else ''}"
        yield ok("name", f"{found}: {joined(map(str, addresses))}{several}")


def check_port(addresses: list[Address]) -> tuple[Finding, list[Address]]:
    """Whether anything listens, and the addresses where it does."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(_try_to_connect, addresses))
    answered = {address: took for address, took in zip(addresses, outcomes, strict=True) if isinstance(took, float)}
    failures = {address: took for address, took in zip(addresses, outcomes, strict=True) if isinstance(took, str)}
    told = joined(f"{address}: {reason}" for address, reason in failures.items())
    if not answered:
        return wrong("port", told, _advice(*next(iter(failures.items())))), []
    worst = max(answered.values())
    found = f"{joined(map(str, answered))} is open, connected in {worst * 1e3:.1f} ms"
    if not all(is_local(str(address)) for address in failures):  # localhost is often two addresses
        return warning("port", f"{found}; {told}", "calls go to those that answer; see to the others"), list(answered)
    return ok("port", found, seconds=worst), list(answered)


def _advice(address: Address, reason: str) -> str:
    if reason == "refused" and is_local(str(address)):
        return "nothing listens there: start it with 'trimtab-server', or check the port"
    return _ADVICE.get(reason, "check --target")


def _try_to_connect(address: Address) -> float | str:
    """Seconds that it took, or why it did not come about."""
    begin = time.perf_counter()
    try:
        address.connect().close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return _BY_ERROR.get(error.errno or 0, error.strerror or str(error))
    return time.perf_counter() - begin
