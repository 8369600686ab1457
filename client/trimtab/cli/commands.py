"""The command `trimtab`: all commands, by what they are for; each is loaded when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from trimtab.cli.failures import EXIT_CODES, OneLineGroup
from trimtab.version import __version__

_SECTIONS = {
    "Place experts": ("rebalance", "watch", "pack"),
    "See what it gains": ("replay", "demo"),
    "Files": ("convert", "generate"),
    "Servers": ("doctor", "describe"),
    "Shell": ("completion",),
}
_CAPTION = """Balanced placements for the experts of Mixture-of-Experts serving clusters.

\b
  trimtab demo                                    a server, and what it does
  trimtab rebalance LOADS --gpus 32 --replicas 288 -o placement.json
  trimtab COMMAND --help                          what a command takes, with examples
"""


class Commands(OneLineGroup):
    """Every command `x` stands in the module `x_command`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All names, in the order of the sections."""
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name, None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = getattr(import_module(f"trimtab.cli.{cmd_name}_command"), f"{cmd_name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Section by section."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name.ljust(width), command.get_short_help_str(100)) for name, command in commands if command]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(cls=Commands, invoke_without_command=True, help=_CAPTION, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="trimtab", message="%(prog)s %(version)s")
@click.pass_context
def trimtab(context: click.Context) -> None:
    """The group of all commands; alone it tells what there is."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
