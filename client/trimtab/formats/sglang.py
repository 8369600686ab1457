"""SGLang: what its expert recorder writes, and what `--init-expert-location` reads.

The recorder's modes `stat` and `stat_approx` write one `.pt` with `logical_count` [steps, layers, experts], summed over
ranks already. `per_pass` and `per_token` write one a rank, with the tokens that it counted in every slot in each
forward pass, and the placement at last; they are summed over ranks here, as SGLang's own simulator does. The oldest
recorder wrote a CSV a rank, with a line for each layer and expert. Dense layers have rows too, without load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trimtab.formats import sglang_csv
from trimtab.formats.checks import as_array, as_placement, check_rectangular
from trimtab.formats.errors import FileError
from trimtab.formats.folding import Folding
from trimtab.formats.format import LOADS, NOTHING, PLACEMENT, Held
from trimtab.formats.source import Source, quote, told
from trimtab.formats.stored import Array, LoadWindows, LogicalCount, StoredPlacement, all_layers
from trimtab.formats.torch_file import torch_bytes

NAME = "sglang"
READS = "recorder dumps (.pt, .csv; all ranks' files together), and what --init-expert-location takes (.json, .pt)"
PLACEMENT_ENDINGS = (".json", ".pt")

LOAD_KEY, PLACEMENT_KEY = "logical_count", "physical_to_logical_map"
_RECORDS, _LAST_MAP = "records", "last_physical_to_logical_map"
_PASS, _RANK, _COUNT = "forward_pass_id", "rank", "global_physical_count"
_EVERY_EXPERT, _EVERY_SLOT = "every expert, 0 where it has no load", "every slot, -1 where it is empty"


def holds(source: Source) -> Held:
    """Told by the keys; a placement may stand beside loads."""
    if source.kind == "text":
        return LOADS if sglang_csv.is_csv(source) else NOTHING
    if source.kind == "pt":
        keys = [*map(str, source.torch)] if isinstance(source.torch, dict) else [LOAD_KEY]
    else:
        keys = source.keys
    held = LOADS if LOAD_KEY in keys or _RECORDS in keys else NOTHING
    return held | (PLACEMENT if PLACEMENT_KEY in keys or _LAST_MAP in keys else NOTHING)


def read_loads(sources: Sequence[Source], at_most: int | None) -> LoadWindows:
    """Windows of all sources: of dumps in the order given, then those of passes and of CSV, summed over ranks."""
    folding = Folding(at_most)
    passes = _Passes()
    texts = [source for source in sources if source.kind == "text"]
    for source in sources:
        with told(source):
            if source.kind == "json":
                folding.add(source, as_array(source, _json_value(source, LOAD_KEY, _EVERY_EXPERT)))
            elif source.kind != "text":
                _add_dump(source, folding, passes)
        source.forget()
    for source, window in [*passes.windows(), *sglang_csv.windows(texts)]:
        folding.add(source, window)
    load = folding.windows()
    return LoadWindows(load, all_layers(load), folding.num_read, passes.placement)


def _add_dump(source: Source, folding: Folding, passes: _Passes) -> None:
    content = source.torch
    if isinstance(content, dict) and _RECORDS in content:
        passes.add(source, content)
    else:
        folding.add(source, _in_time(_logical_count(source, content)))


def _json_value(source: Source, key: str, whole_row: str) -> Any:
    if key not in source.keys:
        raise FileError(source.name, f'must hold {{"{key}": [[...], ...]}}, holds {quote(source.json)}')
    check_rectangular(source, source.json[key], key, whole_row)
    return source.json[key]


def _logical_count(source: Source, content: Any) -> Array:
    counts = content.get(LOAD_KEY) if isinstance(content, dict) else content
    if counts is None:
        found = ", ".join(str(key) for key in content) if content else "nothing"
        rule = f"must hold a tensor, or a dictionary with {LOAD_KEY} or {_RECORDS}, holds {found}"
        raise FileError(source.name, f"{rule}; save one using torch.save")
    return as_array(source, counts)


def _in_time(load: Array) -> Array:
    """Steps in the order they came, without those that the recorder's buffer had room for and never saw.

    The buffer is a ring, and a dump empties it without going back to its begin: so what was seen can lie anywhere, and
    from its end on over to its begin. Where it is full, nothing tells which step was first, and they stay as they are.
    """
    if load.ndim != 3:  # noqa: PLR2004  # steps, layers, experts
        return load
    seen = np.array([step.any() for step in load], bool)
    if seen.all() or not seen.any():
        return load
    [begins] = np.nonzero(seen & ~np.roll(seen, 1))
    begin, number = int(begins[-1]), np.count_nonzero(seen)
    if len(begins) == 1 and begin + number <= len(load):
        return load[begin : begin + number]
    first = begin if len(begins) == 1 else 0
    return np.concatenate([load[first:][seen[first:]], load[:first][seen[:first]]])


class _Passes:
    """Forward passes of several ranks' files, summed over ranks."""

    def __init__(self) -> None:
        self._counts: dict[int, Array] = {}
        """[num_layers, num_experts] of each pass."""
        self._placements: dict[int, StoredPlacement] = {}
        self._seen: set[tuple[int, int]] = set()
        self._source: Source | None = None
        self.placement: StoredPlacement | None = None
        """Of the latest pass."""

    def add(self, source: Source, content: dict[str, Any]) -> None:
        """A rank's file, whose counts are all taken to be under the one placement that it tells, as its writer says."""
        placement = as_placement(source, content.get(_LAST_MAP))
        count = LogicalCount(placement)
        for record in content[_RECORDS]:
            self._add_record(source, record, placement, count)
        self._source = source

    def _add_record(self, source: Source, record: Any, placement: StoredPlacement, count: LogicalCount) -> None:
        missing = [key for key in (_PASS, _RANK, _COUNT) if not isinstance(record, dict) or key not in record]
        if missing:
            raise FileError(source.name, f"a record lacks {', '.join(missing)}; is it a recorder's dump?")
        number, rank = int(record[_PASS]), int(record[_RANK])
        if (number, rank) in self._seen:
            raise FileError(source.name, f"has forward pass {number} of rank {rank} once more; give each file once")
        self._seen.add((number, rank))
        physical, slots = as_array(source, record[_COUNT]), placement.physical_to_logical
        if physical.shape != slots.shape:
            raise FileError(
                source.name, f"counts {list(physical.shape)} layers and slots, its map has {list(slots.shape)}"
            )
        other = self._placements.setdefault(number, placement)
        if not np.array_equal(other.physical_to_logical, slots):
            rule = f"counts forward pass {number} under another placement than the files of other ranks"
            raise FileError(source.name, f"{rule}; give the files of one server")
        before = self._counts.get(number)
        self._counts[number] = count.of(physical) if before is None else before + count.of(physical)

    def windows(self) -> Iterator[tuple[Source, Array]]:
        """[num_layers, num_experts] of each forward pass, in order."""
        if self._source is None:
            return
        if not self._counts:
            raise FileError(self._source.name, "has no forward passes; start the recorder, send requests, then dump")
        ranks = {rank for _, rank in self._seen}
        missing = sorted({*range(max(ranks) + 1)} - ranks)
        if missing:
            rule = f"and the files beside it lack rank {missing[0]}"
            raise FileError(self._source.name, f"{rule}; gather the files of all ranks, also from other nodes")
        self.placement = self._placements[max(self._placements)]
        for number in sorted(self._counts):
            yield self._source, self._counts.pop(number)


