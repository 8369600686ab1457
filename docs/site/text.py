"""Text for tables of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")


def plain(text: str) -> str:
    """A text that is no Markdown but for its code: no brackets of any kind make links or HTML of it."""
    parts = _CODE.split(text)
    return "".join(part if at % 2 else part.replace("[", "\\[").replace("<", "&lt;") for at, part in enumerate(parts))


def cell(text: str) -> str:
    """The same in one line, which no bar ends."""
    return plain(" ".join(text.split())).replace("|", "\\|")


def code(text: str) -> str:
    """A text as code in a cell, where bars end nothing."""
    return f"`{' '.join(text.split())}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; its cells are made by `cell` or `code`, or are Markdown themselves."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
