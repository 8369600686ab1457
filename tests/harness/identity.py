"""What a fleet shows its clients, and they show it: a certificate and a token, both renewed while it serves."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.secure import Certificates, digest, replace
from trimtab_server.watched import LOOK_SECONDS

SERVER_NAME = "localhost"
"""That the certificates are for."""
_OVERLAP = 3 * LOOK_SECONDS
"""Seconds in which the old token and the new one are both good: a call tried again shows the one it began with."""
_SEEN_WITHIN = 5 * LOOK_SECONDS


class NotRenewedError(Exception):
    """A server goes on showing what it showed before."""


class Identity:
    """The files that servers are told of, in a folder, and what a client needs beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._certificates = Certificates(folder)
        self.token = secrets.token_urlsafe(16)
        self._list(self.token)

    def _list(self, *tokens: str) -> None:
        replace(self._folder / "callers", "".join(f"chaos {digest(token)} *\n" for token in tokens))

    @property
    def flags(self) -> list[str]:
        """Of a server."""
        return [*self._certificates.flags, f"--callers-file={self._folder / 'callers'}"]

    @property
    def client_settings(self) -> dict[str, Any]:
        """Of a client; its token is asked for at each call."""
        return {"ca": self._certificates.trusted, "token": lambda: self.token}

    async def renew_certificate(self, ports: Sequence[int]) -> None:
        """Another certificate of the same authority, until every server shows it.

        Raises:
            NotRenewedError: one does not.
        """
        before = {port: await asyncio.to_thread(_shown, port) for port in ports}
        self._certificates.renew()
        end = time.monotonic() + _SEEN_WITHIN
        for port, old in before.items():
            while await asyncio.to_thread(_shown, port) == old:
                if time.monotonic() > end:
                    raise NotRenewedError(f"the server at port {port} shows its old certificate")
                await asyncio.sleep(0.1)

    async def renew_token(self) -> None:
        """Another token: both are listed, then the client shows the new one, then the old one is gone."""
        fresh = secrets.token_urlsafe(16)
        self._list(self.token, fresh)
        await asyncio.sleep(_OVERLAP)
        self.token = fresh
        await asyncio.sleep(_OVERLAP)
        self._list(fresh)


def _shown(port: int) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # to look at, not to trust
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""
