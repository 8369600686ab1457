"""What the HTTP port shows: metrics, probes, the level of the log, and a page to look at."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from trimtab.credentials import is_local
from trimtab_server.logs import LEVEL, LEVELS, where

if TYPE_CHECKING:  # it is there for type checkers alone
    from _typeshed.wsgi import StartResponse

log = structlog.get_logger()

_MOST_BODY = 32
"""Bytes of a request: the name of a level."""


@dataclass(frozen=True)
class Answer:
    """What is sent for a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


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
        self._pages: dict[str, Page] = {
            "/livez": lambda: _verdict("alive", is_alive()),
            "/readyz": lambda: _verdict("ready", is_ready()),
            "/log-level": lambda: _text(HTTPStatus.OK, LEVEL.name),
            **(pages or {}),
        }

    def __call__(self, request: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if request["PATH_INFO"] == "/metrics":
            found: Iterable[bytes] = self._metrics(request, start)
            return found
        answer = self._answer(request)
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
            return _shown(page)
        if (path, method) == ("/log-level", "PUT"):
            return _set_level(request)
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes GET, not {method}")


def _set_level(request: dict[str, Any]) -> Answer:
    """For who is on this machine, and not for a page in their browser that was sent here under another name."""
    if not (ipaddress.ip_address(request["REMOTE_ADDR"]).is_loopback and is_local(request.get("HTTP_HOST", ""))):
        return _text(HTTPStatus.FORBIDDEN, "the level is set from this machine alone, as in a forwarded port")
    length = request.get("CONTENT_LENGTH") or "0"
    size = int(length) if length.isdecimal() else 0
    name = request["wsgi.input"].read(min(size, _MOST_BODY)).decode(errors="replace").strip()
    if name not in LEVELS:
        return _text(HTTPStatus.BAD_REQUEST, f"the body must be one of {', '.join(LEVELS)}, got {name!r}")
    LEVEL.set(name)
    return _text(HTTPStatus.OK, name)


def _shown(page: Page) -> Answer:
    try:
        return page()
    except Exception as error:  # noqa: BLE001  # the endpoint would print a traceback
        return _failed(error)


def _failed(error: Exception) -> Answer:
    log.error("page failed", error_type=type(error).__name__, where=where(error))
    return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; the log tells")


def _verdict(what: str, is_so: bool) -> Answer:
    return _text(HTTPStatus.OK, what) if is_so else _text(HTTPStatus.SERVICE_UNAVAILABLE, f"not {what}")


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())
