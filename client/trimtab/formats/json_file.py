"""`{"logical_count": [layers][experts]}`, as SGLang takes it, or with windows before the layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trimtab.formats.errors import LoadFileError

KEY = "logical_count"
_LONGEST_QUOTE = 40


def read(path: Path) -> Any:
    """Nested lists of numbers, of equal lengths.

    Raises:
        LoadFileError: not JSON, another key, rows of different lengths, or not numbers.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # bad syntax, bad UTF-8, nested without end
        raise LoadFileError(path, f"is not JSON ({error}); was it cut off, or is it of another kind?") from None
    if not isinstance(content, dict) or KEY not in content:
        raise LoadFileError(path, f'must hold {{"{KEY}": [[...], ...]}}, holds {_quote(content)}')
    _check_rectangular(path, content[KEY])
    return content[KEY]


def _quote(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def _check_rectangular(path: Path, values: Any) -> None:
    """Level by level, since numpy's own words about ragged lists help nobody."""
    level = [values]
    while level and all(isinstance(part, list) for part in level):
        lengths = sorted({len(part) for part in level})
        if len(lengths) > 1:
            rule = f"the rows of {KEY} must be of one length, they have from {lengths[0]} to {lengths[-1]} values"
            raise LoadFileError(path, f"{rule}; give each layer every expert, 0 where it has no load")
        level = [part for whole in level for part in whole]
    others = [part for part in level if not isinstance(part, (int, float)) or isinstance(part, bool)]
    if others:
        raise LoadFileError(path, f"{KEY} must hold numbers and nothing else, holds {_quote(others[0])}")


def write(path: Path, load: Any) -> None:
    """Write an array of loads."""
    path.write_text(json.dumps({KEY: load.tolist()}), encoding="utf-8")