def read_placement(source: Source) -> StoredPlacement:
    """Of `--init-expert-location`, or the one that a recording was made under."""
    if source.kind == "json":
        return as_placement(source, _json_value(source, PLACEMENT_KEY, _EVERY_SLOT))
    content = source.torch
    slots = content.get(PLACEMENT_KEY, content.get(_LAST_MAP)) if isinstance(content, dict) else content
    if slots is None:
        raise FileError(source.name, f"must hold a dictionary with {PLACEMENT_KEY}; it has no placement")
    return as_placement(source, slots)


def placement_bytes(placement: StoredPlacement, ending: str) -> bytes:
    """With a row for every layer of the model; those that the placement lacks are dense, and theirs is not used."""
    slots = _every_layer(placement)
    if ending == ".pt":
        return torch_bytes({PLACEMENT_KEY: slots})
    return json.dumps({PLACEMENT_KEY: slots.tolist()}).encode()


def _every_layer(placement: StoredPlacement) -> Array:
    """As SGLang has it at first where there is no row: slot by slot, the experts in order, over and over."""
    num_layers, num_slots = int(placement.layers[-1]) + 1, placement.physical_to_logical.shape[1]
    slots = np.tile(np.arange(num_slots) % placement.num_experts, (num_layers, 1))
    slots[placement.layers] = placement.physical_to_logical
    return slots


def loads_bytes(load: Array, ending: str) -> bytes:
    """Loads under the recorder's name."""
    return torch_bytes({LOAD_KEY: load}) if ending == ".pt" else json.dumps({LOAD_KEY: load.tolist()}).encode()
