"""TensorRT-LLM: the statistics of routed experts that it dumps, and the load balancer's configuration that it reads.

Statistics (`EXPERT_STATISTIC_ITER_RANGE`) are a folder with `meta_info.json`, which rank 0 writes, and of every rank
`rank{rank}.safetensors`: tokens of each expert under `{iteration}_{layer}`, layers by the model's own number. As in
TensorRT-LLM's own scripts they are summed over the ranks that have them, an iteration is a window, and every iteration
must have every layer; but the last one, at which a server may have been ended, is left out where it lacks some.

The configuration, YAML, has `num_slots` and for each layer `initial_global_assignments`, the expert of each slot, rank
by rank. The engine refuses keys that it does not know, so that the number of ranks is not in it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from trimtab.formats.checks import as_layers, as_placement, check_filled, check_rectangular
from trimtab.formats.errors import FileError, one_line
from trimtab.formats.folding import Folding
from trimtab.formats.format import LOADS, NOTHING, PLACEMENT, Held
from trimtab.formats.safetensors_file import EqualTensors
from trimtab.formats.source import Source, quote, told
from trimtab.formats.stored import Array, LoadWindows, StoredPlacement, as_small

NAME = "tensorrt-llm"
READS = "a folder of expert statistics (or its meta_info.json), and the load balancer's configuration (.yaml)"
PLACEMENT_ENDINGS = (".yaml", ".yml")

_ABOUT, _NUM_EXPERTS, _TOP_K, _NUM_RANKS = "meta_info.json", "num_experts", "num_experts_per_token", "ep_size"
_RANK_FILE = re.compile(r"rank(0|[1-9]\d{0,5})\.safetensors")
"""Beside them may be others of a rank, with each token's experts."""
_TENSOR = re.compile(r"(0|[1-9]\d{0,14})_(0|[1-9]\d{0,14})")
_SLOTS, _ASSIGNMENTS, _UPDATES = "num_slots", "initial_global_assignments", "layer_updates_per_iter"


def holds(source: Source) -> Held:
    """Told by the files of a folder, else by the keys."""
    if source.kind == "folder":
        names = [file.name for file in source.path.iterdir()]
        return LOADS if _ABOUT in names or any(map(_RANK_FILE.fullmatch, names)) else NOTHING
    if source.kind == "text":
        return PLACEMENT if f"{_ASSIGNMENTS}:".encode() in source.head else NOTHING
    if _ASSIGNMENTS in source.keys:
        return PLACEMENT
    return LOADS if source.kind == "safetensors" or {_NUM_EXPERTS, _TOP_K} <= {*source.keys} else NOTHING


def read_loads(sources: Sequence[Source], at_most: int | None) -> LoadWindows:
    """The iterations of each folder."""
    folding = Folding(at_most)
    layers = None
    for source in sources:
        folder = _folder(source)
        with told(folder), ExitStack() as opened:
            recording = _Recording(folder, opened)
            if layers is not None and not np.array_equal(recording.layers, layers):
                raise FileError(folder.name, "has other layers than the folder before; give recordings of one model")
            layers = recording.layers
            for window in recording.windows():
                folding.add(folder, window)
    assert layers is not None  # noqa: S101  # there is a source, and each has some
    return LoadWindows(folding.windows(), layers, folding.num_read)


def _folder(source: Source) -> Source:
    if source.kind == "folder":
        return source
    if source.is_standard or source.path.name != _ABOUT:
        raise FileError(source.name, f"is not all of a recording; name its folder, or the {_ABOUT} in it")
    return Source(source.path.parent)


class _Recording:
    """The files of all ranks."""

    def __init__(self, folder: Source, opened: ExitStack) -> None:
        """Look at what there is; files stay open as long as `opened`.

        Raises:
            FileError: a file is missing, is not whole, or has other tensors than tokens of all experts.
        """
        self._folder = folder
        if not (folder.path / _ABOUT).is_file():
            raise FileError(folder.name, f"lacks {_ABOUT}, which rank 0 writes; gather the files of all nodes in it")
        about = Source(folder.path / _ABOUT)
        self._files = [
            EqualTensors(source, opened.enter_context(source.path.open("rb", 0)))
            for source in _rank_files(folder, about)
        ]
        for file in self._files:
            if file.length != about.json.get(_NUM_EXPERTS):
                rule = f"has {quote(about.json.get(_NUM_EXPERTS))} as {_NUM_EXPERTS}"
                raise FileError(about.name, f"{rule}, the files beside it count {file.length} experts")
        entries = np.concatenate([self._entries(rank, file) for rank, file in enumerate(self._files)])
        self._entries_in_time = entries[np.lexsort(entries.T[::-1])]
        self.layers = as_layers(folder, np.unique(entries[:, 2]).tolist())

    def _entries(self, rank: int, file: EqualTensors) -> Array:
        """[num_tensors, 4]: iteration, rank, layer, and the index in the rank's file."""
        matches = [_TENSOR.fullmatch(name) for name in file.names]
        if None in matches:
            name = file.names[matches.index(None)]
            rule = f"the file of rank {rank} has a tensor {quote(name)}, which is no iteration_layer"
            raise FileError(self._folder.name, f"{rule}; is it of expert statistics?")
        return np.array(
            [(int(match[1]), rank, int(match[2]), index) for index, match in enumerate(matches) if match], np.int64
        )

    def windows(self) -> Iterator[Array]:
        """[num_layers, num_experts] of each iteration, in order."""
        entries = self._entries_in_time
        begins = np.flatnonzero(np.diff(entries[:, 0], prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(entries)], strict=True):
            iteration = entries[begin:end]
            missing = np.setdiff1d(self.layers, iteration[:, 2])
            if not missing.size:
                yield self._window(iteration)
            elif end < len(entries):
                rule = f"iteration {iteration[0, 0]} lacks layer {missing[0]}, which others have"
                raise FileError(self._folder.name, f"{rule}; record again, or gather the files of all ranks")

    def _window(self, iteration: Array) -> Array:
        window = np.zeros((len(self.layers), self._files[0].length), np.int64)
        for rank in np.unique(iteration[:, 1]):
            own = iteration[iteration[:, 1] == rank]
            window[np.searchsorted(self.layers, own[:, 2])] += self._files[rank].read(own[:, 3])
        return as_small(window)


