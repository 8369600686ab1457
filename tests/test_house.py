"""Who may import whom, and what stands where: the rules of the house, held on its source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from tests.kept_venv import ROOT

MAX_LINES = 300
HEAVY = (
    "torch",
    "numba",
    "prometheus_client",
    "click",
    "rich",
    "matplotlib",
    "pydantic",
    "pydantic_settings",
    "structlog",
)
GENERATED = "trimtab.v1."


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    target: str
    line: int
    when_loaded: bool
    """At import time, not inside a function or for type checkers alone."""

    def is_of(self, *packages: str) -> bool:
        """Whether it is one of these packages, or something in one."""
        return any(self.target == package or self.target.startswith(f"{package}.") for package in packages)


@dataclass(frozen=True)
class Module:
    """A module's name and source."""

    name: str
    source: str

    @property
    def tree(self) -> ast.Module:
        """The source, parsed."""
        return ast.parse(self.source)

    def is_in(self, *packages: str) -> bool:
        """Whether it is one of these packages or modules, or in one."""
        return Import(self.name, 0, when_loaded=True).is_of(*packages)

    @property
    def imports(self) -> list[Import]:
        """All its imports, wherever they stand; `from a import b` is both `a` and `a.b`."""
        return list(self._imports(self.tree, when_loaded=True))

    def _imports(self, node: ast.AST, *, when_loaded: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, when_loaded) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                source = self._resolve(child)
                yield Import(source, child.lineno, when_loaded)
                yield from (Import(f"{source}.{alias.name}", child.lineno, when_loaded) for alias in child.names)
            else:
                later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                    isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                )
                yield from self._imports(child, when_loaded=when_loaded and not later)

    def _resolve(self, statement: ast.ImportFrom) -> str:
        above = self.name.split(".")[: -statement.level] if statement.level else []
        return ".".join([*above, *([statement.module] if statement.module else [])])


def _modules() -> list[Module]:
    found = []
    for side in ("client", "server"):
        for path in sorted((ROOT / side).rglob("*.py")):
            parts = path.relative_to(ROOT / side).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if not name.startswith(GENERATED):
                found.append(Module(name, path.read_text()))
    return found


MODULES = _modules()


def solvers_know_only_arrays(module: Module) -> list[str]:
    """Solvers: arrays in, arrays out; nothing of ours outside them, no gRPC, asyncio, logging or metrics."""
    if not module.is_in("trimtab_server.solvers"):
        return []
    outside = ("trimtab", "trimtab_server", "grpc", "google", "asyncio", "logging", "structlog", "prometheus_client")
    allowed = ("trimtab_server.solvers",)
    return [
        f"{module.name}:{found.line} imports {found.target}"
        for found in module.imports
        if found.is_of(*outside) and not found.is_of(*allowed)
    ]


_BATCHER = (
    "batching",
    "admission",
    "waiting_room",
    "demand",
    "fair_queue",
    "forecast",
    "jobs",
    "observer",
    "device_thread",
    "clock",
)


def batching_knows_no_grpc(module: Module) -> list[str]:
    """The batcher and its parts speak of jobs, not of calls."""
    if not module.is_in(*(f"trimtab_server.{name}" for name in _BATCHER)):
        return []
    return [f"{module.name}:{found.line} imports {found.target}" for found in module.imports if found.is_of("grpc")]


def client_is_light(module: Module) -> list[str]:
    """The client loads nothing of the server and nothing heavy; only its commands load what commands need."""
    if not module.is_in("trimtab"):
        return []
    heavy = [name for name in HEAVY if not (module.is_in("trimtab.cli") and name in {"click", "rich"})]
    return [
        f"{module.name}:{found.line} imports {found.target} when it is loaded"
        for found in module.imports
        if found.when_loaded and found.is_of("trimtab_server", *heavy)
    ]


def proto_types_end_at_the_door(module: Module) -> list[str]:
    """In the server, only the modules at the wire know the contract's messages."""
    names = ("service", "contract", "rebalance_contract", "checks", "settings", "server", "local")
    at_the_wire = [f"trimtab_server.{name}" for name in names]
    if not module.is_in("trimtab_server") or module.is_in(*at_the_wire):
        return []
    return [
        f"{module.name}:{found.line} imports {found.target}" for found in module.imports if found.is_of("trimtab.v1")
    ]


def environment_is_read_in_settings(module: Module) -> list[str]:
    """No module but settings reads it, and what says of it what is wrong; `quiet_grpc` writes to it, for a library."""
    doors_of = {"trimtab_server.settings", "trimtab.engines.settings", "trimtab.cli.doctor_environment"}
    if module.name in {*doors_of, "trimtab_server.quiet_grpc"}:
        return []
    doors = {"environ", "environb", "getenv", "getenvb", "putenv"}
    found = [f"{module.name}:{each.line} imports {each.target}" for each in module.imports if _is_door(each, doors)]
    return found + [f"{module.name}:{node.lineno} uses {ast.unparse(node)}" for node in _attributes(module, doors)]


def _is_door(found: Import, doors: set[str]) -> bool:
    return found.target in {f"os.{door}" for door in doors}


def _attributes(module: Module, names: Collection[str]) -> Iterator[ast.Attribute]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node


