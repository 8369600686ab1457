"""Which format a file is of, and which one a file is written in."""

from __future__ import annotations

from typing import Literal

from trimtab.formats import plain, sglang, tensorrt_llm, vllm, vllm_ascend
from trimtab.formats.errors import FileError, FormatError
from trimtab.formats.format import NOTHING, Format, Held
from trimtab.formats.source import STANDARD, Source, quote, told
from trimtab.formats.stored import PathLike, as_path

FORMATS: dict[str, Format] = {
    module.NAME: module
    for module in (vllm, vllm_ascend, tensorrt_llm, sglang, plain)  # those that are surest of their own files first
}
NAMES = tuple(sorted(FORMATS))


def format_named(name: str) -> Format:
    """A format by its name.

    Raises:
        FormatError: there is none of that name.
    """
    if name not in FORMATS:
        raise FormatError(f"format {name!r} is none of those known: {', '.join(NAMES)}")
    return FORMATS[name]


def format_of(source: Source, name: str | None, what: Literal["loads", "placement"]) -> Format:
    """The format that `name` says, else the first that finds what is asked for in the source.

    Raises:
        FileError: no format finds it; says what the source holds instead, if that is known.
    """
    if name is not None:
        return format_named(name)
    instead = []
    for module in FORMATS.values():
        held = module.holds(source)
        if what in held:
            return module
        instead += [f"a {inside} file of {module.NAME}" for inside in held]
    if instead:
        raise FileError(source.name, f"holds no {what}, it is {instead[0]}")
    raise FileError(source.name, f"is of no known format{_shown(source)}; known are {', '.join(NAMES)}")


def what_is_in(source: Source, name: str | None) -> Held:
    """Whether a source has loads, a placement or both, as the format that `name` says, or the first that knows it.

    Raises:
        FileError: no format knows it.
    """
    modules = FORMATS.values() if name is None else [format_named(name)]
    with told(source):
        held = next(filter(None, (module.holds(source) for module in modules)), NOTHING)
    if not held:
        of = "no known format" if name is None else f"no format {name}"
        raise FileError(source.name, f"is of {of}{_shown(source)}; known are {', '.join(NAMES)}")
    return held


def _shown(source: Source) -> str:
    return f", it begins with {quote(source.head[:30].decode('utf-8', 'replace'))}" if source.head else ""


def format_to_write(path: PathLike, name: str | None) -> tuple[Format, str]:
    """The format and the ending of a placement to be written; standard output takes the format's usual ending.

    Without a name the ending decides: SGLang's for `.json` and `.pt`, TensorRT-LLM's for `.yaml`, arrays for numpy's;
    a file called `expert_map.json` is vllm-ascend's.

    Raises:
        FormatError: the engine named takes no placement.
        FileError: no format has such an ending, or the one named does not.
    """
    path = as_path(path)
    ending = path.suffix.lower()
    if path == STANDARD:
        module = format_named(name or sglang.NAME)
        ending = next(iter(module.PLACEMENT_ENDINGS), "")
    elif name is not None:
        module = format_named(name)
    else:
        usual = vllm_ascend if path.name == vllm_ascend.USUAL_NAME else None
        by_ending = (module for module in (sglang, tensorrt_llm, plain) if ending in module.PLACEMENT_ENDINGS)
        module = usual or next(by_ending, sglang)
    if not module.PLACEMENT_ENDINGS:
        others = ", ".join(known for known in NAMES if FORMATS[known].PLACEMENT_ENDINGS)
        raise FormatError(f"format {module.NAME}: the engine takes no placement at start; write one of {others}")
    if ending not in module.PLACEMENT_ENDINGS:
        known = sorted({known for each in FORMATS.values() for known in each.PLACEMENT_ENDINGS})
        kinds = ", ".join(module.PLACEMENT_ENDINGS if name else known)
        raise FileError(path, f"its ending {ending!r} is none of those that can be written: {kinds}")
    return module, ending
