"""The code on the pages of the documentation: every fenced block, and the commands in those of a console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.site.pages import pages

from tests.kept_venv import ROOT

PROMPT = "$ "
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)[^`]*$")
_HEADING = re.compile(r"^(#{1,2}) +(.*)$")
_HERE = re.compile(r"<<-?\s*'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """What stands after a prompt, and what is shown below it."""

    text: str
    shown: str

    @property
    def words(self) -> str:
        """The command in one line, without its comment."""
        return " ".join(re.sub(r"\s+#\s.*|\\$", "", line) for line in self.text.splitlines()).strip()


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    """From the root."""
    line: int
    """Of its fence."""
    section: str
    """The heading of the first or second level above it."""
    language: str
    text: str
    follows: bool = False
    """Nothing but empty lines stand between it and the block before."""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[Command]:
        """Those of a console's block, in order."""
        return list(_commands(self))


def pages_with_blocks() -> list[Path]:
    """The pages that have any, from the root."""
    return [page for page in pages() if blocks(page)]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    return list(_blocks(page, (ROOT / page).read_text().splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    section, follows, at = "", False, 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        if not opened:
            heading = _HEADING.match(lines[at])
            section = heading[2] if heading else section
            follows = follows and not lines[at].strip()
            at += 1
            continue
        closing = f"{opened['indent']}{opened['fence']}"
        end = next((n for n in range(at + 1, len(lines)) if lines[n].rstrip() == closing), None)
        assert end is not None, f"{page}:{at + 1}: a fence that nothing closes"
        text = "\n".join(line.removeprefix(opened["indent"]) for line in lines[at + 1 : end]) + "\n"
        yield Block(page, at + 1, section, opened["language"], text, follows)
        follows, at = True, end + 1


def _commands(block: Block) -> Iterator[Command]:
    lines = block.text.splitlines()
    assert not lines or lines[0].startswith(PROMPT), f"{block.place}: begins without a prompt"
    while lines:
        command = [lines.pop(0).removeprefix(PROMPT)]
        here = _HERE.search(command[0])
        while lines and (command[-1].endswith("\\") or (here and command[-1] != here[1])):
            command.append(lines.pop(0))
        shown = []
        while lines and not lines[0].startswith(PROMPT):
            shown.append(lines.pop(0))
        yield Command("\n".join(command), "\n".join(shown))
