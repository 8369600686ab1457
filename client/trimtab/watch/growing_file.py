"""A file of lines that grows, as vLLM's load statistics: every line that is whole is read once.

Where it is cut and written anew it is read from its beginning. Where it is renamed and another one takes its name, what
had not been read is looked for in the folder, by the inode, before the new one is begun.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from trimtab.formats import FileError, LoadWindows
from trimtab.watch.sources import Read, Received, Taken, told_reason

_HEAD = 1024
"""Bytes that tell a file from one that came to have the same inode."""
_MOST_BYTES = 64 << 20
"""Read at one look."""
_META = b'"eplb_load_meta"'
"""In a line of vLLM's that has no loads, and stands for all lines after it."""
_CUT = "was cut and written anew, so it is read from its beginning"
_REPLACED = "was replaced; lines that came after the last look, if any, are gone with the file that had its name"


@dataclass(frozen=True)
class _Place:
    """How far a file was read."""

    inode: int
    offset: int
    head: str
    """Digest of the first bytes before the offset, at most _HEAD."""
    meta: str = ""
    """The latest line of that kind, with its end."""

    def is_of(self, file: BinaryIO) -> bool:
        """Whether an open file has what was read."""
        status = os.fstat(file.fileno())
        same = status.st_ino == self.inode and status.st_size >= self.offset
        return same and _digest_head(file, self.offset) == self.head


class GrowingFile:
    """The lines of one file."""

    def __init__(self, path: Path, read: Read, *, most_bytes: int = _MOST_BYTES) -> None:
        """Look at nothing yet.

        Args:
            path: the file, by the name that new lines come under.
            read: what reads lines.
            most_bytes: read at one look; where more are new, the older of them are passed over.
        """
        self.path = path.absolute()
        self.name = f"lines of {self.path}"
        self.is_waiting = False
        self._read = read
        self._most_bytes = most_bytes

    def poll(self, position: Mapping[str, Any]) -> Iterator[Taken]:
        """The lines that are new, all of them together; those of a renamed file first.

        The position says how far the file was read that had the name then.
        """
        place = _Place(**position) if position else None
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if place is not None and not place.is_of(file):
                    is_cut = status.st_ino == place.inode
                    last = Taken(str(self.path), note=_CUT) if is_cut else self._last_of(place)
                    if not (is_cut or status.st_size):  # nobody writes under this name yet
                        yield from [last] * bool(last.position)
                        return
                    place = _Place(status.st_ino, 0, _digest_head(file, 0))
                    yield replace(last, position=asdict(place))
                yield from self._lines(file, self.path, place)
        except OSError as error:
            yield Taken(str(self.path), failure=("source", f"can't be read ({error.strerror or error})"))

    def _last_of(self, place: _Place) -> Taken:
        """What had not been read of the file that had this name, if it is still there."""
        for beside in self.path.parent.iterdir():
            if beside.is_file() and beside.stat().st_ino == place.inode:
                with beside.open("rb") as file:
                    if place.is_of(file):
                        return next(self._lines(file, beside, place), Taken(str(beside)))
        return Taken(str(self.path), note=_REPLACED)

    def _lines(self, file: BinaryIO, path: Path, place: _Place | None) -> Iterator[Taken]:
        """All whole lines after a place, if there are any."""
        status = os.fstat(file.fileno())
        begin = place.offset if place else 0
        start = max(begin, status.st_size - self._most_bytes)
        file.seek(start)
        content = file.read(self._most_bytes)
        first = content.find(b"\n") + 1 if start > begin else 0
        last = content.rfind(b"\n") + 1
        if last <= first and len(content) < self._most_bytes:
            return
        is_long = last <= first
        end = start + (len(content) if is_long else last)
        lines = [] if is_long else content[first:last].splitlines(keepends=True)
        meta = next((line.decode(errors="replace") for line in reversed(lines) if _META in line), None)
        before = place.meta if place else ""
        reached = _Place(status.st_ino, end, _digest_head(file, end), before if meta is None else meta)
        windows, failure = self._windows(path, lines, before.encode(), start + first)
        if is_long:
            failure = f"has a line of more than {self._most_bytes:,} bytes, which is left out"
        note = f"has {start - begin:,} bytes of older lines, which are passed over" if start > begin else None
        yield Taken(str(path), asdict(reached), windows, ("unreadable", failure) if failure else None, note)

    def _windows(
        self, path: Path, lines: list[bytes], meta: bytes, begin: int
    ) -> tuple[LoadWindows | None, str | None]:
        """What these lines hold, and what is wrong with those that are left out."""
        if all(not line.strip() or _META in line for line in lines):
            return None, None
        try:
            return self._read([Received(str(path), meta + b"".join(lines))]), None
        except FileError:  # then line by line, to lose no more than has to be
            good, bad = self._sort(lines, meta, begin)
        failure = (
            f"{len(bad)} of {len(bad) + len(good)} new lines can't be read; the first is {bad[0]}" if bad else None
        )
        try:
            return self._read(good) if good else None, failure
        except FileError as error:  # each alone can be read, so they are of several shapes
            return self._read(good[-1:]), f"only the last of its new lines is taken; {told_reason(error)}"

    def _sort(self, lines: list[bytes], meta: bytes, begin: int) -> tuple[list[Received], list[str]]:
        """The lines that can be read, and what is wrong with the others."""
        good, bad = [], []
        for line in lines:
            if _META in line:
                meta = line
            elif line.strip():
                received = Received(f"the line at byte {begin}", meta + line)
                try:
                    self._read([received])
                    good.append(received)
                except FileError as error:
                    bad.append(f"that at byte {begin}: {told_reason(error)}")
            begin += len(line)
        return good, bad


def _digest_head(file: BinaryIO, offset: int) -> str:
    file.seek(0)
    return sha256(file.read(min(offset, _HEAD))).hexdigest()
