"""The command `trimtab`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what to install where its parts are missing."""
    try:
        from trimtab.cli.commands import trimtab  # noqa: PLC0415  # click and rich may not be there
    except ImportError as error:
        sys.exit(f"trimtab: the command needs its own parts ({error}): pip install 'trimtab[cli]'")
    trimtab()
