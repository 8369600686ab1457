"""The reference of the Python client, from its docstrings: mkdocstrings reads them where a page names an object."""

from __future__ import annotations

import inspect
import json
from typing import Any

from docs.site.text import cell, code, table

import trimtab
from trimtab.errors import TABLE, TrimtabError

_CLIENTS = ("Client", "AsyncClient")


def clients() -> str:
    """How both are made, then each with its methods."""
    settings = _object("client.Caller.__init__", show_root_heading=False, show_root_toc_entry=False)
    made = "Both clients are made with these arguments, all but the first by name; none of them connects yet."
    methods = ("pack", "rebalance", "describe", "close")
    named = [_object(name, members=list(methods), merge_init_into_class=False, show_bases=False) for name in _CLIENTS]
    return "\n\n".join(["## Making a client", made, settings, *named])


def answers() -> str:
    """What the clients return."""
    others = (*_CLIENTS, *_errors())
    names = [name for name in trimtab.__all__ if inspect.isclass(getattr(trimtab, name)) and name not in others]
    return "\n\n".join(_object(name, heading_level=3) for name in names)


def errors() -> str:
    """The table of errors and statuses, then each error."""
    rows = [
        (f"[{code(each.__name__)}][trimtab.{each.__name__}]", code(TABLE[each].name), _first(each)) for each in TABLE
    ]
    return "\n\n".join((table(("error", "status", "when"), rows), *map(_object, _errors())))


def _errors() -> list[str]:
    return ["TrimtabError", *(each.__name__ for each in TABLE), "Violation"]


def _first(error: type[TrimtabError]) -> str:
    return cell(inspect.getdoc(error) or "")


def _object(name: str, **options: Any) -> str:
    return f"::: trimtab.{name}\n    options: {json.dumps(options)}"
