"""Certificates, read by the standard library alone: it tells of those that a handshake has verified.

So each handshake here asks one thing. To read a certificate, it is trusted for as long as that takes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.cli.doctor_findings import Finding, joined, ok, plain, warning, wrong
from trimtab.cli.doctor_target import Address

SOON_DAYS = 14
_DAY = 86_400
_NO_CHECK_TIME = 0x20_0000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the standard library has no name for."""
_MOST_FLIGHTS = 10
"""Messages that a handshake takes, and more."""
_OUT_OF_TIME = {9, 10}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: float
    """Seconds since 1970."""
    ends: float

    @property
    def is_in_time(self) -> bool:
        """Whether it is valid now, by this machine's clock."""
        return self.begins <= time.time() <= self.ends

    def __str__(self) -> str:
        named = f" for {joined(self.names)}" if self.names else ""
        return f"{self.subject}{named}, issued by {self.issuer}"


def _certificate(told: dict[str, Any]) -> Certificate:
    return Certificate(
        subject=_name(told["subject"]),
        issuer=_name(told["issuer"]),
        names=tuple(plain(str(value)) for _, value in told.get("subjectAltName", ())),
        begins=ssl.cert_time_to_seconds(told["notBefore"]),
        ends=ssl.cert_time_to_seconds(told["notAfter"]),
    )


def _name(parts: Any) -> str:
    """The common name, else all that there is."""
    fields = [field for part in parts for field in part]
    names = [value for key, value in fields if key == "commonName"] or [value for _, value in fields]
    return plain(", ".join(names)) or "nobody"


def client_context(*, verify: bool = True) -> ssl.SSLContext:
    """TLS as gRPC's clients speak it; names are not looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def handshake(address: Address, context: ssl.SSLContext, name: str | None) -> Iterator[ssl.SSLSocket]:
    """A connection after its handshake; `name` is told to the server.

    Raises:
        OSError: it does not come about; ssl.SSLError where TLS is the reason.
    """
    with address.connect() as connection, context.wrap_socket(connection, server_hostname=name) as secure:
        yield secure


def _trust_itself(context: ssl.SSLContext, certificate: bytes) -> None:
    """Have a context trust this certificate (DER) alone, whoever signed it and whatever the time."""
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME


def read_shown(address: Address, name: str | None, certificate: bytes) -> Certificate | None:
    """What the certificate (DER) that a server shows says; None where it can't be read so."""
    context = client_context()
    _trust_itself(context, certificate)
    try:
        with handshake(address, context, name) as secure:
            return _certificate(secure.getpeercert() or {})
    except (OSError, KeyError):
        return None


def fits_name(address: Address, name: str, certificate: bytes) -> bool:
    """Whether the certificate (DER) that a server shows, and that could be read, is one of this name or address.

    Raises:
        OSError: it can't be told.
    """
    context = client_context()
    _trust_itself(context, certificate)
    context.check_hostname = True
    try:
        with handshake(address, context, name):
            return True
    except ssl.SSLCertVerificationError:  # the name is all that is left to fail
        return False


def vouched_for(address: Address, name: str | None, authorities: Path, shown: Certificate) -> str:
    """Nothing where a file of authorities vouches for what a server shows, else why not.

    Raises:
        OSError: it can't be told.
    """
    context = client_context()
    context.load_verify_locations(authorities)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        with handshake(address, context, name):
            return ""
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in _OUT_OF_TIME:
            return error.verify_message
        return "" if not shown.is_in_time else f"of those above it one is out of time: {error.verify_message}"


def read_own(cert: Path, key: Path) -> Certificate:
    """What a client's certificate says; a server in this process asks for it.

    Raises:
        ssl.SSLError: it can't be used, or its key can't.
        OSError: a file can't be read.
    """
    client, server = client_context(verify=False), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.load_cert_chain(cert, key, password="")  # an encrypted key must not ask for its password
    server.verify_mode = ssl.CERT_REQUIRED
    _trust_itself(server, ssl.PEM_cert_to_DER_cert(_first(cert.read_text())))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_MOST_FLIGHTS):
        if all([_is_through(side) for side in sides]):  # noqa: C419  # both have to take a step
            break
    return _certificate(sides[1].getpeercert() or {})


def _first(pem: str) -> str:
    end = "-----END CERTIFICATE-----"
    return pem[pem.find("-----BEGIN CERTIFICATE-----") : pem.find(end) + len(end)]


def _is_through(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def check_dates(check: str, certificate: Certificate, renewal: str) -> Finding:
    """Until when a certificate is valid; `renewal` says how to get another into its place."""
    now = time.time()
    until = f"valid until {_day(certificate.ends)}"
    if certificate.begins > now:
        clock = f"this machine's clock says {_day(now)}"
        advice = f"one of the clocks is wrong, this machine's or that of who issued it; or wait, or {renewal}"
        return wrong(check, f"{certificate}, is not valid before {_day(certificate.begins)}, and {clock}", advice)
    if certificate.ends < now:
        advice = f"{renewal}; if that day is still to come, this machine's clock ({_day(now)}) is wrong"
        return wrong(check, f"{certificate}, was {until}: expired", advice)
    days = (certificate.ends - now) / _DAY
    if days < SOON_DAYS:
        return warning(check, f"{certificate}, {until}: {days:.1f} days are left", renewal, days_left=days)
    return ok(check, f"{certificate}, {until}", days_left=days)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
