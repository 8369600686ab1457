"""How commands are asked for drawings: the options, and what can be said against them before anything is solved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from trimtab.cli.files import check_output
from trimtab.cli.options import FILE, in_order
from trimtab.cli.report.drawing import find_matplotlib


@dataclass(frozen=True)
class Drawings:
    """What to draw, and where to."""

    page: Path | None
    picture: Path | None

    def check(self, inputs: Sequence[Path]) -> None:
        """Find out that they can't be made.

        Raises:
            InputFailure: another ending, no such folder, a folder, a file that is an input, or no matplotlib.
        """
        for option, file, ending in (("--report", self.page, ".html"), ("--plot", self.picture, ".png")):
            if file is not None:
                check_output(option, file, ending, inputs)
                find_matplotlib(option)

    def show(self, console: Console) -> None:
        """Where they are."""
        for file in (self.page, self.picture):
            if file is not None:
                console.print(f"drawn to {file}", soft_wrap=True)


def drawing_options(picture: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What to draw, as `drawings`; `picture` says what is on the picture."""
    options = in_order(
        click.option("--report", "page", metavar="FILE.html", type=FILE, help="Write a page with all that was found."),
        click.option("--plot", "picture", metavar="FILE.png", type=FILE, help=picture),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(*, page: Path | None, picture: Path | None, **arguments: Any) -> Any:
            return command(drawings=Drawings(page, picture), **arguments)

        return options(collected)

    return decorate
