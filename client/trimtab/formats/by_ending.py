"""A file read by the ending of its name, with one line about whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trimtab import wire
from trimtab.errors import InvalidArgumentError, TrimtabError
from trimtab.formats.errors import FileError

Array = npt.NDArray[Any]

_LONGEST_REASON = 160


def read(path: Path, readers: Mapping[str, Callable[[Path], Any]], check: Callable[[Path, Array], Array]) -> Array:
    """What the reader of its ending finds, as an array that has passed the check.

    Raises:
        FileError: no such file, empty, a folder, of an unknown kind, not what its ending says, not numbers, or what
            the check raises.
    """
    reader = readers[known_ending(path, readers, "read")]
    try:
        _check_there(path)
        return check(path, _as_array(path, reader(path)))
    except TrimtabError:
        raise
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror or error})") from error
    except Exception as error:  # what foreign parsers raise at a broken file is without end
        raise FileError(path, _unreadable(path, error)) from error


def known_ending(path: Path, known: Collection[str], done: str) -> str:
    """The ending of a name, in small letters.

    Raises:
        FileError: it is none of those known; says what could not be `done`.
    """
    ending = path.suffix.lower()
    if ending not in known:
        kinds = ", ".join(known)
        raise FileError(path, f"its ending {ending!r} is none of those that can be {done}: {kinds}")
    return ending


def _check_there(path: Path) -> None:
    if path.is_dir():
        raise FileError(path, "is a folder; name one file in it")
    if not path.exists():
        raise FileError(path, "there is no such file; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(path, "is empty; whatever should have written it did not")


def _as_array(path: Path, values: Any) -> Array:
    try:
        return wire.to_array(values, path.name)
    except InvalidArgumentError as error:
        raise FileError(path, f"does not hold numbers ({error.violations[0].description})") from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
    return f"can't be read as {path.suffix.lower()} ({reason}); save it again, as numbers, or give it its true ending"