def metrics_are_made_in_metrics(module: Module) -> list[str]:
    """No module but metrics makes a metric."""
    if module.name == "trimtab_server.metrics":
        return []
    kinds = ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum")
    makers = [f"{home}.{kind}" for home in ("prometheus_client", "prometheus_client.metrics") for kind in kinds]
    found = [f"{module.name}:{each.line} imports {each.target}" for each in module.imports if each.is_of(*makers)]
    used = [node for node in _attributes(module, kinds) if ast.unparse(node) in makers]
    return found + [f"{module.name}:{node.lineno} uses {ast.unparse(node)}" for node in used]


def modules_stay_small(module: Module) -> list[str]:
    """A module of 300 lines is probably two ideas."""
    lines = len(module.source.splitlines())
    return [f"{module.name} has {lines} lines, at most {MAX_LINES - 1}"] if lines >= MAX_LINES else []


Rule = Callable[[Module], list[str]]
RULES: tuple[Rule, ...] = (
    solvers_know_only_arrays,
    batching_knows_no_grpc,
    client_is_light,
    proto_types_end_at_the_door,
    environment_is_read_in_settings,
    metrics_are_made_in_metrics,
    modules_stay_small,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_keeps_its_rules(rule: Rule) -> None:
    """No module of the client or the server breaks the rule."""
    assert len(MODULES) > 20, "the modules were not found"
    broken = [line for module in MODULES for line in rule(module)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "from trimtab import wire"),
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "def f():\n    import asyncio"),
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "from .. import jobs"),
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "from trimtab_server import batching"),
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "import logging.handlers"),
        (batching_knows_no_grpc, "trimtab_server.batching", "from grpc import aio"),
        (batching_knows_no_grpc, "trimtab_server.fair_queue", "import grpc.aio"),
        (client_is_light, "trimtab.client", "import trimtab_server.local"),
        (client_is_light, "trimtab.client", "try:\n    import torch\nexcept ImportError:\n    torch = None"),
        (client_is_light, "trimtab", "from rich.console import Console"),
        (client_is_light, "trimtab.cli.pack", "import numba"),
        (client_is_light, "trimtab.cli.report.drawing", "from matplotlib.figure import Figure"),
        (proto_types_end_at_the_door, "trimtab_server.batching", "from trimtab.v1 import placement_pb2 as pb"),
        (proto_types_end_at_the_door, "trimtab_server.metrics", "from trimtab import v1"),
        (environment_is_read_in_settings, "trimtab.client", "import os\nos.environ['A']"),
        (environment_is_read_in_settings, "trimtab_server.logs", "import os as o\no.getenv('A')"),
        (environment_is_read_in_settings, "trimtab_server.logs", "from os import environ"),
        (metrics_are_made_in_metrics, "trimtab_server.calls", "from prometheus_client import Counter"),
        (
            metrics_are_made_in_metrics,
            "trimtab_server.calls",
            "import prometheus_client\nprometheus_client.Gauge",
        ),
        (modules_stay_small, "trimtab.client", "a = 1\n" * 300),
    ],
)
def test_rules_catch_what_they_forbid(rule: Rule, name: str, source: str) -> None:
    """Every rule can fail."""
    assert rule(Module(name, source))


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "from trimtab_server.solvers import numbers"),
        (solvers_know_only_arrays, "trimtab_server.solvers.new", "from .numbers import quantize"),
        (client_is_light, "trimtab.formats", "def read():\n    import torch"),
        (client_is_light, "trimtab.cli.pack", "import click\nfrom rich.table import Table"),
        (client_is_light, "trimtab_server.devices", "import torch"),
        (proto_types_end_at_the_door, "trimtab_server.contract", "from trimtab.v1 import placement_pb2"),
        (metrics_are_made_in_metrics, "trimtab_server.server", "from prometheus_client import CollectorRegistry"),
        (metrics_are_made_in_metrics, "trimtab_server.server", "from collections import Counter"),
        (modules_stay_small, "trimtab.client", "a = 1\n" * 299),
    ],
)
def test_rules_allow_what_the_house_needs(rule: Rule, name: str, source: str) -> None:
    """No rule forbids what is meant to be."""
    assert rule(Module(name, source)) == []


def test_no_file_is_called_utils() -> None:
    """A name says what is inside."""
    folders = ("client", "server", "tests", "benchmarks", "docs", "deploy")
    assert [path for folder in folders for path in (ROOT / folder).rglob("utils*")] == []


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def _blocking(packages: tuple[str, ...], then: str) -> str:
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in packages)
    return f"import sys; {blocked}; {then}"


def test_client_imports_with_the_server_s_packages_absent() -> None:
    """`import trimtab` works where torch, numba, prometheus_client and the rest are not installed."""
    result = _python(_blocking((*HEAVY, "trimtab_server"), "import trimtab; trimtab.Client('127.0.0.1:1').close()"))
    assert result.returncode == 0, result.stderr


def test_client_import_pulls_in_nothing_heavy() -> None:
    """`import trimtab` loads none of them where they are installed."""
    result = _python("import trimtab, sys; print(*{name.partition('.')[0] for name in sys.modules})")
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "trimtab" in loaded
    assert loaded.isdisjoint({*HEAVY, "trimtab_server"})


def test_solvers_import_alone() -> None:
    """The solvers are usable where nothing of gRPC, metrics or logs is installed."""
    names = [module.name for module in MODULES if module.is_in("trimtab_server.solvers")]
    if find_spec("triton") is None:  # those for CUDA need it, and come with an extra of their own
        names = [name for name in names if ".cuda_" not in name]
    modules = ", ".join(names)
    result = _python(_blocking(("grpc", "google", "prometheus_client", "structlog", "pydantic"), f"import {modules}"))
    assert result.returncode == 0, result.stderr
