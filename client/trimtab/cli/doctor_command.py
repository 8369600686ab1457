"""The command `trimtab doctor`: looks at everything between here and an answer, and says what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from trimtab.channel import LOCAL
from trimtab.cli import doctor_findings
from trimtab.cli.doctor_client import check_client, check_proxy
from trimtab.cli.doctor_clock import check_address, check_http
from trimtab.cli.doctor_credentials import check_credentials, wants_tls
from trimtab.cli.doctor_findings import Finding, counts, skipped, summary
from trimtab.cli.doctor_service import check_service
from trimtab.cli.doctor_target import Target, check_name, check_port, read_target, resolve
from trimtab.cli.doctor_tls import check_tls
from trimtab.cli.options import json_option, target_options, timeout_option
from trimtab.cli.printing import make_console, print_json
from trimtab.errors import UnavailableError

EXIT_WRONG = 4
"""Something is wrong. Not 1, which Python ends with when the command itself breaks or lacks a part, and not 3: that is
a server that refused what it was asked, and here it was all asked and answered."""
_EXIT_CODES = "Exit codes: 0 nothing is wrong, though there may be warnings; 2 wrong usage; 4 something is wrong."
_HELP = """Look for what keeps calls from answers.

At this client, the way to the server, TLS, tokens, the server and its solver; each check says on a line whether it is
ok, warning, wrong or skipped, what it found, and what to do about it. Two small packings are solved; nothing is
changed. --http looks at the server's HTTP port too, which alone tells its clock. With --target local it is the solver
in this process that is checked.

\b
Examples:
  trimtab doctor
  trimtab doctor --target placement:50051 --ca ca.pem --token-file token
  trimtab doctor --target placement:50051 --tls --http http://placement:9095
  trimtab doctor --target local
  trimtab doctor --json | jq '.findings[] | select(.state == "wrong")'
"""
_NO_WAY = {("name", "wrong"), ("port", "wrong"), ("tls", "wrong")}
"""Findings after which no call can get through."""
_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}


@click.command("doctor", help=_HELP, epilog=_EXIT_CODES)
@target_options
@click.option(
    "--http",
    metavar="URL",
    callback=check_address,
    help="The server's HTTP port, as http://HOST:9095.  [default: not looked at]",
)
@timeout_option
@json_option
@click.pass_context
def doctor_command(
    context: click.Context, *, target: str, secure: dict[str, Any], http: str | None, timeout: float, as_json: bool
) -> None:
    """Check, and show each finding as it comes."""
    console = make_console()
    findings = []
    for finding in _check(target, secure, context.params["token_file"], http, timeout):
        findings.append(finding)
        if not as_json:
            _show(console, finding)
    if as_json:
        print_json(doctor_findings.as_json(target, findings))
    else:
        console.print()
        console.print(Text(f"{target}: {summary(findings)}"), soft_wrap=True)
    context.exit(EXIT_WRONG if counts(findings)["wrong"] else 0)


def _show(console: Console, finding: Finding) -> None:
    text = Text(finding.line)
    text.stylize(_STYLES[finding.state], 0, len(finding.state))
    console.print(text, soft_wrap=True)


def _check(
    target: str, secure: dict[str, Any], token_file: Path | None, http: str | None, timeout: float
) -> Iterator[Finding]:
    yield from check_client()
    if target == LOCAL:
        yield from check_service(target, secure, timeout)
        return
    place = read_target(target)
    proxy = check_proxy(place.hosts, is_direct=token_file is not None and not wants_tls(secure))
    yield proxy
    yield from check_credentials(target, secure, token_file)
    way = []
    for finding in _check_way(place, secure):
        way.append(finding)
        yield finding
    is_by_proxy = proxy.state == "warning"
    if not is_by_proxy and any((each.check, each.state) in _NO_WAY for each in way):
        yield skipped("service", "no way leads there, as told above")
    else:
        is_explained = is_by_proxy or counts(way)["wrong"] > 0
        for finding in check_service(target, secure, timeout):
            yield _pointing_up(finding) if is_explained else finding
    yield from check_http(http, timeout)


def _pointing_up(finding: Finding) -> Finding:
    """A call that found no server has less to say than the lines above it."""
    is_gone = isinstance(finding.cause, UnavailableError)
    return replace(finding, advice="the reason should stand above") if is_gone else finding


def _check_way(target: Target, secure: dict[str, Any]) -> Iterator[Finding]:
    """Name, port and TLS."""
    addresses = resolve(target)
    if isinstance(addresses, Finding):
        yield addresses
        return
    if not addresses:
        yield skipped("name", f"{target.text} is looked up by gRPC itself, so port and TLS are not looked at")
        return
    yield from check_name(target, addresses)
    port, answered = check_port(addresses)
    yield port
    if answered:
        yield from check_tls(answered[0], secure["server_name"] or target.name, secure)
