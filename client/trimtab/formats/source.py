"""A file, or standard input, looked at before it is read: what it holds decides how, whatever its name says."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

from trimtab.errors import TrimtabError
from trimtab.formats.errors import FileError, one_line
from trimtab.formats.torch_file import load_torch

Kind = Literal["folder", "npy", "npz", "pt", "safetensors", "json", "text"]

STANDARD = Path("-")
"""Stands for standard input, and for standard output."""
_HEAD = 1 << 16
_BUFFER = 1 << 20
"""Lines can be long."""
_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK", b"\x80"
_LENGTH = 8
"""Bytes before a safetensors header, which is JSON."""
_JSON = re.compile(rb"""\s*(\[|\{\s*(["}]|$))""")
"""YAML begins with a brace too, but not with a quote after it."""
_TORCH_MEMBER = "data.pkl"
_LONGEST_QUOTE = 40


class Source:
    """What is read from; `name` is what messages call it."""

    def __init__(self, path: Path) -> None:
        """Look at it; standard input is read to its end.

        Raises:
            FileError: not there, empty, or not to be read.
        """
        self.path = path
        self.is_standard = path == STANDARD
        self.name = "standard input" if self.is_standard else str(path)
        self._piped = sys.stdin.buffer.read() if self.is_standard else b""
        try:
            self.head = b"" if path.is_dir() else self._first_bytes()
        except OSError as error:
            raise FileError(self.name, f"can't be read ({error.strerror or error})") from error
        if not path.is_dir() and not self.head:
            raise FileError(self.name, "is empty; whatever should have written it did not")

    def _first_bytes(self) -> bytes:
        if not self.is_standard and not self.path.exists():
            raise FileError(self.name, "there is no such file; check the path")
        with self.open() as file:
            return file.read(_HEAD)

    def open(self) -> BinaryIO:
        """Its bytes, from the first."""
        return io.BytesIO(self._piped) if self.is_standard else self.path.open("rb", _BUFFER)

    def read(self) -> bytes:
        """All its bytes."""
        return self._piped if self.is_standard else self.path.read_bytes()

    @cached_property
    def kind(self) -> Kind:
        """How it is written down."""
        if self.path.is_dir() and not self.is_standard:
            return "folder"
        if self.head.startswith(_NPY):
            return "npy"
        if self.head.startswith(_ZIP):
            return "pt" if self._has_torch_member() else "npz"
        if self.head.startswith(_PICKLE):
            return "pt"
        if self.head[_LENGTH : _LENGTH + 1] == b"{" and b"\x00" in self.head[:_LENGTH]:
            return "safetensors"
        return "json" if _JSON.match(self.head) else "text"

    def _has_torch_member(self) -> bool:
        try:
            with self.open() as file, zipfile.ZipFile(file) as archive:
                return any(name.endswith(_TORCH_MEMBER) for name in archive.namelist())
        except Exception:  # noqa: BLE001  # of any class where it is broken; told when it is read
            return False

    @cached_property
    def json(self) -> Any:
        """What it holds, as JSON.

        Raises:
            FileError: it is not JSON.
        """
        try:
            return json.loads(self.read())
        except (ValueError, RecursionError) as error:  # bad syntax, bad UTF-8, nested without end
            raise FileError(self.name, f"is not JSON ({error}); was it cut off, or is it of another kind?") from None

    @cached_property
    def torch(self) -> Any:
        """What torch.save put there.

        Raises:
            FileError: no torch here, Python objects in the file, or a file that is not whole.
        """
        # Mapped: windows that are summed one by one never are in memory together.
        if not self.is_standard and self.head.startswith(_ZIP):
            return load_torch(self.name, str(self.path), mapped=True)
        with self.open() as file:
            return load_torch(self.name, file, mapped=False)

    def forget(self) -> None:
        """Let go of what was read to find out what it holds, so that the files of a week fit in memory."""
        for read in ("json", "torch"):
            vars(self).pop(read, None)

    @property
    def keys(self) -> list[str]:
        """The names in its JSON object; none where it is something else."""
        return list(self.json) if self.kind == "json" and isinstance(self.json, dict) else []


@contextmanager
def told(source: Source) -> Iterator[None]:
    """One line about whatever is wrong with a source; what foreign parsers raise at a broken file is without end.

    Raises:
        FileError: instead of anything that is no error of ours.
    """
    try:
        yield
    except TrimtabError:
        raise
    except OSError as error:
        raise FileError(source.name, f"can't be read ({error.strerror or error})") from error
    except Exception as error:
        reason = f"can't be read as {source.kind} ({one_line(error)})"
        raise FileError(source.name, f"{reason}; save it again, as numbers") from error


def quote(value: Any) -> str:
    """A foreign value for a message, cut where it is long."""
    text = ""
    for part in json.JSONEncoder(default=str).iterencode(value):  # no further than is shown: it can be huge
        text += part
        if len(text) > _LONGEST_QUOTE:
            return f"{text[:_LONGEST_QUOTE]}..."
    return text
