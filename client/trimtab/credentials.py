"""How a client proves who it is, and whom it trusts: TLS, certificates and tokens."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

import grpc

from trimtab.channel import LOCAL
from trimtab.errors import InvalidArgumentError

Pem = str | Path | bytes
Token = str | Callable[[], str]

_TOKEN = re.compile(r"[!-~]+")
_PEM_BEGIN = b"-----BEGIN "
_UNIX = ("unix:", "unix-abstract:")
_SCHEME = re.compile(r"^(?:dns|ipv4|ipv6):(?://[^/]*/)?")


class Credentials:
    """What a client shows a server, and what it wants to see."""

    def __init__(
        self,
        target: str,
        *,
        tls: bool = False,
        ca: Pem | None = None,
        cert: Pem | None = None,
        key: Pem | None = None,
        server_name: str | None = None,
        token: Token | None = None,
    ) -> None:
        """Read the files; arguments as of `Client`.

        Raises:
            InvalidArgumentError: a file can't be used, or the token would travel where others can read it.
        """
        if (cert is None) != (key is None):
            raise InvalidArgumentError.of("cert" if key is None else "key", "cert and key belong together: give both")
        self._token = token
        self._server_name = server_name
        self.over_tls = tls or ca is not None or cert is not None or server_name is not None
        self._pems = {"ca": _read("ca", ca), "key": _read("key", key), "cert": _read("cert", cert)}
        if token is not None and not self.over_tls and not is_local(target):
            rule = f"is sent over TLS or to this machine alone, or others could read it on its way to {target}"
            raise InvalidArgumentError.of("token", f"{rule}: turn TLS on, by tls or ca")

    @property
    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For a secure channel; None: one without TLS."""
        if not self.over_tls:
            return None
        return grpc.ssl_channel_credentials(self._pems["ca"], self._pems["key"], self._pems["cert"])

    @property
    def channel_options(self) -> list[tuple[str, str | int]]:
        """What a channel has to know of it."""
        # A token without TLS must not take the way over an HTTP proxy, which gRPC else would even to this machine.
        direct = [("grpc.enable_http_proxy", 0)] if self._token is not None and not self.over_tls else []
        named = [("grpc.default_authority", self._server_name)] if self._server_name is not None else []
        return [*direct, *named]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries; asks for the token anew, as it may have been renewed.

        Raises:
            InvalidArgumentError: the token can't be one.
        """
        if self._token is None:
            return ()
        token = self._token() if callable(self._token) else self._token
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise InvalidArgumentError.of("token", "must be printable ASCII characters without spaces")
        return (("authorization", f"Bearer {token}"),)


def is_local(target: str) -> bool:
    """Whether what is sent to a target stays on this machine; a name other than localhost may be anywhere."""
    if target == LOCAL or target.startswith(_UNIX):
        return True
    addresses = _SCHEME.sub("", target).split(",")
    return all(_is_loopback(address) for address in addresses)


def _is_loopback(address: str) -> bool:
    host = address if address.count(":") > 1 and not address.startswith("[") else address.rpartition(":")[0] or address
    host = host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(name: str, pem: Pem | None) -> bytes | None:
    if pem is None:
        return None
    if isinstance(pem, bytes):
        return _pem(name, pem, "these bytes are")
    if _PEM_BEGIN.decode() in str(pem):  # no path, but what it holds; a key must not end up in a message
        return str(pem).encode()
    try:
        return _pem(name, Path(pem).read_bytes(), f"{pem} is")
    except OSError as error:
        raise InvalidArgumentError.of(name, f"{pem} can't be read: {error.strerror or error}") from None


def _pem(name: str, content: bytes, what: str) -> bytes:
    if _PEM_BEGIN not in content:
        raise InvalidArgumentError.of(name, f"must be in PEM form, {what} not")
    return content
