"""What the HTTP port shows: metrics, probes, the level of the log, and a page to look at."""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from trimtab_server.logs import LEVEL, LEVELS, where

if TYPE_CHECKING:  # it is there for type checkers alone
    from _typeshed.wsgi import StartResponse

log = structlog.get_logger()

_LENGTH = re.compile(r"[0-9]{1,9}")
_MOST_BODY = 32
"""Bytes of a request: the name of a level."""


@dataclass(frozen=True)
class Answer:
    """What is sent for a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[], Answer]


class Pages:
    """The WSGI application of a server; called on threads of the endpoint."""

    def __init__(
        self,
        registry: CollectorRegistry,
        is_alive: Callable[[], bool],
        is_ready: Callable[[], bool],
        pages: dict[str, Page] | None = None,
    ) -> None:
        """`pages` are more paths to GET."""
        self._metrics = make_wsgi_app(registry)
        self._turn = threading.Lock()  # many at once would take the interpreter from the calls
        self._pages: dict[str, Page] = {
            "/livez": lambda: _verdict("alive", is_alive()),
            "/readyz": lambda: _verdict("ready", is_ready()),
            "/log-level": lambda: _text(HTTPStatus.OK, LEVEL.name),
            **(pages or {}),
        }

    def __call__(self, request: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            if request["PATH_INFO"] == "/metrics":
                with self._turn:
                    return list(self._metrics(request, start))
            answer = self._answer(request)
        except Exception as error:  # noqa: BLE001  # the endpoint would print a traceback
            answer = _failed(error)
        length = ("Content-Length", str(len(answer.body)))
        headers = [("Content-Type", answer.content_type), length, ("Cache-Control", "no-store"), *answer.headers]
        start(f"{answer.status.value} {answer.status.phrase}", headers)
        return [b"" if request["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _answer(self, request: dict[str, Any]) -> Answer:
        path, method = request["PATH_INFO"], request["REQUEST_METHOD"]
        page = self._pages.get(path)
        if page is None:
            return _text(HTTPStatus.NOT_FOUND, f"nothing is here; there are /metrics {' '.join(self._pages)}")
        if method in {"GET", "HEAD"}:
            return page()
        if (path, method) == ("/log-level", "PUT"):
            return _set_level(request)
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes GET, not {method}")


def _set_level(request: dict[str, Any]) -> Answer:
    """For who is on this machine, and not for a page in their browser that was sent here under another name."""
    own = _is_loopback(request["REMOTE_ADDR"]) and _names_this_machine(request.get("HTTP_HOST", ""))
    if not own or "HTTP_ORIGIN" in request:
        return _text(HTTPStatus.FORBIDDEN, "the level is set from this machine alone, as in a forwarded port")
    length = request.get("CONTENT_LENGTH") or "0"
    size = int(length) if _LENGTH.fullmatch(length) else 0
    name = request["wsgi.input"].read(min(size, _MOST_BODY)).decode(errors="replace").strip()
    if name not in LEVELS:
        return _text(HTTPStatus.BAD_REQUEST, f"the body must be one of {', '.join(LEVELS)}, got {name!r}")
    before = LEVEL.name
    LEVEL.set("info")  # so that this is written, whatever the level was and will be
    log.info("log level set", before=before, now=name)
    LEVEL.set(name)
    return _text(HTTPStatus.OK, name)


def _failed(error: Exception) -> Answer:
    log.error("page failed", error_type=type(error).__name__, where=where(error))
    return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; the log tells")


def _names_this_machine(host: str) -> bool:
    name = host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
    return name == "localhost" or _is_loopback(name.strip("[]"))


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # Where both kinds are listened for, this machine comes as ::ffff:127.0.0.1
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _verdict(what: str, is_so: bool) -> Answer:
    return _text(HTTPStatus.OK, what) if is_so else _text(HTTPStatus.SERVICE_UNAVAILABLE, f"not {what}")


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())
