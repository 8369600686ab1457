"""torch's `.pt`, from which nothing but tensors and plain containers is ever built; torch is loaded only for it."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any, BinaryIO

from trimtab.formats.errors import FileError, FormatError


def load_torch(name: str, file: str | BinaryIO, *, mapped: bool) -> Any:
    """What torch.save put in a file.

    Args:
        name: what messages call it.
        file: its path, or its bytes.
        mapped: leave tensors on the disk until they are looked at; takes a path.

    Raises:
        FileError: no torch here, Python objects in the file, or a file that is not whole.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise FileError(name, "reading .pt needs torch: pip install torch, or save it as .npz") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the writer's choice of pickle protocol
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError:
        raise  # no right to read it, say
    except Exception as error:  # torch's reasons are pages long, of any class, and advise to load unsafely
        rule = "is not a whole .pt file, or has Python objects in it, which are never loaded"
        raise FileError(name, f"{rule}; save tensors, numbers and containers of them alone") from error


def torch_bytes(values: dict[str, Any]) -> bytes:
    """A dictionary of arrays as `.pt`, for torch.load to read.

    Raises:
        FormatError: no torch here.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise FormatError("writing .pt needs torch: pip install torch, or write .json") from None
    file = io.BytesIO()
    torch.save({key: torch.from_numpy(value.copy()) for key, value in values.items()}, file)
    return file.getvalue()
