"""`.pt`: a tensor, or a dictionary with `logical_count`, as SGLang's expert recorder writes it."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

from trimtab.formats.errors import FileError

KEY = "logical_count"
_HINT = f"save a tensor, or a dictionary with {KEY}, using torch.save"


def read(path: Path) -> Any:
    """The tensor in a file; nothing but tensors and plain containers is ever built from it.

    Raises:
        FileError: no torch here, Python objects in the file, or no such tensor.
    """
    try:
        torch = importlib.import_module("torch")  # only who has such a file needs it
    except ImportError:
        raise FileError(path, "reading .pt needs torch: pip install torch, or save the loads as .npz") from None
    content = _load(path, torch)
    loads = content.get(KEY) if isinstance(content, dict) else content
    if loads is None:
        found = ", ".join(str(key) for key in content) if content else "nothing"
        raise FileError(path, f"must hold a tensor or a dictionary with {KEY}, holds {found}; {_HINT}")
    return loads


def _load(path: Path, torch: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the writer's choice of pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # no right to read it, say
    except Exception as error:  # torch's reasons are pages long, of any class, and advise to load unsafely
        rule = "is not a whole .pt file, or has Python objects in it, which are never loaded"
        raise FileError(path, f"{rule}; {_HINT}") from error
