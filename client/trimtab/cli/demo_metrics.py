"""A Prometheus page read, and two of them compared."""

from __future__ import annotations

import re

Series = dict[tuple[str, str], float]
"""Values by metric name and labels, the labels as they are written, braces included."""

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)")
_OURS = ("trimtab_", "grpc_server_handled_total")
_LONG = re.compile(r'grpc_service="[^"]*",?|,grpc_service="[^"]*"(?=})|(?<=[{,])grpc_')
"""What is the same in every line: the service, and the beginnings of labels."""


def read_series(page: str) -> Series:
    """The series of a page in text format, without timestamps, as our server writes it."""
    found = (_LINE.fullmatch(line) for line in page.splitlines() if not line.startswith("#"))
    return {(line[1], line[2] or ""): float(line[3]) for line in found if line}


def moved_rows(before: Series, after: Series) -> list[tuple[str, str, str]]:
    """What moved of ours: its name, by how many, and of a histogram the mean of those; buckets are left out."""
    moved = {key: change for key, value in after.items() if (change := value - before.get(key, 0.0))}
    rows = []
    for (name, labels), change in moved.items():
        total = moved.get((name.removesuffix("_count") + "_sum", labels), 0.0)
        if not name.startswith(_OURS):
            continue
        if name.endswith("_count"):
            rows.append((name.removesuffix("_count") + labels, f"{change:.0f}", f"{total / change:.4g}"))
        elif name.endswith("_total"):
            rows.append((name + _LONG.sub("", labels), f"{change:.0f}", ""))
    return rows