def _rank_files(folder: Source, about: Source) -> list[Source]:
    """Of all ranks, in order.

    Raises:
        FileError: one is missing.
    """
    if not isinstance(about.json, dict):
        raise FileError(about.name, f"must hold an object with {_NUM_EXPERTS}, holds {quote(about.json)}")
    found = [match for file in folder.path.iterdir() if (match := _RANK_FILE.fullmatch(file.name))]
    files = {int(match[1]): folder.path / match.string for match in found}
    told = about.json.get(_NUM_RANKS)
    num_ranks = max([1, told if isinstance(told, int) else 0, *(rank + 1 for rank in files)])
    missing = next(rank for rank in range(len(files) + 1) if rank not in files)
    if missing < num_ranks:
        rule = f"lacks rank{missing}.safetensors"
        raise FileError(folder.name, f"{rule}; gather the files of all ranks in it, also from other nodes")
    return [Source(files[rank]) for rank in sorted(files)]


def read_placement(source: Source) -> StoredPlacement:
    """Of a configuration; its layers by the model's own numbers."""
    content = source.json if source.kind == "json" else _yaml(source)
    assignments = content.get(_ASSIGNMENTS) if isinstance(content, dict) else None
    if not isinstance(assignments, dict):
        raise FileError(source.name, f"must hold {_ASSIGNMENTS}: {{layer: [...], ...}}, holds {quote(content)}")
    numbers = [_layer(source, key) for key in assignments]
    layers = as_layers(source, numbers)
    numbered = dict(zip(numbers, assignments.values(), strict=True))
    rows = [numbered[layer] for layer in layers.tolist()]
    check_rectangular(source, rows, _ASSIGNMENTS, "every slot")
    placement = as_placement(source, rows, layers, _number(source, content, _NUM_RANKS))
    num_slots = placement.physical_to_logical.shape[1]
    if _number(source, content, _SLOTS) not in (None, num_slots):
        rule = f"{_SLOTS} is {content[_SLOTS]}, but the rows of {_ASSIGNMENTS} have {num_slots} slots"
        raise FileError(source.name, f"{rule}; make them agree")
    return placement


def _layer(source: Source, key: Any) -> int:
    if isinstance(key, str) and re.fullmatch(r"\d{1,9}", key):  # as JSON has it
        return int(key)
    if type(key) is not int:
        raise FileError(source.name, f"the layers of {_ASSIGNMENTS} must be whole numbers, one is {quote(key)}")
    return key


def _number(source: Source, content: dict[Any, Any], key: str) -> int | None:
    value = content.get(key)
    if value is not None and type(value) is not int:
        raise FileError(source.name, f"{key} must be a whole number, is {quote(value)}")
    return value


def _yaml(source: Source) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise FileError(source.name, "reading .yaml needs PyYAML: pip install pyyaml, or save it as .json") from None
    text = source.read()
    if b"&" in text or b"*" in text:  # a few lines of them can stand for more than any memory
        raise FileError(source.name, "must not have anchors and aliases (& and *); write its lists out")
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FileError(source.name, f"is not YAML ({one_line(error)}); was it cut off?") from None


def placement_bytes(placement: StoredPlacement, ending: str) -> bytes:  # noqa: ARG001  # both endings mean YAML
    """The configuration of a load balancer that changes nothing while it serves."""
    check_filled(placement, "TensorRT-LLM")
    slots = placement.physical_to_logical
    rows = "".join(f"  {layer}: {row}\n" for layer, row in zip(placement.layers, slots.tolist(), strict=True))
    return f"{_ASSIGNMENTS}:\n{rows}{_UPDATES}: 0\n{_SLOTS}: {slots.shape[1]}\n".encode()
