"""TLS between here and the server: who speaks it, and whether the certificate is one that the client takes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from trimtab.cli.doctor_certificates import (
    Certificate,
    check_dates,
    client_context,
    fits_name,
    handshake,
    read_shown,
    vouched_for,
)
from trimtab.cli.doctor_credentials import wants_tls
from trimtab.cli.doctor_environment import first_set
from trimtab.cli.doctor_findings import Finding, joined, ok, skipped, wrong
from trimtab.cli.doctor_target import Address
from trimtab.credentials import is_local

_RENEWAL = "renew it: the server takes up a new file that is written over the old one"
_NOT_TLS = {
    "WRONG_VERSION_NUMBER",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
}


@dataclass(frozen=True)
class Shown:
    """How a server behaves in a handshake."""

    version: str
    certificate: bytes
    """DER."""
    speaks_http2: bool
    hangs_up: bool
    """Right after the handshake, as for want of a client's certificate."""
    has_seen_ours: bool
    """Whether there was one of ours to show."""


def check_tls(address: Address, name: str | None, secure: dict[str, Any]) -> Iterator[Finding]:
    """What the server speaks, against what was asked for, then its certificate; `secure` as `Client` takes it."""
    wanted = wants_tls(secure)
    try:
        shown = _look(address, name, secure)
    except OSError as error:
        yield _without(address, error, wanted=wanted)
        return
    certificate = read_shown(address, name, shown.certificate)
    yield _check_speech(address, name, shown, certificate, wanted=wanted)
    if certificate is None:
        yield skipped("certificate", "it is not one that Python's ssl module can read")
        return
    yield check_dates("certificate", certificate, _RENEWAL)
    yield _check_name(address, name, shown, certificate)
    if wanted:
        yield _check_authority(address, name, certificate, secure["ca"])


def _look(address: Address, name: str | None, secure: dict[str, Any]) -> Shown:
    context = client_context(verify=False)
    has_own = False
    if secure["cert"] is not None and secure["key"] is not None:
        with suppress(OSError):  # told in a line of its own
            context.load_cert_chain(secure["cert"], secure["key"], password="")
            has_own = True
    with handshake(address, context, name) as connection:
        return Shown(
            version=connection.version() or "",
            certificate=connection.getpeercert(binary_form=True) or b"",
            speaks_http2=connection.selected_alpn_protocol() == "h2",
            hangs_up=_hangs_up(connection),
            has_seen_ours=has_own,
        )


def _hangs_up(connection: ssl.SSLSocket) -> bool:
    """Whether the server ends the connection; one that stays says so at once, in its settings."""
    try:
        return not connection.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def _without(address: Address, error: OSError, *, wanted: bool) -> Finding:
    """What a server speaks with which no handshake comes about."""
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    if reason in _NOT_TLS:
        if wanted:
            advice = "leave out --tls, --ca, --cert, --key and --server-name, or start it with --tls-cert and --tls-key"
            return wrong("tls", f"{address} does not speak TLS, and you ask for it", advice)
        trusted = "" if is_local(str(address)) else ": for networks that are trusted alone"
        return ok("tls", f"none on either side{trusted}")
    found = f"{address} does not finish a handshake ({'no answer' if isinstance(error, TimeoutError) else reason})"
    if not wanted and "ALERT" not in reason:
        return skipped("tls", f"{found}, so that it may speak none, as you ask")
    return wrong("tls", found, "it may speak no TLS, want a client certificate (--cert and --key), or be stuck")


def _check_speech(
    address: Address, name: str | None, shown: Shown, certificate: Certificate | None, *, wanted: bool
) -> Finding:
    if not wanted:
        public = certificate and not _why_not_vouched(address, name, _public_authorities(), certificate)
        advice = "add --tls" if public else "add --ca FILE, which holds the certificate of who issued the server's"
        return wrong("tls", f"{address} speaks TLS, and you do not", advice)
    if shown.hangs_up and not shown.has_seen_ours:
        advice = "give --cert and --key, signed by the authority of its --tls-client-ca"
        return wrong("tls", f"{address} hangs up after the handshake, as if it wants a client certificate", advice)
    if shown.hangs_up:
        advice = "it must be valid and signed by the authority of its --tls-client-ca"
        return wrong("tls", f"{address} hangs up after the handshake, as if it does not take your certificate", advice)
    if not shown.speaks_http2:
        found = f"{address} speaks {shown.version}, but does not offer HTTP/2 by ALPN, without which gRPC hangs up"
        return wrong("tls", found, "is it a gRPC server? A proxy before it has to offer h2")
    return ok("tls", f"{shown.version} on both sides")


def _check_name(address: Address, name: str | None, shown: Shown, certificate: Certificate) -> Finding:
    names = joined(certificate.names) or "none"
    if name is None:
        advice = f"say one of the certificate's by --server-name: {names}"
        return wrong("server name", "the target is a list of addresses, which no certificate names", advice)
    try:
        is_it = fits_name(address, name, shown.certificate)
    except OSError as error:
        return skipped("server name", f"can't be told: {error.strerror or error}")
    if is_it:
        return ok("server name", f"the certificate is for {name}")
    advice = "call it by one of those, or say one by --server-name"
    return wrong("server name", f"the certificate is not for {name}, but for {names}", advice)


def _check_authority(address: Address, name: str | None, certificate: Certificate, ca: Path | None) -> Finding:
    authorities = ca or _public_authorities()
    if authorities is None:
        return skipped("authority", "gRPC's own list of authorities is not a file here")
    reason = _why_not_vouched(address, name, authorities, certificate)
    who = f"{ca}" if ca else "gRPC's list of public authorities"
    if not reason:
        return ok("authority", f"{who} vouches for it")
    advice = f"name a file by --ca that has the certificate of {certificate.issuer}"
    return wrong("authority", f"{who} does not vouch for it ({reason})", advice)


def _why_not_vouched(address: Address, name: str | None, authorities: Path | None, certificate: Certificate) -> str:
    if authorities is None:
        return "there is no list of authorities"
    try:
        return vouched_for(address, name, authorities, certificate)
    except ssl.SSLError as error:
        return f"it holds no certificates: {error.reason or error}"
    except OSError as error:
        return f"it can't be read: {error.strerror or error}"


def _public_authorities() -> Path | None:
    """Whom gRPC trusts where it is told nothing."""
    named = first_set("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")[1]
    if named:
        return Path(named)
    path = Path(str(resources.files("grpc._cython") / "_credentials" / "roots.pem"))
    return path if path.is_file() else None
