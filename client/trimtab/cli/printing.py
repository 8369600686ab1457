"""Where the command prints: standard output, unless a file was asked for there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from trimtab.formats import STANDARD

_LEAST_WIDTH = 60
"""In less, figures would be cut, and a cut figure is a wrong one: a narrower terminal wraps lines instead."""


def make_console(output: Path | None = None) -> Console:
    """A console that shows text as it is: brackets and colons in file names are no markup, numbers get no colours.

    It prints on standard error where standard output gets the file `output`.
    """
    console = Console(markup=False, emoji=False, highlight=False, stderr=output == STANDARD)
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def print_json(values: Mapping[str, Any], output: Path | None = None) -> None:
    """One object, on one line; likewise."""
    click.echo(json.dumps(values, allow_nan=False), err=output == STANDARD)


def show_written(console: Console, output: Path | None, more: str = "") -> None:
    """Where the answer was written, if it was written to a file."""
    if output is not None and output != STANDARD:
        console.print(f"written to {output}{more}", soft_wrap=True)


def told_output(output: Path) -> str:
    """What messages call the file that was written."""
    return "standard output" if output == STANDARD else str(output)


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Says what is done meanwhile, on standard error where that is a terminal, and takes it away again."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A bar, likewise; what to call for a step."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
