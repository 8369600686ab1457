"""Who keeps the output and the journal of one mind about the placement in force."""

from __future__ import annotations

import numpy as np

from trimtab.formats import FileError, StoredPlacement
from trimtab.watch.decision import Figures
from trimtab.watch.events import Events
from trimtab.watch.journal import Records
from trimtab.watch.metrics import Metrics
from trimtab.watch.output import Output, digest
from trimtab.watch.state import Known, pack_known


class Keeper:
    """Writes placements between two records, and finds out after a crash whether that was done."""

    def __init__(self, output: Output, records: Records, events: Events, metrics: Metrics) -> None:
        self._output = output
        self._records, self._state = records, records.state
        self._events, self._metrics = events, metrics
        self._told_unusable: str | None = None
        """Digest of what the output had, when that was no placement."""

    def take(self, previous: StoredPlacement) -> None:
        """Begin with a placement that is in force, whatever the output has.

        Raises:
            FileError: the output can't be read.
        """
        self._adopt(Known(previous, self._output.digest()))

    def put(self, placement: StoredPlacement, words: str, figures: Figures) -> None:
        """Write a placement: say so, do it, and say that it is done.

        Args:
            placement: what is to come into force.
            words: why, for the event that tells it.
            figures: of the decision, with its moves; none where it is no rebalance.

        Raises:
            FormatError: the output's format can't have it, or there is no room or right to write it.
        """
        content = self._output.encode(placement)
        moves = figures.get("moves")
        known = Known(placement, digest(content), None if moves is None else int(moves))
        self._records.append("intended", known=pack_known(known), words=words, figures=figures)
        self._output.write(content)
        self._finish(words if moves is None else f"{words}; written to {self._output.path}", figures)

    def settle(self) -> bool:
        """Compare the output with what it should have; whether a rebalance that was begun is now done.

        What was intended is written, unless it was. What somebody else wrote is in force, as engines read it; where it
        is no placement, it is replaced by the next. A file that is gone is written again.

        Raises:
            FormatError: the output can't be read or written, or has no placement and none is known.
        """
        found = self._output.digest()
        known, intended = self._state.known, self._state.intended
        should = known.digest if known else None
        if intended is not None:
            if found == intended.digest:
                self._finish(f"what was decided before had been written to {self._output.path}", _figures(intended))
            elif found in (None, should):
                self.put(intended.placement, "what was decided before is done", _figures(intended))
            else:
                self._find(found)
            return self._state.known is not known and intended.moves is not None and not self._state.is_due
        if found is None and known is not None and should is not None:
            self.put(known.placement, f"{self._output.path} had gone, and is there again", {})
        elif found not in (None, should):
            self._find(found)
        return False

    def told_other(self) -> str:
        """Words on loads that were counted under another placement than the output has; empty where they were not."""
        told, known = self._state.told, self._state.known
        if (
            told is None
            or known is None
            or np.array_equal(told.physical_to_logical, known.placement.physical_to_logical)
        ):
            return ""
        return f"; counted under another placement than {self._output.path} has, which is taken to be in force"

    def _find(self, found: str | None) -> None:
        """Take what somebody else wrote."""
        try:
            placement = self._output.read()
        except FileError as error:
            self._refuse(found, error)
            return
        known = self._state.known
        self._adopt(Known(placement, found))
        here = "it is in force" if known is None else "it was not written from here, and is in force now"
        self._events.tell("adopted", f"{self._output.path} has a placement: {here}")

    def _refuse(self, found: str | None, error: FileError) -> None:
        """Go on with the placement known, though the output has none."""
        known, intended = self._state.known, self._state.intended
        if known is None and intended is None:
            raise error
        if found != self._told_unusable:
            self._told_unusable = found
            self._metrics.failed("output")
            self._events.tell("failed", f"{error}; the placement that was known stays in force", reason="output")
        if intended is not None:
            self.put(intended.placement, "what was decided before is done", _figures(intended))

    def _adopt(self, known: Known) -> None:
        self._records.append("adopted", known=pack_known(known))

    def _finish(self, words: str, figures: Figures) -> None:
        """Say that what was intended is written."""
        self._records.append("written")
        moves = figures.get("moves")
        if moves is not None:
            self._metrics.made(int(moves))
        self._events.tell("written", words, **figures)


def _figures(intended: Known) -> Figures:
    """Those that are known after a crash."""
    return {} if intended.moves is None else {"moves": intended.moves}
