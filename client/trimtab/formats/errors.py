"""The error of a file."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import TrimtabError


class FileError(TrimtabError):
    """A file of loads or of a placement can't be read or written; the message names it, the problem, and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")
