"""What the controller says: a line an event, as words with the time before them, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any


class Events:
    """Where they go."""

    def __init__(
        self, write: Callable[[str], None], now: Callable[[], float], *, as_json: bool = False, is_dry: bool = False
    ) -> None:
        """Say nothing yet.

        Args:
            write: takes a line without its end.
            now: seconds since the epoch.
            as_json: objects, rather than words.
            is_dry: nothing of what is told is really done, and every line says so.
        """
        self._write = write
        self._now = now
        self._as_json = as_json
        self._is_dry = is_dry

    def tell(self, event: str, words: str, **fields: Any) -> None:
        """One event; what stands in words is in the fields too where a program may want it."""
        at = datetime.fromtimestamp(self._now(), timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        words = "".join(char if char.isprintable() else "?" for char in words)  # a file's name may hold anything
        if self._as_json:
            dry = {"dry_run": True} if self._is_dry else {}
            self._write(json.dumps({"at": at, "event": event, **dry, **fields, "message": words}, allow_nan=False))
        else:
            self._write(f"{at} {'dry run: ' if self._is_dry else ''}{words}")
