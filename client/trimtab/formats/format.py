"""What a format is: a module beside this one that has these names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from trimtab.formats.source import Source
from trimtab.formats.stored import LoadWindows, StoredPlacement

Held = frozenset[Literal["loads", "placement"]]
NOTHING: Held = frozenset()
LOADS: Held = frozenset({"loads"})
PLACEMENT: Held = frozenset({"placement"})
EITHER: Held = LOADS | PLACEMENT
"""Numbers without a name can be either."""


class Format(Protocol):
    """One way to write loads and placements down."""

    NAME: str
    """What `--format` calls it."""
    READS: str
    """The files that it reads, in a few words."""
    PLACEMENT_ENDINGS: tuple[str, ...]
    """Endings of the placements that it writes, the usual one first; none where the engine takes no such file."""

    def holds(self, source: Source, /) -> Held:
        """What a source holds, told by what is in it; nothing where it is not of this format.

        Raises:
            FileError: it begins like this format and is broken.
        """
        ...

    def read_loads(self, sources: Sequence[Source], at_most: int | None, /) -> LoadWindows:
        """All windows of these sources, in their order; summed until there are `at_most`, unless that is None.

        Raises:
            FileError: one of them is not as this format has it.
        """
        ...

    def read_placement(self, source: Source, /) -> StoredPlacement:
        """The placement in a source.

        Raises:
            FileError: it is not as this format has it.
        """
        ...

    def placement_bytes(self, placement: StoredPlacement, ending: str, /) -> bytes:
        """A placement as this format writes it, for a name with one of its endings.

        Raises:
            FormatError: the placement lacks something that the format tells.
        """
        ...
