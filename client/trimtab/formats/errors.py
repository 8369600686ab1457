"""The error of a load file."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import TrimtabError


class LoadFileError(TrimtabError):
    """A file of loads can't be read or written; the message names the file, what is wrong, and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")
