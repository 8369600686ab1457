"""`{"logical_count": [layers][experts]}`, as SGLang takes it, or with windows before the layers; other keys too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trimtab.formats.errors import FileError

KEY = "logical_count"
_LONGEST_QUOTE = 40


def read(path: Path, key: str = KEY, whole_row: str = "every expert, 0 where it has no load") -> Any:
    """Nested lists of numbers, of equal lengths.

    Args:
        path: the file.
        key: the name of what is read.
        whole_row: what a row must have, to be told where rows differ.

    Raises:
        FileError: not JSON, another key, rows of different lengths, or not numbers.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # bad syntax, bad UTF-8, nested without end
        raise FileError(path, f"is not JSON ({error}); was it cut off, or is it of another kind?") from None
    if not isinstance(content, dict) or key not in content:
        raise FileError(path, f'must hold {{"{key}": [[...], ...]}}, holds {_quote(content)}')
    _check_rectangular(path, content[key], key, whole_row)
    return content[key]


def _quote(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def _check_rectangular(path: Path, values: Any, key: str, whole_row: str) -> None:
    """Level by level, since numpy's own words about ragged lists help nobody."""
    level = [values]
    while level and all(isinstance(part, list) for part in level):
        lengths = sorted({len(part) for part in level})
        if len(lengths) > 1:
            rule = f"the rows of {key} must be of one length, they have from {lengths[0]} to {lengths[-1]} values"
            raise FileError(path, f"{rule}; give each layer {whole_row}")
        level = [part for whole in level for part in whole]
    others = [part for part in level if not isinstance(part, (int, float)) or isinstance(part, bool)]
    if others:
        raise FileError(path, f"{key} must hold numbers and nothing else, holds {_quote(others[0])}")


def write(path: Path, array: Any, key: str = KEY) -> None:
    """Write an array under its name."""
    path.write_text(json.dumps({key: array.tolist()}), encoding="utf-8")
