"""The errors of files."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import TrimtabError


class FormatError(TrimtabError):
    """What is asked for does not fit the format; the message says the rule and what to do."""


_LONGEST_REASON = 160


class FileError(FormatError):
    """A file of loads or of a placement can't be read or written; the message names it, the problem, and what to do."""

    def __init__(self, path: Path | str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


def one_line(error: BaseException) -> str:
    """What a foreign parser says, for one of our messages."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
