"""How the command fails: one plain line that says what to do next, and an exit code that scripts can tell apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from trimtab import errors
from trimtab.channel import LOCAL
from trimtab.formats.errors import FormatError

EXIT_INPUT = 2
EXIT_SERVER = 3
EXIT_STOPPED = 130

EXIT_CODES = "Exit codes: 0 done; 2 wrong usage or bad input; 3 the server is not there, or it refused."

_FLAGS = {
    "load": "LOADS",
    "num_packs": "--packs",
    "num_gpus": "--gpus",
    "num_nodes": "--nodes",
    "num_groups": "--groups",
    "hierarchy": "--hierarchy",
    "previous": "--previous",
    "max_moves": "--max-moves",
    "min_gain": "--min-gain",
    "inactive_gpus": "--inactive-gpus",
    "gpu_speed": "--gpu-speed",
    "allow_duplicates": "--allow-duplicates",
    "num_replicas": "--replicas",
    "num_layers": "--layers",
    "num_experts": "--experts",
    "num_windows": "--windows",
    "options.num_restarts": "--restarts",
    "options.target_gap": "--target-gap",
    "num_restarts": "--restarts",
    "target_gap": "--target-gap",
    "drift": "--drift",
    "seed": "--seed",
    "ca": "--ca",
    "cert": "--cert",
    "key": "--key",
    "token": "--token-file",
}
"""What the user typed, for what the contract calls it."""
_SAID: dict[type[errors.TrimtabError], str] = {
    errors.DeadlineExceededError: "no answer from {target} in time ({reason}); give it more with --timeout, or check "
    "the address",
    errors.UnauthenticatedError: "{target} does not know you ({reason}); give your token with --token-file, or your "
    "certificate with --cert and --key",
    errors.PermissionDeniedError: "{target} does not let you ({reason}); ask those who run it",
    errors.UnexpectedStatusError: "{target} answers, but not as a placement server ({reason}); check the address",
}
_HANDSHAKE_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not one to trust: name who signed it with --ca",
    "Hostname Verification": "its certificate has another name: say it as there by --target, or by --server-name",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: leave out --tls, --ca, --cert and --key if that is meant to be so",
    "Socket closed": "something listens there and hung up: it may want TLS (--tls or --ca), or a certificate (--cert)",
}
"""What to do, by what gRPC says when a connection fails."""
_PART = re.compile(r"[.\[]")


class InputFailure(click.ClickException):
    """What was typed, or what a file holds, can't be used."""

    exit_code = EXIT_INPUT


class ServerFailure(click.ClickException):
    """Nobody answered, or the answer was no."""

    exit_code = EXIT_SERVER


class OneLineGroup(click.Group):
    """A group whose failures are one line each, without the usage that click puts above."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, report, and exit."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.Abort:
            code = _report("stopped", EXIT_STOPPED)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else self.name
            code = _report(f"{error.format_message()} ('{path} --help' tells what it takes)", EXIT_INPUT)
        except click.ClickException as error:
            code = _report(error.format_message(), error.exit_code)
        sys.exit(code)


def _report(message: str, exit_code: int) -> int:
    click.echo(f"trimtab: {message}", err=True)
    return exit_code


@contextmanager
def told(target: str) -> Iterator[None]:
    """Turn the domain's errors, met while talking to `target`, into failures."""
    try:
        yield
    except errors.TrimtabError as error:
        of_input = isinstance(error, (errors.InvalidArgumentError, FormatError))
        raise (InputFailure if of_input else ServerFailure)(_explain(error, target)) from error


def _explain(error: errors.TrimtabError, target: str) -> str:
    reason = str(error).rpartition("last error: ")[2].removeprefix("UNKNOWN: ")  # gRPC puts the cause at the end
    if isinstance(error, errors.InvalidArgumentError):
        return "; ".join(f"{_flag(v.field)}: {v.description}" for v in error.violations)
    if isinstance(error, errors.UnavailableError):
        return f"no server answers at {target} ({reason}); {_hint(reason)}"
    if isinstance(error, errors.OverloadedError):
        wait = f" in {error.retry_after_seconds:.1f} s" if error.retry_after_seconds else " later"
        return f"the server at {target} has too much to do ({reason}); try again{wait}"
    return _SAID.get(type(error), "{reason}").format(target=target, reason=reason)


def _hint(reason: str) -> str:
    """What to do when no connection comes about; what gRPC says of a failed handshake tells little to most."""
    for sign, hint in _HANDSHAKE_HINTS.items():
        if sign in reason:
            return hint
    return f"start one with 'trimtab-server', name another with --target, or solve here with --target {LOCAL}"


def _flag(field: str) -> str:
    """What the user typed for a field, or for part of one, as `load.shape`; the field itself where nobody types it."""
    whole = _PART.split(field, maxsplit=1)[0]
    return _FLAGS.get(field) or _FLAGS.get(whole, field)
