"""The CSV of SGLang's oldest recorder: a file a rank and dump, `layer_id,expert_id,count`, no line where that is 0."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from trimtab.formats.errors import FileError
from trimtab.formats.source import Source, told
from trimtab.formats.stored import Array

_HEADER = ["layer_id", "expert_id", "count"]
_RANK = re.compile(r"_rank(\d+)_")
"""In a file's name; nothing inside tells."""
_MOST = 1 << 24
"""Layers times experts: more is a number gone wrong."""


def is_csv(source: Source) -> bool:
    """Told by the header."""
    first = source.head.decode("utf-8-sig", "replace").partition("\n")[0]
    return [name.strip() for name in first.split(",")] == _HEADER


def windows(sources: Sequence[Source]) -> Iterator[tuple[Source, Array]]:
    """[num_layers, num_experts] of each dump: the first of all ranks are summed, then the second, and so on."""
    tables = [_read(source) for source in sources]
    dumps: dict[tuple[str, int], tuple[Source, list[Array]]] = {}
    seen: Counter[str] = Counter()
    for source, table in zip(sources, tables, strict=True):
        rank = _RANK.search(source.path.name)
        name = rank[1] if rank else ""
        dumps.setdefault((("ranks" if rank else "others"), seen[name]), (source, []))[1].append(table)
        seen[name] += 1
    num_layers, num_experts = np.max([[0, 0], *(table[:, :2].max(axis=0) + 1 for table in tables)], axis=0)
    for source, parts in dumps.values():
        load = np.zeros((num_layers, num_experts), np.int64)
        for table in parts:
            np.add.at(load, (table[:, 0], table[:, 1]), table[:, 2])
        yield source, load


def _read(source: Source) -> Array:
    """[num_lines, 3]: layer, expert and count."""
    with told(source):
        text = source.read()
    rows = csv.reader(io.StringIO(text.decode("utf-8-sig", "replace")))
    try:
        next(rows)
        values = np.array([[int(value) for value in row] for row in rows if row], np.int64).reshape(-1, len(_HEADER))
    except (ValueError, OverflowError, StopIteration, csv.Error):
        rule = f"every line must hold three whole numbers, {', '.join(_HEADER)}"
        raise FileError(source.name, f"{rule}; was it cut off?") from None
    if not len(values) or values.min() < 0:
        raise FileError(source.name, "must have a line for each layer and expert, with numbers of at least 0")
    layer, expert = (int(last) for last in values[:, :2].max(axis=0))
    if (layer + 1) * (expert + 1) > _MOST:
        raise FileError(source.name, f"has layer {layer} and expert {expert}, which can't be meant")
    return values
