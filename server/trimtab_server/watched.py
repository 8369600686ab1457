"""A value that is made of files, and made again when they change: certificates are renewed while a server runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")
Signature = tuple[tuple[int, ...] | None, ...]

LOOK_SECONDS = 1.0
"""Files are looked at no more often than this."""


class BrokenFileError(Exception):
    """A file that a setting names can't be used; the message says which and why, and nothing of what it holds."""


@dataclass(frozen=True)
class File:
    """A file that a setting names."""

    flag: str
    path: Path
    content: bytes = field(repr=False)

    def broken(self, reason: str) -> BrokenFileError:
        """The error of this file."""
        return BrokenFileError(f"{self.flag} {self.path}: {reason}")


class Watched(Generic[T]):
    """What some files come to, taken together; safe to ask from any thread."""

    def __init__(
        self,
        what: str,
        paths: Mapping[str, Path],
        make: Callable[[Sequence[File]], T],
        now: Callable[[], float],
        failed: Callable[[], None],
    ) -> None:
        """Read the files for the first time.

        Args:
            what: what the log calls the value.
            paths: by the setting that names it.
            make: the value of the files, in the order of `paths`; raises `BrokenFileError` where they hold none.
            now: seconds on a clock that never goes back.
            failed: called once for each change that left the files unusable.

        Raises:
            BrokenFileError: the files can't be used.
        """
        self._what = what
        self._paths = paths
        self._make = make
        self._now = now
        self._failed = failed
        self._lock = threading.Lock()
        self._looked = now()
        self._signature = self._sign()  # before reading: what changes in between is seen at the next look
        self._value = self._read()

    @property
    def current(self) -> T:
        """The value of the files as they are now, or as they last were when they could be used."""
        self.look()
        return self._value

    def look(self) -> None:
        """See whether the files have changed, where nobody has lately."""
        if self._now() - self._looked >= LOOK_SECONDS:
            with self._lock:
                self._look()

    def _look(self) -> None:
        now = self._now()
        if now - self._looked < LOOK_SECONDS:  # another thread was first
            return
        self._looked = now
        signature = self._sign()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._value = self._read()
        except BrokenFileError as error:
            self._failed()
            log.error("reload failed", what=self._what, reason=str(error), then="what was read before stays in force")  # noqa: TRY400  # a traceback shows contents
        else:
            log.info("reloaded", what=self._what)

    def _sign(self) -> Signature:
        return tuple(_sign(path) for path in self._paths.values())

    def _read(self) -> T:
        return self._make([_read(flag, path) for flag, path in self._paths.items()])


def _sign(path: Path) -> tuple[int, ...] | None:
    """What differs when a file was written or replaced. Links are followed: Kubernetes swaps them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(flag: str, path: Path) -> File:
    try:
        return File(flag, path, path.read_bytes())
    except OSError as error:
        raise File(flag, path, b"").broken(f"can't be read: {error.strerror or error}") from None
