"""How clients are let in: limits of connections and calls, and the address that is listened on."""

from __future__ import annotations

import resource

import grpc.aio
import structlog

from trimtab.credentials import is_local
from trimtab_server.settings import Settings
from trimtab_server.tls import Material, server_credentials
from trimtab_server.watched import Watched

log = structlog.get_logger()

_HANDSHAKE_MS = 10_000
_OTHER_FILES = 256
"""Files that a server holds beside its connections: libraries, pipes, scrapes."""
_MOST = (1 << 31) - 2  # gRPC takes 32 bits, and aborts the process on the largest number of connections


def grpc_options(settings: Settings) -> list[tuple[str, int]]:
    """The options of a gRPC server; `tests/test_limits.py` sees most of them at work."""
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Both, or gRPC refuses headers between the two at random
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        # A few bytes of gzip become megabytes before anybody has asked who sent them
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        *_ages(settings),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        # On, it counts calls that are answered and not yet forgotten, and refuses some of those a client is entitled
        # to: of 1,500 calls at once over one connection, 400 were
        ("grpc.http.overload_protection", 0),
        # The queue of this server has limits that are told; gRPC's own, from 1,000 calls on, ends them as CANCELLED
        ("grpc.server.max_pending_requests", _MOST),
        ("grpc.server.max_pending_requests_hard_limit", _MOST),
        # the client's keepalive pings, every 5 s also while no call runs, are welcome; more often, and at the third
        # the connection is closed
        ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a share of its calls
    ]
    return [(name, min(value, _MOST)) for name, value in options]


def _ages(settings: Settings) -> list[tuple[str, int]]:
    """In milliseconds; 0 is never, which to gRPC is an option left out."""
    named = {
        "grpc.max_connection_age_ms": settings.max_connection_age,
        "grpc.max_connection_idle_ms": settings.max_connection_idle,
    }
    given = [(name, round(seconds * 1000)) for name, seconds in named.items() if seconds]
    return [*given, ("grpc.max_connection_age_grace_ms", round(settings.max_connection_age_grace * 1000))]


def allow_open_files(connections: int) -> None:
    """Raise the limit of open files as far as it goes, and warn where that is too little for the connections."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("few open files", allowed=allowed, max_connections=connections, help="raise ulimit -n, or lower it")


def listen_on(server: grpc.aio.Server, listen: str, tls: Watched[Material] | None) -> str:
    """Have a server listen; the address, with the port that it got.

    Raises:
        OSError: it can't listen there.
    """
    try:
        port = (
            server.add_insecure_port(listen) if tls is None else server.add_secure_port(listen, server_credentials(tls))
        )
    except RuntimeError:
        raise OSError(
            f"--listen {listen}: can't listen there: the address must be one of this machine, and free"
        ) from None
    if tls is None and not is_local(listen):
        log.warning("no TLS", listen=listen, means="anyone on the way can read and alter what is said, tokens too")
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
