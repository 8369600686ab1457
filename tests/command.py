"""The command `trimtab`, run in the tests' own process."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from trimtab.cli import commands

NOBODY = "127.0.0.1:1"  # a port that nothing listens on


def run(*arguments: Any, columns: int | None = None) -> Result:
    """The command in this process; anything but an exit is a bug, and raised."""
    environment = {"COLUMNS": str(columns) if columns else None}
    return CliRunner().invoke(commands.trimtab, [str(a) for a in arguments], env=environment, catch_exceptions=False)


def ok(*arguments: Any, columns: int | None = None) -> str:
    """What a run that must succeed prints; it says nothing on standard error."""
    result = run(*arguments, columns=columns)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def failed(result: Result, exit_code: int) -> str:
    """The one line of a run that must fail."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    line, rest = result.stderr.split("\n", 1)
    assert rest == ""
    assert line.startswith("trimtab: ")
    return line
