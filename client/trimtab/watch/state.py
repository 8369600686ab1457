"""What the controller knows: made of the journal's records, one after the other, at work as after a start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trimtab.formats import StoredPlacement
from trimtab.watch.history import History
from trimtab.watch.packed import Packed, pack_placement, pack_windows, unpack_placement, unpack_windows

VERSION = 1
"""Of the journal's records; it changes when an older reader would misread them."""

Record = dict[str, Any]
Position = dict[str, Any]
"""What a source needs to read nothing twice, by keys of its own."""


@dataclass(frozen=True, eq=False)
class Known:
    """A placement, and the bytes that the output has when it is there."""

    placement: StoredPlacement
    digest: str | None
    """SHA-256 of the output's bytes; None where there is no output yet."""
    moves: int | None = None
    """Of the rebalance that it came from; None where it was in force already."""


class State:
    """Where reading has come to, the windows read, and the placements known."""

    def __init__(self, history: History) -> None:
        self.source: str | None = None
        self.position: Position = {}
        self.history = history
        self.is_due = False
        """Whether windows were read that nothing was decided on yet."""
        self.told: StoredPlacement | None = None
        """The placement that the latest windows were counted under, where they tell."""
        self.known: Known | None = None
        """The placement that the output has, or had last."""
        self.intended: Known | None = None
        """One that is being written; after a crash nobody knows whether it was."""
        self.rebalanced_at: float | None = None
        """Seconds since the epoch."""

    @property
    def in_force(self) -> StoredPlacement | None:
        """What is served by: what the loads tell, else what the output has."""
        known = None if self.known is None else self.known.placement
        return known if self.told is None else self.told

    def apply(self, record: Record) -> None:
        """Take one record of the journal; nothing is changed by one that is broken.

        Raises:
            KeyError, ValueError, TypeError, zlib.error: no record of this version.
        """
        takers = {
            "begun": self._begin,
            "state": self._restore,
            "read": self._read,
            "decided": self._decided,
            "adopted": self._adopt,
            "intended": self._intend,
            "written": self._written,
        }
        takers[record["event"]](record)

    def _begin(self, record: Record) -> None:
        _check_version(record)
        source = str(record["source"])
        if self.source not in (None, source):
            self.position, self.told, self.is_due = {}, None, False
            self.history.clear()
        self.source = source

    def _read(self, record: Record) -> None:
        windows = record["windows"] and unpack_windows(record["windows"])
        told = unpack_placement(record["told"])
        for key, value in record["position"].items():
            if value is None:
                self.position.pop(key, None)
            else:
                self.position[key] = value
        if windows:
            self.history.add(windows)
            self.is_due = True
            self.told = told

    def _decided(self, record: Record) -> None:
        self.is_due = record["is_due"]

    def _adopt(self, record: Record) -> None:
        self.known, self.intended = _unpack_known(record["known"]), None

    def _intend(self, record: Record) -> None:
        self.intended = _unpack_known(record["known"])

    def _written(self, record: Record) -> None:
        if self.intended is None:
            raise ValueError("nothing was intended")
        self.known, self.intended = self.intended, None
        if self.known.moves is not None:
            self.is_due = False
            self.rebalanced_at = float(record["at"])

    def record(self) -> Record:
        """All of it in one record, that `apply` makes it of again."""
        windows = self.history.windows
        return {
            "version": VERSION,
            "source": self.source,
            "position": self.position,
            "windows": windows and pack_windows(windows),
            "is_due": self.is_due,
            "told": pack_placement(self.told),
            "known": pack_known(self.known),
            "intended": pack_known(self.intended),
            "rebalanced_at": self.rebalanced_at,
        }

    def _restore(self, record: Record) -> None:
        _check_version(record)
        windows = record["windows"] and unpack_windows(record["windows"])
        told, known, intended = (
            unpack_placement(record["told"]),
            _unpack_known(record["known"]),
            _unpack_known(record["intended"]),
        )
        self.history.clear()
        if windows:
            self.history.add(windows)
        self.source, self.position, self.is_due = record["source"], dict(record["position"]), record["is_due"]
        self.told, self.known, self.intended = told, known, intended
        self.rebalanced_at = record["rebalanced_at"]


def _check_version(record: Record) -> None:
    if record["version"] != VERSION:
        raise ValueError(f"it is of version {record['version']}, this trimtab reads version {VERSION}")


def pack_known(known: Known | None) -> Packed | None:
    """As a value of a record; None stays None."""
    if known is None:
        return None
    placement = pack_placement(known.placement)
    return {"placement": placement, "digest": known.digest, "moves": known.moves}


def _unpack_known(packed: Packed | None) -> Known | None:
    placement = packed and unpack_placement(packed["placement"])
    return Known(placement, packed["digest"], packed["moves"]) if packed and placement else None
