"""The command `trimtab`."""

from __future__ import annotations

import atexit
import gc
import sys

_COLLECT_AFTER = 1_000_000
"""Objects made. Importing makes some hundred thousand; Python would look through them for garbage again and again."""


def main() -> None:
    """Run the command, or say what to install where its parts are missing."""
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)  # and once more before it ends, which takes as long as numpy's import
    try:
        from trimtab.cli.commands import trimtab  # noqa: PLC0415  # click and rich may not be there
    except ImportError as error:
        sys.exit(f"trimtab: the command needs its own parts ({error}): pip install 'trimtab[cli]'")
    trimtab()
