"""The file that engines read the placement from."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from trimtab.formats import FileError, StoredPlacement, format_to_write, read_placement
from trimtab.formats.whole_file import write_whole
from trimtab.watch.journal import sync_folder


class Output:
    """A placement's file, whole at every moment."""

    def __init__(self, path: Path, format_name: str | None) -> None:
        self.path = path
        self._format_name = format_name

    def encode(self, placement: StoredPlacement) -> bytes:
        """The bytes that `write` puts there.

        Raises:
            FormatError: the placement lacks what the format tells.
        """
        module, ending = format_to_write(self.path, self._format_name)
        return module.placement_bytes(placement, ending)

    def digest(self) -> str | None:
        """Of the bytes that are there; None where there is no file.

        Raises:
            FileError: it can't be read.
        """
        try:
            return digest(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(self.path, f"can't be read ({error.strerror or error})") from error

    def read(self) -> StoredPlacement:
        """What is there, whoever wrote it.

        Raises:
            FileError: it is no placement.
        """
        return read_placement(self.path, format_name=self._format_name)

    def write(self, content: bytes) -> None:
        """Put it there in one step, and wait until the disk has it.

        Raises:
            FileError: no room or right to.
        """
        write_whole(self.path, content)
        try:
            sync_folder(self.path.resolve())
        except OSError as error:
            raise FileError(self.path, f"may not outlive a power cut ({error.strerror or error})") from error


class DryOutput(Output):
    """The same, but nothing is written: what was to be is remembered."""

    def __init__(self, path: Path, format_name: str | None) -> None:
        super().__init__(path, format_name)
        self._content: bytes | None = None

    def digest(self) -> str | None:
        """Of what would be there."""
        return super().digest() if self._content is None else digest(self._content)

    def write(self, content: bytes) -> None:
        """Remember it."""
        self._content = content


def digest(content: bytes) -> str:
    """SHA-256, as 64 digits."""
    return sha256(content).hexdigest()
