"""Readiness and the clock of a server, by its HTTP port: gRPC tells no time."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import click

from trimtab.cli.doctor_findings import Finding, ok, plain, skipped, warning, wrong

_MOST_SECONDS_APART = 5.0
_MOST_WORDS = 100
_DEFAULT = "http://HOST:9095"


def check_address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """HOST:PORT of a URL; None without one."""
    if value is None:
        return None
    try:
        url = urlsplit(value)
        if url.scheme == "http" and url.hostname and url.port and url.path in {"", "/"}:
            return url.netloc
    except ValueError:  # the port is none
        pass
    raise click.BadParameter(f"must be http://HOST:PORT, as {_DEFAULT}, got {value!r}")


def check_http(address: str | None, timeout: float) -> Iterator[Finding]:
    """Ask /readyz, and compare the time of the answer with ours."""
    if address is None:
        yield skipped("clock", "gRPC tells no time", f"--http {_DEFAULT} compares the server's with ours")
        return
    connection = http.client.HTTPConnection(address, timeout=timeout)
    begin = time.time()
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        words = plain(answer.read(_MOST_WORDS).decode(errors="replace").strip())
    except (OSError, http.client.HTTPException) as error:
        reason = plain(str(error)) if isinstance(error, OSError) else "it does not speak HTTP"
        advice = "the server's --metrics-listen says where it is: by default on its own machine alone, port 9095"
        yield wrong("ready", f"no answer from http://{address}/readyz ({reason})", advice)
        return
    finally:
        connection.close()
    yield _check_words(address, answer.status, words)
    yield _check_date(answer.headers["Date"], begin, time.time())


def _check_words(address: str, status: int, words: str) -> Finding:
    if words not in {"ready", "not ready"}:
        found = f"http://{address}/readyz answers {status}, and not as a trimtab-server does"
        return wrong("ready", found, "check --http")
    if status != http.client.OK:
        advice = f"it warms up, drains or has lost its GPU: its log and http://{address}/ tell which"
        return wrong("ready", f"http://{address}/readyz says {words}", advice)
    return ok("ready", f"http://{address}/readyz says {words}")


def _check_date(date: str | None, begin: float, end: float) -> Finding:
    """The server wrote it, to the second, between our two times."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return skipped("clock", "the answer has no date")
    ahead, behind = theirs - end, begin - (theirs + 1)  # at least so much, if it is more than 0
    apart = max(ahead, behind, 0.0)
    if apart > _MOST_SECONDS_APART:
        which = "ahead of" if ahead > behind else "behind"
        advice = "set both by NTP: certificates are judged by them, logs and traces compared"
        return warning("clock", f"the server's is {apart:,.0f} s {which} ours", advice, seconds_apart=apart)
    return ok("clock", f"the server's and ours agree to {apart + end - begin + 1:.0f} s", seconds_apart=apart)
