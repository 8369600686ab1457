"""Stands in for what the engines import and a machine of developers has not: their packages, native parts, a GPU."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_ABSENT = frozenset(
    [
        "IPython",
        "cachetools",
        "cbor2",
        "cloudpickle",
        "cpuinfo",
        "fastapi",
        "huggingface_hub",
        "llguidance",
        "openai",
        "openai_harmony",
        "orjson",
        "partial_json_parser",
        "pybase64",
        "regex",
        "safetensors",
        "starlette",
        "tqdm",
        "transformers",
        "xgrammar",
        "zmq",
    ]
)
_NATIVE = ("vllm._C", "vllm._moe_C")


class _AnyType(type):
    """A class that has what is asked of it, and can be whatever a class statement or an annotation makes of it."""

    def __getattr__(cls, name: str) -> Any:
        if name == "__class_validators__":
            return []
        if name.startswith("__"):
            raise AttributeError(name)
        return _any_class(name)

    def __or__(cls, _other: Any) -> Any:
        return cls

    __ror__ = __or__

    def __getitem__(cls, _item: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


def _any_class(name: str) -> _AnyType:
    def schema(*_: Any) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415  # where an engine has pydantic look at it

        return core_schema.any_schema()

    def nothing(*_: Any, **__: Any) -> None:
        pass

    def first(self: Any, *arguments: Any, **_: Any) -> Any:  # a decorator leaves what it decorates as it is
        return arguments[0] if arguments else self

    methods = {
        "__init__": nothing,
        "__call__": first,
        "__init_subclass__": classmethod(nothing),
        "__get_pydantic_core_schema__": classmethod(schema),
    }
    return _AnyType(name, (), methods)


class _AnyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _any_class(name)
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last to be asked, so that a package that is there is itself."""

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in _ABSENT and not fullname.startswith(_NATIVE):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _AnyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module)["__version__"] = "99"


def stand_in(*code: Path, without: Sequence[str] = ()) -> None:
    """Make the engines' code in these folders importable in this process, for good; but for some modules of theirs."""
    sys.path.extend(map(str, code))
    sys.meta_path.append(_Finder())
    sys.modules.update({name: _AnyModule(name) for name in without})


class AnyEvent:
    """A `torch.Event` where there is no device: everything has already happened."""

    def __init__(self, **_: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def wait(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, _other: Any) -> float:
        return 0.0
