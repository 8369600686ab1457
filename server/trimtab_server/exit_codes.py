"""What the process ends with, for those who supervise it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit statuses of `trimtab-server`."""

    DRAINED = 0
    """Asked to stop, and all that was taken is answered (or the grace ran out)."""
    FAILED = 1
    """Can't start: an address, a device or a file is not to be had; or something unexpected."""
    USAGE = 2
    """The settings are wrong."""
    STUCK = 70
    """A solve did not come back within `solve_timeout`: start the server again."""
    HURRIED = 143
    """Asked a second time to stop: ended at once, what waited got UNAVAILABLE."""
