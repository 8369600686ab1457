"""Files written whole or not at all: who reads one meets the old or the new, also after a crash."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from trimtab.formats.errors import FileError
from trimtab.formats.source import STANDARD


def write_whole(path: Path, content: bytes) -> None:
    """Put these bytes there, or on standard output.

    Raises:
        FileError: no room or right to write it there.
    """
    if path == STANDARD:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    beside = path.resolve().with_name(f".{path.name}.{os.getpid()}")  # on the same disk, so that a rename is one step
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else the new name may outlive a crash that its bytes do not
        beside.replace(path.resolve())
    except OSError as error:
        raise FileError(path, f"can't be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
