"""Where loads come from: one small interface, and what the sources behind it share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Protocol

from trimtab.formats import STANDARD, FileError, LoadWindows, Source
from trimtab.watch.state import Position

Read = Callable[[Sequence[Source]], LoadWindows]
"""Windows of files, or of what stands for them.

Raises:
    FileError: one holds no loads, or they don't go together.
"""
Failed = Literal["source", "unreadable"]
"""`source`: it can't be reached now; `unreadable`: what it gave are no loads."""
_HEAD = 1 << 16


@dataclass(frozen=True, eq=False)
class Taken:
    """One thing that a look found, in a source's own order."""

    name: str
    """What messages call it."""
    position: Position = field(default_factory=dict)
    """What to remember once it is taken; None for a key: to forget it."""
    windows: LoadWindows | None = None
    failure: tuple[Failed, str] | None = None
    """Why there are no windows, in words that follow the name."""
    note: str | None = None
    """What else a user should know, likewise."""


class LoadSource(Protocol):
    """Something that has new loads from time to time."""

    name: str
    """Which one it is: a journal goes on only with the source that it was begun with."""
    is_waiting: bool
    """Whether the last look saw something that may not be whole yet."""

    def poll(self, position: Mapping[str, Any]) -> Iterator[Taken]:
        """What is new since `position`, oldest first, each with what to remember; it is read when it is asked for."""
        ...


class Received(Source):
    """Bytes that came another way than as a file of their own, to be read like one."""

    def __init__(self, name: str, content: bytes) -> None:
        """Look at them.

        Raises:
            FileError: there are none.
        """
        if not content:
            raise FileError(name, "is empty")
        self.path = STANDARD
        self.is_standard = True  # so that nobody opens the path
        self.name = name
        self.head = content[:_HEAD]
        self._content = content

    def open(self) -> BinaryIO:
        """The bytes, from the first."""
        return io.BytesIO(self._content)

    def read(self) -> bytes:
        """All of them."""
        return self._content


def told_reason(error: FileError) -> str:
    """What is wrong, without the name that it begins with."""
    return str(error).removeprefix(f"{error.path}: ")
