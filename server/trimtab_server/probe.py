"""`trimtab-server --probe`: whether the server of these settings is ready; for health checks of containers."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

_SECONDS = 3.0
_MOST_WORDS = 100
_EVERYWHERE: Mapping[str, str] = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # listened on


def probe(metrics_listen: str) -> tuple[bool, str]:
    """Whether a server on this machine is ready, and its words; over HTTP, which is the same with TLS and without."""
    host, _, port = metrics_listen.rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), int(port), timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        words = answer.read(_MOST_WORDS).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from http://{metrics_listen}/readyz: {_plain(error)}"
    finally:
        connection.close()
    if words in {"ready", "not ready"}:
        return answer.status == http.client.OK, words
    return False, f"http://{metrics_listen}/readyz answers {answer.status}, and not as a trimtab-server does"


def _plain(error: Exception) -> str:
    """In words that a terminal can show: what some other server sent may be in them."""
    return "".join(c if c.isprintable() else "?" for c in str(error)[:_MOST_WORDS]) or type(error).__name__
