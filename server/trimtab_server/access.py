"""Who calls, and what they may: by token or client certificate where there is a callers file, else by what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc.aio

from trimtab.errors import PermissionDeniedError, UnauthenticatedError
from trimtab_server.callers import Callers, Entry, read_callers
from trimtab_server.settings import Settings
from trimtab_server.watched import File, Watched

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Sequence[tuple[str, str | bytes]]

caller_name: ContextVar[str] = ContextVar("caller_name", default="")
"""The name of the caller whose call is being answered."""

_MAX_NAME_LENGTH = 128
_SCHEME = "bearer"


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    name: str
    rpcs: frozenset[str] | None = None
    """What it may call; None: everything."""

    def check(self, rpc: str) -> None:
        """Hold the caller to what it may call.

        Raises:
            PermissionDeniedError: it may not.
        """
        if self.rpcs is not None and rpc not in self.rpcs:
            raise PermissionDeniedError(f"{self.name} may not call {rpc}: the server's callers file says what it may")


class Access:
    """Knows callers by what their calls bring along."""

    def __init__(self, callers: Watched[Callers] | None, *, open_health: bool) -> None:
        """Without `callers`, anyone may call and is known by what it says."""
        self._callers = callers
        self.is_health_open = open_health or callers is None
        self.is_open = callers is None

    def look_at_file(self) -> None:
        """See whether the callers file has changed, as the next call would."""
        if self._callers is not None:
            self._callers.look()

    def identify(self, context: Context, metadata: Metadata) -> Caller:
        """Who makes the call that came with this metadata.

        Raises:
            UnauthenticatedError: nobody who is listed.
        """
        if self._callers is None:
            return Caller(_printable(_certified_name(context)) or _claimed_name(metadata) or _peer(context))
        entry = _listed(self._callers.current, metadata, context)
        return Caller(entry.name, entry.rpcs)


def watch_callers(
    settings: Settings, rpcs: Collection[str], now: Callable[[], float], failed: Callable[[], None]
) -> Watched[Callers] | None:
    """The callers file of the settings, read now and whenever it changes; None where there is none.

    Raises:
        BrokenFileError: it can't be used.
    """
    if settings.callers_file is None:
        return None

    def read(files: Sequence[File]) -> Callers:
        return read_callers(files[0], rpcs, mutual_tls=settings.tls_client_ca is not None)

    return Watched("callers", {"--callers-file": settings.callers_file}, read, now, failed)


def _listed(callers: Callers, metadata: Any, context: Context) -> Entry:
    given = [value for key, value in metadata if key == "authorization"]
    if not given:
        name = _certified_name(context)
        if not name:
            raise UnauthenticatedError("who calls? Send metadata 'authorization: Bearer TOKEN' or a client certificate")
        entry = callers.by_certificate(name)
        if entry is None:
            raise UnauthenticatedError(
                f"the client certificate's name {_printable(name)} is not one of the callers of this server"
            )
        return entry
    scheme, _, token = str(given[0]).partition(" ")
    if len(given) > 1 or scheme.lower() != _SCHEME:
        raise UnauthenticatedError("the metadata 'authorization' must be one 'Bearer TOKEN'")
    entry = callers.by_token(token.strip())
    if entry is None:
        raise UnauthenticatedError("the token is not one of those that this server takes")
    return entry


def _certified_name(context: Context) -> str:
    """The common name of a client's certificate, else its first other name; empty where it showed none.

    gRPC tells these of verified certificates alone: without --tls-client-ca it asks for none.
    """
    shown: Any = context.auth_context()
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        names = shown.get(key)
        if names and names[0]:
            return str(names[0].decode(errors="replace"))
    return ""


def _claimed_name(metadata: Any) -> str:
    named = next((value for key, value in metadata if key == "x-trimtab-caller"), "")
    return _printable(str(named))


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:_MAX_NAME_LENGTH])


def _peer(context: Context) -> str:
    """The peer's host: its port changes with each connection."""
    peer = context.peer()
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
