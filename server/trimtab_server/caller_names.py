"""What a caller may be called."""

from __future__ import annotations

import re

_NAME = re.compile(r"[!-~]{1,128}")
NAME_RULE = "must be 1 to 128 printable ASCII characters without spaces, the first not #"


def is_name(name: str) -> bool:
    """Whether a caller can be called so."""
    return bool(_NAME.fullmatch(name)) and not name.startswith("#")
