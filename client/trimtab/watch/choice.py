"""Which source LOADS is: a folder, a file that grows, or an address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from trimtab.cli.failures import InputFailure
from trimtab.cli.files import Reading
from trimtab.formats import FileError, LoadWindows, Source
from trimtab.watch.endpoint import SCHEMES, Endpoint
from trimtab.watch.folder import DumpFolder
from trimtab.watch.growing_file import GrowingFile
from trimtab.watch.sources import LoadSource

SECONDS_OF_ENDPOINT = 10.0
"""For the whole of an answer."""
_MOST_BODY = 64 << 20


def open_source(where: str, reading: Reading, history: int, left_out: frozenset[Path]) -> LoadSource:
    """What LOADS is, ready to be looked at.

    Args:
        where: a folder, a file or a URL.
        reading: how what is there is read.
        history: windows worth reading at once.
        left_out: files in a folder that are no loads, resolved.

    Raises:
        InputFailure: nothing that can be watched.
    """

    def read(sources: Sequence[Source]) -> LoadWindows:
        try:
            return reading.loads(sources)
        except InputFailure as failure:  # it has none of the layers
            raise FileError(sources[0].name, failure.message) from failure

    if "://" in where:
        return Endpoint(_url(where), read, timeout=SECONDS_OF_ENDPOINT, most_bytes=_MOST_BODY)
    path = Path(where)
    if path.is_dir():
        return DumpFolder(path, read, most=history, left_out=left_out)
    if not path.is_file():
        raise InputFailure(f"LOADS {where}: there is no such folder or file; check the path")
    if path.stat().st_size and Source(path).kind not in {"json", "text"}:
        raise InputFailure(f"LOADS {where}: is no file of lines that can grow; watch the folder that it is in")
    return GrowingFile(path, read)


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        if url.scheme in SCHEMES and url.hostname and url.port != 0 and url.username is None and text.isprintable():
            return url
    except ValueError:  # the port is none
        pass
    raise InputFailure("LOADS: must be http://HOST:PORT/PATH or https://, without a name or password in it")
