"""The journal: a line of JSON for each thing that was read, decided or written, on the disk before the next is done.

Whatever moment the process ends in, the lines tell the next one where to go on. A last line that is not whole was being
written then, and is cut off; a broken line with others after it can't come from that, and is refused. When the file has
outgrown what it comes to, one line with all of that takes its place, in one step.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from trimtab.formats import FileError
from trimtab.version import __version__
from trimtab.watch.state import VERSION, Record, State

_BROKEN = (KeyError, ValueError, TypeError, zlib.error)
_LEAST_BYTES = 1 << 20
_TIMES_THE_STATE = 8
"""How far the file outgrows what it comes to."""


class Records:
    """The state, and what records do to it; these are kept nowhere."""

    def __init__(self, state: State, now: Callable[[], float]) -> None:
        self.state = state
        self._now = now

    def begin(self, source: str) -> None:
        """Say who goes on; what was read of another source is forgotten."""
        self.append("begun", version=VERSION, trimtab=__version__, source=source)

    def append(self, event: str, **fields: Any) -> None:
        """Make one record part of the state."""
        self.state.apply({"at": self._now(), "event": event, **fields})

    def close(self) -> None:
        """Nothing is held."""


class Journal(Records):
    """Records in a file, which one process at a time can have."""

    def __init__(self, path: Path, state: State, now: Callable[[], float], *, least_bytes: int = _LEAST_BYTES) -> None:
        """Lock it, and go through all of its records.

        Args:
            path: made where it is not there.
            state: a new one, for the records to be applied to.
            now: seconds since the epoch.
            least_bytes: a file of fewer is never compacted.

        Raises:
            FileError: somebody else has it, it is broken, or not to be written.
        """
        super().__init__(state, now)
        self.path = path.resolve()
        self._least_bytes = least_bytes
        try:
            self._file = _open_locked(self.path)
        except OSError as error:
            raise FileError(path, f"can't be written ({error.strerror or error})") from error
        try:
            self._size, self.was_torn = replay(self.path, self._file, state)
            self._file.truncate(self._size)
        except BaseException:
            self._file.close()
            raise
        self._limit = self._limit_for(len(_line(self._whole())))  # not of the file, which may have outgrown it long ago

    @property
    def is_new(self) -> bool:
        """Whether it has no record."""
        return self._size == 0

    def append(self, event: str, **fields: Any) -> None:
        """Put one record on the disk, then make it part of the state.

        Raises:
            FileError: no room or right to.
        """
        record = {"at": self._now(), "event": event, **fields}
        try:
            self._size += _put(self._file, record)
        except OSError as error:
            rule = f"can't be written ({error.strerror or error}); nothing goes on without it"
            raise FileError(self.path, rule) from error
        self.state.apply(record)
        if self._size > self._limit:
            self._compact()

    def _compact(self) -> None:
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            file = beside.open("wb")
            fcntl.flock(file, fcntl.LOCK_EX)  # before it has the name by which others would lock it
            size = _put(file, self._whole())
            beside.replace(self.path)
            sync_folder(self.path)
        except OSError as error:
            raise FileError(self.path, f"can't be compacted ({error.strerror or error})") from error
        self._file.close()
        self._file, self._size, self._limit = file, size, self._limit_for(size)

    def _whole(self) -> Record:
        """All that the records come to, in one."""
        return {"at": self._now(), "event": "state", "trimtab": __version__, **self.state.record()}

    def _limit_for(self, size: int) -> int:
        return max(self._least_bytes, _TIMES_THE_STATE * size)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _open_locked(path: Path) -> BinaryIO:
    """The file under this name, locked; it may have been replaced while it was opened.

    Raises:
        FileError: somebody else has it.
        OSError: it can't be opened.
    """
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            file.close()
            rule = "another watcher is at work on it; stop that one, or name another with --journal"
            raise FileError(path, rule) from None
        except FileNotFoundError:
            pass
        file.close()


def replay(path: Path, file: BinaryIO, state: State) -> tuple[int, bool]:
    """Apply all records of a file to a new state; the bytes of those that are whole, and whether one was torn.

    Raises:
        FileError: a record before the last is broken.
    """
    file.seek(0)
    end = 0
    for number, line in enumerate(file, 1):
        record = _parse(line)
        if record is None and not file.read(1):
            return end, True
        try:
            state.apply(record or {})
        except _BROKEN as error:
            reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            rule = f"its line {number} is no record of this version ({reason}), so what it says can't be relied on"
            raise FileError(path, f"{rule}; move it away, and name the placement in force with --previous") from None
        end += len(line)
    return end, False


def _parse(line: bytes) -> Record | None:
    """The object of a whole line."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _put(file: BinaryIO, record: Record) -> int:
    """Append a line and wait until the disk has it; its length."""
    line = _line(record)
    file.write(line)
    file.flush()
    os.fsync(file.fileno())
    return len(line)


def sync_folder(path: Path) -> None:
    """Wait until the disk has a file's name."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
