"""The reference of the command `trimtab`, from click's own help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
from docs.site.text import cell, code, plain, table

from trimtab.cli.commands import trimtab

_UNWRAPPED = "\b"
"""A line that holds it alone keeps the paragraph below it from being filled, as click has it."""


def commands() -> str:
    """The command itself, then each of its commands by name."""
    context = click.Context(trimtab, info_name="trimtab")
    return "\n\n".join([*_told(trimtab, context, ""), *_below(trimtab, context)])


def _below(group: click.Group, above: click.Context) -> Iterator[str]:
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=above)
        yield f"## {context.command_path}"
        yield from _told(command, context, context.command_path)
        if isinstance(command, click.Group):
            yield from _below(command, context)


def _told(command: click.Command, context: click.Context, path: str) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [(code(names), cell(words)) for names, words in filter(None, records) if words]
    if path:
        yield table(("option", ""), rows)
        yield from _paragraphs(command.epilog or "")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.startswith(_UNWRAPPED):
            lines = paragraph.splitlines()[1:]
            if lines[0].endswith(":"):
                yield lines.pop(0)
            yield "```text\n" + inspect.cleandoc("\n".join(["", *lines])) + "\n```"
        elif paragraph:
            yield plain(paragraph)
