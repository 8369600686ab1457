"""vLLM: the load statistics that it appends to a file, line by line, while it serves.

A line is a JSON object of the type `eplb_load_stats`: tokens of every slot (`expert_load`), and the expert that each
slot held (`p2l_map`), which changes when vLLM rebalances. The number of ranks stands in each line
or, once, in a line `eplb_load_meta`. Lines of other types are left out. Dense layers are not counted.

vLLM takes no placement at start; its proposals to do so differ, and none has landed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trimtab.formats.checks import as_array, as_placement, check_rectangular
from trimtab.formats.errors import FileError, FormatError
from trimtab.formats.folding import Folding
from trimtab.formats.format import EITHER, NOTHING, Held
from trimtab.formats.source import Source, quote, told
from trimtab.formats.stored import Array, LoadWindows, LogicalCount, StoredPlacement

NAME = "vllm"
READS = "load statistics, JSON lines of the types eplb_load_stats and eplb_load_meta"
PLACEMENT_ENDINGS: tuple[str, ...] = ()

_TYPE, _STATS, _META = "record_type", "eplb_load_stats", "eplb_load_meta"
_LOAD, _MAP, _RANKS, _VERSION = "expert_load", "p2l_map", "num_ranks", 1
_BEGIN = re.compile(rb'"record_type"\s*:\s*"eplb_load_(stats|meta)"')
_LOAD_KEY, _MAP_KEY, _META_TYPE = b'"expert_load": ', b'"p2l_map"', b'"eplb_load_meta"'
_STEP = re.compile(rb'"step"\s*:\s*\d+')
_DIGITS, _PUNCTUATION, _BRACKETS = b"0123456789", b"[], ", b"[] "
_CLAMPED = np.iinfo(np.int64).max
"""What numpy makes of longer numbers."""


def holds(source: Source) -> Held:
    """Told by the type of the first lines; each has the placement beside its loads."""
    return EITHER if source.kind == "json" and _BEGIN.search(source.head) else NOTHING


def read_loads(sources: Sequence[Source], at_most: int | None) -> LoadWindows:
    """A window a line."""
    folding = Folding(at_most)
    placement = None
    for source in sources:
        lines = _Lines(source)
        with told(source):
            for number, line in _numbered(source):
                load = lines.load(number, line)
                if load is not None:
                    folding.add(source, load)
        if lines.placement is None:
            raise _no_lines(source)
        placement = lines.placement
    assert placement is not None  # noqa: S101  # there is a source, and each has one
    return LoadWindows(folding.windows(), placement.layers, folding.num_read, placement)


def read_placement(source: Source) -> StoredPlacement:
    """Of the last line that is whole; those before are not looked at."""
    lines = _Lines(source)
    latest: list[tuple[int, bytes]] = []
    for number, line in _numbered(source):
        if _META_TYPE in line:
            lines.load(number, line)
        elif _MAP_KEY in line:
            latest = [*latest[-1:], (number, line)]
    for number, line in reversed(latest):
        if lines.load(number, line) is not None:
            break
    if lines.placement is None:
        raise _no_lines(source)
    return lines.placement


def placement_bytes(placement: StoredPlacement, ending: str) -> bytes:  # noqa: ARG001  # as every format has it
    """Raises: vLLM reads none."""
    raise FormatError(f"{NAME}: vLLM takes no placement at start; choose another format")


def _no_lines(source: Source) -> FileError:
    return FileError(
        source.name, f"has no whole line of type {_STATS}; was it recorded to the end of a first interval?"
    )


def _numbered(source: Source) -> Iterator[tuple[int, bytes]]:
    with source.open() as file:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


class _Lines:
    """Lines of one file. What a line has in common with the one before is not parsed again: the map seldom changes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._num_ranks: int | None = None
        self._count: LogicalCount | None = None
        self._around: tuple[bytes, bytes, bytes] | None = None
        """Of the line parsed last, where it is as plain as vLLM writes it."""
        self.placement: StoredPlacement | None = None

    def load(self, number: int, line: bytes) -> Array | None:
        """Tokens of each expert in a line, [num_layers, num_experts]; None where it has none.

        Raises:
            FileError: it is not as vLLM writes it; but the last one may be cut off, since it may be being written.
        """
        around, numbers = _split(line)
        if self._count is not None and around == self._around:
            counts = _counts(numbers)
            if counts is not None and counts.size == self._count.num_slots and counts.max() < _CLAMPED:
                return self._count.of(counts)
        record = self._parsed(number, line)
        if record is None or record[_TYPE] != _STATS:
            return None
        counts, self._count = self._checked(number, record)
        is_plain = around[0].endswith(_LOAD_KEY) and not around[1].translate(None, _PUNCTUATION)
        again = _counts(numbers) if is_plain else None
        self._around = around if again is not None and np.array_equal(again, counts.ravel()) else None
        return self._count.of(counts)

    def _parsed(self, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                return None
            raise self._broken(number, f"is not JSON ({error}); was it cut off?") from None
        if not isinstance(record, dict) or _TYPE not in record:
            raise self._broken(number, f"has no {_TYPE}, it holds {quote(record)}")
        if record[_TYPE] in (_STATS, _META):
            if record.get("version") != _VERSION:
                raise self._broken(number, f"is of version {quote(record.get('version'))}; known is {_VERSION}")
            self._num_ranks = record.get(_RANKS, self._num_ranks)
        return record

    def _checked(self, number: int, record: dict[str, Any]) -> tuple[Array, LogicalCount]:
        """Tokens of each slot in a line, and how to count them; its placement becomes the latest."""
        missing = [key for key in (_LOAD, _MAP) if key not in record]
        if missing:
            raise self._broken(number, f"lacks {' and '.join(missing)}")
        if self._num_ranks is not None and type(self._num_ranks) is not int:
            raise self._broken(number, f"has {quote(self._num_ranks)} as {_RANKS}")
        try:
            for key in (_LOAD, _MAP):
                check_rectangular(self._source, record[key], key, "every slot")
            counts = as_array(self._source, record[_LOAD])
            placement = as_placement(self._source, record[_MAP], num_gpus=self._num_ranks)
        except FileError as error:
            raise self._broken(number, error.problem) from None
        shape = placement.physical_to_logical.shape
        if counts.shape != shape:
            raise self._broken(number, f"has {_LOAD} of shape {list(counts.shape)}, but {_MAP} of {list(shape)}")
        self.placement = placement
        return counts, LogicalCount(placement)

    def _broken(self, number: int, problem: str) -> FileError:
        return FileError(self._source.name, f"line {number}: {problem}")


def _split(line: bytes) -> tuple[tuple[bytes, bytes, bytes], bytes]:
    """What is beside the numbers of `expert_load` (before them, without the step; punctuation; the map), and these."""
    begin = line.find(b"[[")
    end = line.find(_MAP_KEY, begin)
    numbers = line[begin:end]
    return (_STEP.sub(b"", line[:begin]), numbers.translate(None, _DIGITS), line[end:]), numbers


def _counts(numbers: bytes) -> Array | None:
    """Whole numbers from text of digits and punctuation; None unless there is one between any two commas."""
    text = numbers.translate(None, _BRACKETS).removesuffix(b",")
    comma = np.frombuffer(b",%b," % text, np.uint8) == ord(",")
    digit = np.frombuffer(numbers, np.uint8) - ord("0") < len(_DIGITS)  # others wrap around to more
    ends = np.count_nonzero(digit[:-1] > digit[1:])
    if ends != np.count_nonzero(comma) - 1 or (comma[:-1] & comma[1:]).any():
        return None
    return np.fromstring(text, np.int64, sep=",")
