"""A folder that dumps come into, a file each.

A file is read when its size and time of change are what they were at the look before: whoever writes one is taken to
never pause for as long as that. One that was read, or could not be, is read again when size or time have changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab.formats import FileError, Source
from trimtab.watch.sources import Read, Taken, told_reason

_Look = list[int]
"""Bytes, and nanoseconds at which they changed: a list, as JSON has no tuples."""


class DumpFolder:
    """Files in one folder; those in folders below it, and hidden ones, are left alone."""

    def __init__(self, path: Path, read: Read, *, most: int, left_out: frozenset[Path] = frozenset()) -> None:
        """Look at nothing yet.

        Args:
            path: the folder.
            read: what reads files.
            most: files worth reading at one look; older ones are passed over.
            left_out: files in it that are none of its dumps, resolved.
        """
        self.path = path.resolve()
        self.name = f"folder {self.path}"
        self.is_waiting = False
        self._read = read
        self._most = most
        self._left_out = left_out
        self._seen: dict[str, _Look] = {}
        """At the last look, all files."""

    def poll(self, position: Mapping[str, Any]) -> Iterator[Taken]:
        """New dumps that have come to rest, by the time of their last change.

        The position has the look of each file that is done with, by name.
        """
        try:
            found = self._look()
        except OSError as error:
            self.is_waiting = False
            yield Taken(str(self.path), failure=("source", f"can't be listed ({error.strerror or error})"))
            return
        new = {name: look for name, look in found.items() if position.get(name) != look}
        settled = [name for name, look in new.items() if look[0] and self._seen.get(name) == look]
        self._seen = found
        self.is_waiting = len(settled) < len(new)
        settled.sort(key=lambda name: (found[name][1], name))
        gone = dict.fromkeys(name for name in position if name not in found)
        passed_over = settled[: -self._most]
        if gone or passed_over:
            yield self._forget_and_pass(gone, {name: found[name] for name in passed_over})
        for name in settled[-self._most :]:
            yield self._take(name, found[name])

    def _look(self) -> dict[str, _Look]:
        found = {}
        for file in self.path.iterdir():
            if file.name.startswith(".") or not file.is_file() or file in self._left_out:
                continue
            try:
                status = file.stat()
            except FileNotFoundError:  # gone meanwhile
                continue
            found[file.name] = [status.st_size, status.st_mtime_ns]
        return found

    def _forget_and_pass(self, gone: dict[str, None], passed_over: dict[str, _Look]) -> Taken:
        note = None
        if passed_over:
            num_new = len(passed_over) + self._most
            note = f"has {num_new} new dumps, of which the latest {self._most} are read, as no more are kept"
        return Taken(str(self.path), {**gone, **passed_over}, note=note)

    def _take(self, name: str, look: _Look) -> Taken:
        path = self.path / name
        position = {name: look}
        try:
            return Taken(str(path), position, self._read([Source(path)]))
        except FileError as error:
            return Taken(str(path), position, failure=("unreadable", told_reason(error)))
