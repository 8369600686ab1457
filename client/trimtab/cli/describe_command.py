"""The command `trimtab describe`: what a server is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from trimtab.cli.failures import EXIT_CODES, told
from trimtab.cli.options import json_option, target_options, timeout_option
from trimtab.cli.printing import make_console, print_json
from trimtab.cli.tables import show_description
from trimtab.client import Client

_HELP = """Ask a server what it is: version, algorithm, solvers, limits.

\b
Examples:
  trimtab describe
  trimtab describe --target placement:50051 --json
  trimtab describe --target placement:50051 --ca ca.pem --token-file token
"""


@click.command("describe", help=_HELP, epilog=EXIT_CODES)
@target_options
@timeout_option
@json_option
def describe_command(*, target: str, secure: dict[str, Any], timeout: float, as_json: bool) -> None:
    """Ask and show."""
    with told(target), Client(target, **secure) as client:
        description = client.describe(timeout=timeout)
    if as_json:
        print_json(asdict(description))
        return
    show_description(make_console(), target, description)
