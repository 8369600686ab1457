"""What gRPC's own core takes from the environment; no setting of ours stands for it, and doctor tells of it."""

from __future__ import annotations

import os


def first_set(*names: str) -> tuple[str, str]:
    """The first of these variables that is set, and its value; both empty where none is."""
    return next(((name, os.environ[name]) for name in names if name in os.environ), ("", ""))
