"""The references of the server: its settings, what it ends with, its metrics."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

from docs.site.text import cell, code, table
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo

from trimtab_server.exit_codes import ExitCode
from trimtab_server.metrics import Metrics
from trimtab_server.settings import Settings


def settings() -> str:
    """Each flag with its default."""
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    return table(("flag", "default", ""), rows)


def _setting(name: str, field: FieldInfo) -> tuple[str, str, str]:
    flag = code(f"--{name.replace('_', '-')}")
    if field.annotation is bool:
        flag += " " + code(f"--no-{name.replace('_', '-')}")
    return flag, _default(field.default), cell(field.description or "")


def _default(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return code(value if isinstance(value, str) else json.dumps(value))


def exit_codes() -> str:
    """Each status that the process ends with, and when."""
    tree = ast.parse(inspect.getsource(ExitCode))
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    words = [
        node.value.value for node in body[1:] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    return table(
        ("status", ""), [(str(int(each)), cell(str(text))) for each, text in zip(ExitCode, words, strict=True)]
    )


def metrics() -> str:
    """Each metric of the server's own, with its type."""
    registry = CollectorRegistry()
    Metrics(registry)
    rows = [(code(each.name), each.type, cell(each.documentation)) for each in registry.collect()]
    return table(("metric", "type", ""), sorted(rows))
